//! The seam to receivers: the real ones, or those of a test that answer as they are told.

use aviary_core::page::Sent;
use aviary_notify::{Attempt, Contract, Page, Reason, Receipt, Receiver, Refusal, Retry};

/// Whoever can be told of a page.
pub trait Notify: Send + Sync + 'static {
    /// What is to be known of it.
    fn contract(&self) -> Contract;

    /// Delivers `page`, once. Dropped, it gives up, and the page may have arrived or not.
    fn send(&self, page: &Page, attempt: Attempt) -> impl Future<Output = Result<Receipt, Refusal>> + Send;
}

impl Notify for Receiver {
    fn contract(&self) -> Contract {
        Self::contract(self)
    }

    async fn send(&self, page: &Page, attempt: Attempt) -> Result<Receipt, Refusal> {
        Self::send(self, page, attempt).await
    }
}

/// What an attempt means to the outbox, by the receiver's contract.
///
/// A receiver that has too much to do, or was never reached, surely has not taken the page; one that took too long, broke
/// off or failed may have.
pub fn sent_of(outcome: &Result<Receipt, Refusal>, contract: Contract) -> Sent {
    let Err(refusal) = outcome else {
        return Sent::Taken { say_again: contract.resend.map(|resend| resend.every.as_secs()) };
    };
    let retry_after = match refusal.retry {
        Retry::Never => return Sent::Refused(refusal.text.clone()),
        Retry::Later => None,
        // What is asked for in parts of a second is not asked for again within them.
        Retry::After(wait) => Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
    };
    match refusal.reason {
        Reason::Certificate | Reason::RateLimited | Reason::Unreachable => Sent::NotTaken { retry_after },
        Reason::AnswerTooLarge
        | Reason::Command
        | Reason::PrivateAddress
        | Reason::Redirect
        | Reason::Refused
        | Reason::ServerError
        | Reason::Stranger
        | Reason::Timeout
        | Reason::Transport
        | Reason::Unauthorized => Sent::Unknown { retry_after },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aviary_notify::Resend;

    use super::*;

    #[test]
    fn what_a_receiver_says_is_what_it_may_hold() {
        let contract =
            Contract { honours_key: true, acknowledges: false, wakes: true, per_minute: 60, resend: None };
        let refused = |reason, retry| Err(Refusal { reason, retry, text: "said".to_owned() });
        let after = |millis| Retry::After(Duration::from_millis(millis));
        let table = [
            (refused(Reason::RateLimited, after(30_000)), Sent::NotTaken { retry_after: Some(30) }),
            (refused(Reason::RateLimited, after(1_001)), Sent::NotTaken { retry_after: Some(2) }),
            (refused(Reason::Unreachable, Retry::Later), Sent::NotTaken { retry_after: None }),
            (refused(Reason::Certificate, Retry::Later), Sent::NotTaken { retry_after: None }),
            (refused(Reason::Transport, Retry::Later), Sent::Unknown { retry_after: None }),
            (refused(Reason::Timeout, Retry::Later), Sent::Unknown { retry_after: None }),
            (refused(Reason::ServerError, after(7_000)), Sent::Unknown { retry_after: Some(7) }),
            (refused(Reason::Unauthorized, Retry::Never), Sent::Refused("said".to_owned())),
            (refused(Reason::RateLimited, Retry::Never), Sent::Refused("said".to_owned())),
        ];
        for (outcome, expected) in table {
            assert_eq!(sent_of(&outcome, contract), expected, "{outcome:?}");
        }
        let taken = Ok(Receipt { reference: None, text: "ok".to_owned() });
        assert_eq!(sent_of(&taken, contract), Sent::Taken { say_again: None });
        let every = Duration::from_secs(60);
        let forgets = Contract { resend: Some(Resend { every, resolved_for: 5 * every }), ..contract };
        assert_eq!(sent_of(&taken, forgets), Sent::Taken { say_again: Some(60) });
    }
}
