//! A datapoint in a UDP datagram.

use std::{net::SocketAddr, time::Duration};

use aviary_core::{Clock, Evidence, Phase, Second};
use aviary_wire::line;

use crate::{
    fault::{Failure, Origin, io_failure},
    network::{Datagram as _, Network},
    steps::{Steps, micros},
    target::Target,
};

/// How long a router or host has to say that it cannot deliver.
const ICMP_WAIT: Duration = Duration::from_millis(50);

/// Sends, then waits for an ICMP error. That none came proves nothing but that the datagram was sent.
pub(crate) async fn deliver<N: Network, C: Clock>(
    network: &N,
    target: &Target,
    address: SocketAddr,
    second: Second,
    steps: &mut Steps<'_, C>,
) -> Result<Evidence, Failure> {
    let socket =
        steps.run(Phase::Connect, async { network.datagram(address, target.source.as_ref()) }).await?;
    let mut payload = Vec::new();
    line::encode_into(&mut payload, &target.name.0, 1.0, second);
    let sent = async { socket.send(&payload).map_err(|error| io_failure(Phase::Send, Origin::Call, &error)) };
    steps.run(Phase::Send, sent).await?;
    steps.reached = Some(Evidence::Sent);

    let started = steps.now();
    // The deadline shortens the wait, and that is all: the datagram left in time.
    tokio::time::sleep(ICMP_WAIT.min(steps.left())).await;
    steps.timings.set(Phase::Confirm, micros(steps.now().since(started)));
    match socket.error() {
        Ok(None) => Ok(Evidence::Sent),
        Ok(Some(error)) | Err(error) => Err(io_failure(Phase::Confirm, Origin::Network, &error)),
    }
}
