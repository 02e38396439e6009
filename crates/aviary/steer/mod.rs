//! Whether the node that this agent stands on is to be in rotation, by service, for whoever sends it load.
//!
//! | who | learns it from |
//! |---|---|
//! | whoever asks over HTTP | `/health/SERVICE`, see [`crate::admin`] |
//! | HAProxy, which asks | [`agent_check`] |
//! | Consul, which is told | [`consul`] |
//! | anything else, which is told | a file or a command, see [`hook`] |
//!
//! All of them learn the same, [`Node::answer`]: the node is out, or returning, only under a live lease of a collector (see
//! `aviary_agent::lease`), and in rotation otherwise, whatever the agent sees by itself. What it sees is said beside.

pub(crate) mod agent_check;
mod consul;
mod hook;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_agent::lease::{Advised, Leases};
pub(crate) use aviary_core::rotation::State as Rotation;
use aviary_core::{Clock, Micros, Timestamp, verdict::State};
use serde::{Serialize, Serializer};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

pub(crate) use self::{hook::Hooks, view::View};

/// How often what is told is looked at again, beside each answer of a collector.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long an agent that begins waits for a collector to answer before it says that its node is in: it may be out, and who is
/// not told keeps what he knows.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// How long whoever is told may take to hear that the agent ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Through what it is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Asked for over HTTP.
    Health,
    /// Asked for by HAProxy.
    AgentCheck,
    /// Told to a file.
    File,
    /// Told to a command.
    Command,
    /// Told to Consul.
    Consul,
}

impl By {
    /// Those that ask.
    pub(crate) const ASKING: [Self; 2] = [Self::Health, Self::AgentCheck];
    /// Those that are told.
    pub(crate) const TOLD: [Self; 3] = [Self::File, Self::Command, Self::Consul];

    /// The word for it in metrics and the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::AgentCheck => "agent_check",
            Self::File => "file",
            Self::Command => "command",
            Self::Consul => "consul",
        }
    }
}

/// What is answered of this node, in one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    /// Which service.
    pub(crate) service: String,
    /// How this agent itself saw it last.
    #[serde(serialize_with = "name_of")]
    pub(crate) state: State,
    /// Where the node is to be.
    #[serde(serialize_with = "name_of")]
    pub(crate) rotation: Rotation,
    /// The share of its usual load that it is to have, in per cent.
    pub(crate) weight: u8,
    /// Why, where it is not simply in rotation.
    pub(crate) reason: Option<String>,
    /// When that ends unless a collector renews it, RFC 3339.
    pub(crate) until: Option<String>,
}

impl Answer {
    /// What is answered of a service that this agent does not know, which it says beside those that it does.
    pub(crate) fn of_unknown(service: String, known: &[&str]) -> Self {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Self {
            service,
            state: State::Blind,
            rotation: Rotation::In,
            weight: 100,
            reason: Some(format!("this agent probes no service of that name; it probes {known}")),
            until: None,
        }
    }
}

fn name_of<S: Serializer>(named: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(named)
}

/// How often it was learnt, and through what.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    answers: [[AtomicU64; Rotation::ALL.len()]; By::ASKING.len()],
    told: [AtomicU64; By::TOLD.len()],
    in_vain: [AtomicU64; By::TOLD.len()],
}

