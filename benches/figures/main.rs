//! `cargo bench`: the figures that aviary is to reach, measured side by side with a rival on this machine.
//!
//! Nothing here fails because something is slow: each figure is printed with its goal and whether it is met. What fails
//! is a measurement that is none, such as probes that do not arrive. Where a figure is a matter of a whole process,
//! this program starts itself again in that role; see [`role`].

mod allocation;
mod bare;
mod child;
mod collector;
mod cpu;
mod fleet;
mod lateness;
mod ledger;
mod machine;
mod memory;
mod pace;
mod role;
mod server;
mod table;

use std::{
    io::{Write as _, stderr, stdout},
    process::ExitCode,
};

use clap::Parser;

use crate::table::Table;

/// What `cargo bench -- ...` takes.
#[derive(Parser)]
#[command(about = "Measures the figures that aviary is to reach, and prints them beside their goals")]
struct Arguments {
    /// Only figures whose name contains one of these, such as `cpu`, `udp`, `lateness`, `ledger` or `memory`
    figures: Vec<String>,
    /// Fewer and shorter rounds: to see that it works, not to judge by
    #[arg(long)]
    quick: bool,
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
}

impl Plan {
    /// Whether the figure called `name` was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()))
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
        (false, true) => figures(&Plan { wanted: arguments.figures, quick: arguments.quick }),
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
    cpu::measure(plan, &mut table)?;
    lateness::measure(plan, &mut table)?;
    ledger::measure(plan, &mut table)?;
    memory::measure(plan, &mut table)?;
    write!(out, "{table}")?;
    Ok(())
}
