//! An agent and a collector before a Graphite that is read back, and what is on its disk beside what is said of it.

use std::{collections::BTreeMap, thread, time::Duration};

use aviary_core::{Protocol, Second, Span};
use serde_json::Value;

use crate::support::{
    aviary::{Aviary, now},
    graphite::Setup,
    service::Service,
    slots::{Slot, Slots, is_starved_or_timed_out, once_none_is, unlike_but_for_few},
};

/// How long after its second a slot has surely been read: closed, settled, and asked for twice.
pub(super) const READ_AFTER: u64 = 12;

/// How long reading may take beyond that: whoever got no answer in time asks again.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(60);

/// Everything that takes part.
pub(super) struct Stage {
    pub(super) aviary: Aviary,
    pub(super) service: Service,
    pub(super) protocols: Vec<Protocol>,
}

impl Stage {
    /// Probes `protocols` of a Graphite with this setup, and reads it back. The series of each has begun.
    #[track_caller]
    pub(super) fn start(setup: Setup, protocols: &[Protocol]) -> Self {
        let service = Service::start_as(setup);
        let endpoints: Vec<_> =
            protocols.iter().map(|protocol| format!("{:?}", service.endpoint(*protocol))).collect();
        let aviary = Aviary::start(&format!(
            "[vantage]\nregion = \"eu\"\nnode = \"canary-7\"\n[agent]\n\
             [[service]]\nname = \"ingest\"\nendpoints = [{}]\nca = {{ file = \"{}\" }}\n\
             [service.readback]\ngraphite = \"http://{}\"\n",
            endpoints.join(", "),
            service.ca().display(),
            service.graphite.http(),
        ));
        aviary.wait_until_begun(protocols.len());
        Self { aviary, service, protocols: protocols.to_vec() }
    }

    /// Waits until the seconds before `second` were read.
    pub(super) fn wait_until_read(&self, second: Second) {
        wait_until(second.plus(READ_AFTER));
    }

    pub(super) fn name(&self, protocol: Protocol) -> String {
        let address = self.service.address(protocol).to_string().replace(['.', ':'], "_");
        let protocol = protocol.graphite_name();
        format!("canary.ingest.{protocol}.external.eu.none.none.canary-7.{address}")
    }

    /// Whether carbon has a file of its series.
    #[track_caller]
    pub(super) fn is_created(&self, protocol: Protocol) -> bool {
        let span = Span::before(now(), 1);
        self.service.graphite.on_disk(&self.name(protocol), span).is_some()
    }

    /// What the collector says of the service.
    #[track_caller]
    pub(super) fn said(&self) -> Value {
        self.aviary.get("/api/v1/services/ingest")
    }

    /// What the collector holds of each second of `span`, by protocol.
    #[track_caller]
    pub(super) fn slots(&self, span: Span) -> BTreeMap<String, Slots> {
        self.aviary.slots(span)
    }

    /// The same, once `span` is read.
    #[track_caller]
    pub(super) fn read_slots(&self, span: Span) -> BTreeMap<String, Slots> {
        self.wait_until_read(span.until);
        once_known(|| self.slots(span))
    }

    /// Where what is said of `span` differs from what is on disk, in words. A series without a file must be unknown.
    #[track_caller]
    pub(super) fn differences(&self, span: Span) -> Vec<String> {
        let said = self.slots(span);
        let mut found = Vec::new();
        for protocol in &self.protocols {
            let disk = self.service.graphite.on_disk(&self.name(*protocol), span);
            for second in span.iter() {
                let Some(slot) = said.get(protocol.name()).and_then(|slots| slots.get(&second)) else {
                    found.push(format!("{protocol} at {second}: nothing is said of it"));
                    continue;
                };
                let outcome = slot.outcome.split(' ').next().unwrap_or_default();
                let is_right = match (disk.as_ref().map(|disk| disk.contains(&second)), outcome) {
                    (Some(true), "delivered") => true,
                    (Some(true), "lost") => slot.late,
                    (Some(false), "lost") => !slot.late,
                    // What the sender knows to be lost is lost, whether there is a file or not.
                    (None, "lost") => !slot.late,
                    (None, "unknown") => true,
                    (_, "local" | "missed") => true,
                    _ => false,
                };
                if !is_right {
                    found.push(format!(
                        "{protocol} at {second}: {slot:?}, and on disk: {:?}",
                        disk.as_ref().map(|disk| disk.contains(&second))
                    ));
                }
            }
        }
        found
    }

    /// Waits until nothing differs in `span`, or says what does.
    #[track_caller]
    pub(super) fn settles_as_the_disk(&self, span: Span, patience: Duration) {
        let until = now().plus(patience.as_secs());
        loop {
            let differences = self.differences(span);
            if differences.is_empty() {
                return;
            }
            assert!(
                now() < until,
                "{} differences: {differences:#?}\n{}",
                differences.len(),
                self.aviary.log()
            );
            thread::sleep(Duration::from_secs(2));
        }
    }
}

/// What `read` finds once nothing of it is unknown any more, or after a minute.
pub(super) fn once_known(read: impl Fn() -> BTreeMap<String, Slots>) -> BTreeMap<String, Slots> {
    once_none_is(&["unknown"], READ_WITHIN, read)
}

/// What storage lacks of what was sent in time: what the sender itself lost says in which phase.
pub(super) fn lacking<'a>(slots: impl IntoIterator<Item = (&'a Second, &'a Slot)>) -> Vec<(Second, &'a str)> {
    let slots = slots.into_iter().map(|(second, slot)| (*second, slot.outcome.as_str()));
    slots.filter(|(_, outcome)| *outcome == "lost").collect()
}

/// What reading back made something else of than `expected`, but for the few slots that a machine busy with other tests did not
/// get to, or whose server did not get to them within a second.
pub(super) fn read_unlike<'a>(
    slots: impl IntoIterator<Item = (&'a Second, &'a Slot)>,
    expected: &str,
) -> Vec<(Second, &'a str)> {
    unlike_but_for_few(slots, expected, is_starved_or_timed_out)
}

/// Waits until it is `second`.
pub(super) fn wait_until(second: Second) {
    let left = second.0.saturating_sub(now().0);
    thread::sleep(Duration::from_secs(left));
}
