//! `aviary demo`: by a script, and by keys at a real terminal.

#![expect(clippy::disallowed_methods, reason = "a terminal keeps real time")]

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
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::support::aviary::{AVIARY, Ran, command};

/// It is well some seconds after its start, and a page takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo by `script`.
#[track_caller]
fn play(script: &str) -> Ran {
    let mut command = command();
    command.arg("demo").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { out: text(output.stdout), err: text(output.stderr), status: output.status.code().unwrap() }
}

#[test]
fn a_script_gets_the_page_of_each_fault_with_its_extent() {
    let ran = play("u wait e\nm a wait\nn wait\n");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    let pages: Vec<&str> = ran.out.split("---- a page, ").skip(1).collect();
    let [udp, address, silence] = pages[..] else { panic!("{}", ran.out) };
    for (page, key, first, more) in [
        (udp, "u", "ingest: udp in every region (3/3), ", "\n  well        pickle "),
        (address, "a", "edge: address 127.0.9.3 (1/4 addresses) in every region (3/3), ", "127.0.9.4 "),
        (silence, "n", "we cannot see ap: nobody reports from there", "\nNothing is measured from there, "),
    ] {
        let mut lines = page.lines();
        let head = lines.next().unwrap();
        let (seconds, pressed) = head.split_once(" s after you pressed ").unwrap_or_else(|| panic!("{head}"));
        assert!((0.0..60.0).contains(&seconds.parse::<f64>().unwrap()) && pressed.starts_with(key), "{head}");
        assert!(lines.next().unwrap().starts_with(first), "{page}");
        assert!(
            page.contains("\nSince ") && page.contains("\n  against it  ") && page.contains(more),
            "{page}"
        );
    }
    assert!(
        udp.contains("\n  for it      protocol udp: ") && udp.contains("Why ingest was told, at "),
        "{udp}"
    );
    assert!(
        !ran.out.contains('\x1b'),
        "no colours, and no line told anew, where there is no terminal: {}",
        ran.out
    );
}

#[test]
fn a_word_that_means_nothing_is_usage() {
    let ran = play("q explode");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "what follows the end is not read: {}", ran.out);
    let ran = play("explode");
    assert_eq!(ran.status, 2);
    assert!(
        ran.err.contains("`explode` means nothing here: a script is made of the keys u, r, a"),
        "{}",
        ran.err
    );
}

/// The demo at a terminal of its own.
struct Terminal {
    child: Child,
    /// Whoever sits at it.
    person: File,
    /// Where its settings are read: open as long as this is, whoever else closes it.
    line: OwnedFd,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(change: impl FnOnce(&mut Command)) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap();
        let line =
            rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        tcsetwinsize(&line, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        // A session of its own, whose terminal this is: Ctrl-C is a signal for whoever has the terminal.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", AVIARY, "demo"]).stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        change(&mut command);
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
        Self { child, person, line, seen }
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {}", self.seen());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses `key`, and waits for the end; its exit status.
    #[track_caller]
    fn end_by(&mut self, key: &[u8]) -> Option<i32> {
        self.person.write_all(key).unwrap();
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
    fn is_key_by_key(&self) -> bool {
        !tcgetattr(&self.line).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn settings(&self) -> String {
        format!("{:?}", tcgetattr(&self.line).unwrap())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The end of its session's leader is a hang-up for the demo.
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

#[test]
fn a_key_breaks_udp_and_another_ends_it() {
    let mut terminal = Terminal::start(|_| {});
    terminal.wait_for("\r\x1b[Klost 0 %: ap 24/24 ");
    assert!(terminal.is_key_by_key());
    terminal.person.write_all(b"u").unwrap();
    terminal.wait_for(" s after you pressed u ");
    terminal.wait_for("\ningest: udp in every region (3/3), ");
    terminal.wait_for("udp 0/9!");
    assert_eq!(terminal.end_by(b"q"), Some(0), "{}", terminal.seen());
    assert!(!terminal.is_key_by_key());
    assert!(terminal.seen().contains("\x1b[31m"), "loss is red: {}", terminal.seen());
}

#[test]
fn the_terminal_is_as_it_was_also_after_ctrl_c() {
    let mut terminal = Terminal::start(|command| {
        command.env("NO_COLOR", "1");
    });
    let before = terminal.settings();
    terminal.wait_for("starting: ");
    assert_ne!(terminal.settings(), before);
    assert_eq!(terminal.end_by(b"\x03"), Some(0), "{}", terminal.seen());
    assert_eq!(terminal.settings(), before);
    assert!(
        !terminal.seen().contains("\x1b[1m") && !terminal.seen().contains("\x1b[3"),
        "{}",
        terminal.seen()
    );
}
