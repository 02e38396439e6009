//! What the agent depends on: what `/deepcheck` says.
//!
//! | check | fails when |
//! |---|---|
//! | `collector` | none took a report for more than 10 s |
//! | `controls` | there are some, and the last attempt reached none of them: this host, or its network, is cut off |
//!
//! The agent measures and keeps all the same, so that neither makes it unready. What is said is known from its own work: to be asked
//! makes it ask nobody.

use super::{checks::Check, readiness::SILENCE_MAX_US, standing::Standing};

/// Every check of what an agent that stands so depends on.
pub(super) fn checks(standing: &Standing) -> Vec<Check> {
    let Standing { shipping, spool, controls, .. } = standing;
    let silence = standing.now.since(shipping.last_taken.unwrap_or(standing.started));
    let seconds = silence / 1_000_000;
    let error = shipping.last_error.as_deref().unwrap_or("no error is known");
    let collector = match (silence > SILENCE_MAX_US, shipping.last_taken) {
        (true, _) => format!(
            "none took a report for {seconds} s ({}: {error}); {} slots wait",
            shipping.collector, spool.slots
        ),
        (false, Some(_)) => format!("{} took a report {seconds} s ago", shipping.collector),
        (false, None) => format!("none took a report yet, {seconds} s after the start"),
    };
    let reached = controls.iter().filter(|(_, reached)| *reached).count();
    let cut_off = reached == 0 && !controls.is_empty();
    let remedy = if cut_off { "; look at this host and its network first" } else { "" };
    vec![
        Check { name: "collector", failed: silence > SILENCE_MAX_US, warned: false, found: collector },
        Check {
            name: "controls",
            failed: cut_off,
            warned: false,
            found: format!("{reached} of {} were reached{remedy}", controls.len()),
        },
    ]
}
