//! Taking on another configuration while running: all of it, or nothing.

use std::path::{Path, PathBuf};

use super::{roles::Roles, services::Services, watch::Watch};
use crate::{
    config::{
        self, Config, Environment, Problems,
        difference::{self, Difference},
        limits::{self, HostLimits},
    },
    telemetry::Log,
};

/// How many series are named in a line of the log; of more, the number is said.
const NAMED_MAX: usize = 10;

/// The configuration that runs, and where another comes from.
pub(super) struct Reloader {
    config: Config,
    path: PathBuf,
    environment: Environment,
    host: String,
    watch: Watch,
    services: Option<Services>,
}

impl Reloader {
    pub(super) fn new(config: Config, path: &Path, environment: &Environment, host: &str) -> Self {
        let services = config.agent.as_ref().filter(|agent| agent.services_from_collector);
        let services =
            services.map(|agent| Services::new(super::agent::push(agent, None), agent.data.as_deref()));
        Self {
            watch: Watch::new(&config.files),
            config,
            path: path.to_owned(),
            environment: environment.clone(),
            host: host.to_owned(),
            services,
        }
    }

    /// The configuration that runs.
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Where a collector says what is probed: asks it, or takes what it said last. Without either the agent begins with
    /// nothing to probe.
    pub(super) async fn fetch_services(&mut self) -> Result<(), Problems> {
        let Some(services) = &mut self.services else { return Ok(()) };
        match services.at_start().await {
            Some(text) => {
                self.config = config::load_with_services(&self.path, &text, &self.environment, &self.host)?;
                services.keep();
            }
            None => tracing::error!("Nothing is probed until a collector tells the services."),
        }
        Ok(())
    }

    /// Waits until there may be another configuration; returns why.
    pub(super) async fn changed(&mut self) -> &'static str {
        let services = async {
            match &mut self.services {
                Some(services) => services.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.watch.changed() => "a file changed",
            () = services => "the collector tells other services",
        }
    }

    /// Takes on what the files and the collector say now. A problem changes nothing, and is said.
    pub(super) async fn reload(&mut self, roles: &mut Roles, log: &Log, why: &'static str) {
        let failed = match self.try_reload(roles, log, why).await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(why, "The configuration is not taken on, the one before stands: {error}");
                Some(error)
            }
        };
        if let Some(agent) = roles.agent() {
            agent.reloaded(failed);
        }
    }

    async fn try_reload(&mut self, roles: &mut Roles, log: &Log, why: &'static str) -> Result<(), String> {
        let in_words = |problems: Problems| problems.to_string();
        let text = self.services.as_ref().and_then(Services::current);
        let config = match &text {
            Some(text) => config::load_with_services(&self.path, text, &self.environment, &self.host),
            None => config::load(&self.path, &self.environment, &self.host),
        };
        let config = config.map_err(in_words)?;
        let excess = limits::exceeded(&config, &HostLimits::of_this_process());
        if let Some(excess) = excess.first() {
            return Err(format!("{excess}; {}", excess.help()));
        }
        self.watch = Watch::new(&config.files);
        let difference = difference::between(&self.config, &config);
        if config.log.level != self.config.log.level {
            log.set_level(&config.log.level).map_err(|error| error.to_string())?;
        }
        if let (Some(agent), Some(section)) = (roles.agent_mut(), &config.agent) {
            agent.take_on(section, &config).await.map_err(|error| format!("{error:#}"))?;
            if let Some(services) = &mut self.services {
                services.redirect(super::agent::push(section, None));
                services.keep();
            }
        }
        if let Some((collector, _)) = roles.collector() {
            collector.take_on(super::roles::services(&config), config.services_document.clone());
        }
        tell(&difference, &config, why);
        self.config = config;
        Ok(())
    }

    /// Begins and ends the series of addresses that came and went.
    pub(super) async fn follow_addresses(&self, roles: &mut Roles) {
        let Some(agent) = roles.agent_mut() else { return };
        if let Err(error) = agent.follow_addresses(&self.config).await {
            tracing::error!(reason = format!("{error:#}"), "The series stay as they are.");
        }
    }
}

/// Says what has changed, and what has not although the file says so.
fn tell(difference: &Difference, config: &Config, why: &'static str) {
    let version = &config.version;
    let Difference { added, removed, unchanged, applied, needs_restart } = difference;
    tracing::info!(
        why,
        version,
        added = added.len(),
        removed = removed.len(),
        unchanged = unchanged.len(),
        "The configuration was taken on."
    );
    for series in added.iter().take(NAMED_MAX) {
        tracing::info!(%series, "Begins.");
    }
    for series in removed.iter().take(NAMED_MAX) {
        tracing::info!(%series, "Ends.");
    }
    for change in applied.iter().take(NAMED_MAX) {
        tracing::info!(%change, "Acts from now on.");
    }
    for change in needs_restart {
        tracing::warn!(%change, "Acts after a restart only.");
    }
}
