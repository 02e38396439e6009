//! The live table of slots, per series and second, and the sums over it.
//!
//! Four bit planes hold 64 seconds of a series in one half of a cache line; the planes of all series for the same 64
//! seconds lie side by side, so that summing a group reads memory in one direction and a window is a popcount.

pub mod by_second;

use std::collections::BTreeMap;

use crate::{
    mark::{Mark, Sender},
    time::{Second, Span},
    window::{Proof, Window},
};

/// A series' place in the ledger and the catalog, given out in order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

impl SeriesId {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

const BLOCK_SECONDS: u64 = 64;
const BLOCKS: u64 = 16;

/// How many seconds before the newest are always held. Sixteen blocks are 124 seconds more: the block that is being
/// filled, and what agents with a clock a little ahead may report.
pub const LIVE_SECONDS: u64 = 900;

/// The four bits of 64 slots of one series, as planes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(32))]
struct Planes([u64; 4]);

impl Planes {
    fn mark(&self, bit: u32) -> Mark {
        let bits = self.0.iter().rev().fold(0, |bits, plane| bits << 1 | (plane >> bit & 1) as u8);
        Mark::from_bits(bits)
    }

    fn set(&mut self, bit: u32, mark: Mark) {
        for (index, plane) in self.0.iter_mut().enumerate() {
            *plane = *plane & !(1 << bit) | u64::from(mark.bits() >> index & 1) << bit;
        }
    }

    fn is_unknown(&self, mask: u64) -> bool {
        self.0.iter().all(|plane| plane & mask == 0)
    }

    /// Sets every slot of `mask`, all of which are unknown.
    fn fill(&mut self, mask: u64, mark: Mark) {
        for (index, plane) in self.0.iter_mut().enumerate() {
            *plane |= if mark.bits() >> index & 1 == 1 { mask } else { 0 };
        }
    }
}

/// The planes of all series for the same 64 seconds.
struct Block {
    /// The block's place in time: its first second divided by 64.
    number: u64,
    planes: Vec<Planes>,
}

struct Life {
    /// From its first full slot to its removal.
    span: Span,
    /// The first second after the last that was told by a sender.
    told_until: Second,
    proof: Proof,
    is_paused: bool,
}

impl Life {
    /// What was told of a series is part of its life, also where its removal was told: a sender that goes on is
    /// counted and not hidden.
    fn span(&self) -> Span {
        Span::new(self.span.from, self.span.until.max(self.told_until))
    }
}

/// When a series is scheduled and what shows its delivery, as a ledger is kept and made anew of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLife {
    /// From its first full slot to its removal.
    pub span: Span,
    /// The first second after the last that was told by a sender.
    pub told_until: Second,
    /// What shows delivery.
    pub proof: Proof,
    /// Where it was not to be probed, in order and apart.
    pub pauses: Vec<Span>,
}

/// The bits of 64 slots of a series: one word for each of the four bits of [`Mark::bits`], lowest first.
pub type KeptSlots = [u64; 4];

/// A slot that the ledger does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// Older than the live seconds.
    #[error("second {second} is before {oldest}, the oldest that is held")]
    TooOld {
        /// The second asked for.
        second: Second,
        /// The oldest second that is held.
        oldest: Second,
    },
    /// Later than the newest second that time has reached.
    #[error("second {second} is not before {until}, which time has not reached")]
    TooNew {
        /// The second asked for.
        second: Second,
        /// The first second that is not yet held.
        until: Second,
    },
}

/// The live table of slots: the last [`LIVE_SECONDS`] seconds of every series, four bits a slot.
///
/// Every change is a [`Mark::join`], so the same reports in any order, any number of times, leave the same ledger.
pub struct Ledger {
    blocks: Vec<Block>,
    lives: Vec<Life>,
    /// Where agents were told not to probe a series between two parts of its life, in order and apart: of the few that
    /// have such.
    pauses: BTreeMap<SeriesId, Vec<Span>>,
    until: Second,
    /// Pauses that ended before this are forgotten, unless the seconds are held.
    remembered_from: Second,
}

/// The most pauses that are remembered of one series; of more, the oldest are forgotten.
const PAUSES_MAX: usize = 512;

