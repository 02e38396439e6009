//! `cargo bench -p aviary-collector --bench judgement -- NAME...`: what judging a second costs at 100,000 series, and the
//! first one after a start.
//!
//! Nothing here fails because a figure is not reached: each is printed beside its goal. Time is that of the processor, so
//! that it is the same beside other work; a second is judged on one thread.

mod fleet;
mod stage;

use std::{
    error::Error,
    io::{Write as _, stdout},
};

use crate::{
    fleet::Fleet,
    stage::{Loss, Stage},
};

const HELP: &str = "names: few, many (both unless named); --quick: fewer seconds, and a tenth of the series";

const SECOND_GOAL_MS: f64 = 20.0;
const START_GOAL_MS: f64 = 1_000.0;

/// So many seconds are told before a start, which is a full live window.
const WINDOW_SECONDS: u64 = 870;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut is_quick, mut names) = (false, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => {}
            // Only that the program starts.
            "--test" => return Ok(()),
            "--quick" => is_quick = true,
            "few" | "many" => names.push(argument),
            _ => return Err(HELP.into()),
        }
    }
    for (name, services) in [("few", 5), ("many", 1_000)] {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            let (services, agents) = if is_quick { (services.min(100), 10) } else { (services, 100) };
            measure(&Fleet::new(services, agents), is_quick)?;
        }
    }
    Ok(())
}

fn measure(fleet: &Fleet, is_quick: bool) -> Result<(), Box<dyn Error>> {
    let what = format!("{} series of {} services", fleet.series(), fleet.services());
    let mut stage = Stage::new(fleet)?;
    stage.tell_all(WINDOW_SECONDS)?;
    let mut stage = stage.restart()?;
    let first = stage.second(Loss::Seldom)?;
    print(&format!("{what}: the first second after a start"), first, START_GOAL_MS)?;
    let seconds = if is_quick { 20 } else { 150 };
    for (how, loss) in
        [("one slot in a thousand lost", Loss::Seldom), ("a protocol lost by all of them", Loss::Protocol)]
    {
        let took = (0..seconds).map(|_| stage.second(loss)).collect::<Result<Vec<_>, _>>()?;
        // Banks begin to fill, and an outage to be known, in the first seconds.
        let mut later = took[seconds / 5..].to_vec();
        later.sort_by(f64::total_cmp);
        let (p50, p99) = (later[later.len() / 2], later[later.len() * 99 / 100]);
        print(&format!("{what}, {how}: p50 {p50:.1} ms, p99"), p99, SECOND_GOAL_MS)?;
        let most = took.iter().copied().fold(0.0, f64::max);
        writeln!(stdout(), "    the longest of all {seconds}: {most:.1} ms")?;
    }
    stage.end();
    Ok(())
}

fn print(what: &str, took_ms: f64, goal_ms: f64) -> std::io::Result<()> {
    let met = if took_ms <= goal_ms { "met" } else { "missed" };
    writeln!(stdout(), "{what}: {took_ms:.1} ms (goal {goal_ms:.0} ms: {met})")
}
