//! The text of a configuration file, and how a line of it is shown: with a position, and without its secrets.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

/// Longer lines are shown around the place in question only.
const SHOWN_CHARS_MAX: usize = 120;

/// How many bytes of a line are looked at before and after a place: more than are shown, in any script.
const WINDOW_BYTES: usize = 16 * SHOWN_CHARS_MAX;

/// What stands for a hidden piece of text: as long for a short secret as for a long one.
const HIDDEN: &str = "***";

/// The keys under which secrets stand. Certificates are here because a private key may stand beside them, and pings
/// because whoever has their URL can ping in our place.
const SECRET_KEYS: [&str; 6] = ["api_key", "certificate", "key", "ping", "secret", "token"];

/// The keys that say where a secret is, or whose, instead of holding it.
const PUBLIC_KEYS: [&str; 5] = ["env", "file", "name", "region", "scope"];

/// A configuration file's text.
pub(crate) struct Source {
    path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    hidden: Vec<Range<usize>>,
}

/// A place in a file, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The column in characters, from 1.
    pub(crate) column: usize,
    /// The line's text as far as it may be shown.
    pub(crate) text: String,
    /// How many characters of `text` stand before the caret.
    pub(crate) indent: usize,
    /// How many characters the caret spans, at least one.
    pub(crate) width: usize,
}

impl Source {
    /// The text of the file at `path`.
    pub(crate) fn new(path: &Path, text: String) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let hidden = user_infos(&text);
        Self { path: path.to_owned(), text, line_starts, hidden }
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Shows what stands in `hidden` no more.
    pub(crate) fn hide(&mut self, hidden: Vec<Range<usize>>) {
        self.hidden.extend(hidden);
        self.hidden.sort_by_key(|range| range.start);
    }

    /// The line, and the column in characters, of the byte at `offset`, both from 1.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let before = self.text.get(self.line_starts[line - 1]..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The line of `span` with the place of the caret, cut at the line's end.
    pub(crate) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        // What is missing at the end is shown at the last line that has text, not on an empty one after it.
        let start = span.start.min(self.text.trim_end().len());
        let (line, column) = self.position(start);
        let line_start = self.line_starts[line - 1];
        let next_line = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        let line_end = line_start + self.text.get(line_start..next_line).unwrap_or_default().trim_end().len();
        let start = start.min(line_end);
        // Of a line as long as a file, what could be on the screen is enough.
        let from = self.character_start(start.saturating_sub(WINDOW_BYTES).max(line_start));
        let to = self.character_start(start.saturating_add(WINDOW_BYTES).min(line_end));

        let before = self.show(from..start);
        let marked = self.show(start..span.end.clamp(start, to));
        let mut excerpt = Excerpt {
            line,
            column,
            text: self.show(from..to),
            indent: before.chars().count(),
            width: marked.chars().count().max(1),
        };
        excerpt.cut();
        excerpt
    }

    /// Where the character that the byte at `offset` is a part of begins.
    fn character_start(&self, offset: usize) -> usize {
        (0..=offset).rev().find(|offset| self.text.is_char_boundary(*offset)).unwrap_or(0)
    }

    /// The text of `range` without its secrets, and without characters that would move a terminal's cursor.
    fn show(&self, range: Range<usize>) -> String {
        let mut shown = String::new();
        let mut at = range.start;
        for hidden in self.hidden.iter().filter(|hidden| hidden.start < range.end && range.start < hidden.end)
        {
            shown.push_str(self.text.get(at..hidden.start).unwrap_or_default());
            if hidden.end > at {
                shown.push_str(HIDDEN);
                at = hidden.end;
            }
        }
        shown.push_str(self.text.get(at..range.end).unwrap_or_default());
        printable(&shown)
    }
}

impl Excerpt {
    /// Cuts a line too long for a terminal to the surroundings of the caret.
    fn cut(&mut self) {
        if self.text.chars().count() <= SHOWN_CHARS_MAX {
            return;
        }
        let skipped = self.indent.saturating_sub(SHOWN_CHARS_MAX / 3);
        let rest: String = self.text.chars().skip(skipped).take(SHOWN_CHARS_MAX).collect();
        let cut_before = if skipped > 0 { "…" } else { "" };
        self.indent = self.indent - skipped + cut_before.chars().count();
        self.width = self.width.min(SHOWN_CHARS_MAX.saturating_sub(self.indent)).max(1);
        self.text = format!("{cut_before}{rest}…");
    }
}

