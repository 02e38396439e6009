//! A command: whatever nobody has a receiver for. It is started without a shell, has the page as JSON on its standard
//! input and as `AVIARY_PAGE_*` in its environment, and of ours only what a program needs to run: our secrets stand there.
//!
//! | it ends with | means |
//! |---|---|
//! | 0 | taken |
//! | 75, `EX_TEMPFAIL` of sysexits | to be tried again |
//! | a signal, or not at all | to be tried again |
//! | anything else | will not be taken: the next receiver at once |

use std::io;

use crate::{
    document,
    page::{Page, rfc3339},
    program::{self, Ended},
    receiver::{SetUpError, Told},
    refusal::{Reason, Receipt, Refusal},
};

const EX_TEMPFAIL: i32 = 75;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
}

impl Command {
    pub(crate) fn check(&self) -> Result<(), SetUpError> {
        match self.argv.first() {
            Some(program) if !program.is_empty() => Ok(()),
            _ => Err(SetUpError::Empty("command")),
        }
    }

    pub(crate) async fn send(&self, Told { page, text, .. }: Told<'_>) -> Result<Receipt, Refusal> {
        let program = self.argv.first().map_or("", String::as_str);
        let variables = variables(page, text);
        let variables = variables.iter().map(|(name, value)| (*name, value.as_str()));
        // It is dropped where it takes too long: the page is late by then, and is told anew.
        let ended = program::run(&self.argv, variables, &document::body(page)).await;
        ended.map_err(|error| not_started(program, &error)).and_then(|ended| taken(program, ended))
    }
}

fn variables(page: &Page, text: &str) -> Vec<(&'static str, String)> {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![
        ("AVIARY_PAGE_TYPE", document::kind(page)),
        ("AVIARY_PAGE_KEY", page.key.clone()),
        ("AVIARY_PAGE_INCIDENT", page.incident.clone()),
        ("AVIARY_PAGE_SEVERITY", page.level().to_string()),
        ("AVIARY_PAGE_STATE", page.state.clone()),
        ("AVIARY_PAGE_SERVICES", page.services.join(",")),
        ("AVIARY_PAGE_SINCE", rfc3339(page.since)),
        ("AVIARY_PAGE_SUMMARY", page.summary.clone()),
        ("AVIARY_PAGE_OWNER", optional(&page.owner)),
        ("AVIARY_PAGE_RUNBOOK", optional(&page.runbook)),
        ("AVIARY_PAGE_URL", optional(&page.url)),
        ("AVIARY_PAGE_TEXT", text.to_owned()),
    ]
}

fn not_started(program: &str, error: &io::Error) -> Refusal {
    let text = format!("`{program}` cannot be started: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            Refusal::never(Reason::Command, format!("{text}; check `command` and its owner"))
        }
        _ => Refusal::later(Reason::Command, text),
    }
}

fn taken(program: &str, Ended { status, printed }: Ended) -> Result<Receipt, Refusal> {
    let said = match printed.as_str() {
        "" => format!("`{program}` ended with {status}"),
        printed => format!("`{program}` ended with {status}: {printed}"),
    };
    match status.code() {
        Some(0) => Ok(Receipt::new(None, said)),
        Some(EX_TEMPFAIL) | None => Err(Refusal::later(Reason::Command, said)),
        Some(_) => Err(Refusal::never(Reason::Command, format!("{said}; 75 would have it tried again"))),
    }
}
