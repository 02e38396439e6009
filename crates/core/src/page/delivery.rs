//! One incident at one receiver.

use crate::{
    Timestamp,
    named::named,
    page::notice::{Change, Notice},
};

named! {
    /// What the receiver holds of the incident, as far as we know.
    pub enum Belief {
        /// It was never told.
        Nothing = "nothing",
        /// It may have taken the opening.
        MaybeOpen = "maybe_open",
        /// It took the opening.
        Open = "open",
        /// It may have taken the end.
        MaybeClosed = "maybe_closed",
        /// It may have taken the note that all is over, and nothing before.
        MaybeNoted = "maybe_noted",
        /// It took the end.
        Closed = "closed",
    }
}

named! {
    /// What a message says.
    pub enum Message {
        /// It is there, or there again.
        Opened = "opened",
        /// It changed, or it is still there.
        Updated = "updated",
        /// It is over.
        Resolved = "resolved",
        /// It was there and is over: the receiver was told of neither.
        FiredAndRecovered = "fired_and_recovered",
        /// Nothing is there: somebody wants to see that messages arrive.
        Test = "test",
        /// The test is over.
        TestOver = "test_over",
    }
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counts what was sent of this incident to this receiver.
    pub number: u64,
    /// What it says.
    pub message: Message,
    /// Of which state of the incident.
    pub revision: u64,
    /// Since when.
    pub since: Timestamp,
    /// What was believed before.
    pub before: Belief,
}

/// A message that the receiver will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// What it said.
    pub message: Message,
    /// Of which state of the incident.
    pub revision: u64,
    /// How often the incident had been opened again.
    pub reopens: u32,
    /// Why, in the receiver's words.
    pub why: String,
}

/// One incident at one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What the receiver holds.
    pub belief: Belief,
    /// The newest state that it took.
    pub taken: Option<u64>,
    /// How many messages were sent.
    pub sent: u64,
    /// How many in a row in vain.
    pub in_vain: u32,
    /// Not to be tried before.
    pub not_before: Timestamp,
    /// What it took is to be said again at this time, if it still holds then: it would forget it otherwise.
    pub say_again: Option<Timestamp>,
    /// What is on its way: one message at a time, so that none overtakes another.
    pub in_flight: Option<Attempt>,
    /// What it refused for good.
    pub dead: Option<Dead>,
}

/// Nothing told yet, to be told at once.
impl Default for Delivery {
    fn default() -> Self {
        Self {
            belief: Belief::Nothing,
            taken: None,
            sent: 0,
            in_vain: 0,
            not_before: Timestamp(0),
            say_again: None,
            in_flight: None,
            dead: None,
        }
    }
}

impl Delivery {
    /// What the receiver is to be told next, of what is known of the incident now; see the table in [`crate::page`].
    pub fn next(&self, notice: &Notice, wakes: bool, now: Timestamp) -> Option<Message> {
        use Belief::{Closed, MaybeClosed, MaybeNoted, MaybeOpen, Nothing, Open};
        let again = self.say_again.is_some_and(|at| at <= now);
        let is_over = notice.change == Change::Resolved;
        let message = match (self.belief, is_over) {
            (Nothing | MaybeOpen | MaybeClosed | MaybeNoted | Closed, false) => Message::Opened,
            (Open, false) if again || self.taken < Some(notice.revision) => Message::Updated,
            (Open, false) => return None,
            (Nothing, true) if wakes => return None,
            (Nothing | MaybeNoted, true) => Message::FiredAndRecovered,
            (MaybeOpen | Open | MaybeClosed, true) => Message::Resolved,
            (Closed, true) if again => Message::Resolved,
            (Closed, true) => return None,
        };
        let is_dead = self.dead.as_ref().is_some_and(|dead| {
            dead.message == message
                && dead.reopens == notice.reopens
                && (message != Message::Updated || dead.revision == notice.revision)
        });
        (!is_dead).then_some(message)
    }

    /// `message` is about to be sent. From here on nobody knows what the receiver holds, until it answers.
    pub(super) const fn send(&mut self, message: Message, revision: u64, now: Timestamp) -> Attempt {
        let attempt = Attempt { number: self.sent, message, revision, since: now, before: self.belief };
        self.sent += 1;
        self.belief = match (message, self.belief) {
            (Message::Opened | Message::Test, _) => Belief::MaybeOpen,
            (Message::Updated, belief) => belief,
            (Message::FiredAndRecovered, _) => Belief::MaybeNoted,
            // Said again to one that took it: if this is lost, that it took it stands.
            (Message::Resolved | Message::TestOver, Belief::Closed) => Belief::Closed,
            (Message::Resolved | Message::TestOver, _) => Belief::MaybeClosed,
        };
        self.in_flight = Some(attempt);
        attempt
    }

    /// The receiver took `attempt`.
    pub(super) const fn took(&mut self, attempt: Attempt, say_again: Option<Timestamp>) {
        self.belief = match attempt.message {
            Message::Opened | Message::Updated | Message::Test => Belief::Open,
            Message::Resolved | Message::FiredAndRecovered | Message::TestOver => Belief::Closed,
        };
        self.taken = Some(attempt.revision);
        self.in_vain = 0;
        self.not_before = Timestamp(0);
        self.say_again = say_again;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        incident::Id,
        page::notice::{Severity, Urgency},
    };

    #[test]
    fn what_is_said_next() {
        use Belief::{Closed, MaybeClosed, MaybeNoted, MaybeOpen, Nothing, Open};
        use Message::{FiredAndRecovered, Opened, Resolved, Updated};
        // What is believed; what is said while it is there, to one that took an earlier and the newest state; what is
        // said when it is over, to one that wakes and one that does not.
        let table = [
            (Nothing, Some(Opened), Some(Opened), None, Some(FiredAndRecovered)),
            (MaybeOpen, Some(Opened), Some(Opened), Some(Resolved), Some(Resolved)),
            (Open, Some(Updated), None, Some(Resolved), Some(Resolved)),
            (MaybeClosed, Some(Opened), Some(Opened), Some(Resolved), Some(Resolved)),
            (MaybeNoted, Some(Opened), Some(Opened), Some(FiredAndRecovered), Some(FiredAndRecovered)),
            (Closed, Some(Opened), Some(Opened), None, None),
        ];
        let notice = |change| Notice {
            id: Id::given("i"),
            key: "k".into(),
            revision: 2,
            reopens: 0,
            change,
            urgency: Urgency::Page,
            severity: Severity::Error,
            tags: BTreeMap::new(),
            shadow: false,
            held_by: Default::default(),
        };
        for (belief, earlier, newest, wakes, quiet) in table {
            let delivery = |taken| Delivery { belief, taken, ..Delivery::default() };
            let next = |taken, change, wakes| delivery(taken).next(&notice(change), wakes, Timestamp(0));
            assert_eq!(next(Some(1), Change::Updated, true), earlier, "{belief}");
            assert_eq!(next(Some(2), Change::Updated, true), newest, "{belief}");
            assert_eq!(next(None, Change::Resolved, true), wakes, "{belief}");
            assert_eq!(next(None, Change::Resolved, false), quiet, "{belief}");
        }
    }
}
