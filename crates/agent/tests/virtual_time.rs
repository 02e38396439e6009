//! The agent's line on a paused clock and a scripted network: hours of many series, and every count known beforehand.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use aviary_agent::{AgentSeries, Batch, Beat, Lane, Ticker};
use aviary_core::{Clock, Outcome, Second, Timestamp, plan::Plan};
use aviary_probe::{
    KeyExchange, Prober, Target, TlsClient,
    scripted::{PausedClock, Scripted, Weather},
};
use tokio::{sync::mpsc, time::sleep};

const START: Timestamp = Timestamp(1_763_690_400_250_000);
const FIRST: u64 = 1_763_690_401;

fn series(count: u32, protocol: &str) -> Vec<AgentSeries> {
    let tls = TlsClient::new(&[], KeyExchange::Classic).unwrap();
    let one = |number: u32| {
        let endpoint = format!("{protocol}://10.0.0.1:{}", 1_000 + number).parse().unwrap();
        let name = format!("canary.ingest.{protocol}.node-{number}");
        let target = Target::new(endpoint, &name, &tls, None).unwrap();
        AgentSeries { service: "ingest".to_owned(), name, address: None, target }
    };
    (0..count).map(one).collect()
}

/// What became of each slot: how many of each outcome, by the slot's second and the series.
#[derive(Default)]
struct Told {
    slots: BTreeMap<(u32, Second), Outcome>,
    /// Seconds may come again, as the clock's fault.
    may_repeat: bool,
    repeated: usize,
}

impl Told {
    fn take(&mut self, batch: &Batch) {
        let (slots, gaps) = batch.drain();
        for slot in slots {
            let key = (slot.series, slot.second);
            if self.may_repeat
                && self.slots.contains_key(&key)
                && describe(&slot.outcome) == "local dns clock_step"
            {
                self.repeated += 1;
                continue;
            }
            let before = self.slots.insert(key, slot.outcome);
            assert_eq!(before, None, "slot {} of series {} was closed twice", slot.second, slot.series);
        }
        for gap in gaps {
            for series in gap.first..gap.first + gap.count {
                for second in gap.span.iter() {
                    let before = self.slots.insert((series, second), gap.outcome);
                    assert_eq!(before, None, "slot {second} of series {series} was closed twice");
                }
            }
        }
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for outcome in self.slots.values() {
            *counts.entry(describe(outcome)).or_default() += 1;
        }
        counts
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered(evidence) => format!("delivered {evidence}"),
        Outcome::Lost { phase, fault } => format!("lost {phase} {}", fault.name()),
        Outcome::Local { phase, fault } => format!("local {phase} {fault}"),
        other => other.name().to_owned(),
    }
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

struct Rig {
    clock: PausedClock,
    told: Told,
}

impl Rig {
    fn new() -> Self {
        Self { clock: PausedClock::starting_at(START), told: Told::default() }
    }

