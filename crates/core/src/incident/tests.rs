//! Incidents as whoever is paged sees them.

mod fallback;
mod properties;

use super::*;
use crate::{
    AcceptableLoss, Second, Span, Tag,
    extent::{Answer, Blame, Extent, Predicate, Questions, Rule},
    page::{Change, Notice, Severity, Urgency},
    silence::{InForce, Matches},
};

/// Such as `region=eu,protocol=udp`; every series where it is empty.
pub(super) fn predicate(text: &str) -> Predicate {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    Predicate(pairs.map(|(tag, value)| (tag.parse().unwrap(), value.to_owned())).collect())
}

/// Rules between semicolons; `scattered` for none.
pub(super) fn extent(text: &str) -> Extent {
    if text == "scattered" {
        return Extent { rules: vec![], scattered: 1.0 };
    }
    let rules: Vec<&str> = text.split(';').collect();
    let share = 1.0 / rules.len() as f64;
    let rule = |text: &&str| Rule {
        matches: predicate(text),
        except: vec![],
        loss: 1.0,
        share,
        lost: 60,
        judged: 60,
    };
    Extent { rules: rules.iter().map(rule).collect(), scattered: 0.0 }
}

/// A service of which nothing is lost, nor has cleared.
fn quiet(service: &str) -> Observation {
    let questions = Questions { one_zone: Answer::No, one_protocol: Answer::No };
    Observation { questions, ..Observation::quiet(service, Policy::default()) }
}

fn clear(service: &str) -> Observation {
    Observation { clear: true, ..quiet(service) }
}

fn blind(service: &str) -> Observation {
    let reason = "0 of the 1 vantages that are wanted report".to_owned();
    Observation { sight: Sight::CannotTell { reason, unseen: Unseen::Reports }, ..quiet(service) }
}

fn window(seconds: u64, judged: u64, lost: u64) -> Firing {
    Firing {
        seconds,
        reach: seconds,
        scheduled: judged,
        judged,
        lost,
        threshold: 4,
        acceptable: AcceptableLoss::default(),
    }
}

/// A service that loses all of these series, beyond doubt.
fn lost(service: &str, rules: &str) -> Observation {
    Observation {
        level: Level::Full,
        firing: vec![window(8, 48, 48)],
        confirmed: true,
        is_down: true,
        extent: extent(rules),
        summary: format!("{service}: {rules}"),
        ..quiet(service)
    }
}

fn condition(cause: Cause, holds: bool, after: u64) -> Condition {
    Condition {
        summary: format!("{cause:?}"),
        measured: None,
        blame: Blame::Unclear,
        cause,
        holds,
        after,
        severity: Severity::Warning,
        services: vec!["ingest".to_owned()],
        owner: None,
        runbook: None,
        shadow: false,
    }
}

fn silence(id: &str, tags: &[(Tag, &str)]) -> InForce {
    InForce { id: id.to_owned(), matches: Matches::of(tags) }
}

/// A collector whose clock stands still until told.
struct Desk {
    incidents: Incidents,
    now: u64,
    silences: Vec<InForce>,
}

impl Desk {
    fn new() -> Self {
        Self { incidents: Incidents::new("main"), now: 1_000_000, silences: vec![] }
    }

    fn step(&mut self, event: Event) -> Vec<Notice> {
        let actions = self.incidents.step(event, Second(self.now));
        let told = actions.into_iter().filter_map(|action| match action {
            Action::Tell(notice) => Some(notice),
            _ => None,
        });
        told.collect()
    }

    fn see(&mut self, services: &[Observation], conditions: &[Condition]) -> Vec<Notice> {
        self.now += 1;
        let observed = Observed {
            services: services.to_vec(),
            conditions: conditions.to_vec(),
            silences: self.silences.clone(),
        };
        self.step(Event::Observed(observed))
    }

    /// What is told while so many seconds are all like this.
    fn run(&mut self, seconds: u64, services: &[Observation]) -> Vec<Notice> {
        (0..seconds).flat_map(|_| self.see(services, &[])).collect()
    }

    fn hold(&mut self, seconds: u64, conditions: &[Condition]) -> Vec<Notice> {
        (0..seconds).flat_map(|_| self.see(&[], conditions)).collect()
    }

    /// The one that is there.
    fn only(&self) -> &Incident {
        let there: Vec<_> = self.incidents.iter().filter(|incident| incident.state.is_active()).collect();
        assert_eq!(there.len(), 1, "{there:#?}");
        there[0]
    }

    fn states(&self) -> Vec<State> {
        self.incidents.iter().map(|incident| incident.state).collect()
    }
}

fn changes(told: &[Notice]) -> Vec<Change> {
    told.iter().map(|notice| notice.change).collect()
}

