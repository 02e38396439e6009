//! Real programs, each ended with its guard.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

/// How long a program may take to say that it listens.
const START: Duration = Duration::from_secs(30);

/// A running program, killed on drop; and with the thread that started it, should the test be killed.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `program` and reads what it prints on standard error.
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{} cannot be started: {error}; run tests/setup", program.display())
            });
        let stderr = child.stderr.take().unwrap();
        let (tell, lines) = sync_channel(10_000);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // A full queue is a test that no longer listens.
                _ = tell.try_send(line);
            }
        });
        Self { child, lines }
    }

    /// What follows `words` in the next line that has them, up to a blank.
    pub(crate) fn said(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(START).unwrap_or_else(|_| panic!("it never said `{words}`"));
            if let Some((_, rest)) = line.split_once(words) {
                return rest.split(' ').next().unwrap_or_default().to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The Python of the virtual environment that `tests/setup` makes.
pub(crate) fn test_python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("test-venv/bin/python");
    assert!(python.exists(), "{} is missing: run tests/setup", python.display());
    python
}
