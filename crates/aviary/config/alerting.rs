//! What a service wants somebody to be told of, and how: the keys of `[[service]]` that this version reads and does not act
//! on yet.

use std::collections::{BTreeMap, BTreeSet};

use aviary_collector::{Alerting, Burst};
use aviary_core::{
    AcceptableLoss, Phase,
    detect::{Budget, Burstiness, Level, Test, WINDOWS},
    page::Severity,
};

use super::{
    context::{Context, Refusal},
    hours::hours,
    kind::{Boolean, Decimal, Either, Or, Whole, choice, list, table, values},
    reader::Reader,
    route, scalar,
    service::{Draft, Service},
};

/// An attempt is given up after so many seconds.
const DEADLINE_MILLIS: u128 = 1_000;

/// A total loss that would not page within so many seconds is worth a word.
const SLOW_SECONDS: u64 = 600;

/// What is known of `burst` before anything is learnt.
fn burstiness(burst: Burst) -> Burstiness {
    match burst {
        Burst::Learnt => Burstiness::default(),
        Burst::Fixed(dispersion) => Burstiness::fixed(dispersion),
    }
}

/// The most seconds that loss may have to hold: a longer window than the longest of [`WINDOWS`] there is not.
const HELD_SECONDS_MAX: u64 = 21_600;

/// Reads the keys of a `[[service]]`.
pub(super) fn alerting(reader: &mut Reader<'_>) -> Alerting {
    let about = "how bad each verdict is; down = \"critical\", degraded = \"warning\" and blind = \"error\" by default";
    let severity = reader.optional("severity", about, table("{ down = \"critical\" }", severities));
    let about = "how long loss must hold before somebody is paged; 10s by default; 0s: at once, without the gates for vantages and bursts";
    let page_after = reader.optional("page_after", about, scalar::seconds("10s"));
    let about = "how far losses cluster while all is well: learnt, which is the default, or a dispersion that is fixed, 1.0 for independent losses";
    let burst = reader.optional("burst", about, Either(choice([("learnt", ())]), Decimal(1.0)));
    let about = "for how long nobody is paged about what begins; what never worked by then is a ticket; 1m by default";
    let start_up_grace = reader.optional("start_up_grace", about, scalar::seconds("1m"));
    let about =
        "how long each phase may take for 99 of 100 attempts: more is a ticket; absent: as long as it likes";
    let latency_p99 = reader.optional("latency_p99", about, table("{ connect = \"200ms\" }", latencies));
    let about = "how many days before its end a certificate is a warning, and an error; [21, 7] by default; []: never";
    let days = reader.optional("certificate_days", about, list(Whole(1)));
    let about = "when tickets wait, and pages do not; those of [collector] by default";
    let quiet_hours = reader.optional("quiet_hours", about, hours());
    let about = "whether its messages go to the log only; false by default";
    let shadow = reader.optional("shadow", about, Boolean);

    if page_after.is_some_and(|seconds| seconds > HELD_SECONDS_MAX) {
        let message = "no loss is watched for longer than six hours";
        reader.refuse("page_after", Refusal::new(message).help("write at most \"6h\""));
    }
    let default = Alerting::default();
    let certificate_days = match days.map(values).as_deref() {
        None => default.certificate_days,
        Some([]) => None,
        Some([warning, error]) if warning > error => Some((i64::from(*warning), i64::from(*error))),
        Some(_) => {
            let message =
                "two numbers are wanted: from when on a certificate is a warning, and later an error";
            let help = "write such as [21, 7], or [] to be told of neither";
            reader.refuse("certificate_days", Refusal::new(message).help(help));
            None
        }
    };
    let (down, degraded, blind) = severity.unwrap_or((default.down, default.degraded, default.blind));
    Alerting {
        page_after: page_after.unwrap_or(default.page_after),
        down,
        degraded,
        blind,
        burst: match burst {
            Some(Or::Second(dispersion)) => Burst::Fixed(dispersion),
            Some(Or::First(())) | None => default.burst,
        },
        start_up_grace: start_up_grace.unwrap_or(default.start_up_grace),
        latency_p99: latency_p99.unwrap_or_default(),
        certificate_days,
        quiet_hours,
        shadow: shadow.unwrap_or(default.shadow),
    }
}

fn severities(reader: &mut Reader<'_>) -> Option<(Severity, Severity, Severity)> {
    let Alerting { down, degraded, blind, .. } = Alerting::default();
    let mut severity =
        |state, about, default| reader.optional(state, about, route::severity()).unwrap_or(default);
    Some((
        severity("down", "if half or more is lost", down),
        severity("degraded", "if less is lost, and more than is acceptable", degraded),
        severity("blind", "if nobody can tell", blind),
    ))
}

