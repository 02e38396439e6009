//! Whether an incident comes and goes.

/// So many samples are looked at.
const SAMPLES: u32 = 21;

/// Seconds between two samples.
pub(super) const SAMPLE_SECONDS: u64 = 60;

/// Above this share of changes, in per cent, it flaps; below the other, it does so no more. What Nagios begins with.
const HIGH: f64 = 30.0;
const LOW: f64 = 20.0;

/// The last samples of whether something is lost, and whether that flaps: as Nagios has it (`base/flapping.c`), each of
/// the twenty changes that there can be weighs 0.75, if it is the oldest, to 1.25, if it is the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flap {
    /// The samples, the newest in the lowest bit.
    pub samples: u32,
    /// In which minute the newest was taken.
    pub minute: u64,
    /// Whether it flaps.
    pub is_flapping: bool,
}

impl Flap {
    /// Takes the sample of a minute, if it has none. Minutes that nobody looked at are as the one before.
    pub(super) fn sample(&mut self, minute: u64, is_lost: bool) {
        let missed = minute.saturating_sub(self.minute).min(u64::from(SAMPLES));
        if missed == 0 {
            return;
        }
        for _ in 1..missed {
            self.samples = self.samples << 1 | self.samples & 1;
        }
        self.samples = (self.samples << 1 | u32::from(is_lost)) & ((1 << SAMPLES) - 1);
        self.minute = minute;
        let percent = self.percent();
        self.is_flapping = if self.is_flapping { percent >= LOW } else { percent >= HIGH };
    }

    /// The weighted share of changes, in per cent.
    pub fn percent(&self) -> f64 {
        let changes = self.samples ^ self.samples >> 1;
        let last = SAMPLES - 2;
        let weight = |age: u32| 1.25 - 0.5 * f64::from(age) / f64::from(last);
        let sum: f64 = (0..=last).filter(|age| changes >> age & 1 == 1).map(weight).sum();
        100.0 * sum / f64::from(last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: &[bool]) -> Flap {
        let mut flap = Flap::default();
        (1..).zip(samples).for_each(|(minute, sample)| flap.sample(minute, *sample));
        flap
    }

    #[test]
    fn newer_changes_weigh_more() {
        assert!((after(&[true]).percent() - 6.25).abs() < 1e-9);
        let mut oldest = vec![true; 20];
        assert!((after(&oldest).percent() - 3.75).abs() < 1e-9);
        oldest.push(true);
        assert!(after(&oldest).percent().abs() < 1e-9);
        let all: Vec<bool> = (0..21).map(|minute| minute % 2 == 0).collect();
        assert!((after(&all).percent() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn it_flaps_above_the_high_mark_until_below_the_low_one() {
        let mut flap = Flap::default();
        let mut flapped = Vec::new();
        for minute in 1..=40 {
            flap.sample(minute, minute <= 12 && minute % 4 < 2);
            if flap.is_flapping {
                flapped.push(minute);
            }
        }
        // It changes at 1, 2, 4, 6, 8, 10, 12 and 13. By hand: 28.8 % at 8 and 33.7 % at 10; 21.2 % at 25, when the
        // change of 6 is the oldest that counts, and 17.0 % at 26.
        assert_eq!((flapped.first(), flapped.last()), (Some(&10), Some(&25)), "{flapped:?}");
        let once = [[true; 10], [false; 10]].concat();
        assert!(!after(&once).is_flapping);
    }

    #[test]
    fn a_minute_is_sampled_once_and_those_that_nobody_saw_are_as_before() {
        let mut flap = Flap::default();
        flap.sample(10, true);
        flap.sample(10, false);
        assert_eq!(flap.samples & 1, 1);
        flap.sample(15, false);
        assert_eq!(flap.samples & 0b11_1111, 0b11_1110);
    }
}
