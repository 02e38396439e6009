//! A command: whatever nobody has a receiver for. It is started without a shell, has the page as JSON on its standard
//! input and as `AVIARY_PAGE_*` in its environment, and of ours only what a program needs to run: our secrets stand there.
//!
//! | it ends with | means |
//! |---|---|
//! | 0 | taken |
//! | 75, `EX_TEMPFAIL` of sysexits | to be tried again |
//! | a signal, or not at all | to be tried again |
//! | anything else | will not be taken: the next receiver at once |

use std::{
    env, io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process,
};

use crate::{
    cut::{cut, one_line},
    document,
    page::{Page, rfc3339},
    receiver::{SetUpError, Told},
    refusal::{Reason, Receipt, Refusal},
};

/// How much of what it prints is kept; the rest is read and dropped, so that it does not wait for us.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024;
const QUOTED_MAX: usize = 240;

/// How long its output is waited for after its end, which something may still hold open that left its process group.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// What it inherits of our environment.
const INHERITED: [&str; 7] = ["HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER"];

const EX_TEMPFAIL: i32 = 75;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
}

/// Its process group, killed when nobody waits for it any more: a page is late by then, and is told anew.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // It fails where all of the group have ended.
        _ = self.0.map(|group| kill_process_group(group, Signal::KILL));
    }
}

impl Command {
    pub(crate) fn check(&self) -> Result<(), SetUpError> {
        match self.argv.first() {
            Some(program) if !program.is_empty() => Ok(()),
            _ => Err(SetUpError::Empty("command")),
        }
    }

    pub(crate) async fn send(&self, Told { page, text, .. }: Told<'_>) -> Result<Receipt, Refusal> {
        let (program, arguments) =
            self.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let mut child = process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))))
            .envs(variables(page, text))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_started(program, &error))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let talk = async {
            let tell = async {
                if let Some(mut stdin) = pipes.0 {
                    // It need not read what it is told.
                    _ = stdin.write_all(&document::body(page)).await;
                }
            };
            tokio::join!(tell, head(pipes.1, &mut out), head(pipes.2, &mut err));
        };
        let mut talk = Box::pin(talk);
        let mut is_silent = false;
        let status = loop {
            tokio::select! {
                biased;
                status = child.wait() => break status,
                () = &mut talk, if !is_silent => is_silent = true,
            }
        };
        drop(group);
        if !is_silent {
            // Whatever it printed is there by now.
            _ = tokio::time::timeout(OUTPUT_GRACE, &mut talk).await;
        }
        drop(talk);
        out.extend_from_slice(&err);
        let status = status.map_err(|error| not_started(program, &error))?;
        ended(program, status, &one_line(&String::from_utf8_lossy(&out)))
    }
}

/// Reads to the end, and keeps the beginning.
async fn head(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    // An end in the middle of what it says leaves what it said so far.
    _ = (&mut pipe).take(OUTPUT_BYTES_MAX).read_to_end(kept).await;
    _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
}

fn variables(page: &Page, text: &str) -> Vec<(&'static str, String)> {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut variables = vec![
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
    ];
    // No variable can hold the byte that ends one.
    for (_, value) in &mut variables {
        value.retain(|char| char != '\0');
    }
    variables
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

fn ended(program: &str, status: ExitStatus, printed: &str) -> Result<Receipt, Refusal> {
    let said = match printed {
        "" => format!("`{program}` ended with {status}"),
        printed => format!("`{program}` ended with {status}: {}", cut(printed, QUOTED_MAX)),
    };
    match status.code() {
        Some(0) => Ok(Receipt::new(None, said)),
        Some(EX_TEMPFAIL) | None => Err(Refusal::later(Reason::Command, said)),
        Some(_) => Err(Refusal::never(Reason::Command, format!("{said}; 75 would have it tried again"))),
    }
}
