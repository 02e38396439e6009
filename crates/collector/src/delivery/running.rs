//! Delivery while the collector runs: what the outbox asks for goes out, and whoever watches us is told.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aviary_core::{Clock, Timestamp, page::Action};
use aviary_notify::{Receiver, Watchdog};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Figures, Notify, Order, Sender, Signs, Switch, SwitchFigures};
use crate::Collector;

/// So many orders wait for the sender. More wait with whoever keeps the outbox.
const ORDERS_MAX: usize = 64;

/// Whom the collector tells of incidents, and whom that it watches.
pub struct Outside<N = Receiver> {
    /// The receivers, by their names.
    pub receivers: Vec<(String, N)>,
    /// Whoever pages somebody when we do not watch any more, and how often it is told that we do.
    pub watchdog: Option<(Watchdog, Duration)>,
}

/// What is known of the way out, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFigures {
    /// Of each receiver.
    pub receivers: Vec<Figures>,
    /// Of the dead man's switch, where there is one.
    pub switch: Option<SwitchFigures>,
}

type Watched = Arc<Mutex<Option<Switch<Watchdog>>>>;

/// The way out of a collector, until it is stopped.
pub struct Delivery<C, N = Receiver> {
    sender: Arc<Sender<N, Collector, C>>,
    switch: Watched,
    stop: watch::Sender<bool>,
    sending: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl<N: Notify, C: Clock> Delivery<C, N> {
    /// Sends what `collector` asks for to `outside`. One collector has one way out: a second is asked for nothing.
    /// To be called in a runtime.
    pub fn start(collector: &Collector, outside: Outside<N>, clock: C) -> Self {
        let (stop, stopped) = watch::channel(false);
        let sender = Arc::new(Sender::new(Arc::new(collector.clone()), clock, outside.receivers));
        let switch = Arc::new(Mutex::new(outside.watchdog.map(to_switch)));
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let sending = tokio::spawn(Arc::clone(&sender).run(ordered, stopped.clone()));
        let watching = tell_that_we_watch(collector.signs(), Arc::clone(&switch), stopped);
        let mut others = vec![tokio::spawn(watching)];
        let (of_sender, of_switch) = (Arc::downgrade(&sender), Arc::clone(&switch));
        collector.show_delivery(move || DeliveryFigures {
            receivers: of_sender.upgrade().map(|sender| sender.figures()).unwrap_or_default(),
            switch: lock(&of_switch).as_ref().map(Switch::figures),
        });
        if let Some(actions) = collector.page_actions() {
            others.push(tokio::spawn(order(actions, orders)));
        }
        Self { sender, switch, stop, sending, others }
    }

    /// These are told from now on. What is on its way is told to its end.
    pub fn configure(&self, outside: Outside<N>) {
        self.sender.configure(outside.receivers);
        *lock(&self.switch) = outside.watchdog.map(to_switch);
    }

    /// Waits a little for what is under way, and ends.
    pub async fn stop(mut self) {
        _ = self.stop.send(true);
        if let Err(error) = (&mut self.sending).await {
            tracing::error!(%error, "Delivery failed.");
        }
    }
}

impl<C, N> Drop for Delivery<C, N> {
    fn drop(&mut self) {
        self.sending.abort();
        self.others.iter().for_each(JoinHandle::abort);
    }
}

fn to_switch((watchdog, every): (Watchdog, Duration)) -> Switch<Watchdog> {
    Switch::new(watchdog, every)
}

/// What a panicking thread left behind tells once too often at worst.
fn lock(switch: &Mutex<Option<Switch<Watchdog>>>) -> MutexGuard<'_, Option<Switch<Watchdog>>> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what is decided, and hands on what is to be sent. While the sender has enough, it waits, and more waits with the outbox.
async fn order(mut actions: mpsc::Receiver<Action>, orders: mpsc::Sender<Order>) {
    while let Some(action) = actions.recv().await {
        match &action {
            Action::Log(notice) => {
                let (incident, severity, change) = (&notice.id, notice.severity, notice.change);
                tracing::warn!(%incident, %severity, %change, key = notice.key, "In shadow, this would be told.");
            }
            Action::Unrouted(incident) => {
                tracing::error!(%incident, "Nobody is told: no [[route]] takes this incident.");
            }
            Action::Dead { id, receiver, why } => {
                tracing::error!(incident = %id, receiver, why, "A receiver will not take a page.");
            }
            Action::Send { .. } | Action::Done(_) => {}
        }
        if let Some(order) = Order::of(action)
            && orders.send(order).await.is_err()
        {
            return;
        }
    }
}

/// Tells it after each loop of judgement that ended, which proves itself or not.
async fn tell_that_we_watch(
    mut signs: watch::Receiver<Option<Signs>>,
    switch: Watched,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            changed = signs.changed() => if changed.is_err() { return },
        }
        let seen = *signs.borrow_and_update();
        if let (Some(seen), Some(switch)) = (seen, &mut *lock(&switch)) {
            switch.looped(&seen);
        }
    }
}

impl Collector {
    /// What the loop that has just judged the second `judged` saw.
    pub(crate) fn sign(&self, judged: Timestamp) {
        let now = self.now();
        let (newest_slot, agents, fresh) = {
            let state = self.state();
            let (agents, fresh) = state.agents_reporting(now);
            (state.newest_told(), agents, fresh)
        };
        let untold_since = self.judgement().untold_since();
        let canary_silent_since = self.canary_silent_since();
        let judged = Some(judged);
        self.show_signs(Signs { now, newest_slot, agents, fresh, judged, untold_since, canary_silent_since });
    }
}
