//! The work of the history's thread: sealing, merging what is late, packing, rolling up, expiring.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, atomic::Ordering},
};

use aviary_core::{Second, fnv::fnv1a};
use aviary_store::Table;

use super::{
    Fleet, History, HistoryError, MEMORY_BYTES_MAX, RawMinute,
    block::Editor,
    codec,
    key::{self, Chunk, Level, Time},
    records::KEY_END,
    rollup::{self, Tuples},
    shelf::{Changes, WAITING_BYTES_MAX},
    tally::{Steps, Tally},
};

/// An hour is packed so long after its last minute was sealed: what is a little late still finds minutes.
const PACK_AFTER_SECONDS: u64 = 300;

/// How many hours are rolled up in one round; a year that has to be done anew is not done at once.
const ROLLED_AT_ONCE: usize = 8;

/// How many minutes, hours or days of one kind expire in one batch.
const EXPIRED_AT_ONCE: u64 = 24;

/// The states of how many series are read under one lock.
const RECORDS_AT_ONCE: usize = 4_096;

/// How often what came late meanwhile is waited for before a minute is read here.
const TURNS_MAX: u32 = 8;

/// What the thread remembers.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Hours and days whose sums were touched, or never made.
    to_roll: BTreeSet<Time>,
    is_scanned: bool,
    /// The hash of each series' record as it was last written.
    records: Vec<u64>,
    /// How many bytes each minute takes, where memory is all there is.
    sizes: BTreeMap<Time, usize>,
}

impl History {
    /// Does all that there is to do, and commits it: what was told before this is called is kept when it returns.
    ///
    /// # Errors
    /// What could not be committed is still held, and read all the same.
    pub(crate) fn settle(&self, fleet: &dyn Fleet) -> Result<(), HistoryError> {
        fleet.now().map_or(Ok(()), |now| self.round(fleet, now, true))
    }

    /// One round; `everything` leaves nothing for the next.
    pub(super) fn round(&self, fleet: &dyn Fleet, now: Second, everything: bool) -> Result<(), HistoryError> {
        // A round that panicked has lost what it had taken, and no more.
        let _one = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let is_changed = self.take_in();
        self.flush_timings(now, everything)?;
        if self.is_durable && (is_changed || everything) {
            self.record(fleet);
        }
        self.commit()?;
        if self.is_durable {
            self.scan()?;
            self.pack()?;
            self.roll(fleet, everything)?;
        }
        self.expire(now, everything)?;
        self.commit()
    }

    /// Makes blocks of all that waits, and then lets it be read here. Returns whether there was any.
    fn take_in(&self) -> bool {
        let (mut is_changed, mut sealed_until) = (false, Second(0));
        for turn in 1.. {
            let (late, repaused) = {
                let mut queue = self.queue();
                (std::mem::take(&mut queue.late), std::mem::take(&mut queue.repaused))
            };
            let minutes = self.merge_minutes();
            is_changed |= minutes.is_some() || !late.is_empty();
            sealed_until = sealed_until.max(minutes.unwrap_or_default());
            let mut writer = self.writer();
            for span in repaused {
                let mut changes = Changes::default();
                Time::within(Level::Hour, span).for_each(|hour| writer.touch(&mut changes, hour));
                self.shelf.make(changes);
            }
            if !late.is_empty() {
                let told = late.told();
                self.or_unkept(told, self.merge_late(&mut writer, late));
            }
            drop(writer);
            // The ledger shows what came late as long as it holds it: it must not vanish because it waits here.
            let queue = self.queue();
            if queue.late.is_empty() || turn == TURNS_MAX {
                self.visible_until.fetch_max(sealed_until.0, Ordering::AcqRel);
                break;
            }
        }
        is_changed
    }

    fn commit(&self) -> Result<(), HistoryError> {
        Ok(self.shelf.commit()?)
    }

    /// Makes blocks of the minutes that wait, and lets them be read here at once.
    pub(super) fn catch_up(&self) {
        if let Some(until) = self.merge_minutes() {
            self.visible_until.fetch_max(until.0, Ordering::AcqRel);
        }
    }

    /// Makes blocks of the minutes that wait. Returns where the last ends, if there were any.
    fn merge_minutes(&self) -> Option<Second> {
        let mut writer = self.writer();
        let minutes = std::mem::take(&mut self.queue().minutes);
        for minute in &minutes {
            let sealed = self.merge_minute(&mut writer, minute);
            self.or_unkept(minute.told(), sealed);
        }
        minutes.iter().map(|minute| minute.minute.span().until).max()
    }

