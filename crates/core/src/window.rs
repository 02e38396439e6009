//! The sum of a group of series over a span of seconds.

use crate::{
    Evidence, Protocol,
    mark::{Mark, Sender, Storage},
};

/// What can show that a series' datapoints were delivered: decides what a slot is that the sender calls delivered and
/// of which storage has not spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The sender's evidence reaches the rung that counts: delivered.
    #[default]
    Sender,
    /// Storage decides and will speak: unknown until it has.
    Storage,
    /// Nothing can show it, as for UDP that is not read back: unproven, neither lost nor green.
    Nothing,
}

impl Proof {
    /// What can show delivery over `protocol`, if `counts` is the lowest rung that counts and `storage` tells whether
    /// somebody reads back what was stored. Without `counts`, storage decides where it is read, and otherwise the best
    /// that a protocol with an answer can show.
    pub fn of(protocol: Protocol, counts: Option<Evidence>, storage: bool) -> Self {
        let rung = match counts {
            Some(rung) => rung,
            None if storage => Evidence::Stored,
            // A datagram has no answer, so nothing it shows counts.
            None => protocol.strongest_evidence().max(Evidence::PeerClosed),
        };
        match rung {
            Evidence::Stored if storage => Self::Storage,
            // That a datagram was sent is no evidence that it arrived, even where somebody is content with it.
            rung if rung <= protocol.strongest_evidence() && protocol != Protocol::Udp => Self::Sender,
            _ => Self::Nothing,
        }
    }
}

/// The sum of a group of series over a span of seconds, as integers.
///
/// `scheduled` is the sum of the seven classes: each slot of the plan is in exactly one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Slots of the plan: one a series and second of its life, whatever became of it.
    pub scheduled: u64,
    /// Arrived in time.
    pub delivered: u64,
    /// Did not arrive within the deadline.
    pub lost: u64,
    /// The agent's own fault.
    pub local: u64,
    /// Not run by the agent.
    pub missed: u64,
    /// The agent was told not to probe.
    pub muted: u64,
    /// Sent, and nothing can show whether it arrived.
    pub unproven: u64,
    /// Nobody has told yet.
    pub unknown: u64,
    /// Of `lost`: found stored afterwards.
    pub late: u64,
}

impl Window {
    /// The slots that say something of the service: delivered and lost.
    pub const fn judged(&self) -> u64 {
        self.delivered + self.lost
    }

    /// Delivered as a share of what is judged, `None` where nothing is.
    pub fn rate(&self) -> Option<f64> {
        (self.judged() > 0).then(|| self.delivered as f64 / self.judged() as f64)
    }

    /// Adds one slot. The plain definition that [`crate::Ledger::sums`] computes 64 slots at a time.
    pub fn add(&mut self, mark: Mark, proof: Proof) {
        self.add_slots(mark, proof, 1);
    }

    /// Adds `slots` slots that have the same mark.
    pub fn add_slots(&mut self, mark: Mark, proof: Proof, slots: u64) {
        self.scheduled += slots;
        let class = match (mark.sender(), mark.storage(), proof) {
            (Sender::Unknown, _, _) => &mut self.unknown,
            (Sender::Missed, _, _) => &mut self.missed,
            (Sender::Local, _, _) => &mut self.local,
            (Sender::Muted, _, _) => &mut self.muted,
            (Sender::Delivered, Storage::Stored, _) => &mut self.delivered,
            (Sender::Delivered, Storage::NotStored, _) => &mut self.lost,
            (Sender::Delivered, Storage::Unknown, Proof::Sender) => &mut self.delivered,
            (Sender::Delivered, Storage::Unknown, Proof::Storage) => &mut self.unknown,
            (Sender::Delivered, Storage::Unknown, Proof::Nothing) => &mut self.unproven,
            (Sender::Lost, storage, _) => {
                self.late += if matches!(storage, Storage::Stored) { slots } else { 0 };
                &mut self.lost
            }
        };
        *class += slots;
    }
}

impl std::ops::AddAssign for Window {
    fn add_assign(&mut self, other: Self) {
        self.scheduled += other.scheduled;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.local += other.local;
        self.missed += other.missed;
        self.muted += other.muted;
        self.unproven += other.unproven;
        self.unknown += other.unknown;
        self.late += other.late;
    }
}

impl std::iter::Sum for Window {
    fn sum<I: Iterator<Item = Self>>(windows: I) -> Self {
        windows.fold(Self::default(), |mut sum, window| {
            sum += window;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_decides_where_it_can_speak() {
        use Sender::*;
        let class = |sender, storage, proof| {
            let mut window = Window::default();
            window.add(Mark::new(sender, storage), proof);
            window
        };
        let one = Window { scheduled: 1, ..Window::default() };
        assert_eq!(class(Delivered, Storage::Stored, Proof::Nothing), Window { delivered: 1, ..one });
        assert_eq!(class(Delivered, Storage::NotStored, Proof::Sender), Window { lost: 1, ..one });
        assert_eq!(class(Delivered, Storage::Unknown, Proof::Storage), Window { unknown: 1, ..one });
        assert_eq!(class(Delivered, Storage::Unknown, Proof::Nothing), Window { unproven: 1, ..one });
        assert_eq!(class(Lost, Storage::Stored, Proof::Storage), Window { lost: 1, late: 1, ..one });
        // A silent agent's slots stay unknown: that storage lacks them says nothing of the service.
        assert_eq!(class(Unknown, Storage::NotStored, Proof::Storage), Window { unknown: 1, ..one });
        assert_eq!(class(Missed, Storage::NotStored, Proof::Storage), Window { missed: 1, ..one });
    }

    #[test]
    fn what_shows_delivery_depends_on_protocol_rung_and_storage() {
        use Evidence::*;
        let table = [
            (Protocol::Tcp, None, false, Proof::Sender),
            (Protocol::Https, None, false, Proof::Sender),
            (Protocol::Udp, None, false, Proof::Nothing),
            (Protocol::Udp, None, true, Proof::Storage),
            (Protocol::Tcp, None, true, Proof::Storage),
            (Protocol::Tcp, Some(Stored), true, Proof::Storage),
            (Protocol::Tcp, Some(Stored), false, Proof::Nothing),
            (Protocol::Tcp, Some(PeerClosed), true, Proof::Sender),
            (Protocol::Tls, Some(KernelAcked), false, Proof::Sender),
            (Protocol::Tcp, Some(AppAcked), false, Proof::Nothing),
            (Protocol::Https, Some(AppAcked), false, Proof::Sender),
            (Protocol::Udp, Some(Sent), false, Proof::Nothing),
            (Protocol::Udp, Some(PeerClosed), true, Proof::Nothing),
        ];
        for (protocol, counts, storage, proof) in table {
            assert_eq!(Proof::of(protocol, counts, storage), proof, "{protocol} {counts:?} {storage}");
        }
    }

    #[test]
    fn a_rate_of_nothing_is_no_rate() {
        assert_eq!(Window::default().rate(), None);
        assert_eq!(Window { delivered: 58, lost: 2, ..Window::default() }.rate(), Some(58.0 / 60.0));
    }
}
