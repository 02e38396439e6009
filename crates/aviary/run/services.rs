//! The services that a collector hands out: fetched, verified, and kept for a start without it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use aviary_agent::Push;
use reqwest::{StatusCode, Url, header};
use tokio::{
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use crate::{
    config::ServicesText,
    replace::{make_directory_of, replace},
};

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

/// A document of services, with its hash.
type Version = (String, ServicesText);

/// The services of a collector: those that are probed, and what it tells that is not taken on yet.
pub(super) struct Services {
    push: Push,
    copy: Option<PathBuf>,
    /// What is probed.
    known: Option<Version>,
    /// What the collector tells now, to be taken on or refused.
    offered: Option<Version>,
    /// The hash of what could not be taken on, which is not asked for again, and why.
    refused: Option<(String, String)>,
    asks: Interval,
    /// A question that is under way: it is not begun anew when whoever waits for it turns to something else.
    asking: Option<JoinHandle<anyhow::Result<Option<Version>>>>,
    /// That nobody answers was said.
    is_told: bool,
}

impl Services {
    /// Services that the collectors of `push` hand out, with their copy in `directory`.
    pub(super) fn new(push: Push, directory: Option<&Path>) -> Self {
        let mut asks = interval(ASK_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        asks.reset();
        Self {
            push,
            copy: directory.map(|it| it.join(COPY)),
            known: None,
            offered: None,
            refused: None,
            asks,
            asking: None,
            is_told: false,
        }
    }

    /// Asks for the services once, and offers them; says so where nobody tells them.
    pub(super) async fn ask_once(&mut self) {
        match fetch(self.push.clone(), None).await {
            Ok(offered) => self.offered = offered,
            Err(error) => {
                tracing::warn!(reason = format!("{error:#}"), "No collector tells the services.");
                self.is_told = true;
            }
        }
    }

    /// Offers the services that were kept, if any were.
    pub(super) fn offer_copy(&mut self) {
        self.offered = self.read_copy();
    }

    /// What is to be probed: what the collector offers, or else what it told before.
    pub(super) fn current(&self) -> Option<ServicesText> {
        self.offered.as_ref().or(self.known.as_ref()).map(|(_, text)| text.clone())
    }

    /// What is [`Self::current`] was taken on: it is kept for a start without a collector.
    pub(super) fn accept(&mut self) {
        let Some(offered) = self.offered.take() else {
            // Something else has changed here: what was refused may be usable now.
            if let Some((hash, _)) = &mut self.refused {
                hash.clear();
            }
            return;
        };
        let (hash, services) = self.known.insert(offered);
        self.refused = None;
        let Some(copy) = &self.copy else { return };
        if let Err(error) = write(copy, hash, &services.text) {
            tracing::error!(
                reason = %error,
                "The services are not kept for a start without a collector."
            );
        }
    }

    /// What is offered, if anything is, cannot be taken on, which is `why`; what was known stands.
    pub(super) fn refuse(&mut self, why: &str) {
        if let Some((hash, _)) = self.offered.take() {
            self.refused = Some((hash, why.to_owned()));
        }
    }

    /// Why what the collector tells now is not taken on.
    pub(super) fn why_refused(&self) -> Option<&str> {
        self.refused.as_ref().map(|(_, why)| why.as_str())
    }

    /// Waits until a collector tells other services than are known. Given up and asked again, it goes on where it was.
    pub(super) async fn changed(&mut self) {
        loop {
            if self.asking.is_none() {
                self.asks.tick().await;
                let newest = self.refused.as_ref().map(|(hash, _)| hash);
                let newest = newest.or_else(|| self.known.as_ref().map(|(hash, _)| hash)).cloned();
                self.asking = Some(tokio::spawn(fetch(self.push.clone(), newest)));
            }
            let Some(asking) = &mut self.asking else { continue };
            let answer = asking.await;
            self.asking = None;
            match answer.map_err(anyhow::Error::from).flatten() {
                Ok(Some(offered)) => {
                    self.offered = Some(offered);
                    self.is_told = false;
                    return;
                }
                Ok(None) => self.is_told = false,
                Err(error) if !std::mem::replace(&mut self.is_told, true) => {
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

    fn read_copy(&self) -> Option<Version> {
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

/// Asks each collector until one tells; `None` if that is the `known` version.
async fn fetch(push: Push, known: Option<String>) -> anyhow::Result<Option<Version>> {
    let client = aviary_agent::http_client(&push)?;
    let mut failed = None;
    for base in &push.collectors {
        match timeout(ANSWER_TIMEOUT, ask(&client, base, known.as_deref())).await {
            Ok(Ok(told)) => {
                let origin = format!("services from {base}");
                return Ok(told.map(|(hash, text)| (hash, ServicesText { origin, text })));
            }
            Ok(Err(error)) => failed = Some(error),
            Err(_) => failed = Some(anyhow::anyhow!("{base} does not answer")),
        }
    }
    Err(failed.unwrap_or_else(|| anyhow::anyhow!("no collector is named")))
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

fn write(copy: &Path, hash: &str, text: &str) -> io::Result<()> {
    // At the first start it is not there yet.
    make_directory_of(copy)?;
    replace(copy, format!("{HEAD}{hash}\n{text}").as_bytes(), 0o644)
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        let origin = "services from http://127.0.0.1:1".to_owned();
        (sha256(text), ServicesText { origin, text: text.to_owned() })
    }

    fn current(services: &Services) -> Option<String> {
        services.current().map(|it| it.text)
    }

    #[tokio::test]
    async fn the_copy_is_used_only_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("made").join("anew");
        let text = "[[service]]\nname = \"ingest\"\n";
        let mut services = Services::new(Push::default(), Some(&directory));
        assert!(services.read_copy().is_none());
        services.offered = Some(version(text));
        services.accept();
        let (hash, kept) = services.read_copy().unwrap();
        assert_eq!((hash, kept.text.as_str()), (sha256(text), text));
        let path = directory.join(COPY);
        let damaged = std::fs::read_to_string(&path).unwrap().replace("ingest", "digest");
        std::fs::write(&path, damaged).unwrap();
        assert!(services.read_copy().is_none());
    }

    #[tokio::test]
    async fn what_was_refused_neither_runs_nor_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut services = Services::new(Push::default(), Some(directory.path()));
        services.offered = Some(version("good"));
        services.accept();
        services.offered = Some(version("bad"));
        assert_eq!(current(&services).as_deref(), Some("bad"));
        services.refuse("line 1");
        assert_eq!(
            (current(&services).as_deref(), services.why_refused()),
            (Some("good"), Some("line 1")),
            "a reload of the agent's own file goes on with what was good"
        );
        assert_eq!(services.read_copy().unwrap().1.text, "good");
        services.accept();
        assert_eq!(services.why_refused(), Some("line 1"), "until the collector tells something else");
        assert_ne!(services.refused.as_ref().unwrap().0, sha256("bad"), "which it is asked for again");
        services.offered = Some(version("better"));
        services.accept();
        assert_eq!((current(&services).as_deref(), services.why_refused()), (Some("better"), None));
    }
}
