//! The seam: what a reader is asked, what it answers, and why it cannot.

use std::sync::Arc;

use aviary_core::{Second, Span};

/// Who can be asked what is stored.
pub(crate) trait Reader: Send + Sync + 'static {
    /// What is stored of the series with these exact names in `span`, whose ends are those of slots: an answer for each
    /// name, in their order.
    ///
    /// # Errors
    /// Why nothing can be told of any of them.
    fn read(
        &self,
        names: &[Arc<str>],
        span: Span,
    ) -> impl Future<Output = Result<Vec<Said>, Unreadable>> + Send;
}

/// What a reader says of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// The slots of the span that hold something, by their first seconds, in order; all others hold nothing.
    Slots(Vec<(Second, f64)>),
    /// There is no such series.
    Absent,
    /// The series is kept in slots of so many seconds, so that single ones cannot be told.
    Coarse(u64),
}

/// Why a reader cannot tell. In the place of the address stands what may be shown of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{at} cannot be reached: {reason}")]
    Unreachable { at: Arc<str>, reason: String },
    #[error("{at} does not answer within {seconds} s")]
    Timeout { at: Arc<str>, seconds: u64 },
    #[error("{at} answers {status}{hint}")]
    Status { at: Arc<str>, status: u16, hint: &'static str },
    #[error("{at} answers more than the {limit} bytes that the question can need")]
    TooLarge { at: Arc<str>, limit: usize },
    #[error("{at} does not answer as {api} does: {reason}")]
    Strange { at: Arc<str>, api: &'static str, reason: String },
    #[error("{at} answers in part only: {reason}")]
    Partial { at: Arc<str>, reason: String },
    #[error(
        "{at} answers up to second {reached} only, and was asked up to {wanted}: its clock or a cache is behind"
    )]
    Lags { at: Arc<str>, reached: Second, wanted: Second },
}

impl Unreadable {
    /// Whether it is one that answers, and may do so better when it is asked again.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Partial { .. } | Self::Lags { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Unreachable { .. } | Self::TooLarge { .. } | Self::Strange { .. } => false,
        }
    }
}

/// A status with what is probably the matter.
pub(crate) fn refused(at: Arc<str>, status: u16) -> Unreadable {
    let hint = match status {
        300..=399 => ", and redirects are not followed: name the address that it leads to",
        401 | 403 => ": are the credentials of [service.readback] right?",
        404 => ": is it the root of the API?",
        429 => ": it is asked too often",
        500.. => ": its own storage may be unreachable",
        _ => "",
    };
    Unreadable::Status { at, status, hint }
}
