//! What a page needs beyond a window that fires, and what ends an incident.
//!
//! Both are tests of what was judged and lost, and of nothing else. Missing data confirms nothing and clears nothing.

use crate::detect::{Burstiness, Level, Tally, Test, View, WINDOWS};

/// Whether the loss of a window of `seconds` goes on: more than is acceptable is lost in its newest twelfth, at least five
/// seconds. A long window fires for as long as it remembers; this lets go when the loss does.
pub fn is_confirmed<'a>(test: &Test, bank: impl Into<View<'a>>, seconds: u64) -> bool {
    bank.into().newest((seconds / 12).max(5)).loss() > test.acceptable()
}

/// What is to be cleared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// The share of slots that was lost when it paged, 0 to 1.
    pub loss: f64,
    /// How many slots were judged in each second then.
    pub judged_per_second: f64,
    /// How often it came back within the last six hours.
    pub reopened: u32,
}

/// A loss that goes on is seen by as many slots as this over its share, but for one time in a thousand: `ln 1000`.
const HIDDEN_NATS: f64 = 6.9;

/// The share of the slots judged when it paged that must be judged to clear. Where what is lost is no longer measured, what
/// is left looks well.
const JUDGED_SHARE_MIN: f64 = 0.9;

impl Outage {
    /// For how many seconds the loss must be gone: long enough that it cannot have hidden, at least a minute, and twice as long
    /// with each time that it came back, up to sixteen minutes; at most the six hours that a bank holds.
    pub fn clear_seconds(&self) -> u64 {
        let [.., longest] = WINDOWS;
        let hidden = HIDDEN_NATS / (self.judged_per_second * self.loss);
        // From a float the cast saturates, which the bound takes care of.
        (hidden.ceil() as u64).max(60).max(30 << self.reopened.min(5)).min(longest)
    }

    /// Whether it is over: no window of up to [`Self::clear_seconds`] is even suspected, what is lost is acceptable, and about
    /// as much is judged as when it paged.
    pub fn is_clear<'a>(&self, test: &Test, bank: impl Into<View<'a>>) -> bool {
        let bank = bank.into();
        let seconds = self.clear_seconds();
        let tally = bank.newest(seconds);
        tally.judged as f64 >= JUDGED_SHARE_MIN * self.judged_per_second * seconds as f64
            && tally.judged > 0
            && tally.loss() <= test.acceptable()
            && WINDOWS
                .into_iter()
                .take_while(|window| *window <= seconds)
                .all(|window| test.level(window, bank.newest(window)) == Level::Quiet)
    }
}

/// Whether a suspected window stands by itself without the vantage, or the network, that lost most in it: then no burst of one
/// path explains it, and none is waited out. `worst` is what that one had judged and lost of `tally`.
pub fn is_agreed(test: &Test, seconds: u64, tally: Tally, worst: Tally) -> bool {
    let rest = Tally {
        judged: tally.judged.saturating_sub(worst.judged),
        lost: tally.lost.saturating_sub(worst.lost),
    };
    test.level(seconds, rest) >= Level::Suspected
}

/// What of a window was refused, rather than timed out: somebody answered, and said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// Slots.
    pub slots: u64,
    /// Over how many protocols.
    pub protocols: usize,
    /// Over how many protocols anything was judged.
    pub judged_protocols: usize,
}

