//! The feed that heals, as a real haproxy before real carbons sees it.

mod lease;
