//! Commands: told by standard input and environment, never by a shell, and ended with all that they started.

use std::{fs, path::Path, time::Duration};

use aviary_notify::{Command, Event, Kind, Page, Reason, Receipt, Refusal, Retry};
use serde_json::Value;

use crate::support::{page, send};

async fn run(argv: &[&str], page: &Page) -> Result<Receipt, Refusal> {
    send(Kind::Command(Command { argv: argv.iter().map(|&word| word.to_owned()).collect() }), page).await
}

async fn shell(script: &str) -> Result<Receipt, Refusal> {
    run(&["sh", "-c", script], &page(Event::Opened)).await
}

#[tokio::test]
async fn a_command_has_the_page_on_its_input_and_in_its_environment() {
    let dir = tempfile::tempdir().unwrap();
    let (body, environment) = (dir.path().join("body"), dir.path().join("environment"));
    let script = format!("cat > {}; env > {}; echo took it", body.display(), environment.display());
    let hostile = Page { summary: "$(touch /tmp/x); `id` \"quoted\"\0".to_owned(), ..page(Event::Opened) };
    let receipt = run(&["sh", "-c", &script], &hostile).await.unwrap();
    assert!(receipt.text.ends_with("ended with exit status: 0: took it"), "{}", receipt.text);

    let body: Value = serde_json::from_slice(&fs::read(body).unwrap()).unwrap();
    assert_eq!((&body["type"], &body["data"]["severity"]), (&"incident.opened".into(), &"critical".into()));
    let environment = fs::read_to_string(environment).unwrap();
    for line in [
        "AVIARY_PAGE_TYPE=incident.opened",
        "AVIARY_PAGE_KEY=aviary:main:01JD6V5V6F9Z7W3R4Q2N8M0K1H",
        "AVIARY_PAGE_SEVERITY=critical",
        "AVIARY_PAGE_SERVICES=ingest",
        "AVIARY_PAGE_SINCE=2026-11-21T03:14:52Z",
        "AVIARY_PAGE_SUMMARY=$(touch /tmp/x); `id` \"quoted\"",
    ] {
        assert!(environment.lines().any(|given| given == line), "{line} is not in\n{environment}");
    }
    // Cargo sets this one for the test, as an operator sets secrets for the collector.
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !environment.contains("CARGO_"),
        "{environment}"
    );
}

#[tokio::test]
async fn the_exit_status_says_whether_to_try_again() {
    let table = [
        ("echo no modem >&2; exit 1", Retry::Never, "exit status: 1: no modem"),
        ("exit 75", Retry::Later, "exit status: 75"),
        ("kill -9 $$", Retry::Later, "signal: 9"),
    ];
    for (script, retry, text) in table {
        let refused = shell(script).await.unwrap_err();
        assert_eq!((refused.reason, refused.retry), (Reason::Command, retry), "{script}");
        assert!(refused.text.contains(text), "{}", refused.text);
    }
    let missing = run(&["/nowhere/pager"], &page(Event::Opened)).await.unwrap_err();
    assert_eq!((missing.reason, missing.retry), (Reason::Command, Retry::Never));
    assert!(missing.text.contains("`/nowhere/pager` cannot be started: No such file"), "{}", missing.text);
}

#[tokio::test]
async fn a_command_that_prints_without_end_or_reads_nothing_is_no_trouble() {
    let receipt = shell("yes | head -c 1000000; exec <&-").await.unwrap();
    assert!(receipt.text.len() < 400, "{}", receipt.text);
}

#[tokio::test]
async fn what_a_command_left_behind_is_ended_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    shell(&format!("sleep 600 & echo $! > {}", pid.display())).await.unwrap();
    assert_ended(&pid).await;
    // What left the group, and holds the output open, is not waited for either.
    let receipt = shell("setsid sleep 6 & echo done").await.unwrap();
    assert!(receipt.text.ends_with(": done"), "{}", receipt.text);
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let refused = shell(&format!("sleep 600 & echo $! > {}; wait", pid.display())).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::Timeout, Retry::Later), "{}", refused.text);
    assert_ended(&pid).await;
}

#[tokio::test]
async fn an_attempt_that_nobody_waits_for_any_more_ends_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 600", pid.display());
    let attempt = tokio::spawn(async move { shell(&script).await });
    while !pid.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    assert_ended(&pid).await;
}

/// Waits until the process whose id stands in `file` has ended.
async fn assert_ended(file: &Path) {
    let pid = fs::read_to_string(file).unwrap();
    let status = format!("/proc/{}/status", pid.trim());
    for _ in 0..1_000 {
        // One that nobody has waited for yet is still there, as a zombie.
        match fs::read_to_string(&status) {
            Ok(status) if !status.contains("State:\tZ") => {
                tokio::time::sleep(Duration::from_millis(10)).await
            }
            _ => return,
        }
    }
    panic!("process {pid} still runs");
}
