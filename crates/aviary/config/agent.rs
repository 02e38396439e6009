//! `[agent]`: what probes, and where its outcomes go.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use aviary_collector::SecretHash;
use aviary_core::Endpoint;
use reqwest::Url;

use super::{
    context::Refusal,
    debugging::{Debugging, Statsd, debugging, statsd},
    kind::{At, Boolean, choice, list, some, table, values},
    network::{self, Source},
    reader::Reader,
    scalar,
    secret::{self, Pem, Secret},
    steer::{Told, steering},
};

/// The agent's part of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// The collectors to push to, tried in turn; none for the collector of this process.
    pub(crate) collectors: Vec<Url>,
    /// What the collectors ask for beyond loopback.
    pub(crate) token: Option<Secret>,
    /// PEM certificates to trust for the collectors, beside the system's.
    pub(crate) ca: Option<Pem>,
    /// What this agent shows to collectors that ask for a certificate.
    pub(crate) identity: Option<Identity>,
    /// The directory of the spool; absent: what waits is kept in memory only.
    pub(crate) data: Option<PathBuf>,
    /// How much may wait for a collector, on disk or in memory.
    pub(crate) spool: Spool,
    /// Where the agent answers for its health and metrics.
    pub(crate) listen: Option<SocketAddr>,
    /// How it may be looked into.
    pub(crate) debugging: Debugging,
    /// Where metrics are sent.
    pub(crate) statsd: Statsd,
    /// What whoever asks there is recognised by; absent: everybody may.
    pub(crate) read_token: Option<SecretHash>,
    /// Whether also who asks for health is to show it.
    pub(crate) probe_auth: bool,
    /// Endpoints known as good, none over UDP: they tell our fault from theirs.
    pub(crate) controls: Vec<Endpoint>,
    /// Who is asked for names; nobody: whom `/etc/resolv.conf` names.
    pub(crate) name_servers: Vec<SocketAddr>,
    /// Where probes come from; absent: the system's choice.
    pub(crate) source: Option<Source>,
    /// Whether the collectors say what is probed, instead of this file.
    pub(crate) services_from_collector: bool,
    /// The receiver that is paged when no collector can be reached and a service is wholly lost.
    pub(crate) fallback: Option<String>,
    /// Once both have lasted for so many seconds.
    pub(crate) fallback_after: u64,
    /// Who asks, and who is told, whether its node is to be in rotation.
    pub(crate) steering: Told,
}

/// A client certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The certificate, and those that lead to its authority.
    pub(crate) certificate: Pem,
    /// Its private key.
    pub(crate) key: Pem,
}

/// How much may wait for a collector; the oldest is dropped first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spool {
    /// The most bytes.
    pub(crate) bytes: u64,
    /// How old it may become.
    pub(crate) age: Duration,
}

impl Default for Spool {
    fn default() -> Self {
        Self { bytes: 256 << 20, age: Duration::from_secs(7 * 86_400) }
    }
}

/// The least room for what waits: some minutes of the largest agent.
const SPOOL_BYTES_MIN: u64 = 1 << 20;

/// For how long an agent is cut off, and all is lost, before it pages by itself, in seconds.
const FALLBACK_AFTER_SECONDS: u64 = 30;
/// A collector that is merely gone is tried every five seconds.
const FALLBACK_AFTER_ALLOWED: std::ops::RangeInclusive<u64> = 5..=300;

