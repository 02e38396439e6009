//! What `deploy` has for those who have Grafana, Prometheus or Graphite: each panel asks a real one, beside a fleet that runs.
#![expect(clippy::disallowed_methods, reason = "a fleet is watched for real seconds")]

mod board;

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use aviary_core::Protocol;
use serde_json::Value;

use self::board::{Board, Target, Values, deploy, filled};
use crate::support::{
    http,
    node::Node,
    prometheus::{Prometheus, encoded, promtool},
    service::Service,
    wait::wait_for,
};

/// Slots are counted a minute after their second, and a ratio needs some of them.
const PATIENCE: Duration = Duration::from_secs(120);

/// What exists only once something is or was amiss, or where nodes are steered or a token ends: in the reference they all are.
const NOT_IN_THIS_FLEET: [&str; 7] = [
    "aviary_agent_credential_expires_timestamp_seconds",
    "aviary_agent_spool_oldest_timestamp_seconds",
    "aviary_collector_canary_delay_seconds",
    "aviary_collector_credential_expires_timestamp_seconds",
    "aviary_collector_watchdog_total",
    "aviary_rotation_owed",
    "aviary_rotation_refusing",
];

/// A service on a real Graphite, which agents in two regions probe over every protocol.
struct Fleet {
    service: Service,
    collector: Node,
    agents: [Node; 2],
}

impl Fleet {
    #[track_caller]
    fn start() -> Self {
        let service = Service::start();
        let endpoints: Vec<String> =
            Protocol::ALL.iter().map(|protocol| service.endpoint(*protocol)).collect();
        let probed = format!(
            "[[service]]\nname = \"ingest\"\nendpoints = {endpoints:?}\nca = {{ file = \"{}\" }}\n",
            service.ca().display()
        );
        let mut collector = Node::new();
        collector.configure(&format!(
            "[collector]\nlisten = \"@listen@\"\ndata = \"{}\"\n{probed}\
             [service.readback]\ngraphite = \"http://{}\"\n\
             [[receiver]]\nname = \"oncall\"\nkind = \"command\"\ncommand = [\"/bin/true\"]\n",
            collector.file("data").display(),
            service.graphite.http(),
        ));
        collector.run(|_| {});
        let agents = ["eu-west-1", "us-east-1"].map(|region| {
            let mut agent = Node::new();
            agent.configure(&format!(
                "[vantage]\nregion = \"{region}\"\nzone = \"{region}a\"\nnetwork = \"net-{region}\"\nnode = \"canary-{region}\"\n\
                 [agent]\nlisten = \"@listen@\"\ndata = \"{}\"\ncollector = [\"http://{}\"]\ncontrols = [\"tcp://{}\"]\n{probed}",
                agent.file("data").display(),
                collector.address(),
                service.graphite.http(),
            ));
            agent.run(|_| {});
            agent
        });
        Self { service, collector, agents }
    }
}

/// Asks each target until all of them had an answer; those that had none in time are told.
#[track_caller]
fn wait_for_data(targets: Vec<Target>, mut lacks: impl FnMut(&Target) -> Option<String>) {
    let deadline = Instant::now() + PATIENCE;
    let mut left = targets;
    assert!(!left.is_empty());
    loop {
        let mut amiss = Vec::new();
        left.retain(|target| match lacks(target) {
            Some(why) => {
                amiss.push(format!("{}\n    {}\n    {why}", target.panel, target.query));
                true
            }
            None => false,
        });
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "no data:\n{}", amiss.join("\n"));
        thread::sleep(Duration::from_secs(1));
    }
}

/// What is no data in the answer to a query.
fn lacks_numbers(answer: &Result<Value, String>) -> Option<String> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Some(error.clone()),
    };
    let series = answer["result"].as_array().unwrap();
    let is_number = |sample: &Value| sample[1].as_str().unwrap().parse::<f64>().unwrap().is_finite();
    let has_number = |series: &Value| match series["values"].as_array() {
        Some(samples) => samples.iter().any(is_number),
        None => is_number(&series["value"]),
    };
    (!series.iter().any(has_number)).then(|| format!("{answer}"))
}

