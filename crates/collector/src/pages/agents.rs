//! `/agents`: the fleet, those that are not well first.

use maud::{Markup, html};
use serde::Serialize;

use super::{overview::pages, shown::Shown, words};
use crate::{
    Collector,
    agents::{self, AgentBody, AgentState},
    rollout::api::{Body, HeldBody, TakerBody},
};

/// So many agents are named that hold a rollout; all others are in the table.
const OBJECTIONS_MAX: usize = 20;

/// So many digits of a version tell it from the others in a table; a title has all.
const VERSION_DIGITS: usize = 8;

/// So many agents are on one page.
const AGENTS_A_PAGE: usize = 200;

/// The fleet.
#[derive(Debug, Serialize)]
pub(crate) struct Agents {
    now: u64,
    /// How many agents there are in each state.
    states: Vec<Count>,
    agents_total: usize,
    agents: Vec<AgentBody>,
    /// How the services that are handed out are rolled out.
    rollout: Body,
    #[serde(skip)]
    shown: Shown,
}

#[derive(Debug, Serialize)]
struct Count {
    state: &'static str,
    agents: usize,
}

impl Agents {
    pub(crate) fn gather(collector: &Collector, shown: Shown) -> Self {
        let now = collector.now();
        let all = agents::all(&collector.state(), AgentState::ALL, collector.access(), now).agents;
        Self::of(all, collector.rollout_body(now), now.second().0, shown)
    }

    fn of(mut all: Vec<AgentBody>, rollout: Body, now: u64, shown: Shown) -> Self {
        let count = |state: &AgentState| Count {
            state: state.name(),
            agents: all.iter().filter(|agent| agent.state == state.name()).count(),
        };
        let states = AgentState::ALL.iter().map(count).collect();
        all.sort_by(|left, right| {
            let key = |agent: &AgentBody| (rank(agent.state), agent.region.clone(), agent.node.clone());
            key(left).cmp(&key(right))
        });
        let agents_total = all.len();
        let here = all.into_iter().skip((shown.page - 1).saturating_mul(AGENTS_A_PAGE)).take(AGENTS_A_PAGE);
        Self { now, states, agents_total, agents: here.collect(), rollout, shown }
    }

    /// What changes of it.
    pub(crate) fn html(&self) -> Markup {
        html! {
            section id="fleet" aria-labelledby="fleet-heading" {
                h1 id="fleet-heading" { "Agents" }
                @if self.agents_total == 0 {
                    p { "No agent has reported here yet." }
                } @else {
                    ul.counts { @for Count { state, agents } in self.states.iter().filter(|count| count.agents > 0) {
                        li { (agent_state(state)) " " (words::number(*agents as u64)) }
                    } }
                    @if !self.rollout.agents.is_empty() { (services(&self.rollout, self.now)) }
                    div.scroll tabindex="0" role="group" aria-labelledby="fleet-heading" {
                        table {
                            caption { "Who reports, from where; those that do not come first." }
                            thead { tr {
                                th scope="col" { "Node" }
                                th scope="col" { "State" }
                                th scope="col" { "Last report" }
                                th scope="col" { "From" }
                                th.number scope="col" { "Series" }
                                th scope="col" { "Clock against ours" }
                                th scope="col" { "Program" }
                                th scope="col" { "Configuration" }
                                th scope="col" { "Services" }
                            } }
                            tbody { @for agent in &self.agents { (row(agent, self.now)) } }
                        }
                    }
                    (pages("/agents", &self.shown, self.agents_total, AGENTS_A_PAGE))
                }
            }
        }
    }
}

fn rank(state: &str) -> u8 {
    match state {
        "unreachable" => 0,
        "late" => 1,
        "starting" => 2,
        "reporting" => 3,
        _ => 4,
    }
}

fn agent_state(state: &str) -> Markup {
    let (shape, class) = match state {
        "reporting" => ("●", "healthy"),
        "late" => ("▲", "degraded"),
        "unreachable" => ("?", "blind"),
        _ => ("◌", "starting"),
    };
    html! { span class={ "state " (class) } { span.shape aria-hidden="true" { (shape) } " " (state) } }
}

/// How far a clock is from ours, and how well that is known.
fn clock(agent: &AgentBody) -> String {
    let (offset, word) = match agent.clock_offset_seconds {
        offset if offset < 0.0 => (-offset, "behind"),
        offset => (offset, "ahead"),
    };
    match agent.clock_uncertainty_seconds {
        Some(uncertainty) => format!("{offset:.3} s {word}, ± {uncertainty:.3} s"),
        None => format!("at least {offset:.3} s {word}"),
    }
}

