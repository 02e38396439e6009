//! Answers that are written while they are read: however long, only a little of one is held.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde::Serialize;
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

use crate::{Collector, error::ApiError, history::HistoryError};

/// So many bytes are sent in one go.
const CHUNK_BYTES: usize = 64 << 10;

/// So many chunks may wait to be read.
const CHUNKS_WAITING_MAX: usize = 4;

/// Whoever reads nothing for so long is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an answer is not written to its end.
pub(crate) enum Stop {
    /// Nobody reads it.
    Gone,
    /// It cannot be known.
    Failed(ApiError),
}

impl Stop {
    /// What is told cannot be written down.
    pub(crate) fn unwritable(error: impl std::fmt::Display) -> Self {
        let message = format!("the answer cannot be written: {error}");
        Self::Failed(ApiError::internal(message))
    }
}

impl From<HistoryError> for Stop {
    fn from(error: HistoryError) -> Self {
        Self::Failed(error.into())
    }
}

/// Where an answer is written.
pub(crate) struct Out {
    sender: mpsc::Sender<Result<Bytes, ApiError>>,
    runtime: Handle,
    buffer: Vec<u8>,
}

impl Out {
    /// Appends `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < CHUNK_BYTES { Ok(()) } else { self.flush() }
    }

    /// Appends `value` as JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Stop> {
        serde_json::to_writer(&mut self.buffer, value).map_err(Stop::unwritable)?;
        self.write(b"")
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES + 1_024));
        self.send(Ok(chunk.into()))
    }

    fn send(&self, part: Result<Bytes, ApiError>) -> Result<(), Stop> {
        match self.runtime.block_on(timeout(PATIENCE, self.sender.send(part))) {
            Ok(Ok(())) => Ok(()),
            _ => Err(Stop::Gone),
        }
    }
}

/// The answer that `write` writes, on a thread that may wait. An error before the first bytes left is told as such; after
/// them, the body is cut.
pub(crate) async fn stream(
    collector: &Collector,
    write: impl FnOnce(&mut Out) -> Result<(), Stop> + Send + 'static,
) -> Result<Response, ApiError> {
    let Some(place) = collector.question() else {
        let message = "more questions are asked than can be answered at once; come back in a moment";
        return Err(ApiError::busy(message));
    };
    let (sender, mut parts) = mpsc::channel(CHUNKS_WAITING_MAX);
    let runtime = Handle::current();
    // It ends when it has written all, or when the other end of the channel is gone.
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut out = Out { sender, runtime, buffer: Vec::new() };
        let ended = write(&mut out).and_then(|()| out.flush());
        if let Err(Stop::Failed(error)) = ended {
            // Nobody reads it: then nobody needs to know.
            _ = out.send(Err(error)).is_ok();
        }
    });
    let first = match parts.recv().await {
        Some(first) => first?,
        None => {
            let message = "the answer could not be written; the log says why";
            return Err(ApiError::internal(message));
        }
    };
    let body = match parts.recv().await {
        None => Body::from(first),
        Some(second) => {
            let waiting = [Ok(first), second].into_iter();
            let all = stream::unfold((waiting, parts), async |(mut waiting, mut parts)| {
                let next = match waiting.next() {
                    Some(next) => next,
                    None => parts.recv().await?,
                };
                let next = next.map_err(|error| std::io::Error::other(error.message().to_owned()));
                Some((next, (waiting, parts)))
            });
            Body::from_stream(all)
        }
    };
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], body).into_response())
}
