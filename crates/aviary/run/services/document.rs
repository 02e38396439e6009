//! The text of services: as a collector hands it out, and as it is kept beside the agent's own data.

use std::{io, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use aviary_agent::Push;
use aviary_core::rollout::Version;
use reqwest::{StatusCode, Url, header};
use tokio::time::timeout;

use crate::{
    config::{ServicesText, sha256},
    replace::{make_directory_of, replace},
};

/// How long one collector may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest document that is taken: ten thousand endpoints are a tenth of it.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;

/// What stands before the hash in the first line of a copy.
const HEAD: &str = "# sha256 ";

/// Services with their SHA-256, in hexadecimal digits.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) hash: String,
    pub(super) version: Version,
    pub(super) services: ServicesText,
}

impl Document {
    pub(super) fn new(origin: String, text: String) -> Self {
        let hash = sha256(&text);
        let version = Version::of_sha256(&hash);
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { hash, version, services: ServicesText { origin, text } }
    }

    /// What was kept at `copy`, if it is as it was written.
    pub(super) fn kept(copy: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(copy).ok()?;
        let (head, text) = text.split_once('\n')?;
        let hash = head.strip_prefix(HEAD)?;
        let kept = Self::new(format!("services kept in {}", copy.display()), text.to_owned());
        if hash != kept.hash {
            tracing::error!(copy = %copy.display(), "The copy of the services is damaged, and not used.");
            return None;
        }
        Some(kept)
    }

    /// Keeps it at `copy`, whose directory is not there before the first start.
    pub(super) fn keep(&self, copy: &Path) -> io::Result<()> {
        make_directory_of(copy)?;
        replace(copy, format!("{HEAD}{}\n{}", self.hash, self.services.text).as_bytes(), 0o644)
    }
}

/// What is asked for: a version, or whichever is active, unless that is the known one.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) version: Option<Version>,
    /// Its hash.
    pub(super) known: Option<String>,
}

/// Asks each collector until one tells; `None` if that is the known version.
pub(super) async fn fetch(push: Push, wanted: Wanted) -> anyhow::Result<Option<Document>> {
    let client = aviary_agent::http_client(&push)?;
    let mut failed = None;
    for base in &push.collectors {
        match timeout(ANSWER_TIMEOUT, ask(&client, base, &wanted)).await {
            Ok(Ok(told)) => return Ok(told),
            Ok(Err(error)) => failed = Some(error),
            Err(_) => failed = Some(anyhow::anyhow!("{base} does not answer")),
        }
    }
    Err(failed.unwrap_or_else(|| anyhow::anyhow!("no collector is named")))
}

/// What the collector at `base` hands out; `None` if that is the known version.
async fn ask(client: &reqwest::Client, base: &str, wanted: &Wanted) -> anyhow::Result<Option<Document>> {
    let directory = if base.ends_with('/') { base.to_owned() } else { format!("{base}/") };
    let mut url = Url::parse(&directory)?.join("api/v1/services.toml")?;
    if let Some(version) = wanted.version {
        url.query_pairs_mut().append_pair("version", &version.to_string());
    }
    let mut request = client.get(url.clone());
    if let Some(known) = &wanted.known {
        request = request.header(header::IF_NONE_MATCH, format!("\"{known}\""));
    }
    let mut response = request.send().await.with_context(|| format!("cannot ask {url}"))?;
    match response.status() {
        StatusCode::NOT_MODIFIED => return Ok(None),
        StatusCode::OK => {}
        status => bail!("{url} answers {status}"),
    }
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let told = tag.map(|tag| tag.trim_matches('"').to_owned());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(
            body.len() + chunk.len() <= DOCUMENT_BYTES_MAX,
            "{url} tells more than {DOCUMENT_BYTES_MAX} bytes"
        );
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(body).with_context(|| format!("what {url} tells is no text"))?;
    let document = Document::new(format!("services from {base}"), text);
    let is_wanted = wanted.version.is_none_or(|version| version == document.version);
    ensure!(
        told.as_ref() == Some(&document.hash) && is_wanted,
        "what came from {url} is not what it was sent as: its hash differs"
    );
    // A proxy may not know about versions.
    Ok((wanted.known.as_ref() != Some(&document.hash)).then_some(document))
}
