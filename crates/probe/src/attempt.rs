//! One attempt, from the lookup to the proof.

use std::{net::SocketAddr, time::Duration};

use aviary_core::{
    Clock, Evidence, Fault, LocalFault, Micros, Outcome, Phase, Protocol, Second, Timings, endpoint,
};

use crate::{
    datagram,
    fault::Failure,
    https,
    network::Network,
    stream,
    target::{AddressChoice, Target},
    tls::TlsFacts,
};

/// An attempt is given up so many microseconds after it was due.
pub const DEADLINE_US: u64 = 1_000_000;

/// A measurement that the agent noticed so many microseconds late, for want of processor time, means nothing.
pub const STARVED_US: u64 = 50_000;

/// What came of an attempt, and what was seen on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What came of it.
    pub outcome: Outcome,
    /// How long each phase took.
    pub timings: Timings,
    /// The address that was tried.
    pub address: Option<SocketAddr>,
    /// How far the proof reached.
    pub reached: Option<Evidence>,
    /// What the handshake showed, if that was asked for.
    pub tls: Option<TlsFacts>,
}

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

/// The phases of one attempt as they pass: each is timed, and none outlives the deadline.
pub(crate) struct Steps<'a, C> {
    clock: &'a C,
    started: Micros,
    deadline: Micros,
    pub(crate) inspects_tls: bool,
    pub(crate) timings: Timings,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) reached: Option<Evidence>,
    pub(crate) tls: Option<TlsFacts>,
}

impl<'a, C: Clock> Steps<'a, C> {
    fn new(clock: &'a C, deadline: Micros, inspects_tls: bool) -> Self {
        Self {
            clock,
            started: clock.monotonic(),
            deadline,
            inspects_tls,
            timings: Timings::default(),
            address: None,
            reached: None,
            tls: None,
        }
    }

    /// Runs one phase to its end or the deadline, and notes how long it took.
    pub(crate) async fn run<T>(
        &mut self,
        phase: Phase,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = self.now();
        let ended = self.until_deadline(step).await;
        self.timings.set(phase, micros(self.now().since(started)));
        self.in_time(phase)?;
        ended.unwrap_or(Err(Failure::service(phase, Fault::Timeout)))
    }

    /// Waits for `step` until the deadline; `None` if that came first.
    pub(crate) async fn until_deadline<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        let left = Duration::from_micros(self.deadline.since(self.now()));
        tokio::time::timeout(left, step).await.ok()
    }

    /// Whether the deadline has not passed, by the clock and not by which timer fired: tokio's are up to two
    /// milliseconds late, and a starved process notices an answer long after it came.
    pub(crate) fn in_time(&self, phase: Phase) -> Result<(), Failure> {
        match self.now().since(self.deadline) {
            0 => Ok(()),
            late if late > STARVED_US => Err(Failure::local(phase, LocalFault::Starved)),
            _ => Err(Failure::service(phase, Fault::Timeout)),
        }
    }

    pub(crate) fn left(&self) -> Duration {
        Duration::from_micros(self.deadline.since(self.now()))
    }

    pub(crate) fn now(&self) -> Micros {
        self.clock.monotonic()
    }

    pub(crate) const fn deadline(&self) -> Micros {
        self.deadline
    }

    pub(crate) const fn clock(&self) -> &'a C {
        self.clock
    }

    fn observed(mut self, outcome: Outcome) -> Observation {
        self.timings.total_us = micros(self.now().since(self.started));
        if let Outcome::Delivered(evidence) = outcome {
            self.reached = Some(evidence);
        }
        let Self { timings, address, reached, tls, .. } = self;
        Observation { outcome, timings, address, reached, tls }
    }
}

/// Attempts last a second; what does not fit is as good as endless.
pub(crate) fn micros(micros: u64) -> u32 {
    u32::try_from(micros).unwrap_or(u32::MAX)
}
