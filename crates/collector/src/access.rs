//! Who asks, and what they may do.
//!
//! [`Access::caller`] is the one place that says so. It looks in this order, and what somebody chose to show outranks what comes
//! with their connection:
//!
//! | known by | may | named |
//! |---|---|---|
//! | `open = true` | everything | nobody |
//! | `Authorization: Bearer`, a token that was made at run time ([`issued`]) | its scopes | the token |
//! | loopback, or any certificate of `client_ca`, where nothing of what follows is configured | everything; to report and read | nobody |
//! | `Authorization: Bearer`, a `[[collector.token]]` | its scopes | the token |
//! | a session, begun with a token at `/sign-in` ([`session`]) | the token's scopes | the token |
//! | headers of the `[collector.proxy]` ([`proxy`]) | their groups' scopes | whom it names |
//! | a certificate that a `[[collector.client]]` names | its scopes | the section's `name` |
//!
//! Of a token nothing but a hash of its secret is held. One to report with may be for one region, and for one node; and it has
//! [`Limits`], so that one agent that has gone wrong cannot take the collector away from the others. What is
//! over a limit is refused, counted by token and reason, and stays in the agent's spool. How many there are to count by is bounded
//! by the configuration, and by [`issued::TOKENS_MAX`].
//!
//! All but a bearer's token is shown by a browser for whatever page makes it ask, so that a change by it must come from a page
//! of ours ([`origin`]).

mod attempts;
mod entrance;
pub(crate) mod issued;
mod limits;
mod origin;
mod peer;
mod proxy;
mod secret;
mod session;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::{Micros, Second, Timestamp};
use axum::http::{HeaderMap, Method, header};
use serde::{Deserialize, Serialize};

pub(crate) use self::entrance::{Entrance, Reason, Reporter};
use self::{
    attempts::Attempts,
    entrance::Grant,
    issued::{Issued, Shown},
    session::Sessions,
};
pub use self::{
    entrance::TokenCounts,
    limits::Limits,
    origin::leads_nowhere_else,
    peer::{Peer, Subject},
    proxy::ProxyRule,
    secret::{SecretHash, SecretHashError},
    session::SessionKey,
};
use crate::{delivery::rfc3339, error::ApiError};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything.
    Admin,
    /// Reading the API.
    Read,
    /// Reporting slots.
    Report,
}

/// A token and what it allows.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// What logs call it.
    pub name: String,
    /// What its secret is recognised by.
    pub secret: SecretHash,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The one region that reports under it may claim.
    pub region: Option<String>,
    /// The one node that reports under it may claim.
    pub node: Option<String>,
    /// How much may be reported under it.
    pub limits: Limits,
}

/// What somebody may do who shows a certificate.
#[derive(Clone, Debug)]
pub struct CertificateRule {
    /// What logs and notes call whoever shows it.
    pub name: String,
    /// The names of which a certificate has one.
    pub subjects: Vec<Subject>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The one region that reports under it may claim.
    pub region: Option<String>,
    /// The one node that reports under it may claim.
    pub node: Option<String>,
}

/// Who may do what, as it is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) tokens: Vec<TokenRule>,
    pub(crate) certificates: Vec<CertificateRule>,
    pub(crate) proxy: Option<ProxyRule>,
    pub(crate) open: bool,
    pub(crate) certified: bool,
    pub(crate) session_key: Option<SessionKey>,
    pub(crate) probe_auth: bool,
    /// The collector's name.
    pub(crate) name: String,
}

/// What a request says of who sent it.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: &'a Peer,
    /// Under which URL people reach this collector, if that is configured.
    pub(crate) url: Option<&'a str>,
    pub(crate) now: Timestamp,
}

/// How somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Known {
    /// Not at all: everybody on this machine may do everything.
    Local,
    /// Not at all: everybody may do everything.
    Open,
    Token,
    Session,
    Proxy,
    Certificate,
}

/// Somebody who may do something.
#[derive(Clone)]
pub(crate) struct Caller {
    name: Arc<str>,
    known: Known,
    scopes: Arc<[Scope]>,
    entrance: Arc<Entrance>,
    until: Option<Second>,
}

