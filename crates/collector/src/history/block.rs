//! The slots of neighbouring series over one minute or one hour, as runs of slots that are alike.

use std::collections::HashMap;

use aviary_core::{losses::Loss, mark::Mark};

/// How many series lie in one block: those whose ids differ in the last eight bits.
pub(crate) const ROWS: usize = 256;

/// What is known of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) mark: Mark,
    /// Told by whoever lost it, also where another account outranks that one.
    pub(crate) loss: Option<Loss>,
}

impl Value {
    /// Nobody has told.
    pub(crate) const UNKNOWN: Self = Self { mark: Mark::UNKNOWN, loss: None };

    pub(crate) const fn of(mark: Mark) -> Self {
        Self { mark, loss: None }
    }

    /// Both accounts as one, as the ledger and the table of losses merge them.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { mark: self.mark.join(other.mark), loss: self.loss.max(other.loss) }
    }
}

/// Slots from where the run before ends up to `until`, all with the value at the same place of the dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) until: u16,
    pub(super) value: u32,
}

/// The slots of up to [`ROWS`] series over a number of seconds.
///
/// There is one form for one set of slots: runs are as long as can be, values are in the order of their first use, and
/// rows of which nothing is known are not at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(super) seconds: u16,
    pub(super) values: Vec<Value>,
    pub(super) runs: Vec<Run>,
    /// Where each row's runs end.
    pub(super) ends: Vec<u32>,
}

impl Block {
    /// How many seconds it spans.
    pub(crate) const fn seconds(&self) -> u16 {
        self.seconds
    }

    /// How many rows there are; of those beyond, nothing is known.
    pub(crate) const fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing is known of any slot.
    pub(crate) const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn raw_runs(&self, row: usize) -> &[Run] {
        let Some(end) = self.ends.get(row) else { return &[] };
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.runs[start as usize..*end as usize]
    }

    /// What is known of a row, in order: from, until, and the value of each slot between. Nothing of a row beyond.
    pub(crate) fn runs(&self, row: usize) -> impl Iterator<Item = (u16, u16, Value)> {
        let mut from = 0;
        self.raw_runs(row).iter().map(move |run| {
            let run_from = std::mem::replace(&mut from, run.until);
            (run_from, run.until, self.values[run.value as usize])
        })
    }

    /// What is known of one slot.
    #[cfg(test)]
    pub(crate) fn get(&self, row: usize, second: u16) -> Value {
        self.runs(row).find(|(_, until, _)| second < *until).map_or(Value::UNKNOWN, |(.., value)| value)
    }
}

/// Builds a block row by row.
pub(super) struct Builder {
    block: Block,
    places: HashMap<Value, u32>,
}

impl Builder {
    pub(super) fn new(seconds: u16) -> Self {
        let block = Block { seconds, values: Vec::new(), runs: Vec::new(), ends: Vec::new() };
        Self { block, places: HashMap::new() }
    }

    /// Lets `value` hold up to `until`, from where the last run of this row ended.
    pub(super) fn run(&mut self, until: u16, value: Value) {
        let place = self.place(value);
        self.run_at(until, place);
    }

    /// The same, with the value at `place`.
    pub(super) fn run_at(&mut self, until: u16, place: u32) {
        let start = self.block.ends.last().map_or(0, |end| *end as usize);
        match self.block.runs[start..].last_mut() {
            Some(last) if last.value == place => last.until = until,
            _ => self.block.runs.push(Run { until, value: place }),
        }
    }

    /// Where `value` is in the dictionary, from its first use on.
    pub(super) fn place(&mut self, value: Value) -> u32 {
        let values = &mut self.block.values;
        *self.places.entry(value).or_insert_with(|| {
            values.push(value);
            // At most one for each slot.
            values.len() as u32 - 1
        })
    }

    /// Ends the row; what is left of it is unknown.
    pub(super) fn end_row(&mut self) {
        let start = self.block.ends.last().map_or(0, |end| *end as usize);
        if self.block.runs[start..].last().is_none_or(|last| last.until < self.block.seconds) {
            self.run(self.block.seconds, Value::UNKNOWN);
        }
        self.block.ends.push(self.block.runs.len() as u32);
    }

    pub(super) fn finish(mut self) -> Block {
        let block = &mut self.block;
        while let Some(row) = block.ends.len().checked_sub(1) {
            let [only] = block.raw_runs(row) else { break };
            if block.values[only.value as usize] != Value::UNKNOWN {
                break;
            }
            block.runs.pop();
            block.ends.pop();
        }
        // Only the last of the values can have lost its last use with the rows that went.
        let used = block.runs.iter().map(|run| run.value as usize + 1).max().unwrap_or(0);
        block.values.truncate(used);
        self.block
    }
}

/// A block that slots are merged into.
pub(crate) struct Editor {
    seconds: u16,
    values: Vec<Value>,
    places: HashMap<Value, u32>,
    /// The place of each slot's value, for the rows that anything is known of.
    rows: Vec<Option<Box<[u32]>>>,
    joins: HashMap<(u32, u32), u32>,
}

impl Editor {
    /// A block of which nothing is known.
    pub(crate) fn new(seconds: u16) -> Self {
        let places = [(Value::UNKNOWN, 0)].into();
        Self { seconds, values: vec![Value::UNKNOWN], places, rows: Vec::new(), joins: HashMap::new() }
    }

