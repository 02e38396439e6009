//! A desk with a real outbox, and receivers that do as they are told and keep what they took.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use aviary_core::{
    Clock as _, Timestamp,
    incident::Id,
    page::{Change, Event, Notice, Outbox, Paging, Receiver, Severity, Urgency},
};
use aviary_notify::{Contract, Event as PageEvent, Page, Reason, Receipt, Refusal, Retry};
use aviary_probe::scripted::PausedClock;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use super::*;

/// When the desk begins its work.
pub(super) const START: Timestamp = Timestamp(1_795_230_900_000_000);

/// A receiver that wakes people and honours keys, and takes whatever comes.
pub(super) const PAGER: Receiver = Receiver { wakes: true, per_minute: 6_000, in_flight: 4 };

/// One that wakes nobody.
pub(super) const CHAT: Receiver = Receiver { wakes: false, ..PAGER };

/// The desk.
pub(super) struct Office {
    books: Mutex<Books>,
    clock: PausedClock,
}

struct Books {
    outbox: Outbox,
    paging: Paging,
    orders: mpsc::Sender<Order>,
    /// What every incident looks like; none, where nothing is kept of any.
    stock: Option<Incident>,
    steps: u64,
    ended: Vec<Ended>,
}

impl Office {
    fn step(&self, event: Event) {
        let now = self.clock.wall();
        let mut books = self.books.lock().unwrap();
        books.steps += 1;
        let Books { outbox, paging, orders, steps, .. } = &mut *books;
        for order in outbox.step(event, paging, now, *steps).into_iter().filter_map(Order::of) {
            // A life that has ended takes no orders.
            _ = orders.try_send(order);
        }
    }

    fn told(&self, id: &str, revision: u64, change: Change) {
        self.step(Event::Told(Notice { revision, change, ..notice(id) }));
    }

    pub(super) fn open(&self, id: &str) {
        self.told(id, 1, Change::Opened);
    }

    pub(super) fn update(&self, id: &str, revision: u64) {
        self.told(id, revision, Change::Updated);
    }

    pub(super) fn resolve(&self, id: &str) {
        self.told(id, 1_000, Change::Resolved);
    }

    pub(super) fn test(&self, id: &str, receiver: &str) {
        self.step(Event::Test(notice(id), receiver.to_owned()));
    }

    pub(super) fn forget_all(&self) {
        self.books.lock().unwrap().stock = None;
    }

    /// Everything that was reported.
    pub(super) fn ended(&self) -> Vec<Ended> {
        self.books.lock().unwrap().ended.clone()
    }

    /// What is left to be told.
    pub(super) fn cases(&self) -> usize {
        self.books.lock().unwrap().outbox.cases().count()
    }

    /// A new life, with what the one before had kept.
    pub(super) fn live(&self) -> mpsc::Receiver<Order> {
        let (orders, taken) = mpsc::channel(1_024);
        let mut books = self.books.lock().unwrap();
        books.orders = orders;
        books.outbox = Outbox::from_kept(books.outbox.kept());
        taken
    }
}

impl Desk for Office {
    fn look_up(&self, id: &Id, _: &str) -> Option<Subject> {
        let stock = self.books.lock().unwrap().stock.clone()?;
        Some(subject(&Incident { id: id.clone(), ..stock }, None))
    }

    async fn ended(&self, ended: Ended) {
        self.books.lock().unwrap().ended.push(ended.clone());
        self.step(ended.events().0);
    }

    async fn acknowledge(&self, key: &str, _: String) -> bool {
        self.step(Event::Acknowledged(Id::given(key.trim_start_matches("aviary:main:"))));
        true
    }
}

pub(super) fn notice(id: &str) -> Notice {
    Notice {
        id: Id::given(id),
        key: format!("aviary:main:{id}"),
        revision: 1,
        reopens: 0,
        change: Change::Opened,
        urgency: Urgency::Page,
        severity: Severity::Critical,
        tags: of_service("ingest"),
        shadow: false,
        held_by: Default::default(),
    }
}

/// What a receiver does with a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    /// Takes it.
    Takes,
    /// Does not take it, and says so.
    Refuses(Reason, Retry),
    /// Takes it, and says otherwise: it was reset, or fell over, before it could answer.
    TakesAndFails(Reason),
    /// Does not answer. Whether it takes it.
    Hangs(bool),
}

/// What a receiver has taken.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// When a message came, in milliseconds after the start, what it was, and whether it was taken.
    pub(super) came: Vec<(u64, PageEvent, bool)>,
    /// The pages that were taken.
    pub(super) taken: Vec<Page>,
    open: BTreeSet<String>,
    newest: BTreeMap<String, u64>,
    /// How often something came to be open that was not.
    pub(super) pages: u32,
    /// How often something that was open was resolved.
    pub(super) resolves: u32,
    /// How often a message came after one of a later state.
    pub(super) overtaken: u32,
}

