//! What a package has beside the program: its manual and what shells complete, from the command line as the code has it.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::File;
use crate::cli::Cli;

/// A page for the program, and one for each command: `aviary-store-verify.1`, as git has it.
pub(super) fn man() -> anyhow::Result<Vec<File>> {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<File>) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).manual("aviary").render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help")
        .try_for_each(|below| add(below, pages))
}

pub(super) fn completions() -> Vec<File> {
    let mut command = Cli::command();
    command.build();
    let shells = [(Shell::Bash, "aviary"), (Shell::Fish, "aviary.fish"), (Shell::Zsh, "_aviary")];
    let script = |(shell, name): (Shell, &str)| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "aviary", &mut script);
        (name.to_owned(), script)
    };
    shells.into_iter().map(script).collect()
}
