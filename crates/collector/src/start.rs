//! A collector with a store: what it does before it is ready, each minute, and at its end.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use aviary_core::{Second, SeriesId};
use aviary_store::{Store, StoreError, StoreFigures, Table};
use aviary_wire::report::{Report, ReportError, Version};
use tokio::sync::watch;

use crate::{
    Inner,
    access::Reporter,
    checkpoint::{Checkpoint, pack_slots},
    events::Event,
    history::{Fleet, History, HistoryError, Lives, Record},
    journal::{self, Journal, Told},
    judgement::Life,
    state::{Refusal, State, Texts},
};

/// A checkpoint is made so often.
const CHECKPOINT_US: u64 = 60_000_000;

/// And whenever so many bytes of reports came since the last: what a start replays has a bound.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;

/// A disk without room is tried again so often.
const RETRY_US: u64 = 5_000_000;

/// How often it is looked whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(200);

/// All of it is replayed.
const READY: u32 = 1_000_000;

/// What a collector keeps things in, and the threads that do.
pub(crate) struct Durable {
    store: Arc<dyn Store>,
    journal: OnceLock<Arc<Journal>>,
    /// How much of the journal was replayed, in parts per million.
    replayed: AtomicU32,
    is_stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    failure: watch::Sender<Option<Arc<StoreError>>>,
    /// One copy is made at a time.
    pub(crate) copying: tokio::sync::Semaphore,
}

impl Durable {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            journal: OnceLock::new(),
            replayed: AtomicU32::new(0),
            is_stopping: AtomicBool::new(false),
            threads: Mutex::default(),
            failure: watch::Sender::default(),
            copying: tokio::sync::Semaphore::new(1),
        }
    }

    /// The share of the journal that was replayed, unless all of it was.
    pub(crate) fn replaying(&self) -> Option<f64> {
        let replayed = self.replayed.load(Ordering::Acquire);
        (replayed < READY).then(|| f64::from(replayed) / f64::from(READY))
    }

    /// Where reports are kept; nowhere before all of it is replayed.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.get()
    }

    /// What the store costs its disk.
    pub(crate) fn store_figures(&self) -> StoreFigures {
        self.store.figures()
    }

    /// Waits until nothing can be kept any more in the life of this process, and returns why.
    pub(crate) async fn failed(&self) -> Arc<StoreError> {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        match failed {
            Some(failure) => failure,
            // The sender lives as long as we are borrowed.
            None => std::future::pending().await,
        }
    }

    /// Why nothing can be kept any more in the life of this process, if that is so.
    pub(crate) fn failure(&self) -> Option<Arc<StoreError>> {
        self.failure.borrow().clone()
    }

    pub(crate) fn fail(&self, error: Arc<StoreError>) {
        tracing::error!("{error}");
        self.failure.send_replace(Some(error));
    }

    fn keep_thread(&self, thread: std::io::Result<JoinHandle<()>>) {
        match thread {
            Ok(thread) => self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(error) => {
                let reason = format!("the system gives no thread to write with: {error}");
                self.fail(Arc::new(StoreError::Failed { path: self.store.place(), reason }));
            }
        }
    }

    /// Copies the store to a file that is not there yet, and returns its size in bytes. Blocks.
    pub(crate) fn backup(&self, target: &Path) -> Result<u64, StoreError> {
        self.store.backup(target)
    }
}

/// Takes up what the store holds, on a thread of its own, and from then on keeps what comes.
pub(crate) fn begin(inner: &Arc<Inner>) {
    let Some(durable) = &inner.durable else { return };
    let of_thread = Arc::clone(inner);
    durable.keep_thread(thread::Builder::new().name("replay".to_owned()).spawn(move || take_up(&of_thread)));
}

