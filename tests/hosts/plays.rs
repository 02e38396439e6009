//! What is played: the short one and the whole of it.

use super::{
    fault::{Deed, To, Way},
    play::{self, Fault, Lost, Page, progress},
    services::Service,
    stage::{Plan, Stage},
    table::Table,
};

const EU: &[&str] = &["eu"];
const US: &[&str] = &["us"];
const AP: &[&str] = &["ap"];
const DC: &[&str] = &["dc"];
/// All that are on no node.
const OUTSIDE: &[&str] = &["ap", "eu", "us", "dc"];

const TCP: &[&str] = &["tcp"];
const UDP: &[&str] = &["udp"];
const BOTH: &[&str] = &["tcp", "udp"];
const WITH_TLS: &[&str] = &["tls", "tcp"];

/// What is said of a region of which nobody reports.
const UNSEEN: Page =
    Page::One { says: "we cannot see ap", urgency: "page", severity: "error", blame: "unclear" };

/// Whose clock is ahead in either, and by how many seconds.
const SKEWED: (&str, u64) = ("us", 3);

/// Plays those faults that show in half a minute, all at once, with three nodes; or the whole of it, with six and every fault, for as
/// long as it takes. Of either only those faults whose name has one of `wanted` in it, if that has any.
#[track_caller]
pub(crate) fn play(is_whole: bool, wanted: &[String]) -> Table {
    let (nodes, judged, mut faults) = match is_whole {
        // Nothing is waited out that there is no time for.
        false => (3, "burst = 1.0", short()),
        // As it is by default.
        true => (6, "", whole()),
    };
    faults.retain(|fault| {
        wanted.is_empty() || wanted.iter().any(|wanted| fault.name.contains(wanted.as_str()))
    });
    assert!(!faults.is_empty(), "there is no fault whose name has any of {wanted:?} in it");
    let first = faults.iter().map(|fault| fault.begins).min().unwrap_or_default();
    faults.iter_mut().for_each(|fault| fault.begins -= first);
    let mut services = services(nodes);
    services.retain(|service| service.on_nodes || faults.iter().any(|fault| fault.service == service.name));
    if !is_whole {
        // Servers that are busy with other tests lose a few where the network loses none.
        services
            .iter_mut()
            .filter(|service| ["slow", "mixed", "twice"].contains(&service.name))
            .for_each(|service| service.acceptable_loss = "10%");
    }
    let plan = Plan { services, nodes, judged, skewed: SKEWED, is_alone: is_whole };
    progress("starting hosts");
    let stage = Stage::start(&plan);
    progress(&format!("{} faults", faults.len()));
    Table(play::play(&stage, &plan.services, &faults))
}

/// A service for each fault.
fn services(nodes: usize) -> Vec<Service> {
    let last = nodes - 1;
    let on_every: Vec<_> = (0..nodes).map(|node| ("tcp", Some(node), 1)).collect();
    // Where little is lost many series tell how much, from where it is.
    let both = [("tcp", Some(0), 1), ("udp", Some(0), 1)];
    vec![
        Service::new("datagrams-20", 0, &[("udp", Some(0), 5)]).read_back().mostly_from("eu"),
        Service::new("datagrams-5", 1, &[("udp", Some(0), 10)]).read_back().mostly_from("eu").accepts("10%"),
        // Twice what is acceptable by default would have to last for an hour before it is no chance; and some 35 slots must be lost from
        // one place before it is none of a few bursts.
        Service::new("datagrams-1", 2, &[("udp", Some(0), 30)])
            .read_back()
            .mostly_from("us")
            .accepts("0.01%"),
        Service::new("datagrams-01", 3, &[("udp", Some(0), 40)]).read_back().mostly_from("eu"),
        Service::new("connections-20", 4, &[("tcp", Some(1), 10)]),
        Service::new("connections-5", 5, &[("tcp", Some(1), 20)]).mostly_from("eu"),
        Service::new("connections-1", 6, &[("tcp", Some(1), 20)]).mostly_from("eu").accepts("2%"),
        Service::new("connections-01", 7, &[("tcp", Some(1), 60)]).mostly_from("eu"),
        Service::new("slow", 8, &[("tcp", Some(1), 1)]),
        Service::new("slower", 9, &both).read_back(),
        Service::new("mixed", 10, &both).read_back(),
        Service::new("twice", 11, &both).read_back(),
        Service::new("secure", 12, &[("tls", Some(last), 1), ("tcp", Some(last), 1)]),
        Service::new("ingest", 13, &on_every).on_nodes(),
        Service::new("names", 14, &[("tcp", None, 1)]),
        Service::new("back", 15, &both).read_back(),
        Service::new("lookup", 16, &[("tcp", None, 1)]),
        // Of two names, so that all of an agent's may be silent and not one alone.
        Service::new("lookup-2", 17, &[("tcp", None, 1)]),
    ]
}

