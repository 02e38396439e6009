//! The page as it is kept up to date: looked at each few seconds, made anew when something changed and each minute, served and
//! written.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Second, Tag, incident::Incident, silence::Silence};
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{
    StatusPage,
    figures::{Figures, Reader},
    files::Writer,
    listener,
    publication::Status,
    rendered::Rendered,
    site::{self, Cells, Now, Site},
};
use crate::{
    Collector, Listener, Server,
    error::ApiError,
    history::Steps,
    serving::serve_until,
    settled_until,
    sums::{Sums, sums},
};

/// How services do is looked at so often.
const LOOK_SECONDS: u64 = 5;

/// The page is made anew after so many seconds, whatever changed: whoever reads it sees how old it is.
const FRESH_SECONDS: u64 = 60;

/// How services do is told by so many of the newest seconds.
const NOW_SECONDS: u64 = 60;

/// The newest page, and how its files did.
#[derive(Debug, Default)]
pub(crate) struct Running {
    rendered: RwLock<Option<Arc<Rendered>>>,
    as_of: AtomicU64,
    written: AtomicU64,
    failures: AtomicU64,
    /// Why customers may read what is old.
    trouble: Mutex<Option<String>>,
}

/// What became of the status page, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusFigures {
    /// Until when the newest page is known, in epoch seconds; 0: there is none.
    pub as_of: u64,
    /// How often it was written as files.
    pub written: u64,
    /// How often it could not be.
    pub failures: u64,
}

impl Running {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        // It is only ever replaced whole.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether customers read what is known now, or why not; none where there is no status page.
    pub(crate) fn is_up_to_date(&self) -> Option<Result<(), String>> {
        match (self.trouble().clone(), self.rendered().is_some()) {
            (Some(trouble), _) => Some(Err(trouble)),
            (None, true) => Some(Ok(())),
            (None, false) => None,
        }
    }

    pub(crate) fn rendered(&self) -> Option<Arc<Rendered>> {
        // It is only ever replaced whole.
        self.rendered.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, rendered: Arc<Rendered>, as_of: Second) {
        *self.rendered.write().unwrap_or_else(PoisonError::into_inner) = Some(rendered);
        self.as_of.store(as_of.0, Ordering::Relaxed);
    }
}

impl Collector {
    /// Keeps the public status page up to date until the server is stopped: on `listener`, to everybody, and in the
    /// directory that `page` names.
    pub fn serve_status<L: Listener<Addr = SocketAddr>>(
        &self,
        page: StatusPage,
        listener: Option<L>,
    ) -> Server {
        let (stop, stopped) = watch::channel(false);
        let http = match listener {
            Some(listener) => serve_until(stopped.clone(), listener::router(self.clone()), listener),
            None => tokio::spawn(async {}),
        };
        let kept = tokio::spawn(keep(self.clone(), page, stopped));
        Server { stop, http, own_work: vec![kept] }
    }

    /// What became of the status page.
    pub fn status_figures(&self) -> StatusFigures {
        let Running { as_of, written, failures, .. } = self.status_page();
        let [as_of, written, failures] = [as_of, written, failures].map(|it| it.load(Ordering::Relaxed));
        StatusFigures { as_of, written, failures }
    }
}

async fn keep(collector: Collector, page: StatusPage, mut stopped: watch::Receiver<bool>) {
    let mut keeper = Keeper::new(page.clone());
    let mut each = tokio::time::interval(Duration::from_secs(1));
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = each.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        if collector.replaying().is_some() || !keeper.is_due(&collector) {
            continue;
        }
        let asked = collector.clone();
        let turned = tokio::task::spawn_blocking(move || {
            keeper.turn(&asked);
            keeper
        });
        keeper = turned.await.unwrap_or_else(|error| {
            tracing::error!(%error, "The status page could not be made.");
            Keeper::new(page.clone())
        });
    }
}

/// What is needed from one page to the next.
pub(super) struct Keeper {
    page: StatusPage,
    writer: Option<Writer>,
    reader: Reader,
    figures: Option<(Second, Figures)>,
    /// Since when each service does as it does.
    since: BTreeMap<String, (Status, Second)>,
    /// What was shown last.
    last: Option<Site>,
    looked: Second,
    revision: u64,
    /// The newest page is not in the directory.
    is_unwritten: bool,
    /// What was said of a failure last.
    said: Option<String>,
}

impl Keeper {
    pub(super) fn new(page: StatusPage) -> Self {
        Self {
            writer: page.directory.clone().map(Writer::new),
            page,
            reader: Reader::default(),
            figures: None,
            since: BTreeMap::new(),
            last: None,
            looked: Second(0),
            revision: 0,
            is_unwritten: false,
            said: None,
        }
    }

    fn is_due(&self, collector: &Collector) -> bool {
        let now = collector.now().second();
        now.0.abs_diff(self.looked.0) >= LOOK_SECONDS
            || collector.judgement().public_revision() != self.revision
    }

