//! Receivers and routes, as they reach the program.

use aviary_core::{
    Phase, Second, Tag,
    page::{Choice, Severity},
    silence::{Matches, When},
};
use aviary_notify::{Kind, Security, Watchdog, WatchdogKind};

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
        match = {{ severity = ["critical", "error"], service = ["a"], region = ["eu", "us"] }}
        notify = ["oncall", "chat"]
        escalate = [{{ after = "5m", notify = ["oncall"] }}]
        [[route]]
        notify = ["chat"]
        "#
    ));
    let [first, last] = config.routes.try_into().unwrap();
    assert_eq!(first.notify, ["oncall", "chat"]);
    assert_eq!(
        (first.escalate[0].after, first.escalate[0].notify.as_slice()),
        (300, &["oncall".to_owned()][..])
    );
    let tags = Matches::of(&[(Tag::Service, "a"), (Tag::Region, "eu"), (Tag::Region, "us")]);
    assert_eq!(first.choice, Choice { severity: [Severity::Error, Severity::Critical].into(), tags });
    assert_eq!(last.choice, Choice::default());
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
    assert!(!has(&all, "reach nobody") && !has(&all, "told of nothing"), "{all:?}");
    let of_region = routes("[[route]]\nmatch = { region = [\"eu\"] }\nnotify = [\"oncall\", \"chat\"]\n");
    assert!(has(&of_region, "reach nobody: some that are critical, error, warning, info"), "{of_region:?}");
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

/// What is said of pages that reach nobody, without what this version does not do yet.
fn reached(text: &str) -> Vec<String> {
    said(text).into_iter().filter(|one| !one.contains("is understood")).collect()
}

const WATCHDOG: &str = "[collector.watchdog]\nalertmanager = [\"https://am.example.com\"]\n";
const CHAT: &str = "[[receiver]]\nname = \"chat\"\nkind = \"slack\"\nkey = { env = \"SLACK\" }\n";

#[test]
fn it_is_said_when_nobody_would_be_paged_and_why() {
    let oncall = "[[receiver]]\nname = \"oncall\"\nkind = \"pagerduty\"\nkey = { env = \"KEY\" }\n";
    let hook = |host: &str| {
        format!(
            "[[receiver]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"https://{host}:9093\"\n{WATCHDOG}"
        )
    };
    let table = [
        (format!("{oncall}{WATCHDOG}"), None),
        (format!("{oncall}{CHAT}{WATCHDOG}"), None),
        (String::new(), Some("nobody is paged: there is no [[receiver]]")),
        (
            oncall.to_owned(),
            Some("nobody would be paged if this collector stopped: there is no dead man's switch"),
        ),
        (
            format!("{CHAT}{WATCHDOG}"),
            Some("nobody is woken when `a` is down: mail and chat are all that is told of it"),
        ),
        (
            format!(
                "{oncall}{CHAT}{WATCHDOG}[[route]]\nmatch = {{ severity = [\"critical\"] }}\nnotify = [\"chat\"]\n[[route]]\nnotify = [\"oncall\"]\n"
            ),
            Some("nobody is woken when `a` is down: mail and chat are all that is told of it"),
        ),
        (hook("am.example.com"), None),
        (hook("H"), Some("`am` is reached through h, where `a` is tested: with the one, the other is lost")),
        (
            format!("{oncall}[collector.watchdog]\nalertmanager = [\"http://h:9093\"]\n"),
            Some(
                "the dead man's switch is reached through h, where `a` is tested: with the one, the other is lost",
            ),
        ),
    ];
    for (text, expected) in table {
        let said = reached(&text);
        let messages: Vec<_> = said.iter().map(|one| one.split(" => ").next().unwrap_or_default()).collect();
        assert_eq!(messages, Vec::from_iter(expected), "{text}");
    }
}

#[test]
fn a_fault_of_this_host_is_no_news_to_it() {
    let text = SMALL.replace("tcp://h:1", "tcp://127.0.0.1:1");
    let receiver = "[[receiver]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:9093\"\n";
    let config = read(&format!("{text}{receiver}{WATCHDOG}"), VARIABLES).unwrap();
    assert!(!config.notes.iter().any(|note| note.message.contains("reached through")), "{:?}", config.notes);
}

