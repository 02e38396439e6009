//! The query API of Prometheus: how many samples there are of a name in each exact second.
//!
//! `count_over_time` over less than a second at exact seconds, since whatever looks back fills holes, and hides loss. The
//! range is a millisecond short of a second: Prometheus before version 3 counts both of its ends. The function drops the
//! names, so each is asked for under a number of its own.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use aviary_core::{Second, Span};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::{
    Readback,
    client::{Client, SetUpError},
    reader::{Reader, Said, Unreadable},
};

/// How many of the newest seconds VictoriaMetrics keeps to itself (`-search.latencyOffset`): it fills them with what was
/// before, so that they must not be asked for.
pub(super) const HIDDEN_SECONDS: u64 = 30;

/// The longest query. VictoriaMetrics takes 16 KiB.
const QUERY_BYTES_MAX: usize = 14_000;

/// The most bytes that a sample takes in an answer.
const SAMPLE_BYTES_MAX: usize = 64;

const API: &str = "Prometheus";

/// Asks `/api/v1/query_range`.
pub(crate) struct Prometheus {
    client: Client,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: String,
    #[serde(default)]
    is_partial: bool,
    #[serde(default)]
    warnings: Vec<String>,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Samples>,
}

#[derive(Deserialize)]
struct Samples {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

/// The label under which the number of a name comes back.
const LABEL: &str = "aviary";

impl Prometheus {
    pub(crate) fn new(options: &Readback) -> Result<Self, SetUpError> {
        Ok(Self { client: Client::new(options)? })
    }

    async fn query(&self, query: &str, names: usize, span: Span) -> Result<Vec<Said>, Unreadable> {
        let limit = 4_096 + names * (1_024 + span.seconds() as usize * SAMPLE_BYTES_MAX);
        let body = self.client.post("api/v1/query_range", form(query, span), limit).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()))?;
        if answer.status != "success" {
            return Err(self.strange(format!("its status is `{}`", answer.status.escape_debug())));
        }
        if answer.is_partial || !answer.warnings.is_empty() {
            let said = answer.warnings.first().map_or("it says so", String::as_str);
            let reason = said.chars().take(200).collect();
            return Err(Unreadable::Partial { at: self.client.at(), reason });
        }
        let mut counts = vec![BTreeMap::new(); names];
        for Samples { metric, values } in answer.data.result {
            let number = metric.get(LABEL).and_then(|number| number.parse::<usize>().ok());
            let Some(counts) = number.and_then(|number| counts.get_mut(number)) else {
                return Err(self.strange("a series comes back under no number that was asked for".to_owned()));
            };
            for (timestamp, count) in values {
                let second = Second(timestamp as u64);
                let count: f64 =
                    count.parse().map_err(|_| self.strange("a count is no number".to_owned()))?;
                if timestamp.fract() != 0.0 || !span.contains(second) {
                    return Err(self.strange(format!("it counts at {timestamp}, which was not asked for")));
                }
                if count > 0.0 {
                    *counts.entry(second).or_insert(0.0) += count;
                }
            }
        }
        Ok(counts.into_iter().map(|counts| Said::Slots(counts.into_iter().collect())).collect())
    }

    fn strange(&self, reason: String) -> Unreadable {
        Unreadable::Strange { at: self.client.at(), api: API, reason }
    }
}

fn form(query: &str, span: Span) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("query", query).append_pair("step", "1");
    form.append_pair("start", &span.from.to_string());
    form.append_pair("end", &span.until.minus(1).to_string());
    // VictoriaMetrics' cache would move both ends.
    form.append_pair("nocache", "1");
    form.finish()
}

/// One query for as many of `names` as fit, and how many those are.
fn query(names: &[Arc<str>]) -> (String, usize) {
    let mut query = String::new();
    for (index, name) in names.iter().enumerate() {
        let before = query.len();
        let or = if index == 0 { "" } else { " or " };
        // Writing into a text does not fail.
        _ = write!(
            query,
            r#"{or}label_replace(count_over_time({{__name__="{name}"}}[999ms]),"{LABEL}","{index}","","")"#
        );
        if query.len() > QUERY_BYTES_MAX && index > 0 {
            query.truncate(before);
            return (query, index);
        }
    }
    (query, names.len())
}

impl Reader for Prometheus {
    async fn read(&self, names: &[Arc<str>], span: Span) -> Result<Vec<Said>, Unreadable> {
        let mut said = Vec::with_capacity(names.len());
        while said.len() < names.len() {
            let (query, count) = query(&names[said.len()..]);
            said.extend(self.query(&query, count, span).await?);
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_queries_as_far_as_they_fit() {
        let names: Vec<Arc<str>> = (0..1_000).map(|number| format!("canary.{number:0100}").into()).collect();
        let (mut asked, mut queries) = (0, 0);
        while asked < names.len() {
            let (text, count) = query(&names[asked..]);
            assert!(text.len() <= QUERY_BYTES_MAX && count > 0, "{} {count}", text.len());
            assert_eq!(text.matches("count_over_time").count(), count);
            (asked, queries) = (asked + count, queries + 1);
        }
        assert!(queries > 10, "{queries}");
        assert_eq!(
            query(&["a.b".into(), "c".into()]).0,
            r#"label_replace(count_over_time({__name__="a.b"}[999ms]),"aviary","0","","") or label_replace(count_over_time({__name__="c"}[999ms]),"aviary","1","","")"#
        );
    }
}
