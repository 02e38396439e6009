//! What StatsD hears, line by line and over a real socket.

use std::{
    net::UdpSocket,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aviary_collector::{Counts, Figures, ServiceFigures, SlotCounts};
use aviary_core::{Fault, Phase, Protocol, State, Vantage, VantageKind, Window, histogram::Histogram};
use aviary_probe::{Dns, Host, SystemClock};
use proptest::prelude::*;

use super::{
    agent::{LINES_MAX, SAMPLES_MAX, Told, added, samples},
    line::{PACKET_MAX, Value},
    *,
};
use crate::admin::standing::{Group, Shipping, Spool, Standing};

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
    lines.into_iter().filter(|line| !matches!(line.value, Value::Gauge(_))).collect()
}

#[test]
fn each_second_tells_what_was_added() {
    let mut told = Told::default();
    let mut since = |groups| without_gauges(told.since(&Standing { groups, ..Standing::default() }));
    let ours = [("service", "in_gest_1_c_x"), ("protocol", "pickle_tls")];
    let slots = |what: &[(&'static str, &str)], count| {
        Line::tagged("slots", &[&ours[..], what].concat(), Value::Count(count))
    };
    let delivered = |count| slots(&[("outcome", "delivered")], count);
    let connect = Line::tagged("phase", &[ours[0], ours[1], ("phase", "connect")], Value::Timer(0.007));
    let first = since(vec![group(3, 1, &[7])]);
    assert_eq!(first[0].plain, "in_gest_1_c_x.pickle_tls.delivered");
    assert_eq!(first[1].plain, "in_gest_1_c_x.pickle_tls.lost.refused");
    let refused = slots(&[("outcome", "lost"), ("fault", "refused")], 1);
    assert_eq!(first, [delivered(3), refused, connect.clone()]);
    assert_eq!(since(vec![group(3, 1, &[7])]), [], "nothing was added");
    assert_eq!(since(vec![group(5, 1, &[7, 7])]), [delivered(2), connect]);
    assert_eq!(since(vec![]), []);
    assert_eq!(since(vec![group(1, 0, &[])]), [delivered(1)], "back again, and begun anew");
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
        assert!(lines.contains(&Line::gauge(name, value)), "{lines:?}");
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

    async fn resolve(&self, _: Question<'_>) -> Result<Vec<IpAddr>, Failure> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        self.answers[asked].map(|ip| vec![ip]).ok_or(Failure::service(Phase::Dns, Fault::Resolver))
    }

    async fn connect(
        &self,
        address: SocketAddr,
        source: Option<&aviary_probe::Source>,
    ) -> Result<Self::Connection, Failure> {
        self.network.connect(address, source).await
    }

    fn datagram(
        &self,
        address: SocketAddr,
        source: Option<&aviary_probe::Source>,
    ) -> Result<Self::Datagram, Failure> {
        self.network.datagram(address, source)
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
    let pair = || {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        Some((first, UdpSocket::bind(("127.0.0.2", port)).ok()?, port))
    };
    let (first, second, port) = (0..16).find_map(|_| pair()).expect("a port that is free at both addresses");
    let answers = vec![None, Some([127, 0, 0, 1].into()), None, Some([127, 0, 0, 2].into())];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let told = runtime.block_on(async {
        let network = Names {
            network: Host::new(Dns::from_system().unwrap()),
            answers: Arc::new(answers),
            asked: Arc::default(),
        };
        let delivered = Mutex::new(0);
        let standing = move || {
            let mut delivered = delivered.lock().unwrap();
            // All of these wait in the sockets for a reader that is late; after them only gauges are told.
            *delivered = (*delivered + 1).min(70);
            let groups = vec![group(*delivered, 0, &[70])];
            Standing { groups, ..Standing::default() }
        };
        let address = format!("statsd.example.com:{port}");
        let plain = Naming::Plain("aviary.agent.eu.n".to_owned());
        // A second is five milliseconds here, and a minute has twenty.
        let every = Duration::from_millis(5);
        let telling = run(address, plain, of_agent(Arc::new(standing)), (every, 20), network, SystemClock);
        let statsd = Statsd(tokio::spawn(telling));
        let mut told = [Vec::new(), Vec::new()];
        let heard = async {
            while sum(&told[1], NAME) < 30 {
                tokio::time::sleep(every).await;
                told[0].extend(received(&first));
                told[1].extend(received(&second));
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), heard).await;
        assert!(in_time.is_ok(), "{told:?}");
        statsd.stop();
        told
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    let told = [[told[0].clone(), received(&first)].concat(), [told[1].clone(), received(&second)].concat()];
    // Nothing before the second lookup, which is the first to find it; the third fails, and it stays.
    assert_eq!((sum(&told[0], NAME), sum(&told[1], NAME)), (40, 30));
    assert!(told[0].contains(&"aviary.agent.eu.n.in_gest_1_c_x.pickle_tls.connect:0.0675|ms".to_owned()));
    let well_formed = |line: &String| {
        let (name, rest) = line.split_once(':').unwrap();
        let (value, kind) = rest.split_once('|').unwrap();
        name.bytes().all(|byte| byte == b'.' || byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
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
    let lines = [
        Line::tagged("slots", &[("service", "a,b|#"), ("outcome", "lost")], Value::Count(2)),
        Line::gauge("series.ticking", 6),
    ];
    assert_eq!(
        agent_naming(&vantage, false).packets(&lines),
        [
            "aviary.agent.eu-west-1.canary_7.a_b__.lost:2|c\naviary.agent.eu-west-1.canary_7.series.ticking:6|g"
        ]
    );
    assert_eq!(
        agent_naming(&vantage, true).packets(&lines),
        ["aviary.agent.slots:2|c|#region:eu-west-1,node:canary_7,service:a_b__,outcome:lost\n\
          aviary.agent.series.ticking:6|g|#region:eu-west-1,node:canary_7"]
    );
}

#[test]
fn packets_hold_whole_lines_and_cross_any_network() {
    let lines: Vec<_> = (0..500).map(|value| Line::gauge("spool.slots", value)).collect();
    let packets = Naming::Plain("aviary.agent.eu.n".to_owned()).packets(&lines);
    assert!(packets.len() > 1 && packets.iter().all(|packet| packet.len() <= PACKET_MAX));
    assert_eq!(packets.iter().flat_map(|packet| packet.lines()).count(), 500);
}

#[test]
fn a_collector_tells_what_was_added_since() {
    let figures = |delivered, taken| Figures {
        counts: Counts { reports: taken, ..Counts::default() },
        agents: vec![("late", 3)],
        services: vec![ServiceFigures {
            name: "in.gest".to_owned(),
            state: State::Down,
            since: Second(0),
            is_silenced: false,
            incidents: 2,
            acceptable_loss_ppm: 5_000,
            vantages: 1,
            protocols: Vec::new(),
            readback: None,
        }],
        slots: vec![SlotCounts {
            service: "in.gest".to_owned(),
            protocol: "pickle+tls".to_owned(),
            region: "eu".to_owned(),
            total: Window { scheduled: delivered, delivered, ..Window::default() },
            recent: Window::default(),
        }],
        ..Figures::default()
    };
    let table = Arc::new(Mutex::new(vec![figures(15, 4), figures(10, 4)]));
    let mut lines = of_collector(move || table.lock().unwrap().pop().unwrap_or_default());
    let mut told = |tags| collector_naming("ma in", tags).packets(&lines()).join("\n");
    let first = told(false);
    for line in [
        "aviary.collector.ma_in.slots.in_gest.pickle_tls.eu.delivered:10|c",
        "aviary.collector.ma_in.reports.taken:4|c",
        "aviary.collector.ma_in.services.down:1|g",
        "aviary.collector.ma_in.services.healthy:0|g",
        "aviary.collector.ma_in.agents.late:3|g",
        "aviary.collector.ma_in.incidents.in_gest:2|g",
    ] {
        assert!(first.lines().any(|told| told == line), "{line}\n{first}");
    }
    let second = told(true);
    let tags = "collector:ma_in,service:in_gest,protocol:pickle_tls,region:eu,outcome:delivered";
    let line = format!("aviary.collector.slots:5|c|#{tags}");
    assert!(second.lines().any(|told| told == line), "{line}\n{second}");
    assert!(!second.contains("reports"), "nothing was added: {second}");
}
