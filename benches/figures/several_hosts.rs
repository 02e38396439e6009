//! Several hosts and the network between them: what it was made to do, and what is said of it.

use std::io::{Write as _, stdout};

use crate::hosts::play;

/// Plays all faults, or those whose names have one of `wanted` in them, and prints the table.
pub(crate) fn measure(wanted: &[String], quick: bool) -> anyhow::Result<()> {
    let table = play(!quick, wanted);
    let mut out = stdout();
    writeln!(out, "{table}")?;
    let wrong = table.wrong();
    anyhow::ensure!(wrong.is_empty(), "not as it was to be:\n{}", wrong.join("\n"));
    Ok(())
}
