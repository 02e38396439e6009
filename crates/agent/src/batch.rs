//! Closed slots on their way from the lanes to the shipper.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aviary_core::{Endpoint, Evidence, Outcome, Second, Span, histogram::Histogram, plan::Step};
use aviary_probe::Observation;
use aviary_wire::report::{Certificate, ClosedSlot, EVENTS_MAX, Event, Gap, PhaseTimings, SPAN_SECONDS_MAX};
use tokio::sync::Notify;

use crate::{
    AgentSeries,
    groups::{GroupTotals, Groups},
    slots::Skipped,
    timings::MinuteTimings,
};

/// How many closed slots wait for the shipper at most: it takes them once a second, so more only gather while it
/// hangs. What does not fit is dropped, oldest first, and counted.
const SLOTS_WAITING_MAX: usize = 262_144;

/// How many gaps wait at most; a gap can be any number of seconds.
const GAPS_WAITING_MAX: usize = 65_536;

/// How many steps of the wall clock wait at most: there is one a second, and they are taken as often.
const STEPS_WAITING_MAX: usize = 64;

/// How many certificates are remembered: one for each endpoint and address.
const CERTIFICATES_MAX: usize = 1_000;

/// A certificate that was not seen for so long is none any more.
const UNSEEN_SECONDS: u64 = 86_400;

/// Which crew of lanes closed a slot: its series are places in that crew's roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Crew(pub(crate) u32);

/// Closed slots that no report carries yet. Lanes put in, without ever waiting for the shipper; the shipper takes out.
#[derive(Default)]
pub struct Batch {
    state: Mutex<State>,
    /// Told when something other than a delivery was closed, and at the end.
    urgent: Notify,
    /// Told at the end.
    finished: Notify,
}

#[derive(Default)]
struct State {
    crews: BTreeMap<Crew, CrewSlots>,
    crews_made: u32,
    groups: Groups,
    timings: MinuteTimings,
    certificates: BTreeMap<(Endpoint, SocketAddr), Known>,
    events: VecDeque<Event>,
    stats: Stats,
    epoch: u32,
    steps: Vec<Step>,
    finished: bool,
}

#[derive(Default)]
struct CrewSlots {
    /// The group of each series.
    groups: Vec<usize>,
    endpoints: Vec<Endpoint>,
    slots: Vec<ClosedSlot>,
    gaps: VecDeque<Gap>,
    is_over: bool,
}

/// When a certificate ends, when it was seen last, and whether that was reported.
struct Known {
    not_after: i64,
    seen: Second,
    since_told: bool,
}

/// What reports are made of.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// What each crew closed.
    pub(crate) crews: Vec<(Crew, TakenSlots)>,
    pub(crate) timings: Vec<PhaseTimings>,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) events: Vec<Event>,
    pub(crate) epoch: u32,
    /// How the wall clock was stepped.
    pub(crate) steps: Vec<Step>,
    pub(crate) dropped: u64,
    pub(crate) finished: bool,
}

/// What one crew closed.
#[derive(Debug, Default)]
pub(crate) struct TakenSlots {
    pub(crate) slots: Vec<ClosedSlot>,
    pub(crate) gaps: Vec<Gap>,
    /// Nothing more will come of this crew.
    pub(crate) is_over: bool,
}

/// How the probing is doing, since the agent's start.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Slots closed one by one.
    pub closed: u64,
    /// Seconds of series that were skipped.
    pub skipped: u64,
    /// Slots that were dropped unreported because nobody took them.
    pub dropped: u64,
    /// Beats that a lane was too far behind to take.
    pub beats_dropped: u64,
    /// How late attempts started, in microseconds after they were due.
    pub start_late: Histogram,
    /// How late attempts that ran to their deadline were given up, in microseconds after it.
    pub abandon_late: Histogram,
}

