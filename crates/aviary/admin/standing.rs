//! How an agent stands: what its endpoints, metrics and StatsD tell, in one value.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use aviary_core::{Endpoint, Phase, Protocol, Second, Timestamp, histogram::Histogram};
use serde::Serialize;

use crate::steer::{Answer, Counted};

/// The outcome's name, and the names of its phase and fault where it has them.
pub(crate) type Class = (&'static str, Option<&'static str>, Option<&'static str>);

impl Standing {
    /// What an agent says of itself, and what became of the last reload.
    pub(crate) fn of(agent: aviary_agent::Standing, reload: Reload) -> Self {
        let aviary_agent::Standing { stats, spool, shipping, .. } = agent;
        Self {
            started: agent.started,
            now: agent.now,
            configuration: agent.configuration,
            epoch: agent.epoch,
            series: agent.series,
            ticking: if agent.ticker_is_alive { agent.ticking } else { 0 },
            groups: agent.groups.into_iter().map(Group::from).collect(),
            start_late: stats.start_late,
            abandon_late: stats.abandon_late,
            skipped: stats.skipped,
            dropped: stats.dropped + spool.dropped,
            beats_dropped: stats.beats_dropped,
            spool: Spool {
                records: spool.records,
                bytes: spool.bytes,
                slots: spool.slots,
                oldest: spool.oldest,
                on_disk: spool.on_disk,
                disk_bytes: spool.disk_bytes,
                last_error: spool.last_error,
            },
            shipping: Shipping {
                reports_taken: shipping.taken,
                last_taken: shipping.last_taken,
                failures: shipping.failures,
                last_error: shipping.last_error,
                collector: shipping.collector,
                token_expires: shipping.token_expires,
                clock_offset_us: shipping.clock_offset_us.map(i64::saturating_neg),
            },
            controls: agent.controls,
            self_suspect: agent.self_suspect,
            certificates: agent
                .certificates
                .into_iter()
                .map(|it| (it.endpoint, it.address, it.not_after))
                .collect(),
            reload,
            certificate_expires: None,
            fallback: None,
            discoveries: Vec::new(),
            rotation: Rotation::default(),
        }
    }
}

impl From<aviary_agent::GroupTotals> for Group {
    fn from(totals: aviary_agent::GroupTotals) -> Self {
        let aviary_agent::GroupTotals { service, protocol, outcomes, phases } = totals;
        let mut by_class = BTreeMap::new();
        for (class, slots) in outcomes {
            // Delivered slots have their evidence where others have their fault.
            let key = (class.outcome, class.phase.map(Phase::name), class.fault);
            *by_class.entry(key).or_default() += slots;
        }
        Self { service, protocol, outcomes: by_class, phases }
    }
}

/// A snapshot, cheap enough to take once a second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// When the agent was started.
    pub(crate) started: Timestamp,
    /// When the snapshot was taken.
    pub(crate) now: Timestamp,
    /// The version of the configuration that runs.
    pub(crate) configuration: String,
    /// How often the wall clock was stepped.
    pub(crate) epoch: u32,
    /// How many series there are.
    pub(crate) series: usize,
    /// How many of them opened a slot within the last three seconds.
    pub(crate) ticking: usize,
    /// What came of the slots since the start, by service and protocol.
    pub(crate) groups: Vec<Group>,
    /// How late attempts started, in microseconds after they were due.
    pub(crate) start_late: Histogram,
    /// How late attempts that ran to their deadline were given up, in microseconds after it.
    pub(crate) abandon_late: Histogram,
    /// Seconds of series that were skipped since the start.
    pub(crate) skipped: u64,
    /// Slots that were dropped unreported since the start.
    pub(crate) dropped: u64,
    /// Beats that a lane was too far behind to take since the start.
    pub(crate) beats_dropped: u64,
    /// What waits for the collector.
    pub(crate) spool: Spool,
    /// How reports get to the collector.
    pub(crate) shipping: Shipping,
    /// The endpoints known as good, and whether the last attempt reached them.
    pub(crate) controls: Vec<(Endpoint, bool)>,
    /// Every series and every control fails at once: the fault is likely our own.
    pub(crate) self_suspect: bool,
    /// When the certificates that were seen expire, in Unix seconds.
    pub(crate) certificates: Vec<(Endpoint, SocketAddr, i64)>,
    /// What became of the last reload.
    pub(crate) reload: Reload,
    /// When the certificate ends that it shows the collector, if it shows one.
    pub(crate) certificate_expires: Option<Second>,
    /// What it told by itself; none without a fallback.
    pub(crate) fallback: Option<Fallback>,
    /// What it asks for endpoints.
    pub(crate) discoveries: Vec<Discovery>,
    /// What it answers of its node.
    pub(crate) rotation: Rotation,
}

