//! What a collector is told to do.

use std::{sync::Arc, time::Duration};

use aviary_core::{Endpoint, Evidence, page::Paging, silence::Silence, verdict::Policy};
use aviary_store::Store;

use crate::{
    Alerting, CertificateRule, FleetSteering, MetricsPage, ProxyRule, Readback, ServiceStatus, SessionKey,
    Steering, TestPages, TokenRule,
};

/// What a collector is to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its name, for whoever asks.
    pub name: String,
    /// The services it judges. Others that agents report are kept and summed, and judged by the defaults.
    pub services: Vec<ServiceOptions>,
    /// Who may do what. Without any, and without the next two, loopback may do everything.
    pub tokens: Vec<TokenRule>,
    /// What those may who show certificates with these names.
    pub certificates: Vec<CertificateRule>,
    /// Who says in headers who people are.
    pub proxy: Option<ProxyRule>,
    /// What sessions of browsers are signed with; without it nobody can sign in.
    pub session_key: Option<SessionKey>,
    /// Also who asks for health must be somebody who may read.
    pub probe_auth: bool,
    /// Anybody may do everything, also from beyond loopback.
    pub open: bool,
    /// Everybody has shown a certificate that was asked for: where nothing else says who may what, they may report and read.
    pub certified: bool,
    /// The `[[service]]` sections for agents that take theirs from this collector, as TOML.
    pub services_document: Option<String>,
    /// How long a version of them may take to be available to all agents; [`crate::ROLLOUT_TIMEOUT`] where nothing is said.
    pub rollout_timeout: Option<Duration>,
    /// What writes `/metrics`; without it there is no such page.
    pub metrics: Option<MetricsPage>,
    /// Where it keeps what is to outlive it. Without any, everything ends with the process, and slots are kept for an hour.
    pub store: Option<Arc<dyn Store>>,
    /// For how many seconds they are kept; for ever, if nothing is said.
    pub retain_seconds: Option<u64>,
    /// Under which URL people reach it: links begin with it.
    pub url: Option<String>,
    /// Who is told of incidents; without any receiver, nobody.
    pub paging: Paging,
    /// What the configuration says that nobody wants to be paged about.
    pub silences: Vec<Silence>,
    /// When test pages are sent, and to whom; none without.
    pub test_pages: Option<TestPages>,
    /// There is a public status page: incidents open drafts for it.
    pub has_status: bool,
    /// How nodes are steered, whichever service they are of.
    pub rotation: FleetSteering,
}

/// A service that is judged.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Its name.
    pub name: String,
    /// What it may lose, and how many must look.
    pub policy: Policy,
    /// The lowest rung that counts; the default depends on protocol and storage.
    pub counts_as_delivered: Option<Evidence>,
    /// Whether what it stores is found out: it reaches [`crate::Collector::stored`], or is read back.
    pub storage: bool,
    /// How it tells what it stored, if it does.
    pub readback: Option<Readback>,
    /// What agents are to probe, and whether the service requires it. An endpoint that nobody reports is shown as one of
    /// which we cannot tell.
    pub endpoints: Vec<(Endpoint, bool)>,
    /// What it wants to be told of, and how.
    pub alerting: Alerting,
    /// Who looks after it.
    pub owner: Option<String>,
    /// What to do when it is not well.
    pub runbook: Option<String>,
    /// What customers know it as, where there is a status page.
    pub status: ServiceStatus,
    /// How its nodes are steered, if they are.
    pub steering: Option<Steering>,
}

impl ServiceOptions {
    /// A service of which nothing is configured.
    pub fn unconfigured(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            policy: Policy::default(),
            counts_as_delivered: None,
            storage: false,
            readback: None,
            endpoints: Vec::new(),
            alerting: Alerting::default(),
            owner: None,
            runbook: None,
            status: ServiceStatus::default(),
            steering: None,
        }
    }

    /// Whether the loss of `endpoint` is the service's.
    pub(crate) fn requires(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.iter().find(|(known, _)| known == endpoint).is_none_or(|(_, required)| *required)
    }
}