impl Batch {
    /// Makes room for the slots of a crew that probes `series`.
    pub fn enlist(&self, series: &[AgentSeries]) -> Crew {
        let mut state = self.lock();
        let crew = Crew(state.crews_made);
        state.crews_made += 1;
        let groups =
            series.iter().map(|it| state.groups.join(&it.service, it.target.endpoint().protocol())).collect();
        let endpoints = series.iter().map(|it| it.target.endpoint().clone()).collect();
        state.crews.insert(crew, CrewSlots { groups, endpoints, ..CrewSlots::default() });
        crew
    }

    /// How the probing is doing.
    pub fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    /// What came of all slots since the start, by service and protocol.
    pub(crate) fn totals(&self) -> Vec<GroupTotals> {
        self.lock().groups.totals()
    }

    /// When the certificates that were seen end.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.lock().certificates.iter().map(certificate).collect()
    }

    /// Which epoch of the wall clock this is.
    pub(crate) fn epoch(&self) -> u32 {
        self.lock().epoch
    }

    /// Takes out what was closed, where no shipper does: slots closed one by one, and gaps.
    pub fn drain(&self) -> (Vec<ClosedSlot>, Vec<Gap>) {
        let (mut slots, mut gaps) = (Vec::new(), Vec::new());
        for (_, taken) in self.take().crews {
            slots.extend(taken.slots);
            gaps.extend(taken.gaps);
        }
        (slots, gaps)
    }

    pub(crate) fn close(&self, crew: Crew, series: u32, second: Second, observed: &Observation) {
        let delivered = matches!(observed.outcome, Outcome::Delivered(_));
        let failed = matches!(observed.outcome, Outcome::Lost { .. } | Outcome::Local { .. });
        let slot = ClosedSlot {
            series,
            second,
            outcome: observed.outcome,
            reached: observed.reached.filter(|_| failed),
            address: observed.address.filter(|_| failed),
        };
        let mut guard = self.lock();
        let state = &mut *guard;
        state.stats.closed += 1;
        let Some(crew) = state.crews.get_mut(&crew) else { return };
        let group = crew.groups[series as usize];
        state.groups.count(group, &observed.outcome, 1);
        if delivered {
            state.groups.record(group, &observed.timings);
            state.timings.record(second, group, &observed.timings);
        }
        if let (Some(not_after), Some(address)) =
            (observed.tls.as_ref().and_then(|tls| tls.not_after), observed.address)
        {
            let key = (crew.endpoints[series as usize].clone(), address);
            let fresh = Known { not_after, seen: second, since_told: true };
            let known = state.certificates.entry(key).or_insert(fresh);
            known.since_told |= known.not_after != not_after;
            (known.not_after, known.seen) = (not_after, second);
            if state.certificates.len() > CERTIFICATES_MAX {
                let oldest = state.certificates.iter().min_by_key(|(_, known)| known.seen);
                let oldest = oldest.map(|(key, _)| key.clone());
                oldest.and_then(|oldest| state.certificates.remove(&oldest));
            }
        }
        if crew.slots.len() >= SLOTS_WAITING_MAX {
            let oldest = SLOTS_WAITING_MAX / 8;
            crew.slots.drain(..oldest);
            state.stats.dropped += oldest as u64;
        }
        crew.slots.push(slot);
        drop(guard);
        if !delivered {
            self.urgent.notify_one();
        }
    }

    pub(crate) fn skip(&self, crew: Crew, series: u32, (span, outcome): Skipped) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.stats.skipped += span.seconds();
        let Some(crew) = state.crews.get_mut(&crew) else { return };
        state.groups.count(crew.groups[series as usize], &outcome, span.seconds());
        if crew.gaps.len() >= GAPS_WAITING_MAX {
            let oldest = crew.gaps.pop_front();
            state.stats.dropped += oldest.map_or(0, |gap| u64::from(gap.count) * gap.span.seconds());
        }
        crew.gaps.push_back(Gap { first: series, count: 1, span, outcome });
        drop(guard);
        self.urgent.notify_one();
    }

    pub(crate) fn started(&self, late_us: u32) {
        self.lock().stats.start_late.record(late_us);
    }

    /// An attempt that ran to its deadline was given up so many microseconds after it.
    pub(crate) fn abandoned(&self, late_us: u32) {
        self.lock().stats.abandon_late.record(late_us);
    }

    /// The wall clock was stepped. Told before the lanes are, so that nobody takes a slot of the new time without it.
    pub(crate) fn stepped(&self, step: Step) {
        let mut state = self.lock();
        state.epoch = step.epoch;
        if state.steps.len() >= STEPS_WAITING_MAX {
            state.steps.remove(0);
        }
        state.steps.push(step);
    }

    pub(crate) fn beat_dropped(&self) {
        self.lock().stats.beats_dropped += 1;
    }

    /// Something changed around the agent. Of more than a report holds, the oldest are forgotten.
    pub(crate) fn noticed(&self, event: Event) {
        let mut state = self.lock();
        if state.events.len() >= EVENTS_MAX {
            state.events.pop_front();
        }
        state.events.push_back(event);
    }

    /// Slots that had been closed were lost on the way to a collector.
    pub(crate) fn lost(&self, slots: u64) {
        self.lock().stats.dropped += slots;
    }

    /// All certificates are to be told again: to a collector that may not know them. Those that nobody has shown for long
    /// are forgotten: names move on to other addresses, and what is no longer there does not run out.
    pub(crate) fn tell_certificates_again(&self, now: Second) {
        let mut state = self.lock();
        state.certificates.retain(|_, known| known.seen.plus(UNSEEN_SECONDS) > now);
        state.certificates.values_mut().for_each(|known| known.since_told = true);
    }

    /// A crew closes nothing more.
    pub(crate) fn dismiss(&self, crew: Crew) {
        if let Some(crew) = self.lock().crews.get_mut(&crew) {
            crew.is_over = true;
        }
        self.urgent.notify_one();
    }

    /// Nothing more will be closed.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.urgent.notify_one();
        self.finished.notify_one();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Waits until nothing more will be closed.
    pub(crate) async fn until_finished(&self) {
        self.finished.notified().await;
    }

    /// Waits until something should not wait for the second to be over.
    pub(crate) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    pub(crate) fn take(&self) -> Taken {
        let mut guard = self.lock();
        let state = &mut *guard;
        let crews: Vec<_> = state
            .crews
            .iter_mut()
            .map(|(crew, slots)| {
                let gaps = std::mem::take(&mut slots.gaps).into();
                let slots = TakenSlots {
                    slots: std::mem::take(&mut slots.slots),
                    gaps,
                    is_over: slots.is_over || state.finished,
                };
                (*crew, slots)
            })
            .collect();
        let mut certificates = Vec::new();
        for entry in state.certificates.iter_mut().filter(|(_, known)| known.since_told) {
            entry.1.since_told = false;
            certificates.push(certificate((entry.0, entry.1)));
        }
        let taken = Taken {
            crews,
            timings: state.timings.take(&state.groups),
            certificates,
            events: std::mem::take(&mut state.events).into(),
            epoch: state.epoch,
            steps: std::mem::take(&mut state.steps),
            dropped: state.stats.dropped,
            finished: state.finished,
        };
        if state.crews.values().any(|crew| crew.is_over) {
            state.crews.retain(|_, crew| !crew.is_over);
            state.groups.keep(state.crews.values().flat_map(|crew| crew.groups.iter().copied()));
        }
        drop(guard);
        let crews = taken.crews.into_iter();
        let crews = crews.map(|(crew, slots)| (crew, TakenSlots { gaps: merged(slots.gaps), ..slots }));
        Taken { crews: crews.collect(), ..taken }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding the lock can have lost one slot, not broken the lists: going on is right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn certificate(((endpoint, address), known): (&(Endpoint, SocketAddr), &Known)) -> Certificate {
    Certificate { endpoint: endpoint.clone(), address: *address, not_after: known.not_after }
}

/// Whether an outcome shows that the network beyond this host works. A datagram that was merely sent shows nothing.
pub(crate) const fn shows_network(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered(evidence) if !matches!(evidence, Evidence::Sent))
}

