//! Names, against a name server of the test's own.

use std::{
    cell::Cell,
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aviary_core::{Clock as _, Evidence, Fault, Outcome, Phase, Second};
use aviary_probe::{AddressChoice, Dns, Family, Host, HostAndPort, Observation, Prober, SystemClock, Target};
use hickory_resolver::proto::{
    op::ResponseCode,
    rr::RecordType::{self, A, AAAA},
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    cell,
    name_server::{NameServer, REPEATED_US, Reply, prober_asking},
    rig::{
        A_SECOND, A_WHILE, SOON, again_if, delivered, is_held_up, lost, run, run_once, target, this_second,
    },
    sockets::{accept, closed_port, listener, read_to_end},
};

const DELIVERED: Outcome = delivered(Evidence::PeerClosed);

async fn attempt(prober: &Prober<Host, SystemClock>, target: &Target) -> Observation {
    run(prober, target, this_second(), A_SECOND).await
}

/// Attempts at these targets in these seconds, one behind another, and what the name server of `start` was asked. Again
/// with another one where a question may have been repeated.
async fn asking(
    start: impl AsyncFn() -> NameServer,
    attempts: &[(Target, Second)],
) -> (Vec<Observation>, Vec<RecordType>) {
    let once = async || {
        let names = start().await;
        let prober = names.prober();
        let mut seen = Vec::new();
        for (target, second) in attempts {
            seen.push(run_once(&prober, target, *second).await);
        }
        (seen, names.asked())
    };
    again_if(|(seen, _)| seen.iter().any(is_held_up), once).await
}

/// The same with one attempt.
async fn asking_once(start: impl AsyncFn() -> NameServer, target: Target) -> (Observation, Vec<RecordType>) {
    let (mut seen, asked) = asking(start, &[(target, this_second())]).await;
    (seen.remove(0), asked)
}

/// A peer that reads every connection to its end, stopped when dropped.
fn reader(listener: TcpListener) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_to_end(&mut stream).await.1.ok();
        }
    });
    task
}

/// A name that only the test's name server knows, at a peer that reads.
fn named() -> (JoinSet<()>, Target, u16) {
    let (listener, address) = listener();
    (reader(listener), target(&format!("tcp://probed.test:{}", address.port())), address.port())
}

fn reply(addresses: &[&str]) -> Reply {
    Reply::Addresses(addresses.iter().map(|address| address.parse().expect("an address")).collect())
}

#[tokio::test]
async fn each_attempt_asks_anew() {
    let (_peer, target, port) = named();
    let attempts = vec![(target, this_second()); 5];
    let (seen, asked) = asking(async || NameServer::of(["127.0.0.1"]).await, &attempts).await;
    for seen in seen {
        assert_eq!(seen.outcome, DELIVERED);
        assert_eq!(seen.address.unwrap().to_string(), format!("127.0.0.1:{port}"));
        assert!(seen.timings.get(Phase::Dns).unwrap() > 0, "{:?}", seen.timings);
    }
    assert_eq!(asked, [A; 5]);
}

#[tokio::test]
async fn failures_are_not_remembered_either() {
    let (_peer, target, _) = named();
    let names = async || {
        NameServer::start(|index, _| match index {
            0 | 1 => Reply::Code(ResponseCode::NXDomain),
            _ => reply(&["127.0.0.1"]),
        })
        .await
    };
    let (seen, _) = asking(names, &vec![(target, this_second()); 2]).await;
    let outcomes: Vec<_> = seen.iter().map(|seen| seen.outcome).collect();
    assert_eq!(outcomes, [lost(Phase::Dns, Fault::NameNotFound), DELIVERED]);
}

