//! Processor time per probe, against prometheus-blackbox-exporter.

pub(crate) mod driver;
mod exporter;

use std::{fmt, thread, time::Duration};

use aviary_core::Protocol;

use self::exporter::Exporter;
use crate::{
    Plan,
    child::Child,
    fleet::Fleet,
    progress,
    role::{Reading, Role},
    table::{Figure, Table, least_and_greatest, median},
};

/// A protocol, the most that a probe may cost as a multiple of what it costs the exporter, and the rates to be tried:
/// the first at which the exporter keeps up is the one for both.
const CASES: [(Protocol, f64, &[usize]); 3] = [
    (Protocol::Tcp, 0.2, &[2_000, 1_500, 1_000, 750, 500, 250]),
    (Protocol::Tls, 0.4, &[500, 400, 300, 200, 100]),
    (Protocol::Https, 0.4, &[500, 400, 300, 200, 100]),
];

/// What one side did in one stretch of time.
struct Stretch {
    cpu_ns: u64,
    probes: u64,
    failed: u64,
    arrived: u64,
    wanted: u64,
}

impl Stretch {
    fn us_per_probe(&self) -> f64 {
        self.cpu_ns as f64 / 1_000.0 / self.probes as f64
    }

    /// All but a hundredth of what was due was done, did not fail and arrived.
    fn is_whole(&self) -> bool {
        let succeeded = self.probes.saturating_sub(self.failed).min(self.arrived);
        succeeded * 100 >= self.wanted * 99
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { probes, failed, arrived, wanted, .. } = self;
        write!(f, "of {wanted} probes that were due {probes} ended, {failed} failed and {arrived} arrived")
    }
}

/// Everything that takes part.
struct Stage {
    server: Child,
    collector: Child,
    exporter: Exporter,
    seconds: u64,
}

/// Measures each protocol that the exporter can do.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let server = Child::start(&Role::Server { never_reads: false })?;
    let collector = Child::start(&Role::Collector)?;
    let exporter = Exporter::start(&server.ready.ca)?;
    let mut stage = Stage { server, collector, exporter, seconds: plan.pick(5, 2) };
    let rounds = plan.pick(5, 1);
    for (protocol, goal, rates) in CASES {
        let Some(series) = stage.sustained(protocol, rates)? else {
            table.note(format!("{protocol}: the exporter keeps up at none of the rates {rates:?}."));
            continue;
        };
        progress(&format!("cpu beside blackbox, {protocol}, {series} a second"));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // Whatever drifts on this machine favours neither side.
            if round % 2 == 0 {
                ours.push(stage.aviary(protocol, series)?);
                theirs.push(stage.blackbox(protocol, series)?);
            } else {
                theirs.push(stage.blackbox(protocol, series)?);
                ours.push(stage.aviary(protocol, series)?);
            }
        }
        let ratios: Vec<_> = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| ours.us_per_probe() / theirs.us_per_probe())
            .collect();
        let ratio = median(ratios.iter().copied());
        let cost = |stretches: &[Stretch]| median(stretches.iter().map(Stretch::us_per_probe));
        table.push(Figure {
            name: format!("cpu beside blackbox, {protocol}, {series}/s"),
            aviary: format!("{:.1} us", cost(&ours)),
            rival: format!("{:.1} us, exporter", cost(&theirs)),
            ratio: format!("{ratio:.2} ({})", least_and_greatest(&ratios)),
            goal: format!("at most {goal:.1}"),
            met: ratio <= goal,
        });
        if series < rates[0] {
            table.note(format!(
                "{protocol}: the exporter does not keep up with {} probes a second on this machine (beside the sink and \
                 whoever asks it); both were measured at {series}.",
                rates[0]
            ));
        }
        for (who, it) in ours.iter().map(|it| ("aviary", it)).chain(theirs.iter().map(|it| ("exporter", it)))
        {
            if !it.is_whole() {
                table.note(format!("CAUTION, {protocol}, {who}: {it}; what they cost says little."));
            }
        }
    }
    table.note(differences(&stage.exporter.version, rounds, stage.seconds));
    Ok(())
}

