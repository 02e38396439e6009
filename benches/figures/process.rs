//! What `/proc` says of a process, this one or another: asked from outside, it costs that process nothing.

use std::fs;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::support::process::processor_time;

/// The memory of a process, in KiB, from `/proc/PID/smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// What is resident, shared files included.
    pub(crate) resident: u64,
    /// What belongs to this process alone.
    pub(crate) private: u64,
}

impl Memory {
    /// The memory of the process `id`.
    pub(crate) fn of(id: u32) -> anyhow::Result<Self> {
        let text = read(id, "smaps_rollup")?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            value.with_context(|| format!("no {name} in smaps_rollup"))
        };
        let private = field("Private_Clean:")? + field("Private_Dirty:")?;
        Ok(Self { resident: field("Rss:")?, private })
    }
}

/// How many files and sockets the process `id` has open.
pub(crate) fn open_files(id: u32) -> anyhow::Result<usize> {
    let path = format!("/proc/{id}/fd");
    Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
}

/// Processor time of the process `id` since its start, in nanoseconds.
pub(crate) fn cpu_ns(id: u32) -> anyhow::Result<u64> {
    let time = processor_time(id).with_context(|| format!("no processor time of {id}; has it ended?"))?;
    Ok(u64::try_from(time.as_nanos())?)
}

fn read(id: u32, name: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{id}/{name}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}; has the process ended?"))
}
