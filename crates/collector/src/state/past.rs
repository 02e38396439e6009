//! What the state hands over to the history, and what the history asks of it.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use aviary_core::{
    Second, SeriesId, Span, Tag, Timestamp, Vantage,
    catalog::Grouping,
    ledger::NO_GROUP,
    losses::Loss,
    mark::{Mark, Sender},
};
use aviary_wire::report::{Gap, PhaseTimings, Report};

use super::{KnownRoster, Refusal, State, loss_of, mark_of};
use crate::history::{
    FormerProofs, History, HistoryError, Late, LateGap, Level, Lives, ROLLED_TAGS, RawMinute, Record, Reps,
    SEAL_AFTER_SECONDS, TIMED_TAGS, Timed, Value,
};
use crate::slots::LifeOf;

/// How many groupings are remembered: a page asks for the same few again and again.
const GROUPINGS_MAX: usize = 16;

/// What is kept beyond the ledger, seen from the state.
pub(super) struct Past {
    pub(super) history: Arc<History>,
    /// Minutes before this were handed over.
    pub(super) sealed_until: Second,
    /// Slots before this are not kept.
    retained_from: Second,
    late: Late,
    former: FormerProofs,
    reps: Reps,
    timed: Reps,
    groupings: VecDeque<(Question, Arc<Grouping>)>,
}

/// What was grouped: the tags, the service, and how many series there were.
type Question = (Vec<Tag>, Option<String>, usize);

impl State {
    /// From now on `history` keeps what the ledger lets go of. What it remembers of series comes first, so that they have
    /// the numbers that they had.
    pub(crate) fn keep_history(&mut self, history: Arc<History>, now: Timestamp) -> Result<(), HistoryError> {
        let mut former = FormerProofs::default();
        for record in history.read_records()? {
            let is_new = record.series.0 as usize == self.catalog.len();
            let found = record.series().ok().and_then(|series| self.catalog.intern(&series).ok());
            if found != Some(record.series) {
                return Err(HistoryError::Unlike { series: record.series.0 });
            }
            for (until, proof) in &record.former {
                former.note(record.series, *until, *proof);
            }
            if is_new {
                self.ledger.register(record.life.from, record.proof);
                self.ledger.remember_from(Second(0));
                self.ledger.end(record.series, record.life.until);
                self.ledger.pause(record.series, Second(0), &record.pauses);
            }
        }
        let minute = Level::Minute.seconds();
        let sealed_until = Second(self.ledger.held().from.0.div_ceil(minute) * minute);
        history.begin(self.ledger.held().from, sealed_until)?;
        let retained_from = history.retained_from(now.second());
        self.ledger.remember_from(retained_from);
        self.past = Some(Past {
            history,
            sealed_until,
            retained_from,
            late: Late::default(),
            former,
            reps: Reps::new(&ROLLED_TAGS),
            timed: Reps::new(&TIMED_TAGS),
            groupings: VecDeque::new(),
        });
        Ok(())
    }

    /// Hands over the minutes that the ledger is about to let go of at `now`.
    pub(super) fn seal(&mut self, now: Timestamp) {
        let Some(past) = &mut self.past else { return };
        let held = self.ledger.held();
        let due = Level::Minute.at(now.second().minus(SEAL_AFTER_SECONDS)).span().from;
        if past.sealed_until < due {
            past.retained_from = past.history.retained_from(now.second());
            self.ledger.remember_from(past.retained_from);
        }
        while past.sealed_until < due {
            let minute = Level::Minute.at(past.sealed_until);
            let inside = minute.span().intersection(held);
            if inside.is_empty() {
                // Time leapt over what nobody can have told.
                past.sealed_until = due;
                break;
            }
            let losses = self.losses.within(inside).map(|(second, series, loss)| (second, series, *loss));
            let (planes, losses) = (self.ledger.planes(inside), losses.collect());
            past.history.seal(RawMinute { minute, planes, losses });
            past.sealed_until = minute.span().until;
        }
    }

    /// Sees to it that what the ledger no longer holds can be read: after a leap of time, at once.
    pub(super) fn follow(&self) {
        if let Some(past) = &self.past
            && past.history.visible_until() < self.ledger.held().from
        {
            past.history.read_here_until(past.sealed_until.max(self.ledger.held().from));
        }
    }

    /// Where there is too much to merge already, a report that tells of more is to come back.
    pub(super) fn check_room(&self, report: &Report) -> Result<(), Refusal> {
        let Some(past) = &self.past else { return Ok(()) };
        let slots = report.slots.iter().map(|slot| slot.second);
        let earliest = slots.chain(report.gaps.iter().map(|gap| gap.span.from)).min();
        if earliest.is_some_and(|earliest| earliest < past.sealed_until) && !past.history.has_room() {
            return Err(Refusal::Backlog);
        }
        Ok(())
    }

