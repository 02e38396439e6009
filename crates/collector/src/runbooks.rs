//! What to do when a page comes: the files of `docs/runbooks`, compiled in, so that a page's link leads somewhere even when all
//! else is down.

use aviary_core::{
    extent::Blame,
    incident::{Cause, Part},
};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runbook {
    /// Its file's, and the last part of its address.
    pub(crate) name: &'static str,
    /// In Markdown.
    pub(crate) text: &'static str,
}

impl Runbook {
    /// What it is called: its first line, which is a heading.
    pub(crate) fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

macro_rules! runbooks {
    ($($name:literal)*) => {
        [$(Runbook {
            name: $name,
            text: include_str!(concat!("../../../docs/runbooks/", $name, ".md")),
        }),*]
    };
}

/// All of them, by name.
pub(crate) static ALL: [Runbook; 32] = runbooks![
    "advice-not-taken" "agent-clock-off" "agent-not-ready" "agent-skips" "agent-suspects-itself" "agents-silent"
    "certificate-ends" "collector-not-ready" "configuration-refused" "credential-ends" "disk-slow"
    "ejection-refused" "fallback" "files-run-out" "history-incomplete" "journal-refuses" "judges-slowly"
    "loss" "metrics-cut" "never-worked" "node-ejected" "not-scraped" "pages-refused" "pages-wait"
    "reader-lags" "reports-refused" "rollout-held" "service-blind" "slow" "spool-grows" "spool-not-on-disk"
    "watchdog-silent"
];

/// Where it is written what to do about `part` of an incident of this cause: in the service's own runbook, unless it is about
/// us, or else in ours, at the collector that is reached under `collector`.
pub(crate) fn of(cause: &Cause, part: &Part, collector: Option<&str>) -> Option<String> {
    let theirs = part.policy.runbook.clone().filter(|_| !is_about_us(cause));
    theirs.or_else(|| Some(link(collector?, about(cause, part.blame))))
}

/// The name of what helps with an incident of this cause, which looks like the fault of these.
const fn about(cause: &Cause, blame: Blame) -> &'static str {
    match cause {
        Cause::Loss | Cause::Optional { .. } | Cause::Storm => "loss",
        Cause::Blind { .. } if matches!(blame, Blame::Reader) => "reader-lags",
        Cause::Blind { .. } => "service-blind",
        Cause::SilentRegion { .. } => "agents-silent",
        Cause::SickAgent { .. } => "agent-suspects-itself",
        Cause::NeverWorked { .. } => "never-worked",
        Cause::Slow { .. } => "slow",
        Cause::Certificate { .. } => "certificate-ends",
        Cause::NotEjected { .. } => "ejection-refused",
        Cause::Ejected { .. } => "node-ejected",
    }
}

/// Whether it is us who need help, and a service's own runbook says nothing of that.
const fn is_about_us(cause: &Cause) -> bool {
    matches!(cause, Cause::Blind { .. } | Cause::SilentRegion { .. } | Cause::SickAgent { .. })
}

/// Where the one called `name` is read at the collector that is reached under `collector`.
pub fn link(collector: &str, name: &str) -> String {
    format!("{}/runbooks/{name}", collector.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use aviary_core::Phase;

    use super::*;

    #[test]
    fn every_file_is_compiled_in_and_found_by_its_name() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks");
        let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
        let files: BTreeSet<String> = files.map(|file| file.into_string().unwrap()).collect();
        let known: Vec<String> = ALL.iter().map(|it| format!("{}.md", it.name)).collect();
        assert!(known.is_sorted());
        assert_eq!(known.into_iter().collect::<BTreeSet<_>>(), files);
    }

    #[test]
    fn every_cause_has_one() {
        let (service, endpoint) = ("a".to_owned(), "tcp://h:1".to_owned());
        let table = [
            (Cause::Loss, Blame::Service, "loss", false),
            (Cause::Storm, Blame::Unclear, "loss", false),
            (
                Cause::Optional { service: service.clone(), endpoint: endpoint.clone() },
                Blame::Unclear,
                "loss",
                false,
            ),
            (Cause::Blind { service: service.clone() }, Blame::Unclear, "service-blind", true),
            (Cause::Blind { service: service.clone() }, Blame::Reader, "reader-lags", true),
            (Cause::SilentRegion { region: "eu".to_owned() }, Blame::Unclear, "agents-silent", true),
            (Cause::SickAgent { node: "n".to_owned() }, Blame::Source, "agent-suspects-itself", true),
            (Cause::Slow { service: service.clone(), phase: Phase::Tls }, Blame::Unclear, "slow", false),
            (
                Cause::NeverWorked { service: service.clone(), endpoint: endpoint.clone() },
                Blame::Unclear,
                "never-worked",
                false,
            ),
            (Cause::NotEjected { service: service.clone() }, Blame::Unclear, "ejection-refused", false),
            (
                Cause::Ejected { service: service.clone(), node: "n".to_owned() },
                Blame::Service,
                "node-ejected",
                false,
            ),
            (Cause::Certificate { service, endpoint }, Blame::Service, "certificate-ends", false),
        ];
        for (cause, blame, name, is_ours) in table {
            assert_eq!((about(&cause, blame), is_about_us(&cause)), (name, is_ours), "{cause}");
            assert!(ALL.iter().any(|it| it.name == name), "{name}");
        }
    }

    #[test]
    fn a_link_leads_to_the_collector() {
        for collector in ["https://collector.example.net", "https://collector.example.net/"] {
            assert_eq!(link(collector, "loss"), "https://collector.example.net/runbooks/loss");
        }
    }
}
