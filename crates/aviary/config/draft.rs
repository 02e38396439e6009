//! The sections of a file as they stand there, and what is wrong with them taken together.

use std::{net::SocketAddr, path::PathBuf};

use aviary_core::rotation::Mode;
use aviary_notify::OutletKind;

use super::{
    agent::{self, Agent},
    collector::{self, Collector},
    context::{Context, Refusal},
    kind::{At, list, section, table, text},
    log::{self, Log},
    reach,
    reader::Reader,
    receiver, route, secret, service, silence,
    sink::{self, Sink},
    vantage::{self, Vantage},
};

/// The most series of one agent.
const SERIES_MAX: usize = 10_000;

/// The sections as they stand in the file, before they are held against each other.
pub(super) struct Draft {
    pub(super) vantage: Option<Vantage>,
    pub(super) agent: Option<Agent>,
    pub(super) collector: Option<Collector>,
    pub(super) sink: Option<Sink>,
    pub(super) log: Option<Log>,
    pub(super) services: Vec<At<service::Draft>>,
    /// The file that has the services, if this one has not.
    pub(super) services_file: Option<PathBuf>,
    pub(super) receivers: Vec<At<receiver::Draft>>,
    pub(super) routes: Vec<At<route::Draft>>,
    pub(super) silences: Vec<At<silence::Draft>>,
    /// The sections that are given, rightly or wrongly.
    given: Vec<&'static str>,
}

/// Reads the services that a collector hands out: nothing else may stand beside them.
pub(super) fn read_services(reader: &mut Reader<'_>) -> Vec<At<service::Draft>> {
    let services = reader.optional("service", "what is probed and judged", list(section(service::service)));
    services.unwrap_or_default()
}

fn file_of_services(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let path = secret::beside(text("a path", "services.toml", |given| Ok(given.to_owned())));
    reader.required("file", "where it is, from the directory of this one", path)
}

impl Draft {
    /// The sections whose keys variables override.
    pub(super) const SECTIONS: [&'static str; 9] =
        ["agent", "collector", "log", "receiver", "service", "services", "silence", "sink", "vantage"];

    /// Reads a whole file.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let vantage = reader.optional("vantage", "where probes run from", section(vantage::vantage));
        let agent = reader.optional("agent", "probes, and reports to collectors", section(agent::agent));
        let collector =
            reader.optional("collector", "takes reports, sums and judges", section(collector::collector));
        let sink = reader.optional("sink", "the receiving side", section(sink::sink));
        let log = reader.optional("log", "what is written of the program's life", section(log::log));
        let services = read_services(reader);
        let services_file = "the file in which the [[service]] sections stand, if not here";
        let services_file = reader.optional(
            "services",
            services_file,
            table("{ file = \"services.toml\" }", file_of_services),
        );
        let receivers = reader.optional("receiver", "who is paged", list(section(receiver::receiver)));
        let routes = reader.optional("route", "which incident goes to whom", list(section(route::route)));
        let silences = "what nobody is to be paged about, until when, and why";
        let silences = reader.optional("silence", silences, list(section(silence::silence)));

        let given = Self::SECTIONS.into_iter().filter(|section| reader.has(section)).collect();
        Self {
            vantage,
            agent,
            collector,
            sink,
            log,
            services,
            services_file,
            receivers: receivers.unwrap_or_default(),
            routes: routes.unwrap_or_default(),
            silences: silences.unwrap_or_default(),
            given,
        }
    }

    /// Whether `section` is given, rightly or wrongly.
    pub(super) fn has(&self, section: &str) -> bool {
        self.given.contains(&section)
    }

    /// Takes the services of another file for those of this one.
    pub(super) fn include(&mut self, services: Vec<At<service::Draft>>, is_given: bool) {
        self.services = services;
        self.given.extend(is_given.then_some("service"));
    }