fn to(name: &'static str, nodes: &[usize], protocols: &'static [&'static str]) -> To {
    To::Service { name, nodes: nodes.to_vec(), protocols }
}

fn page(says: &'static str, blame: &'static str) -> Page {
    Page::One { says, urgency: "page", severity: "warning", blame }
}

fn fault(
    name: &'static str,
    service: &'static str,
    (from, to): (&'static [&'static str], To),
    deed: Deed,
    lost: Lost,
    page: Page,
) -> Fault {
    Fault { name, service, way: Way { from, to }, deed, begins: 0, lasts: 38, lost, page }
}

fn short() -> Vec<Fault> {
    vec![
        fault(
            "5 % of datagrams, eu to n1",
            "datagrams-5",
            (EU, to("datagrams-5", &[0], UDP)),
            Deed::LoseDatagrams(50),
            Lost::EachHit(0.05),
            Page::None,
        ),
        fault(
            "20 % of connections, us to n2",
            "connections-20",
            (US, to("connections-20", &[1], &["tcp"])),
            Deed::LoseConnections(200),
            Lost::EachHit(0.2),
            page("us outside only", "path"),
        ),
        fault(
            "200 ms more, eu to n2",
            "slow",
            (EU, to("slow", &[1], &["tcp"])),
            Deed::Delay(0.2),
            Lost::Nothing,
            Page::None,
        ),
        fault(
            "1,200 ms more, dc to n1",
            "slower",
            (DC, to("slower", &[0], BOTH)),
            Deed::Delay(1.2),
            Lost::All(TCP),
            page("tcp ", "unclear"),
        ),
        fault(
            "each second packet overtaken",
            "mixed",
            (EU, to("mixed", &[0], BOTH)),
            Deed::Reorder(0.03),
            Lost::Nothing,
            Page::None,
        ),
        fault(
            "each packet twice",
            "twice",
            (EU, to("twice", &[0], BOTH)),
            Deed::Duplicate,
            Lost::Nothing,
            Page::None,
        ),
        fault(
            "eu cut off from the service",
            "ingest",
            (EU, to("ingest", &[0, 1, 2], TCP)),
            Deed::Cut,
            Lost::All(&["tcp"]),
            page("eu outside only", "path"),
        ),
        fault(
            "one of three addresses dead",
            "names",
            (OUTSIDE, to("names", &[2], &["tcp"])),
            Deed::Cut,
            Lost::All(&["tcp"]),
            page("address", "service"),
        ),
        // A region must be silent for half a minute before anybody is told, and this begins last.
        Fault {
            lasts: 50,
            ..fault(
                "ap cut off from the collector",
                "",
                (AP, To::Collector),
                Deed::Cut,
                Lost::Nothing,
                UNSEEN,
            )
        },
    ]
}

