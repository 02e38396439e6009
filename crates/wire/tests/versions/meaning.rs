//! What a report says, as text: one line for each statement. The texts beside recorded reports were written by the version
//! that made them.

use std::fmt::Write as _;

use aviary_core::Outcome;
use aviary_wire::report::{EventKind, Report, What};

/// What `report` says, but for the versions that it was made by and in.
pub(crate) fn of(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing to a string does not fail.
        _ = writeln!(text, "{line}");
    };
    line(format!(
        "report boot {:016x} sequence {} epoch {} wall_us {} monotonic_us {} configuration {} dropped {} roster {:016x}",
        report.boot,
        report.sequence,
        report.epoch,
        report.wall.0,
        report.monotonic.0,
        report.configuration,
        report.dropped,
        report.roster_id
    ));
    if let Some(roster) = &report.roster {
        let vantage = &roster.vantage;
        line(format!(
            "roster kind {} region {} zone {} network {} node {} since {}",
            vantage.kind.name(),
            vantage.region,
            vantage.zone.as_deref().unwrap_or("-"),
            vantage.network.as_deref().unwrap_or("-"),
            vantage.node,
            roster.since
        ));
        for (place, series) in roster.series.iter().enumerate() {
            let address = series.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            line(format!(
                "series {place} service {} endpoint {} address {address} from {} name {}",
                series.service, series.endpoint, series.from, series.name
            ));
        }
    }
    for slot in &report.slots {
        let mut more = String::new();
        if let Some(reached) = slot.reached {
            _ = write!(more, " reached {}", reached.name());
        }
        if let Some(address) = slot.address {
            _ = write!(more, " address {address}");
        }
        line(format!("slot {} {} {}{more}", slot.series, slot.second, word(&slot.outcome)));
    }
    for gap in &report.gaps {
        let (from, until) = (gap.span.from, gap.span.until);
        line(format!(
            "gap {} count {} from {from} until {until} {}",
            gap.first,
            gap.count,
            word(&gap.outcome)
        ));
    }
    for timings in &report.timings {
        let buckets: Vec<_> =
            timings.histogram.buckets().map(|(bucket, count)| format!("{bucket}:{count}")).collect();
        line(format!(
            "timings service {} protocol {} phase {} minute {} buckets {}",
            timings.service,
            timings.protocol.name(),
            timings.phase.name(),
            timings.minute,
            buckets.join(",")
        ));
    }
    for event in &report.events {
        let what = match &event.what {
            What::Address { kind: EventKind::AddressAdded, host, address } => {
                format!("address_added {host} {address}")
            }
            What::Address { kind: EventKind::AddressRemoved, host, address } => {
                format!("address_removed {host} {address}")
            }
            What::Paged { service, key, receiver } => format!("paged {service} {key} {receiver}"),
        };
        line(format!("event {} {what}", event.second));
    }
    for it in &report.certificates {
        line(format!("certificate {} {} not_after {}", it.endpoint, it.address, it.not_after));
    }
    for span in &report.self_suspect {
        line(format!("self_suspect from {} until {}", span.from, span.until));
    }
    text
}

/// The word for an outcome, with evidence, or phase and fault.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered(evidence) => format!("delivered {}", evidence.name()),
        Outcome::Lost { phase, fault } => format!("lost {} {}", phase.name(), fault.name()),
        Outcome::Local { phase, fault } => format!("local {} {}", phase.name(), fault.name()),
        Outcome::Missed => "missed".to_owned(),
        Outcome::Muted => "muted".to_owned(),
    }
}
