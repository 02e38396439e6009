//! haproxy, which ends TLS in front of carbon as it does in production: carbon has no TLS listener of its own.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    ports::Port,
    process::{Process, program},
};

/// The versions of TLS that a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsVersions {
    /// 1.2 and 1.3.
    Both,
    /// 1.2 and nothing newer.
    Only12,
    /// 1.3 and nothing older.
    Only13,
}

/// haproxy with two listeners: TLS before carbon's line port and TLS before its pickle port.
///
/// It keeps Debian's defaults, session tickets included: a client that closes without reading them loses its points.
/// While carbon is stopped it accepts, tries carbon four times a second apart, and closes only then: a prober whose
/// deadline is a second hears nothing.
pub(crate) struct Haproxy {
    process: Process,
    line: Port,
    pickle: Port,
    _dir: TempDir,
}

impl Haproxy {
    /// Starts it with the certificate and key in `certificate`, in front of carbon's two ports.
    #[track_caller]
    pub(crate) fn start(
        certificate: &Path,
        versions: TlsVersions,
        line: SocketAddr,
        pickle: SocketAddr,
    ) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-haproxy-")
            .tempdir()
            .expect("the temporary directory can be written");
        let (line_front, pickle_front) = (Port::claim(), Port::claim());
        let (oldest, newest) = match versions {
            TlsVersions::Both => ("TLSv1.2", "TLSv1.3"),
            TlsVersions::Only12 => ("TLSv1.2", "TLSv1.2"),
            TlsVersions::Only13 => ("TLSv1.3", "TLSv1.3"),
        };
        let tls = format!("ssl crt {} ssl-min-ver {oldest} ssl-max-ver {newest}", certificate.display());
        // The timeouts are longer than any test waits: whatever closes, closes because somebody closed it.
        let config = format!(
            "global
    maxconn 2000
defaults
    mode tcp
    retries 3
    timeout connect 5s
    timeout client 5m
    timeout server 5m
    timeout client-fin 5m
    timeout server-fin 5m
listen line
    bind {} {tls}
    server carbon {line}
listen pickle
    bind {} {tls}
    server carbon {pickle}
",
            line_front.address(),
            pickle_front.address()
        );
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, config).expect("the temporary directory can be written");

        let mut command = program("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let process = Process::start("haproxy", command, dir.path());
        for port in [&line_front, &pickle_front] {
            process.wait_until_listening(port.address(), Duration::from_secs(30));
        }
        Self { process, line: line_front, pickle: pickle_front, _dir: dir }
    }

    /// Graphite lines over TLS.
    pub(crate) fn line(&self) -> SocketAddr {
        self.line.address()
    }

    /// Pickles over TLS.
    pub(crate) fn pickle(&self) -> SocketAddr {
        self.pickle.address()
    }

    /// The process, to freeze, stop or restart.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// haproxy that spreads connections over several servers, each of which it takes in and out as an agent check says.
pub(crate) struct Balancer {
    process: Process,
    dir: TempDir,
}

/// How a server is doing there: its status, and its weight in per cent.
pub(crate) type Standing = (String, u64);

impl Balancer {
    /// Starts it before servers of these names and addresses, with where to ask about each, and what to send there.
    #[track_caller]
    pub(crate) fn start(servers: &[(&str, SocketAddr, SocketAddr, &str)]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-balancer-")
            .tempdir()
            .expect("the temporary directory can be written");
        let front = Port::claim();
        // How often agents are asked is left at haproxy's two seconds.
        let lines = servers.iter().map(|(name, address, agent, send)| {
            let (ip, port) = (agent.ip(), agent.port());
            format!(
                "    server {name} {address} weight 100 agent-check agent-addr {ip} agent-port {port} agent-send \"{send}\"\n"
            )
        });
        let config = format!(
            "global
    stats socket {}/stats.sock mode 600 level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen carbons
    bind {}
    balance roundrobin
{}",
            dir.path().display(),
            front.address(),
            lines.collect::<String>()
        );
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, config).expect("the temporary directory can be written");
        let mut command = program("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let process = Process::start("haproxy", command, dir.path());
        process.wait_until_listening(front.address(), Duration::from_secs(30));
        Self { process, dir }
    }

    /// How each server is doing, as haproxy itself says it.
    #[track_caller]
    pub(crate) fn servers(&self) -> BTreeMap<String, Standing> {
        let mut socket =
            UnixStream::connect(self.dir.path().join("stats.sock")).expect("haproxy has a socket");
        socket.write_all(b"show stat carbons 4 -1\n").expect("haproxy listens");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("haproxy answers");
        let mut lines = text.trim_start_matches("# ").lines();
        let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
        let place = |name: &str| header.iter().position(|field| *field == name).expect("a field");
        let (name, status, weight) = (place("svname"), place("status"), place("weight"));
        let server = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            let weight = fields.get(weight)?.parse().ok()?;
            Some(((*fields.get(name)?).to_owned(), ((*fields.get(status)?).to_owned(), weight)))
        };
        lines.filter_map(server).collect()
    }

    /// Everything that it printed.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}
