//! Lookups that many share: on real runtimes, as lanes have them, that come and go.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_core::{Clock as _, Evidence, Fault, LocalFault, Outcome, Phase, Second};
use aviary_probe::{
    AddressChange, AddressChoice, Dns, Family, Host, Observation, Prober, SystemClock, Target,
};
use hickory_resolver::proto::rr::RecordType::{self, A, AAAA};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{
    cell::{self, run_tool},
    name_server::{NameServer, REPEATED_US, Reply},
    rig::{
        A_SECOND, ANY, SOON, again_if, attempt, delivered, is_held_up, local, lost, run, run_once, target,
        this_second,
    },
    sockets::read_to_end,
};

const DELIVERED: Outcome = delivered(Evidence::PeerClosed);

/// Longer than any lane here needs to begin, and before a question is repeated.
const SLOW: Duration = Duration::from_millis(200);

/// A runtime as a lane has it.
fn lane() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("files are left")
}

/// A prober that shares lookups on this runtime.
fn sharing(dns: Dns) -> Prober<Host, SystemClock> {
    Prober::new(Host::new(dns.shared_on(Handle::current())), SystemClock)
}

/// A peer on every address of loopback that reads each connection to its end.
async fn peer() -> u16 {
    let listener = tokio::net::TcpListener::bind("[::]:0").await.expect("loopback is there");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { read_to_end(&mut stream).await.1.ok() });
        }
    });
    port
}

fn reply(addresses: &[&str]) -> Reply {
    Reply::Addresses(addresses.iter().map(|address| address.parse().expect("an address")).collect())
}

fn named(name: &str, port: u16) -> Target {
    target(&format!("tcp://{name}:{port}"))
}

