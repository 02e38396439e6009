//! The API over a real connection, and a collector that ends and begins again.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use aviary_core::Clock;
use aviary_store::RedbStore;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::{Collector, Options, Server};

/// A clock that is set.
#[derive(Clone, Default)]
struct Set(Arc<AtomicU64>);

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        at(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

struct Served {
    clock: Set,
    collector: Collector,
    server: Server,
    url: String,
    client: reqwest::Client,
}

impl Served {
    async fn begin(data: &Path, clock: Set) -> Self {
        aviary_probe::install_crypto_provider();
        let store = Arc::new(RedbStore::open(data).unwrap());
        let services = vec![ServiceOptions::unconfigured("ingest")];
        let options = Options {
            name: "main".to_owned(),
            services,
            store: Some(store),
            paging: paging(),
            ..Options::default()
        };
        let collector = Collector::new(options, clock.clone()).unwrap();
        while collector.replaying().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
        let server = collector.serve_unjudged(listener);
        Self { clock, collector, server, url, client: reqwest::Client::new() }
    }

    /// Tells and judges the seconds from `from` to before `until`.
    async fn run(&self, from: u64, until: u64, outcome: Outcome) {
        for second in from..until {
            for region in REGIONS {
                let report = told_by(region, second, outcome);
                let sent = self.client.post(format!("{}/reports", self.url)).body(report.encode()).send();
                assert_eq!(sent.await.unwrap().status(), 200);
            }
            self.clock.0.store(second + 1, Ordering::SeqCst);
            self.collector.judge(at(second + 1)).await;
        }
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, format!("{}/{path}", self.url));
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(reqwest::Method::GET, path, Value::Null).await.1
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(reqwest::Method::POST, path, body).await
    }

    async fn end(self) {
        self.server.stop().await;
        self.collector.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_shown_acknowledged_and_there_after_a_restart() {
    let (data, clock) = (tempfile::tempdir().unwrap(), Set::default());
    let served = Served::begin(data.path(), clock.clone()).await;
    let mut actions = served.collector.page_actions().unwrap();
    served.run(0, 60, DELIVERED).await;
    assert_eq!(served.get("incidents").await, json!({"incidents": []}));
    served.run(60, 85, TIMED_OUT).await;
    let listed = served.get("incidents?active=true").await;
    let incident = &listed["incidents"][0];
    let summary = "ingest: everything in every region (3/3), all protocols (2/2), 100 % lost; nothing else";
    assert_eq!((&incident["state"], &incident["summary"]), (&json!("open"), &json!(summary)));
    let id = incident["id"].as_str().unwrap().to_owned();
    let sent = std::iter::from_fn(|| actions.try_recv().ok());
    assert_eq!(sent.filter(|action| matches!(action, Action::Send { .. })).count(), 1);
    let service = served.get("services/ingest").await;
    assert_eq!((&service["state"], &service["summary"]), (&json!("down"), &json!(summary)));
    assert_eq!(service["incidents"], json!([id]));
    assert!(service["extent"][0]["share"].as_f64().unwrap() > 0.999);

    let path = |what: &str| format!("incidents/{id}/{what}");
    assert_eq!(served.post(&path("ack"), json!({})).await.0, 400, "nobody says who");
    let (status, body) = served.post(&path("ack"), json!({"by": "ada"})).await;
    assert_eq!(
        (status, &body["state"], &body["acknowledged_by"]),
        (200, &json!("acknowledged"), &json!("ada"))
    );
    assert_eq!(served.post(&path("notes"), json!({"by": "ada", "text": "the switch"})).await.0, 200);
    assert_eq!(served.post("incidents/nobody/ack", json!({"by": "ada"})).await.0, 404);
    let silence =
        json!({"match": {"region": ["eu"]}, "until": START + 600, "by": "ada", "reason": "new switches"});
    let (status, silence) = served.post("silences", silence).await;
    assert_eq!((status, &silence["in_force"]), (201, &json!(true)));
    for (body, expected) in [
        (json!({"until": START + 600, "by": "ada", "reason": " "}), "no reason"),
        (json!({"until": 5, "by": "ada", "reason": "x"}), "before it begins"),
        (
            json!({"match": {"color": ["red"]}, "until": START + 600, "by": "ada", "reason": "x"}),
            "`color` is not known",
        ),
        (json!({"until": START + 600, "by": "ada", "reason": "x", "hours": {"zone": "Mars"}}), "hours: days"),
    ] {
        let (status, answer) = served.post("silences", body).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(expected), "{status} {message}");
    }
    served.end().await;

    let served = Served::begin(data.path(), clock.clone()).await;
    let whole = served.get(&format!("incidents/{id}")).await;
    assert_eq!(whole["record"]["notes"]["kept"][0]["text"], "the switch", "{whole}");
    assert_eq!(whole["receivers"]["oncall"]["belief"], "maybe_open", "nobody said that it was taken");
    assert_eq!(served.get("silences").await["silences"][0]["author"], "ada");
    let everything =
        json!({"match": {"service": ["ingest"]}, "until": START + 600, "by": "grace", "reason": "we know"});
    assert_eq!(served.post("silences", everything).await.0, 201);
    served.run(85, 100, TIMED_OUT).await;
    let page = served.client.get(format!("{}/../../incidents/{id}", served.url)).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("<dd><div>grace until <time") && page.contains("</time>: we know</div>"), "{page}");
    assert_eq!(served.get("incidents").await["incidents"][0]["id"], id.as_str());
    served.run(100, 200, DELIVERED).await;
    assert_eq!(served.get("incidents").await["incidents"][0]["state"], "resolved");
    assert_eq!(served.post(&path("ack"), json!({"by": "ada"})).await.0, 409);
    let expire = format!("silences/{}", silence["id"].as_str().unwrap());
    assert_eq!(served.ask(reqwest::Method::DELETE, &expire, Value::Null).await.0, 204);
    assert_eq!(served.ask(reqwest::Method::DELETE, &expire, Value::Null).await.0, 404);
    // The next morning it is held no more, in this life and in the next.
    let morning = 40_000;
    served.clock.0.store(morning, Ordering::SeqCst);
    served.run(morning, morning + 1, DELIVERED).await;
    let note = |text: &str| json!({"by": "ada", "text": text});
    assert_eq!(served.post(&path("notes"), note("the switch was old")).await.0, 200);
    assert_eq!(served.post("incidents/nobody/notes", note("?")).await.0, 404);
    for what in ["ack", "resolve"] {
        let (status, answer) = served.post(&path(what), json!({"by": "ada"})).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 409 && message.contains("is over since 20"), "{what}: {status} {message}");
    }
    served.end().await;
    let served = Served::begin(data.path(), clock).await;
    assert_eq!(served.post(&path("notes"), note("and is replaced")).await.0, 200);
    let notes = served.get(&format!("incidents/{id}")).await["record"]["notes"]["kept"].clone();
    let said: Vec<_> = notes.as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect();
    assert_eq!(said, ["the switch", "the switch was old", "and is replaced"]);
    served.end().await;
}
