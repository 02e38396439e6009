//! The phases of one attempt as they pass.

use std::{net::SocketAddr, time::Duration};

use aviary_core::{Clock, Evidence, Fault, LocalFault, Micros, Outcome, Phase, Timings};

use crate::{fault::Failure, tls::TlsFacts};

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

/// What an attempt tells of its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspection {
    /// Nothing.
    Nothing,
    /// That it failed for a certificate that has expired, and when that was.
    Expiry,
    /// Whatever it showed.
    Everything,
}

/// The phases of one attempt as they pass: each is timed, and none outlives the deadline.
pub(crate) struct Steps<'a, C> {
    clock: &'a C,
    started: Micros,
    deadline: Micros,
    pub(crate) inspection: Inspection,
    pub(crate) timings: Timings,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) reached: Option<Evidence>,
    pub(crate) tls: Option<TlsFacts>,
}

impl<'a, C: Clock> Steps<'a, C> {
    pub(crate) fn new(clock: &'a C, deadline: Micros, inspection: Inspection) -> Self {
        Self {
            clock,
            started: clock.monotonic(),
            deadline,
            inspection,
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

    pub(crate) fn observed(mut self, outcome: Outcome) -> Observation {
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
