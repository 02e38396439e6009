//! Whether a reader may be believed, and why not.

use std::{collections::VecDeque, sync::Arc};

use aviary_core::Timestamp;

/// A reader that fails for so long makes a verdict blind; a single failure is made up for by the next answer.
const BLIND_AFTER_US: u64 = 3_000_000;

/// The longest pause after failures.
const PAUSE_MAX_US: u64 = 8_000_000;

/// How many of the newest answers are looked at for contradictions, and how many may contradict an earlier one: carbon
/// moves points from memory to disk, and in between an answer may lack one.
const ANSWERS: u32 = 10;
const CONTRADICTIONS_MAX: u32 = 2;

/// An answer that took longer than this, and so much for each series, may have waited for carbon (a second for each series), and
/// then told what is on disk alone.
const SLOW_US: u64 = 900_000;
const SLOW_SERIES_US: u64 = 5_000;

/// So many datapoints that appear after they were taken for lost, within so long, and storage is slower than was thought.
const LATE_MAX: usize = 10;
const LATE_US: u64 = 30_000_000;

/// What an answer looked like.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Series that were asked for.
    pub(super) series: usize,
    /// Of those, told slot by slot.
    pub(super) told: usize,
    /// Left out, though they were shown before.
    pub(super) gone: usize,
    /// Kept in larger slots.
    pub(super) coarse: usize,
    /// One of these, with the seconds of its slots.
    pub(super) coarsest: Option<(Arc<str>, u64)>,
    pub(super) took_us: u64,
    /// It shows all that was sent and has settled; asked of slow answers alone.
    pub(super) shows_all_sent: bool,
    /// It lacks what was shown before.
    pub(super) contradicts: bool,
}

/// What is known of a reader.
#[derive(Default)]
pub(super) struct Health {
    failures: u32,
    next: Timestamp,
    /// Whether each of the newest answers contradicted an earlier one, the newest lowest.
    contradictions: u32,
    late: VecDeque<Timestamp>,
    trouble: Option<Trouble>,
    answered_at: Option<Timestamp>,
}

struct Trouble {
    since: Timestamp,
    /// It is no passing trouble.
    is_lasting: bool,
    reason: String,
}

/// Whether an answer for so many series took so long that what it lacks may be there.
pub(super) const fn is_slow(series: usize, took_us: u64) -> bool {
    took_us > SLOW_US + SLOW_SERIES_US * series as u64
}

impl Health {
    pub(super) fn may_ask(&self, now: Timestamp) -> bool {
        // A clock that was set back does not silence us for long.
        now >= self.next || self.next.since(now) > PAUSE_MAX_US
    }

    pub(super) const fn answered_at(&self) -> Option<Timestamp> {
        self.answered_at
    }

    pub(super) fn failed(&mut self, at: Timestamp, reason: String) {
        let pause = (500_000_u64 << self.failures.min(5)).min(PAUSE_MAX_US);
        self.failures += 1;
        self.next = at.plus(pause);
        self.trouble(at, false, reason);
    }

    /// There is nothing to ask for: that it went badly when there was is no matter any more.
    pub(super) fn idle(&mut self) {
        self.trouble = None;
    }

    pub(super) fn unusable(&mut self, now: Timestamp, reason: String) {
        self.next = now.plus(PAUSE_MAX_US);
        self.trouble(now, true, reason);
    }

    pub(super) fn shown_late(&mut self, now: Timestamp) {
        self.late.push_back(now);
        if self.late.len() > LATE_MAX {
            self.late.pop_front();
        }
    }

    /// Takes an answer to a question asked `at`; returns whether what it lacks may be believed. `is_old` tells that it was
    /// about seconds that need not be kept one by one any more.
    pub(super) fn answered(&mut self, at: Timestamp, seen: &Seen, is_old: bool) -> bool {
        self.failures = 0;
        self.contradictions = (self.contradictions << 1 | u32::from(seen.contradicts)) & ((1 << ANSWERS) - 1);
        let Some((reason, is_lasting)) = self.doubt(seen, is_old) else {
            // What is only old says nothing of how new seconds are kept.
            if is_old && seen.coarse > seen.told {
                return true;
            }
            self.trouble = None;
            self.answered_at = Some(at);
            return true;
        };
        // A single contradiction is what carbon does, and what is old may be read later: the next answer puts it right.
        if !reason.is_empty() {
            self.trouble(at, is_lasting, reason);
        }
        false
    }

    /// Whether nothing may be concluded from what is lacking, whatever the newest answer was like.
    pub(super) fn is_doubted(&self, now: Timestamp) -> bool {
        self.contradicts_often() || self.is_slow_to_show(now)
    }

    pub(super) fn blind(&self, now: Timestamp, settle: u64) -> Option<String> {
        if let Some(Trouble { since, is_lasting, reason }) = &self.trouble
            && (*is_lasting || now.since(*since) >= BLIND_AFTER_US)
        {
            return Some(reason.clone());
        }
        self.is_slow_to_show(now).then(|| {
            format!(
                "storage shows datapoints later than {settle} s after their second was closed: raise `settle`"
            )
        })
    }

    fn doubt(&self, seen: &Seen, is_old: bool) -> Option<(String, bool)> {
        let Seen { series, told, gone, coarse, coarsest, took_us, shows_all_sent, contradicts } = seen;
        if let Some((name, step)) = coarsest
            && coarse > told
            && !is_old
        {
            return Some((
                format!(
                    "{name} is stored in slots of {step} s, so that no single second can be read back: add the schema \
                     that `aviary graphite-schema CONFIG` prints, and remove the files of these series, which keep the \
                     slots that they began with"
                ),
                true,
            ));
        }
        if *gone > 0 {
            return Some((
                format!("the answers leave out {gone} of {series} series that were shown before"),
                false,
            ));
        }
        if !shows_all_sent && is_slow(*series, *took_us) {
            if is_old {
                return Some((String::new(), false));
            }
            let seconds = *took_us as f64 / 1e6;
            return Some((
                format!(
                    "an answer took {seconds:.1} s for {series} series, as where it waits for a storage that does not \
                     answer: what it lacks may be there"
                ),
                false,
            ));
        }
        if self.contradicts_often() {
            let count = self.contradictions.count_ones();
            let reason =
                format!("{count} of the last {ANSWERS} answers lack datapoints that were shown before");
            return Some((reason, true));
        }
        contradicts.then(|| (String::new(), false))
    }

    const fn contradicts_often(&self) -> bool {
        self.contradictions.count_ones() > CONTRADICTIONS_MAX
    }

    fn is_slow_to_show(&self, now: Timestamp) -> bool {
        self.late.len() >= LATE_MAX && self.late.front().is_some_and(|first| now.since(*first) < LATE_US)
    }

    fn trouble(&mut self, at: Timestamp, is_lasting: bool, reason: String) {
        let since = self.trouble.as_ref().map_or(at, |trouble| trouble.since);
        self.trouble = Some(Trouble { since, is_lasting, reason });
    }
}
