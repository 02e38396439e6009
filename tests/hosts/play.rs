//! Faults that are injected all at once, each into a service of its own, and what aviary says of each.

use std::{
    collections::BTreeMap,
    io::{Write as _, stderr},
    thread,
    time::{Duration, Instant},
};

use aviary_core::Second;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    fault::{Counted, Deed, Injected, To, Way},
    interval,
    services::Service,
    stage::Stage,
    table::Row,
};
use crate::support::aviary::now;

/// What is measured of a rate is said with this confidence.
const CONFIDENCE: f64 = 0.99;

/// By then all slots are closed, what is read back too: storage is asked eight seconds back.
const CLOSED_AFTER: u64 = 13;

/// What was not told or read yet by then never is.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);

/// One fault.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// As the table has it.
    pub(super) name: &'static str,
    /// Whose slots and pages tell of it.
    pub(super) service: &'static str,
    pub(super) way: Way,
    pub(super) deed: Deed,
    /// When in the play, in seconds, and for how many.
    pub(super) begins: u64,
    pub(super) lasts: u64,
    pub(super) lost: Lost,
    pub(super) page: Page,
}

/// What is to be lost on the way; elsewhere it is nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lost {
    /// Nothing.
    Nothing,
    /// As many as were hit, of which this is the share that they were to be.
    EachHit(f64),
    /// All of these protocols, and nothing of the others.
    All(&'static [&'static str]),
    /// Nothing; and nothing is measured.
    NotMeasured,
}

/// What somebody is to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Page {
    /// Nobody of anything.
    None,
    /// One message: what is after the service's name, how urgent it is and how severe, and whose fault.
    One { says: &'static str, urgency: &'static str, severity: &'static str, blame: &'static str },
}

/// Slots of a service, summed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) scheduled: u64,
    /// Of those, how many were to go as datagrams.
    datagrams: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    /// Which the agent could not run, or not right.
    pub(super) unmeasured: u64,
    pub(super) unknown: u64,
    pub(super) late: u64,
}

impl Sum {
    fn add(&mut self, group: &Value) {
        let count = |key: &str| group[key].as_u64().expect("a count");
        self.scheduled += count("scheduled");
        self.datagrams += if group["by"]["protocol"] == "udp" { count("scheduled") } else { 0 };
        self.delivered += count("delivered");
        self.lost += count("lost");
        self.unmeasured += count("local") + count("missed");
        self.unknown += count("unknown") + count("unproven");
        self.late += count("late");
    }
}

/// Says to whoever waits how far it is.
pub(super) fn progress(text: &str) {
    // With standard error closed nobody waits.
    _ = writeln!(stderr(), "hosts: {text}");
}

/// When a fault was.
#[derive(Clone, Copy, Debug)]
struct When {
    /// Before it, and in the first second after its beginning.
    begun: Second,
    first: Second,
    /// In the second of its end, and after it.
    last: Second,
    ended: Second,
}

impl When {
    /// Whatever it can have had a hand in, with a clock that is so many seconds ahead.
    const fn reach(&self, ahead: u64) -> (Second, Second) {
        (self.begun.minus(1), self.ended.plus(ahead + 2))
    }
}