#[tokio::test]
async fn a_lost_query_is_asked_again_in_time() {
    let (_peer, target, _) = named();
    let once = async || {
        let names = NameServer::start(|index, _| match index {
            0 => Reply::Silence,
            _ => reply(&["127.0.0.1"]),
        })
        .await;
        let seen = run_once(&names.prober(), &target, this_second()).await;
        (seen.timings.get(Phase::Dns).unwrap(), seen, names.asked())
    };
    // From then on it may be repeated once more.
    let (looked_up, seen, asked) = again_if(|(looked_up, ..)| *looked_up >= 2 * REPEATED_US, once).await;
    assert_eq!(seen.outcome, DELIVERED);
    assert!((300_000..600_000).contains(&looked_up), "{:?}", seen.timings);
    assert_eq!(asked, [A; 2]);
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_comes_over_tcp() {
    let (_peer, target, _) = named();
    let attempts = vec![(target, this_second()); 2];
    let (seen, asked) = asking(async || NameServer::over_tcp(["127.0.0.1"]).await, &attempts).await;
    assert!(seen.iter().all(|seen| seen.outcome == DELIVERED), "{seen:?}");
    assert_eq!(asked, [A; 2], "over UDP first");
}

#[tokio::test]
async fn nobody_answers() {
    let (_peer, target, _) = named();
    let names = NameServer::start(|_, _| Reply::Silence).await;
    let (_reserved, nobody) = closed_port();
    for prober in [names.prober(), prober_asking(nobody)] {
        let seen = attempt(&prober, &target).await;
        assert_eq!(seen.outcome, lost(Phase::Dns, Fault::Timeout), "{seen:?}");
        assert!((890_000..1_050_000).contains(&seen.timings.total_us), "{:?}", seen.timings);
        assert_eq!(seen.address, None);
    }
    assert!(names.asked().len() >= 3, "{:?}", names.asked());
}

#[tokio::test]
async fn what_a_name_server_says_of_a_name_it_has_not() {
    let (_peer, target, _) = named();
    let table = [
        (Reply::Code(ResponseCode::NXDomain), Fault::NameNotFound),
        (reply(&[]), Fault::NameNotFound),
        (Reply::Code(ResponseCode::ServFail), Fault::Resolver),
        (Reply::Code(ResponseCode::Refused), Fault::Resolver),
        (Reply::Code(ResponseCode::NotImp), Fault::Resolver),
    ];
    for (always, fault) in table {
        let names = async || {
            let always = always.clone();
            NameServer::start(move |_, _| always.clone()).await
        };
        let (seen, asked) = asking_once(names, target.clone()).await;
        assert_eq!(seen.outcome, lost(Phase::Dns, fault), "{always:?}");
        assert!(seen.timings.total_us < 300_000, "{always:?}: at once: {:?}", seen.timings);
        assert!(asked.len() <= 6, "{always:?}: {asked:?}");
    }
}

/// Where a lookup of IPv4 addresses fails, that there are none of IPv6 says nothing of the name.
#[tokio::test]
async fn a_failure_is_not_covered_up_by_the_other_family() {
    let (_peer, target, _) = named();
    let table = [
        (Reply::Code(ResponseCode::ServFail), Fault::Resolver),
        (Reply::Code(ResponseCode::Refused), Fault::Resolver),
        (Reply::Silence, Fault::Timeout),
    ];
    for (of_ipv4, fault) in table {
        let shown = format!("{of_ipv4:?}");
        let names =
            NameServer::start(move |_, kind| if kind == A { of_ipv4.clone() } else { reply(&[]) }).await;
        let seen = attempt(&names.prober(), &target).await;
        assert_eq!(seen.outcome, lost(Phase::Dns, fault), "{shown}: {seen:?}");
    }
}

#[tokio::test]
async fn ipv4_goes_before_ipv6_unless_told_otherwise() {
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let url = format!("tcp://probed.test:{}", listener.local_addr().unwrap().port());
    let _peer = reader(listener);
    let both = ["::1", "127.0.0.1"];
    let not_found = Err(Fault::NameNotFound);
    type Row<'a> = (&'a [&'a str], Family, Result<&'a str, Fault>, &'a [RecordType]);
    let table: [Row<'_>; 8] = [
        (&both, Family::Any, Ok("127.0.0.1"), &[A]),
        (&both, Family::Ipv4, Ok("127.0.0.1"), &[A]),
        (&both, Family::Ipv6, Ok("::1"), &[AAAA]),
        (&["::1"], Family::Any, Ok("::1"), &[A, AAAA]),
        (&["::1"], Family::Ipv6, Ok("::1"), &[AAAA]),
        (&["::1"], Family::Ipv4, not_found, &[A]),
        (&["127.0.0.1"], Family::Ipv6, not_found, &[AAAA]),
        (&["127.0.0.1"], Family::Any, Ok("127.0.0.1"), &[A]),
    ];
    for (addresses, family, used, expected) in table {
        let names = async || {
            let always = reply(addresses);
            NameServer::start(move |_, _| always.clone()).await
        };
        let (seen, asked) = asking_once(names, target(&url).addressing(AddressChoice::First, family)).await;
        let outcome = used.map_or_else(|fault| lost(Phase::Dns, fault), |_| DELIVERED);
        assert_eq!(seen.outcome, outcome, "{addresses:?} {family:?}");
        let used = used.ok().map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(seen.address.map(|address| address.ip()), used, "{addresses:?} {family:?}");
        assert_eq!(asked, expected, "{addresses:?} {family:?}");
    }
}

#[tokio::test]
async fn each_address_has_its_turn_however_the_answer_is_shuffled() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let url = format!("tcp://probed.test:{}", listener.local_addr().unwrap().port());
    let _peer = reader(listener);
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let names = async || {
        NameServer::start(move |index, _| {
            let mut shuffled = addresses;
            shuffled.rotate_left(index * 3 % 4);
            reply(&shuffled)
        })
        .await
    };
    let second = Second(this_second().0 / 4 * 4);
    let choosing = |choice| target(&url).addressing(choice, Family::Any);
    let mut attempts: Vec<_> =
        (0..8).map(|turn| (choosing(AddressChoice::Rotate), second.plus(turn))).collect();
    attempts.resize(11, (choosing(AddressChoice::First), second));
    let (seen, _) = asking(names, &attempts).await;
    assert!(seen.iter().all(|seen| seen.outcome == DELIVERED), "{seen:?}");
    let used: Vec<_> = seen.iter().map(|seen| seen.address.unwrap().ip().to_string()).collect();
    assert_eq!(used[..8], [addresses, addresses].concat());
    // The ninth to eleventh answers.
    assert_eq!(used[8..], ["127.0.0.1", "127.0.0.4", "127.0.0.3"]);
}

#[tokio::test]
async fn some_names_need_no_name_server() {
    let (listener, address) = listener();
    let _peer = reader(listener);
    let names = NameServer::of(["127.0.0.9"]).await;
    let prober = names.prober();
    for host in ["invalid", "graphite.invalid", "graphite.invalid."] {
        let seen = attempt(&prober, &target(&format!("tcp://{host}:{}", address.port()))).await;
        assert_eq!(seen.outcome, lost(Phase::Dns, Fault::NameNotFound), "{host}");
    }
    let seen = attempt(&prober, &target(&format!("tcp://localhost:{}", address.port()))).await;
    assert_eq!((seen.outcome, seen.address), (DELIVERED, Some(address)), "from the hosts file");
    assert_eq!(names.asked(), []);
}

#[tokio::test]
async fn there_is_no_name_server() {
    let (_peer, target, _) = named();
    let seen = crate::rig::attempt(&target).await;
    assert_eq!(seen.outcome, lost(Phase::Dns, Fault::Resolver));
}

#[tokio::test]
async fn a_slow_lookup_leaves_the_rest_less_time() {
    let (listener, address) = listener();
    let target = target(&format!("tcp://probed.test:{}", address.port()));
    let slow = Reply::After(Duration::from_millis(250), Box::new(reply(&["127.0.0.1"])));
    let names = NameServer::start(move |_, _| slow.clone()).await;
    // A peer that never reads, so that the whole second is used up.
    let prober = names.prober();
    let (seen, _held) = tokio::join!(attempt(&prober, &target), accept(&listener));
    assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Timeout));
    assert!(seen.timings.get(Phase::Dns).unwrap() >= 240_000, "{:?}", seen.timings);
    assert!(seen.timings.get(Phase::Confirm).unwrap() <= 800_000, "{:?}", seen.timings);
    assert!((1_000_000..1_050_000).contains(&seen.timings.total_us), "{:?}", seen.timings);
}