impl Caller {
    /// What they are called; empty where nobody is asked who they are.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn known(&self) -> Known {
        self.known
    }

    pub(crate) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// When what they show ends, if it does.
    pub(crate) const fn until(&self) -> Option<Second> {
        self.until
    }

    /// Whether they may do what needs `scope`.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Refuses whoever may not do what needs `scope`.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.may(scope) {
            return Ok(());
        }
        self.entrance.refused(Reason::Forbidden);
        let name = &self.name;
        let message = match self.known {
            Known::Local | Known::Open | Known::Session | Known::Token => {
                format!("token `{name}` lacks the scope for this; add it to its `scope`")
            }
            Known::Proxy => {
                format!(
                    "`{name}` lacks the scope for this; add it to one of their groups in [collector.proxy]"
                )
            }
            Known::Certificate => format!(
                "the certificate of `{name}` lacks the scope for this; add it to its `scope` in [[collector.client]]"
            ),
        };
        Err(ApiError::forbidden(message))
    }

    /// Where they report.
    pub(crate) fn entrance(&self) -> Arc<Entrance> {
        Arc::clone(&self.entrance)
    }

    /// Who said something: who is signed in, whatever they say of it; and with a token, which programs show for people, whom
    /// they name, or else the token.
    pub(crate) fn author(&self, given: Option<String>) -> Option<String> {
        let name = || Some(self.name.to_string()).filter(|name| !name.is_empty());
        match self.known {
            Known::Session | Known::Proxy | Known::Certificate => name().or(given),
            Known::Local | Known::Open | Known::Token => given.or_else(name),
        }
    }
}

/// Who may do what.
pub(crate) struct Access {
    issued: Issued,
    tokens: Vec<(SecretHash, Arc<Entrance>)>,
    certificates: Vec<(Vec<Subject>, Arc<Entrance>)>,
    proxy: Option<ProxyRule>,
    /// Whoever is let in without being named.
    nobody: Arc<Entrance>,
    open: bool,
    certified: bool,
    probe_auth: bool,
    sessions: Option<Sessions>,
    attempts: Attempts,
    cookie: [String; 2],
    /// Requests that showed nothing of ours where something was asked for.
    strangers: AtomicU64,
    /// Requests that said who they are in the proxy's headers, and did not come from it.
    pretenders: AtomicU64,
}

/// Why nobody is signed in.
pub(crate) enum NotSignedIn {
    /// There is no such token.
    Unknown,
    /// There is, and it may neither read nor change anything.
    OnlyReports,
    /// Too many wrong ones came from there: so many seconds from now they may try again.
    TooMany(u64),
    /// Nobody can sign in to this collector.
    Never,
}

impl Access {
    pub(crate) fn new(rules: Rules) -> Self {
        let Rules { tokens, certificates, proxy, open, certified, session_key, probe_auth, name } = rules;
        let entrance = |grant| Arc::new(Entrance::new(grant));
        let token = |TokenRule { name, secret, scopes, region, node, limits }| {
            (secret, entrance(Grant { name, scopes: scopes.into(), region, node, limits }))
        };
        let certificate = |CertificateRule { name, subjects, scopes, region, node }| {
            let limits = Limits::FLEET;
            (subjects, entrance(Grant { name, scopes: scopes.into(), region, node, limits }))
        };
        let nobody =
            Grant { name: String::new(), scopes: [].into(), region: None, node: None, limits: Limits::FLEET };
        Self {
            issued: Issued::default(),
            tokens: tokens.into_iter().map(token).collect(),
            certificates: certificates.into_iter().map(certificate).collect(),
            proxy,
            nobody: entrance(nobody),
            open,
            certified,
            probe_auth,
            sessions: session_key.map(Sessions::new),
            attempts: Attempts::default(),
            // A browser sets the first over TLS alone, and for no other host. The names of two on one host differ.
            cookie: ["__Host-aviary-", "aviary-"].map(|prefix| format!("{prefix}{name}")),
            strangers: AtomicU64::new(0),
            pretenders: AtomicU64::new(0),
        }
    }

