//! Webhooks: signed as the standard has it, and sent to public addresses only unless told otherwise.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use aviary_notify::{Event, Kind, Page, Reason, Retry, Secret, Url, Webhook};

use crate::support::{
    AT, page, send,
    server::{Request, Server, ok},
};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Verifies as a receiver in another language would, and prints what the body says.
const VERIFY: &str = r#"
import base64, hashlib, hmac, json, sys
secret, id, timestamp, signatures = sys.argv[1:]
body = sys.stdin.buffer.read()
key = base64.b64decode(secret.removeprefix("whsec_"))
expected = base64.b64encode(hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()).decode()
assert any(hmac.compare_digest(f"v1,{expected}", one) for one in signatures.split(" ")), "wrong signature"
print(json.loads(body)["type"])
"#;

fn webhook(url: Url, allow_private: bool) -> Kind {
    Kind::Webhook(Webhook { url, secret: Secret::new(SECRET), allow_private })
}

/// What Python makes of a request: the type that it verified, or nothing.
pub(crate) fn verified(request: &Request) -> Option<String> {
    let header = |name: &str| &request.headers[name];
    let mut python = Command::new("python3")
        .args(["-c", VERIFY, SECRET])
        .args([header("webhook-id"), header("webhook-timestamp"), header("webhook-signature")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(request.body.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[tokio::test]
async fn another_implementation_verifies_the_signature() {
    let mut server = Server::start(|_| ok("")).await;
    let test = Page { test: true, summary: "ingest: größer \"als\" je".to_owned(), ..page(Event::Opened) };
    for (page, kind) in [
        (page(Event::Opened), "incident.opened"),
        (page(Event::Updated), "incident.updated"),
        (page(Event::Resolved), "incident.resolved"),
        (test, "test"),
    ] {
        send(webhook(server.url("/hook"), true), &page).await.unwrap();
        let mut request = server.asked().await;
        assert_eq!(verified(&request).as_deref(), Some(kind));
        assert_eq!(request.headers["webhook-timestamp"], AT.second().to_string());
        request.body.push(' ');
        assert_eq!(verified(&request), None, "a body that was changed does not verify");
    }
}

#[tokio::test]
async fn the_id_is_the_same_for_each_attempt_and_another_for_each_message() {
    let mut server = Server::start(|_| ok("")).await;
    let mut ids = Vec::new();
    for event in [Event::Opened, Event::Opened, Event::Updated] {
        let receipt = send(webhook(server.url("/hook"), true), &page(event)).await.unwrap();
        let id = server.asked().await.headers["webhook-id"].clone();
        assert_eq!(receipt.reference.as_ref(), Some(&id));
        ids.push(id);
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[tokio::test]
async fn a_name_that_leads_home_is_refused_before_a_byte_is_sent() {
    let mut server = Server::start(|_| ok("")).await;
    let url: Url = format!("http://localhost:{}/hook", server.port()).parse().unwrap();
    let refused = send(webhook(url.clone(), false), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::PrivateAddress, Retry::Never), "{}", refused.text);
    assert!(refused.text.contains("set `allow_private = true`"), "{}", refused.text);
    assert_eq!(server.unseen(), 0);
    send(webhook(url, true), &page(Event::Opened)).await.unwrap();
    assert_eq!(server.unseen(), 1);
}
