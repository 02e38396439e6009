//! What a group lost over fourteen spans at once.
//!
//! Seconds are kept for two minutes; beyond that, a window of W seconds is sixty bins of W / 60 seconds on absolute
//! boundaries, the newest of which is being filled. So a window ends with the newest second, spans between 59 and 60 of its
//! bins, and begins where every collector's begins.
//!
//! A bank is a function of the ledger alone. Each second is *set* and never added to: telling the same again changes
//! nothing, and what comes late replaces what was known, for as long as the bank holds that second by itself. For what is
//! older, the bins that hold it are read anew from the ledger. A difference would have to be told exactly once.

use std::ops::{Add, AddAssign, Range};

use crate::{Second, Span, Window};

/// The lengths of the windows, in seconds.
pub const WINDOWS: [u64; 14] = [1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600];

/// What was judged of a group in some span, and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Slots delivered or lost.
    pub judged: u64,
    /// Slots lost.
    pub lost: u64,
}

impl Tally {
    /// Lost as a share of what was judged; 0 where nothing was.
    pub fn loss(&self) -> f64 {
        if self.judged == 0 { 0.0 } else { self.lost as f64 / self.judged as f64 }
    }
}

impl Tally {
    /// What is left without a part of it.
    const fn without(self, part: Self) -> Self {
        let (judged, lost) = (self.judged.saturating_sub(part.judged), self.lost.saturating_sub(part.lost));
        Self { judged, lost }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl From<Window> for Tally {
    fn from(window: Window) -> Self {
        Self { judged: window.judged(), lost: window.lost }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.judged += other.judged;
        self.lost += other.lost;
    }
}

/// Bins of one width: the newest so many of them.
struct Tier {
    /// Seconds in a bin.
    step: u64,
    /// Where its bins lie among those of all tiers.
    bins: Range<usize>,
}

impl Tier {
    fn count(&self) -> u64 {
        self.bins.len() as u64
    }

    /// The number of the bin that holds `second`, counted from the epoch.
    const fn number(&self, second: Second) -> u64 {
        second.0 / self.step
    }

    /// Where the bin of this number lies.
    fn place(&self, number: u64) -> usize {
        self.bins.start + (number % self.count()) as usize
    }
}

const TIERS: [Tier; 7] = [
    Tier { step: 1, bins: 0..SECONDS },
    Tier { step: 5, bins: SECONDS..SECONDS + 60 },
    Tier { step: 10, bins: SECONDS + 60..SECONDS + 120 },
    Tier { step: 30, bins: SECONDS + 120..SECONDS + 180 },
    Tier { step: 60, bins: SECONDS + 180..SECONDS + 240 },
    Tier { step: 120, bins: SECONDS + 240..SECONDS + 300 },
    Tier { step: 360, bins: SECONDS + 300..BINS },
];
const SECONDS: usize = 120;
/// So many seconds are added at once: a block of the ledger.
const ADDED_MAX: usize = 64;
const BINS: usize = SECONDS + 360;

/// Judged and lost of each bin, in the narrower of two widths that holds them: that of most groups is four bytes a bin.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bins {
    Narrow(Box<[[u16; 2]; BINS]>),
    Wide(Box<[[u32; 2]; BINS]>),
}

impl Bins {
    fn get(&self, place: usize) -> Tally {
        self.sum(place..place + 1)
    }

    fn sum(&self, places: Range<usize>) -> Tally {
        fn sum<T: Copy + Into<u64>>(bins: &[[T; 2]]) -> Tally {
            let mut tally = Tally::default();
            for [judged, lost] in bins {
                tally += Tally { judged: (*judged).into(), lost: (*lost).into() };
            }
            tally
        }
        // Sums of 120 bins of u32 fit u64.
        match self {
            Self::Narrow(bins) => sum(&bins[places]),
            Self::Wide(bins) => sum(&bins[places]),
        }
    }

