//! `[[receiver]]`: whom to page.

use std::collections::BTreeSet;

use aviary_notify::{
    Alertmanager, Command, Contract, Email, Kind as ReceiverKind, Opsgenie, PagerDuty, Security, SetUpError,
    Settings, Slack, TemplateError, Url, VictorOps, Webhook,
};

use super::{
    agent::is_loopback,
    context::Refusal,
    kind::{Boolean, Either, Kind, Or, Whole, choice, some, values},
    reader::Reader,
    scalar,
    secret::{self, Pem, Secret},
};

/// The kinds of receivers, with the keys that each needs and those that it may have beside `name` and `kind`.
const KINDS: [(&str, &[&str], &[&str]); 8] = [
    ("pagerduty", &["key"], &["url", "ca", "template", "webhook_secret"]),
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
    /// What it signs with when it tells us that somebody is on it.
    pub(crate) webhook_secret: Option<Secret>,
}

impl Receiver {
    /// What to expect of it.
    pub(super) const fn contract(&self) -> Contract {
        self.settings.kind.contract()
    }

    /// The hosts that it is reached through, as far as they may be shown: the whole URL of Slack's is a secret.
    pub(super) fn hosts(&self) -> Vec<&str> {
        match &self.settings.kind {
            ReceiverKind::Alertmanager(it) => it.urls.iter().filter_map(Url::host_str).collect(),
            ReceiverKind::Email(it) => vec![&it.server],
            ReceiverKind::Opsgenie(it) => it.url.host_str().into_iter().collect(),
            ReceiverKind::PagerDuty(it) => it.url.host_str().into_iter().collect(),
            ReceiverKind::VictorOps(it) => it.url.host_str().into_iter().collect(),
            ReceiverKind::Webhook(it) => it.url.host_str().into_iter().collect(),
            ReceiverKind::Command(_) | ReceiverKind::Slack(_) => Vec::new(),
        }
    }
}

/// A receiver, which routes may name whatever is wrong with it.
pub(super) struct Draft {
    /// Its name.
    pub(super) name: String,
    /// The receiver, if all of it could be read.
    pub(super) receiver: Option<Receiver>,
}

/// Reads one `[[receiver]]`.
pub(super) fn receiver(reader: &mut Reader<'_>) -> Option<Draft> {
    let name = reader.required("name", "what routes call it", scalar::name("oncall"));
    let receiver = kind_of_receiver(reader, name.as_deref().unwrap_or_default());
    Some(Draft { name: name?, receiver })
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
    let about = "what PagerDuty signs its webhook with, to COLLECTOR/api/v1/pagerduty: then whoever acknowledges there ends an escalation";
    let webhook_secret = keys.ask("webhook_secret", about, secret::api_key());
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
    if reader.has("key") {
        refuse_key_in_clear(reader, "url", &urls);
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
    Some(Receiver { settings, ca, webhook_secret })
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
        SetUpError::Client(_)
        | SetUpError::Header(_)
        | SetUpError::Method(_)
        | SetUpError::PingUrl
        | SetUpError::RequestTemplate(..)
        | SetUpError::Tls(_) => "kind",
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

/// Whoever can read the network on the way would have the key.
pub(super) fn refuse_key_in_clear(reader: &Reader<'_>, key: &str, urls: &[Url]) {
    if let Some(url) = urls.iter().find(|url| url.scheme() == "http" && !is_loopback(url)) {
        let message = format!(
            "the key for {} would cross the network in the clear",
            url.origin().ascii_serialization()
        );
        let help = "write https://, with `ca` where the authority is your own";
        reader.refuse(key, Refusal::new(message).help(help));
    }
}

pub(super) fn shared(secret: &Secret) -> aviary_notify::Secret {
    aviary_notify::Secret::new(secret.expose())
}
