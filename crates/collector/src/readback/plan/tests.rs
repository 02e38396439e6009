//! The plan against a storage that is a table, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const BEGIN: u64 = 1_763_690_400;
const SETTLE: u64 = 5;

/// What is stored, and how it is shown.
#[derive(Default)]
struct Storage {
    /// When each datapoint is shown first, and when it is gone again, in milliseconds since the begin.
    points: BTreeMap<(u32, u64), (u64, Option<u64>)>,
    /// The answers that lack one datapoint for a moment, by the millisecond.
    flaps: BTreeSet<(u32, u64, u64)>,
    /// Series that do not exist before so many milliseconds.
    created: BTreeMap<u32, u64>,
}

/// What the reader does in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Fails,
    /// It answers from disk alone, after having waited: without what is younger than so many seconds.
    Slow(u64),
    /// It leaves this series out.
    Without(u32),
    Coarse(u64),
    /// What begins so many seconds ago is kept in larger slots only.
    CoarseBefore(u64),
}

struct World {
    plan: Plan,
    storage: Storage,
    plane: BTreeMap<(u32, u64), bool>,
    /// Whatever was once concluded to be lacking.
    ever_lacking: BTreeSet<(u32, u64)>,
    series: u32,
    /// Whether the series are probed at all.
    are_asked: bool,
    /// Seconds that the sender knows to be lost.
    unsent: BTreeSet<(u32, u64)>,
    questions: usize,
}

struct View<'w> {
    plane: &'w BTreeMap<(u32, u64), bool>,
    /// How many seconds are held.
    held: u64,
    are_asked: bool,
    unsent: &'w BTreeSet<(u32, u64)>,
}

impl Slots for View<'_> {
    fn held(&self) -> Span {
        Span::new(Second(BEGIN), Second(BEGIN + self.held))
    }

    fn is_asked(&self, _: SeriesId, _: Span) -> bool {
        self.are_asked
    }

    fn lacks(&self, series: SeriesId, span: Span) -> bool {
        span.iter().any(|second| self.plane.get(&(series.0, second.0 - BEGIN)) != Some(&true))
    }

    fn is_sent(&self, series: SeriesId, second: Second) -> bool {
        second.0.checked_sub(BEGIN).is_some_and(|offset| !self.unsent.contains(&(series.0, offset)))
    }
}

impl World {
    fn new(series: u32) -> Self {
        let pace = Pace { resolution: 1, settle: SETTLE, hidden: 0 };
        // The plan begins with the first second closed.
        let mut plan = Plan::new(pace, Second(BEGIN + 3).start());
        (0..series).for_each(|id| plan.carry(SeriesId(id), &format!("canary.{id}")));
        Self {
            plan,
            storage: Storage::default(),
            plane: BTreeMap::new(),
            ever_lacking: BTreeSet::new(),
            series,
            are_asked: true,
            unsent: BTreeSet::new(),
            questions: 0,
        }
    }

    /// One second: asks what is due, half a second in.
    fn second(&mut self, second: u64, mood: Mood) {
        let now = Second(BEGIN + second).start().plus(500_000);
        let Self { are_asked, ref unsent, .. } = *self;
        let before = self.plane.clone();
        let view = View { plane: &before, held: second + 1, are_asked, unsent };
        for question in self.plan.questions(now, &view) {
            self.questions += 1;
            assert!(question.span.seconds() <= ring::SECONDS && question.span.until <= closed_until(now));
            let millis = second * 1_000 + 500;
            if mood == Mood::Fails {
                let error = Unreadable::Timeout { at: "http://g".into(), seconds: 3 };
                self.plan.failed(&question, &error);
                continue;
            }
            let said: Vec<Said> = question
                .series
                .iter()
                .map(|index| self.said(*index as u32, question.span, millis, mood))
                .collect();
            let took = if matches!(mood, Mood::Slow(_)) { 2_000_000 } else { 20_000 };
            for conclusion in self.plan.answered(&question, &said, took, &view) {
                let (series, second, stored) = match conclusion {
                    Conclusion::Stored(series, second) => (series, second, true),
                    Conclusion::NotStored(series, second) => (series, second, false),
                    Conclusion::Counted(..) => panic!("slots are single seconds"),
                };
                // Before its life, a series is none of the plan's business, and the ledger counts nothing.
                let Some(offset) = second.0.checked_sub(BEGIN) else { continue };
                let key = (series.0, offset);
                if !stored {
                    assert!(second.plus(SETTLE) < closed_until(now), "{second} has not settled");
                    self.ever_lacking.insert(key);
                }
                let known = self.plane.entry(key).or_default();
                *known |= stored;
            }
        }
    }

