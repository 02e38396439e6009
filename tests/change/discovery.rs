//! Endpoints that are found, come and go: by DNS, in files and from an HTTP server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use aviary_core::Span;
use serde_json::Value;

use super::none_missed_at;
use crate::support::{
    aviary::now,
    http,
    names::Names,
    node::{Node, PATIENCE},
    pager::Pager,
    ports::Port,
    slots::all_delivered,
    tcp_server::TcpServer,
};

/// What an agent has found, of all its services: each endpoint, and whether it is answered no more.
fn found(agent: &Node) -> Vec<(String, bool)> {
    let accept = [("Accept", "application/json")];
    let (_, page) = http::request(agent.address(), "GET", "/", &accept, &[], PATIENCE).unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    let discoveries = page["discoveries"].as_array().unwrap().iter();
    let endpoints = discoveries.flat_map(|it| it["endpoints"].as_array().unwrap().clone());
    endpoints.map(|it| (it[0].as_str().unwrap().to_owned(), it[1].as_bool().unwrap())).collect()
}

/// Waits until an agent has found these, and each is answered or not.
#[track_caller]
fn wait_until_found(agent: &Node, expected: &[(&str, bool)]) {
    let expected: Vec<_> = expected.iter().map(|(it, is_going)| ((*it).to_owned(), *is_going)).collect();
    agent.wait(&format!("{expected:?} is found"), || found(agent) == expected);
}

/// Waits until an agent has so many series.
#[track_caller]
fn wait_until_probed(agent: &Node, series: usize) {
    let line = format!("aviary_agent_series_ticking {series}\n");
    agent.wait_for("/metrics", |_, metrics| metrics.as_str().unwrap().contains(&line));
}

#[test]
fn a_node_comes_and_goes_in_dns_with_no_page_and_no_hole() {
    let ports = [Port::claim(), Port::claim(), Port::claim()];
    let [first, second, third] = ports.each_ref().map(|port| Some(TcpServer::start(port.address())));
    let hosts = ["gr-1.test", "gr-2.test", "gr-3.test"];
    let [stays, goes, comes] = [0, 1, 2].map(|it| (hosts[it], ports[it].number()));
    let url = |(host, port): (&str, u16)| format!("tcp://{host}:{port}");
    let names = Names::start(&[Ipv4Addr::LOCALHOST]);
    names.set_services(&[stays, goes]);
    let (pager, hook) = Pager::start();
    let service = "[[service]]\nname = \"ingest\"\nburst = 1.0\npage_after = \"0s\"\nstart_up_grace = \"5s\"\n\
         endpoints = [{ srv = \"_graphite._tcp.test\", protocol = \"tcp\", grace = \"15s\" }]\n";
    let mut collector = Node::new();
    collector.place("hook.secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    collector.configure(&format!(
        "[collector]\nlisten = \"@listen@\"\n{service}\
         [[receiver]]\nname = \"oncall\"\nkind = \"webhook\"\nallow_private = true\nurl = \"http://{hook}/\"\n\
         secret = {{ file = \"hook.secret\" }}\n"
    ));
    collector.run(|_| {});
    let began = now();
    let agent = Node::start(&format!(
        "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\nlisten = \"@listen@\"\ncollector = [\"http://{}\"]\n\
         name_servers = [\"{}\"]\n{service}",
        collector.address(),
        names.address()
    ));
    collector.wait_until_delivered(&url(goes), 3);

    // One comes; it is probed a change later, and what is probed already goes on.
    names.set_services(&[stays, goes, comes]);
    collector.wait_until_delivered(&url(comes), 3);

    // One goes: first its name, then the node, and then its series.
    names.set_services(&[stays, comes]);
    wait_until_found(&agent, &[(&url(stays), false), (&url(goes), true), (&url(comes), false)]);
    // Whatever was under way by then has an outcome of its own.
    thread::sleep(Duration::from_millis(1_100));
    drop(second);
    wait_until_found(&agent, &[(&url(stays), false), (&url(comes), false)]);
    wait_until_probed(&agent, 2);
    let ended = now();

    // Nobody answers any more: what was found last stands, and that is said.
    names.set_services(&[]);
    agent.wait_for("/healthcheck", |status, answer| {
        status == 500 && answer["failed"].to_string().contains("_graphite._tcp.test has no SRV records")
    });
    assert_eq!(agent.ask("/readyz").0, 200, "it does its work");
    let (_, metrics) = agent.ask("/metrics");
    let labels = "{service=\"ingest\",discovery=\"srv _graphite._tcp.test, tcp\"}";
    for line in [
        format!("aviary_agent_discovery_ok{labels} 0\n"),
        format!("aviary_agent_discovered_endpoints{labels} 2\n"),
    ] {
        assert!(metrics.as_str().unwrap().contains(&line), "{line}{metrics}");
    }

    let span = Span::new(began, now());
    let slots = collector.closed_slots("endpoint", span);
    for endpoint in [stays, comes] {
        let (_, last) = all_delivered(&slots[&url(endpoint)]);
        assert_eq!(last.plus(1), span.until, "{endpoint:?}");
    }
    let gone = &slots[&url(goes)];
    let (last, _) = gone.last_key_value().unwrap();
    assert!(*last <= ended, "its series ends as the next second begins");
    for change in [*slots[&url(comes)].keys().next().unwrap(), *last] {
        none_missed_at(change, &slots[&url(stays)]);
    }
    assert!(gone.values().any(|slot| slot.outcome == "muted"), "{gone:?}");
    assert!(gone.values().all(|slot| !slot.outcome.starts_with("lost")), "{gone:?}");
    assert_eq!(pager.types(), [""; 0], "{:#?}", pager.told());
    let (_, incidents) = collector.ask("/api/v1/incidents");
    assert_eq!(incidents["incidents"].as_array().map(Vec::len), Some(0), "{incidents:#}");
    drop((first, third));
}

