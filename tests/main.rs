//! The integration tests: aviary against what it will meet, all of it real. See README.md beside this file.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod change;
mod cli;
mod cost;
mod dashboards;
mod durable;
mod edges;
mod enrolment;
mod graphite;
mod history;
mod hosts;
mod local;
mod metadata;
mod metrics;
mod ordeals;
mod packages;
mod pages;
mod readback;
mod receiving;
mod reporters;
mod reports;
mod rig;
mod rotation;
mod scenes;
mod secrets;
mod status;
mod support;
mod tls;
mod versions;

/// In no module: the harness begins tests in the order of their names, and this one takes eight minutes.
#[test]
fn a_service_that_is_slow_and_one_that_comes_and_goes_are_told_of_once() {
    scenes::unsteady::play();
}
