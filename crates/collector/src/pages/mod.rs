//! The operator's pages: whether it is us, one region or one protocol, since when, and how much.
//!
//! ```text
//! address -> Question -> gather (blocks) -> Page: Serialize -> JSON
//!                                              \-> HTML, whole, or the part of it that changes, once a second
//! ```
//!
//! | address | shows |
//! |---|---|
//! | `/` | every service, the worst first; the matrix and the chart of all |
//! | `/SERVICE` | one service: its parts, phases and series |
//! | `/agents` | the fleet |
//! | `/incidents`, `/incidents/ID` | what was wrong, and the whole record of one |
//! | `/runbooks`, `/runbooks/NAME` | what to do when a page comes |
//! | `/live?at=ADDRESS` | what changes of a page, each second, as server-sent events |
//! | `/sign-in`, `/sign-out` | where somebody says who they are, see [`sign_in`] |
//! | `/assets/NAME` | style, script and icon |
//!
//! **Invariants.** A page is gathered into a value that is rendered as HTML and as JSON, so that both say the same. A page is
//! complete without script. Whatever is shown of others is escaped by the template. What changes is rendered once for
//! all who look at the same, and nobody who looks can slow anybody: see [`Live`].

mod agents;
mod assets;
mod chart;
mod form;
mod incident;
mod incidents;
mod layout;
mod live;
mod matrix;
mod negotiate;
mod overview;
mod page;
mod runbooks;
mod series;
mod service;
mod shown;
mod sign_in;
mod timings;
mod words;

#[cfg(test)]
mod tests;

use axum::{
    Extension, Router,
    extract::Request,
    http::{HeaderMap, HeaderValue, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::sync::watch;
use tower_http::compression::CompressionLayer;

pub use self::live::LiveFigures;
use self::page::{Page, Question};
pub(crate) use self::{
    live::Live,
    negotiate::{refused, wants_html},
    sign_in::lead_to_sign_in,
};
use crate::{Collector, access::Scope, api::Parameters, error::ApiError, keeping::ready, visitor::Visitor};

/// Nothing is loaded from elsewhere, nothing stands in the page itself that runs, and nobody puts it into a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The pages; those who watch them change are told nothing more once `stopped`.
pub(crate) fn routes(stopped: watch::Receiver<bool>) -> Router<Collector> {
    Router::new()
        .route("/", get(page))
        .route("/agents", get(page))
        .route("/incidents", get(page))
        .route("/incidents/{id}", get(page))
        .route("/incidents/{id}/ack", post(form::acknowledge))
        .route("/incidents/{id}/notes", post(form::note))
        .route("/incidents/{id}/public/{act}", post(form::public))
        .route("/runbooks", get(page))
        .route("/runbooks/{name}", get(page))
        .route("/{service}", get(page))
        .route(sign_in::IN, get(sign_in::get).post(sign_in::post))
        .route(sign_in::OUT, post(sign_in::out))
        .route("/live", get(live::get))
        .route("/assets/{name}", get(assets::get))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(guarded))
        .layer(Extension(live::Stopped(stopped)))
}

/// What a browser is told of each answer here.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Any page, as whoever asks wants it.
async fn page(
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
    parameters: Result<Parameters, ApiError>,
) -> Response {
    let collector = visitor.collector.clone();
    let caller = match visitor.may(Scope::Read) {
        Ok(caller) => caller,
        Err(refused) => return refused.into_response(),
    };
    let asked = parameters.and_then(|Parameters(given)| Question::read(uri.path(), &given));
    // What to do while it is not ready is to be read then.
    let asked = asked.and_then(|question| match question.is_of_records() {
        true => ready(&collector).map(|()| question),
        false => Ok(question),
    });
    let answered = match asked {
        Ok(question) => gathered(&collector, &question).await.map(|page| (question, page)),
        Err(error) => Err(error),
    };
    negotiate::answer(&headers, &caller, answered)
}

/// The page that answers `question`, made on a thread that may wait.
async fn gathered(collector: &Collector, question: &Question) -> Result<Page, ApiError> {
    let place = collector.question().ok_or_else(|| {
        let message = "more questions are asked than can be answered at once; come back in a moment";
        ApiError::busy(message)
    })?;
    let (collector, question) = (collector.clone(), question.clone());
    let page = tokio::task::spawn_blocking(move || {
        let _place = place;
        question.gather(&collector)
    });
    page.await.map_err(|error| ApiError::internal(error.to_string()))?
}
