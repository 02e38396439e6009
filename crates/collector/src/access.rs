//! Who may do what, and how much of it.
//!
//! Of a token nothing but a hash of its secret is held. A token to report with may be for one region, and for one node;
//! and it has [`Limits`], so that one agent that has gone wrong cannot take the collector away from the others. What is
//! over a limit is refused, counted by token and reason, and stays in the agent's spool. Tokens come from the
//! configuration, and so does the bound on how many there are to count by.

mod limits;
mod secret;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::{Micros, named};
use aviary_wire::report::Report;
use axum::http::{HeaderMap, StatusCode, header};

use self::limits::{Bucket, slots_told};
pub use self::{
    limits::Limits,
    secret::{SecretHash, SecretHashError},
};
use crate::error::ApiError;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Admin,
    /// Reading the API.
    Read,
    /// Reporting slots.
    Report,
}

/// A token and what it allows.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// What logs call it.
    pub name: String,
    /// What its secret is recognised by.
    pub secret: SecretHash,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The one region that reports under it may claim.
    pub region: Option<String>,
    /// The one node that reports under it may claim.
    pub node: Option<String>,
    /// How much may be reported under it.
    pub limits: Limits,
}

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

/// A token, with what was spent and counted of it.
pub(crate) struct Entrance {
    rule: TokenRule,
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
    fn new(rule: TokenRule) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        let reporter = Reporter {
            token: rule.name.as_str().into(),
            region: text(&rule.region),
            node: text(&rule.node),
            series_max: Some(rule.limits.series),
        };
        Self {
            // Full, so that when it was filled means nothing.
            buckets: Mutex::new(Buckets {
                reports: Bucket::full(rule.limits.reports, Micros(0)),
                slots: Bucket::full(rule.limits.slots, Micros(0)),
            }),
            rule,
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
        self.rule.limits.bytes
    }

    /// Lets a report in to be read.
    pub(crate) fn admit(&self, now: Micros) -> Result<(), ApiError> {
        let limit = self.rule.limits.reports;
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
        let limit = self.rule.limits.slots;
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
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large_for_token", message)
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
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", message).retry_after(wait)
    }

    fn name(&self) -> &str {
        if self.rule.name.is_empty() { NO_TOKEN } else { &self.rule.name }
    }

