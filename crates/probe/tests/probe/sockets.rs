//! Peers made by hand, and what the kernel knows of our side of a connection.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::rig::{ANY, SOON};

/// A listener on loopback.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    listener_with(ANY, None, 64)
}

/// A listener on an address of loopback that nobody had, so that whatever the kernel knows of it is of this test.
pub(crate) fn lone_listener() -> (TcpListener, SocketAddr) {
    listener_with(lone_address(), None, 64)
}

/// The same, and its connections take little before they are read.
pub(crate) fn tight_listener() -> (TcpListener, SocketAddr) {
    listener_with(lone_address(), Some(4096), 64)
}

/// A listener whose queue is full, so that nothing answers a SYN, and what fills it; all must be kept.
pub(crate) fn full_listener() -> (TcpListener, Vec<Socket>, SocketAddr) {
    let (listener, address) = listener_with(lone_address(), None, 0);
    let fill = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("files are left");
        // In progress is as far as it gets.
        socket.connect(&address.into()).ok();
        socket
    };
    (listener, std::iter::repeat_with(fill).take(8).collect(), address)
}

fn lone_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)], 0))
}

fn listener_with(
    address: SocketAddr,
    receive_bytes: Option<usize>,
    backlog: i32,
) -> (TcpListener, SocketAddr) {
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        TcpListener::from_std(socket.into())
    };
    let listener = open().expect("loopback is there");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// The next connection.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    try_accept(listener).await.expect("somebody connects, and files are left")
}

/// The next connection, of an attempt at a name: held up as it looks that up, it connects to nobody.
pub(crate) async fn try_accept(listener: &TcpListener) -> io::Result<TcpStream> {
    Ok(timeout(SOON, listener.accept()).await??.0)
}

/// Everything that arrived on `stream`, and how it ended: `Ok` for an orderly end.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut read = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut read)).await.expect("the stream ends");
    (read, ended.map(drop))
}

/// A port that nobody listens on. It stays bound, so that nobody else gets it; the socket must be kept.
pub(crate) fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("files are left");
    socket.bind(&ANY.into()).expect("loopback is there");
    let address = socket.local_addr().expect("bound").as_socket().expect("of IPv4");
    (socket, address)
}

/// A state of a TCP connection, as `/proc/net/tcp` numbers them (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u8);

pub(crate) const TIME_WAIT: State = State(6);

/// Our ends of connections to `peer`: the state of each, and whether a file of some process still holds it.
pub(crate) fn connections_to(peer: SocketAddr) -> Vec<(State, bool)> {
    let IpAddr::V4(address) = peer.ip() else { panic!("of IPv4") };
    let remote = format!("{:08X}:{:04X}", u32::from_le_bytes(address.octets()), peer.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc is mounted");
    let rows = table.lines().filter(|row| row.contains(&remote));
    rows.map(|row| row.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[2] == remote)
        .map(|fields| {
            let state = u8::from_str_radix(fields[3], 16).expect("a state");
            (State(state), fields[9] != "0")
        })
        .collect()
}

/// Waits until no file holds a connection to `peer`; returns the states of what the kernel still has.
pub(crate) async fn let_go_of(peer: SocketAddr) -> Vec<State> {
    let gone = async {
        loop {
            let connections = connections_to(peer);
            if connections.iter().all(|(_, held)| !held) {
                return connections.into_iter().map(|(state, _)| state).collect();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, gone).await.expect("connections are let go of")
}