/// `text` with tabs as single blanks and control characters made visible.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '\t' => ' ',
            char if char.is_control() => char::REPLACEMENT_CHARACTER,
            char => char,
        })
        .collect()
}

/// Whether a secret may stand under `key`, also when the key is misspelt.
pub(crate) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let has_word = ["token", "secret", "key", "passw"].iter().any(|word| key.contains(word));
    has_word || super::reader::closest(&key, SECRET_KEYS).is_some()
}

/// Whether `text` is the name of a variable as all write it. What is not may be the secret itself, in the wrong place.
pub(crate) fn is_variable_name(text: &str) -> bool {
    let is_name = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_name && text.starts_with(|char: char| !char.is_ascii_digit())
}

/// Where in a parsed document a value stands that may be a secret, whether or not it should stand there.
pub(crate) fn secrets_of(document: &DeTable<'_>) -> Vec<Range<usize>> {
    fn walk(table: &DeTable<'_>, under_secret: bool, found: &mut Vec<Range<usize>>) {
        for (key, value) in table {
            let key_text: &str = key.get_ref();
            let misplaced =
                key_text == "env" && value.get_ref().as_str().is_some_and(|name| !is_variable_name(name));
            let public = PUBLIC_KEYS.contains(&key_text) && !misplaced;
            let secret = is_secret_key(key.get_ref()) || (under_secret && !public);
            visit(value, secret, found);
        }
    }
    fn visit(value: &toml::Spanned<DeValue<'_>>, secret: bool, found: &mut Vec<Range<usize>>) {
        match value.get_ref() {
            DeValue::Table(table) => walk(table, secret, found),
            DeValue::Array(items) => items.iter().for_each(|item| visit(item, secret, found)),
            // `open` is near enough to `token` to be taken for a misspelling, and no secret is true or false.
            DeValue::Boolean(_) => {}
            _ if secret => found.push(value.span()),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, false, &mut found);
    found
}

/// Where in a text that is no TOML a secret may stand: all that follows a secret's key, up to the next key or section.
pub(crate) fn possible_secrets_of(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut line_start, mut in_secret) = (0, false);
    for line in text.split_inclusive('\n') {
        let line_end = line_start + line.trim_end().len();
        let mut hidden_from = in_secret.then_some(line_start);
        for (at, _) in line.match_indices('=') {
            let before = line.get(..at).unwrap_or_default().trim_end();
            let key = before.rsplit(|char: char| !(char.is_alphanumeric() || "_-\"'".contains(char))).next();
            let key = key.unwrap_or_default().trim_matches(['"', '\'']);
            // The padding of base64 is no end of a key.
            let after = line.get(at + 1..).unwrap_or_default().trim_start();
            let is_key = !key.is_empty() && !after.is_empty() && !after.starts_with('=');
            if is_key && is_secret_key(key) {
                in_secret = true;
                let value = line.get(at + 1..).unwrap_or_default();
                hidden_from = hidden_from.or(Some(line_start + at + 1 + value.len() - after.len()));
            } else if is_key && before.trim_start().trim_matches(['"', '\'']) == key {
                (in_secret, hidden_from) = (false, None);
            }
        }
        if line.trim_start().starts_with('[') {
            (in_secret, hidden_from) = (false, None);
        }
        found.extend(hidden_from.map(|start| start..line_end.max(start)));
        line_start += line.len();
    }
    found
}

/// Where URLs in `text` have a user or password.
fn user_infos(text: &str) -> Vec<Range<usize>> {
    text.match_indices("://")
        .filter_map(|(at, separator)| {
            let start = at + separator.len();
            let authority = text.get(start..)?.split(['/', '"', '\'', ' ', '\n', '?', '#']).next()?;
            Some(start..start + authority.rfind('@')?)
        })
        .collect()
}

