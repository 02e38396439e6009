//! What a service receives, line by line: the truth that an agent's word is held against. Not aviary's own sink, so that
//! both cannot be wrong together.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use aviary_core::Second;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Runtime,
};

use super::{aviary::now, ports::Port, wait::wait_until};

/// How long the next life of an agent may take to send something.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines over TCP, on any loopback address, and over UDP on 127.0.0.1.
pub(crate) struct Receiver {
    port: Port,
    received: Arc<Mutex<Vec<Received>>>,
    _runtime: Runtime,
}

/// A datapoint as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) name: String,
    pub(crate) second: Second,
    pub(crate) at: Instant,
    /// The second in which it came, by the real clock.
    pub(crate) in_second: Second,
}

impl Receiver {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads and files are left");
        let port = Port::claim();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let (lines, datagrams) = runtime.block_on(async {
            let lines = TcpListener::bind(("0.0.0.0", port.number())).await;
            let datagrams = UdpSocket::bind(port.address()).await;
            (lines.expect("the port is claimed"), datagrams.expect("the port is claimed"))
        });
        runtime.spawn(accept(lines, Arc::clone(&received)));
        runtime.spawn(receive(datagrams, Arc::clone(&received)));
        Self { port, received, _runtime: runtime }
    }

    /// Where it is on 127.0.0.1.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its endpoint at `host`, over TCP.
    pub(crate) fn tcp_at(&self, host: &str) -> String {
        format!("tcp://{host}:{}", self.port.number())
    }

    /// Its endpoint at 127.0.0.`host`, over TCP.
    pub(crate) fn tcp(&self, host: u8) -> String {
        format!("tcp://127.0.0.{host}:{}", self.port.number())
    }

    /// Everything that came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("whoever receives does not panic").clone()
    }

    /// Waits until the life of an agent that was started after `second` has sent something, and returns the second from which on
    /// all of it runs: how long a start takes is up to the machine.
    #[track_caller]
    pub(crate) fn runs_from(&self, second: Second) -> Second {
        let lacking = || format!("nothing came of a second after {second}");
        wait_until(PATIENCE, lacking, || self.received().iter().any(|it| it.second > second));
        now().plus(1)
    }

    /// How often each second of each series came, by name. Panics where one came twice.
    #[track_caller]
    pub(crate) fn each_once(&self) -> BTreeMap<String, BTreeMap<Second, Received>> {
        let mut each: BTreeMap<String, BTreeMap<Second, Received>> = BTreeMap::new();
        for received in self.received() {
            let (name, second) = (received.name.clone(), received.second);
            assert!(name.starts_with("canary."), "no datapoint of an agent: {name}");
            let before = each.entry(name).or_default().insert(second, received);
            assert!(before.is_none(), "sent twice: {before:?}");
        }
        each
    }
}

async fn accept(listener: TcpListener, received: Arc<Mutex<Vec<Received>>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(read(stream, Arc::clone(&received)));
    }
}

async fn read(stream: TcpStream, received: Arc<Mutex<Vec<Received>>>) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        note(&line, &received);
    }
    Ok(())
}

async fn receive(socket: UdpSocket, received: Arc<Mutex<Vec<Received>>>) {
    let mut datagram = [0; 2_048];
    loop {
        let Ok(length) = socket.recv(&mut datagram).await else { continue };
        String::from_utf8_lossy(&datagram[..length]).lines().for_each(|line| note(line, &received));
    }
}

fn note(line: &str, received: &Mutex<Vec<Received>>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let (name, second) = match line.split(' ').collect::<Vec<_>>().as_slice() {
        &[name, "1", second] => (name, second.parse().unwrap_or_default()),
        // Shown by whoever looks at what came.
        _ => (line, 0),
    };
    let (name, second) = (name.to_owned(), Second(second));
    let received_now = Received { name, second, at: Instant::now(), in_second: Second(now) };
    received.lock().expect("whoever receives does not panic").push(received_now);
}
