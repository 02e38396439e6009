//! The journal: reports as they came, on the disk before they are acknowledged.
//!
//! A thread of its own commits whatever waits in one transaction, so that a disk that takes ten milliseconds costs each
//! report those and no more. Reports have numbers in the order in which they were applied: what is on the disk is always
//! the beginning of what was applied, and a replay ends in the same state, ids of series included.
//!
//! **Where there is no room** reports are applied all the same, and not acknowledged: verdicts go on from memory, and
//! agents keep what they told. Then the disk lacks some of what was applied, so the next thing that goes there is a
//! checkpoint, which lacks nothing; see [`Journal::begin_checkpoint`].

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use aviary_core::Timestamp;
use aviary_store::{Batch, Store, StoreError, Table};
use aviary_wire::report::Report;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;

/// Bytes of reports that wait at once; whoever comes beyond is told to come back. A little more may wait, since as many
/// reports as are taken at once look at it at the same time.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Reports that wait at once, likewise.
const WAITING_MAX: usize = 4_096;

/// One transaction has at most so many bytes, unless one report alone has more.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// The version of an entry, its first byte.
pub(crate) const VERSION: u8 = 1;

/// What comes before the token's name: the version, when it arrived, and how long that name is.
const HEAD_BYTES: usize = 11;

/// What was counted of a journal since the start of the process, and how it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalFigures {
    /// Reports that are on the disk.
    pub frames: u64,
    /// Transactions that brought them there.
    pub batches: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Reports that wait.
    pub waiting: usize,
    /// Bytes of them.
    pub waiting_bytes: usize,
    /// The most reports that waited at once.
    pub waiting_peak: usize,
    /// Reports that came while more waited than the disk takes.
    pub busy: u64,
    /// Reports that were not kept because the disk had no room, or failed in a way that may pass.
    pub no_room: u64,
    /// Reports that were not kept because nothing is any more.
    pub ended: u64,
    /// Bytes on the disk that no checkpoint covers yet: what a start would replay.
    pub since_checkpoint: u64,
}

/// Reports on their way to the disk.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// The number of the next report.
    next: u64,
    /// Bytes that were committed since the last checkpoint.
    since_checkpoint: u64,
    mode: Mode,
    is_stopping: bool,
    /// What only grows of it; the rest is read from the queue.
    counted: JournalFigures,
}

impl Queue {
    fn is_busy(&self) -> bool {
        self.bytes > WAITING_BYTES_MAX || self.waiting.len() > WAITING_MAX
    }

    /// Counts reports that are not kept.
    fn refuse(&mut self, refusal: &NotKept, reports: usize) {
        *match refusal {
            NotKept::Later(_) => &mut self.counted.no_room,
            NotKept::Never(_) | NotKept::Ending => &mut self.counted.ended,
        } += reports as u64;
    }
}

#[derive(Debug)]
struct Entry {
    number: u64,
    value: Bytes,
    kept: oneshot::Sender<Result<(), NotKept>>,
}

/// What is done with reports.
#[derive(Clone, Debug)]
enum Mode {
    /// They are written.
    Keeping,
    /// They are not, for this reason, until a checkpoint is.
    Behind(Arc<StoreError>),
    /// They wait for a checkpoint that is being written.
    Held,
    /// They are not any more.
    Ended(Arc<StoreError>),
}

/// How it goes.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// What comes is kept.
    Keeping,
    /// More waits than the disk takes.
    Busy,
    /// The disk takes nothing, for this reason.
    Failed(Arc<StoreError>),
}

/// Why a report is not on the disk.
#[derive(Clone, Debug)]
pub(crate) enum NotKept {
    /// The collector ends.
    Ending,
    /// The disk does not take it now.
    Later(Arc<StoreError>),
    /// The disk will not take it in the life of this process.
    Never(Arc<StoreError>),
}

/// What happened that others should know of.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// From now on nothing can be kept for a while.
    Behind(Arc<StoreError>),
    /// From now on nothing can be kept.
    Ended(Arc<StoreError>),
}

