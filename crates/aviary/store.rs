//! `aviary store`: what a person does with what a collector keeps.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use aviary_store::{
    Contents, Progress, RedbStore, Store as _, StoreError, Table, compact, dump, restore, verify,
};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    ask::{self, Whom},
    output::{Format, print_table},
};

/// Works on a collector's store.
#[derive(Args, Debug)]
pub(crate) struct StoreArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Look at every page and every record
    Verify {
        /// The `data` directory of a collector that does not run, or a copy
        #[arg(value_name = "STORE")]
        store: PathBuf,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the records: their keys and sizes, and what a report says
    Dump {
        /// The `data` directory of a collector that does not run, or a copy
        #[arg(value_name = "STORE")]
        store: PathBuf,
        /// Only this table: journal, checkpoint, series, slots, sums, timings or events
        #[arg(long, value_parser = table)]
        table: Option<Table>,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Give the room of what was removed back to the file system
    Compact {
        /// The `data` directory of a collector that does not run
        #[arg(value_name = "DIRECTORY")]
        store: PathBuf,
    },
    /// Copy it to a new file, as it all is at one moment
    Backup {
        /// The copy; of a running collector, an absolute path on its host
        #[arg(value_name = "FILE")]
        target: PathBuf,
        /// The `data` directory of a collector that does not run
        #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["url", "token", "ca"])]
        data: Option<PathBuf>,
        #[command(flatten)]
        whom: AskedToCopy,
    },
    /// Put a copy in the place of a store, once all of the copy was found whole
    Restore {
        /// The copy
        #[arg(value_name = "FILE")]
        backup: PathBuf,
        /// The `data` directory of a collector that does not run
        #[arg(value_name = "DIRECTORY")]
        data: PathBuf,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
}

/// Which running collector is to copy its store.
#[derive(Args, Debug)]
struct AskedToCopy {
    /// The running collector
    #[arg(long, value_name = "URL", required_unless_present = "data", env = "AVIARY_URL")]
    url: Option<reqwest::Url>,
    /// A token with the scope `admin`, where the collector asks for one; better given in the environment
    #[arg(long, env = "AVIARY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// PEM certificates to trust beside the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

fn table(name: &str) -> Result<Table, String> {
    let names = Table::ALL.map(Table::name).join(", ");
    let found = Table::ALL.into_iter().find(|table| table.name() == name);
    found.ok_or_else(|| format!("there are {names}"))
}

/// Does what was asked for; false where something in the store is not whole.
pub(crate) fn store(arguments: &StoreArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    match &arguments.what {
        What::Verify { store, format } => match verify(store, tell) {
            Ok(contents) => print_contents(&contents, *format, out).map(|()| true),
            Err(error @ StoreError::Damaged { .. }) => tell_damage(&error, *format, out).map(|()| false),
            Err(error) => Err(error.into()),
        },
        What::Dump { store, table, format } => dump_to(store, *table, *format, out),
        What::Compact { store } => {
            let (before, after) = compact(store)?;
            writeln!(out, "{}: {before} bytes before, {after} after", store.display())?;
            Ok(true)
        }
        What::Backup { target, data, whom } => {
            let bytes = match data {
                Some(directory) => copy_stopped(directory, target)?,
                None => copy_running(whom, target)?,
            };
            writeln!(out, "{}: {bytes} bytes", target.display())?;
            Ok(true)
        }
        What::Restore { backup, data, force } => match restore(backup, data, *force, tell) {
            Ok(contents) => print_contents(&contents, Format::Text, out).map(|()| true),
            Err(error @ StoreError::Damaged { .. }) => tell_damage(&error, Format::Text, out).map(|()| false),
            Err(error) => Err(error.into()),
        },
    }
}

/// Says how far it is, to whoever waits at a terminal.
fn tell(progress: Progress) {
    let mut err = io::stderr().lock();
    if !io::IsTerminal::is_terminal(&err) {
        return;
    }
    // With standard error closed nobody waits.
    _ = match progress {
        Progress::Pages(share) => write!(err, "\rpages: {:.0} %   ", share * 100.0),
        Progress::Records(done, all) => write!(err, "\rrecords: {done} of {all}   "),
    };
}

fn print_contents(contents: &Contents, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    let Contents { path, file_bytes, tables } = contents;
    if format == Format::Json {
        let counts = tables.iter().map(|(table, counted)| {
            (table.name().to_owned(), json!({"records": counted.records, "bytes": counted.bytes}))
        });
        let tables: serde_json::Map<_, _> = counts.collect();
        let line = json!({"path": path, "whole": true, "file_bytes": file_bytes, "tables": tables});
        return Ok(writeln!(out, "{line}")?);
    }
    writeln!(out, "{}: whole, {file_bytes} bytes", path.display())?;
    let row = |(table, counted): &(Table, aviary_store::Counted)| {
        vec![table.name().to_owned(), counted.records.to_string(), counted.bytes.to_string()]
    };
    let rows: Vec<_> = tables.iter().map(row).collect();
    Ok(print_table(out, &["table", "records", "bytes"], &rows)?)
}

fn tell_damage(error: &StoreError, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    match (format, error) {
        (Format::Json, StoreError::Damaged { path, place, reason }) => {
            writeln!(out, "{}", json!({"path": path, "whole": false, "place": place, "reason": reason}))?;
        }
        _ => writeln!(out, "{error}")?,
    }
    Ok(())
}

fn dump_to(store: &Path, table: Option<Table>, format: Format, out: &mut impl Write) -> anyhow::Result<bool> {
    let tables = table.map_or_else(|| Table::ALL.to_vec(), |table| vec![table]);
    let mut failure = None;
    let dumped = dump(store, &tables, |table, key, value| match record(table, key, value, format, out) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    match dumped {
        Ok(()) => Ok(true),
        Err(error @ StoreError::Damaged { .. }) => tell_damage(&error, format, out).map(|()| false),
        Err(error) => Err(error.into()),
    }
}

fn record(table: Table, key: &[u8], value: &[u8], format: Format, out: &mut impl Write) -> io::Result<()> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let report = (table == Table::Journal).then(|| aviary_collector::journalled(key, value)).flatten();
    if format == Format::Json {
        let mut line = json!({"table": table.name(), "key": hex, "bytes": value.len()});
        if let Some(report) = report {
            line["report"] = report;
        }
        return writeln!(out, "{line}");
    }
    write!(out, "{} {hex} {} bytes", table.name(), value.len())?;
    match report {
        Some(report) => writeln!(out, ": {report}"),
        None => writeln!(out),
    }
}

fn copy_stopped(directory: &Path, target: &Path) -> anyhow::Result<u64> {
    if !directory.join(aviary_store::FILE_NAME).is_file() {
        return Err(anyhow!(
            "{} holds no store; name the `data` directory of a collector",
            directory.display()
        ));
    }
    Ok(RedbStore::open(directory)?.backup(target)?)
}

fn copy_running(whom: &AskedToCopy, target: &Path) -> anyhow::Result<u64> {
    let url =
        whom.url.clone().context("name a running collector with --url, or its directory with --data")?;
    let asker = Whom::new(url, whom.token.clone(), whom.ca.clone()).asker()?;
    let answer: serde_json::Value =
        ask::runtime()?.block_on(asker.post("api/v1/store/backup", &json!({"path": target})))?;
    answer["bytes"].as_u64().context("the collector does not say how large the copy is")
}
