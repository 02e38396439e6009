//! An agent that comes to be with one command and one secret, and lives on while its secrets change.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aviary_core::Span;
use serde_json::Value;

use crate::{
    support::{
        aviary::{AVIARY, Ran, command, now, run},
        http,
        node::{Node, PATIENCE},
        ports::Port,
        process::{Process, program},
        slots::{slots_of, unlike, wait_until_closed},
        tcp_server::TcpServer,
        wait::wait_until,
    },
    tls::Authority,
};

const ADMIN: &str = "the-secret-of-the-admins";

/// A collector that judges one service, and lets nobody in but its admins.
struct Stage {
    collector: Node,
    endpoint: Port,
    _receiver: TcpServer,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let endpoint = Port::claim();
        let receiver = TcpServer::start(endpoint.address());
        let mut collector = Node::new();
        collector.place("admin", ADMIN);
        collector.configure(&format!(
            "[collector]\nlisten = \"@listen@\"\ndata = \"{}\"\n[[collector.token]]\nname = \"admins\"\n\
             secret = {{ file = \"admin\" }}\nscope = [\"admin\"]\n[[service]]\nname = \"ingest\"\nendpoints = [\"tcp://{}\"]\n",
            collector.file("data").display(),
            endpoint.address()
        ));
        collector.run(|_| {});
        let dir = tempfile::tempdir().unwrap();
        let stage = Self { collector, endpoint, _receiver: receiver, dir };
        stage.wait("it answers", |stage| stage.get("/readyz", ADMIN).0 == 200);
        stage
    }

    fn url(&self) -> String {
        format!("http://{}", self.collector.address())
    }

    /// What `aviary token` prints to an admin.
    #[track_caller]
    fn token(&self, arguments: &[&str]) -> String {
        let ran = self.token_ran(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        ran.out
    }

    fn token_ran(&self, arguments: &[&str]) -> Ran {
        let url = self.url();
        run(command().arg("token").args(arguments).args(["--collector", &url]).env("AVIARY_TOKEN", ADMIN))
    }

    /// The secret that a token is given.
    #[track_caller]
    fn secret(&self, arguments: &[&str]) -> String {
        let told: Value =
            serde_json::from_str(&self.token(&[arguments, &["--format", "json"]].concat())).unwrap();
        told["secret"].as_str().unwrap().to_owned()
    }

    fn get(&self, path: &str, secret: &str) -> (u16, Value) {
        let headers = [("Authorization", format!("Bearer {secret}"))];
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = http::request(self.collector.address(), "GET", path, &headers, &[], PATIENCE);
        let (status, body) =
            answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.collector.log()));
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    #[track_caller]
    fn wait(&self, what: &str, seen: impl Fn(&Self) -> bool) {
        wait_until(PATIENCE, || format!("{what}\n{}", self.collector.log()), || seen(self));
    }

    fn delivered(&self) -> u64 {
        let (_, sums) = self.get("/api/v1/sums?window=60s", ADMIN);
        let groups = sums["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().filter_map(|group| group["delivered"].as_u64()).sum()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the secret as whoever replaces files does.
    fn replace(&self, path: &Path, text: &str) {
        let new = self.file("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn enrol(&self, secret: &str, arguments: &[&str]) -> Ran {
        let given = self.file("given");
        fs::write(&given, format!("{secret}\n")).unwrap();
        let (config, data) = (self.file("etc/agent.toml"), self.file("spool"));
        let mut enrol = command();
        enrol
            .args(["enrol", &self.url(), "--token-stdin"])
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(data);
        run(enrol.args(arguments).stdin(File::open(given).unwrap()))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn one_command_and_one_secret_make_an_agent_that_no_rotation_interrupts() {
    let mut stage = Stage::new();
    let first = stage.secret(&["new", "eu-agents", "--region", "eu-west-1", "--expires", "10d"]);
    let own = Port::claim();
    let listen: SocketAddr = own.address();
    let mut enrol = program(AVIARY);
    enrol.args(["enrol", &stage.url(), "--run", "--listen", &listen.to_string()]);
    enrol.arg("--config").arg(stage.file("etc/agent.toml")).arg("--data").arg(stage.file("spool"));
    enrol.env("AVIARY_TOKEN", &first);
    let agent = Process::start("agent", enrol, stage.dir.path());
    stage.wait("reports are taken", |stage| stage.delivered() >= 3);

    let (_, agents) = stage.get("/api/v1/agents", ADMIN);
    assert_eq!(
        (&agents["agents"][0]["region"], &agents["agents"][0]["token"]),
        (&"eu-west-1".into(), &"eu-agents".into())
    );
    assert_eq!(agents["agents"][0]["series"], 1, "its services are the collector's");
    let token = stage.file("etc/agent.token");
    assert_eq!((mode(&token), fs::read_to_string(&token).unwrap().trim()), (0o600, first.as_str()));
    assert!(!fs::read_to_string(stage.file("etc/agent.toml")).unwrap().contains(&first));

    // Both ends warn, and neither is unwell for it.
    let warned = |address: SocketAddr, headers: &[(&str, &str)]| {
        let (_, body) = http::request(address, "GET", "/healthcheck", headers, &[], PATIENCE).unwrap();
        serde_json::from_str::<Value>(&body).unwrap()["warned"][0].as_str().unwrap_or_default().to_owned()
    };
    assert!(warned(listen, &[]).contains("agent.token ends within 10 days"), "{}", warned(listen, &[]));
    let admin = format!("Bearer {ADMIN}");
    let said = warned(stage.collector.address(), &[("Authorization", &admin)]);
    assert!(said.contains("token `eu-agents` ends in"), "{said}");
    let (_, metrics) = stage.get("/metrics", ADMIN);
    let series =
        "aviary_collector_credential_expires_timestamp_seconds{credential=\"token\",name=\"eu-agents\"} ";
    assert!(metrics.as_str().unwrap().contains(series));
    let (_, metrics) = http::request(listen, "GET", "/metrics", &[], &[], PATIENCE).unwrap();
    assert!(metrics.contains("aviary_agent_credential_expires_timestamp_seconds{credential=\"token\"} "));

    let from = now();
    let second = stage.secret(&["new", "eu-agents", "--rotate", "--overlap", "1h"]);
    thread::sleep(Duration::from_secs(2));
    stage.replace(&token, &second);
    let secrets = |stage: &Stage| {
        let (_, told) = stage.get("/api/v1/tokens", ADMIN);
        let mut tokens = told["tokens"].as_array().cloned().unwrap_or_default().into_iter();
        tokens.find(|token| token["name"] == "eu-agents").unwrap_or_default()["secrets"].clone()
    };
    stage.wait("the newer secret is shown", |stage| secrets(stage)[1]["last_used"].is_u64());
    let strangers = &stage.get("/api/v1/agents", ADMIN).1["strangers"];
    assert_eq!(strangers, 0, "nobody is refused while both secrets hold");
    let line = stage.token(&["list"]);
    assert!(line.contains("eu-agents") && line.contains("2; the older one until "), "{line}");
    stage.token(&["revoke", "eu-agents", "--old"]);
    assert_eq!(stage.get("/api/v1/whoami", &first).0, 401);

    // What was made is there after a restart of the collector, too.
    assert!(stage.collector.process().stop().success());
    stage.collector.run(|_| {});
    stage.wait("reports are taken again", |stage| stage.delivered() >= 3);
    thread::sleep(Duration::from_secs(2));
    let span = Span::new(from, now());
    wait_until_closed(span);
    stage.wait("all is told", |stage| {
        let (_, told) = stage.get(&format!("/api/v1/slots?from={}&until={}", span.from, span.until), ADMIN);
        let slots = told["series"].get(0).map(slots_of).unwrap_or_default();
        slots.len() as u64 == span.seconds() && unlike(&slots, "delivered").is_empty()
    });
    let (_, agents) = stage.get("/api/v1/agents", ADMIN);
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "it is the same reporter: {agents:#}");
    assert_eq!(agents["agents"][0]["double"], false);

    stage.token(&["revoke", "eu-agents"]);
    stage.wait("the agent is refused", |stage| {
        stage.get("/api/v1/agents", ADMIN).1["strangers"].as_u64() > Some(0)
    });
    for secret in [first, second] {
        assert!(!agent.log().contains(&secret) && !stage.collector.log().contains(&secret));
    }
    drop(stage.endpoint);
}

#[test]
fn what_cannot_work_is_said_before_anything_is_written() {
    let stage = Stage::new();
    let reader = stage.secret(&["new", "dashboards", "--scope", "read"]);
    let eu = stage.secret(&["new", "eu", "--region", "eu-west-1", "--node", "canary-7"]);
    let table: [(&str, &[&str], &str); 4] = [
        ("no-secret-of-anybody", &[], "compare the secret with what `aviary token new` showed"),
        (&reader, &[], "`dashboards` may read, and not report"),
        (&eu, &["--region", "us-east-1"], "the token is for region eu-west-1 alone"),
        ("", &[], "no secret came"),
    ];
    for (secret, arguments, expected) in table {
        let ran = stage.enrol(secret, arguments);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{expected}: {}", ran.err);
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
        assert!(secret.is_empty() || !ran.err.contains(secret), "{}", ran.err);
        assert!(!stage.file("etc").exists(), "nothing was written");
    }
    let ran = stage.enrol(&eu, &[]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.out.contains("Start it: aviary run "), "{}", ran.out);
    let written = fs::read_to_string(stage.file("etc/agent.toml")).unwrap();
    assert!(
        written.contains("region = \"eu-west-1\"") && written.contains("node = \"canary-7\""),
        "{written}"
    );
    let again = stage.enrol(&eu, &[]);
    assert_eq!(again.status, 2);
    assert!(again.err.contains("is there already; say --force"), "{}", again.err);
    assert_eq!(stage.enrol(&eu, &["--force"]).status, 0);
    // What the configuration has is not to be changed here, and who may not administer makes nothing.
    assert!(stage.token_ran(&["new", "admins"]).err.contains("stands in the collector's configuration"));
    assert!(stage.token_ran(&["new", "eu"]).err.contains("there is a token `eu` already"));
    let refused =
        run(command().args(["token", "list", "--collector", &stage.url()]).env("AVIARY_TOKEN", &reader));
    assert!(refused.status == 2 && refused.err.contains("403"), "{}", refused.err);
}

#[test]
fn a_certificate_enrols_as_a_token_does_and_an_unknown_authority_is_named() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (server, client) = (servers.server(), clients.client((2024, 2124)));
    let mut collector = Node::new();
    for (name, text) in
        [("tls.pem", &server.certificate), ("tls.key", &server.key), ("clients.pem", &clients.pem)]
    {
        collector.place(name, text);
    }
    collector.configure(
        "[collector]\nlisten = \"@listen@\"\ncertificate = { file = \"tls.pem\" }\nkey = { file = \"tls.key\" }\n\
         client_ca = { file = \"clients.pem\" }\n[[service]]\nname = \"ingest\"\nendpoints = [\"tcp://127.0.0.1:9\"]\n",
    );
    collector.run(|_| {});
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    for (name, text) in [("ca.pem", &servers.pem), ("c.pem", &client.certificate), ("c.key", &client.key)] {
        fs::write(file(name), text).unwrap();
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let enrol = |more: &[&str]| {
        let url = format!("https://{}", collector.address());
        let mut enrol = command();
        enrol.args(["enrol", &url, "--region", "eu"]).args(["--config", "agent.toml", "--data", "spool"]);
        run(enrol.args(["--certificate", "c.pem", "--key", "c.key"]).args(more).current_dir(dir.path()))
    };
    let unknown = enrol(&[]);
    assert!(unknown.status == 2 && unknown.err.contains("say --ca FILE"), "{}", unknown.err);
    let known = enrol(&["--ca", "ca.pem"]);
    assert_eq!(known.status, 0, "{}\n{}", known.err, collector.log());
    let written = fs::read_to_string(file("agent.toml")).unwrap();
    assert!(
        written.contains("c.pem") && written.contains("agent.ca.pem") && !written.contains("token ="),
        "{written}"
    );

    // What does not pass the check takes nothing away.
    let refused = enrol(&["--ca", "ca.pem", "--force", "--zone", ""]);
    assert!(refused.status == 2 && refused.err.contains("leave the key out"), "{}", refused.err);
    assert_eq!(fs::read_to_string(file("agent.toml")).unwrap(), written);
    assert_eq!(fs::read_to_string(file("agent.ca.pem")).unwrap(), servers.pem);
    let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("agent.")).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
