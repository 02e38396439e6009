//! Whether this host can carry what a configuration plans: open files and outgoing ports.

use std::{collections::BTreeMap, fs, path::Path};

use aviary_core::{Protocol, endpoint};

use super::Config;

/// Files that the program has open beside its probes: the log, listeners, the spool, connections to collectors.
const FILES_BESIDE: u64 = 64;

/// How many sockets a series may have at once: an attempt that runs to its deadline overlaps its successor.
const FILES_A_SERIES: u64 = 2;

/// How many seconds Linux keeps the port of a connection that this side closed first (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT_SECONDS: u64 = 60;

/// How many seconds it keeps it where `net.ipv4.tcp_tw_reuse` lets a new connection have it.
const TIME_WAIT_REUSED_SECONDS: u64 = 1;

/// What a host lets a process have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostLimits {
    /// The most open files: the hard `RLIMIT_NOFILE`.
    pub(crate) files: u64,
    /// The first and the last port of outgoing connections: `net.ipv4.ip_local_port_range`.
    pub(crate) ports: (u16, u16),
    /// `net.ipv4.tcp_tw_reuse`: 0 for never, 1 for always, 2 for connections on loopback.
    pub(crate) reuse: u8,
}

/// Linux' own defaults, for what cannot be read.
const PORTS_DEFAULT: (u16, u16) = (32_768, 60_999);
const REUSE_DEFAULT: u8 = 2;

impl HostLimits {
    /// What this host and this process have, in its network namespace.
    pub(crate) fn of_this_process() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let read =
            |name: &str| fs::read_to_string(Path::new("/proc/sys/net/ipv4").join(name)).unwrap_or_default();
        Self::from_text(files, &read("ip_local_port_range"), &read("tcp_tw_reuse"))
    }

    /// From the files' limit and the text of the kernel's files.
    fn from_text(files: Option<u64>, ports: &str, reuse: &str) -> Self {
        let mut numbers = ports.split_whitespace().map_while(|number| number.parse().ok());
        let ports = numbers.next().zip(numbers.next()).unwrap_or(PORTS_DEFAULT);
        Self { files: files.unwrap_or(u64::MAX), ports, reuse: reuse.trim().parse().unwrap_or(REUSE_DEFAULT) }
    }
}

/// A limit of the host that a plan goes beyond.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    /// Too few open files.
    #[error(
        "{series} series need {needed} open files ({FILES_A_SERIES} each, and {FILES_BESIDE} beside them), and this \
         process may have {limit} (RLIMIT_NOFILE)"
    )]
    Files {
        /// How many series are planned.
        series: u64,
        /// How many files they need.
        needed: u64,
        /// How many there may be.
        limit: u64,
    },
    /// Too few outgoing ports.
    #[error(
        "{series} series to {destination} need {needed} outgoing ports (each port is held for {held} s after its \
         connection), and this host has {limit} (net.ipv4.ip_local_port_range)"
    )]
    Ports {
        /// The host and port that they go to.
        destination: String,
        /// How many series go there.
        series: u64,
        /// How many ports they need.
        needed: u64,
        /// How many seconds a port is held after its connection.
        held: u64,
        /// How many there are.
        limit: u64,
    },
}

impl Excess {
    /// What would be right.
    pub(crate) const fn help(&self) -> &'static str {
        match self {
            Self::Files { .. } => {
                "raise it (LimitNOFILE= in the unit, ulimit -Hn in a shell), or share the endpoints out among several agents"
            }
            Self::Ports { .. } => {
                "set net.ipv4.tcp_tw_reuse=1, widen net.ipv4.ip_local_port_range, or share the endpoints out among several agents"
            }
        }
    }
}