#[tokio::test]
async fn an_answer_behind_the_deadline_harms_nothing() {
    let (_peer, target, _) = named();
    let late = Reply::After(Duration::from_millis(1200), Box::new(reply(&["127.0.0.9"])));
    let is_quick = Arc::new(AtomicBool::new(false));
    let quick = Arc::clone(&is_quick);
    let script = move |_, _| if quick.load(Ordering::Relaxed) { reply(&["127.0.0.1"]) } else { late.clone() };
    let names = NameServer::start(script).await;
    let prober = names.prober();
    assert_eq!(attempt(&prober, &target).await.outcome, lost(Phase::Dns, Fault::Timeout));
    is_quick.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        let seen = attempt(&prober, &target).await;
        assert_eq!(seen.outcome, DELIVERED, "{seen:?}");
        tokio::time::sleep(A_WHILE / 2).await;
    }
}

#[test]
fn cancelled_lookups_leave_no_file_open() {
    cell::own_process("dns::cancelled_lookups_leave_no_file_open", async {
        let silent = NameServer::start(|_, _| Reply::Silence).await;
        let prober = silent.prober();
        // What the runtime and the resolver keep is there after one.
        tokio::time::timeout(A_WHILE, attempt(&prober, &target("tcp://probed.test:1"))).await.unwrap_err();
        let before = cell::open_files();

        let rounds = Cell::new(0);
        let once = async || {
            let round = rounds.replace(rounds.get() + 1);
            let began = SystemClock.monotonic();
            let mut attempts = JoinSet::new();
            for number in 0..200 {
                let url = format!("tcp://probed{number}.round{round}.test:1");
                let (prober, target) = (prober.clone(), target(&url));
                attempts.spawn(async move { attempt(&prober, &target).await });
            }
            let domain = format!(".round{round}.test");
            let asked = async {
                // A busy machine may be so late that the first are asked again before the last.
                let names = || silent.questions().into_iter().map(|(name, _)| name);
                while names().filter(|name| name.ends_with(&domain)).collect::<BTreeSet<_>>().len() < 200 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, asked).await.unwrap();
            let waiting = cell::open_files();
            let took = SystemClock.monotonic().since(began);
            attempts.shutdown().await;
            (took, waiting, cell::open_files())
        };
        // Soon after that the first are given up.
        let (_, waiting, after) = again_if(|(took, ..)| *took > 700_000, once).await;
        assert!(waiting >= before + 200, "each has a socket: {waiting}");
        assert_eq!(after, before);
    });
}