fn now() -> u64 {
    crate::support::aviary::now().0
}

/// The names of metrics in a query or in rules.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter));
    let is_metric = |word: &&str| {
        (word.starts_with("aviary_") || word.starts_with("process_") || word.contains(":aviary_"))
            && !word.ends_with('_')
            && !word.ends_with(':')
    };
    words.filter(is_metric).collect()
}

#[test]
fn dashboards_are_whole() {
    let amiss: Vec<String> =
        ["fleet", "service", "agent", "graphite"].iter().flat_map(|name| Board::read(name).amiss()).collect();
    assert_eq!(amiss, [""; 0]);
}

#[test]
fn promtool_is_content_with_the_rules_and_with_what_they_tell() {
    let dir = deploy("prometheus");
    assert!(promtool(&["check", "rules", "rules.yml"], &dir).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", "tests.yml"], &dir).contains("SUCCESS"));
    let (rules, tests) = (dir.join("rules.yml"), dir.join("tests.yml"));
    let (rules, tests) = (fs::read_to_string(rules).unwrap(), fs::read_to_string(tests).unwrap());
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        for end in ["fires", "does not fire"] {
            assert!(tests.contains(&format!("- name: {alert} {end}\n")), "{alert} {end}: nobody tries it");
        }
    }
}

#[test]
fn each_panel_has_an_answer_of_a_real_prometheus_or_graphite() {
    let fleet = Fleet::start();
    let rules = fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
    let [eu, us] = &fleet.agents;
    let agent = |node: &Node| ("aviary-agent", node.address());
    let jobs = [agent(eu), agent(us), ("aviary-collector", fleet.collector.address())];
    let prometheus = Prometheus::start(&jobs, &rules);

    graphite(&fleet);
    for name in ["fleet", "service", "agent"] {
        panels(&prometheus, &Board::read(name));
    }
    rules_hold(&prometheus, &rules);
}

/// The panels of `board` at a real Prometheus.
#[track_caller]
fn panels(prometheus: &Prometheus, board: &Board) {
    let mut values = Values::new();
    for (name, kind, question) in board.variables() {
        assert_eq!(kind, "query", "{name}");
        let asked = question.strip_prefix("label_values(").and_then(|it| it.strip_suffix(')')).unwrap();
        let (metric, label) = asked.split_once(", ").unwrap();
        let path = format!("/api/v1/label/{label}/values");
        let lacking = || format!("{}: {question} has no value", board.name);
        let known = wait_for(PATIENCE, lacking, || {
            let known = prometheus.ask(&path, &[("match[]", metric)]).unwrap();
            serde_json::from_value::<Vec<String>>(known).unwrap().into_iter().next()
        });
        values.insert(name.to_owned(), vec![known]);
    }
    // What Grafana makes of it where one scrapes each second.
    values.insert("__rate_interval".to_owned(), vec!["15s".to_owned()]);
    wait_for_data(board.targets(), |target| {
        let query = filled(&target.query, &values, |all| all.join("|"));
        let (from, until) = ((now() - 30).to_string(), now().to_string());
        lacks_numbers(&if target.is_instant {
            prometheus.ask("/api/v1/query", &[("query", &query)])
        } else {
            let span = [("query", query.as_str()), ("start", &from), ("end", &until), ("step", "5")];
            prometheus.ask("/api/v1/query_range", &span)
        })
    });
    let known = prometheus.ask("/api/v1/label/__name__/values", &[]).unwrap();
    let known: BTreeSet<String> = serde_json::from_value(known).unwrap();
    for target in board.targets() {
        for name in metrics(&target.query) {
            assert!(known.contains(name), "{}: nobody tells {name}", target.panel);
        }
    }
}

