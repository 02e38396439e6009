//! What a rollout says to people.

use aviary_core::rollout::{Step, Version};

use super::Taker;

/// The longest reason that an event repeats, in characters: the page and the status have all of it.
const REASON_MAX: usize = 200;

/// Who holds `version` back, and why: `count_max` of them, and how many more.
pub(super) fn objections(takers: &[Taker<'_>], version: Version, count_max: usize) -> Vec<String> {
    let all = takers.iter().filter_map(|it| Some((&it.vantage.node, it.objection(version)?)));
    let mut all = all.map(|(node, why)| format!("{node}: {}", shortened(why)));
    let mut named: Vec<String> = all.by_ref().take(count_max).collect();
    let more = all.count();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named
}

/// The first line of a reason, or as much of it as an event repeats.
fn shortened(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(REASON_MAX).collect();
    if short.len() < why.len() {
        short.push_str(" ...");
    }
    short
}

/// What an event of `step` is called, and what it says.
pub(super) fn step(step: Step, by: Option<&str>, objections: &[String]) -> (&'static str, String) {
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    let why = match objections {
        [] => String::new(),
        objections => format!(": {}", objections.join("; ")),
    };
    match step {
        Step::First(version) => ("rollout_active", format!("version {version} is active, being the first")),
        Step::Began(version) => ("rollout_began", format!("version {version} is being rolled out{by}")),
        Step::Dropped(version) => (
            "rollout_dropped",
            format!("version {version} is no longer rolled out: the file says the active one again"),
        ),
        Step::Held(version) => ("rollout_held", format!("version {version} is held back{why}")),
        Step::Activated(version) => {
            ("rollout_active", format!("version {version} is active: all agents have it available"))
        }
        Step::Forced(version) => {
            ("rollout_forced", format!("version {version} was made active{by}, by force"))
        }
        Step::TimedOut(version) => (
            "rollout_timed_out",
            format!(
                "version {version} was not available to all agents in time, and what was active stands{why}"
            ),
        ),
        Step::BrokenOff(version) => (
            "rollout_broken_off",
            format!("the rollout of version {version} was broken off{by}, and what was active stands"),
        ),
        Step::RolledBack(from, to) => {
            ("rolled_back", format!("version {to} is active again in the place of {from}, rolled back{by}"))
        }
    }
}