    /// The first second of which slots are taken, of a series whose first full slot is at `first`.
    pub(super) fn oldest(&self, first: Second) -> Second {
        let held = self.ledger.held().from;
        self.past.as_ref().map_or(held, |past| past.retained_from.max(first).min(held))
    }

    /// Keeps what is told of a slot whose minute was handed over, and returns whether it was.
    pub(super) fn late(
        &mut self,
        (series, first): (SeriesId, Second),
        second: Second,
        mark: Mark,
        loss: Option<Loss>,
    ) -> bool {
        let oldest = self.oldest(first);
        let Some(past) = &mut self.past else { return false };
        if second >= past.sealed_until || second < oldest {
            return false;
        }
        past.late.slot(series, second, mark);
        if let Some(loss) = loss {
            past.late.loss(series, second, loss);
        }
        if mark.sender() != Sender::Unknown {
            self.told_elsewhere(series, Span::new(second, second.plus(1)));
        }
        true
    }

    /// Keeps what is told of a gap in minutes that were handed over.
    pub(super) fn late_gap(&mut self, known: &KnownRoster, gap: &Gap) {
        let Some(past) = &mut self.past else { return };
        let span = Span::new(gap.span.from.max(past.retained_from), gap.span.until.min(past.sealed_until));
        if span.is_empty() {
            return;
        }
        let places: Range<usize> = gap.first as usize..(gap.first + gap.count) as usize;
        let value = Value { mark: mark_of(gap.outcome), loss: loss_of(gap.outcome) };
        past.late.gap(LateGap { series: Arc::clone(&known.series), places: places.clone(), span, value });
        for (series, first) in &known.series[places] {
            let told = Span::new(span.from.max(*first), span.until);
            if !told.is_empty() {
                self.told_elsewhere(*series, told);
            }
        }
    }

    fn told_elsewhere(&mut self, series: SeriesId, span: Span) {
        let born = self.ledger.life(series).from;
        self.ledger.told_elsewhere(series, span);
        if span.from < born && !self.ledger.pauses(series).is_empty() {
            self.repaused(Span::new(span.from, born));
        }
    }

    /// Where in `span` some series were muted, is other than it was.
    pub(super) fn repaused(&self, span: Span) {
        let Some(past) = &self.past else { return };
        let sealed = span.intersection(Span::new(past.retained_from, past.sealed_until));
        if !sealed.is_empty() {
            past.history.repaused(sealed);
        }
    }

    /// Hands over what came late.
    pub(super) fn hand_over(&mut self) {
        if let Some(past) = &mut self.past
            && !past.late.is_empty()
        {
            past.history.take(std::mem::take(&mut past.late));
        }
    }

    /// Hands over what the report says of phases.
    pub(super) fn take_timings(&mut self, known: &KnownRoster, report: &Report, now: Timestamp) {
        let Some(past) = &mut self.past else { return };
        if report.timings.is_empty() {
            return;
        }
        past.timed.of(&self.catalog);
        let vantage = &known.vantage;
        let timed = report.timings.iter().filter_map(|timings| {
            // Of a service and protocol that no series of the agent has, nothing can be asked.
            let values = TIMED_TAGS.map(|tag| timed_tag(tag, vantage, timings));
            let series = past.timed.find(values.iter().map(|value| &**value))?;
            Some(Timed::new(series, report.boot, timings.phase, timings.minute, &timings.histogram))
        });
        let (catalog, counted) = (&self.catalog, &mut self.counted);
        past.history.take_timings(timed.collect(), now.second(), |grown| {
            // The catalog's texts of this tag are protocols.
            let Ok(protocol) = catalog.tag(grown.series, Tag::Protocol).parse() else { return };
            let service = catalog.tag(grown.series, Tag::Service);
            counted.measured(service, protocol, grown.phase, |known| grown.add_to(known));
        });
    }

    /// From now on something else shows delivery of `series`; what was handed over stays judged as it was.
    pub(super) fn proof_changes(&mut self, series: SeriesId) {
        let proof = self.ledger.proof(series);
        if let Some(past) = &mut self.past {
            past.former.note(series, past.sealed_until, proof);
        }
    }

    /// The seconds of which anything can be known.
    pub(crate) fn known(&self, now: Timestamp) -> Span {
        let held = self.ledger.held();
        let first = self.past.as_ref().map(|past| past.history.first(now.second()));
        Span::new(first.unwrap_or(held.from).min(held.from), held.until)
    }

