//! `aviary report`: what was delivered in a month, how much of what may be lost was, and for how long nobody measured.

use std::io::Write;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ask::{self, At},
    output::{in_time_words, moment, print_table},
};

/// Reports a month.
#[derive(Args, Debug)]
pub(crate) struct ReportArguments {
    /// The month, such as 2026-11; by default the last whole one
    #[arg(long, value_name = "YYYY-MM")]
    month: Option<String>,
    /// Only this service
    #[arg(long)]
    service: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
    #[command(flatten)]
    at: At,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// For spreadsheets, with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Deserialize)]
struct Answer {
    month: String,
    from: u64,
    until: u64,
    complete: bool,
    rows: Vec<Value>,
}

/// A service, as a whole or over one protocol, as the collector tells it.
#[derive(Debug, Deserialize, Serialize)]
struct Row {
    service: String,
    protocol: Option<String>,
    planned: u64,
    measured: u64,
    delivered: u64,
    lost: u64,
    late: u64,
    not_measured: u64,
    cannot_tell: u64,
    muted: u64,
    unproven: u64,
    delivery: Option<f64>,
    measured_fraction: Option<f64>,
    unmeasured_seconds: u64,
    acceptable_loss: f64,
    budget: f64,
    spent: Option<f64>,
}

/// A row of a spreadsheet: which says of which time it is.
#[derive(Serialize)]
struct Line<'r> {
    from: String,
    until: String,
    service: &'r str,
    protocol: &'r str,
    planned: u64,
    measured: u64,
    delivered: u64,
    lost: u64,
    late: u64,
    not_measured: u64,
    cannot_tell: u64,
    muted: u64,
    unproven: u64,
    delivery_percent: Option<f64>,
    measured_percent: Option<f64>,
    unmeasured_seconds: u64,
    acceptable_loss_percent: f64,
    budget_slots: f64,
    budget_spent_percent: Option<f64>,
}

/// Prints the report of a month. Returns whether every budget holds.
pub(crate) fn report(arguments: &ReportArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let ReportArguments { month, service, format, at } = arguments;
    let asker = at.asker()?;
    let given = [("month", month), ("service", service)];
    let parameters: Vec<(&str, String)> =
        given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let answer: Answer = ask::runtime()?.block_on(asker.get("api/v1/report", &parameters))?;
    print(&answer, *format, out)
}

fn print(answer: &Answer, format: ReportFormat, out: &mut impl Write) -> anyhow::Result<bool> {
    let rows = answer.rows.iter().map(Row::deserialize).collect::<Result<Vec<_>, _>>();
    let rows = rows.context("the collector answers otherwise than this version understands")?;
    match format {
        ReportFormat::Json => answer.rows.iter().try_for_each(|row| writeln!(out, "{row}"))?,
        ReportFormat::Csv => lines(answer, &rows, out)?,
        ReportFormat::Text => text(answer, &rows, out)?,
    }
    Ok(rows.iter().all(Row::holds))
}

fn text(answer: &Answer, rows: &[Row], out: &mut impl Write) -> anyhow::Result<()> {
    let Answer { month, from, until, complete, .. } = answer;
    let part = if *complete { "" } else { ", which is not all of it" };
    writeln!(out, "{month} (UTC): from {} to {}{part}", moment(*from), moment(*until))?;
    if rows.is_empty() {
        writeln!(out, "No series: nothing was reported then, or nothing matches.")?;
        return Ok(());
    }
    let header = [
        "service",
        "protocol",
        "delivered",
        "lost",
        "may lose",
        "budget spent",
        "measured",
        "time not measured",
    ];
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    print_table(out, &header, &cells)?;
    Ok(())
}

fn lines(answer: &Answer, rows: &[Row], out: &mut impl Write) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    for row in rows {
        writer.serialize(Line {
            from: moment(answer.from),
            until: moment(answer.until),
            service: &row.service,
            protocol: row.protocol.as_deref().unwrap_or("all"),
            planned: row.planned,
            measured: row.measured,
            delivered: row.delivered,
            lost: row.lost,
            late: row.late,
            not_measured: row.not_measured,
            cannot_tell: row.cannot_tell,
            muted: row.muted,
            unproven: row.unproven,
            delivery_percent: row.delivery,
            measured_percent: row.measured_fraction,
            unmeasured_seconds: row.unmeasured_seconds,
            acceptable_loss_percent: row.acceptable_loss,
            budget_slots: row.budget,
            budget_spent_percent: row.spent,
        })?;
    }
    writer.flush()?;
    Ok(())
}