impl Ledger {
    /// An empty ledger that holds the seconds before `until`.
    pub fn new(until: Second) -> Self {
        let newest = until.minus(1).0 / BLOCK_SECONDS;
        let oldest = newest.saturating_sub(BLOCKS - 1);
        let mut blocks: Vec<_> =
            (oldest..oldest + BLOCKS).map(|number| Block { number, planes: Vec::new() }).collect();
        blocks.sort_by_key(|block| block.number % BLOCKS);
        Self { blocks, lives: Vec::new(), pauses: BTreeMap::new(), until, remembered_from: Second(u64::MAX) }
    }

    /// Adds a series that is scheduled from `from` on.
    pub fn register(&mut self, from: Second, proof: Proof) -> SeriesId {
        // Growing by an eighth: doubling would make the bytes of a series a matter of luck.
        if self.lives.len() == self.lives.capacity() {
            let more = self.lives.len() / 8 + 64;
            self.lives.reserve_exact(more);
            self.blocks.iter_mut().for_each(|block| block.planes.reserve_exact(more));
        }
        let id = SeriesId(
            u32::try_from(self.lives.len()).expect("fewer series than a u32 counts: memory ends first"),
        );
        let span = Span::new(from, Second(u64::MAX));
        self.lives.push(Life { span, told_until: Second(0), proof, is_paused: false });
        self.blocks.iter_mut().for_each(|block| block.planes.push(Planes::default()));
        id
    }

    /// A ledger that holds the seconds before `until` and these series, whose slots come with [`Self::restore_block`].
    pub fn restore(until: Second, lives: Vec<KeptLife>) -> Self {
        let mut ledger = Self::new(until);
        ledger.blocks.iter_mut().for_each(|block| block.planes.reserve_exact(lives.len()));
        ledger.lives.reserve_exact(lives.len());
        for life in lives {
            let id = ledger.register(life.span.from, life.proof);
            let known = &mut ledger.lives[id.index()];
            known.span = life.span;
            known.told_until = life.told_until;
            known.is_paused = !life.pauses.is_empty();
            if known.is_paused {
                ledger.pauses.insert(id, life.pauses);
            }
        }
        ledger
    }

    /// The life of each series, in order.
    pub fn lives(&self) -> impl Iterator<Item = KeptLife> {
        (0..).map(SeriesId).zip(&self.lives).map(|(id, life)| KeptLife {
            span: life.span,
            told_until: life.told_until,
            proof: life.proof,
            pauses: self.pauses.get(&id).cloned().unwrap_or_default(),
        })
    }

