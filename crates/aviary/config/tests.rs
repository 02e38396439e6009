//! What a whole file comes to.

use std::ffi::OsString;

use aviary_collector::{Limits, SecretHash};
use aviary_core::{AcceptableLoss, Evidence, Protocol, VantageKind};
use aviary_probe::Family;

use super::{collector::Scope, endpoint::Addresses, *};

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    parse(Path::new("a.toml"), text.to_owned(), None, &environment(variables), "host-1")
}

fn messages(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let Problems(problems) = read(text, variables).unwrap_err();
    problems.into_iter().map(|problem| problem.message).collect()
}

const SMALL: &str = "\
    [vantage]\nregion = \"eu\"\n[agent]\n[collector]\n\
    [[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\n";

#[test]
fn every_key_reaches_the_program() {
    let text = r#"
        vantage = { kind = "datacentre", region = "eu", zone = "a", network = "aws", node = "n" }
        agent = { collector = ["https://c:8610"], token = { env = "TOKEN" } }
        sink = { tcp = "127.0.0.1:1", https = "127.0.0.1:2" }
        [collector]
        name = "spare"
        listen = "0.0.0.0:8611"
        url = "https://c.example.net"
        token = [{ name = "t", secret = { env = "TOKEN" }, scope = ["read", "admin"], region = "eu",
            node = "n", slots_per_second = 7000, report_size = "1MiB" }]
        [[service]]
        name = "a"
        prefix = "team.canary"
        acceptable_loss = { default = "1%", "pickle+tls" = "2%" }
        endpoints = ["tcp://h:1", { url = "udp://h:1", required = false, acceptable_loss = "3%", addresses = "first" }]
        counts_as_delivered = "kernel_acked"
        api_key = { env = "KEY" }
        family = "ipv6"
        min_vantages = 2
        owner = "us"
        runbook = "look"
    "#;
    let config = read(text, &[("TOKEN", "0123456789abcdef"), ("KEY", "k")]).unwrap();

    let vantage = config.vantage.unwrap();
    let vantage = vantage.as_written();
    assert_eq!(
        (vantage.kind, vantage.region.as_str(), vantage.node.as_str()),
        (VantageKind::Datacentre, "eu", "n")
    );
    assert_eq!((vantage.zone.as_deref(), vantage.network.as_deref()), (Some("a"), Some("aws")));
    let agent = config.agent.unwrap();
    assert_eq!(agent.collectors, ["https://c:8610".parse().unwrap()]);
    assert_eq!(agent.token.unwrap().expose(), "0123456789abcdef");
    let sink = config.sink.unwrap();
    assert_eq!(
        sink.listeners().map(|(key, address)| (key, address.port())).collect::<Vec<_>>(),
        [("tcp", 1), ("https", 2)]
    );
    let collector = config.collector.unwrap();
    assert_eq!((collector.name.as_str(), collector.listen.port(), collector.open), ("spare", 8611, false));
    assert_eq!(collector.url.unwrap().as_str(), "https://c.example.net/");
    let token = &collector.tokens[0];
    assert_eq!(
        (token.name.as_str(), token.region.as_deref(), token.node.as_deref()),
        ("t", Some("eu"), Some("n"))
    );
    assert_eq!(token.secret, SecretHash::of("0123456789abcdef"));
    assert_eq!(token.limits, Limits { slots: 7_000, bytes: 1 << 20, ..Limits::AGENT });
    assert_eq!(token.scope, [Scope::Read, Scope::Admin]);

    let [service] = config.services.try_into().unwrap();
    let loss = |text: &str| text.parse::<AcceptableLoss>().unwrap();
    assert_eq!((service.name.as_str(), service.prefix.as_str()), ("a", "team.canary"));
    assert_eq!(service.policy.acceptable_loss, loss("1%"));
    assert_eq!(service.policy.by_protocol, [(Protocol::PickleTls, loss("2%"))].into());
    assert_eq!(service.policy.by_endpoint, [("udp://h:1".to_owned(), loss("3%"))].into());
    assert_eq!(service.policy.min_vantages, 2);
    assert_eq!(service.endpoints.iter().map(|endpoint| endpoint.required).collect::<Vec<_>>(), [true, false]);
    assert_eq!(service.endpoints[0].addresses, Addresses::Rotate);
    assert_eq!(service.endpoints[1].addresses, Addresses::First);
    assert_eq!(service.counts_as_delivered, Some(Evidence::KernelAcked));
    assert_eq!(service.api_key.unwrap().expose(), "k");
    assert_eq!(service.family, Family::Ipv6);
    assert_eq!((service.owner.as_deref(), service.runbook.as_deref()), (Some("us"), Some("look")));
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = read(SMALL, &[]).unwrap();
    let (vantage, agent, collector) =
        (config.vantage.unwrap(), config.agent.unwrap(), config.collector.unwrap());
    assert_eq!((vantage.kind, vantage.node.as_str()), (VantageKind::External, "host-1"));
    assert!(agent.collectors.is_empty() && agent.token.is_none() && agent.ca.is_none());
    assert_eq!((collector.name.as_str(), collector.listen.to_string().as_str()), ("main", "127.0.0.1:8610"));
    assert!(
        collector.tokens.is_empty() && collector.url.is_none() && !collector.open && config.sink.is_none()
    );
    let service = &config.services[0];
    assert_eq!((service.prefix.as_str(), service.policy.clone()), ("canary", Default::default()));
    assert_eq!((service.family, service.counts_as_delivered), (Family::Any, None));
    let notes: Vec<_> = config.notes.into_iter().map(|note| note.message).collect();
    assert_eq!(notes, ["nobody is paged: there is no [[receiver]]"]);
}

