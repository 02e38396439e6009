//! What each service is sent, and what its answers mean.

use aviary_core::{
    Tag,
    extent::{Predicate, Rule},
};
use aviary_notify::{
    Event, Kind, Opsgenie, Page, PagerDuty, Reason, Retry, Secret, Severity, Slack, VictorOps,
};
use serde_json::json;

use crate::support::{
    page, send,
    server::{Server, answer, ok},
};

const KEY: &str = "aviary:main:01JD6V5V6F9Z7W3R4Q2N8M0K1H";
const PAGERDUTY_TOOK: &str =
    r#"{"status":"success","message":"Event processed","dedup_key":"aviary:main:01J"}"#;
const OPSGENIE_TOOK: &str = r#"{"result":"Request will be processed","took":0.302,"requestId":"43a29c5c-3dbf-4fa4-9c26-f4f71023e120"}"#;
const VICTOROPS_TOOK: &str = r#"{"result":"success","entity_id":"aviary:main:01J"}"#;

fn pagerduty(server: &Server) -> Kind {
    Kind::PagerDuty(PagerDuty {
        url: server.url("/v2/enqueue"),
        key: Secret::new("e93facc04764012d7bfb002500d5d1a6"),
    })
}

fn opsgenie(server: &Server) -> Kind {
    Kind::Opsgenie(Opsgenie { url: server.url("/v2/alerts"), key: Secret::new("eb243592-faa2-4ba2") })
}

fn victorops(server: &Server) -> Kind {
    let url = server.url("/integrations/generic/20131114/alert");
    Kind::VictorOps(VictorOps {
        url,
        key: Secret::new("a-victorops-key"),
        routing_key: "ingest team".to_owned(),
    })
}

fn slack(server: &Server) -> Kind {
    Kind::Slack(Slack { url: Secret::new(server.url("/services/T00/B00/XXXX").as_str()) })
}

#[tokio::test]
async fn pagerduty_is_triggered_and_resolved_by_one_key() {
    let mut server = Server::start(|_| answer("202 Accepted", PAGERDUTY_TOOK)).await;
    let receipt = send(pagerduty(&server), &page(Event::Opened)).await.unwrap();
    assert_eq!(receipt.reference.as_deref(), Some("aviary:main:01J"));
    assert!(receipt.text.contains("answered 202 Accepted"), "{}", receipt.text);

    let asked = server.asked().await;
    assert_eq!(
        (asked.path.as_str(), asked.headers["content-type"].as_str()),
        ("/v2/enqueue", "application/json")
    );
    let mut event = asked.json();
    let details = event["payload"]["custom_details"].take();
    assert!(details["text"].as_str().unwrap().starts_with("ingest: udp in every region (6/6)"));
    assert_eq!(details["window"]["lost"], 48);
    assert_eq!(
        event,
        json!({
            "routing_key": "e93facc04764012d7bfb002500d5d1a6",
            "event_action": "trigger",
            "dedup_key": KEY,
            "payload": {
                "summary": "ingest: udp in every region (6/6), 100 % lost; nothing else",
                "source": "ingest",
                "severity": "critical",
                "timestamp": "2026-11-21T03:14:52Z",
                "component": "ingest",
                "class": "open",
                "custom_details": null,
            },
            "client": "aviary",
            "client_url": "https://collector.example.net/incidents/01JD6V5V6F9Z7W3R4Q2N8M0K1H",
            "links": [
                { "href": "https://runbooks.example.com/ingest", "text": "Runbook" },
                { "href": "https://graphs.example.com/ingest", "text": "graph" },
            ],
        })
    );

    send(pagerduty(&server), &page(Event::Updated)).await.unwrap();
    let update = server.asked().await.json();
    assert_eq!((&update["event_action"], &update["dedup_key"]), (&json!("trigger"), &json!(KEY)));

    send(pagerduty(&server), &page(Event::Resolved)).await.unwrap();
    assert_eq!(
        server.asked().await.json(),
        json!({ "routing_key": "e93facc04764012d7bfb002500d5d1a6", "event_action": "resolve", "dedup_key": KEY })
    );
}

