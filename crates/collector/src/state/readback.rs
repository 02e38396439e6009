//! What reading back adds to the ledger: which series are asked for, and what becomes of the answers.

use std::collections::BTreeMap;

use aviary_core::{
    Ledger, Protocol, Second, SeriesId, Span, Tag, Timestamp,
    mark::{Mark, Sender, Storage},
};
use serde::Serialize;

use super::State;
use crate::{
    ServiceOptions,
    readback::{
        Readback, Reader,
        coarse::{self, Tells},
        is_plain,
        plan::{Conclusion, Pace, Plan, Question, Slots},
        reader::{Said, Unreadable},
    },
    stored::StoredSeries,
};

/// The most slots of many seconds of which it is remembered how many of their datapoints are lacking.
const UNPLACED_MAX: usize = 100_000;

/// A service that is read back.
pub(crate) struct ReadBack {
    options: Readback,
    plan: Plan,
    /// What slots of many seconds lack or have too many, where nobody can say in which second.
    unplaced: BTreeMap<(Second, SeriesId), Unplaced>,
    /// An agent's name that means more than itself was told.
    is_warned: bool,
}

#[derive(Clone, Copy, Default)]
struct Unplaced {
    lacking: u64,
    too_many: u64,
}

/// How reading back goes, as the API tells it.
#[derive(Debug, Serialize)]
pub(crate) struct ReadBackBody {
    reader: &'static str,
    resolution_seconds: u64,
    /// Series that are asked for, and those of them that storage has shown.
    series: usize,
    shown: usize,
    /// The second in which the newest answer came that could be believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<u64>,
    /// Why it cannot be told what is stored, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    untold: Option<String>,
    duplicates: u64,
    mangled: u64,
    /// Datapoints that slots of many seconds lack, in the live window.
    unplaced: u64,
}

/// How reading back goes, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadBackFigures {
    /// How many seconds ago the newest answer came that could be believed; none before the first.
    pub lag_seconds: Option<f64>,
    /// Series that are asked for.
    pub series: usize,
    /// Those of them that storage has shown.
    pub shown: usize,
}

impl ReadBack {
    pub(super) fn new(options: Readback, now: Timestamp) -> Self {
        let plan = Plan::new(pace(&options), now);
        Self { options, plan, unplaced: BTreeMap::new(), is_warned: false }
    }

    pub(crate) const fn options(&self) -> &Readback {
        &self.options
    }

    /// Why the seconds of `judged` cannot be told, if they cannot.
    pub(super) fn blind(&self, now: Timestamp, judged: Span) -> Option<String> {
        self.plan.blind(now, judged)
    }

    /// How it goes, and why it cannot be told what is stored.
    pub(crate) fn body(&self, untold: Option<String>) -> ReadBackBody {
        let (series, shown) = self.plan.series();
        let counts = self.plan.counts();
        let unplaced = self.unplaced.values();
        let (lacking, too_many) = unplaced
            .fold((0, 0), |(lacking, too_many), slot| (lacking + slot.lacking, too_many + slot.too_many));
        ReadBackBody {
            reader: match self.options.reader {
                Reader::Graphite { .. } => "graphite",
                Reader::Prometheus => "prometheus",
            },
            resolution_seconds: self.options.resolution(),
            series,
            shown,
            answered: self.plan.answered_at().map(|at| at.second().0),
            untold,
            duplicates: counts.duplicates + too_many,
            mangled: counts.mangled,
            unplaced: lacking,
        }
    }

    /// How it goes, in numbers.
    pub(crate) fn figures(&self, now: Timestamp) -> ReadBackFigures {
        let (series, shown) = self.plan.series();
        let lag = self.plan.answered_at().map(|at| now.since(at) as f64 / 1e6);
        ReadBackFigures { lag_seconds: lag, series, shown }
    }

    fn carry(&mut self, series: SeriesId, name: &str) {
        if is_plain(name) {
            self.plan.carry(series, name);
        } else if !std::mem::replace(&mut self.is_warned, true) {
            tracing::warn!(
                name = %name.escape_debug(),
                "An agent names a series in a way that storage could take for more than a name; it is not read back."
            );
        }
    }
}

fn pace(options: &Readback) -> Pace {
    Pace {
        resolution: options.resolution(),
        settle: options.settle_seconds,
        hidden: options.hidden_seconds(),
    }
}

/// What the plan sees of the state.
struct View<'s> {
    ledger: &'s Ledger,
    stored: &'s StoredSeries,
}

impl Slots for View<'_> {
    fn held(&self) -> Span {
        self.ledger.held()
    }

    fn is_asked(&self, series: SeriesId, span: Span) -> bool {
        !self.ledger.life(series).intersection(span).is_empty() && self.stored.name(series).is_some()
    }

    fn lacks(&self, series: SeriesId, span: Span) -> bool {
        !self.ledger.is_stored(series, span)
    }

    fn is_sent(&self, series: SeriesId, second: Second) -> bool {
        self.ledger.mark(series, second).is_ok_and(|mark| mark.sender() == Sender::Delivered)
    }
}

impl State {
    /// What is known of a service that is read back.
    pub(crate) fn read_back(&self, service: &str) -> Option<&ReadBack> {
        self.read_back.get(service)
    }

    /// That a series of `service` cannot be read back because its name is another's too, if one is so.
    pub(super) fn shared_name(&self, service: &str) -> Option<String> {
        let is_of_service = |series| self.catalog.tag(series, Tag::Service) == service;
        let name = self.stored.shared().find(|(series, _)| is_of_service(*series))?.1;
        Some(format!(
            "two canaries or more carry one name, {name}, so that storage cannot tell them apart: rename a node"
        ))
    }

