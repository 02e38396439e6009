//! `GET /api/v1/services.toml`: what agents that take their services from this collector are to probe.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::{
    Collector, Peer,
    access::{Access, Scope},
    error::ApiError,
};

/// A text with its version.
pub(crate) struct Document {
    text: String,
    /// The SHA-256 of the text in hexadecimal digits, quoted as an entity tag is.
    tag: HeaderValue,
}

impl Document {
    pub(crate) fn new(text: String) -> Self {
        let hash = digest(&SHA256, text.as_bytes());
        let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let tag =
            HeaderValue::try_from(format!("\"{digits}\"")).expect("digits and quotes are visible ASCII");
        Self { text, tag }
    }

    /// Whether whoever sent `headers` has this version already.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_ours =
            |tag: &str| tag == "*" || tag.trim_start_matches("W/").as_bytes() == self.tag.as_bytes();
        given.flat_map(|tags| tags.split(',')).any(|tag| is_ours(tag.trim()))
    }
}

pub(crate) async fn get(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    may_read(collector.access(), &headers, peer.ip())?;
    let Some(document) = collector.services_document() else {
        let message = "this collector has no services for agents; write its [[service]] sections, or those of \
                       the agent into its own file";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no_services", message));
    };
    let tag = (header::ETAG, document.tag.clone());
    if document.is_known(&headers) {
        return Ok((StatusCode::NOT_MODIFIED, [tag]).into_response());
    }
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/toml"));
    Ok(([tag, kind], document.text.clone()).into_response())
}

/// Agents may, and whoever may read.
fn may_read(access: &Access, headers: &HeaderMap, peer: std::net::IpAddr) -> Result<(), ApiError> {
    match access.allow(Scope::Report, headers, peer) {
        Err(error) if error.status() == StatusCode::FORBIDDEN => {
            access.allow(Scope::Read, headers, peer).map(|_| ())
        }
        allowed => allowed.map(|_| ()),
    }
}