    /// Says what could not be kept, and goes on: the newest matter more.
    fn or_unkept(&self, slots: u64, done: Result<(), HistoryError>) {
        if let Err(error) = done {
            self.unkept.fetch_add(slots, Ordering::Relaxed);
            tracing::error!(%error, slots, "Some of these slots could not be kept.");
        }
    }

    fn merge_minute(&self, writer: &mut Writer, minute: &RawMinute) -> Result<(), HistoryError> {
        if self.shelf.waiting_bytes() > 2 * WAITING_BYTES_MAX {
            return Err(HistoryError::Waiting);
        }
        let mut changes = Changes::default();
        let mut done = Ok(());
        for (chunk, editor) in minute.editors() {
            let merged = self.merge(writer, &mut changes, minute.minute, chunk, editor);
            done = done.and(merged);
        }
        self.shelf.make(changes);
        done
    }

    fn merge_late(&self, writer: &mut Writer, late: super::Late) -> Result<(), HistoryError> {
        let mut changes = Changes::default();
        let mut done = Ok(());
        let each =
            late.into_blocks::<std::convert::Infallible>(self.packed_until(), |time, chunk, editor| {
                let merged = self.merge(writer, &mut changes, time, chunk, editor);
                if done.is_ok() {
                    done = merged;
                }
                Ok(())
            });
        let Ok(()) = each;
        self.shelf.make(changes);
        done
    }

    /// Merges what `editor` says into the block that is stored.
    fn merge(
        &self,
        writer: &mut Writer,
        changes: &mut Changes,
        time: Time,
        chunk: Chunk,
        mut editor: Editor,
    ) -> Result<(), HistoryError> {
        let key = time.chunk_key(chunk);
        let stored = self.shelf.view().get(Table::Slots, &key)?;
        if let Some(stored) = &stored {
            editor.merge_block(0, &decode(&key, stored, time)?);
        }
        let block = editor.finish();
        if block.is_empty() {
            return Ok(());
        }
        let bytes = codec::encode(&block);
        if stored.as_ref() != Some(&bytes) {
            writer.touch(changes, Level::Hour.at(time.span().from));
            if !self.is_durable {
                let before = stored.map_or(0, |stored| stored.len());
                let size = writer.sizes.entry(time).or_default();
                *size = (*size + bytes.len()).saturating_sub(before);
            }
            changes.put(Table::Slots, key, bytes);
        }
        Ok(())
    }

    /// What is before this is in hours, once it is packed.
    pub(super) fn packed_until(&self) -> Second {
        if !self.is_durable {
            return Second(0);
        }
        Level::Hour.at(self.visible_until().minus(PACK_AFTER_SECONDS)).span().from
    }

    /// The first second of which something is stored.
    pub(super) fn first_stored(&self) -> Result<Option<Second>, HistoryError> {
        let mut first = None;
        let view = self.shelf.view();
        let places =
            [Table::Slots, Table::Timings].map(|table| [(table, Level::Hour), (table, Level::Minute)]);
        for (table, level) in places.into_iter().flatten() {
            if let Some(key) = view.first(table, &key::first_of(level), &key::end_of(level))? {
                let from = parse(table, &key)?.0.span().from;
                first = Some(first.map_or(from, |first: Second| first.min(from)));
            }
        }
        Ok(first)
    }

    /// Writes what is to be remembered of series, where that is other than it was.
    fn record(&self, fleet: &dyn Fleet) {
        for first in (0..).step_by(RECORDS_AT_ONCE) {
            let records = fleet.records(first, RECORDS_AT_ONCE);
            if records.is_empty() {
                return;
            }
            let mut changes = Changes::default();
            let mut writer = self.writer();
            for record in records {
                let bytes = record.encode();
                let hash = fnv1a(bytes.iter().copied());
                let place = record.series.0 as usize;
                if writer.records.len() <= place {
                    writer.records.resize(place + 1, 0);
                }
                if std::mem::replace(&mut writer.records[place], hash) != hash {
                    changes.put(Table::Series, record.key(), bytes);
                }
            }
            self.shelf.make(changes);
        }
    }