/// What is compared, and in what the two sides are not alike.
fn differences(version: &str, rounds: u64, seconds: u64) -> String {
    format!(
        "cpu beside blackbox: {version}. Both probe the same server, aviary's sink, one probe a second and series by the \
         same plan; CPU is the kernel's count for the whole process, user and system, divided by the probes that ended. \
         aviary: an agent with its spool on a disk, that reports to a collector in another process. The exporter: asked \
         by another process over kept connections, which is not counted, and without the gzip that Prometheus asks for; \
         left at its defaults otherwise, and running throughout, so that its start is not counted. What it does that \
         the agent does not: it takes a request and renders an answer for each probe, and reads the authority's file \
         anew for each TLS handshake. What it does not do that the agent does: \
         for tcp and tls it is set up to send the same line, but it cannot wait for the peer's close, and closes at \
         once; it sends one fixed line, keeps no schedule, no outcome and no timings beyond its answer. Handshakes are \
         full on both sides, X25519 and an ECDSA certificate, by rustls with aws-lc here and Go's crypto/tls there. For \
         https both post the line, and read the answer. Rounds: {rounds}, both in turn, {seconds} s each; the times are \
         medians, the ratio is that of each round: the median, the least and the greatest."
    )
}

impl Stage {
    /// The first of `rates` at which the exporter keeps up.
    fn sustained(&mut self, protocol: Protocol, rates: &[usize]) -> anyhow::Result<Option<usize>> {
        for rate in rates {
            progress(&format!("whether the exporter keeps up with {rate} {protocol} probes a second"));
            let tried = self.blackbox(protocol, *rate)?;
            if tried.is_whole() {
                return Ok(Some(*rate));
            }
            progress(&format!("it does not: {tried}"));
        }
        Ok(None)
    }

    fn fleet(&self, protocol: Protocol, series: usize) -> Fleet {
        Fleet {
            series,
            protocols: vec![protocol.name().to_owned()],
            ports: self.server.ready.ports.clone(),
            ca: self.server.ready.ca.clone(),
            told_apart: false,
        }
    }

    fn aviary(&mut self, protocol: Protocol, series: usize) -> anyhow::Result<Stretch> {
        let data = tempfile::tempdir()?;
        let agent = Role::Agent {
            fleet: self.fleet(protocol, series),
            collector: self.collector.ready.url.clone(),
            data: Some(data.path().to_owned()),
            with_the_second: false,
        };
        self.stretch(&agent, series, |_, reading| Ok(reading.cpu_ns))
    }

    fn blackbox(&mut self, protocol: Protocol, series: usize) -> anyhow::Result<Stretch> {
        let fleet = self.fleet(protocol, series);
        let driver = Role::Driver { fleet, exporter: self.exporter.address };
        self.stretch(&driver, series, |stage, _| stage.exporter.cpu_ns())
    }

    /// Starts a process in `role`, lets it warm up, and measures it, with the processor time that `cpu` tells.
    fn stretch(
        &mut self,
        role: &Role,
        series: usize,
        cpu: impl Fn(&Self, &Reading) -> anyhow::Result<u64>,
    ) -> anyhow::Result<Stretch> {
        let mut child = Child::start(role)?;
        Child::warm_up();
        // The exporter opens its connections in the first second.
        thread::sleep(Duration::from_secs(1));
        let (before, arrived_before) = (child.read()?, self.server.read()?.done);
        let cpu_before = cpu(self, &before)?;
        thread::sleep(Duration::from_secs(self.seconds));
        let (after, arrived) = (child.read()?, self.server.read()?.done);
        let probes = after.done - before.done;
        anyhow::ensure!(probes > 0, "not one probe came to an end in {role:?}");
        Ok(Stretch {
            cpu_ns: cpu(self, &after)? - cpu_before,
            probes,
            failed: after.failed - before.failed,
            arrived: arrived - arrived_before,
            wanted: series as u64 * self.seconds,
        })
    }
}
