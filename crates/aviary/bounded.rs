//! Connections bounded in number and idleness: whoever opens them, probes and reports keep their files.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

/// Who has sent nothing for so long after connecting is not about to ask.
const FIRST_WORD_MAX: Duration = Duration::from_secs(5);

/// A connection on which nothing comes or goes for so long afterwards is closed: longer than usual intervals of scraping
/// and reporting.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// A listener with those bounds.
pub(crate) struct Bounded<L> {
    listener: L,
    open: Arc<Semaphore>,
}

impl<L: Listener> Bounded<L> {
    /// At most `open_max` connections are open at once; more wait in the kernel's queue.
    pub(crate) fn new(listener: L, open_max: usize) -> Self {
        Self { listener, open: Arc::new(Semaphore::new(open_max)) }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        // It is never closed.
        let Ok(permit) = Arc::clone(&self.open).acquire_owned().await else { std::future::pending().await };
        let (stream, peer) = self.listener.accept().await;
        let idle = Box::pin(tokio::time::sleep(FIRST_WORD_MAX));
        (Connection { stream, idle, _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, Bounded<TcpListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded<TcpListener>>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection that ends when it is idle for too long.
pub(crate) struct Connection<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    fn alive<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            return self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        self.idle.as_mut().reset(now() + IDLE_MAX);
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.alive(context, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.alive(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a connection is idle is nobody's measurement")]
fn now() -> Instant {
    Instant::now()
}