    /// The records of all series that were ever kept, in the order of their ids.
    pub(crate) fn read_records(&self) -> Result<Vec<super::Record>, HistoryError> {
        let records = self.shelf.view().range(
            Table::Series,
            &bytes::Bytes::new(),
            &bytes::Bytes::from_static(&KEY_END),
        )?;
        let read = |(place, (key, value)): (usize, (bytes::Bytes, bytes::Bytes))| {
            let record =
                super::Record::decode(&key, &value).map_err(|damage| damaged(Table::Series, &key, damage))?;
            if record.series.0 as usize == place {
                return Ok(record);
            }
            Err(damaged(Table::Series, &key, super::varint::Damage("a series before it is missing")))
        };
        records.into_iter().enumerate().map(read).collect()
    }

    /// Finds the hours and days that have no sums, after a start.
    fn scan(&self) -> Result<(), HistoryError> {
        let mut writer = self.writer();
        if writer.is_scanned {
            return Ok(());
        }
        let (mut from, until) = (key::first_of(Level::Hour), key::end_of(Level::Hour));
        let view = self.shelf.view();
        while let Some(key) = view.first(Table::Slots, &from, &until)? {
            let hour = parse(Table::Slots, &key)?.0;
            for time in [hour, Level::Day.at(hour.span().from)] {
                if view.get(Table::Sums, &time.key())?.is_none() {
                    writer.to_roll.insert(time);
                }
            }
            from = hour.next().key();
        }
        writer.is_scanned = true;
        Ok(())
    }

    /// Packs the minutes of hours that are complete: the hour comes and its minutes go in one batch.
    fn pack(&self) -> Result<(), HistoryError> {
        for table in [Table::Slots, Table::Timings] {
            let until = Level::Minute.at(self.packed_until()).key();
            loop {
                let first = self.shelf.view().first(table, &key::first_of(Level::Minute), &until)?;
                let Some(first) = first else { break };
                let hour = Level::Hour.at(parse(table, &first)?.0.span().from);
                match table {
                    Table::Timings => self.pack_timings(hour)?,
                    _ => self.pack_hour(hour)?,
                }
                self.commit()?;
            }
        }
        Ok(())
    }

    fn pack_hour(&self, hour: Time) -> Result<(), HistoryError> {
        let mut writer = self.writer();
        let (from, until) = minutes_of(hour);
        let (minutes, hours) = {
            let view = self.shelf.view();
            (
                view.range(Table::Slots, &from, &until)?,
                view.range(Table::Slots, &hour.key(), &hour.next().key())?,
            )
        };
        // Chunk by chunk: of all but one, no more than the bytes is held.
        let mut chunks: BTreeMap<Chunk, Vec<(Time, bytes::Bytes, bytes::Bytes)>> = BTreeMap::new();
        for (key, value) in minutes.into_iter().chain(hours) {
            let (time, chunk) = parse(Table::Slots, &key)?;
            let chunk = chunk
                .ok_or_else(|| damaged(Table::Slots, &key, super::varint::Damage("it names no series")))?;
            chunks.entry(chunk).or_default().push((time, key, value));
        }
        let mut changes = Changes::default();
        for (chunk, blocks) in chunks {
            let mut editor = Editor::new(hour.level.seconds() as u16);
            for (time, key, value) in blocks {
                let block = decode(&key, &value, time)?;
                // Within the hour.
                editor.merge_block((time.span().from.0 - hour.span().from.0) as u16, &block);
            }
            changes.put(Table::Slots, hour.chunk_key(chunk), codec::encode(&editor.finish()));
        }
        changes.remove(Table::Slots, from, until);
        writer.touch(&mut changes, hour);
        self.shelf.make(changes);
        Ok(())
    }

