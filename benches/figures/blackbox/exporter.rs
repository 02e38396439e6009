//! The rival: prometheus-blackbox-exporter, as Debian ships it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use aviary_core::Clock as _;
use aviary_probe::SystemClock;
use tempfile::TempDir;

use crate::{process, rival};

const PROGRAM: &str = "prometheus-blackbox-exporter";

/// It listens by then, or never.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it sends for every series: its modules are written down before it starts.
const NAME: &str = "canary.figures.tcp.external.eu-west-1.eu-west-1a.aws.node-1000.127_0_0_1_20000";

/// A running exporter; it ends when this is dropped.
pub(crate) struct Exporter {
    process: Child,
    /// Where it is asked.
    pub(crate) address: SocketAddr,
    /// Its first words about itself.
    pub(crate) version: String,
    _files: TempDir,
}

impl Exporter {
    /// Starts an exporter that trusts the authority `ca`, and returns when it listens.
    pub(crate) fn start(ca: &str) -> anyhow::Result<Self> {
        let program = rival::find(PROGRAM)?;
        let version = Command::new(&program).arg("--version").output()?;
        let version = String::from_utf8_lossy(&[version.stdout, version.stderr].concat()).into_owned();
        let files = tempfile::tempdir()?;
        let (authority, configuration) = (files.path().join("ca.pem"), files.path().join("blackbox.yml"));
        fs::write(&authority, ca)?;
        fs::write(&configuration, configured(&authority))?;
        // It cannot choose a port itself. Nobody else takes one here between the two.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let process = Command::new(&program)
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let version = version.lines().next().unwrap_or("of an unknown version").to_owned();
        let exporter = Self { process, address, version, _files: files };
        let mut waited = Duration::ZERO;
        while TcpStream::connect(address).is_err() {
            anyhow::ensure!(waited < PATIENCE, "{PROGRAM} does not listen at {address}");
            thread::sleep(Duration::from_millis(20));
            waited += Duration::from_millis(20);
        }
        Ok(exporter)
    }

    /// Its processor time since its start, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> anyhow::Result<u64> {
        process::cpu_ns(self.process.id())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended by itself, and then both have nothing to do.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// One module for each protocol, under its name. The deadline is aviary's; where a module can send, it sends.
fn configured(authority: &Path) -> String {
    // The sink takes no datapoint that is older than a day.
    let line = format!("{NAME} 1 {}", SystemClock.wall().second());
    let tls = format!("tls_config: {{ ca_file: {} }}", authority.display());
    let tcp = format!("preferred_ip_protocol: ip4, query_response: [ {{ send: '{line}' }} ]");
    format!(
        "modules:\n\
         \x20 tcp: {{ prober: tcp, timeout: 1s, tcp: {{ {tcp} }} }}\n\
         \x20 tls: {{ prober: tcp, timeout: 1s, tcp: {{ {tcp}, tls: true, {tls} }} }}\n\
         \x20 https: {{ prober: http, timeout: 1s, http: {{ preferred_ip_protocol: ip4, method: POST, \
         headers: {{ Content-Type: text/plain }}, body: \"{line}\\n\", {tls} }} }}\n"
    )
}
