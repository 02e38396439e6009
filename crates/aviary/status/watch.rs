//! `aviary status --watch`: asks again and again, and shows the newest answer with its age.

use std::io::{self, IsTerminal as _, Read as _, Write};

use anyhow::Context as _;
use aviary_core::{Clock as _, Micros};
use aviary_probe::SystemClock;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Duration, Interval, MissedTickBehavior, interval},
};

use super::view::{self, Line, Overview, Room};
use crate::{
    ask::{self, Asker},
    output::{in_time_words, moment},
    probe::paint::Paint,
    terminal::{self, END_OF_TRANSMISSION, KeyByKey, OtherScreen, Signals},
};

/// How often it is asked where it is shown on a terminal, and elsewhere.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_OF_A_PIPE: Duration = Duration::from_secs(10);

/// An answer that is late by so much is said to be.
const LATE_AFTER: u64 = 3_000_000;

/// What was heard of the collector.
struct Heard {
    overview: Option<(Overview, Micros)>,
    /// Why there is no newer one.
    error: Option<String>,
    url: String,
    interval: Duration,
    begun: Micros,
}

/// Shows it until it is told to end. Returns whether, as far as is known then, no service is degraded, down or blind.
pub(super) fn watch(
    asker: Asker,
    by: &'static str,
    every: Option<Duration>,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let runtime = ask::runtime()?;
    let is_terminal = io::stdout().is_terminal();
    let every = every.unwrap_or(if is_terminal { INTERVAL } else { INTERVAL_OF_A_PIPE });
    let heard = Heard {
        overview: None,
        error: None,
        url: asker.url().to_owned(),
        interval: every,
        begun: SystemClock.monotonic(),
    };
    if !is_terminal {
        return runtime.block_on(tell(asker, by, heard, out));
    }
    let keys = KeyByKey::on_stdin()?;
    let screen = OtherScreen::on_stdout()?;
    let shown = runtime.block_on(show(asker, by, heard, keys.is_some(), out));
    drop(screen);
    drop(keys);
    shown
}

/// Shows the newest answer on a screen.
async fn show(
    asker: Asker,
    by: &'static str,
    mut heard: Heard,
    is_keys: bool,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let mut signals = Signals::new()?;
    let mut resized = signal(SignalKind::window_change()).context("cannot wait for signals")?;
    let mut quit = if is_keys { quit_key()? } else { mpsc::channel(1).1 };
    let mut answers = ask_each(asker, by, heard.interval);
    // An age goes on growing while nobody answers.
    let mut seconds = ticks(Duration::from_secs(1));
    let paint = Paint::for_stdout();
    loop {
        tokio::select! {
            Some(answer) = answers.recv() => heard.take(answer),
            _ = seconds.tick() => {}
            _ = resized.recv() => {}
            Some(()) = quit.recv() => break,
            () = signals.end() => break,
        }
        let (columns, rows) = terminal::size();
        // In the last column a terminal begins another line.
        let lines = heard.lines(Room { columns: columns.saturating_sub(1), rows });
        let lines: Vec<String> = lines.iter().map(|line| line.painted(paint) + "\x1b[K").collect();
        write!(out, "\x1b[H{}\x1b[J", lines.join("\n"))?;
        out.flush()?;
    }
    Ok(heard.is_well())
}

/// Tells each answer as lines.
async fn tell(
    asker: Asker,
    by: &'static str,
    mut heard: Heard,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let mut signals = Signals::new()?;
    let mut answers = ask_each(asker, by, heard.interval);
    loop {
        tokio::select! {
            Some(answer) = answers.recv() => heard.take(answer),
            () = signals.end() => break,
        }
        // What is piped keeps what was said before: it is not said again.
        let lines = match &heard.error {
            Some(_) => heard.head(),
            None => heard.lines(Room::BOUNDLESS),
        };
        for line in lines {
            writeln!(out, "{}", line.painted(Paint::for_stdout()))?;
        }
        writeln!(out)?;
        out.flush()?;
    }
    Ok(heard.is_well())
}

/// The answers to the same question, again and again.
fn ask_each(asker: Asker, by: &'static str, every: Duration) -> mpsc::Receiver<anyhow::Result<Overview>> {
    let (answered, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = ticks(every);
        // The least that a chart can show: it is not looked at.
        let parameters = [("by", by.to_owned()), ("span", "1m".to_owned())];
        loop {
            ticks.tick().await;
            if answered.send(asker.get("", &parameters).await).await.is_err() {
                break;
            }
        }
    });
    answers
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Tells when `q` is pressed. A thread of its own reads, which nobody waits for: reading cannot be given up.
fn quit_key() -> anyhow::Result<mpsc::Receiver<()>> {
    let (pressed, quit) = mpsc::channel(1);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let mut keys = io::stdin().lock().bytes().map_while(Result::ok);
        if keys.any(|key| [b'q', END_OF_TRANSMISSION].contains(&key)) {
            // Whoever takes it may have ended by another way.
            _ = pressed.blocking_send(());
        }
    })?;
    Ok(quit)
}

impl Heard {
    fn take(&mut self, answer: anyhow::Result<Overview>) {
        match answer {
            Ok(overview) => {
                self.overview = Some((overview, SystemClock.monotonic()));
                self.error = None;
            }
            Err(error) => self.error = Some(format!("{error:#}")),
        }
    }

    fn is_well(&self) -> bool {
        self.error.is_none() && self.overview.as_ref().is_some_and(|(overview, _)| overview.is_well())
    }

    fn lines(&self, room: Room) -> Vec<Line> {
        let mut lines: Vec<Line> = self.head().into_iter().map(|line| line.cut(room.columns)).collect();
        lines.truncate(room.rows);
        let left = room.rows - lines.len();
        if let Some((overview, _)) = self.overview.as_ref().filter(|_| left > 0) {
            lines.extend(view::lines(overview, Room { rows: left, ..room }));
        }
        lines
    }

    /// Who says it, and of when it is.
    fn head(&self) -> Vec<Line> {
        let url = &self.url;
        let age = SystemClock.monotonic().since(self.overview.as_ref().map_or(self.begun, |(_, at)| *at));
        let is_late = age > self.interval.as_micros() as u64 + LATE_AFTER;
        let lost = self.error.is_some() || is_late;
        let why = self.error.as_deref().unwrap_or("it does not answer");
        match &self.overview {
            None if lost => vec![Line::amiss(&format!("Nothing is heard of {url}: {why}"))],
            None => vec![Line::plain(format!("Waiting for {url} ..."))],
            Some((overview, _)) => {
                let at = moment(overview.now);
                let mut head = vec![Line::plain(format!("{at}  {url}"))];
                if lost {
                    let age = in_time_words(age / 1_000_000);
                    head.push(Line::amiss(&format!("What is shown is {age} old: {why}")));
                }
                head
            }
        }
    }
}
