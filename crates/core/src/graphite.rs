//! What may stand in a Graphite name.

use std::borrow::Cow;

/// Whether `byte` is safe between the dots of a name.
///
/// carbon stores more, but names with braces, brackets, commas or quotes cannot be read back through `/render`, `=`
/// makes carbon-relay-ng refuse the line and `:` is rewritten by others.
pub const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The longest part between dots: Whisper keeps each as a file name of at most 255 bytes with its ending.
pub const PART_BYTES_MAX: usize = 249;

/// `part` with every unsafe character replaced by `_`, and at most [`PART_BYTES_MAX`] bytes long.
pub fn sanitise(part: &str) -> Cow<'_, str> {
    if !part.is_empty() && part.len() <= PART_BYTES_MAX && part.bytes().all(is_name_byte) {
        return Cow::Borrowed(part);
    }
    if part.is_empty() {
        return Cow::Borrowed("_");
    }
    let safe = |char: char| if u8::try_from(char).is_ok_and(is_name_byte) { char } else { '_' };
    part.chars().take(PART_BYTES_MAX).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_characters_become_underscores() {
        let table = [("eu-west_1", "eu-west_1"), ("a.b c", "a_b_c"), ("é{x}", "__x_"), ("", "_")];
        for (part, safe) in table {
            assert_eq!(sanitise(part), safe);
        }
        assert_eq!(sanitise(&"x".repeat(400)).len(), PART_BYTES_MAX);
    }
}
