//! `[[service]]`: what is probed, what it may lose, and what counts as delivered.

use std::collections::{BTreeMap, BTreeSet};

use aviary_collector::{Alerting, ServiceStatus, Steering};
use aviary_core::{
    AcceptableLoss, Endpoint, Evidence, Protocol, Series, Vantage, VantageKind, vantage::ABSENT,
    verdict::Policy,
};
use aviary_probe::Family;

use super::{
    alerting,
    context::{Context, Refusal},
    discovery::Discovery,
    endpoint::{self, ADDRESSES_ABOUT, Addresses, Entry, Kinds, ServiceEndpoint, What, entry_of},
    kind::{At, Either, Or, Whole, choice, member, section, some, table, values},
    network::{self, Source},
    readback::{self, Readback},
    reader::Reader,
    rotation, scalar,
    secret::{self, Pem, Secret},
    status,
    template::{Field, Template},
};

/// The most bytes of a datapoint on the wire: no configuration makes a weapon of a prober.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1024;

/// The most that any protocol writes beside the name: value, timestamp, and the frame of a pickle.
const FRAME_BYTES_MAX: usize = 64;

/// The room that an address takes in the name of a series that goes to one alone.
const ADDRESS_BYTES_MAX: usize = 40;

/// A service under test.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: String,
    /// What the Graphite names of its series begin with.
    pub(crate) prefix: String,
    /// What it may lose, and how many vantages must look.
    pub(crate) policy: Policy,
    /// The nodes that templates of endpoints stand for, where it is not the one that probes itself.
    pub(crate) nodes: Vec<String>,
    /// What is probed, as far as it is known here.
    pub(crate) endpoints: Vec<ServiceEndpoint>,
    /// What finds more of it.
    pub(crate) discoveries: Vec<Discovery>,
    /// The protocols of endpoints that only whoever probes them knows.
    pub(crate) elsewhere: BTreeSet<Protocol>,
    /// The lowest rung that counts, where the default of each protocol is not meant.
    pub(crate) counts_as_delivered: Option<Evidence>,
    /// PEM certificates to trust, beside the system's.
    pub(crate) ca: Option<Pem>,
    /// What the service knows its customer by.
    pub(crate) api_key: Option<Secret>,
    /// Which addresses of a name are wanted.
    pub(crate) family: Family,
    /// Where its probes come from, if not from where the agent's do.
    pub(crate) source: Option<Source>,
    /// Who looks after it.
    pub(crate) owner: Option<String>,
    /// What to do when it is down.
    pub(crate) runbook: Option<String>,
    /// Where it tells what it stored.
    pub(crate) readback: Option<Readback>,
    /// What it wants somebody to be told of, and how.
    pub(crate) alerting: Alerting,
    /// What customers know it as.
    pub(crate) status: ServiceStatus,
    /// How its nodes are steered, if they are.
    pub(crate) rotation: Option<Steering>,
}

impl Service {
    /// What is probed from a vantage of `kind`; where nothing probes, from any.
    pub(crate) fn probed(&self, kind: Option<VantageKind>) -> impl Iterator<Item = &ServiceEndpoint> {
        self.endpoints.iter().filter(move |it| it.kinds.has(kind))
    }

    /// The protocols of all endpoints, known here or not.
    pub(crate) fn protocols(&self) -> BTreeSet<Protocol> {
        let known = self.endpoints.iter().map(|it| it.endpoint.protocol());
        known.chain(self.elsewhere.iter().copied()).collect()
    }
}

/// A service as it stands in the file, with the places of its endpoints and whether it can be read back.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) service: Service,
    pub(super) endpoint_paths: Vec<String>,
    pub(super) has_readback: bool,
    /// What stands in the file, of which [`complete`] makes the service's endpoints.
    entries: Vec<At<Entry>>,
    addresses: Addresses,
}

/// What a service may lose: as a whole, and by protocol.
struct Losses {
    default: AcceptableLoss,
    by_protocol: BTreeMap<Protocol, AcceptableLoss>,
}

