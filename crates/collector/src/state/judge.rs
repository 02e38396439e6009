//! Judging: what the newest closed seconds say of each service.
//!
//! Once a second, over closed seconds only, so that a verdict is a function of the ledger and the time.

use std::collections::BTreeMap;

use aviary_core::{
    Endpoint, Second, Span, Tag, Timestamp, Window,
    mark::{Mark, Storage},
    verdict::{self, JUDGED_SECONDS, SEEN_SECONDS, Sums, Verdict},
};

use super::State;
use crate::{closed_until, settled_until};

/// A service's verdict, and since when it has been that state.
pub(crate) struct Standing {
    pub(crate) verdict: Verdict,
    pub(crate) since: Second,
    pub(crate) span: Span,
    pub(crate) vantages_seen: usize,
    /// Why what is stored cannot be told, if it cannot, whatever the verdict is all the same.
    pub(crate) storage_untold: Option<String>,
}

impl State {
    /// Says of settled seconds that storage lacks what it has not shown; only of series that it has shown before.
    fn settle(&mut self, now: Timestamp) {
        let until = settled_until(now);
        let from = self.settled_until.max(self.untold_until.plus(1));
        for (series, first) in self.stored.proven() {
            let span = Span::new(from.max(first), until);
            if !span.is_empty() {
                self.ledger.merge_span(series, span, Mark::stored(Storage::NotStored));
            }
        }
        self.settled_until = self.settled_until.max(until);
    }

    /// Judges each service over the newest closed seconds.
    pub(crate) fn judge(&mut self, now: Timestamp) {
        self.advance(now);
        self.settle(now);
        self.hand_over();
        self.losses.forget_before(self.ledger.held().from);
        let span = Span::before(closed_until(now), JUDGED_SECONDS);
        let services = self.sums_by_service(span);
        self.standing.retain(|name, _| services.contains_key(name));
        for (name, mut sums) in services {
            sums.storage_untold = self.read_back.get(&name).and_then(|it| it.blind(now, span));
            sums.watched_seconds = now.second().0.saturating_sub(self.watching_since.0);
            let mut verdict = verdict::judge(&self.service(&name).policy, &sums);
            if verdict.state == verdict::State::Blind && verdict.reason.is_none() {
                verdict.reason = self.shared_name(&name);
            }
            let before = self.standing.get(&name).map(|standing| (standing.verdict.state, standing.since));
            let since = match before {
                Some((state, since)) if state == verdict.state => since,
                _ => now.second(),
            };
            if let Some((before, _)) = before
                && before != verdict.state
            {
                let (lost, judged) = (verdict.window.lost, verdict.window.judged());
                let state = verdict.state;
                let reason = verdict.reason.as_deref();
                tracing::info!(service = name, %state, %before, lost, judged, reason, "The service's state changed.");
            }
            let Sums { vantages_seen, storage_untold, .. } = sums;
            self.standing.insert(name, Standing { verdict, since, span, vantages_seen, storage_untold });
        }
    }

    /// What there is to judge of each service that is configured or reported. A series that has ended is judged no
    /// more: what nobody probes is neither silent nor well.
    fn sums_by_service(&self, span: Span) -> BTreeMap<String, Sums> {
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        let by_vantage = [Tag::Service, Tag::Kind, Tag::Region, Tag::Zone, Tag::Network, Tag::Node];
        let goes_on = |id| self.ledger.life(id).until >= span.until;
        let vantages = self.catalog.group(&by_vantage, goes_on);
        let seen = Span::before(span.until, SEEN_SECONDS);
        let seen = self.ledger.sums(seen, &vantages.group_of, vantages.values.len());
        for (values, window) in vantages.values.iter().zip(&seen) {
            let is_seen = window.unknown < window.scheduled;
            sums.entry(values[0].clone()).or_default().vantages_seen += usize::from(is_seen);
        }
        let endpoints = self.catalog.group(&[Tag::Service, Tag::Endpoint], goes_on);
        let windows = self.ledger.sums(span, &endpoints.group_of, endpoints.values.len());
        for (values, window) in endpoints.values.iter().zip(windows) {
            // The catalog's texts of this tag are endpoints.
            let Ok(endpoint) = values[1].parse::<Endpoint>() else { continue };
            let configured = self.configured.get(&values[0]);
            let required = configured.is_none_or(|service| service.requires(&endpoint));
            sums.entry(values[0].clone()).or_default().endpoints.push((endpoint, window, required));
        }
        for (name, service) in &self.configured {
            let sums = sums.entry(name.clone()).or_default();
            for (endpoint, required) in &service.endpoints {
                if !sums.endpoints.iter().any(|(known, ..)| known == endpoint) {
                    sums.endpoints.push((endpoint.clone(), Window::default(), *required));
                }
            }
            sums.endpoints.sort_by(|left, right| left.0.cmp(&right.0));
        }
        sums
    }
}
