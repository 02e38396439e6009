//! Reading what is stored: slots of one series, sums of many.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{Second, SeriesId, Span};
use aviary_store::Table;
use bytes::Bytes;

use super::{
    History, HistoryError,
    block::{Block, Editor, Value},
    keep::{damaged, decode, minutes_of, parse},
    key::{Chunk, Level, Time},
    rollup,
    tally::Tally,
    varint::Damage,
};

/// So few chunks are looked up one by one; for more, an hour is read in one go.
const FEW: usize = 4;

/// A block and its first second.
type Piece = (Second, Block);

impl History {
    /// Counts the slots of `span`. Where all of an hour or a day lies in one step and `rolled` gives the group of each
    /// series that stands for others, its sums are taken; elsewhere blocks are counted, of `chunks` alone if given.
    pub(crate) fn tally(
        &self,
        tally: &mut Tally<'_>,
        span: Span,
        rolled: Option<&[u32]>,
        chunks: Option<&BTreeSet<Chunk>>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), HistoryError> {
        for day in Time::within(Level::Day, span) {
            let today = day.span().intersection(span);
            if !goes_on() || self.take_rolled(tally, day, today, rolled)? {
                continue;
            }
            for hour in Time::within(Level::Hour, today) {
                let part = hour.span().intersection(today);
                if !goes_on() || self.take_rolled(tally, hour, part, rolled)? {
                    continue;
                }
                tally.mute(part);
                for (chunk, pieces) in self.pieces(hour, part, chunks)? {
                    for (start, block) in pieces {
                        tally.block(chunk, start, &block, part);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the sums that are rolled up for all of `time`, if there are and they are what was asked for.
    fn take_rolled(
        &self,
        tally: &mut Tally<'_>,
        time: Time,
        part: Span,
        rolled: Option<&[u32]>,
    ) -> Result<bool, HistoryError> {
        let (Some(rolled), Some(step)) = (rolled, tally.steps.step_of(part)) else { return Ok(false) };
        if part != time.span() {
            return Ok(false);
        }
        let key = time.key();
        let Some(bytes) = self.shelf.view().get(Table::Sums, &key)? else { return Ok(false) };
        for (rep, window) in rollup::decode(&bytes).map_err(|damage| damaged(Table::Sums, &key, damage))? {
            let group = rolled.get(rep.0 as usize).copied().unwrap_or(aviary_core::ledger::NO_GROUP);
            if group != aviary_core::ledger::NO_GROUP {
                tally.add(step, group as usize, window);
            }
        }
        Ok(true)
    }

    /// The blocks of `part`, which lies in `hour`: all of the hour as one, or its minutes.
    fn pieces(
        &self,
        hour: Time,
        part: Span,
        chunks: Option<&BTreeSet<Chunk>>,
    ) -> Result<BTreeMap<Chunk, Vec<Piece>>, HistoryError> {
        // At one moment: an hour that is being packed is its minutes or itself.
        let view = self.shelf.view();
        let mut found: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        match chunks {
            Some(chunks) if chunks.len() <= FEW => {
                for time in Time::within(Level::Minute, part).chain([hour]) {
                    for key in chunks.iter().map(|chunk| time.chunk_key(*chunk)) {
                        if let Some(value) = view.get(Table::Slots, &key)? {
                            found.insert(key, value);
                        }
                    }
                }
            }
            _ => {
                let (from, until) =
                    (Level::Minute.at(part.from), Level::Minute.at(part.until.minus(1)).next());
                found = view.range(Table::Slots, &from.key(), &until.key())?;
                found.append(&mut view.range(Table::Slots, &hour.key(), &hour.next().key())?);
            }
        }
        drop(view);
        let mut pieces: BTreeMap<Chunk, Vec<Piece>> = BTreeMap::new();
        for (key, value) in found {
            let (time, chunk) = parse(Table::Slots, &key)?;
            let chunk = chunk.ok_or_else(|| damaged(Table::Slots, &key, Damage("it names no series")))?;
            if chunks.is_none_or(|chunks| chunks.contains(&chunk)) {
                let block = decode(&key, &value, time)?;
                pieces.entry(chunk).or_default().push((time.span().from, block));
            }
        }
        for pieces in pieces.values_mut() {
            join_overlapping(hour, pieces);
        }
        Ok(pieces)
    }

    /// Visits the slots of `series` in `span` in order: spans whose slots are alike, one after another. What nobody told
    /// is unknown.
    pub(crate) fn slots(
        &self,
        series: SeriesId,
        span: Span,
        mut visit: impl FnMut(Span, Value) -> bool,
    ) -> Result<(), HistoryError> {
        let (chunk, row) = Chunk::of(series);
        let chunks = [chunk].into();
        for hour in Time::within(Level::Hour, span) {
            let part = hour.span().intersection(span);
            let mut at = part.from;
            for (start, block) in self.pieces(hour, part, Some(&chunks))?.remove(&chunk).unwrap_or_default() {
                for (from, until, value) in block.runs(row) {
                    let run = Span::new(start.plus(from.into()), start.plus(until.into())).intersection(part);
                    if run.is_empty() {
                        continue;
                    }
                    let before = Span::new(at, run.from);
                    at = run.until;
                    if !(before.is_empty() || visit(before, Value::UNKNOWN)) || !visit(run, value) {
                        return Ok(());
                    }
                }
            }
            let rest = Span::new(at, part.until);
            if !(rest.is_empty() || visit(rest, Value::UNKNOWN)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The stored timings of `hour`: its own, and those of its minutes.
    pub(super) fn stored_timings(&self, hour: Time) -> Result<Vec<(Bytes, Bytes)>, HistoryError> {
        let view = self.shelf.view();
        let (from, until) = minutes_of(hour);
        let mut found = view.range(Table::Timings, &from, &until)?;
        found.append(&mut view.range(Table::Timings, &hour.key(), &hour.next().key())?);
        Ok(found.into_iter().collect())
    }
}

/// Minutes that were sealed again after their hour was packed, as after a crash, are part of it.
fn join_overlapping(hour: Time, pieces: &mut Vec<Piece>) {
    let is_hour = |piece: &Piece| u64::from(piece.1.seconds()) == hour.level.seconds();
    if pieces.len() > 1 && pieces.iter().any(is_hour) {
        let mut editor = Editor::new(hour.level.seconds() as u16);
        for (start, block) in pieces.drain(..) {
            // Within the hour.
            editor.merge_block((start.0 - hour.span().from.0) as u16, &block);
        }
        pieces.push((hour.span().from, editor.finish()));
    }
    pieces.sort_by_key(|(start, _)| *start);
}

/// How the series of a question are found: for each its chunk.
pub(crate) fn chunks_of(group_of: &[u32]) -> BTreeSet<Chunk> {
    let is_asked = |(_, group): &(u32, &u32)| **group != aviary_core::ledger::NO_GROUP;
    let asked = (0..).zip(group_of).filter(is_asked);
    asked.map(|(series, _)| Chunk::of(SeriesId(series)).0).collect()
}
