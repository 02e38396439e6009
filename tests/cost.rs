//! What `aviary check --cost` reckons, beside what a run is measured to cost.

#![expect(clippy::disallowed_methods, reason = "a real process is measured on the real clock")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::Value;

use crate::{
    support::{
        aviary::{AVIARY, aviary},
        cell::{own_network, run_tool},
        node::PATIENCE,
        process::{Process, program},
    },
    tls::Authority,
};

const WARM_UP: Duration = Duration::from_secs(6);
const MEASURED: Duration = Duration::from_secs(15);

/// How far what is reckoned may be from what is measured.
const TOLERANCE: f64 = 0.1;

/// What the loopback device carried, without its own 14 bytes a packet, and the connections that are in `TIME_WAIT`.
fn carried() -> (f64, f64, Instant) {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok()).expect("a number");
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    let line = devices.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("a loopback device");
    let mut numbers = line.split_whitespace();
    let (bytes, packets) = (number(numbers.next()), number(numbers.next()));
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap();
    let waiting = sockets.split_whitespace().skip_while(|word| *word != "tw").nth(1);
    (bytes - 14.0 * packets, number(waiting), Instant::now())
}

#[test]
fn what_is_reckoned_is_within_a_tenth_of_what_is_measured() {
    own_network("cost::what_is_reckoned_is_within_a_tenth_of_what_is_measured", || {
        // As an Ethernet would: no packet of more than 1,500 bytes.
        run_tool("ip", "link set lo mtu 1500");
        run_tool("ip", "link set lo gso_max_segs 1");
        let authority = Authority::new();
        let server = authority.server();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::write(file("ca.pem"), &authority.pem).unwrap();
        let both = format!("{}{}", server.certificate, server.key);
        fs::write(file("server.pem"), both).unwrap();
        run_tool("chmod", &format!("600 {}", file("server.pem").display()));
        let body: String = server.certificate.lines().filter(|line| !line.starts_with('-')).collect();
        let chain = base64::engine::general_purpose::STANDARD.decode(body).unwrap().len();
        let endpoints = "\"tcp://127.0.0.1:2003\", \"udp://127.0.0.1:2003\", \"pickle://127.0.0.1:2004\", \
                         \"tls://127.0.0.1:2030\", \"pickle+tls://127.0.0.1:2040\", \"https://127.0.0.1:2443/api/v1/sink\"";
        let services: String = (0..5)
            .map(|number| {
                format!(
                    "[[service]]\nname = \"ingest{number}\"\nca = {{ file = \"ca.pem\" }}\nendpoints = [{endpoints}]\n"
                )
            })
            .collect();
        let configuration = format!(
            "[vantage]\nregion = \"eu-west-1\"\n[agent]\n[collector]\nlisten = \"127.0.0.1:8610\"\n[sink]\n\
             tcp = \"127.0.0.1:2003\"\nudp = \"127.0.0.1:2003\"\npickle = \"127.0.0.1:2004\"\ntls = \"127.0.0.1:2030\"\n\
             pickle_tls = \"127.0.0.1:2040\"\nhttps = \"127.0.0.1:2443\"\ncertificate = {{ file = \"server.pem\" }}\n{services}"
        );
        let path = file("aviary.toml");
        fs::write(&path, configuration).unwrap();
        let (path, chain) = (path.display().to_string(), chain.to_string());
        let reckoned =
            aviary(&["check", "--cost", "--chain", &chain, "--agents", "10", "--format", "json", &path]);
        assert_eq!(reckoned.status, 0, "{}{}", reckoned.out, reckoned.err);
        // Notes on the configuration come before.
        let mut lines = reckoned.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let reckoned = lines.find(|line| line["agent"].is_object()).expect("a line of figures");
        let of =
            |what: &str| reckoned["agent"][what].as_f64().unwrap_or_else(|| panic!("{what}: {reckoned:#}"));

        let mut command = program(AVIARY);
        command.args(["run", &path]);
        let running = Process::start("aviary", command, dir.path());
        running.wait_until_listening("127.0.0.1:8610".parse().unwrap(), PATIENCE);
        thread::sleep(WARM_UP);
        let expected = of("sent_bytes_per_second") + of("received_bytes_per_second");
        let connections = of("connections_per_second");
        let is_as_reckoned = || {
            let (before, waited_before, began) = carried();
            thread::sleep(MEASURED);
            let (after, waited_after, ended) = carried();
            let seconds = (ended - began).as_secs_f64();
            let traffic = (after - before) / seconds;
            let waiting = (waited_after - waited_before) / seconds;
            println!(
                "traffic: {expected:.0} B/s reckoned, {traffic:.0} B/s measured, ratio {:.3}",
                expected / traffic
            );
            println!("TIME_WAIT: {connections} connections/s reckoned, {waiting:.1} measured");
            let is_near = |ratio: f64| (ratio - 1.0).abs() < TOLERANCE;
            is_near(expected / traffic) && is_near(connections / waiting)
        };
        // A machine busy with other tests leaves out a second of fifteen; what is reckoned wrongly is wrong each time.
        assert!((0..3).any(|_| is_as_reckoned()), "see what is printed above");
        assert_eq!(of("time_wait_ports"), connections * 60.0);
        assert_eq!(reckoned["fleet"]["series"], 300);
    });
}
