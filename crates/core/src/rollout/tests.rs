use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000_000;
const A: Version = Version(0xa);
const B: Version = Version(0xb);
const C: Version = Version(0xc);

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_763_690_400_000_000 + seconds * 1_000_000)
}

/// What an agent holds: the version that it runs, and how far it is with another.
fn agent(runs: Version, other: Option<(Version, HeldState)>) -> Vec<Held> {
    let other = other.map(|(version, state)| Held::new(version, state));
    [Held::new(runs, HeldState::Active)].into_iter().chain(other).collect()
}

fn seen(held: &[Vec<Held>]) -> impl Iterator<Item = Seen<'_>> {
    held.iter().map(|held| Seen { presence: Presence::Reporting, held })
}

/// A is active, and B has been being rolled out since the first second.
fn rolling() -> Rollout {
    let mut rollout = Rollout::default();
    assert_eq!(rollout.offer(A, at(0)), Some(Step::First(A)));
    assert_eq!(rollout.offer(B, at(0)), Some(Step::Began(B)));
    rollout
}

fn active(rollout: &Rollout) -> Version {
    rollout.active.unwrap().0
}

#[test]
fn a_version_is_active_once_every_agent_that_counts_has_it_available() {
    use HeldState::{Active, Available, Building, Error, Removing};
    use Presence::{Away, Late, Reporting};
    // How far the second of two agents is, and whether that one reports; what follows, and how it goes after that.
    let table = [
        (Reporting, None, None, Phase::Building),
        (Reporting, Some(Building), None, Phase::Building),
        (Reporting, Some(Removing), None, Phase::Building),
        (Reporting, Some(Error), Some(Step::Held(B)), Phase::Held),
        (Reporting, Some(Available), Some(Step::Activated(B)), Phase::Settled),
        (Reporting, Some(Active), Some(Step::Activated(B)), Phase::Settled),
        (Late, Some(Available), Some(Step::Held(B)), Phase::Held),
        (Late, None, Some(Step::Held(B)), Phase::Held),
        (Away, None, Some(Step::Activated(B)), Phase::Settled),
        (Away, Some(Error), Some(Step::Activated(B)), Phase::Settled),
    ];
    for (presence, state, expected, phase) in table {
        let mut rollout = rolling();
        let ready = agent(A, Some((B, Available)));
        let other = agent(A, state.map(|state| (B, state)));
        let agents = [Seen { presence: Reporting, held: &ready }, Seen { presence, held: &other }];
        assert_eq!(rollout.look(agents.into_iter(), MINUTE, at(1)), expected, "{presence:?} {state:?}");
        assert_eq!(rollout.phase(agents.into_iter()), phase, "{presence:?} {state:?}");
        let is_active = matches!(expected, Some(Step::Activated(_)));
        assert_eq!(active(&rollout), if is_active { B } else { A }, "{presence:?} {state:?}");
    }
}

#[test]
fn that_it_is_held_is_said_once_and_the_time_out_lets_the_active_version_stand() {
    let mut rollout = rolling();
    let agents = [agent(A, Some((B, HeldState::Error))), agent(A, Some((B, HeldState::Available)))];
    assert_eq!(rollout.look(seen(&agents), MINUTE, at(1)), Some(Step::Held(B)));
    assert_eq!(rollout.look(seen(&agents), MINUTE, at(59)), None);
    assert_eq!(rollout.look(seen(&agents), MINUTE, at(60)), Some(Step::TimedOut(B)));
    assert_eq!((active(&rollout), rollout.candidate), (A, None));
    assert_eq!(rollout.phase(seen(&agents)), Phase::TimedOut);

    assert_eq!(rollout.offer(B, at(70)), None, "the same text waits");
    assert_eq!(rollout.force(at(70)), Err(NotDone::NoCandidate));
    assert_eq!(rollout.retry(B, at(80)), Ok(Step::Began(B)));
    assert_eq!(rollout.look(seen(&agents), MINUTE, at(139)), Some(Step::Held(B)), "it has a minute again");
    assert_eq!(rollout.offer(C, at(139)), Some(Step::Began(C)), "another text takes its place");
    assert_eq!(rollout.offer(A, at(140)), Some(Step::Dropped(C)), "and the active one ends it");
    assert_eq!(rollout.phase(seen(&agents)), Phase::Settled);
}

