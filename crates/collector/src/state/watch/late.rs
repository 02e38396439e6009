//! What came late of losses that are told of already.
//!
//! A second is closed three seconds after it began. Where an agent was cut off, its slots are told minutes later: what it
//! lost then belongs to the incident of that time, be it there or over.

use aviary_core::{
    Second, Span, Timestamp, Window,
    detect::Tally,
    incident::{Counts, Event},
    ledger::by_second::SECONDS,
};

use super::{Asked, State, groups::Groups};
use crate::closed_until;

/// A loss of a service that what comes late may change.
#[derive(Clone, Debug)]
pub(crate) struct LateAsked {
    pub(crate) service: String,
    /// From its onset to its end, or to now.
    pub(crate) life: Span,
    /// It has an end: nobody counts it any more.
    pub(crate) is_over: bool,
    /// The seconds with loss that are known.
    pub(crate) lost: Vec<Span>,
    /// What was counted.
    pub(crate) counts: Counts,
}

impl State {
    /// What is to be set right of losses after something was told of the seconds of `told`.
    pub(super) fn late_losses(
        &self,
        groups: &Groups,
        told: &[Span],
        asked: &Asked,
        now: Timestamp,
    ) -> Vec<Event> {
        let held = Span::new(self.ledger.held().from, closed_until(now));
        let touching = |life: Span| {
            let parts = told.iter().map(move |span| span.intersection(life).intersection(held));
            parts.filter(|part| !part.is_empty()).reduce(crate::state::schedule::hull)
        };
        let touched = asked.late.iter().filter_map(|late| Some((late, touching(late.life)?)));
        let events = touched.filter_map(|(late, changed)| {
            let cells = groups.services.get(&late.service)?.cells.clone();
            let cells: Vec<u32> = cells.map(|cell| cell as u32).collect();
            let (mut spans, mut new): (Vec<Span>, Counts) = (Vec::new(), Counts::default());
            groups.each_second(&self.ledger, changed, &cells, |from, each: &[Tally; SECONDS], seconds| {
                for (second, tally) in (from.0..).map(Second).zip(each).take(seconds) {
                    if tally.lost == 0 || !told.iter().any(|span| span.contains(second)) {
                        continue;
                    }
                    if !late.lost.iter().any(|span| span.contains(second)) {
                        new =
                            Counts { judged: new.judged + tally.judged, lost: new.lost + tally.lost, ..new };
                    } else if !late.is_over {
                        continue;
                    }
                    match spans.last_mut() {
                        Some(last) if last.until == second => last.until = second.plus(1),
                        _ => spans.push(Span::new(second, second.plus(1))),
                    }
                }
            });
            let first = spans.first()?.from;
            // The ledger tells the whole of it, or what is new is added to what was counted of what it holds no more.
            let counts = if late.life.from >= held.from {
                let windows = groups.sums(&self.ledger, late.life.intersection(held));
                let window: Window = cells.iter().map(|cell| windows[*cell as usize]).sum();
                Counts { judged: window.judged(), lost: window.lost, late: window.late }
            } else {
                let Counts { judged, lost, late } = late.counts;
                Counts { judged: judged + new.judged, lost: lost + new.lost, late }
            };
            if new.lost == 0 && counts.lost <= late.counts.lost {
                return None;
            }
            tracing::info!(service = late.service, %first, lost = counts.lost, "Losses were told late.");
            Some(Event::Late { service: late.service.clone(), lost_seconds: spans, counts })
        });
        events.collect()
    }
}
