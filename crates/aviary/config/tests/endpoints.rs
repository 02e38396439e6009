//! What endpoints become: completed by vantage, found by others, and listed in a file of their own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use super::{
    super::discovery::{Discovery, Source},
    *,
};

const SERVICE: &str = r#"
    [[service]]
    name = "ingest"
    nodes = ["gr-1", "gr-2"]
    endpoints = [
      { url = "tcp://vip:1", kinds = ["external", "datacentre"] },
      { url = "tcp://{node}:1", kinds = ["datacentre", "loopback"] },
      "udp://{node}:2",
    ]
"#;

const JUDGE: &str = "[collector]\n";

fn vantage(kind: &str, node: &str) -> String {
    format!(
        "[vantage]\nkind = \"{kind}\"\nregion = \"eu\"\nnode = \"{node}\"\n[agent]\ncollector = [\"https://127.0.0.1:1\"]\n"
    )
}

/// What is probed, or known to whoever judges.
fn probed(head: &str, services: &str) -> Vec<String> {
    let config = read(&(head.to_owned() + services), &[]).unwrap_or_else(|problems| panic!("{problems}"));
    let kind = config.kind();
    let endpoints = config.services.iter().flat_map(|service| service.probed(kind));
    endpoints.map(|it| it.endpoint.to_string()).collect()
}

#[test]
fn one_list_serves_every_kind_of_vantage_and_whoever_judges() {
    let table: [(String, &[&str]); 4] = [
        (vantage("external", "canary"), &["tcp://vip:1", "udp://gr-1:2", "udp://gr-2:2"]),
        (
            vantage("datacentre", "canary"),
            &["tcp://vip:1", "tcp://gr-1:1", "tcp://gr-2:1", "udp://gr-1:2", "udp://gr-2:2"],
        ),
        (vantage("loopback", "gr-1"), &["tcp://gr-1:1", "udp://gr-1:2"]),
        (vantage("loopback", "gr-7"), &["tcp://gr-7:1", "udp://gr-7:2"]),
    ];
    for (head, expected) in table {
        assert_eq!(probed(&head, SERVICE), expected, "{head}");
    }
    assert_eq!(
        probed(JUDGE, SERVICE),
        ["tcp://vip:1", "tcp://gr-1:1", "tcp://gr-2:1", "udp://gr-1:2", "udp://gr-2:2"]
    );
    let config = read(&(JUDGE.to_owned() + SERVICE), &[]).unwrap();
    assert_eq!(
        config.services[0].elsewhere,
        [Protocol::Tcp, Protocol::Udp].into(),
        "nodes that list themselves"
    );
    let document = config.services_document.unwrap();
    assert!(document.contains("tcp://{node}:1") && document.contains("nodes"), "{document}");
}

#[test]
fn an_agent_completes_what_a_collector_hands_out() {
    let config = read(&(JUDGE.to_owned() + SERVICE), &[]).unwrap();
    let services =
        ServicesText { origin: "services from c".to_owned(), text: config.services_document.unwrap() };
    let text = vantage("loopback", "gr-9") + "data = \"d\"\nservices = { from = \"collector\" }\n";
    let agent = parse(Path::new("a.toml"), text, Some(&services), &environment(&[]), "host-1").unwrap();
    let probed: Vec<_> = agent.services[0].probed(agent.kind()).map(|it| it.endpoint.to_string()).collect();
    assert_eq!(probed, ["tcp://gr-9:1", "udp://gr-9:2"]);
}

#[test]
fn a_template_that_cannot_be_completed_says_why() {
    let nodes = "    nodes = [\"gr-1\", \"gr-2\"]\n";
    let table = [
        (
            vantage("external", "n"),
            SERVICE.replace("udp://{node}:2", "udp://{host}:2"),
            vec!["`{host}` is not known here"],
        ),
        (
            vantage("external", "n"),
            SERVICE.replace(nodes, ""),
            vec![
                "tcp://{node}:1 is probed from elsewhere too, and nothing says which nodes there are",
                "udp://{node}:2 is probed from elsewhere too, and nothing says which nodes there are",
            ],
        ),
        (
            vantage("loopback", "my node"),
            SERVICE.to_owned(),
            vec![
                "tcp://{node}:1 would be tcp://my node:1, which is no endpoint",
                "udp://{node}:2 would be udp://my node:2, which is no endpoint",
            ],
        ),
        (
            vantage("loopback", "gr-1"),
            SERVICE.replace("udp://{node}:2", "tcp://gr-1:1"),
            vec!["tcp://gr-1:1 is listed twice (line 13)"],
        ),
        (
            vantage("external", "n"),
            SERVICE.replace("gr-2", "gr-1"),
            vec!["tcp://gr-1:1 is listed twice (line 13)", "udp://gr-1:2 is listed twice (line 14)"],
        ),
        (
            vantage("external", "n"),
            SERVICE.replace("\"udp://{node}:2\"", "{ url = \"udp://{node}:2\", required = false }"),
            vec!["`required` is of one endpoint, and this may become many"],
        ),
        (
            vantage("loopback", "n"),
            SERVICE.replace("\"loopback\"", "\"external\"").replace("\"udp://{node}:2\",", ""),
            vec!["nothing of these services is probed from a vantage of kind loopback"],
        ),
        (
            vantage("loopback", "n").replace("\"eu\"", "\"auto\""),
            SERVICE.replace("udp://{node}:2", "udp://{region}:2"),
            vec!["udp://{region}:2 needs the vantage's region, and [vantage] leaves it to the cloud to say"],
        ),
    ];
    for (head, services, expected) in table {
        assert_eq!(messages(&(head + &services), &[]), expected, "{services}");
    }
    // What each kind lists for itself is one endpoint to whoever judges.
    let apart = SERVICE.replace("\"udp://{node}:2\"", "{ url = \"tcp://vip:1\", kinds = [\"loopback\"] }");
    assert_eq!(probed(&vantage("loopback", "n"), &apart), ["tcp://n:1", "tcp://vip:1"]);
}

