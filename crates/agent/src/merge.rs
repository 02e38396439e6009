//! Several reports as one: what waited for an hour is not pushed second by second.

use std::collections::BTreeMap;

use aviary_core::{Phase, Protocol, Second};
use aviary_wire::report::{
    CERTIFICATES_MAX, EVENTS_MAX, GAPS_MAX, PhaseTimings, Report, SUSPECT_SPANS_MAX, TIMINGS_MAX,
};

use crate::keep::SLOTS_PER_REPORT;

/// How many of `reports`, from the first on, can be told as one: they must speak of one roster in one life and epoch, and
/// stay within the bounds of a report.
pub(crate) fn mergeable(reports: &[Report]) -> usize {
    let Some(first) = reports.first() else { return 0 };
    let (mut slots, mut gaps, mut timings, mut certificates, mut events, mut suspect) = (0, 0, 0, 0, 0, 0);
    let fits = |report: &&Report| {
        slots += report.slots.len();
        gaps += report.gaps.len();
        timings += report.timings.len();
        certificates += report.certificates.len();
        events += report.events.len();
        suspect += report.self_suspect.len();
        report.boot == first.boot
            && report.roster_id == first.roster_id
            && report.epoch == first.epoch
            && report.configuration == first.configuration
            && slots <= SLOTS_PER_REPORT
            && gaps <= GAPS_MAX
            && timings <= TIMINGS_MAX
            && certificates <= CERTIFICATES_MAX
            && events <= EVENTS_MAX
            && suspect <= SUSPECT_SPANS_MAX
    };
    reports.iter().take_while(fits).count().max(1)
}

/// The reports as one that says the same. What is told of the agent itself is the first's, which is the newest.
pub(crate) fn merge(reports: Vec<Report>) -> Option<Report> {
    let mut reports = reports.into_iter();
    let mut merged = reports.next()?;
    let mut timings: BTreeMap<(String, Protocol, Phase, Second), PhaseTimings> = BTreeMap::new();
    let key = |it: &PhaseTimings| (it.service.clone(), it.protocol, it.phase, it.minute);
    for told in std::mem::take(&mut merged.timings) {
        timings.insert(key(&told), told);
    }
    for report in reports {
        merged.slots.extend(report.slots);
        merged.gaps.extend(report.gaps);
        merged.events.extend(report.events);
        merged.certificates.extend(report.certificates);
        merged.self_suspect.extend(report.self_suspect);
        for told in report.timings {
            // States of one histogram, which only grows: the greatest counts are the newest.
            let known = timings.entry(key(&told)).or_insert_with(|| told.clone());
            known.histogram.join(&told.histogram);
        }
    }
    merged.timings = timings.into_values().collect();
    Some(merged)
}

#[cfg(test)]
mod tests {
    use aviary_core::{Evidence, Outcome, Span, histogram::Histogram};
    use aviary_wire::report::{ClosedSlot, Gap};

    use super::*;

    fn report(sequence: u64, grown: u64) -> Report {
        let second = Second(1_000 + sequence);
        let outcome = Outcome::Delivered(Evidence::PeerClosed);
        let slot = |series| ClosedSlot { series, second, outcome, reached: None, address: None };
        let mut histogram = Histogram::default();
        histogram.add(7, grown);
        Report {
            boot: 1,
            sequence,
            configuration: "c".to_owned(),
            roster_id: 9,
            slots: (0..500).map(slot).collect(),
            gaps: vec![Gap { first: 0, count: 2, span: Span::before(second, 2), outcome: Outcome::Missed }],
            timings: vec![PhaseTimings {
                service: "ingest".to_owned(),
                protocol: Protocol::Tcp,
                phase: Phase::Connect,
                minute: Second(960),
                histogram,
            }],
            ..Report::default()
        }
    }

    #[test]
    fn a_backlog_is_told_as_one_report_that_says_the_same() {
        let backlog: Vec<_> = (0..60).rev().map(|sequence| report(sequence, sequence)).collect();
        assert_eq!(mergeable(&backlog), 60);
        let each: usize = backlog.iter().map(|report| report.encode().len()).sum();
        let merged = merge(backlog).unwrap();
        assert_eq!((merged.sequence, merged.slots.len(), merged.gaps.len()), (59, 30_000, 60));
        assert_eq!((merged.timings.len(), merged.timings[0].histogram.count()), (1, 59));
        let bytes = merged.encode();
        assert!(bytes.len() * 2 < each, "{} bytes instead of {each}", bytes.len());
        assert_eq!(Report::decode(&bytes).unwrap().slots.len(), 30_000);
    }

    #[test]
    fn what_belongs_to_others_or_does_not_fit_stays_apart() {
        let other = |change: fn(&mut Report)| {
            let mut reports = vec![report(3, 1), report(2, 1), report(1, 1)];
            change(&mut reports[1]);
            mergeable(&reports)
        };
        assert_eq!(other(|_| ()), 3);
        assert_eq!(other(|report| report.boot = 2), 1);
        assert_eq!(other(|report| report.roster_id = 2), 1);
        assert_eq!(other(|report| report.epoch = 2), 1);
        assert_eq!(other(|report| report.configuration = "d".to_owned()), 1);
        let many: Vec<_> = (0..200).map(|sequence| report(sequence, 1)).collect();
        assert_eq!(mergeable(&many), SLOTS_PER_REPORT / 500);
        assert_eq!(mergeable(&[]), 0);
    }
}
