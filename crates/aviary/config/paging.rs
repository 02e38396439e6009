//! `[[receiver]]` and `[[route]]`: whom to page. This version reads them, and pages nobody.

use std::{collections::BTreeSet, time::Duration};

use aviary_notify::{
    Alertmanager, Command, Email, Kind as ReceiverKind, Opsgenie, PagerDuty, Security, SetUpError, Settings,
    Severity, Slack, TemplateError, Url, VictorOps, Webhook,
};

use super::{
    agent::is_loopback,
    context::{Context, Refusal},
    kind::{At, Boolean, Either, Kind, Or, Whole, choice, member, some, table},
    reader::{Reader, closest},
    scalar,
    secret::{self, Pem, Secret},
};

/// The kinds of receivers, with the keys that each needs and those that it may have beside `name` and `kind`.
const KINDS: [(&str, &[&str], &[&str]); 8] = [
    ("pagerduty", &["key"], &["url", "ca", "template"]),
    ("alertmanager", &["url"], &["key", "ca", "template"]),
    ("opsgenie", &["key"], &["url", "ca", "template"]),
    ("victorops", &["key", "routing_key"], &["url", "ca", "template"]),
    ("slack", &["key"], &["ca", "template"]),
    ("webhook", &["url", "secret"], &["allow_private", "ca"]),
    ("email", &["server", "from", "to"], &["port", "security", "user", "password", "ca", "template"]),
    ("command", &["command"], &["template"]),
];

/// Somebody or something that is told of incidents.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    /// All that it takes to tell it.
    pub(crate) settings: Settings,
    /// PEM certificates to trust, beside the system's.
    pub(crate) ca: Option<Pem>,
}

/// Which incidents go to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The severities that it is for; empty for all.
    pub(crate) severities: BTreeSet<Severity>,
    /// The services that it is for; empty for all.
    pub(crate) services: BTreeSet<String>,
    /// The names of the receivers, told all at once.
    pub(crate) notify: Vec<String>,
    /// Whom else when nobody has acknowledged, the soonest first.
    pub(crate) escalate: Vec<Escalation>,
}

/// A step of an escalation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Escalation {
    /// How long after the page.
    pub(crate) after: Duration,
    /// The names of the receivers, told all at once.
    pub(crate) notify: Vec<String>,
}

/// A receiver, which routes may name whatever is wrong with it.
pub(super) struct ReceiverDraft {
    /// Its name.
    name: String,
    /// The receiver, if all of it could be read.
    pub(super) receiver: Option<Receiver>,
}

/// A route, and where the names stand that it is made of.
pub(super) struct RouteDraft {
    pub(super) route: Route,
    /// The receivers.
    receivers: Vec<At<String>>,
    /// The services.
    services: Vec<At<String>>,
    /// The steps.
    steps: Vec<At<Escalation>>,
}

/// Reads one `[[receiver]]`.
pub(super) fn receiver(reader: &mut Reader<'_>) -> Option<ReceiverDraft> {
    let name = reader.required("name", "what routes call it", scalar::name("oncall"));
    let receiver = kind_of_receiver(reader, name.as_deref().unwrap_or_default());
    Some(ReceiverDraft { name: name?, receiver })
}

