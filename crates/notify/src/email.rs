//! Mail, by SMTP: each message sums up what changed and what is wrong now, in one thread per incident.
//!
//! The ids of messages follow from the incident and the message's number in it, so that what is sent twice can be told to
//! be the same. The thread's root is the incident itself, whichever of its messages came first.

use std::time::{Duration, SystemTime};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::Envelope,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        self,
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        extension::ClientId,
        response::Response,
    },
};
use rustls_pki_types::CertificateDer;

use crate::{
    cut::{cut, one_line},
    http::{certificate, innermost, is_certificate},
    page::{Event, Page},
    receiver::{ATTEMPT_TIMEOUT, SetUpError, Told},
    refusal::{Reason, Receipt, Refusal},
    secret::Secret,
};

const SUBJECT_MAX: usize = 200;
const QUOTED_MAX: usize = 240;

/// How a connection to a server is kept from being read by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Not: for a relay on this host.
    None,
    /// After the greeting, as on port 587. A server that does not offer it is not used.
    #[default]
    StartTls,
    /// From the beginning, as on port 465.
    Tls,
}

impl Security {
    /// The port that goes with it.
    pub const fn port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::StartTls => 587,
            Self::Tls => 465,
        }
    }
}

/// People, and the server that takes mail for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The server's name.
    pub server: String,
    /// Its port; without one, that of `security`.
    pub port: Option<u16>,
    /// How the connection is kept from being read.
    pub security: Security,
    /// The user and password, where it asks for them.
    pub login: Option<(String, Secret)>,
    /// Who it is from.
    pub from: String,
    /// Who it is for.
    pub to: Vec<String>,
}

