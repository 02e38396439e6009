//! Several hosts, each in a network namespace with an address of its own: agents in three regions, in a data centre and on nodes
//! that each have a real carbon, and a collector. Between them the router loses, delays, repeats and cuts off, and counts what
//! it did; that is held against what aviary says.
//!
//! `it hosts::` plays it in a minute, `cargo bench -- hosts` with more of everything and for longer.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

mod fault;
mod interval;
mod play;
mod plays;
mod services;
mod stage;
mod table;

pub(crate) use plays::play;

#[cfg(test)]
#[test]
fn what_the_network_does_is_what_is_said_of_it() {
    let table = play(false, &[]);
    println!("{table}");
    assert_eq!(table.wrong(), [""; 0], "\n{table}");
}