    /// The same, with the tokens that were made at run time.
    pub(crate) fn with_issued(self, issued: Issued) -> Self {
        Self { issued, ..self }
    }

    /// Who asks, if they may do anything at all; where they change something, by a page of ours.
    ///
    /// # Errors
    /// 401 where nobody is known, and 403 where a browser asks for somebody else.
    pub(crate) fn caller(&self, asked: &Asked<'_>) -> Result<Caller, ApiError> {
        let caller = self.known(asked)?;
        if caller.known != Known::Token {
            origin::refuse_foreign_change(asked.method, asked.headers, asked.url)?;
        }
        Ok(caller)
    }

    fn known(&self, asked: &Asked<'_>) -> Result<Caller, ApiError> {
        let Asked { headers, peer, url, now, .. } = *asked;
        if self.open {
            return Ok(self.anybody(Known::Open, &[Scope::Admin]));
        }
        let secret = bearer(headers).map(SecretHash::of);
        match secret.as_ref().and_then(|secret| self.issued.shown(secret, now.second())) {
            Some(Shown::Valid(entrance, until)) => {
                return Ok(Caller { until, ..granted(Known::Token, &entrance) });
            }
            Some(Shown::Ended(name, until)) => {
                let message = format!(
                    "this secret of token `{name}` ended at {}; give the token another with `aviary token new {name} --rotate`",
                    rfc3339(until)
                );
                return Err(ApiError::expired(message));
            }
            None => {}
        }
        if self.names_nobody() {
            if peer.ip().is_loopback() {
                // Over TLS, a name that leads elsewhere has no certificate.
                if !peer.is_over_tls() {
                    origin::refuse_foreign_name(headers, url)?;
                }
                return Ok(self.anybody(Known::Local, &[Scope::Admin]));
            }
            if self.certified {
                let name = peer.subjects().first().map_or("", Subject::text).into();
                let caller = self.anybody(Known::Certificate, &[Scope::Report, Scope::Read]);
                return Ok(Caller { name, ..caller });
            }
        }
        if let Some(secret) = secret {
            let (_, entrance) = self.token(&secret).ok_or_else(|| {
                let message =
                    "this collector has no such token; compare the agent's `token` with [[collector.token]] and `aviary token list`";
                ApiError::unauthorized(message)
            })?;
            return Ok(granted(Known::Token, entrance));
        }
        if let Some(entrance) = self.session(headers, peer, now) {
            return Ok(granted(Known::Session, &entrance));
        }
        let is_proxy = match &self.proxy {
            Some(proxy) if proxy.is_at(peer.ip()) => {
                if let Some((name, scopes)) = proxy.caller(headers) {
                    let entrance = Arc::clone(&self.nobody);
                    return Ok(Caller { name, known: Known::Proxy, scopes, entrance, until: None });
                }
                true
            }
            Some(proxy) => {
                if proxy.is_claimed(headers) {
                    self.pretenders.fetch_add(1, Ordering::Relaxed);
                }
                false
            }
            None => false,
        };
        // The certificate of a proxy is its own, and not that of whoever asks it.
        let shows = |subjects: &[Subject]| {
            subjects.iter().any(|it| peer.subjects().iter().any(|shown| shown.names(it)))
        };
        let certificate = self.certificates.iter().find(|(subjects, _)| !is_proxy && shows(subjects));
        if let Some((_, entrance)) = certificate {
            return Ok(granted(Known::Certificate, entrance));
        }
        let message =
            "send `Authorization: Bearer TOKEN` with a token of this collector's [[collector.token]]";
        Err(ApiError::unauthorized(message))
    }

    /// Whether nothing is configured that would tell one from another.
    fn names_nobody(&self) -> bool {
        self.tokens.is_empty() && self.certificates.is_empty() && self.proxy.is_none()
    }

    /// Whether also whoever asks for health must be known.
    pub(crate) const fn closes_health(&self) -> bool {
        self.probe_auth
    }

    /// Somebody who is not named.
    fn anybody(&self, known: Known, scopes: &[Scope]) -> Caller {
        let entrance = Arc::clone(&self.nobody);
        Caller { name: Arc::default(), known, scopes: scopes.into(), entrance, until: None }
    }

