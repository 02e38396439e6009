//! A page as programs read it: the body of a webhook, and what a command has on its standard input.

use aviary_core::extent::Predicate;
use serde_json::{Map, Value, json};

use crate::page::{Event, Page, Total, rfc3339};

/// The largest body: what Standard Webhooks asks senders to stay below.
const BODY_BYTES_MAX: usize = 20_000;

/// The type of the message, as subscribers tell one from another.
pub(crate) fn kind(page: &Page) -> String {
    if page.test { "test".to_owned() } else { format!("incident.{}", page.event) }
}

/// The whole body. Where an extent of hundreds of causes would make it too large, the smallest are left out.
pub(crate) fn body(page: &Page) -> Vec<u8> {
    let mut page = page.clone();
    loop {
        let body =
            json!({ "type": kind(&page), "timestamp": rfc3339(page.at), "data": data(&page) }).to_string();
        if body.len() <= BODY_BYTES_MAX || page.rules.pop().is_none() {
            return body.into_bytes();
        }
    }
}

/// What is known of the incident.
pub(crate) fn data(page: &Page) -> Value {
    let extent: Vec<Value> = page
        .rules
        .iter()
        .map(|rule| {
            let mut cause = json!({ "match": tags(&rule.matches), "loss": rule.loss, "share": rule.share });
            if !rule.except.is_empty() {
                cause["except"] = rule.except.iter().map(tags).collect();
            }
            cause
        })
        .collect();
    let window = page.window.map(|sums| {
        json!({ "seconds": sums.seconds, "scheduled": sums.scheduled, "delivered": sums.delivered, "lost": sums.lost })
    });
    let total = page.total.filter(|_| page.event == Event::Resolved).map(|total| {
        let Total { judged, lost, seconds, worst } = total;
        json!({ "judged": judged, "lost": lost, "seconds": seconds, "worst": worst })
    });
    let mut data = json!({
        "id": page.incident,
        "key": page.key,
        "services": page.services,
        "severity": page.level().name(),
        "state": page.state,
        "since": rfc3339(page.since),
        "summary": page.summary,
        "extent": extent,
        "window": window,
        "questions": {
            "one_zone": page.questions.one_zone.name(),
            "one_protocol": page.questions.one_protocol.name(),
        },
        "blame": page.blame.name(),
        "evidence": page.evidence,
        "against": page.against,
        "url": page.url,
    });
    if let Some(total) = total {
        data["total"] = total;
    }
    data
}

fn tags(predicate: &Predicate) -> Value {
    let tags: Map<String, Value> =
        predicate.0.iter().map(|(tag, value)| (tag.name().to_owned(), value.as_str().into())).collect();
    tags.into()
}

#[cfg(test)]
mod tests {
    use aviary_core::{Tag, extent::Rule};

    use super::*;

    #[test]
    fn the_body_is_the_contract_word_for_word() {
        let expected = concat!(
            r#"{"type":"incident.opened","timestamp":"2026-11-21T03:15:00Z","data":{"id":"01JD6V5V6F9Z7W3R4Q2N8M0K1H","#,
            r#""key":"aviary:main:01JD6V5V6F9Z7W3R4Q2N8M0K1H","services":["ingest"],"severity":"critical","state":"open","#,
            r#""since":"2026-11-21T03:14:52Z","summary":"ingest: udp in every region (6/6), 100 % lost; nothing else","#,
            r#""extent":[{"match":{"protocol":"udp"},"loss":1.0,"share":1.0}],"#,
            r#""window":{"seconds":8,"scheduled":48,"delivered":0,"lost":48},"#,
            r#""questions":{"one_zone":"no","one_protocol":"yes"},"blame":"service","#,
            r#""evidence":["confirm timeout, 40 of 48","connect refused, 8 of 48"],"#,
            r#""against":["tcp and tls from the same vantage points lose nothing"],"#,
            r#""url":"https://collector.example.net/incidents/01JD6V5V6F9Z7W3R4Q2N8M0K1H"}}"#,
        );
        assert_eq!(String::from_utf8(body(&Page::full())).unwrap(), expected);
    }

    #[test]
    fn an_end_says_what_was_lost_in_all() {
        let data = |event| data(&Page { event, ..Page::full() });
        let total = json!({ "judged": 480, "lost": 52, "seconds": 9, "worst": 1.0 });
        assert_eq!((&data(Event::Resolved)["total"], data(Event::Opened).get("total")), (&total, None));
    }

    #[test]
    fn a_test_is_a_type_of_its_own_and_informational() {
        let test = Page { test: true, event: Event::Resolved, ..Page::full() };
        let body: Value = serde_json::from_slice(&body(&test)).unwrap();
        assert_eq!((&body["type"], &body["data"]["severity"]), (&json!("test"), &json!("info")));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let body: Value = serde_json::from_slice(&body(&Page::bare())).unwrap();
        let data = &body["data"];
        assert_eq!(
            (&data["window"], &data["url"], &data["extent"]),
            (&Value::Null, &Value::Null, &json!([]))
        );
        assert_eq!(data["questions"], json!({ "one_zone": "cannot_tell", "one_protocol": "cannot_tell" }));
    }

    #[test]
    fn a_scattered_extent_leaves_out_its_smallest_causes() {
        let rule = |node: usize| Rule {
            matches: Predicate([(Tag::Node, format!("node-{node}-{}", "x".repeat(100)))].into()),
            except: vec![Predicate([(Tag::Protocol, "tls".to_owned())].into())],
            ..Page::full().rules[0].clone()
        };
        let page = Page { rules: (0..500).map(rule).collect(), ..Page::full() };
        let body = body(&page);
        assert!((15_000..=BODY_BYTES_MAX).contains(&body.len()), "{}", body.len());
        let first = &serde_json::from_slice::<Value>(&body).unwrap()["data"]["extent"][0];
        assert_eq!(first["except"], json!([{ "protocol": "tls" }]));
        assert!(first["match"]["node"].as_str().unwrap().starts_with("node-0-"));
    }
}
