//! An API key is sent to the service, and shown to nobody.

use std::time::Duration;

use crate::support::{
    aviary::{Aviary, aviary},
    ports::Port,
};

const KEY: &str = "k3y0fAVeryHosted-Graphite";

#[test]
fn the_key_is_in_no_log_error_or_answer() {
    let ports: Vec<_> = (0..5).map(|_| Port::claim()).collect();
    let [line, pickle, tls, pickle_tls, https] = [0, 1, 2, 3, 4].map(|port| ports[port].address());
    let nowhere = Port::claim();
    let configuration = format!(
        r#"
[vantage]
region = "eu"
[agent]
[sink]
tcp = "{line}"
udp = "{line}"
pickle = "{pickle}"
tls = "{tls}"
pickle_tls = "{pickle_tls}"
https = "{https}"
[[service]]
name = "hosted"
api_key = {{ env = "GRAPHITE_KEY" }}
endpoints = ["tcp://{line}", "udp://{line}", "pickle://{pickle}", "tls://{tls}", "pickle+tls://{pickle_tls}",
  "https://{https}/api/v1/sink"]
[[service]]
name = "dead"
api_key = {{ env = "GRAPHITE_KEY" }}
endpoints = ["tcp://{dead}", "https://{dead}/api/v1/sink"]
"#,
        dead = nowhere.address(),
    );
    let mut running = Aviary::start_with(&configuration, |command| {
        command.env("GRAPHITE_KEY", KEY).env("AVIARY_LOG", "trace");
    });
    // Delivered, since the sink takes only names and requests with the key, and stores them without.
    let healthy = |hosted: &serde_json::Value| hosted["state"] == "healthy";
    running.wait_for("/api/v1/services/hosted", Duration::from_secs(90), healthy);
    let url = format!("http://{}", running.collector);
    let mut shown = Vec::new();
    for path in
        ["services", "services/hosted", "services/nobody", "sums?by=endpoint,node,service", "slots", "agents"]
    {
        let answer = crate::support::http::request(
            running.collector,
            "GET",
            &format!("/api/v1/{path}"),
            &[],
            &[],
            Duration::from_secs(30),
        );
        shown.push(answer.unwrap().1);
    }
    for arguments in
        [&["status", &url][..], &["sums", &url, "--by", "endpoint"], &["sums", &url, "--format", "json"]]
    {
        let ran = aviary(arguments);
        shown.extend([ran.out, ran.err]);
    }
    assert!(running.stop().success());
    shown.push(running.log());
    let file = running.file("aviary.toml");
    let checked = crate::support::aviary::run(
        crate::support::aviary::command()
            .args(["check", "--format", "json"])
            .arg(file)
            .env("GRAPHITE_KEY", KEY),
    );
    shown.extend([checked.out, checked.err]);
    // As it is, and as the Basic credentials have it.
    for secret in [KEY, "azN5MGZBVmVyeUhvc3RlZC1HcmFwaGl0ZT"] {
        let places: Vec<_> = shown.iter().filter(|text| text.contains(secret)).collect();
        assert!(places.is_empty(), "{secret} is shown: {places:?}");
    }
    assert!(shown.iter().any(|text| text.len() > 1_000), "something was shown at all");
}