    /// The token of the configuration with this secret.
    fn token(&self, given: &SecretHash) -> Option<&(SecretHash, Arc<Entrance>)> {
        // Every token is compared, so that the time taken tells nothing of any.
        self.tokens.iter().fold(None, |found, token| if token.0 == *given { Some(token) } else { found })
    }

    /// The token of this name, and what it is known by.
    fn named(&self, name: &str, now: Timestamp) -> Option<(Arc<Entrance>, Vec<SecretHash>)> {
        let configured = self.tokens.iter().find(|(_, entrance)| *entrance.reporter().token == *name);
        let configured = configured.map(|(secret, entrance)| (Arc::clone(entrance), vec![*secret]));
        configured.or_else(|| self.issued.named(name, now.second()))
    }

    /// The token with which whoever sent `headers` has signed in.
    fn session(&self, headers: &HeaderMap, peer: &Peer, now: Timestamp) -> Option<Arc<Entrance>> {
        let (sessions, cookie) = (self.sessions.as_ref()?, self.cookie(headers, peer)?);
        let secrets = |name: &str| self.named(name, now).map(|(_, secrets)| secrets).unwrap_or_default();
        let name = sessions.token(cookie, now, secrets)?;
        self.named(name, now).map(|(entrance, _)| entrance)
    }

