//! HTTP as readers need it: a question by POST, an answer of bounded size within a bounded time, from nowhere else.

use std::{sync::Arc, time::Duration};

use aviary_probe::TlsError;
use reqwest::{Url, header};

use super::{
    Credentials, Readback,
    reader::{Unreadable, refused},
};

/// How long one request may take. graphite-web itself gives up after six seconds; whoever takes three is not well.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Where `{key}` stood in a path, as URLs write it.
const KEY_PLACE: &str = "%7Bkey%7D";

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// Certificates to trust that are none.
    #[error("service.readback.ca: {0}")]
    Certificates(#[from] TlsError),
    /// Credentials that no header or path can carry.
    #[error("service.readback: the credentials have characters that no request can carry")]
    Credentials,
    /// The client could not be made.
    #[error("service.readback: the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// Talks to one API.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    credentials: Credentials,
    /// The address as it may be shown: a key may stand in the path.
    at: Arc<str>,
}

impl Client {
    pub(crate) fn new(options: &Readback) -> Result<Self, SetUpError> {
        let roots = aviary_probe::trusted_roots(options.ca.as_deref().as_slice())?;
        let roots =
            roots.iter().map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        let http = reqwest::Client::builder()
            .tls_certs_only(roots)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let mut base = options.url.clone();
        let at = base.origin().ascii_serialization().into();
        if let Credentials::InPath(key) = &options.credentials {
            // A key is one part of a path, and leads nowhere else.
            if key.is_empty()
                || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            {
                return Err(SetUpError::Credentials);
            }
            base.set_path(&base.path().replace(KEY_PLACE, key));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { http, base, credentials: options.credentials.clone(), at })
    }

    /// The address as it may be shown.
    pub(crate) fn at(&self) -> Arc<str> {
        Arc::clone(&self.at)
    }

    /// The body of the answer to `form` at `path`, of at most `limit` bytes.
    pub(crate) async fn post(&self, path: &str, form: String, limit: usize) -> Result<Vec<u8>, Unreadable> {
        let unusable = |reason: String| Unreadable::Unreachable { at: self.at(), reason };
        let url = self.base.join(path).map_err(|error| unusable(error.to_string()))?;
        let request = self.http.post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = match &self.credentials {
            Credentials::Bearer(token) => request.bearer_auth(token),
            Credentials::Basic(user, password) => request.basic_auth(user, Some(password)),
            Credentials::None | Credentials::InPath(_) => request,
        };
        let mut response = request.body(form).send().await.map_err(|error| self.failed(&error))?;
        let status = response.status();
        if status != reqwest::StatusCode::OK {
            return Err(refused(self.at(), status.as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(Unreadable::TooLarge { at: self.at(), limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The error in words that show neither path nor credentials.
    fn failed(&self, error: &reqwest::Error) -> Unreadable {
        if error.is_timeout() {
            return Unreadable::Timeout { at: self.at(), seconds: TIMEOUT.as_secs() };
        }
        let mut source: &(dyn std::error::Error + 'static) = error;
        while let Some(deeper) = source.source() {
            source = deeper;
        }
        // reqwest's own words name the URL, and so the key; those at the bottom do not.
        let reason = match source.downcast_ref::<reqwest::Error>() {
            Some(_) => "the connection failed".to_owned(),
            None => source.to_string(),
        };
        Unreadable::Unreachable { at: self.at(), reason }
    }
}
