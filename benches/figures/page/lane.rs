//! One sink and, anew in each round, one aviary that watches it: one service of six series, and nothing else to judge.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use anyhow::Context as _;
use aviary_core::{Clock as _, Micros};
use aviary_probe::SystemClock;
use fastrand::Rng;
use tempfile::TempDir;

use super::{
    http,
    pager::{Page, Pager, Side},
    ports::Port,
    prometheus::Looked,
    real::{Process, program},
};
use crate::server::Certified;

/// Starting, and becoming healthy, takes no longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever has not paged by then does not.
const PAGED_WITHIN: Duration = Duration::from_secs(15);

/// What both sides see at the least before something breaks.
const HEALTHY: Duration = Duration::from_secs(8);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How a sink breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Killed: connections are refused.
    Refused,
    /// Stopped in its tracks: the kernel still connects, and nobody answers.
    Frozen,
}

/// What came of one fault: when each side paged, and when it happened.
pub(super) struct Round {
    pub(super) fault: Fault,
    pub(super) at: Micros,
    pub(super) aviary: Option<Page>,
    pub(super) rival: Option<Page>,
}

/// A sink and who watches it.
pub(super) struct Lane {
    pub(super) name: String,
    sink: Process,
    ports: Vec<(&'static str, Port)>,
    collector: Port,
    dir: TempDir,
}

/// The keys of `[sink]`, with the scheme of an endpoint and what follows its port.
const LISTENERS: [(&str, &str, &str); 6] = [
    ("tcp", "tcp", ""),
    ("udp", "udp", ""),
    ("pickle", "pickle", ""),
    ("tls", "tls", ""),
    ("pickle_tls", "pickle+tls", ""),
    ("https", "https", "/api/v1/sink"),
];

impl Lane {
    pub(super) fn start(name: String) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let ports = LISTENERS.map(|(key, _, _)| (key, Port::claim()));
        let Certified { leaf, key, ca } = Certified::new()?;
        fs::write(dir.path().join("ca.pem"), ca)?;
        private(&dir.path().join("tls.pem"), &(leaf + &key))?;
        let listeners = ports.iter().map(|(key, port)| format!("{key} = \"{}\"\n", port.address()));
        let listeners: String = listeners.collect();
        let configuration = format!("[sink]\n{listeners}certificate = {{ file = \"tls.pem\" }}\n");
        let sink = Process::start("sink", run(dir.path(), "sink.toml", &configuration)?, dir.path());
        sink.wait_until_listening(ports[0].1.address(), PATIENCE);
        Ok(Self { name, sink, ports: ports.into(), collector: Port::claim(), dir })
    }

    /// What a rival is to look at.
    pub(super) fn looked(&self) -> Looked {
        let of = |keys: &[&str]| {
            let ports = self.ports.iter().filter(|(key, _)| keys.contains(key));
            ports.map(|(_, port)| port.address()).collect()
        };
        Looked {
            lane: self.name.clone(),
            tcp: of(&["tcp", "pickle"]),
            tls: of(&["tls", "pickle_tls", "https"]),
        }
    }

    /// Breaks the sink once, at a moment of the second that `random` says, and waits for who pages.
    pub(super) fn round(&mut self, fault: Fault, pager: &Pager, random: &mut Rng) -> anyhow::Result<Round> {
        let endpoints = LISTENERS
            .iter()
            .zip(&self.ports)
            .map(|((_, scheme, path), (_, port))| format!("{scheme}://{}{path}", port.address()));
        let service = service(&self.name, &endpoints.collect::<Vec<_>>(), "ca = { file = \"ca.pem\" }\n");
        let _aviary = Aviary::start(self.dir.path(), &self.collector, &service, (pager.address, &self.name))?;
        thread::sleep(HEALTHY + Duration::from_secs_f64(2.0 * random.f64()));
        let at = SystemClock.monotonic();
        match fault {
            Fault::Refused => _ = self.sink.kill(),
            Fault::Frozen => self.sink.freeze(),
        }
        let wait = |side, patience| pager.wait(side, &self.name, at, patience);
        let aviary = wait(Side::Aviary, PAGED_WITHIN);
        let waited = Duration::from_micros(SystemClock.monotonic().since(at));
        let rival = wait(Side::Rival, PAGED_WITHIN.saturating_sub(waited));
        self.sink.restart();
        self.sink.wait_until_listening(self.ports[0].1.address(), PATIENCE);
        Ok(Round { fault, at, aviary, rival })
    }
}

/// An agent and a collector in one process, with all that they keep in a directory of their own.
pub(super) struct Aviary {
    _process: Process,
    _data: TempDir,
}

impl Aviary {
    /// Starts it, with the sections `services`, to page `pager` under a name; returns when all services are healthy.
    pub(super) fn start(
        dir: &Path,
        collector: &Port,
        services: &str,
        (pager, about): (SocketAddr, &str),
    ) -> anyhow::Result<Self> {
        // Beside this program, because what is temporary may be in memory.
        let built = std::env::current_exe()?;
        let data = tempfile::tempdir_in(built.parent().unwrap_or(&built))?;
        let (agent_data, collector_data) = (data.path().join("agent"), data.path().join("collector"));
        let configuration = format!(
            "[vantage]\nkind = \"loopback\"\nregion = \"local\"\nnode = \"n\"\n\
             [agent]\ndata = {agent_data:?}\n\
             [collector]\nlisten = \"{}\"\ndata = {collector_data:?}\n\
             [[receiver]]\nname = \"pager\"\nkind = \"webhook\"\nallow_private = true\n\
             url = \"http://{pager}/aviary/{about}\"\nsecret = {{ env = \"HOOK_SECRET\" }}\n\
             [[route]]\nnotify = [\"pager\"]\n{services}",
            collector.address()
        );
        let mut command = run(dir, "aviary.toml", &configuration)?;
        command.env("HOOK_SECRET", SECRET);
        let process = Process::start("aviary", command, dir);
        process.wait_until_listening(collector.address(), PATIENCE);
        let until = SystemClock.monotonic().plus(u64::try_from(PATIENCE.as_micros())?);
        while !are_healthy(collector.address()) {
            anyhow::ensure!(
                process.is_running() && SystemClock.monotonic() < until,
                "aviary: {}",
                process.log()
            );
            thread::sleep(Duration::from_millis(200));
        }
        Ok(Self { _process: process, _data: data })
    }
}

/// A `[[service]]` that pages as soon as it may.
pub(super) fn service(name: &str, endpoints: &[String], more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nacceptable_loss = \"1%\"\npage_after = \"0s\"\nburst = 1.0\n\
         start_up_grace = \"0s\"\nendpoints = {endpoints:?}\n{more}"
    )
}

fn are_healthy(collector: SocketAddr) -> bool {
    let answer = http::request(collector, "GET", "/api/v1/services", &[], &[], Duration::from_secs(5));
    let body = answer.ok().and_then(|(_, body)| serde_json::from_str::<serde_json::Value>(&body).ok());
    let services = body.and_then(|body| body["services"].as_array().cloned()).unwrap_or_default();
    !services.is_empty() && services.iter().all(|service| service["state"] == "healthy")
}

/// The command that runs `configuration`.
fn run(dir: &Path, name: &str, configuration: &str) -> anyhow::Result<Command> {
    fs::write(dir.join(name), configuration).with_context(|| format!("cannot write {name}"))?;
    let mut command = program(env!("CARGO_BIN_EXE_aviary"));
    command.arg("run").arg(dir.join(name)).env_remove("AVIARY_LOG").current_dir(dir);
    Ok(command)
}

/// A file that nobody else may read.
fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
