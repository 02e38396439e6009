//! When each series probes: a stable phase inside the second, and the walk from one due instant to the next.

use crate::{
    fnv::fnv1a,
    time::{Micros, Second, Span, Timestamp},
};

/// The grain of phases in microseconds. Series of one grain start together on one wake-up; the grain is small enough
/// for a few handshakes to be over before the next, and far below a listen backlog's worth of connects.
pub const GRAIN_US: u64 = 5_000;

/// How much the schedule is moved towards the wall clock in one second: ten times what a time daemon slews, and so
/// little that no slot overlaps another.
const SLEW_US_PER_SECOND: u64 = 5_000;

/// A larger difference between the clocks is a step, a smaller one is ridden on the monotonic clock.
pub const STEP_US: u64 = 2_000_000;

/// The phase of a series inside the second, in microseconds: a multiple of [`GRAIN_US`], the same on every start.
///
/// `name` is the series' Graphite name, which no other series has. Spread, because a hundred connects at one instant
/// overflow a listen backlog, and the retransmission of a lost SYN takes as long as the whole attempt may.
pub fn phase_us(name: &str) -> u32 {
    const GRAINS: u64 = 1_000_000 / GRAIN_US;
    // FNV-1a, then the finaliser of MurmurHash3: FNV alone leaves names that differ in their last byte close together.
    let mut hash = fnv1a(name.bytes());
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let grain = (u128::from(hash) * u128::from(GRAINS)) >> 64;
    (grain as u64 * GRAIN_US) as u32
}

/// The series of an agent by phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    phases: Vec<(u32, Vec<u32>)>,
}

impl Plan {
    /// Spreads the series with these names; a series is meant by its place among them.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut places: Vec<_> =
            names.into_iter().enumerate().map(|(place, name)| (phase_us(name), place as u32)).collect();
        places.sort_unstable();
        let mut phases: Vec<(u32, Vec<u32>)> = Vec::new();
        for (phase, place) in places {
            match phases.last_mut() {
                Some((last, places)) if *last == phase => places.push(place),
                _ => phases.push((phase, vec![place])),
            }
        }
        Self { phases }
    }

    /// The series that are due at the `index`th phase.
    pub fn series_at(&self, index: usize) -> &[u32] {
        &self.phases[index].1
    }

    /// How many phases have a series.
    pub fn phases(&self) -> usize {
        self.phases.len()
    }
}

/// An instant at which series are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The slot's second, which is also the datapoint's timestamp.
    pub second: Second,
    /// Which phase of the plan.
    pub phase: usize,
    /// When, on the monotonic clock.
    pub at: Micros,
    /// The clock was set back, and this second was walked before: nothing is to be sent for it again.
    pub is_repeated: bool,
}

/// The wall clock was stepped by more than [`STEP_US`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The number of the epoch that begins.
    pub epoch: u32,
    /// The second that would have been walked next.
    pub from: Second,
    /// The second that is walked next instead: later if the clock jumped forward, earlier if it was set back.
    pub to: Second,
}

impl Step {
    /// The seconds that no slot runs in now, because the clock jumped over them; empty if it was set back.
    pub const fn skipped(self) -> Span {
        Span::new(self.from, self.to)
    }
}

/// The walk over a plan's due instants.
///
/// Slots are wall-clock seconds, but the walk rides the monotonic clock: a small difference between the two is slewed
/// away, a step of the wall begins a new epoch. Seconds that were walked and come again after a step back are walked
/// again, so that nothing falls silent, and marked as repeated. Seconds that a step jumped over are not: if the step was
/// a mistake and is taken back, they have yet to come, and a clock that was wrong by a year for a moment must not make
/// a blind year.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// An instant that both clocks are taken to show at once.
    wall: Timestamp,
    monotonic: Micros,
    second: Second,
    phase: usize,
    epoch: u32,
    /// Where the walk of this epoch began.
    epoch_from: Second,
    /// The seconds that were walked in earlier epochs, oldest epoch first.
    walked: Vec<Span>,
}

/// So many spans of earlier epochs and lives are remembered; a clock that is stepped more often, the oldest are forgotten.
const WALKED_MAX: usize = 64;

impl Schedule {
    /// A walk that begins with the first full second after now.
    pub fn starting(wall: Timestamp, monotonic: Micros) -> Self {
        let second = wall.second().plus(1);
        Self { wall, monotonic, second, phase: 0, epoch: 0, epoch_from: second, walked: Vec::new() }
    }

