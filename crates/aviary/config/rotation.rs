//! `[service.rotation]`, how the nodes of a service are steered, and `[collector.rotation]`, what is of all services.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use aviary_collector::{FleetSteering, Steering};
use aviary_core::{
    AcceptableLoss,
    rotation::{FleetRules, Mode, NODES_MAX, Rules},
};
use aviary_notify::{OutletKind, Request, Secret as Shared, Webhook};

use super::{
    context::Refusal,
    kind::{At, Boolean, Either, Or, Whole, member, section, some, table, values},
    reader::Reader,
    receiver::shared,
    scalar,
    secret::{self, Pem},
};

/// What is of all services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Where agent checks are answered; absent: nowhere.
    pub(crate) agent_check: Option<SocketAddr>,
    /// While there is such a file, all nodes are in.
    pub(crate) stop_file: Option<PathBuf>,
    /// So many nodes are taken out in an hour.
    pub(crate) per_hour: usize,
    /// Who is told where nodes are to be.
    pub(crate) outlets: Vec<Outlet>,
}

/// Who is told where nodes are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outlet {
    /// How.
    pub(crate) kind: OutletKind,
    /// PEM certificates to trust, beside the system's.
    pub(crate) ca: Option<Pem>,
}

impl Rotation {
    /// The same for the collector.
    pub(crate) fn options(&self) -> FleetSteering {
        let Self { stop_file, per_hour, .. } = self.clone();
        FleetSteering { rules: FleetRules { per_hour }, stop_file }
    }
}

/// Reads `[collector.rotation]`.
pub(super) fn of_collector(reader: &mut Reader<'_>) -> Option<Rotation> {
    let about = "where HAProxy's agent checks are answered for all nodes, each with agent-send \"SERVICE/NODE\\n\"; absent: nowhere";
    let agent_check = reader.optional("agent_check", about, scalar::listener("127.0.0.1:8620"));
    let about = "while there is such a file, nothing is steered and all nodes are in rotation";
    let stop_file = reader.optional("stop_file", about, scalar::place("/run/aviary/stop"));
    let most = FleetRules::PER_HOUR_MAX;
    let about = "how many nodes of all services are taken out in an hour; 5 by default, which is the most";
    let per_hour = reader.optional("per_hour", about, Whole(0)).map_or(most, |given| given as usize);
    if per_hour > most {
        careful(reader, "per_hour", &format!("at most {most}"));
    }
    let about = "a webhook that is told node.advise at each change";
    let hook = reader.optional("webhook", about, section(webhook));
    let about =
        "a request that sets the availability of a node in another system, repeated until it is confirmed";
    let request = reader.optional("request", about, section(request));
    let outlets = hook.into_iter().chain(request).collect();
    Some(Rotation { agent_check, stop_file, per_hour, outlets })
}

fn webhook(reader: &mut Reader<'_>) -> Option<Outlet> {
    let url = reader.required("url", "where it is", scalar::http_url("https://hooks.example.com/nodes"));
    let secret = reader.required("secret", "what it is signed with: whsec_...", secret::api_key());
    let (ca, allow_private) = reach(reader);
    let kind = OutletKind::Webhook(Webhook { url: url?, secret: shared(&secret?), allow_private });
    outlet(reader, kind, ca)
}

fn request(reader: &mut Reader<'_>) -> Option<Outlet> {
    let about = "its method; PUT by default";
    let method = reader.optional("method", about, scalar::line("PUT"));
    let about =
        "its URL, a template with {{ service }}, {{ node }}, {{ state }}, {{ weight }} and {{ is_in }}";
    let url = reader.required("url", about, scalar::line("https://lb.example.com/nodes/{{ node }}"));
    let about = "its headers; a value may be a secret";
    let example = "{ name = \"authorization\", value = { env = \"LB_TOKEN\" } }";
    let headers = reader.optional("headers", about, some(table(example, request_header)));
    let about = "its body, a template with the same and {{ reason }} and {{ since }}, each text as JSON with its quotes";
    let body = reader.optional("body", about, scalar::line("{\"weight\": {{ weight }}}"));
    let about = "the statuses that confirm it, beside 2xx";
    let statuses = reader.optional("statuses", about, some(Whole(100)));
    let (ca, allow_private) = reach(reader);
    let kind = OutletKind::Request(Request {
        method: method.unwrap_or_else(|| "PUT".to_owned()),
        url: url?,
        headers: values(headers.unwrap_or_default()),
        body,
        statuses: values(statuses.unwrap_or_default())
            .into_iter()
            .filter_map(|it| it.try_into().ok())
            .collect(),
        allow_private,
    });
    outlet(reader, kind, ca)
}

fn request_header(reader: &mut Reader<'_>) -> Option<(String, Shared)> {
    let name = reader.required("name", "what it is called", scalar::line("authorization"));
    let value = Either(scalar::line("application/json"), secret::header());
    let value = reader.required("value", "what it says, or where that stands", value);
    let value = match value? {
        Or::First(text) => Shared::new(&text),
        Or::Second(secret) => shared(&secret),
    };
    Some((name?, value))
}

