//! `cargo bench -p aviary-core --bench judgement -- NAME...`: how soon, how seldom in vain, and how many groups a second.
//!
//! Nothing here fails because a figure is not reached: each is printed beside its goal.

mod alarms;
mod delay;
mod random;
mod simulation;
mod speed;
mod traffic;

use std::{
    error::Error,
    io::{Write as _, stdout},
};

const HELP: &str =
    "names: delay, alarms, judgement (all unless named); --quick: fewer rounds, and one year; --seed N";

/// What was asked for.
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) seed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut plan = Plan { quick: false, seed: 20_261_121 };
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            // Only that the program starts.
            "--test" => return Ok(()),
            "--quick" => plan.quick = true,
            "--seed" => plan.seed = arguments.next().ok_or(HELP)?.parse()?,
            "delay" | "alarms" | "judgement" => names.push(argument),
            _ => return Err(HELP.into()),
        }
    }
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    writeln!(stdout(), "seed {}", plan.seed)?;
    if is_wanted("judgement") {
        speed::print(&plan)?;
    }
    if is_wanted("delay") {
        delay::print(&plan)?;
    }
    if is_wanted("alarms") {
        alarms::print(&plan)?;
    }
    Ok(())
}
