//! `[vantage]` and `[agent]`: where probes run from, and where their outcomes go.

use aviary_core::{Vantage, VantageKind};
use reqwest::Url;

use super::{
    context::Refusal,
    kind::{list, member, some},
    reader::Reader,
    scalar,
    secret::{self, Secret},
};

/// The agent's part of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// The collectors to push to, tried in turn; none for the collector of this process.
    pub(crate) collectors: Vec<Url>,
    /// What the collectors ask for beyond loopback.
    pub(crate) token: Option<Secret>,
    /// PEM certificates to trust for the collectors, beside the system's.
    pub(crate) ca: Option<String>,
}

/// Reads `[vantage]`.
pub(super) fn vantage(reader: &mut Reader<'_>) -> Option<Vantage> {
    let kind = reader.optional(
        "kind",
        "which question these probes answer; external by default",
        member(VantageKind::ALL),
    );
    let region = reader.required("region", "the cloud's or data centre's region", scalar::line("eu-west-1"));
    let zone =
        reader.optional("zone", "the availability zone, where there are such", scalar::line("eu-west-1a"));
    let network =
        reader.optional("network", "the network or provider, where it matters", scalar::line("aws"));
    let node = reader.optional(
        "node",
        "a name that survives restarts; the host's by default",
        scalar::line("canary-7"),
    );

    if region.as_deref() == Some("auto") {
        let refusal =
            Refusal::new("`auto` is understood, but this version does not ask the cloud where it runs");
        reader.refuse("region", refusal.help("write the region itself, such as region = \"eu-west-1\""));
    }
    Some(Vantage {
        kind: kind.unwrap_or(VantageKind::External),
        region: region?,
        zone,
        network,
        node: node.unwrap_or_else(|| reader.context().host.to_owned()),
    })
}

/// Reads `[agent]`.
pub(super) fn agent(reader: &mut Reader<'_>) -> Option<Agent> {
    let url = scalar::http_url("https://collector.example.net:8610");
    let collectors =
        reader.optional("collector", "collectors, tried in turn; absent: the one of this process", some(url));
    let token = reader.optional("token", "what the collectors know this agent by", secret::token());
    let ca = reader.optional("ca", "an authority to trust beside the system's", secret::authorities());

    reader.optional(
        "certificate",
        "the certificate that this agent shows to collectors",
        secret::file_reference(),
    );
    reader.not_yet("certificate", "shows collectors no certificate, only its token");
    reader.optional("key", "the key of that certificate", secret::reference());
    reader.not_yet("key", "shows collectors no certificate, only its token");
    reader.optional(
        "data",
        "where outcomes wait for the collector",
        scalar::directory("/var/lib/aviary/agent"),
    );
    reader.not_yet("data", "keeps what waits for the collector in memory only");
    reader.optional(
        "listen",
        "where this agent answers for its health and metrics",
        scalar::listener("127.0.0.1:8611"),
    );
    reader.not_yet("listen", "does not listen there");
    reader.optional("statsd", "where to send metrics", scalar::listener("127.0.0.1:8125"));
    reader.not_yet("statsd", "sends no metrics");
    reader.optional(
        "controls",
        "endpoints known as good, to tell our fault from theirs",
        list(scalar::endpoint()),
    );
    reader.not_yet("controls", "does not probe them");

    let has_token = reader.has("token");
    for collector in collectors.iter().flatten() {
        let url = &collector.value;
        if is_loopback(url) {
            continue;
        }
        let refusal = if url.scheme() == "http" {
            let message = format!("reports to {url} would cross the network in the clear");
            let message = if has_token { message + ", and the token with them" } else { message };
            Refusal::new(message).help("write https://, with `ca` where the authority is your own")
        } else if !has_token {
            let help = "add token = { file = \"/etc/aviary/token\" } to [agent]";
            Refusal::new(format!("{url} is beyond loopback, and there takes reports only with a token"))
                .help(help)
        } else {
            continue;
        };
        reader.context().refuse(&collector.path, refusal);
    }
    let collectors = collectors.into_iter().flatten().map(|collector| collector.value).collect();
    Some(Agent { collectors, token, ca })
}

/// Whether `url` leads nowhere but to this host.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback_address = |address: std::net::IpAddr| address.to_canonical().is_loopback();
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
