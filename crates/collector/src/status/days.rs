//! What was measured of each day: the bars of the page, and their figures.
//!
//! *Delivery* is what arrived of what was measured. *Measured* is what was measured of what was planned: what nobody saw is
//! never taken for good. *Uptime*, which other pages show, is the conventional figure: minutes in which half or more was lost
//! count whole as down, those in which more was lost than is acceptable three tenths, all others not at all.
//!
//! No figure says 100 % unless every planned second was measured and delivered: it is rounded down, and where something was
//! not measured or was lost it is 99.999 % at most, also where what was lost is acceptable and counts as no downtime.

use aviary_core::{Window, verdict::Policy};
use serde::Serialize;

/// A share in thousandths of one per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Percent(u32);

impl Percent {
    const WHOLE: u32 = 100_000;

    /// `part` of `whole`, rounded down; none where there is no whole. What is not `complete` is less than all.
    pub(crate) fn of(part: u64, whole: u64, complete: bool) -> Option<Self> {
        let share = (u128::from(part.min(whole)) * u128::from(Self::WHOLE)).checked_div(u128::from(whole))?;
        // At most the whole.
        let share = share as u32;
        Some(Self(if complete { share } else { share.min(Self::WHOLE - 1) }))
    }

    /// As programs have it: per cent with three decimals.
    pub(crate) fn number(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }

    /// As people read it.
    pub(crate) fn said(self) -> String {
        match self.0 {
            Self::WHOLE => "100 %".to_owned(),
            share => format!("{}.{:03} %", share / 1_000, share % 1_000),
        }
    }
}

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.number())
    }
}

/// What was counted of some seconds: planned, measured of them, and delivered of those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) planned: u64,
    pub(crate) measured: u64,
    pub(crate) delivered: u64,
}

impl From<Window> for Counted {
    fn from(window: Window) -> Self {
        Self { planned: window.scheduled, measured: window.judged(), delivered: window.delivered }
    }
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.planned += other.planned;
        self.measured += other.measured;
        self.delivered += other.delivered;
    }
}

impl Counted {
    pub(crate) const fn lost(self) -> u64 {
        self.measured - self.delivered
    }

    pub(crate) const fn unmeasured(self) -> u64 {
        self.planned - self.measured
    }

    /// What arrived of what was measured; none where nothing was.
    pub(crate) fn delivery(self) -> Option<Percent> {
        Percent::of(self.delivered, self.measured, self.measured == self.planned)
    }

    /// What was measured of what was planned; none where nothing was.
    pub(crate) fn measured_fraction(self) -> Option<Percent> {
        Percent::of(self.measured, self.planned, true)
    }

    /// In a few words.
    pub(crate) fn said(self) -> String {
        if self.planned == 0 {
            return "no data".to_owned();
        }
        let Some(delivery) = self.delivery() else { return "nothing was measured".to_owned() };
        let unmeasured = match Percent::of(self.unmeasured(), self.planned, true) {
            Some(share) if self.unmeasured() > 0 => {
                // Little is not nothing.
                let share = share.max(Percent(1));
                format!(", {} not measured", share.said())
            }
            _ => String::new(),
        };
        match self.lost() {
            0 if unmeasured.is_empty() => "100 % delivered".to_owned(),
            0 => format!("nothing lost of what was measured{unmeasured}"),
            _ => format!("{} delivered{unmeasured}", delivery.said()),
        }
    }
}

/// How much may be lost of what was judged over a protocol, in millionths of a slot: by the protocol's own figure, else by the
/// service's. What several protocols may lose is added.
pub(crate) fn may_lose(policy: &Policy, protocol: &str, judged: u64) -> u128 {
    let of_protocol = protocol.parse().ok().and_then(|protocol| policy.by_protocol.get(&protocol));
    let acceptable = of_protocol.copied().unwrap_or(policy.acceptable_loss);
    u128::from(judged) * u128::from(acceptable.parts_per_million())
}

/// How long something was down, by the convention of status pages, in millionths of a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Down {
    /// As much of the minutes as was measured.
    pub(crate) of: u64,
    /// What of that was down, weighted; rounded up.
    pub(crate) down: u64,
}

impl std::ops::AddAssign for Down {
    fn add_assign(&mut self, other: Self) {
        self.of += other.of;
        self.down += other.down;
    }
}

impl Down {
    const MINUTE: u128 = 1_000_000;

    /// Of one minute, of which so many millionths of a slot may be lost; or of as much of `minutes` as was measured where
    /// nothing was lost.
    pub(crate) fn of(counted: Counted, minutes: u64, may_lose: u128) -> Self {
        if counted.planned == 0 {
            return Self::default();
        }
        let lost = u128::from(counted.lost()) * 1_000_000;
        let tenths = if lost == 0 {
            0
        } else if counted.lost() * 2 >= counted.measured {
            10
        } else if lost > may_lose {
            3
        } else {
            0
        };
        let minutes = u128::from(minutes) * Self::MINUTE * u128::from(counted.measured);
        let planned = u128::from(counted.planned);
        let down = (minutes * tenths).div_ceil(planned * 10);
        // What is down is part of it, however it is rounded; and no more is measured than was planned.
        let of = (minutes / planned).max(down);
        Self { of: of as u64, down: down as u64 }
    }

