//! Carries out what an agent that is cut off wants told by itself: keeps it, sends it, and has it reported.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use aviary_agent::{
    News, Observer,
    fallback::{self, Action, Alert, Kept, Stage, Watched},
};
use aviary_collector::{delivery::sent_of, runbooks};
use aviary_core::{
    Clock as _, Second, Timestamp, Vantage,
    page::{Sent, Severity},
};
use aviary_notify::{Attempt, Event as PageEvent, Page, Receiver};
use aviary_probe::SystemClock;
use aviary_wire::report::{Event, What};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use super::paging;
use crate::{
    admin::standing::Fallback as Figures,
    config::{self, Config},
    output::moment,
    replace::replace,
};

/// What is kept, beside the spool.
const FILE: &str = "fallback.json";

/// How many answers may wait: more than attempts are made at once.
const ANSWERS_MAX: usize = 16;

/// The fallback of the agent of this process.
pub(super) struct Fallback {
    shared: Arc<Shared>,
    running: Option<JoinHandle<()>>,
}

pub(super) struct Shared {
    receiver: Receiver,
    vantage: Vantage,
    /// Where it is kept; nowhere: a restart may page again.
    file: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    machine: fallback::Fallback,
    services: BTreeMap<String, About>,
    figures: Figures,
}

/// What a page says of a service, and what is watched of it.
struct About {
    watched: Watched,
    severity: Severity,
    owner: Option<String>,
    runbook: Option<String>,
}

impl Fallback {
    /// The fallback of `section`, if it has one.
    ///
    /// # Errors
    /// A receiver that cannot be set up.
    pub(super) fn new(
        section: &config::agent::Agent,
        config: &Config,
        vantage: &Vantage,
    ) -> anyhow::Result<Option<Self>> {
        let Some(name) = &section.fallback else { return Ok(None) };
        let configured = config.receivers.iter().find(|receiver| receiver.settings.name == *name);
        let configured = configured.with_context(|| format!("no [[receiver]] is called `{name}`"))?;
        let receiver = paging::receiver(configured).context("the fallback of the agent")?;
        let file = section.data.as_ref().map(|directory| directory.join(FILE));
        let kept = file.as_deref().map(read).unwrap_or_default();
        let state = State {
            machine: fallback::Fallback::new(kept, section.fallback_after),
            services: about(config),
            figures: Figures::default(),
        };
        let shared = Shared { receiver, vantage: vantage.clone(), file, state: Mutex::new(state) };
        Ok(Some(Self { shared: Arc::new(shared), running: None }))
    }

