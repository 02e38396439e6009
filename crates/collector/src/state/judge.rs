//! Judging: what the newest closed seconds say of each service.
//!
//! Once a second, over closed seconds only, so that a verdict is a function of the ledger and the time. The newest minute
//! says whether a service can be judged, and what is lost of its parts; whether what is lost is more than chance, windows of
//! all lengths say ([`super::watch`]).

use std::{borrow::Cow, collections::BTreeMap};

use aviary_core::{
    Catalog, Endpoint, Second, SeriesId, Span, Tag, Timestamp, Window,
    catalog::Grouping,
    ledger::NO_GROUP,
    mark::{Mark, Storage},
    vantage::VantageKind,
    verdict::{self, JUDGED_SECONDS, KindSums, SEEN_SECONDS, Sums, Verdict},
};

use super::State;
use crate::{ServiceOptions, closed_until, settled_until};

/// How many kinds of vantage there are.
const KINDS: usize = VantageKind::ALL.len();

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
            let policy = self.configured.get(&name).map(|service| Cow::Borrowed(&service.policy));
            let mut verdict = verdict::judge(&policy.unwrap_or_default(), &sums);
            // Enough is known to judge by: then windows of all lengths tell loss from chance, and the minute does not.
            let is_judged = matches!(
                verdict.state,
                verdict::State::Healthy | verdict::State::Degraded | verdict::State::Down
            );
            if is_judged && sums.storage_untold.is_none() {
                verdict.state = self.watch.says(&name).unwrap_or(verdict.state);
                verdict.reason = self.watch.set_apart(&name).cloned().or(verdict.reason);
            }
            if verdict.state == verdict::State::Blind && sums.storage_untold.is_none() {
                // Whose seconds nobody can look up is not seen either, though it reports.
                verdict.reason = self.shared_name(&name).or(verdict.reason);
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
    fn sums_by_service(&mut self, span: Span) -> BTreeMap<String, Sums> {
        let known = self.judged.take().filter(|judged| judged.series == self.catalog.len());
        let judged = known.unwrap_or_else(|| Judged::new(&self.catalog, &self.configured));
        let Judged { vantages, endpoints, of_service, .. } = &judged;
        let goes_on = |id| self.ledger.life(id).until >= span.until;
        let seen = Span::before(span.until, SEEN_SECONDS);
        let (by_vantage, _) = self.live_sums(seen, vantages, goes_on);
        // Of each kind of vantage, how many are seen of how many.
        let mut looking: BTreeMap<&str, [(usize, usize); KINDS]> = BTreeMap::new();
        let mut seen_from = Vec::with_capacity(by_vantage.len());
        for ((values, kind), window) in vantages.values.iter().zip(&judged.kinds).zip(&by_vantage) {
            let is_seen = window.unknown < window.scheduled;
            // Where nobody goes on, nobody is missed.
            seen_from.push((window.scheduled > 0).then_some(is_seen));
            let of_kind = &mut looking.entry(&values[0]).or_default()[*kind as usize];
            of_kind.0 += usize::from(is_seen);
            of_kind.1 += usize::from(window.scheduled > 0);
        }
        if judged.seen_from != seen_from {
            self.watch.forget_places();
            for (values, is_seen) in vantages.values.iter().zip(&seen_from) {
                if let Some(is_seen) = is_seen {
                    self.watch.note_place(&values[2], &values[5], &values[0], *is_seen);
                }
            }
        }
        let (windows, is_live) = self.live_sums(span, endpoints, goes_on);
        if judged.is_live != is_live {
            let live = endpoints.values.iter().zip(&is_live).filter(|(_, is_live)| **is_live);
            self.watch.note_endpoints(live.map(|(values, _)| values[1].clone()).collect());
        }
        let services = of_service.iter().filter_map(|(name, endpoints)| {
            let is_probed = |it: &&JudgedEndpoint| it.groups.iter().any(|(_, at)| is_live[*at]);
            let judged = || endpoints.iter().filter(|it| it.is_configured || is_probed(it));
            let window = |it: &JudgedEndpoint| it.groups.iter().map(|(_, at)| windows[*at]).sum();
            let endpoints: Vec<_> =
                judged().map(|it| (it.endpoint.clone(), window(it), it.is_required)).collect();
            let is_judged = !endpoints.is_empty() || self.configured.contains_key(name);
            let looking = looking.get(name.as_str()).copied().unwrap_or_default();
            let vantages_seen = looking.iter().map(|(seen, _)| seen).sum();
            let mut kinds: BTreeMap<VantageKind, KindSums> = BTreeMap::new();
            if looking.iter().filter(|(_, vantages)| *vantages > 0).count() > 1 {
                for (place, (kind, at)) in
                    (0..).zip(judged()).flat_map(|(place, it)| it.groups.iter().map(move |it| (place, it)))
                {
                    let (seen, vantages) = looking[*kind as usize];
                    if vantages > 0 {
                        let of_kind =
                            kinds.entry(*kind).or_insert(KindSums { vantages, seen, windows: Vec::new() });
                        of_kind.windows.push((place, windows[*at]));
                    }
                }
            }
            is_judged.then(|| (name.clone(), Sums { endpoints, kinds, vantages_seen, ..Sums::default() }))
        });
        let services = services.collect();
        self.judged = Some(Judged { seen_from, is_live, ..judged });
        services
    }

    /// The sums of those series of each group that `goes_on` accepts, and whether there is any.
    pub(super) fn live_sums(
        &self,
        span: Span,
        grouping: &Grouping,
        goes_on: impl Fn(SeriesId) -> bool,
    ) -> (Vec<Window>, Vec<bool>) {
        let mut is_live = vec![false; grouping.values.len()];
        let live = (0..).map(SeriesId).zip(&grouping.group_of).map(|(id, group)| {
            // Each series is in a group of those that were made for judging.
            is_live[*group as usize] |= goes_on(id);
            if goes_on(id) { *group } else { NO_GROUP }
        });
        let live: Vec<_> = live.collect();
        (self.ledger.sums(span, &live, grouping.values.len()), is_live)
    }
}

