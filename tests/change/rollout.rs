//! Services that are rolled out: all agents take a version on, or none.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use aviary_core::{Second, Span};
use serde_json::Value;

use super::none_missed_at;
use crate::{
    pages::look_at,
    support::{
        aviary::{Ran, aviary, now},
        browser::Browser,
        http,
        node::Node,
        ports::Port,
        slots::{closed, slots_of, unlike},
        tcp_server::TcpServer,
    },
};

/// What an agent that is silent holds a rollout for, and then some.
const AWAY: Duration = Duration::from_secs(50);

/// A collector that keeps what it knows, and agents that take their services from it.
struct Fleet {
    there: Node,
    agents: Vec<Node>,
    endpoints: [String; 2],
    _receivers: [TcpServer; 2],
    timeout: &'static str,
}

impl Fleet {
    fn start(timeout: &'static str) -> Self {
        let ports = [Port::claim(), Port::claim()];
        let receivers = ports.each_ref().map(|port| TcpServer::start(port.address()));
        let endpoints = ports.each_ref().map(|port| format!("tcp://{}", port.address()));
        let there = Node::new();
        let mut fleet = Self { there, agents: Vec::new(), endpoints, _receivers: receivers, timeout };
        fleet.say(1, "");
        fleet.there.run(|_| {});
        for name in ["n1", "n2", "n3"] {
            let mut node = Node::new();
            node.configure(&format!(
                "[vantage]\nregion = \"eu\"\nnode = \"{name}\"\n[agent]\nlisten = \"@listen@\"\ndata = {:?}\n\
                 collector = [\"http://{}\"]\nservices = {{ from = \"collector\" }}\n",
                node.file("data"),
                fleet.there.address()
            ));
            node.run(|_| {});
            fleet.agents.push(node);
        }
        fleet.wait_until_all_run(&fleet.active());
        fleet
    }

    /// The collector's file says so many endpoints, and more of their service.
    fn say(&self, endpoints: usize, more: &str) {
        self.there.configure(&format!(
            "[collector]\nlisten = \"@listen@\"\ndata = {:?}\n[collector.rollout]\ntimeout = \"{}\"\n\
             [[service]]\nname = \"ingest\"\nendpoints = {:?}\n{more}\n",
            self.there.file("data"),
            self.timeout,
            &self.endpoints[..endpoints],
        ));
    }

    /// The same, with a reload.
    fn reload(&mut self, endpoints: usize, more: &str) {
        self.say(endpoints, more);
        self.there.process().hang_up();
    }

    /// A file that only some hosts have.
    fn place_ca(&self, agents: &[usize]) {
        let pem = crate::tls::Authority::new().pem;
        self.there.place("ca.pem", &pem);
        agents.iter().for_each(|agent| self.agents[*agent].place("ca.pem", &pem));
    }

    fn rollout(&self) -> Value {
        self.there.ask("/api/v1/rollout").1
    }

    fn active(&self) -> String {
        self.rollout()["active"]["version"].as_str().expect("there is an active version").to_owned()
    }

    fn wait_until(&self, state: &str) -> Value {
        self.there.wait_for("/api/v1/rollout", |_, told| told["state"] == state)
    }

    /// Waits until every agent probes by `version`, which is the active one.
    fn wait_until_all_run(&self, version: &str) -> Value {
        self.there.wait_for("/api/v1/rollout", |_, told| {
            told["active"]["version"] == version && runs(told) == [version; 3]
        })
    }

    fn command(&self, what: &str) -> Ran {
        aviary(&["rollout", what, "--collector", &format!("http://{}", self.there.address())])
    }

    /// The kinds of the events since `from`, and whether it was held between them: for a moment it also is while an agent's
    /// report is late.
    fn events(&self, from: Second) -> (Vec<String>, bool) {
        let told = self.there.ask(&format!("/api/v1/events?from={from}")).1;
        let events = told["events"].as_array().expect("a list").iter();
        let (holds, others): (Vec<_>, Vec<_>) = events
            .map(|event| event["kind"].as_str().expect("a kind").to_owned())
            .partition(|kind| kind == "rollout_held");
        (others, !holds.is_empty())
    }
}

/// The version that each agent probes by, in the order of their names.
fn runs(told: &Value) -> Vec<&str> {
    let agents = told["agents"].as_array().expect("a list of agents").iter();
    let by_name: BTreeMap<&str, &Value> =
        agents.map(|agent| (agent["node"].as_str().expect("a name"), agent)).collect();
    by_name.values().filter_map(|agent| state_of(agent, "active")).collect()
}

/// The version that `agent` has in this state.
fn state_of<'a>(agent: &'a Value, state: &str) -> Option<&'a str> {
    let versions = agent["versions"].as_array().expect("a list of versions");
    versions.iter().find(|held| held["state"] == state).and_then(|held| held["version"].as_str())
}

