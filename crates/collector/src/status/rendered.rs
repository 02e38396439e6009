//! All forms of the page as bytes, by their paths: what the listener serves and what is written as files are the same bytes,
//! because there is no other way to come by them.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use super::{feed::feed, page, site::Site, v2};
use crate::error::ApiError;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) kind: &'static str,
    pub(crate) bytes: Bytes,
    /// Changes with the bytes.
    pub(crate) tag: String,
}

/// All files, by their paths below the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rendered(BTreeMap<String, File>);

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const ATOM: &str = "application/atom+xml; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

impl Rendered {
    /// All of `site`.
    ///
    /// # Errors
    /// Where a document cannot be written as JSON.
    pub(crate) fn of(site: &Site) -> Result<Self, ApiError> {
        let mut all = Self::default();
        for asset in page::ASSETS.iter() {
            all.add(&asset.path, asset.kind(), asset.content.as_bytes().to_vec());
        }
        for (path, document) in v2::documents(site) {
            let bytes =
                serde_json::to_vec(&document).map_err(|error| ApiError::internal(error.to_string()))?;
            all.add(path, JSON, bytes);
        }
        all.add("feed.atom", ATOM, feed(site, "feed.atom", None).into());
        for component in &site.components {
            let path = format!("components/{}", component.id);
            let atom = format!("{path}.atom");
            all.add(&atom, ATOM, feed(site, &atom, Some(&component.service)).into());
            all.add(&format!("{path}.html"), HTML, page::component(site, component).into());
        }
        for incident in &site.incidents {
            let path = format!("incidents/{}.html", incident.id);
            all.add(&path, HTML, page::incident(site, incident).into());
        }
        all.add("history.html", HTML, page::history(site).into());
        all.add("index.html", HTML, page::index(site).into());
        Ok(all)
    }

    pub(crate) fn add(&mut self, path: &str, kind: &'static str, bytes: Vec<u8>) {
        let hash = digest(&SHA256, &bytes);
        let tag = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.0.insert(path.to_owned(), File { kind, bytes: bytes.into(), tag });
    }

    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.0.get(path)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

impl page::Asset {
    fn kind(&self) -> &'static str {
        match self.path.rsplit_once('.') {
            Some((_, "css")) => CSS,
            Some((_, "js")) => SCRIPT,
            _ => SVG,
        }
    }
}
