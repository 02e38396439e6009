//! StatsD: once a second, what was added since, in packets that nobody waits for.
//!
//! For dashboards that live on StatsD; reports and verdicts never take this way, since the protocol loses, has neither
//! tags nor time, and averages. The `statsd` crate packs and sends. What it leaves to its caller is done here: names are
//! sanitised, gauges are never negative (StatsD would subtract them) and no number is NaN, being made of integers; the
//! address is looked up again every minute, by the caller's [`Network`] and not by the crate, which would block and
//! keep the first answer for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aviary_core::{Phase, Protocol, Vantage, graphite::sanitise, histogram::Histogram};
use aviary_probe::{Blame, Failure, Family, Network};
use statsd::client::{Client, Pipeline};
use tokio::task::JoinHandle;

use crate::admin::{
    Source,
    metrics::middle_us,
    standing::{Class, Group, Standing},
};

/// How often metrics are sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// After how many of those intervals the address is looked up again.
const LOOK_UP_EVERY: u64 = 60;

/// How many timer samples of a phase are sent in one interval. Where more attempts were timed, these are their quantiles
/// (5 %, 15 %, ... 95 %): the server's percentiles stay right, while its count of samples is not the count of slots;
/// that is what the counters are for.
const SAMPLES_MAX: u64 = 10;

/// How many lines may be sent in one interval; what is beyond them waits for the next, as part of its difference.
const LINES_MAX: usize = 5_000;

/// A packet of this size crosses any network in one piece.
const PACKET_MAX: usize = 1_432;

/// What every name begins with, so that agents which share a server are told apart.
pub(crate) fn prefix(vantage: &Vantage) -> String {
    format!("aviary.agent.{}.{}", sanitise(&vantage.region), sanitise(&vantage.node))
}

/// The task that tells StatsD.
pub(crate) struct Statsd(JoinHandle<()>);

impl Statsd {
    /// Sends to `address` (host and port, as configured) how the agent of `standing` stands, from a task of the caller's
    /// runtime. Nothing that happens to name or packets ends it.
    pub(crate) fn start<N: Network>(address: String, prefix: String, network: N, standing: Source) -> Self {
        Self(tokio::spawn(run(address, prefix, network, standing, INTERVAL)))
    }

    /// Ends it, with the difference of the last second untold.
    pub(crate) fn stop(self) {
        self.0.abort();
    }
}

async fn run<N: Network>(address: String, prefix: String, network: N, standing: Source, every: Duration) {
    let mut told = Told::default();
    let mut server: Option<(SocketAddr, Arc<Client>)> = None;
    let mut failing = false;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        ticks.tick().await;
        if tick % LOOK_UP_EVERY == 0 {
            match connect(&address, &prefix, &network, server.take()).await {
                Ok(found) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(server = %found.0, "StatsD is told again.");
                    }
                    server = Some(found);
                }
                Err((error, before)) => {
                    // The last address is better than none: name servers fail more often than addresses change.
                    server = before;
                    if !std::mem::replace(&mut failing, true) {
                        let goes_on = server.is_some();
                        tracing::warn!(
                            address,
                            error,
                            goes_on,
                            "StatsD's address cannot be used; looking again each minute."
                        );
                    }
                }
            }
        }
        let Some((_, client)) = &server else { continue };
        let lines = told.since(&standing());
        let client = Arc::clone(client);
        // A full queue of the network card would hold up whoever sends.
        let sent = tokio::task::spawn_blocking(move || send(&client, lines)).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "StatsD was not told.");
        }
    }
}

type Server = (SocketAddr, Arc<Client>);

/// The server at `address` as it resolves now: `before` where that is the same.
async fn connect<N: Network>(
    address: &str,
    prefix: &str,
    network: &N,
    before: Option<Server>,
) -> Result<Server, (String, Option<Server>)> {
    let found = match resolve(address, network).await {
        Ok(found) => found,
        Err(error) => return Err((error, before)),
    };
    // An address that is among the answers still is kept: answers take turns, counters should not.
    if let Some(server) = before.as_ref().filter(|(address, _)| found.contains(address)) {
        return Ok(server.clone());
    }
    // `resolve` answers with one address at least.
    let Some(first) = found.first() else { return Err(("no address".to_owned(), before)) };
    match Client::new(first, prefix) {
        Ok(client) => Ok((*first, Arc::new(client))),
        Err(error) => Err((format!("no socket: {error}"), before)),
    }
}

async fn resolve<N: Network>(address: &str, network: &N) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = address.rsplit_once(':').ok_or("the port is missing")?;
    let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    let host = host.trim_matches(['[', ']']);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    let cannot = |why: &str| format!("{host} cannot be looked up: {}", why.replace('_', " "));
    match network.resolve(host, Family::Any).await {
        Ok(found) => Ok(found.into_iter().map(|ip| (ip, port).into()).collect()),
        Err(Failure { blame: Blame::Service(fault), .. }) => Err(cannot(fault.name())),
        Err(Failure { blame: Blame::Local(fault), .. }) => Err(cannot(fault.name())),
    }
}

