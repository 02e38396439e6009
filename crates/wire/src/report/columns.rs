//! Slots as columns: runs over the roster for each second, and what failures need beside.

use std::{collections::BTreeMap, net::SocketAddr};

use aviary_core::{Evidence, Fault, LocalFault, Outcome, Phase, Second, Span};

use super::{
    ClosedSlot, Gap as ToldGap, ReportError, SERIES_MAX, SLOTS_MAX, SPAN_SECONDS_MAX, at_most, field,
};

/// One second: runs over the roster, `length << 4 | code`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SecondRuns {
    /// Seconds after `first_second`.
    #[prost(uint64, tag = "1")]
    pub(super) after: u64,
    #[prost(uint32, repeated, tag = "2")]
    pub(super) runs: Vec<u32>,
}

/// What lost and local slots need beside, one entry a slot in the order of the slots.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Failures {
    /// [`Phase`] by its place in the ladder.
    #[prost(uint32, repeated, tag = "1")]
    pub(super) phases: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    pub(super) faults: Vec<u32>,
    /// 0 for none, or one more than the rung's place.
    #[prost(uint32, repeated, tag = "3")]
    pub(super) reached: Vec<u32>,
    /// 0 for none, or one more than the place in `addresses`.
    #[prost(uint32, repeated, tag = "4")]
    pub(super) address: Vec<u32>,
    /// The addresses that occur, each once.
    #[prost(string, repeated, tag = "5")]
    pub(super) addresses: Vec<String>,
    /// The HTTP statuses, one for each fault that is one.
    #[prost(uint32, repeated, tag = "6")]
    pub(super) statuses: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Gap {
    #[prost(uint32, tag = "1")]
    pub(super) first: u32,
    #[prost(uint32, tag = "2")]
    pub(super) count: u32,
    #[prost(uint64, tag = "3")]
    pub(super) from: u64,
    #[prost(uint64, tag = "4")]
    pub(super) seconds: u64,
    #[prost(uint32, tag = "5")]
    pub(super) code: u32,
    #[prost(uint32, tag = "6")]
    pub(super) phase: u32,
    #[prost(uint32, tag = "7")]
    pub(super) fault: u32,
}

const CODE_BITS: u32 = 4;
const NOT_TOLD: u32 = 0;
const DELIVERED: u32 = 1;
const LOST: u32 = DELIVERED + Evidence::ALL.len() as u32;
const LOCAL: u32 = LOST + 1;
const MISSED: u32 = LOCAL + 1;
const MUTED: u32 = MISSED + 1;

const fn code(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Delivered(evidence) => DELIVERED + evidence as u32,
        Outcome::Lost { .. } => LOST,
        Outcome::Local { .. } => LOCAL,
        Outcome::Missed => MISSED,
        Outcome::Muted => MUTED,
    }
}

pub(super) fn write(slots: &[ClosedSlot]) -> (u64, Vec<SecondRuns>, Option<Failures>) {
    let mut seconds: BTreeMap<Second, BTreeMap<u32, &ClosedSlot>> = BTreeMap::new();
    for slot in slots {
        seconds.entry(slot.second).or_default().insert(slot.series, slot);
    }
    let first = seconds.keys().next().map_or(0, |second| second.0);
    let mut failures = Failures::default();
    let mut places: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    let mut columns = Vec::with_capacity(seconds.len());
    for (second, series) in &seconds {
        let mut runs = Vec::new();
        let mut next = 0;
        for (place, slot) in series {
            push_run(&mut runs, NOT_TOLD, place - next);
            push_run(&mut runs, code(slot.outcome), 1);
            next = place + 1;
            write_failure(&mut failures, &mut places, slot);
        }
        columns.push(SecondRuns { after: second.0 - first, runs });
    }
    let any = !failures.phases.is_empty();
    (first, columns, any.then_some(failures))
}

fn push_run(runs: &mut Vec<u32>, code: u32, length: u32) {
    match runs.last_mut() {
        _ if length == 0 => {}
        Some(last) if *last & ((1 << CODE_BITS) - 1) == code => *last += length << CODE_BITS,
        _ => runs.push(length << CODE_BITS | code),
    }
}

