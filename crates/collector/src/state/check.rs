//! What a report must be to be taken, beyond being one.

use aviary_core::{Second, Span, Timestamp, Vantage};
use aviary_wire::report::{self, Gap, Report};

use super::{AHEAD_SECONDS_MAX, Refusal};
use crate::access::Reporter;

/// Nobody reports for a region or node that the token is not for.
pub(super) fn vantage(vantage: &Vantage, reporter: &Reporter) -> Result<(), Refusal> {
    let denied = |claimed: &str, allowed: &str| {
        (claimed != allowed).then(|| (claimed.to_owned(), reporter.token.to_string(), allowed.to_owned()))
    };
    let region = reporter.region.as_deref().and_then(|allowed| denied(&vantage.region, allowed));
    if let Some((claimed, token, allowed)) = region {
        return Err(Refusal::Region { claimed, token, allowed });
    }
    let node = reporter.node.as_deref().and_then(|allowed| denied(&vantage.node, allowed));
    match node {
        Some((claimed, token, allowed)) => Err(Refusal::Node { claimed, token, allowed }),
        None => Ok(()),
    }
}

/// Series are never forgotten while the collector runs: an agent whose names change at each start would in time leave
/// no room for others.
pub(super) fn series(known: usize, new: usize, reporter: &Reporter) -> Result<(), Refusal> {
    match reporter.series_max {
        Some(limit) if new > 0 && known + new > limit => {
            Err(Refusal::Series { token: reporter.token.to_string(), known, limit, new })
        }
        _ => Ok(()),
    }
}

/// A report that is all ahead comes from a clock that is; of any other the rest is taken.
pub(super) fn seconds(report: &Report, now: Timestamp) -> Result<(), Refusal> {
    let seconds = report.slots.iter().map(|slot| slot.second);
    let begins = report.gaps.iter().map(|gap| gap.span.from);
    match seconds.chain(begins).min() {
        Some(second) if second.0 >= now.second().0 + AHEAD_SECONDS_MAX => {
            Err(Refusal::Ahead { second, ahead: second.0 - now.second().0 })
        }
        _ => Ok(()),
    }
}

/// A few kilobytes of gaps that overlap could tell millions of slots a million times over, and nobody else would be
/// served meanwhile. No slot is told twice, so what an agent may have skipped has a bound: in slots of what is held, and
/// in hours of what is kept from `oldest` on.
pub(super) fn gaps(report: &Report, held: Span, oldest: Second) -> Result<(), Refusal> {
    let limit = report::SERIES_MAX as u64 * held.seconds();
    let told = |gap: &Gap| u64::from(gap.count) * gap.span.intersection(held).seconds().max(1);
    let told = report.gaps.iter().map(told).sum();
    if told > limit {
        return Err(Refusal::Gaps { told, limit });
    }
    let kept = Span::new(oldest, held.from);
    let hours = |span: Span| if span.is_empty() { 0 } else { span.seconds() / HOUR + 1 };
    let limit = report::SERIES_MAX as u64 * hours(kept);
    let told: u64 =
        report.gaps.iter().map(|gap| u64::from(gap.count) * hours(gap.span.intersection(kept))).sum();
    if told > limit { Err(Refusal::Gaps { told: told * HOUR, limit: limit * HOUR }) } else { Ok(()) }
}

const HOUR: u64 = 3_600;

pub(super) fn places(report: &Report, series: usize) -> Result<(), Refusal> {
    let slots = report.slots.iter().map(|slot| u64::from(slot.series) + 1);
    let gaps = report.gaps.iter().map(|gap: &Gap| u64::from(gap.first) + u64::from(gap.count));
    match slots.chain(gaps).max() {
        Some(place) if place > series as u64 => Err(Refusal::Place { place: place - 1, series }),
        _ => Ok(()),
    }
}