    /// Refuses services that stand in more than one place.
    pub(super) fn refuse_two_lists(&self, context: &Context<'_>) {
        if !self.has("services") {
            return;
        }
        if self.has("service") {
            let message = "the services stand in a file of their own, and these beside them";
            let help = "move them there, or take `services` out";
            context.refuse("service", Refusal::new(message).help(help));
        }
        if self.agent.as_ref().is_some_and(|agent| agent.services_from_collector) {
            let message = "this agent has its services from a collector, and from this file";
            context.refuse("services", Refusal::new(message).help("take one of the two out"));
        }
    }

    /// Completes the services, and says what is wrong with the sections taken together. `foreign` is where the services
    /// stand, which is `context` unless they came from a collector or have a file of their own.
    pub(super) fn refuse_contradictions(&mut self, context: &Context<'_>, foreign: &Context<'_>) {
        let vantage = self.vantage.as_ref().map(Vantage::as_written);
        service::complete(&mut self.services, foreign, vantage.as_ref());
        if !["agent", "collector", "sink"].iter().any(|role| self.has(role)) {
            let help = "add one of the sections [agent], [collector] and [sink]";
            context.refuse("", Refusal::new("there is nothing to run").help(help));
        }
        if let Some(agent) = &self.agent {
            self.refuse_useless_agent(agent, context, foreign);
        }
        if self.has("collector") && !self.has("service") {
            let message = "no [[service]] is given: reports are summed, but nothing is judged";
            context.note("collector", Refusal::new(message).help("add the services that the agents probe"));
        }
        self.refuse_equal_listeners(context);
        let surroundings = service::Surroundings {
            vantage: vantage.as_ref(),
            has_collector: self.has("collector"),
            has_sink: self.has("sink"),
        };
        service::refuse_contradictions(&self.services, foreign, surroundings);
        self.note_vantages_that_never_come(foreign);
        self.refuse_one_request_for_all(context);
        reach::refuse_contradictions(self, context);
        reach::note_who_is_not_reached(self, context, foreign);
    }

    /// Of two services that are steered each would undo what the other says of a node.
    fn refuse_one_request_for_all(&self, context: &Context<'_>) {
        let rotation = self.collector.as_ref().and_then(|collector| collector.rotation.as_ref());
        let outlets = rotation.iter().flat_map(|rotation| &rotation.outlets);
        let mut requests = outlets.filter_map(|outlet| match &outlet.kind {
            OutletKind::Request(request) => Some(request),
            OutletKind::Webhook(_) => None,
        });
        let steered = self.services.iter().map(|draft| &draft.value.service);
        let mut steered = steered.filter(|it| it.rotation.as_ref().is_some_and(|it| it.mode != Mode::Off));
        let (Some(one), Some(other)) = (steered.next(), steered.next()) else { return };
        if requests.any(|request| !request.tells_services_apart()) {
            let message = format!(
                "`{}` and `{}` are both steered, and the request is the same for both: each would undo what the other says of a node",
                one.name, other.name
            );
            let help = "write {{ service }} into `url` or `body`, or set mode = \"off\" for one of the two";
            context.refuse("collector.rotation.request", Refusal::new(message).help(help));
        }
    }

    /// An agent in the collector's own process may be all that can ever report.
    fn note_vantages_that_never_come(&self, context: &Context<'_>) {
        let (Some(agent), Some(collector)) = (&self.agent, &self.collector) else { return };
        let takes_in_others = !collector.listen.ip().to_canonical().is_loopback()
            || !collector.tokens.is_empty()
            || collector.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if takes_in_others || !agent.collectors.is_empty() {
            return;
        }
        for At { path, value: draft } in &self.services {
            let service = &draft.service;
            if service.policy.min_vantages > 1 {
                let message = format!(
                    "we could never tell how `{}` does: {} vantages must report, and no more than the one of this file may",
                    service.name, service.policy.min_vantages
                );
                let help = "write min_vantages = 1, or add a [[collector.token]] for the other agents";
                context.note(&format!("{path}.min_vantages"), Refusal::new(message).help(help));
            }
        }
    }