/// Reads `[agent]`.
pub(super) fn agent(reader: &mut Reader<'_>) -> Option<Agent> {
    let url = scalar::http_url("https://collector.example.net:8610");
    let collectors =
        reader.optional("collector", "collectors, tried in turn; absent: the one of this process", some(url));
    let token = reader.optional("token", "what the collectors know this agent by", secret::token());
    let ca = reader.optional("ca", "an authority to trust beside the system's", secret::authorities());
    let certificate = reader.optional(
        "certificate",
        "the certificate that this agent shows to collectors; with `key`",
        secret::certificate(),
    );
    let key = reader.optional("key", "the key of that certificate", secret::private_key());
    let data = "where outcomes wait for the collector; absent: in memory only";
    let data = reader.optional("data", data, scalar::place("/var/lib/aviary/agent"));
    let spool = "how much may wait for the collector, the oldest being dropped first";
    let spool = reader.optional("spool", spool, table("{ size = \"256MiB\", age = \"7d\" }", spool_bounds));
    let listen = "where this agent answers for its health and metrics";
    let listen = reader.optional("listen", listen, scalar::listener("127.0.0.1:8611"));
    let debugging = debugging(reader, "127.0.0.1:8612", false);
    let statsd = statsd(reader);
    let read_token = "what whoever asks there for more than health shows; absent: everybody may";
    let read_token = reader.optional("read_token", read_token, secret::token_hash());
    let probe_auth =
        "whether who asks for health must show `read_token` too, but for `/health/SERVICE`; false by default";
    let probe_auth = reader.optional("probe_auth", probe_auth, Boolean).unwrap_or(false);
    let controls = "endpoints known as good, to tell our fault from theirs; not udp";
    let controls = reader.optional("controls", controls, list(network::control()));
    let name_servers = "who is asked for names; absent: whom /etc/resolv.conf names";
    let name_servers = reader.optional("name_servers", name_servers, some(network::name_server()));
    let source = "the address or interface that probes come from";
    let source = reader.optional("source", source, network::source());
    let services = "who says what is probed; absent: the [[service]] sections of this file";
    reader.optional("services", services, table("{ from = \"collector\" }", services_from));
    let fallback = "the receiver to page when no collector can be reached and a service is wholly lost";
    let fallback = reader.optional("fallback", fallback, scalar::name("oncall"));
    let after =
        "for how long no collector answers, and all is lost, before `fallback` is paged; 30s by default";
    let after = reader.optional("fallback_after", after, scalar::seconds("30s"));
    let fallback_after = after.unwrap_or(FALLBACK_AFTER_SECONDS);
    if !FALLBACK_AFTER_ALLOWED.contains(&fallback_after) {
        let message = format!("{fallback_after} s are not between 5 s and 5 min");
        let help = "write such as \"30s\": less pages for what is gone before anybody looks";
        reader.refuse("fallback_after", Refusal::new(message).help(help));
    }
    let steering = steering(reader);

    refuse_half_an_identity(reader);
    if reader.has("read_token") && !reader.has("listen") {
        let help = "add listen = \"127.0.0.1:8611\" to [agent], or take `read_token` out";
        reader.refuse("read_token", Refusal::new("this agent answers nobody: it does not listen").help(help));
    }
    if probe_auth && !reader.has("read_token") {
        let help = "add read_token = { file = \"PATH\" } to [agent], or take `probe_auth` out";
        reader.refuse("probe_auth", Refusal::new("nothing says who may ask for health").help(help));
    }
    let services_from_collector = reader.has("services");
    if services_from_collector && !reader.has("collector") {
        let message = "services from a collector need one elsewhere: the collector of this process has them from this file";
        let help =
            "add collector = [\"https://collector.example.net:8610\"] to [agent], or take `services` out";
        reader.refuse("services", Refusal::new(message).help(help));
    } else if services_from_collector && !reader.has("data") {
        let message = "without `data`, this agent cannot start while no collector answers: it keeps no copy of its services";
        reader
            .note("services", Refusal::new(message).help("add data = \"/var/lib/aviary/agent\" to [agent]"));
    }
    if reader.has("fallback") && !reader.has("collector") {
        let message = "`fallback` is for an agent that is cut off from its collectors, and this one's is in its own process";
        reader.note("fallback", Refusal::new(message).help("take it out"));
    }
    if reader.has("fallback") && reader.has("collector") && !reader.has("controls") {
        let message =
            "without `controls`, `fallback` cannot tell a service that is lost from a host whose network is";
        let help =
            "add controls = [\"tcp://ADDRESS:PORT\"], known as good and on another way than the service";
        reader.note("fallback", Refusal::new(message).help(help));
    }
    refuse_unsafe_collectors(reader, collectors.as_deref().unwrap_or_default());
    let identity = certificate.zip(key).map(|(certificate, key)| Identity { certificate, key });
    Some(Agent {
        collectors: values(collectors.unwrap_or_default()),
        token,
        ca,
        identity,
        data,
        spool: spool.unwrap_or_default(),
        listen,
        debugging,
        statsd,
        controls: values(controls.unwrap_or_default()),
        name_servers: values(name_servers.unwrap_or_default()),
        source,
        services_from_collector,
        fallback,
        fallback_after,
        read_token,
        probe_auth,
        steering,
    })
}

