//! The sink against clients that nobody's prober wrote: plain sockets, and TLS on top of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod authority;
mod bounds;
mod client;
mod delivery;
mod https;
mod malformed;
mod misbehaviour;
mod name_server;
