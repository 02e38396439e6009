//! What is counted of a loss, since it began.

use aviary_core::{Second, Span, Window, incident::Counts};

use super::{Asked, Read, State, Watch, groups::Groups};

/// What happened this long ago is counted for good.
const COUNTED_AFTER_SECONDS: u64 = 600;

/// What is counted of a loss.
pub(super) struct Counting {
    since: Second,
    /// Up to `until`.
    counts: Counts,
    until: Second,
}

impl Watch {
    /// What was counted for good before something was told of `told` is counted again, where the ledger holds all of it.
    pub(super) fn count_again(&mut self, told: &[Span], held_from: Second) {
        self.counting.retain(|_, counting| {
            let counted = Span::new(counting.since, counting.until);
            counting.since < held_from || told.iter().all(|span| span.intersection(counted).is_empty())
        });
    }
}

impl State {
    /// What was counted of a service since its loss began.
    pub(super) fn count(
        &self,
        name: &str,
        groups: &Groups,
        watch: &mut Watch,
        asked: &Asked,
        read: &mut Read,
        until: Second,
    ) -> Counts {
        let Some((since, counts, counted_until)) = asked.since.get(name).copied() else {
            return Counts::default();
        };
        let counting = watch.counting.entry(name.to_owned()).or_insert_with(|| {
            // Of an earlier life's count the ledger may know the most again.
            let from = self.ledger.held().from;
            if since >= from {
                Counting { since, counts: Counts::default(), until: since }
            } else {
                Counting { since, counts, until: counted_until.max(from) }
            }
        });
        if counting.since > since {
            *counting =
                Counting { since, counts: Counts::default(), until: since.max(self.ledger.held().from) };
        }
        let mut sum = |span: Span| {
            // Services that began to lose together are read together.
            let windows = read.windows.entry(span).or_insert_with(|| groups.sums(&self.ledger, span));
            let cells = groups.services.get(name).map_or(0..0, |judged| judged.cells.clone());
            let window: Window = windows[cells].iter().copied().sum();
            Counts { judged: window.judged(), lost: window.lost, late: window.late }
        };
        let add = |left: Counts, right: Counts| Counts {
            judged: left.judged + right.judged,
            lost: left.lost + right.lost,
            late: left.late + right.late,
        };
        // In steps, so that those that began apart are read together by and by.
        let settled = Second(until.minus(COUNTED_AFTER_SECONDS).0 / 60 * 60);
        if counting.until < settled {
            counting.counts = add(counting.counts, sum(Span::new(counting.until, settled)));
            counting.until = settled;
        }
        add(counting.counts, sum(Span::new(counting.until, until)))
    }
}