fn spool_bounds(reader: &mut Reader<'_>) -> Option<Spool> {
    let default = Spool::default();
    let size = reader.optional("size", "the most room; 256MiB by default", scalar::size("256MiB"));
    let age = reader.optional("age", "the longest wait; 7d by default", scalar::duration("7d"));
    let spool = Spool { bytes: size.unwrap_or(default.bytes), age: age.unwrap_or(default.age) };
    if spool.bytes < SPOOL_BYTES_MIN {
        let message = format!("{} bytes are too few: a minute of a large agent would not fit", spool.bytes);
        reader.refuse("size", Refusal::new(message).help("write \"1MiB\" or more"));
    }
    if spool.age < Duration::from_secs(1) {
        let message = "nothing would wait: what is younger than a second is being sent";
        reader.refuse("age", Refusal::new(message).help("write \"1s\" or more"));
    }
    Some(spool)
}

fn services_from(reader: &mut Reader<'_>) -> Option<()> {
    reader.required("from", "who has the list", choice([("collector", ())]))
}

/// A certificate without its key can be shown to nobody.
fn refuse_half_an_identity(reader: &Reader<'_>) {
    for (given, missing) in [("certificate", "key"), ("key", "certificate")] {
        if reader.has(given) && !reader.has(missing) {
            let message = format!("`{given}` is of no use without `{missing}`");
            let help = format!("add {missing} = {{ file = \"PATH\" }}, or take `{given}` out");
            reader.refuse(given, Refusal::new(message).help(help));
        }
    }
}

/// Reports and tokens do not cross a network in the clear, and are not taken there from strangers.
fn refuse_unsafe_collectors(reader: &Reader<'_>, collectors: &[At<Url>]) {
    let has_token = reader.has("token");
    // A collector may know its agents by their certificates alone.
    let is_known = has_token || reader.has("certificate");
    for collector in collectors {
        let url = &collector.value;
        if is_loopback(url) {
            continue;
        }
        let refusal = if url.scheme() == "http" {
            let message = format!("reports to {url} would cross the network in the clear");
            let message = if has_token { message + ", and the token with them" } else { message };
            Refusal::new(message).help("write https://, with `ca` where the authority is your own")
        } else if !is_known {
            let help = "add token = { file = \"/etc/aviary/token\" } to [agent]";
            Refusal::new(format!("{url} is beyond loopback, and there takes reports only with a token"))
                .help(help)
        } else {
            continue;
        };
        reader.context().refuse(&collector.path, refusal);
    }
}

/// Whether `url` leads nowhere but to this host.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback_address = |address: IpAddr| address.to_canonical().is_loopback();
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(is_loopback_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_what_looks_like_it() {
        let table = [
            ("http://127.0.0.1:8610", true),
            ("http://127.8.8.8", true),
            ("http://[::1]:8610", true),
            ("http://[::ffff:127.0.0.1]:8610", true),
            ("http://localhost:8610", true),
            ("http://agent.localhost", true),
            ("http://notlocalhost", false),
            ("http://127.0.0.1.example.com", false),
            ("http://0.0.0.0:8610", false),
            ("http://10.0.0.1", false),
        ];
        for (url, expected) in table {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
