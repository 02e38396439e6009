//! carbon-c-relay, which stands between customers and storage in many a Graphite, and a gate behind it that can be shut.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    ports::Port,
    process::{Process, program},
};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Once it has listened for so long it goes on.
const SETTLED: Duration = Duration::from_secs(1);

/// How often it is started again.
const RESTARTS: usize = 5;

/// carbon-c-relay with lines over TCP and UDP in front, that forwards over TCP.
///
/// It answers every connection for itself, collects for up to a quarter of a second, queues 25,000 datapoints while it cannot
/// forward, and adds statistics of its own once a minute.
pub(crate) struct Relay {
    process: Process,
    port: Port,
    _dir: TempDir,
}

impl Relay {
    /// Starts it with these rules before the one that forwards everything to `sink`, a cluster that they may name.
    #[track_caller]
    pub(crate) fn start(destination: SocketAddr, rules: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("aviary-relay-").tempdir().expect("a temporary directory");
        let port = Port::claim();
        let front = port.address();
        let config = format!(
            "listen type linemode {front} proto tcp {front} proto udp ;
cluster sink forward {destination} proto tcp ;
{rules}
match * send to sink stop ;
"
        );
        let file = dir.path().join("relay.conf");
        fs::write(&file, config).expect("the temporary directory can be written");
        let mut command = program("carbon-c-relay");
        command.arg("-f").arg(&file);
        let process = Process::start("carbon-c-relay", command, dir.path());
        process.wait_until_listening(front, PATIENCE);
        Self { process, port, _dir: dir }
    }

    /// Lines, over TCP and over UDP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Starts it again. It ends by itself where a datagram comes before all of it is there; then once more.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        for _ in 0..RESTARTS {
            self.process.restart();
            let deadline = Instant::now() + PATIENCE;
            // What ends it comes soon after it listens, and on a busy machine it may be long before it does.
            while self.process.is_running()
                && TcpStream::connect(self.address()).is_err()
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(SETTLED);
            if self.process.is_running() {
                return self.process.wait_until_listening(self.address(), PATIENCE);
            }
        }
        panic!("carbon-c-relay ended by itself {RESTARTS} times");
    }

    /// The process, to freeze or stop.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Hands connections on while it is open, and refuses them while it is shut.
pub(crate) struct Gate {
    port: Port,
    destination: SocketAddr,
    open: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Gate {
    /// An open gate before `destination`.
    #[track_caller]
    pub(crate) fn open_to(destination: SocketAddr) -> Self {
        let mut gate = Self { port: Port::claim(), destination, open: None };
        gate.open();
        gate
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Hands connections on.
    #[track_caller]
    pub(crate) fn open(&mut self) {
        let listener = TcpListener::bind(self.address()).expect("the port is claimed");
        listener.set_nonblocking(true).expect("a listener can be asked");
        let (is_shut, destination) = (Arc::<AtomicBool>::default(), self.destination);
        let shut = Arc::clone(&is_shut);
        let accept = thread::spawn(move || {
            let mut streams = Vec::new();
            while !shut.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((from, _)) => streams.extend(hand_on(from, destination)),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
            for stream in streams {
                // It may have ended by itself.
                _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        self.open = Some((is_shut, accept));
    }

    /// Cuts the connections that there are, and refuses others.
    pub(crate) fn shut(&mut self) {
        if let Some((is_shut, accept)) = self.open.take() {
            is_shut.store(true, Ordering::Relaxed);
            accept.join().expect("the gate does not panic");
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
    }
}

/// The ends of a connection that is handed on.
fn hand_on(mut from: TcpStream, destination: SocketAddr) -> Vec<TcpStream> {
    let connected =
        TcpStream::connect(destination).and_then(|to| Ok((to.try_clone()?, from.try_clone()?, to)));
    let Ok((end, other_end, mut to)) = connected else { return Vec::new() };
    thread::spawn(move || {
        _ = from.set_nonblocking(false);
        _ = io::copy(&mut from, &mut to);
        _ = to.shutdown(std::net::Shutdown::Write);
    });
    vec![end, other_end]
}
