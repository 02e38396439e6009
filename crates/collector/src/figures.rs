//! `GET /metrics`: what the collector counts, for whoever keeps metrics.
//!
//! Every label set is bounded: tokens and services by the configuration and by how many tokens are issued, states, classes and reasons by their
//! types, what is received by [`crate::received`], and groups of slots by `state::counted`; where more was there than is told
//! apart, the figures say how much.

use aviary_core::{
    Protocol, Second, State as Verdict, Timestamp, Window,
    verdict::{Part, PartVerdict},
};
use aviary_store::StoreFigures;
use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use crate::{
    Collector, Counts, JournalFigures, LiveFigures, Phases, QUESTIONS_AT_ONCE, REPORTS_AT_ONCE,
    ReadBackFigures, ReceivedCounts, RolloutFigures, RotationFigures, SlotCounts, StatusFigures, TokenCounts,
    agents::AgentState, api::Readable, delivery::DeliveryFigures, error::ApiError, state::State,
};

/// How many services are told of by name.
const SERVICES_MAX: usize = 240;

/// What a collector counts.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// When it was started.
    pub started: Timestamp,
    /// Of its own work.
    pub counts: Counts,
    /// How many agents are in each state.
    pub agents: Vec<(&'static str, u64)>,
    /// By token; of those only that may report.
    pub tokens: Vec<TokenCounts>,
    /// What the collector shows, or takes, and ends some day: its kind, its name, and when.
    pub expiries: Vec<(&'static str, String, Second)>,
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
    /// How the services are.
    pub services: Vec<ServiceFigures>,
    /// How many services are not told of.
    pub services_left_out: usize,
    /// Slots by service, protocol and region.
    pub slots: Vec<SlotCounts>,
    /// How many groups of those are summed as `(others)`.
    pub groups_left_out: usize,
    /// How long each phase of delivered attempts took, by service and protocol, since the start.
    pub phases: Vec<(String, Protocol, Phases)>,
    /// What came of the newest settled second of all series.
    pub classes: Window,
    /// The share of what it kept that it has taken up, unless that is all.
    pub replaying: Option<f64>,
    /// Whether it is ending.
    pub is_shutting_down: bool,
    /// Reports that are being read.
    pub intake: usize,
    /// What was counted of the journal; none without a store.
    pub journal: Option<JournalFigures>,
    /// What the store costs its disk; none without one.
    pub store: Option<StoreFigures>,
    /// Those who watch pages change.
    pub live: LiveFigures,
    /// What became of the status page; none where there is none.
    pub status: Option<StatusFigures>,
    /// Questions about slots, sums and timings that are being answered.
    pub questions: usize,
    /// Losses whose phase, fault and address were let go of for want of room.
    pub losses_without_detail: u64,
    /// What is counted of steering.
    pub rotation: RotationFigures,
    /// How the services that are handed out are rolled out.
    pub rollout: RolloutFigures,
    /// Slots that the history could not keep.
    pub unkept: u64,
    /// States of phase timings that were not taken for want of room.
    pub timings_dropped: u64,
}

/// How one service is.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceFigures {
    /// Its name.
    pub name: String,
    /// Its state, and since when.
    pub state: Verdict,
    /// See [`Self::state`].
    pub since: Second,
    /// Nobody is paged about what is wrong with it.
    pub is_silenced: bool,
    /// Its incidents that are not over.
    pub incidents: usize,
    /// What it may lose, in parts of a million.
    pub acceptable_loss_ppm: u32,
    /// The vantages that are seen to probe it.
    pub vantages: usize,
    /// The state of each of its protocols.
    pub protocols: Vec<(Protocol, Verdict)>,
    /// How reading back goes, where it is read back, and whether it cannot be told what is stored.
    pub readback: Option<(ReadBackFigures, bool)>,
}

