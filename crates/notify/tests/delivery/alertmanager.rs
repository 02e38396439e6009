//! Alertmanager: a real one, and clusters of which some do not answer.

use std::{collections::BTreeMap, path::Path, time::Duration};

use aviary_core::Timestamp;
use aviary_notify::{
    Alertmanager, Attempt, Event, Kind, Page, Reason, Retry, Severity, Url, Watchdog, WatchdogKind,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    page, patiently,
    process::Process,
    receiver, send,
    server::{Reply, Server, answer, ok},
};

const CONFIG: &str = "route: { receiver: nobody }\nreceivers: [ { name: nobody } ]\n";

/// A real Alertmanager, alone.
struct Real {
    url: Url,
    _process: Process,
    _dir: TempDir,
}

impl Real {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("alertmanager.yml");
        std::fs::write(&config, CONFIG).unwrap();
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.path={}", dir.path().display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            "--cluster.listen-address=".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start(Path::new("prometheus-alertmanager"), &arguments);
        let url = format!("http://{}", process.said("msg=\"Listening on\" address=")).parse().unwrap();
        Self { url, _process: process, _dir: dir }
    }

    fn settings(&self) -> Alertmanager {
        Alertmanager { urls: vec![self.url.clone()], key: None }
    }

    /// The alerts that fire, by what tells them apart.
    async fn firing(&self) -> BTreeMap<String, Value> {
        let url = self.url.join("api/v2/alerts").unwrap();
        let body = reqwest::get(url).await.unwrap().text().await.unwrap();
        let alerts: Vec<Value> = serde_json::from_str(&body).unwrap();
        let name = |alert: &Value| {
            format!(
                "{} {}",
                alert["labels"]["alertname"].as_str().unwrap(),
                alert["labels"]["severity"].as_str().unwrap()
            )
        };
        alerts.into_iter().map(|alert| (name(&alert), alert)).collect()
    }
}

/// The page as it would be now: Alertmanager goes by its own clock.
fn page_at(now: Timestamp, event: Event) -> Page {
    Page { at: now, since: Timestamp(now.0 - 8_000_000), ..page(event) }
}

fn now() -> Timestamp {
    let now = jiff::Timestamp::now().as_microsecond();
    Timestamp(u64::try_from(now).unwrap())
}

#[tokio::test]
async fn a_real_one_shows_what_fires_until_it_is_resolved() {
    let alertmanager = Real::start();
    let receiver = receiver(Kind::Alertmanager(alertmanager.settings()), &[]);
    let attempt = Attempt { now: now() };
    let send = async |page: &Page| patiently(async || receiver.send(page, attempt).await).await.unwrap();

    send(&page_at(attempt.now, Event::Opened)).await;
    send(&page_at(attempt.now, Event::Opened)).await;
    let firing = alertmanager.firing().await;
    assert_eq!(firing.keys().collect::<Vec<_>>(), ["AviaryIncident critical"]);
    let alert = &firing["AviaryIncident critical"];
    assert_eq!(alert["labels"]["service"], "ingest");
    assert_eq!(
        alert["annotations"]["summary"],
        "ingest: udp in every region (6/6), 100 % lost; nothing else"
    );
    assert_eq!(alert["annotations"]["runbook_url"], "https://runbooks.example.com/ingest");
    assert_eq!(alert["generatorURL"], "https://collector.example.net/incidents/01JD6V5V6F9Z7W3R4Q2N8M0K1H");

    let milder = Page { severity: Severity::Warning, ..page_at(attempt.now, Event::Updated) };
    send(&milder).await;
    assert_eq!(alertmanager.firing().await.into_keys().collect::<Vec<_>>(), ["AviaryIncident warning"]);

    let told_as = [Severity::Critical, Severity::Warning].into();
    let over = Page { severity: Severity::Warning, told_as, ..page_at(attempt.now, Event::Resolved) };
    send(&over).await;
    assert!(alertmanager.firing().await.is_empty());
}

#[tokio::test]
async fn a_real_one_keeps_the_watchdog_alert() {
    let alertmanager = Real::start();
    aviary_probe::install_crypto_provider();
    let watchdog = Watchdog::new("main", WatchdogKind::Alertmanager(alertmanager.settings()), &[]).unwrap();
    let attempt = Attempt { now: now() };
    patiently(async || watchdog.tell("60 slots a second judged", attempt).await).await.unwrap();
    let firing = alertmanager.firing().await;
    assert_eq!(firing["Watchdog none"]["annotations"]["description"], "60 slots a second judged");
}

#[tokio::test]
async fn a_real_one_says_what_it_does_not_take() {
    let alertmanager = Real::start();
    let receiver = receiver(Kind::Alertmanager(alertmanager.settings()), &[]);
    let backwards = Page { since: Timestamp(now().0 + 3_600_000_000), ..page(Event::Opened) };
    let attempt = Attempt { now: now() };
    let refused = patiently(async || receiver.send(&backwards, attempt).await).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::Refused, Retry::Never));
    assert!(refused.text.contains("start time must be before end time"), "{}", refused.text);
}

#[tokio::test]
async fn one_of_a_cluster_is_enough() {
    let mut well = Server::start(|_| ok("")).await;
    let sick = Server::start(|_| answer("503 Service Unavailable", "not ready")).await;
    let closed = Server::start(|_| Reply::Close).await;
    let cluster = |servers: &[&Server]| {
        let urls = servers.iter().map(|server| server.url("/am/")).collect();
        Kind::Alertmanager(Alertmanager { urls, key: None })
    };
    let receipt = send(cluster(&[&sick, &closed, &well]), &page(Event::Opened)).await.unwrap();
    assert!(receipt.text.contains("; but http://127.0.0.1"), "{}", receipt.text);
    assert_eq!(well.asked().await.path, "/am/api/v2/alerts");

    let invalid = Server::start(|_| answer("400 Bad Request", "invalid label set")).await;
    let refused = send(cluster(&[&invalid, &sick]), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::ServerError, Retry::Later), "{}", refused.text);
    assert!(
        refused.text.contains("invalid label set") && refused.text.contains("not ready"),
        "{}",
        refused.text
    );
    let refused = send(cluster(&[&invalid]), &page(Event::Opened)).await.unwrap_err();
    assert_eq!(refused.retry, Retry::Never);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_does_not_take_the_time_of_the_others() {
    let silent = Server::start(|_| Reply::Silence).await;
    let kind = Kind::Alertmanager(Alertmanager { urls: vec![silent.url("")], key: None });
    let refused = send(kind, &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::Timeout, Retry::Later));
    assert!(refused.text.contains("did not answer within 4 s"), "{}", refused.text);
}

#[test]
fn it_wants_to_be_told_again() {
    let resend = Kind::Alertmanager(Alertmanager { urls: Vec::new(), key: None }).contract().resend.unwrap();
    assert!(resend.every <= Duration::from_secs(60) && resend.resolved_for >= Duration::from_secs(300));
}
