//! A test with a network of its own, for what would disturb the others.
//!
//! The test binary runs itself again in a network namespace, with this one test and a mark in the environment, so that
//! the test's body runs in the child and its outcome is the parent's.

use std::{
    env,
    process::{Command, Stdio},
};

const INSIDE: &str = "AVIARY_TEST_CELL";

/// Runs `body` where there is nothing but a loopback device, up. `test` is the calling test's path.
#[track_caller]
pub(crate) fn own_network(test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        run_tool("ip", "link set lo up");
        return body();
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--"]).arg(env::current_exe().expect("/proc is mounted"));
    unshare.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let ran = unshare
        .output()
        .unwrap_or_else(|error| panic!("{unshare:?}: {error}; `unshare` is of Debian's package util-linux"));
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{test}, in a network of its own, {}; network namespaces need root:\n{said}",
        ran.status
    );
}

/// Runs a tool of the system, which must succeed; `arguments` are separated by spaces.
#[track_caller]
pub(crate) fn run_tool(tool: &str, arguments: &str) {
    let mut command = Command::new(tool);
    let ran = command
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `ip` is of Debian's package iproute2"));
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}