    /// The numbers of the blocks that are held, oldest first: a block has 64 seconds, and its number is its first second
    /// divided by them.
    pub fn block_numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let held = self.held();
        held.from.0 / BLOCK_SECONDS..=held.until.minus(1).0 / BLOCK_SECONDS
    }

    /// The slots of every series in block `number`, in order of the series; nothing of a block that is not held.
    pub fn block(&self, number: u64) -> impl Iterator<Item = KeptSlots> {
        let block = &self.blocks[(number % BLOCKS) as usize];
        let planes = if block.number == number { block.planes.as_slice() } else { &[] };
        planes.iter().map(|planes| planes.0)
    }

    /// Gives the series the slots that [`Self::block`] told, the first of them to the first. Of a block that is not held
    /// nothing is taken. To be called before anything is merged: it sets and does not merge.
    pub fn restore_block(&mut self, number: u64, slots: impl IntoIterator<Item = KeptSlots>) {
        let block = &mut self.blocks[(number % BLOCKS) as usize];
        if block.number == number {
            block.planes.iter_mut().zip(slots).for_each(|(planes, slots)| *planes = Planes(slots));
        }
    }

    /// How many series are registered.
    pub fn len(&self) -> usize {
        self.lives.len()
    }

    /// Whether no series is registered.
    pub fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }

    /// The span in which `series` is scheduled: to its removal, or to the last slot that was told all the same.
    pub fn life(&self, series: SeriesId) -> Span {
        self.lives[series.index()].span()
    }

    /// From now on this shows delivery for `series`, also of what was marked before.
    pub fn prove(&mut self, series: SeriesId, proof: Proof) {
        self.lives[series.index()].proof = proof;
    }

    /// What shows delivery for `series`.
    pub fn proof(&self, series: SeriesId) -> Proof {
        self.lives[series.index()].proof
    }

    /// Lets `series` be scheduled from `from` on if that is earlier than what was known.
    pub fn extend_back(&mut self, series: SeriesId, from: Second) {
        let span = &mut self.lives[series.index()].span;
        span.from = span.from.min(from);
    }

    /// Lets `series` be scheduled until `until`, whatever was known of its end; `Second(u64::MAX)` for one that goes on.
    pub fn end(&mut self, series: SeriesId, until: Second) {
        self.lives[series.index()].span.until = until;
    }

    /// Until when `series` is scheduled by what [`Self::end`] said, whatever was told of later seconds.
    pub fn ends(&self, series: SeriesId) -> Second {
        self.lives[series.index()].span.until
    }

    /// Says in which spans after `since` the agent was told not to probe `series`, whatever was known of that: in order
    /// and apart. What is before `since` stays. Returns the span outside of which nothing is other than it was.
    ///
    /// A slot of a pause is muted unless a sender told what became of it. That is read off the pauses and not merged
    /// into the marks, where it could not be taken back when an older statement about the series comes later.
    pub fn pause(&mut self, series: SeriesId, since: Second, pauses: &[Span]) -> Span {
        let remembered = self.held().from.min(self.remembered_from);
        let before = self.pauses.remove(&series).unwrap_or_default();
        let mut known = before.clone();
        known.retain_mut(|pause| {
            pause.until = pause.until.min(since);
            pause.until > remembered.max(pause.from)
        });
        known.extend(pauses.iter().filter(|pause| !pause.is_empty()));
        known.drain(..known.len().saturating_sub(PAUSES_MAX));
        self.lives[series.index()].is_paused = !known.is_empty();
        let changed = difference(&before, &known);
        if !known.is_empty() {
            self.pauses.insert(series, known);
        }
        changed
    }

    /// Where agents were told not to probe `series`: in order and apart.
    pub fn pauses(&self, series: SeriesId) -> &[Span] {
        self.pauses.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Every series that has pauses, with them.
    pub fn paused(&self) -> impl Iterator<Item = (SeriesId, &[Span])> {
        self.pauses.iter().map(|(series, pauses)| (*series, pauses.as_slice()))
    }

    /// From now on pauses are forgotten only if they ended before `from`: for whoever keeps slots for longer than they
    /// are held here.
    pub fn remember_from(&mut self, from: Second) {
        self.remembered_from = from;
    }

    /// Notes that a sender told of the slots of `span`, which somebody else keeps: they are part of the series' life.
    pub fn told_elsewhere(&mut self, series: SeriesId, span: Span) {
        let life = &mut self.lives[series.index()];
        life.span.from = life.span.from.min(span.from);
        life.told_until = life.told_until.max(span.until);
    }

    /// The planes of [`Mark::bits`], lowest first, of every series over `span`, whose first second is bit 0. Pauses are
    /// not in them.
    ///
    /// # Panics
    /// If `span` is longer than 64 seconds, or not held.
    pub fn planes(&self, span: Span) -> Vec<[u64; 4]> {
        assert!(span.seconds() <= BLOCK_SECONDS, "a plane has 64 bits");
        assert!(span.is_empty() || span.intersection(self.held()) == span, "{span:?} is held");
        let first = span.from.0 / BLOCK_SECONDS;
        let last = span.until.minus(1).0 / BLOCK_SECONDS;
        let (early, late) = (&self.blocks[(first % BLOCKS) as usize], &self.blocks[(last % BLOCKS) as usize]);
        let shift = span.from.0 % BLOCK_SECONDS;
        let mask = u64::MAX.checked_shr(64 - span.seconds() as u32).unwrap_or(0);
        let cut = |early: u64, late: u64| {
            let beyond = if last > first { late << (BLOCK_SECONDS - shift) } else { 0 };
            (early >> shift | beyond) & mask
        };
        let rows = early.planes.iter().zip(&late.planes);
        rows.map(|(early, late)| [0, 1, 2, 3].map(|plane| cut(early.0[plane], late.0[plane]))).collect()
    }

    /// The seconds that are held.
    pub fn held(&self) -> Span {
        let newest = self.until.minus(1).0 / BLOCK_SECONDS;
        Span::new(Second(newest.saturating_sub(BLOCKS - 1) * BLOCK_SECONDS), self.until)
    }

    /// Lets time go on: the seconds before `until` can be marked, the oldest are forgotten. Never goes back.
    pub fn advance(&mut self, until: Second) {
        if until <= self.until {
            return;
        }
        let newest = self.until.minus(1).0 / BLOCK_SECONDS;
        self.until = until;
        let wanted = until.minus(1).0 / BLOCK_SECONDS;
        for number in (newest + 1).max(wanted.saturating_sub(BLOCKS - 1))..=wanted {
            let block = &mut self.blocks[(number % BLOCKS) as usize];
            block.number = number;
            block.planes.fill(Planes::default());
        }
    }

    /// Merges what `mark` says into one slot, and returns whether anything changed.
    pub fn merge(&mut self, series: SeriesId, second: Second, mark: Mark) -> Result<bool, OutOfReach> {
        self.reach(second)?;
        self.told(series, second.plus(1), mark);
        let planes = self.planes_mut(series, second.0 / BLOCK_SECONDS);
        let bit = (second.0 % BLOCK_SECONDS) as u32;
        let before = planes.mark(bit);
        let after = before.join(mark);
        if before != after {
            planes.set(bit, after);
        }
        Ok(before != after)
    }

    /// Merges what `mark` says into each slot of `span` that is held, and returns how many seconds were not.
    pub fn merge_span(&mut self, series: SeriesId, span: Span, mark: Mark) -> u64 {
        let inside = span.intersection(self.held());
        if inside.is_empty() {
            return span.seconds();
        }
        self.told(series, inside.until, mark);
        for number in inside.from.0 / BLOCK_SECONDS..=inside.until.minus(1).0 / BLOCK_SECONDS {
            let mask = block_mask(number, inside);
            let planes = self.planes_mut(series, number);
            if planes.is_unknown(mask) {
                planes.fill(mask, mark);
            } else {
                bits_of(mask).for_each(|bit| planes.set(bit, planes.mark(bit).join(mark)));
            }
        }
        span.seconds() - inside.seconds()
    }

    /// What is known of one slot.
    pub fn mark(&self, series: SeriesId, second: Second) -> Result<Mark, OutOfReach> {
        self.reach(second)?;
        let block = &self.blocks[(second.0 / BLOCK_SECONDS % BLOCKS) as usize];
        let mark = block.planes[series.index()].mark((second.0 % BLOCK_SECONDS) as u32);
        let is_paused = || self.pauses.get(&series).into_iter().flatten().any(|pause| pause.contains(second));
        if mark.sender() == Sender::Unknown && is_paused() {
            return Ok(Mark::sent(Sender::Muted));
        }
        Ok(mark)
    }

    /// Whether storage has shown each held second of `span` in which `series` is scheduled.
    pub fn is_stored(&self, series: SeriesId, span: Span) -> bool {
        let inside = span.intersection(self.held()).intersection(self.life(series));
        inside.is_empty()
            || (inside.from.0 / BLOCK_SECONDS..=inside.until.minus(1).0 / BLOCK_SECONDS).all(|number| {
                let block = &self.blocks[(number % BLOCKS) as usize];
                let [s0, s1, t0, t1] = block.planes[series.index()].0;
                // Local slots have storage's word in the sender's bits; muted ones have none.
                let stored = (t0 & !t1) | (t0 & t1 & s0 & !s1);
                block_mask(number, inside) & !stored == 0
            })
    }

    /// Sums each group over the held seconds of `span`: `group_of` gives each series' group, [`NO_GROUP`] for none.
    ///
    /// # Panics
    /// If `group_of` is shorter than the ledger or names a group that is not below `groups`.
    pub fn sums(&self, span: Span, group_of: &[u32], groups: usize) -> Vec<Window> {
        let mut windows = vec![Window::default(); groups];
        let span = span.intersection(self.held());
        let mut from = span.from;
        // At most 64 seconds at a time lie in two neighbouring blocks, and their bits do not overlap: the two are
        // laid over each other and counted once.
        while from < span.until {
            let until = from.plus(BLOCK_SECONDS).min(span.until);
            self.sum_chunk(Span::new(from, until), group_of, &mut windows);
            from = until;
        }
        windows
    }

    fn sum_chunk(&self, chunk: Span, group_of: &[u32], windows: &mut [Window]) {
        let chunk = Chunk::of(chunk);
        for (id, (life, &group)) in
            (0..).map(SeriesId).zip(self.lives.iter().zip(&group_of[..self.lives.len()]))
        {
            if group != NO_GROUP {
                let (alive, planes) = self.row(&chunk, id, life);
                tally(&mut windows[group as usize], alive, planes, life.proof);
            }
        }
    }

    /// Which slots of `chunk` a series has, and their planes, those of pauses included.
    #[inline]
    fn row(&self, chunk: &Chunk, id: SeriesId, life: &Life) -> (u64, [u64; 4]) {
        let planes = |number: u64| self.blocks[(number % BLOCKS) as usize].planes[id.index()].0;
        let (early, late) = (planes(chunk.first), planes(chunk.last));
        let is_whole = life.span.from <= chunk.span.from && chunk.span.until <= life.span.until;
        let alive = if is_whole { chunk.early | chunk.late } else { chunk.mask(life.span()) };
        let mut planes = [0, 1, 2, 3].map(|plane| early[plane] & chunk.early | late[plane] & chunk.late);
        if life.is_paused {
            let pauses = self.pauses(id);
            let pauses = &pauses[pauses.partition_point(|pause| pause.until <= chunk.span.from)..];
            let pauses = pauses.iter().take_while(|pause| pause.from < chunk.span.until);
            let paused = pauses.fold(0, |paused, pause| paused | chunk.mask(*pause));
            let [s0, s1, t0, t1] = planes;
            let muted = paused & !s0 & !s1 & !(t0 & t1);
            planes = planes.map(|plane| plane | muted);
        }
        (alive, planes)
    }

    /// Remembers that a sender told of the seconds before `until`, if `mark` is a sender's.
    fn told(&mut self, series: SeriesId, until: Second, mark: Mark) {
        if mark.sender() != Sender::Unknown {
            let told_until = &mut self.lives[series.index()].told_until;
            *told_until = until.max(*told_until);
        }
    }

    fn planes_mut(&mut self, series: SeriesId, number: u64) -> &mut Planes {
        let block = &mut self.blocks[(number % BLOCKS) as usize];
        debug_assert_eq!(block.number, number, "only held seconds are looked up");
        &mut block.planes[series.index()]
    }

    fn reach(&self, second: Second) -> Result<(), OutOfReach> {
        let held = self.held();
        if second >= held.until {
            Err(OutOfReach::TooNew { second, until: held.until })
        } else if second < held.from {
            Err(OutOfReach::TooOld { second, oldest: held.from })
        } else {
            Ok(())
        }
    }
}

