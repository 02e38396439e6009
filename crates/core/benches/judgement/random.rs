//! Random numbers that a seed repeats.

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of `seed`, and within it that of `stream`.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed);
        random.0 ^= random.next().wrapping_add(stream).wrapping_mul(0xd134_2543_de82_ef95);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform, above 0 and up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Below `end`, all alike.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((self.unit() * end as f64) as u64).min(end - 1)
    }

    /// True in a share of `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() <= p
    }

    /// How many trials fail before the first that succeeds with probability `p`.
    pub(crate) fn failures(&mut self, p: f64) -> u64 {
        if p >= 1.0 { 0 } else { (self.unit().ln() / (-p).ln_1p()) as u64 }
    }

    /// How many of `n` trials succeed: by the gaps between them, so that it costs by what succeeds.
    pub(crate) fn binomial(&mut self, n: u64, p: f64) -> u64 {
        let mut successes = 0;
        let mut at = self.failures(p);
        while at < n {
            successes += 1;
            at = at.saturating_add(1).saturating_add(self.failures(p));
        }
        successes
    }
}
