//! `GET /metrics`: what the collector counts, for whoever keeps metrics.
//!
//! Every label set is bounded: tokens by the configuration, states and reasons by their types, services by
//! [`crate::received`].

use aviary_core::{Protocol, Timestamp};
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::{
    Collector, Counts, ReceivedCounts, TokenCounts, agents::AgentState, api::Readable,
    delivery::DeliveryFigures, error::ApiError,
};

/// What a collector counts.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Of its own work.
    pub counts: Counts,
    /// How many agents are in each state.
    pub agents: Vec<(&'static str, u64)>,
    /// By token; of those only that may report.
    pub tokens: Vec<TokenCounts>,
    /// Requests that showed no token of this collector where one was asked for.
    pub strangers: u64,
    /// Requests that said who they are in the headers of the proxy, and were not sent by it.
    pub pretenders: u64,
    /// What the service under test forwarded, by service and protocol.
    pub received: Vec<(String, Protocol, ReceivedCounts)>,
    /// What became of pages, while somebody delivers them.
    pub delivery: DeliveryFigures,
    /// By receiver for how many seconds the oldest incident has waited that it is to be told of; nothing for those that
    /// wait for nothing.
    pub waiting: Vec<(String, u64)>,
    /// How many seconds the last loss of its own canary took to be told of ([`Collector::canary_delay`]).
    pub canary_delay: Option<f64>,
}

/// Writes figures as whoever sent this `Accept` wants them: the media type and the text. `None` where that fails.
pub type MetricsPage = fn(Figures, &str) -> Option<(&'static str, String)>;

impl Collector {
    /// What it counts.
    pub fn figures(&self) -> Figures {
        let now = self.now();
        let mut state = self.state();
        state.advance(now);
        let mut agents: Vec<_> = AgentState::ALL.iter().map(|state| (state.name(), 0)).collect();
        for agent in state.agents().values() {
            agents[AgentState::of(agent, now) as usize].1 += 1;
        }
        let received = state.received().groups();
        let received =
            received.map(|(service, protocol, counts)| (service.to_owned(), protocol, counts.clone()));
        let counts = state.counts();
        let (received, tokens) = (received.collect(), self.access().counts(|token| state.introduced(token)));
        drop(state);
        let waiting = self.judgement().waiting(now);
        let age = |(receiver, since): (String, Timestamp)| (receiver, now.since(since) / 1_000_000);
        Figures {
            counts,
            agents,
            tokens,
            strangers: self.access().strangers(),
            pretenders: self.access().pretenders(),
            received,
            delivery: self.delivery_figures(),
            waiting: waiting.into_iter().map(age).collect(),
            canary_delay: self.canary_delay(),
        }
    }
}

pub(crate) async fn metrics(Readable(collector): Readable, headers: HeaderMap) -> Result<Response, ApiError> {
    let Some(page) = collector.metrics_page() else {
        let message = "/metrics: this collector was started without metrics";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    let accept: Vec<_> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let (kind, text) = page(collector.figures(), &accept.join(",")).ok_or_else(|| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the metrics cannot be written")
    })?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response())
}