/// Reads what a receiver is beside its name.
fn kind_of_receiver(reader: &mut Reader<'_>, name: &str) -> Option<Receiver> {
    let names = KINDS.iter().enumerate().map(|(index, (name, ..))| (*name, index));
    let kind = reader.required("kind", "what it is", choice(names));
    let (kind, needed, possible) = kind.map_or(("", &[][..], &[][..]), |index| KINDS[index]);

    let mut keys = Keys { reader, needed };
    let key = keys.ask("key", "what it knows us by; of slack the whole URL", secret::api_key());
    let one = scalar::http_url("https://events.pagerduty.com/v2/enqueue");
    let several = some(scalar::http_url("http://alertmanager-1.example.com:9093"));
    let about = "where it is, the kind's own by default; of alertmanager all that form a cluster";
    let url = keys.ask("url", about, Either(one, several));
    let routing_key = keys.ask("routing_key", "which team of victorops it is for", scalar::line("ingest"));
    let signs = keys.ask("secret", "what webhooks are signed with", secret::api_key());
    let about = "whether its address may be private or loopback";
    let allow_private = keys.ask("allow_private", about, Boolean).unwrap_or(false);
    let server = keys.ask("server", "the mail server's name", scalar::line("smtp.example.com"));
    let port = keys.ask("port", "its port; that of `security` by default", Whole(1));
    let about = "how the mail server is talked to: starttls by default, tls from the beginning, or none";
    let securities = [("starttls", Security::StartTls), ("tls", Security::Tls), ("none", Security::None)];
    let security = keys.ask("security", about, choice(securities)).unwrap_or_default();
    let user = keys.ask("user", "whom `password` is of", scalar::line("aviary"));
    let password = keys.ask("password", "the user's password", secret::api_key());
    let from = keys.ask("from", "whom mail is from", scalar::line("aviary@example.com"));
    let to = keys.ask("to", "whom mail is for", some(scalar::line("oncall@example.com")));
    let about = "the program and its arguments, which no shell reads";
    let command = keys.ask("command", about, some(scalar::line("/usr/local/bin/page")));
    let ca = keys.ask("ca", "an authority to trust beside the system's", secret::authorities());
    let template = keys.ask("template", "how its texts are written; ours without one", secret::template());

    let keys: BTreeSet<&str> =
        KINDS.iter().flat_map(|(_, needed, possible)| [*needed, *possible]).flatten().copied().collect();
    for key in keys {
        if reader.has(key) && !kind.is_empty() && !needed.contains(&key) && !possible.contains(&key) {
            let message = format!("`{key}` is of no use to a receiver of the kind {kind}");
            reader.refuse(key, Refusal::new(message).help("take it out, or correct `kind`"));
        }
    }
    for (given, missing) in [("user", "password"), ("password", "user")] {
        if reader.has(given) && !reader.has(missing) {
            let message = format!("`{given}` is of no use without `{missing}`");
            reader.refuse(given, Refusal::new(message).help(format!("add `{missing}`, or take it out")));
        }
    }

    let mut urls = match url {
        Some(Or::First(url)) => vec![url],
        Some(Or::Second(urls)) => values(urls),
        None => Vec::new(),
    };
    if urls.len() > 1 && kind != "alertmanager" {
        let message = format!("a receiver of the kind {kind} has one URL");
        reader.refuse("url", Refusal::new(message).help("add a [[receiver]] for each"));
    }
    let is_in_clear = |url: &Url| url.scheme() == "http" && !is_loopback(url);
    if let Some(url) = urls.iter().find(|url| reader.has("key") && is_in_clear(url)) {
        let message = format!(
            "the key for {} would cross the network in the clear",
            url.origin().ascii_serialization()
        );
        let help = "write https://, with `ca` where the authority is your own";
        reader.refuse("url", Refusal::new(message).help(help));
    }
    let mut url = |default: Option<&str>| urls.drain(..).next().or_else(|| Url::parse(default?).ok());
    let key = key.as_ref().map(shared);
    let kind = match kind {
        "alertmanager" => ReceiverKind::Alertmanager(Alertmanager { urls, key }),
        "command" => ReceiverKind::Command(Command { argv: values(command?) }),
        "email" => ReceiverKind::Email(Email {
            server: server?,
            port: port.map(u16::try_from).transpose().unwrap_or_else(|_| {
                reader.refuse("port", Refusal::new("no port is that high").help("write at most 65535"));
                None
            }),
            security,
            login: user.zip(password.as_ref().map(shared)),
            from: from?,
            to: values(to?),
        }),
        "opsgenie" => ReceiverKind::Opsgenie(Opsgenie { url: url(Some(Opsgenie::URL))?, key: key? }),
        "pagerduty" => ReceiverKind::PagerDuty(PagerDuty { url: url(Some(PagerDuty::URL))?, key: key? }),
        "slack" => ReceiverKind::Slack(Slack { url: key? }),
        "victorops" => ReceiverKind::VictorOps(VictorOps {
            url: url(Some(VictorOps::URL))?,
            key: key?,
            routing_key: routing_key?,
        }),
        "webhook" => {
            ReceiverKind::Webhook(Webhook { url: url(None)?, secret: shared(&signs?), allow_private })
        }
        _ => return None,
    };
    let template = template.map(|file| file.text().to_owned());
    let settings = Settings { name: name.to_owned(), kind, template };
    refuse_what_cannot_work(reader, &settings);
    Some(Receiver { settings, ca })
}

