//! `[[route]]`: which incident goes to whom.

use std::collections::BTreeSet;

use aviary_core::page::{Choice, Escalation, Route, Severity};

use super::{
    kind::{At, Kind, choice, some, table, values},
    reader::Reader,
    scalar,
    tags::{Tagged, matches, tags},
};

/// A route, and where the names stand that it is made of.
pub(super) struct Draft {
    pub(super) route: Route,
    /// The receivers, those of the steps included.
    pub(super) receivers: Vec<At<String>>,
    /// What it takes incidents by.
    pub(super) tags: Vec<Tagged>,
    /// The steps.
    pub(super) steps: Vec<At<Escalation>>,
}

/// Reads one `[[route]]`.
pub(super) fn route(reader: &mut Reader<'_>) -> Option<Draft> {
    let about = "which incidents: of any of these severities, and that touch one of the values of each tag; all by default";
    let choice = reader.optional("match", about, table("{ severity = [\"critical\"] }", read_choice));
    let notify = reader.required("notify", "the receivers, all at once", some(scalar::name("oncall")));
    let step = table("{ after = \"5m\", notify = [\"oncall\"] }", escalation);
    let steps = reader.optional("escalate", "whom else when nobody has acknowledged", some(step));

    let (severity, tags) = choice.unwrap_or_default();
    let mut receivers = notify?;
    let notify = receivers.iter().map(|name| name.value.clone()).collect();
    let mut escalate = Vec::new();
    for At { path, value: (step, names) } in steps.into_iter().flatten() {
        receivers.extend(names);
        escalate.push(At { path, value: step });
    }
    let route = Route {
        choice: Choice { severity, tags: matches(&tags) },
        notify,
        escalate: escalate.iter().map(|step| step.value.clone()).collect(),
    };
    Some(Draft { route, receivers, tags, steps: escalate })
}

fn read_choice(reader: &mut Reader<'_>) -> Option<(BTreeSet<Severity>, Vec<Tagged>)> {
    let severities = reader.optional("severity", "any of these", some(severity()));
    Some((values(severities.unwrap_or_default()).into_iter().collect(), tags(reader)))
}

/// How bad something is, from the worst.
pub(super) fn severity() -> impl Kind<Output = Severity> {
    choice(Severity::ALL.iter().rev().map(|severity| (*severity, *severity)))
}

fn escalation(reader: &mut Reader<'_>) -> Option<(Escalation, Vec<At<String>>)> {
    let after = reader.required("after", "how long after the page", scalar::seconds("5m"));
    let names = reader.required("notify", "the receivers, all at once", some(scalar::name("oncall")))?;
    let notify = names.iter().map(|name| name.value.clone()).collect();
    Some((Escalation { after: after?, notify }, names))
}