#[tokio::test]
async fn pagerdutys_limits_are_kept() {
    let mut server = Server::start(|_| answer("202 Accepted", PAGERDUTY_TOOK)).await;
    let except = |number: usize| Predicate([(Tag::Node, format!("node-{number}"))].into());
    let scattered = Rule { except: (0..2_000).map(except).collect(), ..page(Event::Opened).rules.remove(0) };
    let long = Page {
        rules: vec![scattered; 20],
        key: format!("aviary:{}:01J", "main".repeat(100)),
        summary: "ingest: é verloren ".repeat(200),
        services: (0..5_000).map(|number| format!("service-{number}")).collect(),
        evidence: vec!["x".repeat(10_000); 5_000],
        runbook: Some(format!("https://example.com/{}", "x".repeat(5_000))),
        ..page(Event::Opened)
    };
    send(pagerduty(&server), &long).await.unwrap();
    let asked = server.asked().await;
    assert!(asked.body.len() < 512_000, "{}", asked.body.len());
    let event = asked.json();
    let summary = event["payload"]["summary"].as_str().unwrap();
    assert!(summary.chars().count() <= 1024 && summary.ends_with(" (cut)"), "{summary}");
    let key = event["dedup_key"].as_str().unwrap();
    assert!(key.len() <= 255 && key.starts_with("aviary:main"), "{key}");

    send(pagerduty(&server), &Page { event: Event::Resolved, ..long }).await.unwrap();
    assert_eq!(
        server.asked().await.json()["dedup_key"],
        key,
        "it is resolved under the key that it was triggered by"
    );
}

#[tokio::test]
async fn a_test_is_marked_and_informational_everywhere() {
    let mut server = Server::start(|_| answer("202 Accepted", PAGERDUTY_TOOK)).await;
    send(pagerduty(&server), &Page { test: true, ..page(Event::Opened) }).await.unwrap();
    let payload = server.asked().await.json()["payload"].take();
    assert_eq!(payload["severity"], "info");
    assert!(payload["summary"].as_str().unwrap().starts_with("TEST: "));
    assert!(payload["custom_details"]["text"].as_str().unwrap().starts_with("TEST, nobody need act: "));
}

#[tokio::test]
async fn pagerduty_refuses_for_good_or_for_now() {
    let invalid = r#"{"status":"invalid event","message":"Event object is invalid","errors":["Length of 'routing_key' is incorrect (should be 32 characters)"]}"#;
    let server = Server::start(move |_| answer("400 Bad Request", invalid)).await;
    let refusal = send(pagerduty(&server), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.retry), (Reason::Refused, Retry::Never));
    assert!(refusal.text.starts_with("receiver `oncall`: http://127.0.0.1:"), "{}", refusal.text);
    assert!(refusal.text.contains("Length of 'routing_key' is incorrect"), "{}", refusal.text);

    let portal = Server::start(|_| ok("<html>Please log in to the hotel's network</html>")).await;
    let refusal = send(pagerduty(&portal), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.retry), (Reason::Stranger, Retry::Later));
}

#[tokio::test]
async fn opsgenie_opens_notes_and_closes_one_alias() {
    let mut server = Server::start(|_| answer("202 Accepted", OPSGENIE_TOOK)).await;
    let receipt = send(opsgenie(&server), &page(Event::Opened)).await.unwrap();
    assert_eq!(receipt.reference.as_deref(), Some("43a29c5c-3dbf-4fa4-9c26-f4f71023e120"));
    let asked = server.asked().await;
    assert_eq!(asked.path, "/v2/alerts");
    assert_eq!(asked.headers["authorization"], "GenieKey eb243592-faa2-4ba2");
    let alert = asked.json();
    assert_eq!(
        (&alert["alias"], &alert["priority"], &alert["tags"]),
        (&json!(KEY), &json!("P1"), &json!(["ingest"]))
    );

    send(opsgenie(&server), &page(Event::Updated)).await.unwrap();
    assert_eq!(server.asked().await.json()["alias"], KEY);
    let note = server.asked().await;
    assert_eq!(note.path, "/v2/alerts/aviary:main:01JD6V5V6F9Z7W3R4Q2N8M0K1H/notes?identifierType=alias");
    assert!(note.json()["note"].as_str().unwrap().starts_with("UPDATE: "));

    send(opsgenie(&server), &page(Event::Resolved)).await.unwrap();
    let closed = server.asked().await.path;
    assert_eq!(closed, "/v2/alerts/aviary:main:01JD6V5V6F9Z7W3R4Q2N8M0K1H/close?identifierType=alias");
}