    fn counts(&self) -> TokenCounts {
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

/// Who may do what.
pub(crate) struct Access {
    tokens: Vec<Entrance>,
    /// Whoever is let in without a token.
    nobody: Entrance,
    open: bool,
    certified: bool,
    /// Requests that showed no token of ours where one was asked for.
    strangers: AtomicU64,
}

impl Access {
    pub(crate) fn new(tokens: Vec<TokenRule>, open: bool, certified: bool) -> Self {
        let nobody = TokenRule {
            name: String::new(),
            secret: SecretHash::of(""),
            scopes: Vec::new(),
            region: None,
            node: None,
            limits: Limits::FLEET,
        };
        Self {
            tokens: tokens.into_iter().map(Entrance::new).collect(),
            nobody: Entrance::new(nobody),
            open,
            certified,
            strangers: AtomicU64::new(0),
        }
    }

    /// Whether whoever sent `headers` from `peer` may do what needs `scope`; with the token that says so, if one did.
    pub(crate) fn allow(
        &self,
        scope: Scope,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Option<&TokenRule>, ApiError> {
        self.entrance(scope, headers, peer).map(|entrance| entrance.map(|it| &it.rule))
    }

    /// Where whoever sent `headers` from `peer` may report, if at all.
    pub(crate) fn report(&self, headers: &HeaderMap, peer: IpAddr) -> Result<&Entrance, ApiError> {
        self.entrance(Scope::Report, headers, peer).map(|entrance| entrance.unwrap_or(&self.nobody))
    }

    /// What was counted of each token that may report, and of whoever needs none; `series` says how many a token brought.
    pub(crate) fn counts(&self, series: impl Fn(&str) -> usize) -> Vec<TokenCounts> {
        let may_report = |scopes: &[Scope]| scopes.iter().any(|scope| *scope != Scope::Read);
        let tokens = self.tokens.iter().filter(|it| may_report(&it.rule.scopes));
        let nobody = (self.open || self.tokens.is_empty()).then_some(&self.nobody);
        tokens
            .chain(nobody)
            .map(|it| TokenCounts { series: series(&it.reporter.token) as u64, ..it.counts() })
            .collect()
    }

    /// How many requests showed no token of this collector where one was asked for.
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    /// Lets by whoever may change something. Returns the name of the token that was shown, if one was asked for.
    pub(crate) fn admin(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Option<String>, ApiError> {
        Ok(self.allow(Scope::Admin, headers, peer)?.map(|rule| rule.name.clone()))
    }

    fn entrance(
        &self,
        scope: Scope,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Option<&Entrance>, ApiError> {
        let is_known = peer.to_canonical().is_loopback() || (self.certified && scope != Scope::Admin);
        if self.open || (self.tokens.is_empty() && is_known) {
            return Ok(None);
        }
        let unauthorized = |message| {
            self.strangers.fetch_add(1, Ordering::Relaxed);
            ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
        };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(secret) = given.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(unauthorized(
                "send `Authorization: Bearer TOKEN` with a token of this collector's [[collector.token]]",
            ));
        };
        let given = SecretHash::of(secret.trim());
        // Every token is compared, so that the time taken tells nothing of any.
        let mut matching = None;
        for entrance in &self.tokens {
            if entrance.rule.secret == given {
                matching = Some(entrance);
            }
        }
        let Some(entrance) = matching else {
            return Err(unauthorized(
                "this collector has no such token; compare the agent's `token` with [[collector.token]]",
            ));
        };
        let rule = &entrance.rule;
        if rule.scopes.contains(&scope) || rule.scopes.contains(&Scope::Admin) {
            Ok(Some(entrance))
        } else {
            entrance.refused(Reason::Forbidden);
            let message = format!("token `{}` lacks the scope for this; add it to its `scope`", rule.name);
            Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    fn rule(name: &str, scope: Scope) -> TokenRule {
        TokenRule {
            name: name.to_owned(),
            secret: SecretHash::of(&format!("{name}-secret-of-some-length")),
            scopes: vec![scope],
            region: None,
            node: None,
            limits: Limits::FLEET,
        }
    }

    #[test]
    fn without_tokens_only_loopback_is_let_in() {
        let access = Access::new(Vec::new(), false, false);
        assert!(access.allow(Scope::Report, &HeaderMap::new(), LOOPBACK).is_ok());
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert!(access.allow(Scope::Report, &HeaderMap::new(), mapped).is_ok());
        let refused = access.allow(Scope::Read, &HeaderMap::new(), ELSEWHERE).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert!(
            Access::new(Vec::new(), true, false).allow(Scope::Report, &HeaderMap::new(), ELSEWHERE).is_ok()
        );
    }

    #[test]
    fn a_certificate_lets_in_to_report_and_read() {
        let access = Access::new(Vec::new(), false, true);
        let ask = |scope| access.allow(scope, &HeaderMap::new(), ELSEWHERE).is_ok();
        assert_eq!([Scope::Report, Scope::Read, Scope::Admin].map(ask), [true, true, false]);
    }

    #[test]
    fn a_token_allows_what_its_scope_says() {
        let rules = vec![rule("agents", Scope::Report), rule("admins", Scope::Admin)];
        assert!(!format!("{rules:?}").contains("secret-of"));
        let access = Access::new(rules, false, true);
        let ask = |scope, token: &str| {
            access.allow(scope, &bearer(token), ELSEWHERE).map(|rule| rule.unwrap().name.clone())
        };
        assert_eq!(ask(Scope::Report, "agents-secret-of-some-length").unwrap(), "agents");
        assert_eq!(ask(Scope::Read, "admins-secret-of-some-length").unwrap(), "admins");
        assert_eq!(
            ask(Scope::Read, "agents-secret-of-some-length").unwrap_err().status(),
            StatusCode::FORBIDDEN
        );
        for other in ["agents-secret-of-some-lengtH", "agents-secret-of-some-lengt", ""] {
            assert_eq!(ask(Scope::Report, other).unwrap_err().status(), StatusCode::UNAUTHORIZED, "{other}");
        }
        assert!(
            access.allow(Scope::Report, &HeaderMap::new(), LOOPBACK).is_err(),
            "with tokens, loopback needs one too"
        );
        let counts = access.counts(|_| 7);
        assert_eq!((counts[0].name.as_str(), counts[0].series, access.strangers()), ("agents", 7, 4));
        assert_eq!(counts[0].refused.iter().map(|(_, count)| count).sum::<u64>(), 1);
    }

    #[test]
    fn a_token_over_its_rate_waits_and_the_others_do_not() {
        let limits = Limits { reports: 2, ..Limits::FLEET };
        let slow = TokenRule { limits, ..rule("slow", Scope::Report) };
        let access = Access::new(vec![slow, rule("fast", Scope::Report)], false, false);
        let entrance =
            |name: &str| access.report(&bearer(&format!("{name}-secret-of-some-length")), ELSEWHERE).unwrap();
        let admitted =
            |name: &str, now| (0..20).filter(|_| entrance(name).admit(Micros(now)).is_ok()).count();
        assert_eq!((admitted("slow", 5), admitted("fast", 5)), (8, 20));
        let refused = entrance("slow").admit(Micros(5)).unwrap_err();
        assert_eq!((refused.status(), refused.code()), (StatusCode::TOO_MANY_REQUESTS, "too_fast"));
        assert!(refused.message().contains("token slow may report 2 reports a second"), "{refused:?}");
        assert_eq!(admitted("slow", 1_000_005), 2);
        let counts = access.counts(|_| 0);
        assert_eq!(counts[0].refused[0], ("reports", 12 + 1 + 18));
        assert!(counts[1].refused.iter().all(|(_, count)| *count == 0));
    }

    #[test]
    fn whoever_needs_no_token_has_the_limits_of_a_fleet() {
        let access = Access::new(Vec::new(), true, false);
        let entrance = access.report(&HeaderMap::new(), ELSEWHERE).unwrap();
        assert_eq!(entrance.reporter().series_max, Some(Limits::FLEET.series));
        entrance.taken(&Report::default(), 5);
        let [counts] = access.counts(|_| 0).try_into().unwrap();
        assert_eq!((counts.name.as_str(), counts.reports, counts.slots), ("(none)", 1, 5));
    }
}
