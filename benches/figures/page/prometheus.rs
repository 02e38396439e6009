//! The rival: Prometheus, its blackbox exporter and its Alertmanager, as Debian ships them, as quick as they can be set.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;

use super::{
    ports::Port,
    real::{Process, program},
};
use crate::rival;

/// They listen by then, or never.
const PATIENCE: Duration = Duration::from_secs(20);

const EXPORTER: &str = "prometheus-blackbox-exporter";
const ALERTMANAGER: &str = "prometheus-alertmanager";
const PROMETHEUS: &str = "prometheus";

/// What is looked at under one name.
#[derive(Clone)]
pub(super) struct Looked {
    pub(super) lane: String,
    /// Only connected to.
    pub(super) tcp: Vec<SocketAddr>,
    /// Connected to, with a handshake.
    pub(super) tls: Vec<SocketAddr>,
}

/// All three, running; they end when this is dropped.
pub(super) struct Prometheus {
    _processes: [Process; 3],
    _ports: [Port; 3],
    _files: TempDir,
}

impl Prometheus {
    /// Starts them, to page `pager` about each of `looked`.
    pub(super) fn start(looked: &[Looked], pager: SocketAddr) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let dir = files.path();
        let ports = [Port::claim(), Port::claim(), Port::claim()];
        let [exporter, alertmanager, prometheus] = ports.each_ref().map(Port::address);
        let write = |name: &str, text: String| fs::write(dir.join(name), text);
        write("blackbox.yml", MODULES.to_owned())?;
        write("alertmanager.yml", routes(pager))?;
        write("rules.yml", RULES.to_owned())?;
        write("prometheus.yml", scrapes(looked, exporter, alertmanager))?;
        let file = |name: &str| dir.join(name).display().to_string();
        let start = |name: &str, address: SocketAddr, arguments: &[(&str, String)]| {
            let mut command: Command = program(rival::find(name)?);
            command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
            command.args(arguments.iter().map(|(key, value)| format!("--{key}={value}")));
            let process = Process::start(name, command, dir);
            process.wait_until_listening(address, PATIENCE);
            anyhow::Ok(process)
        };
        let processes = [
            start(EXPORTER, exporter, &[("config.file", file("blackbox.yml"))])?,
            start(
                ALERTMANAGER,
                alertmanager,
                &[
                    ("config.file", file("alertmanager.yml")),
                    ("storage.path", file("alertmanager")),
                    ("cluster.listen-address", String::new()),
                ],
            )?,
            start(
                PROMETHEUS,
                prometheus,
                &[("config.file", file("prometheus.yml")), ("storage.tsdb.path", file("prometheus"))],
            )?,
        ];
        Ok(Self { _processes: processes, _ports: ports, _files: files })
    }

    /// What each says of itself, in short.
    pub(super) fn versions() -> anyhow::Result<String> {
        let version = |name: &str| {
            let said = Command::new(rival::find(name)?).arg("--version").output()?;
            let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
            let number = said.split_whitespace().skip_while(|word| *word != "version").nth(1);
            anyhow::Ok(format!("{name} {}", number.unwrap_or("of an unknown version")))
        };
        Ok([version(PROMETHEUS)?, version(EXPORTER)?, version(ALERTMANAGER)?].join(", "))
    }
}

const MODULES: &str = "\
modules:
  tcp_connect: { prober: tcp, tcp: { preferred_ip_protocol: ip4 } }
  tls_connect: { prober: tcp, tcp: { preferred_ip_protocol: ip4, tls: true, tls_config: { insecure_skip_verify: true } } }
";

const RULES: &str = "\
groups:
  - name: canary
    rules: [ { alert: Lost, expr: probe_success == 0 } ]
";

fn routes(pager: SocketAddr) -> String {
    format!(
        "route: {{ receiver: pager, group_by: [lane], group_wait: 0s, group_interval: 1s, repeat_interval: 4h }}\n\
         receivers:\n  - name: pager\n    webhook_configs: [ {{ url: 'http://{pager}/rival', send_resolved: false }} ]\n"
    )
}

fn scrapes(looked: &[Looked], exporter: SocketAddr, alertmanager: SocketAddr) -> String {
    let job = |module: &str, targets: &dyn Fn(&Looked) -> Vec<SocketAddr>| {
        let targets = looked.iter().map(|looked| {
            let addresses: Vec<_> = targets(looked).iter().map(|address| format!("'{address}'")).collect();
            format!(
                "      - {{ targets: [{}], labels: {{ lane: '{}' }} }}\n",
                addresses.join(", "),
                looked.lane
            )
        });
        format!(
            "  - job_name: {module}\n    metrics_path: /probe\n    params: {{ module: [{module}] }}\n    static_configs:\n\
             {}    relabel_configs:\n\
             \x20     - {{ source_labels: [__address__], target_label: __param_target }}\n\
             \x20     - {{ source_labels: [__param_target], target_label: instance }}\n\
             \x20     - {{ target_label: __address__, replacement: '{exporter}' }}\n",
            targets.collect::<String>()
        )
    };
    format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
         rule_files: [ rules.yml ]\n\
         alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: ['{alertmanager}'] }} ] }} ] }}\n\
         scrape_configs:\n{}{}",
        job("tcp_connect", &|looked| looked.tcp.clone()),
        job("tls_connect", &|looked| looked.tls.clone()),
    )
}
