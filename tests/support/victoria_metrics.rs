//! VictoriaMetrics as Debian has it: takes Graphite lines, and answers Prometheus' queries.

use std::{net::SocketAddr, time::Duration};

use tempfile::TempDir;

use super::{
    ports::Port,
    process::{Process, program},
};

/// The running server, with all its defaults.
pub(crate) struct VictoriaMetrics {
    process: Process,
    line: Port,
    http: Port,
    _dir: TempDir,
}

impl VictoriaMetrics {
    /// Starts it, empty.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("aviary-vm-").tempdir().expect("a temporary directory");
        let (line, http) = (Port::claim(), Port::claim());
        let mut command = program("victoria-metrics");
        command.arg(format!("-storageDataPath={}", dir.path().join("data").display()));
        command.arg(format!("-graphiteListenAddr={}", line.address()));
        command.arg(format!("-httpListenAddr={}", http.address()));
        let process = Process::start("victoria-metrics", command, dir.path());
        for port in [&http, &line] {
            process.wait_until_listening(port.address(), Duration::from_secs(20));
        }
        Self { process, line, http, _dir: dir }
    }

    /// Graphite lines, over TCP and UDP.
    pub(crate) fn line(&self) -> SocketAddr {
        self.line.address()
    }

    /// The query API.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// The process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
