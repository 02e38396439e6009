//! HTML or JSON, as whoever asks wants it.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use maud::html;

use super::{
    layout,
    page::{Page, Question},
    shown::segment,
};
use crate::{access::Caller, error::ApiError};

/// How much somebody wants `kind`, of a thousand: as `Accept` says it, by its most exact range.
fn wanted(headers: &HeaderMap, kind: &str) -> u32 {
    let whole = kind.split_once('/').map_or("", |(whole, _)| whole);
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let weights = ranges.flat_map(|ranges| ranges.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let exactness = match parts.next()? {
            "*/*" => 1,
            range if range.strip_suffix("/*") == Some(whole) => 2,
            range if range.eq_ignore_ascii_case(kind) => 3,
            _ => return None,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok()).unwrap_or(1.0);
        // Between 0 and 1, as it is to be.
        Some((exactness, (weight.clamp(0.0, 1.0) * 1e3) as u32))
    });
    weights.max_by_key(|(exactness, _)| *exactness).map_or(0, |(_, weight)| weight)
}

/// The page that answers a question, or an error, as HTML or as JSON. Who does not care gets pages as HTML and errors as the
/// API has them.
pub(crate) fn answer(
    headers: &HeaderMap,
    caller: &Caller,
    answered: Result<(Question, Page), ApiError>,
) -> Response {
    let (html, json) = (wanted(headers, "text/html"), wanted(headers, "application/json"));
    let mut response = match answered {
        Ok((_, page)) if json > html => Json(page).into_response(),
        Ok((question, page)) => {
            let live = format!("/live?at={}", segment(&question.address()));
            let document = layout::document(&page.title(), Some(&live), Some(caller), &page.main(caller));
            Html(document.into_string()).into_response()
        }
        Err(error) if html > json => refused_to(Some(caller), &error),
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether whoever asks wants to read the answer themselves.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    wanted(headers, "text/html") > wanted(headers, "application/json")
}

/// An error for people who are nobody here.
pub(crate) fn refused(error: &ApiError) -> Response {
    refused_to(None, error)
}

/// An error for people.
pub(crate) fn refused_to(caller: Option<&Caller>, error: &ApiError) -> Response {
    let title = match error.status() {
        StatusCode::NOT_FOUND => "Nothing is here",
        StatusCode::BAD_REQUEST => "Not understood",
        StatusCode::CONFLICT => "Not any more",
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => "Not allowed",
        _ => "Not now",
    };
    let main = html! {
        h1 { (title) }
        p { (error.message()) }
        p { a href="/" { "To the services" } }
    };
    let mut response =
        (error.status(), Html(layout::document(title, None, caller, &main).into_string())).into_response();
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        // Whoever looks on sees it as soon as it is there, without a script as well.
        response.headers_mut().insert(header::REFRESH, HeaderValue::from_static("2"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_range_says_how_much_something_is_wanted() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let table = [
            (browser, 1_000, 800),
            ("application/json", 0, 1_000),
            ("*/*", 1_000, 1_000),
            ("application/json;q=0.5, text/*;q=0.4", 400, 500),
            ("text/html;q=0, */*", 0, 1_000),
            ("Application/JSON", 0, 1_000),
            ("", 0, 0),
        ];
        for (accept, html, json) in table {
            let headers: HeaderMap = [(header::ACCEPT, accept.parse().unwrap())].into_iter().collect();
            let found = (wanted(&headers, "text/html"), wanted(&headers, "application/json"));
            assert_eq!(found, (html, json), "{accept}");
        }
    }
}
