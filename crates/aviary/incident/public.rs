//! What customers are told of an incident: shown, edited, published, brought up to date, looked back at and withdrawn.

use std::io::Write;

use anyhow::Context as _;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Which, Who, Words, whole_id};
use crate::{
    ask::At,
    output::{Format, moment},
};

/// What customers are told, as the collector has it.
#[derive(Debug, Deserialize)]
struct Publication {
    id: String,
    standing: String,
    title: String,
    text: String,
    impact: String,
    since: u64,
    over: Option<u64>,
    edited_by: Option<String>,
    updates: Vec<Update>,
}

#[derive(Debug, Deserialize)]
struct Update {
    at: u64,
    stage: String,
    text: String,
    by: Option<String>,
}

impl Words {
    /// Has it told in these words.
    pub(super) async fn tell(
        &self,
        which: &Which,
        who: &Who,
        act: &str,
        out: &mut impl Write,
    ) -> anyhow::Result<bool> {
        let Self { title, text, impact } = self;
        let body = json!({"by": who.by, "title": title, "text": text, "impact": impact});
        tell(which, who, act, &body, out).await
    }
}

/// What customers are told of an incident, or would be.
pub(super) async fn draft(which: &Which, at: &At) -> anyhow::Result<Value> {
    let asker = at.asker()?;
    let id = whole_id(&asker, &which.id).await?;
    asker.get(&format!("api/v1/incidents/{id}/public"), &[]).await
}

/// Has something done about it, and prints what customers are told then.
pub(super) async fn tell(
    which: &Which,
    who: &Who,
    act: &str,
    body: &Value,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let asker = who.at.asker()?;
    let id = whole_id(&asker, &which.id).await?;
    let told: Value = asker.tell(Method::POST, &format!("api/v1/incidents/{id}/public/{act}"), body).await?;
    print(&told, Format::Text, out)
}

/// Prints it.
pub(super) fn print(body: &Value, format: Format, out: &mut impl Write) -> anyhow::Result<bool> {
    if format == Format::Json {
        writeln!(out, "{body}")?;
        return Ok(true);
    }
    let Publication { id, standing, title, text, impact, since, over, edited_by, updates } =
        Publication::deserialize(body)
            .context("the collector answers otherwise than this version understands")?;
    let over = over.map_or_else(String::new, |over| format!(" until {}", moment(over)));
    let by = edited_by.map_or_else(String::new, |by| format!(", in the words of {by}"));
    writeln!(out, "{id}: {standing}{by}, impact {impact}, since {}{over}", moment(since))?;
    writeln!(out, "{title}")?;
    if standing != "published" {
        writeln!(out, "  {}", indented(&text))?;
    }
    for Update { at, stage, text, by } in updates {
        writeln!(out, "{} {stage} ({})", moment(at), by.as_deref().unwrap_or("by the rule of the service"))?;
        writeln!(out, "  {}", indented(&text))?;
    }
    Ok(true)
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_customers_are_told_is_printed_with_who_said_it() {
        let body = json!({"id": "01A", "standing": "published", "title": "UDP is lost", "text": "first", "impact": "minor",
            "since": 1_763_690_400, "over": null, "edited_by": "ada", "drafted": 1, "updates": [
                {"at": 1_763_690_460, "stage": "investigating", "text": "We look\ninto it.", "by": null},
                {"at": 1_763_690_520, "stage": "identified", "text": "A switch.", "by": "ada"}]});
        let mut out = Vec::new();
        assert!(print(&body, Format::Text, &mut out).unwrap());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "01A: published, in the words of ada, impact minor, since 2025-11-21T02:00:00Z\nUDP is lost\n\
             2025-11-21T02:01:00Z investigating (by the rule of the service)\n  We look\n  into it.\n\
             2025-11-21T02:02:00Z identified (ada)\n  A switch.\n"
        );
    }
}
