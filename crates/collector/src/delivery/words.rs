//! Times, places and shares as people read them.

use aviary_core::{
    Second,
    extent::{Predicate, Rule, percent},
};

/// RFC 3339, in UTC, whole seconds.
pub(super) fn rfc3339(second: Second) -> String {
    aviary_notify::rfc3339(second.start())
}

/// Such as `3 min 20 s`.
pub(crate) fn lasted(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, 0, _) => format!("{hours} h"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, 0, ..) => format!("{days} d"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

/// Such as `protocol udp, region eu-west-1`.
fn place(predicate: &Predicate) -> String {
    if predicate.0.is_empty() {
        return "everything".to_owned();
    }
    let tags: Vec<String> = predicate.0.iter().map(|(tag, value)| format!("{tag} {value}")).collect();
    tags.join(", ")
}

/// Such as `protocol udp, but for region eu-west-1: 48 of 48 lost, 100 % of the loss`.
pub(super) fn rule(rule: &Rule) -> String {
    let except: Vec<String> = rule.except.iter().map(place).collect();
    let except = match except.is_empty() {
        true => String::new(),
        false => format!(", but for {}", except.join(" and ")),
    };
    let (place, share) = (place(&rule.matches), percent(rule.share));
    format!("{place}{except}: {} of {} lost, {share} of the loss", rule.lost, rule.judged)
}

/// `count` of something, in the right number.
pub(super) fn counted(count: u64, singular: &str) -> String {
    format!("{count} {singular}{}", if count == 1 { "" } else { "s" })
}
