//! What people do about an incident: `aviary incident`, `ack`, `explain`, `silence`, `page-test` and `replay`.

use std::{fs, time::Duration};

use serde_json::Value;

use crate::support::{
    aviary::{Aviary, Ran, aviary, now},
    receiver::Receiver,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A collector and an agent that probes `endpoint`, paging at once.
fn start(endpoint: &str) -> Aviary {
    Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\n\
         [[service]]\nname = \"ingest\"\nendpoints = [\"{endpoint}\"]\npage_after = \"0s\"\nstart_up_grace = \"1s\"\n\
         [[receiver]]\nname = \"oncall\"\nkind = \"command\"\ncommand = [\"/bin/echo\", \"page 17\"]\n\
         [[receiver]]\nname = \"refuses\"\nkind = \"command\"\ncommand = [\"/bin/false\"]\n\
         [[receiver]]\nname = \"waits\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo busy >&2; exit 75\"]\n\
         [[route]]\nnotify = [\"oncall\"]\n"
    ))
}

/// A command asked of `running`.
#[track_caller]
fn ask(running: &Aviary, arguments: &[&str]) -> Ran {
    let url = format!("http://{}", running.collector);
    aviary(&[arguments, &["--collector", &url]].concat())
}

/// What a command prints that ends with `status`.
#[track_caller]
fn out(running: &Aviary, arguments: &[&str], status: i32) -> String {
    let ran = ask(running, arguments);
    assert_eq!(ran.status, status, "{arguments:?}: {}{}\n{}", ran.out, ran.err, running.log());
    ran.out
}

/// Why a command cannot be done.
#[track_caller]
fn refusal(running: &Aviary, arguments: &[&str]) -> String {
    let ran = ask(running, arguments);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{arguments:?}: {}", ran.err);
    ran.err
}

#[test]
fn an_incident_is_followed_from_its_page_to_its_end() {
    let service = Receiver::start();
    let running = start(&format!("tcp://{}", service.address()));
    let begun = now();
    let is_well = |service: &Value| service["window"]["delivered"].as_u64() > Some(35);
    running.wait_for("/api/v1/services/ingest", 2 * PATIENCE, is_well);
    let none = out(&running, &["incident", "list", "--open"], 0);
    assert_eq!(none, "No incident is open.\n");
    assert!(refusal(&running, &["ack", "01", "--by", "ada"]).contains("no incident's id begins with `01`"));

    drop(service);
    let is_open = |answer: &Value| answer["incidents"][0]["state"] == "open";
    let answer = running.wait_for("/api/v1/incidents?active=true", PATIENCE, is_open);
    let incident = &answer["incidents"][0];
    let (id, summary) = (incident["id"].as_str().unwrap(), incident["summary"].as_str().unwrap());
    let opened = incident["opened"].as_u64().unwrap();
    assert!(summary.starts_with("ingest: ") && summary.contains("100 % lost"), "{summary}");
    let listed = out(&running, &["incident", "list", "--open"], 1);
    for expected in [id, summary, "critical", "open"] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }

    // Ids of one day begin alike, and this is the only one.
    let short = id.split_at(12).0.to_lowercase();
    let acknowledged = out(&running, &["ack", &short, "--by", "ada"], 0);
    assert!(acknowledged.contains(&format!("{id}: ada is on it ({summary}, since ")), "{acknowledged}");
    assert!(out(&running, &["incident", "list"], 1).contains("ada is on it"));
    out(&running, &["incident", "note", &short, "the relay restarts", "--by", "grace"], 0);
    assert!(refusal(&running, &["ack", id]).contains("who you are"));

    let expected = [
        id,
        "Why ingest was told, at ",
        "are too many",
        "grace: the relay restarts",
        "ada is on it since",
        "oncall",
        "took `opened`",
        "connect refused",
    ];
    // Who took the page, and more of what went wrong, is known a little later.
    let deadline = now().plus(PATIENCE.as_secs());
    loop {
        let explained = out(&running, &["explain", &short], 0);
        let missing: Vec<_> = expected.iter().filter(|expected| !explained.contains(**expected)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(now() < deadline, "{missing:?}: {explained}");
        std::thread::sleep(Duration::from_millis(200));
    }

    let resolved = out(&running, &["incident", "resolve", id, "--by", "ada"], 0);
    assert!(resolved.contains("resolved by ada"), "{resolved}");
    assert!(refusal(&running, &["explain", &"0".repeat(26)]).contains("is not known here"));
    assert!(refusal(&running, &["explain", "../slots"]).contains("is no incident's id"));

    // The same rules over what is stored tell the same page.
    std::thread::sleep(Duration::from_secs(15));
    let file = running.file("aviary.toml");
    let (file, from) = (file.to_str().unwrap(), moment(begun.0 - 5));
    let replayed = out(&running, &["replay", file, "--from", &from, "--format", "json"], 1);
    let told: Value = serde_json::from_str(replayed.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&told["summary"], &told["urgency"], &told["to"]),
        (&summary.into(), &"page".into(), &serde_json::json!(["oncall"]))
    );
    let at = told["at"].as_u64().unwrap();
    // What was told late opened it later then, and is there from the beginning now.
    assert!(at <= opened + 1 && opened <= at + 20, "{at} and {opened}");
    let text = out(&running, &["replay", file, "--from", &from], 1);
    assert!(text.contains("page critical ") && text.contains("; to oncall"), "{text}");
    assert!(text.lines().last().unwrap().contains("of 1 series, replayed in"), "{text}");
    let lenient = running.file("lenient.toml");
    let config = fs::read_to_string(running.file("aviary.toml")).unwrap();
    fs::write(&lenient, config.replace("page_after", "shadow = true\npage_after")).unwrap();
    let text = out(&running, &["replay", lenient.to_str().unwrap(), "--from", &from], 1);
    assert!(text.contains("; to the log only") && text.contains("0 pages and "), "{text}");
    let early = refusal(
        &running,
        &["replay", file, "--from", "2001-01-01T00:00Z", "--until", "2001-01-01T00:05Z", "--warm-up", "0s"],
    );
    assert!(early.contains("holds no slot from 2001-01-01T00:00:00Z"), "{early}");
}