/// At most 64 seconds, which lie in two neighbouring blocks: their bits do not overlap.
struct Chunk {
    span: Span,
    /// The numbers of the two blocks, which may be one.
    first: u64,
    last: u64,
    /// Which bits are of the first block, and which of the last, where that is another.
    early: u64,
    late: u64,
}

impl Chunk {
    fn of(span: Span) -> Self {
        let (first, last) = (span.from.0 / BLOCK_SECONDS, span.until.minus(1).0 / BLOCK_SECONDS);
        let late = if first == last { 0 } else { block_mask(last, span) };
        Self { span, first, last, early: block_mask(first, span), late }
    }

    /// The bits of what of `span` is inside.
    fn mask(&self, span: Span) -> u64 {
        let inside = self.span.intersection(span);
        self.early & block_mask(self.first, inside) | self.late & block_mask(self.last, inside)
    }
}

/// The group of a series that is in none.
pub const NO_GROUP: u32 = u32::MAX;

/// [`Window::add`] for the 64 slots of `alive` at once; the planes are those of [`Mark::bits`], lowest first.
fn tally(window: &mut Window, alive: u64, [s0, s1, t0, t1]: [u64; 4], proof: Proof) {
    let count = |bits: u64| u64::from((bits & alive).count_ones());
    let (sender_both, storage_both) = (s0 & s1, t0 & t1);
    let counted = !sender_both & !storage_both;
    let delivered = counted & s0;
    let lost_by_sender = counted & s1;
    let silent = delivered & !t0 & !t1;
    let lost = count(lost_by_sender | delivered & t1);
    let told = count(delivered & t0);
    let sent = count(silent);
    let local = count(storage_both & !sender_both);
    let missed = count(sender_both & !storage_both);
    let muted = count(sender_both & storage_both);
    let scheduled = count(u64::MAX);
    window.scheduled += scheduled;
    window.delivered += told;
    window.lost += lost;
    window.late += count(lost_by_sender & t0);
    window.local += local;
    window.missed += missed;
    window.muted += muted;
    window.unknown += scheduled - told - lost - sent - local - missed - muted;
    match proof {
        Proof::Sender => window.delivered += sent,
        Proof::Storage => window.unknown += sent,
        Proof::Nothing => window.unproven += sent,
    }
}

