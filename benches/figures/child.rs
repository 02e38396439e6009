//! This program, started again in a role.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use aviary_core::Clock as _;
use aviary_probe::SystemClock;

use crate::role::{self, Reading, Ready, Role, parse};

/// A child in its role; it ends when this is dropped.
pub(crate) struct Child {
    process: Process,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) ready: Ready,
}

impl Child {
    /// Starts a child, and returns when it plays its part.
    pub(crate) fn start(role: &Role) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--child")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        let questions = process.stdin.take().context("the child has no standard input")?;
        let answers = process.stdout.take().context("the child has no standard output")?;
        let ready = Ready::default();
        let mut child = Self { process, questions, answers: BufReader::new(answers), ready };
        child.ready = parse(&child.ask(&serde_json::to_string(role)?)?)?;
        Ok(child)
    }

    /// Asks the child how it stands.
    pub(crate) fn read(&mut self) -> anyhow::Result<Reading> {
        parse(&self.ask(role::ASKED)?)
    }

    /// Asks the child how it stands, its memory included.
    pub(crate) fn read_with_memory(&mut self) -> anyhow::Result<Reading> {
        parse(&self.ask(role::ASKED_WITH_MEMORY)?)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until a child that has just become ready has probed for half a second: its first slot is the next full
    /// second, and what a process does once it has then done.
    pub(crate) fn warm_up() {
        let now = SystemClock.wall();
        let until = now.second().plus(1).start().plus(500_000);
        thread::sleep(Duration::from_micros(until.since(now)));
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        let mut answer = String::new();
        writeln!(self.questions, "{question}")?;
        self.answers.read_line(&mut answer)?;
        anyhow::ensure!(!answer.is_empty(), "a child has ended; what it said stands above");
        Ok(answer)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself, and then both have nothing to do.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
