//! Keeping texts within what receivers take.

use std::borrow::Cow;

/// What the end of a text becomes that was cut.
const CUT: &str = " (cut)";

/// `text`, or as much of its beginning as fits `limit` with a word that says that it was cut.
///
/// Counted in UTF-16 units: some receivers count those, and no receiver that counts characters counts more.
pub(crate) fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    cut_by(text, limit, char::len_utf16)
}

/// The same for receivers that count bytes.
pub(crate) fn cut_bytes(text: &str, limit: usize) -> Cow<'_, str> {
    cut_by(text, limit, char::len_utf8)
}

fn cut_by(text: &str, limit: usize, length: fn(char) -> usize) -> Cow<'_, str> {
    let room = limit.saturating_sub(CUT.len());
    let (mut used, mut kept) = (0, 0);
    for (at, char) in text.char_indices() {
        used += length(char);
        if used <= room {
            kept = at + char.len_utf8();
        }
        if used > limit {
            let kept = text.get(..kept).unwrap_or_default();
            return Cow::Owned(format!("{}{CUT}", kept.trim_end()));
        }
    }
    Cow::Borrowed(text)
}

/// `text` in one line: a subject, a header or a log has no other.
pub(crate) fn one_line(text: &str) -> String {
    text.split(|char: char| char.is_control() || char.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_long_says_that_it_was_cut() {
        let table = [
            ("short", 5, "short"),
            ("0123456789abcdef", 12, "012345 (cut)"),
            ("ends in blanks       and more", 20, "ends in blanks (cut)"),
            ("ééééééééé", 8, "éé (cut)"),
            // Outside the basic plane a character is two units.
            ("😀😀😀😀😀", 9, "😀 (cut)"),
        ];
        for (text, limit, expected) in table {
            assert_eq!(cut(text, limit), expected, "{text}");
        }
        assert_eq!(cut_bytes("ééééé", 9), "é (cut)");
        assert_eq!(one_line(" two\r\nlines\0 \tand more "), "two lines and more");
    }

    proptest! {
        #[test]
        fn no_cut_text_is_longer_than_its_limit(text in "\\PC{0,80}", limit in 6_usize..60) {
            prop_assert!(cut(&text, limit).encode_utf16().count() <= limit);
            prop_assert!(cut_bytes(&text, limit).len() <= limit);
            if text.len() <= limit {
                prop_assert_eq!(cut_bytes(&text, limit), text.as_str());
            }
        }
    }
}
