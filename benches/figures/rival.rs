//! Where the programs are that aviary is measured beside.

use std::{env, path::PathBuf};

use anyhow::Context as _;

/// The program called `name`: whichever is in `$PATH`, else the one that benches/setup put beside what cargo builds.
pub(crate) fn find(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let built = env::current_exe()?;
    let beside = built.ancestors().nth(3).map(|target| target.join("tools/rivals/usr/bin"));
    env::split_paths(&path)
        .chain(beside)
        .map(|directory| directory.join(name))
        .find(|it| it.is_file())
        .with_context(|| {
            format!("{name} is neither in $PATH nor where benches/setup puts it; run benches/setup")
        })
}
