//! Whether what a browser sends comes from a page of ours.
//!
//! A browser shows cookies and certificates, and reaches loopback, for whatever page makes it ask. Two questions tell ours from
//! others. **Which page sent it?** A browser says so in `Sec-Fetch-Site` or, where a connection is not to be trusted, in
//! `Origin`, with each POST, and no page can make it say otherwise. That is all that stands between a foreign page and a
//! change, and it is enough: a token in each form would say the same once more, and would have to be kept. **By which name
//! does it know us?** Whoever owns a name can have it lead to 127.0.0.1, and its page is then, for the browser, one of ours.
//! Where nothing but the address lets somebody in, we answer to names that lead nowhere else, and to that in `url`.

use axum::http::{HeaderMap, Method, header};
use url::{Host, Url};

use crate::error::ApiError;

/// Refuses a change that a page of somebody else sent. `url` is under which people reach us, where that is configured.
pub(super) fn refuse_foreign_change(
    method: &Method,
    headers: &HeaderMap,
    url: Option<&str>,
) -> Result<(), ApiError> {
    if method.is_safe() || is_of_our_pages(headers, url) {
        return Ok(());
    }
    let message = "this was sent by a page of somebody else; open the page here, and send it from there";
    Err(ApiError::foreign_form(message))
}

/// Refuses whoever knows us by a name that may be anybody's.
pub(super) fn refuse_foreign_name(headers: &HeaderMap, url: Option<&str>) -> Result<(), ApiError> {
    let Some(authority) = headers.get(header::HOST).map(|value| value.to_str().unwrap_or_default()) else {
        // No browser leaves it out.
        return Ok(());
    };
    if leads_nowhere_else(authority) || url.and_then(of_url).is_some_and(|ours| ours.1 == authority) {
        return Ok(());
    }
    let message = "without tokens this collector answers to its address and to `localhost` alone, since any page could \
                   make a name of its own lead here; ask http://127.0.0.1, set `url` in [collector] to the address that \
                   you use, or add a [[collector.token]]";
    Err(ApiError::foreign_name(message))
}

/// Whether `authority`, as `Host` has it, is an address or `localhost`: no page can make those lead to somebody else's machine.
pub fn leads_nowhere_else(authority: &str) -> bool {
    let parsed = Url::parse(&format!("http://{authority}/"));
    match parsed.as_ref().ok().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    }
}

/// Whether a page of ours sent what has these headers. What says nothing of it is no browser.
fn is_of_our_pages(headers: &HeaderMap, url: Option<&str>) -> bool {
    let said = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (said("sec-fetch-site"), said("origin"), said("host")) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), host) => {
            let ours = url.and_then(of_url).is_some_and(|(origin_of_ours, _)| origin_of_ours == origin);
            // The scheme that a proxy was asked by is not known here.
            ours || origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
        }
        (None, None, _) => true,
    }
}

/// The origin and the authority of `url`, as a browser writes them.
fn of_url(url: &str) -> Option<(String, String)> {
    let origin = Url::parse(url).ok()?.origin().ascii_serialization();
    let authority = origin.split_once("://")?.1.to_owned();
    Some((origin, authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Given<'g> = &'g [(&'g str, &'g str)];

    fn headers(given: Given<'_>) -> HeaderMap {
        given
            .iter()
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_our_own_pages_may_change_something() {
        let url = Some("https://collector.example.net/");
        let table: [(Given<'_>, bool); 10] = [
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "cross-site"), ("host", "a:1"), ("origin", "http://a:1")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("host", "a:1"), ("origin", "http://a:1")], true),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (&[("host", "a:1"), ("origin", "null")], false),
            // Behind a proxy that asks us by another name.
            (&[("host", "10.0.0.9:8610"), ("origin", "https://collector.example.net")], true),
            (&[("host", "10.0.0.9:8610"), ("origin", "http://collector.example.net")], false),
            (&[("host", "a:1")], true),
        ];
        for (given, expected) in table {
            let refused = refuse_foreign_change(&Method::POST, &headers(given), url);
            assert_eq!(refused.is_ok(), expected, "{given:?}");
            assert!(refuse_foreign_change(&Method::GET, &headers(given), url).is_ok(), "{given:?}");
        }
    }

    #[test]
    fn names_that_may_be_anybodys_are_refused() {
        let url = Some("http://collector.example.net:8610");
        let table = [
            ("127.0.0.1:8610", true),
            ("[::1]:8610", true),
            ("192.0.2.7", true),
            ("localhost:8610", true),
            ("LOCALHOST", true),
            ("aviary.localhost:8610", true),
            ("collector.example.net:8610", true),
            ("collector.example.net", false),
            ("evil.example:8610", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("notlocalhost", false),
            ("127.0.0.1@evil.example", false),
            ("", false),
        ];
        for (host, expected) in table {
            assert_eq!(refuse_foreign_name(&headers(&[("host", host)]), url).is_ok(), expected, "{host}");
        }
        assert!(refuse_foreign_name(&HeaderMap::new(), None).is_ok());
    }
}