fn discoveries(entry: &str) -> Result<Vec<Discovery>, Vec<String>> {
    let text = vantage("external", "n") + "[[service]]\nname = \"a\"\nendpoints = [" + entry + "]\n";
    match read(&text, &[("TOKEN", "t")]) {
        Ok(config) => Ok(config.services[0].discoveries.clone()),
        Err(Problems(problems)) => Err(problems.into_iter().map(|problem| problem.message).collect()),
    }
}

#[test]
fn what_finds_endpoints_is_read() {
    let table = [
        ("{ srv = \"_g._tcp.Example.com.\", protocol = \"tcp\" }", "srv _g._tcp.example.com, tcp", 60, 256),
        (
            "{ a = \"g.example.com\", port = 2003, protocol = \"tls\", grace = \"5s\", at_most = 7 }",
            "a g.example.com:2003, tls",
            5,
            7,
        ),
        ("{ file_sd = \"targets/*.json\", protocol = \"udp\" }", "file_sd targets/*.json, udp", 60, 256),
        (
            "{ http_sd = \"https://i/x\", protocol = \"https\", path = \"/sink\", every = \"5s\", token = { env = \"TOKEN\" } }",
            "http_sd https://i/x, https/sink",
            60,
            256,
        ),
    ];
    for (entry, name, grace, at_most) in table {
        let found = discoveries(entry).unwrap();
        let [discovery] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (discovery.name().as_str(), discovery.grace.as_secs(), discovery.at_most),
            (name, grace, at_most)
        );
        assert!(!format!("{discovery:?}").contains("\"t\""), "{discovery:?}");
    }
    let https = discoveries(table[3].0).unwrap().remove(0);
    assert_eq!(https.endpoint("H:1").map(|it| it.to_string()), Ok("https://h:1/sink".to_owned()));
    assert!(matches!(https.source, Source::Http(http) if http.every.as_secs() == 5 && http.token.is_some()));
}

#[test]
fn what_finds_nothing_says_why() {
    let table: [(&str, &[&str]); 13] = [
        ("{ srv = \"_g._tcp.example.com\" }", &["nothing says how what is found is probed"]),
        ("{ srv = \"192.0.2.1\", protocol = \"tcp\" }", &["`192.0.2.1` is no name that DNS knows"]),
        ("{ a = \"g\", protocol = \"tcp\" }", &["the port of the addresses is missing, or none"]),
        (
            "{ a = \"g\", port = 70000, protocol = \"tcp\" }",
            &["the port of the addresses is missing, or none"],
        ),
        (
            "{ srv = \"g\", a = \"g\", port = 1, protocol = \"tcp\" }",
            &["`port` goes with a, and not with `srv`", "`a` beside `srv`: an entry has one of them"],
        ),
        (
            "{ url = \"tcp://h:1\", protocol = \"tcp\" }",
            &["`protocol` goes with srv, a, file_sd, http_sd, and not with `url`"],
        ),
        (
            "{ file_sd = \"*/x.json\", protocol = \"tcp\" }",
            &["a `*` may stand once, and in the last part of the path"],
        ),
        ("{ file_sd = \"x.yml\", protocol = \"tcp\" }", &["`x.yml` is no file with JSON"]),
        ("{ http_sd = \"https://i\", protocol = \"tcp\", every = \"1s\" }", &["that is too often"]),
        (
            "{ http_sd = \"http://i\", protocol = \"tcp\", token = { env = \"TOKEN\" } }",
            &["the token would cross the network to http://i/ in the clear"],
        ),
        ("{ srv = \"g\", protocol = \"tcp\", path = \"/x\" }", &["`path` is of https, and this is tcp"]),
        (
            "{ srv = \"g\", protocol = \"tcp\", acceptable_loss = \"1%\" }",
            &["`acceptable_loss` is of one endpoint, and this may become many"],
        ),
        ("{ kinds = [\"external\"] }", &["`url` is missing in [service.endpoints]"]),
    ];
    for (entry, expected) in table {
        let mut said = discoveries(entry).unwrap_err();
        let mut expected = expected.to_vec();
        said.sort();
        expected.sort_unstable();
        assert_eq!(said, expected, "{entry}");
    }
}