#[test]
fn the_environment_overrides_the_file() {
    let variables = [
        ("AVIARY_VANTAGE_REGION", "us"),
        ("AVIARY_COLLECTOR_LISTEN", "0.0.0.0:1"),
        ("AVIARY_COLLECTOR_OPEN", "true"),
        ("AVIARY_AGENT_COLLECTOR", "http://127.0.0.1:1, http://127.0.0.1:2"),
        ("AVIARY_AGENT_TOKEN", "0123456789abcdef"),
        ("AVIARY_LOG", "debug"),
        ("AVIARY_TOKEN", "x"),
    ];
    let config = read(SMALL, &variables).unwrap();
    let (vantage, agent, collector) =
        (config.vantage.unwrap(), config.agent.unwrap(), config.collector.unwrap());
    assert_eq!(vantage.region.text(), "us");
    assert_eq!((collector.listen.to_string().as_str(), collector.open), ("0.0.0.0:1", true));
    assert_eq!(agent.collectors.len(), 2);
    assert_eq!(agent.token.unwrap().expose(), "0123456789abcdef");
}

#[test]
fn a_vantage_may_come_from_the_environment_alone_and_a_role_may_not() {
    let text = SMALL.replace("[vantage]\nregion = \"eu\"\n", "");
    assert_eq!(messages(&text, &[]), ["[agent] does not know where it probes from"]);
    let config = read(&text, &[("AVIARY_VANTAGE_REGION", "us"), ("AVIARY_SINK_TCP", "127.0.0.1:1")]).unwrap();
    assert_eq!(config.vantage.unwrap().region.text(), "us");
    assert!(config.sink.is_none());
    let notes: Vec<_> = config.notes.into_iter().map(|note| note.message).collect();
    let [nobody, variable] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!(nobody, "nobody is paged: there is no [[receiver]]");
    assert_eq!(variable, "the variable AVIARY_SINK_TCP changes nothing: the file has no [sink]");
}

#[test]
fn a_variable_that_the_file_names_for_a_secret_overrides_nothing() {
    let text = format!(
        "{SMALL}[[collector.token]]\nname = \"t\"\nsecret = {{ env = \"AVIARY_COLLECTOR_TOKEN\" }}\n"
    );
    let config = read(&text, &[("AVIARY_COLLECTOR_TOKEN", "0123456789abcdef")]).unwrap();
    assert_eq!(config.collector.unwrap().tokens[0].secret, SecretHash::of("0123456789abcdef"));
}

#[test]
fn a_token_may_stand_as_its_hash_and_nowhere_else() {
    let token =
        |name: &str, secret: &str| format!("[[collector.token]]\nname = \"{name}\"\nsecret = {secret}\n");
    // printf %s 0123456789abcdef | sha256sum
    let hash = "{ hash = \"sha256:9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f\" }";
    let env = "{ env = \"TOKEN\" }";
    let text = format!("{SMALL}{}", token("a", hash));
    let config = read(&text, &[]).unwrap();
    let token_of = |config: Config| config.collector.unwrap().tokens.remove(0);
    let read_token = token_of(config);
    assert_eq!(read_token.secret, SecretHash::of("0123456789abcdef"));
    assert_eq!((read_token.limits, read_token.node), (Limits::FLEET, None));

    let refused =
        |secret: &str| messages(&format!("{SMALL}{}", token("a", secret)), &[("TOKEN", "0123456789abcdef")]);
    let twice = format!("{SMALL}{}{}", token("a", hash), token("b", env));
    let message = "this is the token of `a` again: nobody could tell the two apart";
    assert_eq!(messages(&twice, &[("TOKEN", "0123456789abcdef")]), [message]);
    let message = "`env` and `hash` are both given";
    assert_eq!(refused(&hash.replace("{ ", "{ env = \"TOKEN\", ")), [message]);
    let [message] = refused("{ hash = \"0123456789abcdef\" }").try_into().unwrap();
    assert!(message.contains("no hash of a token") && !message.contains("0123456789abcdef"), "{message}");
    assert_eq!(refused("{}"), ["neither `file` nor `env` says where the secret is, nor is there its `hash`"]);
    let small = format!("{SMALL}{}report_size = \"1KiB\"\n", token("a", hash));
    assert_eq!(
        messages(&small, &[]),
        ["the limit is from 64KiB to 4MiB: agents need that much, and no collector takes more"]
    );
}