fn send(client: &Client, lines: Vec<Line>) {
    let mut pipeline = Pipeline::new();
    pipeline.set_max_udp_size(PACKET_MAX);
    for line in lines {
        match line {
            Line::Count(name, count) => pipeline.count(&name, count as f64),
            Line::Gauge(name, value) => pipeline.gauge(&name, value as f64),
            Line::Timer(name, milliseconds) => pipeline.timer(&name, milliseconds),
        }
    }
    pipeline.send(client);
}

/// One metric, its name sanitised and without the prefix.
#[derive(Clone, Debug, PartialEq)]
enum Line {
    /// So many more.
    Count(String, u64),
    /// So many now: unsigned, since StatsD takes a sign for a difference.
    Gauge(String, u64),
    /// A duration in milliseconds.
    Timer(String, f64),
}

/// What StatsD has been told of each service and protocol.
#[derive(Default)]
struct Told {
    groups: BTreeMap<(String, Protocol), Totals>,
    /// Which group is told first: the one for which there was no room before.
    first: usize,
    dropped: u64,
    skipped: u64,
}

#[derive(Default)]
struct Totals {
    outcomes: BTreeMap<Class, u64>,
    phases: [Option<Histogram>; Phase::ALL.len()],
}

impl Told {
    /// What is to be told of an agent that stands so; afterwards it counts as told.
    fn since(&mut self, standing: &Standing) -> Vec<Line> {
        let mut lines = gauges(standing);
        for (name, total, told) in [
            ("slots.dropped", standing.dropped, &mut self.dropped),
            ("slots.skipped", standing.skipped, &mut self.skipped),
        ] {
            count(&mut lines, name.to_owned(), total, told);
        }
        let (begun, rest) = standing.groups.split_at(self.first.min(standing.groups.len()));
        for (place, group) in rest.iter().chain(begun).enumerate() {
            if lines.len() >= LINES_MAX {
                self.first = (self.first + place) % standing.groups.len();
                break;
            }
            let totals = self.groups.entry((group.service.clone(), group.protocol)).or_default();
            totals.since(group, &mut lines);
        }
        // Of what was removed nothing is kept; if it comes back, it begins anew.
        if self.groups.len() > standing.groups.len() {
            let are = |group: &Group| (group.service.clone(), group.protocol);
            let there: BTreeSet<_> = standing.groups.iter().map(are).collect();
            self.groups.retain(|group, _| there.contains(group));
        }
        lines
    }
}

impl Totals {
    fn since(&mut self, group: &Group, lines: &mut Vec<Line>) {
        let name = format!("{}.{}", sanitise(&group.service), group.protocol.graphite_name());
        for (class, total) in &group.outcomes {
            let (outcome, _, fault) = *class;
            // Not by phase: phases tell where, and that is what /metrics and the collector are for.
            let name = match fault {
                Some(fault) => format!("{name}.{outcome}.{fault}"),
                None => format!("{name}.{outcome}"),
            };
            count(lines, name, *total, self.outcomes.entry(*class).or_default());
        }
        for ((phase, now), told) in Phase::ALL.iter().zip(&group.phases).zip(&mut self.phases) {
            let Some(now) = now else { continue };
            let samples = samples(&added(told.as_ref(), now));
            lines.extend(
                samples.into_iter().map(|micros| Line::Timer(format!("{name}.{phase}"), micros / 1e3)),
            );
            *told = Some(now.clone());
        }
    }
}

/// A total that is below what was told has begun anew.
fn count(lines: &mut Vec<Line>, name: String, total: u64, told: &mut u64) {
    let added = if total < *told { total } else { total - *told };
    *told = total;
    if added > 0 {
        lines.push(Line::Count(name, added));
    }
}

fn gauges(standing: &Standing) -> Vec<Line> {
    let Standing { spool, shipping, .. } = standing;
    let gauge = |name: &str, value| Line::Gauge(name.to_owned(), value);
    let mut gauges = vec![
        gauge("series", standing.series as u64),
        gauge("series.ticking", standing.ticking as u64),
        gauge("spool.slots", spool.slots),
        gauge("spool.bytes", spool.bytes),
        gauge("reports.failures", u64::from(shipping.failures)),
    ];
    if let Some(offset) = shipping.clock_offset_us {
        gauges.push(gauge("clock.apart_us", offset.unsigned_abs()));
    }
    gauges
}

