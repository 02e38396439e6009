//! Which series an agent had when, from the rosters that it told.
//!
//! A roster says: from its `since` on, until the next roster's, these are all series of the agent. What follows is a
//! function of the set of rosters and not of the order in which they came: one that waited in a spool and arrives after
//! its successors neither brings back what they ended nor ends what they began.

mod kept;

use std::{collections::BTreeMap, iter, sync::Arc};

use aviary_core::{Ledger, Second, SeriesId, Span, Timestamp};

/// The most statements that are kept of one agent. The ledger keeps what those before said.
const STATEMENTS_MAX: usize = 32;

/// So long a roster may be late, and still say as much as if it had come in time.
const LATE_SECONDS: u64 = 3_600;

/// From `since` on these are all series of an agent.
#[derive(Clone)]
pub(super) struct Statement {
    pub(super) since: Second,
    /// The agent's clock when it said so: among two statements of one second the later counts.
    pub(super) told: Timestamp,
    pub(super) roster_id: u64,
    /// Which life of the agent said so.
    pub(super) boot: u64,
    /// Each series, with its first full slot.
    pub(super) series: Arc<[(SeriesId, Second)]>,
}

/// What an agent stated, in order.
#[derive(Default)]
pub(super) struct Schedule {
    statements: Vec<Statement>,
    /// Statements up to here were forgotten: the ledger has what they said.
    forgotten_until: Second,
    /// Where the first that was not forgotten begins: of what is before, the ledger knows more than is left here.
    settled_until: Second,
}

impl Schedule {
    /// Whether a statement from `since` on was forgotten, or would be.
    pub(super) fn is_past(&self, since: Second) -> bool {
        since <= self.forgotten_until
    }

    /// Adds a statement, and returns whether that says anything new.
    pub(super) fn state(&mut self, statement: Statement) -> bool {
        match self.statements.iter_mut().find(|known| known.roster_id == statement.roster_id) {
            Some(known) if known.told <= statement.told => return false,
            Some(known) => known.told = statement.told,
            None => self.statements.push(statement),
        }
        self.statements.sort_by_key(|statement| (statement.since, statement.told, statement.roster_id));
        true
    }

    /// Takes back what other lives stated to hold after `since`, from where the life `boot`, which is the agent's newest,
    /// states otherwise: their clock was ahead. If there was such, returns the span of what that may have changed.
    pub(super) fn overrule(&mut self, boot: u64, since: Second, ledger: &mut Ledger) -> Option<Span> {
        let is_wrong = |statement: &Statement| statement.since > since && statement.boot != boot;
        if !self.statements.last().is_some_and(is_wrong) {
            return None;
        }
        let mut changed = Span::new(Second(u64::MAX), Second(0));
        for statement in self.statements.extract_if(.., |statement| is_wrong(statement)) {
            changed = hull(changed, only_what_is_told(ledger, statement.series.iter().copied()));
        }
        Some(changed)
    }

    /// Tells the ledger when each series that any statement names was scheduled. Returns the span outside of which
    /// nothing is muted or not other than it was.
    pub(super) fn apply(&mut self, ledger: &mut Ledger) -> Span {
        let mut changed = Span::new(Second(u64::MAX), Second(0));
        let Some(first) = self.statements.first().map(|statement| statement.since) else { return changed };
        let base = first.max(self.settled_until);
        let mut presence: BTreeMap<SeriesId, Vec<(usize, Second)>> = BTreeMap::new();
        for (place, statement) in self.statements.iter().enumerate() {
            for (series, from) in &*statement.series {
                presence.entry(*series).or_default().push((place, *from));
            }
        }
        for (series, present) in presence {
            let (pauses, until) = self.life(&present);
            let born = ledger.life(series).from;
            let later = pauses.into_iter().map(|pause| Span::new(pause.from.max(base), pause.until));
            // What ended a series that comes back may be forgotten, and the ledger alone knows since when it was gone.
            let gone = Span::new(if until > base { ledger.ends(series) } else { base }, base);
            let pauses: Vec<_> = iter::once(gone)
                .chain(later)
                .filter(|pause| pause.until > born && !pause.is_empty())
                .collect();
            let repaused = ledger.pause(series, base.min(gone.from), &pauses);
            if !repaused.is_empty() {
                changed = hull(changed, repaused);
            }
            // Without those that were forgotten, a series seems to have gone on until the first that was not.
            if until > self.settled_until || ledger.life(series).until == Second(u64::MAX) {
                ledger.end(series, until);
            }
        }
        self.forget(ledger.held().from.minus(LATE_SECONDS));
        changed
    }

    /// The pauses and the end of a series that is in the statements at these places, each with its first full slot.
    fn life(&self, present: &[(usize, Second)]) -> (Vec<Span>, Second) {
        let mut pauses = Vec::new();
        let mut next = 0;
        for (place, from) in present {
            if *place > next {
                let resumed = self.statements[*place].since.max(*from);
                pauses.push(Span::new(self.statements[next].since, resumed));
            }
            next = place + 1;
        }
        let until = self.statements.get(next).map_or(Second(u64::MAX), |statement| statement.since);
        (pauses, until)
    }

    /// Forgets what only speaks of seconds before `oldest`, and the oldest of too many.
    fn forget(&mut self, oldest: Second) {
        let past = self.statements.iter().skip(1).take_while(|next| next.since <= oldest).count();
        let beyond = self.statements.len().saturating_sub(STATEMENTS_MAX);
        for forgotten in self.statements.drain(..past.max(beyond)) {
            self.forgotten_until = self.forgotten_until.max(forgotten.since);
        }
        if let Some(first) = self.statements.first()
            && first.since > self.forgotten_until
            && self.forgotten_until > Second(0)
        {
            self.settled_until = self.settled_until.max(first.since);
        }
    }
}

/// Of these series only what is told of them counts: nobody whom to believe says that they are scheduled. Returns the
/// span of their pauses, which may now lie beyond their lives.
pub(super) fn only_what_is_told(
    ledger: &mut Ledger,
    series: impl Iterator<Item = (SeriesId, Second)>,
) -> Span {
    let mut changed = Span::new(Second(u64::MAX), Second(0));
    for (series, from) in series {
        changed = ledger.pauses(series).iter().copied().fold(changed, hull);
        // Where it had ended before, nobody whom to believe said that it goes on.
        ledger.end(series, from.min(ledger.ends(series)));
    }
    changed
}

/// The least span that holds both.
pub(super) fn hull(one: Span, other: Span) -> Span {
    Span::new(one.from.min(other.from), one.until.max(other.until))
}
