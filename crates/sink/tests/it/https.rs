//! HTTP as Hosted Graphite has it.

use aviary_core::Protocol::Https;
use aviary_sink::Count;
use aviary_wire::pickle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{NOW, Rig, options, request};

/// What the sink answers to a request, as text.
async fn answer(rig: &Rig, request: &[u8]) -> String {
    String::from_utf8(rig.send(Https, request).await.expect("an answer")).expect("text")
}

#[tokio::test]
async fn lines_and_pickles_are_taken_with_post_and_put() {
    let mut rig = Rig::start().await;
    let lines = format!("a.b 1 {NOW}\nc.d 2 {NOW}");
    for method in ["POST", "PUT"] {
        let taken = answer(&rig, &request(method, "", lines.as_bytes())).await;
        assert!(taken.starts_with("HTTP/1.1 202 Accepted\r\n") && taken.ends_with("\r\n\r\n"), "{taken}");
        assert_eq!(rig.names(2).await, ["a.b", "c.d"]);
    }
    let frame = pickle::encode_frame("e.f", 1.0, NOW);
    let taken =
        answer(&rig, &request("POST", "Content-Type: application/python-pickle\r\n", &frame[4..])).await;
    assert!(taken.starts_with("HTTP/1.1 202"), "{taken}");
    assert_eq!(rig.names(1).await, ["e.f"]);
    assert!(
        answer(&rig, &request("POST", "", b"")).await.starts_with("HTTP/1.1 400"),
        "nothing is no datapoint"
    );
}

#[tokio::test]
async fn a_malformed_line_is_said_and_costs_no_other() {
    let mut rig = Rig::start().await;
    let lines = format!("a.b 1 {NOW}\nsecret.x nan {NOW}\nsecret..y 1 {NOW}\nc.d 1 {NOW}\n");
    let refused = answer(&rig, &request("POST", "", lines.as_bytes())).await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    assert!(
        refused.contains("2 refused, the others taken; the first: line 2: the value at byte 9 is NaN"),
        "{refused}"
    );
    assert!(!refused.contains("secret"));
    assert_eq!(rig.names(2).await, ["a.b", "c.d"]);
    assert_eq!(rig.count(Https, Count::BadValue), 1);
    assert_eq!(rig.count(Https, Count::BadName), 1);
    assert_eq!(rig.count(Https, Count::Requests), 1);
}

#[tokio::test]
async fn other_methods_and_large_bodies_are_refused_with_an_answer() {
    let rig = Rig::start().await;
    let refused = answer(&rig, &request("GET", "", b"")).await;
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: POST, PUT"), "{refused}");
    let refused = answer(&rig, &request("POST", "", &vec![b'x'; (1 << 20) + 1])).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    assert_eq!(rig.count(Https, Count::Requests), 2);
}

#[tokio::test]
async fn with_keys_the_basic_user_must_be_one() {
    let mut options = options();
    options.keys = vec!["secret-1".to_owned(), "secret-2".to_owned()];
    let mut rig = Rig::with(options).await;
    let line = format!("a.b 1 {NOW}\n");
    // secret-2: and secret-1:password; secret-3:, secret-1 as a password, and no base64.
    let table = [
        ("Authorization: Basic c2VjcmV0LTI6\r\n", 202),
        ("Authorization: basic c2VjcmV0LTE6cGFzc3dvcmQ=\r\n", 202),
        ("Authorization: Basic c2VjcmV0LTM6\r\n", 401),
        ("Authorization: Basic OnNlY3JldC0x\r\n", 401),
        ("Authorization: Basic !\r\n", 401),
        ("Authorization: Bearer secret-1\r\n", 401),
        ("", 401),
    ];
    for (header, status) in table {
        let answered = answer(&rig, &request("POST", header, line.as_bytes())).await;
        assert!(answered.starts_with(&format!("HTTP/1.1 {status}")), "{header}: {answered}");
        assert!(!answered.contains("secret"));
    }
    rig.names(2).await;
}

#[tokio::test]
async fn a_connection_lives_on_until_the_client_asks_to_close() {
    let mut rig = Rig::start().await;
    let mut stream = rig.open(Https).await.unwrap();
    let kept = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 17\r\n\r\na.b 1 {NOW}\n");
    for _ in 0..2 {
        stream.write_all(kept.as_bytes()).await.unwrap();
        let mut answer = [0; 512];
        let bytes = stream.read(&mut answer).await.unwrap();
        assert!(answer[..bytes].starts_with(b"HTTP/1.1 202"));
        rig.names(1).await;
    }
    stream.write_all(&request("POST", "", format!("a.b 1 {NOW}\n").as_bytes())).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("connection: close"), "{rest}");
}
