//! HTTP against servers that say exactly what a test has them say.

use std::{io, net::SocketAddr};

use aviary_core::{Evidence, Fault, Outcome, Phase};
use aviary_probe::{ApiKey, Observation};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    rig::{AT_ONCE_US, NAME, attempt_once, delivered, in_time, lost, target_with, this_second},
    sockets::{accept, listener, read_to_end},
    tls::{Authority, acceptor},
};

/// What is said after a request was read, and whether the connection is then closed.
struct Answer {
    says: &'static str,
    closes: bool,
}

/// One attempt at a server that reads one request and answers it so; returns the request too.
async fn exchange(answer: Answer, key: Option<&ApiKey>) -> (Observation, String) {
    let authority = Authority::new();
    let (listener, address) = listener();
    let acceptor = acceptor(authority.server(&authority.leaf("127.0.0.1")));
    let url = format!("https://{address}/api/v1/sink");
    let target = target_with(&url, &authority.client(), key);
    let server = async || -> io::Result<_> {
        let mut stream = acceptor.accept(accept(&listener).await).await?;
        let request = read_request(&mut stream).await?;
        stream.write_all(answer.says.as_bytes()).await?;
        stream.flush().await?;
        if answer.closes {
            stream.shutdown().await.ok();
        }
        // Until the peer has let go.
        stream.read_to_end(&mut Vec::new()).await.ok();
        let (mut tcp, _) = stream.into_inner();
        read_to_end(&mut tcp).await.1.ok();
        // Behind a reset this fails.
        Ok((request, tcp.write_all(b"x").await))
    };
    let once = async || tokio::join!(attempt_once(&target, this_second()), server());
    let (seen, served) = in_time(once).await;
    let (request, ended) = served.expect("a request, and a peer that listens");
    if matches!(seen.outcome, Outcome::Delivered(_)) && !answer.closes && !answer.says.contains(": 100") {
        ended.unwrap_or_else(|error| {
            panic!("a delivered request ends in order, not in a reset: {error}, {:?}", answer.says)
        });
    }
    (seen, request)
}

/// Reads a request of a known shape: a head, and a body of its announced length.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.expect("a length").parse().expect("a number") {
                return Ok(text.into_owned());
            }
        }
    }
}

#[tokio::test]
async fn the_request_is_what_the_contract_says() {
    let answer = Answer { says: "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", closes: true };
    let (seen, request) = exchange(answer, Some(&ApiKey::new("k3y"))).await;
    assert_eq!(seen.outcome, delivered(Evidence::AppAcked));

    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "POST /api/v1/sink HTTP/1.1");
    lines.sort_unstable();
    let host = SocketAddr::to_string(&seen.address.unwrap());
    let expected = [
        "authorization: Basic azN5Og==".to_owned(),
        "connection: close".to_owned(),
        format!("content-length: {}", body.len()),
        "content-type: text/plain".to_owned(),
        format!("host: {host}"),
        format!("user-agent: aviary/{}", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(lines, expected);
    let fields: Vec<_> = body.strip_suffix('\n').unwrap().split(' ').collect();
    assert_eq!(fields[..2], [NAME, "1"]);
}

#[tokio::test]
async fn the_status_is_the_answer() {
    const OK: Outcome = delivered(Evidence::AppAcked);
    let table = [
        ("a body", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true, OK),
        ("kept alive", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, OK),
        ("an end as the length", "HTTP/1.1 200 OK\r\n\r\nok", true, OK),
        ("chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, OK),
        ("interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", false, OK),
        ("a body cut short", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", true, OK),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", true, OK),
        (
            "a redirect",
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            false,
            lost(Phase::Confirm, Fault::Status(307)),
        ),
        ("no HTTP", "220 mail.example.com ESMTP\r\n\r\n", true, lost(Phase::Confirm, Fault::Status(0))),
        ("nothing", "", true, lost(Phase::Confirm, Fault::Closed)),
        ("half a head", "HTTP/1.1 200 OK\r\nconte", true, lost(Phase::Confirm, Fault::Closed)),
    ];
    for (what, says, closes, outcome) in table {
        let (seen, _) = exchange(Answer { says, closes }, None).await;
        assert_eq!(seen.outcome, outcome, "{what}: {seen:?}");
        assert!(seen.timings.total_us < AT_ONCE_US, "{what}: at once: {:?}", seen.timings);
    }
}

/// The application took the datapoint, and said so in time: what it goes on to say does not undo that.
#[tokio::test]
async fn a_body_without_end_does_not_undo_the_status() {
    let answer = Answer { says: "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok", closes: false };
    let (seen, _) = exchange(answer, None).await;
    assert_eq!(seen.outcome, delivered(Evidence::AppAcked), "{seen:?}");
    assert!(seen.timings.total_us < 1_050_000, "{:?}", seen.timings);

    let answer =
        Answer { says: "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 100\r\n\r\nno", closes: false };
    let (seen, _) = exchange(answer, None).await;
    assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Status(503)), "{seen:?}");
}
