//! A real terminal: a pseudo-terminal, with somebody who presses keys and sees what is written.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use super::aviary::AVIARY;

/// How long something may take to be seen: a fleet is well some seconds after its start, and a page takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command of aviary at a terminal of its own, of 80 columns and 24 rows.
pub(crate) struct Terminal {
    child: Child,
    /// Whoever sits at it.
    person: File,
    /// Where its settings are read: open as long as this is, whoever else closes it.
    line: OwnedFd,
    seen: Arc<Mutex<String>>,
    /// How it was set before anything ran there.
    before: String,
}

impl Terminal {
    /// Starts it with `arguments`; `change` may change its environment.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap();
        let line =
            rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        tcsetwinsize(&line, size(80, 24)).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        // A session of its own, whose terminal this is: Ctrl-C is a signal for whoever has the terminal.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", AVIARY]).args(arguments).stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        change(&mut command);
        let before = settings(&line);
        let child = command.spawn().unwrap();
        let person = File::from(person);
        let seen = Arc::<Mutex<String>>::default();
        let (mut reader, shown) = (person.try_clone().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut part = [0; 4096];
            // It ends with the terminal's last other end.
            while let Ok(read @ 1..) = reader.read(&mut part) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&part[..read]));
            }
        });
        Self { child, person, line, seen, before }
    }

    /// Everything that was written to it.
    pub(crate) fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until `text` was written to it.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {}", self.seen());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes it another size, which whoever runs there is told.
    #[track_caller]
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.line, size(columns, rows)).unwrap();
    }

    /// Presses `key`.
    #[track_caller]
    pub(crate) fn press(&mut self, key: &[u8]) {
        self.person.write_all(key).unwrap();
    }

    /// Presses `key`, and waits for the end; its exit status.
    #[track_caller]
    pub(crate) fn end_by(&mut self, key: &[u8]) -> Option<i32> {
        self.press(key);
        self.end()
    }

    /// Ends it with SIGTERM; its exit status.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.end()
    }

    /// Waits for the end; its exit status.
    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still there: {}", self.seen());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether keys are handed over one by one and not shown.
    pub(crate) fn is_key_by_key(&self) -> bool {
        !tcgetattr(&self.line).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Whether it is set as it was before anything ran there.
    pub(crate) fn is_as_before(&self) -> bool {
        settings(&self.line) == self.before
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The end of its session's leader is a hang-up for whatever runs there.
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

fn settings(line: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(line).unwrap())
}

const fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
