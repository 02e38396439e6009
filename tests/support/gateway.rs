//! The HTTPS gateway in front of carbon, `gateway.py`: carbon has no HTTP listener, and no package provides one.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    ports::Port,
    process::{Process, program, test_python},
};

/// The running gateway.
///
/// While carbon is stopped it answers 503. While carbon is frozen it waits, longer than any prober does; what it had
/// taken is stored when carbon runs on, though the prober has given it up.
pub(crate) struct Gateway {
    process: Process,
    port: Port,
    _dir: TempDir,
}

impl Gateway {
    /// Starts it with the certificate and key in `certificate`, in front of carbon's line port.
    #[track_caller]
    pub(crate) fn start(certificate: &Path, carbon: SocketAddr) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-gateway-")
            .tempdir()
            .expect("the temporary directory can be written");
        let port = Port::claim();
        let mut command = program(test_python());
        command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/gateway.py"));
        command.args(["--port", &port.number().to_string(), "--carbon", &carbon.port().to_string()]);
        command.arg("--certificate").arg(certificate);
        let process = Process::start("gateway", command, dir.path());
        process.wait_until_listening(port.address(), Duration::from_secs(30));
        Self { process, port, _dir: dir }
    }

    /// Where it listens; the path is `/api/v1/sink`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The process, to freeze, stop or restart.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
