//! The machine that is measured on, in one line.

use std::{fs, num::NonZero, thread};

/// What `/proc` and the kernel say of this machine, and how busy it was before anything was measured.
pub(crate) fn description() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {cores} cores, {} of memory, Linux {}, load before {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        rustix::system::uname().release().to_string_lossy(),
        busy.split(' ').next().unwrap_or("?"),
    )
}
