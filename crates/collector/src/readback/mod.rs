//! Reading back: asking a service what it stored, which closes the ledger's second plane.
//!
//! ```text
//! plan: which seconds of which names  ->  reader: asks them  ->  plan: what may be concluded  ->  ledger
//! ```
//!
//! A [`reader`] tells what is there and what is not, or why it cannot tell; the [`plan`] decides what may be believed of
//! that, and when. It is a pure state machine: the [`task`] around it owns clock and network.
//!
//! **Architecture invariant:** only a null that was read twice, once after it had time to settle, in a series that is known
//! to exist, from a reader that contradicts neither itself nor its clock, is a datapoint that is not stored. Everything
//! else is a reader of which we cannot tell, and never loss.

mod client;
pub(crate) mod coarse;
mod graphite;
mod health;
pub(crate) mod plan;
mod prometheus;
pub(crate) mod reader;
mod ring;
mod sweep;
pub(crate) mod task;

use std::{fmt, sync::Arc};

pub use client::SetUpError;

/// The longest time to settle, in seconds: what is open in the meantime is kept in memory.
pub const SETTLE_SECONDS_MAX: u64 = 60;

/// The largest slots that are read, in seconds: a few of them must fit the live window.
pub const RESOLUTION_SECONDS_MAX: u64 = 300;

/// How a service tells what it stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readback {
    /// Which API it speaks.
    pub reader: Reader,
    /// The root of that API, without credentials.
    pub url: reqwest::Url,
    /// What the API asks of whoever reads.
    pub credentials: Credentials,
    /// PEM certificates to trust beside the system's.
    pub ca: Option<Vec<u8>>,
    /// So many seconds after a second was closed, what storage has not shown it lacks. At most
    /// [`SETTLE_SECONDS_MAX`].
    pub settle_seconds: u64,
}

/// The API by which storage is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `/render` of graphite-web, or what is compatible with it.
    Graphite {
        /// The seconds of a stored slot: one, unless the service keeps coarser ones and sums them.
        resolution_seconds: u64,
        /// What is appended to a name for the sum of a slot, such as `:sum`.
        sum: String,
    },
    /// The query API of Prometheus, or what is compatible with it.
    Prometheus,
}

/// What an API asks of whoever reads. Shown to nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// A bearer token.
    Bearer(Arc<str>),
    /// A user and a password.
    Basic(Arc<str>, Arc<str>),
    /// A key that takes the place of `{key}` in the path of the URL, as Hosted Graphite has it.
    InPath(Arc<str>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(..)",
            Self::Basic(..) => "Basic(..)",
            Self::InPath(_) => "InPath(..)",
        })
    }
}

impl Readback {
    /// The seconds of a stored slot.
    pub(crate) const fn resolution(&self) -> u64 {
        match self.reader {
            Reader::Graphite { resolution_seconds, .. } => resolution_seconds,
            Reader::Prometheus => 1,
        }
    }

    /// How many of the newest seconds the API may keep to itself.
    pub(crate) const fn hidden_seconds(&self) -> u64 {
        match self.reader {
            Reader::Graphite { .. } => 0,
            // VictoriaMetrics answers nothing of the newest 30 s unless its -search.latencyOffset says otherwise.
            Reader::Prometheus => prometheus::HIDDEN_SECONDS,
        }
    }
}

/// Whether `name` means itself and nothing else in every API: an agent could otherwise have the collector ask for
/// whatever expression it likes.
pub(crate) fn is_plain(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(aviary_core::graphite::is_name_byte);
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_part)
}

/// The longest name that is asked for; what agents send has fewer bytes with all that is around it.
const NAME_BYTES_MAX: usize = 1_024;

/// What storage shows of a name, to somebody who looks once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The seconds that hold something.
    Seconds(Vec<aviary_core::Second>),
    /// There is no such series.
    Absent,
    /// It is kept in slots of so many seconds.
    Coarse(u64),
}

/// Why storage could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct LookError {
    reason: String,
    /// Whether it may answer when it is asked again: one that was just started is slow at first.
    pub is_passing: bool,
}

/// Looks once at what storage shows of `names` in `span`, without any conclusion.
///
/// # Errors
/// Where that cannot be told.
pub async fn look(
    options: &Readback,
    names: &[String],
    span: aviary_core::Span,
) -> Result<Vec<Shown>, LookError> {
    let names: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
    let reader = task::AnyReader::new(options)
        .map_err(|error| LookError { reason: error.to_string(), is_passing: false })?;
    let said = reader.look(&names, span).await;
    let said =
        said.map_err(|error| LookError { reason: error.to_string(), is_passing: error.is_passing() })?;
    let shown = said.into_iter().map(|said| match said {
        reader::Said::Slots(slots) => Shown::Seconds(slots.into_iter().map(|(second, _)| second).collect()),
        reader::Said::Absent => Shown::Absent,
        reader::Said::Coarse(step) => Shown::Coarse(step),
    });
    Ok(shown.collect())
}
