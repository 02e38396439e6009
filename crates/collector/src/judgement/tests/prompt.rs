//! Between two seconds: whoever is to be woken does not wait for the next one.

use axum::{body::Body, extract::State, http::HeaderMap};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::*;
use crate::{Collector, Options, intake, visitor::Visitor};

/// The paused clock of the runtime.
#[derive(Clone)]
struct Paused(Instant);

impl aviary_core::Clock for Paused {
    fn wall(&self) -> Timestamp {
        at(0).plus(self.monotonic().0)
    }

    fn monotonic(&self) -> Micros {
        Micros(u64::try_from(self.0.elapsed().as_micros()).unwrap())
    }
}

/// What became of all slots of the second `second` after the start, told to `collector`.
async fn told(collector: &Collector, second: u64, outcome: Outcome) {
    for region in REGIONS {
        let report = told_by(region, second, outcome);
        let visitor = Visitor::from("127.0.0.1:1", HeaderMap::new(), collector);
        let body = Body::from(report.encode());
        let taken = intake::post(State(collector.clone()), visitor, HeaderMap::new(), body).await;
        assert!(taken.is_ok(), "{taken:?}");
    }
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the clock of a paused runtime is as virtual as it gets")]
async fn what_was_lost_is_looked_at_when_it_is_told() {
    let alerting =
        Alerting { page_after: 0, start_up_grace: 0, burst: Burst::Fixed(1.0), ..Alerting::default() };
    let service = ServiceOptions { alerting, ..ServiceOptions::unconfigured("ingest") };
    let options =
        Options { name: "main".to_owned(), services: vec![service], paging: paging(), ..Options::default() };
    let start = Instant::now();
    let collector = Collector::new(options, Paused(start)).unwrap();
    let mut actions = collector.page_actions().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let judging = tokio::spawn(collector.clone().judge_each_second(stopped));

    let into = |second: u64, ms: u64| start + Duration::from_secs(second) + Duration::from_millis(ms);
    for second in 0..60 {
        sleep_until(into(second + 1, 100)).await;
        told(&collector, second, DELIVERED).await;
    }
    // The second was judged when it had passed; that all of it timed out is known 300 ms later.
    sleep_until(into(61, 300)).await;
    assert!(actions.try_recv().is_err());
    told(&collector, 60, TIMED_OUT).await;
    sleep(Duration::from_millis(200)).await;
    let action = actions.try_recv();
    assert!(matches!(action, Ok(Action::Send { .. })), "{action:?} at {:?}", start.elapsed());
    stop.send_replace(true);
    judging.await.unwrap();
}
