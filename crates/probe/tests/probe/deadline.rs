//! Nothing outlives the deadline, and what a starved agent saw is held against nobody.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use aviary_core::{Clock as _, Evidence, Fault, LocalFault, Outcome, Phase, Protocol};
use aviary_probe::{Observation, SystemClock, Target};
use aviary_sink::Misbehaviour;
use tokio::{
    runtime::Handle,
    task::{JoinSet, LocalSet},
};

use crate::{
    rig::{
        A_WHILE, ANY, Rig, SOON, STREAMS, again_if, attempt_all, attempt_once, delivered, in_time, local,
        lost, prober, run_once, target, target_with, this_second,
    },
    sockets::{accept, connections_to, full_listener, listener},
    tls::{Authority, acceptor},
};

#[tokio::test]
async fn nothing_outlives_the_deadline() {
    let rig = Rig::start().await;
    let misbehaviours = [
        (Protocol::Tcp, Misbehaviour::NeverRead),
        (Protocol::Pickle, Misbehaviour::TarPit),
        (Protocol::Tls, Misbehaviour::StallHandshake),
        (Protocol::PickleTls, Misbehaviour::Slow { by: Duration::from_secs(5) }),
        (Protocol::Https, Misbehaviour::NeverRead),
    ];
    for (protocol, how) in misbehaviours {
        rig.sink.misbehave(protocol, how).await.unwrap();
    }
    let (_listener, _queue, full) = full_listener();
    let held_before = held(full);
    let prober = Arc::new(prober());
    let tasks_before = Handle::current().metrics().num_alive_tasks();

    let targets = misbehaviours.map(|(protocol, _)| rig.target(protocol)).into_iter();
    let attempts: Vec<_> = targets
        .chain([target(&format!("tcp://{full}"))])
        .enumerate()
        .map(|(index, target)| {
            let prober = Arc::clone(&prober);
            in_time(async move || {
                // Not all at one instant: looking at the kernel's table takes its time too.
                tokio::time::sleep(Duration::from_millis(40 * index as u64)).await;
                let seen = run_once(&prober, &target, this_second()).await;
                // Looked at in the same breath: there is nothing to wait for.
                let held_after = held(seen.address.expect("an address"));
                (seen, held_after)
            })
        })
        .collect();
    let all = async {
        let mut running = JoinSet::new();
        for attempt in attempts {
            running.spawn_local(attempt);
        }
        running.join_all().await
    };
    for (seen, held_after) in LocalSet::new().run_until(all).await {
        let expected = if seen.address == Some(full) { held_before } else { 0 };
        assert_eq!(held_after, expected, "{seen:?}");
        assert!(matches!(seen.outcome, Outcome::Lost { fault: Fault::Timeout, .. }), "{seen:?}");
        assert!((1_000_000..1_050_000).contains(&seen.timings.total_us), "{seen:?}");
        if seen.address == Some(full) {
            assert_eq!(seen.outcome, lost(Phase::Connect, Fault::Timeout));
        }
    }
    // The sink's connections end when ours are reset.
    let settled = async {
        while Handle::current().metrics().num_alive_tasks() > tasks_before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, settled).await.expect("no task is left");
}

fn held(address: SocketAddr) -> usize {
    connections_to(address).into_iter().filter(|(_, held)| *held).count()
}

/// Nothing is spawned at all, be it to outlive the deadline or not. The peers of this test are part of its own task.
#[tokio::test]
async fn an_attempt_spawns_nothing() {
    let authority = Authority::new();
    let acceptor = acceptor(authority.server(&authority.leaf("127.0.0.1")));
    let alive = || Handle::current().metrics().num_alive_tasks();
    let once = async |protocol: Protocol| {
        let (listener, address) = listener();
        let target = target_with(&format!("{protocol}://{address}"), &authority.client(), None);
        let peer = async {
            let held = accept(&listener).await;
            let _held = if protocol.is_tls() { Ok(acceptor.accept(held).await?) } else { Err(held) };
            tokio::time::sleep(A_WHILE).await;
            let alive_meanwhile = alive();
            tokio::time::sleep(Duration::from_secs(1)).await;
            io::Result::Ok(alive_meanwhile)
        };
        tokio::join!(attempt_once(&target, this_second()), peer)
    };
    for protocol in STREAMS {
        let (seen, alive_meanwhile) = in_time(async || once(protocol).await).await;
        assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Timeout), "{protocol}");
        assert_eq!((alive_meanwhile.unwrap(), alive()), (0, 0), "{protocol}");
    }
}

