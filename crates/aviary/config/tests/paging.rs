//! Receivers and routes, as they reach the program.

use std::time::Duration;

use aviary_notify::{Kind, Security, Severity};

use super::*;

const VARIABLES: &[(&str, &str)] = &[
    ("KEY", "hunter2hunter2"),
    ("SLACK", "https://hooks.slack.com/services/T00/B00/hunter2"),
    ("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
];

fn read_paging(text: &str) -> Config {
    read(&format!("{SMALL}{text}"), VARIABLES).unwrap()
}

fn said(text: &str) -> Vec<String> {
    let shown = |problem: Problem| match problem.help {
        Some(help) => format!("{} => {help}", problem.message),
        None => problem.message,
    };
    match read(&format!("{SMALL}{text}"), VARIABLES) {
        Ok(config) => config.notes.into_iter().map(shown).collect(),
        Err(Problems(problems)) => problems.into_iter().map(shown).collect(),
    }
}

#[test]
fn every_kind_of_receiver_reaches_the_program() {
    let config = read_paging(
        r#"
        [[receiver]]
        name = "pd"
        kind = "pagerduty"
        key = { env = "KEY" }
        [[receiver]]
        name = "am"
        kind = "alertmanager"
        url = ["http://a.example.com:9093", "http://b.example.com:9093"]
        [[receiver]]
        name = "og"
        kind = "opsgenie"
        url = "https://api.atlassian.com/jsm/ops/integration/v2/alerts"
        key = { env = "KEY" }
        [[receiver]]
        name = "vo"
        kind = "victorops"
        key = { env = "KEY" }
        routing_key = "ingest team"
        [[receiver]]
        name = "chat"
        kind = "slack"
        key = { env = "SLACK" }
        [[receiver]]
        name = "hook"
        kind = "webhook"
        url = "http://127.0.0.1:9000/hook"
        secret = { env = "HOOK" }
        allow_private = true
        [[receiver]]
        name = "mail"
        kind = "email"
        server = "smtp.example.com"
        port = 2525
        security = "tls"
        user = "aviary"
        password = { env = "KEY" }
        from = "aviary <aviary@example.com>"
        to = ["oncall@example.com", "On call <second@example.com>"]
        [[receiver]]
        name = "script"
        kind = "command"
        command = ["/usr/local/bin/page", "--now"]
        "#,
    );
    let receivers: Vec<(&str, &Kind)> = config
        .receivers
        .iter()
        .map(|receiver| (receiver.settings.name.as_str(), &receiver.settings.kind))
        .collect();
    let names: Vec<_> = receivers.iter().map(|(name, kind)| (*name, kind.name())).collect();
    let expected = [
        ("pd", "pagerduty"),
        ("am", "alertmanager"),
        ("og", "opsgenie"),
        ("vo", "victorops"),
        ("chat", "slack"),
        ("hook", "webhook"),
        ("mail", "email"),
        ("script", "command"),
    ];
    assert_eq!(names, expected);
    let secret = |text| aviary_notify::Secret::new(text);
    for (_, kind) in receivers {
        match kind {
            Kind::PagerDuty(it) => {
                assert_eq!(it.url.as_str(), "https://events.pagerduty.com/v2/enqueue");
                assert_eq!(it.key, secret("hunter2hunter2"));
            }
            Kind::Alertmanager(it) => assert_eq!((it.urls.len(), &it.key), (2, &None)),
            Kind::Opsgenie(it) => assert_eq!(it.url.host_str(), Some("api.atlassian.com")),
            Kind::VictorOps(it) => assert_eq!(it.routing_key, "ingest team"),
            Kind::Slack(it) => assert_eq!(it.url, secret("https://hooks.slack.com/services/T00/B00/hunter2")),
            Kind::Webhook(it) => assert!(it.allow_private),
            Kind::Email(it) => {
                assert_eq!((it.port, it.security, it.to.len()), (Some(2525), Security::Tls, 2));
                assert_eq!(it.login, Some(("aviary".to_owned(), secret("hunter2hunter2"))));
            }
            Kind::Command(it) => assert_eq!(it.argv, ["/usr/local/bin/page", "--now"]),
        }
    }
    assert!(!format!("{:?}", config.receivers).contains("hunter2"));
}

const TWO: &str = r#"
    [[receiver]]
    name = "oncall"
    kind = "pagerduty"
    key = { env = "KEY" }
    [[receiver]]
    name = "chat"
    kind = "slack"
    key = { env = "SLACK" }
"#;

#[test]
fn routes_reach_the_program_in_their_order() {
    let config = read_paging(&format!(
        r#"{TWO}
        [[route]]
        match = {{ severity = ["critical", "error"], service = ["a"] }}
        notify = ["oncall", "chat"]
        escalate = [{{ after = "5m", notify = ["oncall"] }}]
        [[route]]
        notify = ["chat"]
        "#
    ));
    let [first, last] = config.routes.try_into().unwrap();
    assert_eq!(first.notify, ["oncall", "chat"]);
    assert_eq!(first.escalate[0].after, Duration::from_secs(300));
    let table = [
        (Severity::Critical, Some("a"), true),
        (Severity::Error, Some("a"), true),
        (Severity::Warning, Some("a"), false),
        (Severity::Critical, Some("b"), false),
        (Severity::Critical, None, false),
    ];
    for (severity, service, expected) in table {
        assert_eq!(first.matches(severity, service), expected, "{severity} {service:?}");
        assert!(last.matches(severity, service));
    }
}

#[test]
fn whoever_would_not_be_told_is_named() {
    let routes = |routes: &str| said(&format!("{TWO}{routes}"));
    let has = |said: &[String], words: &str| said.iter().any(|one| one.contains(words));
    let critical = routes(
        "[[route]]\nmatch = { severity = [\"critical\"], service = [\"a\"] }\nnotify = [\"oncall\"]\n",
    );
    assert!(has(&critical, "reach nobody: some that are error, warning, info => end with"), "{critical:?}");
    assert!(has(&critical, "`chat` is told of nothing"), "{critical:?}");
    let all = routes("[[route]]\nnotify = [\"oncall\", \"chat\"]\n");
    assert!(!has(&all, "nobody") && !has(&all, "nothing"), "{all:?}");
    let step =
        routes("[[route]]\nnotify = [\"oncall\"]\nescalate = [{ after = \"5m\", notify = [\"chat\"] }]\n");
    assert!(has(&step, "nobody can acknowledge by the receivers of this step"), "{step:?}");
}

#[test]
fn one_mistake_is_said_once() {
    let no_key = "[[receiver]]\nname = \"oncall\"\nkind = \"pagerduty\"\n[[route]]\nnotify = [\"oncall\"]\n";
    let said = said(no_key);
    let errors: Vec<_> = said.iter().filter(|one| !one.contains("does not page yet")).collect();
    assert!(matches!(&errors[..], [one] if one.starts_with("`key` is missing in [receiver]")), "{said:?}");
}

#[test]
fn no_key_crosses_the_network_in_the_clear() {
    let with_url = |url: &str| {
        said(&format!(
            "[[receiver]]\nname = \"am\"\nkind = \"alertmanager\"\nkey = {{ env = \"KEY\" }}\nurl = \"{url}\"\n"
        ))
    };
    let refused = with_url("http://alertmanager.example.com:9093/x");
    let message = "the key for http://alertmanager.example.com:9093 would cross the network in the clear";
    assert!(refused.iter().any(|one| one.starts_with(message)), "{refused:?}");
    for url in ["https://alertmanager.example.com", "http://127.0.0.1:9093"] {
        assert!(!with_url(url).iter().any(|one| one.contains("clear")), "{url}");
    }
}

#[test]
fn a_template_that_does_not_render_is_said_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page.txt");
    let receiver = format!(
        "[[receiver]]\nname = \"chat\"\nkind = \"slack\"\nkey = {{ env = \"SLACK\" }}\ntemplate = {{ file = \"{}\" }}\n",
        path.display()
    );
    std::fs::write(&path, "{{ summary }}\n{{ severty }}\n").unwrap();
    let [error, ..] = &said(&receiver)[..] else { panic!("nothing is said") };
    assert!(error.starts_with("line 2 of the template: `severty` is undefined"), "{error}");
    std::fs::write(&path, "{{ summary }}\n{{ severity }}\n").unwrap();
    let config = read_paging(&receiver);
    assert_eq!(config.receivers[0].settings.template.as_deref(), Some("{{ summary }}\n{{ severity }}"));
}

#[test]
fn what_changes_of_a_receiver_is_told_without_its_secrets() {
    let after =
        format!("{SMALL}{TWO}[[route]]\nnotify = [\"oncall\"]\n").replace("\"pagerduty\"", "\"opsgenie\"");
    let variables: Vec<_> =
        VARIABLES.iter().map(|(name, value)| (*name, value.replace("hunter2", "hunter3"))).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let after = read(&after, &variables).unwrap();
    let difference = difference::between(&read_paging(TWO), &after);
    let told: Vec<String> = difference.needs_restart.iter().map(ToString::to_string).collect();
    let expected = [
        "receiver.chat.key",
        "receiver.oncall.key",
        "receiver.oncall.kind: pagerduty, and then opsgenie",
        "receiver.oncall.url: https://events.pagerduty.com/v2/enqueue, and then https://api.opsgenie.com/v2/alerts",
        "route.1.notify: oncall",
    ];
    assert_eq!(told, expected);
}
