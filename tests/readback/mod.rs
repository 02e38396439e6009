//! Reading back from a real carbon and graphite-web: what aviary says is stored is what is on carbon's disk.

mod answers;
mod begin;
mod long;
mod prometheus;
mod rules;
mod stage;