    /// The conventional figure of the time in which so much was counted; none where nothing was measured.
    pub(crate) fn uptime(self, counted: Counted) -> Option<Percent> {
        Percent::of(self.of - self.down.min(self.of), self.of, counted.delivered == counted.planned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn counted(planned: u64, measured: u64, delivered: u64) -> Counted {
        Counted { planned, measured, delivered }
    }

    #[test]
    fn a_day_says_what_was_lost_and_what_nobody_saw() {
        let table = [
            (counted(0, 0, 0), "no data"),
            (counted(86_400, 86_400, 86_400), "100 % delivered"),
            (counted(86_400, 0, 0), "nothing was measured"),
            (counted(86_400, 86_400, 86_399), "99.998 % delivered"),
            (counted(8_640_000, 8_640_000, 8_639_999), "99.999 % delivered"),
            (counted(86_400, 43_200, 43_200), "nothing lost of what was measured, 50.000 % not measured"),
            (
                counted(8_640_000, 8_639_999, 8_639_999),
                "nothing lost of what was measured, 0.001 % not measured",
            ),
            (counted(100, 50, 25), "50.000 % delivered, 50.000 % not measured"),
            (counted(100, 100, 0), "0.000 % delivered"),
        ];
        for (counted, expected) in table {
            assert_eq!(counted.said(), expected, "{counted:?}");
        }
        assert_eq!(counted(10, 5, 5).delivery().unwrap().number(), 99.999);
        assert_eq!(counted(10, 0, 0).delivery(), None);
    }

    #[test]
    fn minutes_are_down_as_other_pages_count_them() {
        let policy = Policy::default();
        let table = [
            (counted(60, 60, 60), (1_000_000, 0)),
            (counted(60, 60, 30), (1_000_000, 1_000_000)),
            (counted(60, 60, 31), (1_000_000, 300_000)),
            (counted(6_000, 6_000, 5_999), (1_000_000, 0)),
            (counted(60, 0, 0), (0, 0)),
            (counted(0, 0, 0), (0, 0)),
            (counted(60, 30, 0), (500_000, 500_000)),
            // What does not come out even is down the longer for it, and never nothing.
            (counted(60, 30, 20), (500_000, 150_000)),
            (counted(60, 5, 4), (83_333, 25_000)),
            (counted(60, 1, 0), (16_667, 16_667)),
            (counted(70, 5, 3), (71_428, 21_429)),
        ];
        for (counted, (of, down)) in table {
            let may_lose = may_lose(&policy, "tcp", counted.measured);
            assert_eq!(Down::of(counted, 1, may_lose), Down { of, down }, "{counted:?}");
        }
        let whole = Down { of: 1_440_000_000, down: 0 };
        let table = [
            (counted(86_400, 86_400, 86_400), "100 %"),
            (counted(86_400, 86_399, 86_399), "99.999 %"),
            // Acceptable, and lost all the same.
            (counted(86_400, 86_400, 86_399), "99.999 %"),
        ];
        for (counted, expected) in table {
            assert_eq!(whole.uptime(counted).unwrap().said(), expected, "{counted:?}");
        }
        assert_eq!(Down::default().uptime(Counted::default()), None);
    }

    proptest! {
        /// 100 % is said of nothing but what was all measured and all delivered.
        #[test]
        fn nothing_is_rounded_up_to_all(planned in 0u64..1 << 40, unmeasured in 0u64..1 << 40, lost in 0u64..1 << 40) {
            let measured = planned.saturating_sub(unmeasured);
            let it = counted(planned, measured, measured.saturating_sub(lost));
            let is_whole = planned > 0 && it.delivered == planned;
            prop_assert_eq!(it.delivery().is_some_and(|it| it.said() == "100 %"), is_whole);
            prop_assert_eq!(it.said().starts_with("100 % "), is_whole);
            prop_assert_eq!(it.delivery().is_some_and(|it| it.number() >= 100.0), is_whole);
            let fraction = it.measured_fraction();
            prop_assert_eq!(fraction.is_some_and(|it| it.said() == "100 %"), planned > 0 && measured == planned);
            let down = Down::of(it, 1, may_lose(&Policy::default(), "tcp", it.measured));
            let is_up = down.uptime(it).is_some_and(|it| it.said() == "100 %");
            prop_assert!(!is_up || is_whole);
        }

        /// Little that was not measured is still said.
        #[test]
        fn what_nobody_saw_is_always_said(planned in 2u64..1 << 40, unmeasured in 1u64..1 << 40) {
            let it = counted(planned, planned - unmeasured.min(planned), planned - unmeasured.min(planned));
            prop_assert!(it.said().contains("measured"), "{}", it.said());
            prop_assert!(!it.said().contains(" 0.000 % not"), "{}", it.said());
        }
    }
}