    /// The session's cookie among `headers`.
    fn cookie<'h>(&self, headers: &'h HeaderMap, peer: &Peer) -> Option<&'h str> {
        let name = self.cookie_name(headers, peer);
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies =
            lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        cookies.find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    fn cookie_name(&self, headers: &HeaderMap, peer: &Peer) -> &str {
        let [over_tls, plain] = &self.cookie;
        if self.is_over_tls(headers, peer) { over_tls } else { plain }
    }

    /// Whether what is sent back reaches the browser over TLS.
    fn is_over_tls(&self, headers: &HeaderMap, peer: &Peer) -> bool {
        let proxy = self.proxy.as_ref().filter(|proxy| proxy.is_at(peer.ip()));
        proxy.map_or_else(|| peer.is_over_tls(), |proxy| proxy.asked_over_tls(headers))
    }

    /// From where somebody asks, also through the proxy.
    fn asks_from(&self, headers: &HeaderMap, peer: &Peer) -> IpAddr {
        let proxy = self.proxy.as_ref().filter(|proxy| proxy.is_at(peer.ip()));
        proxy.and_then(|proxy| proxy.asked_from(headers)).unwrap_or_else(|| peer.ip())
    }

    /// Whether somebody could sign in: there is a token for people.
    pub(crate) fn has_sessions(&self) -> bool {
        let is_for_people = |entrance: &Arc<Entrance>| is_for_people(entrance);
        self.sessions.is_some()
            && (self.tokens.iter().map(|(_, entrance)| entrance).any(is_for_people)
                || self.issued.entrances().iter().any(is_for_people))
    }

    /// The tokens that were made at run time.
    pub(crate) const fn issued(&self) -> &Issued {
        &self.issued
    }

    /// What each token of the configuration is called, with what it allows and where.
    pub(crate) fn configured(&self) -> impl Iterator<Item = (&Reporter, &[Scope])> {
        self.tokens.iter().map(|(_, entrance)| (entrance.reporter(), &**entrance.scopes()))
    }

    /// Whether the configuration calls somebody so.
    pub(crate) fn is_configured(&self, name: &str) -> bool {
        let certificates = self.certificates.iter().map(|(_, entrance)| entrance);
        let mut entrances = self.tokens.iter().map(|(_, entrance)| entrance).chain(certificates);
        entrances.any(|entrance| *entrance.reporter().token == *name)
    }

    /// Whether everybody may do everything.
    pub(crate) fn is_open(&self) -> bool {
        self.open || self.names_nobody()
    }

    /// Signs somebody in who shows the secret of a token: the cookie that their browser is to keep. `monotonic` is for
    /// how often they may be wrong.
    pub(crate) fn sign_in(
        &self,
        asked: &Asked<'_>,
        secret: &str,
        monotonic: Micros,
    ) -> Result<String, NotSignedIn> {
        let Some(sessions) = self.sessions.as_ref().filter(|_| self.has_sessions()) else {
            return Err(NotSignedIn::Never);
        };
        let from = self.asks_from(asked.headers, asked.peer);
        self.attempts.ready(from, monotonic).map_err(NotSignedIn::TooMany)?;
        let given = SecretHash::of(secret);
        let found = match self.issued.shown(&given, asked.now.second()) {
            Some(Shown::Valid(entrance, ..)) => Some(entrance),
            Some(Shown::Ended(..)) => None,
            None => self.token(&given).map(|(_, entrance)| Arc::clone(entrance)),
        };
        let Some(entrance) = found else {
            self.attempts.failed(from, monotonic);
            self.stranger();
            // At most once a second from each address, by the limit.
            tracing::warn!(%from, "Somebody tried to sign in with what is no token of this collector.");
            return Err(NotSignedIn::Unknown);
        };
        if !is_for_people(&entrance) {
            return Err(NotSignedIn::OnlyReports);
        }
        let name = &entrance.reporter().token;
        tracing::info!(%from, token = &**name, "Somebody signed in.");
        let session = sessions.begin(name, &given, asked.now);
        Ok(self.set_cookie(asked, &session, session::LIFE_SECONDS))
    }

    /// Signs out whoever asks, if they are signed in: the cookie that takes the place of theirs.
    pub(crate) fn sign_out(&self, asked: &Asked<'_>) -> String {
        if let (Some(sessions), Some(cookie), Some(_)) = (
            &self.sessions,
            self.cookie(asked.headers, asked.peer),
            self.session(asked.headers, asked.peer, asked.now),
        ) {
            sessions.end(cookie, asked.now);
        }
        self.set_cookie(asked, "", 0)
    }

    /// Not `Strict`: whoever comes by the link in a page would be asked to sign in again.
    fn set_cookie(&self, asked: &Asked<'_>, value: &str, seconds: u64) -> String {
        let name = self.cookie_name(asked.headers, asked.peer);
        let secure = if self.is_over_tls(asked.headers, asked.peer) { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
    }

    /// What was counted of each who may report, and of whoever needs no name; `series` says how many a token brought.
    pub(crate) fn counts(&self, series: impl Fn(&str) -> usize) -> Vec<TokenCounts> {
        let may_report = |scopes: &[Scope]| scopes.iter().any(|scope| *scope != Scope::Read);
        let tokens = self.tokens.iter().map(|(_, entrance)| entrance);
        let certificates = self.certificates.iter().map(|(_, entrance)| entrance);
        let issued = self.issued.entrances();
        let named = tokens.chain(&issued).chain(certificates).filter(|it| may_report(it.scopes()));
        let nobody = self.is_open().then_some(&self.nobody);
        named
            .chain(nobody)
            .map(|it| TokenCounts { series: series(&it.reporter().token) as u64, ..it.counts() })
            .collect()
    }

    /// How many requests showed nothing of this collector's where something was asked for.
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    /// Counts one of them.
    pub(crate) fn stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests said who they are in the headers of the proxy, and were not sent by it.
    pub(crate) fn pretenders(&self) -> u64 {
        self.pretenders.load(Ordering::Relaxed)
    }
}

/// Somebody to whom what `entrance` says is granted.
fn granted(known: Known, entrance: &Arc<Entrance>) -> Caller {
    Caller {
        name: Arc::clone(&entrance.reporter().token),
        known,
        scopes: Arc::clone(entrance.scopes()),
        entrance: Arc::clone(entrance),
        until: None,
    }
}

/// Whether it is of use to somebody who looks at pages.
fn is_for_people(entrance: &Entrance) -> bool {
    entrance.scopes().iter().any(|scope| matches!(scope, Scope::Admin | Scope::Read))
}

/// The token that `headers` show. What is authorised otherwise is the proxy's business.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// Refuses a change that a page of somebody else sent.
pub(crate) fn refuse_foreign_change(asked: &Asked<'_>) -> Result<(), ApiError> {
    origin::refuse_foreign_change(asked.method, asked.headers, asked.url)
}
