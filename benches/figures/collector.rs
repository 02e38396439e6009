//! The collector that the measured agents push to: aviary's own, in the measuring process or one of its own.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use aviary_collector::{Listener, Options, Server};
use aviary_probe::SystemClock;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

/// What a collector is asked of its ledger: less than it holds.
pub(crate) const LEDGER_SECONDS: u64 = 600;

/// A collector that runs while this is held.
pub(crate) struct Collector {
    /// Its base URL.
    pub(crate) url: String,
    collector: aviary_collector::Collector,
    received: Arc<AtomicU64>,
    _runtime: Runtime,
    _server: Server,
}

impl Collector {
    /// Starts a collector on a free port.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let collector = aviary_collector::Collector::new(Options::default(), SystemClock)?;
        let received = Arc::<AtomicU64>::default();
        let server = collector.serve(Counting { listener, received: Arc::clone(&received) });
        drop(entered);
        Ok(Self { url, collector, received, _runtime: runtime, _server: server })
    }

    /// How many reports it has taken.
    pub(crate) fn reports(&self) -> u64 {
        self.collector.standing().1.reports
    }

    /// How many bytes it has received: bodies of reports, with the heads of their requests.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// What became of the slots of the newest minutes that are closed, as the collector knows it.
    pub(crate) fn ledger(&self) -> BTreeMap<String, u64> {
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        for (_, window) in self.collector.by_protocol(self.collector.newest_closed(LEDGER_SECONDS)) {
            let counts = [
                ("scheduled", window.scheduled),
                ("delivered", window.delivered),
                ("lost", window.lost),
                ("local", window.local),
                ("missed", window.missed),
                ("unknown", window.unknown),
            ];
            for (class, count) in counts {
                *classes.entry(class.to_owned()).or_default() += count;
            }
        }
        classes
    }
}

/// A listener that counts what its connections receive.
struct Counting {
    listener: TcpListener,
    received: Arc<AtomicU64>,
}

impl Listener for Counting {
    type Io = CountingStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CountingStream, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (CountingStream { stream, received: Arc::clone(&self.received) }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct CountingStream {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for CountingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CountingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
