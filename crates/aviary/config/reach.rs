//! Whom pages reach: what is wrong with receivers, routes and silences taken together, and who would not be told.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{
    Tag,
    page::{Choice, Route, Severity},
    silence::{Matches, SILENCES_MAX},
};
use aviary_notify::{Url, WatchdogKind};

use super::{
    context::{Context, Refusal},
    draft::Draft,
    kind::At,
    limits::is_loopback,
    reader::closest,
    receiver::{self, Receiver},
    route,
    service::{self, Service},
    tags::{Tagged, matches},
};

/// What is wrong with receivers, routes and silences taken together.
pub(super) fn refuse_contradictions(draft: &Draft, context: &Context<'_>) {
    let names = receiver_names(draft);
    let receivers = draft.receivers.iter().map(|it| (it.path.as_str(), it.value.name.as_str()));
    refuse_equal_names("receiver", receivers, context);
    let services: Vec<&Service> = draft.services.iter().map(|it| &it.value.service).collect();

    for (index, At { path, value: route }) in draft.routes.iter().enumerate() {
        for receiver in &route.receivers {
            refuse_unknown("receiver", receiver, &names, context);
        }
        refuse_unmatched(path, &route.tags, &services, context);
        let earlier =
            draft.routes.iter().take(index).find(|it| covers(&it.value.route.choice, &route.route.choice));
        if let Some(earlier) = earlier {
            let line =
                context.line(&earlier.path).map_or_else(String::new, |line| format!(" of line {line}"));
            let message = format!("this route is never reached: all that it matches goes to the one{line}");
            context.refuse(path, Refusal::new(message).help("put the narrower route first, or take one out"));
        }
        refuse_steps(route, draft, context);
    }
    note_who_is_not_told(draft, &services, context);

    let silences = draft.silences.iter().map(|it| (it.path.as_str(), it.value.name.as_str()));
    refuse_equal_names("silence", silences, context);
    if draft.silences.len() > SILENCES_MAX {
        let message = format!("{} silences are too many: {SILENCES_MAX} are held", draft.silences.len());
        context.refuse("silence", Refusal::new(message).help("take out those that have ended"));
    }
    for At { path, value: silence } in &draft.silences {
        refuse_unmatched(path, &silence.tags, &services, context);
    }

    let fallback = draft.agent.as_ref().and_then(|agent| agent.fallback.as_ref());
    let fallback = fallback.map(|name| At { path: "agent.fallback".to_owned(), value: name.clone() });
    let tests = draft.collector.as_ref().and_then(|collector| collector.test_pages.as_ref());
    let tests = tests.into_iter().flat_map(|tests| tests.notify.iter().enumerate());
    let path = |index: usize| format!("collector.test_pages.notify[{index}]");
    let tests = tests.map(|(index, name)| At { path: path(index), value: name.clone() });
    for receiver in fallback.into_iter().chain(tests) {
        refuse_unknown("receiver", &receiver, &names, context);
    }
}

fn receiver_names(draft: &Draft) -> Vec<&str> {
    draft.receivers.iter().map(|it| it.value.name.as_str()).collect()
}

fn refuse_equal_names<'n>(
    what: &str,
    named: impl Iterator<Item = (&'n str, &'n str)>,
    context: &Context<'_>,
) {
    let mut names = BTreeSet::new();
    for (path, name) in named {
        if !names.insert(name) {
            let message = format!("`{name}` is the name of another {what} already");
            let refusal = Refusal::new(message).help(format!("give each {what} a name of its own"));
            context.refuse(&format!("{path}.name"), refusal);
        }
    }
}

fn refuse_unknown(what: &str, given: &At<String>, known: &[&str], context: &Context<'_>) {
    if known.contains(&given.value.as_str()) {
        return;
    }
    let help = match closest(&given.value, known.iter().copied()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None if known.is_empty() => format!("add a [[{what}]] of that name"),
        None => format!("there are {}", known.join(", ")),
    };
    context
        .refuse(&given.path, Refusal::new(format!("no [[{what}]] is called `{}`", given.value)).help(help));
}