    fn set(&mut self, place: usize, tally: Tally) {
        if let Self::Narrow(bins) = self {
            match (tally.judged.try_into(), tally.lost.try_into()) {
                (Ok(judged), Ok(lost)) => return bins[place] = [judged, lost],
                _ => *self = Self::Wide(Box::new(bins.map(|bin| bin.map(u32::from)))),
            }
        }
        if let Self::Wide(bins) = self {
            // Six minutes of ten million series.
            let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            bins[place] = [narrow(tally.judged), narrow(tally.lost)];
        }
    }
}

/// The windows of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    bins: Bins,
    /// The sums of all bins of each of the wider tiers: windows that are as long as theirs are asked for each second.
    sums: [Tally; TIERS.len() - 1],
    until: Second,
}

impl Bank {
    /// The newest so many seconds can be [`set`](Self::set); what is older, up to six hours, is [`reread`](Self::reread).
    pub const REACH: u64 = SECONDS as u64;

    /// What most banks hold on the heap; that of a group of some hundred series and more is twice as large.
    pub const BYTES: usize = size_of::<[[u16; 2]; BINS]>();

    /// A bank in which nothing was judged before `until`.
    pub fn new(until: Second) -> Self {
        Self { bins: Bins::Narrow(Box::new([[0; 2]; BINS])), sums: [Tally::default(); _], until }
    }

    /// The bank of the seconds before `until`, where `sums` tells what the ledger or the history knows of a span: at a start.
    /// The longer ago, the coarser the spans that are asked for, up to six minutes.
    pub fn rebuilt(until: Second, sums: impl FnMut(Span) -> Tally) -> Self {
        let mut bank = Self::new(until);
        bank.reread(Span::new(Second(0), until), sums);
        bank
    }

    /// The first second that is not yet held.
    pub const fn until(&self) -> Second {
        self.until
    }

    /// Sets what was judged and lost in `second`, whatever was set before. Seconds between the newest held and a newer one
    /// have nothing judged until they are set.
    ///
    /// False, and without effect, if the second is older than [`Self::REACH`]: then [`Self::reread`] is for it.
    #[must_use]
    pub fn set(&mut self, second: Second, tally: Tally) -> bool {
        if second >= self.until {
            self.advance(second.plus(1));
        } else if second.plus(Self::REACH) < self.until {
            return false;
        }
        let [seconds, coarser @ ..] = &TIERS;
        let place = seconds.place(second.0);
        let before = self.bins.get(place);
        if before == tally {
            return true;
        }
        self.bins.set(place, tally);
        for (index, tier) in (1..).zip(coarser) {
            let place = tier.place(tier.number(second));
            // The bin holds what its seconds hold, `before` with it.
            self.put(index, place, self.bins.get(place).without(before) + tally);
        }
        true
    }

    /// Sets a bin of a tier.
    fn put(&mut self, tier: usize, place: usize, tally: Tally) {
        let before = self.bins.get(place);
        self.bins.set(place, tally);
        if let Some(sum) = tier.checked_sub(1).map(|coarser| &mut self.sums[coarser]) {
            *sum = sum.without(before) + self.bins.get(place);
        }
    }

    /// Adds what was judged and lost in each second from `from` on, of which nothing was held yet: of a bank that is made
    /// of a ledger, block by block. What is beyond its six hours, or not before its end, is left out.
    pub fn add(&mut self, from: Second, seconds: &[Tally]) {
        let span = Span::new(from, from.plus(seconds.len() as u64).min(self.until));
        let mut sums = [Tally::default(); ADDED_MAX + 1];
        for (place, tally) in seconds.iter().enumerate() {
            sums[place + 1] = sums[place] + *tally;
        }
        let until = |second: Second| sums[(second.0 - from.0) as usize];
        self.add_bins(span, |part| until(part.until).without(until(part.from)));
    }

    /// Adds what was judged and lost in `span` to the bins that hold all of it, where nothing of it was held yet.
    pub fn add_span(&mut self, span: Span, tally: Tally) {
        self.add_bins(span, |part| if part == span { tally } else { Tally::default() });
    }

    fn add_bins(&mut self, span: Span, sum: impl Fn(Span) -> Tally) {
        if span.is_empty() {
            return;
        }
        for (index, tier) in TIERS.iter().enumerate() {
            let newest = tier.number(self.until.minus(1));
            let first = tier.number(span.from).max((newest + 1).saturating_sub(tier.count()));
            for number in first..=tier.number(span.until.minus(1)) {
                let bin = Span::new(Second(number * tier.step), Second((number + 1) * tier.step));
                let place = tier.place(number);
                self.put(index, place, self.bins.get(place) + sum(bin.intersection(span)));
            }
        }
    }