#[test]
fn a_page_needs_more_than_a_state() {
    let slow = || vec![window(600, 3_600, 90), window(1_800, 10_800, 200)];
    let with = |page_after| Policy { page_after, ..Policy::default() };
    let base = || Observation { policy: with(10), ..lost("a", "") };
    // What is seen, and after how many seconds of it somebody is paged.
    let table = [
        ("beyond a burst", base(), Some(10)),
        ("at once", Observation { policy: with(0), ..base() }, Some(0)),
        ("perhaps a burst", Observation { level: Level::Suspected, ..base() }, None),
        ("two agree", Observation { level: Level::Suspected, vantages: 2, networks: 2, ..base() }, Some(10)),
        ("of one network", Observation { level: Level::Suspected, vantages: 9, networks: 1, ..base() }, None),
        (
            "fewer than must report",
            Observation {
                level: Level::Suspected,
                vantages: 2,
                networks: 2,
                policy: Policy { min_vantages: 3, ..with(10) },
                ..base()
            },
            None,
        ),
        (
            "perhaps a burst, at once",
            Observation { level: Level::Suspected, policy: with(0), ..base() },
            Some(0),
        ),
        ("not confirmed", Observation { confirmed: false, ..base() }, None),
        ("not confirmed, at once", Observation { confirmed: false, policy: with(0), ..base() }, None),
        ("starting", Observation { is_starting: true, ..base() }, None),
        ("starting, at once", Observation { is_starting: true, policy: with(0), ..base() }, None),
        ("slow", Observation { firing: slow(), ..base() }, Some(60)),
        ("slow, at once", Observation { firing: slow(), policy: with(0), ..base() }, Some(0)),
        ("slow and long", Observation { firing: slow(), policy: with(90), ..base() }, Some(90)),
    ];
    for (name, seen, after) in table {
        let mut desk = Desk::new();
        let mut paged = None;
        for second in 0..120 {
            let told = desk.see(std::slice::from_ref(&seen), &[]);
            if let [notice] = &told[..] {
                assert!(paged.is_none() && notice.change == Change::Opened, "{name}: {told:?}");
                paged = Some(second);
            }
        }
        assert_eq!(paged, after, "{name}");
    }
}

#[test]
fn it_must_hold_without_a_break_and_blind_seconds_do_not_count() {
    let mut desk = Desk::new();
    assert!(desk.run(10, &[lost("a", "")]).is_empty());
    desk.run(1, &[quiet("a")]);
    assert_eq!(desk.states(), [], "nothing is left of it");
    assert!(desk.run(10, &[lost("a", "")]).is_empty());
    assert!(desk.run(20, &[blind("a")]).is_empty());
    assert_eq!(changes(&desk.run(2, &[lost("a", "")])), [Change::Opened]);
}

#[test]
fn it_ends_when_the_clearing_test_is_passed_and_not_before() {
    let mut desk = Desk::new();
    let opened = desk.run(11, &[lost("a", "protocol=udp")]);
    assert_eq!(changes(&opened), [Change::Opened]);
    assert_eq!((opened[0].severity, opened[0].urgency), (Severity::Critical, Urgency::Page));
    assert_eq!(opened[0].tags[&Tag::Protocol], ["udp".to_owned()].into());
    assert!(desk.run(300, &[quiet("a")]).is_empty());
    assert_eq!(desk.only().state, State::Recovering);
    assert!(desk.run(5, &[lost("a", "protocol=udp")]).is_empty(), "it is known");
    assert_eq!(desk.only().state, State::Open);
    desk.run(50, &[quiet("a")]);
    let over = desk.run(1, &[clear("a")]);
    assert_eq!(changes(&over), [Change::Resolved]);
    assert_eq!((&over[0].id, &over[0].key), (&opened[0].id, &opened[0].key));
    assert!(desk.run(300, &[clear("a")]).is_empty());
}

#[test]
fn what_comes_back_within_half_an_hour_is_the_same_and_clears_twice_as_slowly() {
    let mut desk = Desk::new();
    let first = desk.run(11, &[lost("a", "protocol=udp")]).remove(0);
    let mut lengths = Vec::new();
    for reopens in 1..8 {
        desk.run(1, &[clear("a")]);
        let again = desk.run(11, &[lost("a", "protocol=udp")]).remove(0);
        assert_eq!((again.change, &again.id, again.reopens), (Change::Opened, &first.id, reopens));
        assert_eq!(desk.only().state, State::Reopened);
        lengths.push(desk.incidents.clearing("a", Second(desk.now)).unwrap().at_least);
    }
    assert_eq!(lengths, [60, 120, 240, 480, 960, 960, 960]);
    // Seven reopenings in a few minutes flap: that is over once it was quiet for a while.
    let over = desk.run(1_800, &[clear("a")]);
    assert_eq!(over.last().unwrap().change, Change::Resolved);
    let Some(ended) = desk.incidents.get(&first.id).and_then(|incident| incident.resolved) else { panic!() };
    desk.now = ended.0 + REOPEN_SECONDS + 1;
    let another = desk.run(11, &[lost("a", "protocol=udp")]).remove(0);
    assert_ne!(another.id, first.id);
}

