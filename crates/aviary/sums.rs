//! `aviary sums`: a collector's sums, by any tags.

use std::{collections::BTreeMap, io::Write};

use clap::Args;
use serde::Deserialize;

use crate::{
    ask::{self, Whom},
    output::{Format, print_table},
};

/// Shows a collector's sums of delivered and lost slots.
#[derive(Args, Debug)]
pub(crate) struct SumsArguments {
    #[command(flatten)]
    whom: Whom,

    /// The tags to sum by, separated by commas; without any, one sum of all
    #[arg(long, value_name = "TAGS", default_value = "")]
    by: String,

    /// How long a span to sum, such as 60s or 5m
    #[arg(long, default_value = "60s")]
    window: String,

    /// The second before which the span ends, in seconds since the Unix epoch; by default the newest closed one
    #[arg(long, value_name = "SECOND")]
    until: Option<u64>,

    /// Sum each part of so long by itself; it must divide the window
    #[arg(long)]
    step: Option<String>,

    /// Only this service
    #[arg(long)]
    service: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Deserialize)]
struct Answer {
    groups: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Group {
    by: BTreeMap<String, String>,
    from: i64,
    scheduled: u64,
    delivered: u64,
    lost: u64,
    local: u64,
    missed: u64,
    muted: u64,
    unproven: u64,
    unknown: u64,
    late: u64,
    rate: Option<f64>,
}

/// Prints the sums that were asked for.
pub(crate) fn sums(arguments: &SumsArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let asker = arguments.whom.asker()?;
    let mut parameters = vec![("by", arguments.by.clone()), ("window", arguments.window.clone())];
    parameters.extend(arguments.until.map(|until| ("until", until.to_string())));
    parameters.extend(arguments.step.clone().map(|step| ("step", step)));
    parameters.extend(arguments.service.clone().map(|service| ("service", service)));
    let answer: Answer = ask::runtime()?.block_on(asker.get("api/v1/sums", &parameters))?;
    if arguments.format == Format::Json {
        for group in &answer.groups {
            writeln!(out, "{group}")?;
        }
        return Ok(true);
    }
    let groups =
        answer.groups.into_iter().map(serde_json::from_value::<Group>).collect::<Result<Vec<_>, _>>()?;
    if groups.is_empty() {
        writeln!(out, "No series: nothing has been reported, or nothing matches.")?;
        return Ok(true);
    }
    let tags: Vec<&str> = arguments.by.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
    let mut header = tags.clone();
    if arguments.step.is_some() {
        header.push("from");
    }
    header.extend([
        "delivered",
        "lost",
        "late",
        "loss",
        "not measured",
        "muted",
        "unproven",
        "unknown",
        "scheduled",
    ]);
    let row = |group: &Group| {
        let mut row: Vec<String> =
            tags.iter().map(|tag| group.by.get(*tag).cloned().unwrap_or_default()).collect();
        if arguments.step.is_some() {
            row.push(
                jiff::Timestamp::from_second(group.from)
                    .map_or_else(|_| group.from.to_string(), |at| at.to_string()),
            );
        }
        row.extend([group.delivered, group.lost, group.late].map(|count| count.to_string()));
        row.push(group.rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", (1.0 - rate) * 100.0)));
        let not_measured = group.local + group.missed;
        row.extend(
            [not_measured, group.muted, group.unproven, group.unknown, group.scheduled]
                .map(|count| count.to_string()),
        );
        row
    };
    print_table(out, &header, &groups.iter().map(row).collect::<Vec<_>>())?;
    Ok(true)
}