    fn said(&self, series: u32, span: Span, millis: u64, mood: Mood) -> Said {
        match mood {
            Mood::Without(left_out) if left_out == series => return Said::Absent,
            Mood::Coarse(step) => return Said::Coarse(step),
            Mood::CoarseBefore(age) if (span.from.0 + age) * 1_000 < BEGIN * 1_000 + millis => {
                return Said::Coarse(10);
            }
            _ => {}
        }
        if self.storage.created.get(&series).is_some_and(|created| millis < *created) {
            return Said::Absent;
        }
        let is_shown = |second: &Second| {
            let Some(offset) = second.0.checked_sub(BEGIN) else { return false };
            let Some((from, until)) = self.storage.points.get(&(series, offset)) else { return false };
            let is_on_disk = !matches!(mood, Mood::Slow(age) if millis < offset * 1_000 + age * 1_000);
            let is_there = *from <= millis && until.is_none_or(|until| millis < until);
            is_there && is_on_disk && !self.storage.flaps.contains(&(series, offset, millis))
        };
        Said::Slots(span.iter().filter(is_shown).map(|second| (second, 1.0)).collect())
    }

    fn run(&mut self, seconds: std::ops::Range<u64>, mood: Mood) {
        seconds.for_each(|second| self.second(second, mood));
    }

    /// Each series' datapoint of each second is shown after so many milliseconds.
    fn store(&mut self, seconds: std::ops::Range<u64>, delay: u64) {
        for series in 0..self.series {
            for second in seconds.clone() {
                self.storage.points.insert((series, second), (second * 1_000 + delay, None));
            }
        }
    }

    fn plane(&self, series: u32, seconds: std::ops::Range<u64>) -> String {
        seconds
            .map(|second| match self.plane.get(&(series, second)) {
                None => '?',
                Some(true) => 's',
                Some(false) => 'n',
            })
            .collect()
    }

    fn blind(&self, second: u64) -> Option<String> {
        let now = Second(BEGIN + second).start().plus(900_000);
        self.plan.blind(now, Span::before(closed_until(now), 60))
    }
}

#[test]
fn what_is_there_is_stored_within_seconds_and_what_is_not_is_lost_once_settled() {
    let mut world = World::new(2);
    world.store(0..30, 700);
    world.storage.points.remove(&(0, 10));
    world.run(0..16, Mood::Well);
    assert_eq!(world.plane(0, 0..16), "ssssssssss??????", "two seconds after it is shown");
    world.run(16..20, Mood::Well);
    assert_eq!(world.plane(0, 8..12), "ssns", "eight seconds and one question after it began");
    assert_eq!(world.plane(1, 8..12), "ssss");
    assert_eq!(world.blind(20), None);
}

#[test]
fn a_series_that_was_never_shown_stays_unknown_and_one_that_comes_late_does_not() {
    let mut world = World::new(3);
    world.store(0..40, 700);
    world.storage.created.insert(0, 1_000_000);
    world.storage.created.insert(1, 20_500);
    // Its datapoints were dropped until it was created.
    world.storage.points.retain(|(series, second), _| *series != 1 || *second >= 20);
    // A series that exists, and holds nothing.
    world.storage.points.retain(|(series, _), _| *series != 2);
    world.run(0..120, Mood::Well);
    assert_eq!(world.plane(0, 0..40), "?".repeat(40));
    assert_eq!(world.plane(1, 0..40), "n".repeat(20) + &"s".repeat(20));
    assert_eq!(world.plane(2, 0..40), "?".repeat(40));
    assert_eq!(world.blind(120), None);
}