    /// The services that are read back, each with how.
    pub(crate) fn readbacks(&self) -> impl Iterator<Item = (&str, &Readback)> {
        self.read_back.iter().map(|(name, read_back)| (name.as_str(), read_back.options()))
    }

    /// What is to be asked now of the storage of `service`.
    pub(crate) fn questions(&mut self, service: &str, now: Timestamp) -> Vec<Question> {
        let view = View { ledger: &self.ledger, stored: &self.stored };
        let read_back = self.read_back.get_mut(service);
        read_back.map(|it| it.plan.questions(now, &view)).unwrap_or_default()
    }

    /// Takes what the storage of `service` answered to `question` after `took_us`.
    pub(crate) fn answered(
        &mut self,
        service: &str,
        question: &Question,
        answer: &Result<Vec<Said>, Unreadable>,
        took_us: u64,
        now: Timestamp,
    ) {
        self.advance(now);
        let Some(read_back) = self.read_back.get_mut(service) else { return };
        let said = match answer {
            Ok(said) => said,
            Err(error) => return read_back.plan.failed(question, error),
        };
        let view = View { ledger: &self.ledger, stored: &self.stored };
        for conclusion in read_back.plan.answered(question, said, took_us, &view) {
            let (series, second, word) = match conclusion {
                Conclusion::Stored(series, second) => (series, second, Storage::Stored),
                Conclusion::NotStored(series, second) => (series, second, Storage::NotStored),
                Conclusion::Counted(series, span, count) => {
                    self.watch.touch_span(span);
                    count_slot(&mut self.ledger, &mut read_back.unplaced, series, span, count);
                    continue;
                }
            };
            let Ok(before) = self.ledger.mark(series, second) else { continue };
            let was_taken_for_lost = (before.sender(), before.storage(), word)
                == (Sender::Delivered, Storage::NotStored, Storage::Stored);
            // A datagram can wait in a socket for as long as its reader stands still.
            if was_taken_for_lost && self.catalog.tag(series, Tag::Protocol) != Protocol::Udp.name() {
                read_back.plan.shown_late(now);
            }
            // It is held: its mark was just read.
            _ = self.ledger.merge(series, second, Mark::stored(word));
            self.watch.touch(second);
        }
        let held = self.ledger.held().from;
        read_back.unplaced.retain(|(second, _), _| *second >= held);
    }

    /// Nobody can be asked for what `service` stored.
    pub(crate) fn unreadable(&mut self, service: &str, now: Timestamp, reason: String) {
        if let Some(read_back) = self.read_back.get_mut(service) {
            read_back.plan.unusable(now, reason);
        }
    }

    /// From now on the datapoints of `series`, which is of `service`, are called `name`.
    pub(super) fn read_back_as(&mut self, series: SeriesId, service: &str, name: &str) {
        if let Some(read_back) = self.read_back.get_mut(service) {
            self.stored.read_back(series, true);
            read_back.carry(series, name);
        }
    }

    /// Of services whose storage was of no interest the names are not known: rosters bring them, and are asked for again
    /// where they are forgotten.
    pub(super) fn forget_nameless(&mut self, services: &[ServiceOptions]) {
        let is_new = |service: &ServiceOptions| {
            service.storage && !self.configured.get(&service.name).is_some_and(|before| before.storage)
        };
        if services.iter().any(is_new) {
            self.rosters.clear();
        }
    }

    /// Reads back what is configured; what was read stays.
    pub(super) fn configure_read_back(&mut self, now: Timestamp) {
        let mut before = std::mem::take(&mut self.read_back);
        for (name, service) in &self.configured {
            let Some(options) = service.readback.clone() else { continue };
            let same = before.remove(name).filter(|before| {
                (&before.options.url, &before.options.reader) == (&options.url, &options.reader)
            });
            let read_back = match same {
                Some(mut same) => {
                    same.plan.set_pace(pace(&options));
                    same.options = options;
                    same
                }
                None => ReadBack::new(options, now),
            };
            self.read_back.insert(name.clone(), read_back);
        }
        for id in self.catalog.ids() {
            let read_back = self.read_back.get_mut(self.catalog.tag(id, Tag::Service));
            self.stored.read_back(id, read_back.is_some());
            if let (Some(read_back), Some(name)) = (read_back, self.stored.name(id)) {
                read_back.carry(id, name);
            }
        }
    }
}

/// Takes what a slot of many seconds holds. Which second lacks its datapoint stays unknown where the count does not tell.
fn count_slot(
    ledger: &mut Ledger,
    unplaced: &mut BTreeMap<(Second, SeriesId), Unplaced>,
    series: SeriesId,
    span: Span,
    count: u64,
) {
    let inside = span.intersection(ledger.life(series));
    let marks: Result<Vec<Mark>, _> = inside.iter().map(|second| ledger.mark(series, second)).collect();
    // A slot that is not held whole tells nothing.
    let Ok(marks) = marks else { return };
    let key = (span.from, series);
    let word = match coarse::tells(marks.iter().copied(), count) {
        Tells::NothingYet => return,
        Tells::All => Storage::Stored,
        Tells::None => Storage::NotStored,
        Tells::Lacking(lacking) => {
            if unplaced.len() < UNPLACED_MAX {
                unplaced.insert(key, Unplaced { lacking, too_many: 0 });
            }
            return;
        }
        Tells::TooMany(too_many) => {
            if unplaced.len() < UNPLACED_MAX {
                unplaced.insert(key, Unplaced { lacking: 0, too_many });
            }
            return;
        }
    };
    unplaced.remove(&key);
    for (second, mark) in inside.iter().zip(marks) {
        if coarse::may_have_left(mark) == Some(true) {
            // It is held: its mark was just read.
            _ = ledger.merge(series, second, Mark::stored(word));
        }
    }
}
