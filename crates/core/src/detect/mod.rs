//! Detection.

pub mod bank;
pub mod tail;