#[test]
fn no_data_is_no_recovery() {
    let mut desk = Desk::new();
    desk.run(11, &[lost("a", "")]);
    let told = desk.run(3_000, &[blind("a")]);
    assert_eq!(changes(&told), [Change::Updated], "that nobody can tell is told once");
    assert_eq!(desk.only().blind(), Some("0 of the 1 vantages that are wanted report"));
    assert!(desk.run(3_000, &[]).is_empty(), "and whatever is not seen at all");
    assert_eq!(desk.only().state, State::Open);
    let told = desk.run(100, &[clear("a")]);
    assert_eq!(changes(&told), [Change::Resolved]);
}

#[test]
fn nobody_is_told_of_a_moment_in_which_nobody_could_tell() {
    let mut desk = Desk::new();
    desk.run(90, &[lost("a", "")]);
    for _ in 0..30 {
        assert!(desk.run(10, &[lost("a", "")]).is_empty());
        assert!(desk.run(4, &[blind("a")]).is_empty());
    }
    assert_eq!(changes(&desk.run(120, &[blind("a")])), [Change::Updated]);
    assert!(desk.run(10, &[lost("a", "")]).is_empty(), "nor of a moment in which somebody could");
    assert!(desk.run(120, &[blind("a")]).is_empty());
    // It can be told again, but for moments.
    let mut told = Vec::new();
    for _ in 0..12 {
        told.extend(desk.run(8, &[lost("a", "")]));
        told.extend(desk.run(2, &[blind("a")]));
    }
    assert_eq!(changes(&told), [Change::Updated]);
    assert!(!desk.only().told.as_ref().unwrap().is_blind);
}

#[test]
fn it_ends_only_when_all_of_it_is_seen_to_be_clear() {
    let mut desk = Desk::new();
    desk.run(11, &[lost("a", "region=eu"), lost("b", "region=eu")]);
    assert!(desk.run(10, &[clear("a"), quiet("b")]).is_empty());
    assert!(desk.run(10, &[clear("b")]).is_empty(), "nobody sees the one");
    assert_eq!(changes(&desk.run(70, &[blind("a"), clear("b")])), [Change::Updated]);
    assert!(!desk.only().parts["a"].is_clear);
    assert!(desk.run(1, &[quiet("a"), clear("b")]).is_empty());
    assert_eq!(changes(&desk.run(70, &[clear("a"), clear("b")])), [Change::Resolved]);
}

#[test]
fn a_service_that_nobody_can_tell_of_is_an_incident_of_its_own() {
    let mut desk = Desk::new();
    assert!(desk.run(30, &[blind("a")]).is_empty());
    let told = desk.run(1, &[blind("a")]);
    assert_eq!((changes(&told), told[0].severity), (vec![Change::Opened], Severity::Error));
    assert!(desk.only().summary().starts_with("a: we cannot tell how it does: 0 of the 1"));
    assert!(desk.run(60, &[quiet("a")]).is_empty());
    assert_eq!(changes(&desk.run(1, &[quiet("a")])), [Change::Resolved]);

    // Somebody resolves it: it is told again only once it could be told in between.
    let mut desk = Desk::new();
    let id = desk.run(31, &[blind("a")]).remove(0).id;
    desk.step(Event::Resolved { id: id.clone(), by: "ada".to_owned() });
    assert!(desk.run(100, &[blind("a")]).is_empty());
    desk.run(1, &[quiet("a")]);
    assert_eq!(desk.run(31, &[blind("a")]).remove(0).id, id);

    let mut desk = Desk::new();
    let starting = Observation { is_starting: true, ..blind("a") };
    assert!(desk.run(300, &[starting]).is_empty());
}

#[test]
fn what_nobody_can_tell_is_said_to_be_no_loss_and_whose_fault() {
    let seen = |unseen| {
        let reason = "the reader answers 500".to_owned();
        Observation { sight: Sight::CannotTell { reason, unseen }, ..quiet("a") }
    };
    for (unseen, blame) in [(Unseen::Storage, Blame::Reader), (Unseen::Reports, Blame::Unclear)] {
        let mut desk = Desk::new();
        let told = desk.run(31, &[seen(unseen)]);
        assert_eq!(told[0].urgency, Urgency::Page);
        let part = &desk.only().parts[""];
        assert_eq!(part.blame, blame);
        let said = part.measured.as_deref().unwrap_or_default();
        assert!(said.starts_with("Nothing says that the service lost anything: "), "{said}");
    }
}

