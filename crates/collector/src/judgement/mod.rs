//! From what is seen each second to whom is told of it.

mod options;

pub use options::{Alerting, Burst};
