//! The commands as people and scripts meet them.

mod check;
mod demo;
mod import;
mod incident;
mod probe;
mod run;
mod selftest;
mod status;
mod watch;