    /// Makes the sums of hours and days that were touched and are complete.
    fn roll(&self, fleet: &dyn Fleet, everything: bool) -> Result<(), HistoryError> {
        let until = self.packed_until();
        let is_due = |time: &&Time| time.span().until <= until;
        if !self.writer().to_roll.iter().any(|time| is_due(&time)) {
            return Ok(());
        }
        // Read before the writer's lock is taken, and after what waited was taken: at least as new.
        let Some((lives, rep_of)) = fleet.lives() else { return Ok(()) };
        let tuples = Tuples::new(&rep_of);
        let mut done = 0;
        loop {
            let mut writer = self.writer();
            let hour = writer.to_roll.iter().filter(is_due).find(|time| time.level == Level::Hour).copied();
            // A day is the sum of its hours, once they are done.
            let day = || writer.to_roll.iter().filter(is_due).find(|time| time.level == Level::Day).copied();
            let Some(time) = hour.or_else(day) else { return Ok(()) };
            writer.to_roll.remove(&time);
            if tuples.reps.len() > rollup::TUPLES_MAX {
                continue;
            }
            let steps = Steps { from: time.span().from, seconds: time.level.seconds(), count: 1 };
            let mut tally = Tally::new(&lives, &tuples.group_of, tuples.reps.len(), steps);
            let mut rolled = vec![aviary_core::ledger::NO_GROUP; tuples.group_of.len()];
            for (group, rep) in (0..).zip(&tuples.reps) {
                rolled[rep.0 as usize] = group;
            }
            self.tally(&mut tally, time.span(), Some(&rolled), None, &|| true)?;
            let sums = tuples.reps.iter().copied().zip(tally.finish());
            let mut changes = Changes::default();
            changes.put(Table::Sums, time.key(), rollup::encode(sums));
            self.shelf.make(changes);
            drop(writer);
            done += 1;
            if done >= ROLLED_AT_ONCE && !everything {
                return Ok(());
            }
        }
    }

    /// Lets go of what is older than is to be retained.
    fn expire(&self, now: Second, everything: bool) -> Result<(), HistoryError> {
        self.bound_memory(now);
        let retained = self.retained_from(now);
        loop {
            let mut changes = Changes::default();
            for table in [Table::Slots, Table::Sums, Table::Timings] {
                for level in [Level::Minute, Level::Hour, Level::Day] {
                    let until = level.at(retained);
                    let first = self.shelf.view().first(table, &key::first_of(level), &until.key())?;
                    if let Some(first) = first {
                        let first = parse(table, &first)?.0.number;
                        let number = until.number.min(first + EXPIRED_AT_ONCE);
                        let until = Time { level, number };
                        changes.remove(table, key::first_of(level), until.key());
                    }
                }
            }
            if changes.is_empty() {
                break;
            }
            self.shelf.make(changes);
            self.commit()?;
            if !everything {
                break;
            }
        }
        let mut writer = self.writer();
        writer.to_roll.retain(|time| time.span().until > retained);
        writer.sizes.retain(|time, _| time.span().until > retained);
        Ok(())
    }

    /// Without a disk, what is remembered has a bound.
    fn bound_memory(&self, now: Second) {
        let mut writer = self.writer();
        let mut bytes = writer.sizes.values().sum::<usize>();
        while bytes > MEMORY_BYTES_MAX
            && let Some((oldest, size)) = writer.sizes.pop_first()
        {
            bytes -= size;
            let until = oldest.span().until;
            self.let_go_before.fetch_max(until.0, Ordering::AcqRel);
            let kept = now.0.saturating_sub(until.0);
            tracing::warn!(
                seconds = kept,
                "Slots take too much memory; set collector.data, or remember less."
            );
        }
    }
}

impl Writer {
    /// What `hour` sums is about to change: its sums go in the same changes, and are made again later.
    pub(super) fn touch(&mut self, changes: &mut Changes, hour: Time) {
        for time in [hour, Level::Day.at(hour.span().from)] {
            changes.remove(Table::Sums, time.key(), time.next().key());
            self.to_roll.insert(time);
        }
    }
}

/// Where the keys of the minutes of `hour` begin, and before which they end.
pub(super) fn minutes_of(hour: Time) -> (bytes::Bytes, bytes::Bytes) {
    let span = hour.span();
    (Level::Minute.at(span.from).key(), Level::Minute.at(span.until).key())
}

pub(super) fn decode(key: &[u8], bytes: &[u8], time: Time) -> Result<super::block::Block, HistoryError> {
    codec::decode(bytes, time.level.seconds() as u16).map_err(|damage| damaged(Table::Slots, key, damage))
}

pub(super) fn parse(table: Table, key: &[u8]) -> Result<(Time, Option<Chunk>), HistoryError> {
    key::parse(key).map_err(|damage| damaged(table, key, damage))
}

pub(super) fn damaged(table: Table, key: &[u8], damage: super::varint::Damage) -> HistoryError {
    HistoryError::Damaged { key: key::shown(table, key), reason: damage.to_string() }
}