/// Writes figures as whoever sent this `Accept` wants them: the media type and the text. `None` where that fails.
pub type MetricsPage = fn(Figures, &str) -> Option<(&'static str, String)>;

impl Collector {
    /// What it counts.
    pub fn figures(&self) -> Figures {
        let now = self.now();
        let told = self.judgement().of_services();
        let mut figures = {
            let mut state = self.state();
            state.advance(now);
            let mut figures = of_state(&mut state, now);
            figures.tokens = self.access().counts(|token| state.introduced(token));
            figures
        };
        for service in &mut figures.services {
            if let Some(told) = told.get(&service.name) {
                (service.is_silenced, service.incidents) = (told.is_silenced, told.incidents.len());
            }
        }
        let waiting = self.judgement().waiting(now);
        let age = |(receiver, since): (String, Timestamp)| (receiver, now.since(since) / 1_000_000);
        let durable = self.inner.durable.as_ref();
        Figures {
            started: self.inner.started_at,
            expiries: self.expiries(),
            strangers: self.access().strangers(),
            pretenders: self.access().pretenders(),
            delivery: self.delivery_figures(),
            waiting: waiting.into_iter().map(age).collect(),
            canary_delay: self.canary_delay(),
            replaying: self.replaying(),
            is_shutting_down: self.is_shutting_down(),
            intake: REPORTS_AT_ONCE - self.inner.intake.available_permits(),
            journal: durable.map(|it| it.journal().map(|journal| journal.figures()).unwrap_or_default()),
            store: durable.map(|it| it.store_figures()),
            live: self.live_figures(),
            rotation: RotationFigures {
                outlets: self.inner.steerer.outlet_figures(),
                ..self.judgement().steering_figures()
            },
            rollout: self.rollout_figures(),
            status: Some(self.status_figures()).filter(|it| *it != StatusFigures::default()),
            questions: QUESTIONS_AT_ONCE - self.inner.questions.available_permits(),
            ..figures
        }
    }
}

/// What is known of slots, services and agents.
fn of_state(state: &mut State, now: Timestamp) -> Figures {
    let mut agents: Vec<_> = AgentState::ALL.iter().map(|state| (state.name(), 0)).collect();
    for agent in state.agents().values() {
        agents[AgentState::of(agent, now) as usize].1 += 1;
    }
    let received = state.received().groups();
    let received = received.map(|(service, protocol, counts)| (service.to_owned(), protocol, counts.clone()));
    let received = received.collect();
    let (slots, groups_left_out) = state.slot_counts(now);
    Figures {
        counts: state.counts(),
        agents,
        received,
        services: services(state, now),
        services_left_out: state.standing().count().saturating_sub(SERVICES_MAX),
        slots,
        groups_left_out,
        phases: state.phases(),
        classes: state.series_by_class(now),
        losses_without_detail: state.losses().dropped(),
        unkept: state.history().map_or(0, |history| history.unkept()),
        timings_dropped: state.history().map_or(0, |history| history.timings_dropped()),
        ..Figures::default()
    }
}

fn services(state: &State, now: Timestamp) -> Vec<ServiceFigures> {
    let standing = state.standing().take(SERVICES_MAX);
    let figures = standing.map(|(name, standing)| ServiceFigures {
        name: name.to_owned(),
        state: standing.verdict.state,
        since: standing.since,
        is_silenced: false,
        incidents: 0,
        acceptable_loss_ppm: state.service(name).policy.acceptable_loss.parts_per_million(),
        vantages: standing.vantages_seen,
        protocols: standing.verdict.parts.iter().filter_map(of_protocol).collect(),
        readback: state.read_back(name).map(|it| (it.figures(now), standing.storage_untold.is_some())),
    });
    figures.collect()
}

fn of_protocol(part: &PartVerdict) -> Option<(Protocol, Verdict)> {
    match &part.part {
        Part::Protocol(protocol) => Some((*protocol, part.state)),
        Part::Endpoint(_) | Part::Kind(_) => None,
    }
}

pub(crate) async fn metrics(Readable(collector): Readable, headers: HeaderMap) -> Result<Response, ApiError> {
    let Some(page) = collector.metrics_page() else {
        let message = "/metrics: this collector was started without metrics";
        return Err(ApiError::not_found(message));
    };
    let accept: Vec<_> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let (kind, text) = page(collector.figures(), &accept.join(","))
        .ok_or_else(|| ApiError::internal("the metrics cannot be written"))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response())
}