/// Neighbouring series with the same gap as one: after a stall all of them have it. A gap that is longer than a report may
/// tell in one stroke, as of a clock that stood in 1970 until somebody set it, becomes several.
pub(crate) fn merged(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_unstable_by_key(|gap| (gap.span, gap.outcome, gap.first));
    let mut merged: Vec<Gap> = Vec::new();
    for gap in gaps {
        match merged.last_mut() {
            Some(last)
                if (last.span, last.outcome) == (gap.span, gap.outcome)
                    && last.first + last.count == gap.first =>
            {
                last.count += gap.count;
            }
            _ => merged.push(gap),
        }
    }
    let stretches = merged.into_iter().flat_map(|gap| {
        let begins = (gap.span.from.0..gap.span.until.0).step_by(SPAN_SECONDS_MAX as usize).map(Second);
        let ends = move |from: Second| from.plus(SPAN_SECONDS_MAX).min(gap.span.until);
        begins.map(move |from| Gap { span: Span::new(from, ends(from)), ..gap })
    });
    stretches.collect()
}

#[cfg(test)]
mod tests {
    use aviary_wire::report::Report;

    use super::*;

    fn shows(batch: &Batch, crew: Crew, number: u64, second: Second) {
        let tls = aviary_probe::TlsFacts {
            version: "1.3",
            cipher: String::new(),
            handshake: aviary_probe::Handshake::Full,
            not_after: Some(number.cast_signed()),
        };
        let address = SocketAddr::from(([192, 0, (number >> 8) as u8, number as u8], 443));
        let observed = Observation {
            outcome: Outcome::Delivered(Evidence::PeerClosed),
            timings: aviary_core::Timings::default(),
            address: Some(address),
            reached: None,
            tls: Some(tls),
        };
        batch.close(crew, 0, second, &observed);
    }