/// An HTTP server that answers with the same to everybody who shows its token.
fn inventory() -> (Arc<Mutex<String>>, SocketAddr) {
    let body = Arc::<Mutex<String>>::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (told, address) = (Arc::clone(&body), listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut line, mut is_known) = (String::new(), false);
            while reader.read_line(&mut line).unwrap() > 2 {
                is_known |= line.to_ascii_lowercase().starts_with("authorization: bearer inventory-token");
                line.clear();
            }
            let body = told.lock().unwrap().clone();
            let status = if is_known { "200 OK" } else { "401 Unauthorized" };
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            _ = reader.get_mut().write_all((head + &body).as_bytes());
        }
    });
    (body, address)
}

#[test]
fn what_files_and_http_servers_say_is_probed_and_stands_when_they_are_away() {
    let targets =
        |list: &[&str]| serde_json::json!([{ "targets": list, "labels": { "rack": "7" } }]).to_string();
    let (body, server) = inventory();
    *body.lock().unwrap() = targets(&["127.0.0.1:91"]);
    let mut agent = Node::new();
    agent.place("gr-1.json", &targets(&["127.0.0.1:92"]));
    agent.place("token", "inventory-token");
    agent.configure(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\nlisten = \"@listen@\"\ncollector = [\"http://127.0.0.1:1\"]\n\
         data = {:?}\n[[service]]\nname = \"a\"\nendpoints = [\n\
         {{ file_sd = \"gr-*.json\", protocol = \"tcp\", grace = \"0s\" }},\n\
         {{ http_sd = \"http://{server}/x\", protocol = \"udp\", every = \"5s\", grace = \"0s\", at_most = 2, \
         token = {{ file = \"token\" }} }},\n]\n",
        agent.file("data")
    ));
    agent.run(|_| {});
    let (of_file, of_server) = ("tcp://127.0.0.1:92", "udp://127.0.0.1:91");
    // A start waits two seconds for answers, which may not do where the machine is busy.
    wait_until_found(&agent, &[(of_file, false), (of_server, false)]);

    // Another file is put there, one is replaced, and the server has more to tell than it may.
    agent.place("gr-2.json", &targets(&["127.0.0.1:93"]));
    *body.lock().unwrap() = targets(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    let with = |more: &'static str| [(of_file, false), (more, false), (of_server, false)];
    wait_until_found(&agent, &with("tcp://127.0.0.1:93"));
    wait_until_probed(&agent, 3);
    // As somebody writes who does not rename: for a moment it is no list of targets.
    fs::write(agent.file("gr-2.json"), "").unwrap();
    agent.wait_until_said("gr-2.json: is no list of targets", 1);
    fs::write(agent.file("gr-2.json"), targets(&["127.0.0.1:94"])).unwrap();
    wait_until_found(&agent, &with("tcp://127.0.0.1:94"));
    agent.wait_until_said("3 endpoints are more than the 2 that `at_most` allows", 1);

    // Where nobody answers at a start, what was found in the life before is probed.
    wait_until_probed(&agent, 3);
    agent.wait("it is kept", || {
        fs::read_to_string(agent.file("data/discovered.json")).unwrap().contains(":94")
    });
    assert!(agent.process().stop().success());
    fs::remove_file(agent.file("gr-1.json")).unwrap();
    fs::remove_file(agent.file("gr-2.json")).unwrap();
    agent.run(|_| {});
    wait_until_found(&agent, &with("tcp://127.0.0.1:94"));
    agent.wait_for("/healthcheck", |status, answer| {
        let failed = answer["failed"].to_string();
        status == 500 && failed.contains("there is no file ") && failed.contains("gr-*.json")
    });
    assert!(!agent.log().contains("inventory-token"));
}
