//! How cases are shown: a table in sections, one for each fault, or JSON.

use std::io::{self, Write};

use aviary_core::{Fault, Outcome};
use serde_json::{Map, Value, json};

use super::{Case, Verdict, stage::Seen};
use crate::probe::{json::insert_outcome, paint::Paint, sentence::human};

/// The columns, with as much room as the longest word in each needs.
const PROTOCOL: usize = "pickle+tls".len();
const EXPECTED: usize = "delivered kernel_acked".len() + 2;
const ARRIVES: usize = "arrives".len();
const TIME: usize = "1000 ms".len();

/// Prints one line a case, below its fault.
pub(super) fn text(out: &mut impl Write, cases: &[Case]) -> io::Result<()> {
    let paint = Paint::for_stdout();
    let mut section = None;
    writeln!(
        out,
        "  {:PROTOCOL$}  {:EXPECTED$}  {:ARRIVES$}  {:>TIME$}  seen",
        "protocol", "expected", "arrives", "time"
    )?;
    for case in cases {
        let row = &case.row;
        if section != Some((row.fault, row.why)) {
            section = Some((row.fault, row.why));
            writeln!(out, "{}: {}", paint.strong(row.fault), row.why)?;
        }
        let expected = class(row.outcome(case.protocol));
        let arrives = row.arrives.map_or("either", yes_or_no);
        let time = |seen: &Seen| human(seen.elapsed_us);
        let (time, seen) = match &case.verdict {
            Verdict::Same(seen) => (time(seen), paint.good("ok")),
            Verdict::Differs(seen) => {
                let arrived = if row.arrives.is_some_and(|arrives| arrives != seen.arrived) {
                    if seen.arrived { ", arrived" } else { ", not arrived" }
                } else {
                    ""
                };
                (time(seen), paint.bad(format!("DIFFERS: {}{arrived}", class(seen.outcome))))
            }
            Verdict::NotPlayed(why) => ("-".to_owned(), format!("not played: {why}")),
        };
        writeln!(
            out,
            "  {:PROTOCOL$}  {expected:EXPECTED$}  {arrives:ARRIVES$}  {time:>TIME$}  {seen}",
            case.protocol
        )?;
    }
    writeln!(out, "{}", summary(cases))
}

/// The last line: how many, and what to do where something differs.
fn summary(cases: &[Case]) -> String {
    let count = |is: fn(&Verdict) -> bool| cases.iter().filter(|case| is(&case.verdict)).count();
    let differing = count(|verdict| matches!(verdict, Verdict::Differs(_)));
    let not_played = match count(|verdict| matches!(verdict, Verdict::NotPlayed(_))) {
        0 => String::new(),
        not_played => format!("; {not_played} not played"),
    };
    let all = cases.len();
    match differing {
        0 => format!("{all} cases, none differs{not_played}"),
        _ => format!(
            "{all} cases, {differing} differ{}{not_played}.\n\
             What probes from this host say of such a fault is not to be trusted. A firewall\n\
             or proxy on loopback, or a very busy machine, can be the reason; play it again,\n\
             and report it if it stays.",
            if differing == 1 { "s" } else { "" }
        ),
    }
}

/// Prints one object a case.
pub(super) fn json(out: &mut impl Write, cases: &[Case]) -> io::Result<()> {
    for case in cases {
        let row = &case.row;
        let (verdict, seen, reason) = match &case.verdict {
            Verdict::Same(seen) => ("same", Some(seen), None),
            Verdict::Differs(seen) => ("differs", Some(seen), None),
            Verdict::NotPlayed(why) => ("not_played", None, Some(why)),
        };
        let line = json!({
            "fault": row.fault,
            "protocol": case.protocol.name(),
            "verdict": verdict,
            "expected": class_object(row.outcome(case.protocol), row.arrives),
            "seen": seen.map(|seen| class_object(seen.outcome, Some(seen.arrived))),
            "elapsed_us": seen.map(|seen| seen.elapsed_us),
            "why": row.why,
            "not_played": reason,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

const fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// The class of an outcome in the words of the contract.
fn class(outcome: Outcome) -> String {
    let name = outcome.name();
    match outcome {
        Outcome::Delivered(evidence) => format!("{name} {evidence}"),
        Outcome::Lost { phase, fault: Fault::Status(status) } => format!("{name} {phase} status {status}"),
        Outcome::Lost { phase, fault } => format!("{name} {phase} {}", fault.name()),
        Outcome::Local { phase, fault } => format!("{name} {phase} {fault}"),
        Outcome::Missed | Outcome::Muted => name.to_owned(),
    }
}

fn class_object(outcome: Outcome, arrived: Option<bool>) -> Value {
    let mut class = Map::new();
    insert_outcome(&mut class, outcome);
    class.insert("arrived".to_owned(), arrived.into());
    class.into()
}
