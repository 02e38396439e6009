//! A scripted fleet in virtual time: what is seen, opened and told, second by second.

mod conditions;
mod kinds;
mod late;
mod paged;
mod prompt;
mod public;
mod quiet;
mod served;

use std::collections::BTreeMap;

use aviary_core::{
    Evidence, Fault, Micros, Outcome, Phase, Second, Span, Tag, Timestamp, Vantage, VantageKind,
    extent::Blame,
    incident::{Cause, Happened, State as Of},
    page::{Action, Message, Receiver, Sent},
    silence::{Matches, When},
};
use aviary_store::MemoryStore;
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};

use super::*;
use crate::{ServiceOptions, state::State};

const START: u64 = 1_763_690_400;

const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const TIMED_OUT: Outcome = Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout };
const REFUSED: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };

const REGIONS: [&str; 3] = ["ap", "eu", "us"];
const ENDPOINTS: [&str; 2] = ["tcp://h:1", "tls://h:2"];

/// What becomes of the slot of a region, or of a node inside, and an endpoint in a second after the start; none where nobody
/// tells.
type Script = fn(&str, &str, u64) -> Option<Outcome>;

fn well(_: &str, _: &str, _: u64) -> Option<Outcome> {
    Some(DELIVERED)
}

/// A collector with agents in three regions, each probing two endpoints.
struct Stage {
    store: Arc<MemoryStore>,
    state: State,
    judgement: Judgement,
    actions: mpsc::Receiver<Action>,
    rosters: Vec<Roster>,
    second: u64,
    sequence: u64,
    told: Vec<(u64, Message, Id)>,
    options: ServiceOptions,
    paging: Paging,
    endpoints: Vec<&'static str>,
    /// Reports that were sent, to be sent again.
    reports: Vec<Report>,
}

fn at(second: u64) -> Timestamp {
    Timestamp((START + second) * 1_000_000)
}

fn roster(region: &str, endpoints: &[&str]) -> Roster {
    let series = endpoints.iter().map(|url| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: url.parse().unwrap(),
        address: None,
        name: format!("canary.{region}.{}", url.replace(['/', ':', '.'], "_")),
        from: Second(START),
    });
    let vantage = Vantage {
        kind: VantageKind::External,
        region: region.to_owned(),
        zone: None,
        network: Some(format!("net-{region}")),
        node: format!("node-{region}"),
    };
    Roster { vantage, since: Second(START), series: series.collect() }
}

/// What became of all slots of `region` in a second after the start.
fn told_by(region: &str, second: u64, outcome: Outcome) -> Report {
    let roster = roster(region, &ENDPOINTS);
    let slot =
        |series| ClosedSlot { series, second: Second(START + second), outcome, reached: None, address: None };
    Report {
        boot: 1,
        sequence: second,
        wall: at(second),
        configuration: "test".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster),
        slots: vec![slot(0), slot(1)],
        ..Report::default()
    }
}

fn paging() -> Paging {
    let receiver = Receiver { wakes: true, ..Receiver::default() };
    Paging::new(vec![("oncall".to_owned(), receiver)], vec![], BTreeMap::new())
}

impl Stage {
    fn new(options: ServiceOptions) -> Self {
        Self::probing(options, &ENDPOINTS)
    }

