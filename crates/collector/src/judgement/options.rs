//! What a service wants to be told of, and how.

use std::collections::BTreeMap;

use aviary_core::{
    Phase,
    incident::{CERTIFICATE_DAYS, CERTIFICATE_DAYS_LAST, Policy},
    page::Severity,
    silence::Hours,
};

/// What a service wants to be told of, and how. The defaults suit a service in production that nobody has tuned.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerting {
    /// For how many seconds loss must hold before somebody is paged; 0: at once, without the gates for vantages and bursts.
    pub page_after: u64,
    /// How bad it is if half or more is lost.
    pub down: Severity,
    /// How bad it is if less is lost, and more than is acceptable.
    pub degraded: Severity,
    /// How bad it is if nobody can tell.
    pub blind: Severity,
    /// In which way its groups are taken to lose while they are well.
    pub burst: Burst,
    /// So many seconds after its first slot nobody is paged about it, and an endpoint that never worked is told of then at
    /// the earliest.
    pub start_up_grace: u64,
    /// How many microseconds a phase may take for 99 of 100 slots; of a phase that is not named, nobody is told.
    pub latency_p99: BTreeMap<Phase, u64>,
    /// How many days before its end a certificate is a warning, and an error; none: nobody is told of it.
    pub certificate_days: Option<(i64, i64)>,
    /// When whatever wakes nobody is not told.
    pub quiet_hours: Option<Hours>,
    /// Everything happens, and messages go to the log only.
    pub shadow: bool,
}

/// In which way a group is taken to lose while it is well.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Burst {
    /// As it was seen to.
    #[default]
    Learnt,
    /// With this dispersion, the variance over the mean of what a minute loses: 1 where losses are independent. No burst is
    /// waited out.
    Fixed(f64),
}

impl Default for Alerting {
    fn default() -> Self {
        let Policy { page_after, down, degraded, blind, shadow, .. } = Policy::default();
        Self {
            page_after,
            down,
            degraded,
            blind,
            burst: Burst::default(),
            start_up_grace: 60,
            latency_p99: BTreeMap::new(),
            certificate_days: Some((CERTIFICATE_DAYS, CERTIFICATE_DAYS_LAST)),
            quiet_hours: None,
            shadow,
        }
    }
}

impl Alerting {
    /// The same for the incidents of a service that is looked at from `min_vantages`.
    pub(crate) fn policy(&self, min_vantages: usize, owner: Option<&str>, runbook: Option<&str>) -> Policy {
        Policy {
            page_after: self.page_after,
            down: self.down,
            degraded: self.degraded,
            blind: self.blind,
            min_vantages,
            owner: owner.map(str::to_owned),
            runbook: runbook.map(str::to_owned),
            shadow: self.shadow,
        }
    }
}