    /// The seconds of `span` were walked before, in an earlier epoch or life.
    pub fn remember(&mut self, span: Span) {
        if !span.is_empty() {
            self.walked.push(span);
        }
        if self.walked.len() > WALKED_MAX {
            self.walked.remove(0);
        }
    }

    /// The second in which the next slot lies.
    pub const fn second(&self) -> Second {
        self.second
    }

    /// Which epoch of the wall clock this is.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The next due instant of `plan`, `None` if it has no series.
    pub fn due(&self, plan: &Plan) -> Option<Due> {
        let (offset_us, _) = plan.phases.get(self.phase)?;
        Some(Due {
            second: self.second,
            phase: self.phase,
            at: self.monotonic_at(self.second, *offset_us),
            is_repeated: self.walked.iter().any(|span| span.contains(self.second)),
        })
    }

    /// Begins anew with the first full second after now, in the same epoch: after a time with nothing to walk.
    pub fn restart(&mut self, wall: Timestamp, monotonic: Micros) {
        if self.align(wall, monotonic).is_none() {
            (self.wall, self.monotonic, self.phase) = (wall, monotonic, 0);
            self.second = self.second.max(wall.second().plus(1));
        }
    }

    /// Whether no phase of the second was walked yet, so that the walk can go on with another plan.
    pub const fn is_between_seconds(&self) -> bool {
        self.phase == 0
    }

    /// Goes on to the next phase, and returns whether that begins a new second.
    pub fn advance(&mut self, plan: &Plan) -> bool {
        self.phase += 1;
        let turns = self.phase >= plan.phases();
        if turns {
            self.second = self.second.plus(1);
            self.phase = 0;
        }
        turns
    }

    /// Compares the clocks, to be done as a second begins: slews, or begins an epoch at the first full second of the
    /// new time.
    pub fn align(&mut self, wall: Timestamp, monotonic: Micros) -> Option<Step> {
        let expected = self.wall.plus(monotonic.since(self.monotonic));
        let difference = wall.0.abs_diff(expected.0);
        if difference > STEP_US {
            let next = self.second;
            self.remember(Span::new(self.epoch_from, next));
            self.wall = wall;
            self.monotonic = monotonic;
            self.second = wall.second().plus(1);
            self.epoch_from = self.second;
            self.phase = 0;
            self.epoch += 1;
            return Some(Step { epoch: self.epoch, from: next, to: self.second });
        }
        let slew = difference.min(SLEW_US_PER_SECOND);
        self.wall = if wall > expected { expected.plus(slew) } else { Timestamp(expected.0 - slew) };
        self.monotonic = monotonic;
        None
    }

    /// Leaves out whole seconds that have passed while nobody walked, so that no burst follows a stall.
    pub fn skip_to(&mut self, now: Micros) {
        let current = self.wall.plus(now.since(self.monotonic)).second();
        if current > self.second {
            self.second = current;
            self.phase = 0;
        }
    }