fn write_failure(failures: &mut Failures, places: &mut BTreeMap<SocketAddr, u32>, slot: &ClosedSlot) {
    let (phase, fault) = match slot.outcome {
        Outcome::Lost { phase, fault } => (phase, fault_number(fault)),
        Outcome::Local { phase, fault } => (phase, fault as u32),
        Outcome::Delivered(_) | Outcome::Missed | Outcome::Muted => return,
    };
    failures.phases.push(phase as u32);
    failures.faults.push(fault);
    failures.reached.push(slot.reached.map_or(0, |rung| rung as u32 + 1));
    failures.address.push(slot.address.map_or(0, |address| {
        *places.entry(address).or_insert_with(|| {
            failures.addresses.push(address.to_string());
            failures.addresses.len() as u32
        })
    }));
    if let Outcome::Lost { fault: Fault::Status(status), .. } = slot.outcome {
        failures.statuses.push(u32::from(status));
    }
}

pub(super) fn read(
    first: u64,
    seconds: &[SecondRuns],
    failures: Failures,
) -> Result<Vec<ClosedSlot>, ReportError> {
    let mut failures = FailureReader::new(failures)?;
    let mut slots = Vec::new();
    let mut last = None;
    for column in seconds {
        if last.is_some_and(|last| column.after <= last) {
            return Err(field("seconds.after", "does not rise"));
        }
        last = Some(column.after);
        let second = first
            .checked_add(column.after)
            .map(Second)
            .ok_or_else(|| field("seconds.after", "is beyond all time"))?;
        let mut place = 0u32;
        for run in &column.runs {
            let (length, code) = (run >> CODE_BITS, run & ((1 << CODE_BITS) - 1));
            let end = u64::from(place) + u64::from(length);
            at_most("series in a second", end, SERIES_MAX as u64)?;
            if code != NOT_TOLD {
                at_most("slots", slots.len() as u64 + u64::from(length), SLOTS_MAX as u64)?;
                for series in place..place + length {
                    slots.push(failures.slot(series, second, code)?);
                }
            }
            place += length;
        }
    }
    failures.finish()?;
    Ok(slots)
}

struct FailureReader {
    entries: std::vec::IntoIter<((u32, u32), (u32, u32))>,
    statuses: std::vec::IntoIter<u32>,
    addresses: Vec<SocketAddr>,
}

impl FailureReader {
    fn new(failures: Failures) -> Result<Self, ReportError> {
        let lengths = [failures.faults.len(), failures.reached.len(), failures.address.len()];
        if lengths.iter().any(|length| *length != failures.phases.len()) {
            return Err(field("failures", "its columns differ in length"));
        }
        let addresses = failures.addresses.iter().map(|text| text.parse());
        let addresses =
            addresses.collect::<Result<_, _>>().map_err(|error| field("failures.addresses", error))?;
        let pairs = failures.phases.into_iter().zip(failures.faults);
        let entries: Vec<_> = pairs.zip(failures.reached.into_iter().zip(failures.address)).collect();
        Ok(Self { entries: entries.into_iter(), statuses: failures.statuses.into_iter(), addresses })
    }

    fn slot(&mut self, series: u32, second: Second, code: u32) -> Result<ClosedSlot, ReportError> {
        if code != LOST && code != LOCAL {
            let outcome = match code {
                MISSED => Outcome::Missed,
                MUTED => Outcome::Muted,
                other => Outcome::Delivered(rung(other - DELIVERED)?),
            };
            return Ok(ClosedSlot { series, second, outcome, reached: None, address: None });
        }
        let ((place, number), (reached, address)) =
            self.entries.next().ok_or_else(|| field("failures", "has fewer entries than slots failed"))?;
        let phase = phase(place)?;
        let outcome = if code == LOST {
            Outcome::Lost { phase, fault: self.fault(number)? }
        } else {
            Outcome::Local { phase, fault: local_fault(number)? }
        };
        let reached = reached.checked_sub(1).map(rung).transpose()?;
        let address = match address.checked_sub(1) {
            None => None,
            Some(index) => {
                let known = self.addresses.get(index as usize);
                Some(
                    *known
                        .ok_or_else(|| field("failures.address", format!("no address has number {index}")))?,
                )
            }
        };
        Ok(ClosedSlot { series, second, outcome, reached, address })
    }

