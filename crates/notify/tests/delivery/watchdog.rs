//! The dead man's switch.

use aviary_notify::{Alertmanager, Reason, Secret, Watchdog, WatchdogKind};

use crate::support::{
    ATTEMPT,
    server::{Server, answer, ok},
};

const PING: &str = "/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278";

fn ping(server: &Server) -> Watchdog {
    aviary_probe::install_crypto_provider();
    Watchdog::new("main", WatchdogKind::Ping(Secret::new(server.url(PING).as_str())), &[]).unwrap()
}

#[tokio::test]
async fn a_ping_is_taken_when_it_says_ok() {
    let mut server = Server::start(|_| ok("OK")).await;
    ping(&server).tell("60 slots a second judged", ATTEMPT).await.unwrap();
    let asked = server.asked().await;
    assert_eq!((asked.path.as_str(), asked.body.as_str()), (PING, "60 slots a second judged"));

    let table =
        [("200 OK", "OK (not found)", Reason::Stranger), ("404 Not Found", "not found", Reason::Refused)];
    for (status, body, reason) in table {
        let server = Server::start(move |_| answer(status, body)).await;
        let refused = ping(&server).tell("", ATTEMPT).await.unwrap_err();
        assert_eq!(refused.reason, reason);
        assert!(!refused.text.contains("5bf66975"), "{}", refused.text);
    }
}

#[tokio::test]
async fn alertmanager_is_told_by_its_own_watchdog_alert() {
    aviary_probe::install_crypto_provider();
    let mut server = Server::start(|_| ok("")).await;
    let alertmanager = Alertmanager { urls: vec![server.url("")], key: None };
    let watchdog = Watchdog::new("main", WatchdogKind::Alertmanager(alertmanager), &[]).unwrap();
    watchdog.tell("60 slots a second judged", ATTEMPT).await.unwrap();
    let asked = server.asked().await;
    assert_eq!(asked.path, "/api/v2/alerts");
    let alert = &asked.json()[0];
    assert_eq!(
        (&alert["labels"]["alertname"], &alert["endsAt"]),
        (&"Watchdog".into(), &"2026-11-21T03:19:00Z".into())
    );
}
