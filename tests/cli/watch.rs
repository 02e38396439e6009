//! `aviary status --watch`: at a real terminal, and in a pipe.

#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    aviary::{Aviary, command},
    ports::Port,
    terminal::Terminal,
};

const OTHER_SCREEN: &str = "\x1b[?1049h";
const BACK: &str = "\x1b[?25h\x1b[?1049l";

const PATIENCE: Duration = Duration::from_secs(60);

/// A service of which one protocol is delivered and another has nobody who listens, at two addresses: so that more than half is
/// lost, whatever a busy machine does not get to.
fn half_dead() -> (Aviary, String) {
    let (alive, dead, dead_too) = (Port::claim(), Port::claim(), Port::claim());
    let running = Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\nzone = \"eu-a\"\n[agent]\n[sink]\ntcp = \"{alive}\"\n[[service]]\nname = \"ingest\"\n\
         endpoints = [\"tcp://{alive}\", \"pickle://{dead}\", \"pickle://{dead_too}\"]\n",
        alive = alive.address(),
        dead = dead.address(),
        dead_too = dead_too.address(),
    ));
    let url = format!("http://{}", running.collector);
    running.wait_for("/api/v1/services/ingest", PATIENCE, |ingest| ingest["state"] == "down");
    (running, url)
}

/// The lines that stand on the screen; none before it was drawn.
fn on_screen(terminal: &Terminal) -> Vec<String> {
    let seen = terminal.seen();
    let frame = seen.rsplit("\x1b[H").find_map(|frame| Some(frame.split_once("\x1b[J")?.0.to_owned()));
    frame.iter().flat_map(|frame| frame.lines()).map(plain).collect()
}

/// The lines that stand on the screen as soon as one of them is as `wanted`.
#[track_caller]
fn once_shown(terminal: &Terminal, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = on_screen(terminal);
        if shown.iter().any(|line| wanted(line)) {
            return shown;
        }
        assert!(Instant::now() < deadline, "{}", terminal.seen());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Without what makes colours and takes away what stood there.
fn plain(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(['m', 'K']).unwrap().1)
}

#[test]
fn the_matrix_keeps_to_the_terminal_and_says_when_nobody_answers() {
    let (mut running, url) = half_dead();
    let mut terminal = Terminal::start(&["status", "--watch", &url], |_| {});
    terminal.wait_for(OTHER_SCREEN);
    once_shown(&terminal, |line| line.starts_with("pickle") && line.contains("!! 0/"));
    // What a busy machine does not get to is not lost, and weighs less the more was measured.
    let is_delivered = |line: &str| {
        let cell = line.strip_prefix("tcp ").and_then(|row| row.split_whitespace().next());
        let counts = cell.and_then(|cell| cell.split_once('/'));
        let counts =
            counts.map(|(delivered, scheduled)| (delivered.parse::<u64>(), scheduled.parse::<u64>()));
        matches!(counts, Some((Ok(delivered @ 1..), Ok(scheduled))) if delivered * 5 >= scheduled * 4)
    };
    let shown = once_shown(&terminal, is_delivered);
    let row = |start: &str| {
        shown.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{shown:#?}"))
    };
    assert!(row("ingest").contains("!! down"), "{shown:#?}");
    assert!(row("protocol").ends_with(" eu"), "{shown:#?}");
    assert!(row("pickle").contains("!! 0/"), "{shown:#?}");
    assert!(terminal.seen().contains("\x1b[7m"), "what is down stands out: {}", terminal.seen());

    terminal.resize(40, 6);
    let shown = once_shown(&terminal, |line| line.starts_with("2 protocols, 1 of them losing"));
    assert!(shown.len() <= 6 && shown.iter().all(|line| line.chars().count() < 40), "{shown:#?}");

    terminal.resize(120, 24);
    running.process().kill();
    let shown = once_shown(&terminal, |line| line.contains(" s old: cannot reach a collector at "));
    assert!(shown.iter().any(|line| line.contains("!! down")), "{shown:#?}");
    assert_eq!(terminal.end_by(b"\x03"), Some(1), "{}", terminal.seen());
    // What a process wrote last may be read after its end.
    terminal.wait_for(BACK);
    assert!(terminal.seen().ends_with(BACK), "{}", terminal.seen());
    assert_eq!(terminal.seen().matches(OTHER_SCREEN).count(), 1);
    assert!(terminal.is_as_before());
}

#[test]
fn a_terminal_without_colours_is_left_as_it_was_by_a_signal_and_by_a_key() {
    let nobody = Port::claim();
    let url = format!("http://{}", nobody.address());
    type End = fn(&mut Terminal) -> Option<i32>;
    let ends: [End; 2] = [Terminal::terminate, |terminal| terminal.end_by(b"q")];
    for end in ends {
        let mut terminal = Terminal::start(&["status", "--watch", &url], |command| {
            command.env("NO_COLOR", "1");
        });
        terminal.wait_for(&format!("Nothing is heard of {url}/: cannot reach a collector"));
        assert!(!terminal.is_as_before());
        assert_eq!(end(&mut terminal), Some(1), "{}", terminal.seen());
        assert!(terminal.is_as_before());
        terminal.wait_for(BACK);
        let seen = terminal.seen();
        assert!(seen.ends_with(BACK), "{seen}");
        assert!(!seen.contains("\x1b[1m") && !seen.contains("\x1b[7m") && !seen.contains("\x1b[3"), "{seen}");
    }
}

#[test]
fn a_pipe_gets_plain_lines_again_and_again() {
    let (_running, url) = half_dead();
    let mut command = command();
    command.args(["status", "--watch", "--interval", "1s", "--by", "zone", &url]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut blocks = 0;
    // The address heads each block, of which the third is the end of the second.
    let told: Vec<String> = lines
        .by_ref()
        .take_while(|line| {
            blocks += usize::from(line.contains(&url));
            blocks < 3
        })
        .collect();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!told.iter().any(|line| line.contains('\x1b')), "{told:#?}");
    for start in ["ingest ", "protocol ", "tcp ", "pickle "] {
        assert_eq!(told.iter().filter(|line| line.starts_with(start)).count(), 2, "{start}: {told:#?}");
    }
    assert!(told.iter().any(|line| line.starts_with("protocol ") && line.ends_with(" eu-a")), "{told:#?}");
}