impl Row {
    /// No more was lost than may be.
    fn holds(&self) -> bool {
        self.spent.map_or(self.lost == 0, |spent| spent <= 100.0)
    }

    fn cells(&self) -> Vec<String> {
        let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), said);
        let spent = match self.spent {
            Some(spent) => said(spent),
            None if self.measured == 0 => "not measured".to_owned(),
            None => "all, nothing may be lost".to_owned(),
        };
        vec![
            self.service.clone(),
            self.protocol.clone().unwrap_or_else(|| "all".to_owned()),
            percent(self.delivery),
            self.lost.to_string(),
            format!("{:.0}", self.budget.floor()),
            spent,
            percent(self.measured_fraction),
            in_time_words(self.unmeasured_seconds),
        ]
    }
}

/// With the decimals that the collector rounded to: all only where it is all.
fn said(percent: f64) -> String {
    if percent.fract() == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.3} %") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(spent: Option<f64>) -> Answer {
        let row = |protocol: Option<&str>, spent: Option<f64>| {
            json!({"service": "ingest, \"edge\"", "protocol": protocol, "planned": 1_000, "measured": 900, "delivered": 899,
                "lost": 1, "late": 0, "not_measured": 60, "cannot_tell": 40, "muted": 0, "unproven": 0, "delivery": 99.888,
                "measured_fraction": 90.0, "unmeasured_seconds": 259_200, "acceptable_loss": 0.5, "budget": 4.5, "spent": spent})
        };
        let rows = vec![row(None, Some(22.223)), row(Some("udp"), spent)];
        Answer {
            month: "2026-11".to_owned(),
            from: 1_793_491_200,
            until: 1_796_083_200,
            complete: true,
            rows,
        }
    }

    fn printed(spent: Option<f64>, format: ReportFormat) -> (bool, String) {
        let mut out = Vec::new();
        let holds = print(&answer(spent), format, &mut out).unwrap();
        (holds, String::from_utf8(out).unwrap())
    }

    #[test]
    fn people_read_what_was_delivered_and_how_much_of_the_budget_is_spent() {
        let (holds, text) = printed(Some(100.001), ReportFormat::Text);
        assert!(!holds);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "2026-11 (UTC): from 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z");
        for expected in ["all", "99.888 %", "22.223 %", "90 %", "72 h 0 min"] {
            assert!(lines[2].contains(expected), "{expected}: {text}");
        }
        assert!(lines[3].contains("udp") && lines[3].contains("100.001 %"), "{text}");
        let (holds, text) = printed(None, ReportFormat::Text);
        assert!(!holds && text.contains("all, nothing may be lost"), "{text}");
        assert!(printed(Some(100.0), ReportFormat::Text).0);
    }

    #[test]
    fn of_what_nobody_measured_no_budget_is_spent() {
        let mut answer = answer(None);
        for (field, value) in [("measured", 0), ("delivered", 0), ("lost", 0)] {
            answer.rows[1][field] = value.into();
        }
        let mut out = Vec::new();
        assert!(print(&answer, ReportFormat::Text, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().nth(3).unwrap();
        assert!(line.contains("not measured") && !line.contains("nothing may be lost"), "{text}");
    }

    #[test]
    fn a_spreadsheet_gets_the_same_numbers_with_their_time() {
        let (_, text) = printed(None, ReportFormat::Csv);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        let cell = |row: usize, name: &str| {
            rows[row].get(header.iter().position(|it| it == name).unwrap()).unwrap().to_owned()
        };
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (cell(0, "from"), cell(0, "until")),
            ("2026-11-01T00:00:00Z".into(), "2026-12-01T00:00:00Z".into())
        );
        assert_eq!((cell(0, "service"), cell(0, "protocol")), ("ingest, \"edge\"".into(), "all".into()));
        assert_eq!((cell(1, "protocol"), cell(1, "budget_spent_percent")), ("udp".into(), String::new()));
        assert_eq!((cell(1, "delivery_percent"), cell(1, "lost")), ("99.888".into(), "1".into()));
    }

    #[test]
    fn programs_get_an_object_a_line() {
        let (_, text) = printed(Some(1.0), ReportFormat::Json);
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows, answer(Some(1.0)).rows);
    }
}