impl Counted {
    /// Whoever asked `by` that was answered so.
    pub(crate) fn answered(&self, by: By, rotation: Rotation) {
        if let Some(at) = By::ASKING.iter().position(|it| *it == by) {
            self.answers[at][rotation as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn told(&self, by: By, was_taken: bool) {
        if let Some(at) = By::TOLD.iter().position(|it| *it == by) {
            let counts = if was_taken { &self.told } else { &self.in_vain };
            counts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often who asked was answered what.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (By, Rotation, u64)> {
        By::ASKING.into_iter().zip(&self.answers).flat_map(|(by, counts)| {
            let counts = Rotation::ALL.iter().zip(counts);
            counts.map(move |(rotation, count)| (by, *rotation, count.load(Ordering::Relaxed)))
        })
    }

    /// How often who is told took it, and did not.
    pub(crate) fn tellings(&self) -> impl Iterator<Item = (By, u64, u64)> {
        let counts = self.told.iter().zip(&self.in_vain);
        By::TOLD
            .into_iter()
            .zip(counts)
            .map(|(by, (told, in_vain))| (by, told.load(Ordering::Relaxed), in_vain.load(Ordering::Relaxed)))
    }
}

/// The node that this agent stands on, and answers for.
pub(crate) struct Node {
    view: Arc<View>,
    leases: watch::Receiver<Leases>,
    now: Box<dyn Fn() -> (Timestamp, Micros) + Send + Sync>,
    ends: AtomicBool,
    counted: Arc<Counted>,
}

impl Node {
    /// The node of an agent that sees its services like `view`, and has these `leases`.
    pub(crate) fn new<C: Clock>(view: Arc<View>, leases: watch::Receiver<Leases>, clock: C) -> Self {
        Self {
            view,
            leases,
            now: Box::new(move || (clock.wall(), clock.monotonic())),
            ends: AtomicBool::new(false),
            counted: Arc::default(),
        }
    }

    /// What is answered of each service.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.view.services().iter().filter_map(|service| self.answer(service)).collect()
    }

    /// What is answered of a service; nothing where this agent does not know it.
    pub(crate) fn answer(&self, service: &str) -> Option<Answer> {
        let now = (self.now)();
        let state = self.view.state(service, now.0.second())?;
        let leases = self.leases.borrow();
        // Nobody could say that a lease has ended once this agent has.
        let lease = leases.of(service, now).filter(|_| !self.ends.load(Ordering::Relaxed));
        let rotation = lease.map_or(Rotation::In, |lease| match lease.state {
            Advised::Out => Rotation::Out,
            Advised::Returning => Rotation::Returning,
        });
        Some(Answer {
            service: service.to_owned(),
            state,
            rotation,
            weight: lease.map_or(100, |lease| lease.weight),
            reason: lease.map(|lease| lease.reason.clone()),
            until: lease.map(|lease| aviary_notify::rfc3339(lease.until)),
        })
    }

    /// Where it counts what was learnt of it.
    pub(crate) fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }

    /// Waits until a collector has answered once, but not for ever.
    async fn has_begun(&self) {
        // Nobody answers any more where the other end is gone.
        _ = timeout(FIRST_ANSWER, self.leases.clone().changed()).await;
    }

    /// From now on it is in rotation: the agent ends. Returns whether it was not.
    fn end(&self) -> bool {
        let was_in = self.answers().iter().all(|answer| answer.rotation == Rotation::In);
        self.ends.store(true, Ordering::Relaxed);
        !was_in
    }
}

/// Tells whoever wants to be told, as long as it is not stopped.
pub(crate) struct Steering {
    node: Arc<Node>,
    stop: watch::Sender<bool>,
    telling: JoinHandle<()>,
    answering: Option<JoinHandle<()>>,
    was_out: bool,
}

impl Steering {
    /// Has `hooks` told of `node` from now on; `answering` is what else answers for it.
    pub(crate) fn start(node: Arc<Node>, hooks: Hooks, answering: Option<JoinHandle<()>>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let telling = tokio::spawn(tell(Arc::clone(&node), hooks, stopped));
        Self { node, stop, telling, answering, was_out: false }
    }

    /// From now on the node is in rotation: once the agent has ended nobody could say that a lease has.
    pub(crate) fn end(&mut self) {
        self.was_out |= self.node.end();
        self.stop.send_replace(true);
    }

    /// Ends, once whoever is told has heard it, and whoever asks has had the time to.
    pub(crate) async fn stop(mut self) {
        self.end();
        let abort = self.telling.abort_handle();
        let farewell = async {
            if timeout(FAREWELL, self.telling).await.is_err() {
                tracing::warn!("Not everybody who is told of this node has heard that it is in rotation.");
            }
        };
        let asked = async {
            if self.was_out && self.answering.is_some() {
                tokio::time::sleep(agent_check::ASKED_WITHIN).await;
            }
        };
        tokio::join!(farewell, asked);
        abort.abort();
        self.answering.iter().for_each(JoinHandle::abort);
    }
}

/// Tells the hooks of each service what is answered of it, whenever that changes.
async fn tell(node: Arc<Node>, hooks: Hooks, mut stopped: watch::Receiver<bool>) {
    let mut services: BTreeMap<String, watch::Sender<Answer>> = BTreeMap::new();
    let mut followers = JoinSet::new();
    let mut leases = node.leases.clone();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    node.has_begun().await;
    loop {
        let is_over = *stopped.borrow_and_update();
        let answers = node.answers();
        services.retain(|service, told| {
            let is_there = answers.iter().any(|answer| answer.service == *service);
            if !is_there {
                // It is probed no more, so that nobody could say that its lease has ended.
                told.send_if_modified(|answer| answer.come_in());
            }
            is_there
        });
        for answer in answers {
            match services.get(&answer.service) {
                Some(told) => _ = told.send_if_modified(|before| answer.replace(before)),
                None => {
                    let (told, heard) = watch::channel(answer.clone());
                    for hook in hooks.of(&answer.service) {
                        followers.spawn(hook::follow(hook, heard.clone(), Arc::clone(&node.counted)));
                    }
                    services.insert(answer.service, told);
                }
            }
        }
        while followers.try_join_next().is_some() {}
        if is_over {
            break;
        }
        tokio::select! {
            _ = look.tick() => {}
            // It ends with the agent, after this.
            Ok(()) = leases.changed() => {}
            Ok(()) = stopped.changed() => {}
        }
    }
    drop(services);
    while followers.join_next().await.is_some() {}
}

impl Answer {
    /// Takes the place of `before`; returns whether it says anything else.
    fn replace(self, before: &mut Self) -> bool {
        let is_other = self != *before;
        *before = self;
        is_other
    }

    /// The node is in rotation from now on; returns whether it was not.
    fn come_in(&mut self) -> bool {
        let inside = Self { rotation: Rotation::In, weight: 100, reason: None, until: None, ..self.clone() };
        inside.replace(self)
    }
}
