//! Slots of many seconds that sum what they were sent: what their counts tell of the seconds inside.

use aviary_core::mark::{Mark, Sender, Storage};

/// What a count tells of the seconds of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// Each second in which a datapoint may have left is stored.
    All,
    /// None of them is.
    None,
    /// So many are not, and nobody can say which: they stay unknown.
    Lacking(u64),
    /// Nothing yet: what was sent in some of the seconds was not told.
    NothingYet,
    /// So many more than were sent: a duplicate could hide a loss.
    TooMany(u64),
}

/// Whether a datapoint may have left in a second of which this is known, as far as that is known.
pub(crate) const fn may_have_left(mark: Mark) -> Option<bool> {
    match (mark.sender(), mark.storage()) {
        (Sender::Unknown, _) => None,
        // Refused, unresolved, or without a handshake: known to be nowhere.
        (Sender::Lost, Storage::NotStored) => Some(false),
        (Sender::Delivered | Sender::Lost, _) => Some(true),
        // A slot that was opened and then was the agent's own fault may have left all the same.
        (Sender::Local, _) => None,
        (Sender::Missed | Sender::Muted, _) => Some(false),
    }
}

/// What a slot that holds `count` datapoints tells, given what is known of its seconds.
pub(crate) fn tells(marks: impl Iterator<Item = Mark>, count: u64) -> Tells {
    let mut expected = 0;
    for mark in marks {
        match may_have_left(mark) {
            Some(left) => expected += u64::from(left),
            None => return Tells::NothingYet,
        }
    }
    match count {
        _ if count == expected => Tells::All,
        0 => Tells::None,
        _ if count > expected => Tells::TooMany(count - expected),
        _ => Tells::Lacking(expected - count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_tells_what_can_be_told_and_no_second_is_invented() {
        use Sender::*;
        let sent = |sender| Mark::sent(sender);
        let refused = Mark::new(Lost, Storage::NotStored);
        let all = [sent(Delivered), sent(Delivered), sent(Lost), refused, sent(Missed)];
        let table = [
            (&all[..], 3, Tells::All),
            (&all[..], 0, Tells::None),
            (&all[..], 2, Tells::Lacking(1)),
            (&all[..], 4, Tells::TooMany(1)),
            (&[sent(Delivered), sent(Unknown)], 1, Tells::NothingYet),
            (&[sent(Delivered), sent(Local)], 1, Tells::NothingYet),
            (&[refused, sent(Muted)], 0, Tells::All),
        ];
        for (marks, count, expected) in table {
            assert_eq!(tells(marks.iter().copied(), count), expected, "{marks:?} {count}");
        }
    }
}
