//! The services that a collector hands out: fetched, verified, prepared before they are taken on, and kept for a start without it.
//!
//! A collector tells with each answer to a report which versions there are ([`ToldVersions`]). The active one is what is probed; of a
//! candidate all is done that can fail, and the reports say what came of it. A collector that tells no versions is asked for its
//! services every ten seconds, and what it hands out is taken on or refused.

mod document;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aviary_agent::{Observer, Push, ToldVersions};
use aviary_core::rollout::{Held, HeldState, Version};
use aviary_probe::SystemClock;
use aviary_wire::report::told_reason;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval},
};

use self::document::{Document, Wanted, fetch};
use crate::config::ServicesText;

/// How often a collector that tells no versions is asked whether its services have changed, and what failed is tried again.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The name of the copy in the agent's directory.
const COPY: &str = "services.toml";

/// A version that is not probed: with its text, unless it could not be fetched.
#[derive(Debug)]
struct Other {
    version: Version,
    document: Option<Document>,
    /// `building`, `available`, or `error`.
    state: HeldState,
    /// Why it cannot be used.
    why: String,
}

impl Other {
    fn failed(version: Version, document: Option<Document>, why: String) -> Self {
        Self { version, document, state: HeldState::Error, why }
    }

    fn held(&self) -> Held {
        Held { version: self.version, state: self.state, error: told_reason(&self.why).to_owned() }
    }
}

/// Has reports say what is held.
type Tell = Box<dyn Fn(Vec<Held>)>;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There are other services to be taken on.
    Offered,
    /// There are services to be prepared.
    ToBuild,
    /// What could not be used is no longer told.
    Dropped,
}

/// A question for a document: none is answered where it is known.
type Asking = JoinHandle<anyhow::Result<Option<Document>>>;

/// The services of a collector: those that are probed, and what it tells that is not taken on yet.
pub(super) struct Services {
    push: Push,
    copy: Option<PathBuf>,
    /// What is probed.
    known: Option<Document>,
    /// What the collector tells now, to be taken on or refused.
    offered: Option<Document>,
    /// What could not be taken on, which is not asked for again.
    refused: Option<Other>,
    /// What may be taken on next.
    candidate: Option<Other>,
    /// Has the agent's reports say what is held, and hears which versions there are; none before the agent runs.
    agent: Option<(Tell, watch::Receiver<Option<ToldVersions>>)>,
    asks: Interval,
    /// A question that is under way: it is not begun anew when whoever waits for it turns to something else.
    asking: Option<(Option<Version>, Asking)>,
    /// That nobody answers was said.
    is_told: bool,
}

