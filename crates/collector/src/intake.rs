//! Taking reports.

use std::{error::Error as _, io::Read as _, sync::Arc, time::Duration};

use aviary_core::Timestamp;
use aviary_wire::{
    clock,
    report::{REPORT_BYTES_MAX, Report, ReportError, Version, What},
};
use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Collector,
    access::{Entrance, Reason},
    error::ApiError,
    journal::{self, Journal, NotKept},
    start::Durable,
    state::{Refusal, Taken},
    visitor::Visitor,
};

/// An agent that takes longer to send a report is told to come back.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// An agent whose version is not taken is to come back so late: somebody has to upgrade something first.
const VERSION_RETRY_SECONDS: u64 = 30;

/// The code of that answer.
const UNSUPPORTED_VERSION: &str = "unsupported_version";

/// A body from this size on is decoded on another thread.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// `POST /api/v1/reports`
pub(crate) async fn post(
    State(collector): State<Collector>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let peer = visitor.address();
    let taken = take(&collector, visitor, &headers, body).await;
    if let Err(error) = &taken
        && error.code() != "unknown_roster"
        && collector.state().refused(collector.now())
    {
        // Told at most once a second: anybody who reaches the port can be refused.
        tracing::warn!(%peer, status = error.status().as_u16(), code = error.code(), reason = error.message(),
            "A report was refused.");
    }
    taken
}

async fn take(
    collector: &Collector,
    visitor: Visitor,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let caller = visitor.report()?;
    let entrance = &*caller.entrance();
    entrance.admit(collector.monotonic())?;
    let Some(place) = collector.admit() else {
        let message = "more reports come than can be read at once; come back in a moment";
        return Err(ApiError::busy(message));
    };
    let (report, bytes) = decoded(entrance, headers, body).await.inspect_err(|error| {
        entrance.refused(match (error.code(), error.status()) {
            (UNSUPPORTED_VERSION, _) => Reason::Version,
            (_, StatusCode::PAYLOAD_TOO_LARGE) => Reason::Bytes,
            _ => Reason::Bad,
        });
    })?;
    entrance.admit_slots(collector.monotonic())?;
    let now = collector.now();
    let journal = collector.inner.durable.as_ref().and_then(Durable::journal);
    if journal.is_some_and(|journal| !journal.has_room()) {
        let message = "more reports come than the disk takes; come back in a moment";
        return Err(ApiError::busy(message));
    }
    let (taken, kept) = apply(collector, journal, &report, &bytes, entrance, now)?;
    // Others may be read while this one waits for the disk.
    drop(place);
    if let Some(kept) = kept {
        // The journal answers everybody; where it ended, it has nothing.
        kept.await.unwrap_or(Err(NotKept::Ending)).map_err(not_kept)?;
    }
    entrance.taken(&report, taken.slots);
    let measured = headers.get(clock::HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(measured) = measured {
        collector.state().measured(&report, entrance.reporter(), measured);
    }
    // The agent compares its clock with ours by it, so that it is read as late as can be.
    let now_us = collector.now().0;
    let Taken { slots, too_old, ahead, .. } = taken;
    let mut answer = json!({"slots": slots, "too_old": too_old, "ahead": ahead, "now_us": now_us,
        "report_versions": [Version::OLDEST.0, Version::NEWEST.0]});
    if let Some(until) = caller.until() {
        // The agent warns of it in time.
        answer["token_expires"] = json!(until.0);
    }
    let adopted = adopted(collector, &report);
    if !adopted.is_empty() {
        answer["adopted"] = json!(adopted);
    }
    let node = collector.state().node_of(&report, entrance.reporter());
    if let Some(leases) = node.and_then(|node| collector.leases(&node)) {
        answer["rotation"] = leases;
    }
    if let Some(versions) = report.services.as_ref().and_then(|_| collector.versions_told()) {
        answer["services"] = versions;
    }
    Ok(Json(answer))
}

/// The keys of what the agent paged by itself, and is ended from here.
fn adopted<'r>(collector: &Collector, report: &'r Report) -> Vec<&'r str> {
    let paged = report.events.iter().filter_map(|event| match &event.what {
        What::Paged { key, receiver, .. } => Some((key, receiver)),
        What::Address { .. } => None,
    });
    paged.filter(|(_, receiver)| collector.judgement().can_end(receiver)).map(|(key, _)| &**key).collect()
}

type Waiting = tokio::sync::oneshot::Receiver<Result<(), NotKept>>;

/// Applies a report, and gives it to the journal, if there is one, in the same order.
fn apply(
    collector: &Collector,
    journal: Option<&Arc<Journal>>,
    report: &Report,
    bytes: &[u8],
    entrance: &Entrance,
    now: Timestamp,
) -> Result<(Taken, Option<Waiting>), ApiError> {
    let entry = journal.map(|journal| (journal, journal::entry(now, &entrance.reporter().token, bytes)));
    let mut state = collector.state();
    let taken = state.take(report, Some(entrance.reporter()), now).map_err(|refusal| {
        let text = refusal.to_string();
        let (error, reason) = match refusal {
            Refusal::UnknownRoster(_) => (ApiError::unknown_roster(text), None),
            Refusal::Region { .. } => (ApiError::forbidden_region(text), Some(Reason::Forbidden)),
            Refusal::Node { .. } => (ApiError::forbidden_node(text), Some(Reason::Forbidden)),
            Refusal::Gaps { .. } | Refusal::Place { .. } => (ApiError::bad_report(text), Some(Reason::Bad)),
            Refusal::Backlog => (ApiError::backlog(text), None),
            Refusal::Ahead { .. } => (ApiError::clock_ahead(text), Some(Reason::Bad)),
            Refusal::Full(_) | Refusal::Series { .. } => {
                (ApiError::too_many_series(text), Some(Reason::Series))
            }
        };
        // An agent that is asked for its roster did nothing wrong.
        reason.into_iter().for_each(|reason| entrance.refused(reason));
        error
    })?;
    if taken.lost > 0 {
        collector.inner.lost.notify_one();
    }
    Ok((taken, entry.map(|(journal, entry)| journal.append(entry))))
}