/// All of them, in an order in which few are told in any minute: more than five are one page.
fn whole() -> Vec<Fault> {
    let every = [0, 1, 2, 3, 4, 5];
    let at = |begins, lasts, name, service, way, (deed, lost), page| Fault {
        begins,
        lasts,
        ..fault(name, service, way, deed, lost, page)
    };
    let datagrams = |share| (Deed::LoseDatagrams(share), Lost::EachHit(f64::from(share) / 1_000.0));
    let connections = |share| (Deed::LoseConnections(share), Lost::EachHit(f64::from(share) / 1_000.0));
    let cut = (Deed::Cut, Lost::All(TCP));
    vec![
        at(
            0,
            500,
            "loss of 0.1 % of datagrams, eu to n1",
            "datagrams-01",
            (EU, to("datagrams-01", &[0], UDP)),
            datagrams(1),
            Page::None,
        ),
        at(
            0,
            500,
            "loss of 0.1 % of connections, eu to n2",
            "connections-01",
            (EU, to("connections-01", &[1], TCP)),
            connections(1),
            Page::None,
        ),
        at(
            0,
            120,
            "loss of 20 % of datagrams, eu to n1",
            "datagrams-20",
            (EU, to("datagrams-20", &[0], UDP)),
            datagrams(200),
            page("eu outside only", "path"),
        ),
        at(
            0,
            120,
            "loss of 20 % of connections, ap to n2",
            "connections-20",
            (AP, to("connections-20", &[1], TCP)),
            connections(200),
            page("ap outside only", "path"),
        ),
        at(
            0,
            120,
            "us cut off from the service",
            "ingest",
            (US, to("ingest", &every, TCP)),
            cut,
            page("us outside only", "path"),
        ),
        at(
            0,
            120,
            "delay of 300 ms, eu to n2",
            "slow",
            (EU, to("slow", &[1], TCP)),
            (Deed::Delay(0.3), Lost::Nothing),
            Page::None,
        ),
        at(
            60,
            120,
            "half of the addresses dead",
            "names",
            (OUTSIDE, to("names", &[3, 4, 5], TCP)),
            cut,
            page("addresses", "service"),
        ),
        at(
            60,
            120,
            "MTU black hole over 600 B, dc to n6",
            "secure",
            (DC, to("secure", &[5], WITH_TLS)),
            (Deed::BlackHole(600), Lost::All(&["tls"])),
            page("tls in the data centre only", "unclear"),
        ),
        at(
            130,
            120,
            "reordering, eu to n1",
            "mixed",
            (EU, to("mixed", &[0], BOTH)),
            (Deed::Reorder(0.03), Lost::Nothing),
            Page::None,
        ),
        at(
            130,
            120,
            "duplication, eu to n1",
            "twice",
            (EU, to("twice", &[0], BOTH)),
            (Deed::Duplicate, Lost::Nothing),
            Page::None,
        ),
        at(
            130,
            200,
            "loss of 5 % of datagrams, eu to n1, of which 10 % may be",
            "datagrams-5",
            (EU, to("datagrams-5", &[0], UDP)),
            datagrams(50),
            Page::None,
        ),
        at(
            250,
            150,
            "loss of 5 % of connections, eu to n2",
            "connections-5",
            (EU, to("connections-5", &[1], TCP)),
            connections(50),
            page("eu outside only", "path"),
        ),
        at(
            250,
            100,
            "loss of all that comes back to ap from n1",
            "back",
            (AP, to("back", &[0], BOTH)),
            (Deed::CutBack, cut.1),
            page("tcp ", "unclear"),
        ),
        at(
            250,
            100,
            "delay of 1,200 ms, dc to n1",
            "slower",
            (DC, to("slower", &[0], BOTH)),
            (Deed::Delay(1.2), cut.1),
            page("tcp ", "unclear"),
        ),
        at(
            340,
            60,
            "DNS silent about one name",
            "lookup",
            (OUTSIDE, To::Name("lookup")),
            cut,
            Page::One { says: "everything", urgency: "page", severity: "critical", blame: "service" },
        ),
        at(
            420,
            60,
            "ap cut off from the collector",
            "",
            (AP, To::Collector),
            (Deed::Cut, Lost::Nothing),
            UNSEEN,
        ),
        at(
            300,
            260,
            "loss of 1 % of datagrams, us to n1, of which 0.01 % may be",
            "datagrams-1",
            (US, to("datagrams-1", &[0], UDP)),
            datagrams(10),
            page("us outside only", "path"),
        ),
        at(
            300,
            260,
            "loss of 1 % of connections, eu to n2, of which 2 % may be",
            "connections-1",
            (EU, to("connections-1", &[1], TCP)),
            connections(10),
            Page::None,
        ),
        // Until too little is known of the newest minute, and half a minute more.
        at(
            500,
            140,
            "DNS silent altogether",
            "lookup-2",
            (OUTSIDE, To::Names),
            (Deed::Cut, Lost::NotMeasured),
            Page::One { says: "cannot tell", urgency: "page", severity: "error", blame: "unclear" },
        ),
    ]
}