#[test]
fn a_reader_that_is_away_makes_us_blind_and_never_loss_and_what_it_has_is_read_later() {
    let mut world = World::new(2);
    world.store(0..300, 700);
    world.run(0..20, Mood::Well);
    assert_eq!(world.blind(20), None);
    world.run(20..24, Mood::Fails);
    assert!(world.blind(24).is_some_and(|reason| reason.contains("does not answer within 3 s")));
    world.run(24..200, Mood::Fails);
    let asked = world.questions;
    assert!(asked < 70, "it is asked less often: {asked}");
    let back = (200..220).find(|second| {
        world.second(*second, Mood::Well);
        world.questions > asked
    });
    let back = back.unwrap();
    let reason = world.blind(back).unwrap_or_default();
    assert!(reason.contains("still to be read"), "{reason}");
    world.run(back + 1..260, Mood::Well);
    assert_eq!(world.blind(260), None);
    assert_eq!(world.plane(0, 0..250), "s".repeat(250));
    assert!(world.ever_lacking.is_empty());
}

#[test]
fn an_answer_that_waited_or_leaves_something_out_loses_nothing() {
    for (mood, expected) in [
        (Mood::Slow(30), "waits for a storage that does not answer"),
        (Mood::Without(1), "leave out 1 of 2 series"),
        (Mood::Coarse(60), "slots of 60 s"),
    ] {
        let mut world = World::new(2);
        world.store(0..100, 700);
        world.run(0..20, Mood::Well);
        world.run(20..60, mood);
        let reason = world.blind(60).unwrap_or_default();
        assert!(reason.contains(expected), "{mood:?}: {reason}");
        assert!(world.ever_lacking.is_empty(), "{mood:?}: {:?}", world.ever_lacking);
        world.run(60..100, Mood::Well);
        assert_eq!(world.plane(0, 0..90), "s".repeat(90), "{mood:?}");
        assert_eq!(world.blind(100), None, "{mood:?}");
    }
}

/// Answers of over two seconds, so that one is asked for each three, and taken in five after the one before was asked for. What
/// is younger than `age` is not shown.
fn runs_slowly(world: &mut World, seconds: std::ops::Range<u64>, age: u64) -> Vec<String> {
    let mut blind = Vec::new();
    for second in seconds.step_by(3) {
        world.second(second, Mood::Slow(age));
        blind.extend((second..=second + 5).filter_map(|later| world.blind(later)));
    }
    blind
}

#[test]
fn an_answer_that_took_long_and_shows_all_that_was_sent_tells_that_it_is_stored() {
    // The newest second that is asked for is 3.5 s old, and the newest that has settled 8.5 s: between them it may lack some.
    for (age, begin) in [(0, 20), (0, 21), (5, 22)] {
        let mut world = World::new(3);
        world.store(0..300, 700);
        // No such series was created yet.
        world.storage.created.insert(2, 1_000_000);
        world.run(0..begin, Mood::Well);
        // Its sender gave this one up: nothing is missed where it is not shown.
        world.storage.points.remove(&(1, 30));
        world.unsent.insert((1, 30));
        assert_eq!(runs_slowly(&mut world, begin..62, age), [""; 0], "{age} s");
        assert_eq!(world.plane(0, 0..50), "s".repeat(50), "{age} s");
        assert_eq!(world.plane(1, 0..50), "s".repeat(30) + "?" + &"s".repeat(19), "{age} s");

        // This one was sent: only an answer that did not wait tells whether it is there.
        world.storage.points.remove(&(0, 70));
        let reasons = runs_slowly(&mut world, 62..92, age);
        assert!(reasons.iter().any(|reason| reason.contains("waits for a storage")), "{age} s: {reasons:?}");
        assert!(world.ever_lacking.is_empty(), "{age} s: {:?}", world.ever_lacking);
        world.run(92..112, Mood::Well);
        assert_eq!(world.plane(0, 60..100), "s".repeat(10) + "n" + &"s".repeat(29), "{age} s");
        assert_eq!(world.blind(112), None, "{age} s");
        world.run(112..200, Mood::Well);
        assert_eq!(world.plane(1, 28..33), "ssnss", "{age} s: a sweep finds it lacking");
    }
}