/// Injects `faults`, each in its time, and has a row of the table for each.
#[track_caller]
pub(super) fn play(stage: &Stage, services: &[Service], faults: &[Fault]) -> Vec<Row> {
    let ends = |fault: &Fault| fault.begins + fault.lasts;
    let whole = faults.iter().map(ends).max().unwrap_or_default();
    let started = Instant::now();
    let mut under_way = BTreeMap::new();
    let mut over = BTreeMap::new();
    for second in 0..=whole {
        thread::sleep(Duration::from_secs(second).saturating_sub(started.elapsed()));
        for (number, _) in faults.iter().enumerate().filter(|(_, fault)| ends(fault) == second) {
            let (injected, begun, first): (Injected<'_>, _, _) =
                under_way.remove(&number).expect("it has begun");
            let last = now();
            let counted = injected.end();
            over.insert(number, (counted, When { begun, first, last, ended: now() }));
        }
        for (number, fault) in faults.iter().enumerate().filter(|(_, fault)| fault.begins == second) {
            let begun = now();
            let injected = stage.inject(services, &fault.way, fault.deed, number);
            under_way.insert(number, (injected, begun, now().plus(1)));
        }
        if second > 0 && second.is_multiple_of(10) {
            let told = stage.story();
            let newest = told
                .last()
                .map_or_else(String::new, |told| format!(", at last: {}", told["data"]["summary"]));
            progress(&format!(
                "{second} s of {whole} s, {} under way, {} told{newest}",
                under_way.len(),
                told.len()
            ));
        }
    }
    thread::sleep(Duration::from_secs(CLOSED_AFTER));
    let reach: Vec<_> = over.values().map(|(_, when)| when.reach(stage.skewed.1)).collect();
    let from = reach.iter().map(|(from, _)| *from).min();
    let until = reach.iter().map(|(_, until)| *until).max();
    stage.wait_until_known(from.zip(until).expect("there is a fault"));
    let rows = faults.iter().zip(over.into_values());
    let rows = rows.map(|(fault, (counted, when))| judge(stage, fault, counted, when));
    rows.chain([clock(stage)]).collect()
}

impl Stage {
    /// Waits until it is known of each second of `span` what became of it: what waited is told, and what was stored is read.
    #[track_caller]
    fn wait_until_known(&self, span: (Second, Second)) {
        let deadline = Instant::now() + KNOWN_WITHIN;
        while self.sums("", span, |_, _, _| true).0.unknown > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// What happened to a service in `[from, until)`: where `is_on_way` of region, protocol and host, and elsewhere.
    #[track_caller]
    pub(super) fn sums(
        &self,
        service: &str,
        (from, until): (Second, Second),
        is_on_way: impl Fn(&str, &str, &str) -> bool,
    ) -> (Sum, Sum) {
        let by = "by=region,node,protocol,endpoint,address";
        let window = until.0 - from.0;
        let of = if service.is_empty() { String::new() } else { format!("&service={service}") };
        let answer = self.ask(&format!("/api/v1/sums?{by}{of}&window={window}s&until={until}"));
        let (mut on, mut off) = (Sum::default(), Sum::default());
        for group in answer["groups"].as_array().expect("a list of groups") {
            let tag = |tag: &str| group["by"][tag].as_str().expect("a tag").to_owned();
            let (endpoint, address) = (tag("endpoint"), tag("address"));
            let host =
                endpoint.split("//").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
            let host = if host.ends_with(".test") { address.as_str() } else { host };
            let from = if tag("region") == "home" { tag("node") } else { tag("region") };
            let sum = if is_on_way(&from, &tag("protocol"), host) { &mut on } else { &mut off };
            sum.add(group);
        }
        (on, off)
    }

    /// The messages that said that something is wrong, as they were sent.
    pub(super) fn story(&self) -> Vec<Value> {
        self.pager.told().into_iter().filter(|told| told["type"] == "incident.opened").collect()
    }

    /// What was told in `when` of what begins with `about`: how urgent, and the message's data.
    #[track_caller]
    fn told_of(&self, about: &str, when: When) -> Vec<(String, Value)> {
        let is_then = |told: &Value| {
            let at: Timestamp = told["timestamp"].as_str().expect("a time").parse().expect("a time");
            let at = at.as_second() as u64;
            when.begun.0 <= at && at <= when.ended.0 + CLOSED_AFTER
        };
        let is_about =
            |told: &Value| told["data"]["summary"].as_str().is_some_and(|text| text.starts_with(about));
        let its = self.story().into_iter().filter(|told| is_then(told) && is_about(told));
        its.map(|told| {
            let data = told["data"].clone();
            let incident = self.ask(&format!("/api/v1/incidents/{}", data["id"].as_str().expect("an id")));
            (incident["urgency"].as_str().unwrap_or_default().to_owned(), data)
        })
        .collect()
    }
}

/// What is known of the clock that was ahead all the time, of which nobody is told: it is no loss.
#[track_caller]
fn clock(stage: &Stage) -> Row {
    let (host, ahead) = stage.skewed;
    let answer = stage.ask("/api/v1/agents");
    let agents = answer["agents"].as_array().expect("a list of agents");
    let offset = agents
        .iter()
        .find(|agent| agent["node"] == host)
        .and_then(|agent| agent["clock_offset_seconds"].as_f64());
    let offset = offset.unwrap_or_default();
    let is_known = (offset.abs() - ahead as f64).abs() < 0.5;
    Row {
        fault: format!("the clock of {host} ahead"),
        injected: format!("{ahead} s"),
        measured: format!("{offset:.2} s"),
        page: "none".to_owned(),
        wrong: if is_known { Vec::new() } else { vec![format!("{answer:#}")] },
        ..Row::default()
    }
}

#[track_caller]
fn judge(stage: &Stage, fault: &Fault, counted: Counted, when: When) -> Row {
    let When { first, last, .. } = when;
    let (nodes, protocols): (Vec<String>, Option<&[&str]>) = match &fault.way.to {
        To::Service { nodes, protocols, .. } => {
            let address = |place: &usize| stage.host(&format!("n{}", place + 1)).address.to_string();
            (nodes.iter().map(address).collect(), Some(protocols))
        }
        To::Collector | To::Name(_) | To::Names => (Vec::new(), None),
    };
    let is_on_way = |from: &str, protocol: &str, host: &str| {
        fault.way.from.contains(&from)
            && protocols.is_none_or(|protocols| protocols.contains(&protocol))
            && (nodes.is_empty() || nodes.iter().any(|node| node == host))
    };
    // A second is that of whoever sends, whose clock may be ahead.
    let first = first.plus(if fault.way.from.contains(&stage.skewed.0) { stage.skewed.1 } else { 0 });
    // Whatever a fault can have had a hand in, and what lies wholly in its time.
    let (all, elsewhere) = stage.sums(fault.service, when.reach(stage.skewed.1), is_on_way);
    let (within, _) = stage.sums(fault.service, (first.plus(1), last.minus(1)), is_on_way);
    let mut wrong = Vec::new();
    let mut hold = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let is_of_collector = matches!(fault.way.to, To::Collector);
    // Where an agent got no processor in time, neither did a server: as much may be lost for want of it. Beside other tests a
    // server may lack one where no agent did: for two of forty seconds, in which it answers no connection in time; datagrams
    // wait for it, but for one in a hundred.
    let unmeasured = all.unmeasured + elsewhere.unmeasured;
    let beside_others = |slots: u64| if stage.is_alone { 0 } else { slots };
    let wanting = |sum: &Sum| {
        let connections = sum.scheduled - sum.datagrams;
        unmeasured + beside_others(connections.div_ceil(20) + sum.datagrams.div_ceil(100))
    };
    hold(
        elsewhere.lost <= wanting(&elsewhere) || is_of_collector,
        format!("{} lost elsewhere", elsewhere.lost),
    );
    hold(all.unknown + elsewhere.unknown == 0, format!("{} unknown", all.unknown + elsewhere.unknown));
    hold(counted.hit > 0, "the fault hit nothing".to_owned());
    let of = within.delivered + within.lost;
    let (from, to) = interval::of_rate(within.lost, of, CONFIDENCE);
    let mut between = String::new();
    match fault.lost {
        Lost::Nothing if is_of_collector => {
            // Other faults go on from there, and are known as well: of each second it is known what became of it.
            hold(all.delivered + all.lost + all.unmeasured == all.scheduled, format!("{all:?}"));
        }
        Lost::Nothing => {
            hold(all.lost <= wanting(&all), format!("{} lost", all.lost));
            hold(all.delivered + all.lost + all.unmeasured == all.scheduled, format!("{all:?}"));
        }
        Lost::EachHit(share) => {
            // What was hit is lost, however busy a server is.
            let least = counted.hit.saturating_sub(unmeasured + beside_others(all.scheduled.div_ceil(100)));
            hold(
                least <= all.lost && all.lost <= counted.hit + wanting(&all),
                format!("{} were hit and {} lost, {unmeasured} not measured", counted.hit, all.lost),
            );
            let is_within = from <= share && share <= to;
            let word = if is_within { "" } else { ", without" };
            between = format!("{} to {}{word}", percent(from), percent(to));
        }
        Lost::NotMeasured => {
            // An agent needs a moment to see that no name is answered any more.
            let (later, _) = stage.sums(fault.service, (first.plus(3), last.minus(1)), is_on_way);
            hold(later.lost + later.delivered == 0, format!("{later:?}"));
        }
        Lost::All(these) => {
            let lossy = |from: &str, protocol: &str, host: &str| {
                is_on_way(from, protocol, host) && these.contains(&protocol)
            };
            let (lossy, others) = stage.sums(fault.service, (first.plus(1), last.minus(1)), lossy);
            hold(
                lossy.delivered == 0 && lossy.lost > 0,
                format!("{} of {} lost", lossy.lost, lossy.scheduled),
            );
            hold(others.lost <= wanting(&others), format!("{} lost of what was to be well", others.lost));
        }
    }
    let about =
        if fault.service.is_empty() { "we cannot see".to_owned() } else { format!("{}: ", fault.service) };
    let told = stage.told_of(&about, when);
    let word = |data: &Value, key: &str| data[key].as_str().unwrap_or_default().to_owned();
    match fault.page {
        Page::None => hold(told.is_empty(), "somebody was told".to_owned()),
        Page::One { says, urgency, severity, blame } => {
            hold(told.len() == 1, format!("{} messages", told.len()));
            for (told_urgency, data) in &told {
                let summary = word(data, "summary");
                hold(summary.contains(says), format!("not said: {says}"));
                let as_told = [told_urgency.clone(), word(data, "severity"), word(data, "blame")];
                hold(
                    as_told == [urgency, severity, blame],
                    format!("{as_told:?} for {:?}", [urgency, severity, blame]),
                );
            }
        }
    }
    let pages = told.iter().map(|(urgency, data)| {
        let (severity, blame) = (word(data, "severity"), word(data, "blame"));
        let questions = format!(
            "zone {}, protocol {}",
            word(&data["questions"], "one_zone"),
            word(&data["questions"], "one_protocol")
        );
        (word(data, "summary"), format!("{urgency}, {severity}, {blame}; {questions}"))
    });
    let (said, page): (Vec<String>, Vec<String>) = pages.unzip();
    Row {
        fault: fault.name.to_owned(),
        injected: format!("{} of {}", counted.hit, counted.seen),
        measured: format!(
            "{} of {} lost, {}",
            all.lost,
            all.delivered + all.lost,
            percent(within.lost as f64 / of.max(1) as f64)
        ),
        interval: between,
        said: said.join("; "),
        page: if page.is_empty() { "none".to_owned() } else { page.join("; ") },
        wrong,
    }
}

fn percent(rate: f64) -> String {
    format!("{:.2} %", rate * 100.0)
}