/// An attempt while the thread that it runs on is blocked from then, for so long, in milliseconds.
async fn attempt_blocked(target: &Target, from: u64, for_: u64) -> Observation {
    let block = async {
        tokio::time::sleep(Duration::from_millis(from)).await;
        thread::sleep(Duration::from_millis(for_));
    };
    let prober = prober();
    let began = SystemClock.monotonic();
    let (seen, ()) = tokio::join!(run_once(&prober, target, this_second()), block);
    let took = SystemClock.monotonic().since(began);
    assert!(u64::from(seen.timings.total_us) <= took, "within {took} us: {:?}", seen.timings);
    seen
}

#[tokio::test]
async fn a_starved_agent_blames_nobody() {
    let (_listener, address) = listener();
    let silent = target(&format!("tcp://{address}"));
    let stalled = target(&format!("tls://{address}"));
    let counted = silent.clone().counting(Evidence::KernelAcked);
    let table = [
        (&silent, Phase::Confirm),
        // The kernel may have taken everything long behind the deadline.
        (&counted, Phase::Confirm),
        (&stalled, Phase::Tls),
    ];
    for (target, phase) in table {
        let starved = local(phase, LocalFault::Starved);
        // Before it came to that phase a busy machine may have held it up already.
        let blocked = async || attempt_blocked(target, 800, 300).await;
        let seen = again_if(|seen| seen.outcome != starved, blocked).await;
        assert_eq!(seen.outcome, starved, "{seen:?}");
        assert!(seen.timings.total_us >= 1_100_000, "{:?}", seen.timings);
    }

    // Late, but not by so much that it would mean nothing; a busy machine makes it so now and then, and not each time.
    let (timeout, starved) =
        (lost(Phase::Confirm, Fault::Timeout), local(Phase::Confirm, LocalFault::Starved));
    let mut outcomes = Vec::new();
    while outcomes.len() < 5 && outcomes.last() != Some(&timeout) {
        outcomes.push(attempt_blocked(&silent, 800, 207).await.outcome);
    }
    assert_eq!(outcomes.pop(), Some(timeout));
    assert!(outcomes.iter().all(|outcome| *outcome == starved), "{outcomes:?}");
}

/// What came in time and was noticed late cannot be told from what came late.
#[tokio::test]
async fn an_answer_that_is_noticed_late() {
    let blocked = async |for_| {
        let listener = std::net::TcpListener::bind(ANY).unwrap();
        let target = target(&format!("tcp://{}", listener.local_addr().unwrap()));
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // On a busy machine the attempt may be over by now.
            io::Read::read_to_end(&mut stream, &mut Vec::new()).ok();
            thread::sleep(Duration::from_millis(300));
        });
        let seen = attempt_blocked(&target, 100, for_).await;
        peer.join().unwrap();
        seen
    };
    // Noticed late, and noticed late but still in time.
    let table = [(1100, local(Phase::Confirm, LocalFault::Starved)), (500, delivered(Evidence::PeerClosed))];
    for (for_, outcome) in table {
        let is_other = |seen: &Observation| seen.outcome != outcome;
        let seen = again_if(is_other, async || blocked(for_).await).await;
        assert_eq!(seen.outcome, outcome, "{seen:?}");
        assert!(u64::from(seen.timings.total_us) >= (100 + for_) * 1000 - 10_000, "{:?}", seen.timings);
    }
}

#[tokio::test]
async fn a_busy_runtime_abandons_in_time() {
    let (_listener, address) = listener();
    let silent = target(&format!("tcp://{address}"));
    let busy = async {
        loop {
            thread::sleep(Duration::from_millis(5));
            tokio::task::yield_now().await;
        }
    };
    let attempts = attempt_all((0..20).map(|number| (number, silent.clone())));
    let seen = tokio::select! {
        seen = attempts => seen,
        () = busy => unreachable!("it never ends"),
    };
    for (_, seen) in seen {
        assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Timeout));
        assert!((1_000_000..1_050_000).contains(&seen.timings.total_us), "{:?}", seen.timings);
        assert_eq!(held(address), 0);
    }
}
