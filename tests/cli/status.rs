//! `aviary status` and `aviary sums`.

use std::time::Duration;

use crate::support::{
    aviary::{Aviary, aviary, now},
    ports::Port,
};

/// Two of the three protocols that are required are dead: so that more than half is lost, whatever a busy machine does not get to.
#[test]
fn a_dead_endpoint_is_told_in_tables_and_in_the_exit_status() {
    let (alive, dead) = (Port::claim(), Port::claim());
    let running = Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\n[sink]\ntcp = \"{alive}\"\n[[service]]\nname = \"ingest\"\n\
         endpoints = [\"tcp://{alive}\", \"pickle://{dead}\", \"tls://{dead}\", {{ url = \"udp://{dead}\", required = false }}]\n",
        alive = alive.address(),
        dead = dead.address(),
    ));
    let url = format!("http://{}", running.collector);
    let young = aviary(&["status", &url]);
    assert_eq!(young.status, 0, "starting is not unwell: {}{}", young.out, young.err);
    assert!(young.out.contains("starting"), "{}", young.out);

    let is_told = |ingest: &serde_json::Value| {
        let parts = ingest["protocols"].as_array().unwrap();
        let is = |protocol: &str, state: &str| {
            parts.iter().any(|part| part["protocol"] == protocol && part["state"] == state)
        };
        ingest["state"] == "down" && is("pickle", "down") && is("tcp", "healthy")
    };
    running.wait_for("/api/v1/services/ingest", Duration::from_secs(90), is_told);
    let down = aviary(&["status", &url]);
    assert_eq!(down.status, 1, "{}", down.out);
    let row = |protocol: &str| down.out.lines().find(|line| line.contains(protocol)).unwrap_or_default();
    assert!(
        row("all").contains("ingest") && row("all").contains("down") && row("all").contains("1 place"),
        "{}",
        down.out
    );
    assert!(row("tcp").contains("healthy"), "{}", down.out);
    assert!(row("pickle").contains("down") && row("pickle").contains("100.00 %"), "{}", down.out);
    assert!(row("udp").contains("(not required)"), "told, and changes no verdict: {}", down.out);
    assert!(!down.out.contains("pickle://"), "the protocol's row says it already: {}", down.out);

    let sums = aviary(&["sums", &url, "--by", "protocol,region", "--window", "10s"]);
    let row = sums.out.lines().find(|line| line.starts_with("pickle")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    let &["pickle", "eu", "0", lost, "0", "100.00", "%", _, "0", "0", _, "10"] = cells.as_slice() else {
        panic!("{}", sums.out)
    };
    assert!(lost.parse::<u64>().unwrap() >= 5, "{}", sums.out);

    let until = now().minus(5).to_string();
    let json = aviary(&[
        "sums", &url, "--by", "protocol", "--window", "4s", "--step", "2s", "--until", &until, "--format",
        "json",
    ]);
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 8, "four protocols, two steps: {}", json.out);
    for line in lines {
        let classes = ["delivered", "lost", "local", "missed", "muted", "unproven", "unknown"];
        let sum: u64 = classes.iter().map(|class| line[class].as_u64().unwrap()).sum();
        assert_eq!(line["scheduled"].as_u64(), Some(sum), "{line}");
    }
    let slots = running.get("/api/v1/slots?series=protocol:pickle");
    let mut slots = slots["series"][0]["slots"].as_array().unwrap().iter();
    let slot = slots.find(|slot| slot["outcome"] == "lost").unwrap();
    assert_eq!(
        (&slot["phase"], &slot["fault"], &slot["address"]),
        (&"connect".into(), &"refused".into(), &dead.address().to_string().into())
    );
}

#[test]
fn what_cannot_be_asked_says_why() {
    let running = Aviary::start("");
    let url = format!("http://{}", running.collector);
    let table: [(&[&str], &str); 5] = [
        (&["sums", &url, "--by", "colour"], "`colour` is not known; it is one of address, endpoint"),
        (&["sums", &url, "--window", "1 fortnight"], "no duration of whole seconds"),
        (&["sums", &url, "--window", "60s", "--step", "7s"], "does not divide"),
        (&["sums", &url, "--until", "1"], "holds the seconds from"),
        (&["sums", "not a url"], "invalid value"),
    ];
    for (arguments, expected) in table {
        let ran = aviary(arguments);
        assert_eq!(ran.status, 2, "{arguments:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(expected), "{arguments:?}: {}", ran.err);
    }
    let nobody = Port::claim();
    let ran = aviary(&["status", &format!("http://{}", nobody.address())]);
    assert_eq!(ran.status, 2);
    assert!(
        ran.err.contains("cannot reach a collector") && ran.err.contains(&nobody.address().to_string()),
        "{}",
        ran.err
    );
    let empty = aviary(&["status", &url]);
    assert!(empty.out.contains("No service"), "{}", empty.out);
}

#[test]
fn a_service_that_nobody_reports_is_blind_and_not_down() {
    let running = Aviary::start("[[service]]\nname = \"ingest\"\nendpoints = [\"tcp://127.0.0.1:9\"]\n");
    let url = format!("http://{}", running.collector);
    running.wait_for("/api/v1/services/ingest", Duration::from_secs(90), |ingest| ingest["state"] == "blind");
    let ran = aviary(&["status", &url]);
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("cannot tell"), "{}", ran.out);
}