#[tokio::test]
async fn opsgenies_limits_are_kept() {
    let mut server = Server::start(|_| answer("202 Accepted", OPSGENIE_TOOK)).await;
    let long = Page {
        summary: "ingest: 😀 ".repeat(100),
        services: (0..30).map(|number| format!("service-{number}-{}", "x".repeat(60))).collect(),
        evidence: vec!["x".repeat(1_000); 20],
        owner: Some("o".repeat(9_000)),
        ..page(Event::Opened)
    };
    send(opsgenie(&server), &long).await.unwrap();
    let alert = server.asked().await.json();
    let length = |name: &str| alert[name].as_str().unwrap().encode_utf16().count();
    assert!(length("message") <= 130 && length("description") <= 15_000 && length("entity") <= 512);
    let tags = alert["tags"].as_array().unwrap();
    assert!(tags.len() == 20 && tags.iter().all(|tag| tag.as_str().unwrap().len() <= 50));
    assert!(alert["details"].to_string().len() <= 8_000);
}

#[tokio::test]
async fn victorops_is_told_by_entity() {
    let mut server = Server::start(|_| ok(VICTOROPS_TOOK)).await;
    let table = [
        (Event::Opened, Severity::Critical, "CRITICAL"),
        (Event::Opened, Severity::Error, "CRITICAL"),
        (Event::Updated, Severity::Warning, "WARNING"),
        (Event::Opened, Severity::Info, "INFO"),
        (Event::Resolved, Severity::Critical, "RECOVERY"),
    ];
    for (event, severity, kind) in table {
        let receipt = send(victorops(&server), &Page { severity, ..page(event) }).await.unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("aviary:main:01J"));
        let asked = server.asked().await;
        assert_eq!(asked.path, "/integrations/generic/20131114/alert/a-victorops-key/ingest%20team");
        let body = asked.json();
        assert_eq!((&body["message_type"], &body["entity_id"]), (&json!(kind), &json!(KEY)));
    }
    let long = Page { evidence: vec!["é".repeat(1_000); 20], ..page(Event::Opened) };
    send(victorops(&server), &long).await.unwrap();
    assert!(server.asked().await.json()["state_message"].as_str().unwrap().len() <= 20_480);
}

#[tokio::test]
async fn slack_says_ok_or_why_not() {
    let mut server = Server::start(|_| ok("ok")).await;
    let channel = Page { summary: "<!channel> a & b".to_owned(), ..page(Event::Opened) };
    send(slack(&server), &channel).await.unwrap();
    let text = server.asked().await.json()["text"].take();
    assert!(text.as_str().unwrap().starts_with("*&lt;!channel&gt; a &amp; b*\n"), "{text}");

    let table = [
        ("403 Forbidden", "invalid_token", Reason::Unauthorized, Retry::Never),
        ("404 Not Found", "no_service", Reason::Refused, Retry::Never),
        ("410 Gone", "channel_is_archived", Reason::Refused, Retry::Never),
        ("500 Server Error", "rollup_error", Reason::ServerError, Retry::Later),
        ("200 OK", "<html>Log in</html>", Reason::Stranger, Retry::Later),
    ];
    for (status, body, reason, retry) in table {
        let server = Server::start(move |_| answer(status, body)).await;
        let refusal = send(slack(&server), &page(Event::Opened)).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (reason, retry), "{}", refusal.text);
        assert!(refusal.text.contains(body), "{}", refusal.text);
    }
}
