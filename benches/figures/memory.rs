//! Memory per series of an agent's process.

use std::{thread, time::Duration};

use aviary_core::Protocol;

use crate::{
    Plan,
    child::Child,
    collector::Collector,
    fleet::Fleet,
    process::Memory,
    progress,
    role::Role,
    table::{Figure, Table, median},
};

const MANY: usize = 10_000;
const FEW: usize = 10;
const GOAL_BYTES: f64 = 2_048.0;

/// Measures an agent before its first attempt, and one that probes.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if plan.wants("memory per series, idle") {
        progress("memory per series, idle");
        let all: Vec<_> = Protocol::ALL.iter().map(|protocol| protocol.name()).collect();
        let idle = per_series(&all, 0)?;
        table.push(Figure {
            name: "memory per series, idle".to_owned(),
            aviary: format!("{:.0} B resident, {:.0} B private", idle.resident, idle.private),
            rival: String::new(),
            ratio: String::new(),
            goal: "under 2048 B".to_owned(),
            met: idle.resident < GOAL_BYTES,
        });
        table.note(format!(
            "memory per series, idle: what an agent's process with {MANY} series of all six protocols has more than one \
             with {FEW}, divided by the difference. Read half a second after the agent was started with everything it \
             needs to probe (series, targets, plan, lanes) and after its first report, with the roster of all series, was \
             taken, and before its first attempt: the first slot is the next full second."
        ));
    }
    if plan.wants("memory per series, probing") {
        progress("memory per series, probing");
        let probing = per_series(&[Protocol::Udp.name()], plan.pick(3, 2))?;
        table.push(Figure {
            name: "memory per series, probing".to_owned(),
            aviary: format!("{:.0} B resident, {:.0} B private", probing.resident, probing.private),
            rival: String::new(),
            ratio: String::new(),
            goal: String::new(),
            met: true,
        });
        table.note(format!(
            "memory per series, probing: the same with {MANY} UDP series after seconds of probing, read between two \
             reports, in the middle of five readings. It holds what idle memory does not: about 500 attempts in flight, \
             the closed slots that wait for the next report, and that report's bytes. UDP, because {MANY} connections a \
             second would take more than this machine."
        ));
    }
    Ok(())
}

/// Bytes per series.
struct PerSeries {
    resident: f64,
    private: f64,
}

fn per_series(protocols: &[&str], probing_seconds: u64) -> anyhow::Result<PerSeries> {
    let server = Child::start(&Role::Server { never_reads: false })?;
    let collector = Collector::start()?;
    let memory = |series: usize| -> anyhow::Result<Memory> {
        let fleet = Fleet {
            series,
            protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
            ports: server.ready.ports.clone(),
            ca: server.ready.ca.clone(),
            told_apart: false,
        };
        let role = Role::Agent { fleet, collector: collector.url.clone(), data: None, with_the_second: true };
        let before = collector.reports();
        let mut agent = Child::start(&role)?;
        anyhow::ensure!(collector.reports() > before, "the agent's first report was not taken");
        if probing_seconds == 0 {
            return Ok(agent.ready.memory);
        }
        Child::warm_up();
        let mut readings = Vec::new();
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(probing_seconds * 1_000 / 5 + 137));
            readings.push(agent.read_with_memory()?.memory);
        }
        let middle = |field: fn(&Memory) -> u64| median(readings.iter().map(|memory| field(memory) as f64));
        let (resident, private) = (middle(|memory| memory.resident), middle(|memory| memory.private));
        Ok(Memory { resident: resident as u64, private: private as u64 })
    };
    let (many, few) = (memory(MANY)?, memory(FEW)?);
    let each = |many: u64, few: u64| (many as f64 - few as f64) * 1_024.0 / (MANY - FEW) as f64;
    Ok(PerSeries { resident: each(many.resident, few.resident), private: each(many.private, few.private) })
}
