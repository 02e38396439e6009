//! The probe against real sockets: the sink with every misbehaviour, peers that nobody's library would write, a name
//! server of the test's own, and network namespaces for what loopback cannot show.
//!
//! What needs privileges fails where they are missing, saying so; nothing is skipped.

mod cell;
mod deadline;
mod delivery;
mod dns;
mod https;
mod local;
mod misbehaviour;
mod name_server;
mod reach;
mod rig;
mod shared;
mod sockets;
mod source;
mod tls;
mod truth;
