//! The loop with a real receiver: a page on the wire, and what the other end says.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aviary_core::page::Sent;
use aviary_notify::{Kind, PagerDuty, Receiver, Secret, Settings};
use aviary_probe::SystemClock;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

use super::*;

/// What is surely long enough on loopback.
const SOON: Duration = Duration::from_secs(30);

/// Keeps one incident, and hands on what is reported.
struct Once {
    incident: Incident,
    reported: mpsc::Sender<Ended>,
}

impl Desk for Once {
    fn look_up(&self, _: &Id, _: &str) -> Option<Subject> {
        Some(subject(&self.incident, None))
    }

    async fn ended(&self, ended: Ended) {
        self.reported.send(ended).await.unwrap();
    }

    async fn acknowledge(&self, _: &str, _: String) -> bool {
        false
    }
}

/// PagerDuty, played at `address`.
fn pager_duty(address: SocketAddr) -> Receiver {
    aviary_probe::install_crypto_provider();
    let url = format!("http://{address}/v2/enqueue").parse().unwrap();
    let kind = Kind::PagerDuty(PagerDuty { url, key: Secret::new("routing-key") });
    Receiver::new(Settings { name: "pager".to_owned(), kind, template: None }, &[]).unwrap()
}

/// Takes one request, and answers that it took the event. The request's body.
async fn take_one(listener: &TcpListener) -> serde_json::Value {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line).await.unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let answer = r#"{"status":"success","message":"Event processed","dedup_key":"k"}"#;
    let head =
        format!("HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    stream.write_all((head + answer).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn a_page_reaches_a_real_receiver_and_its_receipt_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut judge = Judge::new();
    let notice = judge.sees(&[lost("ingest", "protocol=udp")], 9).remove(0);
    let (reported, mut reports) = mpsc::channel(1);
    let desk = Arc::new(Once { incident: judge.one().clone(), reported });
    let sender = Arc::new(Sender::new(desk, SystemClock, [("pager".to_owned(), pager_duty(address))]));
    let (orders, taken) = mpsc::channel(1);
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn(Arc::clone(&sender).run(taken, stopped));
    let ordered = |message| {
        let mut order = order(&notice, message);
        order.attempt.since = aviary_core::Clock::wall(&SystemClock);
        order
    };

    orders.send(ordered(Message::Opened)).await.unwrap();
    let event = timeout(SOON, take_one(&listener)).await.unwrap();
    assert_eq!((&event["event_action"], &event["routing_key"]), (&"trigger".into(), &"routing-key".into()));
    assert_eq!(event["dedup_key"], notice.key);
    let text = event["payload"]["custom_details"]["text"].as_str().unwrap();
    assert!(
        text.starts_with(
            "ingest: udp in every region (6/6), 100 % lost; nothing else\nSince 2026-11-21T03:14:52Z"
        ),
        "{text}"
    );
    let ended = reports.recv().await.unwrap();
    assert_eq!(ended.sent, Sent::Taken { say_again: None });
    assert!(ended.receipt.unwrap().starts_with("took `opened`: "));

    // Nobody listens there: it was surely not taken.
    sender.configure([("pager".to_owned(), pager_duty(([127, 0, 0, 1], 1).into()))]);
    orders.send(ordered(Message::Resolved)).await.unwrap();
    let ended = reports.recv().await.unwrap();
    assert_eq!((ended.sent, ended.receipt), (Sent::NotTaken { retry_after: None }, None));

    // The receiver has another address by now.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    sender.configure([("pager".to_owned(), pager_duty(listener.local_addr().unwrap()))]);
    orders.send(ordered(Message::Resolved)).await.unwrap();
    let event = timeout(SOON, take_one(&listener)).await.unwrap();
    assert_eq!(
        (&event["event_action"], &event["dedup_key"]),
        (&"resolve".into(), &notice.key.as_str().into())
    );
    assert_eq!(reports.recv().await.unwrap().sent, Sent::Taken { say_again: None });

    sender.configure([]);
    orders.send(ordered(Message::Resolved)).await.unwrap();
    let why = "receiver `pager` is not in the configuration any more".to_owned();
    assert_eq!(reports.recv().await.unwrap().sent, Sent::Refused(why));
    drop(orders);
    running.await.unwrap();
}
