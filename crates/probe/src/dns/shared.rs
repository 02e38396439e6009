//! One lookup a second for everybody who asks.
//!
//! Lookups run on a runtime that outlives whoever asks: hickory spawns onto the runtime that polls it, and a lane's may
//! end while others wait.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aviary_core::{Clock as _, LocalFault, Phase, Second};
use tokio::{runtime::Handle, sync::watch};

use super::{
    Names,
    asked::{Asked, Waiting},
    upstream::{Ended, Heard},
};
use crate::{
    clock::SystemClock,
    fault::Failure,
    network::{Family, Question},
};

/// Past this number of names in a second, those that come have a lookup to themselves: an agent has at most 10,000 series.
const NAMES_MAX: usize = 10_000;

/// What a lookup found, once it has.
type Answer = Option<Result<Vec<IpAddr>, Failure>>;

pub(crate) struct Shared {
    runtime: Handle,
    lookups: Mutex<Lookups>,
    asked: Mutex<Asked>,
}

/// The lookups of this second, and those of the last or next that some still ask for around its turn.
#[derive(Default)]
struct Lookups {
    second: Second,
    names: HashMap<Arc<str>, [Option<Lookup>; Family::COUNT]>,
}

struct Lookup {
    second: Second,
    answer: watch::Receiver<Answer>,
}

impl Shared {
    /// Makes lookups on `runtime`.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, lookups: Mutex::default(), asked: Mutex::default() }
    }

    /// The answer to `question`: that of its second, or the one to come. Who stops waiting stops nobody else.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        names: &Arc<Names>,
        question: Question<'_>,
    ) -> Result<Vec<IpAddr>, Failure> {
        let mut answer = self.lookup(names, question);
        // An answer that is there is had without a wake-up.
        let answer = answer.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| answer.clone());
        // It ended without one: it panicked, or its runtime is gone.
        answer.unwrap_or(Err(Failure::local(Phase::Dns, LocalFault::Bug)))
    }

    fn lookup(self: &Arc<Self>, names: &Arc<Names>, question: Question<'_>) -> watch::Receiver<Answer> {
        let mut lookups = lock(&self.lookups);
        if let Some(answer) = lookups.get(question) {
            return answer;
        }
        let (sender, answer) = watch::channel(None);
        let name: Arc<str> = question.name.into();
        lookups.insert(Arc::clone(&name), question, answer.clone());
        drop(lookups);

        if let Some(found) = names.on_file(question) {
            sender.send_replace(Some(Ok(found)));
            return answer;
        }
        let (shared, names) = (Arc::clone(self), Arc::clone(names));
        let (family, second) = (question.family, question.second);
        // Nobody waits for the task: what it found comes through the channel.
        drop(self.runtime.spawn(async move {
            if names.upstream.is_check_due(SystemClock.monotonic()) {
                let names = Arc::clone(&names);
                // A file system may hang; this lookup is not to.
                drop(tokio::task::spawn_blocking(move || names.upstream.reread()));
            }
            let asking = Asking::start(&shared.asked, Arc::clone(&name));
            let ended = names.look_up(Question { name: &name, family, second }).await;
            sender.send_replace(Some(asking.end(ended)));
        }));
        answer
    }
}

impl Lookups {
    fn get(&self, question: Question<'_>) -> Option<watch::Receiver<Answer>> {
        let lookup = self.names.get(question.name)?[question.family as usize].as_ref()?;
        // Who is late finds the answer of the second that has begun meanwhile, which is as good.
        let ahead = lookup.second.0.checked_sub(question.second.0)?;
        (ahead <= 1).then(|| lookup.answer.clone())
    }

    fn insert(&mut self, name: Arc<str>, question: Question<'_>, answer: watch::Receiver<Answer>) {
        let second = question.second;
        if second != self.second {
            self.second = second;
            self.names.retain(|_, families| {
                for family in families.iter_mut() {
                    family.take_if(|lookup| lookup.second.0.abs_diff(second.0) > 1);
                }
                families.iter().any(Option::is_some)
            });
        }
        if self.names.len() < NAMES_MAX || self.names.contains_key(&name) {
            let families = self.names.entry(name).or_default();
            families[question.family as usize] = Some(Lookup { second, answer });
        }
    }
}

/// A lookup on its way; noted as ended also where it is dropped.
struct Asking<'a> {
    asked: &'a Mutex<Asked>,
    waiting: Waiting,
}

impl<'a> Asking<'a> {
    fn start(asked: &'a Mutex<Asked>, name: Arc<str>) -> Self {
        let waiting = lock(asked).start(name, SystemClock.monotonic());
        Self { asked, waiting }
    }

    /// What those who wait are told.
    fn end(self, ended: Ended) -> Result<Vec<IpAddr>, Failure> {
        let is_local = lock(self.asked).end(self.waiting, ended.heard, SystemClock.monotonic());
        if is_local { Err(Failure::local(Phase::Dns, LocalFault::NoRoute)) } else { ended.result }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        lock(self.asked).end(self.waiting, Heard::Nobody, SystemClock.monotonic());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
