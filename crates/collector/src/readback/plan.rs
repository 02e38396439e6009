//! Which seconds of which series a reader is asked, and what may be concluded from its answers: pure, with time as an
//! argument.
//!
//! **The tail** is asked once a second: the seconds that are closed and not yet read twice, the second time after they
//! settled. **Sweeps** ask again for what left the tail without being stored, piece by piece and twice each: what nobody
//! could read while the reader was away, and what was stored late. Slots of many seconds are read by sweeps alone.
//!
//! What is shown counts as stored when it is shown again two seconds later: carbon shows what it only holds in memory,
//! and loses that when it is stopped. What is null counts as not stored when it is null in two answers in a row, the
//! later one made after it settled, and never from an answer that is slow, leaves out a series that it had shown, or lacks
//! what it had shown. A slow one that shows all that was sent and has settled tells that of it, and nothing of what is newer.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use aviary_core::{Second, SeriesId, Span, Timestamp};

use super::{
    health::{Health, Seen, is_slow},
    reader::{Said, Unreadable},
    ring::{self, Ring, Seconds},
    sweep::First,
};
use crate::closed_until;

/// The tail is asked for in spans of at least so many seconds, so that an answer shows how large its slots are.
const TAIL_SECONDS_MIN: u64 = 8;

/// The tail holds no more than this; what is older waits for a sweep.
const TAIL_SECONDS_MAX: u64 = ring::SECONDS - TAIL_SECONDS_MIN;

/// After so long what is shown is on disk: carbon's writer sleeps for a second.
const WRITTEN_AFTER_US: u64 = 2_000_000;

/// The tail may be so many seconds longer than what has not settled, before it is behind.
const BEHIND_SECONDS: u64 = 5;

mod sweeping;

/// What the plan must know of the ledger.
pub(crate) trait Slots {
    /// The seconds that are held.
    fn held(&self) -> Span;
    /// Whether the series is scheduled in any second of the span, and its name is its own.
    fn is_asked(&self, series: SeriesId, span: Span) -> bool;
    /// Whether storage has not shown each second of the span in which the series is scheduled.
    fn lacks(&self, series: SeriesId, span: Span) -> bool;
    /// Whether the sender sent the datapoint of this second in time, as far as it can see.
    fn is_sent(&self, series: SeriesId, second: Second) -> bool;
}

/// How a service is read back, as far as the plan must know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The seconds of a slot.
    pub(crate) resolution: u64,
    /// So long after it was closed, a second has settled.
    pub(crate) settle: u64,
    /// How many of the newest seconds the reader keeps to itself.
    pub(crate) hidden: u64,
}

/// One question to a reader.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) span: Span,
    pub(crate) at: Timestamp,
    series: Arc<[usize]>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tail,
    Sweep,
}

/// What follows from the answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Conclusion {
    /// Storage has it.
    Stored(SeriesId, Second),
    /// It settled, and storage lacks it.
    NotStored(SeriesId, Second),
    /// A slot of many seconds holds so many datapoints.
    Counted(SeriesId, Span, u64),
}

/// What was counted of what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Datapoints beyond the one of their second.
    pub(crate) duplicates: u64,
    /// Datapoints whose value is not 1, nor a sum of ones.
    pub(crate) mangled: u64,
}

struct Track {
    id: SeriesId,
    name: Arc<str>,
    /// Storage has shown a value of it.
    is_proven: bool,
    ring: Ring,
}

/// The plan of one service.
pub(crate) struct Plan {
    pace: Pace,
    tracks: Vec<Track>,
    by_id: HashMap<SeriesId, usize>,
    health: Health,
    counts: Counts,
    /// Before this, the tail is done.
    open_from: Second,
    /// Before this, one answer that may be believed has spoken.
    seen_until: Second,
    /// The rings hold the seconds before this.
    ring_until: Second,
    tail_at: Option<Timestamp>,
    /// What fell off the tail unread.
    gaps: VecDeque<Span>,
    sweep: Option<Sweep>,
    /// Where the next sweep goes on, from new to old.
    cursor: Second,
    /// The first series of the next sweep, where the piece has more than are asked for at once.
    next_series: usize,
}