fn reach(reader: &mut Reader<'_>) -> (Option<Pem>, bool) {
    let ca = reader.optional("ca", "an authority to trust beside the system's", secret::authorities());
    let about = "whether its address may be private or loopback; false by default";
    (ca, reader.optional("allow_private", about, Boolean).unwrap_or(false))
}

/// What can be known of it without a connection.
fn outlet(reader: &Reader<'_>, kind: OutletKind, ca: Option<Pem>) -> Option<Outlet> {
    if let Err(error) = kind.check() {
        let help = "see config/collector.toml for one that works";
        reader.refuse_whole(Refusal::new(error.to_string()).help(help));
        return None;
    }
    Some(Outlet { kind, ca })
}

/// Reads `[service.rotation]`.
pub(super) fn of_service(reader: &mut Reader<'_>) -> Option<Steering> {
    let about = "whether nodes are taken out: off, dry-run, which says only what would be and is the default, or live";
    let mode = reader.optional("mode", about, member(Mode::ALL));
    let about = "the nodes that are steered; by default those whose loopback agents report and those that endpoints name";
    let node = Either(scalar::line("n1"), table("{ name = \"n1\", zone = \"a\" }", node));
    let nodes = reader.optional("nodes", about, some(node));
    let about = "over how long a node must lose; 8s by default, which is the least";
    let window = reader.optional("window", about, scalar::seconds("8s"));
    let about = "which share of it a node must lose; 50% by default, which is the least";
    let loss = reader.optional("loss", about, scalar::share());
    let about = "from how many vantages; 2 by default, which is the least";
    let min_vantages = reader.optional("min_vantages", about, Whole(1));
    let about = "the share of the nodes that may be out, one in any case; 10% by default, which is the most";
    let max_out = reader.optional("max_out", about, scalar::share());
    let about = "the share of the nodes that stays in, two in any case; 50% by default, which is the least";
    let min_in = reader.optional("min_in", about, scalar::share());
    let about = "how long after one node another may go; 1m by default, which is the least";
    let every = reader.optional("every", about, scalar::seconds("1m"));
    let about =
        "how long a node is out the first time, doubled each time within a day; 1m by default, 10s at least";
    let readmit_after = reader.optional("readmit_after", about, scalar::seconds("1m"));

    let defaults = Rules::default();
    let rules = Rules {
        window: window.unwrap_or(defaults.window),
        loss: loss.map_or(defaults.loss, part),
        max_out: max_out.map_or(defaults.max_out, part),
        min_in: min_in.map_or(defaults.min_in, part),
        min_vantages: min_vantages.map_or(defaults.min_vantages, |given| given as usize),
        every: every.unwrap_or(defaults.every),
        readmit_after: readmit_after.unwrap_or(defaults.readmit_after),
    };
    let floors = rules.careful();
    let table = [
        ("window", rules.window == floors.window, "from 8s to 60s"),
        ("loss", rules.loss >= floors.loss, "at least 50%"),
        ("min_vantages", rules.min_vantages == floors.min_vantages, "at least 2"),
        ("max_out", rules.max_out <= floors.max_out, "at most 10%"),
        ("min_in", rules.min_in >= floors.min_in, "at least 50%"),
        ("every", rules.every == floors.every, "at least 1m"),
        ("readmit_after", rules.readmit_after == floors.readmit_after, "at least 10s"),
    ];
    for (key, is_careful, allowed) in table {
        if !is_careful {
            careful(reader, key, allowed);
        }
    }
    let nodes = named(reader, nodes.unwrap_or_default());
    Some(Steering { mode: mode.unwrap_or_default(), rules, nodes, named: Default::default() })
}

fn part(share: AcceptableLoss) -> f64 {
    f64::from(share.parts_per_million()) / 1e6
}

/// What holds back from emptying a pool is no matter of taste.
fn careful(reader: &Reader<'_>, key: &str, allowed: &str) {
    let message = "a figure that keeps nodes in rotation may be more careful than its default, and no less";
    reader.refuse(key, Refusal::new(message).help(format!("write {allowed}, or leave the key out")));
}

type Node = (String, Option<String>);

fn node(reader: &mut Reader<'_>) -> Option<Node> {
    let name = reader.required("name", "as its loopback agent or its endpoint has it", scalar::line("n1"));
    let zone = reader.optional("zone", "of a zone one node may be out at once", scalar::line("a"));
    Some((name?, zone))
}

fn named(reader: &Reader<'_>, given: Vec<At<Or<String, Node>>>) -> Vec<Node> {
    let mut names = BTreeSet::new();
    let mut nodes = Vec::new();
    for At { path, value } in given {
        let (name, zone) = match value {
            Or::First(name) => (name, None),
            Or::Second(node) => node,
        };
        if !names.insert(name.clone()) {
            let refusal = Refusal::new(format!("two nodes are called `{name}`")).help("take one out");
            reader.context().refuse(&path, refusal);
        }
        nodes.push((name, zone));
    }
    if nodes.len() > NODES_MAX {
        let refusal = Refusal::new(format!("{} nodes are more than are steered", nodes.len()));
        reader.refuse("nodes", refusal.help(format!("list at most {NODES_MAX}")));
    }
    nodes
}
