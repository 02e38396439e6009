//! What came of an attempt: a receipt, or a refusal that says whether to try again.

use std::time::Duration;

use aviary_core::named;

named! {
    /// Why a page was not taken: a closed set, to count by.
    pub enum Reason {
        /// The answer was larger than any that a receiver gives.
        AnswerTooLarge = "answer_too_large",
        /// The receiver's certificate does not verify.
        Certificate = "certificate",
        /// The command ended otherwise than well.
        Command = "command",
        /// It was called too often.
        RateLimited = "rate_limited",
        /// It sent us elsewhere.
        Redirect = "redirect",
        /// It will not take this page.
        Refused = "refused",
        /// Its name leads to an address that pages may not go to.
        PrivateAddress = "private_address",
        /// It is not well itself.
        ServerError = "server_error",
        /// Something answered that is not the receiver.
        Stranger = "stranger",
        /// It took too long.
        Timeout = "timeout",
        /// The connection broke, when it may have taken what it was sent.
        Transport = "transport",
        /// It does not know our key.
        Unauthorized = "unauthorized",
        /// No connection came about: nothing was sent.
        Unreachable = "unreachable",
    }
}

/// Whether to try the same receiver again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Whenever the sender's own back-off says.
    Later,
    /// When this long has passed: the receiver asked for it.
    After(Duration),
    /// Never with this page: it would be refused again.
    Never,
}

/// A page was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What to count it by.
    pub reason: Reason,
    /// Whether to try again.
    pub retry: Retry,
    /// What happened, where, and what to do, for a person at 3 a.m. Shows no secret.
    pub text: String,
}

impl Refusal {
    pub(crate) fn later(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, retry: Retry::Later, text: text.into() }
    }

    pub(crate) fn never(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, retry: Retry::Never, text: text.into() }
    }

    /// Whether the same page may be taken another time.
    pub fn is_retryable(&self) -> bool {
        self.retry != Retry::Never
    }
}

/// A page was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// By what the receiver knows it: its own id of the request, or the key that it repeated.
    pub reference: Option<String>,
    /// What the receiver said, in a line. Shows no secret.
    pub text: String,
}

impl Receipt {
    pub(crate) fn new(reference: Option<String>, text: impl Into<String>) -> Self {
        Self { reference, text: text.into() }
    }
}