impl Journal {
    /// A journal whose next report has this number, and which has so many bytes on the disk that no checkpoint covers.
    pub(crate) fn new(next: u64, since_checkpoint: u64) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            next,
            since_checkpoint,
            mode: Mode::Keeping,
            is_stopping: false,
            counted: JournalFigures::default(),
        };
        Self { queue: Mutex::new(queue), wake: Condvar::new() }
    }

    /// Whether a report would be kept, as far as can be seen before it is applied. One that finds no room on the disk is
    /// applied all the same.
    pub(crate) fn has_room(&self) -> bool {
        let mut queue = self.lock();
        let is_busy = queue.is_busy();
        queue.counted.busy += u64::from(is_busy);
        !is_busy
    }

    /// What was counted, and how it stands.
    pub(crate) fn figures(&self) -> JournalFigures {
        let queue = self.lock();
        JournalFigures {
            waiting: queue.waiting.len(),
            waiting_bytes: queue.bytes,
            since_checkpoint: queue.since_checkpoint,
            ..queue.counted.clone()
        }
    }

    /// How it goes.
    pub(crate) fn condition(&self) -> Condition {
        let queue = self.lock();
        match &queue.mode {
            Mode::Behind(error) | Mode::Ended(error) => Condition::Failed(Arc::clone(error)),
            Mode::Keeping | Mode::Held if queue.is_busy() => Condition::Busy,
            Mode::Keeping | Mode::Held => Condition::Keeping,
        }
    }

    /// Gives a report to the disk. To be called in the order in which reports are applied, and so with the state locked.
    /// What is returned is told once the report is kept.
    pub(crate) fn append(&self, value: Bytes) -> oneshot::Receiver<Result<(), NotKept>> {
        let (kept, told) = oneshot::channel();
        let mut queue = self.lock();
        let refusal = match &queue.mode {
            Mode::Keeping | Mode::Held => None,
            Mode::Behind(error) => Some(NotKept::Later(Arc::clone(error))),
            Mode::Ended(error) => Some(NotKept::Never(Arc::clone(error))),
        };
        if let Some(refusal) = refusal {
            queue.refuse(&refusal, 1);
            // Nobody waits any more is no matter.
            _ = kept.send(Err(refusal));
            return told;
        }
        let number = queue.next;
        queue.next += 1;
        queue.bytes += value.len();
        queue.waiting.push_back(Entry { number, value, kept });
        queue.counted.waiting_peak = queue.counted.waiting_peak.max(queue.waiting.len());
        drop(queue);
        self.wake.notify_all();
        told
    }

    /// Commits what waits until [`Self::stop`], or until the disk fails for good.
    pub(crate) fn run(&self, store: &dyn Store, tell: impl Fn(Told)) {
        while let Some(entries) = self.wait() {
            let put = entries.iter().map(|entry| (Table::Journal, key(entry.number), entry.value.clone()));
            let batch = Batch { put: put.collect(), ..Batch::default() };
            let bytes: usize = entries.iter().map(|entry| entry.value.len()).sum();
            match store.commit(batch) {
                Ok(()) => {
                    self.committed(entries.len(), bytes);
                    for entry in entries {
                        // Who told it may have given up, and tells it again.
                        _ = entry.kept.send(Ok(()));
                    }
                }
                Err(error) => {
                    let told = self.fail(Arc::new(error));
                    let refusal = match &told {
                        Told::Behind(error) => NotKept::Later(Arc::clone(error)),
                        Told::Ended(error) => NotKept::Never(Arc::clone(error)),
                    };
                    self.lock().refuse(&refusal, entries.len());
                    // First, so that whoever is refused here finds why among the events.
                    tell(told);
                    refuse(entries, &refusal);
                }
            }
        }
    }

    fn committed(&self, frames: usize, bytes: usize) {
        let mut queue = self.lock();
        queue.since_checkpoint += bytes as u64;
        queue.counted.frames += frames as u64;
        queue.counted.batches += 1;
        queue.counted.bytes += bytes as u64;
    }

    /// What waits, once something does; nothing when it is to end.
    fn wait(&self) -> Option<Vec<Entry>> {
        let mut queue = self.lock();
        loop {
            let is_held = matches!(queue.mode, Mode::Held);
            if !queue.waiting.is_empty() && !is_held {
                break;
            }
            if queue.is_stopping && !is_held {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = queue.waiting.front() {
            bytes += entry.value.len();
            if bytes > BATCH_BYTES_MAX && !entries.is_empty() {
                break;
            }
            queue.bytes -= entry.value.len();
            entries.extend(queue.waiting.pop_front());
        }
        Some(entries)
    }

    /// Nothing is kept from now on: what waits is refused, since the disk now lacks something that was applied before it.
    fn fail(&self, error: Arc<StoreError>) -> Told {
        let mut queue = self.lock();
        let (told, mode, refusal) = if is_final(&error) {
            (Told::Ended(Arc::clone(&error)), Mode::Ended(Arc::clone(&error)), NotKept::Never(error))
        } else {
            (Told::Behind(Arc::clone(&error)), Mode::Behind(Arc::clone(&error)), NotKept::Later(error))
        };
        queue.mode = mode;
        queue.bytes = 0;
        let waiting = std::mem::take(&mut queue.waiting);
        queue.refuse(&refusal, waiting.len());
        drop(queue);
        refuse(waiting, &refusal);
        told
    }

    /// The number of the first report that is not applied yet. To be called with the state locked; what is applied from
    /// then on waits, if the disk lacks something, until [`Self::end_checkpoint`].
    pub(crate) fn begin_checkpoint(&self) -> u64 {
        let mut queue = self.lock();
        if matches!(queue.mode, Mode::Behind(_)) {
            queue.mode = Mode::Held;
        }
        queue.next
    }

    /// What became of the checkpoint that was begun. Returns whether it made up for what the disk lacked, and what
    /// others should know.
    pub(crate) fn end_checkpoint(&self, done: Result<(), StoreError>) -> (bool, Option<Told>) {
        match done {
            Ok(()) => {
                let mut queue = self.lock();
                queue.since_checkpoint = 0;
                let was_behind = matches!(queue.mode, Mode::Held);
                if was_behind {
                    queue.mode = Mode::Keeping;
                }
                drop(queue);
                self.wake.notify_all();
                (was_behind, None)
            }
            Err(error) => {
                let was_keeping = matches!(self.lock().mode, Mode::Keeping);
                // A disk that has room for reports and none for a checkpoint is not behind yet.
                if was_keeping && !is_final(&error) {
                    return (false, None);
                }
                let told = self.fail(Arc::new(error));
                self.wake.notify_all();
                (false, Some(told).filter(|told| was_keeping || matches!(told, Told::Ended(_))))
            }
        }
    }

    /// Whether the disk lacks something that was applied.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self.lock().mode, Mode::Behind(_))
    }

    /// Bytes that were committed since the last checkpoint.
    pub(crate) fn since_checkpoint(&self) -> u64 {
        self.lock().since_checkpoint
    }

    /// Ends [`Self::run`] once what waits is committed.
    pub(crate) fn stop(&self) {
        self.lock().is_stopping = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing may be written any more.
fn is_final(error: &StoreError) -> bool {
    !matches!(error, StoreError::Full { .. } | StoreError::Failed { .. })
}

fn refuse(entries: impl IntoIterator<Item = Entry>, refusal: &NotKept) {
    for entry in entries {
        // Nobody waits any more is no matter.
        _ = entry.kept.send(Err(refusal.clone()));
    }
}

/// The key of a report.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// The number of the report under `key`.
pub(crate) fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// A report as it stands in the journal: when it arrived, under which token, and its bytes, with its roster if it came
/// with it. Who may tell what was looked at before, and is not asked again.
pub(crate) fn entry(arrived: Timestamp, token: &str, report: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(HEAD_BYTES + token.len() + report.len());
    value.push(VERSION);
    value.extend_from_slice(&arrived.0.to_be_bytes());
    // Nobody calls a token by more; of one that is, rosters are asked for again.
    let token = token.get(..usize::from(u16::MAX)).unwrap_or(token);
    let length = u16::try_from(token.len()).unwrap_or(0);
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(&token.as_bytes()[..usize::from(length)]);
    value.extend_from_slice(report);
    value.into()
}

/// A report of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept<'a> {
    /// When it arrived.
    pub(crate) arrived: Timestamp,
    /// The name of the token under which it came.
    pub(crate) token: &'a str,
    /// What it is.
    pub(crate) report: &'a [u8],
}

/// A report of the journal; the version of an entry that is not understood.
pub(crate) fn read(value: &[u8]) -> Result<Kept<'_>, u8> {
    let version = value.first().copied().unwrap_or_default();
    let Some(([VERSION, arrived @ .., high, low], rest)) = value.split_first_chunk::<HEAD_BYTES>() else {
        return Err(version);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (token, report) = rest.split_at_checked(length).ok_or(version)?;
    let token = std::str::from_utf8(token).map_err(|_| version)?;
    Ok(Kept { arrived: Timestamp(u64::from_be_bytes(*arrived)), token, report })
}

/// What a report of the journal says, for people: nothing where `value` is none.
pub(crate) fn shown(key: &[u8], value: &[u8]) -> Option<serde_json::Value> {
    let Kept { arrived, token, report } = read(value).ok()?;
    let report = Report::decode(report).ok()?;
    let seconds = report.slots.iter().map(|slot| slot.second.0);
    let vantage = report.roster.as_ref().map(|roster| {
        json!({"kind": roster.vantage.kind.name(), "region": roster.vantage.region, "node": roster.vantage.node,
            "series": roster.series.len()})
    });
    let gaps = report.gaps.iter().map(|gap| u64::from(gap.count) * gap.span.seconds());
    Some(json!({
        "number": number(key),
        "arrived": arrived.0 as f64 / 1e6,
        "token": token,
        "boot": format!("{:016x}", report.boot),
        "sequence": report.sequence,
        "roster_id": format!("{:016x}", report.roster_id),
        "roster": vantage,
        "slots": report.slots.len(),
        "from": seconds.clone().min(),
        "until": seconds.max().map(|second| second + 1),
        "slots_in_gaps": gaps.sum::<u64>(),
    }))
}

#[cfg(test)]
mod tests;
