//! Delivery: one page to one receiver, once, and what the receiver said.
//!
//! Whoever keeps incidents fills in a [`Page`]; a [`Receiver`] delivers it, and answers with a [`Receipt`], or a [`Refusal`]
//! that says whether to try again and when. When to try, in which order and whom else to tell is the outbox's business,
//! which learns from a receiver's [`Contract`] what it must know of it. Nothing here keeps anything between two pages.
//!
//! | kind | taken is | the same page is known by | over |
//! |---|---|---|---|
//! | PagerDuty | 202 and `success` | `dedup_key` | `resolve` |
//! | Alertmanager | 200 | the set of labels | `endsAt`, told again for five minutes |
//! | webhook | 2xx | `webhook-id` | a type of its own |
//! | Slack | `ok` | nothing | another message |
//! | Opsgenie, JSM | 202 and a request's id | `alias` | `close` |
//! | Splunk On-Call | `success` | `entity_id` | `RECOVERY` |
//! | mail | 250 | `Message-ID` | an answer in the thread |
//! | command | exit status 0 | whatever it likes | a type of its own |
//!
//! 408, 425, 429, 5xx and whatever happens to a connection may pass: try again. Every other refusal stands.
//!
//! **Architecture invariant:** no secret is shown: not by `Debug`, nor in any text, whatever a receiver repeats of what it
//! was sent. Nothing that comes back is read beyond a bound, and no attempt takes longer than [`ATTEMPT_TIMEOUT`].

mod address;
mod alertmanager;
mod command;
mod cut;
mod document;
mod email;
mod facts;
mod http;
mod opsgenie;
mod outlet;
mod page;
mod pagerduty;
mod program;
mod receiver;
mod refusal;
mod secret;
mod slack;
mod text;
mod victorops;
mod watchdog;
mod webhook;

pub use alertmanager::Alertmanager;
pub use aviary_core::page::Severity;
pub use command::Command;
pub use email::{Email, Security};
pub use opsgenie::Opsgenie;
pub use outlet::{NodeAdvice, Outlet, OutletKind, Request};
pub use page::{Attempt, Event, Link, Page, Share, Sums, Total, rfc3339};
pub use pagerduty::PagerDuty;
pub use program::{Ended, run as run_program};
pub use receiver::{ATTEMPT_TIMEOUT, Contract, Kind, Receiver, Resend, SetUpError, Settings};
pub use refusal::{Reason, Receipt, Refusal, Retry};
pub use reqwest::Url;
pub use secret::Secret;
pub use slack::Slack;
pub use text::TemplateError;
pub use victorops::VictorOps;
pub use watchdog::{Watchdog, WatchdogKind};
pub use webhook::Webhook;
