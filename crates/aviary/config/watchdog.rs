//! `[collector.watchdog]`: the dead man's switch, which is told all the time that the collector watches.

use std::time::Duration;

use aviary_notify::{Alertmanager, Url, Watchdog as Notifying, WatchdogKind};

use super::{
    agent::is_loopback,
    context::Refusal,
    kind::{some, values},
    reader::Reader,
    receiver::{refuse_key_in_clear, shared},
    scalar,
    secret::{self, Pem, Secret},
};

/// How often it may be told: healthchecks.io drops what is more than five a minute, and the alert of an Alertmanager ends
/// by itself after four minutes.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(12)..=Duration::from_secs(120);

/// Who is told that the collector watches, and pages somebody when that stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watchdog {
    /// Who.
    pub(crate) kind: WatchdogKind,
    /// How often.
    pub(crate) interval: Duration,
    /// PEM certificates to trust, beside the system's.
    pub(crate) ca: Option<Pem>,
}

/// Reads `[collector.watchdog]`.
pub(super) fn watchdog(reader: &mut Reader<'_>) -> Option<Watchdog> {
    let ping =
        "the whole URL of a check, as healthchecks.io gives it out: whoever has it can ping in our place";
    let ping = reader.optional("ping", ping, secret::api_key());
    let urls = "in its place, all the Alertmanagers of a cluster, told by the alert `Watchdog`";
    let url = scalar::http_url("http://alertmanager-1.example.com:9093");
    let urls = reader.optional("alertmanager", urls, some(url));
    let key = reader.optional("key", "what the Alertmanagers know us by", secret::api_key());
    let interval =
        reader.optional("interval", "how often it is told; 30s by default", scalar::duration("30s"));
    let ca = reader.optional("ca", "an authority to trust beside the system's", secret::authorities());

    let urls = values(urls.unwrap_or_default());
    match (reader.has("ping"), reader.has("alertmanager")) {
        (true, true) => {
            reader.refuse(
                "alertmanager",
                Refusal::new("`ping` and `alertmanager` are both given").help("keep one"),
            );
        }
        (false, false) => {
            let help = "write ping = { file = \"PATH\" }, or alertmanager = [\"http://alertmanager-1.example.com:9093\"]";
            reader
                .refuse_whole(Refusal::new("neither `ping` nor `alertmanager` says who is told").help(help));
        }
        (true, false) if reader.has("key") => {
            let refusal =
                Refusal::new("`key` is of no use to a ping, whose URL is the key").help("take it out");
            reader.refuse("key", refusal);
        }
        (false, true) if reader.has("key") => refuse_key_in_clear(reader, "alertmanager", &urls),
        _ => {}
    }
    if let Some(ping) = &ping {
        refuse_no_ping_url(reader, ping);
    }
    let interval = interval.unwrap_or(Notifying::EVERY);
    if !INTERVALS.contains(&interval) {
        let message = "a dead man's switch is told every 12 s to 2 m: more often is dropped, and less often is too late";
        reader.refuse("interval", Refusal::new(message).help("write such as \"30s\""));
    }
    let kind = match ping {
        Some(ping) => WatchdogKind::Ping(shared(&ping)),
        None => WatchdogKind::Alertmanager(Alertmanager { urls, key: key.as_ref().map(shared) }),
    };
    Some(Watchdog { kind, interval, ca })
}

/// No message repeats anything of what is in a secret.
fn refuse_no_ping_url(reader: &Reader<'_>, ping: &Secret) {
    let url = Url::parse(ping.expose()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    match url {
        None => {
            let help = "it is the check's whole ping URL, such as https://hc-ping.com/...";
            reader.refuse("ping", Refusal::new("the secret is no URL").help(help));
        }
        Some(url) if url.scheme() == "http" && !is_loopback(&url) => {
            let message = "the URL, which only we may know, would cross the network in the clear";
            reader.refuse("ping", Refusal::new(message).help("let it begin with https://"));
        }
        Some(_) => {}
    }
}
