//! Credentials that are replaced while the agent runs.

use std::{thread, time::Duration};

use aviary_core::Span;
use reqwest::{Certificate, Client, Identity};
use serde_json::Value;

use crate::{
    support::{
        aviary::now,
        node::{Node, PATIENCE},
        ports::Port,
        slots::{by_tag, closed, unlike},
        tcp_server::TcpServer,
    },
    tls::{Authority, Signed},
};

/// What a collector and its agents know each other by.
struct Generation {
    servers: Authority,
    server: Signed,
    clients: Authority,
    client: Signed,
    token: &'static str,
}

impl Generation {
    fn new(token: &'static str) -> Self {
        let (servers, clients) = (Authority::new(), Authority::new());
        let (server, client) = (servers.server(), clients.client((2024, 2124)));
        Self { servers, server, clients, client, token }
    }

    fn place_at_collector(&self, collector: &Node) {
        collector.place("tls.key", &self.server.key);
        collector.place("tls.pem", &self.server.certificate);
        collector.place("clients.pem", &self.clients.pem);
        collector.place("token", self.token);
    }

    fn place_at_agent(&self, agent: &Node) {
        agent.place("token", self.token);
        agent.place("ca.pem", &self.servers.pem);
        agent.place("client.pem", &self.client.certificate);
        agent.place("client.key", &self.client.key);
    }

    /// What the collector answers to somebody of this generation.
    fn ask(&self, collector: &Node, path: &str) -> Value {
        // Installed already by another test of this process.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Certificate::from_pem(self.servers.pem.as_bytes()).unwrap();
        let identity = format!("{}{}", self.client.key, self.client.certificate);
        let client = Client::builder()
            .tls_certs_only([authority])
            .identity(Identity::from_pem(identity.as_bytes()).unwrap())
            .timeout(PATIENCE)
            .no_proxy();
        let request = client.build().unwrap().get(format!("https://{}{path}", collector.address()));
        let answer = async { request.bearer_auth(self.token).send().await?.text().await };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer =
            runtime.block_on(answer).unwrap_or_else(|error| panic!("{error:?}\n{}", collector.log()));
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// How many slots the collector holds as delivered, by what it answers to this generation.
    fn delivered(&self, collector: &Node) -> u64 {
        let sums = self.ask(collector, "/api/v1/sums?window=60s");
        sums["groups"].as_array().unwrap().iter().filter_map(|group| group["delivered"].as_u64()).sum()
    }
}

#[test]
fn token_authority_certificate_and_key_are_replaced_under_a_running_agent() {
    let (before, after) = (Generation::new("0123456789abcdef"), Generation::new("fedcba9876543210"));
    let port = Port::claim();
    let _receiver = TcpServer::start(port.address());
    let mut collector = Node::new();
    collector.configure(
        "[collector]\nlisten = \"@listen@\"\ncertificate = { file = \"tls.pem\" }\nkey = { file = \"tls.key\" }\n\
         client_ca = { file = \"clients.pem\" }\n[[collector.token]]\nname = \"agents\"\n\
         secret = { file = \"token\" }\nscope = [\"report\", \"read\"]\n",
    );
    before.place_at_collector(&collector);
    collector.run(|_| {});
    let agent = Node::new();
    let mut agent = agent;
    agent.configure(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\nlisten = \"@listen@\"\ncollector = [\"https://{}\"]\n\
         token = {{ file = \"token\" }}\nca = {{ file = \"ca.pem\" }}\ncertificate = {{ file = \"client.pem\" }}\n\
         key = {{ file = \"client.key\" }}\n[[service]]\nname = \"ingest\"\nendpoints = [\"tcp://{}\"]\n",
        collector.address(),
        port.address()
    ));
    before.place_at_agent(&agent);
    agent.run(|_| {});
    agent.wait("reports are taken", || before.delivered(&collector) >= 2);

    // Tokens are read when a collector starts.
    assert!(collector.process().stop().success());
    after.place_at_collector(&collector);
    collector.run(|_| {});
    let from = now();
    thread::sleep(Duration::from_secs(4));
    assert_eq!(after.delivered(&collector), 0, "what the agent knows is worth nothing any more");

    after.place_at_agent(&agent);
    agent.wait_until_said("The configuration was taken on.", 1);
    agent.wait("reports are taken again", || after.delivered(&collector) >= 6);
    let log = agent.log();
    for key in ["token", "ca", "certificate", "key"] {
        assert!(log.contains(&format!("Acts from now on. change=agent.{key}")), "{key}:\n{log}");
    }
    assert!(!log.contains("0123456789abcdef") && !log.contains("fedcba9876543210"), "{log}");

    // What was measured meanwhile had waited.
    let span = Span::new(from, now());
    let path = format!("/api/v1/slots?from={}&until={}", span.from, span.until);
    let slots = closed(span, || by_tag(&after.ask(&collector, &path), "protocol"));
    assert_eq!(slots["tcp"].len() as u64, span.seconds());
    assert_eq!(unlike(&slots["tcp"], "delivered"), []);
}
