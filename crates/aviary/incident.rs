//! `aviary incident`, `aviary ack` and `aviary explain`: what went wrong, what people do about it, and why it paged.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ask::{self, Asker, At},
    output::{Format, in_time_words, moment, print_table},
};

/// So many incidents are shown unless all are asked for.
const SHOWN: usize = 20;

/// So many a collector lists at most.
const LISTED_MAX: usize = 1_000;

/// So many ids are named that begin alike.
const ALIKE_SHOWN: usize = 4;

/// How long an incident's id is.
const ID_CHARACTERS: usize = 26;

/// Lists incidents, or changes one.
#[derive(Args, Debug)]
pub(crate) struct IncidentArguments {
    #[command(subcommand)]
    what: What,
}

mod public;

#[derive(Debug, Subcommand)]
enum What {
    /// Show the newest incidents
    List {
        /// Only those that are not over
        #[arg(long, conflicts_with = "all")]
        open: bool,
        /// All that the collector lists, a thousand, and not the newest 20 only
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        at: At,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Say something of an incident, for whoever reads of it next
    Note {
        #[command(flatten)]
        which: Which,
        /// What there is to say
        #[arg(value_name = "TEXT")]
        text: String,
        #[command(flatten)]
        who: Who,
    },
    /// Say that an incident is over: if it is not, it opens again
    Resolve {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        who: Who,
    },
    /// Show what customers would be told of an incident, or are
    Draft {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        at: At,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Give a draft other words; of what is public, the title and the newest update
    Edit {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        words: Words,
        #[command(flatten)]
        who: Who,
    },
    /// Let customers read of an incident, in other words if some are given
    Publish {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        words: Words,
        #[command(flatten)]
        who: Who,
    },
    /// Tell customers more of an incident
    Update {
        #[command(flatten)]
        which: Which,
        /// What there is to say
        #[arg(value_name = "TEXT")]
        text: String,
        /// How far you are; as before by default
        #[arg(long, value_parser = STAGES)]
        status: Option<String>,
        #[command(flatten)]
        who: Who,
    },
    /// Tell customers what was learnt of an incident that is resolved
    PostMortem {
        #[command(flatten)]
        which: Which,
        /// What was learnt
        #[arg(value_name = "TEXT")]
        text: String,
        #[command(flatten)]
        who: Who,
    },
    /// Withdraw what should not have been public: customers read why in its place
    Unpublish {
        #[command(flatten)]
        which: Which,
        /// Why it should not have been public
        #[arg(value_name = "REASON")]
        text: String,
        #[command(flatten)]
        who: Who,
    },
}

const STAGES: [&str; 4] = ["investigating", "identified", "monitoring", "resolved"];

const IMPACTS: [&str; 4] = ["none", "minor", "major", "critical"];

/// Words for customers.
#[derive(Args, Debug)]
struct Words {
    /// What stands above it
    #[arg(long)]
    title: Option<String>,
    /// What is said
    #[arg(long)]
    text: Option<String>,
    /// How much it matters to customers
    #[arg(long, value_parser = IMPACTS)]
    impact: Option<String>,
}

/// Which incident.
#[derive(Args, Debug)]
struct Which {
    /// The incident's id, or so much of its beginning as no other has
    #[arg(value_name = "ID")]
    id: String,
}

/// Who says so, and to which collector.
#[derive(Args, Debug)]
struct Who {
    /// Who you are; by default the name of the token
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Says that somebody is on it, so that nobody else is woken.
#[derive(Args, Debug)]
pub(crate) struct AckArguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    who: Who,
}

/// Says why an incident paged.
#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Deserialize)]
struct Answer {
    incidents: Vec<Value>,
}

/// An incident in short, as the collector tells it.
#[derive(Debug, Deserialize)]
struct Incident {
    id: String,
    state: String,
    severity: String,
    summary: String,
    since: u64,
    opened: Option<u64>,
    resolved: Option<u64>,
    resolution: Option<String>,
    acknowledged_by: Option<String>,
    silenced_by: Vec<String>,
}

/// States in which an incident is told of and not over.
const THERE: [&str; 3] = ["open", "acknowledged", "recovering"];

/// Lists incidents, or changes one. Returns whether none of those that are listed is there still.
pub(crate) fn incident(arguments: &IncidentArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let runtime = ask::runtime()?;
    match &arguments.what {
        What::List { open, all, at, format } => {
            let limit = if *all { LISTED_MAX } else { SHOWN };
            let asker = at.asker()?;
            runtime.block_on(list(&asker, *open, limit, *format, out))
        }
        What::Note { which, text, who } => {
            let incident = runtime.block_on(change(which, who, "notes", Some(text)))?;
            writeln!(out, "{}: noted ({})", incident.id, incident.summary)?;
            Ok(true)
        }
        What::Resolve { which, who } => {
            let Incident { id, summary, resolution, .. } =
                runtime.block_on(change(which, who, "resolve", None))?;
            writeln!(out, "{id}: {} ({summary})", resolution.as_deref().unwrap_or("over"))?;
            Ok(true)
        }
        What::Draft { which, at, format } => {
            let body = runtime.block_on(public::draft(which, at))?;
            public::print(&body, *format, out)
        }
        What::Edit { which, words, who } => runtime.block_on(words.tell(which, who, "edit", out)),
        What::Publish { which, words, who } => runtime.block_on(words.tell(which, who, "publish", out)),
        What::Update { which, text, status, who } => {
            let body = json!({"by": who.by, "text": text, "status": status});
            runtime.block_on(public::tell(which, who, "update", &body, out))
        }
        What::PostMortem { which, text, who } => {
            let body = json!({"by": who.by, "text": text});
            runtime.block_on(public::tell(which, who, "post-mortem", &body, out))
        }
        What::Unpublish { which, text, who } => {
            let body = json!({"by": who.by, "text": text});
            runtime.block_on(public::tell(which, who, "unpublish", &body, out))
        }
    }
}

/// Says that somebody is on it.
pub(crate) fn ack(arguments: &AckArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let AckArguments { which, who } = arguments;
    let Incident { id, acknowledged_by, summary, since, .. } =
        ask::runtime()?.block_on(change(which, who, "ack", None))?;
    let by = acknowledged_by.as_deref().unwrap_or("somebody");
    writeln!(out, "{id}: {by} is on it ({summary}, since {})", moment(since))?;
    Ok(true)
}

/// Prints why an incident paged.
pub(crate) fn explain(arguments: &ExplainArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let asker = arguments.at.asker()?;
    let text = ask::runtime()?.block_on(async {
        let id = whole_id(&asker, &arguments.which.id).await?;
        asker.text(&format!("api/v1/incidents/{id}/explanation")).await
    })?;
    writeln!(out, "{}", text.trim_end())?;
    Ok(true)
}

async fn list(
    asker: &Asker,
    is_open: bool,
    limit: usize,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let bodies = listed(asker, is_open, limit).await?;
    let incidents = bodies.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    // What is only suspected is nobody's business yet.
    let shown = incidents.iter().zip(&bodies).filter(|(incident, _)| incident.opened.is_some());
    let (incidents, bodies): (Vec<&Incident>, Vec<&Value>) = shown.unzip();
    match format {
        Format::Json => bodies.iter().try_for_each(|body| writeln!(out, "{body}"))?,
        Format::Text if incidents.is_empty() => {
            writeln!(out, "{}", if is_open { "No incident is open." } else { "There was no incident." })?;
        }
        Format::Text => {
            let rows: Vec<_> = incidents.iter().map(|incident| row(incident)).collect();
            print_table(out, &["id", "severity", "state", "since", "over", "summary"], &rows)?;
        }
    }
    Ok(!incidents.iter().any(|incident| THERE.contains(&incident.state.as_str())))
}

fn row(incident: &Incident) -> Vec<String> {
    let Incident { id, severity, state, since, resolved, summary, .. } = incident;
    let mut state = match (state.as_str(), &incident.acknowledged_by) {
        ("acknowledged", Some(by)) => format!("{by} is on it"),
        (state, _) => state.replace('_', " "),
    };
    if !incident.silenced_by.is_empty() {
        state += ", silenced";
    }
    let over = resolved
        .map_or_else(|| "-".to_owned(), |at| format!("after {}", in_time_words(at.saturating_sub(*since))));
    vec![id.clone(), severity.clone(), state, moment(*since), over, summary.clone()]
}

/// The newest incidents.
async fn listed(asker: &Asker, is_open: bool, limit: usize) -> anyhow::Result<Vec<Value>> {
    let parameters = [("active", is_open.to_string()), ("limit", limit.to_string())];
    let Answer { incidents } = asker.get("api/v1/incidents", &parameters).await?;
    Ok(incidents)
}

fn read(body: &Value) -> anyhow::Result<Incident> {
    Incident::deserialize(body).context("the collector answers otherwise than this version understands")
}

/// Has something done about an incident.
async fn change(which: &Which, who: &Who, what: &str, text: Option<&str>) -> anyhow::Result<Incident> {
    let asker = who.at.asker()?;
    let id = whole_id(&asker, &which.id).await?;
    let body = json!({"by": who.by, "text": text});
    read(&asker.tell(Method::POST, &format!("api/v1/incidents/{id}/{what}"), &body).await?)
}

/// The id of the one incident whose id begins as `given`.
async fn whole_id(asker: &Asker, given: &str) -> anyhow::Result<String> {
    let given = given.to_ascii_uppercase();
    if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("`{given}` is no incident's id: `aviary incident list` shows them");
    }
    if given.len() >= ID_CHARACTERS {
        return Ok(given);
    }
    let listed = listed(asker, false, LISTED_MAX).await?;
    let ids = listed.iter().filter_map(|body| body["id"].as_str());
    one_of(ids.filter(|id| id.starts_with(&given)).collect(), &given)
}

fn one_of(mut ids: Vec<&str>, given: &str) -> anyhow::Result<String> {
    ids.sort_unstable_by(|left, right| right.cmp(left));
    match *ids.as_slice() {
        [] => bail!("no incident's id begins with `{given}`: `aviary incident list` shows them"),
        [id] => Ok(id.to_owned()),
        _ => {
            let more = if ids.len() > ALIKE_SHOWN { ", ..." } else { "" };
            let count = ids.len();
            ids.truncate(ALIKE_SHOWN);
            bail!(
                "the ids of {count} incidents begin with `{given}`, {}{more}: give more of it",
                ids.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_by_a_beginning_that_no_other_has() {
        assert_eq!(one_of(vec!["01KAJ27J80A"], "01KAJ27J80A").unwrap(), "01KAJ27J80A");
        let none = one_of(vec![], "01X").unwrap_err().to_string();
        assert!(none.contains("no incident's id begins with `01X`"), "{none}");
        let many = one_of(vec!["01A", "01E", "01C", "01B", "01D"], "01").unwrap_err().to_string();
        assert!(
            many.starts_with("the ids of 5 incidents begin with `01`, 01E, 01D, 01C, 01B, ...:"),
            "{many}"
        );
    }

    #[test]
    fn a_row_says_who_is_on_it_and_what_is_silenced() {
        let incident = |state: &str, resolved| Incident {
            id: "01A".to_owned(),
            state: state.to_owned(),
            severity: "error".to_owned(),
            summary: "ingest: udp".to_owned(),
            since: 1_763_690_400,
            opened: Some(1_763_690_410),
            resolved,
            resolution: None,
            acknowledged_by: Some("ada".to_owned()),
            silenced_by: Vec::new(),
        };
        let since = "2025-11-21T02:00:00Z";
        let open = row(&incident("acknowledged", None));
        assert_eq!(open, ["01A", "error", "ada is on it", since, "-", "ingest: udp"]);
        let silenced = Incident { silenced_by: vec!["works".to_owned()], ..incident("open", None) };
        assert_eq!(row(&silenced)[2], "open, silenced");
        let over = row(&incident("resolved", Some(1_763_690_500)));
        assert_eq!(over[2..5], ["resolved", since, "after 1 min 40 s"]);
    }
}
