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

/// The type of a question for IPv4 addresses.
const A: u16 = 1;

/// A question: the second in which it came, the name, and which type of record it is for.
pub(crate) type Question = (u64, String, u16);

/// A name server on a free port, with the same addresses for every name.
pub(crate) struct Names {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    addresses: Mutex<Vec<Ipv4Addr>>,
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
            let addresses = state.addresses.lock().unwrap().clone();
            let told = if kind == A { addresses } else { Vec::new() };
            // Who asked may be gone.
            _ = socket.send_to(&answer(&buffer[..end], &told), from);
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

fn answer(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    // A response of a server that recurses, to one question; as many answers as addresses.
    let counts = [1, addresses.len() as u16, 0, 0].map(u16::to_be_bytes);
    let mut answer = [&question[..2], &[0x81, 0x80], counts.as_flattened(), &question[12..]].concat();
    for address in addresses {
        // The name of the question; type A, class IN, for a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
