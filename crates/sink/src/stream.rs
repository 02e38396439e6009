//! Datapoints out of a stream of bytes: lines, or frames of pickle.

use std::{future::Future, io, pin::pin, time::Duration};

use aviary_wire::{datapoint::LINE_BYTES_MAX, pickle};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tracing::debug;

use crate::{counts::Count, intake::Intake};

/// How long a peer may take for a whole line, frame, request or handshake. A time for each byte would let a peer that
/// sends one now and then hold its connection for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How much is read at a time; one datapoint, as a prober sends it, fits many times.
const READ_BYTES: usize = 2048;

/// How long a peer may take to close its half once it has its answer.
const LINGER: Duration = Duration::from_secs(2);

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed its half, and everything it sent was read.
    Closed,
    /// The stream cannot be read on; the peer must not take it for read.
    Cut,
}

/// Reads `stream` to its end and hands on what it brings.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin), intake: &Intake) -> End {
    if intake.protocol.is_pickle() {
        read_frames(stream, intake).await
    } else {
        read_lines(stream, intake).await
    }
}

async fn read_lines(stream: &mut (impl AsyncRead + Unpin), intake: &Intake) -> End {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    // Whether what comes up to the next newline belongs to a line that was already refused as too long.
    let mut in_long_line = false;
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    loop {
        buffer.reserve(READ_BYTES / 2);
        let from = buffer.len();
        match more(stream, &mut buffer, patience.as_mut(), intake).await {
            Some(0) if buffer.is_empty() && !in_long_line => return End::Closed,
            Some(0) => {
                intake.count(Count::Unfinished);
                return End::Closed;
            }
            Some(_) => {}
            None => return End::Cut,
        }
        let Some(newline) = buffer[from..].iter().rposition(|byte| *byte == b'\n') else {
            if in_long_line {
                buffer.clear();
            } else if buffer.len() >= LINE_BYTES_MAX {
                intake.refuse_long_line(buffer.len());
                in_long_line = true;
                buffer.clear();
            }
            continue;
        };
        intake.be_slow().await;
        let end = from + newline;
        for line in buffer[..end].split(|byte| *byte == b'\n').skip(usize::from(in_long_line)) {
            // What is refused is counted and said where that is found out; the lines behind it are good.
            intake.take_line(line).ok();
        }
        in_long_line = false;
        buffer.drain(..=end);
        patience.set(tokio::time::sleep(PATIENCE));
    }
}

async fn read_frames(stream: &mut (impl AsyncRead + Unpin), intake: &Intake) -> End {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    loop {
        let needed = match buffer.first_chunk().map(|header| pickle::frame_length(*header)) {
            None => pickle::HEADER_BYTES,
            Some(Ok(bytes)) => pickle::HEADER_BYTES + bytes,
            Some(Err(error)) => {
                intake.count(Count::BadFrame);
                debug!(protocol = %intake.protocol, "refused: {error}");
                return End::Cut;
            }
        };
        let Some(_room) = intake.room_for(needed) else {
            intake.count(Count::Overflowed);
            return End::Cut;
        };
        while buffer.len() < needed {
            // No more than has come is set aside: a length is only a claim.
            buffer.reserve(READ_BYTES);
            match more(stream, &mut buffer, patience.as_mut(), intake).await {
                Some(0) if buffer.is_empty() => return End::Closed,
                Some(0) => {
                    intake.count(Count::Unfinished);
                    return End::Closed;
                }
                Some(_) => {}
                None => return End::Cut,
            }
        }
        if needed > pickle::HEADER_BYTES {
            intake.be_slow().await;
            intake.take_pickle(&buffer[pickle::HEADER_BYTES..needed]).ok();
            buffer.drain(..needed);
            // The room for a large frame is given back now, and so is its memory.
            buffer.shrink_to(2 * READ_BYTES);
            patience.set(tokio::time::sleep(PATIENCE));
        }
    }
}

/// Reads what has come; 0 at the end, `None` where there is no end worth the name.
async fn more(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    patience: impl Future<Output = ()>,
    intake: &Intake,
) -> Option<usize> {
    tokio::select! {
        biased;
        read = stream.read_buf(buffer) => match read {
            Ok(bytes) => Some(bytes),
            // A TLS peer that closed without saying so; what came before was authentic.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(0),
            Err(error) => {
                intake.count(Count::Broken);
                debug!(protocol = %intake.protocol, "connection broke: {error}");
                None
            }
        },
        () = patience => {
            intake.count(Count::Idle);
            None
        }
    }
}

/// Closes a connection whose last answer is written. What the peer still sends, be it its `close_notify`, is read
/// first: closing over it would reset the connection and take the answer along.
pub(crate) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.shutdown().await.ok();
    let drain = async {
        let mut left = pickle::FRAME_BYTES_MAX;
        let mut buffer = [0; 1024];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(bytes);
            if left == 0 {
                break;
            }
        }
    };
    timeout(LINGER, drain).await.ok();
}
