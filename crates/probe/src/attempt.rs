//! One attempt, from the lookup to the proof.

use std::net::SocketAddr;

use aviary_core::{Clock, Evidence, Micros, Outcome, Phase, Protocol, Second, endpoint};

use crate::{
    datagram,
    fault::Failure,
    https,
    network::Network,
    steps::{Observation, Steps},
    stream,
    target::{AddressChoice, Target},
};

/// An attempt is given up so many microseconds after it was due.
pub const DEADLINE_US: u64 = 1_000_000;

/// Makes attempts on one network by one clock.
#[derive(Clone, Debug)]
pub struct Prober<N, C> {
    network: N,
    clock: C,
    inspects_tls: bool,
}

impl<N: Network, C: Clock> Prober<N, C> {
    /// A prober on `network` that measures by `clock`.
    pub const fn new(network: N, clock: C) -> Self {
        Self { network, clock, inspects_tls: false }
    }

    /// Also tells what each handshake showed.
    pub const fn inspecting_tls(mut self) -> Self {
        self.inspects_tls = true;
        self
    }

    /// Makes one attempt: a datapoint of value 1 at `second`, given up at `deadline`.
    ///
    /// The future owns everything that it opens. Dropped early, or past the deadline, it leaves nothing behind.
    pub async fn run(&self, target: &Target, second: Second, deadline: Micros) -> Observation {
        let mut steps = Steps::new(&self.clock, deadline, self.inspects_tls);
        let outcome = match self.exchange(target, second, &mut steps).await {
            Ok(evidence) => Outcome::Delivered(evidence),
            Err(failure) => failure.outcome(),
        };
        steps.observed(outcome)
    }

    async fn exchange(
        &self,
        target: &Target,
        second: Second,
        steps: &mut Steps<'_, C>,
    ) -> Result<Evidence, Failure> {
        let address = self.address(target, second, steps).await?;
        steps.address = Some(address);
        match target.endpoint.protocol() {
            Protocol::Udp => datagram::deliver(&self.network, target, address, second, steps).await,
            Protocol::Tcp | Protocol::Pickle => {
                let connection = steps.run(Phase::Connect, self.network.connect(address)).await?;
                stream::deliver(connection, target, second, steps).await
            }
            // What TLS and HTTP keep while they wait is large, and boxed: an attempt over TCP or UDP is moved about
            // several times before it runs, and is not to carry it.
            Protocol::Tls | Protocol::PickleTls => {
                let connection = steps.run(Phase::Connect, self.network.connect(address)).await?;
                let secure = Box::pin(stream::secure(connection, target, steps)).await?;
                Box::pin(stream::deliver(secure, target, second, steps)).await
            }
            Protocol::Https => {
                let connection = steps.run(Phase::Connect, self.network.connect(address)).await?;
                let secure = Box::pin(stream::secure(connection, target, steps)).await?;
                Box::pin(https::deliver(secure, target, second, steps)).await
            }
        }
    }

    async fn address(
        &self,
        target: &Target,
        second: Second,
        steps: &mut Steps<'_, C>,
    ) -> Result<SocketAddr, Failure> {
        let address = match target.endpoint.host() {
            endpoint::Host::Address(address) => {
                steps.timings.set(Phase::Dns, 0);
                *address
            }
            endpoint::Host::Name(name) => {
                let lookup = Box::pin(self.network.resolve(name, target.family));
                let mut found = steps.run(Phase::Dns, lookup).await?;
                match target.choice {
                    AddressChoice::First => found[0],
                    AddressChoice::Rotate => {
                        // Name servers shuffle their answers: only a fixed order gives each address its turn.
                        found.sort_unstable();
                        found[(second.0 % found.len() as u64) as usize]
                    }
                }
            }
        };
        Ok(SocketAddr::new(address, target.endpoint.port()))
    }
}
