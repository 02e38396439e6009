//! Datapoints out of HTTP requests, in the shape that Hosted Graphite documents: `POST` or `PUT`, lines in the body,
//! the API key as the user of Basic authentication, 202 with an empty body.

use std::{convert::Infallible, sync::Arc};

use aviary_wire::pickle;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tracing::debug;

use crate::{
    Misbehaviour,
    connection::Stream,
    counts::Count,
    intake::{Intake, Refused},
    stream::{self, PATIENCE},
};

/// The longest body: a batch, as large as a pickle may be.
const BODY_BYTES_MAX: usize = pickle::FRAME_BYTES_MAX;

/// The content type of a pickle in a body, without a length before it; that of go-carbon's HTTP receiver.
const PICKLE_TYPE: &[u8] = b"application/python-pickle";

/// Serves requests until the peer has no more.
pub(crate) async fn serve(stream: impl Stream, intake: &Arc<Intake>) {
    let answer = service_fn(|request| {
        let intake = Arc::clone(intake);
        async move { Ok::<_, Infallible>(answer(request, &intake).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        // A prober may close its half behind its request and still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer)
        .without_shutdown()
        .await;
    match served {
        Ok(parts) => stream::close(parts.io.into_inner()).await,
        Err(error) => {
            intake.count(if error.is_timeout() { Count::Idle } else { Count::Broken });
            debug!(protocol = %intake.protocol, "connection broke: {error}");
        }
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, intake: &Intake) -> Answer {
    let answer = match read(request, intake).await {
        Ok((parts, body)) => {
            intake.be_slow().await;
            take(&parts, &body, intake)
        }
        Err(answer) => answer,
    };
    if answer.status().is_client_error() {
        intake.count(Count::Requests);
    }
    answer
}

/// The request with its whole body: also one that is going to be refused is read, or the peer would see a reset instead
/// of the answer.
async fn read(
    request: Request<Incoming>,
    intake: &Intake,
) -> Result<(hyper::http::request::Parts, Bytes), Answer> {
    let (parts, body) = request.into_parts();
    let expected =
        body.size_hint().upper().map_or(BODY_BYTES_MAX, |bytes| bytes.min(BODY_BYTES_MAX as u64) as usize);
    let Some(_room) = intake.room_for(expected) else {
        intake.count(Count::Overflowed);
        return Err(say(
            StatusCode::SERVICE_UNAVAILABLE,
            "too much is being read at once; send it again later\n",
        ));
    };
    match timeout(PATIENCE, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok((parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(say(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("at most {BODY_BYTES_MAX} bytes are taken at once\n"),
        )),
        Ok(Err(_)) => Err(say(StatusCode::BAD_REQUEST, "the body ends before its announced length\n")),
        Err(_) => Err(say(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n")),
    }
}

fn take(parts: &hyper::http::request::Parts, body: &[u8], intake: &Intake) -> Answer {
    if let Misbehaviour::Status(status) = intake.how() {
        return say(
            StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            "told to misbehave\n",
        );
    }
    if !matches!(parts.method, Method::POST | Method::PUT) {
        let mut answer = say(StatusCode::METHOD_NOT_ALLOWED, "send datapoints with POST or PUT\n");
        answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST, PUT"));
        return answer;
    }
    if !is_allowed(&parts.headers, intake.keys()) {
        let mut answer =
            say(StatusCode::UNAUTHORIZED, "send the API key as the user of Basic authentication\n");
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Basic realm=\"graphite\""));
        return answer;
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let taken = if content_type.starts_with(PICKLE_TYPE) {
        take_pickle(body, intake)
    } else {
        take_lines(body, intake)
    };
    match taken {
        Ok(()) => say(StatusCode::ACCEPTED, ""),
        Err(reason) => say(StatusCode::BAD_REQUEST, reason),
    }
}

fn take_pickle(body: &[u8], intake: &Intake) -> Result<(), String> {
    intake.take_pickle(body).map_err(|(refused, first)| reason(refused, None, &first))
}

/// Good lines are handed on whatever is wrong with others. The last needs no newline: the body's length says that it is
/// whole.
fn take_lines(body: &[u8], intake: &Intake) -> Result<(), String> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let (mut refused, mut first) = (0, None);
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if let Err(why) = intake.take_line(line) {
            refused += 1;
            first.get_or_insert((index + 1, why));
        }
    }
    first.map_or(Ok(()), |(line, why)| Err(reason(refused, Some(line), &why)))
}

fn reason(refused: usize, line: Option<usize>, first: &Refused) -> String {
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{refused} refused, the others taken; the first: {place}{first}\n")
}

fn say(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer
}

/// Whether the request's Basic user is one of `keys`; without keys everybody is.
fn is_allowed(headers: &HeaderMap, keys: &[String]) -> bool {
    if keys.is_empty() {
        return true;
    }
    let user = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = value.split_once(' ')?;
        let decoded = BASE64_STANDARD.decode(credentials.trim()).ok()?;
        let user = decoded.split(|byte| *byte == b':').next()?.to_vec();
        scheme.eq_ignore_ascii_case("basic").then_some(user)
    };
    user().is_some_and(|user| keys.iter().fold(false, |known, key| known | is_same(key.as_bytes(), &user)))
}

/// Whether two secrets are the same, in a time that says nothing of where they differ.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differing, (left, right)| differing | left ^ right) == 0
}