fn take_up(inner: &Arc<Inner>) {
    let Some(durable) = &inner.durable else { return };
    let taken_up = catch_unwind(AssertUnwindSafe(|| restore(inner, durable)));
    let TakenUp { state, texts, next, replayed_bytes } = match taken_up {
        Ok(Ok(taken_up)) => taken_up,
        Ok(Err(error)) => return durable.fail(Arc::new(error)),
        Err(_) => {
            let reason = "what it holds cannot be taken up; the log says more".to_owned();
            return durable.fail(Arc::new(StoreError::Failed { path: durable.store.place(), reason }));
        }
    };
    if durable.is_stopping.load(Ordering::Acquire) {
        return;
    }
    let journal = Arc::new(Journal::new(next, replayed_bytes));
    {
        let mut held = inner.state();
        let mut state = state;
        let now = (inner.now)();
        // Another configuration may have come meanwhile, and what storage showed meanwhile was let go of.
        state.configure(held.services(), now);
        state.storage_untold(now.second());
        state.judge(now);
        *held = state;
    }
    let (history, fleet) = (Arc::clone(&inner.history), Arc::downgrade(inner));
    let keep = move || history.keep(&fleet);
    durable.keep_thread(thread::Builder::new().name("history".to_owned()).spawn(keep));
    _ = durable.journal.set(Arc::clone(&journal));
    durable.replayed.store(READY, Ordering::Release);
    let (of_thread, weak) = (Arc::clone(&journal), Arc::downgrade(inner));
    let store = Arc::clone(&durable.store);
    let write = move || of_thread.run(&*store, |told| tell(&weak, told));
    durable.keep_thread(thread::Builder::new().name("journal".to_owned()).spawn(write));
    let (weak, store) = (Arc::downgrade(inner), Arc::clone(&durable.store));
    let keep = move || keep_checkpoints(&weak, &journal, &*store, texts);
    durable.keep_thread(thread::Builder::new().name("checkpoint".to_owned()).spawn(keep));
}

/// What the store holds.
struct TakenUp {
    state: State,
    texts: Texts,
    /// The number of the next report.
    next: u64,
    /// Bytes of the reports that no checkpoint covers.
    replayed_bytes: u64,
}

fn restore(inner: &Inner, durable: &Durable) -> Result<TakenUp, StoreError> {
    let store = &*durable.store;
    let began = (inner.monotonic)();
    let now = (inner.now)();
    let (name, services) = {
        let state = inner.state();
        (state.name().to_owned(), state.services())
    };
    let mut texts = Texts::default();
    let (mut state, covers) = match Checkpoint::read(store)? {
        Some(mut checkpoint) => {
            let slots = checkpoint.take_slots().map_err(|error| error.in_store(store))?;
            texts = Texts::of(&checkpoint.kept);
            let state = State::restore(name, services, checkpoint.kept, slots, now);
            (state.map_err(|error| error.in_store(store))?, checkpoint.covers)
        }
        None => (State::new(name, services, now), 0),
    };
    let from_checkpoint = (inner.monotonic)().since(began) / 1_000;
    let mut life = Life::read(store, now.second())?;
    let (learnt, worked) = (std::mem::take(&mut life.learnt), std::mem::take(&mut life.worked));
    state.watched_mut().restore(learnt, worked, std::mem::take(&mut life.cleared));
    inner.judgement.restore(state.name(), life);
    let mut last = None;
    store.range_back(Table::Journal, &[], &[u8::MAX; 9], &mut |key, _| {
        last = journal::number(key);
        ControlFlow::Break(())
    })?;
    let next = last.map_or(covers, |last| covers.max(last + 1));
    let history = &inner.history;
    state.keep_history(Arc::clone(history), now).map_err(|error| of_history(error, store))?;
    let mut replay =
        Replay { state: &mut state, history, reports: 0, bytes: 0, refused: 0, unreadable: None };
    store.range(Table::Journal, &journal::key(covers), &[u8::MAX; 9], &mut |key, value| {
        let flow = replay.take(key, value, store);
        let done = journal::number(key).map_or(0, |number| number + 1 - covers);
        let share = (done as f64 / (next - covers).max(1) as f64 * f64::from(READY)) as u32;
        durable.replayed.store(share.min(READY - 1), Ordering::Release);
        if durable.is_stopping.load(Ordering::Acquire) { ControlFlow::Break(()) } else { flow }
    })?;
    let Replay { reports, bytes: replayed_bytes, refused, unreadable, .. } = replay;
    if let Some(error) = unreadable {
        return Err(error);
    }
    if refused > 0 {
        tracing::error!(refused, "Reports that were acknowledged could not be applied again.");
    }
    let now = (inner.now)();
    state.advance(now);
    state.begin_to_watch(now);
    let (series, took_ms) = (state.catalog().len(), (inner.monotonic)().since(began) / 1_000);
    tracing::info!(
        series,
        reports,
        from_checkpoint_ms = from_checkpoint,
        took_ms,
        "The live window is there again."
    );
    Ok(TakenUp { state, texts, next, replayed_bytes })
}

