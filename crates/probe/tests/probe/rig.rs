//! What every test makes: targets, attempts, and a sink to aim them at.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use aviary_core::{Clock, Evidence, Fault, LocalFault, Outcome, Phase, Protocol, Second};
use aviary_probe::{
    ApiKey, DEADLINE_US, Dns, Host, KeyExchange, Observation, Prober, STARVED_US, SystemClock, Target,
    TlsClient,
};
use aviary_sink::{Addresses, Arrival, Identity, Misbehaviour, Options, Sink};
use hickory_resolver::config::ResolverConfig;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::name_server::REPEATED_US;

/// The name of every datapoint.
pub(crate) const NAME: &str = "canary.probe.test";

/// What an attempt is given.
pub(crate) const A_SECOND: Duration = Duration::from_micros(DEADLINE_US);

/// What is surely long enough for something that happens on loopback.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What ends sooner has not waited for the deadline.
pub(crate) const AT_ONCE_US: u32 = 900_000;

/// How often a scene is played at most where the machine is too busy elsewhere.
const TRIES: usize = 5;

/// What is surely enough to notice something that would happen at once.
pub(crate) const A_WHILE: Duration = Duration::from_millis(150);

pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) const STREAMS: [Protocol; 5] =
    [Protocol::Https, Protocol::Pickle, Protocol::PickleTls, Protocol::Tcp, Protocol::Tls];

/// The second in which this runs.
pub(crate) fn this_second() -> Second {
    SystemClock.wall().second()
}

/// A prober that knows no name server.
pub(crate) fn prober() -> Prober<Host, SystemClock> {
    // The first handshake of a process seeds a generator, which takes as long as some deadlines here leave.
    static WARM: OnceLock<()> = OnceLock::new();
    WARM.get_or_init(aviary_probe::warm_up);
    let dns = Dns::with(ResolverConfig::from_parts(None, Vec::new(), Vec::new())).expect("a hosts file");
    Prober::new(Host::new(dns), SystemClock)
}

/// One attempt in this second, with a second's time.
pub(crate) async fn attempt(target: &Target) -> Observation {
    attempt_within(target, A_SECOND).await
}

/// One attempt with this much time.
pub(crate) async fn attempt_within(target: &Target, time: Duration) -> Observation {
    run(&prober(), target, this_second(), time).await
}

/// One attempt that `prober` makes; again where the machine was so busy elsewhere that how long it took means nothing.
pub(crate) async fn run(
    prober: &Prober<Host, SystemClock>,
    target: &Target,
    second: Second,
    time: Duration,
) -> Observation {
    let time_us = time.as_micros() as u64;
    let once = async || prober.run(target, second, SystemClock.monotonic().plus(time_us)).await;
    for _ in 1..TRIES {
        let seen = once().await;
        if !is_late(&seen, time) {
            return seen;
        }
    }
    once().await
}

/// One attempt at `second`, with a second's time, that is not made again by itself: see [`in_time`].
pub(crate) async fn attempt_once(target: &Target, second: Second) -> Observation {
    run_once(&prober(), target, second).await
}

/// The same, which `prober` makes.
pub(crate) async fn run_once(
    prober: &Prober<Host, SystemClock>,
    target: &Target,
    second: Second,
) -> Observation {
    prober.run(target, second, SystemClock.monotonic().plus(DEADLINE_US)).await
}

/// What `once` makes, an attempt with a second's time and all that is around it; again where [`run`] would make the
/// attempt again: a peer that takes one connection has nothing for a second.
pub(crate) async fn in_time<T>(once: impl AsyncFn() -> (Observation, T)) -> (Observation, T) {
    again_if(|(seen, _)| is_late(seen, A_SECOND), once).await
}

/// What `once` makes; again, a few times, where that is late. What the probe itself does late is late each time.
pub(crate) async fn again_if<T>(is_late: impl Fn(&T) -> bool, once: impl AsyncFn() -> T) -> T {
    for _ in 1..TRIES {
        let made = once().await;
        if !is_late(&made) {
            return made;
        }
    }
    once().await
}

/// Whether an attempt with so much time ended so late that how long it took means nothing.
fn is_late(seen: &Observation, time: Duration) -> bool {
    u64::from(seen.timings.total_us) >= time.as_micros() as u64 + STARVED_US / 2
        // Which a lookup is from the deadline on, however little later that was noticed.
        || matches!(seen.outcome, Outcome::Local { fault: LocalFault::Starved, .. })
}

