//! A name server whose answers a test changes while it runs, and which notes what it is asked.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::aviary::now;

/// The types of questions for IPv4 addresses, and for the hosts and ports of a service.
const A: u16 = 1;
const SRV: u16 = 33;

/// A question: the second in which it came, the name, and which type of record it is for.
pub(crate) type Question = (u64, String, u16);

/// A name server on a free port, with the same addresses for every name, and the same hosts and ports for every service.
pub(crate) struct Names {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    addresses: Mutex<Vec<Ipv4Addr>>,
    services: Mutex<Vec<(String, u16)>>,
    asked: Mutex<BTreeMap<Question, usize>>,
    is_silent: AtomicBool,
    is_over: AtomicBool,
}

impl Names {
    /// Answers with these addresses.
    pub(crate) fn start(addresses: &[Ipv4Addr]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("it is our socket");
        let address = socket.local_addr().expect("it is bound");
        let state = Arc::new(State { addresses: Mutex::new(addresses.to_vec()), ..State::default() });
        let serving = Arc::clone(&state);
        Self { address, state, thread: Some(thread::spawn(move || serve(&socket, &serving))) }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with these addresses from now on.
    pub(crate) fn set(&self, addresses: &[Ipv4Addr]) {
        *self.state.addresses.lock().unwrap() = addresses.to_vec();
    }

    /// Answers with these hosts and ports from now on, which hold for a second.
    pub(crate) fn set_services(&self, services: &[(&str, u16)]) {
        let services = services.iter().map(|(host, port)| ((*host).to_owned(), *port));
        *self.state.services.lock().unwrap() = services.collect();
    }

    /// Takes questions and answers none from now on.
    pub(crate) fn silence(&self) {
        self.state.is_silent.store(true, Ordering::Relaxed);
    }

    /// How often each question came.
    pub(crate) fn asked(&self) -> BTreeMap<Question, usize> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, state: &State) {
    let mut buffer = [0; 512];
    while !state.is_over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some((name, kind, end)) = question(&buffer[..length]) else { continue };
        *state.asked.lock().unwrap().entry((now().0, name, kind)).or_default() += 1;
        if !state.is_silent.load(Ordering::Relaxed) {
            let told = match kind {
                A => state.addresses.lock().unwrap().iter().map(|it| (60, it.octets().to_vec())).collect(),
                SRV => state
                    .services
                    .lock()
                    .unwrap()
                    .iter()
                    .map(|(host, port)| (1, service(host, *port)))
                    .collect(),
                _ => Vec::new(),
            };
            // Who asked may be gone.
            _ = socket.send_to(&answer(&buffer[..end], kind, &told), from);
        }
    }
}

/// The name and type that a message asks for, and where its question ends (RFC 1035, 4.1).
fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at + 1..=at + length)?).into_owned());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes(message.get(at + 1..at + 3)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 5))
}

/// The data of an SRV record (RFC 2782): priority, weight, port, and the host label by label.
fn service(host: &str, port: u16) -> Vec<u8> {
    let mut data = [[0, 10], [0, 5], port.to_be_bytes()].concat();
    for label in host.split('.').chain([""]) {
        data.push(label.len() as u8);
        data.extend(label.as_bytes());
    }
    data
}

/// A response of a server that recurses, to one question; as many answers as there are lives with their data.
fn answer(question: &[u8], kind: u16, told: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let counts = [1, told.len() as u16, 0, 0].map(u16::to_be_bytes);
    let mut answer = [&question[..2], &[0x81, 0x80], counts.as_flattened(), &question[12..]].concat();
    for (ttl, data) in told {
        // The name of the question, class IN.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    answer
}
