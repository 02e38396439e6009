//! `aviary demo`: by a script, and by keys at a real terminal.

use std::{io::Write as _, process::Stdio};

use crate::support::{
    aviary::{Ran, command},
    terminal::Terminal,
};

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
    // That an earlier fault is over is told a minute later, if it still runs.
    let is_of_fault = |page: &&str| !page.lines().next().is_some_and(|head| head.contains(" pressed m"));
    let pages: Vec<&str> = ran.out.split("---- a page, ").skip(1).filter(is_of_fault).collect();
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
    for (page, runbook) in [(udp, "loss"), (silence, "agents-silent")] {
        let link = page.lines().find_map(|line| line.strip_prefix("Runbook: http://127.0.0.1:"));
        assert!(link.is_some_and(|it| it.ends_with(&format!("/runbooks/{runbook}"))), "{page}");
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

#[test]
fn a_key_breaks_udp_and_another_ends_it() {
    let mut terminal = Terminal::start(&["demo"], |_| {});
    terminal.wait_for("\r\x1b[Klost 0 %: ap 24/24 ");
    assert!(terminal.is_key_by_key());
    terminal.press(b"u");
    terminal.wait_for(" s after you pressed u ");
    terminal.wait_for("\ningest: udp in every region (3/3), ");
    terminal.wait_for("udp 0/9!");
    assert_eq!(terminal.end_by(b"q"), Some(0), "{}", terminal.seen());
    assert!(!terminal.is_key_by_key());
    assert!(terminal.seen().contains("\x1b[31m"), "loss is red: {}", terminal.seen());
}

#[test]
fn the_terminal_is_as_it_was_also_after_ctrl_c() {
    let mut terminal = Terminal::start(&["demo"], |command| {
        command.env("NO_COLOR", "1");
    });
    terminal.wait_for("starting: ");
    assert!(!terminal.is_as_before());
    assert_eq!(terminal.end_by(b"\x03"), Some(0), "{}", terminal.seen());
    assert!(terminal.is_as_before());
    assert!(
        !terminal.seen().contains("\x1b[1m") && !terminal.seen().contains("\x1b[3"),
        "{}",
        terminal.seen()
    );
}
