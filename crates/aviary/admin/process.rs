//! What the operating system says of this process and its host: a few small files and calls, cheap at each request.

use std::{fs, path::Path};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// This process; `None` where the system does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// Open files, sockets included.
    pub(crate) files: Option<u64>,
    /// How many it may open.
    pub(crate) files_max: Option<u64>,
    /// Processor time spent, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Memory in use, in bytes.
    pub(crate) resident: Option<u64>,
    /// How much there is for it, in bytes: the host's memory, or its control group's share.
    pub(crate) memory_max: Option<u64>,
    /// TCP sockets of this network namespace that are in use.
    pub(crate) tcp: Option<u64>,
    /// TCP connections of this network namespace that are closed and still hold their port.
    pub(crate) time_wait: Option<u64>,
    /// UDP sockets of this network namespace.
    pub(crate) udp: Option<u64>,
    /// From which and up to which port the kernel gives to outgoing connections.
    pub(crate) port_range: Option<(u16, u16)>,
}

impl Process {
    /// One of which everything is known.
    pub(crate) fn example() -> Self {
        Self {
            files: Some(1),
            files_max: Some(1),
            cpu_seconds: 1.0,
            resident: Some(1),
            memory_max: Some(1),
            tcp: Some(1),
            time_wait: Some(1),
            udp: Some(1),
            port_range: Some((1, 1)),
        }
    }

    /// As it is now.
    pub(crate) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            files_max: getrlimit(Resource::Nofile).current,
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            ..Self::read(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
        }
    }

    /// What stands in the files below these two directories.
    fn read(proc: &Path, cgroups: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(proc.join(path)).unwrap_or_default();
        let sockets = text("self/net/sockstat");
        let range = text("sys/net/ipv4/ip_local_port_range");
        let mut bounds = range.split_whitespace().map(str::parse);
        let port_range = match (bounds.next(), bounds.next()) {
            (Some(Ok(from)), Some(Ok(to))) => Some((from, to)),
            _ => None,
        };
        let host = kilobytes(&text("meminfo"), "MemTotal:");
        let group = text("self/cgroup").lines().find_map(|line| {
            let path = line.strip_prefix("0::/")?;
            fs::read_to_string(cgroups.join(path).join("memory.max")).ok()?.trim().parse().ok()
        });
        Self {
            files: files(&proc.join("self/fd")),
            files_max: None,
            cpu_seconds: 0.0,
            resident: kilobytes(&text("self/status"), "VmRSS:"),
            memory_max: host.into_iter().chain(group).min(),
            tcp: field(&sockets, "TCP:", "inuse"),
            time_wait: field(&sockets, "TCP:", "tw"),
            udp: field(&sockets, "UDP:", "inuse"),
            port_range,
        }
    }
}

/// How many entries the directory of open files has. Kernels since 6.2 say so as its size, others have it counted.
fn files(directory: &Path) -> Option<u64> {
    let said = fs::metadata(directory).ok().map(|it| it.len()).filter(|count| *count > 0);
    said.or_else(|| fs::read_dir(directory).ok().map(|entries| entries.count() as u64))
}

/// The number of kilobytes on the line that begins with `key`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// The number after `name` on the line that begins with `key`.
fn field(text: &str, key: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_kernel_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, cgroups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        let files = [
            (
                "self/net/sockstat",
                "sockets: used 14\nTCP: inuse 31 orphan 0 tw 2718 alloc 1 mem 331\nUDP: inuse 4 mem 0\nUDPLITE: inuse 0\n",
            ),
            ("sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("self/status", "Name:\taviary\nVmPeak:\t  99999 kB\nVmRSS:\t    2216 kB\n"),
            ("meminfo", "MemTotal:        8000000 kB\nMemFree:  1 kB\n"),
            ("self/cgroup", "4:memory:/elsewhere\n0::/system.slice/aviary.service\n"),
        ];
        for (path, text) in files {
            let path = proc.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let read = Process::read(&proc, &cgroups);
        assert_eq!((read.tcp, read.time_wait, read.udp), (Some(31), Some(2718), Some(4)));
        assert_eq!((read.port_range, read.resident), (Some((32_768, 60_999)), Some(2_216 * 1_024)));
        assert_eq!(read.memory_max, Some(8_000_000 * 1_024), "without a limit of its own, the host's");
        let group = cgroups.join("system.slice/aviary.service");
        fs::create_dir_all(&group).unwrap();
        for (text, expected) in [("max\n", 8_000_000 * 1_024), ("268435456\n", 268_435_456)] {
            fs::write(group.join("memory.max"), text).unwrap();
            assert_eq!(Process::read(&proc, &cgroups).memory_max, Some(expected), "{text}");
        }
        assert_eq!(Process::read(&dir.path().join("none"), &cgroups), Process::default());
    }

    #[test]
    fn this_process_has_files_memory_and_spent_time() {
        let before = Process::now();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = Process::now();
        assert!(after.files.unwrap() >= held.len() as u64, "{after:?}");
        assert!(after.files < after.files_max && after.resident < after.memory_max, "{after:?}");
        assert!(after.cpu_seconds >= before.cpu_seconds && after.cpu_seconds > 0.0);
        assert!(after.tcp.is_some() && after.port_range.is_some(), "{after:?}");
    }
}