/// The files of a configuration, by name.
fn load_files(files: &[(&str, &str)], environment: &Environment) -> Result<Config, Problems> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    load(&directory.path().join("a.toml"), environment, "host-1")
}

const LISTED: &str = "services = { file = \"list/services.toml\" }\n";

#[test]
fn services_may_stand_in_a_file_of_their_own() {
    let head = vantage("loopback", "gr-1");
    let own = LISTED.to_owned() + &head;
    let keyed = SERVICE.to_owned() + "api_key = { file = \"key\" }\n";
    let files = [("a.toml", own.as_str()), ("list/services.toml", &keyed), ("list/key", "secret-key\n")];
    let config = load_files(&files, &environment(&[("AVIARY_SERVICE_INGEST_FAMILY", "ipv6")])).unwrap();
    let service = &config.services[0];
    assert_eq!(service.api_key.as_ref().unwrap().expose(), "secret-key", "beside the file that names it");
    assert_eq!(service.family, Family::Ipv6);
    let watched: Vec<_> = config.files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(watched, ["a.toml", "key", "services.toml"]);

    let version = |service: &str| {
        load_files(&[("a.toml", &own), ("list/services.toml", service)], &environment(&[])).unwrap().version
    };
    assert_ne!(version(SERVICE), version(&SERVICE.replace("vip", "vap")));
    let judge = LISTED.to_owned() + JUDGE;
    let judge =
        load_files(&[("a.toml", &judge), ("list/services.toml", SERVICE)], &environment(&[])).unwrap();
    let inline = read(&(JUDGE.to_owned() + SERVICE), &[]).unwrap();
    assert_eq!(judge.services_document, inline.services_document, "wherever the list stands");
}

#[test]
fn what_is_wrong_in_a_file_of_services_is_said_of_that_file() {
    let head = vantage("loopback", "gr-1");
    let table = [
        (
            LISTED,
            SERVICE.replace("name = \"ingest\"", "nmae = \"x\""),
            "services.toml:3:5",
            "unknown key `nmae`",
        ),
        (LISTED, SERVICE.replace("{node}:2", "{nod}:2"), "services.toml:8:7", "`{nod}` is not known here"),
        (LISTED, SERVICE.replace("[[service]]", "[[service]"), "services.toml:2:", "this is no TOML"),
        (LISTED, "[agent]\n".to_owned(), "services.toml:1:2", "unknown section `agent`"),
        (
            "services = { file = \"nowhere.toml\" }\n",
            String::new(),
            "a.toml:1:21",
            "cannot read the configuration",
        ),
        ("services = { file = 1 }\n", String::new(), "a.toml:1:21", "expected a path in quotes"),
    ];
    for (list, services, place, message) in table {
        let own = list.to_owned() + &head;
        let said = load_files(&[("a.toml", &own), ("list/services.toml", &services)], &environment(&[]));
        let said = said.unwrap_err().to_string();
        assert!(said.contains(place) && said.contains(message), "{place} {message}: {said}");
    }
    let both = LISTED.to_owned() + &head + SERVICE;
    let said = load_files(&[("a.toml", &both), ("list/services.toml", SERVICE)], &environment(&[]));
    assert!(
        said.unwrap_err()
            .to_string()
            .contains("the services stand in a file of their own, and these beside them")
    );
    let asks = LISTED.to_owned() + &head + "data = \"d\"\nservices = { from = \"collector\" }\n";
    let said = load_files(&[("a.toml", &asks), ("list/services.toml", SERVICE)], &environment(&[]));
    assert!(said.unwrap_err().to_string().contains("from a collector, and from this file"));
}

#[test]
fn a_list_from_a_collector_cannot_name_files_elsewhere_on_the_agents_host() {
    let services =
        "[[service]]\nname = \"a\"\nendpoints = [{ file_sd = \"/etc/x.json\", protocol = \"tcp\" }]\n";
    let services = ServicesText { origin: "services from c".to_owned(), text: services.to_owned() };
    let text = vantage("loopback", "n") + "data = \"d\"\nservices = { from = \"collector\" }\n";
    let said = parse(Path::new("a.toml"), text, Some(&services), &environment(&[]), "h").unwrap_err();
    assert!(
        said.to_string().contains("a service from a collector may not name the file /etc/x.json"),
        "{said}"
    );
}
