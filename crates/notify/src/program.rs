//! Runs a program of somebody else's: without a shell, in a process group of its own, with nothing of our environment but what a
//! program needs to run: our secrets stand there.

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

use crate::cut::{cut, one_line};

/// How much of what it prints is kept; the rest is read and dropped, so that it does not wait for us.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024;
const QUOTED_MAX: usize = 240;

/// How long its output is waited for after its end, which something may still hold open that left its process group.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// What it inherits of our environment.
const INHERITED: [&str; 7] = ["HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER"];

/// Its process group, killed when nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // It fails where all of the group have ended.
        _ = self.0.map(|group| kill_process_group(group, Signal::KILL));
    }
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// With which status.
    pub status: ExitStatus,
    /// The beginning of what it printed, in a line.
    pub printed: String,
}

/// Runs the first of `argv` with the rest, these `variables` and this on its standard input. It ends with the future: who is
/// dropped has its whole process group killed.
///
/// # Errors
/// It cannot be started.
pub async fn run(
    argv: &[String],
    variables: impl IntoIterator<Item = (&str, &str)>,
    input: &[u8],
) -> io::Result<Ended> {
    let (program, arguments) = argv.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    // No variable can hold the byte that ends one.
    let variables = variables.into_iter().map(|(name, value)| (name, value.replace('\0', "")));
    let mut child = process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))))
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let talk = async {
        let tell = async {
            if let Some(mut stdin) = pipes.0 {
                // It need not read what it is told.
                _ = stdin.write_all(input).await;
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
    Ok(Ended {
        status: status?,
        printed: cut(&one_line(&String::from_utf8_lossy(&out)), QUOTED_MAX).into_owned(),
    })
}

/// Reads to the end, and keeps the beginning.
async fn head(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    // An end in the middle of what it says leaves what it said so far.
    _ = (&mut pipe).take(OUTPUT_BYTES_MAX).read_to_end(kept).await;
    _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
}
