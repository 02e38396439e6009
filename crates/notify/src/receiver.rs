//! A receiver: told of one page, once, it says whether it took it.

use std::{fmt, net::IpAddr, time::Duration};

use aviary_core::fnv::fnv1a;
use reqwest::Url;
use rustls_pki_types::CertificateDer;

use crate::{
    Alertmanager, Command, Email, Opsgenie, PagerDuty, Slack, VictorOps, Webhook,
    address::{PublicOnly, System},
    email::Mailer,
    http::Http,
    page::{Attempt, Page},
    refusal::{Reason, Receipt, Refusal},
    secret::{Secret, hide},
    text::{TemplateError, Templates},
    webhook::SigningKey,
};

/// How long an attempt may take, all of it.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a receiver is, with all that one of its kind needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Alertmanager, by its API v2.
    Alertmanager(Alertmanager),
    /// A program of the operator's.
    Command(Command),
    /// Mail, by SMTP.
    Email(Email),
    /// Opsgenie, or Jira Service Management.
    Opsgenie(Opsgenie),
    /// PagerDuty, by its Events API v2.
    PagerDuty(PagerDuty),
    /// Slack, by an incoming webhook.
    Slack(Slack),
    /// Splunk On-Call.
    VictorOps(VictorOps),
    /// Anybody's, by Standard Webhooks.
    Webhook(Webhook),
}

/// A receiver as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What routes call it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The template of its texts; ours without one.
    pub template: Option<String>,
}

/// What whoever keeps an outbox must know of a kind of receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Whether it takes what bears one key for one page. If not, what is sent twice is read twice.
    pub honours_key: bool,
    /// Whether it can tell that somebody acknowledged: only then can an escalation stop by itself.
    pub acknowledges: bool,
    /// Whether it wakes somebody: what was over before it could be told is told to others only.
    pub wakes: bool,
    /// How many messages it takes in a minute.
    pub per_minute: u32,
    /// How often it wants to be told again, if at all.
    pub resend: Option<Resend>,
}

/// A receiver that forgets what it is not told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    /// How often, while the incident is open.
    pub every: Duration,
    /// For how long after it is resolved.
    pub resolved_for: Duration,
}

/// Why a receiver cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// A header of a request that none can have.
    #[error("the header `{0}` has a name or a value that no request can have")]
    Header(String),
    /// No method of HTTP.
    #[error("`{0}` is no method of HTTP: write such as PUT")]
    Method(String),
    /// A template of a request that does not render, and which.
    #[error("the template of `{0}` makes no request: {1}")]
    RequestTemplate(&'static str, String),
    /// A list of which at least one is needed.
    #[error("`{0}` is empty: name at least one")]
    Empty(&'static str),
    /// Not a mail address.
    #[error("`{0}` is no mail address: write such as oncall@example.com or \"On call <oncall@example.com>\"")]
    Mailbox(String),
    /// A password that anybody on the way could read.
    #[error("a password would be sent in clear: set `security` to \"starttls\" or \"tls\"")]
    PasswordInClear,
    /// The URL of a ping is none.
    #[error("the secret is no URL: it is the check's whole ping URL, such as https://hc-ping.com/...")]
    PingUrl,
    /// A webhook at a private address.
    #[error("`url` has the private address {0}: if that is meant, set `allow_private = true`")]
    PrivateAddress(IpAddr),
    /// The key that should be a URL is none.
    #[error("the secret is no URL: it is the whole https://hooks.slack.com/services/... that Slack gave out")]
    SecretUrl,
    /// The secret that should sign webhooks cannot.
    #[error(
        "the secret is no secret of a webhook: it is whsec_ and 24 to 64 bytes in base64, as of `echo whsec_$(openssl rand -base64 32)`"
    )]
    SigningSecret,
    /// A template that does not render.
    #[error("{0}")]
    Template(#[from] TemplateError),
    /// TLS to a mail server could not be set up.
    #[error("TLS to the mail server cannot be set up: {0}")]
    Tls(lettre::transport::smtp::Error),
}

