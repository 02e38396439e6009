//! A datapoint over TCP or TLS: write, half-close, read to the end.

use std::{
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use aviary_core::{Clock, Evidence, Fault, LocalFault, Phase, Second};
use aviary_wire::{line, pickle};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    fault::{Blame, Failure, Origin, io_failure},
    network::{Connection, Fuse},
    steps::{Inspection, Steps, micros},
    target::Target,
    tls::{self, Handshake, TlsFacts},
};

/// What a peer says after our half-close is thrown away; one that says more than this is not confirming anything.
const DISCARDED_BYTES_MAX: usize = 1 << 20;

/// A peer that closes once it has read our last byte may do so before our half-close reaches it.
const HALF_CLOSE_BYTES: u32 = 1;

/// From look to look for a reset.
const RESET_POLL: Duration = Duration::from_millis(5);

/// A connection with TLS on it.
pub(crate) struct Secure<S>(TlsStream<S>);

/// Shakes hands, in full.
pub(crate) async fn secure<S: Connection, C: Clock>(
    connection: S,
    target: &Target,
    steps: &mut Steps<'_, C>,
) -> Result<Secure<S>, Failure> {
    let Some((client, server)) = &target.tls else { return Err(Failure::local(Phase::Tls, LocalFault::Bug)) };
    let shaken = async {
        connection.set_nodelay()?;
        TlsConnector::from(client.config()).connect(server.clone(), connection).await
    };
    let mut expired = None;
    let shaken = async {
        shaken.await.map_err(|error| {
            expired = TlsFacts::of_expired(&error);
            io_failure(Phase::Tls, Origin::Network, &error)
        })
    };
    let shaken = steps.run(Phase::Tls, shaken).await;
    if steps.inspection != Inspection::Nothing {
        steps.tls = expired;
    }
    let stream = shaken?;
    let session = stream.get_ref().1;
    if steps.inspection == Inspection::Everything {
        steps.tls = Some(TlsFacts::of(session));
    }
    match tls::handshake(session) {
        Handshake::Full => Ok(Secure(stream)),
        Handshake::Resumed | Handshake::Failed => Err(Failure::local(Phase::Tls, LocalFault::Bug)),
    }
}

/// Writes the datapoint, half-closes, and reads until the peer has closed too: it has then read everything.
///
/// Reading to the end is also what gets the datapoint through: with TLS 1.3, tickets that were left unread turn our
/// close into a reset, and proxies throw away what they had not forwarded.
pub(crate) async fn deliver<S: Connection, C: Clock>(
    mut connection: S,
    target: &Target,
    second: Second,
    steps: &mut Steps<'_, C>,
) -> Result<Evidence, Failure> {
    let mut payload = Vec::new();
    if target.endpoint.protocol().is_pickle() {
        pickle::encode_frame_into(&mut payload, &target.name.0, 1.0, second);
    } else {
        line::encode_into(&mut payload, &target.name.0, 1.0, second);
    }
    let sent = async {
        connection.write_all(&payload).await?;
        connection.shutdown().await
    };
    let sent = async { sent.await.map_err(|error| io_failure(Phase::Send, Origin::Network, &error)) };
    steps.run(Phase::Send, sent).await?;
    steps.reached = Some(Evidence::Sent);

    let started = steps.now();
    let closed = steps.until_deadline(closed_behind_us(&mut connection)).await;
    steps.timings.set(Phase::Confirm, micros(steps.now().since(started)));
    let in_time = steps.in_time(Phase::Confirm);
    if let Err(starved @ Failure { blame: Blame::Local(_), .. }) = in_time {
        return Err(starved);
    }
    if let (Some(Ok(())), Ok(())) = (&closed, in_time) {
        connection.fuse().take_out();
        return Ok(Evidence::PeerClosed);
    }
    // The peer did not close. Its kernel may have taken everything, which for some services is all that can be had.
    if connection.unacknowledged().is_ok_and(|bytes| bytes == 0) {
        steps.reached = Some(Evidence::KernelAcked);
        if closed.is_none() && target.counts <= Evidence::KernelAcked {
            connection.fuse().take_out();
            return Ok(Evidence::KernelAcked);
        }
    }
    in_time?;
    match closed {
        Some(Err(error)) => Err(io_failure(Phase::Confirm, Origin::Network, &error)),
        _ => Err(Failure::service(Phase::Confirm, Fault::Timeout)),
    }
}

/// Waits until the peer has closed behind our half-close.
async fn closed_behind_us(connection: &mut impl Connection) -> io::Result<()> {
    read_to_end(connection).await?;
    if connection.unacknowledged()? <= HALF_CLOSE_BYTES {
        return Ok(());
    }
    // An end that does not acknowledge our bytes came before them: the peer closed without having read them, as do
    // overloaded servers and proxies that have no backend. Its kernel answers them with a reset, of which reads do not
    // tell behind an end.
    loop {
        if let Some(error) = connection.error()? {
            return Err(error);
        }
        tokio::time::sleep(RESET_POLL).await;
    }
}

async fn read_to_end(connection: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut discarded = 0;
    let mut buffer = [0; 512];
    while discarded < DISCARDED_BYTES_MAX {
        match connection.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(bytes) => discarded += bytes,
            // Many peers close without a close_notify. Ours was flushed before, so nothing of ours was cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    std::future::pending().await
}

impl<S: Connection> Connection for Secure<S> {
    fn fuse(&self) -> &Fuse {
        self.0.get_ref().0.fuse()
    }

    fn set_nodelay(&self) -> io::Result<()> {
        self.0.get_ref().0.set_nodelay()
    }

    fn unacknowledged(&self) -> io::Result<u32> {
        self.0.get_ref().0.unacknowledged()
    }

    fn error(&self) -> io::Result<Option<io::Error>> {
        self.0.get_ref().0.error()
    }
}

impl<S: Connection> AsyncRead for Secure<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: Connection> AsyncWrite for Secure<S> {
    /// Keeps the bytes until flushed or shut down, so that a datapoint and the end behind it leave in one packet.
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.get_mut().1.writer().write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