    fn monotonic_at(&self, second: Second, offset_us: u32) -> Micros {
        let wall = second.start().plus(u64::from(offset_us));
        if wall >= self.wall {
            self.monotonic.plus(wall.since(self.wall))
        } else {
            Micros(self.monotonic.0.saturating_sub(self.wall.since(wall)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_stable_and_spread() {
        // A fixed value, so that a change of the hash, which would move every series of every fleet, is noticed.
        assert_eq!(phase_us("canary.ingest.tcp.external.eu-west-1.none.aws.canary-7.h_2003"), 170_000);
        let names: Vec<_> = (0..2_000).map(|node| format!("canary.ingest.tcp.node-{node}.h_2003")).collect();
        let plan = Plan::new(names.iter().map(String::as_str));
        assert!(plan.phases() > 190, "{} of 200 grains are used", plan.phases());
        let fullest = (0..plan.phases()).map(|phase| plan.series_at(phase).len()).max().unwrap();
        assert!(fullest <= 25, "{fullest} of 2,000 series share a grain");
        assert_eq!((0..plan.phases()).map(|phase| plan.series_at(phase).len()).sum::<usize>(), 2_000);
    }

    fn walk(schedule: &mut Schedule, plan: &Plan, steps: usize) -> Vec<Due> {
        let due = |_| {
            let due = schedule.due(plan)?;
            schedule.advance(plan);
            Some(due)
        };
        (0..steps).map_while(due).collect()
    }

    const START: Timestamp = Timestamp(1_000_300_000);

    #[test]
    fn every_slot_is_due_once_at_its_phase_from_the_first_full_second() {
        let plan = Plan::new(["a", "b", "c"]);
        let mut schedule = Schedule::starting(START, Micros(50));
        let dues = walk(&mut schedule, &plan, 9);
        assert_eq!(dues[0].second, Second(1_001));
        for (index, due) in dues.iter().enumerate() {
            assert_eq!((due.second, due.phase), (Second(1_001 + index as u64 / 3), index % 3));
            let wall = due.at.0 - 50 + START.0;
            assert_eq!(wall / 1_000_000, due.second.0, "inside the second that the datapoint claims");
        }
        assert_eq!(Schedule::starting(START, Micros(0)).due(&Plan::new([])), None);
    }

    #[test]
    fn a_small_difference_is_slewed_without_losing_or_repeating_a_second() {
        let plan = Plan::new(["a"]);
        for drift_us in [-1_900_000_i64, -300, 0, 300, 1_900_000] {
            let mut schedule = Schedule::starting(START, Micros(0));
            let mut last: Option<Due> = None;
            for _ in 0..1_000 {
                let due = schedule.due(&plan).unwrap();
                if let Some(last) = last {
                    assert_eq!(due.second, last.second.plus(1));
                    let length = due.at.since(last.at);
                    assert!((994_000..=1_006_000).contains(&length), "a second of {length} us");
                }
                last = Some(due);
                schedule.advance(&plan);
                let wall = Timestamp((START.0 + due.at.0).saturating_add_signed(drift_us));
                assert_eq!(schedule.align(wall, due.at), None);
            }
            let wall = (START.0 + last.unwrap().at.0).saturating_add_signed(drift_us);
            assert_eq!(wall / 1_000_000, last.unwrap().second.0, "the clocks agree again");
        }
    }

    #[test]
    fn a_step_begins_an_epoch_and_what_is_walked_again_is_marked() {
        let plan = Plan::new(["a"]);
        let mut schedule = Schedule::starting(START, Micros(0));
        walk(&mut schedule, &plan, 5);
        let step = schedule.align(Timestamp(START.0 + 3_600_000_000), Micros(5_000_000)).unwrap();
        assert_eq!(step, Step { epoch: 1, from: Second(1_006), to: Second(4_601) });
        assert_eq!(
            schedule.due(&plan).map(|due| (due.second, due.is_repeated)),
            Some((Second(4_601), false))
        );
        schedule.advance(&plan);
        let step = schedule.align(Timestamp(START.0), Micros(6_000_000)).unwrap();
        assert!(step.epoch == 2 && step.skipped().is_empty());
        let repeated = walk(&mut schedule, &plan, 3_700);
        assert_eq!(repeated[0].second, Second(1_001), "nothing is silent for an hour");
        for due in repeated {
            let was_walked = due.second < Second(1_006) || due.second == Second(4_601);
            assert_eq!(due.is_repeated, was_walked, "{due:?}");
        }
    }

    #[test]
    fn a_clock_that_was_wrong_by_a_year_for_a_moment_leaves_no_blind_year() {
        let plan = Plan::new(["a"]);
        let mut schedule = Schedule::starting(START, Micros(0));
        walk(&mut schedule, &plan, 5);
        let year = 365 * 86_400 * 1_000_000;
        schedule.align(Timestamp(START.0 + year), Micros(5_000_000)).unwrap();
        walk(&mut schedule, &plan, 10);
        schedule.align(Timestamp(START.0 + 15_000_000), Micros(15_000_000)).unwrap();
        let dues = walk(&mut schedule, &plan, 1_000);
        assert!(dues.iter().all(|due| !due.is_repeated), "none of these was walked before");
    }

    #[test]
    fn no_burst_follows_a_stall() {
        let plan = Plan::new(["a", "b"]);
        let mut schedule = Schedule::starting(START, Micros(0));
        walk(&mut schedule, &plan, 3);
        schedule.skip_to(Micros(20_000_000));
        let due = schedule.due(&plan).unwrap();
        assert_eq!(due.second, Second(1_020));
        schedule.skip_to(Micros(20_000_000));
        assert_eq!(schedule.due(&plan), Some(due));
    }
}
