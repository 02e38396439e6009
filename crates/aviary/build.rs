//! What `aviary --version` says of a build: commit, target, profile and features, as the compiler's environment.
//!
//! `AVIARY_COMMIT` names the commit where git cannot be asked, as in a build from a tarball. An unoptimised build does not ask:
//! it would be built anew after each commit, and nobody is given one.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=crates/aviary/build.rs");
    println!("cargo:rerun-if-env-changed=AVIARY_COMMIT");
    let told = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let profile = told("PROFILE").unwrap_or_default();
    let commit = told("AVIARY_COMMIT").or_else(|| if profile == "release" { commit() } else { None });
    let is_static =
        told("CARGO_CFG_TARGET_FEATURE").is_some_and(|all| all.split(',').any(|it| it == "crt-static"));
    let linked = if is_static { "static" } else { "dynamic" };
    let mut features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase().replace('_', "-")))
        .collect();
    features.sort();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
    println!("cargo:rustc-env=AVIARY_COMMIT={}", commit.as_deref().unwrap_or("unknown commit"));
    println!("cargo:rustc-env=AVIARY_TARGET={}, {profile}, {linked}", told("TARGET").unwrap_or_default());
    println!("cargo:rustc-env=AVIARY_FEATURES={features}");
}

/// The commit that is checked out, and whether anything that it has was changed since.
fn commit() -> Option<String> {
    // What is unpacked below somebody else's repository is not of its commit.
    git(&["ls-files", "--error-unmatch", "crates/aviary/build.rs"])?;
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        // A file that does not exist would be looked for in each build.
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["describe", "--always", "--dirty=, with changes", "--abbrev=12", "--exclude=*"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
