//! Which versions of a report there are, and how one is told from another before anything else of it is read.
//!
//! A version says what a report means. Within one, fields are added that a reader may leave unread: an event, what an
//! agent says of itself. What a reader of the version before would get wrong, a slot that means something else or a field
//! that must not be left unread, takes another version. A reader that does not know a version takes nothing of the report.
//!
//! What an agent of this version sends is read by this version of the collector and by the one before; a collector takes
//! what this version and the one before send. So either may be upgraded first.

use std::fmt;

use prost::Message as _;

use super::ReportError;

/// The longest text for the version of a program, in characters.
pub const PROGRAM_CHARACTERS_MAX: usize = 64;

/// The version of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl Version {
    /// Reports without a version of their own have this one. It has no `program`.
    pub const FIRST: Self = Self(1);

    /// What [`super::Report::encode`] writes. The second says its version and its program, and else what the first says,
    /// so that a reader of the first takes it.
    pub const NEWEST: Self = Self(2);

    /// The oldest that [`super::Report::decode`] takes.
    pub const OLDEST: Self = Self::FIRST;

    /// Whether reports of this version are understood here.
    pub fn is_known(self) -> bool {
        (Self::OLDEST..=Self::NEWEST).contains(&self)
    }

    /// The versions that are understood here, for people: `1 and 2`.
    pub fn known() -> String {
        let (oldest, newest) = (Self::OLDEST, Self::NEWEST);
        match newest.0 - oldest.0 {
            0 => newest.to_string(),
            1 => format!("{oldest} and {newest}"),
            _ => format!("{oldest} to {newest}"),
        }
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::NEWEST
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What stands at the same place in a report of every version, whatever else it says.
#[derive(Clone, PartialEq, prost::Message)]
struct Preface {
    #[prost(string, tag = "20")]
    program: String,
    #[prost(uint32, tag = "22")]
    version: u32,
}

/// The version of the report in `bytes`.
///
/// # Errors
/// [`ReportError::Version`] if it is none that is understood here; other errors if `bytes` are no report of any version.
pub fn version_of(bytes: &[u8]) -> Result<Version, ReportError> {
    let preface = Preface::decode(bytes).map_err(|error| ReportError::Malformed(error.to_string()))?;
    let version = read(preface.version);
    if version.is_known() {
        return Ok(version);
    }
    Err(ReportError::Version { found: version, program: program(&preface.program) })
}

/// The version that stands in a report; the first one had no number.
pub(super) fn read(number: u32) -> Version {
    if number == 0 { Version::FIRST } else { Version(number) }
}

/// The version of a program as it may be shown: what others write in its place is shortened and not refused, since a
/// report is not worse for it.
pub(super) fn program(text: &str) -> String {
    text.chars().filter(|it| it.is_ascii_graphic() || *it == ' ').take(PROGRAM_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_from_the_oldest_to_the_newest() {
        let table = [(0, true), (1, true), (2, true), (3, false), (u32::MAX, false)];
        for (number, expected) in table {
            let preface = Preface { program: "9.9.9 (f00)\u{7}".to_owned(), version: number };
            let found = version_of(&preface.encode_to_vec());
            assert_eq!(found.is_ok(), expected, "{number}: {found:?}");
            if let Err(ReportError::Version { found, program }) = found {
                assert_eq!((found, program.as_str()), (Version(number), "9.9.9 (f00)"));
            }
        }
        assert!(!Version(Version::OLDEST.0 - 1).is_known(), "and what is too old is not");
        assert_eq!(Version::known(), "1 and 2");
    }

    #[test]
    fn whatever_a_report_of_another_version_says_its_version_is_read() {
        // Every field that this version knows is something else there.
        let mut bytes = Vec::new();
        for tag in (1_u32..30).filter(|tag| ![20, 22].contains(tag)) {
            let kind = (tag % 2) * 2;
            prost::encoding::encode_varint(u64::from(tag << 3 | kind), &mut bytes);
            bytes.extend_from_slice(if kind == 2 { &[3, 255, 255, 255] } else { &[127] });
        }
        bytes.extend(Preface { program: "9.9.9".to_owned(), version: 7 }.encode_to_vec());
        let expected = ReportError::Version { found: Version(7), program: "9.9.9".to_owned() };
        assert_eq!(version_of(&bytes), Err(expected.clone()));
        assert_eq!(super::super::Report::decode(&bytes), Err(expected));
    }

    #[test]
    fn a_program_is_shown_short_and_in_plain_characters() {
        assert_eq!(program("0.1.0\n\u{1b}[31m"), "0.1.0[31m");
        assert_eq!(program(&"x".repeat(5_000)).len(), PROGRAM_CHARACTERS_MAX);
    }
}
