//! `cargo bench`: the figures that aviary is to reach, measured side by side with a rival on this machine.
//!
//! Nothing here fails because something is slow: each figure is printed with its goal and whether it is met. What fails
//! is a measurement that is none, such as probes that do not arrive. Where a figure is a matter of a whole process,
//! this program starts itself again in that role; see [`role`].

mod agent;
mod allocation;
mod bare;
mod blackbox;
mod child;
mod collector;
mod cpu;
mod durable;
mod fleet;
mod history;
#[path = "../../tests/hosts/mod.rs"]
mod hosts;
mod lateness;
mod ledger;
mod live;
mod machine;
mod memory;
mod pace;
mod page;
mod pages;
mod process;
mod replay;
mod reports;
mod rival;
mod role;
mod server;
mod several_hosts;
mod soak;
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "tests do more than this")]
#[expect(clippy::unwrap_used, reason = "what is shared with tests fails where it cannot go on")]
mod support;
mod table;
mod upgrade;

use std::{
    io::{Write as _, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;

use crate::table::Table;

/// What `cargo bench -- ...` takes.
#[derive(Parser)]
#[command(about = "Measures the figures that aviary is to reach, and prints them beside their goals")]
struct Arguments {
    /// Only figures whose name contains one of these, such as `cpu`, `udp`, `lateness`, `report`, `ledger`, `history`, `durable`, `live`, `pages`, `replay` or `memory`;
    /// `soak`, `blackbox`, `page`, `upgrade` and `hosts` are only measured when named, the last with names of its faults after it
    figures: Vec<String>,
    /// Fewer and shorter rounds: to see that it works, not to judge by
    #[arg(long)]
    quick: bool,
    /// How long `soak` runs, and `page` looks for false alarms at least
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// The program that `upgrade` begins with; absent: that of the last commit of report version 1 is built
    #[arg(long, value_name = "PROGRAM")]
    old: Option<PathBuf>,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
    /// Only that the program starts
    #[arg(long, hide = true)]
    test: bool,
    /// Plays the part that the first line of standard input describes
    #[arg(long, hide = true)]
    child: bool,
}

/// What is to be measured, and how long.
pub(crate) struct Plan {
    wanted: Vec<String>,
    pub(crate) quick: bool,
    pub(crate) minutes: u64,
    pub(crate) old: Option<PathBuf>,
}

/// Takes so long that it is only measured when it is named: an agent for minutes.
const SOAK: &str = "soak";
/// Likewise: against a program that has to be installed.
const BLACKBOX: &str = "blackbox";
/// Likewise: two programs, of which one may have to be built.
const UPGRADE: &str = "upgrade";
/// Likewise: beside programs that have to be installed.
const PAGE: &str = "page";
/// Likewise: as root, and for a quarter of an hour.
const HOSTS: &str = "hosts";

impl Plan {
    /// Whether the figure called `name` was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()))
    }

    /// Whether exactly `name` was asked for.
    fn names(&self, name: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted == name)
    }

    /// `long`, or `short` where it is to be quick.
    pub(crate) const fn pick(&self, long: u64, short: u64) -> u64 {
        if self.quick { short } else { long }
    }
}

/// Says what is being measured, to whoever waits.
pub(crate) fn progress(name: &str) {
    // With standard error closed nobody waits.
    _ = writeln!(stderr(), "measuring: {name}");
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    aviary_probe::install_crypto_provider();
    let done = match (arguments.child, arguments.bench && !arguments.test) {
        (true, _) => role::play(),
        (false, true) => {
            let Arguments { figures: wanted, quick, minutes, old, .. } = arguments;
            figures(&Plan { wanted, quick, minutes, old })
        }
        // `cargo test` starts benchmarks too, and without `--bench`.
        (false, false) => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed there is nobody left to tell.
            _ = writeln!(stderr(), "figures: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn figures(plan: &Plan) -> anyhow::Result<()> {
    let mut out = stdout();
    writeln!(out, "{}\n", machine::description())?;
    let mut table = Table::default();
    let measured = measure(plan, &mut table);
    // What was measured before something failed is worth having.
    write!(out, "{table}")?;
    measured
}

fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if let Some((HOSTS, wanted)) = plan.wanted.split_first().map(|(first, others)| (first.as_str(), others)) {
        return several_hosts::measure(wanted, plan.quick);
    }
    cpu::measure(plan, table)?;
    durable::measure(plan, table)?;
    lateness::measure(plan, table)?;
    ledger::measure(plan, table)?;
    history::measure(plan, table)?;
    live::measure(plan, table)?;
    memory::measure(plan, table)?;
    pages::measure(plan, table)?;
    replay::measure(plan, table)?;
    reports::measure(plan, table)?;
    if plan.names(BLACKBOX) {
        blackbox::measure(plan, table)?;
    }
    if plan.names(PAGE) {
        page::measure(plan, table)?;
    }
    if plan.names(UPGRADE) {
        upgrade::measure(plan, table)?;
    }
    if plan.names(SOAK) {
        soak::measure(plan.minutes, table)?;
    }
    if plan.wanted.is_empty() {
        table.note(format!(
            "Five more are measured when they are named. `cargo bench -- {SOAK} [--minutes 10]`: 2,500 series for so long. \
             `cargo bench -- {BLACKBOX}`: CPU beside prometheus-blackbox-exporter, six minutes. \
             `cargo bench -- {PAGE}`: how soon a loss is a page, beside Prometheus; benches/setup fetches both. \
             `cargo bench -- {UPGRADE} [--old PROGRAM]`: an upgrade in each order and a downgrade, with the program of before. \
             `cargo bench -- {HOSTS} [loss]`: faults of a network of \
             hosts, and what is said of them, as root, for a quarter of an hour; tests/setup installs what it needs."
        ));
    }
    Ok(())
}
