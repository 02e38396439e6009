//! What the API answers when it cannot do what was asked: `{"error":{"code","message","detail"}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::history::HistoryError;

/// A code that an answer may have: what programs tell errors apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// As it stands in the answer.
    pub name: &'static str,
    /// The HTTP status that it comes with.
    pub status: u16,
    /// What it means, and what to do.
    pub meaning: &'static str,
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: &'static str,
    status: StatusCode,
    message: String,
    detail: Option<String>,
    /// After how many seconds to come back, where that is known; some statuses say that there is a time for it.
    retry_after: Option<u64>,
}

/// When to come back, unless something else is known.
const RETRY_AFTER: u64 = 5;

/// Declares each code once: as a way to make such an answer, and as what the reference says of it. There is no other way.
macro_rules! codes {
    ($($name:ident = $status:ident, $meaning:literal;)+) => {
        /// Every code that the API may answer, by name.
        pub static ERROR_CODES: &[ErrorCode] = &[
            $(ErrorCode { name: stringify!($name), status: StatusCode::$status.as_u16(), meaning: $meaning },)+
        ];

        impl ApiError {
            $(
                #[doc = $meaning]
                pub(crate) fn $name(message: impl Into<String>) -> Self {
                    Self {
                        code: stringify!($name),
                        status: StatusCode::$status,
                        message: message.into(),
                        detail: None,
                        retry_after: None,
                    }
                }
            )+
        }
    };
}