/// The least span that holds every second in which the two say otherwise.
fn difference(before: &[Span], after: &[Span]) -> Span {
    let alike = before.iter().zip(after).take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[alike..], &after[alike..]);
    let ends = before.iter().rev().zip(after.iter().rev());
    let alike = ends.take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[..before.len() - alike], &after[..after.len() - alike]);
    let both = || before.iter().chain(after);
    let from = both().map(|span| span.from).min().unwrap_or_default();
    Span::new(from, both().map(|span| span.until).max().unwrap_or_default())
}

/// The bits of block `number` whose seconds are in `span`.
fn block_mask(number: u64, span: Span) -> u64 {
    let block = Span::new(Second(number * BLOCK_SECONDS), Second((number + 1) * BLOCK_SECONDS));
    let inside = block.intersection(span);
    match inside.seconds() {
        0 => 0,
        BLOCK_SECONDS => u64::MAX,
        seconds => ((1 << seconds) - 1) << (inside.from.0 - block.from.0),
    }
}

fn bits_of(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| mask >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mark::Storage;

    fn any_mark() -> impl Strategy<Value = Mark> {
        (0u8..16).prop_map(Mark::from_bits)
    }

    fn any_proof() -> impl Strategy<Value = Proof> {
        prop_oneof![Just(Proof::Sender), Just(Proof::Storage), Just(Proof::Nothing)]
    }

    /// `(series, second, mark)` among four series, in any order and with repeats.
    fn any_marks() -> impl Strategy<Value = Vec<(u32, u64, Mark)>> {
        prop::collection::vec((0u32..4, 0u64..1000, any_mark()), 0..400)
    }

    fn ledger_of(marks: &[(u32, u64, Mark)], lives: &[(u64, Proof)]) -> Ledger {
        let mut ledger = Ledger::new(Second(1000));
        for (from, proof) in lives {
            ledger.register(Second(*from), *proof);
        }
        for (series, second, mark) in marks {
            ledger.merge(SeriesId(*series), Second(*second), *mark).unwrap();
        }
        ledger
    }

    const FOUR: [(u64, Proof); 4] = [(0, Proof::Sender); 4];

    proptest! {
        /// What is kept and made anew sums alike, and goes on alike.
        #[test]
        fn a_ledger_made_anew_is_the_same(
            marks in any_marks(),
            lives in prop::collection::vec((0u64..1000, any_proof()), 4),
            (ends, pause, more) in (0u64..1200, 0u64..900, any_marks()),
        ) {
            let mut ledger = ledger_of(&marks, &lives);
            ledger.end(SeriesId(1), Second(ends));
            ledger.pause(SeriesId(2), Second(0), &[Span::new(Second(pause), Second(pause + 70))]);
            let mut again = Ledger::restore(ledger.held().until, ledger.lives().collect());
            for number in ledger.block_numbers() {
                again.restore_block(number, ledger.block(number));
            }
            ledger.advance(Second(1100));
            again.advance(Second(1100));
            for (series, second, mark) in more {
                let slot = (SeriesId(series), Second(second + 100));
                prop_assert_eq!(ledger.merge(slot.0, slot.1, mark), again.merge(slot.0, slot.1, mark));
            }
            prop_assert_eq!(ledger.held(), again.held());
            prop_assert!(ledger.lives().eq(again.lives()));
            for (group, width) in [(0, 1), (1, 63), (2, 300), (3, 1100)] {
                let mut group_of = [NO_GROUP; 4];
                group_of[group] = 0;
                let span = Span::before(Second(1100), width);
                prop_assert_eq!(ledger.sums(span, &group_of, 1), again.sums(span, &group_of, 1));
            }
        }

        #[test]
        fn sums_are_what_counting_slot_by_slot_gives(
            marks in any_marks(),
            lives in prop::collection::vec((0u64..1000, any_proof()), 4),
            ends in prop::collection::vec((0u64..1100, 0u64..1000, 0u64..200), 4),
            from in 0u64..1000, seconds in 0u64..700,
        ) {
            let mut ledger = ledger_of(&marks, &lives);
            for (series, (until, pause, seconds)) in (0..).map(SeriesId).zip(ends) {
                ledger.end(series, Second(until));
                ledger.pause(series, Second(0), &[Span::new(Second(pause), Second(pause + seconds))]);
            }
            let span = Span::new(Second(from), Second((from + seconds).min(1000)));
            let groups = [0, 1, NO_GROUP, 0];
            let mut expected = vec![Window::default(); 2];
            for (series, group) in groups.iter().enumerate() {
                let id = SeriesId(series as u32);
                if *group != NO_GROUP {
                    for second in span.intersection(ledger.life(id)).iter() {
                        expected[*group as usize].add(ledger.mark(id, second).unwrap(), ledger.proof(id));
                    }
                }
            }
            let sums = ledger.sums(span, &groups, 2);
            prop_assert_eq!(&sums, &expected);
            for window in sums {
                let classes = window.delivered + window.lost + window.local + window.missed + window.muted
                    + window.unproven + window.unknown;
                prop_assert_eq!(window.scheduled, classes);
                prop_assert!(window.late <= window.lost);
            }
        }

        #[test]
        fn order_and_repeats_of_reports_do_not_matter(
            (marks, shuffled) in any_marks().prop_flat_map(|marks| (Just(marks.clone()), Just(marks).prop_shuffle())),
            repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut again = shuffled.clone();
            if !marks.is_empty() {
                again.extend(repeats.iter().map(|index| *index.get(&marks)));
            }
            let (left, right) = (ledger_of(&marks, &FOUR), ledger_of(&again, &FOUR));
            for series in 0..4 {
                for second in 0..1000 {
                    let slot = (SeriesId(series), Second(second));
                    prop_assert_eq!(left.mark(slot.0, slot.1), right.mark(slot.0, slot.1));
                }
            }
        }

        #[test]
        fn planes_are_the_marks_of_every_series(marks in any_marks(), from in 0u64..1000, seconds in 0u64..=64) {
            let ledger = ledger_of(&marks, &FOUR);
            let span = Span::new(Second(from), Second((from + seconds).min(1000)));
            for (series, planes) in (0..).map(SeriesId).zip(ledger.planes(span)) {
                for (bit, second) in span.iter().enumerate() {
                    let bits = (0..4).map(|plane| ((planes[plane] >> bit & 1) as u8) << plane).sum();
                    prop_assert_eq!(Ok(Mark::from_bits(bits)), ledger.mark(series, second));
                }
                prop_assert!(planes.iter().all(|plane| plane.checked_shr(span.seconds() as u32).unwrap_or(0) == 0));
            }
        }

        #[test]
        fn a_span_is_its_seconds(marks in any_marks(), from in 0u64..1100, seconds in 0u64..300, mark in any_mark()) {
            let mut whole = ledger_of(&marks, &FOUR);
            let mut each = ledger_of(&marks, &FOUR);
            let span = Span::new(Second(from), Second(from + seconds));
            let outside = whole.merge_span(SeriesId(1), span, mark);
            let refused = span.iter().filter(|second| each.merge(SeriesId(1), *second, mark).is_err()).count();
            prop_assert_eq!(outside, refused as u64);
            for second in 0..1000 {
                let slot = Second(second);
                prop_assert_eq!(whole.mark(SeriesId(1), slot), each.mark(SeriesId(1), slot));
            }
        }
    }

    #[test]
    fn time_goes_on_and_the_oldest_is_forgotten() {
        let mut ledger = Ledger::new(Second(1_000_000));
        let series = ledger.register(Second(999_000), Proof::Sender);
        let delivered = Mark::sent(Sender::Delivered);
        assert!(ledger.merge(series, Second(999_999), delivered).unwrap());
        assert!(!ledger.merge(series, Second(999_999), delivered).unwrap(), "a repeat changes nothing");
        assert!(matches!(ledger.merge(series, Second(1_000_000), delivered), Err(OutOfReach::TooNew { .. })));
        for step in 0..3_000 {
            let now = Second(1_000_000 + step);
            ledger.advance(now);
            assert!(ledger.held().from <= now.minus(LIVE_SECONDS), "the live seconds are always held");
            let still = ledger.mark(series, Second(999_999));
            if step < LIVE_SECONDS {
                assert_eq!(still, Ok(delivered), "at {now}");
            }
        }
        assert!(matches!(ledger.mark(series, Second(999_999)), Err(OutOfReach::TooOld { .. })));
        let clean = ledger.sums(ledger.held(), &[0], 1)[0];
        assert_eq!(clean.unknown, clean.scheduled, "recycled blocks hold nothing of what they held before");
        ledger.advance(Second(5_000_000));
        assert_eq!(ledger.sums(ledger.held(), &[0], 1)[0].unknown, ledger.held().seconds());
    }

    #[test]
    fn a_series_is_scheduled_from_its_first_full_slot() {
        let mut ledger = Ledger::new(Second(1_000));
        let series = ledger.register(Second(990), Proof::Storage);
        let sum = |ledger: &Ledger| ledger.sums(Span::new(Second(900), Second(1_000)), &[0], 1)[0];
        assert_eq!(sum(&ledger), Window { scheduled: 10, unknown: 10, ..Window::default() });
        ledger.merge(series, Second(995), Mark::new(Sender::Lost, Storage::NotStored)).unwrap();
        ledger.extend_back(series, Second(980));
        assert_eq!(sum(&ledger), Window { scheduled: 20, unknown: 19, lost: 1, ..Window::default() });
    }

    #[test]
    fn pauses_are_remembered_for_whoever_keeps_slots_longer() {
        let span = |from: u64, until: u64| Span::new(Second(from), Second(until));
        for remembers in [false, true] {
            let mut ledger = Ledger::new(Second(1_000));
            let series = ledger.register(Second(0), Proof::Sender);
            if remembers {
                ledger.remember_from(Second(100));
            }
            assert_eq!(ledger.pause(series, Second(0), &[span(50, 90), span(200, 300)]), span(50, 300));
            ledger.advance(Second(5_000));
            let changed = ledger.pause(series, Second(4_000), &[span(4_100, 4_200)]);
            if remembers {
                assert_eq!(ledger.pauses(series), [span(200, 300), span(4_100, 4_200)]);
                assert_eq!(ledger.pause(series, Second(4_000), &[span(4_100, 4_150)]), span(4_100, 4_200));
                assert!(ledger.pause(series, Second(4_000), &[span(4_100, 4_150)]).is_empty());
            } else {
                assert_eq!((ledger.pauses(series), changed), (&[span(4_100, 4_200)][..], span(50, 4_200)));
            }
        }
    }

    #[test]
    fn a_series_ends_pauses_and_comes_back() {
        let mut ledger = Ledger::new(Second(1_000));
        let series = ledger.register(Second(900), Proof::Sender);
        let sum =
            |ledger: &Ledger, from: u64| ledger.sums(Span::new(Second(from), Second(1_000)), &[0], 1)[0];
        ledger.merge_span(series, Span::new(Second(900), Second(920)), Mark::sent(Sender::Delivered));
        ledger.end(series, Second(920));
        let before = Window { scheduled: 20, delivered: 20, ..Window::default() };
        assert_eq!(sum(&ledger, 900), before);
        assert_eq!(sum(&ledger, 950), Window::default(), "nothing is scheduled after its end");

        ledger.end(series, Second(u64::MAX));
        ledger.pause(series, Second(0), &[Span::new(Second(920), Second(990))]);
        assert_eq!(sum(&ledger, 900), Window { scheduled: 100, muted: 70, unknown: 10, ..before });
        assert_eq!(ledger.mark(series, Second(989)).unwrap().sender(), Sender::Muted);
        assert_eq!(ledger.mark(series, Second(990)).unwrap().sender(), Sender::Unknown);
        ledger.merge(series, Second(930), Mark::sent(Sender::Lost)).unwrap();
        assert_eq!(sum(&ledger, 930).lost, 1, "what a sender told is not muted");

        ledger.pause(series, Second(980), &[]);
        assert_eq!(sum(&ledger, 900).muted, 59, "what was known before the statement stays");
        ledger.end(series, Second(920));
        assert_eq!(sum(&ledger, 900).scheduled, 31, "it lives at least until the last slot that was told");
    }

    #[test]
    fn a_span_is_stored_where_each_of_its_slots_is() {
        let mut ledger = Ledger::new(Second(10_000));
        let series = ledger.register(Second(9_900), Proof::Storage);
        let span = Span::new(Second(9_900), Second(9_990));
        assert!(!ledger.is_stored(series, span));
        for (second, sender) in
            span.iter().zip([Sender::Delivered, Sender::Local, Sender::Missed, Sender::Lost].iter().cycle())
        {
            ledger.merge(series, second, Mark::new(*sender, Storage::Stored)).unwrap();
        }
        assert!(ledger.is_stored(series, span));
        assert!(
            ledger.is_stored(series, Span::new(Second(9_800), Second(9_990))),
            "before its life there is nothing"
        );
        assert!(!ledger.is_stored(series, Span::new(Second(9_980), Second(9_991))), "one is unknown");
        for other in [
            Mark::new(Sender::Lost, Storage::NotStored),
            Mark::new(Sender::Local, Storage::NotStored),
            Mark::sent(Sender::Muted),
        ] {
            let mut ledger = Ledger::new(Second(10_000));
            let series = ledger.register(Second(9_900), Proof::Storage);
            ledger.merge_span(series, Span::new(Second(9_950), Second(9_951)), other);
            assert!(!ledger.is_stored(series, Span::new(Second(9_950), Second(9_951))), "{other:?}");
        }
    }
}
