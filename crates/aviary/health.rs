//! `aviary health`: the question of a container's health check, where there is neither a shell nor curl.

use std::io::Write;

use clap::Args;

use crate::ask::{self, Whom};

/// Asks a running agent or collector whether it is well.
#[derive(Args, Debug)]
pub(crate) struct HealthArguments {
    #[command(flatten)]
    whom: Whom,

    /// Ask whether it does its work, and not just whether it lives
    #[arg(long)]
    ready: bool,
}

/// Prints what it answers. Returns whether that was 200; who does not answer is not well.
pub(crate) fn health(arguments: &HealthArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let asker = arguments.whom.asker()?;
    let path = if arguments.ready { "readyz" } else { "healthz" };
    let (is_well, said) = match ask::runtime()?.block_on(asker.text(path)) {
        Ok(answer) => (true, answer),
        Err(error) => (false, format!("{error:#}")),
    };
    writeln!(out, "{}", said.trim_end())?;
    Ok(is_well)
}
