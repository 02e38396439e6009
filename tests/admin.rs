//! How a running agent tells how it is: to the service manager first.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

use crate::support::aviary::Aviary;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the service manager is told until `last` is among it, each datagram as its lines.
fn told(socket: &UnixDatagram, last: &str) -> Vec<Vec<String>> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told: Vec<Vec<String>> = Vec::new();
    while told.last().is_none_or(|lines| !lines.iter().any(|line| line == last)) {
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{last}: {error}; {told:?}"));
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        told.push(text.lines().map(str::to_owned).collect());
    }
    told
}

/// A service manager in the file system, and one with an abstract name: `NOTIFY_SOCKET`, and what listens there.
fn managers(dir: &Path) -> [(String, UnixDatagram); 2] {
    let path = dir.join("notify");
    let name = format!("aviary-it-{}", std::process::id());
    let abstract_address = UnixAddress::from_abstract_name(&name).unwrap();
    [
        (path.to_str().unwrap().to_owned(), UnixDatagram::bind(&path).unwrap()),
        (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address).unwrap()),
    ]
}

#[test]
fn the_service_manager_is_told_of_the_start_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for (address, socket) in managers(dir.path()) {
        let mut aviary = Aviary::start_with("", |command| _ = command.env("NOTIFY_SOCKET", &address));
        let start = told(&socket, "READY=1");
        assert!(start[0][1].starts_with("STATUS=runs configuration "), "{start:?}");
        assert!(aviary.stop().success());
        let end = told(&socket, "STOPPING=1");
        assert_eq!(end.len(), 1, "{end:?}");
    }
}

#[test]
fn a_service_manager_that_is_not_there_is_no_obstacle() {
    for (address, said) in [("/nonexistent/notify", ""), ("vsock:2:1", "NOTIFY_SOCKET is \"vsock:2:1\"")] {
        let mut aviary = Aviary::start_with("", |command| _ = command.env("NOTIFY_SOCKET", address));
        assert!(aviary.stop().success(), "{}", aviary.log());
        assert!(aviary.log().contains(said), "{}", aviary.log());
    }
}
