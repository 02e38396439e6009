//! What is installed: the Debian package, units, container, manifests and cloud configurations, each judged by a tool of its own
//! world and, where that can be, run. Whoever runs these is root, since a package is installed by root.
//!
//! Neither systemd nor a container engine nor Kubernetes runs here; what they would run is started as they would start it.

mod cloud;
mod debian;
mod image;
mod kubernetes;
mod program;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::{
    aviary::AVIARY,
    process::{program, test_python},
};

/// The path of `name` in this repository.
fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The path of a program among those that `tests/setup` installs for Python.
fn python_tool(name: &str) -> PathBuf {
    test_python().with_file_name(name)
}

/// Where `tests/setup` puts other programs.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/bin")
}

/// What `command` prints; where it fails, so does the test, with all that it said.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}\n{said}");
    said
}

/// `script` beside this file, on a host of its own: with mounts and a network that are nobody else's, and end with it.
#[track_caller]
fn on_a_host_of_its_own(script: &str, arguments: &[&Path]) -> String {
    assert!(rustix::process::geteuid().is_root(), "only root can play a host: run this test as root");
    let mut command = program("unshare");
    command
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"])
        .arg(repository("tests/packages").join(script))
        .args(arguments);
    succeed(&mut command)
}

/// The program without what a debugger reads of it: a sixth of the bytes to pack.
#[track_caller]
fn stripped(dir: &Path) -> PathBuf {
    let path = dir.join("aviary");
    succeed(Command::new("strip").arg("-o").arg(&path).arg(AVIARY));
    path
}

/// What `aviary check` says of the file at `path`, which is that there is no problem.
#[track_caller]
fn accepted(path: &Path, environment: &[(String, String)]) -> String {
    let mut command = crate::support::aviary::command();
    succeed(command.arg("check").arg(path).envs(environment.iter().cloned()))
}
