//! A small file system for a test of its own.

use std::{env, path::Path, process::Command};

const MOUNTED: &str = "AVIARY_TEST_MOUNTED";

/// Runs `test`, of this name, again where a file system of `megabytes` is mounted, in a mount namespace of its own, and
/// there it itself.
pub(crate) fn on_a_small_disk(name: &str, megabytes: u32, test: fn(&Path)) {
    if let Some(directory) = env::var_os(MOUNTED) {
        return test(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=\"$1\"m small \"$AVIARY_TEST_MOUNTED\"; exec \"$2\" --exact \"$3\" --nocapture")
        .args(["sh", &megabytes.to_string()])
        .arg(env::current_exe().unwrap())
        .arg(name)
        .env(MOUNTED, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