codes! {
    backlog = SERVICE_UNAVAILABLE, "More reports wait to be counted than are held. Come back when `Retry-After` says; agents do.";
    bad_encoding = BAD_REQUEST, "The body says that it is gzip, and is not, or was cut.";
    bad_event = BAD_REQUEST, "What is told of a change is no event: `detail` has one.";
    bad_parameter = BAD_REQUEST, "A parameter, or a part of the address, is unknown or has no such value: the message says what would be right.";
    bad_report = BAD_REQUEST, "The body is no report of this version, or contradicts itself. Is it the same version of aviary?";
    bad_request = BAD_REQUEST, "The body is not what is taken here: the message says what is.";
    bad_signature = FORBIDDEN, "A webhook of PagerDuty's is not signed with a secret that is configured. Was the secret changed there?";
    bad_silence = BAD_REQUEST, "What is to be silenced is no silence: `detail` has one.";
    bad_token = BAD_REQUEST, "What is to be made is no token: the message says why.";
    bad_webhook = BAD_REQUEST, "What came to the webhook of PagerDuty's is none of version 3.";
    beyond_history = BAD_REQUEST, "The span reaches beyond what is kept: the message says what is.";
    body_too_large = PAYLOAD_TOO_LARGE, "The body is longer than any that is taken here.";
    busy = SERVICE_UNAVAILABLE, "Too much is asked or told at once, or the collector is ending. Come back when `Retry-After` says.";
    clock_ahead = BAD_REQUEST, "A report is of seconds that have not been yet. Is time synchronised on both hosts?";
    cut_body = BAD_REQUEST, "The connection ended before the body was whole.";
    event_too_large = PAYLOAD_TOO_LARGE, "What is told of a change is longer than any event.";
    expired = UNAUTHORIZED, "The secret that was shown has ended: an admin gives the token another with `aviary token new NAME --rotate`.";
    forbidden = FORBIDDEN, "Whoever asks is known, and may not do this: it takes a token with another scope.";
    forbidden_node = FORBIDDEN, "A report is of another node than its token is for: compare `[vantage]` and `[[collector.token]]`.";
    forbidden_region = FORBIDDEN, "A report is of another region than its token is for: compare `[vantage]` and `[[collector.token]]`.";
    foreign_form = FORBIDDEN, "A browser sent this from a page that is not ours. Where a proxy is in front, does `url` name what people see?";
    foreign_name = FORBIDDEN, "Without tokens a collector answers to its address and to `localhost` alone: add a `[[collector.token]]`, or the name as `url`.";
    history_unreadable = INTERNAL_SERVER_ERROR, "What is kept on the disk cannot be read: the message and the log say why.";
    incidents_unreadable = INTERNAL_SERVER_ERROR, "Incidents that are kept cannot be read: the message and the log say why.";
    internal = INTERNAL_SERVER_ERROR, "An error of ours: the log says more. Keep it, and tell us.";
    method_not_allowed = METHOD_NOT_ALLOWED, "The address is right, and takes another method.";
    no_rollout = CONFLICT, "There is no rollout that could be forced, broken off or begun again: the message says what there is.";
    no_services = NOT_FOUND, "This collector has no `[[service]]` to hand out to agents.";
    no_sessions = CONFLICT, "Nobody can sign in here: add a `[[collector.token]]` with the scope `read`.";
    no_store = CONFLICT, "This collector keeps everything in memory: `data` in `[collector]` gives it a store.";
    not_active = CONFLICT, "The incident is over, or nobody was told of it yet.";
    not_copied = INTERNAL_SERVER_ERROR, "The store could not be copied: the message says why. Is the path free, absolute, and on this host?";
    not_found = NOT_FOUND, "Nothing is at that address.";
    not_judged = SERVICE_UNAVAILABLE, "Nothing was judged yet, or not lately, so that there is no advice. Keep to what you were told last, and come back when `Retry-After` says.";
    not_kept = SERVICE_UNAVAILABLE, "What was told is not on the disk: is it full? Agents keep it and tell it again.";
    not_published = CONFLICT, "What is to be changed of the status page is not published, or is withdrawn: the message says which.";
    not_ready = SERVICE_UNAVAILABLE, "The collector takes up what it kept. Come back when `Retry-After` says.";
    not_steered = NOT_FOUND, "The nodes of this service are not steered: it has no `[service.rotation]`, or its mode is `off`.";
    report_too_large = PAYLOAD_TOO_LARGE, "A report is longer than any that is taken, packed or unpacked.";
    slow_body = SERVICE_UNAVAILABLE, "The body took too long to come.";
    token_configured = CONFLICT, "The token stands in the collector's configuration: change it there.";
    token_refused = CONFLICT, "There is such a token already, or there are as many as may be: the message says which.";
    token_too_large = PAYLOAD_TOO_LARGE, "What is told of a token is longer than any.";
    too_fast = TOO_MANY_REQUESTS, "The token's limit on reports, slots or bytes is reached. Come back when `Retry-After` says; see `[[collector.token]]`.";
    too_large_for_token = PAYLOAD_TOO_LARGE, "The report alone is over the token's limit, so that it can never be taken: see `[[collector.token]]`.";
    too_many_series = TOO_MANY_REQUESTS, "The token, or this collector, has as many series as it may have.";
    too_many_views = SERVICE_UNAVAILABLE, "As many different pages are looked at live as are rendered. The page itself is shown all the same.";
    unauthorized = UNAUTHORIZED, "Whoever asks is nobody here: send `Authorization: Bearer` with a token, or sign in.";
    unknown_encoding = UNSUPPORTED_MEDIA_TYPE, "The body is packed otherwise than by gzip.";
    unknown_incident = NOT_FOUND, "No incident that is kept has this id.";
    unknown_receiver = NOT_FOUND, "No `[[receiver]]` has this name.";
    unknown_roster = BAD_REQUEST, "A report refers to a roster that the collector does not know: agents send it at once, and nothing is amiss.";
    unknown_service = NOT_FOUND, "No service has this name.";
    unknown_silence = NOT_FOUND, "No silence that is held has this id, or it has ended.";
    unknown_test = NOT_FOUND, "No test page has this id: it is over, or the collector began anew.";
    unknown_token = NOT_FOUND, "No token that was made while the collector ran has this name, or it has no older secret.";
    unknown_version = NOT_FOUND, "The collector has no such version of its services, or not any more: `aviary rollout status` shows which there are.";
    unsupported_version = BAD_REQUEST, "A report is of a version that this collector does not take: the message says which it takes, and which side to upgrade. Agents keep their reports, and come back when `Retry-After` says.";
    webhook_too_large = PAYLOAD_TOO_LARGE, "The body is longer than any webhook of PagerDuty's.";
}

impl ApiError {
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says after how many seconds to come back.
    pub(crate) const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        tracing::error!(%error, "A question about history could not be answered.");
        Self::history_unreadable(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message, "detail": self.detail}});
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let has_time = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if let Some(seconds) = self.retry_after.or_else(|| has_time.then_some(RETRY_AFTER)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_declared_once_and_comes_with_its_status() {
        assert!(ERROR_CODES.is_sorted_by(|one, next| one.name < next.name));
        let (busy, found) =
            (ApiError::busy("later"), |name| ERROR_CODES.iter().find(|code| code.name == name));
        assert_eq!(found(busy.code()).map(|code| code.status), Some(busy.status().as_u16()));
        let response = busy.retry_after(9).into_response();
        assert_eq!(
            (response.status(), &response.headers()[header::RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from(9))
        );
    }
}