impl Services {
    /// Services that the collectors of `push` hand out, with their copy in `directory`.
    pub(super) fn new(push: Push, directory: Option<&Path>) -> Self {
        let mut asks = interval(ASK_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        asks.reset();
        Self {
            push,
            copy: directory.map(|it| it.join(COPY)),
            known: None,
            offered: None,
            refused: None,
            candidate: None,
            agent: None,
            asks,
            asking: None,
            is_told: false,
        }
    }

    /// Follows what the collector tells the agent that `observer` observes, and has its reports say what is held.
    pub(super) fn follow(&mut self, observer: Observer<SystemClock>) {
        let versions = observer.versions();
        self.agent = Some((Box::new(move |held| observer.holds(held)), versions));
        self.tell();
    }

    /// Asks for the services once, and offers them; says so where nobody tells them.
    pub(super) async fn ask_once(&mut self) {
        match fetch(self.push.clone(), Wanted::default()).await {
            Ok(offered) => self.offered = offered,
            Err(error) => {
                tracing::warn!(reason = format!("{error:#}"), "No collector tells the services.");
                self.is_told = true;
            }
        }
    }

    /// Offers the services that were kept, if any were.
    pub(super) fn offer_copy(&mut self) {
        self.offered = self.read_copy();
    }

    /// What is to be probed: what the collector offers, or else what it told before.
    pub(super) fn current(&self) -> Option<ServicesText> {
        self.offered.as_ref().or(self.known.as_ref()).map(|document| document.services.clone())
    }

    /// What is [`Self::current`] was taken on: it is kept for a start without a collector.
    pub(super) fn accept(&mut self) {
        let Some(offered) = self.offered.take() else {
            // Something else has changed here: what was prepared is to be prepared with that.
            let prepared = self.candidate.iter_mut().filter(|it| it.document.is_some());
            prepared.for_each(|candidate| candidate.state = HeldState::Building);
            return;
        };
        self.refused = None;
        let known = self.known.insert(offered);
        if let Some(copy) = &self.copy
            && let Err(error) = known.keep(copy)
        {
            tracing::error!(
                reason = %error,
                "The services are not kept for a start without a collector."
            );
        }
        self.tell();
    }

    /// What is offered, if anything is, cannot be taken on, which is `why`; what was known stands.
    pub(super) fn refuse(&mut self, why: &str) {
        if let Some(document) = self.offered.take() {
            self.refused = Some(Other::failed(document.version, Some(document), why.to_owned()));
            self.tell();
        }
    }

    /// What is to be prepared: a candidate, or what was refused, once more.
    pub(super) fn to_build(&self) -> Option<(Version, ServicesText)> {
        let candidate = self.candidate.iter().find(|it| it.state == HeldState::Building);
        let other = candidate.or(self.refused.as_ref())?;
        let document = other.document.as_ref()?;
        Some((document.version, document.services.clone()))
    }

    /// What came of preparing `version`. Returns whether it is to be taken on now, and whether there is anything new to say.
    pub(super) fn built(&mut self, version: Version, built: Result<(), String>) -> (bool, bool) {
        let is_candidate = self.candidate.as_ref().is_some_and(|it| it.version == version);
        let other = if is_candidate { &mut self.candidate } else { &mut self.refused };
        let Some(known) = other.as_mut().filter(|it| it.version == version) else { return (false, false) };
        let (state, why) = match built {
            Ok(()) => (HeldState::Available, String::new()),
            Err(why) => (HeldState::Error, why),
        };
        let is_news = known.why != why || state == HeldState::Available;
        (known.state, known.why) = (state, why);
        let is_ready = !is_candidate && state == HeldState::Available;
        if is_ready {
            self.offered = self.refused.take().and_then(|refused| refused.document);
        }
        self.tell();
        (is_ready, is_news)
    }

    /// Why what the collector tells now is not taken on, or could not be.
    pub(super) fn why_refused(&self) -> Option<&str> {
        let all = self.refused.iter().chain(&self.candidate);
        all.map(|it| it.why.as_str()).find(|why| !why.is_empty())
    }

    /// Waits until something is to be done. Given up and asked again, it goes on where it was.
    pub(super) async fn changed(&mut self) -> News {
        loop {
            if let Some(news) = self.heard() {
                return news;
            }
            if let (None, Some(version)) = (&self.asking, self.wanted()) {
                self.ask(Wanted { version: Some(version), known: None });
            }
            let Self { agent, asking, asks, .. } = &mut *self;
            let answered = async {
                match asking {
                    Some((_, asking)) => asking.await,
                    None => std::future::pending().await,
                }
            };
            let told = async {
                let is_told = match agent {
                    Some((_, versions)) => versions.changed().await.is_ok(),
                    None => false,
                };
                // There is no agent yet, or none any more.
                if !is_told {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                answer = answered => {
                    let wanted = self.asking.take().and_then(|(wanted, _)| wanted);
                    if let Some(news) = self.answered(wanted, answer.map_err(anyhow::Error::from).flatten()) {
                        return news;
                    }
                }
                () = told => {}
                _ = asks.tick() => {
                    if let Some(news) = self.try_again() {
                        return news;
                    }
                }
            }
        }
    }

    /// Which versions there are, of a collector that tells.
    fn versions(&self) -> Option<ToldVersions> {
        self.agent.as_ref().and_then(|(_, versions)| *versions.borrow())
    }

    fn is_known(&self, version: Version) -> bool {
        self.known.as_ref().is_some_and(|known| known.version == version)
    }

    /// Takes in which versions there are; what to do with those that are here.
    fn heard(&mut self) -> Option<News> {
        if let Some(ToldVersions { active, candidate }) = self.versions() {
            let is_over = |it: &Other| it.version != active && Some(it.version) != candidate;
            let had = (self.candidate.is_some(), self.refused.is_some());
            self.candidate.take_if(|it| is_over(it));
            self.refused.take_if(|it| it.version != active);
            if self.is_known(active) {
                self.candidate.take_if(|it| it.version == active);
            } else if let Some(ready) =
                self.candidate.take_if(|it| it.version == active && it.document.is_some())
            {
                self.offered = ready.document;
                return Some(News::Offered);
            }
            if had != (self.candidate.is_some(), self.refused.is_some()) {
                self.tell();
                return Some(News::Dropped);
            }
        }
        self.candidate.as_ref().is_some_and(|it| it.state == HeldState::Building).then_some(News::ToBuild)
    }

    /// The version that there is, and that is not here.
    fn wanted(&self) -> Option<Version> {
        let ToldVersions { active, candidate } = self.versions()?;
        let is_here = |other: &Option<Other>, version| other.as_ref().is_some_and(|it| it.version == version);
        if !self.is_known(active) && !is_here(&self.refused, active) && !is_here(&self.candidate, active) {
            return Some(active);
        }
        candidate.filter(|version| !self.is_known(*version) && !is_here(&self.candidate, *version))
    }

    fn ask(&mut self, wanted: Wanted) {
        let version = wanted.version;
        self.asking = Some((version, tokio::spawn(fetch(self.push.clone(), wanted))));
    }

    /// A collector answered who asked for the `wanted` version, or for whichever there is.
    fn answered(
        &mut self,
        wanted: Option<Version>,
        answer: anyhow::Result<Option<Document>>,
    ) -> Option<News> {
        let versions = self.versions();
        let is_active = wanted == versions.map(|told| told.active);
        let is_candidate = wanted.is_some() && wanted == versions.and_then(|told| told.candidate);
        match (answer, wanted) {
            // It told no versions when it was asked, and tells them by now.
            (Ok(_), None) if versions.is_some() => {}
            (Ok(Some(document)), _) if is_active => {
                self.offered = Some(document);
                self.is_told = false;
                return Some(News::Offered);
            }
            (Ok(Some(document)), _) if is_candidate => {
                let (version, state) = (document.version, HeldState::Building);
                self.candidate = Some(Other { version, document: Some(document), state, why: String::new() });
                self.tell();
            }
            (Ok(_), None) => self.is_told = false,
            (Err(error), Some(version)) if is_active || is_candidate => {
                let why = format!("its text cannot be fetched: {error:#}");
                tracing::warn!(%version, reason = why, "A version of the services is not here.");
                let failed = Some(Other::failed(version, None, why));
                *(if is_active { &mut self.refused } else { &mut self.candidate }) = failed;
                self.tell();
            }
            (Err(error), None) if !std::mem::replace(&mut self.is_told, true) => {
                tracing::warn!(
                    reason = format!("{error:#}"),
                    "No collector tells the services; they stay as they are."
                );
            }
            // What is told has changed meanwhile, or was said.
            (Ok(_) | Err(_), _) => {}
        }
        None
    }

    /// Some time has passed: what failed may go well now, and who tells no versions may have other services.
    fn try_again(&mut self) -> Option<News> {
        let is_lacking = |it: &mut Other| it.document.is_none();
        self.refused.take_if(is_lacking);
        self.candidate.take_if(is_lacking);
        if self.versions().is_none() && self.asking.is_none() {
            let newest = self.refused.as_ref().and_then(|refused| refused.document.as_ref());
            let known = newest.or(self.known.as_ref()).map(|document| document.hash.clone());
            self.ask(Wanted { version: None, known });
        }
        if let Some(candidate) = self.candidate.as_mut().filter(|it| it.state == HeldState::Error) {
            candidate.state = HeldState::Building;
            return Some(News::ToBuild);
        }
        self.refused.is_some().then_some(News::ToBuild)
    }

    /// Has the agent's reports say what is held beside what is probed.
    fn tell(&self) {
        if let Some((tell, _)) = &self.agent {
            // What is tried once more is an error until that is done.
            let all = self.candidate.iter().chain(&self.refused).map(|other| match other.why.is_empty() {
                true => other.held(),
                false => Held { state: HeldState::Error, ..other.held() },
            });
            tell(all.collect());
        }
    }

    /// Asks other collectors from now on, or with other credentials.
    pub(super) fn redirect(&mut self, push: Push) {
        self.push = push;
    }

    fn read_copy(&self) -> Option<Document> {
        Document::kept(self.copy.as_ref()?)
    }
}
