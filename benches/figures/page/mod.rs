//! How soon a loss is a page, from the kill of a sink to the first byte at whoever is paged: the real program, beside
//! Prometheus with its blackbox exporter and its Alertmanager, which look at the same sinks and are paged by the same faults.
//! And how often each side pages about servers that lose less than is acceptable.

mod lane;
mod pager;
mod prometheus;
mod trickle;

use std::{thread, time::Duration};

use aviary_core::{Clock as _, Micros};
use aviary_probe::SystemClock;
use fastrand::Rng;

use self::{
    lane::{Aviary, Fault, Lane, Round, service},
    pager::{Page, Pager, Side},
    ports::Port,
    prometheus::{Looked, Prometheus},
    trickle::Trickle,
};
use crate::{
    Plan, pace, progress,
    support::{http, ports, process as real},
    table::{Figure, Table},
};

/// Sinks that break independently of each other, each with an aviary of its own.
const LANES: usize = 10;

/// What is to be reached, from the fault to the first byte.
const GOALS: [(Fault, &str, f64); 2] = [(Fault::Refused, "refused", 2.3), (Fault::Frozen, "black hole", 3.3)];

/// Services that lose a little, and the series of each.
const TRICKLING: usize = 10;
const SERIES: usize = 6;
const TRICKLING_NAME: &str = "trickling-";

/// Measures all of it at once.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let seed = SystemClock.wall().0;
    let mut random = Rng::with_seed(seed);
    let versions = Prometheus::versions()?;
    let pager = Pager::start()?;
    let lanes =
        (0..LANES).map(|index| Lane::start(format!("lane-{index}"))).collect::<Result<Vec<_>, _>>()?;
    let trickle = Trickle::start(TRICKLING * SERIES, &mut random)?;
    let addresses = trickle.addresses();
    let trickling = addresses.chunks(SERIES).enumerate();
    let trickling: Vec<_> = trickling
        .map(|(index, addresses)| Looked {
            lane: format!("{TRICKLING_NAME}{index}"),
            tcp: addresses.to_vec(),
            tls: Vec::new(),
        })
        .collect();
    let services = trickling.iter().map(|looked| {
        let endpoints: Vec<_> = looked.tcp.iter().map(|address| format!("tcp://{address}")).collect();
        service(&looked.lane, &endpoints, "")
    });
    let looked: Vec<_> = lanes.iter().map(Lane::looked).chain(trickling.iter().map(Looked::clone)).collect();
    let _prometheus = Prometheus::start(&looked, pager.address)?;
    let (dir, collector) = (tempfile::tempdir()?, Port::claim());
    let told = (pager.address, TRICKLING_NAME);
    let _aviary = Aviary::start(dir.path(), &collector, &services.collect::<String>(), told)?;

    let (began, shut) = (SystemClock.monotonic(), trickle.shut());
    let rounds = rounds(lanes, plan.pick(3, 1), &pager, &mut random)?;
    let minutes = if plan.quick { 1 } else { plan.minutes };
    progress(&format!("page, false alarms, {minutes} min in all"));
    pace::sleep_until(began.plus(minutes * 60_000_000));
    let seconds = SystemClock.monotonic().since(began) / 1_000_000;
    let shut = trickle.shut() - shut;

    for (fault, name, goal) in GOALS {
        let of_fault: Vec<_> = rounds.iter().filter(|round| round.fault == fault).collect();
        table.push(delay(name, goal, &of_fault));
        table.push(after_the_second(name, &of_fault));
    }
    table.push(false_alarms(&pager, began, seconds));
    table.note(format!(
        "page: seed {seed}, beside {versions}. From just before the signal to a sink to the first byte at whoever is paged. \
         {LANES} sinks, each a process with all six protocols, and for each round a new aviary, agent and collector in one \
         process with all they keep on a disk, that watches one of them: acceptable_loss 1 %, page_after 0s, burst 1.0. \
         Refused: the sink is killed. Black hole: it is stopped, so that the kernel goes on to accept connections and bytes, and \
         nobody answers. Prometheus looks at the same sinks by tcp_connect (tcp, pickle) and by a handshake (tls, pickle+tls, \
         https), everything each second and without waits, and pages where probe_success is 0; not at udp, which its exporter \
         cannot. The false alarms are of {TRICKLING} services of {SERIES} series, watched by both in the same time: each \
         server lets nobody in for one second of a thousand, at random; that was {shut} times in {seconds} s."
    ));
    Ok(())
}

