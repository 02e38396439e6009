//! `aviary generate`: what a package has beside the program, from the command line as the code has it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _, Subcommand};
use clap_complete::Shell;

use crate::cli::Cli;

/// Writes man pages or completions.
#[derive(Args, Debug)]
pub(crate) struct GenerateArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A page for the program and one for each command, in section 1
    Man {
        /// Where to; it is made where it does not exist
        directory: PathBuf,
    },
    /// What bash, fish and zsh complete, each under the name that it looks for
    Completions {
        /// Where to; it is made where it does not exist
        directory: PathBuf,
    },
}

/// Writes the files.
pub(crate) fn generate(arguments: &GenerateArguments) -> anyhow::Result<()> {
    let (What::Man { directory } | What::Completions { directory }) = &arguments.what;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut command = Cli::command();
    command.build();
    match arguments.what {
        What::Man { .. } => man(&command, directory),
        What::Completions { .. } => completions(&mut command, directory),
    }
}

/// The page of `command` and those of what is below it: `aviary-store-verify.1` as git has it.
fn man(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).manual("aviary").render(&mut page)?;
    write(directory, &format!("{name}.1"), &page)?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help")
        .try_for_each(|below| man(below, directory))
}

fn completions(command: &mut Command, directory: &Path) -> anyhow::Result<()> {
    for (shell, file) in [(Shell::Bash, "aviary"), (Shell::Fish, "aviary.fish"), (Shell::Zsh, "_aviary")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, command, "aviary", &mut script);
        write(directory, file, &script)?;
    }
    Ok(())
}

fn write(directory: &Path, name: &str, text: &[u8]) -> anyhow::Result<()> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
