//! How an agent is, for whoever asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aviary_core::{Clock, Endpoint, Timestamp, rollout::Held};
use aviary_wire::report::{Certificate, Event};
use tokio::sync::watch;

use crate::{
    batch::{Batch, Stats},
    controls::Controls,
    fallback::Reach,
    groups::GroupTotals,
    keep::KeeperStanding,
    lease::Leases,
    ship::ShippingStanding,
    spool::{SpoolStanding, SpoolThread},
    versions::ToldVersions,
};

/// How an agent is: everything that its health and metrics tell.
#[derive(Clone, Debug)]
pub struct Standing {
    /// When it was started.
    pub started: Timestamp,
    /// When this was.
    pub now: Timestamp,
    /// The version of the configuration that runs.
    pub configuration: String,
    /// How often the wall clock was stepped.
    pub epoch: u32,
    /// Whether the thread that starts the attempts lives.
    pub ticker_is_alive: bool,
    /// How many series there are.
    pub series: usize,
    /// How many of them closed a slot within the last seconds.
    pub ticking: usize,
    /// How the probing is doing.
    pub stats: Stats,
    /// What came of all slots since the start.
    pub groups: Vec<GroupTotals>,
    /// What waits for a collector.
    pub spool: SpoolStanding,
    /// How the collectors take reports.
    pub shipping: ShippingStanding,
    /// How each control answered when it was last tried.
    pub controls: Vec<(Endpoint, bool)>,
    /// Everything fails, and the controls too.
    pub self_suspect: bool,
    /// When the certificates that were seen end.
    pub certificates: Vec<Certificate>,
}

/// Who can be asked how an agent is.
#[derive(Clone)]
pub struct Observer<C> {
    pub(crate) started: Timestamp,
    pub(crate) clock: C,
    pub(crate) ticker: Weak<()>,
    pub(crate) batch: Arc<Batch>,
    pub(crate) spool: SpoolThread,
    pub(crate) controls: Controls,
    pub(crate) keeper: Arc<Mutex<KeeperStanding>>,
    pub(crate) shipping: Arc<Mutex<ShippingStanding>>,
    pub(crate) leases: watch::Receiver<Leases>,
    pub(crate) versions: watch::Receiver<Option<ToldVersions>>,
    pub(crate) held: watch::Sender<Option<Vec<Held>>>,
}

impl<C: Clock> Observer<C> {
    /// Whether somebody answers as a collector.
    pub fn reach(&self) -> Reach {
        self.shipping().reach
    }

    /// The keys of alerts that a collector ends from now on, each told once.
    pub fn take_adopted(&self) -> Vec<String> {
        self.shipping().adopted.drain(..).collect()
    }

    /// What collectors advise for the agent's own node, told anew with each answer.
    pub fn leases(&self) -> watch::Receiver<Leases> {
        self.leases.clone()
    }

    /// Which versions of its services the collector has that took the last report; none if it did not say.
    pub fn versions(&self) -> watch::Receiver<Option<ToldVersions>> {
        self.versions.clone()
    }

    /// From now on the agent reports that it holds these versions of its services beside the one that it probes by.
    pub fn holds(&self, held: Vec<Held>) {
        self.held.send_replace(Some(held));
    }

    /// Whether everything fails, the controls too.
    pub fn is_suspect(&self) -> bool {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).is_suspect
    }

    /// Has the agent report something that happened.
    pub fn noticed(&self, event: Event) {
        self.batch.noticed(event);
    }

    fn shipping(&self) -> MutexGuard<'_, ShippingStanding> {
        self.shipping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the agent is.
    pub fn standing(&self) -> Standing {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Standing {
            started: self.started,
            now: self.clock.wall(),
            configuration: keeper.configuration,
            epoch: self.batch.epoch(),
            ticker_is_alive: self.ticker.strong_count() > 0,
            series: keeper.series,
            ticking: keeper.ticking,
            stats: self.batch.stats(),
            groups: self.batch.totals(),
            spool: self.spool.standing(),
            shipping: self.shipping().clone(),
            controls: self.controls.newest(),
            self_suspect: keeper.is_suspect,
            certificates: self.batch.certificates(),
        }
    }
}
