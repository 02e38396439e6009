//! The network between the agents and a server, in which some of them get stuck.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Longer than any prober waits.
const HELD: Duration = Duration::from_millis(1_500);

/// Hands connections on to a server and its end back, until it is dropped; then connections are refused.
pub(super) struct Border {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stuck: Mutex<BTreeSet<IpAddr>>,
    is_over: AtomicBool,
}

impl Border {
    /// Opens it at `address` before `server`.
    #[track_caller]
    pub(super) fn open(address: SocketAddr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        listener.set_nonblocking(true).expect("it is our socket");
        let state = Arc::<State>::default();
        let serving = Arc::clone(&state);
        let accept = move || {
            while !serving.is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        let state = Arc::clone(&serving);
                        // A connection that breaks is the prober's to tell.
                        thread::spawn(move || _ = pass(stream, peer.ip(), server, &state));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        };
        Self { state, thread: Some(thread::spawn(accept)) }
    }

    /// What comes from these gets stuck from now on: it is taken and goes nowhere.
    pub(super) fn stick(&self, peers: &[IpAddr]) {
        *self.state.stuck.lock().unwrap() = peers.iter().copied().collect();
    }
}

impl Drop for Border {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn pass(mut stream: TcpStream, peer: IpAddr, server: SocketAddr, state: &State) -> io::Result<()> {
    if state.stuck.lock().unwrap().contains(&peer) {
        thread::sleep(HELD);
        return Ok(());
    }
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HELD))?;
    let mut to = TcpStream::connect(server)?;
    to.set_read_timeout(Some(HELD))?;
    io::copy(&mut stream, &mut to)?;
    to.shutdown(Shutdown::Write)?;
    // carbon answers nothing, and closes what was closed.
    io::copy(&mut to, &mut io::sink())?;
    Ok(())
}
