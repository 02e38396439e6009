//! What people say of an incident on its page, without any script: a form that is sent, and the page again.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts as _, Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{negotiate::refused, shown::incident_path};
use crate::{
    Collector,
    error::ApiError,
    intake,
    judgement::api::{PUBLIC_CHARACTERS_MAX, Said, change},
    keeping::ready,
    visitor::Admin,
};

/// The longest form that is read: a text of the longest, each byte written as three.
const FORM_BYTES_MAX: usize = 64 << 10;

/// `POST /incidents/ID/notes`
pub(crate) async fn note(
    State(collector): State<Collector>,
    Path(id): Path<String>,
    Form(said): Form,
) -> Response {
    let noted = async {
        let (text, by) = (said.noted()?, said.by);
        change(collector, &id, move |judgement, id, now| judgement.note(id, &by, &text, now)).await
    };
    seen_again(&id, noted.await.map(|_| ()))
}

/// `POST /incidents/ID/ack`
pub(crate) async fn acknowledge(
    State(collector): State<Collector>,
    Path(id): Path<String>,
    Form(Said { by, .. }): Form,
) -> Response {
    let acknowledged =
        change(collector, &id, move |judgement, id, now| Ok(judgement.acknowledge(id, &by, now)));
    seen_again(&id, acknowledged.await.map(|_| ()))
}

/// `POST /incidents/ID/public/ACT`
pub(crate) async fn public(
    State(collector): State<Collector>,
    Path((id, act)): Path<(String, String)>,
    Form(said): Form,
) -> Response {
    let told = crate::status::tell(&collector, &id, &act, said);
    seen_again(&id, told.await.map(|_| ()))
}

/// The page again, or why not: a form is only ever sent by somebody who looks at one.
fn seen_again(id: &str, done: Result<(), ApiError>) -> Response {
    match done {
        Ok(()) => match HeaderValue::try_from(incident_path(id)) {
            Ok(path) => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
            Err(_) => StatusCode::NO_CONTENT.into_response(),
        },
        Err(error) => refused(&error),
    }
}

/// A form that a page of ours sent for somebody who may change something.
pub(crate) struct Form(Said);

impl FromRequest<Collector> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, collector: &Collector) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let admin = Admin::from_request_parts(&mut parts, collector).await;
        let admin = admin.map_err(IntoResponse::into_response)?;
        let said = read(collector, &admin, body).await;
        said.map(Self).map_err(|error| refused(&error))
    }
}

async fn read(collector: &Collector, admin: &Admin, body: Body) -> Result<Said, ApiError> {
    ready(collector)?;
    let too_large = || ApiError::body_too_large("a note is not so long");
    let body = intake::read(body, FORM_BYTES_MAX, too_large).await?;
    parse(&body, |by| admin.author(by))
}

/// Who says so, as `author` has it, and what, as a form has it.
fn parse(form: &[u8], author: impl FnOnce(Option<String>) -> Option<String>) -> Result<Said, ApiError> {
    let (mut by, mut text, mut title, mut status, mut impact) = (None, None, None, None, None);
    for (name, value) in url::form_urlencoded::parse(form) {
        // A browser ends lines as HTTP does.
        let value = value.trim().replace("\r\n", "\n");
        if value.chars().count() > PUBLIC_CHARACTERS_MAX {
            let message = format!("`{name}` has at most {PUBLIC_CHARACTERS_MAX} characters");
            return Err(ApiError::bad_request(message));
        }
        let value = Some(value).filter(|value| !value.is_empty());
        match &*name {
            "by" => by = value,
            "text" => text = value,
            "title" => title = value,
            "status" => status = value,
            "impact" => impact = value,
            _ => {}
        }
    }
    let by = author(by).ok_or_else(|| ApiError::bad_request("say who you are: your name"))?;
    Ok(Said { by, text, title, status, impact })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_who_and_what() {
        let said = |form: &str, token: Option<&str>| {
            let said = parse(form.as_bytes(), |by| by.or_else(|| token.map(str::to_owned)));
            said.map(|said| (said.by, said.text)).map_err(|error| error.message().to_owned())
        };
        let of = |by: &str, text: Option<&str>| Ok((by.to_owned(), text.map(str::to_owned)));
        assert_eq!(said("by=ada+l&text=the+%3Cswitch%3E", None), of("ada l", Some("the <switch>")));
        assert_eq!(said("by=&text=+", Some("eve")), of("eve", None));
        assert_eq!(said("by=a&text=one%0D%0Atwo", None), of("a", Some("one\ntwo")));
        assert!(said("text=x", None).unwrap_err().contains("say who you are"));
        let long = format!("by=a&text={}", "x".repeat(PUBLIC_CHARACTERS_MAX + 1));
        assert!(said(&long, None).unwrap_err().contains("at most 4000 characters"));
    }
}
