//! No secret is shown, whatever a receiver repeats of what it was sent.

use aviary_notify::{
    Alertmanager, Event, Kind, Opsgenie, PagerDuty, Secret, Settings, Slack, VictorOps, Webhook,
};

use crate::support::{
    ATTEMPT, page, receiver,
    server::{Reply, Server},
};

const SECRET: &str = "hunter2-hunter2-hunter2";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn kinds(server: &Server) -> [Kind; 6] {
    let (url, key) = (server.url("/"), Secret::new(SECRET));
    [
        Kind::Alertmanager(Alertmanager { urls: vec![url.clone()], key: Some(key.clone()) }),
        Kind::Opsgenie(Opsgenie { url: url.clone(), key: key.clone() }),
        Kind::PagerDuty(PagerDuty { url: url.clone(), key: key.clone() }),
        Kind::Slack(Slack { url: Secret::new(server.url(&format!("/services/{SECRET}")).as_str()) }),
        Kind::VictorOps(VictorOps { url: url.clone(), key, routing_key: "team".to_owned() }),
        Kind::Webhook(Webhook { url, secret: Secret::new(SIGNING), allow_private: true }),
    ]
}

#[tokio::test]
async fn a_receiver_that_repeats_everything_shows_nothing() {
    let echo = |status: &'static str| {
        Server::start(move |request| {
            let headers: Vec<_> = request.headers.values().cloned().collect();
            Reply::Answer {
                status,
                headers: "",
                body: format!("{} {} {}", request.path, headers.join(" "), request.body),
            }
        })
    };
    for status in ["200 OK", "400 Bad Request", "404 Not Found", "503 Service Unavailable"] {
        let server = echo(status).await;
        for kind in kinds(&server) {
            let name = kind.name();
            let settings = Settings { name: "oncall".to_owned(), kind: kind.clone(), template: None };
            let receiver = receiver(kind, &[]);
            let sent = receiver.send(&page(Event::Opened), ATTEMPT).await;
            let shown = format!("{settings:?} {receiver:?} {sent:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("MfKQ9r8"), "{name}, {status}: {shown}");
        }
    }
}