    /// Merges `value` into the slots of `row` in `[from, until)`, which are inside the block.
    pub(crate) fn merge(&mut self, row: usize, from: u16, until: u16, value: Value) {
        if value == Value::UNKNOWN || from >= until {
            return;
        }
        let place = self.place(value);
        if self.rows.len() <= row {
            self.rows.resize_with(row + 1, || None);
        }
        let seconds = usize::from(self.seconds);
        let mut slots = self.rows[row].take().unwrap_or_else(|| vec![0; seconds].into());
        let mut joined = (0, place);
        for slot in &mut slots[usize::from(from)..usize::from(until)] {
            if joined.0 != *slot {
                joined = (*slot, self.joined(*slot, place));
            }
            *slot = joined.1;
        }
        self.rows[row] = Some(slots);
    }

    /// Merges all of `block`, whose first second is `offset` seconds after this one's.
    pub(crate) fn merge_block(&mut self, offset: u16, block: &Block) {
        for row in 0..block.rows() {
            for (from, until, value) in block.runs(row) {
                self.merge(row, offset + from, offset + until, value);
            }
        }
    }

    /// The block.
    pub(crate) fn finish(self) -> Block {
        let mut builder = Builder::new(self.seconds);
        for row in &self.rows {
            for slots in row.iter().flat_map(|slots| slots.chunk_by(|left, right| left == right)) {
                let start = builder.block.ends.last().map_or(0, |end| *end as usize);
                let from = builder.block.runs[start..].last().map_or(0, |run| run.until);
                // A chunk is part of a row.
                builder.run(from + slots.len() as u16, self.values[slots[0] as usize]);
            }
            builder.end_row();
        }
        builder.finish()
    }

    fn place(&mut self, value: Value) -> u32 {
        *self.places.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as u32 - 1
        })
    }

    fn joined(&mut self, left: u32, right: u32) -> u32 {
        if left == right {
            return left;
        }
        if let Some(known) = self.joins.get(&(left, right)) {
            return *known;
        }
        let value = self.values[left as usize].join(self.values[right as usize]);
        let place = self.place(value);
        self.joins.insert((left, right), place);
        place
    }
}

#[cfg(test)]
pub(super) mod tests {
    use aviary_core::{Evidence, Fault, LocalFault, Phase, losses::Cause};
    use proptest::prelude::*;

    use super::*;

    pub(in crate::history) fn any_loss() -> impl Strategy<Value = Loss> {
        let cause = prop_oneof![
            (0usize..10).prop_map(|fault| Cause::Service(Fault::ALL[fault])),
            any::<u16>().prop_map(|status| Cause::Service(Fault::Status(status))),
            (0usize..7).prop_map(|fault| Cause::Local(LocalFault::ALL[fault])),
        ];
        let reached = prop::option::of((0usize..5).prop_map(|rung| Evidence::ALL[rung]));
        let address = prop_oneof![
            Just("192.0.2.1:2003".parse().unwrap()),
            Just("[2001:db8::1]:2003".parse().unwrap()),
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| (ip, port).into()),
            (any::<[u8; 16]>(), any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
                |(ip, port, flow, scope)| {
                    std::net::SocketAddrV6::new(ip.into(), port, flow, scope).into()
                }
            ),
        ];
        (0usize..5, cause, reached, prop::option::of(address)).prop_map(|(phase, cause, reached, address)| {
            Loss { phase: Phase::ALL[phase], cause, reached, address }
        })
    }

    pub(in crate::history) fn any_value() -> impl Strategy<Value = Value> {
        ((0u8..16).prop_map(Mark::from_bits), prop::option::weighted(0.3, any_loss()))
            .prop_map(|(mark, loss)| Value { mark, loss })
    }

    /// Row, from, length and value of some slots of a block of `seconds`.
    pub(in crate::history) fn any_told(seconds: u16) -> impl Strategy<Value = Vec<(usize, u16, u16, Value)>> {
        let few = prop::collection::vec(any_value(), 1..6);
        let told = (0usize..ROWS, 0..seconds, 0..seconds, any::<prop::sample::Index>());
        (few, prop::collection::vec(told, 0..40)).prop_map(move |(values, told)| {
            let one = |(row, from, length, value): (usize, u16, u16, prop::sample::Index)| {
                (row, from, length.min(seconds - from), *value.get(&values))
            };
            told.into_iter().map(one).collect()
        })
    }

    pub(in crate::history) fn block_of(seconds: u16, told: &[(usize, u16, u16, Value)]) -> Block {
        let mut editor = Editor::new(seconds);
        for (row, from, length, value) in told {
            editor.merge(*row, *from, from + length, *value);
        }
        editor.finish()
    }

    pub(in crate::history) fn any_block(seconds: u16) -> impl Strategy<Value = Block> {
        any_told(seconds).prop_map(move |told| block_of(seconds, &told))
    }

    proptest! {
        #[test]
        fn merging_is_the_join_of_each_slot(left in any_told(60), right in any_told(60)) {
            let (one, other) = (block_of(60, &left), block_of(60, &right));
            let joined = |blocks: [&Block; 2]| {
                let mut editor = Editor::new(60);
                blocks.iter().for_each(|block| editor.merge_block(0, block));
                editor.finish()
            };
            let both = joined([&one, &other]);
            for row in 0..ROWS {
                for second in 0..60 {
                    prop_assert_eq!(both.get(row, second), one.get(row, second).join(other.get(row, second)));
                }
            }
            prop_assert_eq!(&both, &joined([&other, &one]), "order does not matter");
            prop_assert_eq!(&joined([&both, &one]), &both, "repeats do not matter");
            let told: Vec<_> = right.into_iter().chain(left).collect();
            prop_assert_eq!(&block_of(60, &told), &both, "slots or blocks, it is the same");
        }
    }
}
