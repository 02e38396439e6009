//! What is granted to whoever is known, and what was spent and counted of it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use aviary_core::{Micros, named};
use aviary_wire::report::Report;

use super::{
    Scope,
    limits::{Bucket, Limits, slots_told},
};
use crate::error::ApiError;

/// On whose behalf a report is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reporter {
    /// The token's name, empty where none is asked for. Rosters are known by it: what is told under one token cannot
    /// refer to a roster that came under another.
    pub(crate) token: Arc<str>,
    /// The one region that it may claim.
    pub(crate) region: Option<Arc<str>>,
    /// The one node that it may claim.
    pub(crate) node: Option<Arc<str>>,
    /// How many series it may bring in all; `None`: as many as there is room for.
    pub(crate) series_max: Option<usize>,
}

named! {
    /// Why something was refused: each is counted by itself.
    pub(crate) enum Reason {
        /// More reports a second than allowed.
        Reports = "reports",
        /// More slots a second than allowed.
        Slots = "slots",
        /// A report of more bytes than allowed.
        Bytes = "bytes",
        /// More series than allowed.
        Series = "series",
        /// Another region, another node, or nothing that the token is for.
        Forbidden = "forbidden",
        /// No report, or one that contradicts itself or the clock.
        Bad = "bad",
        /// A report of a version that is not understood here.
        Version = "version",
    }
}

/// What was counted of a token to report with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCounts {
    /// The token's name; `(none)` where none is asked for.
    pub name: String,
    /// Reports that were taken.
    pub reports: u64,
    /// Slots that they told.
    pub slots: u64,
    /// Series that this collector had first heard of under the token.
    pub series: u64,
    /// What was refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
}

/// What stands for a token where there is none to name.
const NO_TOKEN: &str = "(none)";

/// What somebody who is known may do, and how much of it.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// Whom it is given to.
    pub(super) name: String,
    pub(super) scopes: Arc<[Scope]>,
    pub(super) region: Option<String>,
    pub(super) node: Option<String>,
    pub(super) limits: Limits,
}

/// What is granted to a token, or to who shows a certificate, with what was spent and counted of it.
pub(crate) struct Entrance {
    grant: Grant,
    reporter: Reporter,
    buckets: Mutex<Buckets>,
    reports: AtomicU64,
    slots: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
}

struct Buckets {
    reports: Bucket,
    slots: Bucket,
}

impl Entrance {
    pub(super) fn new(grant: Grant) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        let reporter = Reporter {
            token: grant.name.as_str().into(),
            region: text(&grant.region),
            node: text(&grant.node),
            series_max: Some(grant.limits.series),
        };
        Self {
            // Full, so that when it was filled means nothing.
            buckets: Mutex::new(Buckets {
                reports: Bucket::full(grant.limits.reports, Micros(0)),
                slots: Bucket::full(grant.limits.slots, Micros(0)),
            }),
            grant,
            reporter,
            reports: AtomicU64::new(0),
            slots: AtomicU64::new(0),
            refused: Default::default(),
        }
    }

    /// On whose behalf reports are taken here.
    pub(crate) const fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The largest report that is taken, in bytes.
    pub(crate) const fn bytes_max(&self) -> usize {
        self.grant.limits.bytes
    }

    /// Lets a report in to be read.
    pub(crate) fn admit(&self, now: Micros) -> Result<(), ApiError> {
        let limit = self.grant.limits.reports;
        let mut buckets = self.buckets();
        let ready = buckets.reports.ready(now);
        if ready.is_ok() {
            buckets.reports.charge(1);
        }
        drop(buckets);
        ready.map_err(|wait| self.over(Reason::Reports, &format!("{limit} reports a second"), wait))
    }

    /// Lets in what a report tells. It costs when it is taken: one that is refused for what it says changes nothing.
    pub(crate) fn admit_slots(&self, now: Micros) -> Result<(), ApiError> {
        let limit = self.grant.limits.slots;
        let ready = self.buckets().slots.ready(now);
        ready.map_err(|wait| self.over(Reason::Slots, &format!("{limit} slots a second"), wait))
    }

    /// Why a report is too large to be taken here.
    pub(crate) fn too_large(&self) -> ApiError {
        let (limit, token) = (self.bytes_max(), self.name());
        let message = format!(
            "a report under token {token} has at most {limit} bytes, unpacked; raise its `report_size` in \
             [[collector.token]]"
        );
        ApiError::too_large_for_token(message)
    }

    /// Counts what was taken.
    pub(crate) fn taken(&self, report: &Report, slots: u64) {
        self.buckets().slots.charge(slots_told(report));
        self.reports.fetch_add(1, Ordering::Relaxed);
        self.slots.fetch_add(slots, Ordering::Relaxed);
    }

    /// Counts what was refused.
    pub(crate) fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        // A bucket is whole whatever happened to who last held it.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self, reason: Reason, limit: &str, wait: u64) -> ApiError {
        let message = format!(
            "token {} may report {limit}, and more came; raise its limit in [[collector.token]], or give each group of \
             agents its own token",
            self.name()
        );
        self.refused(reason);
        ApiError::too_fast(message).retry_after(wait)
    }

    /// What it is called; [`NO_TOKEN`] where whoever came needed none.
    fn name(&self) -> &str {
        if self.grant.name.is_empty() { NO_TOKEN } else { &self.grant.name }
    }

    /// What it allows.
    pub(super) const fn scopes(&self) -> &Arc<[Scope]> {
        &self.grant.scopes
    }

    pub(super) fn counts(&self) -> TokenCounts {
        let refused = Reason::ALL.iter().zip(&self.refused);
        TokenCounts {
            name: self.name().to_owned(),
            reports: self.reports.load(Ordering::Relaxed),
            slots: self.slots.load(Ordering::Relaxed),
            series: 0,
            refused: refused.map(|(reason, count)| (reason.name(), count.load(Ordering::Relaxed))).collect(),
        }
    }
}
