//! The log: what an operator must do something about, on standard error or in a file that may be rotated.

mod output;
pub(crate) mod state_lines;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter::ParseError, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use self::output::{Next, Output};

/// How many lines wait for whoever reads standard error, or for the disk; more are dropped, and counted.
const LINES_WAITING_MAX: usize = 4_096;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How the log is to be.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    /// A level, or levels by module such as `info,aviary_agent=debug`.
    pub(crate) level: String,
    /// For people, or for machines.
    pub(crate) format: LogFormat,
    /// The file to append to; standard error where there is none.
    pub(crate) file: Option<PathBuf>,
}

impl LogOptions {
    /// Standard error at the level of `AVIARY_LOG`, or of `default` without it.
    pub(crate) fn from_environment(default: &str, format: LogFormat) -> Self {
        let level = std::env::var("AVIARY_LOG").ok().filter(|level| !level.is_empty());
        Self { level: level.unwrap_or_else(|| default.to_owned()), format, file: None }
    }
}

/// Why the log cannot be as it is wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// A single word that is no level.
    #[error(
        "log level `{0}` is not known; it is one of off, error, warn, info, debug, trace, or levels by module such as `info,aviary_agent=debug`"
    )]
    Level(String),
    /// Not understood as levels by module.
    #[error("log level `{level}` is not understood: {source}; write such as `info,aviary_agent=debug`")]
    Directive {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The file cannot be written.
    #[error(
        "the log file {} cannot be opened: {source}; does its directory exist, and may this user write there?",
        .path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The running log. Dropping it waits for the lines that are on their way.
pub(crate) struct Log {
    level: reload::Handle<EnvFilter, Registry>,
    /// The file, and where the next one is put for the writing thread to take up.
    file: Option<(PathBuf, Arc<Next>)>,
    dropped: ErrorCounter,
    told_dropped: AtomicUsize,
    _writer: WorkerGuard,
}

/// Starts the log of this process. What is written reaches its end by a thread of its own, so that a full pipe or a slow
/// disk holds up nothing.
///
/// # Errors
/// A level that is not understood, a file that cannot be opened: better no start than a log that nobody finds.
pub(crate) fn start(options: &LogOptions) -> Result<Log, LogError> {
    let (subscriber, log) = build(options)?;
    // Only a second start in one process could have set another, and then the first one stands.
    _ = subscriber.try_init();
    Ok(log)
}

fn build(options: &LogOptions) -> Result<(impl tracing::Subscriber + Send + Sync + 'static, Log), LogError> {
    let (filter, level) = reload::Layer::new(filter(&options.level)?);
    let (output, next) = match &options.file {
        Some(path) => {
            let (output, next) = Output::file(output::open(path)?);
            (output, Some((path.clone(), next)))
        }
        None => (Output::Stderr(io::stderr()), None),
    };
    let ansi = next.is_none() && io::IsTerminal::is_terminal(&io::stderr());
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(output);
    let dropped = writer.error_counter();
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    let layer = match options.format {
        LogFormat::Text => layer.with_ansi(ansi).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let log = Log { level, file: next, dropped, told_dropped: AtomicUsize::new(0), _writer: guard };
    Ok((tracing_subscriber::registry().with(filter).with(layer), log))
}

impl Log {
    /// Begins the file anew under its name, after the old one was renamed (as logrotate does): each line is in one of the
    /// two, whole. Where that cannot be opened, the old one goes on, which the log says. Standard error stays what it is.
    pub(crate) fn reopen(&self) {
        let Some((path, next)) = &self.file else { return };
        match output::open(path) {
            Ok(file) => next.put(file),
            Err(error) => tracing::error!("{error}. The log goes on in the file that was open before."),
        }
    }

    /// Changes the level from now on.
    ///
    /// # Errors
    /// A level that is not understood; the old one stands.
    pub(crate) fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        // It fails only where the subscriber is gone, and then nothing is logged at any level.
        _ = self.level.reload(filter);
        Ok(())
    }

    /// Says how many lines were dropped since it was last asked because nobody read the others, or the disk was too slow.
    pub(crate) fn tell_dropped(&self) {
        let all = self.dropped.dropped_lines();
        let lines = all.saturating_sub(self.told_dropped.swap(all, Ordering::Relaxed));
        if lines > 0 {
            tracing::warn!(
                lines,
                "Lines of this log were dropped: nobody read it, or the disk was too slow."
            );
        }
    }
}

/// A word that is no level would be taken for the name of a module, and silence everything else.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let is_word = |directive: &&str| !directive.contains(['=', '[', ':']);
    for word in level.split(',').map(str::trim).filter(is_word) {
        if word.parse::<LevelFilter>().is_err() || word.is_empty() {
            return Err(LogError::Level(word.to_owned()));
        }
    }
    EnvFilter::try_new(level).map_err(|source| LogError::Directive { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn to_file(path: &std::path::Path, level: &str, format: LogFormat) -> LogOptions {
        LogOptions { level: level.to_owned(), format, file: Some(path.to_owned()) }
    }

    /// What `read` gives, once that is all: dropping a log waits for its last lines, but not for long.
    fn once_all<T>(read: impl Fn() -> T, is_all: impl Fn(&T) -> bool) -> T {
        for _ in 0..1_000 {
            let found = read();
            if is_all(&found) {
                return found;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        read()
    }

    #[test]
    fn each_line_is_in_one_of_the_files_when_the_log_is_rotated() {
        const LINES: usize = 2_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aviary.log");
        let (subscriber, log) = build(&to_file(&path, "info", LogFormat::Json)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            for line in 0..LINES {
                if line % 500 == 250 {
                    fs::rename(&path, dir.path().join(format!("aviary.log.{line}"))).unwrap();
                    log.reopen();
                }
                tracing::info!(line, "a line");
            }
        });
        assert_eq!(log.dropped.dropped_lines(), 0);
        drop(log);
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 5, "{files:?}");
        let texts = || files.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
        let text = once_all(texts, |text| text.ends_with('\n') && text.lines().count() >= LINES);
        let mut numbers: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["line"].as_u64().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..LINES as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_goes_on_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let room = dir.path().join("log");
        fs::create_dir(&room).unwrap();
        let path = room.join("aviary.log");
        let (subscriber, log) = build(&to_file(&path, "info", LogFormat::Text)).unwrap();
        let moved = dir.path().join("moved");
        tracing::subscriber::with_default(subscriber, || {
            fs::rename(&room, &moved).unwrap();
            log.reopen();
            tracing::info!("after");
        });
        drop(log);
        let read = || fs::read_to_string(moved.join("aviary.log")).unwrap();
        let text = once_all(read, |text| text.contains("after"));
        assert!(text.contains("cannot be opened") && text.contains("goes on in the file"), "{text}");
        assert!(text.contains("after"), "{text}");
    }

    #[test]
    fn the_level_changes_while_the_log_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aviary.log");
        let (subscriber, log) = build(&to_file(&path, "warn", LogFormat::Text)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("unheard");
            log.set_level("info").unwrap();
            tracing::info!("heard");
            let error = log.set_level("inof").unwrap_err().to_string();
            assert!(error.contains("`inof` is not known") && error.contains("debug"), "{error}");
            tracing::info!("still heard");
        });
        drop(log);
        let text = once_all(|| fs::read_to_string(&path).unwrap(), |text| text.contains("still heard"));
        assert!(
            !text.contains("unheard") && text.contains(" heard") && text.contains("still heard"),
            "{text}"
        );
    }

    #[test]
    fn levels_are_understood_or_refused() {
        for good in ["info", "WARN", "off", "info,aviary_agent=debug", "aviary_agent::ship=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "", "info,", "aviary_agent=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_refused_with_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = build(&to_file(dir.path(), "info", LogFormat::Text)).err().unwrap().to_string();
        assert!(
            error.contains(&dir.path().display().to_string()) && error.contains("may this user"),
            "{error}"
        );
    }
}
