//! `[collector]`: who may report, and where the sums can be asked for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use aviary_collector::{Limits, ROLLOUT_TIMEOUT, SecretHash, TestPages};
use aviary_core::silence::Hours;
use reqwest::Url;

use super::{
    access::{self, Client, Proxy},
    context::Refusal,
    debugging::{Debugging, Statsd, debugging, statsd},
    hours::hours,
    kind::{At, Boolean, Whole, choice, list, section, some, table, values},
    reader::Reader,
    rotation::{self, Rotation},
    scalar,
    secret::{self, Pem},
    status::{Status, status},
    watchdog::{Watchdog, watchdog},
};

/// Where a collector listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8610);

/// The least that a limit on the size of reports may be: a roster of some hundred series.
const REPORT_BYTES_LEAST: usize = 64 << 10;
/// The shortest time that a rollout may be given.
const ROLLOUT_TIMEOUT_LEAST: Duration = Duration::from_secs(5);
/// How long slots are kept unless told otherwise: a year, with a month to look back at it.
const RETAIN: Duration = Duration::from_secs(400 * 86_400);

/// The collector's part of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    /// Its name, which is part of every page's key.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// How it may be looked into.
    pub(crate) debugging: Debugging,
    /// Where metrics are sent.
    pub(crate) statsd: Statsd,
    /// Under which URL people reach it, where that is another.
    pub(crate) url: Option<Url>,
    /// Who may ask it; nobody named: whoever is on loopback.
    pub(crate) tokens: Vec<Token>,
    /// What those may who show certificates.
    pub(crate) clients: Vec<Client>,
    /// Who says in headers who people are.
    pub(crate) proxy: Option<Proxy>,
    /// Whether also who asks for health must be known.
    pub(crate) probe_auth: bool,
    /// Whether it is meant to take reports from beyond loopback without a token.
    pub(crate) open: bool,
    /// How long slots are kept.
    pub(crate) retain: Duration,
    /// The directory of what it keeps; absent: all of it ends with the process.
    pub(crate) data: Option<PathBuf>,
    /// What it speaks TLS with; absent: it answers in plain HTTP.
    pub(crate) tls: Option<Tls>,
    /// When tickets wait, of services that have no hours of their own.
    pub(crate) quiet_hours: Option<Hours>,
    /// Who is told that it watches.
    pub(crate) watchdog: Option<Watchdog>,
    /// When somebody is sent a page that is none; absent: never.
    pub(crate) test_pages: Option<TestPages>,
    /// What customers are told, and where.
    pub(crate) status: Option<Status>,
    /// How nodes of all services are steered.
    pub(crate) rotation: Option<Rotation>,
    /// How long a version of the services may take to be available to all agents.
    pub(crate) rollout_timeout: Duration,
    /// Everything happens, and messages go to the log only, whatever a service says.
    pub(crate) shadow: bool,
}

/// What the collector speaks TLS with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The certificate, and those that lead to its authority.
    pub(crate) certificate: Pem,
    /// Its private key.
    pub(crate) key: Pem,
    /// The authority whose certificates clients must show.
    pub(crate) client_ca: Option<Pem>,
}

/// One `[[collector.token]]`.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// Whose it is.
    pub(crate) name: String,
    /// What the token is recognised by.
    pub(crate) secret: SecretHash,
    /// What it allows; to report, where nothing is said.
    pub(crate) scope: Vec<Scope>,
    /// Reports under it may claim no other region.
    pub(crate) region: Option<String>,
    /// Reports under it may claim no other node.
    pub(crate) node: Option<String>,
    /// How much may be reported under it.
    pub(crate) limits: Limits,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To push reports.
    Report,
    /// To ask for sums, verdicts and incidents.
    Read,
    /// To acknowledge, silence and note.
    Admin,
}