/// The slots of one service over one protocol: totals since the start, which only grow.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The service under test.
    pub(crate) service: String,
    /// How its datapoints are handed over.
    pub(crate) protocol: Protocol,
    /// Slots by what came of them.
    pub(crate) outcomes: BTreeMap<Class, u64>,
    /// How long each phase of delivered attempts took, in the order of [`Phase::ALL`].
    pub(crate) phases: [Option<Histogram>; Phase::ALL.len()],
}

/// What waits for the collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spool {
    /// Reports.
    pub(crate) records: u64,
    /// Their size.
    pub(crate) bytes: u64,
    /// The slots in them.
    pub(crate) slots: u64,
    /// The oldest of those.
    pub(crate) oldest: Option<Second>,
    /// Whether it is on the disk; `None` where it is to be in memory only.
    pub(crate) on_disk: Option<bool>,
    /// The size of its files; none where it is in memory only.
    pub(crate) disk_bytes: Option<u64>,
    /// Why it is not.
    pub(crate) last_error: Option<String>,
}

/// How reports get to the collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shipping {
    /// Reports that a collector took, since the start.
    pub(crate) reports_taken: u64,
    /// When it took the last.
    pub(crate) last_taken: Option<Timestamp>,
    /// Attempts that failed since.
    pub(crate) failures: u32,
    /// Why the last of them failed.
    pub(crate) last_error: Option<String>,
    /// When the token ends under which reports are taken, if it does.
    pub(crate) token_expires: Option<Second>,
    /// The collector that is, or was last, asked.
    pub(crate) collector: String,
    /// How far its clock is ahead of ours, in microseconds; negative where it is behind.
    pub(crate) clock_offset_us: Option<i64>,
}

/// What an agent that was cut off told by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fallback {
    /// Alerts that a receiver holds, or may, and the agent is to end.
    pub(crate) open: u64,
    /// Messages that the receiver took.
    pub(crate) taken: u64,
    /// Attempts that came to nothing.
    pub(crate) in_vain: u64,
}

/// What was found by one question for endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Discovery {
    /// The service that is probed there.
    pub(crate) service: String,
    /// What is asked.
    pub(crate) name: String,
    /// What was found, and whether it is answered no more.
    pub(crate) endpoints: Vec<(String, bool)>,
    /// Why the last answer was not taken; what was found before stands.
    pub(crate) trouble: Option<String>,
    /// How many labels the last answer had, of which nothing is made.
    pub(crate) labels: u64,
}

impl Discovery {
    /// How many endpoints are answered, and how many no more.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let going = self.endpoints.iter().filter(|(_, is_going)| *is_going).count();
        (self.endpoints.len() - going, going)
    }
}

/// What it answers of its node, and how often it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rotation {
    /// By service.
    pub(crate) answers: Vec<Answer>,
    /// How often, and to whom.
    pub(crate) counted: Arc<Counted>,
}

/// What became of the last reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reload {
    /// When it was; `None` if there was none.
    pub(crate) at: Option<Timestamp>,
    /// Why the file was not taken; stands until a good one is loaded.
    pub(crate) error: Option<String>,
}