    fn refuse_useless_agent(&self, agent: &Agent, context: &Context<'_>, foreign: &Context<'_>) {
        if self.vantage.is_none() && !self.has("vantage") {
            let help = "add [vantage] with at least a region";
            context.refuse("agent", Refusal::new("[agent] does not know where it probes from").help(help));
        }
        match (agent.services_from_collector, self.has("service")) {
            (true, true) => {
                let message = "this agent has its services from a collector, and these beside them";
                let help = "move them to the collector's file, or take `services` out of [agent]";
                context.refuse("service", Refusal::new(message).help(help));
            }
            (true, false) if foreign.is_foreign() && !foreign.is_given("service") => {
                let help = "add a [[service]] to the collector's file";
                foreign.refuse("", Refusal::new("the collector has no services to probe").help(help));
            }
            (false, false) => {
                let help = "add a [[service]] with its endpoints, or services = { file = \"services.toml\" }";
                context.refuse("agent", Refusal::new("[agent] has nothing to probe").help(help));
            }
            _ => {}
        }
        if !self.has("collector") && !context.is_given("agent.collector") {
            let help =
                "add collector = [\"https://collector.example.net:8610\"], or a [collector] to this file";
            context.refuse("agent", Refusal::new("[agent] has no collector to report to").help(help));
        }
        let kind = self.vantage.as_ref().map(|vantage| vantage.kind);
        let of_service = |draft: &At<service::Draft>| draft.value.service.probed(kind).count();
        let series: usize = self.services.iter().map(of_service).sum();
        if let (0, Some(kind), false) = (series, kind, self.services.is_empty()) {
            let finds_some = |draft: &At<service::Draft>| {
                draft.value.service.discoveries.iter().any(|discovery| discovery.kinds.has(Some(kind)))
            };
            if !foreign.is_refused() && !self.services.iter().any(finds_some) {
                let message = format!("nothing of these services is probed from a vantage of kind {kind}");
                let help = "correct `kind` in [vantage], or `kinds` of an endpoint";
                foreign.refuse("service", Refusal::new(message).help(help));
            }
        }
        if series > SERIES_MAX {
            let message = format!("{series} series are too many for one agent: it runs {SERIES_MAX} at most");
            let help = "share the endpoints out among several agents";
            foreign.refuse("service", Refusal::new(message).help(help));
        }
    }

    /// TCP and UDP have ports of their own, and any number of listeners may be given free ones.
    fn refuse_equal_listeners(&self, context: &Context<'_>) {
        let of_agent = self.agent.iter().flat_map(|agent| {
            [
                ("agent", "listen", agent.listen),
                ("agent", "debug_listen", agent.debugging.listen),
                ("agent", "agent_check", agent.steering.agent_check),
            ]
        });
        let of_collector = self.collector.iter().flat_map(|collector| {
            let debug = collector.debugging.listen;
            [("collector", "listen", Some(collector.listen)), ("collector", "debug_listen", debug)]
        });
        let of_http = of_agent.chain(of_collector);
        let of_http = of_http.filter_map(|(section, key, address)| Some((section, key, address?)));
        let of_sink = self.sink.iter().flat_map(Sink::listeners).map(|(key, address)| ("sink", key, address));
        let listeners: Vec<_> = of_http.chain(of_sink).collect();
        for (index, (section, key, address)) in listeners.iter().enumerate() {
            let in_the_way = listeners.iter().take(index).find(|(_, earlier_key, earlier)| {
                (*key == "udp") == (*earlier_key == "udp") && are_in_the_way(*address, *earlier)
            });
            if let Some((earlier_section, earlier_key, earlier)) = in_the_way {
                let message =
                    format!("{address} is in the way of {earlier_section}.{earlier_key} at {earlier}");
                let refusal = Refusal::new(message).help("give each listener a port of its own");
                context.refuse(&format!("{section}.{key}"), refusal);
            }
        }
    }
}

/// Whether the system would refuse to listen on both.
pub(super) fn are_in_the_way(one: SocketAddr, other: SocketAddr) -> bool {
    let any_of_family =
        (one.ip().is_unspecified() || other.ip().is_unspecified()) && one.is_ipv4() == other.is_ipv4();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || any_of_family)
}
