//! What is known of an agent: which of its lives speaks, and what it says of itself.

mod kept;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use aviary_core::{Second, Span, Timestamp, rollout::Held};
use aviary_wire::{
    clock::ClockOffset,
    report::{CERTIFICATES_MAX, Certificate, Report, Version},
};

use super::{
    RosterKey,
    clock::{Clocks, Offset},
    schedule::Schedule,
};

/// How many rosters of one agent are known at once: the newest, and those that its backlog refers to.
const ROSTERS_MAX: usize = 8;

/// How many lives of one agent are remembered beside the one that speaks.
const OTHERS_MAX: usize = 8;

/// How many spans of one agent's self-suspicion are remembered.
const SUSPECT_SPANS_MAX: usize = 256;

/// The life that speaks for an agent reports each second. After this much silence any other life may.
const SILENT_US: u64 = 5_000_000;

/// A life that was succeeded speaks for its agent again if its clock is ahead by this much of its successor's: what that
/// one sent was backlog.
const RETURN_US: u64 = 30_000_000;

/// Another life that reports this long after it was first seen beside the one that speaks, as promptly as then, lives
/// as well: two agents have one vantage.
const DOUBLE_US: u64 = 30_000_000;

/// What is known of an agent.
pub(crate) struct AgentSeen {
    /// Of the life that speaks.
    pub(crate) first_report: Timestamp,
    pub(crate) last_report: Timestamp,
    pub(crate) boot: u64,
    /// The number of its newest report.
    pub(crate) sequence: u64,
    pub(crate) epoch: u32,
    pub(crate) configuration: String,
    /// The version of aviary that it runs; empty where it does not say.
    pub(crate) program: String,
    /// The version of its reports.
    pub(crate) version: Version,
    /// The versions of its services that it holds, where it takes them from here by version.
    pub(crate) services: Option<Vec<Held>>,
    pub(crate) dropped: u64,
    pub(crate) series: usize,
    /// Another agent claims the same vantage.
    pub(crate) is_double: bool,
    /// The roster that it speaks of, and the token that it shows.
    pub(crate) roster: RosterKey,
    /// Said already that its slots come too late or too early.
    pub(super) is_warned: bool,
    pub(super) schedule: Schedule,
    /// How far the agent's wall clock was ahead of ours when its newest report arrived, its way included.
    clock_offset_us: i64,
    clocks: Clocks,
    /// When the newest report arrived, and when it was made by the agent's clock.
    heard: Timestamp,
    wall: Timestamp,
    others: VecDeque<Other>,
    /// The rosters that are known of it, the last used one last.
    rosters: Vec<RosterKey>,
    certificates: BTreeMap<(String, SocketAddr), Shown>,
    suspect: Vec<Span>,
}

/// A life of the agent that does not speak for it.
struct Other {
    boot: u64,
    clock_offset_us: i64,
    /// Since when another speaks.
    since: Timestamp,
    /// It spoke once, and its successor had a later clock: so it may again. Where the clock was set back in between,
    /// what is later by it says nothing.
    may_return: Option<bool>,
}

/// When a certificate ends, and when that was told by the agent's clock.
#[derive(Clone, Copy)]
struct Shown {
    not_after: i64,
    told: Timestamp,
}

impl AgentSeen {
    /// An agent whose first report arrives now.
    pub(super) fn new(report: &Report, roster: &RosterKey, now: Timestamp) -> Self {
        Self {
            first_report: now,
            last_report: now,
            boot: report.boot,
            sequence: report.sequence,
            epoch: report.epoch,
            configuration: String::new(),
            program: String::new(),
            version: report.version,
            services: None,
            dropped: 0,
            series: 0,
            is_double: false,
            roster: roster.clone(),
            is_warned: false,
            schedule: Schedule::default(),
            clock_offset_us: 0,
            clocks: Clocks::default(),
            heard: now,
            wall: report.wall,
            others: VecDeque::new(),
            rosters: Vec::new(),
            certificates: BTreeMap::new(),
            suspect: Vec::new(),
        }
    }

    /// Notes a report on a roster of `series` series; returns whether it is the newest that the agent says.
    ///
    /// What is told of the agent itself is as old as the report, and an old one may come late: of the same life, or of
    /// an earlier one, whose reports wait in the spool while the newest go first. Boots are random numbers, so lives are
    /// ordered by the agent's clock; and since that may have been set back between them, a life speaks as well when
    /// the other has fallen silent.
    pub(super) fn see(&mut self, report: &Report, roster: &RosterKey, series: usize, now: Timestamp) -> bool {
        self.last_report = self.last_report.max(now);
        let is_news = self.is_news(report, now);
        if !is_news {
            self.notice_double(report, now);
            return false;
        }
        if self.boot != report.boot {
            self.succeed(report, now);
            self.first_report = now;
        }
        if (self.boot, self.epoch) != (report.boot, report.epoch) {
            self.clocks.forget();
        }
        self.boot = report.boot;
        self.sequence = report.sequence;
        self.epoch = report.epoch;
        self.roster.clone_from(roster);
        self.configuration.clone_from(&report.configuration);
        self.program.clone_from(&report.program);
        self.version = report.version;
        self.services.clone_from(&report.services);
        self.dropped = report.dropped;
        self.series = series;
        self.clock_offset_us = offset(report, now);
        self.clocks.told(self.clock_offset_us);
        (self.heard, self.wall) = (now, report.wall);
        true
    }

