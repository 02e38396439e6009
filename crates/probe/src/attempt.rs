//! One attempt, from the lookup to the proof.

use std::net::{IpAddr, SocketAddr};

use aviary_core::{Clock, Evidence, LocalFault, Micros, Outcome, Phase, Protocol, Second, endpoint};

use crate::{
    datagram,
    dns::LOOKUP_MAX,
    fault::Failure,
    https,
    network::{Connection as _, Network, Question},
    steps::{Inspection, Observation, Steps},
    stream,
    target::{AddressChoice, INSPECTED_EVERY, Target},
};

/// An attempt is given up so many microseconds after it was due.
pub const DEADLINE_US: u64 = 1_000_000;

/// Makes attempts on one network by one clock.
#[derive(Clone, Debug)]
pub struct Prober<N, C> {
    network: N,
    clock: C,
    inspects: Inspects,
}

/// How often it is told what a handshake showed.
#[derive(Clone, Copy, Debug)]
enum Inspects {
    Never,
    NowAndThen,
    Always,
}

impl<N: Network, C: Clock> Prober<N, C> {
    /// A prober on `network` that measures by `clock`.
    pub const fn new(network: N, clock: C) -> Self {
        Self { network, clock, inspects: Inspects::Never }
    }

    /// Also tells what each handshake showed.
    pub const fn inspecting_tls(mut self) -> Self {
        self.inspects = Inspects::Always;
        self
    }

    /// Also tells what a handshake showed, once a minute for each target and in a second of its own: reading a
    /// certificate each time would cost more than some attempts do. That one has expired is told each time.
    pub const fn inspecting_tls_sometimes(mut self) -> Self {
        self.inspects = Inspects::NowAndThen;
        self
    }

    /// Makes one attempt: a datapoint of value 1 at `second`, given up at `deadline`.
    ///
    /// The future owns everything that it opens. Dropped early, or past the deadline, it leaves nothing behind.
    pub async fn run(&self, target: &Target, second: Second, deadline: Micros) -> Observation {
        let inspection = match self.inspects {
            Inspects::Never => Inspection::Nothing,
            Inspects::NowAndThen if second.0 % INSPECTED_EVERY != target.inspected_at => Inspection::Expiry,
            Inspects::NowAndThen | Inspects::Always => Inspection::Everything,
        };
        let mut steps = Steps::new(&self.clock, deadline, inspection);
        let outcome = match self.exchange(target, second, &mut steps).await {
            Ok(evidence) => Outcome::Delivered(evidence),
            Err(failure) if target.is_withdrawn() && !failure.is_local() => Outcome::Muted,
            Err(failure) => failure.outcome(),
        };
        steps.observed(outcome)
    }

    /// Goes as far as an attempt goes before it sends anything: looks the name up, connects, and shakes hands where the
    /// protocol does. No datapoint is sent; the peer sees a connection that is closed again.
    ///
    /// Over UDP there is nothing to go by, so that asking for it is a bug of the caller's, and told as one.
    pub async fn reach(&self, target: &Target, deadline: Micros) -> Result<(), Failure> {
        let protocol = target.endpoint.protocol();
        if protocol == Protocol::Udp {
            return Err(Failure::local(Phase::Connect, LocalFault::Bug));
        }
        let mut steps = Steps::new(&self.clock, deadline, Inspection::Nothing);
        let address = self.address(target, self.clock.wall().second(), &mut steps).await?;
        let connection = self.connect(target, address, &mut steps).await?;
        // Nothing was sent that a reset would have to take back.
        let fuse = connection.fuse().clone();
        if protocol.is_tls() {
            Box::pin(stream::secure(connection, target, &mut steps)).await?;
        }
        fuse.take_out();
        Ok(())
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
                let connection = self.connect(target, address, steps).await?;
                stream::deliver(connection, target, second, steps).await
            }
            // What TLS and HTTP keep while they wait is large, and boxed: an attempt over TCP or UDP is moved about
            // several times before it runs, and is not to carry it.
            Protocol::Tls | Protocol::PickleTls => {
                let connection = self.connect(target, address, steps).await?;
                let secure = Box::pin(stream::secure(connection, target, steps)).await?;
                Box::pin(stream::deliver(secure, target, second, steps)).await
            }
            Protocol::Https => {
                let connection = self.connect(target, address, steps).await?;
                let secure = Box::pin(stream::secure(connection, target, steps)).await?;
                Box::pin(https::deliver(secure, target, second, steps)).await
            }
        }
    }

    async fn connect(
        &self,
        target: &Target,
        address: SocketAddr,
        steps: &mut Steps<'_, C>,
    ) -> Result<N::Connection, Failure> {
        steps.run(Phase::Connect, self.network.connect(address, target.source.as_ref())).await
    }

    async fn address(
        &self,
        target: &Target,
        second: Second,
        steps: &mut Steps<'_, C>,
    ) -> Result<SocketAddr, Failure> {
        let port = target.endpoint.port();
        let address = match target.endpoint.host() {
            endpoint::Host::Address(address) => {
                steps.timings.set(Phase::Dns, 0);
                *address
            }
            endpoint::Host::Name(name) => {
                let overridden = self.network.overridden(name, port);
                let found = if overridden.is_empty() {
                    let question = Question { name, family: target.family, second };
                    let given = steps.left();
                    let found = steps.run(Phase::Dns, Box::pin(self.network.resolve(question))).await;
                    // A lookup gives up in time by itself: what holds one up beyond that is this machine.
                    let is_held_up = given > LOOKUP_MAX && steps.left().is_zero();
                    found.map_err(|failure| match failure.is_local() {
                        false if is_held_up => Failure::local(Phase::Dns, LocalFault::Starved),
                        _ => failure,
                    })?
                } else {
                    steps.timings.set(Phase::Dns, 0);
                    overridden.to_vec()
                };
                target.choice.of(found, second)
            }
        };
        Ok(SocketAddr::new(address, port))
    }
}

impl AddressChoice {
    /// The address of those `found`, at least one, that an attempt at `second` goes to.
    fn of(self, mut found: Vec<IpAddr>, second: Second) -> IpAddr {
        match self {
            Self::First => found[0],
            Self::Rotate => {
                // Name servers shuffle their answers: only a fixed order gives each address its turn.
                found.sort_unstable();
                found[(second.0 % found.len() as u64) as usize]
            }
            Self::Only(address) => address,
        }
    }
}