struct Sweep {
    span: Span,
    series: Arc<[usize]>,
    /// Whether those are all that there was to ask.
    is_whole: bool,
    first: Option<First>,
}

impl Plan {
    pub(crate) fn new(pace: Pace, now: Timestamp) -> Self {
        let begins = closed_until(now).minus(pace.hidden);
        Self {
            pace,
            tracks: Vec::new(),
            by_id: HashMap::new(),
            health: Health::default(),
            counts: Counts::default(),
            open_from: begins,
            seen_until: begins,
            ring_until: begins,
            tail_at: None,
            gaps: VecDeque::new(),
            sweep: None,
            cursor: Second(0),
            next_series: 0,
        }
    }

    /// From now on the datapoints of `series` are called `name`.
    pub(crate) fn carry(&mut self, series: SeriesId, name: &str) {
        if let Some(index) = self.by_id.get(&series) {
            let track = &mut self.tracks[*index];
            if *track.name != *name {
                *track = Track { id: series, name: name.into(), is_proven: false, ring: Ring::default() };
            }
            return;
        }
        self.by_id.insert(series, self.tracks.len());
        self.tracks.push(Track { id: series, name: name.into(), is_proven: false, ring: Ring::default() });
    }

    /// Takes another pace; what was read stays.
    pub(crate) fn set_pace(&mut self, pace: Pace) {
        if self.pace.resolution != pace.resolution {
            self.sweep = None;
        }
        self.pace = pace;
    }

    /// The questions to ask now, at most one of each kind.
    pub(crate) fn questions(&mut self, now: Timestamp, slots: &impl Slots) -> Vec<Question> {
        if !self.health.may_ask(now) {
            return Vec::new();
        }
        let tail = if self.pace.resolution == 1 { self.tail(now, slots) } else { None };
        let sweep = self.sweep(now, slots);
        tail.into_iter().chain(sweep).collect()
    }

    /// Takes the answer to `question`, which came `took_us` after it was asked; returns what follows.
    pub(crate) fn answered(
        &mut self,
        question: &Question,
        said: &[Said],
        took_us: u64,
        slots: &impl Slots,
    ) -> Vec<Conclusion> {
        match question.kind {
            Kind::Tail => self.tail_answered(question, said, took_us, slots),
            Kind::Sweep => self.sweep_answered(question, said, took_us).unwrap_or_default(),
        }
    }

    /// Nobody answered `question`.
    pub(crate) fn failed(&mut self, question: &Question, error: &Unreadable) {
        self.health.failed(question.at, error.to_string());
        if question.kind == Kind::Sweep {
            self.sweep = None;
        }
    }

    /// Nobody can be asked, for this reason.
    pub(crate) fn unusable(&mut self, now: Timestamp, reason: String) {
        self.health.unusable(now, reason);
    }

    /// A datapoint was shown after it had been taken for not stored, though it was sent in time.
    pub(crate) fn shown_late(&mut self, now: Timestamp) {
        self.health.shown_late(now);
    }

