//! Another configuration while the agent runs.

use std::{fs, thread, time::Duration};

use aviary_core::Span;

use super::none_missed_at;
use crate::support::{
    aviary::{aviary, now},
    node::Node,
    ports::Port,
    slots::all_delivered,
    tcp_server::TcpServer,
};

/// An agent of `collector` with these endpoints, and more keys of its section.
fn agent(collector: &Node, more: &str, endpoints: &[&str]) -> String {
    format!(
        "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\nlisten = \"@listen@\"\n\
         collector = [\"http://{}\"]\n{more}\n[[service]]\nname = \"ingest\"\nendpoints = {endpoints:?}\n",
        collector.address()
    )
}

const COLLECTOR: &str = "[collector]\nlisten = \"@listen@\"\n";

/// Three receivers, and their endpoints.
fn receivers() -> (Vec<(Port, TcpServer)>, Vec<String>) {
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let port = Port::claim();
            let receiver = TcpServer::start(port.address());
            (port, receiver)
        })
        .collect();
    let endpoints = receivers.iter().map(|(port, _)| format!("tcp://{}", port.address())).collect();
    (receivers, endpoints)
}

/// One series comes, one goes and one stays; `tell` has the agent take that on.
fn one_comes_one_goes_and_one_stays(why: &str, tell: impl FnOnce(&mut Node)) {
    let (_receivers, endpoints) = receivers();
    let [stays, goes, comes] = [0, 1, 2].map(|place| endpoints[place].as_str());
    let began = now();
    let collector = Node::start(COLLECTOR);
    let mut node = Node::start(&agent(&collector, "", &[stays, goes]));
    collector.wait_until_delivered(goes, 10);
    let version = collector.ask("/api/v1/agents").1["agents"][0]["configuration"].clone();

    let running = fs::read_to_string(node.file("aviary.toml")).unwrap();
    node.place("running.toml", &running);
    node.configure(&agent(&collector, "statsd = \"127.0.0.1:9\"", &[stays, comes]));
    let path = |name: &str| node.file(name).display().to_string();
    let foretold = aviary(&["check", "--against", &path("running.toml"), &path("aviary.toml")]).out;
    tell(&mut node);
    node.wait_until_said("The configuration was taken on.", 1);
    collector.wait_until_delivered(comes, 10);

    let until = now();
    let slots = collector.closed_slots("endpoint", Span::new(began, until));
    let (_, last) = all_delivered(&slots[stays]);
    assert_eq!(last.plus(1), until, "what stays has a slot in each second up to now");
    let (_, end) = all_delivered(&slots[goes]);
    let (beginning, last) = all_delivered(&slots[comes]);
    assert_eq!(
        (end.plus(1), last.plus(1)),
        (beginning, until),
        "one begins at the second in which the other ends"
    );
    slots.values().for_each(|slots| none_missed_at(beginning, slots));

    let log = node.log();
    for (line, said) in [
        (format!("+ canary.ingest {comes}"), format!("Begins. series=canary.ingest {comes}")),
        (format!("- canary.ingest {goes}"), format!("Ends. series=canary.ingest {goes}")),
        (
            "acts at once: agent.statsd: 127.0.0.1:9".to_owned(),
            "Acts from now on. change=agent.statsd: 127.0.0.1:9".to_owned(),
        ),
        ("1 series added, 1 removed, 1 unchanged".to_owned(), "added=1 removed=1 unchanged=1".to_owned()),
        (String::new(), format!("why=\"{why}\"")),
        (String::new(), format!("series=2 began=1 ended=1 first={beginning}")),
    ] {
        assert!(foretold.contains(&line), "`{line}` was not foretold:\n{foretold}");
        assert!(log.contains(&said), "`{said}` is not in the log:\n{log}");
    }
    let agents = collector.ask("/api/v1/agents").1;
    assert_ne!(agents["agents"][0]["configuration"], version, "reports tell the new version");
    // An end is no silence: what is unknown is so only until it is told.
    let service = collector.wait_for("/api/v1/services/ingest", |_, service| {
        service["state"] == "healthy" && service["window"]["unknown"] == 0
    });
    assert_eq!(service["window"]["lost"], 0, "{service:#}");
}

