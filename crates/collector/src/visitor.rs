//! Who asks, as routes see it, and what they are told who may not.
//!
//! Each route that is not for everybody takes one of these as an argument, and nothing else says who may:
//!
//! | argument | lets by | of routes |
//! |---|---|---|
//! | [`Visitor`] | everybody, until [`Visitor::may`] is asked | what needs to know who it is, and of reports and events |
//! | [`Readable`] | whoever may read | every other `GET` |
//! | [`Admin`] | whoever may change something, and says who that is | every other `POST`, `DELETE`, and tokens |
//! | [`Onlooker`] | everybody, unless `probe_auth = true`; and says whether they may read | health |
//!
//! **A new route that changes something** takes [`Admin`] before its body, and is safe: it must come from a page of ours where a
//! browser sent it ([`crate::access`] says why no form needs a token for that), and [`Admin::author`] says who it is. A form of a page is to
//! be offered only to who [`Caller::may`] send it. No `GET` changes anything.
//!
//! What is answered, of each kind of route to each kind of caller; a test asks all of them:
//!
//! | | anonymous, stranger with a proxy's headers | `read` | `report` | `admin` | signed in with `read`, through the proxy | certificate for `report` |
//! |---|---|---|---|---|---|---|
//! | `/`, `/SERVICE`, `/agents`, `/incidents`, `/runbooks`, `/live` | 303 to `/sign-in`; as JSON 401 | 200 | 403 | 200 | 200 | 403 |
//! | `GET /api/v1/...`, `/metrics` | 401 | 200 | 403 | 200 | 200 | 403 |
//! | `GET /api/v1/services.toml` | 401 | 200 | 200 | 200 | 200 | 200 |
//! | `GET /api/v1/whoami` | 401 | 200 | 200 | 200 | 200 | 200 |
//! | `GET /api/v1/tokens` | 401 | 403 | 403 | 200 | 403 | 403 |
//! | `POST /api/v1/reports`, `/api/v1/events` | 401 | 403 | taken | taken | 403 | taken |
//! | every other `POST`, and `DELETE` | 401 | 403 | 403 | done | 403 | 403 |
//! | the same, sent by a page of somebody else | 401 | 403 | 403 | done: no page has a token | 403 | 403 |
//! | `/healthz`, `/readyz`, `/healthcheck`, `/deepcheck`, `/SERVICE/health` | the status, and no more than states | all | as anonymous | all | all | as anonymous |
//! | the same with `probe_auth = true` | 401 | 200 | 403 | 200 | 200 | 403 |
//! | `/sign-in`, `/sign-out`, `/assets/NAME` | everybody | | | | | |
//! | `POST /api/v1/pagerduty` | whoever signs it as PagerDuty does | | | | | |

#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};

use crate::{
    Collector, Peer,
    access::{Access, Asked, Caller, Scope},
    error::ApiError,
    pages,
};

/// Whoever asks, known or not.
pub(crate) struct Visitor {
    pub(crate) collector: Collector,
    caller: Result<Caller, ApiError>,
    /// Where somebody who looks at pages is to come back to once they have signed in; programs do not sign in.
    back: Option<Uri>,
    wants_html: bool,
    address: SocketAddr,
}

impl Visitor {
    fn of(parts: &Parts, collector: &Collector) -> Self {
        let caller = asked(parts, collector, Access::caller);
        let wants_html = pages::wants_html(&parts.headers);
        let back = (wants_html && parts.method == Method::GET).then(|| parts.uri.clone());
        Self { collector: collector.clone(), caller, back, wants_html, address: peer(parts).address() }
    }

    /// Where they are.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who they are, if they may do what needs `scope`.
    ///
    /// # Errors
    /// What they are told otherwise: whoever looks at a page and is nobody yet is led to where they sign in.
    pub(crate) fn may(self, scope: Scope) -> Result<Caller, Refused> {
        let Self { collector, caller, back, wants_html, .. } = self;
        allowed(&collector, caller, scope).map_err(|error| {
            let could_sign_in =
                error.status() == StatusCode::UNAUTHORIZED && collector.access().has_sessions();
            let page = match back {
                _ if !wants_html => return error.into(),
                Some(back) if could_sign_in => pages::lead_to_sign_in(&back),
                // Whose session ended while they wrote something loses nothing of it.
                None if could_sign_in => pages::refused(&signed_out()),
                _ => pages::refused(&error),
            };
            Refused(Box::new(page))
        })
    }

