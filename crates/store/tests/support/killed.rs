//! A test that is begun again in a process of its own, and killed.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    thread::{self, sleep},
    time::Duration,
};

const DIRECTORY: &str = "AVIARY_TEST_DIRECTORY";
const FIRST: &str = "AVIARY_TEST_FIRST";

/// How long it may take until it has done something.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (works, at_work) = sync_channel(1);
    let reader = thread::spawn(move || {
        lines
            .inspect(|line| {
                if is_of_work(line) {
                    // Full after the first, of which alone anybody hears.
                    _ = works.try_send(());
                }
            })
            .collect()
    });
    // Some die before they began. However slow a machine is, most do not.
    if !round.is_multiple_of(4) {
        at_work.recv_timeout(PATIENCE).expect("it gets to its work");
    }
    sleep(Duration::from_micros(1_000 + round * 7_919 % 150_000));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// Whether it says what it did, `kept 3`, and not what the harness does.
fn is_of_work(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(_, number)| number.parse::<u64>().is_ok())
}