#[test]
fn silences_reach_the_program() {
    let config = read_paging(
        r#"
        [[silence]]
        name = "switches"
        match = { region = ["eu", "us"], protocol = ["tcp"] }
        from = 2026-11-22T02:00:00+01:00
        until = 2026-11-22T03:00:00Z
        author = "ada"
        reason = "new switches"
        [[silence]]
        name = "backups"
        match = { service = ["a"] }
        hours = { days = ["sunday"], from = "22:00", until = "04:00", zone = "Europe/Berlin" }
        until = "2027-01-01T00:00[Europe/Berlin]"
        author = "bob"
        reason = "the disks are busy"
        "#,
    );
    let [switches, backups] = config.silences.try_into().unwrap();
    assert_eq!((switches.id.as_str(), switches.author.as_str()), ("switches", "ada"));
    let tags = [(Tag::Region, "eu"), (Tag::Region, "us"), (Tag::Protocol, "tcp")];
    assert_eq!(switches.matches, Matches::of(&tags));
    let hours =
        [(1_795_309_199, false), (1_795_309_200, true), (1_795_316_399, true), (1_795_316_400, false)];
    for (second, holds) in hours {
        assert_eq!(switches.holds_until(Second(second)).is_some(), holds, "{second}");
    }
    assert!(
        matches!(&backups.when, When::Recurring(hours, _) if hours.to_string() == "Sun 22:00-04:00 Europe/Berlin")
    );
    // The night of Sunday, 22 November, and that of the first Sunday after the end.
    for (second, holds) in [(1_795_381_200, true), (1_795_402_800, false), (1_799_010_000, false)] {
        assert_eq!(backups.holds_until(Second(second)).is_some(), holds, "{second}");
    }
    assert_eq!(backups.when.span().until, Second(1_798_758_000));
}

#[test]
fn what_a_service_wants_to_be_told_of_has_defaults_and_reaches_the_program() {
    use aviary_collector::{Alerting, Burst};
    let alerting = |keys: &str| {
        let text = SMALL.replace("[\"tcp://h:1\"]", &format!("[\"tls://h:1\"]\n{keys}"));
        read(&text, &[]).unwrap().services.remove(0).alerting
    };
    let default = alerting("");
    assert_eq!(default, Alerting::default());
    assert_eq!((default.page_after, default.start_up_grace, default.burst), (10, 60, Burst::Learnt));
    assert!(default.latency_p99.is_empty() && default.quiet_hours.is_none() && !default.shadow);
    assert_eq!(default.certificate_days, Some((21, 7)));

    let given = alerting(
        "severity = { degraded = \"error\", blind = \"info\" }\npage_after = \"0s\"\nburst = 1\n\
         start_up_grace = \"5m\"\nlatency_p99 = { connect = \"200ms\", tls = \"1500us\" }\ncertificate_days = []\n\
         quiet_hours = { from = \"22:00\", until = \"07:00\", zone = \"UTC\" }\nshadow = true\n",
    );
    let severities = (given.down, given.degraded, given.blind);
    assert_eq!(severities, (Severity::Critical, Severity::Error, Severity::Info));
    assert_eq!((given.page_after, given.start_up_grace, given.burst), (0, 300, Burst::Fixed(1.0)));
    assert_eq!(given.latency_p99, [(Phase::Connect, 200_000), (Phase::Tls, 1_500)].into());
    assert_eq!((given.certificate_days, given.shadow), (None, true));
    assert_eq!(given.quiet_hours.unwrap().to_string(), "22:00-07:00 UTC");
}

#[test]
fn what_the_collector_is_told_of_paging_reaches_the_program() {
    let text = SMALL.replace(
        "[collector]\n",
        "[collector]\nshadow = true\nwatchdog = { ping = { env = \"PING\" } }\n\
         quiet_hours = { days = [\"saturday\", \"sunday\"], from = \"22:00\", until = \"07:00\", zone = \"UTC\" }\n\
         test_pages = { notify = [\"chat\"], hours = { from = \"10:00\", until = \"11:00\", zone = \"UTC\" } }\n",
    );
    let ping = ("PING", "https://hc-ping.com/hunter2");
    let config = read(&format!("{text}{TWO}"), &[VARIABLES, &[ping]].concat()).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let collector = config.collector.unwrap();
    assert!(collector.shadow);
    assert_eq!(collector.quiet_hours.unwrap().to_string(), "Sat Sun 22:00-07:00 UTC");
    let tests = collector.test_pages.unwrap();
    assert_eq!(
        (tests.hours.to_string().as_str(), tests.notify.as_slice()),
        ("10:00-11:00 UTC", &["chat".to_owned()][..])
    );
    let watchdog = collector.watchdog.unwrap();
    assert_eq!(watchdog.kind, WatchdogKind::Ping(aviary_notify::Secret::new(ping.1)));
    assert_eq!(watchdog.interval, Watchdog::EVERY);
}

#[test]
fn whom_an_agent_pages_when_it_is_cut_off_reaches_the_program() {
    let text = SMALL.replace(
        "[agent]\n[collector]\n",
        "[agent]\ncollector = [\"http://127.0.0.1:1\"]\nfallback = \"oncall\"\n",
    );
    let config = read(&format!("{text}{TWO}"), VARIABLES).unwrap();
    assert_eq!(config.agent.unwrap().fallback.as_deref(), Some("oncall"));
}
