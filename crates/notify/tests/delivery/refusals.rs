//! What goes wrong on the way, and with answers: refused, with a reason to count by and a word on what to do.

use std::time::Duration;

use aviary_notify::{ATTEMPT_TIMEOUT, Event, Kind, PagerDuty, Reason, Refusal, Retry, Secret, Url};
use tokio::time::Instant;

use crate::support::{
    ATTEMPT,
    certificates::Authority,
    page, receiver, send,
    server::{Reply, Server, answer, ok},
};

const TOOK: &str = r#"{"status":"success"}"#;

fn at(url: Url) -> Kind {
    Kind::PagerDuty(PagerDuty { url, key: Secret::new("e93facc04764012d7bfb002500d5d1a6") })
}

async fn refusal(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Refusal {
    let server = Server::start(move |_| reply()).await;
    send(at(server.url("/v2/enqueue")), &page(Event::Opened)).await.unwrap_err()
}

#[tokio::test]
async fn a_receiver_may_ask_for_time() {
    let limited =
        |headers| move || Reply::Answer { status: "429 Too Many Requests", headers, body: String::new() };
    let refused = refusal(limited("Retry-After: 30\r\n")).await;
    assert_eq!((refused.reason, refused.retry), (Reason::RateLimited, Retry::After(Duration::from_secs(30))));
    assert!(refused.text.ends_with("it asks us to wait 30 s"), "{}", refused.text);
    let date = refusal(limited("Retry-After: Sat, 21 Nov 2026 03:15:20 GMT\r\n")).await;
    assert_eq!(date.retry, Retry::After(Duration::from_secs(20)));
    assert_eq!(refusal(limited("")).await.retry, Retry::Later);
}

#[tokio::test]
async fn an_answer_without_end_is_refused_at_its_bound() {
    let refused = refusal(|| Reply::Flood).await;
    assert_eq!((refused.reason, refused.retry), (Reason::AnswerTooLarge, Retry::Never));
    // One that says at once how long it is is not read at all; and its status still counts.
    let long = refusal(|| answer("503 Service Unavailable", &"x".repeat(100_000))).await;
    assert_eq!((long.reason, long.retry), (Reason::ServerError, Retry::Later));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut elsewhere = Server::start(|_| ok(TOOK)).await;
    let headers: &'static str = format!("Location: {}\r\n", elsewhere.url("/with/a/key")).leak();
    let refused =
        refusal(move || Reply::Answer { status: "307 Temporary Redirect", headers, body: String::new() })
            .await;
    assert_eq!((refused.reason, refused.retry), (Reason::Redirect, Retry::Never));
    assert!(
        refused.text.contains(&format!("points to http://127.0.0.1:{}", elsewhere.port())),
        "{}",
        refused.text
    );
    assert!(!refused.text.contains("with/a/key"), "{}", refused.text);
    assert_eq!(elsewhere.unseen(), 0);
}

#[expect(
    clippy::disallowed_methods,
    reason = "time is paused here, and this is how long the pause would have been"
)]
#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_longer_than_five_seconds() {
    let server = Server::start(|_| Reply::Silence).await;
    let started = Instant::now();
    let refused = send(at(server.url("/")), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::Timeout, Retry::Later));
    assert_eq!(started.elapsed().as_secs(), ATTEMPT_TIMEOUT.as_secs());
}

#[tokio::test]
async fn what_cannot_be_reached_may_be_reached_later() {
    let closed = refusal(|| Reply::Close).await;
    assert_eq!((closed.reason, closed.retry), (Reason::Transport, Retry::Later));
    let nobody = "http://127.0.0.1:1/".parse().unwrap();
    let refused = send(at(nobody), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::Unreachable, Retry::Later));
    let nowhere =
        send(at("http://nowhere.invalid/".parse().unwrap()), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((nowhere.reason, nowhere.retry), (Reason::Unreachable, Retry::Later));
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_is_refused_counted_and_shown() {
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let table = [
        ("localhost", false, &ours, None),
        ("localhost", false, &other, Some("UnknownIssuer")),
        ("elsewhere.example", false, &ours, Some("not valid for")),
        ("localhost", true, &ours, Some("expired")),
    ];
    for (name, expired, trusted, problem) in table {
        let mut server = Server::start_with(Some(ours.acceptor(name, expired)), |_| ok(TOOK)).await;
        let url = format!("https://localhost:{}/v2/enqueue", server.port()).parse().unwrap();
        let sent = receiver(at(url), &[trusted.root()]).send(&page(Event::Opened), ATTEMPT).await;
        match (sent, problem) {
            (Ok(_), None) => assert_eq!(server.unseen(), 1),
            (Err(refused), Some(problem)) => {
                assert_eq!(
                    (refused.reason, refused.retry),
                    (Reason::Certificate, Retry::Later),
                    "{}",
                    refused.text
                );
                assert!(refused.text.contains(problem) && refused.text.contains("`ca`"), "{}", refused.text);
                assert_eq!(server.unseen(), 0);
            }
            (sent, _) => panic!("{name}: {sent:?}"),
        }
    }
}
