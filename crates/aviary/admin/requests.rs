//! The requests of the last second, by what they were answered: whatever comes, in a fixed amount of memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aviary_core::{Clock, Micros, histogram::Histogram};
use axum::{Router, extract::Request, middleware, response::Response};
use serde_json::{Value, json};

/// What is told of requests.
pub(crate) struct Requests {
    /// By the monotonic clock: the wall clock may be stepped.
    now: Box<dyn Fn() -> Micros + Send + Sync>,
    seconds: Mutex<Seconds>,
}

/// Of the second that is, and of the one before.
#[derive(Default)]
struct Seconds {
    number: u64,
    current: OneSecond,
    last: OneSecond,
}

#[derive(Default)]
struct OneSecond {
    by_status: BTreeMap<u16, u64>,
    took: Histogram,
    sum_us: u64,
    max_us: u64,
}

impl Requests {
    /// None yet.
    pub(crate) fn new(clock: impl Clock) -> Arc<Self> {
        Arc::new(Self { now: Box::new(move || clock.monotonic()), seconds: Mutex::default() })
    }

    /// Counts what `router` answers, from the head of a request to the head of its answer.
    pub(crate) fn counted(self: &Arc<Self>, router: Router) -> Router {
        let requests = Arc::clone(self);
        router.layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
            let requests = Arc::clone(&requests);
            async move {
                let began = (requests.now)();
                let answer: Response = next.run(request).await;
                requests.note(answer.status().as_u16(), (requests.now)().since(began));
                answer
            }
        }))
    }

    fn note(&self, status: u16, took_us: u64) {
        let mut seconds = self.seconds();
        let OneSecond { by_status, took, sum_us, max_us } = &mut seconds.current;
        *by_status.entry(status).or_default() += 1;
        took.record(u32::try_from(took_us).unwrap_or(u32::MAX));
        *sum_us += took_us;
        *max_us = took_us.max(*max_us);
    }

    /// The last whole second. Percentiles are known to an eighth.
    pub(crate) fn last_second(&self) -> Value {
        let seconds = self.seconds();
        let OneSecond { by_status, took, sum_us, max_us } = &seconds.last;
        let count = took.count();
        let of_any = |us: f64| (count > 0).then_some(us / 1e6);
        let quantile = |share| took.quantile(share).map(|us| f64::from(us) / 1e6);
        let by_status: BTreeMap<String, u64> =
            by_status.iter().map(|(status, count)| (status.to_string(), *count)).collect();
        json!({
            "count": count,
            "by_status": by_status,
            "latency_seconds": {
                "max": of_any(*max_us as f64),
                "mean": of_any(*sum_us as f64 / count.max(1) as f64),
                "p50": quantile(0.5),
                "p90": quantile(0.9),
                "p99": quantile(0.99),
            },
        })
    }

    fn seconds(&self) -> MutexGuard<'_, Seconds> {
        let number = (self.now)().0 / 1_000_000;
        // A request is counted or not.
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.number != number {
            let ended = std::mem::take(&mut seconds.current);
            seconds.last = if seconds.number + 1 == number { ended } else { OneSecond::default() };
            seconds.number = number;
        }
        seconds
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use aviary_core::Timestamp;

    use super::*;

    #[derive(Clone, Default)]
    struct Paused(Arc<AtomicU64>);

    impl Clock for Paused {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Micros {
            Micros(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_last_second_is_told_until_the_next_ends() {
        let clock = Paused::default();
        let requests = Requests::new(clock.clone());
        let at = |micros| clock.0.store(micros, Ordering::Relaxed);
        at(5_000_000);
        for (status, took_us) in [(200, 100), (200, 300), (404, 200), (200, 3_000_000)] {
            requests.note(status, took_us);
        }
        assert_eq!(requests.last_second()["count"], 0, "it is not over");
        at(6_999_999);
        let told = requests.last_second();
        assert_eq!(told["by_status"], json!({"200": 3, "404": 1}));
        assert_eq!(told["latency_seconds"]["max"], 3.0);
        assert_eq!(told["latency_seconds"]["mean"], 0.75015);
        assert_eq!(told["latency_seconds"]["p50"], 0.000192);
        assert_eq!(told["latency_seconds"]["p99"], 2.097152, "what takes over two seconds is told as two");
        at(7_000_000);
        let nothing = json!({"max": null, "mean": null, "p50": null, "p90": null, "p99": null});
        assert_eq!(requests.last_second(), json!({"count": 0, "by_status": {}, "latency_seconds": nothing}));
    }
}
