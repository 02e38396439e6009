//! Histograms of phase timings: fixed logarithmic buckets, so that any two can be merged.

/// Eight buckets an octave: a value is known to within 12.5 %.
const SUB_BITS: u32 = 3;

/// The first value that has no bucket of its own any more: 2^21 us, twice the deadline.
const VALUE_BITS: u32 = 21;

/// How many buckets there are; the last takes everything from about two seconds on.
pub const BUCKETS: usize = (((VALUE_BITS - SUB_BITS + 1) << SUB_BITS) + 1) as usize;

/// The bucket of a duration of `micros` microseconds.
pub const fn bucket(micros: u32) -> usize {
    if micros >> VALUE_BITS != 0 {
        return BUCKETS - 1;
    }
    if micros < 1 << SUB_BITS {
        return micros as usize;
    }
    let octave = micros.ilog2() - SUB_BITS;
    (((octave + 1) << SUB_BITS) + ((micros >> octave) & ((1 << SUB_BITS) - 1))) as usize
}

/// The least number of microseconds that falls into `bucket`.
pub const fn lower_bound(bucket: usize) -> u32 {
    let bucket = bucket as u32;
    if bucket < 1 << SUB_BITS {
        return bucket;
    }
    let octave = (bucket >> SUB_BITS) - 1;
    ((1 << SUB_BITS) + (bucket & ((1 << SUB_BITS) - 1))) << octave
}

/// Counts of durations by [`bucket`]; they do not overflow within the life of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, micros: u32) {
        self.add(bucket(micros), 1);
    }

    /// Counts `count` durations of `bucket`; a bucket that does not exist counts as the last.
    pub fn add(&mut self, bucket: usize, count: u64) {
        let counter = &mut self.counts[bucket.min(BUCKETS - 1)];
        *counter = counter.saturating_add(count);
    }

    /// Merges a later or earlier state of the same histogram: the greater count of each bucket.
    ///
    /// A histogram only grows, so the greater is the newer, and a state that arrives twice or late changes nothing.
    pub fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// The buckets that are not empty, with their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The lower bound, in microseconds, of the bucket in which the `quantile` (0 to 1) lies; `None` of nothing.
    pub fn quantile(&self, quantile: f64) -> Option<u32> {
        let rank = (quantile.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.buckets().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| lower_bound(bucket))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_to_an_eighth(micros in 0u32..1 << VALUE_BITS) {
            let lower = lower_bound(bucket(micros));
            let upper = lower_bound(bucket(micros) + 1);
            prop_assert!(lower <= micros && micros < upper);
            prop_assert!(upper - lower <= 1.max(lower / 8));
        }
    }

    #[test]
    fn buckets_cover_everything_in_order() {
        assert!((1..BUCKETS).all(|index| lower_bound(index - 1) < lower_bound(index)));
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), 0);
    }

    #[test]
    fn joining_states_of_one_histogram_is_idempotent() {
        let mut early = Histogram::default();
        early.record(70);
        let mut late = early.clone();
        late.record(70);
        late.record(900_000);
        let mut merged = late.clone();
        merged.join(&early);
        merged.join(&late);
        assert_eq!(merged, late);
        assert_eq!((merged.count(), merged.quantile(0.5)), (3, Some(lower_bound(bucket(70)))));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