/// A value as a message may quote it: short, printable, and without a user or password.
pub(crate) fn quotable(value: &str) -> String {
    let source = Source::new(Path::new(""), value.to_owned());
    let shown = source.show(0..value.len());
    match shown.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(Path::new("a.toml"), text.to_owned())
    }

    #[test]
    fn a_span_becomes_a_line_with_a_caret() {
        let table = [
            ("a = 1\nbb = 22\n", "bb", (2, 1, "bb = 22", 0, 2)),
            ("é = 1\nü = \"é\" # x", "\"é\"", (2, 5, "ü = \"é\" # x", 4, 3)),
            ("\tkey\t= 1\n", "1", (1, 8, " key = 1", 7, 1)),
            ("a = [\n  \"x\",\n]", "[\n  \"x\",\n]", (1, 5, "a = [", 4, 1)),
            ("a = \u{1b}[2J\r\n", "a", (1, 1, "a = \u{fffd}[2J", 0, 1)),
        ];
        for (text, piece, (line, column, shown, indent, width)) in table {
            let start = text.find(piece).unwrap();
            let excerpt = source(text).excerpt(&(start..start + piece.len()));
            assert_eq!(excerpt, Excerpt { line, column, text: shown.to_owned(), indent, width });
        }
        let at_end = source("a = 1\n[b\n\n").excerpt(&(10..10));
        assert_eq!((at_end.line, at_end.column, at_end.text.as_str()), (2, 3, "[b"));
    }

    #[test]
    fn a_long_line_is_shown_around_the_caret() {
        let text = format!("a = [{} \"here\" {}]", "1, ".repeat(500), ", 2".repeat(500));
        let start = text.find("\"here\"").unwrap();
        let excerpt = source(&text).excerpt(&(start..start + 6));
        assert_eq!(
            excerpt.text.chars().skip(excerpt.indent).take(excerpt.width).collect::<String>(),
            "\"here\""
        );
        assert!(excerpt.text.chars().count() <= SHOWN_CHARS_MAX + 2);
        assert_eq!(excerpt.column, start + 1);
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let table = [
            "token = \"hunter2\"",
            "toekn = \"hunter2\"",
            "api_key = hunter2",
            "a = { x = 1, secret = \"hunter2\" }",
            "secret = \"\"\"\nhunter2=\nhunter2==\n\"\"\"",
            "token = { value = \"hunter2\" }",
            "key = [\"hunter2\"]",
            "key = { env = \"hunter2\" }",
            "url = \"https://me:hunter2@host/\"",
            "url = https://me:hunter2@host/",
            "token = \"hunter2",
            "\"password\" = hunter2 = 3",
        ];
        for text in table {
            let mut source = source(text);
            source.hide(match DeTable::parse(text) {
                Ok(document) => secrets_of(document.get_ref()),
                Err(_) => possible_secrets_of(text),
            });
            for line in 0..text.lines().count() {
                let start = source.line_starts[line];
                let shown = source.excerpt(&(start..start + 1)).text;
                assert!(!shown.contains("hunter2"), "{text}: {shown}");
            }
            let first = source.excerpt(&(0..1)).text;
            assert!(first.contains("***") || text.contains("\"\"\""), "{text}: {first}");
        }
    }

    #[test]
    fn what_says_where_a_secret_is_stays_visible() {
        for text in ["token = { file = \"/etc/t\" }", "[[collector.token]]\nname = \"eu\"\nscope = [\"x\"]"] {
            let hidden = secrets_of(DeTable::parse(text).unwrap().get_ref());
            assert!(hidden.is_empty(), "{text}: {hidden:?}");
        }
        let broken = "token = x\nregion = eu-west-1\n[agent]\nlisten = 8610";
        assert_eq!(possible_secrets_of(broken), vec![Range { start: 8, end: 9 }]);
    }

    #[test]
    fn a_value_is_quoted_short_and_without_a_password() {
        assert_eq!(quotable("https://me:pass@host/\n"), "https://***@host/\u{fffd}");
        assert_eq!(quotable(&"x".repeat(500)).chars().count(), 81);
    }
}