#[test]
fn a_silent_region_is_one_page_and_not_one_of_each_service() {
    let mut desk = Desk::new();
    let cause = Cause::SilentRegion { region: "eu".to_owned() };
    let region = |holds| Condition {
        services: vec!["a".to_owned(), "b".to_owned()],
        severity: Severity::Error,
        ..condition(cause.clone(), holds, 30)
    };
    let unseen = |service| {
        let reason = "nobody reports from eu".to_owned();
        Observation { sight: Sight::CannotTell { reason, unseen: Unseen::Region }, ..quiet(service) }
    };
    let mut told = Vec::new();
    for _ in 0..600 {
        told.extend(desk.see(&[unseen("a"), unseen("b")], &[region(true)]));
    }
    assert_eq!(changes(&told), [Change::Opened]);
    assert_eq!((told[0].urgency, &told[0].tags[&Tag::Region]), (Urgency::Page, &["eu".to_owned()].into()));
    assert_eq!(told[0].tags[&Tag::Service], ["a".to_owned(), "b".to_owned()].into());
    let told: Vec<Notice> =
        (0..61).flat_map(|_| desk.see(&[quiet("a"), quiet("b")], &[region(false)])).collect();
    assert_eq!(changes(&told), [Change::Resolved]);
}

#[test]
fn one_cause_is_one_incident_however_many_services_it_touches() {
    let mut desk = Desk::new();
    let told = desk.run(11, &[lost("a", "region=eu"), lost("b", "region=eu,protocol=udp")]);
    assert_eq!(changes(&told), [Change::Opened]);
    assert_eq!(desk.only().services(), ["a", "b"].into());
    assert_eq!(desk.only().summary(), "a: region=eu; and so b");
    // One more joins later, once it has passed its own gates, and is told after a minute at the earliest.
    let three = [lost("a", "region=eu"), lost("b", "region=eu"), lost("c", "region=eu")];
    let told = desk.run(10, &three);
    assert!(told.is_empty() && !desk.only().services().contains("c"));
    let told = desk.run(100, &three);
    assert_eq!(changes(&told), [Change::Updated]);
    assert_eq!(desk.only().services(), ["a", "b", "c"].into());
    // It is over when it is over for all.
    assert!(desk.run(60, &[clear("a"), lost("b", "region=eu"), clear("c")]).is_empty());
    assert_eq!(changes(&desk.run(60, &[clear("a"), clear("b"), clear("c")])), [Change::Resolved]);
}

#[test]
fn services_that_are_lost_whole_are_lost_together_only_if_they_began_together() {
    let mut desk = Desk::new();
    assert_eq!(desk.run(11, &[lost("a", ""), lost("b", "")]).len(), 1);
    let mut desk = Desk::new();
    assert_eq!(desk.run(100, &[lost("a", "")]).len(), 1);
    assert_eq!(desk.run(11, &[lost("a", ""), lost("b", "")]).len(), 1);
    assert_eq!(desk.states(), [State::Open; 2]);
}

#[test]
fn what_is_lost_elsewhere_is_another_incident_once_it_stands() {
    let mut desk = Desk::new();
    let first = desk.run(11, &[lost("a", "protocol=udp")]).remove(0);
    // The rules flicker while the loss is young.
    assert!(desk.run(10, &[lost("a", "region=eu")]).is_empty());
    assert!(desk.run(10, &[lost("a", "protocol=udp")]).is_empty());
    assert!(desk.run(15, &[lost("a", "region=eu")]).is_empty());
    let told = desk.run(1, &[lost("a", "region=eu")]);
    assert_eq!(changes(&told), [Change::Resolved, Change::Opened]);
    assert_eq!(told[0].id, first.id);
    let earlier = desk.incidents.get(&first.id).unwrap();
    assert_eq!(earlier.resolution, Some(Resolution::Superseded(told[1].id.clone())));
    assert!(earlier.resolution.as_ref().unwrap().to_string().contains(told[1].id.as_str()));
}

#[test]
fn a_service_that_loses_elsewhere_leaves_what_goes_on_for_others() {
    let mut desk = Desk::new();
    desk.run(11, &[lost("a", "region=eu"), lost("b", "region=eu")]);
    let told = desk.run(80, &[lost("a", "region=eu"), lost("b", "protocol=udp")]);
    assert_eq!(changes(&told), [Change::Opened, Change::Updated]);
    let services: Vec<_> = desk.incidents.iter().map(Incident::services).collect();
    assert_eq!(services, [["a"].into(), ["b"].into()]);
}

#[test]
fn what_turns_out_to_be_the_same_becomes_one() {
    let mut desk = Desk::new();
    let told = desk.run(11, &[lost("a", ""), lost("b", "protocol=udp")]);
    assert_eq!(changes(&told), [Change::Opened; 2]);
    let told = desk.run(80, &[lost("a", "protocol=udp"), lost("b", "protocol=udp")]);
    assert_eq!(changes(&told), [Change::Resolved, Change::Updated]);
    assert_eq!(desk.only().services(), ["a", "b"].into());
    let gone = desk.incidents.iter().find(|incident| incident.state == State::Resolved).unwrap();
    assert_eq!(gone.resolution, Some(Resolution::Merged(desk.only().id.clone())));
}

