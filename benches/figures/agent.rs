//! The agent, as `aviary run` puts it together.

use std::{collections::BTreeMap, path::Path, thread, time::Duration};

use aviary_agent::{Agent, AgentSeries, Assignment, Options, Push};
use aviary_core::{Clock as _, histogram::Histogram};
use aviary_probe::{Dns, Host, KeyExchange, SystemClock, Target, TlsClient};
use aviary_store::{Limits, Spool};
use tokio::runtime::Runtime;

use crate::{
    fleet::{self, Fleet},
    role::{self, Reading},
};

const SPOOL: Limits = Limits { bytes: 256 << 20, age_seconds: 86_400 };

/// What an agent is to do that probes `fleet`, reports to `collector` and spools in the directory `data`, or in memory.
pub(crate) fn options(fleet: &Fleet, collector: String, data: Option<&Path>) -> anyhow::Result<Options> {
    let authority = (!fleet.ca.is_empty()).then_some(fleet.ca.as_bytes());
    let tls = TlsClient::new(authority.as_slice(), KeyExchange::Classic)?;
    let series = fleet.series()?.into_iter().enumerate().map(|(index, (name, endpoint))| {
        let target = Target::new(endpoint, &name, &tls, None)?;
        let address = fleet.told_apart.then(|| fleet::label(index).into());
        Ok(AgentSeries { service: fleet::SERVICE.to_owned(), name, address, target })
    });
    let assignment = Assignment {
        vantage: fleet::vantage("figures"),
        series: series.collect::<anyhow::Result<_>>()?,
        configuration: "figures".to_owned(),
        services: None,
    };
    let spool = match data {
        Some(directory) => Spool::open(directory, SPOOL, SystemClock.wall().second())?,
        None => Spool::in_memory(SPOOL),
    };
    Ok(Options {
        assignment,
        boot: SystemClock.wall().0,
        push: Push { collectors: vec![collector], ..Push::default() },
        spool,
        is_durable: data.is_some(),
        held: None,
        controls: Vec::new(),
        pulse: Box::new(|| ()),
        listener: Box::new(|_| ()),
    })
}

/// Starts an agent that probes for real.
pub(crate) fn start(
    runtime: &Runtime,
    options: Options,
    with_the_second: bool,
) -> anyhow::Result<Agent<Host, SystemClock>> {
    aviary_probe::warm_up();
    let network = Host::new(Dns::from_system()?);
    if with_the_second {
        let rest = 1_000_000 - SystemClock.wall().0 % 1_000_000;
        thread::sleep(Duration::from_micros(rest));
    }
    let _entered = runtime.enter();
    let agent = Agent::start(options, network, SystemClock)?;
    if with_the_second {
        // Long enough for the first report with the roster to be out, and well before the first full second.
        thread::sleep(Duration::from_millis(500));
    }
    Ok(agent)
}

/// What an agent says whenever it is asked.
pub(crate) fn read(agent: &Agent<Host, SystemClock>) -> anyhow::Result<Reading> {
    let standing = agent.observer().standing();
    let buckets = |histogram: &Histogram| histogram.buckets().collect();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for (class, count) in standing.groups.iter().flat_map(|group| &group.outcomes) {
        let phase = class.phase.map(|phase| phase.name());
        let words: Vec<_> = [Some(class.outcome), phase, class.fault].into_iter().flatten().collect();
        *outcomes.entry(words.join(" ")).or_default() += count;
    }
    let delivered = outcomes.get("delivered").copied().unwrap_or_default();
    Ok(Reading {
        done: standing.stats.closed,
        failed: outcomes.values().sum::<u64>() - delivered,
        outcomes,
        start_late: buckets(&standing.stats.start_late),
        abandon_late: buckets(&standing.stats.abandon_late),
        ..role::reading()?
    })
}
