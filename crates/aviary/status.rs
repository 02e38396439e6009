//! `aviary status`: a collector's verdict on each service.

mod view;
mod watch;

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::{
    ask::{self, Asker, Whom},
    output::{Format, in_time_words, print_table},
    silence::duration,
};

/// Shows a collector's verdict on each service.
#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    whom: Whom,

    /// Go on showing it, with what was delivered by protocol and place, until Ctrl-C or `q`
    #[arg(long)]
    watch: bool,

    /// How often to ask; without it each second, and each 10 s where lines go to a file or another program
    #[arg(long, value_name = "DURATION", requires = "watch", value_parser = duration)]
    interval: Option<u64>,

    /// What a place is: a column of the matrix
    #[arg(long, requires = "watch", value_enum, default_value_t)]
    by: Place,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What the matrix can have as columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Place {
    #[default]
    Region,
    Network,
    Zone,
    Node,
    Kind,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Network => "network",
            Self::Zone => "zone",
            Self::Node => "node",
            Self::Kind => "kind",
        }
    }
}

/// How often JSON is printed anew where nobody says.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// The states of agents of which nothing is heard, and who are expected back.
const SILENT: &str = "late,unreachable";

/// How many of them are shown.
const SILENT_SHOWN: usize = 10;

#[derive(Debug, Deserialize)]
struct Answer {
    services: Vec<serde_json::Value>,
    unowned: Option<Unowned>,
}

/// What arrived that nobody sent, as far as the collector knows.
#[derive(Debug, Deserialize)]
struct Unowned {
    datapoints: u64,
    names: Vec<UnownedName>,
}

#[derive(Debug, Deserialize)]
struct UnownedName {
    name: String,
}

#[derive(Debug, Deserialize)]
struct AgentsAnswer {
    agents: Vec<Agent>,
}

/// An agent of which nothing is heard.
#[derive(Debug, Deserialize)]
struct Agent {
    node: String,
    region: String,
    state: String,
    lag_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
    state: String,
    reason: Option<String>,
    since: i64,
    #[serde(default)]
    silenced: bool,
    acceptable_loss: String,
    min_vantages: usize,
    vantages_seen: usize,
    window: Window,
    protocols: Vec<Part>,
    endpoints: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    protocol: Option<String>,
    endpoint: Option<String>,
    required: bool,
    state: String,
    acceptable_loss: String,
    window: Window,
}

#[derive(Debug, Deserialize)]
struct Window {
    scheduled: u64,
    delivered: u64,
    lost: u64,
    rate: Option<f64>,
}

/// Prints the verdicts. Returns whether no service is degraded, down or blind.
pub(crate) fn status(arguments: &StatusArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let asker = arguments.whom.asker()?;
    let every = arguments.interval.map(Duration::from_secs);
    if !arguments.watch {
        return ask::runtime()?.block_on(show(&asker, arguments.format, out));
    }
    if arguments.format == Format::Text {
        return watch::watch(asker, arguments.by.name(), every, out);
    }
    let runtime = ask::runtime()?;
    loop {
        let mut lines = Vec::new();
        if let Err(error) = runtime.block_on(show(&asker, Format::Json, &mut lines)) {
            tracing::error!("{error:#}");
        }
        out.write_all(&lines)?;
        out.flush()?;
        std::thread::sleep(every.unwrap_or(JSON_INTERVAL));
    }
}

async fn show(asker: &Asker, format: Format, out: &mut impl Write) -> anyhow::Result<bool> {
    let Answer { services: bodies, unowned } = asker.get("api/v1/services", &[]).await?;
    let services =
        bodies.iter().map(|body| serde_json::from_value(body.clone())).collect::<Result<Vec<Service>, _>>();
    let services = services.context("the collector answers otherwise than this version understands")?;
    match format {
        Format::Json => bodies.iter().try_for_each(|body| writeln!(out, "{body}"))?,
        Format::Text if services.is_empty() => {
            writeln!(out, "No service: none is configured here, and no agent has reported one.")?;
        }
        Format::Text => {
            let rows: Vec<_> = services.iter().flat_map(rows).collect();
            let header =
                ["service", "protocol", "state", "delivered", "lost", "loss", "accepted", "from", "since"];
            print_table(out, &header, &rows)?;
            for Service { name, state, reason, .. } in &services {
                if let Some(reason) = reason {
                    let cannot_tell = if state == "blind" { "cannot tell: " } else { "" };
                    writeln!(out, "{name}: {cannot_tell}{reason}")?;
                }
            }
        }
    }
    if format == Format::Text {
        let silent: AgentsAnswer = asker.get("api/v1/agents", &[("state", SILENT.to_owned())]).await?;
        tell_silent(silent.agents, out)?;
        if let Some(Unowned { datapoints, names }) = unowned {
            let names: Vec<_> = names.into_iter().map(|it| it.name).collect();
            writeln!(
                out,
                "\n{datapoints} datapoints arrived under names that no series owns: {}",
                names.join(", ")
            )?;
        }
    }
    Ok(!services.iter().any(|service| ["degraded", "down", "blind"].contains(&service.state.as_str())))
}