/// Refuses tags that no endpoint of `services` has. Those of vantages are known when agents report, and services that are
/// judged elsewhere are not known at all.
fn refuse_unmatched(path: &str, tags: &[Tagged], services: &[&Service], context: &Context<'_>) {
    if services.is_empty() {
        return;
    }
    let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let named = tags.iter().filter(|(tag, _)| *tag == Tag::Service).map(|(_, name)| name);
    let (known, unknown): (Vec<_>, Vec<_>) = named.partition(|name| names.contains(&name.value.as_str()));
    for name in &unknown {
        refuse_unknown("service", name, &names, context);
    }
    if known.is_empty() && !unknown.is_empty() {
        return;
    }
    let Matches(wanted) = matches(tags);
    let takes = |tag, value: &str| wanted.get(&tag).is_none_or(|values| values.contains(value));
    let is_matched = services.iter().filter(|service| takes(Tag::Service, &service.name)).any(|service| {
        let elsewhere = service.elsewhere.iter().any(|protocol| takes(Tag::Protocol, protocol.name()));
        elsewhere
            || service.endpoints.iter().map(|it| &it.endpoint).any(|endpoint| {
                takes(Tag::Protocol, endpoint.protocol().name())
                    && takes(Tag::Endpoint, &endpoint.to_string())
            })
    });
    if is_matched {
        return;
    }
    let shown = |tag: &Tag| {
        let values = wanted.get(tag)?.iter().map(String::as_str).collect::<Vec<_>>();
        Some(format!("{tag} = {}", values.join(" or ")))
    };
    let shown: Vec<String> = [Tag::Service, Tag::Protocol, Tag::Endpoint].iter().filter_map(shown).collect();
    let message = format!("this matches nothing: no endpoint has {}", shown.join(" and "));
    context.refuse(&format!("{path}.match"), Refusal::new(message).help("correct it, or take it out"));
}

/// Whether all that `later` takes, `earlier` takes as well.
fn covers(earlier: &Choice, later: &Choice) -> bool {
    fn covers<T: Ord>(earlier: &BTreeSet<T>, later: &BTreeSet<T>) -> bool {
        earlier.is_empty() || (!later.is_empty() && earlier.is_superset(later))
    }
    let covers_tag = |(tag, values): (&Tag, &BTreeSet<String>)| {
        later.tags.0.get(tag).is_some_and(|later| values.is_superset(later))
    };
    covers(&earlier.severity, &later.severity) && earlier.tags.0.iter().all(covers_tag)
}

/// What is wrong with the steps of an escalation, and which of them nobody could end.
fn refuse_steps(route: &route::Draft, draft: &Draft, context: &Context<'_>) {
    let mut before = 0;
    for At { path, value: step } in &route.steps {
        if step.after <= before {
            let message = "a step comes after the one before it, and after the page";
            context.refuse(
                &format!("{path}.after"),
                Refusal::new(message).help("write the steps in order, such as \"5m\" and \"15m\""),
            );
        }
        before = step.after;
        let acknowledges = |receiver: &Receiver| receiver.contract().acknowledges;
        if !step.notify.iter().any(|name| receiver(draft, name).is_none_or(acknowledges)) {
            let message = "nobody can acknowledge by the receivers of this step: only `aviary ack` or the API stops the escalation there";
            let help = "add a receiver such as pagerduty, or tell people of `aviary ack`";
            context.note(path, Refusal::new(message).help(help));
        }
    }
}

/// The receiver of that name, unless there is none, or something else is wrong with it.
fn receiver<'d>(draft: &'d Draft, name: &str) -> Option<&'d Receiver> {
    draft.receivers.iter().find(|it| it.value.name == name)?.value.receiver.as_ref()
}

/// Says which receivers are told of nothing, and which incidents reach nobody.
fn note_who_is_not_told(draft: &Draft, services: &[&Service], context: &Context<'_>) {
    let Some(last) = draft.routes.last() else { return };
    let told: BTreeSet<&str> =
        draft.routes.iter().flat_map(|it| &it.value.receivers).map(|name| name.value.as_str()).collect();
    let fallback = draft.agent.as_ref().and_then(|agent| agent.fallback.as_deref());
    for At { path, value: receiver::Draft { name, .. } } in &draft.receivers {
        if !told.contains(name.as_str()) && fallback != Some(name.as_str()) {
            let message = format!("`{name}` is told of nothing: no [[route]] names it");
            context.note(path, Refusal::new(message).help("name it in a route, or take it out"));
        }
    }
    // Where services are judged elsewhere, there may be any.
    let services: Vec<Option<&str>> = match services {
        [] => vec![None],
        services => services.iter().map(|service| Some(service.name.as_str())).collect(),
    };
    let is_matched = |severity: &Severity| {
        services
            .iter()
            .all(|service| draft.routes.iter().any(|it| takes_all(&it.value.route, *severity, *service)))
    };
    let unmatched = Severity::ALL.iter().rev().filter(|severity| !is_matched(severity)).copied();
    let unmatched: Vec<&str> = unmatched.map(Severity::name).collect();
    if !unmatched.is_empty() {
        let message =
            format!("incidents that no route matches reach nobody: some that are {}", unmatched.join(", "));
        context.note(&last.path, Refusal::new(message).help("end with a [[route]] without `match`"));
    }
}

/// Whether every incident of `severity` goes this way that touches `service`, wherever it is lost.
fn takes_all(route: &Route, severity: Severity, service: Option<&str>) -> bool {
    let Choice { severity: severities, tags: Matches(tags) } = &route.choice;
    let takes_tag = |(tag, values): (&Tag, &BTreeSet<String>)| {
        *tag == Tag::Service && service.is_some_and(|service| values.contains(service))
    };
    (severities.is_empty() || severities.contains(&severity)) && tags.iter().all(takes_tag)
}

