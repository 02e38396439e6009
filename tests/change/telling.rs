//! What a running agent says unasked: lines for people, and signs of life.
#![expect(clippy::disallowed_methods, reason = "real processes keep real time")]

use std::{
    fs,
    os::unix::net::UnixDatagram,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    node::{Node, PATIENCE},
    ports::Port,
    tcp_server::TcpServer,
};

fn agent(port: &Port, more: &str) -> String {
    let endpoint = format!("tcp://{}", port.address());
    format!(
        "[vantage]\nregion = \"eu\"\n[agent]\nlisten = \"@listen@\"\ncollector = [\"http://127.0.0.1:1\"]\n\
         [[service]]\nname = \"ingest\"\nendpoints = [{endpoint:?}]\n{more}"
    )
}

#[test]
fn a_series_has_a_line_when_it_loses_and_one_when_it_delivers_again() {
    let port = Port::claim();
    let endpoint = format!("tcp://{}", port.address());
    let receiver = TcpServer::start(port.address());
    let mut node = Node::start(&agent(&port, ""));
    node.wait("it delivers", || receiver.connections() >= 3);
    assert_eq!(node.said(" loses"), 0);
    drop(receiver);
    node.wait_until_said(&format!("ingest {endpoint} loses: connect refused"), 1);
    // A reload numbers the series anew, and is no news of this one.
    node.configure(&agent(&port, "owner = \"me\"\n"));
    node.process().hang_up();
    node.wait_until_said("The configuration was taken on.", 1);
    thread::sleep(Duration::from_secs(5));
    let _receiver = TcpServer::start(port.address());
    node.wait_until_said(&format!("ingest {endpoint} delivers again"), 1);
    assert_eq!((node.said(" loses"), node.said(" delivers again")), (1, 1), "{}", node.log());
}

#[test]
fn a_summary_is_printed_as_often_as_the_file_has_it() {
    let port = Port::claim();
    let _receiver = TcpServer::start(port.address());
    let mut node = Node::start(&agent(&port, ""));
    thread::sleep(Duration::from_secs(3));
    assert_eq!(node.said(" UTC  "), 0, "nobody asked for a line, and nobody watches:\n{}", node.log());
    let began = Instant::now();
    node.configure(&agent(&port, "[log]\nsummary = \"1s\"\n"));
    node.process().hang_up();
    node.wait_until_said(" slots closed, ", 5);
    assert!(began.elapsed() > Duration::from_millis(3_500), "within {:?}:\n{}", began.elapsed(), node.log());
}

/// What the service manager is told until a datagram satisfies `seen`.
fn told_until(socket: &UnixDatagram, seen: impl Fn(&str) -> bool) -> Vec<String> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told = Vec::new();
    while !told.last().is_some_and(|text: &String| seen(text)) {
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        told.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    told
}

#[test]
fn the_service_manager_is_told_of_a_reload() {
    let port = Port::claim();
    let mut node = Node::new();
    node.configure(&agent(&port, ""));
    let socket = UnixDatagram::bind(node.file("notify")).unwrap();
    let address = node.file("notify");
    node.run(|command| _ = command.env("NOTIFY_SOCKET", address));
    let start = told_until(&socket, |text| text.contains("READY=1")).pop().unwrap();

    let before = monotonic_us();
    node.configure(&agent(&port, "owner = \"me\"\n"));
    node.process().hang_up();
    let told = told_until(&socket, |text| text.contains("READY=1"));
    let [reloading, ready] = told.as_slice() else { panic!("{told:?}") };
    assert!(reloading.starts_with("RELOADING=1\n"), "{told:?}");
    let at = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
    assert!(at.is_some_and(|at| (before..=monotonic_us() + 10_000).contains(&at)), "{told:?}");
    assert!(ready.contains("STATUS=runs configuration ") && *ready != start, "{told:?} after {start:?}");
}

fn monotonic_us() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    // Of the uptime, hundredths are told; the clock of the protocol is finer.
    (seconds * 1e6) as u64
}

#[test]
fn the_watchdog_is_fed_twice_within_its_patience_and_not_by_a_stopped_agent() {
    let port = Port::claim();
    let mut node = Node::new();
    node.configure(&agent(&port, ""));
    let socket = UnixDatagram::bind(node.file("notify")).unwrap();
    let address = node.file("notify");
    node.run(|command| {
        command.env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID");
    });
    let fed = |text: &str| text.contains("WATCHDOG=1");
    told_until(&socket, |text| text.contains("READY=1"));
    told_until(&socket, fed);
    // A sign is given at the first turn after half a second, and a turn takes a tenth of one. A machine that is held up makes
    // a round longer, but not each of them.
    let round = || {
        let began = Instant::now();
        (0..8).for_each(|_| _ = told_until(&socket, fed));
        began.elapsed()
    };
    let most = Duration::from_millis(8 * 600);
    assert!((0..5).any(|_| round() <= most), "8 signs never came within {most:?}");

    node.process().freeze();
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 512]).is_ok() {}
    thread::sleep(Duration::from_secs(2));
    assert!(socket.recv(&mut [0; 512]).is_err(), "a stopped agent gives no sign of life");
    socket.set_nonblocking(false).unwrap();
    node.process().thaw();
    told_until(&socket, fed);
}
