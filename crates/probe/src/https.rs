//! A datapoint in the body of an HTTP/1.1 request, on our own socket: hyper's low-level client shows the phases, opens
//! no pool and spawns nothing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use aviary_core::{Clock, Evidence, Fault, Micros, Phase, Second};
use aviary_wire::line;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    fault::{Failure, http_failure},
    network::Connection,
    steps::{Steps, micros},
    target::Target,
};

/// Posts the line; a status of 2xx says that the application took it.
pub(crate) async fn deliver<S: Connection, C: Clock>(
    connection: S,
    target: &Target,
    second: Second,
    steps: &mut Steps<'_, C>,
) -> Result<Evidence, Failure> {
    let fuse = connection.fuse().clone();
    let started = steps.now();
    let last_write = Arc::new(AtomicU64::new(0));
    let written = || Some(Micros(last_write.load(Ordering::Relaxed))).filter(|at| at.0 > 0);
    let metered = Metered {
        connection,
        clock: steps.clock().clone(),
        last_write: Arc::clone(&last_write),
        answered: false,
        unflushed: false,
    };
    let failed = |error: hyper::Error| http_failure(written().is_some(), &error);

    let clock = steps.clock();
    let mut answered = None;
    let exchange = async {
        let (mut sender, driver) = http1::handshake(TokioIo::new(metered)).await.map_err(failed)?;
        let request = async {
            let response = sender.send_request(request(target, second)).await?;
            let status = response.status();
            answered = Some((status, clock.monotonic()));
            if status.is_success() {
                fuse.take_out();
            }
            // The body is read to its end so that the close is a close, but the status was the answer.
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            Ok(())
        };
        // Both on this task: dropping it at the deadline ends all of it. The driver, and the connection in it, must
        // outlive the request: it can be through with an answer before the request has seen that it is a good one.
        let mut driver = std::pin::pin!(driver);
        let (ended, _) = tokio::join!(request, driver.as_mut());
        ended.map_err(failed)
    };
    let ended = steps.until_deadline(exchange).await;
    let answered = answered.filter(|(_, at)| *at <= steps.deadline());
    // Sending ended with the last write before an answer was there to wait for.
    let sent_at = written().unwrap_or_else(|| steps.now());
    steps.timings.set(Phase::Send, micros(sent_at.since(started)));
    let phase = if written().is_some() {
        steps.reached = Some(Evidence::Sent);
        let confirmed_at = answered.map_or_else(|| steps.now(), |(_, at)| at);
        steps.timings.set(Phase::Confirm, micros(confirmed_at.since(sent_at)));
        Phase::Confirm
    } else {
        Phase::Send
    };
    if let Some((status, _)) = answered {
        let refused = Failure::service(Phase::Confirm, Fault::Status(status.as_u16()));
        return if status.is_success() { Ok(Evidence::AppAcked) } else { Err(refused) };
    }
    steps.in_time(phase)?;
    match ended {
        Some(Err(failure)) => Err(failure),
        _ => Err(Failure::service(phase, Fault::Timeout)),
    }
}

fn request(target: &Target, second: Second) -> Request<Full<Bytes>> {
    let mut body = Vec::new();
    line::encode_into(&mut body, &target.name.0, 1.0, second);
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = hyper::Method::POST;
    // Checked when the endpoint was read: its path and host are those of a URL.
    if let Ok(path) = target.endpoint.path().parse() {
        *request.uri_mut() = path;
    }
    let headers = request.headers_mut();
    if let Ok(host) = target.host_header.parse() {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    headers.insert(
        header::USER_AGENT,
        header::HeaderValue::from_static(concat!("aviary/", env!("CARGO_PKG_VERSION"))),
    );
    if let Some(authorization) = &target.authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    request
}

/// Notes when the request was written: until the first byte of an answer, each flush moves the end of sending.
struct Metered<S, C> {
    connection: S,
    clock: C,
    last_write: Arc<AtomicU64>,
    answered: bool,
    unflushed: bool,
}

impl<S: AsyncRead + Unpin, C: Unpin> AsyncRead for Metered<S, C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(cx, buffer);
        self.answered |= buffer.filled().len() > before;
        read
    }
}

impl<S: AsyncWrite + Unpin, C: Clock + Unpin> AsyncWrite for Metered<S, C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(cx, bytes);
        self.unflushed |= written.is_ready();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.connection).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) && std::mem::take(&mut self.unflushed) && !self.answered {
            self.last_write.store(self.clock.monotonic().0, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