#[test]
fn at_sighup_one_series_comes_one_goes_and_one_stays() {
    one_comes_one_goes_and_one_stays("SIGHUP", |node| node.process().hang_up());
}

#[test]
fn with_the_file_one_series_comes_one_goes_and_one_stays() {
    one_comes_one_goes_and_one_stays("a file changed", |_| {});
}

#[test]
fn a_bad_file_changes_nothing_and_says_why_until_it_is_good() {
    let (_receivers, endpoints) = receivers();
    let collector = Node::start(COLLECTOR);
    let began = now();
    let good = |more: &str| agent(&collector, more, &[&endpoints[0]]);
    let mut node = Node::start(&good(""));
    collector.wait_until_delivered(&endpoints[0], 2);
    assert_eq!(
        node.wait_for("/readyz", |_, body| body["status"] == "ready")["warnings"],
        serde_json::Value::Null
    );

    node.configure(&good("colector = \"x\"").replace(&endpoints[0], &endpoints[1]));
    node.wait_until_said("The configuration is not taken on, the one before stands", 1);
    let log = node.log();
    let caret = format!(" --> {}:7:1", node.file("aviary.toml").display());
    assert!(log.contains(&caret) && log.contains("colector = \"x\"\n") && log.contains("^^^^^^^^"), "{log}");
    assert!(log.contains("did you mean `collector`?"), "{log}");
    let (status, ready) = node.ask("/readyz");
    let warning = ready["warnings"].to_string();
    assert_eq!((status, ready["status"].as_str()), (200, Some("ready")), "{ready:#}");
    assert!(warning.contains("the one before stands") && warning.contains("colector"), "{warning}");
    let (status, checked) = node.ask("/healthcheck");
    let failed = checked["failed"].to_string();
    assert!(status == 500 && failed.contains("configuration") && failed.contains("colector"), "{checked:#}");

    // Long enough for two more looks: what was read in vain is not read again.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(node.said("The configuration is not taken on"), 1, "{}", node.log());
    node.process().hang_up();
    node.wait_until_said("The configuration is not taken on", 2);
    node.configure(&good("# Nothing else."));
    node.wait_until_said("The configuration was taken on.", 1);
    node.wait_for("/healthcheck", |status, _| status == 200);
    node.wait_for("/readyz", |_, ready| ready["warnings"].is_null());

    let until = now();
    let slots = collector.closed_slots("endpoint", Span::new(began, until));
    assert_eq!(slots.len(), 1, "only the good files were ever acted on");
    assert_eq!(all_delivered(&slots[&endpoints[0]]).1.plus(1), until);
}

#[test]
fn the_log_is_begun_anew_and_its_level_follows_the_file() {
    let (_receivers, endpoints) = receivers();
    let collector = Node::start(COLLECTOR);
    let mut node = Node::new();
    let path = node.file("own.log");
    let text = |level: &str| {
        let log = format!("[log]\nfile = {path:?}\nlevel = \"{level}\"\n");
        agent(&collector, "", &[&endpoints[0]]) + &log
    };
    node.configure(&text("warn"));
    node.run(|_| {});
    let read = |node: &Node, name: &str| fs::read_to_string(node.file(name)).unwrap_or_default();
    node.configure(&text("info"));
    node.process().hang_up();
    node.wait("the level is said", || read(&node, "own.log").contains("log.level: warn, and then info"));

    fs::rename(node.file("own.log"), node.file("own.log.1")).unwrap();
    node.process().hang_up();
    // A file that changes is noticed without a signal as well, so that it must not before the log is begun anew.
    let taken_on = "The configuration was taken on.";
    node.wait("the file is there again", || read(&node, "own.log").contains(taken_on));
    let rotated = read(&node, "own.log.1");
    node.configure(&text("warn").replace("node = \"n\"", "node = \"m\""));
    node.process().hang_up();
    node.wait("what needs a start is said", || {
        read(&node, "own.log").contains("vantage.node: n, and then m")
    });
    assert_eq!(read(&node, "own.log.1"), rotated, "the one that was renamed is left alone");
    let lines = read(&node, "own.log");
    assert_eq!(lines.matches(taken_on).count(), 1, "the level is warn by then:\n{lines}");
    assert!(!node.log().contains(" INFO "), "standard error has none of it: {}", node.log());
}