    /// Who is to hear what the agent reports.
    pub(super) fn listener(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Looks at `agent` each second from now on.
    pub(super) fn start(&mut self, agent: Observer<SystemClock>) {
        self.running = Some(tokio::spawn(Arc::clone(&self.shared).run(agent)));
    }

    /// These are the services from the next roster on.
    pub(super) fn take_on(&self, config: &Config) {
        self.shared.state().services = about(config);
    }

    /// Ends. What was on its way is sent again by the next life.
    pub(super) fn stop(self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    /// Takes in what the agent reports.
    pub(super) fn hear(&self, news: &News<'_>) {
        let mut state = self.state();
        match *news {
            News::Roster(roster) => {
                let State { machine, services, .. } = &mut *state;
                let watched = services.iter().map(|(name, about)| (name.clone(), about.watched.clone()));
                machine.assign(roster, &watched.collect(), SystemClock.wall().second());
            }
            News::Slot { series, second, outcome } => state.machine.observe(series, second, outcome),
            News::Second(_) => {}
        }
    }

    /// What was told.
    pub(super) fn figures(&self) -> Figures {
        let state = self.state();
        let alerts = state.machine.kept().alerts.values();
        let is_ours = |alert: &&Alert| match alert.stage {
            Stage::Open | Stage::Closing => true,
            Stage::Opening => alert.maybe_taken,
            Stage::HandedOver | Stage::Refused => false,
        };
        Figures { open: alerts.filter(is_ours).count() as u64, ..state.figures.clone() }
    }

    async fn run(self: Arc<Self>, agent: Observer<SystemClock>) {
        let (answers, mut answered) = mpsc::channel::<(String, Sent)>(ANSWERS_MAX);
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let actions = tokio::select! {
                _ = second.tick() => {
                    let now = (SystemClock.wall(), SystemClock.monotonic());
                    let mut state = self.state();
                    agent.take_adopted().iter().for_each(|key| state.machine.adopted(key));
                    state.machine.step(now, agent.reach(), agent.is_suspect())
                }
                Some((service, sent)) = answered.recv() => {
                    self.state().machine.sent(&service, &sent, SystemClock.monotonic())
                }
            };
            for action in actions {
                self.carry_out(action, &agent, &answers).await;
            }
        }
    }

    async fn carry_out(
        self: &Arc<Self>,
        action: Action,
        agent: &Observer<SystemClock>,
        answers: &mpsc::Sender<(String, Sent)>,
    ) {
        let receiver = self.receiver.name();
        match action {
            Action::Keep => {
                let (Some(file), kept) = (self.file.clone(), self.state().machine.kept().clone()) else {
                    return;
                };
                let written =
                    spawn_blocking(move || replace(&file, &serde_json::to_vec(&kept)?, 0o644)).await;
                if let Err(error) = written.map_err(io::Error::other).flatten() {
                    // Whoever is to be woken is woken; a restart may do so again.
                    tracing::error!(%error, "What the fallback told is not kept.");
                }
            }
            Action::Send { service, alert } => {
                let page = self.page(&service, &alert);
                let is_over = alert.closed_us.is_some();
                tracing::warn!(
                    service,
                    receiver,
                    is_over,
                    "No collector is there to page: the fallback is told."
                );
                let (shared, answers) = (Arc::clone(self), answers.clone());
                tokio::spawn(async move {
                    let attempt = Attempt { now: SystemClock.wall() };
                    let outcome = shared.receiver.send(&page, attempt).await;
                    let sent = sent_of(&outcome, shared.receiver.contract());
                    shared.note(&service, &outcome);
                    // The other end is gone only at the end.
                    _ = answers.send((service, sent)).await;
                });
            }
            Action::Report { service, second } => {
                let key = fallback::key(&service);
                let what = What::Paged { service, key, receiver: receiver.to_owned() };
                agent.noticed(Event { second, what });
            }
            Action::Unheard { service } => {
                tracing::error!(service, receiver, "The fallback will never take this: nobody was told.");
            }
        }
    }

    fn note(&self, service: &str, outcome: &Result<aviary_notify::Receipt, aviary_notify::Refusal>) {
        let receiver = self.receiver.name();
        let figures = &mut self.state().figures;
        match outcome {
            Ok(receipt) => {
                figures.taken += 1;
                tracing::info!(service, receiver, said = receipt.text, "The fallback took it.");
            }
            Err(refusal) => {
                figures.in_vain += 1;
                tracing::warn!(service, receiver, reason = refusal.reason.name(), %refusal, "The fallback did not take it.");
            }
        }
    }

    /// What the receiver is told of `alert`.
    fn page(&self, service: &str, alert: &Alert) -> Page {
        let Vantage { region, node, .. } = &self.vantage;
        let state = self.state();
        let about = state.services.get(service);
        let (event, at) = match alert.closed_us {
            Some(closed) => (PageEvent::Resolved, closed),
            None => (PageEvent::Opened, alert.opened_us),
        };
        let is_over = event == PageEvent::Resolved;
        let summary = match is_over {
            true => format!("{service}: delivered again from {region}, node {node}"),
            false => format!(
                "{service}: all is lost from {region}, node {node}, since {}; seen from here only, since no collector \
                 answers",
                moment(alert.since)
            ),
        };
        let incident = format!("fallback-{service}-{node}-{}", Timestamp(alert.opened_us).second());
        Page {
            sequence: 1 + u64::from(is_over),
            severity: about.map_or(Severity::Critical, |about| about.severity),
            services: vec![service.to_owned()],
            state: if is_over { "resolved" } else { "open" }.to_owned(),
            since: Second(alert.since).start(),
            summary,
            against: vec!["seen from one agent only: how far it reaches, nobody can tell".to_owned()],
            evidence: vec![format!("no collector has answered this agent since {}", moment(alert.cut_off))],
            measured: Some(format!(
                "Each second of every required endpoint was lost for {} s, as this agent saw it.",
                state.machine.after()
            )),
            owner: about.and_then(|about| about.owner.clone()),
            runbook: about.and_then(|about| about.runbook.clone()),
            ..Page::about(&incident, &fallback::key(service), event, Timestamp(at))
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The machine takes each step whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is watched of each service, and told of it; nothing of those whose pages go to the log.
fn about(config: &Config) -> BTreeMap<String, About> {
    // Whoever is woken may reach the collector where the agent does not.
    let collector = config.agent.as_ref().and_then(|agent| agent.collectors.first());
    let ours = collector.map(|collector| runbooks::link(collector.as_str(), "fallback"));
    let services = config.services.iter().filter(|service| !service.alerting.shadow);
    let about = services.map(|service| {
        let optional = service.probed(config.kind()).filter(|it| !it.required).map(|it| it.endpoint.clone());
        let watched = Watched { grace: service.alerting.start_up_grace, optional: optional.collect() };
        let severity = service.alerting.down;
        let owner = service.owner.clone();
        let runbook = service.runbook.clone().or_else(|| ours.clone());
        (service.name.clone(), About { watched, severity, owner, runbook })
    });
    about.collect()
}

/// What an earlier life kept. What cannot be read is said, and begun anew.
fn read(file: &Path) -> Kept {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Kept::default(),
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "What the fallback told before cannot be read.");
            return Kept::default();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::error!(file = %file.display(), %error, "What the fallback told before is damaged, and forgotten.");
        Kept::default()
    })
}