/// Breaks each sink so often in each way.
fn rounds(lanes: Vec<Lane>, count: u64, pager: &Pager, random: &mut Rng) -> anyhow::Result<Vec<Round>> {
    thread::scope(|scope| {
        let lanes = lanes.into_iter().enumerate().map(|(index, mut lane)| {
            let mut random = random.fork();
            scope.spawn(move || {
                // Not all at once: no two begin together.
                thread::sleep(Duration::from_millis(700 * index as u64));
                let mut rounds = Vec::new();
                for round in 0..count {
                    for (fault, name, _) in GOALS {
                        if index == 0 {
                            progress(&format!("page, {name}, round {} of {count}", round + 1));
                        }
                        rounds.push(lane.round(fault, pager, &mut random)?);
                    }
                }
                anyhow::Ok(rounds)
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let mut rounds = Vec::new();
        for lane in lanes {
            rounds.extend(lane.join().map_err(|_| anyhow::anyhow!("a lane panicked; see above"))??);
        }
        Ok(rounds)
    })
}

/// Seconds from the fault to each page, in order; and how many faults nobody paged about.
fn seconds(rounds: &[&Round], page: impl Fn(&Round) -> Option<&Page>) -> (Vec<f64>, usize) {
    let pages = rounds.iter().filter_map(|round| Some(page(round)?.at.since(round.at) as f64 / 1e6));
    let mut seconds: Vec<_> = pages.collect();
    seconds.sort_by(f64::total_cmp);
    let missing = rounds.len() - seconds.len();
    (seconds, missing)
}

/// The value that so large a share of `sorted` does not exceed.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn spread((sorted, missing): &(Vec<f64>, usize)) -> String {
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("worst", 1.0)];
    let quantiles = quantiles.map(|(name, share)| {
        quantile(sorted, share).map_or_else(String::new, |seconds| format!("{name} {seconds:.2} s"))
    });
    match (sorted.len(), missing) {
        (0, missing) => format!("no page of {missing}"),
        (_, 0) => quantiles.join(", "),
        (some, missing) => format!("{}; {missing} of {} not paged", quantiles.join(", "), some + missing),
    }
}

fn delay(name: &str, goal: f64, rounds: &[&Round]) -> Figure {
    let ours = seconds(rounds, |round| round.aviary.as_ref());
    let theirs = seconds(rounds, |round| round.rival.as_ref());
    let [our_p99, their_p99] = [&ours, &theirs].map(|(sorted, _)| quantile(sorted, 0.99));
    let ratio = our_p99.zip(their_p99).map(|(ours, theirs)| format!("{:.2}", ours / theirs));
    Figure {
        name: format!("page, {name}, {} times", rounds.len()),
        aviary: spread(&ours),
        rival: spread(&theirs),
        ratio: ratio.unwrap_or_default(),
        goal: format!("p99 within {goal} s"),
        met: ours.1 == 0 && our_p99.is_some_and(|seconds| seconds <= goal),
    }
}

/// What of the delay is judging, keeping and sending: seconds are judged when they are over.
fn after_the_second(name: &str, rounds: &[&Round]) -> Figure {
    let pages = rounds.iter().filter_map(|round| round.aviary.as_ref());
    let mut late: Vec<_> = pages.map(|page| page.into_second.0 as f64 / 1e3).collect();
    late.sort_by(f64::total_cmp);
    let [half, worst] = [0.5, 1.0].map(|share| quantile(&late, share).unwrap_or(f64::NAN));
    Figure::told(
        &format!("page, {name}, after the full second"),
        format!("p50 {half:.0} ms, worst {worst:.0} ms"),
    )
}

/// Pages about what loses less than is acceptable.
fn false_alarms(pager: &Pager, began: Micros, seconds: u64) -> Figure {
    let of = |side| {
        let is_false =
            |page: &Page| page.side == side && page.about.starts_with(TRICKLING_NAME) && page.at >= began;
        let pages = pager.pages(is_false);
        pages.iter().for_each(|page| tracing::info!(?side, text = page.text, "A false alarm."));
        pages.len()
    };
    let (ours, theirs) = (of(Side::Aviary), of(Side::Rival));
    Figure {
        name: format!("page, false alarms, 0.1 % lost, {:.1} min", seconds as f64 / 60.0),
        aviary: format!("{ours} pages"),
        rival: format!("{theirs} pages"),
        ratio: String::new(),
        goal: "none".to_owned(),
        met: ours == 0,
    }
}