/// Asks for keys, of which some are needed.
struct Keys<'k, 'r> {
    reader: &'k mut Reader<'r>,
    needed: &'static [&'static str],
}

impl Keys<'_, '_> {
    fn ask<K: Kind>(&mut self, key: &'static str, about: &'static str, kind: K) -> Option<K::Output> {
        match self.needed.contains(&key) {
            true => self.reader.required(key, about, kind),
            false => self.reader.optional(key, about, kind),
        }
    }
}

/// What delivery would say of these settings, at the key that it is about.
fn refuse_what_cannot_work(reader: &Reader<'_>, settings: &Settings) {
    let Err(error) = settings.check() else { return };
    let key = match error {
        SetUpError::Mailbox(ref mailbox) if matches!(&settings.kind, ReceiverKind::Email(it) if it.from == *mailbox) => {
            "from"
        }
        SetUpError::Mailbox(_) => "to",
        SetUpError::PasswordInClear => "security",
        SetUpError::PrivateAddress(_) => "url",
        SetUpError::SecretUrl => "key",
        SetUpError::SigningSecret => "secret",
        SetUpError::Template(_) => "template",
        SetUpError::Empty(key) => key,
        // Nothing of a receiver leads there before it is set up.
        SetUpError::Client(_) | SetUpError::PingUrl | SetUpError::Tls(_) => "kind",
    };
    let refusal = match error {
        SetUpError::Template(TemplateError { line, what, remedy }) => {
            Refusal::new(format!("line {line} of the template: {what}")).help(remedy)
        }
        error => {
            let text = error.to_string();
            let (message, help) = text.split_once(": ").unwrap_or((&text, "correct it, or take it out"));
            Refusal::new(message).help(help)
        }
    };
    reader.refuse(key, refusal);
}

fn shared(secret: &Secret) -> aviary_notify::Secret {
    aviary_notify::Secret::new(secret.expose())
}

fn values<T>(items: Vec<At<T>>) -> Vec<T> {
    items.into_iter().map(|item| item.value).collect()
}

/// Reads one `[[route]]`.
pub(super) fn route(reader: &mut Reader<'_>) -> Option<RouteDraft> {
    let matches = reader.optional(
        "match",
        "which incidents; all by default",
        table("{ severity = [\"critical\"] }", matches),
    );
    let notify = reader.required("notify", "the receivers, all at once", some(scalar::name("oncall")));
    let step = table("{ after = \"5m\", notify = [\"oncall\"] }", escalation);
    let steps = reader.optional("escalate", "whom else when nobody has acknowledged", some(step));
    let (severities, services) = matches.unwrap_or_default();
    let mut receivers = notify?;
    let route = Route {
        severities,
        services: services.iter().map(|service| service.value.clone()).collect(),
        notify: receivers.iter().map(|name| name.value.clone()).collect(),
        escalate: steps.iter().flatten().map(|step| step.value.0.clone()).collect(),
    };
    let steps: Vec<_> = steps
        .into_iter()
        .flatten()
        .map(|step| {
            let (escalation, names) = step.value;
            receivers.extend(names);
            At { path: step.path, value: escalation }
        })
        .collect();
    Some(RouteDraft { route, receivers, services, steps })
}

type Matches = (BTreeSet<Severity>, Vec<At<String>>);

fn matches(reader: &mut Reader<'_>) -> Option<Matches> {
    let severities = reader.optional("severity", "any of these", some(member(Severity::ALL)));
    let services = reader.optional("service", "any of these", some(scalar::name("ingest")));
    Some((values(severities.unwrap_or_default()).into_iter().collect(), services.unwrap_or_default()))
}

fn escalation(reader: &mut Reader<'_>) -> Option<(Escalation, Vec<At<String>>)> {
    let after = reader.required("after", "how long after the page", scalar::duration("5m"));
    let names = reader.required("notify", "the receivers, all at once", some(scalar::name("oncall")))?;
    let notify = names.iter().map(|name| name.value.clone()).collect();
    Some((Escalation { after: after?, notify }, names))
}