impl Scope {
    /// The word that the file has for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// Reads `[collector]`.
pub(super) fn collector(reader: &mut Reader<'_>) -> Option<Collector> {
    let name = reader.optional("name", "part of every page's key; main by default", scalar::name("main"));
    let listen =
        reader.optional("listen", "the API; 127.0.0.1:8610 by default", scalar::listener("127.0.0.1:8610"));
    let url = scalar::http_url("https://collector.example.net");
    let url = reader.optional("url", "under which people reach the API, for links", url);
    let tokens = reader.optional("token", "who may report from beyond loopback", list(section(token)));
    let open =
        reader.optional("open", "whether anybody may report without a token", Boolean).unwrap_or(false);

    let debugging = debugging(reader, "127.0.0.1:8613", open);
    let statsd = statsd(reader);
    let about = "what those may who show certificates of `client_ca`; absent: report and read";
    let clients = reader.optional("client", about, list(section(access::client)));
    let about = "a proxy in front of this collector that says who people are";
    let on = listen.unwrap_or(LISTEN);
    let proxy = reader.optional("proxy", about, section(|reader| access::proxy(reader, on)));
    let about = "whether who asks for health must show a token with the scope read; false by default";
    let probe_auth = reader.optional("probe_auth", about, Boolean).unwrap_or(false);

    let data = "where the slots are kept; absent: in memory only";
    let data = reader.optional("data", data, scalar::place("/var/lib/aviary/collector"));
    let retain =
        reader.optional("retain", "how long the slots are kept; 400d by default", scalar::duration("400d"));
    let certificate = "the certificate of the API, with `key`; absent: plain HTTP";
    let certificate = reader.optional("certificate", certificate, secret::certificate());
    let key = reader.optional("key", "the key of that certificate", secret::private_key());
    let client_ca = "the authority whose certificates everybody must show";
    let client_ca = reader.optional("client_ca", client_ca, secret::authorities());
    refuse_half_of_tls(reader);
    let about = "when tickets wait, and pages do not; absent: never";
    let quiet_hours = reader.optional("quiet_hours", about, hours());
    let about = "who is told all the time that this collector watches, and pages somebody when that stops";
    let watchdog = reader.optional("watchdog", about, section(watchdog));
    let about = "when to send pages that are marked as tests, to see that they arrive; absent: never";
    let example =
        "{ hours = { days = [\"monday\"], from = \"10:00\", until = \"11:00\", zone = \"Europe/Berlin\" } }";
    let test_pages = reader.optional("test_pages", about, table(example, test_pages));
    let about = "the public status page; absent: there is none";
    let status = reader.optional("status", about, section(status));
    let about = "how nodes of all services are steered, and who asks for them";
    let rotation = reader.optional("rotation", about, section(rotation::of_collector));
    let about = "how services that agents take from here are rolled out";
    let rollout_timeout = reader.optional("rollout", about, section(rollout));
    let about = "whether messages of all services go to the log only; false by default";
    let shadow = reader.optional("shadow", about, Boolean).unwrap_or(false);

    let listen = listen.unwrap_or(LISTEN);
    let is_known = ["token", "client_ca", "proxy"].iter().any(|key| reader.has(key));
    if !listen.ip().to_canonical().is_loopback() && !is_known && !open {
        let message = format!("a collector on {listen} would take reports from anybody who reaches it");
        let help = "add a [[collector.token]] for the agents or a client_ca, listen on 127.0.0.1, or say that it is meant with open = true";
        reader.refuse("listen", Refusal::new(message).help(help));
    }
    if status.as_ref().is_some_and(|status| status.listen.is_some_and(|at| at.port() != 0 && at == listen)) {
        let message = format!("the API listens on {listen} already, which is not for everybody");
        reader.refuse("status", Refusal::new(message).help("give the status page another port"));
    }
    let tokens = tokens.unwrap_or_default();
    refuse_equal_tokens(reader, &tokens);
    let clients = clients.unwrap_or_default();
    let collector = Collector {
        name: name.unwrap_or_else(|| "main".to_owned()),
        listen,
        debugging,
        statsd,
        url,
        tokens: tokens.into_iter().map(|token| token.value).collect(),
        clients: clients.iter().map(|client| client.value.clone()).collect(),
        proxy,
        probe_auth,
        open,
        retain: retain.unwrap_or(RETAIN),
        data,
        tls: certificate.zip(key).map(|(certificate, key)| Tls { certificate, key, client_ca }),
        quiet_hours,
        watchdog,
        test_pages,
        status,
        rotation,
        rollout_timeout: rollout_timeout.unwrap_or(ROLLOUT_TIMEOUT),
        shadow,
    };
    access::refuse_contradictions(reader, &collector, &clients);
    Some(collector)
}

/// Reads `[collector.rollout]`.
fn rollout(reader: &mut Reader<'_>) -> Option<Duration> {
    let about = "how long a version of the services may take to be available to all agents, before the one that is active stands; 10m by default";
    let timeout = reader.optional("timeout", about, scalar::seconds("10m"));
    let timeout = timeout.map_or(ROLLOUT_TIMEOUT, Duration::from_secs);
    if timeout < ROLLOUT_TIMEOUT_LEAST {
        let message = "agents could not have anything available in so short a time";
        let help = "write at least 5s: an agent is told, prepares and reports once a second";
        reader.refuse("timeout", Refusal::new(message).help(help));
    }
    Some(timeout)
}

fn test_pages(reader: &mut Reader<'_>) -> Option<TestPages> {
    let about = "in which hours: once whenever they come, and in no others";
    let hours = reader.required("hours", about, hours());
    let notify = reader.optional("notify", "to whom; all receivers by default", some(scalar::name("oncall")));
    Some(TestPages { hours: hours?, notify: values(notify.unwrap_or_default()) })
}

/// A certificate without its key can be shown to nobody, and whoever shows none cannot ask for one.
fn refuse_half_of_tls(reader: &Reader<'_>) {
    let pairs = [("certificate", "key"), ("key", "certificate"), ("client_ca", "certificate")];
    for (given, missing) in pairs {
        if reader.has(given) && !reader.has(missing) {
            let message = format!("`{given}` is of no use without `{missing}`");
            let help = format!("add {missing} = {{ file = \"PATH\" }}, or take `{given}` out");
            reader.refuse(given, Refusal::new(message).help(help));
        }
    }
}

fn token(reader: &mut Reader<'_>) -> Option<Token> {
    let scopes = choice([Scope::Report, Scope::Read, Scope::Admin].map(|scope| (scope.name(), scope)));
    let name = reader.required("name", "whose token it is", scalar::name("eu-agents"));
    let secret = reader.required("secret", "the token, or its hash", secret::token_hash());
    let scope = reader.optional("scope", "what the token allows; report by default", some(scopes));
    let region = reader.optional("region", "reports under it may claim no other", scalar::line("eu-west-1"));
    let node = reader.optional("node", "reports under it may claim no other", scalar::line("canary-7"));
    let limits = limits(reader, if node.is_some() { Limits::AGENT } else { Limits::FLEET });
    let scope = scope.map(|scope| scope.into_iter().map(|scope| scope.value).collect());
    let scope = scope.unwrap_or_else(|| vec![Scope::Report]);
    Some(Token { name: name?, secret: secret?, scope, region, node, limits })
}

/// How much may be reported under a token. Whoever has a key to one node needs less by default.
fn limits(reader: &mut Reader<'_>, default: Limits) -> Limits {
    let about =
        "how many reports a second are taken under it; by default 100000, and 200 where `node` is set";
    let reports = reader.optional("reports_per_second", about, Whole(1));
    let about =
        "how many slots a second are taken under it; by default 10000000, and 1000000 where `node` is set";
    let slots = reader.optional("slots_per_second", about, Whole(1));
    let about = "the largest report that is taken under it, unpacked; 4MiB by default, which is the most";
    let bytes = reader.optional("report_size", about, scalar::size("1MiB"));
    let about = "how many series it may bring in all; by default 100000, and 10000 where `node` is set";
    let series = reader.optional("series", about, Whole(1));
    let bytes = bytes.map_or(default.bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if !(REPORT_BYTES_LEAST..=Limits::FLEET.bytes).contains(&bytes) {
        let message = "the limit is from 64KiB to 4MiB: agents need that much, and no collector takes more";
        reader.refuse("report_size", Refusal::new(message).help("write such as \"1MiB\""));
    }
    Limits {
        reports: reports.unwrap_or(default.reports),
        slots: slots.unwrap_or(default.slots),
        bytes,
        series: series.map_or(default.series, |series| series as usize),
    }
}

fn refuse_equal_tokens(reader: &Reader<'_>, tokens: &[At<Token>]) {
    for (index, later) in tokens.iter().enumerate() {
        for earlier in tokens.iter().take(index) {
            let name = &earlier.value.name;
            if later.value.name == *name {
                let refusal = Refusal::new(format!("two tokens are called `{name}`")).help("rename one");
                reader.context().refuse(&format!("{}.name", later.path), refusal);
            } else if later.value.secret == earlier.value.secret {
                let message = format!("this is the token of `{name}` again: nobody could tell the two apart");
                let refusal = Refusal::new(message).help("give each its own");
                reader.context().refuse(&format!("{}.secret", later.path), refusal);
            }
        }
    }
}