    /// Walks the agent through the slots of `seconds` seconds. After each second of virtual time, `disturb` may step
    /// the clock, and stalls the ticker for as long as it returns.
    async fn run(
        &mut self,
        series: Vec<AgentSeries>,
        seconds: u64,
        weather: impl Fn(SocketAddr, Timestamp) -> Weather + Send + Sync + 'static,
        disturb: impl Fn(u64, &PausedClock) -> Duration,
    ) -> Scripted {
        let series: Arc<[AgentSeries]> = series.into();
        let network = Scripted::new(self.clock.clone(), weather);
        let batch = Arc::new(Batch::default());
        let crew = batch.enlist(&series);
        let plan = Arc::new(Plan::new(series.iter().map(|series| series.name.as_str())));
        let mut ticker = Ticker::new(plan, self.clock.clone(), &[]);
        let (sender, beats) = mpsc::channel(1_024);
        let prober = Prober::new(network.clone(), self.clock.clone());
        let lane =
            Lane::new((0, 1), Arc::clone(&series), prober, self.clock.clone(), (Arc::clone(&batch), crew));
        let lane = tokio::spawn(lane.run(ticker.plan(), beats));
        sender.send(Beat::Begin(ticker.second())).await.unwrap();
        let mut second = 0;
        let origin = self.clock.monotonic();
        let end = Second(FIRST + seconds);
        while ticker.second() < end {
            if self.clock.monotonic().since(origin) / 1_000_000 > second {
                second += 1;
                self.told.take(&batch);
                sleep(disturb(second, &self.clock)).await;
            }
            let at = ticker.next_at().unwrap();
            sleep(Duration::from_micros(at.since(self.clock.monotonic()))).await;
            for beat in ticker.fire().into_iter().flatten() {
                sender.send(beat).await.unwrap();
            }
        }
        sender.send(Beat::End(end)).await.unwrap();
        lane.await.unwrap();
        self.told.take(&batch);
        network
    }
}

fn undisturbed(_: u64, _: &PausedClock) -> Duration {
    Duration::ZERO
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_many_series_is_counted_to_the_slot() {
    let mut rig = Rig::new();
    // By port: the second ten are refused, the third swallow everything; minute 30 is a black hole for all.
    let weather = |address: SocketAddr, now: Timestamp| match (address.port() - 1_000, now.second().0 - FIRST)
    {
        (_, 1_800..1_860) => Weather::BlackHole,
        (10..20, _) => Weather::Refused,
        (20..30, _) => Weather::Silent,
        (30..40, _) => Weather::Reset,
        _ => Weather::Clear(Duration::from_millis(20)),
    };
    let network = rig.run(series(100, "tcp"), 3_600, weather, undisturbed).await;
    let expected = counts([
        ("delivered peer_closed", 70 * 3_540),
        ("lost confirm reset", 10 * 3_540),
        ("lost confirm timeout", 10 * 3_540),
        ("lost connect refused", 10 * 3_540),
        ("lost connect timeout", 100 * 60),
    ]);
    assert_eq!(rig.told.counts(), expected);
    assert_eq!(network.stored(), 70 * 3_540);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_missed_and_no_burst_follows() {
    let mut rig = Rig::new();
    let clear = |_: SocketAddr, _: Timestamp| Weather::Clear(Duration::from_millis(1));
    let stall = |second, _: &PausedClock| Duration::from_secs(if second == 30 { 20 } else { 0 });
    let network = rig.run(series(50, "tcp"), 100, clear, stall).await;
    let counted = rig.told.counts();
    assert_eq!(counted.values().sum::<usize>(), 50 * 100, "{counted:?}");
    assert_eq!(network.stored() as usize, counted["delivered peer_closed"]);
    // Twenty seconds of fifty series. Those due in the second of the awakening are `starved`, but for the few that
    // were due so shortly before it that they ran.
    let starved = counted.get("local dns starved").copied().unwrap_or(0);
    assert!((990..=1_000).contains(&(counted["missed"] + starved)), "{counted:?}");
    assert!(starved <= 50 && counted.len() <= 3, "nothing is held against the service: {counted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_stepped_forward_is_nobodys_loss() {
    let mut rig = Rig::new();
    let clear = |_: SocketAddr, _: Timestamp| Weather::Clear(Duration::from_millis(1));
    let step = |second, clock: &PausedClock| {
        if second == 30 {
            clock.step_wall(3_600_000_000);
        }
        Duration::ZERO
    };
    rig.run(series(10, "tcp"), 3_660, clear, step).await;
    let counted = rig.told.counts();
    let stepped = counted["local dns clock_step"];
    assert_eq!(counted["delivered peer_closed"] + stepped, 10 * 3_660, "{counted:?}");
    // The new epoch begins with its first full second, so at most one second more is given up.
    assert!((36_000..=36_010).contains(&stepped), "{counted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_is_told_each_second_and_nothing_is_sent_twice() {
    let mut rig = Rig::new();
    rig.told.may_repeat = true;
    let clear = |_: SocketAddr, _: Timestamp| Weather::Clear(Duration::from_millis(1));
    let step = |second, clock: &PausedClock| {
        if second == 60 {
            clock.step_wall(-40_000_000);
        }
        Duration::ZERO
    };
    let network = rig.run(series(10, "tcp"), 100, clear, step).await;
    let counted = rig.told.counts();
    assert_eq!(counted, counts([("delivered peer_closed", 10 * 100)]), "a repeat takes nothing back");
    assert_eq!(network.stored(), 10 * 100, "each second was sent once");
    assert!((10 * 39..=10 * 41).contains(&rig.told.repeated), "{} repeated slots", rig.told.repeated);
}

#[tokio::test(start_paused = true)]
async fn what_the_agent_does_wrong_is_local() {
    use aviary_core::LocalFault;
    let mut rig = Rig::new();
    let weather = |address: SocketAddr, _: Timestamp| match address.port() - 1_000 {
        0 => Weather::Local(LocalFault::NoFiles),
        1 => Weather::Panic,
        _ => Weather::Clear(Duration::from_millis(1)),
    };
    rig.run(series(3, "tcp"), 60, weather, undisturbed).await;
    let expected = [("delivered peer_closed", 60), ("local connect no_files", 60), ("local dns bug", 60)];
    assert_eq!(rig.told.counts(), counts(expected));
}

#[tokio::test(start_paused = true)]
async fn udp_is_sent_and_no_more() {
    let mut rig = Rig::new();
    let weather = |address: SocketAddr, _: Timestamp| match address.port() - 1_000 {
        0 => Weather::Refused,
        1 => Weather::BlackHole,
        _ => Weather::Clear(Duration::ZERO),
    };
    rig.run(series(3, "udp"), 30, weather, undisturbed).await;
    assert_eq!(rig.told.counts(), counts([("delivered sent", 60), ("lost confirm refused", 30)]));
}