    fn probing(options: ServiceOptions, endpoints: &[&'static str]) -> Self {
        let store = Arc::new(MemoryStore::default());
        let state = State::new("main".to_owned(), vec![options.clone()], at(0));
        let judgement = Judgement::new("main", Some(Arc::clone(&store) as Arc<dyn Store>), paging());
        let actions = judgement.take_actions().unwrap();
        let rosters = REGIONS.map(|region| roster(region, endpoints)).to_vec();
        Self {
            store,
            state,
            judgement,
            actions,
            rosters,
            second: 0,
            sequence: 0,
            told: Vec::new(),
            options,
            paging: paging(),
            endpoints: endpoints.to_vec(),
            reports: Vec::new(),
        }
    }

    fn usual() -> Self {
        Self::new(ServiceOptions::unconfigured("ingest"))
    }

    /// Lets `seconds` pass.
    fn run(&mut self, seconds: u64, script: Script) {
        for _ in 0..seconds {
            let second = self.second;
            for place in 0..self.rosters.len() {
                let report = self.report(place, second..second + 1, script);
                if !report.slots.is_empty() {
                    self.state.take(&report, None, at(second + 1)).unwrap();
                    self.reports.push(report);
                }
            }
            self.second += 1;
            self.look();
        }
    }

    fn report(&mut self, place: usize, seconds: std::ops::Range<u64>, script: Script) -> Report {
        let roster = &self.rosters[place];
        let place = match roster.vantage.kind {
            VantageKind::External => &roster.vantage.region,
            VantageKind::Datacentre | VantageKind::Loopback => &roster.vantage.node,
        };
        let mut slots = Vec::new();
        for second in seconds {
            for (endpoint, series) in self.endpoints.iter().zip(0..) {
                if let Some(outcome) = script(place, endpoint, second) {
                    let second = Second(START + second);
                    slots.push(ClosedSlot { series, second, outcome, reached: None, address: None });
                }
            }
        }
        self.sequence += 1;
        Report {
            boot: 1,
            sequence: self.sequence,
            wall: at(self.second),
            monotonic: Micros(0),
            roster_id: roster.id(),
            roster: Some(roster.clone()),
            slots,
            ..Report::default()
        }
    }

    /// Judges the second that is now, and takes every message.
    fn look(&mut self) {
        let now = at(self.second);
        self.state.judge(now);
        let seen = self.state.watch(now, &self.judgement.asked(now));
        self.judgement.observe(seen, now);
        self.judgement.flush().unwrap();
        while let Ok(action) = self.actions.try_recv() {
            if let Action::Send { id, receiver, attempt, .. } = action {
                self.told.push((self.second, attempt.message, id.clone()));
                let sent = Sent::Taken { say_again: None };
                let event = page::Event::Finished { id, receiver, attempt: attempt.number, sent };
                self.judgement.ended(event, None, now);
            }
        }
    }

    /// Another process takes up what this one kept.
    fn restart(&mut self) {
        let now = at(self.second);
        let life = Life::read(&*self.store, now.second()).unwrap();
        let mut state = State::new("main".to_owned(), vec![self.options.clone()], at(0));
        state.watched_mut().restore(life.learnt.clone(), life.worked.clone(), life.cleared.clone());
        for report in &self.reports {
            state.take(report, None, now).unwrap();
        }
        self.state = state;
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        self.judgement = Judgement::new("main", Some(store), self.paging.clone());
        self.judgement.restore("main", life);
        self.actions = self.judgement.take_actions().unwrap();
    }

    fn told(&self) -> Vec<(u64, Message)> {
        self.told.iter().map(|(second, message, _)| (*second, *message)).collect()
    }

    fn losses(&self) -> Vec<Incident> {
        self.judgement
            .incidents()
            .into_iter()
            .filter(|it| it.cause == Cause::Loss && it.opened.is_some())
            .collect()
    }
}

fn only<T: std::fmt::Debug>(items: Vec<T>) -> T {
    assert_eq!(items.len(), 1, "{items:#?}");
    items.into_iter().next().unwrap()
}

#[test]
fn a_protocol_that_is_lost_whole_is_one_incident_of_that_protocol() {
    let mut stage = Stage::usual();
    stage.run(600, well);
    assert!(stage.judgement.incidents().is_empty());
    stage.run(30, |_, endpoint, _| Some(if endpoint.starts_with("tcp") { TIMED_OUT } else { DELIVERED }));
    let incident = only(stage.losses());
    let part = &incident.parts["ingest"];
    assert_eq!(part.summary, "ingest: tcp in every region (3/3), 100 % lost; nothing else");
    assert_eq!(incident.state, Of::Open);
    // What was lost before it was beyond chance belongs to it.
    assert_eq!((incident.since, part.since), (Second(START + 600), Second(START + 600)));
    assert_eq!(part.lost_seconds.spans, [Span::new(Second(START + 600), Second(START + 630))]);
    assert_eq!((part.counts.judged, part.counts.lost), (180, 90));
    assert_eq!((part.blame, part.seen_from), (Blame::Service, 3));
    let grounds = ["3 vantages in 3 regions lose it", "other protocols are well: 0 of "];
    assert!(
        grounds.iter().zip(&part.grounds.evidence).all(|(begins, ground)| ground.starts_with(begins)),
        "{part:#?}"
    );
    let (second, message) = only(stage.told());
    // Three lost a second are beyond chance after six seconds, where nothing is learnt yet; then ten of `page_after`.
    assert!((611..=616).contains(&second), "{second}");
    assert_eq!(message, Message::Opened);
    stage.run(120, well);
    assert_eq!(only(stage.losses()).state, Of::Resolved, "{:#?}", stage.losses());
    assert_eq!(stage.told().len(), 2, "{:?}", stage.told());
}

/// What a region loses of one service is its own fault only if it loses the other too.
#[test]
fn whose_fault_it_is_is_seen_in_what_else_is_probed_from_there() {
    let all: Script = |region, _, _| Some(if region == "eu" { TIMED_OUT } else { DELIVERED });
    let one: Script = |region, endpoint, _| {
        Some(if region == "eu" && !endpoint.contains("billing") { TIMED_OUT } else { DELIVERED })
    };
    let (two, alone) = (&[ENDPOINTS[0], ENDPOINTS[1], "tcp://billing:1"][..], &ENDPOINTS[..]);
    for (endpoints, script, blame) in
        [(two, all, Blame::Source), (two, one, Blame::Path), (alone, all, Blame::Unclear)]
    {
        let mut stage = Stage::probing(ServiceOptions::unconfigured("ingest"), endpoints);
        for series in stage.rosters.iter_mut().flat_map(|roster| roster.series.get_mut(2)) {
            series.service = "billing".to_owned();
        }
        stage.run(300, well);
        stage.run(40, script);
        let lost = stage.losses();
        let part = lost.iter().find_map(|incident| incident.parts.get("ingest")).unwrap();
        assert_eq!(part.blame, blame, "{endpoints:?}: {:?}", part.grounds);
    }
}

/// Before its first probe nothing was scheduled, and a window that reaches further back says no more than a shorter one.
#[test]
fn windows_end_where_the_life_of_what_is_lost_began() {
    let mut stage = Stage::usual();
    stage.run(100, well);
    stage.run(60, |_, endpoint, _| Some(if endpoint.starts_with("tcp") { TIMED_OUT } else { DELIVERED }));
    let part = only(stage.losses()).parts["ingest"].clone();
    assert!(part.windows.len() > 1, "{:#?}", part.windows);
    for window in &part.windows {
        assert!(window.reach <= 160 && window.scheduled == window.judged, "{window:?}");
    }
    assert!(part.windows.iter().filter(|window| window.seconds > 160).count() <= 1, "{:#?}", part.windows);
}

/// Its endpoints began to work within the window, and all that was lost since is where it is looked for.
#[test]
fn loss_of_a_young_fleet_is_found_where_it_is() {
    let alerting = Alerting { page_after: 0, burst: Burst::Fixed(1.0), ..Alerting::default() };
    let mut stage = Stage::new(ServiceOptions { alerting, ..ServiceOptions::unconfigured("ingest") });
    stage.run(5, |_, _, _| Some(REFUSED));
    stage.run(30, well);
    stage.run(220, |region, _, second| {
        Some(if region == "eu" && second % 4 == 0 { TIMED_OUT } else { DELIVERED })
    });
    let part = only(stage.losses()).parts["ingest"].clone();
    assert!(part.windows[0].seconds > 250, "{:#?}", part.windows);
    assert!(part.summary.starts_with("ingest: eu only "), "{}", part.summary);
    assert_eq!(part.seen_from, 1);
}

/// A window is longer than the life of who is looked at: nothing was lost before that.
#[test]
fn the_first_sign_of_a_young_fleet_is_within_its_life() {
    let alerting = Alerting { page_after: 0, burst: Burst::Fixed(1.0), ..Alerting::default() };
    let mut stage = Stage::new(ServiceOptions { alerting, ..ServiceOptions::unconfigured("ingest") });
    stage.run(400, well);
    stage.run(900, |region, _, second| {
        Some(if region == "eu" && second % 25 == 0 { TIMED_OUT } else { DELIVERED })
    });
    let incident = only(stage.losses());
    assert!(incident.since >= Second(START + 400), "{:?} {:#?}", incident.since, incident.parts);
}

/// What storage lacks is known seconds after what its senders saw: whoever is woken is told how much it is all the same, once,
/// and that it is over only when that is known.
#[test]
fn what_only_storage_lacks_is_told_as_it_is() {
    let alerting = Alerting { page_after: 2, burst: Burst::Fixed(1.0), ..Alerting::default() };
    let options = ServiceOptions { alerting, storage: true, ..ServiceOptions::unconfigured("ingest") };
    let mut stage = Stage::new(options);
    let names: Vec<String> =
        stage.rosters.iter().flat_map(|roster| &roster.series).map(|series| series.name.clone()).collect();
    let mut healthy_from = None;
    for second in 0..400 {
        stage.run(1, well);
        if !(120..200).contains(&second) {
            names.iter().for_each(|name| stage.state.stored(name, Second(START + second)));
        }
        let is_healthy =
            stage.state.standing().all(|(_, standing)| standing.verdict.state == aviary_core::State::Healthy);
        if second == 160 {
            let shortest = stage.state.windows_of("ingest")[0];
            assert!(
                shortest.fires && shortest.lost == shortest.judged,
                "people see what pages: {shortest:?}"
            );
        }
        if second > 140 && is_healthy {
            healthy_from.get_or_insert(second);
        }
    }
    let told = stage.told();
    let [(opened, Message::Opened), (_, Message::Resolved)] = told[..] else { panic!("{told:?}") };
    assert!((130..=134).contains(&opened), "{told:?}");
    let incident = only(stage.losses());
    let part = &incident.parts["ingest"];
    let summary = "ingest: everything in every region (3/3), all protocols (2/2), 100 % lost; nothing else";
    let at_first = part.evidence.as_ref().unwrap();
    assert_eq!(at_first.summary, summary);
    assert_eq!(at_first.windows[0].lost, at_first.windows[0].judged);
    assert_eq!(incident.since, Second(START + 120));
    // Ten seconds of which it is known that nothing was lost.
    assert!(healthy_from >= Some(218), "{healthy_from:?}");
}

#[test]
fn what_comes_and_goes_is_told_once_and_then_that_it_flaps() {
    let mut stage = Stage::usual();
    stage.run(300, well);
    for _ in 0..6 {
        // It is never well for as long as it takes to be over.
        stage.run(70, only_eu);
        stage.run(50, well);
    }
    let messages: Vec<_> = stage.told().into_iter().map(|(_, message)| message).collect();
    assert_eq!(messages, [Message::Opened, Message::Updated]);
    let incident = only(stage.losses());
    let flaps = incident.timeline.kept.iter().filter(|(_, happened)| *happened == Happened::Flapping);
    assert_eq!((flaps.count(), incident.flap.is_flapping), (1, true));
}

/// What was opened, in words, with when it began and ended.
fn story(stage: &Stage) -> Vec<(Id, String, Second, Option<Second>)> {
    let tell = |it: Incident| (it.id.clone(), it.summary(), it.since, it.resolved);
    stage.losses().into_iter().map(tell).collect()
}

fn only_eu(region: &str, _: &str, _: u64) -> Option<Outcome> {
    Some(if region == "eu" { REFUSED } else { DELIVERED })
}

#[test]
fn a_restart_in_the_middle_changes_nothing() {
    for restart_after in [3, 8, 20, 100] {
        let (mut straight, mut broken) = (Stage::usual(), Stage::usual());
        for (stage, restarts) in [(&mut straight, false), (&mut broken, true)] {
            stage.run(300, well);
            stage.run(restart_after, only_eu);
            if restarts {
                stage.restart();
            }
            stage.run(120 - restart_after, only_eu);
            stage.run(200, well);
        }
        assert_eq!(story(&straight), story(&broken), "after {restart_after} s");
        assert_eq!(straight.told(), broken.told(), "after {restart_after} s");
        let summary = only(story(&straight)).1;
        assert!(summary.starts_with("ingest: eu only (1/3 regions), all protocols (2/2), "), "{summary}");
    }
}

#[test]
fn what_is_told_twice_changes_nothing() {
    let (mut once, mut twice) = (Stage::usual(), Stage::usual());
    for (stage, repeats) in [(&mut once, false), (&mut twice, true)] {
        stage.run(120, well);
        stage.run(40, only_eu);
        for _ in 0..200 {
            stage.run(1, well);
            if repeats {
                let newest = stage.reports.len();
                for report in &stage.reports[newest - 300..] {
                    stage.state.take(report, None, at(stage.second)).unwrap();
                }
            }
        }
    }
    assert_eq!((story(&once), once.told()), (story(&twice), twice.told()));
    assert_eq!(once.told().len(), 2);
}

#[test]
fn loss_that_is_told_late_opens_nothing_and_is_counted() {
    let mut stage = Stage::usual();
    stage.run(300, well);
    // For five minutes nobody hears of eu, which lost all of the first of them.
    stage.run(300, |region, _, _| (region != "eu").then_some(DELIVERED));
    let late = stage.report(1, 300..360, |_, _, _| Some(TIMED_OUT));
    stage.state.take(&late, None, at(600)).unwrap();
    let rest = stage.report(1, 360..600, well);
    stage.state.take(&rest, None, at(600)).unwrap();
    stage.run(60, well);
    assert_eq!(stage.losses(), []);
    let sums = stage.state.watched().counted("ingest", 600).unwrap();
    assert_eq!(sums.lost, 120, "what came late is in the long windows");
}

#[test]
fn a_silent_region_is_not_seen_and_loses_nothing() {
    let mut stage = Stage::usual();
    stage.run(300, well);
    stage.run(60, |region, _, _| (region != "eu").then_some(DELIVERED));
    let incident = only(stage.judgement.incidents());
    assert_eq!(incident.cause, Cause::SilentRegion { region: "eu".to_owned() });
    assert_eq!(incident.summary(), "we cannot see eu: nobody reports from there");
    let (second, message) = only(stage.told());
    // Closed seconds are looked at, ten of them, and it is waited for half a minute.
    assert!((330..=335).contains(&second), "{second}");
    assert_eq!(message, Message::Opened);
    stage.run(150, well);
    assert_eq!(only(stage.judgement.incidents()).state, Of::Resolved);
}

#[test]
fn an_incident_does_not_end_because_nobody_tells() {
    let mut stage = Stage::usual();
    stage.run(300, well);
    stage.run(60, |_, _, _| Some(TIMED_OUT));
    assert_eq!(only(stage.losses()).severity(), page::Severity::Critical);
    stage.run(300, |_, _, _| None);
    let incident = only(stage.losses());
    assert!(incident.state.is_active(), "{}", incident.state);
    stage.run(200, well);
    assert_eq!(only(stage.losses()).state, Of::Resolved);
}

#[test]
fn an_endpoint_that_never_worked_is_a_ticket() {
    let mut stage = Stage::usual();
    let never: Script = |_, endpoint, _| Some(if endpoint.starts_with("tls") { REFUSED } else { DELIVERED });
    stage.run(200, never);
    assert_eq!(stage.losses(), []);
    let incident = only(stage.judgement.incidents());
    assert_eq!((incident.cause.name(), incident.urgency()), ("never_worked", page::Urgency::Ticket));
    stage.run(200, well);
    assert_eq!(
        only(stage.judgement.incidents()).state,
        Of::Resolved,
        "and what was before it worked is no loss"
    );
    stage.run(60, never);
    assert_eq!(only(story(&stage)).1, "ingest: tls in every region (3/3), 100 % lost; nothing else");
}

#[test]
fn a_silence_holds_pages_back_and_hides_nothing() {
    let mut stage = Stage::usual();
    stage.run(120, well);
    let silence = Silence {
        id: "works".to_owned(),
        matches: Matches::one(Tag::Region, "eu"),
        when: When::Once(Span::new(Second(START), Second(START + 200))),
        author: "ada".to_owned(),
        reason: "new switches".to_owned(),
        announce: None,
    };
    stage.judgement.silence(silence, at(120)).unwrap();
    stage.run(79, only_eu);
    assert_eq!(only(stage.losses()).silenced_by, ["works".to_owned()].into());
    assert_eq!(stage.told(), []);
    stage.restart();
    stage.run(5, only_eu);
    assert_eq!(only(stage.told()).1, Message::Opened, "it is lost still when the silence ends");
}

#[test]
fn a_service_is_as_bad_as_its_windows_say() {
    let mut stage = Stage::usual();
    let state = |stage: &Stage| stage.state.standing().next().unwrap().1.verdict.state;
    stage.run(120, well);
    assert_eq!(state(&stage), aviary_core::State::Healthy);
    // Of a minute with one lost slot in three hundred and sixty nothing can be told: that is chance.
    stage.run(1, |region, endpoint, _| {
        Some(if region == "eu" && endpoint.starts_with("tls") { TIMED_OUT } else { DELIVERED })
    });
    stage.run(5, well);
    assert_eq!(state(&stage), aviary_core::State::Healthy);
    stage.run(12, only_eu);
    assert_eq!(state(&stage), aviary_core::State::Degraded);
    stage.run(30, |_, _, _| Some(TIMED_OUT));
    assert_eq!(state(&stage), aviary_core::State::Down);
    stage.run(120, well);
    assert_eq!(state(&stage), aviary_core::State::Healthy);
    stage.run(120, |_, _, _| None);
    assert_eq!(state(&stage), aviary_core::State::Blind);
}

#[test]
fn what_is_optional_is_told_and_pages_nobody() {
    let endpoints = ENDPOINTS.map(|url| (url.parse().unwrap(), !url.starts_with("tls"))).to_vec();
    let mut stage = Stage::new(ServiceOptions { endpoints, ..ServiceOptions::unconfigured("ingest") });
    stage.run(120, well);
    stage.run(60, |_, endpoint, _| Some(if endpoint.starts_with("tls") { REFUSED } else { DELIVERED }));
    let incident = only(stage.judgement.incidents());
    assert_eq!((incident.cause.name(), incident.urgency()), ("optional", page::Urgency::Information));
    assert_eq!(stage.state.standing().next().unwrap().1.verdict.state, aviary_core::State::Healthy);
}

#[test]
fn what_is_resolved_stays_known_until_all_are_told_and_is_kept_for_good() {
    let mut stage = Stage::usual();
    stage.run(120, well);
    stage.run(40, |_, _, _| Some(REFUSED));
    stage.run(200, well);
    let incident = only(stage.losses());
    assert_eq!(incident.state, Of::Resolved);
    let bytes = stage.store.get(aviary_store::Table::Incidents, incident.id.as_str().as_bytes());
    let kept = Incident::of_bytes(&bytes.unwrap().unwrap()).unwrap();
    // Whether it flaps goes on to be sampled.
    let kept = Incident { flap: incident.flap, ..kept };
    assert_eq!(kept, incident, "all else is kept");
    assert_eq!(Life::read(&*stage.store, Second(START + 400)).unwrap().incidents.incidents.len(), 1);
    assert!(Life::read(&*stage.store, Second(START + 9_000)).unwrap().incidents.incidents.is_empty());
}

#[test]
fn what_is_not_as_it_was_written_is_refused_with_its_place() {
    let mut stage = Stage::usual();
    stage.run(60, well);
    stage.run(40, |_, _, _| Some(REFUSED));
    let id = only(stage.losses()).id;
    let key = bytes::Bytes::copy_from_slice(id.as_str().as_bytes());
    for (value, expected) in [("{", "EOF"), ("{}", "id: no text"), (r#"{"id":"x","key":7}"#, "key: no text")]
    {
        let put = vec![(aviary_store::Table::Incidents, key.clone(), value.into())];
        stage.store.commit(aviary_store::Batch { put, ..Default::default() }).unwrap();
        let error = Life::read(&*stage.store, Second(START + 100)).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains(id.as_str()), "{error}");
    }
}