#[test]
fn only_what_changed_materially_is_told() {
    let seen = |rules: &str, lost_of_100: u64, is_down| Observation {
        firing: vec![window(60, 100, lost_of_100)],
        is_down,
        ..lost("a", rules)
    };
    let mut desk = Desk::new();
    desk.run(100, &[seen("protocol=udp", 20, false)]);
    // What is seen then, for how long; what is told.
    let table: [(&str, Observation, u64, &[Change]); 10] = [
        ("the same", seen("protocol=udp", 20, false), 600, &[]),
        ("a little more", seen("protocol=udp", 39, false), 600, &[]),
        ("twice as much", seen("protocol=udp", 40, false), 600, &[Change::Updated]),
        ("less", seen("protocol=udp", 5, false), 600, &[]),
        ("other rules, in passing", seen("", 5, false), 15, &[]),
        ("as before", seen("protocol=udp", 5, false), 600, &[]),
        ("other rules, that stand", seen("", 5, false), 16, &[Change::Updated]),
        ("worse, at once", seen("", 60, true), 1, &[Change::Updated]),
        ("better, in passing", seen("", 5, false), 298, &[]),
        ("better, for five minutes", seen("", 5, false), 2, &[Change::Updated]),
    ];
    for (name, seen, seconds, expected) in table {
        assert_eq!(changes(&desk.run(seconds, &[seen])), expected, "{name}");
    }
    assert_eq!(desk.only().severity(), Severity::Warning);
}

#[test]
fn what_flaps_is_told_once_and_then_every_quarter_of_an_hour_at_most() {
    let mut desk = Desk::new();
    let mut told: Vec<(u64, Notice)> = Vec::new();
    for second in 0..7_200u64 {
        let seen = if (second / 100).is_multiple_of(2) { lost("a", "") } else { clear("a") };
        told.extend(desk.see(&[seen], &[]).into_iter().map(|notice| (second, notice)));
    }
    let (last, notice) = told.last().unwrap();
    assert!(told.len() <= 10 && *last < 1_200, "nothing is told after it is known to flap: {told:?}");
    assert_eq!(notice.change, Change::Opened);
    assert!(desk.only().told.as_ref().unwrap().is_flapping, "and that it does is told");
    // What gets worse in the meantime is told, and all else waits.
    let wider =
        |second: u64| if (second / 100).is_multiple_of(2) { lost("a", "protocol=udp") } else { clear("a") };
    let told: Vec<Notice> = (0..3_600u64).flat_map(|second| desk.see(&[wider(second)], &[])).collect();
    assert_eq!(changes(&told), [Change::Updated]);
    // It stays there until it is quiet for long enough not to flap.
    let told = desk.run(1_260, &[clear("a")]);
    assert_eq!(changes(&told), [Change::Resolved]);
}

#[test]
fn an_acknowledgement_is_kept_with_who_and_when_until_it_is_reopened() {
    let mut desk = Desk::new();
    let id = desk.run(11, &[lost("a", "")]).remove(0).id;
    let actions =
        desk.incidents.step(Event::Acknowledged { id: id.clone(), by: "ada".to_owned() }, Second(desk.now));
    assert!(actions.contains(&Action::Acknowledged(id.clone())) && actions.contains(&Action::Changed(id)));
    assert_eq!(desk.only().state, State::Acknowledged);
    assert_eq!(desk.only().acknowledgements.kept[0].by, "ada");
    desk.run(10, &[quiet("a")]);
    assert_eq!(desk.only().state, State::Recovering);
    desk.run(10, &[lost("a", "")]);
    assert_eq!(desk.only().state, State::Acknowledged);
    desk.run(1, &[clear("a")]);
    desk.run(11, &[lost("a", "")]);
    assert_eq!(desk.only().state, State::Reopened);
}

#[test]
fn what_somebody_resolved_is_not_told_again_until_it_ended_once() {
    let mut desk = Desk::new();
    let id = desk.run(11, &[lost("a", "")]).remove(0).id;
    let told = desk.step(Event::Resolved { id: id.clone(), by: "ada".to_owned() });
    assert_eq!(changes(&told), [Change::Resolved]);
    assert_eq!(desk.incidents.get(&id).unwrap().resolution.as_ref().unwrap().to_string(), "resolved by ada");
    assert!(desk.run(600, &[lost("a", "")]).is_empty());
    desk.run(1, &[clear("a")]);
    let again = desk.run(11, &[lost("a", "")]);
    assert_eq!((changes(&again), &again[0].id), (vec![Change::Opened], &id));
    // But nobody resolves an outage for ever.
    desk.step(Event::Resolved { id: id.clone(), by: "ada".to_owned() });
    let told = desk.run(REOPEN_SECONDS + 60, &[lost("a", "")]);
    assert_eq!(changes(&told), [Change::Opened]);
    assert_ne!(told[0].id, id);
}