    /// The lives of all series, and which series stands for which in what is rolled up.
    pub(crate) fn lives(&mut self) -> Option<(Lives, Arc<Vec<SeriesId>>)> {
        let past = self.past.as_mut()?;
        Some((Lives::new(&self.ledger, &past.former), past.reps.of(&self.catalog)))
    }

    /// What the stored slots of `series` need beside.
    pub(crate) fn life(&self, series: SeriesId) -> LifeOf {
        let former = self.past.as_ref().map_or(&[][..], |past| past.former.of(series));
        let now = (Second(u64::MAX), self.ledger.proof(series));
        LifeOf {
            span: self.ledger.life(series),
            pauses: self.ledger.pauses(series).to_vec(),
            proofs: former.iter().copied().chain([now]).collect(),
        }
    }

    /// The history, if one is kept.
    pub(crate) fn history(&self) -> Option<&Arc<History>> {
        self.past.as_ref().map(|past| &past.history)
    }

    /// What is to be remembered of at most `count` series from number `first` on.
    pub(crate) fn records(&self, first: usize, count: usize) -> Vec<Record> {
        let Some(past) = &self.past else { return Vec::new() };
        let record = |series: SeriesId| Record {
            series,
            tags: std::array::from_fn(|tag| self.catalog.tag(series, Tag::ALL[tag]).to_owned()),
            life: self.ledger.life(series),
            proof: self.ledger.proof(series),
            former: past.former.of(series).to_vec(),
            pauses: self.ledger.pauses(series).to_vec(),
        };
        self.catalog.ids().skip(first).take(count).map(record).collect()
    }

    /// Groups the series of `service`, or all, that live beyond `from`: the values of the groups that have any, and each
    /// series' group.
    pub(crate) fn group(
        &mut self,
        by: &[Tag],
        service: Option<&str>,
        from: Second,
    ) -> (Vec<Vec<String>>, Vec<u32>) {
        let grouping = self.grouping(by, service);
        let mut group_of = grouping.group_of.clone();
        let mut is_alive = vec![false; grouping.values.len()];
        for (id, group) in (0..).map(SeriesId).zip(&mut group_of) {
            if *group != NO_GROUP {
                if self.ledger.life(id).until > from {
                    is_alive[*group as usize] = true;
                } else {
                    *group = NO_GROUP;
                }
            }
        }
        if is_alive.iter().all(|alive| *alive) {
            return (grouping.values.clone(), group_of);
        }
        let mut next = 0..;
        let places: Vec<Option<u32>> =
            is_alive.iter().map(|alive| alive.then(|| next.next()).flatten()).collect();
        for group in &mut group_of {
            if *group != NO_GROUP {
                *group = places[*group as usize].unwrap_or(NO_GROUP);
            }
        }
        let values = grouping.values.iter().zip(is_alive).filter(|(_, alive)| *alive);
        (values.map(|(values, _)| values.clone()).collect(), group_of)
    }

    /// All series by tags, which never change: made once for a number of series.
    fn grouping(&mut self, by: &[Tag], service: Option<&str>) -> Arc<Grouping> {
        let question: Question = (by.to_vec(), service.map(str::to_owned), self.catalog.len());
        let known = self.past.iter().flat_map(|past| &past.groupings).find(|(known, _)| *known == question);
        if let Some((_, grouping)) = known {
            return Arc::clone(grouping);
        }
        let is_asked = |id| service.is_none_or(|service| self.catalog.tag(id, Tag::Service) == service);
        let grouping = Arc::new(self.catalog.group(by, is_asked));
        if let Some(past) = &mut self.past {
            past.groupings.retain(|((.., series), _)| *series == question.2);
            past.groupings.push_front((question, Arc::clone(&grouping)));
            past.groupings.truncate(GROUPINGS_MAX);
        }
        grouping
    }
}

/// The value of one of the tags that timings have.
fn timed_tag(tag: Tag, vantage: &Vantage, timings: &PhaseTimings) -> String {
    let or_absent =
        |value: &Option<String>| value.as_deref().unwrap_or(aviary_core::vantage::ABSENT).to_owned();
    match tag {
        Tag::Kind => vantage.kind.name().to_owned(),
        Tag::Network => or_absent(&vantage.network),
        Tag::Node => vantage.node.clone(),
        Tag::Protocol => timings.protocol.name().to_owned(),
        Tag::Region => vantage.region.clone(),
        Tag::Service => timings.service.clone(),
        Tag::Zone => or_absent(&vantage.zone),
        Tag::Address | Tag::Endpoint => aviary_core::vantage::ABSENT.to_owned(),
    }
}