    /// Why the seconds of `judged` cannot be told, if they cannot.
    pub(crate) fn blind(&self, now: Timestamp, judged: Span) -> Option<String> {
        let unread = |span: Span| {
            let Span { from, until } = span.intersection(judged);
            format!("what was stored from second {from} to {until} is still to be read")
        };
        self.health.blind(now, self.pace.settle).or_else(|| {
            let open = Span::new(self.open_from, self.settled(now).minus(BEHIND_SECONDS));
            let open = Some(open).filter(|_| self.tail_at.is_some());
            let spans = open.into_iter().chain(self.gaps.iter().copied());
            spans.into_iter().find(|span| !span.intersection(judged).is_empty()).map(unread)
        })
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many series it reads, and how many of them storage has shown.
    pub(crate) fn series(&self) -> (usize, usize) {
        (self.tracks.len(), self.tracks.iter().filter(|track| track.is_proven).count())
    }

    /// When an answer was last taken that may be believed.
    pub(crate) const fn answered_at(&self) -> Option<Timestamp> {
        self.health.answered_at()
    }

    fn closed(&self, now: Timestamp) -> Second {
        closed_until(now).minus(self.pace.hidden)
    }

    fn settled(&self, now: Timestamp) -> Second {
        self.closed(now).minus(self.pace.settle)
    }

    fn tail(&mut self, now: Timestamp, slots: &impl Slots) -> Option<Question> {
        let until = self.closed(now);
        // The same second again, or a clock that was set back.
        if until < self.ring_until || (until == self.ring_until && self.tail_at.is_some()) {
            return None;
        }
        self.enter(Span::new(self.ring_until.max(until.minus(ring::SECONDS)), until));
        let oldest = until.minus(TAIL_SECONDS_MAX);
        if self.open_from < oldest {
            self.gaps.push_front(Span::new(self.open_from, oldest));
            self.open_from = oldest;
        }
        let span = Span::new(self.open_from.min(until.minus(TAIL_SECONDS_MIN)), until);
        let series: Arc<[usize]> = self.asked(span, slots, 0, usize::MAX, |_| true).into();
        if series.is_empty() {
            // Nobody is there to be read.
            self.open_from = self.settled(now).max(self.open_from);
            self.seen_until = until;
            self.health.idle();
            return None;
        }
        Some(self.question(series, span, now, Kind::Tail))
    }

    /// The seconds of `span` take the places of others.
    fn enter(&mut self, span: Span) {
        let places = Seconds::in_span(span);
        self.tracks.iter_mut().for_each(|track| track.ring.forget(places));
        self.ring_until = span.until;
    }

    fn asked(
        &self,
        span: Span,
        slots: &impl Slots,
        first: usize,
        limit: usize,
        wanted: impl Fn(SeriesId) -> bool,
    ) -> Vec<usize> {
        let tracks = (0..).zip(&self.tracks).skip(first);
        let tracks = tracks.filter(|(_, track)| slots.is_asked(track.id, span) && wanted(track.id));
        tracks.map(|(index, _)| index).take(limit).collect()
    }

    fn question(&self, series: Arc<[usize]>, span: Span, at: Timestamp, kind: Kind) -> Question {
        let names = series.iter().map(|index| Arc::clone(&self.tracks[*index].name)).collect();
        Question { names, span, at, series, kind }
    }

    fn tail_answered(
        &mut self,
        question: &Question,
        said: &[Said],
        took_us: u64,
        slots: &impl Slots,
    ) -> Vec<Conclusion> {
        let asked = Seconds::in_span(question.span);
        let there: Vec<Option<Seconds>> = said.iter().map(|said| seconds(said, question.span)).collect();
        let contradicts = question.series.iter().zip(&there).any(|(index, there)| {
            there.is_some_and(|there| !self.tracks[*index].ring.contradicted(asked, there).is_empty())
        });
        let settled = Span::new(question.span.from, self.settled(question.at).min(question.span.until));
        let is_slow = is_slow(said.len(), took_us);
        let shows_all_sent = is_slow && self.shows_all_sent(question, settled, &there, slots);
        let believed = self.believed(question, said, took_us, shows_all_sent, contradicts);
        let closes = believed && !self.health.is_doubted(question.at);
        let is_late = self.tail_at.is_some_and(|at| question.at.since(at) >= WRITTEN_AFTER_US);
        self.tail_at = Some(question.at);
        let mut conclusions = Vec::new();
        for ((index, said), there) in question.series.iter().zip(said).zip(&there) {
            let Some(there) = *there else { continue };
            let track = &mut self.tracks[*index];
            track.is_proven |= !there.is_empty();
            let follows = track.ring.answer(asked, there, is_late, believed && !is_slow);
            if let (false, Said::Slots(slots)) = (follows.stored.is_empty(), said) {
                let stored = slots.iter().filter(|(second, _)| follows.stored.has(*second));
                for (second, value) in stored {
                    self.counts.note(*value);
                    conclusions.push(Conclusion::Stored(track.id, *second));
                }
            }
            if closes && track.is_proven && !follows.lacking.is_empty() {
                let lacking = settled.iter().filter(|second| follows.lacking.has(*second));
                conclusions.extend(lacking.map(|second| Conclusion::NotStored(track.id, second)));
            }
        }
        if closes && is_slow {
            // What it shows is stored once it is shown again; what it lacks was not sent, or not told yet, and is left to sweeps.
            let shown_once = self.shown_once(question, settled, &there);
            self.open_from = self.open_from.max(shown_once.unwrap_or(settled.until));
        } else if closes {
            self.open_from = self.open_from.max(self.settled(question.at).min(self.seen_until));
            self.seen_until = question.span.until;
        }
        self.shorten_coarse(question, said);
        conclusions
    }

    /// Whether an answer that shows these seconds of each series lacks none that was sent and has settled.
    fn shows_all_sent(
        &self,
        question: &Question,
        settled: Span,
        there: &[Option<Seconds>],
        slots: &impl Slots,
    ) -> bool {
        question.series.iter().zip(there).all(|(index, there)| {
            let track = &self.tracks[*index];
            let Some(there) = *there else { return true };
            let lacking = track.ring.not_stored(Seconds::in_span(settled)).without(there);
            lacking.is_empty()
                || !settled.iter().any(|second| lacking.has(second) && slots.is_sent(track.id, second))
        })
    }

    /// The first second that has settled, is shown, and is not known to be stored, if there is one.
    fn shown_once(&self, question: &Question, settled: Span, there: &[Option<Seconds>]) -> Option<Second> {
        let of_one = |(index, there): (&usize, &Option<Seconds>)| {
            let shown = self.tracks[*index].ring.not_stored((*there)?);
            settled.iter().find(|second| shown.has(*second))
        };
        question.series.iter().zip(there).filter_map(of_one).min()
    }

    /// A storage that keeps single seconds for a minute or two answers a longer tail in larger slots: what is old in it
    /// is left to sweeps, so that what is new can be read.
    fn shorten_coarse(&mut self, question: &Question, said: &[Said]) {
        let coarse = said.iter().filter(|said| matches!(said, Said::Coarse(_))).count();
        let short = question.span.until.minus(self.pace.settle + TAIL_SECONDS_MIN);
        if coarse * 2 > said.len() && self.open_from < short {
            self.gaps.push_front(Span::new(self.open_from, short));
            self.open_from = short;
        }
    }

    /// Whether what is null in this answer may be believed.
    fn believed(
        &mut self,
        question: &Question,
        said: &[Said],
        took_us: u64,
        shows_all_sent: bool,
        contradicts: bool,
    ) -> bool {
        let series = said.len();
        let mut seen = Seen { series, took_us, shows_all_sent, contradicts, ..Seen::default() };
        for (index, said) in question.series.iter().zip(said) {
            let track = &self.tracks[*index];
            match said {
                Said::Absent => seen.gone += usize::from(track.is_proven),
                Said::Coarse(step) => {
                    seen.coarse += 1;
                    seen.coarsest = Some((Arc::clone(&track.name), *step));
                }
                Said::Slots(_) => seen.told += 1,
            }
        }
        // Of a sweep that goes further back than its storage keeps single seconds, coarse slots are no wonder.
        let is_old = question.kind == Kind::Sweep && self.pace.resolution == 1;
        self.health.answered(question.at, &seen, is_old)
    }
}

impl Counts {
    /// Notes what one second holds.
    fn note(&mut self, value: f64) {
        if value == 1.0 {
        } else if value > 1.0 && value.fract() == 0.0 && value < 1e9 {
            self.duplicates += value as u64 - 1;
        } else {
            self.mangled += 1;
        }
    }
}

/// The seconds of `span` that an answer shows; `None` where it tells nothing of single ones.
fn seconds(said: &Said, span: Span) -> Option<Seconds> {
    let Said::Slots(slots) = said else { return None };
    let inside = slots.iter().filter(|(second, _)| span.contains(*second));
    Some(inside.fold(Seconds::default(), |seconds, (second, _)| seconds.or(Seconds::of(*second))))
}

/// The pace at which a reader that is well is asked.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
