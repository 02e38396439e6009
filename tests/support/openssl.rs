//! TLS peers that nobody here wrote, and one that never shakes hands.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    haproxy::TlsVersions,
    ports::Port,
    process::{Process, program},
};

/// `openssl s_server`: shakes hands, prints what it receives, and answers close_notify with its own and a close.
///
/// It serves one connection at a time. `-quiet` keeps it from taking what it receives, or its standard input, for
/// commands, and leaves its log to the bytes received.
pub(crate) struct OpensslServer {
    process: Process,
    port: Port,
    _dir: TempDir,
}

impl OpensslServer {
    /// Starts it with the certificate and key in `certificate`.
    #[track_caller]
    pub(crate) fn start(certificate: &Path, versions: TlsVersions) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-openssl-")
            .tempdir()
            .expect("the temporary directory can be written");
        let port = Port::claim();
        let mut command = program("openssl");
        command
            .args(["s_server", "-quiet", "-accept", &port.address().to_string(), "-cert"])
            .arg(certificate);
        command.arg("-key").arg(certificate);
        match versions {
            TlsVersions::Both => {}
            TlsVersions::Only12 => {
                command.arg("-tls1_2");
            }
            TlsVersions::Only13 => {
                command.arg("-tls1_3");
            }
        }
        let process = Process::start("s_server", command, dir.path());
        process.wait_until_listening(port.address(), Duration::from_secs(30));
        Self { process, port, _dir: dir }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// What it received and what it had to say, all connections one after the other.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// A peer whose kernel accepts and which then says nothing, so that a TLS handshake never ends.
pub(crate) struct StalledPeer {
    listener: TcpListener,
}

impl StalledPeer {
    /// Listens, and never accepts.
    pub(crate) fn start() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port") }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }
}
