//! Agents in three regions, the collector that they report to, and whoever is paged.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::words::steady;
use crate::support::{node::Node, pager::Pager};

/// From where is probed: a region, a dash and a number.
pub(super) const NODES: [&str; 6] = ["ap-1", "ap-2", "eu-1", "eu-2", "us-1", "us-2"];

/// How long starting and being paged may take, and how long the end of what is over: whatever a busy machine loses in the meantime
/// makes it begin anew.
const PATIENCE: Duration = Duration::from_secs(200);
const PATIENCE_END: Duration = Duration::from_secs(400);

/// How long a command that is given a page may take to write it down.
const PATIENCE_TEXT: Duration = Duration::from_secs(30);

/// All of them, each a process.
pub(super) struct Fleet {
    collector: Node,
    pub(super) agents: Vec<Node>,
    pager: Pager,
    /// How much was told, and over, before all was well.
    told_before: usize,
}

/// Where a node's probes come from.
pub(super) fn source(node: &str) -> IpAddr {
    let place = NODES.iter().position(|known| *known == node).expect("it is one of them");
    Ipv4Addr::new(127, 0, 1, place as u8 + 1).into()
}

/// What a service may lose. After `page_after` all agents have told of it, or that they suspect themselves. A machine that stands
/// still for two seconds loses less of a minute than this, and whatever is broken loses three times as much at least.
pub(super) const LIMITS: &str = "acceptable_loss = \"5%\"\npage_after = \"10s\"\n";

/// A service in both configurations; `limits`: what it may lose, and for how long.
pub(super) fn service(name: &str, endpoints: &[String], limits: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nendpoints = {endpoints:?}\n{limits}\
         burst = 1.0\nstart_up_grace = \"5s\"\nowner = \"{name} team\"\n{more}\n"
    )
}

