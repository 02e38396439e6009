//! The manifests: their schemas, what they grant, the configurations in them, and the names of series that they give.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use aviary_core::{Series, Vantage, VantageKind};
use serde_json::Value;
use tempfile::TempDir;

use super::{accepted, repository, succeed, test_python, tools};

/// The documents of `deploy/kubernetes/example`, as `kubectl apply -k` has them; all of them valid.
#[track_caller]
fn documents() -> Vec<Value> {
    let kustomize = tools().join("kustomize");
    let rendered = succeed(Command::new(kustomize).arg("build").arg(repository("deploy/kubernetes/example")));
    let mut python = Command::new(test_python());
    python.arg(repository("tests/packages/kubernetes.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.stderr(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(rendered.as_bytes()).unwrap();
    let read = python.wait_with_output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

/// The one of `kind` called `name`, or by a name that begins so and goes on with a hash.
#[track_caller]
fn named<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |document: &&Value| {
        let rest = document["metadata"]["name"].as_str().and_then(|it| it.strip_prefix(name));
        document["kind"] == kind && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    documents.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// What runs pods, each with its only container.
fn workloads(documents: &[Value]) -> Vec<(&str, &Value, &Value)> {
    let workloads = [
        ("StatefulSet", "aviary-collector"),
        ("StatefulSet", "aviary-agent"),
        ("DaemonSet", "aviary-loopback"),
    ];
    workloads
        .into_iter()
        .map(|(kind, name)| {
            let pod = &named(documents, kind, name)["spec"]["template"]["spec"];
            (name, pod, &pod["containers"][0])
        })
        .collect()
}

/// The environment of `container` in a pod with these fields.
fn environment(
    documents: &[Value],
    container: &Value,
    fields: &BTreeMap<&str, String>,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for from in container["envFrom"].as_array().into_iter().flatten() {
        let map = named(documents, "ConfigMap", from["configMapRef"]["name"].as_str().unwrap());
        for (name, value) in map["data"].as_object().unwrap() {
            environment.insert(name.clone(), value.as_str().unwrap().to_owned());
        }
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap();
        environment.insert(variable["name"].as_str().unwrap().to_owned(), fields[field].clone());
    }
    environment
}

/// The only file of the configuration map of `workload`, in a directory, with secrets where it looks for them.
fn configuration(documents: &[Value], workload: &str) -> (TempDir, std::path::PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let map = named(documents, "ConfigMap", workload)["data"].as_object().unwrap();
    let (name, text) = map.iter().next().unwrap();
    let identity = rcgen::generate_simple_self_signed(vec!["aviary-collector".to_owned()]).unwrap();
    let files = [
        ("tls.crt", identity.cert.pem()),
        ("tls.key", identity.signing_key.serialize_pem()),
        ("ca.crt", identity.cert.pem()),
        ("token", "a-token-of-this-test-of-agents".to_owned()),
        ("agents.token", "a-token-of-this-test-of-agents".to_owned()),
        ("read.token", "a-token-of-this-test-of-readers".to_owned()),
        ("admin.token", "a-token-of-this-test-of-people".to_owned()),
    ];
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o440)).unwrap();
    }
    let mut text = text.as_str().unwrap().to_owned();
    for place in ["tls", "tokens", "secret"] {
        text = text.replace(&format!("/etc/aviary/{place}/"), &format!("{}/", dir.path().display()));
    }
    let path = dir.path().join(name);
    fs::write(&path, &text).unwrap();
    (dir, path, text)
}

#[test]
fn manifests_are_valid_and_grant_nothing_that_is_not_needed() {
    let documents = documents();
    for (name, pod, container) in workloads(&documents) {
        let (of_pod, own) = (&pod["securityContext"], &container["securityContext"]);
        assert_eq!(of_pod["runAsNonRoot"], true, "{name}");
        assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(own["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(own["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(own["capabilities"]["drop"][0], "ALL", "{name}");
        assert!(own.get("privileged").is_none() && own["capabilities"].get("add").is_none(), "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["hostNetwork"] == true, name == "aviary-loopback", "{name}");
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz", "{name}");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz", "{name}");
        assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
        // What is mounted is there to be mounted, and each port that is asked is one that is named.
        let volumes = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]);
        let claims = ["StatefulSet", "DaemonSet"].iter().filter_map(|kind| {
            let found = documents.iter().find(|it| it["kind"] == *kind && it["metadata"]["name"] == name)?;
            Some(&found["spec"]["volumeClaimTemplates"][0]["metadata"]["name"])
        });
        let known: Vec<&Value> = volumes.chain(claims).collect();
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(known.contains(&&mount["name"]), "{name}: {mount}");
        }
        let port = &container["ports"][0]["name"];
        assert!(
            ["livenessProbe", "readinessProbe"].iter().all(|it| container[it]["httpGet"]["port"] == *port)
        );
    }
    // No secret is in a manifest: they are named.
    assert!(documents.iter().all(|document| document["kind"] != "Secret"));
    for (kind, name) in [
        ("Service", "aviary-agent"),
        ("Service", "aviary-collector"),
        ("PodDisruptionBudget", "aviary-agent"),
        ("PodDisruptionBudget", "aviary-collector"),
        ("NetworkPolicy", "aviary-agent"),
        ("NetworkPolicy", "aviary-collector"),
        ("ServiceMonitor", "aviary-agent"),
        ("ServiceMonitor", "aviary-collector"),
    ] {
        let document = named(&documents, kind, name);
        let spec = &document["spec"];
        let selector =
            [&spec["selector"], &spec["podSelector"]].into_iter().find(|it| it.is_object()).unwrap();
        let selector = if kind == "Service" { selector } else { &selector["matchLabels"] };
        let pods = &named(&documents, "StatefulSet", name)["spec"]["template"]["metadata"]["labels"];
        assert_eq!(selector, pods, "{kind} {name} selects other pods");
    }
}

