//! What is made of answers, given by a server that says what it is told to say.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::*;
use crate::readback::{Credentials, Reader as Api};

const AT: u64 = 1_763_690_400;

/// A server that gives these answers, one a connection, and the requests as they came.
async fn server(answers: Vec<String>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel(16);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            loop {
                let mut chunk = [0; 4_096];
                let read = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                let length = text
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
                if read == 0 || body.is_some() && body == length {
                    break;
                }
            }
            sender.try_send(String::from_utf8(request).unwrap()).unwrap();
            // A client that had enough closes first.
            _ = stream.write_all(answer.as_bytes()).await;
            _ = stream.shutdown().await;
        }
        // What is not answered hangs.
        let _open = listener.accept().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    (url, requests)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn options(url: &str, resolution_seconds: u64) -> Readback {
    aviary_probe::install_crypto_provider();
    Readback {
        reader: Api::Graphite { resolution_seconds, sum: ":sum".to_owned() },
        url: url.parse().unwrap(),
        credentials: Credentials::None,
        ca: None,
        settle_seconds: 5,
    }
}

fn reader(url: &str, resolution: u64) -> Graphite {
    Graphite::new(&options(url, resolution), resolution, ":sum").unwrap()
}

/// What is made of `answer` to a question for four seconds of `a` and `b`.
async fn read(answers: &[String]) -> Result<Vec<Said>, Unreadable> {
    let (url, _requests) = server(answers.to_vec()).await;
    reader(&url, 1).read(&["a".into(), "b".into()], Span::new(Second(AT), Second(AT + 4))).await
}

