//! Servers that lose a little: each, in one second of a thousand at random, lets nobody in.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt as _, sink},
    net::TcpListener,
    runtime::Runtime,
    time::{sleep, timeout},
};

use super::ports::Port;

/// Of each second.
const LOST_SHARE: f64 = 0.001;

/// Whoever tries once a second meets it once.
const SHUT: Duration = Duration::from_secs(1);

/// Some servers, until this is dropped.
pub(super) struct Trickle {
    ports: Vec<Port>,
    shut: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Trickle {
    /// Starts `count` servers, which lose as `random` says.
    pub(super) fn start(count: usize, random: &mut Rng) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let ports: Vec<_> = (0..count).map(|_| Port::claim()).collect();
        let shut = Arc::<AtomicU64>::default();
        for port in &ports {
            runtime.spawn(serve(port.address(), random.fork(), Arc::clone(&shut)));
        }
        Ok(Self { ports, shut, _runtime: runtime })
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(Port::address).collect()
    }

    /// How often one has let nobody in for a second.
    pub(super) fn shut(&self) -> u64 {
        self.shut.load(Ordering::Relaxed)
    }
}

async fn serve(address: SocketAddr, mut random: Rng, shut: Arc<AtomicU64>) {
    loop {
        // Exponential: at random and without memory.
        let open = Duration::from_secs_f64(-(1.0 - random.f64()).ln() / LOST_SHARE);
        match TcpListener::bind(address).await {
            // Taking longer than it was to be open is how it ends.
            Ok(listener) => _ = timeout(open, take(listener)).await,
            Err(error) => return tracing::error!(%error, %address, "A server does not come back."),
        }
        shut.fetch_add(1, Ordering::Relaxed);
        sleep(SHUT).await;
    }
}

async fn take(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move { tokio::io::copy(&mut stream.take(1 << 30), &mut sink()).await });
    }
}