    fn fault(&mut self, number: u32) -> Result<Fault, ReportError> {
        let known = Fault::ALL.into_iter().find(|fault| fault_number(*fault) == number);
        match known.ok_or_else(|| field("failures.faults", format!("no fault has number {number}")))? {
            Fault::Status(_) => {
                let status = self.statuses.next().and_then(|status| u16::try_from(status).ok());
                Ok(Fault::Status(
                    status.ok_or_else(|| field("failures.statuses", "lacks a status below 65536"))?,
                ))
            }
            fault => Ok(fault),
        }
    }

    fn finish(mut self) -> Result<(), ReportError> {
        match (self.entries.next(), self.statuses.next()) {
            (None, None) => Ok(()),
            _ => Err(field("failures", "has more entries than slots failed")),
        }
    }
}

pub(super) fn phase(place: u32) -> Result<Phase, ReportError> {
    Phase::ALL
        .get(place as usize)
        .copied()
        .ok_or_else(|| field("phases", format!("no phase has number {place}")))
}

fn rung(place: u32) -> Result<Evidence, ReportError> {
    let known = Evidence::ALL.get(place as usize).copied();
    known.ok_or_else(|| field("seconds.runs", format!("no evidence has number {place}")))
}

/// The number of a fault on the wire; once given, never given to another.
const fn fault_number(fault: Fault) -> u32 {
    match fault {
        Fault::BadCertificate => 0,
        Fault::Closed => 1,
        Fault::NameNotFound => 2,
        Fault::Refused => 3,
        Fault::Reset => 4,
        Fault::Resolver => 5,
        Fault::Status(_) => 6,
        Fault::Timeout => 7,
        Fault::TlsProtocol => 8,
        Fault::Unreachable => 9,
    }
}

fn local_fault(number: u32) -> Result<LocalFault, ReportError> {
    let known = LocalFault::ALL.get(number as usize).copied();
    known.ok_or_else(|| field("failures.faults", format!("no local fault has number {number}")))
}

pub(super) fn write_gap(gap: &ToldGap) -> Gap {
    let (phase, fault) = match gap.outcome {
        Outcome::Local { phase, fault } => (phase as u32, fault as u32),
        _ => (0, 0),
    };
    Gap {
        first: gap.first,
        count: gap.count,
        from: gap.span.from.0,
        seconds: gap.span.seconds(),
        code: code(gap.outcome),
        phase,
        fault,
    }
}

pub(super) fn read_gap(gap: &Gap) -> Result<ToldGap, ReportError> {
    let outcome = match gap.code {
        LOCAL => Outcome::Local { phase: phase(gap.phase)?, fault: local_fault(gap.fault)? },
        MISSED => Outcome::Missed,
        MUTED => Outcome::Muted,
        other => return Err(field("gaps.code", format!("{other} is no outcome of a gap"))),
    };
    at_most("series in a gap", u64::from(gap.first) + u64::from(gap.count), SERIES_MAX as u64)?;
    at_most("seconds in a gap", gap.seconds, SPAN_SECONDS_MAX)?;
    let from = Second(gap.from);
    let span = Span::new(from, from.plus(gap.seconds));
    Ok(ToldGap { first: gap.first, count: gap.count, span, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_the_wire_never_change() {
        let names: Vec<_> = (0..10)
            .map(|number| Fault::ALL.into_iter().find(|fault| fault_number(*fault) == number).unwrap().name())
            .collect();
        assert_eq!(
            names.join(" "),
            "bad_certificate closed name_not_found refused reset resolver status timeout tls_protocol unreachable"
        );
        let local: Vec<_> = LocalFault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(local.join(" "), "bug clock_step no_buffers no_files no_ports no_route starved");
        assert_eq!(
            Phase::ALL.iter().map(|phase| phase.name()).collect::<Vec<_>>().join(" "),
            "dns connect tls send confirm"
        );
        assert_eq!([DELIVERED, LOST, LOCAL, MISSED, MUTED], [1, 6, 7, 8, 9]);
    }
}