    #[test]
    fn certificates_of_addresses_that_went_make_room_and_are_forgotten() {
        let batch = Batch::default();
        let tls = aviary_probe::TlsClient::new(&[], aviary_probe::KeyExchange::Classic).unwrap();
        let endpoint: Endpoint = "tls://graphite.example.com:2030".parse().unwrap();
        let target = aviary_probe::Target::new(endpoint, "canary.a", &tls, None).unwrap();
        let series =
            AgentSeries { service: "ingest".to_owned(), name: "canary.a".to_owned(), address: None, target };
        let crew = batch.enlist(&[series]);
        for number in 0..CERTIFICATES_MAX as u64 + 100 {
            shows(&batch, crew, number, Second(1_000 + number));
        }
        let told = batch.take().certificates;
        assert_eq!(told.len(), CERTIFICATES_MAX);
        let newest = CERTIFICATES_MAX as i64 + 99;
        assert!(told.iter().any(|told| told.not_after == newest), "the newest is among them");
        shows(&batch, crew, 500, Second(80_000));
        batch.tell_certificates_again(Second(90_000));
        let told: Vec<_> = batch.take().certificates.iter().map(|told| told.not_after).collect();
        assert_eq!(told, [500], "of a day ago only what was seen since");
    }

    #[test]
    fn a_clock_that_was_wrong_by_decades_leaves_reports_that_can_be_taken() {
        let span = Span::new(Second(100), Second(1_763_690_400));
        let gap = |first| Gap { first, count: 1, span, outcome: Outcome::Missed };
        let gaps = merged(vec![gap(1), gap(0), gap(3)]);
        let told: u64 = gaps.iter().map(|gap| u64::from(gap.count) * gap.span.seconds()).sum();
        assert_eq!(told, 3 * span.seconds());
        let report = Report { configuration: "c".to_owned(), gaps: gaps.clone(), ..Report::default() };
        assert_eq!(Report::decode(&report.encode()).map(|report| report.gaps), Ok(gaps));
    }
}