/// Whether a question of this attempt may have been repeated, or the attempt was late itself.
pub(crate) fn is_held_up(seen: &Observation) -> bool {
    is_late(seen, A_SECOND) || seen.timings.get(Phase::Dns).is_some_and(|looked_up| looked_up >= REPEATED_US)
}

/// One attempt at each of `targets`, all at once; in their order.
pub(crate) async fn attempt_all<K: Copy + Send + 'static>(
    targets: impl IntoIterator<Item = (K, Target)>,
) -> Vec<(K, Observation)> {
    let mut attempts = JoinSet::new();
    for (index, (key, target)) in targets.into_iter().enumerate() {
        attempts.spawn(async move { (index, key, attempt(&target).await) });
    }
    let mut ended = attempts.join_all().await;
    ended.sort_unstable_by_key(|(index, ..)| *index);
    ended.into_iter().map(|(_, key, seen)| (key, seen)).collect()
}

/// The settings of TLS that trust the system's roots only, which takes long enough to be done once.
pub(crate) fn tls() -> &'static TlsClient {
    static CLIENT: OnceLock<TlsClient> = OnceLock::new();
    CLIENT.get_or_init(|| trusting(&[]))
}

/// Settings that also trust `pem`.
pub(crate) fn trusting(pem: &[&[u8]]) -> TlsClient {
    TlsClient::new(pem, KeyExchange::Classic).expect("certificates")
}

/// The target at `url`.
pub(crate) fn target(url: &str) -> Target {
    target_with(url, tls(), None)
}

pub(crate) fn target_with(url: &str, tls: &TlsClient, key: Option<&ApiKey>) -> Target {
    Target::new(url.parse().expect("an endpoint"), NAME, tls, key).expect("a target")
}

pub(crate) const fn delivered(evidence: Evidence) -> Outcome {
    Outcome::Delivered(evidence)
}

pub(crate) const fn lost(phase: Phase, fault: Fault) -> Outcome {
    Outcome::Lost { phase, fault }
}

pub(crate) const fn local(phase: Phase, fault: LocalFault) -> Outcome {
    Outcome::Local { phase, fault }
}

/// A sink with all six listeners, and what it takes to probe it.
pub(crate) struct Rig {
    pub(crate) sink: Sink,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) tls: TlsClient,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with_keys(&[]).await
    }

    pub(crate) async fn with_keys(keys: &[&str]) -> Self {
        let identity = Identity::self_signed().expect("a certificate can be made");
        let tls = trusting(&[identity.ca_pem().expect("made here").as_bytes()]);
        let mut options = Options::new(Addresses::all(ANY), identity);
        options.keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let (sink, arrivals) = Sink::start(options, SystemClock).await.expect("free ports");
        Self { sink, arrivals, tls }
    }

    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        self.sink.addresses().get(protocol).expect("all are open")
    }

    pub(crate) fn url(&self, protocol: Protocol) -> String {
        format!("{protocol}://{}", self.address(protocol))
    }

    pub(crate) fn target(&self, protocol: Protocol) -> Target {
        self.target_with_key(protocol, None)
    }

    pub(crate) fn target_with_key(&self, protocol: Protocol, key: Option<&ApiKey>) -> Target {
        target_with(&self.url(protocol), &self.tls, key)
    }

    /// One attempt over each of `protocols`, all at once, after they were told to misbehave.
    pub(crate) async fn attempt_all(
        &self,
        protocols: &[Protocol],
        how: Misbehaviour,
    ) -> Vec<(Protocol, Observation)> {
        for protocol in protocols {
            self.sink.misbehave(*protocol, how).await.expect("a misbehaviour that fits");
        }
        attempt_all(protocols.iter().map(|protocol| (*protocol, self.target(*protocol)))).await
    }

    pub(crate) async fn arrival(&mut self) -> Arrival {
        timeout(SOON, self.arrivals.recv()).await.expect("something arrives").expect("the sink runs")
    }

    pub(crate) async fn nothing_arrives(&mut self) {
        let arrival = timeout(A_WHILE, self.arrivals.recv()).await;
        assert!(arrival.is_err(), "{arrival:?}");
    }
}