/// What is wrong with receivers and routes taken together. `services` are those that are judged here, if any are.
pub(super) fn refuse_contradictions(
    receivers: &[At<ReceiverDraft>],
    routes: &[At<RouteDraft>],
    services: &[&str],
    context: &Context<'_>,
) {
    let names: Vec<&str> = receivers.iter().map(|receiver| receiver.value.name.as_str()).collect();
    for (index, receiver) in receivers.iter().enumerate() {
        if names[..index].contains(&names[index]) {
            let message = format!("`{}` is the name of another receiver already", names[index]);
            let refusal = Refusal::new(message).help("give each receiver a name of its own");
            context.refuse(&format!("{}.name", receiver.path), refusal);
        }
    }
    for (index, At { path, value: draft }) in routes.iter().enumerate() {
        for receiver in &draft.receivers {
            refuse_unknown("receiver", receiver, &names, context);
        }
        if !services.is_empty() {
            for service in &draft.services {
                refuse_unknown("service", service, services, context);
            }
        }
        if let Some(earlier) = routes[..index].iter().find(|earlier| earlier.value.route.covers(&draft.route))
        {
            let line =
                context.line(&earlier.path).map_or_else(String::new, |line| format!(" of line {line}"));
            let message = format!("this route is never reached: all that it matches goes to the one{line}");
            context.refuse(path, Refusal::new(message).help("put the narrower route first, or take one out"));
        }
        let mut before = Duration::ZERO;
        for At { path, value: step } in &draft.steps {
            if step.after <= before {
                let message = "a step comes after the one before it, and after the page";
                context.refuse(
                    &format!("{path}.after"),
                    Refusal::new(message).help("write the steps in order, such as \"5m\" and \"15m\""),
                );
            }
            before = step.after;
            let can_acknowledge = |name: &String| {
                let draft = receivers.iter().find(|draft| draft.value.name == *name);
                let receiver = draft.and_then(|draft| draft.value.receiver.as_ref());
                receiver.is_none_or(|receiver| receiver.settings.kind.contract().acknowledges)
            };
            if !step.notify.iter().any(can_acknowledge) {
                let message = "nobody can acknowledge by the receivers of this step: only `aviary ack` or the API stops the escalation there";
                context.note(
                    path,
                    Refusal::new(message)
                        .help("add a receiver such as pagerduty, or tell people of `aviary ack`"),
                );
            }
        }
    }
    note_who_is_not_told(receivers, routes, services, context);
}

impl Route {
    /// Whether an incident of `severity` that began with `service` goes this way.
    pub(crate) fn matches(&self, severity: Severity, service: Option<&str>) -> bool {
        (self.severities.is_empty() || self.severities.contains(&severity))
            && (self.services.is_empty() || service.is_some_and(|service| self.services.contains(service)))
    }

    /// Whether all that `other` matches, this one matches as well.
    fn covers(&self, other: &Self) -> bool {
        fn covers<T: Ord>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> bool {
            one.is_empty() || (!other.is_empty() && one.is_superset(other))
        }
        covers(&self.severities, &other.severities) && covers(&self.services, &other.services)
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

/// Says which receivers are told of nothing, and which incidents reach nobody.
fn note_who_is_not_told(
    receivers: &[At<ReceiverDraft>],
    routes: &[At<RouteDraft>],
    services: &[&str],
    context: &Context<'_>,
) {
    let Some(last) = routes.last() else { return };
    let told: BTreeSet<&str> =
        routes.iter().flat_map(|route| &route.value.receivers).map(|name| name.value.as_str()).collect();
    for At { path, value: receiver } in receivers {
        let name = receiver.name.as_str();
        if !told.contains(name) {
            let message = format!("`{name}` is told of nothing: no [[route]] names it");
            context.note(path, Refusal::new(message).help("name it in a route, or take it out"));
        }
    }
    // Where services are judged elsewhere, there may be any.
    let services: Vec<Option<&str>> =
        if services.is_empty() { vec![None] } else { services.iter().copied().map(Some).collect() };
    let is_matched = |severity: &Severity| {
        services
            .iter()
            .all(|service| routes.iter().any(|route| route.value.route.matches(*severity, *service)))
    };
    let unmatched = Severity::ALL.iter().rev().filter(|severity| !is_matched(severity)).copied();
    let unmatched: Vec<&str> = unmatched.map(Severity::name).collect();
    if !unmatched.is_empty() {
        let message =
            format!("incidents that no route matches reach nobody: some that are {}", unmatched.join(", "));
        context.note(&last.path, Refusal::new(message).help("end with a [[route]] without `match`"));
    }
}
