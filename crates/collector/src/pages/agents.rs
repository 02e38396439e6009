//! `/agents`: the fleet, those that are not well first.

use maud::{Markup, html};
use serde::Serialize;

use super::{overview::pages, shown::Shown, words};
use crate::{
    Collector,
    agents::{self, AgentBody, AgentState},
};

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
        Self::of(all, now.second().0, shown)
    }

    fn of(mut all: Vec<AgentBody>, now: u64, shown: Shown) -> Self {
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
        Self { now, states, agents_total, agents: here.collect(), shown }
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
                                th scope="col" { "Configuration" }
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
            td { (agent.configuration) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let page = Agents::of(all, 1_763_690_401, Shown::default());
        let order: Vec<&str> = page.agents.iter().map(|agent| agent.node.as_str()).collect();
        assert_eq!(order, ["c", "d", "a", "b"]);
        let html = page.html().into_string();
        for expected in
            ["reporting</span> 2", "eu &lt;1&gt;, aws", "0.002 s behind, ± 0.001 s", "0.2 s of lag"]
        {
            assert!(html.contains(expected), "{expected} in {html}");
        }
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
        let second = Agents::of(all(), 0, Shown { page: 2, ..Shown::default() });
        assert_eq!((second.agents.len(), second.agents_total), (1, AGENTS_A_PAGE + 1));
        assert!(second.html().into_string().contains("Page 2 of 2"));
        assert!(Agents::of(all(), 0, Shown { page: usize::MAX, ..Shown::default() }).agents.is_empty());
    }
}