#[test]
fn configurations_in_the_manifests_are_accepted_as_their_pods_have_them() {
    let documents = documents();
    for (name, _, container) in workloads(&documents) {
        let (_dir, path, text) = configuration(&documents, name);
        let file = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(container["args"], serde_json::json!(["run", format!("/etc/aviary/config/{file}")]));
        let port = container["ports"][0]["containerPort"].as_u64().unwrap();
        assert!(text.contains(&format!("listen = \"0.0.0.0:{port}\"")), "{name} listens elsewhere: {text}");
        let fields =
            BTreeMap::from([("metadata.name", "pod-0".to_owned()), ("spec.nodeName", "node-0".to_owned())]);
        let environment = environment(&documents, container, &fields);
        let said = accepted(&path, &environment.into_iter().collect::<Vec<_>>());
        assert!(said.contains("no problem"), "{name}: {said}");
    }
}

#[test]
fn pods_that_are_replaced_go_on_with_the_series_of_those_before() {
    let documents = documents();
    let agents = named(&documents, "StatefulSet", "aviary-agent");
    let container = &agents["spec"]["template"]["spec"]["containers"][0];
    let replicas = agents["spec"]["replicas"].as_u64().unwrap();
    let (_dir, path, _) = configuration(&documents, "aviary-agent");
    let mut names = BTreeSet::new();
    let mut pods = BTreeSet::new();
    for life in 0..10 {
        for replica in 0..replicas {
            // What Kubernetes promises of a pod of a StatefulSet: this name, and everything else anew.
            let fields = BTreeMap::from([
                ("metadata.name", format!("aviary-agent-{replica}")),
                ("metadata.uid", format!("{life}-{replica}")),
                ("spec.nodeName", format!("node-{life}-{replica}")),
                ("status.podIP", format!("10.0.{life}.{replica}")),
            ]);
            let environment = environment(&documents, container, &fields);
            pods.insert(fields["metadata.uid"].clone());
            let vantage = Vantage {
                kind: VantageKind::External,
                region: environment["AVIARY_VANTAGE_REGION"].clone(),
                zone: None,
                network: Some(environment["AVIARY_VANTAGE_NETWORK"].clone()),
                node: environment["AVIARY_VANTAGE_NODE"].clone(),
            };
            // The program reads the same of that environment.
            if life == 0 && replica == 0 {
                let said = accepted(&path, &environment.into_iter().collect::<Vec<_>>());
                assert!(said.contains("no problem"), "{said}");
            }
            let endpoint = "tcp://graphite.example.com:2003".parse().unwrap();
            let series = Series { service: "ingest".to_owned(), vantage, endpoint, address: None };
            names.insert(series.graphite_name("canary"));
        }
    }
    assert_eq!(pods.len() as u64, 10 * replicas);
    assert_eq!(names.len() as u64, replicas, "{names:?}");
}
