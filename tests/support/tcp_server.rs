//! A TCP server that takes what comes, reads it to the end and closes, and notes from where it came.

use std::{
    collections::BTreeSet,
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Listens until it is dropped; then connections are refused.
pub(crate) struct TcpServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    peers: Mutex<BTreeSet<IpAddr>>,
    connections: AtomicU64,
    is_over: AtomicBool,
}

impl TcpServer {
    /// Listens at `address`.
    #[track_caller]
    pub(crate) fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        listener.set_nonblocking(true).expect("it is our socket");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<State>::default();
        let serving = Arc::clone(&state);
        Self { address, state, thread: Some(thread::spawn(move || serve(&listener, &serving))) }
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses from which connections came.
    pub(crate) fn peers(&self) -> BTreeSet<IpAddr> {
        self.state.peers.lock().unwrap().clone()
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, state: &State) {
    while !state.is_over.load(Ordering::Relaxed) {
        let Ok((mut stream, peer)) = listener.accept() else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        state.peers.lock().unwrap().insert(peer.ip());
        state.connections.fetch_add(1, Ordering::Relaxed);
        // A prober closes its side at once; who does not is held for half a second.
        _ = stream.set_nonblocking(false);
        _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
        _ = stream.read_to_end(&mut Vec::new());
    }
}
