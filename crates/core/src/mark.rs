//! A slot in four bits, and how two accounts of one slot are merged.
//!
//! Two bits are what the sender says, two what storage says. The all-ones pattern of either pair says that the slot is
//! not counted, and leaves the other pair to remember what it must:
//!
//! | sender bits | storage bits | meaning |
//! |---|---|---|
//! | `00` unknown, `01` delivered, `10` lost | `00` unknown, `01` stored, `10` not stored | what each says |
//! | `11` | `00`, `01`, `10` as above | missed; storage's word is kept |
//! | `00`, `01`, `10`: storage's word | `11` | local |
//! | `11` | `11` | muted |
//!
//! **Why storage's word survives a slot that is not counted:** otherwise the merge is no join. With `missed` forgetting
//! it, *missed, stored, delivered* would end as "delivered, storage unknown" and *delivered, stored, missed* as
//! "delivered, stored": two collectors would disagree for having heard the same three things in another order.
//! With it, the sixteen patterns are exactly the product of two chains, with its top row (muted) folded into one, and
//! the merge is the maximum on each chain.

/// What the sender says of a slot. The order is the order of merging: the greater word wins.
///
/// Unknown gives way to anything. `Missed` is what an agent infers after a crash, so anything that was seen outranks it;
/// what was observed of the service outranks `Local`; a loss outranks a delivery, so that a repeat never hides loss;
/// `Muted` is an instruction, and wins over whatever happened in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// Nobody has told yet.
    Unknown,
    /// The agent did not run it.
    Missed,
    /// The agent's own fault.
    Local,
    /// Delivered, as far as the sender can see.
    Delivered,
    /// Not delivered within the deadline.
    Lost,
    /// The agent was told not to probe.
    Muted,
}

/// What storage says of a slot. The greater word wins: what was found is not lost again by a reader that looked too
/// early, and "not stored" inferred from a refused connection gives way to a datapoint that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Storage {
    /// Not known, or not known yet.
    Unknown,
    /// Settled, and not there.
    NotStored,
    /// There.
    Stored,
}

/// A slot in four bits: what the sender says, and what storage says. See the module for the encoding.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mark(u8);

const NOT_COUNTED: u8 = 0b11;

impl Mark {
    /// A slot of which nobody has told.
    pub const UNKNOWN: Self = Self(0);

    /// The mark for what the sender and storage say; storage's word on a muted slot is dropped.
    pub const fn new(sender: Sender, storage: Storage) -> Self {
        let stored = match storage {
            Storage::Unknown => 0b00,
            Storage::Stored => 0b01,
            Storage::NotStored => 0b10,
        };
        let (low, high) = match sender {
            Sender::Unknown => (0b00, stored),
            Sender::Delivered => (0b01, stored),
            Sender::Lost => (0b10, stored),
            Sender::Missed => (NOT_COUNTED, stored),
            Sender::Local => (stored, NOT_COUNTED),
            Sender::Muted => (NOT_COUNTED, NOT_COUNTED),
        };
        Self(low | high << 2)
    }

    /// The mark of the sender's word alone.
    pub const fn sent(sender: Sender) -> Self {
        Self::new(sender, Storage::Unknown)
    }

    /// The mark of storage's word alone.
    pub const fn stored(storage: Storage) -> Self {
        Self::new(Sender::Unknown, storage)
    }

    /// What the sender says.
    pub const fn sender(self) -> Sender {
        match (self.0 & 0b11, self.0 >> 2) {
            (NOT_COUNTED, NOT_COUNTED) => Sender::Muted,
            (NOT_COUNTED, _) => Sender::Missed,
            (_, NOT_COUNTED) => Sender::Local,
            (0b00, _) => Sender::Unknown,
            (0b01, _) => Sender::Delivered,
            _ => Sender::Lost,
        }
    }

    /// What storage says; unknown of a muted slot.
    pub const fn storage(self) -> Storage {
        let word = match (self.0 & 0b11, self.0 >> 2) {
            (NOT_COUNTED, NOT_COUNTED) => 0b00,
            (storage, NOT_COUNTED) | (_, storage) => storage,
        };
        match word {
            0b00 => Storage::Unknown,
            0b01 => Storage::Stored,
            _ => Storage::NotStored,
        }
    }

    /// Both accounts as one: commutative, associative and idempotent, so that order and repeats do not matter.
    pub const fn join(self, other: Self) -> Self {
        Self(JOIN[self.0 as usize][other.0 as usize])
    }

    /// The four bits, the sender's two lowest.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The mark with these four bits; all sixteen patterns are marks.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0b1111)
    }
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}/{:?}", self.sender(), self.storage())
    }
}

static JOIN: [[u8; 16]; 16] = {
    let mut table = [[0; 16]; 16];
    let mut row = 0;
    while row < 16 {
        let mut column = 0;
        while column < 16 {
            table[row as usize][column as usize] = join(Mark(row), Mark(column)).0;
            column += 1;
        }
        row += 1;
    }
    table
};

const fn join(left: Mark, right: Mark) -> Mark {
    let sender = if left.sender() as u8 > right.sender() as u8 { left.sender() } else { right.sender() };
    let storage = if left.storage() as u8 > right.storage() as u8 { left.storage() } else { right.storage() };
    Mark::new(sender, storage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Mark> + Clone {
        (0..16).map(Mark::from_bits)
    }

    #[test]
    fn every_pattern_is_a_mark_of_its_own() {
        for mark in all() {
            assert_eq!(Mark::new(mark.sender(), mark.storage()), mark);
        }
    }

    #[test]
    fn merging_is_a_join() {
        for a in all() {
            assert_eq!(a.join(a), a);
            assert_eq!(a.join(Mark::UNKNOWN), a, "unknown gives way to anything");
            for b in all() {
                assert_eq!(a.join(b), b.join(a));
                for c in all() {
                    assert_eq!(a.join(b).join(c), a.join(b.join(c)), "{a:?} {b:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn the_order_among_two_accounts_is_as_written() {
        use Sender::*;
        let order = [Unknown, Missed, Local, Delivered, Lost, Muted];
        for (lower, pair) in order.iter().enumerate() {
            for higher in &order[lower..] {
                assert_eq!(Mark::sent(*pair).join(Mark::sent(*higher)).sender(), *higher);
            }
        }
        let found = Mark::new(Lost, Storage::NotStored).join(Mark::stored(Storage::Stored));
        assert_eq!((found.sender(), found.storage()), (Lost, Storage::Stored), "late: lost, and found");
    }

    #[test]
    fn a_slot_that_is_not_counted_remembers_what_storage_said() {
        for reason in [Sender::Missed, Sender::Local] {
            let told =
                Mark::sent(reason).join(Mark::stored(Storage::NotStored)).join(Mark::sent(Sender::Delivered));
            assert_eq!((told.sender(), told.storage()), (Sender::Delivered, Storage::NotStored));
        }
    }
}