    /// Reads anew each bin that holds a second of `changed`, from `sums`, which tells what was judged and lost in a span.
    pub fn reread(&mut self, changed: Span, mut sums: impl FnMut(Span) -> Tally) {
        let until = changed.until.min(self.until);
        if changed.from >= until {
            return;
        }
        for (index, tier) in TIERS.iter().enumerate() {
            let newest = tier.number(self.until.minus(1));
            let first = tier.number(changed.from).max((newest + 1).saturating_sub(tier.count()));
            for number in first..=tier.number(until.minus(1)) {
                let span = Span::new(Second(number * tier.step), Second((number + 1) * tier.step));
                let held = span.intersection(Span::new(Second(0), self.until));
                self.put(index, tier.place(number), sums(held));
            }
        }
    }

    /// What was judged and lost in about the newest `seconds`: exactly, up to two minutes; beyond, to the bin.
    pub fn newest(&self, seconds: u64) -> Tally {
        let index = TIERS.iter().position(|tier| tier.step * tier.count() >= seconds);
        let index = index.unwrap_or(TIERS.len() - 1);
        let tier = &TIERS[index];
        if index > 0 && seconds.div_ceil(tier.step) >= tier.count() {
            return self.sums[index - 1];
        }
        let count = seconds.div_ceil(tier.step).min(tier.count()) as usize;
        let Range { start, end } = tier.bins;
        let newest = tier.place(tier.number(self.until.minus(1))) + 1;
        let wrapped = count.saturating_sub(newest - start);
        let mut tally = self.bins.sum(newest - (count - wrapped)..newest);
        tally += self.bins.sum(end - wrapped..end);
        tally
    }

    /// The bank without what it holds from `until` on.
    pub const fn before(&self, until: Second) -> View<'_> {
        View { bank: self, left_out: self.until.0.saturating_sub(until.0) }
    }

    /// What was judged and lost in `second`; nothing where that is not held by itself.
    pub fn second(&self, second: Second) -> Tally {
        let is_held = second < self.until && second.plus(Self::REACH) >= self.until;
        if is_held { self.bins.get(TIERS[0].place(second.0)) } else { Tally::default() }
    }

    /// Sets `until`, and makes room for the bins that begin before it.
    fn advance(&mut self, until: Second) {
        for (index, tier) in TIERS.iter().enumerate() {
            let newest = tier.number(until.minus(1));
            let known = tier.number(self.until.minus(1)).max(newest.saturating_sub(tier.count()));
            for number in known + 1..=newest {
                self.put(index, tier.place(number), Tally::default());
            }
        }
        self.until = until;
    }
}

/// A [`Bank`] without its newest seconds: what of them is lost may be known later than what is delivered.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    bank: &'a Bank,
    left_out: u64,
}

impl<'a> From<&'a Bank> for View<'a> {
    fn from(bank: &'a Bank) -> Self {
        bank.before(bank.until)
    }
}

