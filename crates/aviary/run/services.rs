//! The services that a collector hands out: fetched, verified, and kept for a start without it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use aviary_agent::Push;
use reqwest::{StatusCode, Url, header};
use tokio::time::{sleep, timeout};

use crate::config::ServicesText;

/// How often a collector is asked whether its services have changed.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// How long one collector may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest document that is taken: ten thousand endpoints are a tenth of it.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;

/// The name of the copy in the agent's directory.
const COPY: &str = "services.toml";

/// What stands before the hash in the first line of the copy.
const HEAD: &str = "# sha256 ";

/// The services of a collector, of which the newest good version is known.
pub(super) struct Services {
    push: Push,
    copy: Option<PathBuf>,
    known: Option<(String, ServicesText)>,
}

impl Services {
    /// Services that the collectors of `push` hand out, with their copy in `directory`.
    pub(super) fn new(push: Push, directory: Option<&Path>) -> Self {
        Self { push, copy: directory.map(|it| it.join(COPY)), known: None }
    }

    /// The services as a collector tells them now; where none does, as it told them last.
    pub(super) async fn at_start(&mut self) -> Option<ServicesText> {
        match self.fetch().await {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(reason = format!("{error:#}"), "No collector tells the services.");
                self.known = self.read_copy();
            }
        }
        self.current()
    }

    /// The services that are known.
    pub(super) fn current(&self) -> Option<ServicesText> {
        self.known.as_ref().map(|(_, text)| text.clone())
    }

    /// Waits until a collector tells other services than are known.
    pub(super) async fn changed(&mut self) {
        let mut is_told = false;
        loop {
            sleep(ASK_EVERY).await;
            match self.fetch().await {
                Ok(true) => return,
                Ok(false) => is_told = false,
                Err(error) if !std::mem::replace(&mut is_told, true) => {
                    tracing::warn!(
                        reason = format!("{error:#}"),
                        "No collector tells the services; they stay as they are."
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Asks other collectors from now on, or with other credentials.
    pub(super) fn redirect(&mut self, push: Push) {
        self.push = push;
    }

    /// What was fetched is good: it is kept for a start without a collector.
    pub(super) fn keep(&self) {
        let (Some(copy), Some((hash, services))) = (&self.copy, &self.known) else { return };
        if let Err(error) = write(copy, hash, &services.text) {
            tracing::error!(
                reason = format!("{error:#}"),
                "The services are not kept for a start without a collector."
            );
        }
    }

    /// Asks each collector until one tells; returns whether the services are others than were known.
    async fn fetch(&mut self) -> anyhow::Result<bool> {
        let client = aviary_agent::http_client(&self.push)?;
        let mut failed = None;
        for base in &self.push.collectors {
            let known = self.known.as_ref().map(|(hash, _)| hash.as_str());
            match timeout(ANSWER_TIMEOUT, ask(&client, base, known)).await {
                Ok(Ok(None)) => return Ok(false),
                Ok(Ok(Some((hash, text)))) => {
                    let origin = format!("services from {base}");
                    self.known = Some((hash, ServicesText { origin, text }));
                    return Ok(true);
                }
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(anyhow::anyhow!("{base} does not answer")),
            }
        }
        Err(failed.unwrap_or_else(|| anyhow::anyhow!("no collector is named")))
    }

    fn read_copy(&self) -> Option<(String, ServicesText)> {
        let copy = self.copy.as_ref()?;
        let text = std::fs::read_to_string(copy).ok()?;
        let (head, text) = text.split_once('\n')?;
        let hash = head.strip_prefix(HEAD)?;
        if hash != sha256(text) {
            tracing::error!(copy = %copy.display(), "The copy of the services is damaged, and not used.");
            return None;
        }
        let origin = format!("services kept in {}", copy.display());
        Some((hash.to_owned(), ServicesText { origin, text: text.to_owned() }))
    }
}

/// What the collector at `base` hands out, with its hash; `None` if that is `known`.
async fn ask(
    client: &reqwest::Client,
    base: &str,
    known: Option<&str>,
) -> anyhow::Result<Option<(String, String)>> {
    let directory = if base.ends_with('/') { base.to_owned() } else { format!("{base}/") };
    let url = Url::parse(&directory)?.join("api/v1/services.toml")?;
    let mut request = client.get(url.clone());
    if let Some(known) = known {
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
    let hash = sha256(&text);
    ensure!(
        told.as_ref() == Some(&hash),
        "what came from {url} is not what it was sent as: its hash differs"
    );
    // A proxy may not know about versions.
    Ok((known != Some(hash.as_str())).then_some((hash, text)))
}

fn write(copy: &Path, hash: &str, text: &str) -> anyhow::Result<()> {
    let directory = copy.parent().context("the copy has no directory")?;
    let next = directory.join(format!("{COPY}.new"));
    let mut file =
        std::fs::File::create(&next).with_context(|| format!("cannot write {}", next.display()))?;
    write!(file, "{HEAD}{hash}\n{text}")?;
    file.sync_all()?;
    std::fs::rename(&next, copy).with_context(|| format!("cannot replace {}", copy.display()))
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_used_only_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let text = "[[service]]\nname = \"ingest\"\n";
        let mut services = Services::new(Push::default(), Some(directory.path()));
        assert!(services.read_copy().is_none());
        let origin = "services from http://127.0.0.1:1".to_owned();
        services.known = Some((sha256(text), ServicesText { origin, text: text.to_owned() }));
        services.keep();
        let (hash, kept) = services.read_copy().unwrap();
        assert_eq!((hash, kept.text.as_str()), (sha256(text), text));
        let path = directory.path().join(COPY);
        let damaged = std::fs::read_to_string(&path).unwrap().replace("ingest", "digest");
        std::fs::write(&path, damaged).unwrap();
        assert!(services.read_copy().is_none());
    }
}