fn latencies(reader: &mut Reader<'_>) -> Option<BTreeMap<Phase, u64>> {
    let mut latencies = BTreeMap::new();
    for phase in Phase::ALL {
        let about = "how long it may take for 99 of 100 attempts";
        let Some(latency) = reader.optional(phase.name(), about, scalar::duration("200ms")) else { continue };
        if latency.is_zero() || latency.as_millis() >= DEADLINE_MILLIS {
            let message = format!(
                "no attempt could show that: {phase} takes more than nothing, and is given up after 1 s"
            );
            reader.refuse(phase.name(), Refusal::new(message).help("write such as \"200ms\", below \"1s\""));
        }
        latencies.insert(*phase, u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }
    Some(latencies)
}

/// Refuses what could never lead to a page, and notes what leads to none for long.
pub(super) fn refuse_what_never_fires(path: &str, draft: &Draft, context: &Context<'_>) {
    let service = &draft.service;
    let required: Vec<_> = service.endpoints.iter().filter(|endpoint| endpoint.required).collect();
    if required.is_empty() && !service.endpoints.is_empty() && service.elsewhere.is_empty() {
        let message = format!("nobody is paged about `{}`: none of its endpoints is required", service.name);
        let help = "take out required = false where loss is worth a page";
        context.note(&format!("{path}.endpoints"), Refusal::new(message).help(help));
    }
    note_unseen_phases(path, service, context);

    // One figure is judged over all the series that have it, and many endpoints share one.
    let vantages = u64::try_from(service.policy.min_vantages).unwrap_or(u64::MAX);
    let series = |count: usize| (count as u64).max(1).saturating_mul(vantages);
    let mut looked_at = BTreeSet::new();
    let mut look = |place: String, acceptable: AcceptableLoss, count: usize| {
        if looked_at.insert((acceptable, count)) {
            refuse_late_fire(path, &place, service, acceptable, series(count), context);
        }
    };
    look(format!("{path}.acceptable_loss"), service.policy.acceptable_loss, required.len());
    for (protocol, acceptable) in &service.policy.by_protocol {
        let place = format!("{path}.acceptable_loss.{protocol}");
        let of_protocol = service.endpoints.iter().filter(|it| it.endpoint.protocol() == *protocol).count();
        if !service.protocols().contains(protocol) {
            let message =
                format!("no endpoint of `{}` is {protocol}: this figure is never used", service.name);
            context.note(&place, Refusal::new(message).help("take it out, or correct the protocol"));
        } else {
            look(place, *acceptable, of_protocol);
        }
    }
    for (endpoint, endpoint_path) in service.endpoints.iter().zip(&draft.endpoint_paths) {
        if let Some(acceptable) = service.policy.by_endpoint.get(&endpoint.endpoint.to_string()) {
            look(format!("{endpoint_path}.acceptable_loss"), *acceptable, 1);
        }
    }
}

/// A phase that no endpoint has is never too slow.
fn note_unseen_phases(path: &str, service: &Service, context: &Context<'_>) {
    let has_tls = service.protocols().iter().any(|protocol| protocol.is_tls());
    if service.alerting.latency_p99.contains_key(&Phase::Tls) && !has_tls {
        let message = format!("no endpoint of `{}` has a handshake that could take too long", service.name);
        let refusal = Refusal::new(message).help("take it out, or add an endpoint with TLS");
        context.note(&format!("{path}.latency_p99.tls"), refusal);
    }
}

/// Says where even the loss of everything would not page, or not before long; `place` is where the figure stands.
fn refuse_late_fire(
    path: &str,
    place: &str,
    service: &Service,
    acceptable: AcceptableLoss,
    series: u64,
    context: &Context<'_>,
) {
    let is_soon = |seconds: Option<u64>| seconds.is_some_and(|seconds| seconds <= SLOW_SECONDS);
    let after = |burstiness| seconds_to_fire(acceptable, burstiness, series);
    let burst = service.alerting.burst;
    let found = after(burstiness(burst));
    if is_soon(found) {
        return;
    }
    let burst_place = format!("{path}.burst");
    let is_by_burst = burst != Burst::Learnt && is_soon(after(Burstiness::fixed(1.0)));
    let (place, help) = match is_by_burst {
        true => (burst_place.as_str(), "write \"learnt\", or a smaller number"),
        false => (place, "write a smaller share"),
    };
    let name = &service.name;
    match found {
        None => {
            let message = format!(
                "this never fires: that `{name}` loses everything for six hours would be taken for chance"
            );
            context.refuse(place, Refusal::new(message).help(help));
        }
        Some(seconds) => {
            let minutes = seconds.div_ceil(60);
            let message =
                format!("`{name}` could lose everything for {minutes} minutes before anybody is paged");
            context.note(place, Refusal::new(message).help(help));
        }
    }
}

/// After how many seconds the loss of all of `series` would fire, if it ever would.
fn seconds_to_fire(acceptable: AcceptableLoss, burstiness: Burstiness, series: u64) -> Option<u64> {
    let test = Test::new(acceptable, Budget::default(), burstiness);
    let needed = |seconds: u64| test.needed(seconds, seconds.saturating_mul(series), Level::Firing);
    WINDOWS.into_iter().filter_map(|seconds| Some(needed(seconds)?.div_ceil(series))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_total_loss_is_waited_out() {
        let fixed = Burst::Fixed;
        let table = [
            ("0.1%", fixed(1.0), 1, Some(4)),
            ("0.1%", fixed(1.0), 6, Some(1)),
            ("1%", fixed(1.0), 1, Some(6)),
            ("0.1%", Burst::Learnt, 1, Some(26)),
            ("99%", fixed(1.0), 1, Some(3_596)),
            ("99.9999%", fixed(1.0), 1, None),
            ("0.1%", fixed(1e6), 1, None),
        ];
        for (acceptable, burst, series, expected) in table {
            let found = seconds_to_fire(acceptable.parse().unwrap(), burstiness(burst), series);
            assert_eq!(found, expected, "{acceptable} {burst:?} {series}");
        }
    }
}
