//! What several attempts at one place came to.

use std::collections::VecDeque;

use aviary_core::Outcome;
use aviary_probe::Observation;

use super::sentence::human;

/// How many of the last totals are kept: an hour's.
const KEPT: usize = 3600;

/// What several attempts came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    delivered: u64,
    lost: u64,
    /// Neither: this host's own fault.
    not_measured: u64,
    /// How long the last delivered ones took in all, in microseconds.
    totals: VecDeque<u32>,
}

impl Summary {
    /// Counts one attempt.
    pub(super) fn add(&mut self, observed: &Observation) {
        match observed.outcome {
            Outcome::Delivered(_) => {
                self.delivered += 1;
                self.totals.truncate(KEPT - 1);
                self.totals.push_front(observed.timings.total_us);
            }
            Outcome::Lost { .. } => self.lost += 1,
            Outcome::Local { .. } | Outcome::Missed | Outcome::Muted => self.not_measured += 1,
        }
    }

    /// Such as `9 of 10 delivered, 1 lost; delivered in p50 1.2 ms, p99 3.4 ms, max 3.4 ms`.
    pub(super) fn text(&self) -> String {
        let measured = self.delivered + self.lost;
        let mut text = format!("{} of {measured} delivered, {} lost", self.delivered, self.lost);
        if self.not_measured > 0 {
            text += &format!(", {} not measured for this host's own fault", self.not_measured);
        }
        let mut totals: Vec<u32> = self.totals.iter().copied().collect();
        totals.sort_unstable();
        if let Some(&max) = totals.last() {
            let [p50, p99] = [50, 99].map(|percent| human(quantile(&totals, percent)));
            text += &format!("; delivered in p50 {p50}, p99 {p99}, max {}", human(max));
        }
        text
    }
}

/// The least of `sorted`, which is not empty, that at least `percent` of them do not exceed.
fn quantile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use aviary_core::{Evidence, Fault, LocalFault, Phase, Timings};

    use super::*;

    fn summary(outcomes: impl IntoIterator<Item = (Outcome, u32)>) -> Summary {
        let mut summary = Summary::default();
        for (outcome, total_us) in outcomes {
            let mut timings = Timings::default();
            timings.total_us = total_us;
            summary.add(&Observation { outcome, timings, address: None, reached: None, tls: None });
        }
        summary
    }

    #[test]
    fn it_says_how_many_and_how_fast() {
        let delivered = Outcome::Delivered(Evidence::PeerClosed);
        let lost = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };
        let local = Outcome::Local { phase: Phase::Connect, fault: LocalFault::NoFiles };
        let table = [
            (vec![(lost, 70); 3], "0 of 3 delivered, 3 lost"),
            (
                (1..=100).map(|total| (delivered, total * 10)).collect(),
                "100 of 100 delivered, 0 lost; delivered in p50 500 us, p99 990 us, max 1.0 ms",
            ),
            (
                vec![(delivered, 1200), (lost, 1_000_000), (local, 3)],
                "1 of 2 delivered, 1 lost, 1 not measured for this host's own fault; \
                 delivered in p50 1.2 ms, p99 1.2 ms, max 1.2 ms",
            ),
        ];
        for (outcomes, expected) in table {
            assert_eq!(summary(outcomes).text(), expected);
        }
    }

    #[test]
    fn what_it_keeps_is_bounded() {
        let delivered = Outcome::Delivered(Evidence::Sent);
        let summary = summary((0..2 * KEPT as u32).map(|total| (delivered, total)));
        assert_eq!((summary.delivered, summary.totals.len()), (2 * KEPT as u64, KEPT));
        assert!(summary.totals.iter().all(|total| *total >= KEPT as u32), "the last ones are kept");
    }
}
