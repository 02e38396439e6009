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
    judgement::api::{Said, TEXT_CHARACTERS_MAX, change},
    keeping::ready,
    visitor::Admin,
};

/// The longest form that is read: a text of the longest, each byte written as three.
const FORM_BYTES_MAX: usize = 16 << 10;

/// `POST /incidents/ID/notes`
pub(crate) async fn note(
    State(collector): State<Collector>,
    Path(id): Path<String>,
    Form(Said { by, text }): Form,
) -> Response {
    let noted = async {
        let text = text.ok_or_else(|| {
            ApiError::bad("bad_request", "a note says something: write it, and send it again")
        })?;
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
    let too_large =
        || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "a note is not so long");
    let body = intake::read(body, FORM_BYTES_MAX, too_large).await?;
    let (by, text) = parse(&body)?;
    let by = admin.author(by).ok_or_else(|| ApiError::bad("bad_request", "say who you are: your name"))?;
    Ok(Said { by, text })
}

/// Who says so, and what, as a form has it.
fn parse(form: &[u8]) -> Result<(Option<String>, Option<String>), ApiError> {
    let (mut by, mut text) = (None, None);
    for (name, value) in url::form_urlencoded::parse(form) {
        let value = value.trim();
        if value.chars().count() > TEXT_CHARACTERS_MAX {
            let message = format!("`{name}` has at most {TEXT_CHARACTERS_MAX} characters");
            return Err(ApiError::bad("bad_request", message));
        }
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        match &*name {
            "by" => by = value,
            "text" => text = value,
            _ => {}
        }
    }
    Ok((by, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_who_and_what() {
        let said = |form: &str| parse(form.as_bytes()).map_err(|error| error.message().to_owned());
        let of = |by: Option<&str>, text: Option<&str>| Ok((by.map(str::to_owned), text.map(str::to_owned)));
        assert_eq!(said("by=ada+l&text=the+%3Cswitch%3E"), of(Some("ada l"), Some("the <switch>")));
        assert_eq!(said("by=&text=+&more=x"), of(None, None));
        let long = format!("by=a&text={}", "x".repeat(TEXT_CHARACTERS_MAX + 1));
        assert!(said(&long).unwrap_err().contains("at most 1000 characters"));
    }
}
