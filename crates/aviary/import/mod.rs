//! `aviary import`: what another prober's configuration asks for, as ours.
//!
//! What cannot be said in ours is listed, each with its line and why, and never left out in silence; what will be otherwise than before
//! is told as well. Secrets that stand in the file are not copied: the configuration names a variable for each.

mod blackbox;
mod draft;
mod gatus;
#[cfg(test)]
mod tests;
mod yaml;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Writes what it can of another prober's configuration as ours.
#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Prometheus' blackbox exporter: its modules, and the scrape configuration that has their targets
    Blackbox {
        /// The exporter's file, such as blackbox.yml
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Prometheus' file, whose scrape jobs have the targets
        #[arg(long, value_name = "FILE")]
        scrape: Option<PathBuf>,
        #[command(flatten)]
        to: To,
    },
    /// Gatus: its endpoints, and its alerting as receivers
    Gatus {
        /// Its file, such as config.yaml
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        to: To,
    },
}

#[derive(Args, Debug)]
struct To {
    /// Write the configuration there, which must not exist, and the list to standard output; by default the configuration goes to
    /// standard output, and the list to standard error
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the configuration, and lists what is not in it. Returns whether nothing had to be left out.
pub(crate) fn import(arguments: &ImportArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let (draft, to) = match &arguments.from {
        From::Blackbox { file, scrape, to } => {
            let scrape =
                scrape.as_ref().map(|path| Ok::<_, anyhow::Error>((name(path), read(path)?))).transpose()?;
            let scrape = scrape.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
            (blackbox::translate((&name(file), &read(file)?), scrape)?, to)
        }
        From::Gatus { file, to } => (gatus::translate(&name(file), &read(file)?)?, to),
    };
    if draft.is_empty() {
        draft.list(out)?;
        bail!("nothing in it can be said in our configuration, and none was written");
    }
    match &to.output {
        None => {
            write!(out, "{}", draft.configuration())?;
            out.flush()?;
            draft.list(&mut std::io::stderr().lock())?;
        }
        Some(path) => {
            let mut file = fs::File::create_new(path).with_context(|| {
                format!("cannot write {}; name a file that is not there yet", path.display())
            })?;
            file.write_all(draft.configuration().as_bytes())?;
            draft.list(out)?;
            writeln!(out, "{}: written; see what `aviary check {0}` says", path.display())?;
        }
    }
    Ok(draft.is_whole())
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    if fs::metadata(path).with_context(cannot)?.len() > FILE_BYTES_MAX {
        bail!("{}: the file is larger than 16 MiB; name the right one", path.display());
    }
    fs::read_to_string(path).with_context(cannot)
}
