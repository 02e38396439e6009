//! What agent and collector have in common for whoever looks into the process itself: `debug_listen`, `profiling`, and `statsd`.

use std::net::SocketAddr;

use super::{context::Refusal, kind::Boolean, network, reader::Reader, scalar};

/// How a process may be looked into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Debugging {
    /// Where `/debug/` is, and nothing else; absent: beside all else.
    pub(crate) listen: Option<SocketAddr>,
    /// Whether there are profiles.
    pub(crate) profiling: bool,
}

/// Where metrics are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statsd {
    /// `HOST:PORT`: to be resolved again every minute; absent: nowhere.
    pub(crate) address: Option<String>,
    /// With the tags of DogStatsD, instead of in the names.
    pub(crate) tags: bool,
}

/// Reads how a process may be looked into. From beyond loopback only where `open` says that this is meant.
pub(super) fn debugging(reader: &mut Reader<'_>, example: &'static str, open: bool) -> Debugging {
    let about = "where /debug/ is, and nothing else; absent: at `listen`, beside all else";
    let listen = reader.optional("debug_listen", about, scalar::listener(example));
    let about = "whether /debug/pprof/ makes profiles of this process; false by default";
    let profiling = reader.optional("profiling", about, Boolean).unwrap_or(false);
    if let Some(address) = listen.filter(|address| !address.ip().to_canonical().is_loopback() && !open) {
        let message = format!("whoever reaches {address} could look into this process");
        let help = "listen on 127.0.0.1, and come by a tunnel such as `ssh -L`; a collector with open = true may listen anywhere";
        reader.refuse("debug_listen", Refusal::new(message).help(help));
    }
    Debugging { listen, profiling }
}

/// Reads where metrics are sent.
pub(super) fn statsd(reader: &mut Reader<'_>) -> Statsd {
    let about = "where to send metrics; a name is looked up again every minute";
    let address = reader.optional("statsd", about, network::peer("127.0.0.1:8125"));
    let about = "whether metrics have the tags of DogStatsD, instead of longer names; false by default";
    let tags = reader.optional("statsd_tags", about, Boolean).unwrap_or(false);
    Statsd { address, tags }
}
