//! What aviary puts on the wire: Graphite lines, pickles and reports, encoded and decoded.
//!
//! **Architecture invariant:** everything here is a function from bytes to values or back. Nothing reads a socket,
//! nothing executes what it decodes, and every decoder has bounds. The structs of the wire are not the structs of
//! `aviary-core`: only this room knows the formats.

pub mod clock;
pub mod datapoint;
pub mod line;
pub mod pickle;
pub mod progress;
pub mod report;

pub use datapoint::Datapoint;