/// How many durations each bucket has more than it had.
fn added(told: Option<&Histogram>, now: &Histogram) -> Vec<(usize, u64)> {
    let told: BTreeMap<usize, u32> = told.into_iter().flat_map(Histogram::buckets).collect();
    let more = |(bucket, count): (usize, u32)| {
        let before = told.get(&bucket).copied().unwrap_or(0);
        let more = if count < before { count } else { count - before };
        (bucket, u64::from(more))
    };
    now.buckets().map(more).filter(|(_, more)| *more > 0).collect()
}

/// Each of a few durations, or the quantiles of many, in microseconds.
fn samples(added: &[(usize, u64)]) -> Vec<f64> {
    let all: u64 = added.iter().map(|(_, count)| count).sum();
    let count = all.min(SAMPLES_MAX);
    let mut samples = Vec::with_capacity(count as usize);
    let (mut place, mut passed) = (added.iter(), 0);
    let mut current = place.next();
    for number in 0..count {
        // The middle of each of `count` equal parts.
        let rank = (2 * number + 1) * all / (2 * count);
        while let Some((_, many)) = current.filter(|(_, many)| passed + many <= rank) {
            passed += many;
            current = place.next();
        }
        samples.extend(current.map(|(bucket, _)| middle_us(*bucket)));
    }
    samples
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use aviary_core::Fault;
    use aviary_core::VantageKind;
    use aviary_probe::{Dns, Host};
    use proptest::prelude::*;

    use super::*;
    use crate::admin::standing::{Shipping, Spool};

    fn group(delivered: u64, refused: u64, connect_us: &[u32]) -> Group {
        let mut timings = Histogram::default();
        connect_us.iter().for_each(|micros| timings.record(*micros));
        let outcomes =
            [(("delivered", None, None), delivered), (("lost", Some("connect"), Some("refused")), refused)];
        Group {
            service: "in.gest:1|c\nx".to_owned(),
            protocol: Protocol::PickleTls,
            outcomes: outcomes.into(),
            phases: [None, Some(timings), None, None, None],
        }
    }

    fn without_gauges(lines: Vec<Line>) -> Vec<Line> {
        lines.into_iter().filter(|line| !matches!(line, Line::Gauge(..))).collect()
    }

    #[test]
    fn each_second_tells_what_was_added() {
        let mut told = Told::default();
        let mut since = |groups| without_gauges(told.since(&Standing { groups, ..Standing::default() }));
        let name = "in_gest_1_c_x.pickle_tls";
        let count = |what: &str, count| Line::Count(format!("{name}.{what}"), count);
        let first = since(vec![group(3, 1, &[7])]);
        assert_eq!(
            first,
            [count("delivered", 3), count("lost.refused", 1), Line::Timer(format!("{name}.connect"), 0.007)]
        );
        assert_eq!(since(vec![group(3, 1, &[7])]), [], "nothing was added");
        assert_eq!(
            since(vec![group(5, 1, &[7, 7])]),
            [count("delivered", 2), Line::Timer(format!("{name}.connect"), 0.007)]
        );
        assert_eq!(since(vec![]), []);
        assert_eq!(since(vec![group(1, 0, &[])]), [count("delivered", 1)], "back again, and begun anew");
    }

    #[test]
    fn gauges_have_no_sign() {
        let standing = Standing {
            series: 6,
            spool: Spool { slots: 4, ..Spool::default() },
            shipping: Shipping { clock_offset_us: Some(-1_500), ..Shipping::default() },
            ..Standing::default()
        };
        let lines = Told::default().since(&standing);
        for (name, value) in [("series", 6), ("spool.slots", 4), ("clock.apart_us", 1_500)] {
            assert!(lines.contains(&Line::Gauge(name.to_owned(), value)), "{lines:?}");
        }
    }

    #[test]
    fn lines_are_bounded_and_what_does_not_fit_is_told_later() {
        let groups: Vec<_> =
            (0..6_000).map(|number| Group { service: format!("s{number}"), ..group(1, 0, &[]) }).collect();
        let standing = Standing { groups, ..Standing::default() };
        let mut told = Told::default();
        let (first, second) = (told.since(&standing), told.since(&standing));
        assert!(first.len() < LINES_MAX + 10, "{}", first.len());
        assert_eq!(without_gauges(first).len() + without_gauges(second).len(), 6_000);
        assert_eq!(without_gauges(told.since(&standing)), []);
    }

    proptest! {
        #[test]
        fn samples_are_few_in_order_and_within_what_was_added(
            micros in prop::collection::vec(0_u32..5_000_000, 0..200),
        ) {
            let mut histogram = Histogram::default();
            micros.iter().for_each(|micros| histogram.record(*micros));
            let samples = samples(&added(None, &histogram));
            prop_assert_eq!(samples.len() as u64, (micros.len() as u64).min(SAMPLES_MAX));
            prop_assert!(samples.is_sorted());
            prop_assert!(samples.iter().all(|micros| micros.is_finite() && *micros >= 0.0));
            let (least, most) = (histogram.quantile(0.0), histogram.quantile(1.0));
            for sample in samples {
                prop_assert!(sample >= f64::from(least.unwrap()) && sample <= f64::from(most.unwrap()) * 1.2 + 1.0);
            }
        }
    }

    /// A network that knows one name, and answers with one entry after the other; the last for ever.
    #[derive(Clone)]
    struct Names {
        network: Host,
        answers: Arc<Vec<Option<IpAddr>>>,
        asked: Arc<AtomicUsize>,
    }

    impl Network for Names {
        type Connection = <Host as Network>::Connection;
        type Datagram = <Host as Network>::Datagram;

        async fn resolve(&self, _: &str, _: Family) -> Result<Vec<IpAddr>, Failure> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
            self.answers[asked].map(|ip| vec![ip]).ok_or(Failure::service(Phase::Dns, Fault::Resolver))
        }

        async fn connect(&self, address: SocketAddr) -> Result<Self::Connection, Failure> {
            self.network.connect(address).await
        }

        fn datagram(&self, address: SocketAddr) -> Result<Self::Datagram, Failure> {
            self.network.datagram(address)
        }
    }

    /// Every line that the socket received.
    fn received(socket: &UdpSocket) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 65_536];
        let mut lines = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            assert!(length <= PACKET_MAX, "{length} bytes");
            lines.extend(std::str::from_utf8(&buffer[..length]).unwrap().lines().map(str::to_owned));
        }
        lines
    }

    fn sum(lines: &[String], name: &str) -> u64 {
        let value = |line: &String| line.strip_prefix(name)?.strip_suffix("|c")?.parse::<u64>().ok();
        lines.iter().filter_map(value).sum()
    }

    const NAME: &str = "aviary.agent.eu.n.in_gest_1_c_x.pickle_tls.delivered:";

    #[test]
    fn the_address_is_looked_up_each_minute_and_nothing_ends_the_telling() {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let second = UdpSocket::bind(("127.0.0.2", port)).unwrap();
        let answers = vec![None, Some([127, 0, 0, 1].into()), None, Some([127, 0, 0, 2].into())];
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let delivered = Arc::new(Mutex::new(0));
        let told = runtime.block_on(async {
            let network = Names {
                network: Host::new(Dns::from_system().unwrap()),
                answers: Arc::new(answers),
                asked: Arc::default(),
            };
            let asked = Arc::clone(&network.asked);
            let counter = Arc::clone(&delivered);
            let standing = move || {
                let mut delivered = counter.lock().unwrap();
                *delivered += 1;
                let groups = vec![group(*delivered, 0, &[70])];
                Standing { groups, ..Standing::default() }
            };
            let address = format!("statsd.example.com:{port}");
            // A second is five milliseconds here.
            let every = Duration::from_millis(5);
            let telling = run(address, "aviary.agent.eu.n".to_owned(), network, Arc::new(standing), every);
            let statsd = Statsd(tokio::spawn(telling));
            let mut told = [Vec::new(), Vec::new()];
            while sum(&told[1], NAME) < 30 {
                tokio::time::sleep(every).await;
                told[0].extend(received(&first));
                told[1].extend(received(&second));
                assert!(asked.load(Ordering::Relaxed) < 10, "{told:?}");
            }
            statsd.stop();
            told
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        let told =
            [[told[0].clone(), received(&first)].concat(), [told[1].clone(), received(&second)].concat()];
        // Nothing before the second lookup, which is the first to find it; the third fails, and it stays.
        let (before, after) = (sum(&told[0], NAME), sum(&told[1], NAME));
        assert_eq!(before, 120);
        // The end may come between looking and sending.
        let told_of = *delivered.lock().unwrap();
        assert!((told_of - 1..=told_of).contains(&(before + after)), "{before} and {after} of {told_of}");
        assert!(told[0].contains(&"aviary.agent.eu.n.in_gest_1_c_x.pickle_tls.connect:0.0675|ms".to_owned()));
        let well_formed = |line: &String| {
            let (name, rest) = line.split_once(':').unwrap();
            let (value, kind) = rest.split_once('|').unwrap();
            name.bytes()
                .all(|byte| byte == b'.' || byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
                && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                && ["c", "g", "ms"].contains(&kind)
        };
        let odd: Vec<_> = told.iter().flatten().filter(|line| !well_formed(line)).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }

    #[test]
    fn names_are_of_the_agent() {
        let vantage = Vantage {
            kind: VantageKind::External,
            region: "eu-west-1".to_owned(),
            zone: None,
            network: None,
            node: "canary.7".to_owned(),
        };
        assert_eq!(prefix(&vantage), "aviary.agent.eu-west-1.canary_7");
    }
}