/// Says when nobody would be paged, and why; of services, where they stand. Whoever has mistakes to correct has enough to read.
pub(super) fn note_who_is_not_reached(draft: &Draft, context: &Context<'_>, services: &Context<'_>) {
    if context.is_refused() || services.is_refused() {
        return;
    }
    note_ways_through_what_is_tested(draft, context);
    if !draft.has("collector") {
        return;
    }
    if !draft.has("receiver") {
        let message = "nobody is paged: there is no [[receiver]]";
        let help = "add one, such as name = \"oncall\", kind = \"pagerduty\" and key = { file = \"PATH\" }";
        return context.note("collector", Refusal::new(message).help(help));
    }
    note_shadow(draft, context, services);
    note_who_is_not_woken(draft, context);
    if draft.collector.as_ref().is_some_and(|collector| collector.watchdog.is_none()) {
        let message = "nobody would be paged if this collector stopped: there is no dead man's switch";
        let help =
            "add [collector.watchdog] with ping = { file = \"PATH\" }, or with alertmanager = [\"URL\"]";
        context.note("collector", Refusal::new(message).help(help));
    }
}

fn note_shadow(draft: &Draft, context: &Context<'_>, services: &Context<'_>) {
    let help = "take it out once you trust what the log says";
    if draft.collector.as_ref().is_some_and(|collector| collector.shadow) {
        let message = "nobody is paged: with `shadow`, every page goes to the log only";
        return context.note("collector.shadow", Refusal::new(message).help(help));
    }
    for At { path, value } in &draft.services {
        if value.service.alerting.shadow {
            let message = format!(
                "nobody is paged about `{}`: with `shadow`, its pages go to the log only",
                value.service.name
            );
            services.note(&format!("{path}.shadow"), Refusal::new(message).help(help));
        }
    }
}

/// Says which services may be down without waking anybody: by the route that they go, or with no route at all.
fn note_who_is_not_woken(draft: &Draft, context: &Context<'_>) {
    let names = receiver_names(draft);
    let wakes = |name: &str| receiver(draft, name).is_none_or(|receiver| receiver.contract().wakes);
    let mut silent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for At { value: service::Draft { service, .. }, .. } in &draft.services {
        let down = service.alerting.down;
        let route = draft.routes.iter().find(|it| takes_all(&it.value.route, down, Some(&service.name)));
        let (path, told) = match route {
            Some(At { path, value }) => {
                (path.as_str(), value.receivers.iter().map(|name| name.value.as_str()).collect())
            }
            None if draft.routes.is_empty() => ("receiver", names.clone()),
            None => continue,
        };
        if !told.into_iter().any(wakes) {
            silent.entry(path).or_default().push(format!("`{}`", service.name));
        }
    }
    for (path, services) in silent {
        let are = if services.len() == 1 { "is" } else { "are" };
        let message = format!(
            "nobody is woken when {} {are} down: mail and chat are all that is told of it",
            services.join(" and ")
        );
        context.note(path, Refusal::new(message).help("add a receiver such as pagerduty"));
    }
}

/// Says which pages go by a host that is itself under test.
fn note_ways_through_what_is_tested(draft: &Draft, context: &Context<'_>) {
    let mut tested: BTreeMap<String, &str> = BTreeMap::new();
    for At { value: service::Draft { service, .. }, .. } in &draft.services {
        // Whatever is on this host is, and pages begin here.
        let hosts = service.endpoints.iter().map(|it| it.endpoint.host()).filter(|host| !is_loopback(host));
        tested.extend(hosts.map(|host| (host.to_string(), service.name.as_str())));
    }
    let receivers = draft.receivers.iter().filter_map(|At { path, value }| {
        Some((format!("`{}`", value.name), path.as_str(), value.receiver.as_ref()?.hosts()))
    });
    let watchdog = draft.collector.as_ref().and_then(|collector| collector.watchdog.as_ref());
    let watchdog = watchdog.map(|watchdog| {
        let hosts = match &watchdog.kind {
            WatchdogKind::Alertmanager(it) => it.urls.iter().filter_map(Url::host_str).collect(),
            WatchdogKind::Ping(_) => Vec::new(),
        };
        ("the dead man's switch".to_owned(), "collector.watchdog", hosts)
    });
    for (who, path, hosts) in receivers.chain(watchdog) {
        let way = hosts.into_iter().find_map(|host| tested.get_key_value(&host.to_ascii_lowercase()));
        if let Some((host, service)) = way {
            let message = format!(
                "{who} is reached through {host}, where `{service}` is tested: with the one, the other is lost"
            );
            context.note(path, Refusal::new(message).help("add a way that shares nothing with it"));
        }
    }
}
