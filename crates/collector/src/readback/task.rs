//! The work around the plan: asks what is due, each service by itself, and hands over the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aviary_core::Span;
use futures_util::future::join_all;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
    Readback,
    graphite::Graphite,
    plan::{ASK_EVERY, Question},
    prometheus::Prometheus,
    reader::{Reader, Said, Unreadable},
};
use crate::Collector;

/// A reader of either kind.
pub(super) enum AnyReader {
    Graphite(Graphite),
    Prometheus(Prometheus),
}

impl AnyReader {
    pub(super) fn new(options: &Readback) -> Result<Self, super::SetUpError> {
        Ok(match &options.reader {
            super::Reader::Graphite { resolution_seconds, sum } => {
                Self::Graphite(Graphite::new(options, *resolution_seconds, sum)?)
            }
            super::Reader::Prometheus => Self::Prometheus(Prometheus::new(options)?),
        })
    }

    pub(super) async fn look(&self, names: &[Arc<str>], span: Span) -> Result<Vec<Said>, Unreadable> {
        match self {
            Self::Graphite(reader) => reader.read(names, span).await,
            Self::Prometheus(reader) => reader.read(names, span).await,
        }
    }
}

/// The reader of a service, and how it was configured.
type Known = (Readback, Result<Arc<AnyReader>, String>);

/// Reads back until `stopped`. A service whose reader has not answered is not asked again before it has.
pub(crate) async fn run(collector: Collector, mut stopped: watch::Receiver<bool>) {
    let mut readers: BTreeMap<String, Known> = BTreeMap::new();
    let mut under_way: JoinSet<String> = JoinSet::new();
    let mut busy: BTreeSet<String> = BTreeSet::new();
    loop {
        while let Some(ended) = under_way.try_join_next() {
            match ended {
                Ok(service) => drop(busy.remove(&service)),
                Err(error) => {
                    tracing::error!(%error, "Reading back failed; it begins anew.");
                    busy.clear();
                    under_way.abort_all();
                }
            }
        }
        renew(&collector, &mut readers);
        for (service, (_, reader)) in &readers {
            if busy.contains(service) {
                continue;
            }
            let now = collector.now();
            match reader {
                Ok(reader) => {
                    let questions = collector.state().questions(service, now);
                    if !questions.is_empty() {
                        busy.insert(service.clone());
                        under_way.spawn(ask(
                            collector.clone(),
                            service.clone(),
                            Arc::clone(reader),
                            questions,
                        ));
                    }
                }
                Err(reason) => collector.state().unreadable(service, now, reason.clone()),
            }
        }
        tokio::select! {
            () = sleep(ASK_EVERY) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Makes the readers that are configured, and lets go of others.
fn renew(collector: &Collector, readers: &mut BTreeMap<String, Known>) {
    let wanted: BTreeMap<String, Readback> = {
        let state = collector.state();
        let wanted = state.readbacks().map(|(name, options)| (name.to_owned(), options.clone()));
        wanted.collect()
    };
    readers.retain(|name, (options, _)| wanted.get(name) == Some(options));
    for (name, options) in wanted {
        readers.entry(name).or_insert_with_key(|name| {
            let reader = AnyReader::new(&options).map(Arc::new).map_err(|error| error.to_string());
            if let Err(reason) = &reader {
                tracing::error!(service = name, reason, "What this service stores cannot be read back.");
            }
            (options, reader)
        });
    }
}

/// Asks all questions at once, since none is to wait for another that takes long; returns the service.
async fn ask(
    collector: Collector,
    service: String,
    reader: Arc<AnyReader>,
    questions: Vec<Question>,
) -> String {
    let one = async |question: Question| {
        let began = (collector.inner.monotonic)();
        let answer = reader.look(&question.names, question.span).await;
        let took_us = (collector.inner.monotonic)().since(began);
        if let Err(error) = &answer {
            tracing::debug!(service, %error, "Not read back.");
        }
        let now = collector.now();
        collector.state().answered(&service, &question, &answer, took_us, now);
    };
    join_all(questions.into_iter().map(one)).await;
    service
}