/// Where the plan of `config` goes beyond `limits`. Only agents open connections by the second.
pub(crate) fn exceeded(config: &Config, limits: &HostLimits) -> Vec<Excess> {
    if config.agent.is_none() {
        return Vec::new();
    }
    let endpoints = || config.services.iter().flat_map(|service| service.probed(config.kind()));
    let mut found = Vec::new();
    let series = endpoints().count() as u64;
    let needed = FILES_A_SERIES * series + FILES_BESIDE;
    if needed > limits.files {
        found.push(Excess::Files { series, needed, limit: limits.files });
    }
    let mut destinations: BTreeMap<(&endpoint::Host, u16), u64> = BTreeMap::new();
    // A datagram leaves nothing behind: its port is free as soon as its socket is closed.
    for endpoint in endpoints().filter(|it| it.endpoint.protocol() != Protocol::Udp) {
        *destinations.entry((endpoint.endpoint.host(), endpoint.endpoint.port())).or_default() += 1;
    }
    let (first, last) = limits.ports;
    let limit = u64::from(last.saturating_sub(first)) + 1;
    for ((host, port), series) in destinations {
        let is_reused = limits.reuse == 1 || (limits.reuse == 2 && is_loopback(host));
        let held = if is_reused { TIME_WAIT_REUSED_SECONDS } else { TIME_WAIT_SECONDS };
        let needed = series * (1 + held);
        if needed > limit {
            let destination = format!("{host}:{port}");
            found.push(Excess::Ports { destination, series, needed, held, limit });
        }
    }
    found
}

/// Whether the kernel takes connections to `host` for loopback's. Where a name leads is not known here.
pub(super) fn is_loopback(host: &endpoint::Host) -> bool {
    match host {
        endpoint::Host::Address(address) => address.to_canonical().is_loopback(),
        endpoint::Host::Name(name) => name == "localhost",
    }
}

/// Lets this process have as many open files as it may: shells and service managers hand out 1024.
pub(crate) fn raise_open_files() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{Environment, parse};

    const HOST: HostLimits = HostLimits { files: 524_288, ports: PORTS_DEFAULT, reuse: REUSE_DEFAULT };

    /// As many services as there are series, since no service has one destination twice.
    fn config(role: &str, series: usize, endpoint: &str) -> Config {
        let mut text = format!("[vantage]\nregion = \"eu\"\n{role}\n");
        for index in 0..series {
            text += &format!("[[service]]\nname = \"s{index}\"\nendpoints = [\"{endpoint}\"]\n");
        }
        let environment = Environment::from_iter(std::iter::empty::<(OsString, OsString)>());
        parse(Path::new("a.toml"), text, None, &environment, "host").unwrap()
    }

    fn agent(series: usize, endpoint: &str) -> Config {
        config("[agent]\ncollector = [\"http://127.0.0.1:1\"]", series, endpoint)
    }

    #[test]
    fn ports_are_held_as_long_as_the_kernel_holds_them() {
        // 28,232 ports, and 61 of them a series: 462 series fit.
        let table = [
            (462, "tcp://h:1", 0, None),
            (463, "tcp://h:1", 0, Some(28_243)),
            (463, "tcp://h:1", 2, Some(28_243)),
            (463, "tcp://127.0.0.1:1", 2, None),
            (463, "tcp://h:1", 1, None),
            (463, "udp://h:1", 0, None),
        ];
        for (series, endpoint, reuse, expected) in table {
            let found = exceeded(&agent(series, endpoint), &HostLimits { reuse, ..HOST });
            let needed = match found.as_slice() {
                [] => None,
                [Excess::Ports { needed, .. }] => Some(*needed),
                other => panic!("{other:?}"),
            };
            assert_eq!(needed, expected, "{series} {endpoint} {reuse}");
        }
        let found = exceeded(&agent(463, "tcp://h:1"), &HOST);
        assert_eq!(
            found[0].to_string(),
            "463 series to h:1 need 28243 outgoing ports (each port is held for 60 s after its connection), and this \
             host has 28232 (net.ipv4.ip_local_port_range)"
        );
    }

    #[test]
    fn files_are_two_a_series_and_some_beside() {
        let limits = |files| HostLimits { files, ..HOST };
        let config_of_480 = agent(480, "udp://h:1");
        assert_eq!(exceeded(&config_of_480, &limits(1024)), []);
        assert_eq!(
            exceeded(&config_of_480, &limits(1023)),
            [Excess::Files { series: 480, needed: 1024, limit: 1023 }]
        );
        assert_eq!(exceeded(&config("[collector]", 480, "tcp://h:1"), &limits(10)), []);
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            HostLimits::from_text(Some(1024), "1024\t65535\n", "1\n"),
            HostLimits { files: 1024, ports: (1024, 65_535), reuse: 1 }
        );
        assert_eq!(HostLimits::from_text(None, "", ""), HostLimits { files: u64::MAX, ..HOST });
    }
}
