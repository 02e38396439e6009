//! A collector that is gone, and a service that refuses: somebody is paged all the same, once.

use std::fs;

use serde_json::Value;

use super::{Agent, pause, wait_until};
use crate::support::{pager::Pager, ports::Port, recorder::Recorder, tcp_server::TcpServer};

#[test]
fn an_agent_that_is_cut_off_pages_once_and_ends_it_across_a_kill() {
    let (pager, address) = Pager::start();
    let (collector, port) = (Recorder::closed(), Port::claim());
    let more = format!(
        "fallback = \"oncall\"\nfallback_after = \"5s\"\n\
         [[receiver]]\nname = \"oncall\"\nkind = \"webhook\"\nallow_private = true\n\
         url = \"http://{address}/hook\"\nsecret = {{ env = \"SECRET\" }}"
    );
    let service = TcpServer::start(port.address());
    let endpoints = [format!("tcp://{}", port.address())];
    let mut agent = Agent::start_with(&collector.url(), &endpoints, &more, |command, _| {
        command
            .env("SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .env("AVIARY_SERVICE_S_START_UP_GRACE", "0s");
    });
    wait_until("the service works", || service.connections() >= 3);
    pause(12_000);
    assert_eq!(pager.told(), [Value::Null; 0], "that no collector answers is no outage");

    drop(service);
    wait_until("the page", || !pager.told().is_empty());
    let page = pager.told()[0].clone();
    assert_eq!(
        (page["type"].as_str(), page["data"]["key"].as_str()),
        (Some("incident.opened"), Some("aviary:fallback:s"))
    );
    let summary = page["data"]["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("s: all is lost from r, node n, since ")
            && summary.contains("seen from here only"),
        "{summary}"
    );
    // A life that is killed before it has kept that the page was taken is followed by one that sends it again.
    let kept = agent.path("spool/fallback.json");
    wait_until("the page is kept as taken", || {
        fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"stage\":\"open\""))
    });
    agent.process.kill();
    agent.process.restart();
    pause(16_000);
    assert_eq!(pager.types(), ["incident.opened"], "{}", agent.log());

    let _service = TcpServer::start(port.address());
    wait_until("the end", || pager.told().len() > 1);
    pause(3_000);
    assert_eq!(pager.types(), ["incident.opened", "incident.resolved"], "{}", agent.log());
    assert_eq!(pager.told()[1]["data"]["key"], "aviary:fallback:s");
    agent.stop();
    // Its own end tells nobody anything.
    assert_eq!(pager.told().len(), 2);
}