#[test]
fn what_somebody_resolved_is_told_again_if_it_gets_worse() {
    let degraded = |rules| Observation { is_down: false, ..lost("a", rules) };
    let table = [
        ("as it was", degraded("protocol=udp"), false),
        ("narrower", degraded("protocol=udp,region=eu"), false),
        ("wider", degraded(""), true),
        ("worse", lost("a", "protocol=udp"), true),
        ("elsewhere", degraded("region=eu"), true),
    ];
    for (name, seen, is_told) in table {
        let mut desk = Desk::new();
        let id = desk.run(11, &[degraded("protocol=udp")]).remove(0).id;
        desk.step(Event::Resolved { id, by: "ada".to_owned() });
        desk.run(1, &[degraded("")]);
        assert!(desk.run(100, &[degraded("protocol=udp")]).is_empty(), "a second of more is a flicker");
        assert_eq!(!desk.run(100, &[seen]).is_empty(), is_told, "{name}");
    }
}

#[test]
fn a_silence_holds_back_what_it_covers_and_nothing_else() {
    let mut desk = Desk::new();
    desk.silences = vec![silence("s", &[(Tag::Region, "eu")])];
    assert!(desk.run(100, &[lost("a", "region=eu")]).is_empty());
    assert_eq!((desk.only().state, &desk.only().silenced_by), (State::Open, &["s".to_owned()].into()));
    // It reaches further.
    let told = desk.run(16, &[lost("a", "region=eu;region=us")]);
    assert_eq!(changes(&told), [Change::Opened]);

    // It goes on when the silence ends.
    let mut desk = Desk::new();
    desk.silences = vec![silence("s", &[(Tag::Service, "a")])];
    assert!(desk.run(100, &[lost("a", "region=eu")]).is_empty());
    desk.silences.clear();
    assert_eq!(changes(&desk.run(1, &[lost("a", "region=eu")])), [Change::Opened]);
    // A silence that comes later holds back news, and not the end.
    desk.silences = vec![silence("s", &[(Tag::Service, "a")])];
    assert!(desk.run(100, &[lost("a", "region=eu;region=us")]).is_empty());
    let told = desk.run(100, &[clear("a")]);
    assert_eq!(changes(&told), [Change::Resolved]);

    // It is over before the silence is: nobody hears of it, and all is kept.
    let mut desk = Desk::new();
    desk.silences = vec![silence("s", &[])];
    desk.run(100, &[lost("a", "region=eu")]);
    assert!(desk.run(100, &[clear("a")]).is_empty());
    desk.silences.clear();
    assert!(desk.run(100, &[clear("a")]).is_empty());
    let kept = desk.incidents.iter().next().unwrap();
    assert_eq!((kept.state, kept.resolution.as_ref()), (State::Resolved, Some(&Resolution::Recovered)));

    // While it recovers, the end of a silence is no page.
    let mut desk = Desk::new();
    desk.silences = vec![silence("s", &[])];
    desk.run(100, &[lost("a", "region=eu")]);
    desk.silences.clear();
    assert!(desk.run(30, &[quiet("a")]).is_empty());
    assert_eq!(changes(&desk.run(1, &[lost("a", "region=eu")])), [Change::Opened]);
}

#[test]
fn what_is_removed_did_not_recover() {
    let removed = |tag, value: &str| Event::Removed { tag, value: value.to_owned() };
    let mut desk = Desk::new();
    let id = desk.run(11, &[lost("a", "region=eu"), lost("b", "region=eu")]).remove(0).id;
    assert!(desk.step(removed(Tag::Service, "a")).is_empty());
    assert_eq!(desk.only().services(), ["b"].into());
    assert!(desk.step(removed(Tag::Region, "us")).is_empty());
    assert_eq!(changes(&desk.step(removed(Tag::Region, "eu"))), [Change::Resolved]);
    let resolution = desk.incidents.get(&id).unwrap().resolution.clone().unwrap();
    assert_eq!(resolution.to_string(), "removed from the configuration, not recovered");
    // If it is configured again, and lost again, that is another.
    assert_ne!(desk.run(11, &[lost("b", "region=eu")]).remove(0).id, id);

    let mut desk = Desk::new();
    let sick = condition(Cause::SickAgent { node: "n1".to_owned() }, true, 5);
    desk.hold(6, &[sick]);
    assert_eq!(changes(&desk.step(removed(Tag::Node, "n1"))), [Change::Resolved]);
    desk.run(5, &[lost("a", "")]);
    desk.step(removed(Tag::Service, "a"));
    desk.run(1, &[]);
    assert_eq!(desk.states(), [State::Resolved], "a suspicion is dropped");
}

