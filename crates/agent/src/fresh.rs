//! Reports that were just made, on their way from the keeper to the shipper.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aviary_store::RecordId;
use tokio::sync::Notify;

use crate::push::Body;

/// How many bytes of reports wait in memory to be pushed at most. What does not fit is fetched from the spool later.
const FRESH_BYTES_MAX: usize = 8 << 20;

/// A report that nobody has taken yet.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Where it is in the spool; `None` if that could not take it.
    pub(crate) id: Option<RecordId>,
    pub(crate) slots: u64,
    pub(crate) body: Body,
}

/// Reports that were just made, on their way to the shipper.
#[derive(Default)]
pub(crate) struct Fresh {
    state: Mutex<FreshState>,
    changed: Notify,
}

#[derive(Default)]
struct FreshState {
    reports: VecDeque<Kept>,
    bytes: usize,
    is_last: bool,
}

impl Fresh {
    /// Puts reports in, and returns how many slots of others were dropped for want of room: only reports that are in no
    /// spool are lost by that.
    pub(crate) fn put(&self, reports: Vec<Kept>, is_last: bool) -> u64 {
        let mut lost = 0;
        let mut state = self.lock();
        state.is_last |= is_last;
        for report in reports {
            state.bytes += report.body.report.len();
            state.reports.push_back(report);
        }
        while state.bytes > FRESH_BYTES_MAX {
            let Some(oldest) = state.reports.pop_front() else { break };
            state.bytes -= oldest.body.report.len();
            lost += if oldest.id.is_none() { oldest.slots } else { 0 };
        }
        drop(state);
        self.changed.notify_one();
        lost
    }

    /// Takes everything out, the newest first; what is put back has its place again.
    pub(crate) fn take(&self) -> Vec<Kept> {
        let mut state = self.lock();
        state.bytes = 0;
        state.reports.drain(..).rev().collect()
    }

    /// Puts back what was taken out, the newest first.
    pub(crate) fn put_back(&self, reports: impl IntoIterator<Item = Kept>) {
        let mut state = self.lock();
        for report in reports {
            state.bytes += report.body.report.len();
            state.reports.push_front(report);
        }
    }

    /// How many slots wait here that no spool has.
    pub(crate) fn unkept_slots(&self) -> u64 {
        self.lock().reports.iter().filter(|report| report.id.is_none()).map(|report| report.slots).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().reports.is_empty()
    }

    /// Whether the last report was put in.
    pub(crate) fn is_last(&self) -> bool {
        self.lock().is_last
    }

    /// Waits for reports, or for the last.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, FreshState> {
        // Each change is whole by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
