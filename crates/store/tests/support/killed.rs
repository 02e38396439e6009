//! A test that is begun again in a process of its own, and killed.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::{self, sleep},
    time::Duration,
};

const DIRECTORY: &str = "AVIARY_TEST_DIRECTORY";
const FIRST: &str = "AVIARY_TEST_FIRST";

/// Where, and from which number on, a process that is to be killed writes; nothing in any other.
pub(crate) fn to_be_killed() -> Option<(PathBuf, u64)> {
    let directory = env::var_os(DIRECTORY).map(PathBuf::from)?;
    Some((directory, env::var(FIRST).unwrap().parse().unwrap()))
}

/// Has the test of this name write from `first` on in a process of its own, and kills that in each `round` at another
/// moment: from before its file is open to well into its work. Returns the lines that it said.
pub(crate) fn killed(name: &str, directory: &Path, first: u64, round: u64) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn(move || said.lines().map_while(Result::ok).collect());
    sleep(Duration::from_micros(1_000 + round * 7_919 % 150_000));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}