/// Whether a window of `seconds` is past doubt because every protocol, of two at least, was refused.
///
/// A path that loses packets is silent, and that is what bursts are learnt from; a host that answers for all its ports says that
/// they are closed. So refusals are tested as if they were independent.
pub fn is_refused(test: &Test, seconds: u64, judged: u64, refusals: Refusals) -> bool {
    refusals.protocols >= 2
        && refusals.protocols == refusals.judged_protocols
        && test.with(Burstiness::fixed(1.0)).level(seconds, Tally { judged, lost: refusals.slots })
            == Level::Firing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Second,
        detect::{Bank, Budget},
    };

    fn test(burstiness: Burstiness) -> Test {
        Test::new("1%".parse().unwrap(), Budget::default(), burstiness)
    }

    /// A bank of seconds, the oldest first.
    fn bank(seconds: impl IntoIterator<Item = (u64, u64)>) -> Bank {
        let mut bank = Bank::new(Second(1_000_000));
        for (judged, lost) in seconds {
            assert!(bank.set(bank.until(), Tally { judged, lost }));
        }
        bank
    }

    fn repeated(times: usize, judged: u64, lost: u64) -> impl Iterator<Item = (u64, u64)> {
        std::iter::repeat_n((judged, lost), times)
    }

    #[test]
    fn a_loss_that_is_over_is_not_confirmed() {
        let test = test(Burstiness::fixed(1.0));
        for (quiet_since, seconds, expected) in
            [(0, 60, true), (4, 60, true), (5, 60, false), (5, 120, true), (10, 120, false)]
        {
            let bank = bank(repeated(60, 6, 0).chain(repeated(20, 6, 6)).chain(repeated(quiet_since, 6, 0)));
            assert_eq!(test.judge(&bank).level, Level::Firing);
            assert_eq!(
                is_confirmed(&test, &bank, seconds),
                expected,
                "quiet for {quiet_since} s, window of {seconds} s"
            );
        }
        assert!(
            !is_confirmed(&test, &bank(repeated(60, 6, 6).chain(repeated(5, 0, 0))), 60),
            "nothing was judged"
        );
    }

    #[test]
    fn how_long_a_loss_must_be_gone() {
        let table = [
            (1.0, 6.0, 0, 60),
            (0.02, 1.0, 0, 345),
            (1.0, 6.0, 1, 60),
            (1.0, 6.0, 2, 120),
            (1.0, 6.0, 9, 960),
            (0.000_01, 1.0, 0, 21_600),
            (0.0, 0.0, 0, 21_600),
        ];
        for (loss, judged_per_second, reopened, expected) in table {
            let outage = Outage { loss, judged_per_second, reopened };
            assert_eq!(outage.clear_seconds(), expected, "{outage:?}");
        }
    }

    #[test]
    fn an_outage_ends_when_the_loss_does_and_not_when_the_data_do() {
        let test = test(Burstiness::fixed(1.0));
        let outage = Outage { loss: 1.0, judged_per_second: 6.0, reopened: 0 };
        let lost = || repeated(100, 6, 0).chain(repeated(100, 6, 6));
        for (what, then, seconds, expected) in [
            ("still within the minute", (6, 0), 59, false),
            ("a minute without loss", (6, 0), 60, true),
            ("as much as is acceptable is still lost", (600, 6), 60, true),
            ("more than is acceptable is still lost", (600, 7), 60, false),
            ("nothing is measured any more", (0, 0), 3_600, false),
            ("only what is well is measured", (5, 0), 3_600, false),
        ] {
            let bank = bank(lost().chain(repeated(seconds, then.0, then.1)));
            assert_eq!(outage.is_clear(&test, &bank), expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn absence_of_data_never_clears(
            seconds in prop::collection::vec((0u64..20, 0u64..20), 0..400),
            loss in 0.0..1.0f64, judged_per_second in 0.0..50.0f64, reopened in 0u32..9,
        ) {
            let outage = Outage { loss, judged_per_second, reopened };
            let seconds = seconds.into_iter().map(|(delivered, lost)| (delivered + lost, lost));
            let mut silent = bank(seconds);
            prop_assert!(silent.set(silent.until().plus(21_600), Tally::default()));
            prop_assert!(!outage.is_clear(&test(Burstiness::fixed(1.0)), &silent));
        }
    }

    #[test]
    fn two_paths_that_lose_are_no_burst_of_one() {
        let test = test(Burstiness::learnt(3.0, 10.0));
        // A minute of two vantages of three series each.
        let tally = |judged, lost| Tally { judged, lost };
        assert_eq!(test.level(60, tally(360, 120)), Level::Suspected);
        assert!(!is_agreed(&test, 60, tally(360, 120), tally(180, 120)), "all lost from one");
        assert!(is_agreed(&test, 60, tally(360, 120), tally(180, 60)), "as much from either");
    }

    #[test]
    fn every_protocol_refused_is_past_doubt() {
        let test = test(Burstiness::learnt(19.0, 10.0));
        let refusals = |slots, protocols| Refusals { slots, protocols, judged_protocols: 6 };
        assert_eq!(test.level(2, Tally { judged: 12, lost: 12 }), Level::Quiet);
        assert!(is_refused(&test, 2, 12, refusals(12, 6)));
        assert!(!is_refused(&test, 2, 12, refusals(12, 5)), "one protocol is well");
        assert!(!is_refused(&test, 2, 12, refusals(3, 6)), "too few");
        let alone = Refusals { slots: 60, protocols: 1, judged_protocols: 1 };
        assert!(!is_refused(&test, 60, 60, alone), "one port that is closed is no host");
    }
}
