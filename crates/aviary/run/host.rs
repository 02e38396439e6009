//! What the host is asked before the roles start: whether it can carry the plan, and where it is.

use std::{io::Write as _, path::Path};

use anyhow::Context as _;
use aviary_core::Vantage;

use crate::{
    config::{
        Config, Problem,
        limits::{self, HostLimits},
    },
    metadata,
};

/// Lets this process have the files that it may have, and says whether the host can carry what `config`, read from
/// `path`, plans. What it cannot is said on standard error.
pub(super) fn can_carry(config: &Config, path: &Path) -> anyhow::Result<bool> {
    limits::raise_open_files().context("cannot raise the limit of open files")?;
    let excess = limits::exceeded(config, &HostLimits::of_this_process());
    if excess.is_empty() {
        // Not even the lock is taken: the log may be waiting with it for somebody to read.
        return Ok(true);
    }
    let mut err = std::io::stderr().lock();
    for excess in &excess {
        writeln!(err, "{}", Problem::of_file(path, excess.to_string(), excess.help()))?;
    }
    writeln!(err, "{}: not started: this host cannot carry the plan", path.display())?;
    Ok(false)
}

/// Where probes run from; what the file leaves to the cloud is asked of its metadata service.
pub(super) async fn vantage(config: &Config) -> anyhow::Result<Option<Vantage>> {
    let Some(vantage) = config.vantage.as_ref().filter(|_| config.agent.is_some()) else {
        return Ok(None);
    };
    let auto = vantage.auto();
    if auto.is_empty() {
        return Ok(Some(vantage.as_written()));
    }
    let base = metadata::ADDRESS.parse()?;
    let place = metadata::place(&base, metadata::Patience::default()).await.with_context(|| {
        let keys = auto.join(" and ");
        format!("vantage.{keys}: \"auto\" has no answer; write it, such as region = \"eu-west-1\", or set AVIARY_VANTAGE_REGION")
    })?;
    tracing::info!(
        network = place.network,
        region = place.region,
        zone = place.zone.as_deref().unwrap_or_default(),
        "The cloud says where this host runs."
    );
    Ok(Some(vantage.settled(&place)))
}
