//! The public status page: what customers are told, and what was measured.
//!
//! ```text
//! incidents -> publications (drafts, what was published) \
//! history   -> figures (days, minutes of lossy hours)     > Site -> Rendered -> listener
//! state     -> how each service does now                  /                 \-> directory of files
//! ```
//!
//! | file | says |
//! |---|---|
//! | `index.html` | how all does, what is wrong, ninety days by service and protocol |
//! | `components/ID.html`, `incidents/ID.html`, `history.html` | one service day by day, all that was said of an incident, every incident |
//! | `feed.atom`, `components/ID.atom` | an entry for each thing that was said |
//! | `api/v2/...json` | the shapes that readers of status pages know ([`v2`]) |
//!
//! **Invariants.** All forms are made of one [`Site`], and what is served is what is written ([`rendered`]). What is measured is
//! shown whether or not anybody published anything: a draft holds back words, never a bar or the state of a component. 100 % is
//! said of nothing that was not all measured ([`days`]). No name of a host, node or service as it is configured is shown to
//! customers ([`words`]); a service has a name of its own for that.

mod api;
mod days;
mod feed;
mod figures;
mod files;
mod listener;
mod page;
mod publication;
mod publications;
mod rendered;
mod report;
mod running;
mod site;
mod v2;
mod words;

use std::path::PathBuf;

use aviary_core::Second;

pub use self::running::StatusFigures;
pub(crate) use self::{
    api::{routes, seen, tell},
    publication::{Act, Impact, Publication, Stage, Standing, Status, TITLE_CHARACTERS_MAX, Words},
    publications::{Changed, Publications, Refused, Shown},
    running::Running,
};
use self::{
    days::Counted,
    figures::ServiceFigures,
    publication::Update,
    site::{Component, Maintenance, Site},
};
#[cfg(test)]
pub(crate) use self::{publication::UPDATES_MAX, publications::PUBLICATIONS_MAX};

/// A public status page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPage {
    /// What stands above it.
    pub title: String,
    /// Under which URL customers find it, without a slash at its end: links in the feed and the JSON begin with it.
    pub url: Option<String>,
    /// Whom customers turn to: a line of text.
    pub contact: Option<String>,
    /// Where it is written as files at each change; nowhere, if it is only served.
    pub directory: Option<PathBuf>,
}

impl StatusPage {
    fn url(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    /// The URL of what lies at `path` below the page; relative where the page does not know where it is.
    fn link(&self, path: &str) -> String {
        format!("{}/{path}", self.url())
    }
}

/// What customers know a service as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    /// What they call it; its own name, if nothing is said.
    pub name: Option<String>,
    /// What it is, in a line.
    pub description: Option<String>,
    /// Under which heading it stands.
    pub group: Option<String>,
    /// Who lets them know of its incidents.
    pub publish: Publish,
}

/// Who lets customers know of an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// A person: each incident opens a draft.
    #[default]
    Draft,
    /// A rule, once an incident was there for so many seconds; a person can do so before, and change and add what there is
    /// to say.
    Automatic {
        /// How long.
        after_seconds: u64,
    },
    /// Nobody: customers do not know of this service.
    Hidden,
}

impl ServiceStatus {
    fn is_hidden(&self) -> bool {
        self.publish == Publish::Hidden
    }

    fn automatic_after(&self) -> Option<u64> {
        match self.publish {
            Publish::Automatic { after_seconds } => Some(after_seconds),
            Publish::Draft | Publish::Hidden => None,
        }
    }
}

impl Site {
    fn day(&self, place: usize) -> Second {
        self.from.plus(place as u64 * 86_400)
    }
}

impl Component {
    fn total(&self) -> Counted {
        ServiceFigures::total(&self.figures.days)
    }
}

impl Maintenance {
    fn title(&self, site: &Site) -> String {
        let names: Vec<&str> =
            self.services.iter().filter_map(|service| Some(site.component(service)?.name.as_str())).collect();
        format!("Maintenance: {}", names.join(", "))
    }
}

impl Publication {
    /// What customers can read, oldest first, each with its place; of what was withdrawn only that it was, and why.
    fn public_updates(&self) -> Vec<(usize, &Update)> {
        let skipped = match self.standing {
            Standing::Draft => self.updates.len(),
            Standing::Published => self.public_from,
            Standing::Withdrawn => self.updates.len().saturating_sub(1),
        };
        self.updates.iter().enumerate().skip(skipped).collect()
    }
}

#[cfg(test)]
mod tests;