/// In which groups series are judged: the same from second to second, until others come or others are configured.
pub(crate) struct Judged {
    /// How many series are in it: a series stays what it is.
    series: usize,
    /// By service and vantage.
    vantages: Grouping,
    /// Of each group of vantages, their kind.
    kinds: Vec<VantageKind>,
    /// By service, endpoint and kind of vantage.
    endpoints: Grouping,
    /// Of each vantage, whether it was seen in the second before, where anybody goes on there: what is made of it stays
    /// until that changes.
    seen_from: Vec<Option<bool>>,
    /// Of each group of endpoints, whether anybody probed it then.
    is_live: Vec<bool>,
    /// The endpoints of each service that is configured or was reported, in order.
    of_service: BTreeMap<String, Vec<JudgedEndpoint>>,
}

struct JudgedEndpoint {
    endpoint: Endpoint,
    /// Where the series are that probe it, by the kind of their vantages; none if nobody ever did.
    groups: Vec<(VantageKind, usize)>,
    is_configured: bool,
    is_required: bool,
}

impl Judged {
    fn new(catalog: &Catalog, configured: &BTreeMap<String, ServiceOptions>) -> Self {
        let by_vantage = [Tag::Service, Tag::Kind, Tag::Region, Tag::Zone, Tag::Network, Tag::Node];
        let vantages = catalog.group(&by_vantage, |_| true);
        let endpoints = catalog.group(&[Tag::Service, Tag::Endpoint, Tag::Kind], |_| true);
        // The catalog's texts of this tag are names of kinds.
        let kind_of = |values: &Vec<String>, at: usize| values[at].parse().unwrap_or(VantageKind::External);
        let mut found: BTreeMap<String, BTreeMap<Endpoint, JudgedEndpoint>> = BTreeMap::new();
        for (name, service) in configured {
            let of_service = found.entry(name.clone()).or_default();
            for (endpoint, is_required) in &service.endpoints {
                let (endpoint, is_required) = (endpoint.clone(), *is_required);
                of_service.insert(
                    endpoint.clone(),
                    JudgedEndpoint { endpoint, groups: Vec::new(), is_configured: true, is_required },
                );
            }
        }
        for (group, values) in endpoints.values.iter().enumerate() {
            // The catalog's texts of this tag are endpoints.
            let Ok(endpoint) = values[1].parse::<Endpoint>() else { continue };
            let of_service = found.entry(values[0].clone()).or_default();
            let judged = of_service.entry(endpoint.clone()).or_insert(JudgedEndpoint {
                endpoint,
                groups: Vec::new(),
                is_configured: false,
                is_required: true,
            });
            judged.groups.push((kind_of(values, 2), group));
        }
        let of_service = found.into_iter().map(|(name, endpoints)| (name, endpoints.into_values().collect()));
        Self {
            series: catalog.len(),
            kinds: vantages.values.iter().map(|values| kind_of(values, 1)).collect(),
            vantages,
            endpoints,
            seen_from: Vec::new(),
            is_live: Vec::new(),
            of_service: of_service.collect(),
        }
    }
}