/// What a receiver is told.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) page: &'a Page,
    pub(crate) text: &'a str,
    pub(crate) attempt: Attempt,
}

/// Delivers pages to one receiver.
pub struct Receiver {
    name: String,
    kind: Kind,
    way: Way,
    templates: Templates,
}

/// What it takes to get there.
enum Way {
    Command,
    Http(Http),
    Slack(Http, Url),
    Smtp(Mailer),
    Webhook(Http, SigningKey),
}

impl Kind {
    /// The kind's name in configurations and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Alertmanager(_) => "alertmanager",
            Self::Command(_) => "command",
            Self::Email(_) => "email",
            Self::Opsgenie(_) => "opsgenie",
            Self::PagerDuty(_) => "pagerduty",
            Self::Slack(_) => "slack",
            Self::VictorOps(_) => "victorops",
            Self::Webhook(_) => "webhook",
        }
    }

    /// What to expect of receivers of this kind. Where a service names no rate, one a second is what nobody minds.
    pub const fn contract(&self) -> Contract {
        let other =
            Contract { honours_key: true, acknowledges: false, wakes: true, per_minute: 60, resend: None };
        match self {
            Self::Alertmanager(_) => {
                Contract { per_minute: 600, resend: Some(Alertmanager::RESEND), ..other }
            }
            Self::Opsgenie(_) | Self::VictorOps(_) => other,
            Self::PagerDuty(_) => Contract { acknowledges: true, ..other },
            Self::Email(_) | Self::Slack(_) => Contract { honours_key: false, wakes: false, ..other },
            // Programs can be told of an acknowledgement, and can tell us by the API.
            Self::Command(_) => Contract { honours_key: false, acknowledges: true, ..other },
            Self::Webhook(_) => Contract { acknowledges: true, per_minute: 600, ..other },
        }
    }

    /// What must not be seen in any text.
    fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Alertmanager(it) => it.key.iter().collect(),
            Self::Command(_) => Vec::new(),
            Self::Email(it) => it.login.iter().map(|(_, password)| password).collect(),
            Self::Opsgenie(it) => vec![&it.key],
            Self::PagerDuty(it) => vec![&it.key],
            Self::Slack(it) => vec![&it.url],
            Self::VictorOps(it) => vec![&it.key],
            Self::Webhook(it) => vec![&it.secret],
        }
    }
}

impl Settings {
    /// What can be known of them without a connection.
    ///
    /// # Errors
    /// Settings that no attempt could succeed with.
    pub fn check(&self) -> Result<(), SetUpError> {
        match &self.kind {
            Kind::Alertmanager(it) if it.urls.is_empty() => return Err(SetUpError::Empty("url")),
            Kind::Command(it) => it.check()?,
            Kind::Email(it) => it.check().map(drop)?,
            Kind::Slack(it) => it.check().map(drop)?,
            Kind::Webhook(it) => it.check().map(drop)?,
            Kind::Alertmanager(_) | Kind::Opsgenie(_) | Kind::PagerDuty(_) | Kind::VictorOps(_) => {}
        }
        Templates::new(self.template.as_deref())?;
        Ok(())
    }
}

