//! `aviary selftest`: is each fault that can be played here classified right?
//!
//! A prober that calls a fault by the wrong name is worse than none, and whether it does depends on the host: on its
//! kernel, its firewall, its resolver's libraries. So this runs in the test suite and on a user's own host alike; it needs
//! neither privileges nor a network.

mod cases;
mod show;
mod stage;

use std::{
    io::{IsTerminal as _, Write},
    sync::Arc,
};

use aviary_core::Protocol;
use clap::Args;
use tokio::{sync::Semaphore, task::JoinSet};

use self::{
    cases::Row,
    stage::{Seen, Stage},
};
use crate::{ask, output::Format};

/// Plays faults and compares what is seen of them with what must be.
#[derive(Args, Debug)]
pub(crate) struct SelftestArguments {
    /// Only the cases over this protocol; may be given several times
    #[arg(long, value_name = "PROTOCOL")]
    only: Vec<Protocol>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How many cases are played at once. Most of their time is waiting for a deadline; their handshakes must not make
/// each other late.
const AT_ONCE: usize = 24;

/// A case and what came of it.
#[derive(Debug)]
struct Case {
    row: Row,
    protocol: Protocol,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// What was seen is what must be.
    Same(Seen),
    /// It is not.
    Differs(Seen),
    /// It could not be played here, for this reason.
    NotPlayed(&'static str),
}

/// Plays every case and prints what was seen. Returns whether nothing differs.
pub(crate) fn selftest(arguments: &SelftestArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    perform(cases::TABLE, arguments, out)
}

fn perform(table: &[Row], arguments: &SelftestArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    aviary_probe::warm_up();
    let wanted = |protocol: &Protocol| arguments.only.is_empty() || arguments.only.contains(protocol);
    let pairs = table
        .iter()
        .flat_map(|row| row.protocols.iter().copied().filter(wanted).map(|protocol| (*row, protocol)));
    let runtime = ask::runtime()?;
    let play = || runtime.block_on(play_all(pairs.collect()));
    // What a library warns of here was provoked, and is no news but to whoever looks for what went wrong.
    let cases = if tracing::enabled!(tracing::Level::DEBUG) {
        play()?
    } else {
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), play)?
    };
    match arguments.format {
        Format::Text => show::text(out, &cases)?,
        Format::Json => show::json(out, &cases)?,
    }
    Ok(is_well(&cases))
}

fn is_well(cases: &[Case]) -> bool {
    !cases.iter().any(|case| matches!(case.verdict, Verdict::Differs(_)))
}

/// Plays `pairs`, several at once; what came of them, in their order.
async fn play_all(pairs: Vec<(Row, Protocol)>) -> anyhow::Result<Vec<Case>> {
    let stage = Arc::new(Stage::new()?);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let count = pairs.len();
    let mut playing = JoinSet::new();
    for (index, (row, protocol)) in pairs.into_iter().enumerate() {
        let (stage, turns) = (Arc::clone(&stage), Arc::clone(&turns));
        playing.spawn(async move {
            if let Some(obstacle) = stage.obstacle(&row) {
                return Ok((index, Case { row, protocol, verdict: Verdict::NotPlayed(obstacle) }));
            }
            let _turn = turns.acquire().await?;
            let seen = stage.play(&row, protocol).await?;
            Ok::<_, anyhow::Error>((index, Case { row, protocol, verdict: judge(&row, protocol, seen) }))
        });
    }
    let mut cases = Vec::with_capacity(count);
    let progress = Progress::new(count);
    while let Some(played) = playing.join_next().await {
        cases.push(played??);
        progress.show(cases.len());
    }
    cases.sort_unstable_by_key(|(index, _)| *index);
    Ok(cases.into_iter().map(|(_, case)| case).collect())
}

fn judge(row: &Row, protocol: Protocol, seen: Seen) -> Verdict {
    let arrived = row.arrives.is_none_or(|arrives| arrives == seen.arrived);
    if seen.outcome == row.outcome(protocol) && arrived {
        Verdict::Same(seen)
    } else {
        Verdict::Differs(seen)
    }
}

/// A line on a terminal that says how far it is, and is gone at the end.
struct Progress {
    count: usize,
    is_terminal: bool,
}

impl Progress {
    fn new(count: usize) -> Self {
        Self { count, is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&self, played: usize) {
        if self.is_terminal {
            // Whoever closed standard error does not want to see it.
            _ = write!(std::io::stderr(), "\r{played} of {} cases", self.count);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal {
            _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aviary_core::{Fault, Outcome, Phase};

    use super::{cases::Expected, *};

    fn arguments(format: Format) -> SelftestArguments {
        SelftestArguments { only: vec![Protocol::Tcp], format }
    }

    fn performed(row: Row, format: Format) -> (bool, String) {
        let mut out = Vec::new();
        let well = perform(&[row], &arguments(format), &mut out).unwrap();
        (well, String::from_utf8(out).unwrap())
    }

    fn healthy() -> Row {
        *cases::TABLE.iter().find(|row| row.fault == "healthy").unwrap()
    }

    #[test]
    fn a_wrong_expectation_is_a_difference() {
        let (well, shown) = performed(healthy(), Format::Text);
        assert!(well && !shown.contains("DIFFERS"), "{shown}");

        let refused = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };
        let wrong_class = Row { expected: Expected::Outcome(refused), ..healthy() };
        let (well, shown) = performed(wrong_class, Format::Text);
        assert!(!well);
        assert!(shown.contains("DIFFERS: delivered peer_closed"), "{shown}");
        let (_, line) = performed(wrong_class, Format::Json);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (line["verdict"].as_str(), line["expected"]["fault"].as_str()),
            (Some("differs"), Some("refused"))
        );
        assert_eq!(line["seen"]["evidence"], "peer_closed");

        let (well, shown) = performed(Row { arrives: Some(false), ..healthy() }, Format::Text);
        assert!(!well, "delivered as expected, and arrived against expectation");
        assert!(shown.contains("DIFFERS: delivered peer_closed, arrived"), "{shown}");
    }

    #[test]
    fn no_row_stands_twice_and_each_has_its_reason_on_a_line() {
        let mut seen = BTreeSet::new();
        for row in cases::TABLE {
            for protocol in row.protocols {
                assert!(seen.insert((row.fault, row.why, *protocol)), "{} over {protocol}", row.fault);
            }
            assert!(row.fault.len() + row.why.len() + 2 <= 80, "{}: {}", row.fault, row.why);
        }
    }
}
