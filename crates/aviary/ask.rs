//! Asking a collector's API.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;

/// Where to ask, and as whom.
#[derive(Args, Debug)]
pub(crate) struct Whom {
    /// The collector
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8610", env = "AVIARY_URL")]
    url: Url,

    #[command(flatten)]
    credentials: Credentials,
}

/// The same, of commands that name something else first.
#[derive(Args, Debug)]
pub(crate) struct At {
    /// The collector
    #[arg(
        long = "collector",
        value_name = "URL",
        default_value = "http://127.0.0.1:8610",
        env = "AVIARY_URL"
    )]
    url: Url,

    #[command(flatten)]
    credentials: Credentials,
}

/// As whom to ask, and whom to trust.
#[derive(Args, Debug)]
struct Credentials {
    /// A token, where the collector asks for one: with the scope `read`, or `admin` to change something; better given in
    /// the environment
    #[arg(long, env = "AVIARY_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// PEM certificates to trust beside the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<std::path::PathBuf>,
}

const TIMEOUT: Duration = Duration::from_secs(10);

/// What a collector answers to one question.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    client: reqwest::Client,
    url: Url,
    token: Option<String>,
}

impl Whom {
    /// The collector at `url`, to be asked with `token`.
    pub(crate) const fn new(url: Url, token: Option<String>, ca: Option<std::path::PathBuf>) -> Self {
        Self { url, credentials: Credentials { token, ca } }
    }

    pub(crate) fn asker(&self) -> anyhow::Result<Asker> {
        self.asker_showing(None)
    }

    /// The same, for who shows a certificate with its key.
    pub(crate) fn asker_showing(&self, identity: Option<(&Path, &Path)>) -> anyhow::Result<Asker> {
        self.credentials.asker(&self.url, identity)
    }
}

impl At {
    /// Whether more authorities are trusted than the system's.
    pub(crate) const fn has_ca(&self) -> bool {
        self.credentials.ca.is_some()
    }

    pub(crate) fn asker(&self) -> anyhow::Result<Asker> {
        self.credentials.asker(&self.url, None)
    }
}

impl Credentials {
    fn asker(&self, url: &Url, identity: Option<(&Path, &Path)>) -> anyhow::Result<Asker> {
        let mut extra = Vec::new();
        if let Some(path) = &self.ca {
            extra.push(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        let extra: Vec<&[u8]> = extra.iter().map(Vec::as_slice).collect();
        let roots = aviary_probe::trusted_roots(&extra).context("--ca")?;
        let roots =
            roots.iter().map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        let mut client = reqwest::Client::builder().tls_certs_only(roots).timeout(TIMEOUT).no_proxy();
        if let Some((certificate, key)) = identity {
            let read =
                |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
            let pem = [read(key)?, read(certificate)?].join(b"\n".as_slice());
            client = client.identity(reqwest::Identity::from_pem(&pem).context("--certificate and --key")?);
        }
        let client = client.build()?;
        if self.token.is_some() && url.scheme() == "http" && !is_loopback(url) {
            return Err(anyhow!("{url}: a token would cross the network in the clear; use https://"));
        }
        let mut url = url.clone();
        if !url.path().ends_with('/') {
            let directory = format!("{}/", url.path());
            url.set_path(&directory);
        }
        Ok(Asker { client, url, token: self.token.clone() })
    }
}

impl Asker {
    /// The answer to `GET path` with `parameters`.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let mut url = self.at(path)?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        self.answer(self.client.get(url).header("accept", "application/json")).await
    }

    /// The answer to `POST path` with `body`, which may take as long as it takes.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<T> {
        let request = self.client.post(self.at(path)?).timeout(Duration::MAX);
        self.answer(request.header("content-type", "application/json").body(body.to_string())).await
    }

    /// The answer to `method path` with `body`, which changes something and is done at once.
    pub(crate) async fn tell<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<T> {
        let request = self.client.request(method, self.at(path)?);
        self.answer(request.header("content-type", "application/json").body(body.to_string())).await
    }

    /// What `GET path` answers, as it is.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let body = self.body(self.client.get(self.at(path)?)).await?;
        String::from_utf8(body).with_context(|| self.misunderstood())
    }

    /// The collector's address.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    fn at(&self, path: &str) -> anyhow::Result<Url> {
        self.url.join(path).with_context(|| format!("{} is no collector's address", self.url))
    }

    fn misunderstood(&self) -> String {
        format!("{} does not answer as a collector of this version", self.url)
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
        let body = self.body(request).await?;
        // Where there is nothing to say, nothing is said.
        let body = if body.is_empty() { b"null".as_slice() } else { &body };
        serde_json::from_slice(body).with_context(|| self.misunderstood())
    }

    async fn body(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let unreachable = || format!("cannot reach a collector at {}; is one running there?", self.url);
        let response = request.send().await.with_context(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.with_context(unreachable)?;
        if status.is_success() {
            return Ok(body.into());
        }
        let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let message = said.as_ref().and_then(|said| said["error"]["message"].as_str());
        let hint = if status == reqwest::StatusCode::UNAUTHORIZED { " (set AVIARY_TOKEN)" } else { "" };
        Err(anyhow!("{}: {status}: {}{hint}", self.url, message.unwrap_or("no reason given")))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A runtime for commands that ask and end.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A name as configurations and the API have them: it stands in paths.
pub(crate) fn name(given: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match !given.is_empty() && given.bytes().all(is_good) {
        true => Ok(given.to_owned()),
        false => Err("it is made of A-Z, a-z, 0-9, `_` and `-`".to_owned()),
    }
}
