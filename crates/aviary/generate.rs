//! `aviary generate`: what is written from the code, so that it says what the code does.

mod command_line;
mod configuration;
mod errors;
mod faults;
mod metrics;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};

/// Writes what is made from the code.
#[derive(Args, Debug)]
pub(crate) struct GenerateArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The reference of configuration, metrics, faults and errors, in Markdown
    Reference(Directory),
    /// A page of the manual for the program and one for each command, in section 1
    Man(Directory),
    /// What bash, fish and zsh complete, each under the name that it looks for
    Completions(Directory),
}

#[derive(Args, Debug)]
struct Directory {
    /// Where to; it is made where it does not exist
    #[arg(value_name = "DIRECTORY")]
    path: PathBuf,
}

/// Writes the files.
pub(crate) fn generate(arguments: &GenerateArguments) -> anyhow::Result<()> {
    let (files, Directory { path }) = match &arguments.what {
        What::Reference(directory) => (reference()?, directory),
        What::Man(directory) => (command_line::man()?, directory),
        What::Completions(directory) => (command_line::completions(), directory),
    };
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    files.iter().try_for_each(|file| write(path, file))
}

/// A file by its name, and what is in it.
type File = (String, Vec<u8>);

/// The files of the reference.
fn reference() -> anyhow::Result<Vec<File>> {
    let pages = [
        ("configuration.md", configuration::page()),
        ("errors.md", errors::page()),
        ("faults.md", faults::page()),
        ("metrics.md", metrics::page()?),
    ];
    Ok(pages.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect())
}

fn write(directory: &Path, (name, content): &File) -> anyhow::Result<()> {
    let path = directory.join(name);
    fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// What stands in a cell of a table: in it, these two mean something.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests;
