//! `GET /api/v1/services.toml`: what agents that take their services from this collector are to probe.

use aviary_core::rollout::{NoVersion, Version};
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::{
    Collector,
    access::Scope,
    api::Parameters,
    error::ApiError,
    sums::unknown_parameter,
    visitor::{Refused, Visitor},
};

/// A text with its version.
pub(crate) struct Document {
    text: String,
    version: Version,
    /// The SHA-256 of the text in hexadecimal digits, quoted as an entity tag is.
    tag: HeaderValue,
}

impl Document {
    pub(crate) fn new(text: String) -> Self {
        let hash = digest(&SHA256, text.as_bytes());
        let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let tag =
            HeaderValue::try_from(format!("\"{digits}\"")).expect("digits and quotes are visible ASCII");
        let hash = hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Self { text, version: Version::of_sha256(hash), tag }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Whether whoever sent `headers` has this version already.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_ours =
            |tag: &str| tag == "*" || tag.trim_start_matches("W/").as_bytes() == self.tag.as_bytes();
        given.flat_map(|tags| tags.split(',')).any(|tag| is_ours(tag.trim()))
    }
}

/// Agents may, and whoever may read. Without a `version` it is the active one, for whoever knows no others.
pub(crate) async fn get(
    State(collector): State<Collector>,
    visitor: Visitor,
    Parameters(given): Parameters,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    visitor.may_either(Scope::Report, Scope::Read)?;
    let version = version(&given)?;
    let Some(document) = collector.services_document(version) else {
        if let Some(version) = version {
            let message = format!(
                "there is no version {version} of the services here, or not any more; GET /api/v1/rollout shows which there are"
            );
            return Err(ApiError::unknown_version(message).into());
        }
        let message = "this collector has no services for agents; write its [[service]] sections, or those of \
                       the agent into its own file";
        return Err(ApiError::no_services(message).into());
    };
    let tag = (header::ETAG, document.tag.clone());
    if document.is_known(&headers) {
        return Ok((StatusCode::NOT_MODIFIED, [tag]).into_response());
    }
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/toml"));
    Ok(([tag, kind], document.text.clone()).into_response())
}

/// The version that is asked for.
fn version(given: &[(String, String)]) -> Result<Option<Version>, ApiError> {
    let mut version = None;
    for (key, value) in given {
        if key != "version" {
            return Err(unknown_parameter(key, "version"));
        }
        version = Some(value.parse().map_err(|error: NoVersion| ApiError::bad_parameter(error.to_string()))?);
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use aviary_core::{Clock, Micros, Timestamp};
    use axum::body::to_bytes;

    use super::*;
    use crate::{Limits, Options, SecretHash, TokenRule};

    #[derive(Clone)]
    struct Stopped;

    impl Clock for Stopped {
        fn wall(&self) -> Timestamp {
            Timestamp(1_763_690_400_000_000)
        }

        fn monotonic(&self) -> Micros {
            Micros(0)
        }
    }

    fn headers(token: &str, known: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        if let Some(known) = known {
            headers.insert(header::IF_NONE_MATCH, known.parse().unwrap());
        }
        headers
    }

    async fn ask(text: Option<&str>, headers: HeaderMap) -> Response {
        let rule = |name: &str, scope| TokenRule {
            name: name.to_owned(),
            secret: SecretHash::of(name),
            scopes: vec![scope],
            region: None,
            node: None,
            limits: Limits::FLEET,
        };
        let options = Options {
            tokens: vec![rule("agent", Scope::Report), rule("reader", Scope::Read)],
            services_document: text.map(str::to_owned),
            ..Options::default()
        };
        let collector = Collector::new(options, Stopped).unwrap();
        let visitor = Visitor::from("192.0.2.1:1", headers.clone(), &collector);
        get(State(collector), visitor, Parameters(Vec::new()), headers).await.into_response()
    }

    #[tokio::test]
    async fn agents_get_the_services_once_for_each_version() {
        // printf abc | sha256sum
        let tag = "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
        for token in ["agent", "reader"] {
            let answer = ask(Some("abc"), headers(token, None)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[header::ETAG], tag);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/toml");
            assert_eq!(to_bytes(answer.into_body(), 100).await.unwrap(), "abc");
        }
        for known in [tag, "*", &format!("\"other\", W/{tag}")] {
            let answer = ask(Some("abc"), headers("agent", Some(known))).await;
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(answer.headers()[header::ETAG], tag);
        }
        assert_eq!(ask(Some("abd"), headers("agent", Some(tag))).await.status(), StatusCode::OK);
        assert_eq!(ask(Some("abc"), headers("nobody", None)).await.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(ask(None, headers("agent", None)).await.status(), StatusCode::NOT_FOUND);
    }
}