/// Every series has one slot in every second from its first to its last, and nothing was lost; between its end and another
/// beginning it is muted. A machine that is busy may not get to a slot, but not because services were changed.
#[track_caller]
fn no_slot_is_missed(fleet: &Fleet, span: Span) -> usize {
    let path = format!("/api/v1/slots?from={}&until={}", span.from, span.until);
    let read = || {
        let (_, told) = fleet.there.ask(&path);
        let series = told["series"].as_array().expect("a list of series").iter().enumerate();
        let of = |(place, one): (usize, &Value)| {
            let endpoint = one["tags"]["endpoint"].as_str().expect("an endpoint").to_owned();
            ((endpoint, place), slots_of(one))
        };
        series.map(of).collect::<BTreeMap<_, _>>()
    };
    let series = closed(span, read);
    let (mut probed, mut changes) = (Vec::new(), BTreeSet::new());
    for ((endpoint, _), slots) in &series {
        let seconds: Vec<u64> = slots.keys().map(|second| second.0).collect();
        let is_always_there = *endpoint == fleet.endpoints[0];
        assert!(!seconds.is_empty() && seconds.is_sorted_by(|one, next| one + 1 == *next), "{series:#?}");
        let mut was_there = is_always_there;
        for (second, slot) in slots {
            let is_there = is_always_there || slot.outcome != "muted";
            if is_there != was_there {
                changes.insert(*second);
            }
            if is_there {
                probed.push((second, slot));
            }
            was_there = is_there;
        }
    }
    assert!(!changes.is_empty(), "one endpoint comes: {series:#?}");
    assert_eq!(unlike(probed, "delivered"), [], "{series:#?}");
    for change in changes {
        series.values().for_each(|slots| none_missed_at(change, slots));
    }
    series.len()
}

#[test]
fn a_version_that_all_can_use_is_active_on_all_within_seconds_and_no_slot_is_missed() {
    let mut fleet = Fleet::start("10m");
    let first = fleet.active();
    let began = now();
    thread::sleep(Duration::from_secs(3));
    fleet.reload(2, "");
    let told = now();
    let settled = fleet.there.wait_for("/api/v1/rollout", |_, told| {
        told["active"]["version"] != first.as_str()
            && runs(told).iter().all(|it| told["active"]["version"] == *it)
    });
    let took = now().0 - told.0;
    println!("active on all agents after {took} s");
    assert!(took < 45, "{took} s");
    assert_eq!((&settled["state"], &settled["previous"]), (&"settled".into(), &first.as_str().into()));
    assert_eq!(fleet.events(began).0, ["rollout_began", "rollout_active"]);
    assert_eq!(fleet.command("status").status, 0);

    thread::sleep(Duration::from_secs(2));
    let span = Span::new(began, now());
    assert_eq!(no_slot_is_missed(&fleet, span), 6, "three agents, two endpoints");
    // The one before comes to its end, and is not told of any more.
    fleet.there.wait_for("/api/v1/rollout", |_, told| {
        let mut agents = told["agents"].as_array().unwrap().iter();
        agents.all(|agent| agent["versions"].as_array().unwrap().len() == 1)
    });
}

#[test]
fn one_that_rejects_a_version_holds_it_for_all_until_it_is_forced_and_it_can_be_gone_back_from() {
    let mut fleet = Fleet::start("10m");
    let first = fleet.active();
    let began = now();
    fleet.place_ca(&[0, 1]);
    fleet.reload(2, "ca = { file = \"ca.pem\" }");
    let held = fleet
        .there
        .wait_for("/api/v1/rollout", |_, told| told["state"] == "held" && told["candidate"]["ready"] == 2);
    let second = held["candidate"]["version"].as_str().unwrap().to_owned();
    thread::sleep(Duration::from_secs(3));
    // One that is late with its report has an objection too, until it comes.
    let held = fleet.there.wait_for("/api/v1/rollout", |_, told| {
        let objections = || told["agents"].as_array().unwrap().iter().map(|it| &it["objection"]);
        let named = objections().filter(|why| why.to_string().contains("ca.pem")).count();
        told["state"] == "held" && (named, objections().filter(|why| why.is_null()).count()) == (1, 2)
    });
    assert_eq!(runs(&held), [first.as_str(); 3], "nothing is taken on half");

    // The page, the command, the API of the agents, the metrics and the agent itself say who and why.
    let page = http::request(fleet.there.address(), "GET", "/agents", &[("accept", "text/html")], &[], AWAY);
    let page = page.unwrap().1;
    assert!(page.contains("2 of 3 agents have it available") && page.contains("ca.pem"), "{page}");
    let browser = Browser::start();
    browser.open(&format!("http://{}/agents", fleet.there.address()));
    look_at(&browser, "rollout-held");
    let ran = fleet.command("status");
    assert_eq!(ran.status, 1);
    for expected in ["held since", "n3", "ca.pem", &second, "2 of 3 agents have it available"] {
        assert!(ran.out.contains(expected), "{expected} in {}", ran.out);
    }
    let agents = fleet.there.ask("/api/v1/agents").1["agents"].clone();
    let n3 = agents.as_array().unwrap().iter().find(|agent| agent["node"] == "n3").unwrap();
    assert!(n3["services"].to_string().contains("\"state\":\"error\""), "{n3:#}");
    let metrics = fleet.there.ask("/metrics").1;
    assert!(
        metrics.as_str().unwrap().contains("aviary_collector_rollout_state{state=\"held\"} 1"),
        "{metrics}"
    );
    let (_, ready) = fleet.agents[2].ask("/readyz");
    assert!(ready["warnings"].to_string().contains("ca.pem"), "{ready:#}");

    // Forced, those that can take it on do; the other does once it can, by itself.
    let ran = fleet.command("force");
    assert!(ran.status == 0 && ran.out.contains("by force"), "{} {}", ran.out, ran.err);
    fleet.there.wait_for("/api/v1/rollout", |_, told| {
        let agents = told["agents"].as_array().unwrap();
        runs(told) == [second.as_str(), &second, &first]
            && agents.iter().any(|agent| state_of(agent, "error") == Some(&second))
    });
    assert_eq!(fleet.command("status").status, 1, "one has not what the file says");
    fleet.place_ca(&[2]);
    fleet.wait_until_all_run(&second);

    // One command, and all are back; the file's text waits, also for a reload.
    let ran = fleet.command("rollback");
    assert!(ran.status == 0 && ran.out.contains("active again"), "{} {}", ran.out, ran.err);
    let back = fleet.wait_until_all_run(&first);
    assert_eq!(
        (&back["state"], &back["held_back"]["version"]),
        (&"rolled_back".into(), &second.as_str().into())
    );
    fleet.there.process().hang_up();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(fleet.wait_until("rolled_back")["candidate"], Value::Null);
    assert_eq!(fleet.command("rollback").status, 2, "there is nothing before that");
    assert_eq!(fleet.command("retry").status, 0);
    fleet.wait_until_all_run(&second);
    let expected = ["rollout_began", "rollout_forced", "rolled_back", "rollout_began", "rollout_active"];
    assert_eq!(fleet.events(began), (expected.map(str::to_owned).to_vec(), true));
    let span = Span::new(began, now());
    no_slot_is_missed(&fleet, span);
}