impl Receiver {
    /// Sets up a receiver that trusts the certificates of `roots`, in DER, and no others. The process must have a
    /// default provider of cryptography, as whatever else talks TLS here.
    ///
    /// # Errors
    /// Settings that no attempt could succeed with.
    pub fn new(settings: Settings, roots: &[CertificateDer<'_>]) -> Result<Self, SetUpError> {
        settings.check()?;
        let Settings { name, kind, template } = settings;
        let way = match &kind {
            Kind::Command(_) => Way::Command,
            Kind::Email(email) => Way::Smtp(email.mailer(roots)?),
            Kind::Slack(slack) => Way::Slack(http(roots)?, slack.check()?),
            Kind::Webhook(webhook) => {
                let key = webhook.check()?;
                let guard = (!webhook.allow_private).then(|| PublicOnly::new(System));
                Way::Webhook(Http::new(roots, guard)?, key)
            }
            Kind::Alertmanager(_) | Kind::Opsgenie(_) | Kind::PagerDuty(_) | Kind::VictorOps(_) => {
                Way::Http(http(roots)?)
            }
        };
        Ok(Self { name, kind, way, templates: Templates::new(template.as_deref())? })
    }

    /// What routes call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What to expect of it.
    pub const fn contract(&self) -> Contract {
        self.kind.contract()
    }

    /// The text of `page` as this receiver is sent it, but for its markup and its limits.
    pub fn text(&self, page: &Page) -> String {
        self.templates.text(&page.bounded())
    }

    /// Delivers `page`, once, within [`ATTEMPT_TIMEOUT`]. Dropped, it gives up, and the page may have arrived or not.
    ///
    /// # Errors
    /// A refusal that says whether the same page may be taken another time.
    pub async fn send(&self, page: &Page, attempt: Attempt) -> Result<Receipt, Refusal> {
        let page = page.bounded();
        let text = self.templates.text(&page);
        let told = Told { page: &page, text: &text, attempt };
        in_time(&format!("receiver `{}`", self.name), &self.kind.secrets(), Box::pin(self.tell(told))).await
    }

    async fn tell(&self, told: Told<'_>) -> Result<Receipt, Refusal> {
        match (&self.kind, &self.way) {
            (Kind::Alertmanager(it), Way::Http(http)) => it.send(http, told).await,
            (Kind::Opsgenie(it), Way::Http(http)) => it.send(http, told).await,
            (Kind::PagerDuty(it), Way::Http(http)) => it.send(http, told).await,
            (Kind::VictorOps(it), Way::Http(http)) => it.send(http, told).await,
            (Kind::Command(it), _) => it.send(told).await,
            (Kind::Webhook(it), Way::Webhook(http, key)) => it.send(http, key, told).await,
            (_, Way::Slack(http, url)) => Slack::send(http, url, told).await,
            (_, Way::Smtp(mailer)) => mailer.send(told).await,
            (kind, _) => {
                Err(Refusal::never(Reason::Refused, format!("it was not set up as {}", kind.name())))
            }
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("name", &self.name)
            .field("kind", &self.kind.name())
            .finish_non_exhaustive()
    }
}

/// A client that looks names up as the host does.
pub(crate) fn http(roots: &[CertificateDer<'_>]) -> Result<Http, SetUpError> {
    Ok(Http::new(roots, None::<System>)?)
}

/// What came of `attempt` within its time, with `who` was asked in front and no secret in it.
pub(crate) async fn in_time(
    who: &str,
    secrets: &[&Secret],
    attempt: impl Future<Output = Result<Receipt, Refusal>>,
) -> Result<Receipt, Refusal> {
    let outcome = tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs());
        Err(Refusal::later(Reason::Timeout, text))
    });
    match outcome {
        Ok(receipt) => Ok(Receipt {
            reference: receipt.reference.map(|reference| hide(reference, secrets)),
            text: hide(receipt.text, secrets),
        }),
        Err(refusal) => Err(Refusal { text: format!("{who}: {}", hide(refusal.text, secrets)), ..refusal }),
    }
}

/// `key`, or where it is longer than `limit` its beginning and a hash of all of it.
pub(crate) fn key_within(key: &str, limit: usize) -> String {
    if key.chars().count() <= limit {
        return key.to_owned();
    }
    let hash = format!("-{:016x}", fnv1a(key.bytes()));
    key.chars().take(limit - hash.len()).chain(hash.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_stay_apart() {
        let long = |end: &str| format!("{}{end}", "k".repeat(300));
        let (a, b) = (key_within(&long("a"), 255), key_within(&long("b"), 255));
        assert!(a != b && a.len() == 255 && b.len() == 255);
        assert_eq!(key_within("aviary:main:01J", 255), "aviary:main:01J");
    }
}
