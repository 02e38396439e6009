//! Taking on another configuration while running: all of it, or nothing.

use std::path::{Path, PathBuf};

use super::{
    paging,
    roles::Roles,
    services::{News, Services},
    watch::Watch,
};
use crate::{
    config::{
        self, Config, Environment, ServicesText,
        difference::{self, Difference},
        limits::{self, HostLimits},
    },
    telemetry::Log,
};

/// How many series are named in a line of the log; of more, the number is said.
const NAMED_MAX: usize = 10;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There may be another configuration, for this reason.
    Reload(&'static str),
    /// Services are to be prepared that may be taken on later.
    Build,
    /// Services that could not be used are no longer told.
    Forget,
}

/// The configuration that runs, and where another comes from.
pub(super) struct Reloader {
    config: Config,
    path: PathBuf,
    environment: Environment,
    host: String,
    watch: Watch,
    services: Option<Services>,
    /// Why the last reload failed, but for services that were refused: those say that themselves.
    failed: Option<String>,
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
            failed: None,
        }
    }

    /// The configuration that runs.
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Where a collector says what is probed: asks it, or takes what it said last. Without either, and where neither can
    /// be used, the agent begins with nothing to probe, and goes on asking.
    pub(super) async fn fetch_services(&mut self) {
        let Some(services) = &mut self.services else { return };
        services.ask_once().await;
        for is_copy in [false, true] {
            if is_copy {
                services.offer_copy();
            }
            let Some(text) = services.current() else { continue };
            match config::load_with_services(&self.path, &text, &self.environment, &self.host) {
                Ok(config) => {
                    services.accept();
                    self.watch.follow(&config.files, self.watch.look());
                    self.config = config;
                    return;
                }
                Err(problems) => {
                    tracing::error!("The services cannot be used: {problems}");
                    services.refuse(&problems.to_string());
                }
            }
        }
        tracing::error!("Nothing is probed until a collector tells the services.");
    }

    /// Follows which versions of the services a collector tells the agent of `roles`.
    pub(super) fn follow_versions(&mut self, roles: &Roles) {
        if let (Some(services), Some(agent)) = (&mut self.services, roles.agent()) {
            services.follow(agent.observer());
        }
    }

    /// Waits until there is something to do.
    pub(super) async fn changed(&mut self) -> Change {
        let services = async {
            match &mut self.services {
                Some(services) => services.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.watch.changed() => Change::Reload("a file changed"),
            news = services => match news {
                News::Offered => Change::Reload("the collector tells other services"),
                News::ToBuild => Change::Build,
                News::Dropped => Change::Forget,
            },
        }
    }

    /// Takes on what the files and the collector say now. A problem changes nothing, and is said.
    pub(super) async fn reload(&mut self, roles: &mut Roles, log: &Log, why: &'static str) {
        let seen = self.watch.look();
        match self.try_reload(roles, log, why).await {
            Ok(()) => {
                self.watch.follow(&self.config.files, seen);
                self.failed = None;
                self.tell_failure(roles);
            }
            Err(error) => {
                self.watch.dismiss(seen);
                self.failed = Some(error.clone()).filter(|error| self.why_refused() != Some(error));
                // Whoever reads of it in the log finds it at the agent, too.
                self.tell_failure(roles);
                tracing::error!(why, "The configuration is not taken on, the one before stands: {error}");
            }
        }
    }

    /// Does of taking services on all that can fail, and changes nothing that runs; takes them on where that is what they wait for.
    /// They are read again when they are taken on: the files that they refer to may be others by then.
    pub(super) async fn build(&mut self, roles: &mut Roles, log: &Log) {
        let Some((version, text)) = self.services.as_ref().and_then(Services::to_build) else { return };
        let built = self.try_build(&text, roles).await;
        let Some(services) = &mut self.services else { return };
        let (is_ready, is_news) = services.built(version, built.clone());
        if is_news && !is_ready {
            self.tell_failure(roles);
        }
        match &built {
            Ok(()) => {
                tracing::info!(%version, "The services are available, and wait until all agents have them.")
            }
            Err(error) if is_news => {
                tracing::error!(%version, "The services cannot be used here, those before stand: {error}");
            }
            Err(_) => {}
        }
        if is_ready {
            self.reload(roles, log, "the services can be used now").await;
        }
    }

    async fn try_build(&self, text: &ServicesText, roles: &Roles) -> Result<(), String> {
        let config = self.load(Some(text))?;
        paging::outside(&config).map_err(|error| format!("{error:#}"))?;
        match roles.agent() {
            Some(agent) => agent.prepare(&config).map_err(|error| format!("{error:#}")),
            None => Ok(()),
        }
    }

    /// Says how the last reload ended, to whoever asks: also of services that wait for a better version.
    pub(super) fn tell_failure(&self, roles: &Roles) {
        if let Some(agent) = roles.agent() {
            let failed = self.failed.as_deref().or_else(|| self.why_refused());
            agent.reloaded(failed.map(str::to_owned));
        }
    }

    fn why_refused(&self) -> Option<&str> {
        self.services.as_ref().and_then(Services::why_refused)
    }

    async fn try_reload(&mut self, roles: &mut Roles, log: &Log, why: &'static str) -> Result<(), String> {
        let text = self.services.as_ref().and_then(Services::current);
        let config = match self.load(text.as_ref()) {
            Ok(config) => config,
            Err(error) => {
                if let Some(services) = &mut self.services {
                    services.refuse(&error);
                }
                return Err(error);
            }
        };
        // Made first, since it may fail.
        let outside = paging::outside(&config).map_err(|error| format!("{error:#}"))?;
        let difference = difference::between(&self.config, &config);
        if let (Some(agent), Some(section)) = (roles.agent_mut(), &config.agent) {
            if let Err(error) = agent.take_on(section, &config).await {
                let error = format!("{error:#}");
                self.services.iter_mut().for_each(|services| services.refuse(&error));
                return Err(error);
            }
            if let Some(services) = &mut self.services {
                services.redirect(super::agent::push(section, None));
                services.accept();
            }
        }
        if config.log.level != self.config.log.level {
            log.set_level(&config.log.level).map_err(|error| error.to_string())?;
        }
        roles.take_on(&config, outside);
        tell(&difference, &config, why);
        self.config = config;
        Ok(())
    }

    /// The configuration as it stands now, if this host can carry it.
    fn load(&self, services: Option<&ServicesText>) -> Result<Config, String> {
        let config = match services {
            Some(text) => config::load_with_services(&self.path, text, &self.environment, &self.host),
            None => config::load(&self.path, &self.environment, &self.host),
        };
        let config = config.map_err(|problems| problems.to_string())?;
        match limits::exceeded(&config, &HostLimits::of_this_process()).first() {
            Some(excess) => Err(format!("{excess}; {}", excess.help())),
            None => Ok(config),
        }
    }

    /// Begins and ends the series of addresses and endpoints that came and went.
    pub(super) async fn follow(&self, roles: &mut Roles) {
        let Some(agent) = roles.agent_mut() else { return };
        if let Err(error) = agent.follow(&self.config).await {
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