fn moment(second: u64) -> String {
    jiff::Timestamp::from_second(second.cast_signed()).unwrap().to_string()
}

#[test]
fn silences_come_and_go() {
    let running = start("tcp://127.0.0.1:9");
    assert_eq!(out(&running, &["silence", "list"], 0), "No silence is held.\n");
    let usual = ["silence", "add", "--author", "ada", "--reason", "new switches"];
    let added = [&usual[..], &["--match", "region=eu,us", "--match", "protocol=udp", "--for", "2h"]].concat();
    let added = out(&running, &added, 0);
    let id = added.split(':').next().unwrap();
    assert!(added.contains("protocol udp, region eu or us in force, until "), "{added}");
    let hours =
        ["--match", "service=ingest", "--for", "720h", "--hours", "02:00-02:01", "--zone", "Asia/Tokyo"];
    out(&running, &[&usual[..], &hours].concat(), 0);
    let listed = out(&running, &["silence", "list"], 0);
    for expected in ["region eu or us", "new switches", "ada", "every day 02:00-02:01 Asia/Tokyo"] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    assert_eq!(out(&running, &["silence", "expire", id], 0), format!("{id}: ended\n"));
    let listed = out(&running, &["silence", "list"], 0);
    assert!(listed.lines().any(|line| line.contains(id) && line.contains("ended ")), "{listed}");
    assert!(refusal(&running, &["silence", "expire", id]).contains("is not held, or has ended"));
    let past = ["--match", "region=eu", "--until", "2001-01-01T00:00Z"];
    assert!(refusal(&running, &[&usual[..], &past].concat()).contains("before it begins"));
}

#[test]
fn a_receiver_is_tested_as_it_is_paged() {
    let running = start("tcp://127.0.0.1:9");
    let took = out(&running, &["page-test", "oncall"], 0);
    let lines: Vec<&str> = took.lines().collect();
    assert_eq!(lines.len(), 2, "{took}");
    assert!(lines[0].contains("Z oncall took `test`: ") && lines[0].contains("page 17"), "{took}");
    assert!(lines[1].contains("Z oncall took `test_over`: "), "{took}");
    let refused = out(&running, &["page-test", "refuses"], 1);
    assert!(refused.contains("refuses `test` for good"), "{refused}");
    let waits = out(&running, &["page-test", "waits", "--within", "15s"], 1);
    assert!(waits.contains("does not take `test`: ") && waits.contains("not over within 15 s"), "{waits}");
    let unknown = refusal(&running, &["page-test", "nobody"]);
    assert!(unknown.contains("there are oncall, refuses, waits"), "{unknown}");
}

#[test]
fn whoever_may_only_read_changes_nothing() {
    let token = |name: &str, scope: &str| {
        format!(
            "[[collector.token]]\nname = \"{name}\"\nsecret = {{ env = \"SECRET_{scope}\" }}\nscope = [\"{scope}\"]\n"
        )
    };
    let secret = |scope: &str| format!("{scope}-0123456789abcdef0123456789abcdef");
    let configuration = format!(
        "[[receiver]]\nname = \"oncall\"\nkind = \"command\"\ncommand = [\"/bin/true\"]\n{}{}",
        token("wall", "read"),
        token("ops", "admin")
    );
    let running = Aviary::start_with(&configuration, |command| {
        command.env("SECRET_read", secret("read")).env("SECRET_admin", secret("admin"));
    });
    let silence = ["silence", "add", "--match", "region=eu", "--for", "2h", "--reason", "new switches"];
    let of = |scope: &str| ["--token".to_owned(), secret(scope)];
    let with = |arguments: &[&str], scope: &str| {
        let token = of(scope);
        ask(&running, &[arguments, &token.each_ref().map(String::as_str)].concat())
    };
    assert_eq!(with(&["silence", "list"], "read").status, 0);
    for change in [&silence[..], &["page-test", "oncall"]] {
        let refused = with(change, "read");
        assert_eq!(refused.status, 2, "{}", refused.out);
        assert!(refused.err.contains("403"), "{}", refused.err);
        assert!(refusal(&running, change).contains("AVIARY_TOKEN"));
        let done = with(change, "admin");
        assert_eq!(done.status, 0, "{}", done.err);
    }
    let listed = with(&["silence", "list"], "read").out;
    assert!(listed.contains("ops"), "who did not say who it is, is the token: {listed}");
}