#[test]
fn what_is_forced_is_active_whoever_refuses_it() {
    let mut rollout = rolling();
    let agents = [agent(A, Some((B, HeldState::Error)))];
    rollout.look(seen(&agents), MINUTE, at(1));
    assert_eq!(rollout.force(at(2)), Ok(Step::Forced(B)));
    assert_eq!((active(&rollout), rollout.previous), (B, Some(A)));
    assert_eq!(rollout.force(at(3)), Err(NotDone::NoCandidate));
    let tally = rollout.tally(seen(&agents));
    assert_eq!(tally, [(Some(HeldState::Error), 1)].into(), "that one agent cannot is still to be seen");
}

#[test]
fn going_back_breaks_a_rollout_off_or_takes_the_version_before() {
    let mut rollout = rolling();
    assert_eq!(rollout.roll_back(None, at(1)), Ok(Step::BrokenOff(B)));
    assert_eq!((active(&rollout), rollout.offer(B, at(2))), (A, None));
    assert_eq!(rollout.roll_back(None, at(3)), Err(NotDone::NoPrevious));
    assert_eq!(rollout.retry(B, at(4)), Ok(Step::Began(B)));
    assert_eq!(
        rollout.look(seen(&[]), MINUTE, at(4)),
        Some(Step::Activated(B)),
        "nobody is to be waited for"
    );
    assert_eq!(rollout.retry(B, at(4)), Err(NotDone::NothingHeldBack));

    assert_eq!(rollout.roll_back(Some("ada".to_owned()), at(5)), Ok(Step::RolledBack(B, A)));
    assert_eq!((active(&rollout), rollout.previous), (A, None));
    let held = HeldBack { version: B, at: at(5), why: Why::RolledBack, by: Some("ada".to_owned()) };
    assert_eq!(rollout.held_back, Some(held));
    assert_eq!(rollout.offer(B, at(6)), None, "a restart does not roll it out again");
    assert_eq!(rollout.roll_back(None, at(7)), Err(NotDone::NoPrevious));
    assert_eq!(rollout.offer(C, at(8)), Some(Step::Began(C)), "a change does");
}

#[test]
fn going_back_twice_around_a_time_out_never_loses_what_the_file_says() {
    let mut rollout = rolling();
    rollout.force(at(1)).unwrap();
    rollout.offer(C, at(2));
    let refusing = [agent(B, Some((C, HeldState::Error)))];
    assert_eq!(rollout.look(seen(&refusing), MINUTE, at(62)), Some(Step::TimedOut(C)));
    assert_eq!(rollout.roll_back(None, at(63)), Ok(Step::RolledBack(B, A)));
    assert_eq!(rollout.offer(C, at(64)), None);
    assert_eq!(rollout.retry(B, at(65)), Err(NotDone::NothingHeldBack), "the file does not say that");
    assert_eq!(rollout.retry(C, at(65)), Ok(Step::Began(C)));
}

