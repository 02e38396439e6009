//! `aviary rotation`: which nodes are left out, and the switch that has them all in.

use std::{collections::BTreeMap, io::Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ask::{self, At},
    output::{Format, print_table},
};

/// Shows which nodes are left out, stops that, or goes on with it.
#[derive(Args, Debug)]
pub(crate) struct RotationArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the services whose nodes are steered, each node, and what is held back; 1 if a node is out or one is held back
    Status {
        #[command(flatten)]
        at: At,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Have all nodes in rotation, now and until `aviary rotation resume`
    Stop {
        #[command(flatten)]
        at: At,
    },
    /// Go on after `aviary rotation stop`
    Resume {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    stopped: Option<String>,
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    mode: String,
    refused: Option<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    text: String,
}

#[derive(Debug, Deserialize)]
struct Nodes {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    state: String,
    weight: u8,
    reason: Option<String>,
}

/// Shows or switches. Whether all nodes are in and none is held back.
pub(crate) fn rotation(arguments: &RotationArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let runtime = ask::runtime()?;
    let switch = |at: &At, way: &str| {
        let path = format!("api/v1/rotation/{way}");
        runtime.block_on(at.asker()?.tell::<Value>(Method::POST, &path, &json!({})))
    };
    match &arguments.what {
        What::Status { at, format } => {
            let asker = at.asker()?;
            let answer: Answer = runtime.block_on(asker.get("api/v1/rotation", &[]))?;
            let mut nodes = BTreeMap::new();
            for service in answer.services.keys() {
                let of_it: Nodes = runtime.block_on(asker.get(&format!("v1/nodes/{service}"), &[]))?;
                nodes.insert(service, of_it.nodes);
            }
            return print(&answer, &nodes, *format, out);
        }
        What::Stop { at } => {
            switch(at, "stop")?;
            writeln!(out, "stopped: all nodes are in rotation, until `aviary rotation resume`")?;
        }
        What::Resume { at } => {
            switch(at, "resume")?;
            writeln!(out, "nodes are steered again, unless the collector's stop file is there")?;
        }
    }
    Ok(true)
}

fn print(
    answer: &Answer,
    nodes: &BTreeMap<&String, BTreeMap<String, Node>>,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let refused = || answer.services.iter().filter_map(|(name, it)| Some((name, it.refused.as_ref()?)));
    let of_all = || nodes.iter().flat_map(|(service, nodes)| nodes.iter().map(move |node| (*service, node)));
    if format == Format::Json {
        if let Some(by) = &answer.stopped {
            writeln!(out, "{}", json!({"stopped": by}))?;
        }
        for (service, refused) in refused() {
            writeln!(out, "{}", json!({"service": service, "held_back": refused.text}))?;
        }
        for (service, (name, node)) in of_all() {
            let Node { state, weight, reason } = node;
            let line = json!({"service": service, "mode": answer.services[service].mode, "node": name,
                "state": state, "weight": weight, "reason": reason});
            writeln!(out, "{line}")?;
        }
    } else if let Some(by) = &answer.stopped {
        writeln!(out, "stopped by {by}: all nodes are in rotation until steering is resumed")?;
    } else if answer.services.is_empty() {
        writeln!(out, "no service is steered: none has a [service.rotation] that is not off")?;
    } else {
        let rows = of_all().map(|(service, (name, node))| {
            let reason = node.reason.clone().unwrap_or_default();
            let weight = format!("{} %", node.weight);
            let mode = answer.services[service].mode.clone();
            vec![service.clone(), mode, name.clone(), node.state.clone(), weight, reason]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        print_table(out, &["service", "mode", "node", "state", "weight", "why"], &rows)?;
        for (service, refused) in refused() {
            writeln!(out, "{service}: {}", refused.text)?;
        }
    }
    let is_held_back = answer.services.values().any(|service| service.refused.is_some());
    Ok(!is_held_back && of_all().all(|(_, (_, node))| node.state == "in"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(answer: &Value, format: Format) -> (String, bool) {
        let node = json!({"state": "out", "weight": 0, "reason": "half is lost"});
        let nodes: Nodes = serde_json::from_value(json!({"nodes": {"n1": node}})).unwrap();
        let answer: Answer = serde_json::from_value(answer.clone()).unwrap();
        let nodes = answer.services.keys().zip([nodes.nodes]).collect();
        let mut out = Vec::new();
        let is_well = print(&answer, &nodes, format, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), is_well)
    }

    #[test]
    fn what_is_out_held_back_or_stopped_is_said_to_people_and_programs() {
        let steered = json!({"stopped": null, "services": {"ingest": {"mode": "live",
            "refused": {"text": "1 node is bad, it is not taken out"}}}});
        let stopped = json!({"stopped": "ada", "services": {}});
        let idle = json!({"stopped": null, "services": {}});
        for (answer, format, expected, is_well) in [
            (
                &steered,
                Format::Text,
                "service  mode  node  state  weight  why\n\
                 ingest   live  n1    out       0 %  half is lost\n\
                 ingest: 1 node is bad, it is not taken out\n",
                false,
            ),
            (
                &steered,
                Format::Json,
                &format!(
                    "{}\n{}\n",
                    json!({"service": "ingest", "held_back": "1 node is bad, it is not taken out"}),
                    json!({"service": "ingest", "mode": "live", "node": "n1", "state": "out", "weight": 0,
                        "reason": "half is lost"})
                ),
                false,
            ),
            (
                &stopped,
                Format::Text,
                "stopped by ada: all nodes are in rotation until steering is resumed\n",
                true,
            ),
            (&stopped, Format::Json, "{\"stopped\":\"ada\"}\n", true),
            (
                &idle,
                Format::Text,
                "no service is steered: none has a [service.rotation] that is not off\n",
                true,
            ),
            (&idle, Format::Json, "", true),
        ] {
            assert_eq!(printed(answer, format), (expected.to_owned(), is_well), "{answer}");
        }
    }
}