impl Log {
    fn take(&mut self, page: &Page) {
        let newest = self.newest.entry(page.key.clone()).or_default();
        self.overtaken += u32::from(page.sequence < *newest);
        *newest = page.sequence.max(*newest);
        match page.event {
            PageEvent::Opened | PageEvent::Updated => {
                self.pages += u32::from(self.open.insert(page.key.clone()))
            }
            PageEvent::Resolved => self.resolves += u32::from(self.open.remove(&page.key)),
        }
        self.taken.push(page.clone());
    }

    /// When each message of that kind was taken, in milliseconds after the start.
    pub(super) fn took(&self, event: PageEvent) -> Vec<u64> {
        let of = |(at, kind, taken): &(u64, PageEvent, bool)| (*kind == event && *taken).then_some(*at);
        self.came.iter().filter_map(of).collect()
    }
}

type Script = dyn Fn(u64) -> Does + Send + Sync;

/// A receiver that does by a script, which is told the milliseconds since the start.
#[derive(Clone)]
pub(super) struct Scripted {
    script: Arc<Script>,
    /// How long it takes to answer.
    delay: Duration,
    pub(super) log: Arc<Mutex<Log>>,
}

impl Scripted {
    pub(super) fn new(script: impl Fn(u64) -> Does + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), delay: Duration::from_millis(20), log: Arc::default() }
    }
}

impl Notify for Scripted {
    fn contract(&self) -> Contract {
        Contract { honours_key: true, acknowledges: true, wakes: true, per_minute: 6_000, resend: None }
    }

    async fn send(&self, page: &Page, attempt: aviary_notify::Attempt) -> Result<Receipt, Refusal> {
        let millis = attempt.now.since(START) / 1_000;
        let does = (self.script)(millis);
        // What is taken is taken halfway: whoever ends before the answer does not know.
        sleep(self.delay / 2).await;
        let takes = matches!(does, Does::Takes | Does::TakesAndFails(_) | Does::Hangs(true));
        {
            let mut log = self.log.lock().unwrap();
            log.came.push((millis, page.event, takes));
            if takes {
                log.take(page);
            }
        }
        sleep(self.delay / 2).await;
        let refusal = |reason, retry| Refusal { reason, retry, text: format!("it said {reason}") };
        match does {
            Does::Takes => Ok(Receipt { reference: None, text: "202 Accepted".to_owned() }),
            Does::Refuses(reason, retry) => Err(refusal(reason, retry)),
            Does::TakesAndFails(reason) => Err(refusal(reason, Retry::Later)),
            Does::Hangs(_) => std::future::pending().await,
        }
    }
}

/// A desk, a sender and their receivers, at work.
pub(super) struct Stage {
    pub(super) office: Arc<Office>,
    pub(super) sender: Arc<Sender<Scripted, Office, PausedClock>>,
    pub(super) receivers: BTreeMap<String, Scripted>,
    stop: watch::Sender<bool>,
    sending: JoinHandle<()>,
    ticking: JoinHandle<()>,
}

impl Stage {
    pub(super) fn new(receivers: &[(&str, Receiver, Scripted)]) -> Self {
        let clock = PausedClock::starting_at(START);
        let stock = {
            let mut judge = Judge::new();
            judge.sees(&[lost("ingest", "protocol=udp")], 9);
            judge.one().clone()
        };
        let treated = receivers.iter().map(|(name, receiver, _)| ((*name).to_owned(), *receiver)).collect();
        let books = Books {
            outbox: Outbox::default(),
            paging: Paging::new(treated, vec![], BTreeMap::new()),
            orders: mpsc::channel(1).0,
            stock: Some(stock),
            steps: 0,
            ended: Vec::new(),
        };
        let office = Arc::new(Office { books: Mutex::new(books), clock: clock.clone() });
        let named = receivers.iter().map(|(name, _, scripted)| ((*name).to_owned(), scripted.clone()));
        let receivers: BTreeMap<String, Scripted> = named.collect();
        let sender = Arc::new(Sender::new(Arc::clone(&office), clock, receivers.clone()));
        let (stop, stopped) = watch::channel(false);
        let sending = tokio::spawn(Arc::clone(&sender).run(office.live(), stopped));
        let ticking = tokio::spawn({
            let office = Arc::clone(&office);
            async move {
                loop {
                    sleep(Duration::from_secs(1)).await;
                    office.step(Event::Tick);
                }
            }
        });
        Self { office, sender, receivers, stop, sending, ticking }
    }

    /// Ends this life in the middle of whatever it does, and begins another.
    pub(super) fn kill(&mut self) {
        self.sending.abort();
        let stopped = self.stop.subscribe();
        self.sending = tokio::spawn(Arc::clone(&self.sender).run(self.office.live(), stopped));
    }

    /// Stops sending, and waits for the end of it.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        (&mut self.sending).await.unwrap();
    }

    /// What a receiver has taken.
    pub(super) fn log(&self, receiver: &str) -> std::sync::MutexGuard<'_, Log> {
        self.receivers[receiver].log.lock().unwrap()
    }

    pub(super) fn figures(&self, receiver: &str) -> Figures {
        self.sender.figures().into_iter().find(|figures| figures.receiver == receiver).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.sending.abort();
        self.ticking.abort();
    }
}

/// Lets so much time pass.
pub(super) async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
