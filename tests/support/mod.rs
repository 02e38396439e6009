//! Real servers for the tests: processes on free loopback ports, each gone when its guard is dropped.
//!
//! `tests/setup` installs what they are made of. A program that is missing fails the test and says so: nothing is skipped.

#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]
#![expect(clippy::print_stderr, reason = "the log of a server is shown beside the failure of its test")]

pub(crate) mod aviary;
pub(crate) mod browser;
pub(crate) mod cell;
pub(crate) mod clock;
pub(crate) mod gateway;
pub(crate) mod graphite;
pub(crate) mod haproxy;
pub(crate) mod http;
pub(crate) mod names;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod openssl;
pub(crate) mod pager;
pub(crate) mod pki;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod receiver;
pub(crate) mod recorder;
pub(crate) mod relay;
pub(crate) mod report;
pub(crate) mod service;
pub(crate) mod slots;
#[path = "../../crates/store/tests/support/small_disk.rs"]
pub(crate) mod small_disk;
pub(crate) mod tcp_server;
pub(crate) mod terminal;
pub(crate) mod victoria_metrics;
pub(crate) mod wait;
