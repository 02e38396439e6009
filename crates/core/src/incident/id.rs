//! By what an incident is known.

use std::fmt;

use crate::{Second, fnv::fnv1a};

/// An incident's id: 26 characters that sort by the second of its onset, in the form of a ULID.
///
/// The half that is random in a ULID is a hash of the cause here, so that whoever judges the same ledger names the same
/// incident alike, before anything is sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

/// Crockford's base 32, which ULIDs are written in.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: u32 = 26;

impl Id {
    /// The id of what `collector` first saw in `onset`, by what tells its cause from every other of that second.
    pub fn new(collector: &str, cause: &str, onset: Second) -> Self {
        let hash = |salt: &str| {
            let parts = [salt, collector, cause].into_iter();
            fnv1a(parts.flat_map(|part| part.bytes().chain([0])).chain(onset.0.to_be_bytes()))
        };
        let millis = u128::from(onset.0) * 1_000;
        let low = (u128::from(hash("high")) << 64 | u128::from(hash("low"))) & ((1 << 80) - 1);
        let value = (millis & ((1 << 48) - 1)) << 80 | low;
        let digit = |place: u32| DIGITS[(value >> (5 * (LENGTH - 1 - place)) & 31) as usize] as char;
        Self((0..LENGTH).map(digit).collect())
    }

    /// An id as it was kept or given by a person: whatever it is, only one that is held is found.
    pub fn given(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As pages, links and the API have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key by which receivers know that two messages are of one incident.
    pub fn key(&self, collector: &str) -> String {
        format!("aviary:{collector}:{self}")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_by_onset_and_tells_causes_apart() {
        let id = |cause, onset| Id::new("main", cause, Second(onset));
        assert_eq!(id("a", 1_763_690_400), id("a", 1_763_690_400));
        // 1763690400000 ms, by another implementation of the ULID's time.
        assert!(id("a", 1_763_690_400).as_str().starts_with("01KAJ27J80"), "{}", id("a", 1_763_690_400));
        assert_eq!(id("a", 1_763_690_400).as_str().len(), 26);
        assert!(id("z", 1_763_690_400) < id("a", 1_763_690_401));
        assert_ne!(id("a", 1_763_690_400), id("b", 1_763_690_400));
        assert_ne!(id("a", 1_763_690_400), Id::new("other", "a", Second(1_763_690_400)));
        assert_eq!(Id::given("X").key("main"), "aviary:main:X");
    }
}