#[test]
fn a_rollout_outlives_a_kill_of_the_collector_and_one_that_was_away_takes_the_active_version() {
    let mut fleet = Fleet::start("10m");
    let first = fleet.active();
    fleet.place_ca(&[0, 1]);
    fleet.reload(2, "ca = { file = \"ca.pem\" }");
    let held = fleet.wait_until("held");
    fleet.there.process().kill();
    fleet.there.run(|_| {});
    let after = fleet.wait_until("held");
    assert_eq!(after["candidate"]["version"], held["candidate"]["version"]);
    assert_eq!(fleet.active(), first);
    fleet.place_ca(&[2]);
    let second = held["candidate"]["version"].as_str().unwrap().to_owned();
    fleet.wait_until_all_run(&second);

    // A host that hangs is waited for, and then not any more; when it is back, it takes on what the others have.
    fleet.agents[2].process().freeze();
    fleet.reload(1, "");
    let deadline = now().plus(AWAY.as_secs());
    let is_active = |told: &Value| told["state"] == "settled" && told["active"]["version"] != second.as_str();
    while !is_active(&fleet.rollout()) {
        assert!(now() < deadline, "{:#}", fleet.rollout());
        thread::sleep(Duration::from_millis(200));
    }
    let third = fleet.active();
    let told = fleet.rollout();
    let away = told["agents"].as_array().unwrap().iter().find(|agent| agent["node"] == "n3").unwrap();
    assert_eq!(away["counts"], false, "{away:#}");
    fleet.agents[2].process().thaw();
    fleet.wait_until_all_run(&third);
}

#[test]
fn what_is_not_available_to_all_in_time_is_given_up_and_what_was_active_stands() {
    let mut fleet = Fleet::start("20s");
    let first = fleet.active();
    fleet.place_ca(&[0, 1]);
    fleet.reload(2, "ca = { file = \"ca.pem\" }");
    fleet.wait_until("held");
    let given_up = fleet.wait_until("timed_out");
    assert_eq!(runs(&given_up), [first.as_str(); 3]);
    assert_eq!(given_up["candidate"], Value::Null);
    let ran = fleet.command("status");
    assert!(ran.out.contains("not available to all agents in time"), "{}", ran.out);
    assert_eq!(fleet.command("force").status, 2);
    // Nothing is tried again by itself, also by another life of the collector; a change is.
    fleet.place_ca(&[2]);
    assert!(fleet.there.process().stop().success());
    fleet.there.run(|_| {});
    thread::sleep(Duration::from_secs(4));
    assert_eq!(fleet.wait_until("timed_out")["active"]["version"], first.as_str());
    // Whoever is slow is waited for this time.
    fleet.timeout = "10m";
    fleet.reload(2, "");
    let all = fleet.there.wait_for("/api/v1/rollout", |_, told| {
        told["state"] == "settled" && runs(told).iter().all(|it| told["active"]["version"] == *it)
    });
    assert_ne!(all["active"]["version"], first.as_str());
}
