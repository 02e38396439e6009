//! Which versions of the services a collector told, with its answer to a report.

use aviary_core::rollout::Version;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// Which versions of its services a collector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldVersions {
    /// What is to be probed.
    pub active: Version,
    /// What is to be prepared.
    pub candidate: Option<Version>,
}

/// Reads the versions of an answer. What is not understood is as if nothing was told, and the services are asked for as they are of
/// a collector that knows no versions.
pub(crate) fn told<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ToldVersions>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Understood { active: String, candidate: Option<String> },
        Else(IgnoredAny),
    }
    let Lenient::Understood { active, candidate } = Lenient::deserialize(from)? else { return Ok(None) };
    let read = || {
        let candidate = candidate.map(|it| it.parse()).transpose().ok()?;
        Some(ToldVersions { active: active.parse().ok()?, candidate })
    };
    Ok(read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_what_is_not_understood_is_nothing() {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default, deserialize_with = "told")]
            services: Option<ToldVersions>,
        }
        let read = |text: &str| serde_json::from_str::<Answer>(text).unwrap().services;
        let active = Version(0xa);
        let candidate = Some(Version(0xb));
        let both = r#"{"services":{"active":"000000000000000a","candidate":"000000000000000b"}}"#;
        assert_eq!(read(both), Some(ToldVersions { active, candidate }));
        let one = r#"{"services":{"active":"000000000000000a","more":1}}"#;
        assert_eq!(read(one), Some(ToldVersions { active, candidate: None }));
        for nothing in [
            "{}",
            r#"{"services":null}"#,
            r#"{"services":7}"#,
            r#"{"services":{"active":"a"}}"#,
            r#"{"services":{"active":"000000000000000a","candidate":"b"}}"#,
        ] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}