fn series(name: &str, points: &[(&str, u64)]) -> String {
    let points: Vec<String> =
        points.iter().map(|(value, offset)| format!("[{value}, {}]", AT + offset)).collect();
    format!(r#"{{"target": "{name}", "tags": {{"name": "{name}"}}, "datapoints": [{}]}}"#, points.join(", "))
}

#[tokio::test]
async fn null_nothing_and_zero_are_different_things() {
    let a = series("a", &[("1.0", 0), ("null", 1), ("0.0", 2), ("1e9999", 3)]);
    let said = read(&[http("200 OK", &format!("[{a}]"))]).await.unwrap();
    let slots = [(0, 1.0), (2, 0.0), (3, f64::INFINITY)].map(|(offset, value)| (Second(AT + offset), value));
    assert_eq!(said, [Said::Slots(slots.to_vec()), Said::Absent]);
    assert_eq!(read(&[http("200 OK", "[]")]).await.unwrap(), [Said::Absent, Said::Absent]);
}

#[tokio::test]
async fn larger_slots_are_named_and_not_read() {
    let b = series("b", &[("1", 0), ("1", 1), ("1", 2), ("1", 3)]);
    let coarse = series("a", &[("1", 0), ("1", 2)]);
    let said = read(&[http("200 OK", &format!("[{b}, {coarse}]"))]).await.unwrap();
    assert_eq!((&said[0], matches!(said[1], Said::Slots(_))), (&Said::Coarse(2), true));
    // One slot shows no size: it is asked for over a longer span.
    let one = format!("[{}, {b}]", series("a", &[("1", 60)]));
    let wide = format!("[{}]", series("a", &[("null", 0), ("1", 60), ("1", 120)]));
    let said = read(&[http("200 OK", &one), http("200 OK", &wide)]).await.unwrap();
    assert_eq!(said[0], Said::Coarse(60));
}

#[tokio::test]
async fn what_is_no_answer_says_why() {
    let all = [("1", 0), ("1", 1), ("1", 2), ("1", 3)];
    let short = format!("[{}]", series("a", &all[..3]));
    let shifted = format!("[{}]", series("a", &[("1", 1), ("1", 2), ("1", 3), ("1", 4)]));
    let huge = format!("[{}]", " ".repeat(100_000));
    let table = [
        (http("500 Internal Server Error", "Traceback"), "answers 500: its own storage may be unreachable"),
        (http("503 Service Unavailable", ""), "answers 503"),
        (http("302 Found", ""), "redirects are not followed"),
        (http("401 Unauthorized", ""), "are the credentials"),
        (http("200 OK", "<!DOCTYPE html><title>Log in"), "it begins `<!DOCTYPE html>"),
        (http("200 OK", r#"{"error": 1}"#), "does not answer as graphite-web does"),
        (http("200 OK", "[").replace("Content-Length: 1", "Content-Length: 9"), "cannot be reached"),
        (http("200 OK", &short), "its clock or a cache is behind"),
        (http("200 OK", &huge), "that the question can need"),
        (String::new(), "cannot be reached"),
    ];
    for (answer, expected) in table {
        let error = read(&[answer]).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.starts_with("http://127.0.0.1:"), "{error}");
    }
    let error = read(&[http("200 OK", &shifted), http("200 OK", &shifted)]).await.unwrap_err().to_string();
    assert!(error.contains("not those of the seconds that were asked for"), "{error}");
    let error =
        reader("http://127.0.0.1:1", 1).read(&["a".into()], Span::new(Second(AT), Second(AT + 4))).await;
    assert!(error.unwrap_err().to_string().contains("Connection refused"));
}

#[tokio::test]
async fn a_server_that_is_silent_is_not_waited_for() {
    let error = read(&[]).await.unwrap_err();
    assert!(matches!(error, Unreadable::Timeout { seconds: 3, .. }), "{error}");
}

#[tokio::test]
async fn the_question_is_what_graphite_takes_literally() {
    let (url, mut requests) = server(vec![http("200 OK", "[]"), http("200 OK", "[]")]).await;
    let span = Span::new(Second(AT), Second(AT + 60));
    reader(&url, 1).read(&["a.b-c_d".into(), "b".into()], span).await.unwrap();
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("POST /render HTTP/1.1\r\n"), "{request}");
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let (from, until) = (AT - 1, AT + 59);
    assert_eq!(body, format!("format=json&noCache=1&from={from}&until={until}&target=a.b-c_d&target=b"));
    reader(&url, 30).read(&["a".into()], span).await.unwrap();
    let request = requests.recv().await.unwrap();
    let until = AT + 30;
    assert!(request.ends_with(&format!("&from={from}&until={until}&target=a%3Asum")), "{request}");
}

#[tokio::test]
async fn credentials_are_sent_and_shown_nowhere() {
    let table = [
        (Credentials::Bearer("hunter2".into()), "/render", "authorization: Bearer hunter2\r\n"),
        (
            Credentials::Basic("me".into(), "hunter2".into()),
            "/render",
            "authorization: Basic bWU6aHVudGVyMg==\r\n",
        ),
        (Credentials::InPath("hunter2".into()), "/u/hunter2/graphite/render", ""),
    ];
    for (credentials, path, header) in table {
        assert!(!format!("{credentials:?}").contains("hunter2"));
        let (url, mut requests) = server(vec![http("403 Forbidden", "")]).await;
        let place = if path == "/render" { "" } else { "/u/{key}/graphite" };
        let options = Readback { credentials, ..options(&format!("{url}{place}"), 1) };
        let reader = Graphite::new(&options, 1, "").unwrap();
        let span = Span::new(Second(AT), Second(AT + 8));
        let error = reader.read(&["a".into()], span).await.unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let request = requests.recv().await.unwrap();
        assert!(request.starts_with(&format!("POST {path} ")) && request.contains(header), "{request}");
        // Nobody is there any more.
        let gone = Readback { url: format!("http://127.0.0.1:1{place}").parse().unwrap(), ..options };
        let error = Graphite::new(&gone, 1, "").unwrap().read(&["a".into()], span).await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let bad = Readback { credentials: Credentials::InPath("../x".into()), ..options("http://h/{key}", 1) };
    assert!(Graphite::new(&bad, 1, "").is_err());
}