/// What whoever told a report is told where it is not on the disk.
fn not_kept(why: NotKept) -> ApiError {
    match why {
        NotKept::Ending => ApiError::busy("the collector is ending; come back in a moment"),
        NotKept::Later(error) | NotKept::Never(error) => {
            ApiError::not_kept(format!("the report cannot be kept: {error}"))
        }
    }
}

/// The report in a request's body.
async fn decoded(entrance: &Entrance, headers: &HeaderMap, body: Body) -> Result<(Report, Bytes), ApiError> {
    let encoding = Encoding::of(headers)?;
    let limit = entrance.bytes_max();
    // An agent lets go of what no collector would ever take; what this token may not send waits for another limit.
    let is_own = limit < REPORT_BYTES_MAX;
    let body = read(body, limit, || if is_own { entrance.too_large() } else { too_large() }).await?;
    let decoded = if matches!(encoding, Encoding::Identity) && body.len() < AT_ONCE_BYTES_MAX {
        decode(encoding, body, limit)
    } else {
        // Milliseconds of work, which nobody else's request is to wait for.
        let decoded = tokio::task::spawn_blocking(move || decode(encoding, body, limit)).await;
        decoded.unwrap_or_else(|error| {
            let message = format!("the report could not be decoded here: {error}");
            Err(ApiError::internal(message))
        })
    };
    decoded.map_err(|error| {
        let is_for_size = error.status() == StatusCode::PAYLOAD_TOO_LARGE;
        if is_own && is_for_size { entrance.too_large() } else { error }
    })
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut given = headers.get_all(header::CONTENT_ENCODING).iter();
        let name = match (given.next(), given.next()) {
            (None, _) => return Ok(Self::Identity),
            (Some(name), None) => String::from_utf8_lossy(name.as_bytes()).trim().to_ascii_lowercase(),
            (Some(_), Some(_)) => "several in turn".to_owned(),
        };
        match name.as_str() {
            "identity" | "" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            _ => {
                let name: String = name.chars().take(50).collect();
                let message = format!("content-encoding `{name}` is not understood; send gzip, or none");
                Err(ApiError::unknown_encoding(message))
            }
        }
    }
}

/// The report in `body`, with its bytes as they were before they were packed. The `limit` is one on what comes out of the
/// encoding: of a bomb, no more is made.
fn decode(encoding: Encoding, body: Bytes, limit: usize) -> Result<(Report, Bytes), ApiError> {
    let bytes = match encoding {
        Encoding::Identity => body,
        Encoding::Gzip => {
            let mut bytes = Vec::new();
            let mut decoder = MultiGzDecoder::new(body.as_ref()).take(limit as u64 + 1);
            decoder.read_to_end(&mut bytes).map_err(|error| {
                ApiError::bad_encoding(format!("the body is truncated or no gzip: {error}"))
            })?;
            if bytes.len() > limit {
                return Err(too_large());
            }
            bytes.into()
        }
    };
    let report = Report::decode(&bytes).map_err(|error| match error {
        ReportError::TooLarge { .. } => ApiError::report_too_large(error.to_string()),
        ReportError::Version { found, program } => unsupported(found, &program),
        error => ApiError::bad_report(error.to_string()),
    })?;
    Ok((report, bytes))
}

/// What whoever sends a report is told that is not of a version for us. An agent keeps it and asks again.
fn unsupported(found: Version, program: &str) -> ApiError {
    let by = if program.is_empty() { String::new() } else { format!(", of aviary {program},") };
    let remedy = if found > Version::NEWEST {
        "upgrade this collector to the agent's version or a later one"
    } else {
        "upgrade the agent to this collector's version, or to the one before"
    };
    let message = format!(
        "the report{by} has version {found}, and this collector, of aviary {}, takes versions {}: {remedy}; until then the \
         agent keeps what it has to tell",
        env!("CARGO_PKG_VERSION"),
        Version::known()
    );
    ApiError::unsupported_version(message).retry_after(VERSION_RETRY_SECONDS)
}

fn too_large() -> ApiError {
    let message =
        format!("a report has at most {REPORT_BYTES_MAX} bytes, unpacked; send several smaller ones");
    ApiError::report_too_large(message)
}

/// The whole of `body`, of at most `limit` bytes.
pub(crate) async fn read(
    body: Body,
    limit: usize,
    too_large: impl FnOnce() -> ApiError,
) -> Result<Bytes, ApiError> {
    let Ok(read) = timeout(BODY_TIMEOUT, to_bytes(body, limit)).await else {
        let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
        return Err(ApiError::slow_body(message));
    };
    read.map_err(|error| {
        let is_limit = error.source().is_some_and(|source| source.to_string().contains("length limit"));
        if is_limit {
            too_large()
        } else {
            ApiError::cut_body(format!("the body did not come whole: {error}"))
        }
    })
}

#[cfg(test)]
mod versions;
