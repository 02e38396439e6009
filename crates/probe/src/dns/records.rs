//! Records that are asked for from time to time, and not for each attempt: with how long they hold.

use std::{net::IpAddr, time::Duration};

use aviary_core::Fault;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::{Dns, NOT_FOUND, upstream::addresses, whole};
use crate::{
    fault::{Blame, Failure},
    network::Family,
};

/// What name servers have under a name, and for how long that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<T> {
    /// In no order that means anything.
    pub found: Vec<T>,
    /// The shortest of the records' lives; none of what is in the hosts file.
    pub ttl: Duration,
}

/// Why nothing can be said of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// Who was asked knows no such records.
    #[error("{name} has no {kind} records; does the name end in the right domain?")]
    NotFound {
        /// The name.
        name: String,
        /// What was asked for.
        kind: &'static str,
    },
    /// Nobody could be asked, or answered, or not rightly.
    #[error("{name} cannot be looked up: {fault}; do the name servers of this host answer?")]
    Failed {
        /// The name.
        name: String,
        /// What was in the way.
        fault: String,
    },
}

/// A host with a port, as an SRV record names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAndPort {
    /// The host, without a dot at its end.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Dns {
    /// The hosts and ports of the SRV records of `name` (RFC 2782), of every priority and weight: also what stands by is
    /// to be well. One whose host is the root says that there is no such service, and is left out.
    pub async fn hosts_of_service(&self, name: &str) -> Result<Records<HostAndPort>, RecordsError> {
        let records = self.ask(name, RecordType::SRV).await.map_err(|failure| error(name, "SRV", failure))?;
        let found = records.iter().filter_map(|record| match &record.data {
            RData::SRV(srv) if !srv.target.is_root() => {
                let host = whole(&srv.target.to_ascii()).to_ascii_lowercase();
                Some(HostAndPort { host, port: srv.port })
            }
            _ => None,
        });
        let found: Vec<_> = found.collect();
        if found.is_empty() {
            Err(error(name, "SRV", NOT_FOUND))
        } else {
            Ok(Records { found, ttl: ttl(&records) })
        }
    }

    /// The addresses of `name`, of both families where any will do: the hosts file's, or the name servers'.
    pub async fn addresses_of(&self, name: &str, family: Family) -> Result<Records<IpAddr>, RecordsError> {
        if let Some(found) = self.names.upstream.on_file(whole(name), family) {
            return Ok(Records { found, ttl: Duration::ZERO });
        }
        let kinds: &[RecordType] = match family {
            Family::Any => &[RecordType::A, RecordType::AAAA],
            Family::Ipv4 => &[RecordType::A],
            Family::Ipv6 => &[RecordType::AAAA],
        };
        let mut records = Vec::new();
        for kind in kinds {
            match self.ask(name, *kind).await {
                Ok(found) => records.extend(found),
                // Of half an answer nothing is made: what is missing would seem to have gone.
                Err(failure) if failure != NOT_FOUND => return Err(error(name, "address", failure)),
                Err(_) => {}
            }
        }
        let found = addresses(&records);
        if found.is_empty() {
            return Err(error(name, "address", NOT_FOUND));
        }
        Ok(Records { found, ttl: ttl(&records) })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, Failure> {
        self.names.upstream.reread_if_due();
        self.names.upstream.records(whole(name), kind).await
    }
}

fn ttl(records: &[Record]) -> Duration {
    let shortest = records.iter().map(|record| record.ttl).min();
    Duration::from_secs(shortest.unwrap_or_default().into())
}

fn error(name: &str, kind: &'static str, failure: Failure) -> RecordsError {
    let name = name.to_owned();
    let fault = match failure.blame {
        Blame::Service(Fault::NameNotFound) => return RecordsError::NotFound { name, kind },
        Blame::Service(fault) => fault.name().to_owned(),
        Blame::Local(fault) => fault.name().to_owned(),
    };
    RecordsError::Failed { name, fault }
}