    /// Who they are, if they may report.
    ///
    /// # Errors
    /// What an agent is told otherwise.
    pub(crate) fn report(self) -> Result<Caller, ApiError> {
        allowed(&self.collector, self.caller, Scope::Report)
    }

    /// Who they are, whatever they may do.
    ///
    /// # Errors
    /// What nobody is told, as [`Self::may`] has it.
    pub(crate) fn known(self) -> Result<Caller, Refused> {
        match &self.caller {
            Ok(caller) => Ok(caller.clone()),
            Err(_) => self.may(Scope::Read),
        }
    }

    /// Who they are, if they may do one of these.
    pub(crate) fn may_either(self, one: Scope, other: Scope) -> Result<Caller, Refused> {
        let scope = if self.caller.as_ref().is_ok_and(|caller| caller.may(other)) { other } else { one };
        self.may(scope)
    }
}

impl FromRequestParts<Collector> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, collector: &Collector) -> Result<Self, Infallible> {
        Ok(Self::of(parts, collector))
    }
}

/// What somebody is told who may not.
pub(crate) struct Refused(Box<Response>);

/// As programs are told.
impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(Box::new(error.into_response()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

#[cfg(test)]
impl Visitor {
    /// Whoever sends `headers` from `address`.
    pub(crate) fn from(address: &str, headers: axum::http::HeaderMap, collector: &Collector) -> Self {
        let (mut parts, ()) = axum::http::Request::new(()).into_parts();
        let address: SocketAddr = address.parse().unwrap();
        parts.headers = headers;
        parts.extensions.insert(ConnectInfo(Peer::from(address)));
        Self::of(&parts, collector)
    }
}

/// Who it is, if they may do what needs `scope`.
fn allowed(
    collector: &Collector,
    caller: Result<Caller, ApiError>,
    scope: Scope,
) -> Result<Caller, ApiError> {
    let allowed = caller.and_then(|caller| caller.require(scope).map(|()| caller));
    allowed.inspect_err(|error| {
        if error.status() == StatusCode::UNAUTHORIZED {
            collector.access().stranger();
        }
    })
}

fn signed_out() -> ApiError {
    let message = "you are not signed in, or not any more; sign in in another window, come back to the page before this \
                   one, and send again what you wrote";
    ApiError::unauthorized(message)
}

/// Asks `question` of whoever sent `parts`.
pub(crate) fn asked<T>(
    parts: &Parts,
    collector: &Collector,
    question: impl FnOnce(&Access, &Asked<'_>) -> T,
) -> T {
    let (peer, url) = (peer(parts), collector.url());
    let (method, headers) = (&parts.method, &parts.headers);
    question(
        collector.access(),
        &Asked { method, headers, peer: &peer, url: url.as_deref(), now: collector.now() },
    )
}

/// Who is at the other end.
fn peer(parts: &Parts) -> Peer {
    // Of a server that does not tell, everybody is nowhere.
    let nowhere = || SocketAddr::from(([0, 0, 0, 0], 0)).into();
    parts.extensions.get::<ConnectInfo<Peer>>().map_or_else(nowhere, |ConnectInfo(peer)| peer.clone())
}

/// A collector in the hands of somebody who may read from it.
pub(crate) struct Readable(pub(crate) Collector);

impl FromRequestParts<Collector> for Readable {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, collector: &Collector) -> Result<Self, Refused> {
        Visitor::of(parts, collector).may(Scope::Read).map(|_| Self(collector.clone()))
    }
}

/// Somebody who may change something.
pub(crate) struct Admin(Caller);

impl Admin {
    /// Who says so; `given` is whom they name, if they do. See [`Caller::author`].
    pub(crate) fn author(&self, given: Option<String>) -> Option<String> {
        self.0.author(given)
    }
}

impl FromRequestParts<Collector> for Admin {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, collector: &Collector) -> Result<Self, Refused> {
        Visitor::of(parts, collector).may(Scope::Admin).map(Self)
    }
}

/// Somebody who asks how the collector is.
pub(crate) struct Onlooker {
    pub(crate) collector: Collector,
    /// Whether they may know more than states: names of files, addresses, and what else stands in errors.
    pub(crate) may_read: bool,
}

impl FromRequestParts<Collector> for Onlooker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, collector: &Collector) -> Result<Self, Refused> {
        let visitor = Visitor::of(parts, collector);
        let may_read = visitor.caller.as_ref().is_ok_and(|caller| caller.may(Scope::Read));
        if collector.access().closes_health() {
            visitor.may(Scope::Read)?;
        }
        Ok(Self { collector: collector.clone(), may_read })
    }
}
