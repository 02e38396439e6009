//! One connection, from accept to close, well behaved or not.

use std::{sync::Arc, time::Duration};

use aviary_core::Protocol;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::debug;

use crate::{
    Misbehaviour,
    counts::Count,
    handshake, https,
    intake::Intake,
    stream::{self, End, PATIENCE},
};

/// How long a connection that is never to be closed is held at most, so that one told to misbehave and forgotten does
/// not keep sockets of peers long gone.
const HOLD_MAX: Duration = Duration::from_secs(600);

/// From byte to byte in a tar pit.
const TAR_PIT_PACE: Duration = Duration::from_secs(1);

/// A connection with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection under it.
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves one accepted connection to its end.
pub(crate) async fn serve(tcp: TcpStream, tls: Option<TlsAcceptor>, intake: Arc<Intake>) {
    intake.count(Count::Connections);
    // Answers are single small writes: waiting to join them would only delay what the peer measures.
    tcp.set_nodelay(true).ok();
    let how = intake.how();
    if how == Misbehaviour::StallHandshake {
        return hold(&tcp, how, &intake).await;
    }
    let Some(tls) = tls else {
        return converse(tcp, how, &intake).await;
    };
    if let Some(flaw) = handshake::Flaw::of(how) {
        return handshake::spoil(tcp, flaw, &tls).await;
    }
    match timeout(PATIENCE, tls.accept(tcp)).await {
        Ok(Ok(stream)) => converse(stream, how, &intake).await,
        Ok(Err(error)) => {
            intake.count(Count::Handshakes);
            debug!(protocol = %intake.protocol, "handshake failed: {error}");
        }
        Err(_) => intake.count(Count::Handshakes),
    }
}

async fn converse<S: Stream>(mut stream: S, how: Misbehaviour, intake: &Arc<Intake>) {
    match how {
        Misbehaviour::NeverRead => hold(stream.tcp(), how, intake).await,
        Misbehaviour::TarPit => tar_pit(stream, how, intake).await,
        Misbehaviour::ReadThenReset => {
            timeout(PATIENCE, stream.read(&mut [0; 1024])).await.ok();
            reset(&stream);
        }
        _ if intake.protocol == Protocol::Https => https::serve(stream, intake).await,
        _ => match stream::read(&mut stream, intake).await {
            // Everything was read to the end, so that this is heard as an orderly end: `close_notify` and FIN.
            End::Closed => {
                stream.shutdown().await.ok();
            }
            End::Cut => reset(&stream),
        },
    }
}

/// Lets the drop that follows be a reset instead of an end that looks orderly.
pub(crate) fn reset(stream: &impl Stream) {
    stream.tcp().set_zero_linger().ok();
}

/// Holds a connection, unread, until its peer resets it or the listener is told to behave otherwise.
async fn hold(tcp: &TcpStream, how: Misbehaviour, intake: &Intake) {
    tokio::select! {
        _ = tcp.ready(Interest::ERROR) => {}
        () = intake.otherwise_than(how) => {}
        () = tokio::time::sleep(HOLD_MAX) => {}
    }
}

async fn tar_pit(mut stream: impl Stream, how: Misbehaviour, intake: &Intake) {
    let pit = async {
        loop {
            match stream.read(&mut [0; 1]).await {
                Ok(0) => return hold(stream.tcp(), how, intake).await,
                Ok(_) => {}
                Err(_) => return,
            }
            if timeout(TAR_PIT_PACE, hold(stream.tcp(), how, intake)).await.is_ok() {
                return;
            }
        }
    };
    tokio::select! {
        () = pit => {}
        () = intake.otherwise_than(how) => {}
        () = tokio::time::sleep(HOLD_MAX) => {}
    }
}