/// Which version of the services is active, which is on its way, and who holds it.
fn services(rollout: &Body, now: u64) -> Markup {
    let objections = || rollout.agents.iter().filter_map(|it| Some((it, it.objection.as_deref()?)));
    let more = objections().count().saturating_sub(OBJECTIONS_MAX);
    html! {
        div.rollout {
            @if let Some(active) = &rollout.active {
                p { (mark("active", "active")) " Services " code { (active.version) } " since " (words::since(active.since, now)) "." }
            }
            @if let Some(candidate) = &rollout.candidate {
                p {
                    (mark(rollout.state, if rollout.state == "held" { "held" } else { "on its way" }))
                    " Services " code { (candidate.version) } " since " (words::since(candidate.since, now)) ": "
                    (candidate.ready) " of " (candidate.waited_for) " agents have it available. All go on with the active one; at "
                    (words::time(candidate.until)) " this one is given up."
                }
            }
            @if let Some(held) = &rollout.held_back {
                p {
                    (mark(rollout.state, "held back"))
                    " Services " code { (held.version) } ", which the file says, "
                    @if held.why == "timed_out" { "were not available to all agents in time" } @else {
                        "were rolled back"
                        @if let Some(by) = &held.by { " by " (by) }
                    }
                    ", " (words::since(held.at, now)) "."
                }
            }
            @if objections().next().is_some() {
                ul.objections {
                    @for (TakerBody { node, region, .. }, why) in objections().take(OBJECTIONS_MAX) {
                        li { b { (node) } " (" (region) "): " span.reason { (why) } }
                    }
                    @if more > 0 { li { "and " (more) " more, see the table" } }
                }
            }
        }
    }
}

/// How far something is, in a word and a shape of its own.
fn mark(state: &str, word: &str) -> Markup {
    let (shape, class) = match state {
        "active" | "settled" => ("●", "healthy"),
        "available" => ("○", "healthy"),
        "error" | "held" | "timed_out" => ("▲", "degraded"),
        "rolled_back" => ("?", "blind"),
        _ => ("◌", "starting"),
    };
    html! { span class={ "state " (class) } { span.shape aria-hidden="true" { (shape) } " " (word) } }
}

/// The versions of the services that an agent holds; all of why it cannot use one stands above the table. An agent that is too old to
/// say which program it runs does not say where it has its services from either.
fn held(agent: &AgentBody) -> Markup {
    html! {
        @match agent.services.as_deref() {
            None if agent.program.is_none() => "not said",
            None => { span.said { "not from here" } }
            Some([]) => "none",
            Some(versions) => @for HeldBody { version, state, error } in versions {
                div.held {
                    code title=(version) { (version.get(..VERSION_DIGITS).unwrap_or(version)) } " " (mark(state, state))
                    @if let Some(error) = error { span.said { (error.lines().next().unwrap_or_default()) } }
                }
            },
        }
    }
}

