//! What is known of an agent, in a checkpoint.

use aviary_core::{Second, Timestamp};
use aviary_wire::report::Version;

use super::{AgentSeen, Clocks, Other, RosterKey, Schedule, Shown};
use crate::checkpoint::{
    Unreadable, message,
    pool::{Pool, Shared},
};

impl RosterKey {
    /// As a checkpoint has it.
    pub(in crate::state) fn keep(&self) -> message::RosterKey {
        message::RosterKey { token: self.token.to_string(), id: self.id }
    }

    fn restore(kept: message::RosterKey) -> Self {
        Self { token: kept.token.into(), id: kept.id }
    }
}

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
            program,
            version,
            services,
            dropped,
            series,
            clock_offset_us,
            clocks: _,
            is_double,
            roster,
            is_warned,
            schedule,
            heard,
            wall,
            others,
            rosters,
            certificates,
            suspect,
        } = self;
        let (statements, [forgotten_until, settled_until]) = schedule.keep(pool);
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
            takes_services: services.is_some(),
            dropped: *dropped,
            series: *series as u64,
            clock_offset_us: *clock_offset_us,
            is_double: *is_double,
            roster: Some(roster.keep()),
            is_warned: *is_warned,
            statements,
            forgotten_until: forgotten_until.0,
            settled_until: settled_until.0,
            heard_us: heard.0,
            wall_us: wall.0,
            others: others.iter().map(other).collect(),
            rosters: rosters.iter().map(RosterKey::keep).collect(),
            certificates: certificates.collect(),
            suspect: suspect.iter().map(|span| (*span).into()).collect(),
            program: program.clone(),
            report_version: version.0,
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
        let told_until = [kept.forgotten_until, kept.settled_until].map(Second);
        Ok(Self {
            first_report: Timestamp(kept.first_report_us),
            last_report: Timestamp(kept.last_report_us),
            boot: kept.boot,
            sequence: kept.sequence,
            epoch: kept.epoch,
            configuration: kept.configuration,
            program: kept.program,
            // What was kept before versions were told was told in the first.
            version: Version(kept.report_version.max(Version::FIRST.0)),
            // Which they are, it tells anew with its next report.
            services: kept.takes_services.then(Vec::new),
            dropped: kept.dropped,
            series: usize::try_from(kept.series).map_err(Unreadable::because)?,
            clock_offset_us: kept.clock_offset_us,
            // Measured anew with the next report.
            clocks: Clocks::default(),
            is_double: kept.is_double,
            roster: kept.roster.map(RosterKey::restore).unwrap_or_default(),
            is_warned: kept.is_warned,
            schedule: Schedule::restore(&kept.statements, told_until, shared)?,
            heard: Timestamp(kept.heard_us),
            wall: Timestamp(kept.wall_us),
            others: kept.others.into_iter().map(other).collect(),
            rosters: kept.rosters.into_iter().map(RosterKey::restore).collect(),
            certificates: kept.certificates.into_iter().map(certificate).collect::<Result<_, _>>()?,
            suspect: kept.suspect.into_iter().map(Into::into).collect(),
        })
    }
}