#[test]
fn what_wakes_nobody() {
    let endpoint = "udp://h:1".to_owned();
    let service = "ingest".to_owned();
    let table = [
        (Cause::NeverWorked { service: service.clone(), endpoint: endpoint.clone() }, Urgency::Ticket),
        (Cause::Slow { service: service.clone(), phase: crate::Phase::Tls }, Urgency::Ticket),
        (Cause::SickAgent { node: "n1".to_owned() }, Urgency::Ticket),
        (Cause::Optional { service: service.clone(), endpoint: endpoint.clone() }, Urgency::Information),
    ];
    for (cause, urgency) in table {
        let mut desk = Desk::new();
        let seen = |holds| [condition(cause.clone(), holds, 300)];
        assert!(desk.hold(300, &seen(true)).is_empty(), "{cause:?}");
        let told = desk.hold(1, &seen(true));
        assert_eq!((changes(&told), told[0].urgency), (vec![Change::Opened], urgency), "{cause:?}");
        assert!(desk.hold(600, &[]).is_empty(), "what is not seen did not end: {cause:?}");
        assert!(desk.hold(60, &seen(false)).is_empty(), "{cause:?}");
        assert_eq!(changes(&desk.hold(1, &seen(false))), [Change::Resolved], "{cause:?}");
    }
}

#[test]
fn a_certificate_is_a_ticket_three_weeks_before_its_end_and_worse_in_the_last() {
    let limits = (CERTIFICATE_DAYS, CERTIFICATE_DAYS_LAST);
    let seen = |days| Condition::certificate("ingest", &Policy::default(), "tls://h:1", days, limits);
    let mut desk = Desk::new();
    assert!(desk.hold(10, &[seen(22)]).is_empty());
    let told = desk.hold(10, &[seen(21)]);
    assert_eq!((told[0].urgency, told[0].severity), (Urgency::Ticket, Severity::Warning));
    assert_eq!(desk.only().summary(), "ingest: the certificate of tls://h:1 ends in 21 days");
    assert!((8..21).rev().flat_map(|days| desk.hold(100, &[seen(days)])).next().is_none());
    let told = desk.hold(1, &[seen(7)]);
    assert_eq!((changes(&told), told[0].severity), (vec![Change::Updated], Severity::Error));
    assert_eq!(changes(&desk.hold(61, &[seen(90)])), [Change::Resolved]);
    for (days, words) in [(1, "ends tomorrow"), (0, "ends today"), (-3, "has ended")] {
        assert!(seen(days).summary.ends_with(words), "{}", seen(days).summary);
    }
}

#[test]
fn a_sick_agent_is_a_ticket_and_what_it_says_is_set_apart() {
    let from_one = Observation { blame: Blame::Source, ..lost("a", "node=n1") };
    let mut desk = Desk::new();
    let told = desk.run(11, std::slice::from_ref(&from_one));
    assert_eq!((changes(&told), told[0].urgency), (vec![Change::Opened], Urgency::Ticket));
    let told = desk.run(80, &[lost("a", "")]);
    assert_eq!(
        (changes(&told), told[0].urgency),
        (vec![Change::Updated], Urgency::Page),
        "it reaches further"
    );

    let mut desk = Desk::new();
    desk.hold(6, &[condition(Cause::SickAgent { node: "n1".to_owned() }, true, 5)]);
    assert!(desk.run(300, &[from_one]).is_empty(), "it is known to be sick");
    let of_another = Observation { blame: Blame::Source, ..lost("a", "node=n2") };
    assert_eq!(desk.run(11, &[of_another]).len(), 1);
}

#[test]
fn a_storm_is_one_page_for_all_that_follow() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
    let seen = |count: usize| -> Vec<Observation> {
        (0..count).map(|number| lost(&names[number], &format!("endpoint=tcp://h:{number}"))).collect()
    };
    let mut desk = Desk::new();
    let mut told = Vec::new();
    for count in 1..=20 {
        told.extend(desk.run(3, &seen(count)));
    }
    told.extend(desk.run(300, &seen(20)));
    let opened: Vec<_> = told.iter().filter(|notice| notice.change == Change::Opened).collect();
    assert_eq!(opened.len(), 6, "five, and the storm");
    let storm = desk.incidents.get(&opened[5].id).unwrap();
    assert_eq!((&storm.cause, storm.children_total, storm.children.len()), (&Cause::Storm, 20, 20));
    assert_eq!(storm.services().len(), 20);
    assert!(storm.summary().starts_with("20 incidents at once: s00, s01"), "{}", storm.summary());
    let updates = told.iter().filter(|notice| notice.change == Change::Updated);
    assert!(updates.clone().all(|notice| notice.id == opened[5].id) && updates.count() <= 2, "{told:?}");

    let clear: Vec<_> = names.iter().map(|name| clear(name)).collect();
    let over = desk.run(2, &clear);
    assert_eq!(changes(&over), [Change::Resolved; 6], "whoever was told is told the end");
    assert!(desk.incidents.iter().all(|incident| incident.state == State::Resolved));
}

#[test]
fn five_pages_in_a_minute_are_no_storm() {
    let mut desk = Desk::new();
    for number in 0..12 {
        let all: Vec<_> = (0..=number)
            .map(|number| lost(&format!("s{number:02}"), &format!("endpoint=tcp://h:{number}")))
            .collect();
        desk.run(13, &all);
    }
    assert!(desk.incidents.iter().all(|incident| incident.cause == Cause::Loss));
}

