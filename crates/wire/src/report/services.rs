//! The versions of its services that an agent holds.

use aviary_core::rollout::{Held, HeldState, Version};

use super::{VERSION_ERROR_BYTES_MAX, VERSIONS_MAX};

/// A message of its own: that there is one says that the agent takes its services by version, also while it holds none.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Services {
    #[prost(message, repeated, tag = "1")]
    held: Vec<HeldVersion>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeldVersion {
    #[prost(fixed64, tag = "1")]
    version: u64,
    #[prost(uint32, tag = "2")]
    state: u32,
    #[prost(string, tag = "3")]
    error: String,
}

/// The states by number. A number is never used again for another.
const STATES: [(u32, HeldState); 5] = [
    (1, HeldState::Building),
    (2, HeldState::Available),
    (3, HeldState::Active),
    (4, HeldState::Error),
    (5, HeldState::Removing),
];

impl Services {
    pub(super) fn of(held: &[Held]) -> Self {
        let written = |held: &Held| HeldVersion {
            version: held.version.0,
            state: STATES.iter().find(|(_, state)| *state == held.state).map_or(0, |(number, _)| *number),
            error: held.error.clone(),
        };
        Self { held: held.iter().map(written).collect() }
    }

    /// What is too much is left out, and so is a state that is not known here, being a later agent's: slots are not refused for
    /// what is told beside them.
    pub(super) fn read(self) -> Vec<Held> {
        let known = self.held.into_iter().take(VERSIONS_MAX).filter_map(|held| {
            let (_, state) = STATES.iter().find(|(number, _)| *number == held.state)?;
            let error = told_reason(&held.error).to_owned();
            Some(Held { version: Version(held.version), state: *state, error })
        });
        known.collect()
    }
}

/// As much of a reason as a report tells: whole characters of at most [`VERSION_ERROR_BYTES_MAX`] bytes.
pub fn told_reason(why: &str) -> &str {
    let ends = why.char_indices().map(|(start, character)| start + character.len_utf8());
    let end = ends.take_while(|end| *end <= VERSION_ERROR_BYTES_MAX).last().unwrap_or(0);
    why.get(..end).unwrap_or_default()
}