fn row(agent: &AgentBody, now: u64) -> Markup {
    let place = [Some(&agent.region), agent.zone.as_ref(), agent.network.as_ref()];
    let place: Vec<&str> = place.into_iter().flatten().map(String::as_str).collect();
    let marks = [
        (agent.self_suspect, "suspects itself"),
        (agent.double, "another agent reports from here too"),
        (agent.dropped_slots > 0, "dropped slots"),
    ];
    html! {
        tr {
            th scope="row" { (agent.node) }
            td {
                (agent_state(agent.state))
                @for (_, mark) in marks.iter().filter(|(holds, _)| *holds) { span.said { (mark) } }
            }
            td { (words::since(agent.last_report, now)) span.said { (format!("{:.1} s", agent.lag_seconds)) " of lag" } }
            td { (place.join(", ")) span.said { (agent.kind) } }
            td.number { (words::number(agent.series as u64)) }
            td { (clock(agent)) }
            td {
                (agent.program.as_deref().unwrap_or("not said"))
                span.said { "reports in version " (agent.report_version) }
            }
            td { (agent.configuration) }
            td { (held(agent)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::api::{ActiveBody, CandidateBody};

    fn agent(node: &str, state: &'static str) -> AgentBody {
        AgentBody {
            node: node.to_owned(),
            kind: "external",
            region: "eu <1>".to_owned(),
            zone: None,
            network: Some("aws".to_owned()),
            state,
            last_report: 1_763_690_400,
            lag_seconds: 0.25,
            clock_offset_seconds: -0.002,
            clock_uncertainty_seconds: Some(0.000_5),
            configuration: "v1".to_owned(),
            program: None,
            report_version: 1,
            services: None,
            boot: "0".to_owned(),
            epoch: 0,
            series: 6,
            dropped_slots: 0,
            token: None,
            self_suspect: false,
            double: false,
            certificates: Vec::new(),
        }
    }

    #[test]
    fn those_that_do_not_report_come_first_and_all_are_counted() {
        let all = vec![
            agent("b", "reporting"),
            agent("a", "reporting"),
            agent("c", "unreachable"),
            agent("d", "late"),
        ];
        let page = Agents::of(all, rollout("settled"), 1_763_690_401, Shown::default());
        let order: Vec<&str> = page.agents.iter().map(|agent| agent.node.as_str()).collect();
        assert_eq!(order, ["c", "d", "a", "b"]);
        let html = page.html().into_string();
        for expected in [
            "reporting</span> 2",
            "eu &lt;1&gt;, aws",
            "0.002 s behind, ± 0.001 s",
            "0.2 s of lag",
            "not said<span class=\"said\">reports in version 1</span>",
        ] {
            assert!(html.contains(expected), "{expected} in {html}");
        }
    }

    fn rollout(state: &'static str) -> Body {
        Body {
            state,
            active: Some(ActiveBody { version: "000000000000000a".to_owned(), since: 1_763_690_400 }),
            candidate: None,
            previous: None,
            held_back: None,
            timeout_seconds: 600,
            agents: Vec::new(),
            others: 0,
        }
    }

    #[test]
    fn who_holds_a_rollout_is_said_with_the_whole_reason() {
        let why = "line 3: ca: <none>";
        let version = |state, error: Option<&str>| HeldBody {
            version: "000000000000000b".to_owned(),
            state,
            error: error.map(str::to_owned),
        };
        let candidate = CandidateBody {
            version: "000000000000000b".to_owned(),
            since: 1_763_690_400,
            until: 1_763_691_000,
            ready: 2,
            waited_for: 3,
        };
        let taker = TakerBody {
            node: "c".to_owned(),
            region: "eu".to_owned(),
            kind: "external",
            counts: true,
            objection: Some(why.to_owned()),
            versions: Vec::new(),
        };
        let held = Body { candidate: Some(candidate), agents: vec![taker], ..rollout("held") };
        let refuses =
            AgentBody { services: Some(vec![version("error", Some(why))]), ..agent("c", "reporting") };
        let elsewhere = AgentBody { program: Some("0.1.0".to_owned()), ..agent("d", "reporting") };
        let older = agent("e", "reporting");
        let page = Agents::of(vec![refuses, elsewhere, older], held, 1_763_690_410, Shown::default());
        let html = page.html().into_string();
        for expected in [
            "2 of 3 agents have it available",
            "<b>c</b> (eu): <span class=\"reason\">line 3: ca: &lt;none&gt;</span>",
            "<code title=\"000000000000000b\">00000000</code>",
            "error</span><span class=\"said\">line 3",
            "not from here",
            "<td>not said</td>",
        ] {
            assert!(html.contains(expected), "{expected} in {html}");
        }
        let json = serde_json::to_value(&page).unwrap();
        assert_eq!(json["rollout"]["agents"][0]["objection"], why);
    }

    #[test]
    fn a_clock_of_which_little_is_known_says_so() {
        let unsure =
            AgentBody { clock_offset_seconds: 1.5, clock_uncertainty_seconds: None, ..agent("a", "late") };
        assert_eq!(clock(&unsure), "at least 1.500 s ahead");
    }

    #[test]
    fn a_long_list_has_pages() {
        let all = || (0..AGENTS_A_PAGE + 1).map(|node| agent(&format!("{node:04}"), "reporting")).collect();
        let second = Agents::of(all(), rollout("settled"), 0, Shown { page: 2, ..Shown::default() });
        assert_eq!((second.agents.len(), second.agents_total), (1, AGENTS_A_PAGE + 1));
        assert!(second.html().into_string().contains("Page 2 of 2"));
        assert!(
            Agents::of(all(), rollout("settled"), 0, Shown { page: usize::MAX, ..Shown::default() })
                .agents
                .is_empty()
        );
    }
}