#[test]
fn a_slow_answer_without_what_was_never_shown_tells_nothing() {
    // As after a restart of the collector while carbon is frozen: the series exist, and nothing new of them is shown.
    let mut world = World::new(2);
    world.run(0..20, Mood::Slow(0));
    assert!(world.blind(20).is_some_and(|reason| reason.contains("waits for a storage")));
    assert!(world.ever_lacking.is_empty());
}

#[test]
fn the_trouble_of_the_last_answer_ends_with_the_last_series() {
    let mut world = World::new(2);
    world.store(0..100, 700);
    world.run(0..20, Mood::Well);
    world.run(20..30, Mood::Slow(30));
    assert!(world.blind(30).is_some_and(|reason| reason.contains("2.0 s for 2 series")));
    world.are_asked = false;
    world.run(30..50, Mood::Well);
    assert_eq!(world.blind(50), None);
}

#[test]
fn a_flap_is_no_loss_and_a_reader_that_goes_on_contradicting_itself_makes_us_blind() {
    let mut world = World::new(2);
    world.store(0..120, 700);
    world.storage.flaps.extend([(0, 10, 14_500), (1, 11, 15_500)]);
    world.run(0..30, Mood::Well);
    assert_eq!((world.plane(0, 0..24), world.blind(30)), ("s".repeat(24), None));
    // Two replicas, of which one lags: every other answer lacks what the one before showed.
    for second in (31..60).step_by(2) {
        let millis = second * 1_000 + 500;
        world.storage.flaps.extend((second - 12..=second).map(|offset| (0, offset, millis)));
    }
    world.run(30..60, Mood::Well);
    let reason = world.blind(60).unwrap_or_default();
    assert!(reason.contains("lack datapoints that were shown before"), "{reason}");
    assert!(world.ever_lacking.is_empty());
    world.run(60..120, Mood::Well);
    assert_eq!((world.plane(0, 0..110), world.blind(120)), ("s".repeat(110), None));
}

#[test]
fn what_was_shown_from_memory_and_then_lost_is_not_stored() {
    let mut world = World::new(2);
    world.store(0..60, 700);
    // It comes late, is shown at once, and carbon is stopped before it has written it.
    for series in 0..2 {
        world.storage.points.insert((series, 20), (24_400, Some(25_000)));
    }
    world.run(0..60, Mood::Well);
    assert_eq!(world.plane(0, 18..23), "ssnss");
    assert_eq!(world.blind(60), None, "one contradiction is no more than carbon does");
}

#[test]
fn what_is_stored_long_after_is_found() {
    let mut world = World::new(1);
    world.store(0..400, 700);
    for second in 50..60 {
        world.storage.points.insert((0, second), (200_000, None));
    }
    world.run(0..190, Mood::Well);
    assert_eq!(world.plane(0, 48..62), "ss".to_owned() + &"n".repeat(10) + "ss");
    world.run(190..290, Mood::Well);
    assert_eq!(world.plane(0, 48..62), "s".repeat(14));
}

