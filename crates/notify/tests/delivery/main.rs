//! Delivery, against servers that play each receiver's answers, and against real ones where there are any to install.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alertmanager;
mod command;
mod contracts;
mod mail;
mod outlet;
mod refusals;
mod secrets;
mod support;
mod watchdog;
mod webhook;
