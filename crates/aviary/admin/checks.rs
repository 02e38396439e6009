//! The agent's checks of itself: what `/healthcheck` says.

use std::collections::VecDeque;

use aviary_agent::WARNED_SECONDS;

use super::{
    process::Process,
    readiness::{OFFSET_MAX_US, offset_in_words},
    standing::{Discovery, Standing},
};

/// The share of files and memory from which on a check fails, in percent.
const FULL_PERCENT: u64 = 80;

/// How long after the start nothing needs to tick yet.
const STARTING_US: u64 = 5_000_000;

/// How often totals are noted, in seconds.
pub(super) const NOTED_EVERY: u64 = 10;

/// How many are kept: a minute of them.
const NOTED_MAX: usize = 6;

/// One check of the agent itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) failed: bool,
    /// It is well, and somebody is to see to it in time.
    pub(super) warned: bool,
    /// What was found, with the remedy where it failed.
    pub(super) found: String,
}

/// Totals since the start whose growth is somebody's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    no_ports: u64,
    no_files: u64,
    no_buffers: u64,
    dropped: u64,
}

impl Totals {
    fn of(standing: &Standing) -> Self {
        let local = |fault| {
            let outcomes = standing.groups.iter().flat_map(|group| &group.outcomes);
            outcomes.filter(|((.., found), _)| *found == Some(fault)).map(|(_, count)| count).sum()
        };
        Self {
            no_ports: local("no_ports"),
            no_files: local("no_files"),
            no_buffers: local("no_buffers"),
            dropped: standing.dropped,
        }
    }

    /// A total that is below what it was has begun anew.
    const fn since(self, earlier: Self) -> Self {
        Self {
            no_ports: self.no_ports.saturating_sub(earlier.no_ports),
            no_files: self.no_files.saturating_sub(earlier.no_files),
            no_buffers: self.no_buffers.saturating_sub(earlier.no_buffers),
            dropped: self.dropped.saturating_sub(earlier.dropped),
        }
    }
}

/// The totals of the last minute.
#[derive(Debug, Default)]
pub(super) struct Noted(VecDeque<Totals>);

impl Noted {
    /// Notes how the agent stands: to be called every [`NOTED_EVERY`] seconds.
    pub(super) fn note(&mut self, standing: &Standing) {
        if self.0.len() >= NOTED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Totals::of(standing));
    }

    /// What was added within the last minute, or since the start.
    pub(super) fn recent(&self, standing: &Standing) -> Totals {
        Totals::of(standing).since(self.0.front().copied().unwrap_or_default())
    }
}

/// Every check of an agent that stands so, `uptime_us` microseconds after its start.
pub(super) fn checks(standing: &Standing, process: &Process, recent: Totals, uptime_us: u64) -> Vec<Check> {
    let Standing { series, ticking, .. } = standing;
    let starting = uptime_us < STARTING_US;
    let mut checks = Vec::new();
    let mut say = |name, failed, found| checks.push(Check { name, failed, warned: false, found });

    let still = *ticking == 0 && *series > 0 && !starting;
    let walks = if still { "no slot was opened for 3 s; the schedule stands still" } else { "runs" };
    say("ticker", still, walks.to_owned());
    let lanes = format!("{ticking} of {series} series opened a slot within the last 3 s");
    say("lanes", ticking < series && !starting, lanes);
    spool(standing, recent, &mut say);
    resources(process, recent, &mut say);
    match standing.shipping.clock_offset_us {
        Some(offset) if offset.unsigned_abs() >= OFFSET_MAX_US => say("clock", true, offset_in_words(offset)),
        Some(offset) => say("clock", false, format!("{} ms from the collector's", offset / 1_000)),
        None => say("clock", false, "not compared with the collector's yet".to_owned()),
    }
    let failing = standing.controls.iter().filter(|(_, reached)| !reached).count();
    let controls = format!("{failing} of {} fail", standing.controls.len());
    if standing.self_suspect {
        let all = "and so does every series; look at this host and its network first";
        say("controls", true, format!("{controls}, {all}"));
    } else {
        say("controls", false, controls);
    }
    if !standing.discoveries.is_empty() {
        let (failed, found) = discovered(&standing.discoveries);
        say("discovery", failed, found);
    }
    match &standing.reload.error {
        Some(error) => say("configuration", true, format!("not loaded, the one before stands: {error}")),
        None => say("configuration", false, standing.configuration.clone()),
    }
    let (found, warned) = credentials(standing);
    checks.push(Check { name: "credentials", failed: false, warned, found });
    checks
}

fn discovered(discoveries: &[Discovery]) -> (bool, String) {
    let troubles = discoveries.iter().filter_map(|it| {
        Some(format!("{} of {}: {}; what was found last stands", it.name, it.service, it.trouble.as_ref()?))
    });
    let troubles: Vec<String> = troubles.collect();
    if !troubles.is_empty() {
        return (true, troubles.join("; "));
    }
    let (found, going) =
        discoveries.iter().map(Discovery::counts).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    (false, format!("{found} endpoints are found, {going} no more"))
}