    /// Notes what the life `boot` measured of our clock, if it is the one that speaks.
    pub(super) fn measured(&mut self, boot: u64, measured: ClockOffset) {
        if boot == self.boot {
            self.clocks.measured(measured);
        }
    }

    /// How far its wall clock is ahead of ours.
    pub(crate) fn clock_offset(&self) -> Offset {
        self.clocks.offset().unwrap_or(Offset { us: self.clock_offset_us, uncertainty_us: None })
    }

    fn is_news(&self, report: &Report, now: Timestamp) -> bool {
        if report.boot == self.boot {
            return report.sequence >= self.sequence;
        }
        let other = self.others.iter().find(|other| other.boot == report.boot);
        let is_later = match other.and_then(|other| other.may_return) {
            Some(may_return) => may_return && report.wall.since(self.wall) > RETURN_US,
            None => report.wall > self.wall,
        };
        is_later || now.since(self.heard) > SILENT_US
    }

    fn succeed(&mut self, report: &Report, now: Timestamp) {
        self.is_warned = false;
        self.is_double = false;
        self.others.retain(|other| other.boot != report.boot);
        self.remember(Other {
            boot: self.boot,
            clock_offset_us: self.clock_offset_us,
            since: now,
            may_return: Some(report.wall > self.wall),
        });
    }

    fn remember(&mut self, other: Other) {
        self.others.truncate(OTHERS_MAX - 1);
        self.others.push_front(other);
    }

    /// Backlog is old by the clock that it was written by. What comes at once, and long after another life took over, is
    /// from an agent that lives as well.
    fn notice_double(&mut self, report: &Report, now: Timestamp) {
        if report.boot == self.boot {
            return;
        }
        let clock_offset_us = offset(report, now);
        match self.others.iter().find(|other| other.boot == report.boot) {
            Some(other) => {
                let delay_us = other.clock_offset_us.saturating_sub(clock_offset_us).unsigned_abs();
                self.is_double |= now.since(other.since) > DOUBLE_US && delay_us < SILENT_US;
            }
            None => {
                let boot = report.boot;
                self.remember(Other { boot, clock_offset_us, since: now, may_return: None });
            }
        }
    }

    /// Notes that a roster was used; returns the one to be forgotten for it.
    pub(super) fn use_roster(&mut self, used: &RosterKey) -> Option<RosterKey> {
        self.rosters.retain(|known| known != used);
        self.rosters.push(used.clone());
        if self.rosters.len() <= ROSTERS_MAX {
            return None;
        }
        let oldest = self.rosters.iter().position(|known| *known != self.roster)?;
        Some(self.rosters.remove(oldest))
    }

    /// The rosters that are known of it.
    pub(super) fn rosters(&self) -> &[RosterKey] {
        &self.rosters
    }

    /// Notes what a report says of certificates. What is not told again still holds.
    pub(super) fn note_certificates(&mut self, told: &[Certificate], wall: Timestamp) {
        for certificate in told {
            let shown = Shown { not_after: certificate.not_after, told: wall };
            let known = self
                .certificates
                .entry((certificate.endpoint.to_string(), certificate.address))
                .or_insert(shown);
            if (known.told, known.not_after) < (shown.told, shown.not_after) {
                *known = shown;
            }
        }
        while self.certificates.len() > CERTIFICATES_MAX {
            let oldest = self.certificates.iter().min_by_key(|(_, shown)| shown.told);
            let Some(oldest) = oldest.map(|(at, _)| at.clone()) else { break };
            self.certificates.remove(&oldest);
        }
    }

    /// Forgets the certificates of endpoints that are no longer probed.
    pub(super) fn keep_certificates(&mut self, is_probed: impl Fn(&str) -> bool) {
        self.certificates.retain(|(endpoint, _), _| is_probed(endpoint));
    }

    /// When each certificate ends, by endpoint and address, in seconds since the Unix epoch.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&str, SocketAddr, i64)> {
        self.certificates.iter().map(|((endpoint, address), shown)| (&**endpoint, *address, shown.not_after))
    }

    /// Notes seconds in which the agent suspects itself. The oldest of too many spans are forgotten.
    pub(super) fn suspect(&mut self, told: &[Span]) {
        if told.is_empty() {
            return;
        }
        let mut spans: Vec<Span> = self.suspect.iter().chain(told).copied().collect();
        spans.sort();
        self.suspect.clear();
        for span in spans {
            match self.suspect.last_mut() {
                Some(last) if span.from <= last.until => last.until = last.until.max(span.until),
                _ => self.suspect.push(span),
            }
        }
        let beyond = self.suspect.len().saturating_sub(SUSPECT_SPANS_MAX);
        self.suspect.drain(..beyond);
    }

    /// Whether the agent suspects itself in any second of `span`.
    pub(crate) fn is_suspect(&self, span: Span) -> bool {
        self.suspect.iter().any(|suspect| !suspect.intersection(span).is_empty())
    }

    /// Forgets self-suspicion before `second`.
    pub(super) fn forget_before(&mut self, second: Second) {
        self.suspect.retain(|span| span.until > second);
    }
}

fn offset(report: &Report, now: Timestamp) -> i64 {
    report.wall.0.cast_signed().saturating_sub(now.0.cast_signed())
}
