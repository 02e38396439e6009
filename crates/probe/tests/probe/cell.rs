//! A process of its own, with a network of its own where one is needed: for what would disturb other tests.
//!
//! The test binary runs itself again, with this one test and a mark in the environment, so that the test's body runs in
//! the child and its outcome is the parent's.

use std::{
    env, fs,
    process::{Command, Stdio},
};

const INSIDE: &str = "AVIARY_PROBE_CELL";

/// Runs `body` in a process where no other test runs. `test` is the calling test's path.
pub(crate) fn own_process(test: &str, body: impl Future<Output = ()>) {
    let itself = env::current_exe().expect("/proc is mounted");
    run(test, Command::new(itself), body);
}

/// Runs `body` in a network namespace where there is nothing but a loopback device, up.
pub(crate) fn own_network(test: &str, body: impl Future<Output = ()>) {
    own_namespaces(test, &["--net"], body);
}

/// The same, and what `body` mounts is seen by nobody else.
pub(crate) fn own_network_and_mounts(test: &str, body: impl Future<Output = ()>) {
    own_namespaces(test, &["--net", "--mount"], body);
}

fn own_namespaces(test: &str, namespaces: &[&str], body: impl Future<Output = ()>) {
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces);
    if !rustix::process::geteuid().is_root() {
        // Where the kernel lets everybody have a user namespace, that is enough.
        unshare.arg("--map-root-user");
    }
    unshare.arg("--").arg(env::current_exe().expect("/proc is mounted"));
    run(test, unshare, async {
        run_tool("ip", "link set lo up");
        body.await;
    });
}

fn run(test: &str, mut command: Command, body: impl Future<Output = ()>) {
    if env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("files are left").block_on(body);
        return;
    }
    let ran =
        command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap_or_else(|error| {
            panic!("{command:?}: {error}; `unshare` is of Debian's package util-linux")
        });
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{test}, in a process of its own, {}; network namespaces need root, or user namespaces for everybody:\n{said}",
        ran.status
    );
}

/// Runs a tool of the system, which must succeed; `arguments` are separated by spaces.
pub(crate) fn run_tool(tool: &str, arguments: &str) {
    run_command(Command::new(tool).args(arguments.split(' ')));
}

/// Runs a command, which must succeed.
pub(crate) fn run_command(command: &mut Command) {
    let ran = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; `ip` is of Debian's package iproute2, `nft` of nftables, `nsenter` of util-linux")
    });
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// How many files this process has open, that of counting left out.
pub(crate) fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count() - 1
}
