//! Outlets of advice: a signed webhook, and a request of the operator's.

use aviary_notify::{NodeAdvice, Outlet, OutletKind, Request, Secret, Webhook};
use serde_json::{Value, json};

use crate::{
    support::{
        AT,
        server::{Server, answer, ok},
    },
    webhook::{SECRET, verified},
};

fn advice() -> NodeAdvice {
    NodeAdvice {
        service: "ingest".to_owned(),
        node: "n3".to_owned(),
        state: "out",
        weight: 0,
        reason: Some("48 of 48 slots lost".to_owned()),
        evidence: json!({"lost": 48}),
        since: AT,
    }
}

fn outlet(kind: OutletKind) -> Outlet {
    aviary_probe::install_crypto_provider();
    Outlet::new(kind, &[]).unwrap()
}

#[tokio::test]
async fn a_webhook_is_told_signed_and_under_one_id_for_each_attempt() {
    let mut server = Server::start(|_| ok("")).await;
    let url = server.url("/nodes");
    let webhook = Webhook { url, secret: Secret::new(SECRET), allow_private: true };
    let outlet = outlet(OutletKind::Webhook(webhook));
    let mut ids = Vec::new();
    for state in ["out", "out", "in"] {
        outlet.send(&NodeAdvice { state, ..advice() }, AT).await.unwrap();
        let request = server.asked().await;
        assert_eq!(verified(&request).as_deref(), Some("node.advise"));
        let data = &request.json()["data"];
        assert_eq!((&data["node"], &data["state"]), (&json!("n3"), &json!(state)));
        ids.push(request.headers["webhook-id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[tokio::test]
async fn a_request_is_confirmed_by_its_status_and_shows_no_secret() {
    let mut server = Server::start(|request| match request.path.as_str() {
        "/taken/n3?to=out" => ok(""),
        "/there/n3?to=out" => answer("409 Conflict", "it is so already"),
        _ => answer("500 Internal Server Error", "hunter2hunter2 is wrong"),
    })
    .await;
    let table = [
        ("/taken/", vec![], true),
        ("/there/", vec![409], true),
        ("/there/", vec![], false),
        ("/no/", vec![], false),
    ];
    for (path, statuses, is_taken) in table {
        let request = Request {
            method: "PUT".to_owned(),
            url: format!("{}{{{{ node }}}}?to={{{{ state }}}}", server.url(path)),
            headers: vec![("authorization".to_owned(), Secret::new("hunter2hunter2"))],
            body: Some("{\"weight\": {{ weight }}, \"why\": {{ reason }}}".to_owned()),
            statuses,
            allow_private: true,
        };
        let told = outlet(OutletKind::Request(request)).send(&advice(), AT).await;
        assert_eq!(told.is_ok(), is_taken, "{path}: {told:?}");
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
        let request = server.asked().await;
        assert_eq!(request.headers["authorization"], "hunter2hunter2");
        assert_eq!(request.headers["content-type"], "application/json");
        let body: Value = request.json();
        assert_eq!(body, json!({"weight": 0, "why": "48 of 48 slots lost"}));
    }
}