/// Sends mail.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    at: String,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Email {
    /// Whom mail is from, and whom it is for.
    pub(crate) fn check(&self) -> Result<(Mailbox, Vec<Mailbox>), SetUpError> {
        let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|_| SetUpError::Mailbox(text.clone()));
        let to = self.to.iter().map(mailbox).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(SetUpError::Empty("to"));
        }
        if self.security == Security::None && self.login.is_some() {
            return Err(SetUpError::PasswordInClear);
        }
        Ok((mailbox(&self.from)?, to))
    }

    pub(crate) fn mailer(&self, roots: &[CertificateDer<'_>]) -> Result<Mailer, SetUpError> {
        let (from, to) = self.check()?;
        let tls = match self.security {
            Security::None => Tls::None,
            Security::StartTls => Tls::Required(self.tls(roots)?),
            Security::Tls => Tls::Wrapper(self.tls(roots)?),
        };
        let port = self.port.unwrap_or_else(|| self.security.port());
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.server)
            .port(port)
            .tls(tls)
            .timeout(Some(ATTEMPT_TIMEOUT))
            .hello_name(ClientId::Domain(from.email.domain().to_owned()));
        if let Some((user, password)) = &self.login {
            transport = transport.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(Mailer { transport: transport.build(), at: format!("{}:{port}", self.server), from, to })
    }

    fn tls(&self, roots: &[CertificateDer<'_>]) -> Result<TlsParameters, SetUpError> {
        let mut tls = TlsParameters::builder(self.server.clone()).certificate_store(CertificateStore::None);
        for root in roots {
            // One that cannot be read is skipped, as everywhere.
            if let Ok(root) = Certificate::from_der(root.to_vec()) {
                tls = tls.add_root_certificate(root);
            }
        }
        tls.build().map_err(SetUpError::Tls)
    }
}

impl Mailer {
    pub(crate) async fn send(&self, told: Told<'_>) -> Result<Receipt, Refusal> {
        let (id, message) = self.message(told.page, told.text);
        let message = message.map_err(|error| {
            Refusal::never(Reason::Refused, format!("no mail can be made of the page: {error}"))
        })?;
        let raw = message.formatted();
        let taken = |response: &Response, but: String| {
            let text = format!("{} answered {}{but}", self.at, said(response));
            Ok(Receipt::new(Some(id.clone()), text))
        };
        let refusal = match self.transport.send_raw(message.envelope(), &raw).await {
            Ok(response) => return taken(&response, String::new()),
            Err(error) => self.refused(&error),
        };
        if refusal.is_retryable() || self.to.len() == 1 {
            return Err(refusal);
        }
        // One wrong address is no reason that nobody is told.
        let (mut first, mut refused) = (None, Vec::new());
        for to in &self.to {
            match self.send_to(to, &raw).await {
                Ok(response) => first = first.or(Some(response)),
                Err(refusal) => refused.push(format!("{}: {}", to.email, refusal.text)),
            }
        }
        match first {
            Some(response) => taken(&response, format!("; but not for {}", refused.join("; nor for "))),
            None => Err(refusal),
        }
    }

    async fn send_to(&self, to: &Mailbox, raw: &[u8]) -> Result<Response, Refusal> {
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()])
            .map_err(|error| Refusal::never(Reason::Refused, error.to_string()))?;
        self.transport.send_raw(&envelope, raw).await.map_err(|error| self.refused(&error))
    }

    /// The message's id, and the message.
    fn message(&self, page: &Page, text: &str) -> (String, Result<Message, lettre::error::Error>) {
        let incident = atom(&page.incident);
        let domain = self.from.email.domain();
        let (id, root) =
            (format!("<{incident}.{}@{domain}>", page.sequence), format!("<{incident}@{domain}>"));
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject(page))
            .message_id(Some(id.clone()))
            .references(root.clone())
            .date(SystemTime::UNIX_EPOCH + Duration::from_micros(page.at.0))
            .header(ContentType::TEXT_PLAIN);
        if page.event != Event::Opened {
            message = message.in_reply_to(root);
        }
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message.body(format!("{text}\n")).map(|mut message| {
            // Nobody's vacation answers a page (RFC 3834).
            let name = HeaderName::new_from_ascii_str("Auto-Submitted");
            message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
            message
        });
        (id, message)
    }

    fn refused(&self, error: &smtp::Error) -> Refusal {
        let at = &self.at;
        let reason = innermost(error);
        let said = |what: &str| format!("{at} {what}: {}", cut(&one_line(&reason), QUOTED_MAX));
        if error.is_transient() {
            Refusal::later(Reason::ServerError, said("cannot take the mail now"))
        } else if error.is_permanent() {
            match error.status().map(|code| code.to_string()).as_deref() {
                Some("530" | "534" | "535" | "538") => Refusal::never(
                    Reason::Unauthorized,
                    said("does not know us") + "; check `user` and `password`",
                ),
                _ => Refusal::never(Reason::Refused, said("refuses the mail")),
            }
        } else if is_certificate(&reason) {
            Refusal::later(Reason::Certificate, certificate(at, &reason))
        } else if error.is_timeout() {
            Refusal::later(Reason::Timeout, said("takes too long"))
        } else if error.is_client() {
            // It lacks STARTTLS, or a way to log in that we know.
            Refusal::never(Reason::Refused, said("cannot be used") + "; check `security` and `port`")
        } else {
            Refusal::later(Reason::Transport, said("cannot be reached"))
        }
    }
}

fn subject(page: &Page) -> String {
    let prefix = if page.event == Event::Updated { "UPDATE: " } else { "" };
    cut(&format!("[{}] {prefix}{}", page.level(), page.title()), SUBJECT_MAX).into_owned()
}

fn said(response: &Response) -> String {
    let message: Vec<&str> = response.message().collect();
    format!("{} {}", response.code(), cut(&one_line(&message.join(" ")), QUOTED_MAX))
}

/// What may stand before the @ of a message's id.
fn atom(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_ascii_alphanumeric() || "-_".contains(char) { char } else { '_' })
        .collect()
}