#[test]
fn a_storage_that_keeps_seconds_for_a_minute_is_read_for_that_minute() {
    let mood = Mood::CoarseBefore(60);
    let mut world = World::new(2);
    world.store(0..400, 700);
    world.storage.points.remove(&(0, 10));
    world.run(0..100, mood);
    assert_eq!((world.plane(0, 0..90), world.blind(100)), ("s".repeat(10) + "n" + &"s".repeat(79), None));
    world.run(100..200, Mood::Fails);
    world.run(200..300, mood);
    assert_eq!(world.blind(300), None);
    let plane = world.plane(0, 100..290);
    let unread = plane.chars().filter(|said| *said == '?').count();
    assert!(plane.starts_with('?') && plane.ends_with(&"s".repeat(90)), "{plane}");
    assert!((30..100).contains(&unread) && !plane.contains('n'), "{plane}");
}

#[test]
fn storage_that_is_slower_than_it_was_said_to_be_makes_us_blind() {
    let mut world = World::new(1);
    world.run(0..10, Mood::Well);
    let now = Second(BEGIN + 10).start();
    (0..9).for_each(|_| world.plan.shown_late(now));
    assert_eq!(world.blind(10), None);
    world.plan.shown_late(now);
    assert!(world.blind(10).is_some_and(|reason| reason.contains("raise `settle`")));
    world.run(11..60, Mood::Well);
    assert_eq!(world.blind(60), None);
}

#[test]
fn duplicates_and_mangled_values_are_counted_and_stored() {
    let mut world = World::new(1);
    let now = |second: u64| Second(BEGIN + second).start();
    for second in 10..14 {
        let view = View { plane: &BTreeMap::new(), held: 20, are_asked: true, unsent: &BTreeSet::new() };
        for question in world.plan.questions(now(second), &view) {
            let values = [(0, 1.0), (1, 3.0), (2, 0.5), (3, f64::INFINITY)];
            let slots = values.map(|(offset, value)| (Second(BEGIN + offset), value));
            let slots = slots.into_iter().filter(|(second, _)| question.span.contains(*second)).collect();
            world.plan.answered(&question, &[Said::Slots(slots)], 0, &view);
        }
    }
    assert_eq!(world.plan.counts(), Counts { duplicates: 2, mangled: 2 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the reader does in between: in the end the plane is what is on disk, and what was on disk in time was
    /// never called lost.
    #[test]
    fn the_plane_ends_as_the_disk(
        delays in prop::collection::vec(prop_oneof![
            8 => (200_u64..1_900).prop_map(Some),
            1 => (10_000_u64..60_000).prop_map(Some),
            1 => Just(None),
        ], 3 * 60),
        moods in prop::collection::vec(prop_oneof![
            6 => Just(Mood::Well),
            1 => Just(Mood::Fails),
            1 => Just(Mood::Slow(20)),
            1 => (0_u64..8).prop_map(Mood::Slow),
            1 => (0_u32..3).prop_map(Mood::Without),
        ], 60),
        flaps in prop::collection::btree_set((0_u32..3, 0_u64..60, 0_u64..10), 0..6),
    ) {
        let mut world = World::new(3);
        for (index, delay) in (0_u64..).zip(&delays) {
            if let Some(delay) = delay {
                let (series, second) = ((index / 60) as u32, index % 60);
                world.storage.points.insert((series, second), (second * 1_000 + delay, None));
            }
        }
        world.storage.flaps = flaps.iter().map(|(series, second, age)| (*series, *second, (second + age) * 1_000 + 500)).collect();
        for (second, mood) in (0..).zip(&moods) {
            world.second(second, *mood);
        }
        world.run(60..260, Mood::Well);
        for series in 0..3 {
            for second in 0..60 {
                let point = world.storage.points.get(&(series, second));
                prop_assert_eq!(world.plane.get(&(series, second)), Some(&point.is_some()), "{} {}", series, second);
                let in_time = point.is_some_and(|(from, _)| *from < second * 1_000 + 2_000);
                prop_assert!(!(in_time && world.ever_lacking.contains(&(series, second))), "{} {}", series, second);
            }
        }
        prop_assert_eq!(world.blind(260), None);
    }
}