/// Reads one `[[service]]`.
pub(super) fn service(reader: &mut Reader<'_>) -> Option<Draft> {
    let name = reader.required("name", "what people call it", scalar::service_name());
    let prefix =
        reader.optional("prefix", "what its Graphite names begin with; canary by default", scalar::prefix());
    let losses = reader.optional(
        "acceptable_loss",
        "the share of seconds that may be lost, as a whole or by protocol; 0.5% by default",
        Either(scalar::share(), table("{ default = \"0.5%\", udp = \"2%\" }", losses)),
    );
    let endpoints = reader.required("endpoints", "what is probed", some(endpoint::entry()));
    let nodes = "what {node} stands for in its endpoints, but for a node that probes itself";
    let nodes = reader.optional("nodes", nodes, some(scalar::line("graphite-1")));
    let counts_as_delivered = reader.optional(
        "counts_as_delivered",
        "the lowest rung of evidence that counts",
        member(Evidence::ALL),
    );
    let ca = reader.optional("ca", "an authority to trust beside the system's", secret::authorities());
    let api_key = reader.optional("api_key", "what the service knows its customer by", secret::api_key());
    let addresses = reader.optional("addresses", ADDRESSES_ABOUT, endpoint::addresses());
    let families = [("any", Family::Any), ("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
    let family = reader.optional(
        "family",
        "which addresses are wanted; any, IPv4 first, by default",
        choice(families),
    );
    let source = "the address or interface that its probes come from; the agent's by default";
    let source = reader.optional("source", source, network::source());
    let min_vantages =
        reader.optional("min_vantages", "with fewer reporting, we cannot tell; 1 by default", Whole(1));
    let owner = reader.optional("owner", "who looks after it", scalar::line("ingest team"));
    let runbook = "https://runbooks.example.com/ingest";
    let runbook = reader.optional("runbook", "what to do when it is down", scalar::line(runbook));
    let alerting = alerting::alerting(reader);
    let about = "what customers know it as, where there is a status page";
    let shown = reader.optional("status", about, table("{ name = \"Ingest\" }", status::of_service));
    let readback =
        reader.optional("readback", "where the service tells what it stored", section(readback::readback));
    let about = "how nodes that are lossy alone are taken out of rotation; absent: they are not";
    let rotation = reader.optional("rotation", about, section(rotation::of_service));

    let Losses { default, by_protocol } = match losses {
        Some(Or::First(default)) => Losses { default, by_protocol: BTreeMap::new() },
        Some(Or::Second(losses)) => losses,
        None => Losses { default: AcceptableLoss::default(), by_protocol: BTreeMap::new() },
    };
    Some(Draft {
        service: Service {
            name: name?,
            prefix: prefix.unwrap_or_else(|| "canary".to_owned()),
            policy: Policy {
                acceptable_loss: default,
                by_protocol,
                by_endpoint: BTreeMap::new(),
                min_vantages: min_vantages.unwrap_or(1) as usize,
            },
            nodes: values(nodes.unwrap_or_default()),
            endpoints: Vec::new(),
            discoveries: Vec::new(),
            elsewhere: BTreeSet::new(),
            counts_as_delivered,
            ca,
            api_key,
            family: family.unwrap_or_default(),
            source,
            owner,
            runbook,
            readback,
            alerting,
            status: shown.unwrap_or_default(),
            rotation,
        },
        endpoint_paths: Vec::new(),
        has_readback: reader.has("readback"),
        entries: endpoints?
            .into_iter()
            .map(|At { path, value }| At { path, value: entry_of(value) })
            .collect(),
        addresses: addresses.unwrap_or_default(),
    })
}

fn losses(reader: &mut Reader<'_>) -> Option<Losses> {
    let default = reader.optional("default", "what may be lost where nothing else is said", scalar::share());
    let mut by_protocol = BTreeMap::new();
    for protocol in Protocol::ALL {
        let loss = reader.optional(protocol.name(), "what may be lost of this protocol", scalar::share());
        by_protocol.extend(loss.map(|loss| (*protocol, loss)));
    }
    Some(Losses { default: default.unwrap_or_default(), by_protocol })
}

/// Makes each draft's endpoints of what stands in the file, as they are known from `vantage`; without one, as they are for
/// whoever judges.
pub(super) fn complete(drafts: &mut [At<Draft>], context: &Context<'_>, vantage: Option<&Vantage>) {
    for At { value: draft, .. } in drafts {
        for At { path, value: entry } in std::mem::take(&mut draft.entries) {
            let addresses = entry.addresses.unwrap_or(draft.addresses);
            let known = match entry.what {
                What::Endpoint(endpoint) => vec![(endpoint, entry.kinds, entry.node)],
                What::Template(template) => {
                    let protocol = template.protocol();
                    let (known, is_all) =
                        completed(&template, entry.kinds, &draft.service.nodes, vantage, &path, context);
                    draft.service.elsewhere.extend((!is_all).then_some(protocol));
                    known
                }
                What::Discovery(discovery) => {
                    draft.service.elsewhere.insert(discovery.protocol);
                    draft.service.discoveries.push(Discovery { addresses, kinds: entry.kinds, ..discovery });
                    continue;
                }
            };
            for (endpoint, kinds, node) in known {
                if let (Some(node), Some(rotation)) = (node, &mut draft.service.rotation) {
                    rotation.named.insert(endpoint.to_string(), node);
                }
                if let Some(loss) = entry.acceptable_loss {
                    draft.service.policy.by_endpoint.insert(endpoint.to_string(), loss);
                }
                let required = entry.required;
                let endpoint = ServiceEndpoint { endpoint, required, addresses, kinds, found: None };
                draft.service.endpoints.push(endpoint);
                draft.endpoint_paths.push(path.clone());
            }
        }
    }
}

/// The endpoints of `template`, each with the kinds of vantage that probe it and the node that it is, and whether those are all.
fn completed(
    template: &Template,
    kinds: Kinds,
    nodes: &[String],
    vantage: Option<&Vantage>,
    path: &str,
    context: &Context<'_>,
) -> (Vec<(Endpoint, Kinds, Option<String>)>, bool) {
    let has_node = template.has(Field::Node);
    let has_place = template.has(Field::Region) || template.has(Field::Zone);
    let own = vantage.map(|vantage| (vantage.kind, vantage.node.as_str()));
    let itself = |kind| kind == VantageKind::Loopback && has_node;
    let mut wanted: Vec<(&str, Kinds)> = Vec::new();
    let of_nodes = kinds.only(itself);
    let is_all = of_nodes.is_none() && !has_place;
    if let (Some(kinds), Some((VantageKind::Loopback, node))) = (of_nodes, own) {
        wanted.push((node, kinds));
    }
    if let Some(kinds) = kinds.only(|kind| !itself(kind)) {
        match (has_node, nodes) {
            (false, _) => wanted.push(("", kinds)),
            (true, []) => {
                let message = format!(
                    "{template} is probed from elsewhere too, and nothing says which nodes there are"
                );
                let help =
                    "add nodes = [\"graphite-1\"] to the service, or kinds = [\"loopback\"] to this endpoint";
                context.refuse(path, Refusal::new(message).help(help));
            }
            (true, nodes) => wanted.extend(nodes.iter().map(|node| (node.as_str(), kinds.clone()))),
        }
    }
    // What stands for the place of whoever probes, whoever only judges does not know, nor do those of other kinds.
    wanted.retain(|(_, kinds)| !has_place || own.is_some_and(|(kind, _)| kinds.has(Some(kind))));
    let mut known = Vec::with_capacity(wanted.len());
    for (node, kinds) in wanted {
        match template.completed(vantage, node) {
            Ok(endpoint) => known.push((endpoint, kinds, has_node.then(|| node.to_owned()))),
            Err(refusal) => {
                context.refuse(path, refusal);
                break;
            }
        }
    }
    (known, is_all)
}

/// What else a file has that speaks of its services.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'s> {
    /// Where probes run from, if here.
    pub(super) vantage: Option<&'s Vantage>,
    /// Whether the services are judged here.
    pub(super) has_collector: bool,
    /// Whether what arrives is seen here.
    pub(super) has_sink: bool,
}

/// What is wrong with the services beside their single keys, and with each other.
pub(super) fn refuse_contradictions(
    drafts: &[At<Draft>],
    context: &Context<'_>,
    surroundings: Surroundings<'_>,
) {
    // All series of a file share one vantage, so that any will do to tell their names apart.
    let somewhere = Vantage {
        kind: VantageKind::External,
        region: ABSENT.to_owned(),
        zone: None,
        network: None,
        node: context.host.to_owned(),
    };
    let vantage = surroundings.vantage.unwrap_or(&somewhere);
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for At { path, value: draft } in drafts {
        let name = draft.service.name.as_str();
        match names.get(name) {
            Some(earlier) => {
                let message = format!("two services are called `{name}`{}", at_line(context, earlier));
                context.refuse(&format!("{path}.name"), Refusal::new(message).help("rename one"));
            }
            None => drop(names.insert(name, path)),
        }
        refuse_equal_endpoints(draft, context, vantage);
        // Whether a service of a collector can be proven is for that collector to say, and it has.
        if !context.is_foreign() {
            refuse_unshowable(path, draft, context, surroundings.has_collector, surroundings.has_sink);
        }
        if surroundings.has_collector {
            alerting::refuse_what_never_fires(path, draft, context);
        }
    }
}

fn refuse_equal_endpoints(draft: &Draft, context: &Context<'_>, vantage: &Vantage) {
    let Service { name, prefix, endpoints, .. } = &draft.service;
    let mut graphite_names: BTreeMap<String, Vec<(&ServiceEndpoint, &str)>> = BTreeMap::new();
    for (one, path) in endpoints.iter().zip(&draft.endpoint_paths) {
        let ServiceEndpoint { endpoint, addresses, kinds, .. } = one;
        let series = Series {
            service: name.clone(),
            vantage: vantage.clone(),
            endpoint: endpoint.clone(),
            address: None,
        };
        let graphite_name = series.graphite_name(prefix);
        let payload_bytes = payload_bytes(&draft.service, &graphite_name, *addresses);
        if payload_bytes > PAYLOAD_BYTES_MAX {
            let message = format!(
                "the datapoints of {endpoint} would have {payload_bytes} bytes with their name, and {PAYLOAD_BYTES_MAX} are the most"
            );
            context.refuse(path, Refusal::new(message).help("shorten prefix, service, region, zone or node"));
        }
        // The kind of vantage is part of the name.
        let alike = graphite_names.entry(graphite_name.clone()).or_default();
        let in_the_way = alike.iter().find(|(earlier, _)| earlier.kinds.meet(kinds)).copied();
        alike.push((one, path));
        let Some((ServiceEndpoint { endpoint: earlier, .. }, earlier_path)) = in_the_way else { continue };
        let place = at_line(context, earlier_path);
        let refusal = if earlier == endpoint {
            Refusal::new(format!("{endpoint} is listed twice{place}")).help("take one out")
        } else {
            let message = format!("{endpoint} and {earlier}{place} have one Graphite name, {graphite_name}");
            Refusal::new(message)
                .help("two series under one name read back as one: move one to a service of its own")
        };
        context.refuse(path, refusal);
    }
}

/// The most bytes that a datapoint of this name has on the wire.
pub(crate) fn payload_bytes(service: &Service, graphite_name: &str, addresses: Addresses) -> usize {
    let key_bytes = service.api_key.as_ref().map_or(0, |key| key.expose().len() + 1);
    let address_bytes = if addresses == Addresses::All { ADDRESS_BYTES_MAX } else { 0 };
    graphite_name.len() + key_bytes + address_bytes + FRAME_BYTES_MAX
}

/// Whether what counts as delivered can be shown at all.
fn refuse_unshowable(path: &str, draft: &Draft, context: &Context<'_>, has_collector: bool, has_sink: bool) {
    let service = &draft.service;
    let has_storage = has_sink || draft.has_readback;
    let counts = service.counts_as_delivered;
    let counts_path = format!("{path}.counts_as_delivered");
    match counts {
        Some(Evidence::Sent) => {
            let message = "`sent` shows nothing: it is true of every datapoint that left this host";
            let help =
                "write \"peer_closed\" or \"stored\", or leave the key out for what each protocol can show";
            return context.refuse(&counts_path, Refusal::new(message).help(help));
        }
        Some(Evidence::Stored) if !has_storage => {
            let message = "nothing can show that a datapoint of this service was stored";
            let help = "add a [service.readback], or a [sink] to this file, or leave the key out";
            return context.refuse(&counts_path, Refusal::new(message).help(help));
        }
        _ => {}
    }
    // Whose evidence it is, is the collector's to judge; an agent alone has nothing to say of it.
    if has_storage || (counts.is_none() && !has_collector) {
        return;
    }
    let mut unproven = service.protocols();
    unproven.retain(|protocol| {
        let wanted = counts.unwrap_or(Evidence::KernelAcked);
        protocol.strongest_evidence() < wanted
    });
    for protocol in unproven {
        let strongest = protocol.strongest_evidence();
        let message = format!(
            "{protocol} shows `{strongest}` at most, so its seconds will read as unproven: neither lost nor delivered"
        );
        let help = "only storage could show more: [service.readback], or a [sink] in this file";
        let path = if counts.is_some() { counts_path.clone() } else { format!("{path}.endpoints") };
        context.note(&path, Refusal::new(message).help(help));
    }
}

fn at_line(context: &Context<'_>, path: &str) -> String {
    context.line(path).map_or_else(String::new, |line| format!(" (line {line})"))
}
