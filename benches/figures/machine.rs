//! The machine that is measured on.

use std::{fs, num::NonZero, thread};

/// What `/proc` and the kernel say of this machine, and how busy it was before anything was measured, in one line.
pub(crate) fn description() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {} cores, {} of memory, Linux {}, load before {}",
        field("/proc/cpuinfo", "model name"),
        cores(),
        field("/proc/meminfo", "MemTotal"),
        rustix::system::uname().release().to_string_lossy(),
        busy.split(' ').next().unwrap_or("?"),
    )
}

/// How many cores there are.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Processor time that all processes together have used since the machine's start, in nanoseconds, or was stolen from
/// it by its host: what is left of it beside our own is what disturbed us.
pub(crate) fn busy_ns() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    [0, 1, 2, 5, 6, 7].iter().filter_map(|place| ticks.get(*place)).sum::<u64>() * 10_000_000
}