    /// Looks, and brings the page up to date where it is not. Blocks.
    pub(super) fn turn(&mut self, collector: &Collector) {
        self.looked = collector.now().second();
        self.revision = collector.judgement().public_revision();
        let made = self.gather(collector).and_then(|site| self.show(collector, site));
        match made {
            Err(error) => self.say(format!("The status page is as old as it was: {}", error.message())),
            Ok(()) if self.is_unwritten && self.writer.is_some() => {}
            Ok(()) => {
                if self.said.take().is_some() {
                    tracing::info!("The status page is up to date again.");
                }
            }
        }
        collector.status_page().trouble().clone_from(&self.said);
    }

    fn show(&mut self, collector: &Collector, site: Site) -> Result<(), ApiError> {
        let running = collector.status_page();
        let is_same = self.last.as_ref().is_some_and(|last| {
            let is_fresh = site.as_of.0.abs_diff(last.as_of.0) < FRESH_SECONDS;
            is_fresh && last.differs_in_time_only(&site)
        });
        if !is_same {
            running.set(Arc::new(Rendered::of(&site)?), site.as_of);
            self.last = Some(site);
            self.is_unwritten = true;
        }
        let (Some(writer), Some(rendered)) = (&mut self.writer, running.rendered()) else { return Ok(()) };
        if !self.is_unwritten {
            return Ok(());
        }
        match writer.write(&rendered) {
            Ok(()) => {
                running.written.fetch_add(1, Ordering::Relaxed);
                self.is_unwritten = false;
            }
            Err(error) => {
                running.failures.fetch_add(1, Ordering::Relaxed);
                self.say(error.to_string());
            }
        }
        Ok(())
    }

    /// Says what is wrong, once.
    fn say(&mut self, text: String) {
        if self.said.as_ref() != Some(&text) {
            tracing::error!("{text}");
            self.said = Some(text);
        }
    }

    fn gather(&mut self, collector: &Collector) -> Result<Site, ApiError> {
        let now = collector.now();
        let (shown, incidents) = collector.judgement().public();
        let minute = Second(now.second().0 / 60);
        let figures = match self.figures.take().filter(|(at, _)| *at == minute) {
            // Services may have come or gone.
            Some((_, figures)) if shown.services().all(|(name, _)| figures.services.contains_key(name)) => {
                figures
            }
            _ => self.reader.read(collector, &shown)?,
        };
        self.figures = Some((minute, figures.clone()));
        let silences = collector.judgement().silences();
        let maintenances = site::maintenances(&silences, &shown, now.second());
        let mut announced = silences;
        announced.retain(|it| it.announce.is_some() && it.holds_until(now.second()).is_some());
        let states = look(collector, &announced)?;
        let mut statuses = BTreeMap::new();
        for (service, now_of) in &states {
            let since = self.since.get(service).filter(|(status, _)| *status == now_of.status);
            let since = since.map_or_else(|| now.second(), |(_, since)| *since);
            statuses.insert(service.clone(), (now_of.status, since));
        }
        self.since = statuses;
        let told = self.since.iter().map(|(service, (status, _))| (service.clone(), *status));
        collector.judgement().note_statuses(told.collect());
        Ok(Site {
            as_of: settled_until(now),
            id: collector.state().name().to_owned(),
            page: self.page.clone(),
            from: figures.from,
            components: site::components(&shown, figures, states, &self.since),
            incidents,
            maintenances,
        })
    }
}

impl Site {
    /// Nothing but figures has changed, which may wait for the minute.
    fn differs_in_time_only(&self, other: &Self) -> bool {
        let said = |site: &Self| -> Vec<_> {
            site.components
                .iter()
                .map(|it| {
                    (it.id.clone(), it.name.clone(), it.description.clone(), it.group.clone(), it.now.clone())
                })
                .collect()
        };
        self.from == other.from
            && self.incidents == other.incidents
            && self.maintenances == other.maintenances
            && said(self) == said(other)
    }
}

/// How each service does, where these silences are announced and in force. Blocks.
fn look(collector: &Collector, announced: &[Silence]) -> Result<BTreeMap<String, Now>, ApiError> {
    let now = collector.now();
    let from = settled_until(now).minus(NOW_SECONDS);
    let steps = Steps { from, seconds: NOW_SECONDS, count: 1 };
    let Sums { values, windows } = sums(collector, &[Tag::Service, Tag::Protocol, Tag::Region], None, steps)?;
    let mut cells: BTreeMap<String, Cells> = BTreeMap::new();
    for (values, window) in values.into_iter().zip(windows) {
        if let Ok([service, protocol, region]) = <[String; 3]>::try_from(values) {
            cells.entry(service).or_default().insert((protocol, region), window);
        }
    }
    let held = collector.judgement().incidents();
    let lossy: Vec<&Incident> = site::lossy(&held).collect();
    let (services, verdicts) = {
        let state = collector.state();
        let verdicts: BTreeMap<String, _> =
            state.standing().map(|(name, standing)| (name.to_owned(), standing.verdict.state)).collect();
        (state.services(), verdicts)
    };
    let of = |service: crate::ServiceOptions| {
        let name = service.name;
        let cells = cells.remove(&name).unwrap_or_default();
        let is_lossy = lossy.iter().any(|incident| incident.services().contains(name.as_str()));
        let is_announced = site::is_announced(&name, lossy.iter().copied(), announced);
        let verdict = verdicts.get(&name).copied();
        let now = site::now(&cells, verdict, is_lossy, is_announced, &service.policy);
        (name, now)
    };
    Ok(services.into_iter().map(of).collect())
}
