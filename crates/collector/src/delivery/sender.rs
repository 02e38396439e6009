//! The loop: every order is one attempt, and no receiver waits for another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aviary_core::{
    Clock, Timestamp,
    page::{Message, Sent},
};
use aviary_notify::{ATTEMPT_TIMEOUT, Attempt, Page, Reason};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{Desk, Ended, Notify, Order, bare_page, page_of, sent_of, test_page};

/// So many attempts at one receiver are made at once. The outbox asks for fewer unless it is told otherwise.
const AT_ONCE: usize = 8;

/// So many orders for one receiver are held, those that are on their way among them.
const HELD_MAX: usize = 64;

/// So many orders are held in all: the rest stay in the channel, which is bounded as well.
const HELD_IN_ALL_MAX: usize = 4_096;

/// An order of this age is not begun: the outbox gives it up after a minute, and sends what follows it.
const STALE_US: u64 = 30_000_000;

/// A receiver gives up by itself; one that does not is given up.
const ATTEMPT_MAX: Duration = ATTEMPT_TIMEOUT.saturating_add(Duration::from_secs(1));

/// So long what is under way may take to end when the loop is stopped. The next life sends again what did not.
const FAREWELL: Duration = Duration::from_secs(3);

/// Sends what the outbox of a [`Desk`] asks for.
pub struct Sender<N, D, C> {
    desk: Arc<D>,
    clock: C,
    lanes: Mutex<BTreeMap<String, Lane<N>>>,
}

/// The way to one receiver.
struct Lane<N> {
    receiver: Arc<N>,
    places: Arc<Semaphore>,
    tally: Arc<Mutex<Tally>>,
}

impl<N> Clone for Lane<N> {
    fn clone(&self) -> Self {
        Self {
            receiver: Arc::clone(&self.receiver),
            places: Arc::clone(&self.places),
            tally: Arc::clone(&self.tally),
        }
    }
}

/// What is counted of one receiver.
#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    refused: BTreeMap<Reason, u64>,
    turned_away: u64,
    /// When what is held was asked for: by a number of its own.
    held: BTreeMap<u64, Timestamp>,
    next: u64,
}

/// What is known of one receiver, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Its name.
    pub receiver: String,
    /// So many messages it took.
    pub delivered: u64,
    /// So many attempts came to nothing, by reason; of those reasons only that there were.
    pub refused: Vec<(Reason, u64)>,
    /// So many orders were handed back without an attempt: too many were held, or they were too old.
    pub turned_away: u64,
    /// When the oldest order that is held was asked for.
    pub oldest_held: Option<Timestamp>,
}

impl<N: Notify, D: Desk, C: Clock> Sender<N, D, C> {
    /// One that tells `receivers`, by their names.
    pub fn new(desk: Arc<D>, clock: C, receivers: impl IntoIterator<Item = (String, N)>) -> Self {
        let sender = Self { desk, clock, lanes: Mutex::default() };
        sender.configure(receivers);
        sender
    }

    /// These are the receivers from now on. What is on its way is told to its end.
    pub fn configure(&self, receivers: impl IntoIterator<Item = (String, N)>) {
        let mut lanes = self.lanes();
        let mut before = std::mem::take(&mut *lanes);
        for (name, receiver) in receivers {
            let receiver = Arc::new(receiver);
            let lane = match before.remove(&name) {
                Some(lane) => Lane { receiver, ..lane },
                None => Lane { receiver, places: Arc::new(Semaphore::new(AT_ONCE)), tally: Arc::default() },
            };
            lanes.insert(name, lane);
        }
    }

    /// What is known of each receiver.
    pub fn figures(&self) -> Vec<Figures> {
        let figures = |(name, lane): (&String, &Lane<N>)| {
            let tally = lock(&lane.tally);
            Figures {
                receiver: name.clone(),
                delivered: tally.delivered,
                refused: tally.refused.iter().map(|(reason, count)| (*reason, *count)).collect(),
                turned_away: tally.turned_away,
                oldest_held: tally.held.values().min().copied(),
            }
        };
        self.lanes().iter().map(figures).collect()
    }

