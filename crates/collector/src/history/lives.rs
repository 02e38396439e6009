//! When each series was scheduled, muted, and by what its delivery was shown: what the sums of stored slots need beside
//! the slots.

use std::{collections::BTreeMap, sync::Arc};

use aviary_core::{Ledger, Second, SeriesId, Span, window::Proof};

/// The most changes of what shows delivery that are remembered of one series.
const PROOFS_MAX: usize = 64;

/// What showed delivery of sealed slots, of the few series for which that was changed.
///
/// A service that is read back from today on was not read back last month: sealed slots stay judged by what was known
/// to show delivery when they were sealed.
#[derive(Clone, Debug, Default)]
pub(crate) struct FormerProofs(BTreeMap<SeriesId, Vec<(Second, Proof)>>);

impl FormerProofs {
    /// Until `until`, `proof` showed delivery of `series`.
    pub(crate) fn note(&mut self, series: SeriesId, until: Second, proof: Proof) {
        let known = self.0.entry(series).or_default();
        if known.last().is_some_and(|(before, _)| *before >= until) {
            return;
        }
        known.push((until, proof));
        known.drain(..known.len().saturating_sub(PROOFS_MAX));
    }

    /// Of one series, in order.
    pub(crate) fn of(&self, series: SeriesId) -> &[(Second, Proof)] {
        self.0.get(&series).map_or(&[], Vec::as_slice)
    }
}

/// When each series was scheduled, muted, and by what its delivery was shown, as it is known at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives {
    spans: Vec<Span>,
    proofs: Vec<Proof>,
    former: FormerProofs,
    pauses: BTreeMap<SeriesId, Arc<[Span]>>,
}

impl Lives {
    pub(crate) fn new(ledger: &Ledger, former: &FormerProofs) -> Self {
        let ids = || (0..ledger.len() as u32).map(SeriesId);
        Self {
            spans: ids().map(|id| ledger.life(id)).collect(),
            proofs: ids().map(|id| ledger.proof(id)).collect(),
            former: former.clone(),
            pauses: ledger.paused().map(|(id, pauses)| (id, pauses.into())).collect(),
        }
    }

    /// When `series` was scheduled; never, if it is not known.
    pub(crate) fn span(&self, series: SeriesId) -> Span {
        self.spans.get(series.0 as usize).copied().unwrap_or(Span::new(Second(0), Second(0)))
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The parts of `span` with what showed delivery of `series` in them.
    pub(crate) fn proofs(&self, series: SeriesId, span: Span) -> impl Iterator<Item = (Span, Proof)> {
        let now = self.proofs.get(series.0 as usize).copied().unwrap_or_default();
        let former = self.former.of(series).iter().copied().chain([(Second(u64::MAX), now)]);
        let mut from = span.from;
        former
            .map(move |(until, proof)| {
                let part = Span::new(from, until.min(span.until));
                from = from.max(part.until);
                (part, proof)
            })
            .filter(|(part, _)| !part.is_empty())
    }

    /// Where in `span` agents were told not to probe `series` while it lived.
    pub(crate) fn muted(&self, series: SeriesId, span: Span) -> impl Iterator<Item = Span> {
        let pauses = self.pauses.get(&series).map_or(&[][..], |pauses| &pauses[..]);
        let span = span.intersection(self.span(series));
        pauses[pauses.partition_point(|pause| pause.until <= span.from)..]
            .iter()
            .take_while(move |pause| pause.from < span.until)
            .map(move |pause| pause.intersection(span))
            .filter(|part| !part.is_empty())
    }

    /// The series that were ever muted.
    pub(crate) fn paused(&self) -> impl Iterator<Item = SeriesId> {
        self.pauses.keys().copied()
    }

    /// Whether `series` was ever muted.
    pub(crate) fn is_paused(&self, series: SeriesId) -> bool {
        !self.pauses.is_empty() && self.pauses.contains_key(&series)
    }
}
