//! aviary's own sink as the front of a service: it hands on to a real carbon what it takes, and misbehaves when told to.

use std::{io, net::SocketAddr};

use aviary_core::Protocol;
use aviary_probe::SystemClock;
use aviary_sink::{Addresses, Arrival, Identity, Misbehaviour, Options, Sink};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::mpsc::Receiver,
};

/// Takes lines until it is dropped; then connections are refused.
pub(super) struct Front {
    sink: Sink,
    runtime: Runtime,
}

impl Front {
    /// Opens it at `address` before `carbon`'s line port.
    #[track_caller]
    pub(super) fn open(address: SocketAddr, carbon: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads and files are left");
        let identity = Identity::self_signed().expect("a certificate can be made");
        let listen = Addresses { tcp: Some(address), ..Addresses::default() };
        let started = runtime.block_on(Sink::start(Options::new(listen, identity), SystemClock));
        let (sink, arrivals) = started.unwrap_or_else(|error| panic!("{error}"));
        // Where carbon is gone, what is taken is lost, and found to be.
        runtime.spawn(async move { _ = hand_on(arrivals, carbon).await });
        Self { sink, runtime }
    }

    /// Misbehaves so from the next connection on.
    #[track_caller]
    pub(super) fn misbehave(&self, how: Misbehaviour) {
        let obeyed = self.runtime.block_on(self.sink.misbehave(Protocol::Tcp, how));
        obeyed.unwrap_or_else(|error| panic!("{how}: {error}"));
    }
}

async fn hand_on(mut arrivals: Receiver<Arrival>, carbon: SocketAddr) -> io::Result<()> {
    let mut carbon = TcpStream::connect(carbon).await?;
    while let Some(Arrival { name, second, value, .. }) = arrivals.recv().await {
        carbon.write_all(format!("{name} {value} {second}\n").as_bytes()).await?;
    }
    Ok(())
}
