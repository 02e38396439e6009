//! Services that a collector hands out, and an agent runs.

use super::{super::effective::ServicesText, *};

const COLLECTOR: &str = r#"
    [collector]

    # Agents need not know who is paged.
    [[service]]
    name = "b"
    owner = "us"
    acceptable_loss = "1%"
    endpoints = ["tcp://h:1", { url = "udp://h:1", required = false }]
    api_key = { env = "KEY" }
    family = "ipv4"
    [service.readback]
    graphite = "https://g"

    [[service]]
    name = "a"
    endpoints = ["tcp://h:1"]
"#;

const AGENT: &str = "\
    [vantage]\nregion = \"eu\"\n[agent]\ncollector = [\"https://127.0.0.1:1\"]\ndata = \"/var/lib/aviary\"\n\
    services = { from = \"collector\" }\n";

fn collector(text: &str) -> Config {
    read(text, &[("KEY", "hunter2")]).unwrap()
}

fn agent(text: &str, services: &str) -> Result<Config, Problems> {
    let services =
        ServicesText { origin: "services from https://c:8610/".to_owned(), text: services.to_owned() };
    parse(
        Path::new("/etc/aviary/a.toml"),
        text.to_owned(),
        Some(&services),
        &environment(&[("KEY", "k")]),
        "host-1",
    )
}

/// All that is wrong with these services, as people read it.
fn problems(services: &str) -> String {
    agent(AGENT, services).unwrap_err().to_string()
}

#[test]
fn an_agent_runs_what_the_collector_hands_out() {
    let config = collector(COLLECTOR);
    let document = config.services_document.as_deref().unwrap();
    for absent in ["hunter2", "owner", "acceptable_loss", "readback", "#"] {
        assert!(!document.contains(absent), "{absent} is in {document}");
    }
    let agent = agent(AGENT, document).unwrap();
    let urls = |config: &Config| -> Vec<String> {
        let endpoints = config.services.iter().flat_map(|service| &service.endpoints);
        endpoints.map(|endpoint| endpoint.endpoint.to_string()).collect()
    };
    assert_eq!(urls(&agent), urls(&config));
    assert_eq!(agent.services[0].api_key.as_ref().unwrap().expose(), "k", "each host has its own secrets");
    assert_eq!(agent.services[0].family, Family::Ipv4);
}

#[test]
fn the_same_services_are_the_same_text() {
    let document = |text: &str| collector(text).services_document.unwrap();
    let expected = document(COLLECTOR);
    assert_eq!(document(&COLLECTOR.replace("owner = \"us\"", "owner='them' # who?")), expected);
    assert_eq!(
        document(
            &COLLECTOR.replace("family = \"ipv4\"\n", "").replace("name = \"b\"", "family='ipv4'\nname='b'")
        ),
        expected
    );
    assert_ne!(document(&COLLECTOR.replace("ipv4", "ipv6")), expected);
    assert_eq!(
        read(SMALL.split("[collector]").next().unwrap(), &[]).map(|config| config.services_document).ok(),
        None
    );
}

#[test]
fn the_version_of_an_agent_is_one_of_its_services_too() {
    let version = |services: &str| agent(AGENT, services).unwrap().version;
    let small = "[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\n";
    assert_ne!(version(small), version(&small.replace("h:1", "h:2")));
    assert_ne!(version(small), read(AGENT, &[]).unwrap().version);
    assert_eq!(version(small), version(small));
}

#[test]
fn problems_of_services_are_said_with_their_origin_and_line() {
    let expected = "\
error: unknown key `famly`
  --> services from https://c:8610/:4:1
   |
 4 | famly = \"ipv4\"
   | ^^^^^ did you mean `family`?
";
    assert_eq!(
        problems("[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\nfamly = \"ipv4\"\n"),
        expected
    );
    let table = [
        ("", "the collector has no services to probe"),
        ("[agent]\n[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\n", "unknown section `agent`"),
        ("[[service]\n", "this is no TOML: "),
        (
            "[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\", \"tcp://h:1\"]\n",
            "tcp://h:1 is listed twice (line 3)",
        ),
    ];
    for (services, expected) in table {
        let said = problems(services);
        assert!(
            said.contains(expected) && said.contains("services from https://c:8610/"),
            "{expected}: {said}"
        );
    }
}

#[test]
fn services_of_a_collector_cannot_read_what_they_like_on_the_agents_host() {
    let with = |line: &str| format!("[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\n{line}\n");
    let table = [
        ("api_key = { file = \"/etc/shadow\" }", "may not name the file /etc/shadow"),
        ("api_key = { file = \"../shadow\" }", "may not name the file ../shadow"),
        ("ca = { file = \"a/../../b\" }", "may not name the file a/../../b"),
        ("api_key = { env = \"AVIARY_AGENT_TOKEN\" }", "may not name the variable AVIARY_AGENT_TOKEN"),
        ("api_key = { file = \"key\" }", "cannot read the secret file /etc/aviary/key"),
    ];
    for (line, expected) in table {
        let said = problems(&with(line));
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // In a file of the host itself, its owner may.
    let own = SMALL.to_owned() + "api_key = { file = \"/nowhere\" }\n";
    assert_eq!(messages(&own, &[]), ["cannot read the secret file /nowhere: No such file or directory"]);
}

#[test]
fn services_from_a_collector_need_one_and_nothing_beside_them() {
    let table = [
        (
            AGENT.to_owned() + "[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\n",
            vec!["this agent has its services from a collector, and these beside them"],
        ),
        (
            AGENT.replace("collector = [\"https://127.0.0.1:1\"]", "") + "[collector]\n",
            vec![
                "services from a collector need one elsewhere: the collector of this process has them from this file",
                "no [[service]] is given: reports are summed, but nothing is judged",
            ],
        ),
        (AGENT.replace("\"collector\"", "\"git\""), vec!["`git` is not known here"]),
    ];
    for (text, expected) in table {
        assert_eq!(messages(&text, &[]), expected, "{text}");
    }
    let notes = |text: &str| read(text, &[]).unwrap().notes.len();
    assert_eq!((notes(AGENT), notes(&AGENT.replace("data = \"/var/lib/aviary\"\n", ""))), (0, 1));
}
