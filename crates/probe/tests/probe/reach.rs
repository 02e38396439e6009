//! Endpoints known as good: they are reached, and nothing is sent there.

use aviary_core::{Clock as _, Fault, LocalFault, Phase, Protocol};
use aviary_probe::{Blame, DEADLINE_US, Failure, SystemClock, Target};
use aviary_sink::Misbehaviour;

use crate::{
    rig::{Rig, STREAMS, again_if, prober, target},
    sockets::{accept, closed_port, full_listener, listener, read_to_end},
};

/// Whether `target` is reached; again where the machine was so busy elsewhere that nobody can tell.
async fn reach(target: &Target) -> Result<(), Failure> {
    again_if(is_starved, async || reach_once(target).await).await
}

async fn reach_once(target: &Target) -> Result<(), Failure> {
    prober().reach(target, SystemClock.monotonic().plus(DEADLINE_US)).await
}

fn is_starved(reached: &Result<(), Failure>) -> bool {
    matches!(reached, Err(Failure { blame: Blame::Local(LocalFault::Starved), .. }))
}

#[tokio::test]
async fn a_peer_that_is_there_is_reached_and_gets_nothing() {
    let mut rig = Rig::start().await;
    for protocol in STREAMS {
        assert_eq!(reach(&rig.target(protocol)).await, Ok(()), "{protocol}");
    }
    rig.nothing_arrives().await;

    // Nor is it reset.
    let (listener, address) = listener();
    let plain = target(&format!("tcp://{address}"));
    let once =
        async || tokio::join!(reach_once(&plain), async { read_to_end(&mut accept(&listener).await).await });
    let (reached, (bytes, ended)) = again_if(|(reached, _)| is_starved(reached), once).await;
    assert_eq!(reached, Ok(()));
    assert_eq!((bytes, ended.map_err(|error| error.kind())), (Vec::new(), Ok(())));
}

#[tokio::test]
async fn what_is_in_the_way_is_told() {
    let rig = Rig::start().await;
    let (_reserved, nobody) = closed_port();
    let (_full, _held, silent) = full_listener();
    rig.sink.misbehave(Protocol::Tls, Misbehaviour::StallHandshake).await.unwrap();
    let table = [
        (target(&format!("tcp://{nobody}")), Phase::Connect, Fault::Refused),
        (target(&format!("pickle://{silent}")), Phase::Connect, Fault::Timeout),
        (target("tcp://good.invalid:80"), Phase::Dns, Fault::NameNotFound),
        (rig.target(Protocol::Tls), Phase::Tls, Fault::Timeout),
        // It is not trusted here.
        (target(&rig.url(Protocol::Https)), Phase::Tls, Fault::BadCertificate),
    ];
    for (target, phase, fault) in table {
        assert_eq!(reach(&target).await, Err(Failure::service(phase, fault)), "{}", target.endpoint());
    }
    let udp = reach(&rig.target(Protocol::Udp)).await;
    assert_eq!(udp, Err(Failure::local(Phase::Connect, LocalFault::Bug)));
}
