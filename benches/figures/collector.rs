//! The collector that the measured agents push to: aviary's own, in the measuring process.

use aviary_collector::{Options, Server};
use aviary_probe::SystemClock;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

/// A collector that runs while this is held.
pub(crate) struct Collector {
    /// Its base URL.
    pub(crate) url: String,
    collector: aviary_collector::Collector,
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
        let collector = aviary_collector::Collector::new(Options::default(), SystemClock);
        let server = collector.serve(listener);
        drop(entered);
        Ok(Self { url, collector, _runtime: runtime, _server: server })
    }

    /// How many reports it has taken.
    pub(crate) fn reports(&self) -> u64 {
        self.collector.standing().1.reports
    }
}
