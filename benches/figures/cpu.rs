//! Processor time per probe: the agent's whole process against a bare loop's, by protocol.

use std::{thread, time::Duration};

use aviary_core::Protocol;

use crate::{
    Plan,
    child::Child,
    collector::Collector,
    fleet::Fleet,
    progress,
    role::Role,
    table::{Figure, Table, least_and_greatest, median},
};

const SERIES: usize = 500;

/// The most that a probe may cost, as a multiple of what the bare loop costs.
const fn goal(protocol: Protocol) -> f64 {
    match protocol {
        Protocol::Https | Protocol::Pickle | Protocol::Tcp => 1.3,
        Protocol::PickleTls | Protocol::Tls => 1.2,
        // Its sockets stay open for a while, to hear of ICMP errors.
        Protocol::Udp => 2.0,
    }
}

/// What one process did in one stretch of time.
struct Stretch {
    us_per_probe: f64,
    failed: u64,
    probes: u64,
    arrived: u64,
}

/// Measures every protocol that was asked for.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let name = |protocol: Protocol| format!("cpu per probe, {protocol}");
    let wanted: Vec<_> =
        Protocol::ALL.iter().copied().filter(|protocol| plan.wants(&name(*protocol))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut server = Child::start(&Role::Server { never_reads: false })?;
    let collector = Collector::start()?;
    let rounds = plan.pick(5, 1);
    for protocol in wanted {
        progress(&name(protocol));
        let fleet = Fleet {
            series: SERIES,
            protocols: vec![protocol.name().to_owned()],
            ports: server.ready.ports.clone(),
            ca: server.ready.ca.clone(),
            told_apart: false,
        };
        let agent = Role::Agent {
            fleet: fleet.clone(),
            collector: collector.url.clone(),
            data: None,
            with_the_second: false,
        };
        let bare = Role::Bare { fleet };
        let (mut agents, mut bares) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // Whatever drifts on this machine favours neither side.
            if round % 2 == 0 {
                agents.push(stretch(&agent, &mut server, plan)?);
                bares.push(stretch(&bare, &mut server, plan)?);
            } else {
                bares.push(stretch(&bare, &mut server, plan)?);
                agents.push(stretch(&agent, &mut server, plan)?);
            }
        }
        let ratios: Vec<_> =
            agents.iter().zip(&bares).map(|(agent, bare)| agent.us_per_probe / bare.us_per_probe).collect();
        let ratio = median(ratios.iter().copied());
        let cost = |stretches: &[Stretch]| median(stretches.iter().map(|stretch| stretch.us_per_probe));
        table.push(Figure {
            name: name(protocol),
            aviary: format!("{:.1} us", cost(&agents)),
            rival: format!("{:.1} us, bare loop", cost(&bares)),
            ratio: format!("{ratio:.2} ({})", least_and_greatest(&ratios)),
            goal: format!("at most {:.1}", goal(protocol)),
            met: ratio <= goal(protocol),
        });
        let whole = agents.iter().chain(&bares);
        for stretch in
            whole.filter(|stretch| stretch.failed > 0 || stretch.arrived * 100 < stretch.probes * 99)
        {
            table.note(format!(
                "CAUTION, {protocol}: of {} probes {} arrived, {} failed; what they cost says little.",
                stretch.probes, stretch.arrived, stretch.failed
            ));
        }
    }
    table.note(format!(
        "cpu per probe: {SERIES} series of one protocol, one probe a second each. \"aviary\" is the process of an agent as \
         `aviary run` puts it together, all its threads, reports to a collector in another process included; the rival \
         a process with one thread of blocking calls (connect, write, half-close, read to the end, close; for TLS \
         rustls with the agent's settings and a full X25519 handshake; for https a literal request; for udp send and \
         close, without the agent's wait for ICMP), without deadline, timings or reports. Both follow the same plan, in the \
         same grains of 5 ms, to the same server, aviary's sink, in a third process. Processor time is the kernel's count \
         for the process, user and system, divided by the probes that ended. Rounds: {rounds}, agent and rival in turn, {} s \
         each; the times are medians, the ratio is that of each round: the median, the least and the greatest.",
        seconds(plan)
    ));
    Ok(())
}

/// How long a stretch is. Whole seconds, because in each of them every series is due once and a report leaves.
const fn seconds(plan: &Plan) -> u64 {
    plan.pick(2, 1)
}

/// Starts a process in `role`, lets it warm up, and measures it.
fn stretch(role: &Role, server: &mut Child, plan: &Plan) -> anyhow::Result<Stretch> {
    let mut child = Child::start(role)?;
    Child::warm_up();
    let (before, arrived_before) = (child.read()?, server.read()?.done);
    thread::sleep(Duration::from_secs(seconds(plan)));
    let (after, arrived) = (child.read()?, server.read()?.done);
    let probes = after.done - before.done;
    anyhow::ensure!(probes > 0, "not one probe came to an end in {role:?}");
    Ok(Stretch {
        us_per_probe: (after.cpu_ns - before.cpu_ns) as f64 / 1_000.0 / probes as f64,
        failed: after.failed - before.failed,
        probes,
        arrived: arrived - arrived_before,
    })
}