/// What the agent shows the collector, and whether it is to be replaced soon.
fn credentials(standing: &Standing) -> (String, bool) {
    let now = standing.now.second().0;
    let both = [("certificate", standing.certificate_expires), ("token", standing.shipping.token_expires)];
    let soon = both.into_iter().filter_map(|(name, ends)| Some((name, ends?.0)));
    let soon: Vec<String> = soon
        .filter(|(_, ends)| *ends <= now + WARNED_SECONDS)
        .map(|(name, ends)| {
            let end = match ends.saturating_sub(now).div_ceil(86_400) {
                0 => "has ended".to_owned(),
                1 => "ends within a day".to_owned(),
                days => format!("ends within {days} days"),
            };
            format!("agent.{name} {end}; put another in its file")
        })
        .collect();
    match soon.is_empty() {
        true => ("none ends within 14 days".to_owned(), false),
        false => (soon.join("; "), true),
    }
}

fn spool(standing: &Standing, recent: Totals, say: &mut impl FnMut(&'static str, bool, String)) {
    let spool = &standing.spool;
    let place = match spool.on_disk {
        Some(true) => "on disk",
        Some(false) => {
            let error = spool.last_error.as_deref().unwrap_or("no reason is known");
            return say("spool", true, format!("cannot be written to disk: {error}"));
        }
        None => "in memory",
    };
    let depth = format!("{} slots wait {place}, {} bytes", spool.slots, spool.bytes);
    if recent.dropped > 0 {
        let lost =
            format!("{depth}; {} were dropped within the last minute for want of room", recent.dropped);
        say("spool", true, lost);
    } else {
        say("spool", false, depth);
    }
}

fn resources(process: &Process, recent: Totals, say: &mut impl FnMut(&'static str, bool, String)) {
    let is_full = |used: Option<u64>, max: Option<u64>| {
        used.zip(max)
            .is_some_and(|(used, max)| u128::from(used) * 100 >= u128::from(max) * u128::from(FULL_PERCENT))
    };
    let known = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());

    let files = format!("{} of {} are open", known(process.files), known(process.files_max));
    if is_full(process.files, process.files_max) || recent.no_files > 0 {
        let slots = recent.no_files;
        let remedy = "raise LimitNOFILE= of the unit, or `ulimit -n`";
        say("files", true, format!("{files}, {slots} slots had none within the last minute; {remedy}"));
    } else {
        say("files", false, files);
    }

    let range = process.port_range.map(|(from, to)| u64::from(to.saturating_sub(from)) + 1);
    let ports = format!(
        "{} TCP sockets in use, {} closing, {} ports a destination",
        known(process.tcp),
        known(process.time_wait),
        known(range)
    );
    // Full is for each destination by itself, so that only who finds none can tell.
    if recent.no_ports > 0 {
        let slots = recent.no_ports;
        let remedy = "widen net.ipv4.ip_local_port_range, or probe from more addresses";
        say("ports", true, format!("{slots} slots found none within the last minute; {ports}; {remedy}"));
    } else {
        say("ports", false, ports);
    }

    let megabytes = |bytes: Option<u64>| known(bytes.map(|bytes| bytes >> 20));
    let memory = format!("{} MiB of {} MiB", megabytes(process.resident), megabytes(process.memory_max));
    if recent.no_buffers > 0 {
        let slots = recent.no_buffers;
        say(
            "memory",
            true,
            format!("{memory}; the kernel had no buffers for {slots} slots within the last minute"),
        );
    } else {
        say("memory", is_full(process.resident, process.memory_max), memory);
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::{Protocol, Second, Timestamp};

    use super::*;
    use crate::admin::standing::{Group, Reload, Shipping, Spool};

    const LONG_AFTER: u64 = 3_600_000_000;

    fn found(trouble: Option<&str>) -> Discovery {
        Discovery {
            service: "a".to_owned(),
            name: "srv x".to_owned(),
            endpoints: vec![("tcp://h:1".to_owned(), false)],
            trouble: trouble.map(str::to_owned),
            labels: 0,
        }
    }

    fn group(fault: &'static str, count: u64) -> Group {
        Group {
            service: "ingest".to_owned(),
            protocol: Protocol::Tcp,
            outcomes: [(("local", Some("connect"), Some(fault)), count)].into(),
            phases: Default::default(),
        }
    }

    fn failed(standing: &Standing, process: &Process, recent: Totals, uptime_us: u64) -> Vec<String> {
        let checks = checks(standing, process, recent, uptime_us);
        let all = 10 + usize::from(!standing.discoveries.is_empty());
        assert_eq!(checks.len(), all, "each check is told, passed or failed");
        checks.into_iter().filter(|it| it.failed).map(|it| format!("{}: {}", it.name, it.found)).collect()
    }

    #[test]
    fn each_check_fails_for_its_own_reason() {
        let well = || Standing { series: 6, ticking: 6, ..Standing::default() };
        let host = || Process {
            files: Some(79),
            files_max: Some(100),
            resident: Some(79 << 20),
            memory_max: Some(100 << 20),
            ..Process::default()
        };
        let offset = |micros| Shipping { clock_offset_us: Some(micros), ..Shipping::default() };
        let spool = |on_disk| Spool { on_disk: Some(on_disk), ..Spool::default() };
        let bad = Reload { at: None, error: Some("line 3".to_owned()) };
        let table: &[(Standing, Process, Totals, &[&str])] = &[
            (well(), host(), Totals::default(), &[]),
            (
                Standing { ticking: 0, ..well() },
                host(),
                Totals::default(),
                &["ticker: no slot", "lanes: 0 of 6"],
            ),
            (Standing { ticking: 3, ..well() }, host(), Totals::default(), &["lanes: 3 of 6"]),
            (Standing { series: 0, ticking: 0, ..well() }, host(), Totals::default(), &[]),
            (
                Standing { spool: spool(false), ..well() },
                host(),
                Totals::default(),
                &["spool: cannot be written"],
            ),
            (
                Standing { spool: spool(true), ..well() },
                host(),
                Totals { dropped: 7, ..Totals::default() },
                &["7 were dropped"],
            ),
            (
                well(),
                Process { files: Some(80), ..host() },
                Totals::default(),
                &["files: 80 of 100 are open"],
            ),
            (well(), host(), Totals { no_files: 2, ..Totals::default() }, &["2 slots had none"]),
            (well(), host(), Totals { no_ports: 9, ..Totals::default() }, &["ports: 9 slots found none"]),
            (
                well(),
                Process { resident: Some(80 << 20), ..host() },
                Totals::default(),
                &["memory: 80 MiB of 100 MiB"],
            ),
            (well(), host(), Totals { no_buffers: 1, ..Totals::default() }, &["no buffers for 1 slots"]),
            (Standing { shipping: offset(999_999), ..well() }, host(), Totals::default(), &[]),
            (
                Standing { shipping: offset(1_000_000), ..well() },
                host(),
                Totals::default(),
                &["1.0 s ahead of"],
            ),
            (Standing { self_suspect: true, ..well() }, host(), Totals::default(), &["controls: "]),
            (Standing { discoveries: vec![found(None)], ..well() }, host(), Totals::default(), &[]),
            (
                Standing { discoveries: vec![found(None), found(Some("no answer"))], ..well() },
                host(),
                Totals::default(),
                &["discovery: srv x of a: no answer; what was found last stands"],
            ),
            (Standing { reload: bad, ..well() }, host(), Totals::default(), &["configuration: not loaded"]),
            (well(), Process::default(), Totals::default(), &[]),
        ];
        for (standing, process, recent, expected) in table {
            let said = failed(standing, process, *recent, LONG_AFTER);
            assert_eq!(said.len(), expected.len(), "{expected:?}: {said:?}");
            assert!(said.iter().zip(*expected).all(|(line, part)| line.contains(part)), "{said:?}");
        }
        let starting = Standing { ticking: 0, ..well() };
        assert!(failed(&starting, &host(), Totals::default(), 1_000_000).is_empty(), "not at the start");
    }

    #[test]
    fn what_ends_soon_is_warned_of_and_nothing_fails_for_it() {
        const DAY: u64 = 86_400;
        let found = |token: Option<u64>, certificate: Option<u64>| {
            let shipping = Shipping { token_expires: token.map(Second), ..Shipping::default() };
            let now = Timestamp(100 * DAY * 1_000_000);
            let certificate_expires = certificate.map(Second);
            let standing = Standing { now, shipping, certificate_expires, ..Standing::default() };
            let checks = checks(&standing, &Process::default(), Totals::default(), LONG_AFTER);
            let check = checks.into_iter().find(|check| check.name == "credentials").unwrap();
            assert!(!check.failed);
            (check.warned, check.found)
        };
        let well = (false, "none ends within 14 days".to_owned());
        assert_eq!(found(None, None), well);
        assert_eq!(found(Some(114 * DAY + 1), None), well);
        let token = "agent.token ends within 14 days; put another in its file";
        assert_eq!(found(Some(114 * DAY), None), (true, token.to_owned()));
        let both = "agent.certificate has ended; put another in its file; agent.token ends within a day; put another in its file";
        assert_eq!(found(Some(100 * DAY + 5), Some(99 * DAY)), (true, both.to_owned()));
    }

    #[test]
    fn only_the_last_minute_is_held_against_it() {
        let at = |count| Standing {
            groups: vec![group("no_ports", count)],
            dropped: count,
            ..Standing::default()
        };
        let mut noted = Noted::default();
        assert_eq!(noted.recent(&at(5)).no_ports, 5, "since the start");
        noted.note(&at(5));
        assert_eq!(noted.recent(&at(8)), Totals { no_ports: 3, dropped: 3, ..Totals::default() });
        for _ in 0..NOTED_MAX {
            noted.note(&at(8));
        }
        assert_eq!(noted.recent(&at(8)), Totals::default());
        assert_eq!(noted.0.len(), NOTED_MAX);
    }
}