/// The rules are loaded and judged, of what there is, and say nothing of a fleet that is well.
#[track_caller]
fn rules_hold(prometheus: &Prometheus, text: &str) {
    let known = prometheus.ask("/api/v1/label/__name__/values", &[]).unwrap();
    let known: BTreeSet<String> = serde_json::from_value(known).unwrap();
    let expressions =
        text.lines().filter(|line| !line.contains("description:") && !line.contains("summary:"));
    for name in
        expressions.flat_map(|line| metrics(line.trim())).filter(|name| !NOT_IN_THIS_FLEET.contains(name))
    {
        assert!(known.contains(name), "rules.yml: nobody tells {name}");
    }
    let reference = fs::read_to_string(deploy("../docs/reference/metrics.md")).unwrap();
    for name in NOT_IN_THIS_FLEET {
        assert!(reference.contains(&format!("`{name}`")), "rules.yml: nobody ever tells {name}");
    }
    let answer = prometheus.ask("/api/v1/rules", &[]).unwrap();
    let groups = answer["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.len(), text.matches("- alert: ").count() + text.matches("- record: ").count());
    for rule in rules {
        assert!(rule["health"] == "ok" && rule["state"] != "firing", "{rule:#}");
    }
}

/// The panels over the canaries' own series at a real graphite-web.
#[track_caller]
fn graphite(fleet: &Fleet) {
    let board = Board::read("graphite");
    let web = fleet.service.graphite.http();
    // While carbon does not get to answer it graphite-web says that it failed.
    let ask = |path: &str| -> Result<Value, String> {
        let (status, body) =
            http::request(web, "GET", path, &[], &[], PATIENCE).map_err(|error| error.to_string())?;
        if status != 200 {
            return Err(format!("{status}: {body}"));
        }
        serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))
    };
    let several = |all: &[String]| format!("{{{}}}", all.join(","));
    // One after another: the later ones ask with the values of the earlier.
    let mut values = Values::new();
    for (name, kind, question) in board.variables() {
        if kind == "textbox" {
            values.insert(name.to_owned(), vec![question.to_owned()]);
            continue;
        }
        let query = encoded(&filled(question, &values, several));
        let begun = Instant::now();
        let found = loop {
            // Grafana asks `/metrics/find`, which wants a database of people that this graphite-web does not have.
            let found = ask(&format!("/metrics/expand?query={query}")).map(|found| {
                let found = found["results"].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
                let last = found.filter_map(|path| path.rsplit('.').next());
                last.map(str::to_owned).collect::<BTreeSet<String>>()
            });
            // Both agents have a place of their own for each tag.
            if let Ok(found) = &found
                && found.len() == if name == "service" { 1 } else { 2 }
            {
                break found.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "{name}: {question} finds {found:?}");
            thread::sleep(Duration::from_millis(500));
        };
        values.insert(name.to_owned(), found.into_iter().collect());
    }
    assert_eq!(values["region"], ["eu-west-1", "us-east-1"]);
    let lacks = |query: &str| {
        let asked = ask(&format!("/render?format=json&from=-30s&noCache=1&target={}", encoded(query)));
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => return Some(error),
        };
        let series = answer.as_array().unwrap();
        let has_point = |series: &Value| {
            series["datapoints"].as_array().unwrap().iter().any(|point| point[0].is_number())
        };
        let is_whole = !series.is_empty() && series.iter().all(has_point);
        (!is_whole).then(|| answer.to_string())
    };
    wait_for_data(board.targets(), |target| {
        // A repeated panel is asked with each value alone, and any panel with all of them.
        let alone = (0..2).map(|place| {
            let one = |all: &Vec<String>| vec![all[place.min(all.len() - 1)].clone()];
            filled(
                &target.query,
                &values.iter().map(|(name, all)| (name.clone(), one(all))).collect(),
                several,
            )
        });
        let mut queries = alone.chain([filled(&target.query, &values, several)]);
        queries.find_map(|query| lacks(&query))
    });
}
