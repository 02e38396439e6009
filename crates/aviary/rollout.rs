//! `aviary rollout`: which version of the services agents probe by, and what becomes of the next one.

use std::io::Write;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ask::{self, At},
    output::{Format, moment, print_table},
};

/// Shows which version of the services agents probe by, and has another one active.
#[derive(Args, Debug)]
pub(crate) struct RolloutArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show which version is active, which is on its way, and how far each agent is; 1 unless all of them have what the file says
    Status {
        #[command(flatten)]
        at: At,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Have the version that is on its way active now: agents that have it available take it on, the others go on as they are
    Force {
        #[command(flatten)]
        at: At,
    },
    /// Break off the rollout that is under way; without one, have the version before active again, at once
    Rollback {
        #[command(flatten)]
        at: At,
    },
    /// Roll out again what the file says, and what was rolled back or not available in time
    Retry {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    state: String,
    active: Option<Active>,
    candidate: Option<Candidate>,
    previous: Option<String>,
    held_back: Option<HeldBack>,
    agents: Vec<Agent>,
    others: usize,
}

#[derive(Debug, Deserialize)]
struct Active {
    version: String,
    since: u64,
}

#[derive(Debug, Deserialize)]
struct Candidate {
    version: String,
    since: u64,
    until: u64,
    ready: usize,
    waited_for: usize,
}

#[derive(Debug, Deserialize)]
struct HeldBack {
    version: String,
    at: u64,
    why: String,
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Agent {
    node: String,
    region: String,
    counts: bool,
    objection: Option<String>,
    versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
    state: String,
}

/// Shows or changes. Whether every agent has what the file says, or the change is made.
pub(crate) fn rollout(arguments: &RolloutArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let (at, way) = match &arguments.what {
        What::Status { at, format } => return status(at, *format, out),
        What::Force { at } => (at, "force"),
        What::Rollback { at } => (at, "rollback"),
        What::Retry { at } => (at, "retry"),
    };
    let path = format!("api/v1/rollout/{way}");
    let told: Value = ask::runtime()?.block_on(at.asker()?.tell(Method::POST, &path, &json!({})))?;
    writeln!(out, "{}", told["done"].as_str().unwrap_or("done"))?;
    Ok(true)
}

fn status(at: &At, format: Format, out: &mut impl Write) -> anyhow::Result<bool> {
    let told: Value = ask::runtime()?.block_on(at.asker()?.get("api/v1/rollout", &[]))?;
    let answer = Answer::deserialize(&told).context("the collector's answer is not understood")?;
    match format {
        Format::Json => writeln!(out, "{told}")?,
        Format::Text => print(&answer, out)?,
    }
    Ok(answer.is_well())
}

impl Answer {
    /// What the file says is active, and every agent that is there probes by it.
    fn is_well(&self) -> bool {
        let active = self.active.as_ref().map(|active| active.version.as_str());
        let runs = |agent: &Agent| {
            agent.versions.iter().any(|it| it.state == "active" && Some(it.version.as_str()) == active)
        };
        self.state == "settled" && self.agents.iter().filter(|agent| agent.counts).all(runs)
    }
}

fn print(answer: &Answer, out: &mut impl Write) -> anyhow::Result<()> {
    let Answer { active, candidate, previous, held_back, agents, others, .. } = answer;
    match active {
        Some(Active { version, since }) => writeln!(out, "active     {version} since {}", moment(*since))?,
        None => writeln!(out, "this collector hands no services out")?,
    }
    if let Some(Candidate { version, since, until, ready, waited_for }) = candidate {
        let word = if answer.state == "held" { "held" } else { "being rolled out" };
        writeln!(
            out,
            "candidate  {version} {word} since {}: {ready} of {waited_for} agents have it available; given up at {}",
            moment(*since),
            moment(*until)
        )?;
    }
    if let Some(HeldBack { version, at, why, by }) = held_back {
        let why = if why == "timed_out" { "not available to all agents in time" } else { "rolled back" };
        let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        writeln!(
            out,
            "held back  {version} {why}{by}, {}; `aviary rollout retry` rolls it out again",
            moment(*at)
        )?;
    }
    if let Some(previous) = previous {
        writeln!(out, "before     {previous}")?;
    }
    if !agents.is_empty() {
        writeln!(out)?;
        let rows = agents.iter().map(|agent| {
            let held = agent.versions.iter().map(|it| format!("{} {}", it.version, it.state));
            let held = held.collect::<Vec<_>>().join(", ");
            let said = match (agent.counts, &agent.objection) {
                (false, _) => "is away, and not waited for".to_owned(),
                (true, why) => {
                    why.as_deref().unwrap_or_default().lines().next().unwrap_or_default().to_owned()
                }
            };
            vec![
                agent.node.clone(),
                agent.region.clone(),
                if held.is_empty() { "none".to_owned() } else { held },
                said,
            ]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        print_table(out, &["agent", "region", "versions", "why not"], &rows)?;
        // The rest of reasons that are longer than a line.
        for agent in agents {
            let lines = agent.objection.iter().flat_map(|why| why.lines().skip(1));
            for (place, line) in lines.enumerate() {
                if place == 0 {
                    writeln!(out, "\n{}:", agent.node)?;
                }
                writeln!(out, "  {line}")?;
            }
        }
    }
    if *others > 0 {
        let are = if *others == 1 { "agent does" } else { "agents do" };
        writeln!(out, "{others} more {are} not take services from here by version, and are not waited for")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: &str, more: Value) -> Answer {
        let mut answer = json!({"state": state, "active": {"version": "000000000000000a", "since": 1_763_690_400_u64},
            "candidate": null, "previous": null, "held_back": null, "others": 0, "agents": []});
        answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(answer).unwrap()
    }

    fn agent(node: &str, counts: bool, objection: Option<&str>, versions: &[(&str, &str)]) -> Value {
        let versions = versions.iter().map(|(version, state)| json!({"version": version, "state": state}));
        json!({"node": node, "region": "eu", "counts": counts, "objection": objection,
            "versions": versions.collect::<Vec<_>>()})
    }

    const A: &str = "000000000000000a";
    const B: &str = "000000000000000b";

    #[test]
    fn all_is_well_while_every_agent_that_is_there_probes_by_what_the_file_says() {
        let runs = agent("n1", true, None, &[(A, "active")]);
        let behind = agent("n2", true, None, &[(B, "active"), (A, "error")]);
        let away = agent("n3", false, None, &[(B, "active")]);
        let table = [
            ("settled", vec![runs.clone(), away.clone()], true),
            ("settled", vec![runs.clone(), behind], false),
            ("building", vec![runs.clone()], false),
            ("timed_out", vec![runs], false),
            ("settled", vec![], true),
        ];
        for (state, agents, is_well) in table {
            assert_eq!(answer(state, json!({"agents": agents})).is_well(), is_well, "{state} {agents:?}");
        }
    }

    #[test]
    fn who_holds_a_rollout_and_why_is_printed_in_full() {
        let why = "services from http://c/, line 3: ca: no such file\n  write another";
        let held = answer(
            "held",
            json!({
                "candidate": {"version": B, "since": 1_763_690_410_u64, "until": 1_763_691_010_u64, "ready": 1, "waited_for": 2},
                "agents": [agent("n1", true, None, &[(A, "active"), (B, "available")]),
                    agent("n2", true, Some(why), &[(A, "active"), (B, "error")])],
                "others": 1,
            }),
        );
        let mut out = Vec::new();
        print(&held, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for expected in [
            "active     000000000000000a since 2025-11-21T02:00:00Z",
            "candidate  000000000000000b held since 2025-11-21T02:00:10Z: 1 of 2 agents have it available; given up at 2025-11-21T02:10:10Z",
            "000000000000000a active, 000000000000000b error",
            "ca: no such file\n",
            "n2:\n    write another",
            "1 more agent does not take services from here by version",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
