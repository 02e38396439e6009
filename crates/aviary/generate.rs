//! `aviary generate`: what is written from the code, so that it says what the code does.

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
    Reference {
        /// Where to; it is made where it does not exist
        directory: PathBuf,
    },
}

/// Writes the files.
pub(crate) fn generate(arguments: &GenerateArguments) -> anyhow::Result<()> {
    let What::Reference { directory } = &arguments.what;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    reference()?.iter().try_for_each(|(name, text)| write(directory, name, text))
}

/// The files of the reference, by name.
fn reference() -> anyhow::Result<[(&'static str, String); 4]> {
    Ok([
        ("configuration.md", configuration::page()),
        ("errors.md", errors::page()),
        ("faults.md", faults::page()),
        ("metrics.md", metrics::page()?),
    ])
}

fn write(directory: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What stands in a cell of a table: in it, these two mean something.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests;