impl View<'_> {
    /// The newest so many seconds are seen one by one.
    pub const fn reach(&self) -> u64 {
        Bank::REACH.saturating_sub(self.left_out)
    }

    /// The first second that is not seen.
    pub const fn until(&self) -> Second {
        self.bank.until.minus(self.left_out)
    }

    /// What was judged and lost in about the newest `seconds`, as [`Bank::newest`] has it.
    pub fn newest(&self, seconds: u64) -> Tally {
        if self.left_out == 0 {
            return self.bank.newest(seconds);
        }
        self.bank.newest(seconds + self.left_out).without(self.bank.newest(self.left_out))
    }

    /// What was judged and lost in `second`, if that is seen, as [`Bank::second`] has it.
    pub fn second(&self, second: Second) -> Tally {
        if second < self.until() { self.bank.second(second) } else { Tally::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What a ledger knows, second by second.
    #[derive(Default)]
    struct Known(BTreeMap<Second, Tally>);

    impl Known {
        fn sum(&self, span: Span) -> Tally {
            let mut sum = Tally::default();
            self.0.range(span.from..span.until).for_each(|(_, tally)| sum += *tally);
            sum
        }
    }

    fn tally() -> impl Strategy<Value = Tally> {
        let counts = prop_oneof![9 => 0u64..300, 1 => 0u64..100_000];
        (counts.clone(), counts).prop_map(|(delivered, lost)| Tally { judged: delivered + lost, lost })
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_is_the_bank_made_from_scratch(
            told in prop::collection::vec((0u64..30_000, tally(), 1usize..3), 1..80),
            then in prop::collection::vec((0u64..200, tally()), 1..40),
        ) {
            let (mut known, mut bank) = (Known::default(), Bank::new(Second(100_000)));
            let then = then.into_iter().map(|(ago, tally)| (Second(130_000 - ago), tally, 1));
            let told = told.into_iter().map(|(offset, tally, times)| (Second(100_000 + offset), tally, times));
            for (second, tally, times) in told.chain(then) {
                known.0.insert(second, tally);
                for _ in 0..times {
                    if !bank.set(second, tally) {
                        bank.reread(Span::new(second, second.plus(1)), |span| known.sum(span));
                    }
                }
            }
            let rebuilt = Bank::rebuilt(bank.until(), |span| known.sum(span));
            for seconds in WINDOWS.into_iter().chain([5, 10, 25, 50, 150]) {
                prop_assert_eq!(bank.newest(seconds), rebuilt.newest(seconds), "{} s", seconds);
            }
            prop_assert!((0..BINS).all(|place| bank.bins.get(place) == rebuilt.bins.get(place)));
            let mut added = Bank::new(bank.until());
            for block in bank.until().0 / 64 - 400..=bank.until().0 / 64 {
                let seconds: Vec<Tally> = (block * 64..block * 64 + 64)
                    .map(|second| known.sum(Span::new(Second(second), Second(second + 1))))
                    .collect();
                added.add(Second(block * 64), &seconds);
            }
            prop_assert!((0..BINS).all(|place| bank.bins.get(place) == added.bins.get(place)));
            prop_assert_eq!((added.sums, rebuilt.sums), (bank.sums, bank.sums));
        }

        #[test]
        fn a_window_is_the_sum_of_its_seconds(until in 25_000u64..60_000, lost in prop::collection::vec(0u64..22_000, 0..60)) {
            let known = Known(lost.iter().map(|ago| (Second(until - 1 - ago), Tally { judged: 3, lost: 1 })).collect());
            let bank = Bank::rebuilt(Second(until), |span| known.sum(span));
            for seconds in WINDOWS {
                let step = if seconds <= 120 { 1 } else { seconds / 60 };
                let from = (until - 1) / step * step + step - seconds;
                prop_assert_eq!(bank.newest(seconds), known.sum(Span::new(Second(from), Second(until))), "{} s", seconds);
            }
        }
    }

    #[test]
    fn a_span_is_added_to_the_bins_that_hold_it() {
        let mut bank = Bank::new(Second(7_200));
        bank.add_span(Span::new(Second(6_900), Second(6_930)), Tally { judged: 180, lost: 3 });
        bank.add_span(Span::new(Second(7_170), Second(7_200)), Tally { judged: 180, lost: 1 });
        let lost = |seconds| bank.newest(seconds).lost;
        assert_eq!([600, 1_800, 3_600, 21_600].map(lost), [0, 4, 4, 4], "of less than it nothing is known");
        assert_eq!(bank.newest(3_600).judged, 360);
    }

    #[test]
    fn the_bins_hold_what_a_large_group_loses() {
        let mut bank = Bank::new(Second(1_000));
        for second in 1_000..1_400 {
            assert!(bank.set(Second(second), Tally { judged: 100_000, lost: 1 }));
        }
        assert_eq!(bank.newest(60), Tally { judged: 6_000_000, lost: 60 });
        assert_eq!(bank.newest(21_600), Tally { judged: 40_000_000, lost: 400 });
    }

    #[test]
    fn a_group_costs_two_kibibytes() {
        assert!(Bank::BYTES + size_of::<Bank>() <= 2_048);
    }
}
