//! Where somebody says who they are: `/sign-in` takes a token and gives a cookie, `/sign-out` takes that back.
//!
//! Whoever asks for a page and is nobody yet is led here, and from here to where they wanted to go: an address of this
//! collector, whatever was asked for.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{Html, IntoResponse as _, Response},
};
use maud::{Markup, html};
use url::form_urlencoded;

use super::{layout, negotiate::refused};
use crate::{
    Collector,
    access::{NotSignedIn, refuse_foreign_change},
    api::Parameters,
    error::ApiError,
    intake,
    visitor::{Visitor, asked},
};

/// Where somebody signs in.
pub(crate) const IN: &str = "/sign-in";
/// Where somebody signs out.
pub(crate) const OUT: &str = "/sign-out";

/// The longest address that somebody is led back to, and the longest form with one and a token.
const BACK_BYTES_MAX: usize = 2_000;
const FORM_BYTES_MAX: usize = 16 << 10;

/// Leads somebody who wants to see `back` to where they sign in.
pub(crate) fn lead_to_sign_in(back: &Uri) -> Response {
    let back = back.path_and_query().map_or("/", |it| it.as_str());
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("to", local(back)).finish();
    lead_to(&format!("{IN}?{query}"))
}

/// Where somebody is led who wants to go to `to`: to an address of ours, or else to the first page.
fn local(to: &str) -> &str {
    let rest = to.strip_prefix('/');
    // A browser takes `//host` and `/\host` for another host, and reads over tabs and line breaks to find one.
    let is_ours = rest.is_some_and(|rest| !rest.starts_with('/'))
        && to.len() <= BACK_BYTES_MAX
        && to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && ![IN, OUT].iter().any(|page| to.starts_with(page));
    if is_ours { to } else { "/" }
}

fn lead_to(address: &str) -> Response {
    let address = HeaderValue::try_from(address).unwrap_or(HeaderValue::from_static("/"));
    let headers =
        [(header::LOCATION, address), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// `GET /sign-in`
pub(crate) async fn get(visitor: Visitor, parameters: Result<Parameters, ApiError>) -> Response {
    let given = parameters.map(|Parameters(given)| given).unwrap_or_default();
    let to = given.iter().find(|(key, _)| key == "to").map_or("/", |(_, to)| local(to));
    let access = visitor.collector.access();
    if access.is_open() || !access.has_sessions() {
        let words = if access.is_open() {
            "Nobody needs to sign in: this collector names nobody in its configuration."
        } else {
            "Nobody can sign in here with a token: this collector has none for people. Come by its proxy or with a \
             certificate, or add a [[collector.token]] with the scope read."
        };
        return shown(
            StatusCode::OK,
            &html! { h1 { "Sign in" } p { (words) } p { a href="/" { "To the services" } } },
        );
    }
    shown(StatusCode::OK, &form(to, None))
}

/// `POST /sign-in`
pub(crate) async fn post(State(collector): State<Collector>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match read(&collector, &parts, body).await {
        Ok((token, to)) => {
            let monotonic = collector.monotonic();
            let signed_in =
                asked(&parts, &collector, |access, asked| access.sign_in(asked, &token, monotonic));
            answer(signed_in, &to)
        }
        Err(error) => refused(&error),
    }
}

/// `POST /sign-out`
pub(crate) async fn out(State(collector): State<Collector>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let cookie = asked(&parts, &collector, |access, asked| {
        refuse_foreign_change(asked).map(|()| access.sign_out(asked))
    });
    match cookie {
        Ok(cookie) => with_cookie(lead_to(if collector.access().has_sessions() { IN } else { "/" }), &cookie),
        Err(error) => refused(&error),
    }
}

/// The token, and where to go with it.
async fn read(collector: &Collector, parts: &Parts, body: Body) -> Result<(String, String), ApiError> {
    // Otherwise somebody could be signed in as another, and would tell that one what they do.
    asked(parts, collector, |_, asked| refuse_foreign_change(asked))?;
    let too_large = || ApiError::body_too_large("a token is not so long");
    let body = intake::read(body, FORM_BYTES_MAX, too_large).await?;
    let (mut token, mut to) = (String::new(), "/".to_owned());
    for (name, value) in form_urlencoded::parse(&body) {
        match &*name {
            "token" => token = value.trim().to_owned(),
            "to" => to = local(&value).to_owned(),
            _ => {}
        }
    }
    Ok((token, to))
}

fn answer(signed_in: Result<String, NotSignedIn>, to: &str) -> Response {
    let (status, problem) = match signed_in {
        Ok(cookie) => return with_cookie(lead_to(to), &cookie),
        Err(NotSignedIn::Unknown) => {
            (StatusCode::UNAUTHORIZED, "This is no token of this collector. Is all of it there?".to_owned())
        }
        Err(NotSignedIn::OnlyReports) => {
            let words = "This token is an agent's, to report with. Ask for one with the scope read or admin.";
            (StatusCode::FORBIDDEN, words.to_owned())
        }
        Err(NotSignedIn::TooMany(seconds)) => {
            let words = format!("Too many wrong tokens came from your address. Try again in {seconds} s.");
            let mut response = shown(StatusCode::TOO_MANY_REQUESTS, &form(to, Some(&words)));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return response;
        }
        Err(NotSignedIn::Never) => {
            let message =
                "nobody can sign in here with a token; add a [[collector.token]] with the scope read";
            return refused(&ApiError::no_sessions(message));
        }
    };
    shown(status, &form(to, Some(&problem)))
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// The page, which nobody keeps.
fn shown(status: StatusCode, main: &Markup) -> Response {
    let document = layout::document("Sign in", None, None, main).into_string();
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, headers, Html(document)).into_response()
}

fn form(to: &str, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Sign in" }
        @if let Some(problem) = problem { p.problem id="problem" role="alert" { (problem) } }
        form method="post" action=(IN) {
            input type="hidden" name="to" value=(to);
            // For what keeps passwords: it asks for a name to keep them by.
            input type="text" name="username" value="aviary" autocomplete="username" hidden;
            p {
                label for="token" { "Token" }
                input id="token" name="token" type="password" required autofocus autocomplete="current-password"
                    spellcheck="false" autocapitalize="none"
                    aria-invalid=[problem.map(|_| "true")]
                    aria-describedby=(if problem.is_some() { "problem token-help" } else { "token-help" });
            }
            p.quiet id="token-help" {
                "One of this collector's " code { "[[collector.token]]" } " with the scope " code { "read" } " or "
                code { "admin" } ". You stay signed in for twelve hours."
            }
            p.buttons { button type="submit" { "Sign in" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_host() {
        let ours = ["/", "/incidents/01J", "/ingest?by=node&span=1m", "/a%20b", "/?at=//evil.example"];
        for to in ours {
            assert_eq!(local(to), to);
        }
        let others = [
            "",
            "incidents",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            " //evil.example",
            "/a b",
            "/ä",
            "/sign-in?to=/",
            "/sign-out",
        ];
        for to in others {
            assert_eq!(local(to), "/", "{to}");
        }
        assert_eq!(local(&format!("/{}", "x".repeat(BACK_BYTES_MAX))), "/");
        let led = lead_to_sign_in(&"/ingest?by=node&span=1m".parse().unwrap());
        assert_eq!(led.headers()[header::LOCATION], "/sign-in?to=%2Fingest%3Fby%3Dnode%26span%3D1m");
    }
}
