//! The sink against clients that nobody's prober wrote: plain sockets, and TLS on top of them.

mod bounds;
mod client;
mod delivery;
mod https;
mod malformed;
mod misbehaviour;