#[tokio::test]
async fn records_are_told_with_how_long_they_hold() {
    let names = NameServer::start(|_, kind| match kind {
        RecordType::SRV => Reply::Hosts(vec![("B.test.", 2), ("a.test.", 1), (".", 3)]),
        AAAA => reply(&["2001:db8::1"]),
        _ => reply(&["192.0.2.1", "192.0.2.2"]),
    });
    let names = names.await;
    let dns = names.dns();
    let mut records = dns.hosts_of_service("_g._tcp.test").await.unwrap();
    records.found.sort();
    let host = |host: &str, port| HostAndPort { host: host.to_owned(), port };
    assert_eq!(records.found, [host("a.test", 1), host("b.test", 2)]);
    assert_eq!(records.ttl, Duration::from_secs(20), "the shortest life");

    let found = async |family| {
        let mut records = dns.addresses_of("g.test.", family).await.unwrap();
        records.found.sort();
        assert_eq!(records.ttl, Duration::from_secs(60));
        records.found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(found(Family::Any).await, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    assert_eq!(found(Family::Ipv4).await, ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(found(Family::Ipv6).await, ["2001:db8::1"]);
    assert!(names.questions().iter().all(|(name, _)| name == "g.test" || name == "_g._tcp.test"));
}

#[tokio::test]
async fn what_is_no_answer_is_told_from_one_that_there_is_nothing() {
    let none = NameServer::start(|_, _| Reply::Hosts(Vec::new())).await;
    let gone = NameServer::start(|_, _| Reply::Code(ResponseCode::NXDomain)).await;
    let fails = NameServer::start(|_, _| Reply::Code(ResponseCode::ServFail)).await;
    let half = NameServer::start(|_, kind| match kind {
        A => reply(&["192.0.2.1"]),
        _ => Reply::Code(ResponseCode::ServFail),
    });
    let half = half.await;
    let not_found = "has no SRV records; does the name end in the right domain?";
    let failed = "cannot be looked up";
    for (names, expected) in [(&none, not_found), (&gone, not_found), (&fails, failed)] {
        let said = names.dns().hosts_of_service("_g._tcp.test").await.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    let said =
        |dns: Dns| async move { dns.addresses_of("g.test", Family::Any).await.unwrap_err().to_string() };
    assert!(said(half.dns()).await.contains(failed), "half an answer is none");
    assert!(said(gone.dns()).await.contains("has no address records"));
}

#[tokio::test]
async fn what_is_lost_where_nobody_is_told_to_send_is_muted() {
    let withdrawn = Arc::new(AtomicBool::new(false));
    let (_reserved, nobody) = closed_port();
    let target = target(&format!("tcp://{nobody}")).withdrawn_by(Arc::clone(&withdrawn));
    let prober = crate::rig::prober();
    let refused = lost(Phase::Connect, Fault::Refused);
    assert_eq!(attempt(&prober, &target).await.outcome, refused);
    withdrawn.store(true, Ordering::Relaxed);
    assert_eq!(attempt(&prober, &target).await.outcome, Outcome::Muted);
    withdrawn.store(false, Ordering::Relaxed);
    assert_eq!(attempt(&prober, &target).await.outcome, refused);

    let (_peer, target, _) = named();
    let names = NameServer::of(["127.0.0.1"]).await;
    withdrawn.store(true, Ordering::Relaxed);
    let seen = attempt(&names.prober(), &target.withdrawn_by(withdrawn)).await;
    assert_eq!(seen.outcome, DELIVERED, "what arrives, arrives");
}
