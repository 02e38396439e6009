//! What an agent lives through in a year, in a minute: the real program, killed, frozen, starved, cut off, its clock set.
//! Whatever happens, each second of each series has one outcome at the collector, none of it is the service's loss, and
//! nothing is sent twice.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

mod away;
mod clock;
mod cut_off;
mod fallback;
mod frozen;
mod killed;

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread, time::Duration};

use aviary_core::{Outcome, Second, Span};
use tempfile::TempDir;

use crate::support::{
    aviary::AVIARY,
    process::{Process, program},
    receiver::{Received, Receiver},
    recorder::{Recorder, summary, whole, word},
    wait,
};

/// How long starting, ending and what comes by itself may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent with a spool, a process of its own.
struct Agent {
    process: Process,
    dir: TempDir,
}

impl Agent {
    /// Starts one that probes `endpoints` and reports to `recorder`. `more` goes into its `[agent]`.
    #[track_caller]
    fn start(recorder: &Recorder, endpoints: &[String], more: &str) -> Self {
        Self::start_with(&recorder.url(), endpoints, more, |_, _| {})
    }

    /// The same with a collector's URL, and with more in the command.
    #[track_caller]
    fn start_with(
        collector: &str,
        endpoints: &[String],
        more: &str,
        change: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("aviary-ordeal-").tempdir().expect("a temporary directory");
        let path = dir.path();
        let config = format!(
            "[vantage]\nkind = \"loopback\"\nregion = \"r\"\nnode = \"n\"\n\
             [agent]\ncollector = [\"{collector}\"]\ndata = \"{}\"\n{more}\n\
             [[service]]\nname = \"s\"\nendpoints = {endpoints:?}\n",
            path.join("spool").display()
        );
        fs::write(path.join("aviary.toml"), config).expect("the temporary directory can be written");
        let mut command = program(AVIARY);
        command.arg("run").arg(path.join("aviary.toml")).env_remove("AVIARY_LOG");
        change(&mut command, path);
        Self { process: Process::start("agent", command, path), dir }
    }

    /// Ends it with SIGTERM, which must go well.
    #[track_caller]
    fn stop(&mut self) {
        let status = self.process.stop();
        assert!(status.success(), "{status}: {}", self.process.log());
    }

    fn log(&self) -> String {
        self.process.log()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

/// What the recorder holds in the end: one outcome for each second of each of `series` series.
#[track_caller]
fn outcomes(recorder: &Recorder, series: usize) -> BTreeMap<String, BTreeMap<Second, Outcome>> {
    let said = recorder.said();
    assert_eq!(said.len(), series, "{}", summary(&said));
    whole(&said)
}

/// What the agent called delivered came, and nothing came twice.
#[track_caller]
fn assert_true(
    outcomes: &BTreeMap<String, BTreeMap<Second, Outcome>>,
    receiver: &Receiver,
) -> BTreeMap<String, BTreeMap<Second, Received>> {
    let came = receiver.each_once();
    for (name, seconds) in outcomes {
        for (second, outcome) in seconds {
            let has_come = came.get(name).is_some_and(|seconds| seconds.contains_key(second));
            let is_delivered = matches!(outcome, Outcome::Delivered(_));
            assert!(has_come || !is_delivered, "{name} at {second} was called delivered and never came");
        }
    }
    came
}

/// No second was lost.
#[track_caller]
fn assert_none_lost(outcomes: &BTreeMap<String, BTreeMap<Second, Outcome>>) {
    for (name, seconds) in outcomes {
        let lost = seconds.iter().find(|(_, outcome)| matches!(outcome, Outcome::Lost { .. }));
        assert!(lost.is_none(), "{name}: {lost:?}");
    }
}

/// Everything was delivered, but for what a machine that is busy with other tests did not get to.
#[track_caller]
fn assert_goes_on(counts: &BTreeMap<String, usize>) {
    let [delivered, starved, missed] =
        ["delivered", "local starved", "missed"].map(|it| counts.get(it).copied().unwrap_or(0));
    let all = counts.values().sum::<usize>();
    let is_whole = delivered > starved && missed * 5 <= all;
    assert!(is_whole && delivered + starved + missed == all, "{counts:?}");
}

/// How often each outcome was said in `span`, all series together.
fn count(outcomes: &BTreeMap<String, BTreeMap<Second, Outcome>>, span: Span) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, outcome) in outcomes.values().flatten().filter(|(second, _)| span.contains(**second)) {
        *counts.entry(word(outcome)).or_default() += 1;
    }
    counts
}

/// Sleeps so long on the real clock.
fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    /// One of `from..until`.
    fn roll(&mut self, from: u64, until: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) % (until - from)
    }
}

/// Waits until `seen`, and says `what` did not come if it takes too long.
#[track_caller]
fn wait_until(what: &str, seen: impl FnMut() -> bool) {
    wait::wait_until(PATIENCE, || what.to_owned(), seen);
}
