//! What is known of an agent, in a checkpoint.

use aviary_core::Timestamp;

use super::{AgentSeen, Other, Schedule, Shown};
use crate::checkpoint::{
    Unreadable, message,
    pool::{Pool, Shared},
};

impl AgentSeen {
    /// What is known of the agent whose vantage has this number.
    pub(in crate::state) fn keep(&self, vantage: u32, pool: &mut Pool) -> message::Agent {
        let Self {
            first_report,
            last_report,
            boot,
            sequence,
            epoch,
            configuration,
            dropped,
            series,
            clock_offset_us,
            is_double,
            roster_id,
            is_warned,
            schedule,
            heard,
            wall,
            others,
            rosters,
            certificates,
            suspect,
        } = self;
        let (statements, forgotten_until) = schedule.keep(pool);
        let other = |other: &Other| message::OtherLife {
            boot: other.boot,
            clock_offset_us: other.clock_offset_us,
            since_us: other.since.0,
            may_return: other.may_return,
        };
        let certificates = certificates.iter().map(|((endpoint, address), shown)| message::Certificate {
            endpoint: endpoint.clone(),
            address: address.to_string(),
            not_after: shown.not_after,
            told_us: shown.told.0,
        });
        message::Agent {
            vantage,
            first_report_us: first_report.0,
            last_report_us: last_report.0,
            boot: *boot,
            sequence: *sequence,
            epoch: *epoch,
            configuration: configuration.clone(),
            dropped: *dropped,
            series: *series as u64,
            clock_offset_us: *clock_offset_us,
            is_double: *is_double,
            roster_id: *roster_id,
            is_warned: *is_warned,
            statements,
            forgotten_until,
            heard_us: heard.0,
            wall_us: wall.0,
            others: others.iter().map(other).collect(),
            rosters: rosters.clone(),
            certificates: certificates.collect(),
            suspect: suspect.iter().map(|span| (*span).into()).collect(),
        }
    }

    /// The agent of which [`Self::keep`] told.
    pub(in crate::state) fn restore(kept: message::Agent, shared: &Shared) -> Result<Self, Unreadable> {
        let other = |kept: message::OtherLife| Other {
            boot: kept.boot,
            clock_offset_us: kept.clock_offset_us,
            since: Timestamp(kept.since_us),
            may_return: kept.may_return,
        };
        let certificate = |kept: message::Certificate| {
            let address = kept.address.parse().map_err(Unreadable::because)?;
            let shown = Shown { not_after: kept.not_after, told: Timestamp(kept.told_us) };
            Ok(((kept.endpoint, address), shown))
        };
        Ok(Self {
            first_report: Timestamp(kept.first_report_us),
            last_report: Timestamp(kept.last_report_us),
            boot: kept.boot,
            sequence: kept.sequence,
            epoch: kept.epoch,
            configuration: kept.configuration,
            dropped: kept.dropped,
            series: usize::try_from(kept.series).map_err(Unreadable::because)?,
            clock_offset_us: kept.clock_offset_us,
            is_double: kept.is_double,
            roster_id: kept.roster_id,
            is_warned: kept.is_warned,
            schedule: Schedule::restore(&kept.statements, kept.forgotten_until, shared)?,
            heard: Timestamp(kept.heard_us),
            wall: Timestamp(kept.wall_us),
            others: kept.others.into_iter().map(other).collect(),
            rosters: kept.rosters,
            certificates: kept.certificates.into_iter().map(certificate).collect::<Result<_, _>>()?,
            suspect: kept.suspect.into_iter().map(Into::into).collect(),
        })
    }
}
