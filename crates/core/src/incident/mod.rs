//! A verdict's life.

mod id;

pub use id::Id;
