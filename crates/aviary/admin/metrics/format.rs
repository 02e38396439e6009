//! In which format metrics are wanted. All are made from the one text that `prometheus-client` writes, so that they have the
//! same series.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0: for whoever does not say.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    PrometheusText,
    /// One object: see [`series`].
    Json,
}

impl Format {
    /// What whoever sent this `Accept` wants.
    pub(crate) fn of(accept: &str) -> Self {
        let wants = |media| accept.contains(media);
        if wants("application/openmetrics-text") {
            Self::OpenMetrics
        } else if wants("application/json") {
            Self::Json
        } else if wants("text/plain") {
            Self::PrometheusText
        } else {
            Self::OpenMetrics
        }
    }

    /// Its media type.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PrometheusText => "text/plain; version=0.0.4; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    /// OpenMetrics text in this format.
    pub(crate) fn write(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::PrometheusText => prometheus_text(&open_metrics),
            Self::Json => Value::Object(series(&open_metrics)).to_string(),
        }
    }
}

/// Each series by its name, with its labels as the text formats write them, and its value:
/// `{"process_open_fds":31,"aviary_agent_slots_total{service=\"ingest\",...}":12,...}`. What JSON has no number for, such as
/// `NaN`, is a string.
pub(crate) fn series(open_metrics: &str) -> Map<String, Value> {
    let samples = open_metrics.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| {
        // A label may have spaces, a value has none.
        let (series, value) = line.rsplit_once(' ')?;
        let number = value.parse().map(Value::Number);
        Some((series.to_owned(), number.unwrap_or_else(|_| Value::from(value))))
    });
    samples.collect()
}

/// The text format 0.0.4 names families as their samples, and knows neither units nor information nor an end.
fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            // Which name it helps with is known only from the type, on the next line.
            (Some("#"), Some("HELP"), Some(_), Some(rest)) => help = Some(rest),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (name, kind) = match kind {
                    "counter" => (format!("{name}_total"), kind),
                    "info" => (format!("{name}_info"), "gauge"),
                    _ => (name.to_owned(), kind),
                };
                if let Some(help) = help.take() {
                    // Writing to memory does not fail.
                    _ = writeln!(text, "# HELP {name} {help}");
                }
                _ = writeln!(text, "# TYPE {name} {kind}");
            }
            (Some("#"), ..) => {}
            _ => _ = writeln!(text, "{line}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_the_format_that_they_understand() {
        use Format::{Json, OpenMetrics, PrometheusText};
        let table = [
            ("", OpenMetrics),
            ("*/*", OpenMetrics),
            ("text/plain", PrometheusText),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", PrometheusText),
            ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3", OpenMetrics),
            ("application/json", Json),
            ("application/json, text/plain, */*", Json),
        ];
        for (accept, expected) in table {
            assert_eq!(Format::of(accept), expected, "{accept}");
        }
    }

    #[test]
    fn series_are_what_the_text_says() {
        let text =
            "# HELP a Some.\n# TYPE a gauge\na{b=\"c d\\\"\"} 1.5\na 12\nx NaN\ny{le=\"+Inf\"} 7\n# EOF\n";
        let expected = r#"{"a{b=\"c d\\\"\"}":1.5,"a":12,"x":"NaN","y{le=\"+Inf\"}":7}"#;
        assert_eq!(Value::Object(series(text)).to_string(), expected);
    }
}