/// One attempt at each of `targets`, each on a lane of its own, all at once.
fn on_lanes(prober: &Prober<Host, SystemClock>, targets: &[Target], second: Second) -> Vec<Observation> {
    let start = Barrier::new(targets.len());
    thread::scope(|scope| {
        let lanes = targets.iter().map(|target| {
            scope.spawn(|| {
                let lane = lane();
                start.wait();
                lane.block_on(run_once(prober, target, second))
            })
        });
        let lanes: Vec<_> = lanes.collect();
        lanes.into_iter().map(|lane| lane.join().expect("no panic")).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_a_second_and_family_whoever_asks() {
    let port = peer().await;
    let mut targets = vec![named("probed.test", port); 6];
    let same = targets.clone();
    let ipv6 = named("probed.test", port).addressing(AddressChoice::First, Family::Ipv6);
    targets.extend(vec![ipv6; 6]);
    targets.extend(vec![named("other.test", port); 6]);
    let second = this_second();
    let turns = [(&same, 0), (&same, 1), (&same, 2), (&targets, 9)];
    let once = async || {
        let names = NameServer::of(["127.0.0.1", "::1"]).await;
        let prober = sharing(names.dns());
        let (mut seen, mut asked) = (Vec::new(), Vec::new());
        for (targets, after) in turns {
            seen.extend(on_lanes(&prober, targets, second.plus(after)));
            let before = asked.iter().map(Vec::len).sum();
            asked.push(names.questions().split_off(before));
        }
        (seen, asked)
    };
    let (seen, mut asked) = again_if(|(seen, _)| seen.iter().any(is_held_up), once).await;
    assert!(seen.iter().all(|seen| seen.outcome == DELIVERED), "{seen:?}");
    asked[3].sort_unstable();
    let question = |(name, kind): (&str, RecordType)| (name.to_owned(), kind);
    let probed = vec![question(("probed.test", A))];
    let all = [("other.test", A), ("probed.test", A), ("probed.test", AAAA)].map(question).to_vec();
    assert_eq!(asked, [probed.clone(), probed.clone(), probed, all]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_a_little_late_gets_the_next_seconds_answer() {
    let port = peer().await;
    let (target, second) = (named("probed.test", port), this_second());
    let once = async || {
        let names = NameServer::of(["127.0.0.1"]).await;
        let prober = sharing(names.dns());
        let (mut seen, mut asked) = (Vec::new(), Vec::new());
        for after in [0, 1, 0, 1, 2, 0] {
            seen.push(run_once(&prober, &target, second.plus(after)).await);
            asked.push(names.asked().len());
        }
        (seen, asked)
    };
    let (seen, asked) = again_if(|(seen, _)| seen.iter().any(is_held_up), once).await;
    assert!(seen.iter().all(|seen| seen.outcome == DELIVERED), "{seen:?}");
    assert_eq!(asked, [1, 2, 2, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_stops_nobody_else() {
    let port = peer().await;
    // Again where a busy machine had a lane begin, or the answer come, too late.
    for is_last in [false, false, false, false, true] {
        let slow = Reply::After(SLOW, Box::new(reply(&["127.0.0.1"])));
        let names = NameServer::start(move |_, _| slow.clone()).await;
        let prober = sharing(names.dns());
        let (target, second) = (named("probed.test", port), this_second());

        // The lane that asks first is gone before the answer comes; another gives up at its deadline.
        let began = SystemClock.monotonic();
        let (impatient, patient) = thread::scope(|scope| {
            let first = scope.spawn(|| {
                let lane = lane();
                let (prober, target) = (prober.clone(), target.clone());
                lane.spawn(async move { run(&prober, &target, second, A_SECOND).await });
                lane.block_on(async { tokio::time::sleep(SLOW / 4).await });
                lane.shutdown_background();
            });
            let impatient = scope.spawn(|| {
                thread::sleep(SLOW / 8);
                let deadline = SystemClock.monotonic().plus(80_000);
                lane().block_on(prober.run(&target, second, deadline)).outcome
            });
            let patient = scope.spawn(|| {
                thread::sleep(SLOW / 8);
                lane().block_on(run(&prober, &target, second, A_SECOND))
            });
            first.join().unwrap();
            (impatient.join().unwrap(), patient.join().unwrap())
        });
        let took = SystemClock.monotonic().since(began);
        assert_eq!(patient.outcome, DELIVERED, "{patient:?}");
        let seen = run(&prober, &target, second, A_SECOND).await;
        assert_eq!(seen.outcome, DELIVERED);
        let is_there = seen.timings.get(Phase::Dns).unwrap() < 100_000;
        let gave_up = lost(Phase::Dns, Fault::Timeout);
        if is_last || (took < u64::from(REPEATED_US) && impatient == gave_up && is_there) {
            assert_eq!((impatient, is_there, names.asked()), (gave_up, true, vec![A]), "{seen:?}");
            return;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_there_wakes_nobody() {
    let port = peer().await;
    let names = NameServer::of(["127.0.0.1"]).await;
    let resolving = lane();
    let dns = names.dns().shared_on(resolving.handle().clone());
    let prober = Prober::new(Host::new(dns), SystemClock);
    let (target, second) = (named("probed.test", port), this_second());
    let once = async |second| run(&prober, &target, second, A_SECOND).await.outcome;

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let driver = thread::spawn(move || {
        resolving.block_on(stopped).ok();
        resolving
    });
    assert_eq!(once(second).await, DELIVERED);
    stop.send(()).unwrap();
    // Its runtime stands still from here on.
    let resolving = driver.join().unwrap();
    assert_eq!(once(second).await, DELIVERED);
    let seen = run_once(&prober, &target, second.plus(1)).await;
    assert_eq!(seen.outcome, local(Phase::Dns, LocalFault::Starved));
    // Addresses, and names in the hosts file, need no lookup at all.
    let listening = |host: &str| crate::rig::target(&format!("tcp://{host}:{port}"));
    for host in ["127.0.0.1", "localhost"] {
        let seen = run(&prober, &listening(host), second.plus(2), A_SECOND).await;
        assert_eq!(seen.outcome, DELIVERED, "{host}");
    }
    resolving.shutdown_background();
}

#[tokio::test]
async fn lookups_whose_runtime_is_gone_are_our_own_fault() {
    let names = NameServer::of(["127.0.0.1"]).await;
    let resolving = lane();
    let prober = Prober::new(Host::new(names.dns().shared_on(resolving.handle().clone())), SystemClock);
    resolving.shutdown_background();
    let seen = run(&prober, &named("probed.test", 1), this_second(), A_SECOND).await;
    assert_eq!(seen.outcome, local(Phase::Dns, LocalFault::Bug));
}

/// A resolver that does not answer is lost, unless every name of the agent fails so.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_ours_where_every_name_meets_it() {
    let port = peer().await;
    let all_silent = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&all_silent);
    let names = NameServer::start_at(ANY, move |_, name, _| {
        if silent.load(Ordering::Relaxed) || name.starts_with("silent") {
            return Reply::Silence;
        }
        reply(&["127.0.0.1"])
    })
    .await;
    let (ours, theirs) = (local(Phase::Dns, LocalFault::NoRoute), lost(Phase::Dns, Fault::Timeout));
    let second = this_second();
    let steps: [(bool, &[&str], &[Outcome]); 6] = [
        // The only name.
        (false, &["silent.test", "silent.test"], &[ours, ours]),
        (false, &["silent.test", "probed.test"], &[theirs, DELIVERED]),
        (false, &["probed.test"], &[DELIVERED]),
        // Another was answered just before.
        (false, &["silent.test", "localhost"], &[theirs, DELIVERED]),
        // What was answered before the server fell silent no longer counts.
        (true, &["silent.test", "probed.test", "localhost"], &[ours, ours, DELIVERED]),
        (false, &["silent.test", "probed.test"], &[theirs, DELIVERED]),
    ];
    let mut seen = Vec::new();
    for _ in 0..5 {
        let began = SystemClock.monotonic();
        let prober = sharing(names.dns());
        seen.clear();
        for ((is_silent, hosts, _), turn) in steps.iter().zip(0..) {
            all_silent.store(*is_silent, Ordering::Relaxed);
            let targets: Vec<_> = hosts.iter().map(|host| named(host, port)).collect();
            let seen_now = on_lanes(&prober, &targets, second.plus(10 * turn));
            seen.push(seen_now.into_iter().map(|seen| seen.outcome).collect::<Vec<_>>());
        }
        // Lookups and lanes are given up shortly after one another, and what was answered counts for two seconds: where
        // a busy machine held up either, or all of it by a second, it says nothing.
        let is_starved = |it: &Outcome| matches!(it, Outcome::Local { fault: LocalFault::Starved, .. });
        if !seen.iter().flatten().any(is_starved) && SystemClock.monotonic().since(began) < 5_700_000 {
            break;
        }
    }
    assert_eq!(seen, steps.map(|(.., expected)| expected.to_vec()));
}

#[tokio::test]
async fn one_address_for_each_series() {
    let port = peer().await;
    let names = NameServer::of(["127.0.0.1", "127.0.0.2"]).await;
    let dns = names.dns().shared_on(Handle::current());
    let prober = Prober::new(Host::new(dns.clone()), SystemClock);
    let only = |host, address: &str| {
        named(host, port).addressing(AddressChoice::Only(address.parse().expect("an address")), Family::Any)
    };
    // Also one that the name does not have (any more).
    for address in ["127.0.0.2", "127.0.0.1", "127.0.0.3"] {
        let seen = run(&prober, &only("probed.test", address), this_second(), A_SECOND).await;
        assert_eq!(seen.outcome, DELIVERED);
        assert_eq!(seen.address, Some(SocketAddr::new(address.parse().unwrap(), port)));
    }
    let seen = run(&prober, &only("probed.invalid", "127.0.0.1"), this_second(), A_SECOND).await;
    assert_eq!((seen.outcome, seen.address), (lost(Phase::Dns, Fault::NameNotFound), None));
    let known: Vec<IpAddr> = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap()).to_vec();
    assert_eq!(dns.addresses("probed.test", Family::Any), Some(known));
    assert_eq!(dns.addresses("probed.invalid", Family::Any), None);
}

#[tokio::test]
async fn changes_of_a_names_addresses_are_told() {
    let port = peer().await;
    let has_changed = Arc::new(AtomicBool::new(false));
    let changed = Arc::clone(&has_changed);
    let names = NameServer::start(move |_, _| {
        reply(&["127.0.0.1", if changed.load(Ordering::Relaxed) { "127.0.0.3" } else { "127.0.0.2" }])
    })
    .await;
    let dns = names.dns().shared_on(Handle::current());
    let prober = Prober::new(Host::new(dns.clone()), SystemClock);
    let target = named("probed.test", port);
    let start = this_second();
    for after in 0..62 {
        assert_eq!(run(&prober, &target, start.plus(after), A_SECOND).await.outcome, DELIVERED);
        has_changed.store(true, Ordering::Relaxed);
    }
    let change = |address: &str, added, after| AddressChange {
        host: "probed.test".to_owned(),
        family: Family::Any,
        address: address.parse().unwrap(),
        added,
        at: start.plus(after),
    };
    assert_eq!(dns.take_changes(), [change("127.0.0.3", true, 1), change("127.0.0.2", false, 60)]);
    assert_eq!((dns.take_changes(), dns.dropped_changes()), (Vec::new(), 0));
}

#[tokio::test]
async fn names_can_be_overridden() {
    let port = peer().await;
    let names = NameServer::of(["127.0.0.9"]).await;
    let [one, two] = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap());
    let dns = names.dns().overriding("Probed.Test.", port, two).overriding("probed.test", port, one);
    let prober = Prober::new(Host::new(dns), SystemClock);
    let even = Second(this_second().0 / 2 * 2);
    for (after, address) in [(0, one), (1, two)] {
        let seen = run(&prober, &named("probed.test", port), even.plus(after), A_SECOND).await;
        assert_eq!((seen.outcome, seen.address), (DELIVERED, Some(SocketAddr::new(address, port))));
        assert_eq!(seen.timings.get(Phase::Dns), Some(0));
    }
    assert_eq!(names.asked(), []);
    run(&prober, &named("probed.test", port - 1), even, A_SECOND).await;
    let mut asked = names.asked();
    asked.dedup();
    assert_eq!(asked, [A], "another port is not meant");
}

#[test]
fn changed_files_are_followed() {
    cell::own_network_and_mounts("shared::changed_files_are_followed", async {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str| files.path().join(name);
        let write = |name: &str, text: &str| fs::write(file(name), text).unwrap();
        write("resolv.conf", "# The one of this host.\n");
        write("hosts", "127.0.0.1 localhost\n");
        for name in ["resolv.conf", "hosts"] {
            run_tool("mount", &format!("--bind {} /etc/{name}", file(name).display()));
        }
        let port = peer().await;
        let answering = async |server: &str, answer: &'static str| {
            NameServer::start_at(server.parse().unwrap(), move |_, _, _| reply(&[answer])).await
        };
        let _servers =
            (answering("127.0.0.1:53", "127.0.0.3").await, answering("127.0.0.2:53", "127.0.0.4").await);
        let inline = Prober::new(Host::new(Dns::from_system().unwrap()), SystemClock);
        let probers = [inline, sharing(Dns::from_system().unwrap())];
        let mut second = this_second();
        let mut settles_at = async |name: &str, address: &str| {
            let expected = Some(SocketAddr::new(address.parse().unwrap(), port));
            for prober in &probers {
                let settles = async {
                    loop {
                        second = second.plus(1);
                        let seen = run(prober, &named(name, port), second, A_SECOND).await;
                        assert_eq!(seen.outcome, DELIVERED, "{seen:?}");
                        if seen.address == expected {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                tokio::time::timeout(SOON, settles).await.unwrap_or_else(|_| panic!("{name} at {address}"));
            }
        };
        settles_at("probed.test", "127.0.0.3").await;
        write("resolv.conf", "search elsewhere.test\nnameserver 127.0.0.2\n");
        settles_at("probed.test", "127.0.0.4").await;
        // A file that says nothing to be used changes nothing; the other is read all the same.
        write("resolv.conf", "nameserver nonsense\n");
        write("hosts", "127.0.0.1 localhost\n127.0.0.5 other.test\n");
        settles_at("other.test", "127.0.0.5").await;
        settles_at("probed.test", "127.0.0.4").await;
        assert_eq!(attempt(&target(&format!("tcp://127.0.0.6:{port}"))).await.outcome, DELIVERED);
    });
}