#[test]
fn the_version_changes_with_what_is_configured_only() {
    let version = |text: &str, variables: &[(&str, &str)]| read(text, variables).unwrap().version;
    let small = version(SMALL, &[]);
    assert_eq!(small.len(), 16);
    assert_eq!(version(&SMALL.replace("region = \"eu\"", "# here\nregion='eu'"), &[]), small);
    assert_eq!(version(SMALL, &[("AVIARY_VANTAGE_REGION", "eu")]), small);
    assert_ne!(version(SMALL, &[("AVIARY_VANTAGE_REGION", "us")]), small);
    assert_ne!(version(&SMALL.replace("h:1", "h:2"), &[]), small);
    assert_ne!(version(&format!("{SMALL}[sink]\ntcp = \"127.0.0.1:1\""), &[]), small);
    // Another secret is the same configuration: its version may be seen by those who may not see the secret.
    let with_token = |token| version(SMALL, &[("AVIARY_AGENT_TOKEN", token)]);
    assert_eq!(with_token("0123456789abcdef"), with_token("fedcba9876543210"));
}

#[test]
fn ten_thousand_series_are_the_most() {
    let with_series = |count: usize| {
        let urls: Vec<String> = (0..count).map(|host| format!("\"tcp://h{host}:1\"")).collect();
        SMALL.replace("\"tcp://h:1\"", &urls.join(", "))
    };
    assert_eq!(read(&with_series(10_000), &[]).unwrap().services[0].endpoints.len(), 10_000);
    assert_eq!(
        messages(&with_series(10_001), &[]),
        ["10001 series are too many for one agent: it runs 10000 at most"]
    );
}

#[test]
fn a_datapoint_has_a_kibibyte_at_most() {
    let with_prefix = |bytes: usize| {
        let prefix =
            ["w", "x", "y", "z"].map(|part| part.repeat(200)).join(".") + "." + &"p".repeat(bytes - 804);
        read(&SMALL.replace("name = \"a\"", &format!("name = \"a\"\nprefix = \"{prefix}\"")), &[])
    };
    // 64 bytes are kept for value, time and the frame of a pickle.
    let prefix_bytes_max = 1024 - ".a.tcp.external.eu.none.none.host-1.h_1".len() - 64;
    let config = with_prefix(prefix_bytes_max).unwrap();
    let service = &config.services[0];
    let series = aviary_core::Series {
        service: service.name.clone(),
        vantage: config.vantage.unwrap().as_written(),
        endpoint: service.endpoints[0].endpoint.clone(),
        address: None,
    };
    let name = series.graphite_name(&service.prefix);
    let second = aviary_core::Second(4_000_000_000);
    let longest = aviary_wire::pickle::encode_frame(&name, 1.0, second).len();
    assert!(longest <= 1024 && longest > 1024 - 64, "{longest}");
    let Problems(problems) = with_prefix(prefix_bytes_max + 1).unwrap_err();
    assert_eq!(
        problems[0].message,
        "the datapoints of tcp://h:1 would have 1025 bytes with their name, and 1024 are the most"
    );
}

#[test]
fn listeners_are_in_the_way_of_each_other_where_the_system_says_so() {
    let table = [
        ("127.0.0.1:1", "127.0.0.1:1", true),
        ("127.0.0.1:1", "127.0.0.1:2", false),
        ("127.0.0.1:1", "127.0.0.2:1", false),
        ("0.0.0.0:1", "127.0.0.2:1", true),
        ("[::]:1", "[::1]:1", true),
        ("[::1]:1", "127.0.0.1:1", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ];
    for (one, other, expected) in table {
        assert_eq!(
            draft::are_in_the_way(one.parse().unwrap(), other.parse().unwrap()),
            expected,
            "{one} {other}"
        );
        assert_eq!(
            draft::are_in_the_way(other.parse().unwrap(), one.parse().unwrap()),
            expected,
            "{other} {one}"
        );
    }
}

#[test]
fn no_secret_is_in_what_is_printed_of_a_configuration() {
    let text = SMALL.replace("name = \"a\"", "name = \"a\"\napi_key = { env = \"KEY\" }");
    let config = read(&text, &[("AVIARY_AGENT_TOKEN", "hunter2hunter2hunter2"), ("KEY", "hunter2")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

mod endpoints;
mod overrides;
mod paging;
mod services;