#[test]
fn it_began_when_something_was_lost_and_not_when_that_was_beyond_chance() {
    let since = |onset: u64| Observation { onset: Some(Second(onset)), ..lost("a", "") };
    let mut desk = Desk::new();
    desk.run(3, &[since(999_995)]);
    // What it began with is better known by and by, and stays once others were told.
    desk.run(8, &[since(999_990)]);
    desk.run(3, &[since(999_900)]);
    let incident = desk.incidents.iter().next().unwrap();
    assert_eq!((incident.since, incident.parts["a"].since), (Second(999_990), Second(999_990)));
    assert_eq!(
        (incident.opened, desk.incidents.since("a")),
        (Some(Second(1_000_011)), Some(Second(999_990)))
    );
}

#[test]
fn what_is_told_late_sets_right_and_opens_nothing() {
    let mut desk = Desk::new();
    let spans = |from: u64, until: u64| vec![Span::new(Second(from), Second(until))];
    let id = {
        let seen = Observation { lost_seconds: spans(1_000_001, 1_000_011), ..lost("a", "") };
        desk.run(11, &[seen]).remove(0).id
    };
    desk.run(1, &[clear("a")]);
    let counts = Counts { judged: 600, lost: 120, late: 20 };
    let late =
        |service: &str, lost_seconds| Event::Late { service: service.to_owned(), lost_seconds, counts };
    assert!(desk.step(late("a", spans(1_000_005, 1_000_012))).is_empty());
    desk.step(late("b", spans(1_000_005, 1_000_012)));
    desk.step(late("a", spans(2_000_000, 2_000_012)));
    let incident = desk.incidents.get(&id).unwrap();
    let part = &incident.parts["a"];
    assert_eq!((part.counts, &part.lost_seconds.spans), (counts, &spans(1_000_001, 1_000_012)));
    let late = incident.timeline.kept.iter().filter(|(_, what)| matches!(what, Happened::Late(_)));
    assert_eq!(late.count(), 1);
    assert_eq!(desk.incidents.iter().count(), 1);
}

#[test]
fn a_shadow_is_said_of_each_notice() {
    let shadow = Policy { shadow: true, ..Policy::default() };
    let mut desk = Desk::new();
    let told = desk.run(11, &[Observation { policy: shadow, ..lost("a", "") }]);
    assert!(told[0].shadow);
    assert!(!desk.run(200, &[lost("a", "")]).iter().any(|notice| notice.shadow));
}

#[test]
fn everything_is_kept_with_it() {
    let mut desk = Desk::new();
    let id = desk.run(11, &[lost("a", "protocol=udp")]).remove(0).id;
    desk.step(Event::Noted { id: id.clone(), by: "ada".to_owned(), text: "looking".to_owned() });
    let receipt =
        |text: &str| Event::Receipt { id: id.clone(), receiver: "oncall".to_owned(), text: text.to_owned() };
    for number in 0..1_000 {
        desk.step(receipt(&number.to_string()));
    }
    let incident = desk.incidents.get(&id).unwrap();
    assert_eq!((incident.notes.kept[0].text.as_str(), incident.receipts.dropped), ("looking", 744));
    let part = &incident.parts["a"];
    assert_eq!((part.windows[0], part.extent.rules.len()), (window(8, 48, 48), 1));
    let happened: Vec<_> = incident.timeline.kept.iter().map(|(at, what)| (at.0, what.clone())).collect();
    let told = Happened::Told {
        change: Change::Opened,
        severity: Severity::Critical,
        summary: "a: protocol=udp".to_owned(),
    };
    assert_eq!(
        happened,
        [(1_000_001, Happened::Suspected), (1_000_011, Happened::Opened), (1_000_011, told)]
    );
    let evidence = part.evidence.as_ref().unwrap();
    assert_eq!((evidence.held, evidence.level, evidence.windows[0]), (10, Level::Full, window(8, 48, 48)));
    assert_eq!((incident.since, incident.opened), (Second(1_000_001), Some(Second(1_000_011))));
}

#[test]
fn incidents_are_bounded() {
    let mut desk = Desk::new();
    let cause = |number: usize| Cause::SickAgent { node: number.to_string() };
    let all: Vec<_> = (0..INCIDENTS_MAX + 10).map(|number| condition(cause(number), true, 0)).collect();
    desk.see(&[], &all);
    assert_eq!((desk.incidents.iter().count(), desk.incidents.refused()), (INCIDENTS_MAX, 10));
    let removed = |value: &str| Event::Removed { tag: Tag::Node, value: value.to_owned() };
    desk.step(removed("7"));
    desk.see(&[], &all[INCIDENTS_MAX..][..1]);
    assert_eq!((desk.incidents.iter().count(), desk.incidents.refused()), (INCIDENTS_MAX, 10));
    assert!(desk.incidents.iter().all(|incident| incident.state == State::Open), "what was over made room");
}