#[test]
fn a_version_is_read_as_it_is_written_and_from_nothing_else() {
    let version = Version::of_sha256(&std::array::from_fn(|place| place as u8));
    assert_eq!(version.to_string(), "0001020304050607");
    assert_eq!(version.to_string().parse(), Ok(version));
    for text in ["", "1", "00010203040506070", "+001020304050607", "000102030405060g"] {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
}

/// What may happen.
#[derive(Clone, Debug)]
enum Act {
    Offer(u64),
    /// An agent hears what is told, and says what it holds.
    Report(usize),
    /// An agent falls silent, is given up, or is back.
    Presence(usize, Presence),
    /// What keeps an agent from using a version is put right, or comes.
    Mend(usize, u64),
    Look,
    Force,
    RollBack,
    Retry,
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let agent = 0_usize..3;
    let presence = prop_oneof![Just(Presence::Reporting), Just(Presence::Late), Just(Presence::Away)];
    let act = prop_oneof![
        3 => (1_u64..5).prop_map(Act::Offer),
        8 => agent.clone().prop_map(Act::Report),
        1 => (agent.clone(), presence).prop_map(|(agent, presence)| Act::Presence(agent, presence)),
        1 => (agent, 1_u64..5).prop_map(|(agent, version)| Act::Mend(agent, version)),
        6 => Just(Act::Look),
        1 => Just(Act::Force),
        1 => Just(Act::RollBack),
        1 => Just(Act::Retry),
        1 => (1_u64..40).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..80)
}

/// An agent as the collector knows it, and as it is.
#[derive(Clone, Debug)]
struct Model {
    presence: Presence,
    runs: Option<Version>,
    prepared: Option<(Version, HeldState)>,
    refuses: u64,
    told: Vec<Held>,
}

impl Model {
    fn can(&self, version: Version) -> bool {
        self.refuses & 1 << version.0 == 0
    }

    /// It hears which versions there are, does what it can in one report's time, and says what it holds.
    fn report(&mut self, rollout: &Rollout) {
        let Some((active, _)) = rollout.active else { return };
        if self.runs != Some(active) && self.can(active) {
            self.runs = Some(active);
        }
        let wanted = rollout
            .candidate
            .map(|it| it.version)
            .or_else(|| Some(active).filter(|it| self.runs != Some(*it)));
        self.prepared = wanted.filter(|it| self.runs != Some(*it)).map(|version| {
            let state = match self.prepared {
                Some((known, _)) if known == version && self.can(version) => HeldState::Available,
                _ if self.can(version) => HeldState::Building,
                _ => HeldState::Error,
            };
            (version, state)
        });
        let runs = self.runs.map(|version| Held::new(version, HeldState::Active));
        let other = self.prepared.map(|(version, state)| Held::new(version, state));
        self.told = runs.into_iter().chain(other).collect();
    }
}

proptest! {
    #[test]
    fn whatever_happens_all_that_answer_converge_to_the_one_active_version(
        acts in acts(),
        refuses in prop::array::uniform3(0_u64..32),
    ) {
        let mut agents = refuses.map(|refuses| Model {
            presence: Presence::Reporting, runs: None, prepared: None, refuses, told: Vec::new(),
        });
        let (mut rollout, mut now, mut file) = (Rollout::default(), at(0), None);
        let look = |rollout: &mut Rollout, agents: &[Model; 3], now| {
            let seen = agents.iter().map(|it| Seen { presence: it.presence, held: &it.told });
            rollout.look(seen, MINUTE, now)
        };
        for act in acts {
            let before = rollout.clone();
            let step = match act {
                Act::Offer(version) => {
                    file = Some(Version(version));
                    rollout.offer(Version(version), now)
                }
                Act::Report(place) => {
                    agents[place].presence = Presence::Reporting;
                    agents[place].report(&rollout);
                    None
                }
                Act::Presence(place, presence) => {
                    agents[place].presence = presence;
                    None
                }
                Act::Mend(place, version) => {
                    agents[place].refuses ^= 1 << version;
                    None
                }
                Act::Look => look(&mut rollout, &agents, now),
                Act::Force => rollout.force(now).ok(),
                Act::RollBack => rollout.roll_back(None, now).ok(),
                Act::Retry => file.and_then(|file| rollout.retry(file, now).ok()),
                Act::Wait(seconds) => {
                    now = now.plus(seconds * 1_000_000);
                    None
                }
            };
            if let Some(Step::Activated(version)) = step {
                for agent in agents.iter().filter(|it| it.presence != Presence::Away) {
                    let says = |state| agent.told.contains(&Held::new(version, state));
                    prop_assert!(agent.presence == Presence::Reporting);
                    prop_assert!(says(HeldState::Available) || says(HeldState::Active), "{agent:?}");
                }
            }
            let may_change = matches!(step, Some(
                Step::First(_) | Step::Activated(_) | Step::Forced(_) | Step::RolledBack(..)
            ));
            prop_assert!(may_change || before.active == rollout.active, "{step:?}");
            prop_assert!(rollout.needed().count() <= 3);
            let is_known = file.is_none_or(|file| {
                rollout.active.is_some_and(|it| it.0 == file)
                    || rollout.candidate.is_some_and(|it| it.version == file)
                    || rollout.held_back.as_ref().is_some_and(|it| it.version == file)
            });
            prop_assert!(is_known, "what the file says is active, on its way, or held back: {rollout:?}");
        }
        // The agents that are there go on reporting, and everything ends.
        for _ in 0..4 {
            for agent in agents.iter_mut().filter(|it| it.presence == Presence::Reporting) {
                agent.report(&rollout);
            }
            look(&mut rollout, &agents, now);
            now = now.plus(MINUTE);
        }
        prop_assert_eq!(rollout.candidate, None);
        if let Some((active, _)) = rollout.active {
            for agent in agents.iter_mut() {
                agent.report(&rollout);
                prop_assert!(agent.runs == Some(active) || !agent.can(active), "{agent:?}");
            }
        }
    }
}