/// The journal, report by report.
struct Replay<'a> {
    state: &'a mut State,
    history: &'a History,
    reports: u64,
    bytes: u64,
    refused: u64,
    unreadable: Option<StoreError>,
}

impl Replay<'_> {
    fn take(&mut self, key: &[u8], value: &[u8], store: &dyn Store) -> ControlFlow<()> {
        let place = || format!("journal {}", journal::number(key).unwrap_or_default());
        let damaged = |reason: String| StoreError::Damaged { path: store.place(), place: place(), reason };
        let newer = |found: u32, known: u32| StoreError::Newer {
            path: format!("{} in {}", place(), store.place()),
            found: found.into(),
            known: known.into(),
        };
        let report = match journal::read(value) {
            Ok(kept) => Report::decode(kept.report).map(|report| (kept.arrived, kept.token, report)).map_err(
                |error| match error {
                    ReportError::Version { found, .. } if found > Version::NEWEST => {
                        newer(found.0, Version::NEWEST.0)
                    }
                    error => damaged(error.to_string()),
                },
            ),
            Err(version) if version > journal::VERSION => Err(newer(version.into(), journal::VERSION.into())),
            Err(version) => Err(damaged(format!("version {version} of a report is not known here"))),
        };
        match report {
            Ok((arrived, token, report)) => {
                self.reports += 1;
                self.bytes += value.len() as u64;
                let reporter = Reporter { token: token.into(), ..Reporter::default() };
                let mut taken = self.state.take(&report, Some(&reporter), arrived);
                if matches!(taken, Err(Refusal::Backlog)) {
                    // Its thread is not there yet.
                    if let Err(error) = self.history.settle(&Replaying(arrived.second())) {
                        self.unreadable = Some(of_history(error, store));
                        return ControlFlow::Break(());
                    }
                    taken = self.state.take(&report, Some(&reporter), arrived);
                }
                if let Err(refusal) = taken {
                    self.refused += 1;
                    tracing::debug!(number = journal::number(key), %refusal, "A report is not applied again.");
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.unreadable = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// A collector that is being made anew, as its history sees it: nothing is to be remembered of its series yet.
struct Replaying(Second);

impl Fleet for Replaying {
    fn lives(&self) -> Option<(Lives, Arc<Vec<SeriesId>>)> {
        None
    }

    fn records(&self, _: usize, _: usize) -> Vec<Record> {
        Vec::new()
    }

    fn now(&self) -> Option<Second> {
        Some(self.0)
    }
}

/// What ails the history, as what ails its store.
fn of_history(error: HistoryError, store: &dyn Store) -> StoreError {
    match error {
        HistoryError::Store(error) => error,
        error @ (HistoryError::Unlike { .. } | HistoryError::Damaged { .. }) => {
            let (path, place) = (store.place(), "the history".to_owned());
            StoreError::Damaged { path, place, reason: error.to_string() }
        }
        error => StoreError::Failed { path: store.place(), reason: error.to_string() },
    }
}

/// Lets everybody know what became of the disk.
fn tell(inner: &Weak<Inner>, told: Told) {
    let Some(inner) = inner.upgrade() else { return };
    match told {
        Told::Behind(error) => {
            tracing::error!("{error}. Agents keep what they tell meanwhile, and verdicts go on from memory.");
            let text = format!("reports cannot be kept: {error}");
            let now = (inner.now)();
            inner.state().note_event(Event::of_ours("store_full", text, now.second()));
        }
        Told::Ended(error) => {
            if let Some(durable) = &inner.durable {
                durable.fail(error);
            }
        }
    }
}

/// Makes a checkpoint each minute, and a last one at the end.
fn keep_checkpoints(inner: &Weak<Inner>, journal: &Journal, store: &dyn Store, mut texts: Texts) {
    let Some(began) = inner.upgrade().map(|inner| (inner.monotonic)()) else { return };
    let mut last = began;
    loop {
        thread::park_timeout(LOOK);
        let Some(inner) = inner.upgrade() else { return };
        let Some(durable) = &inner.durable else { return };
        if durable.is_stopping.load(Ordering::Acquire) {
            return;
        }
        let now = (inner.monotonic)();
        let is_due = now.since(last) >= if journal.is_behind() { RETRY_US } else { CHECKPOINT_US };
        if is_due || journal.since_checkpoint() >= JOURNAL_BYTES_MAX {
            last = now;
            make_checkpoint(&inner, journal, store, &mut texts);
        }
    }
}

fn make_checkpoint(inner: &Inner, journal: &Journal, store: &dyn Store, texts: &mut Texts) {
    let began = (inner.monotonic)();
    let checkpoint = checkpoint(inner, journal, texts);
    // The reports that it covers leave the journal with it: what they told of the past is to be kept by then.
    let settled = inner.history.settle(inner).map_err(|error| of_history(error, store));
    let done = settled.and_then(|()| checkpoint.write(store));
    if let Err(error) = &done {
        tracing::warn!("No checkpoint is kept: {error}");
    }
    let (has_recovered, told) = journal.end_checkpoint(done);
    if has_recovered {
        tracing::info!("Reports are kept again.");
        let now = (inner.now)().second();
        let text = "there is room again: reports are kept".to_owned();
        inner.state().note_event(Event::of_ours("store_recovered", text, now));
    }
    match told {
        Some(Told::Behind(error)) => tracing::error!("{error}"),
        Some(Told::Ended(error)) => {
            if let Some(durable) = &inner.durable {
                durable.fail(error);
            }
        }
        None => {}
    }
    let took_ms = (inner.monotonic)().since(began) / 1_000;
    tracing::debug!(took_ms, "A checkpoint was made.");
}

/// What is known now, without holding the state for longer than a block of slots takes.
fn checkpoint(inner: &Inner, journal: &Journal, texts: &mut Texts) -> Checkpoint {
    let (kept, pool, covers, numbers) = {
        let state = inner.state();
        let (kept, pool) = state.keep(texts);
        (kept, pool, journal.begin_checkpoint(), state.block_numbers())
    };
    let mut kept = kept;
    texts.put(&mut kept);
    pool.finish(&mut kept);
    let series = texts.series();
    let block = |number: u64| {
        let slots = inner.state().keep_block(number, series);
        (slots.len() == series).then(|| (number, pack_slots(&slots)))
    };
    let blocks = numbers.into_iter().filter_map(block).collect();
    Checkpoint { covers, kept, series, blocks }
}

/// Ends it well: what waits is kept, and what is known is as well. Blocks.
pub(crate) fn end(inner: &Inner) {
    let Some(durable) = &inner.durable else { return };
    durable.is_stopping.store(true, Ordering::Release);
    if let Some(journal) = durable.journal() {
        journal.stop();
    }
    inner.history.close();
    let threads = std::mem::take(&mut *durable.threads.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in threads {
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("A thread that keeps reports failed.");
        }
    }
    if let Some(journal) = durable.journal()
        && durable.failure.borrow().is_none()
    {
        make_checkpoint(inner, journal, &*durable.store, &mut Texts::default());
    }
    durable.store.close();
}

#[cfg(test)]
mod tests;