impl Fleet {
    /// Starts it, with these services at the collector, and with what an agent has in `[agent]` and after it, by its node.
    #[track_caller]
    pub(super) fn start(services: &str, of_agent: impl Fn(&str) -> (String, String)) -> Self {
        let (pager, address) = Pager::start();
        let mut collector = Node::new();
        // What is told by webhook is data; what a person reads is given to a command.
        let text = collector.file("pages").display().to_string();
        fs::create_dir(&text).expect("the temporary directory can be written");
        let write = format!(
            "printf '%s' \\\"$AVIARY_PAGE_TEXT\\\" > '{text}'/$AVIARY_PAGE_INCIDENT-$AVIARY_PAGE_TYPE"
        );
        collector.configure(&format!(
            "[collector]\nlisten = \"@listen@\"\n{services}\n\
             [[receiver]]\nname = \"oncall\"\nkind = \"webhook\"\nallow_private = true\n\
             url = \"http://{address}/hook\"\nsecret = {{ env = \"SECRET\" }}\n\
             [[receiver]]\nname = \"reader\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{write}\"]\n"
        ));
        collector.run(|command| {
            command.env("SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        });
        let url = format!("http://{}", collector.address());
        let agents = NODES.map(|node| {
            let region = node.split('-').next().unwrap_or_default();
            let (more, services) = of_agent(node);
            Node::start(&format!(
                "[vantage]\nregion = \"{region}\"\nnode = \"{node}\"\nnetwork = \"net-{region}\"\n\
                 [agent]\nlisten = \"@listen@\"\ncollector = [\"{url}\"]\nsource = \"{}\"\n{}\n{services}",
                source(node),
                more
            ))
        });
        Self { collector, agents: agents.into(), pager, told_before: 0 }
    }

    /// Waits until all `services` are well, and whatever a busy machine lost as they began is over: from then on it counts what is
    /// told.
    #[track_caller]
    pub(super) fn wait_until_well(&mut self, services: usize) {
        let begun = Instant::now();
        loop {
            let (_, answer) = self.collector.ask("/api/v1/services");
            let states = answer["services"].as_array().expect("a list of services");
            let well = states.iter().filter(|service| service["state"] == "healthy");
            if well.count() == services && self.is_all_over() {
                // What was lost while all of it began lies behind the windows that fire soonest.
                thread::sleep(Duration::from_secs(8));
                if self.is_all_over() {
                    break;
                }
            }
            let states: Vec<_> = states.iter().map(|service| (&service["name"], &service["state"])).collect();
            assert!(begun.elapsed() < PATIENCE, "{states:?}\n{}\n{}", self.story(), self.collector.log());
            thread::sleep(Duration::from_millis(200));
        }
        self.told_before = self.pager.told().len();
    }

    /// Whether all that was told to be there was told to be over.
    fn is_all_over(&self) -> bool {
        let mut there = BTreeSet::new();
        for told in self.told() {
            let id = told["data"]["id"].as_str().expect("an id").to_owned();
            if told["type"] == "incident.resolved" {
                there.remove(&id);
            } else {
                there.insert(id);
            }
        }
        there.is_empty()
    }

    /// What was told since all was well.
    fn told(&self) -> Vec<Value> {
        self.pager.told().split_off(self.told_before)
    }

    /// Waits until each of `about` was told once to be there: begins of summaries.
    #[track_caller]
    pub(super) fn wait_until_opened(&self, about: &[&str]) {
        self.wait("incident.opened", about, PATIENCE);
    }

    /// Waits until each of `about` was told once to be over.
    #[track_caller]
    pub(super) fn wait_until_resolved(&self, about: &[&str]) {
        self.wait("incident.resolved", about, PATIENCE_END);
    }

    fn wait(&self, kind: &str, about: &[&str], patience: Duration) {
        let begun = Instant::now();
        let lacking = || about.iter().filter(|begin| self.about(begin, kind).is_empty()).collect::<Vec<_>>();
        while !lacking().is_empty() {
            assert!(
                begun.elapsed() < patience,
                "{kind} of {:?} is not told:\n{}\n{}",
                lacking(),
                self.story(),
                self.collector.log()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn about(&self, begin: &str, kind: &str) -> Vec<Value> {
        let is_it = |told: &Value| {
            told["type"] == kind
                && told["data"]["summary"].as_str().is_some_and(|text| text.starts_with(begin))
        };
        self.told().into_iter().filter(is_it).collect()
    }

    /// All that was told since all was well, a line each.
    pub(super) fn story(&self) -> String {
        self.told().iter().fold(String::new(), |mut text, told| {
            _ = writeln!(text, "{} {} {}", told["type"], told["data"]["severity"], told["data"]["summary"]);
            text
        })
    }

    /// The text of the one page that `begin`s so, told once to be there; and once to be over if `is_over`.
    #[track_caller]
    pub(super) fn page(&self, begin: &str, is_over: bool) -> String {
        let opened = self.about(begin, "incident.opened");
        assert_eq!(opened.len(), 1, "{begin} is told once:\n{}", self.story());
        let id = opened[0]["data"]["id"].as_str().expect("an id");
        let ends = self
            .told()
            .iter()
            .filter(|told| told["data"]["id"] == id && told["type"] == "incident.resolved")
            .count();
        assert_eq!(ends, usize::from(is_over), "{begin}:\n{}", self.story());
        let urgency = self.collector.ask(&format!("/api/v1/incidents/{id}")).1["urgency"].clone();
        format!("{}: {}", urgency.as_str().unwrap_or_default(), self.text(id, "incident.opened"))
    }

    /// The texts of all messages about the one incident that `begin`s so, in their order, each after its type.
    #[track_caller]
    pub(super) fn messages(&self, begin: &str) -> String {
        let opened = self.about(begin, "incident.opened");
        assert_eq!(opened.len(), 1, "{begin} is told once:\n{}", self.story());
        let id = &opened[0]["data"]["id"];
        let told = self.told().into_iter().filter(|told| told["data"]["id"] == *id);
        let kinds = told.map(|told| told["type"].as_str().unwrap_or_default().to_owned());
        let text = |kind: String| format!("{kind}: {}", self.text(id.as_str().expect("an id"), &kind));
        kinds.map(text).collect::<Vec<_>>().join("\n---\n")
    }

    /// What whoever reads pages got last of this type about an incident. A command is slower than a webhook.
    #[track_caller]
    fn text(&self, id: &str, kind: &str) -> String {
        let file = self.collector.file("pages").join(format!("{id}-{kind}"));
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if !text.is_empty() {
                return steady(&text);
            }
            assert!(
                begun.elapsed() < PATIENCE_TEXT,
                "nobody wrote {}\n{}",
                file.display(),
                self.collector.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many incidents were told to be there since all was well.
    pub(super) fn opened(&self) -> usize {
        self.told().iter().filter(|told| told["type"] == "incident.opened").count()
    }
}