    /// Sends what is ordered, until `stopped` or nobody orders any more; then waits a little for what is under way.
    pub async fn run(self: Arc<Self>, mut orders: mpsc::Receiver<Order>, mut stopped: watch::Receiver<bool>) {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                // The other end gone means stop as well.
                _ = stopped.wait_for(|stop| *stop) => break,
                Some(ended) = under_way.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "An attempt to deliver a page failed; it is made again within a minute.");
                    }
                }
                order = orders.recv(), if under_way.len() < HELD_IN_ALL_MAX => {
                    let Some(order) = order else { break };
                    under_way.spawn(Arc::clone(&self).carry(order));
                }
            }
        }
        let all = async { while under_way.join_next().await.is_some() {} };
        if timeout(FAREWELL, all).await.is_err() {
            let left = under_way.len();
            tracing::warn!(left, "Pages were on their way at the end; the next start sends them again.");
            under_way.shutdown().await;
        }
    }

    async fn carry(self: Arc<Self>, order: Order) {
        let (sent, receipt) = self.attempt(&order).await;
        let Order { id, receiver, attempt, .. } = order;
        self.desk.ended(Ended { id, receiver, attempt: attempt.number, sent, receipt }).await;
    }

    /// What came of `order`, and what is to be kept of it.
    async fn attempt(&self, order: &Order) -> (Sent, Option<String>) {
        let name = &order.receiver;
        let Some(lane) = self.lanes().get(name).cloned() else {
            let why = format!("receiver `{name}` is not in the configuration any more");
            return (Sent::Refused(why.clone()), Some(why));
        };
        let back = Sent::NotTaken { retry_after: None };
        let Some(_held) = Held::begin(&lane.tally, order.attempt.since) else { return (back, None) };
        // It is never closed.
        let _place = lane.places.acquire().await;
        let now = self.clock.wall();
        if now.since(order.attempt.since) >= STALE_US {
            lock(&lane.tally).turned_away += 1;
            return (back, None);
        }
        let page = match self.page(order) {
            Ok(page) => page,
            Err(why) => return (Sent::Refused(why.clone()), Some(why)),
        };
        let message = order.attempt.message;
        let Ok(outcome) = timeout(ATTEMPT_MAX, lane.receiver.send(&page, Attempt { now })).await else {
            *lock(&lane.tally).refused.entry(Reason::Timeout).or_default() += 1;
            return (Sent::Unknown { retry_after: None }, None);
        };
        let sent = sent_of(&outcome, lane.receiver.contract());
        let receipt = match &outcome {
            Ok(receipt) => {
                lock(&lane.tally).delivered += 1;
                tracing::info!(incident = %order.id, receiver = name, %message, said = receipt.text, "A page was taken.");
                let reference = receipt.reference.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
                Some(format!("took `{message}`: {}{reference}", receipt.text))
            }
            Err(refusal) => {
                *lock(&lane.tally).refused.entry(refusal.reason).or_default() += 1;
                let reason = refusal.reason.name();
                tracing::warn!(incident = %order.id, receiver = name, %message, reason, %refusal, "A page was not taken.");
                let is_final = matches!(sent, Sent::Refused(_));
                match message {
                    _ if is_final => Some(format!("refuses `{message}` for good: {refusal}")),
                    // Whoever tests a receiver wants to see it.
                    Message::Test | Message::TestOver => {
                        Some(format!("does not take `{message}`: {refusal}"))
                    }
                    _ => None,
                }
            }
        };
        (sent, receipt)
    }

    /// The page that is ordered, of the incident as it is now.
    fn page(&self, order: &Order) -> Result<Page, String> {
        match (order.attempt.message, self.desk.look_up(&order.id, &order.receiver)) {
            (Message::Test | Message::TestOver, _) => Ok(test_page(order)),
            (_, Some(subject)) => Ok(page_of(order, &subject)),
            (Message::Resolved | Message::FiredAndRecovered, None) => {
                Ok(bare_page(order, "it is over; nothing more is kept of it"))
            }
            (Message::Opened | Message::Updated, None) => {
                Err(format!("nothing is kept of incident {}", order.id))
            }
        }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<String, Lane<N>>> {
        lock(&self.lanes)
    }
}

/// An order that is held, until it is dropped.
struct Held {
    tally: Arc<Mutex<Tally>>,
    number: u64,
}

impl Held {
    /// None, and counted, where too many are held.
    fn begin(tally: &Arc<Mutex<Tally>>, since: Timestamp) -> Option<Self> {
        let mut counts = lock(tally);
        if counts.held.len() >= HELD_MAX {
            counts.turned_away += 1;
            return None;
        }
        let number = counts.next;
        counts.next += 1;
        counts.held.insert(number, since);
        Some(Self { tally: Arc::clone(tally), number })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.tally).held.remove(&self.number);
    }
}

/// What a panicking thread left behind is counts of which one may lack.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
