//! What can be asked for, and what is answered.

use maud::{Markup, html};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::{
    agents::Agents,
    incident::IncidentPage,
    incidents::Incidents,
    overview::Overview,
    runbooks::{RunbookPage, Runbooks},
    service::ServicePage,
    shown::{Shown, segment},
};
use crate::{Collector, access::Caller, error::ApiError};

/// What somebody asks for: a page, and what of it. Those who ask the same are told the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    what: What,
    shown: Shown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Overview,
    Agents,
    Incidents,
    Incident(String),
    Runbooks,
    Runbook(String),
    Service(String),
}

/// A page, gathered.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Page {
    Overview(Box<Overview>),
    Agents(Box<Agents>),
    Incidents(Box<Incidents>),
    Incident(Box<IncidentPage>),
    Runbooks(Box<Runbooks>),
    Runbook(Box<RunbookPage>),
    Service(Box<ServicePage>),
}

impl Question {
    /// Reads a path, and what stands after its question mark.
    pub(crate) fn read(path: &str, parameters: &[(String, String)]) -> Result<Self, ApiError> {
        let decoded = |segment: &str| {
            let decoded = percent_decode_str(segment).decode_utf8();
            decoded.map(String::from).map_err(|_| ApiError::bad_parameter(format!("{path} is no UTF-8")))
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let what = match segments[..] {
            [""] => What::Overview,
            ["agents"] => What::Agents,
            ["incidents"] => What::Incidents,
            ["incidents", id] => What::Incident(decoded(id)?),
            ["runbooks"] => What::Runbooks,
            ["runbooks", name] => What::Runbook(decoded(name)?),
            [service] => What::Service(decoded(service)?),
            _ => {
                let message = format!("{path}: no page is here");
                return Err(ApiError::not_found(message));
            }
        };
        Ok(Self { what, shown: Shown::read(parameters)? })
    }

    /// The address that asks this.
    pub(crate) fn address(&self) -> String {
        let path = match &self.what {
            What::Overview => "/".to_owned(),
            What::Agents => "/agents".to_owned(),
            What::Incidents => "/incidents".to_owned(),
            What::Incident(id) => format!("/incidents/{}", segment(id)),
            What::Runbooks => "/runbooks".to_owned(),
            What::Runbook(name) => format!("/runbooks/{}", segment(name)),
            What::Service(name) => format!("/{}", segment(name)),
        };
        self.shown.at(&path)
    }

    /// Whether what was told is needed to answer it.
    pub(crate) const fn is_of_records(&self) -> bool {
        !matches!(self.what, What::Runbooks | What::Runbook(_))
    }

    /// Answers it. Blocks.
    pub(crate) fn gather(&self, collector: &Collector) -> Result<Page, ApiError> {
        let shown = self.shown;
        Ok(match &self.what {
            What::Overview => Page::Overview(Box::new(Overview::gather(collector, shown)?)),
            What::Agents => Page::Agents(Box::new(Agents::gather(collector, shown))),
            What::Incidents => Page::Incidents(Box::new(Incidents::gather(collector)?)),
            What::Incident(id) => Page::Incident(Box::new(IncidentPage::gather(collector, id, shown)?)),
            What::Runbooks => Page::Runbooks(Box::new(Runbooks::gather())),
            What::Runbook(name) => Page::Runbook(Box::new(RunbookPage::gather(name)?)),
            What::Service(name) => Page::Service(Box::new(ServicePage::gather(collector, name, shown)?)),
        })
    }
}

impl Page {
    /// What it is about.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Overview(page) => page.title(),
            Self::Agents(_) => "Agents".to_owned(),
            Self::Incidents(_) => "Incidents".to_owned(),
            Self::Incident(page) => page.title(),
            Self::Runbooks(_) => "Runbooks".to_owned(),
            Self::Runbook(page) => page.title(),
            Self::Service(page) => page.title(),
        }
    }

    /// What changes from second to second.
    pub(crate) fn changing(&self) -> Markup {
        match self {
            Self::Overview(page) => page.html(),
            Self::Agents(page) => page.html(),
            Self::Incidents(page) => page.html(),
            Self::Incident(page) => page.html(),
            Self::Runbooks(page) => page.html(),
            Self::Runbook(page) => page.html(),
            Self::Service(page) => page.html(),
        }
    }

    /// All of it, for `caller`.
    pub(crate) fn main(&self, caller: &Caller) -> Markup {
        html! {
            div id="changing" { (self.changing()) }
            // What somebody types into is left alone.
            @if let Self::Incident(page) = self { (page.forms(caller)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_question_and_the_other_way_round() {
        let by = |value: &str| vec![("by".to_owned(), value.to_owned())];
        let table = [
            ("/", by("region"), What::Overview, "/"),
            ("/agents", vec![], What::Agents, "/agents"),
            ("/incidents", vec![], What::Incidents, "/incidents"),
            ("/incidents/01J", vec![], What::Incident("01J".to_owned()), "/incidents/01J"),
            ("/runbooks", vec![], What::Runbooks, "/runbooks"),
            ("/runbooks/loss", vec![], What::Runbook("loss".to_owned()), "/runbooks/loss"),
            ("/ingest", by("node"), What::Service("ingest".to_owned()), "/ingest?by=node"),
            ("/a%20b%2Fc", vec![], What::Service("a b/c".to_owned()), "/a%20b%2Fc"),
        ];
        for (path, given, what, address) in table {
            let question = Question::read(path, &given).unwrap();
            assert_eq!((&question.what, question.address().as_str()), (&what, address));
        }
        for path in ["/a/b", "/incidents/1/2", "/%ff"] {
            assert!(Question::read(path, &[]).is_err(), "{path}");
        }
    }
}
