//! That the environment overrides every scalar, taken from the language itself: a new key cannot be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{
    super::{
        effective::ServicesText,
        environment,
        values::{Value, values},
    },
    *,
};

/// Each section with what it cannot do without.
const FILE: &str = r#"
    [vantage]
    region = "eu"
    [agent]
    collector = ["https://127.0.0.1:1"]
    [collector]
    [sink]
    tcp = "127.0.0.1:1"
    [[service]]
    name = "In-Gest"
    endpoints = ["tcp://h:1"]
"#;

/// A value other than the default for each scalar, by its variable without `AVIARY_`. `PEM` stands for certificate and key.
const SAMPLES: &[(&str, &str)] = &[
    ("AGENT_AGENT_CHECK", "127.0.0.1:8614"),
    ("AGENT_CA", "PEM"),
    ("AGENT_CERTIFICATE", "PEM"),
    ("AGENT_COLLECTOR", "https://127.0.0.1:2, https://127.0.0.1:3"),
    ("AGENT_CONSUL_CA", "PEM"),
    ("AGENT_CONSUL_CHECK", "us:{service}"),
    ("AGENT_CONSUL_EVERY", "6s"),
    ("AGENT_CONSUL_INSTANCE", "{service}-1"),
    ("AGENT_CONSUL_TOKEN", "0123456789abcdef"),
    ("AGENT_CONSUL_TTL", "5m"),
    ("AGENT_CONSUL_URL", "http://127.0.0.1:8501"),
    ("AGENT_CONTROLS", "tcp://192.0.2.1:80,tls://192.0.2.1:443"),
    ("AGENT_DATA", "/var/lib/aviary/agent"),
    ("AGENT_DEBUG_LISTEN", "127.0.0.1:8612"),
    ("AGENT_FALLBACK", "oncall"),
    ("AGENT_FALLBACK_AFTER", "1m"),
    ("AGENT_KEY", "PEM"),
    ("COLLECTOR_CERTIFICATE", "PEM"),
    ("COLLECTOR_CLIENT_CA", "PEM"),
    ("COLLECTOR_KEY", "PEM"),
    ("AGENT_LISTEN", "127.0.0.1:8611"),
    ("AGENT_NAME_SERVERS", "192.0.2.53, 192.0.2.54:5353"),
    ("AGENT_PROBE_AUTH", "true"),
    ("AGENT_PROFILING", "true"),
    ("AGENT_READ_TOKEN", "0123456789abcdef"),
    ("AGENT_ROTATION_COMMAND", "/usr/local/bin/steer, {service}"),
    ("AGENT_ROTATION_FILE", "/run/aviary/{service}.json"),
    ("AGENT_SERVICES_FROM", "collector"),
    ("AGENT_SOURCE", "eth1"),
    ("AGENT_SPOOL_AGE", "1d"),
    ("AGENT_SPOOL_SIZE", "1GiB"),
    ("AGENT_STATSD", "statsd.example.com:8125"),
    ("AGENT_STATSD_TAGS", "true"),
    ("AGENT_TOKEN", "0123456789abcdef"),
    ("COLLECTOR_DATA", "/var/lib/aviary/collector"),
    ("COLLECTOR_DEBUG_LISTEN", "127.0.0.1:8613"),
    ("COLLECTOR_LISTEN", "127.0.0.1:2"),
    ("COLLECTOR_NAME", "spare"),
    ("COLLECTOR_OPEN", "true"),
    ("COLLECTOR_PROBE_AUTH", "true"),
    ("COLLECTOR_PROFILING", "true"),
    ("COLLECTOR_PROXY_FROM", "10.0.0.7, 10.1.0.0/24"),
    ("COLLECTOR_PROXY_GROUPS", "X-Groups"),
    ("COLLECTOR_PROXY_SCOPE", "read, admin"),
    ("COLLECTOR_PROXY_USER", "X-User"),
    ("COLLECTOR_QUIET_HOURS_DAYS", "saturday, sunday"),
    ("COLLECTOR_QUIET_HOURS_FROM", "21:00"),
    ("COLLECTOR_QUIET_HOURS_UNTIL", "06:00"),
    ("COLLECTOR_QUIET_HOURS_ZONE", "Europe/Berlin"),
    ("COLLECTOR_RETAIN", "30d"),
    ("COLLECTOR_ROLLOUT_TIMEOUT", "5m"),
    ("COLLECTOR_ROTATION_AGENT_CHECK", "127.0.0.1:8620"),
    ("COLLECTOR_ROTATION_PER_HOUR", "3"),
    ("COLLECTOR_ROTATION_REQUEST_ALLOW_PRIVATE", "true"),
    ("COLLECTOR_ROTATION_REQUEST_BODY", "{{ weight }}"),
    ("COLLECTOR_ROTATION_REQUEST_CA", "PEM"),
    ("COLLECTOR_ROTATION_REQUEST_METHOD", "POST"),
    ("COLLECTOR_ROTATION_REQUEST_STATUSES", "409"),
    ("COLLECTOR_ROTATION_REQUEST_URL", "https://b.example/{{ node }}"),
    ("COLLECTOR_ROTATION_STOP_FILE", "/run/aviary/stop"),
    ("COLLECTOR_ROTATION_WEBHOOK_ALLOW_PRIVATE", "true"),
    ("COLLECTOR_ROTATION_WEBHOOK_CA", "PEM"),
    ("COLLECTOR_ROTATION_WEBHOOK_SECRET", "whsec_0123456789abcdef0123456789abcdef"),
    ("COLLECTOR_ROTATION_WEBHOOK_URL", "https://b.example/hook"),
    ("COLLECTOR_SHADOW", "true"),
    ("COLLECTOR_STATSD", "statsd.example.com:8125"),
    ("COLLECTOR_STATSD_TAGS", "true"),
    ("COLLECTOR_STATUS_CONTACT", "help@example.com"),
    ("COLLECTOR_STATUS_DIRECTORY", "/var/lib/aviary/status"),
    ("COLLECTOR_STATUS_LISTEN", "127.0.0.1:9"),
    ("COLLECTOR_STATUS_TITLE", "Ours"),
    ("COLLECTOR_STATUS_URL", "https://status.example.com"),
    ("COLLECTOR_TEST_PAGES_HOURS_DAYS", "monday"),
    ("COLLECTOR_TEST_PAGES_HOURS_FROM", "21:00"),
    ("COLLECTOR_TEST_PAGES_HOURS_UNTIL", "06:00"),
    ("COLLECTOR_TEST_PAGES_HOURS_ZONE", "Europe/Berlin"),
    ("COLLECTOR_TEST_PAGES_NOTIFY", "oncall"),
    ("COLLECTOR_URL", "https://collector.example.net"),
    ("COLLECTOR_WATCHDOG_ALERTMANAGER", "http://am-1:9093, http://am-2:9093"),
    ("COLLECTOR_WATCHDOG_CA", "PEM"),
    ("COLLECTOR_WATCHDOG_INTERVAL", "1m"),
    ("COLLECTOR_WATCHDOG_KEY", "0123456789abcdef"),
    ("COLLECTOR_WATCHDOG_PING", "https://hc-ping.com/0123456789abcdef"),
    ("LOG_FILE", "/var/log/aviary.log"),
    ("LOG_FORMAT", "json"),
    ("LOG_LEVEL", "debug"),
    ("LOG_SUMMARY", "5m"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS", "3%"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS_DEFAULT", "3%"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS_HTTPS", "3%"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS_PICKLE", "3%"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS_PICKLE_TLS", "3%"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS_TCP", "3%"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS_TLS", "3%"),
    ("SERVICE_IN_GEST_ACCEPTABLE_LOSS_UDP", "3%"),
    ("SERVICE_IN_GEST_ADDRESSES", "all"),
    ("SERVICE_IN_GEST_API_KEY", "0123456789abcdef"),
    ("SERVICE_IN_GEST_BURST", "1.5"),
    ("SERVICE_IN_GEST_CA", "PEM"),
    ("SERVICE_IN_GEST_CERTIFICATE_DAYS", "30, 10"),
    ("SERVICE_IN_GEST_COUNTS_AS_DELIVERED", "kernel_acked"),
    ("SERVICE_IN_GEST_ENDPOINTS", "tcp://h:2, tls://h:3"),
    ("SERVICE_IN_GEST_FAMILY", "ipv6"),
    ("SERVICE_IN_GEST_LATENCY_P99_CONFIRM", "200ms"),
    ("SERVICE_IN_GEST_LATENCY_P99_CONNECT", "200ms"),
    ("SERVICE_IN_GEST_LATENCY_P99_DNS", "200ms"),
    ("SERVICE_IN_GEST_LATENCY_P99_SEND", "200ms"),
    ("SERVICE_IN_GEST_LATENCY_P99_TLS", "200ms"),
    ("SERVICE_IN_GEST_MIN_VANTAGES", "2"),
    ("SERVICE_IN_GEST_NODES", "gr-1, gr-2"),
    ("SERVICE_IN_GEST_OWNER", "us"),
    ("SERVICE_IN_GEST_PAGE_AFTER", "20s"),
    ("SERVICE_IN_GEST_PREFIX", "team"),
    ("SERVICE_IN_GEST_QUIET_HOURS_DAYS", "saturday, sunday"),
    ("SERVICE_IN_GEST_QUIET_HOURS_FROM", "21:00"),
    ("SERVICE_IN_GEST_QUIET_HOURS_UNTIL", "06:00"),
    ("SERVICE_IN_GEST_QUIET_HOURS_ZONE", "Europe/Berlin"),
    ("SERVICE_IN_GEST_READBACK_CA", "PEM"),
    ("SERVICE_IN_GEST_READBACK_GRAPHITE", "https://graphite.example.com"),
    ("SERVICE_IN_GEST_READBACK_KEY", "0123456789abcdef"),
    ("SERVICE_IN_GEST_READBACK_PASSWORD", "0123456789abcdef"),
    ("SERVICE_IN_GEST_READBACK_PROMETHEUS", "https://prometheus.example.com"),
    ("SERVICE_IN_GEST_READBACK_RESOLUTION", "30s"),
    ("SERVICE_IN_GEST_READBACK_SETTLE", "9s"),
    ("SERVICE_IN_GEST_READBACK_SUM", ":total"),
    ("SERVICE_IN_GEST_READBACK_TOKEN", "0123456789abcdef"),
    ("SERVICE_IN_GEST_READBACK_USER", "we"),
    ("SERVICE_IN_GEST_ROTATION_EVERY", "2m"),
    ("SERVICE_IN_GEST_ROTATION_LOSS", "60%"),
    ("SERVICE_IN_GEST_ROTATION_MAX_OUT", "5%"),
    ("SERVICE_IN_GEST_ROTATION_MIN_IN", "60%"),
    ("SERVICE_IN_GEST_ROTATION_MIN_VANTAGES", "3"),
    ("SERVICE_IN_GEST_ROTATION_MODE", "live"),
    ("SERVICE_IN_GEST_ROTATION_NODES", "n1, n2"),
    ("SERVICE_IN_GEST_ROTATION_READMIT_AFTER", "2m"),
    ("SERVICE_IN_GEST_ROTATION_WINDOW", "10s"),
    ("SERVICE_IN_GEST_RUNBOOK", "look"),
    ("SERVICE_IN_GEST_SEVERITY_BLIND", "critical"),
    ("SERVICE_IN_GEST_SEVERITY_DEGRADED", "error"),
    ("SERVICE_IN_GEST_SEVERITY_DOWN", "error"),
    ("SERVICE_IN_GEST_SHADOW", "true"),
    ("SERVICE_IN_GEST_SOURCE", "10.0.0.7"),
    ("SERVICE_IN_GEST_START_UP_GRACE", "5m"),
    ("SERVICE_IN_GEST_STATUS_DESCRIPTION", "Takes your metrics."),
    ("SERVICE_IN_GEST_STATUS_GROUP", "Metrics"),
    ("SERVICE_IN_GEST_STATUS_NAME", "Ingest"),
    ("SERVICE_IN_GEST_STATUS_PUBLISH", "hidden"),
    ("SERVICE_IN_GEST_STATUS_PUBLISH_AFTER", "2m"),
    ("SINK_CERTIFICATE", "PEM"),
    ("SINK_HTTPS", "127.0.0.1:4"),
    ("SINK_PICKLE", "127.0.0.1:4"),
    ("SINK_PICKLE_TLS", "127.0.0.1:4"),
    ("SINK_TCP", "127.0.0.1:4"),
    ("SINK_TLS", "127.0.0.1:4"),
    ("SINK_UDP", "127.0.0.1:4"),
    ("VANTAGE_KIND", "loopback"),
    ("VANTAGE_NETWORK", "auto"),
    ("VANTAGE_NODE", "canary-7"),
    ("VANTAGE_REGION", "auto"),
    ("VANTAGE_ZONE", "eu-a"),
];

/// What the files refer to.
const SECRETS: &[(&str, &str)] = &[
    ("WORD", "0123456789"),
    ("TOKEN", "fedcba9876543210"),
    ("HOOK", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
];

const PEM: &str = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----";

/// The variables of all scalars in `schema`, whose own variables begin with `prefix`.
fn scalars(prefix: &str, schema: &Json, found: &mut BTreeSet<String>) {
    for alternative in alternatives(schema) {
        match alternative["properties"].as_object() {
            // A secret or certificate is a scalar for a variable, which holds the text itself.
            Some(properties)
                if !properties.keys().all(|key| ["file", "env", "hash"].contains(&key.as_str())) =>
            {
                for (key, schema) in properties {
                    scalars(&environment::name(&format!("{prefix}_"), key), schema, found);
                }
            }
            None if alternatives(&alternative["items"]).all(|item| item["type"] == "object") => {}
            _ => {
                found.insert(prefix.to_owned());
            }
        }
    }
}

/// The kinds that a value may be of.
fn alternatives(schema: &Json) -> impl Iterator<Item = &Json> {
    schema["anyOf"].as_array().map_or_else(|| std::slice::from_ref(schema), Vec::as_slice).iter()
}

#[test]
fn the_samples_are_all_scalars_of_the_language() {
    let mut found = BTreeSet::new();
    let schema = schema();
    for section in ["agent", "collector", "log", "sink", "vantage"] {
        scalars(&section.to_ascii_uppercase(), &schema["properties"][section], &mut found);
    }
    scalars("SERVICE_IN_GEST", &schema["properties"]["service"]["items"], &mut found);
    // A service is meant by its name, which a variable therefore cannot change.
    assert!(found.remove("SERVICE_IN_GEST_NAME"));
    let samples = SAMPLES.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(samples.collect::<BTreeSet<_>>(), found, "give each key a sample, or take its sample out");
}

/// The file in which the variable called `name` changes something that makes sense there.
fn file_for(name: &str) -> String {
    const RECEIVER: &str = "[[receiver]]\nname = \"oncall\"\nkind = \"command\"\ncommand = [\"page\"]\n";
    const PROXY: &str = "proxy = { from = [\"10.0.0.9\"], user = \"X-Name\" }";
    const HOURS: &str = "{ from = \"22:00\", until = \"07:00\", zone = \"UTC\" }";
    let readback = |lines: &str| format!("{FILE}[service.readback]\n{lines}\n");
    let below = |header: &str, line: &str| FILE.replace(header, &format!("{header}\n{line}"));
    let section = [
        "AGENT_CONSUL_",
        "COLLECTOR_PROXY_",
        "COLLECTOR_QUIET_HOURS_",
        "COLLECTOR_ROTATION_",
        "COLLECTOR_STATUS_",
        "COLLECTOR_TEST_PAGES_",
        "COLLECTOR_WATCHDOG_",
    ]
    .into_iter()
    .chain(["SERVICE_IN_GEST_QUIET_HOURS_", "SERVICE_IN_GEST_READBACK_", "SERVICE_IN_GEST_STATUS_"])
    .find(|section| name.starts_with(section))
    .unwrap_or_default();
    match (section, name.strip_prefix(section).unwrap_or_default()) {
        ("", "AGENT_FALLBACK") => format!("{FILE}{RECEIVER}"),
        ("", "AGENT_PROBE_AUTH") => {
            below("[agent]", "listen = \"127.0.0.1:3\"\nread_token = { env = \"TOKEN\" }")
        }
        ("AGENT_CONSUL_", _) => below("[agent]", "consul = { url = \"http://127.0.0.1:8500\" }"),
        ("", "AGENT_READ_TOKEN") => below("[agent]", "listen = \"127.0.0.1:3\""),
        ("", "COLLECTOR_PROBE_AUTH") => below("[collector]", PROXY),
        ("COLLECTOR_PROXY_", _) => below("[collector]", PROXY),
        ("COLLECTOR_QUIET_HOURS_", _) => below("[collector]", &format!("quiet_hours = {HOURS}")),
        ("COLLECTOR_ROTATION_", _) => {
            let outlets = "webhook = { url = \"https://a.example\", secret = { env = \"HOOK\" } }\n\
                           request = { url = \"https://a.example\" }";
            FILE.replace("[sink]", &format!("[collector.rotation]\n{outlets}\n[sink]"))
        }
        ("COLLECTOR_TEST_PAGES_", _) => {
            below("[collector]", &format!("test_pages = {{ hours = {HOURS} }}")) + RECEIVER
        }
        ("COLLECTOR_STATUS_", _) => {
            below("[collector]", "status = { title = \"A\", listen = \"127.0.0.1:8\" }")
        }
        ("SERVICE_IN_GEST_STATUS_", "PUBLISH_AFTER") => {
            below("[[service]]", "status = { publish = \"automatic\" }")
        }
        ("COLLECTOR_WATCHDOG_", "CA" | "INTERVAL" | "KEY") => {
            below("[collector]", "watchdog = { alertmanager = [\"https://am:9093\"] }")
        }
        ("SERVICE_IN_GEST_QUIET_HOURS_", _) => below("[[service]]", &format!("quiet_hours = {HOURS}")),
        ("SERVICE_IN_GEST_READBACK_", "GRAPHITE" | "PROMETHEUS") => FILE.to_owned(),
        ("SERVICE_IN_GEST_READBACK_", "KEY") => {
            readback("graphite = \"https://g/{key}\"\nkey = { env = \"WORD\" }")
        }
        ("SERVICE_IN_GEST_READBACK_", "PASSWORD" | "USER") => {
            readback("graphite = \"https://g\"\nuser = \"me\"\npassword = { env = \"WORD\" }")
        }
        ("SERVICE_IN_GEST_READBACK_", "SUM") => readback("graphite = \"https://g\"\nresolution = \"30s\""),
        ("SERVICE_IN_GEST_READBACK_", _) => readback("graphite = \"https://g\""),
        _ => FILE.to_owned(),
    }
}

/// What these variables change of `before` in `text`, as keys with their values.
fn changed(before: &Config, text: &str, variables: &[(&str, &str)]) -> BTreeMap<String, Value> {
    let before = values(before);
    let after = values(&read(text, variables).unwrap_or_else(|problems| panic!("{variables:?}: {problems}")));
    after.into_iter().filter(|(key, value)| before.get(key) != Some(value)).collect()
}

#[test]
fn every_scalar_is_overridden_by_its_variable() {
    for (name, sample) in SAMPLES {
        let variable = format!("AVIARY_{name}");
        let sample = sample.replace("PEM", PEM);
        let mut variables = vec![(variable.as_str(), sample.as_str())];
        let companions: &[(&str, &str)] = match *name {
            "AGENT_CERTIFICATE" => &[("AVIARY_AGENT_KEY", PEM)],
            "AGENT_KEY" => &[("AVIARY_AGENT_CERTIFICATE", PEM)],
            "COLLECTOR_CERTIFICATE" => &[("AVIARY_COLLECTOR_KEY", PEM)],
            "COLLECTOR_KEY" => &[("AVIARY_COLLECTOR_CERTIFICATE", PEM)],
            "COLLECTOR_CLIENT_CA" => &[("AVIARY_COLLECTOR_CERTIFICATE", PEM), ("AVIARY_COLLECTOR_KEY", PEM)],
            _ => &[],
        };
        variables.extend(companions);
        variables.extend(SECRETS);
        let file = file_for(name);
        let before = read(&file, SECRETS).unwrap();
        let text = match *name {
            "AGENT_SERVICES_FROM" => FILE.split("[[service]]").next().unwrap_or_default(),
            _ => &file,
        };
        let changed = changed(&before, text, &variables);
        assert!(!changed.is_empty(), "{name}");
        let config = read(text, &variables).unwrap();
        let strangers: Vec<_> =
            config.notes.iter().filter(|note| note.message.contains("changes nothing")).collect();
        assert!(strangers.is_empty(), "{strangers:?}");
        // Whatever is shown of a configuration: version and log show no secret, and the same key has the same version.
        let is_secret = sample.starts_with("-----") || sample.contains("0123456789abcdef");
        let same = before.version == config.version;
        assert_eq!(same, is_secret, "{name}");
    }
}

#[test]
fn an_override_and_the_same_in_the_file_are_the_same_configuration() {
    let table = [
        (
            "AVIARY_AGENT_COLLECTOR",
            "https://127.0.0.1:1, https://127.0.0.1:2",
            "https://127.0.0.1:1\"",
            "https://127.0.0.1:1\", \"https://127.0.0.1:2\"",
        ),
        (
            "AVIARY_SERVICE_IN_GEST_MIN_VANTAGES",
            "2",
            "name = \"In-Gest\"",
            "name = \"In-Gest\"\nmin_vantages = 2",
        ),
        ("AVIARY_COLLECTOR_OPEN", "true", "[collector]", "[collector]\nopen = true"),
        ("AVIARY_AGENT_SPOOL_SIZE", "1GiB", "[agent]", "[agent]\nspool.size = \"1GiB\""),
        ("AVIARY_LOG_LEVEL", "debug", "[agent]", "[log]\nlevel = \"debug\"\n[agent]"),
    ];
    for (name, value, from, to) in table {
        let overridden = read(FILE, &[(name, value)]).unwrap();
        let written = read(&FILE.replace(from, to), &[]).unwrap();
        assert_eq!(overridden.version, written.version, "{name}");
        assert_eq!(values(&overridden), values(&written), "{name}");
        assert_eq!(overridden.services_document, written.services_document, "{name}");
    }
}

#[test]
fn a_secret_may_be_named_by_its_file_instead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = read(FILE, &[("AVIARY_AGENT_TOKEN_FILE", &path.to_string_lossy())]).unwrap();
    assert_eq!(config.agent.unwrap().token.unwrap().expose(), "0123456789abcdef");
    assert!(config.files.contains(&path), "{:?}", config.files);
}

#[test]
fn a_variable_that_overrides_nothing_is_not_ignored() {
    let table: [(&[&str], &str); 8] = [
        (&["AVIARY_AGENT_TOKN"], "error: the variable AVIARY_AGENT_TOKN overrides no key of [agent]"),
        (
            &["AVIARY_AGENT_SPOOL_SIZ"],
            "error: the variable AVIARY_AGENT_SPOOL_SIZ overrides no key of [agent.spool]",
        ),
        (&["AVIARY_LOG_LEVL"], "error: the variable AVIARY_LOG_LEVL overrides no key of [log]"),
        (
            &["AVIARY_SERVICE_IN_GEST_FAMILI"],
            "error: the variable AVIARY_SERVICE_IN_GEST_FAMILI overrides no key of [[service]]",
        ),
        (
            &["AVIARY_SERVICE_IN_GEST_NAME"],
            "error: the variable AVIARY_SERVICE_IN_GEST_NAME overrides no key of [[service]]",
        ),
        (
            &["AVIARY_SERVICE_OTHER_FAMILY"],
            "note: the variable AVIARY_SERVICE_OTHER_FAMILY changes nothing: no [[service]] has such a name",
        ),
        // These Kubernetes sets for services of its own that are called aviary and aviary-agent.
        (&["AVIARY_SERVICE_HOST", "AVIARY_SERVICE_PORT_HTTP", "AVIARY_AGENT_PORT_8611_TCP_ADDR"], ""),
        (&["AVIARY_TOKEN", "AVIARY_DEMO_LISTEN"], ""),
    ];
    for (names, expected) in table {
        let variables: Vec<_> = names.iter().map(|name| (*name, "x")).collect();
        let problems = match read(FILE, &variables) {
            Ok(config) => config.notes,
            Err(Problems(problems)) => problems,
        };
        let of_variables = problems.iter().filter(|problem| problem.message.contains("AVIARY_"));
        let said: Vec<String> = of_variables
            .map(|problem| problem.to_string().lines().next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(said.join("; "), expected, "{names:?}");
    }
}

#[test]
fn a_variable_that_could_mean_two_services_is_refused() {
    let text = format!("{FILE}[[service]]\nname = \"in_gest\"\nendpoints = [\"tcp://h:1\"]\n");
    assert_eq!(
        messages(&text, &[("AVIARY_SERVICE_IN_GEST_FAMILY", "ipv4")]),
        [
            "the variable AVIARY_SERVICE_IN_GEST_FAMILY would override service[0].family as well as service[1].family"
        ]
    );
}

#[test]
fn the_older_name_of_the_level_is_understood_and_gives_way() {
    let level = |variables: &[(&str, &str)]| read(FILE, variables).unwrap().log.level;
    assert_eq!(level(&[]), "info");
    assert_eq!(level(&[("AVIARY_LOG", "debug")]), "debug");
    assert_eq!(level(&[("AVIARY_LOG", "debug"), ("AVIARY_LOG_LEVEL", "warn")]), "warn");
    assert_eq!(messages(FILE, &[("AVIARY_LOG", "loud")]), ["`loud` is no level of the log"]);
}

#[test]
fn services_of_a_collector_are_overridden_on_the_agent_too() {
    let text = FILE.split("[collector]").next().unwrap_or_default().to_owned()
        + "services = { from = \"collector\" }\n";
    let services = ServicesText {
        origin: "services from https://c/".to_owned(),
        text: "[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\n".to_owned(),
    };
    let variables = environment(&[("AVIARY_SERVICE_A_API_KEY", "k"), ("AVIARY_SERVICE_B_API_KEY", "k")]);
    let path = Path::new("a.toml");
    let config = parse(path, text.clone(), Some(&services), &variables, "host-1").unwrap();
    assert_eq!(config.services[0].api_key.as_ref().unwrap().expose(), "k");
    let notes: Vec<_> = config.notes.into_iter().map(|note| note.message).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[1].ends_with("AVIARY_SERVICE_B_API_KEY changes nothing: no [[service]] has such a name"));
    // Before the collector has been asked, nobody knows which services there are.
    let config = parse(path, text, None, &variables, "host-1").unwrap();
    assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
}