/// Says of which agents nothing is heard, the longest silent first.
fn tell_silent(mut agents: Vec<Agent>, out: &mut impl Write) -> io::Result<()> {
    if agents.is_empty() {
        return Ok(());
    }
    agents.sort_by(|left, right| right.lag_seconds.total_cmp(&left.lag_seconds));
    writeln!(out, "\nNothing is heard from these agents, so what they see is unknown until they tell:")?;
    for agent in agents.iter().take(SILENT_SHOWN) {
        let Agent { node, region, state, lag_seconds } = agent;
        writeln!(out, "  {node} in {region}: {state}, for {}", in_time_words(*lag_seconds as u64))?;
    }
    let more = agents.len().saturating_sub(SILENT_SHOWN);
    if more > 0 {
        writeln!(out, "  and {more} more; /api/v1/agents?state={SILENT} has them all")?;
    }
    Ok(())
}

fn rows(service: &Service) -> Vec<Vec<String>> {
    let since = jiff::Timestamp::from_second(service.since)
        .map_or_else(|_| "-".to_owned(), |since| since.to_string());
    let row = |name: &str, protocol: &str, state: &str, window: &Window, accepted: &str| {
        vec![
            name.to_owned(),
            protocol.to_owned(),
            in_words(state).to_owned(),
            format!("{}/{}", window.delivered, window.scheduled),
            window.lost.to_string(),
            window.rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", (1.0 - rate) * 100.0)),
            accepted.to_owned(),
        ]
    };
    let mut whole = row(&service.name, "all", &service.state, &service.window, &service.acceptable_loss);
    let places = if service.vantages_seen == 1 { "place" } else { "places" };
    let wanted = if service.vantages_seen < service.min_vantages {
        format!(" of the {} wanted", service.min_vantages)
    } else {
        String::new()
    };
    if let Some(state) = whole.get_mut(2).filter(|_| service.silenced) {
        state.push_str(", silenced");
    }
    whole.push(format!("{} {places}{wanted}", service.vantages_seen));
    whole.push(since);
    let protocols = service.protocols.iter();
    // An endpoint's own figure can worsen the service while every protocol is well. One that is all there is of its
    // protocol stands in that row already.
    let is_alone = |part: &Part| {
        let protocol =
            |part: &Part| part.endpoint.as_deref().and_then(|url| Some(url.split_once("://")?.0.to_owned()));
        part.required
            && service.endpoints.iter().filter(|other| protocol(other) == protocol(part)).count() == 1
    };
    let is_told = |part: &&Part| part.state != "healthy" && service.state != "starting" && !is_alone(part);
    let unwell = service.endpoints.iter().filter(is_told);
    let parts = protocols.chain(unwell).map(|part| {
        let name = part.protocol.as_ref().or(part.endpoint.as_ref()).cloned().unwrap_or_default();
        let name = if part.required { name } else { format!("{name} (not required)") };
        row("", &name, &part.state, &part.window, &part.acceptable_loss)
    });
    [whole].into_iter().chain(parts).collect()
}

/// A state as people read it.
pub(crate) fn in_words(state: &str) -> &str {
    match state {
        "blind" => "cannot tell",
        state => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_agents_are_told_in_plain_words() {
        let agent = |number: u32| Agent {
            node: format!("canary-{number}"),
            region: "eu".to_owned(),
            state: if number > 2 { "unreachable" } else { "late" }.to_owned(),
            lag_seconds: f64::from(number * number * number) * 8.0 + 0.7,
        };
        let told = |agents: Vec<Agent>| {
            let mut out = Vec::new();
            tell_silent(agents, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(told(Vec::new()), "");
        let text = told(vec![agent(1), agent(3), agent(9)]);
        let lines: Vec<_> = text.lines().skip(2).collect();
        let expected = [
            "  canary-9 in eu: unreachable, for 1 h 37 min",
            "  canary-3 in eu: unreachable, for 3 min 36 s",
            "  canary-1 in eu: late, for 8 s",
        ];
        assert_eq!(lines, expected);
        assert!(told((0..13).map(agent).collect()).contains("and 3 more"));
    }
}
