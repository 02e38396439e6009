//! Telling somebody whenever it changes, until he took it.
//!
//! Of each service one thing at a time is told, and always the newest: what could not be told is tried again after a pause, and
//! forgotten once there is something newer. Nobody else waits for it, and nothing stops by its failing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aviary_notify::run_program;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    Answer, By, Counted, Rotation,
    consul::{Check, Consul},
};
use crate::config::steer::Told;

/// How long it may take to tell somebody.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pauses between two attempts: from the first to the last they double.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A trouble that lasts is told again so often.
const REMIND: Duration = Duration::from_secs(60);

/// Whom to tell, for any service.
pub(crate) struct Hooks {
    told: Told,
    consul: Option<Arc<Consul>>,
    node: String,
}

impl Hooks {
    /// Those that `told` names, on the node called `node`.
    ///
    /// # Errors
    /// A Consul agent that cannot be asked as configured.
    pub(crate) fn new(told: Told, node: String) -> anyhow::Result<Self> {
        let consul = told.consul.as_ref().map(Consul::new).transpose()?;
        Ok(Self { consul: consul.map(Arc::new), told, node })
    }

    /// Those of one service.
    pub(super) fn of(&self, service: &str) -> Vec<Hook> {
        let named = |template: &str| template.replace("{service}", service);
        let file = self.told.file.as_deref().map(|path| Hook::File(named(path).into()));
        let argv: Vec<String> = self.told.command.iter().map(|argument| named(argument)).collect();
        let command = (!argv.is_empty()).then(|| Hook::Command { argv, node: self.node.clone() });
        let consul = self.consul.iter().map(|consul| Hook::Consul(Check::new(consul, service)));
        file.into_iter().chain(command).chain(consul).collect()
    }
}

/// One who is told.
pub(super) enum Hook {
    /// A file, replaced as a whole.
    File(PathBuf),
    /// A program, run with these arguments.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
        /// What the node is called.
        node: String,
    },
    /// A check of ours at a Consul agent.
    Consul(Check),
}

impl Hook {
    const fn by(&self) -> By {
        match self {
            Self::File(_) => By::File,
            Self::Command { .. } => By::Command,
            Self::Consul(_) => By::Consul,
        }
    }

    /// What of an answer it is told at once; all of it only where all of it is read there.
    fn news(&self, answer: &Answer) -> (Rotation, u8, Option<Answer>) {
        let whole = match self {
            // Whoever reads it believes it up to `until`, which moves on.
            Self::File(_) => Some(answer.clone()),
            Self::Command { .. } | Self::Consul(_) => None,
        };
        (answer.rotation, answer.weight, whole)
    }

    /// How often it is told what it knows.
    fn every(&self) -> Option<Duration> {
        match self {
            Self::File(_) | Self::Command { .. } => None,
            Self::Consul(check) => Some(check.every()),
        }
    }

    /// Tells it once.
    async fn tell(&mut self, answer: &Answer) -> Result<(), String> {
        match self {
            Self::File(path) => {
                let (path, answer) = (path.clone(), answer.clone());
                let written = tokio::task::spawn_blocking(move || write(&path, &answer)).await;
                written.map_err(io::Error::other).flatten().map_err(|error| error.to_string())
            }
            Self::Command { argv, node } => run(argv, node, answer).await,
            Self::Consul(check) => check.tell(answer).await,
        }
    }

    /// It will be told nothing more.
    async fn end(&mut self) {
        if let Self::Consul(check) = self
            && let Err(reason) = check.withdraw().await
        {
            tracing::warn!(reason, "The check at Consul stays, and ends as critical: withdraw it by hand.");
        }
    }
}

/// Tells `hook` what is answered, until nobody answers any more.
pub(super) async fn follow(mut hook: Hook, mut answers: watch::Receiver<Answer>, counted: Arc<Counted>) {
    let mut failing = Failing::default();
    loop {
        let answer = answers.borrow_and_update().clone();
        let news = hook.news(&answer);
        let told = timeout(PATIENCE, hook.tell(&answer)).await;
        let told = told.unwrap_or_else(|_| Err(format!("it took more than {} s", PATIENCE.as_secs())));
        counted.told(hook.by(), told.is_ok());
        let was_told = told.is_ok();
        let pause = failing.pause(told, hook.by(), &answer).or_else(|| hook.every());
        let mut pause = Box::pin(async move {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                changed = answers.changed() => match changed {
                    Ok(()) if hook.news(&answers.borrow_and_update()) != news => break,
                    Ok(()) => {}
                    // The last is told until it is taken; whoever waits for that does not wait for ever.
                    Err(_) if was_told => return hook.end().await,
                    Err(_) => {
                        pause.await;
                        break;
                    }
                },
                () = &mut pause => break,
            }
        }
    }
}

/// How often in a row telling came to nothing.
#[derive(Default)]
struct Failing {
    times: u32,
    complained: Option<Instant>,
}

impl Failing {
    /// Notes what came of an attempt, and returns how long to wait for the next where it came to nothing.
    fn pause(&mut self, told: Result<(), String>, by: By, answer: &Answer) -> Option<Duration> {
        let (hook, service, rotation) = (by.name(), &answer.service, answer.rotation.name());
        let Err(reason) = told else {
            if self.complained.take().is_some() {
                tracing::info!(hook, service, rotation, "Whoever is told of this node takes it again.");
            }
            self.times = 0;
            return None;
        };
        if self.complained.is_none_or(|at| at.elapsed() >= REMIND) {
            self.complained = Some(now());
            tracing::warn!(
                hook,
                service,
                rotation,
                reason,
                "Whoever is told of this node does not take it; it is tried again."
            );
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.times.min(10)).min(PAUSE_MAX);
        self.times = self.times.saturating_add(1);
        Some(pause)
    }
}

/// Replaces the file: all of it, or nothing.
fn write(path: &Path, answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    let mut next = path.as_os_str().to_owned();
    next.push(".new");
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::write(&next, text).and_then(|()| fs::rename(&next, path)).map_err(at)
}

async fn run(argv: &[String], node: &str, answer: &Answer) -> Result<(), String> {
    let Answer { service, state, rotation, weight, reason, until } = answer;
    let weight = weight.to_string();
    let placed =
        argv.iter().map(|argument| argument.replace("{state}", rotation.name()).replace("{weight}", &weight));
    let argv: Vec<String> = placed.collect();
    let program = argv.first().map_or("", String::as_str);
    let variables = [
        ("AVIARY_ROTATION_SERVICE", service.as_str()),
        ("AVIARY_ROTATION_NODE", node),
        ("AVIARY_ROTATION_STATE", rotation.name()),
        ("AVIARY_ROTATION_WEIGHT", &weight),
        ("AVIARY_ROTATION_REASON", reason.as_deref().unwrap_or_default()),
        ("AVIARY_ROTATION_UNTIL", until.as_deref().unwrap_or_default()),
        ("AVIARY_ROTATION_SEEN", state.name()),
    ];
    let input = serde_json::to_vec(answer).map_err(|error| error.to_string())?;
    match run_program(&argv, variables, &input).await {
        Err(error) => Err(format!("`{program}` cannot be started: {error}; check `command` and its owner")),
        Ok(ended) if ended.status.success() => {
            tracing::info!(
                service,
                rotation = rotation.name(),
                program,
                "The command was told of this node."
            );
            Ok(())
        }
        Ok(ended) => Err(format!("`{program}` ended with {}: {}", ended.status, ended.printed)),
    }
}

#[expect(clippy::disallowed_methods, reason = "how often the log is told is nobody's measurement")]
fn now() -> Instant {
    Instant::now()
}
