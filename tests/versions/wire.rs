//! What goes over the wire and onto disks, as a list: where it changes, CHANGELOG.md has to say so.

use std::{fmt::Write as _, fs, path::Path};

use aviary_core::{Evidence, Fault, LocalFault, Phase, fnv::fnv1a};

/// Sources whose protobuf messages are listed.
const MESSAGES: [&str; 7] = [
    "crates/wire/src/report/message.rs",
    "crates/wire/src/report/columns.rs",
    "crates/wire/src/report/services.rs",
    "crates/wire/src/report/version.rs",
    "crates/wire/src/progress.rs",
    "crates/collector/src/checkpoint.rs",
    "crates/collector/src/checkpoint/message.rs",
];

/// Sources with constants that stand on the wire or in a file, and how each of those lines begins.
const CONSTANTS: [(&str, &[&str]); 14] = [
    ("crates/wire/src/report/version.rs", &["pub const FIRST", "pub const NEWEST", "pub const OLDEST"]),
    (
        "crates/wire/src/report/columns.rs",
        &[
            "const CODE_BITS",
            "const NOT_TOLD",
            "const DELIVERED",
            "const LOST",
            "const LOCAL",
            "const MISSED",
            "const MUTED",
        ],
    ),
    ("crates/wire/src/clock.rs", &["pub const HEADER"]),
    ("crates/agent/src/push.rs", &["const FINAL_CODES", "const VERSION_CODE"]),
    ("crates/agent/src/spool.rs", &["const PROGRESS", "const ROSTER"]),
    ("crates/store/src/durable.rs", &["const FORMAT_KNOWN", "pub const FILE_NAME"]),
    (
        "crates/store/src/spool/database.rs",
        &["const FORMAT_KNOWN", "const RECORDS", "const STATE", "const META"],
    ),
    ("crates/store/src/spool/tail.rs", &["const MAGIC", "const VERSION"]),
    ("crates/collector/src/journal.rs", &["pub(crate) const VERSION", "const HEAD_BYTES"]),
    ("crates/collector/src/checkpoint.rs", &["const VERSION", "const HEAD", "const KEPT", "const BLOCK"]),
    ("crates/collector/src/history/codec.rs", &["const PLAIN"]),
    ("crates/collector/src/history/rollup.rs", &["const FORM"]),
    ("crates/collector/src/history/records.rs", &["const FORM"]),
    ("crates/collector/src/history/timings.rs", &["const FORM"]),
];

/// Structs of JSON that agents read in an answer.
const ANSWERS: (&str, [&str; 2]) = ("crates/agent/src/push.rs", ["Receipt", "RefusalError"]);

fn source(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every field of the protobuf messages in `text`: message, number, kind and name.
fn messages(text: &str) -> String {
    let mut list = String::new();
    let (mut name, mut field) = ("", None);
    for line in text.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("struct ") {
            name = rest.split([' ', '{', '(']).next().unwrap_or("");
        }
        if let Some(kind) = line.strip_prefix("#[prost(").and_then(|rest| rest.strip_suffix(")]")) {
            field = Some(kind);
        } else if let Some(kind) = field.filter(|_| !line.starts_with("///")) {
            let (before, of) = line.split_once(": ").unwrap_or((line, ""));
            let label = before.rsplit(' ').next().unwrap_or("");
            let (kind, tag) = kind.split_once(", tag = ").unwrap_or((kind, "?"));
            // Writing to a string does not fail.
            _ = writeln!(
                list,
                "  {name} {} {label}: {kind} {}",
                tag.trim_matches('"'),
                of.trim_end_matches(',')
            );
            field = None;
        }
    }
    list
}

/// The fields of a struct, with how serde reads them.
fn fields(text: &str, name: &str) -> String {
    let (_, fields) =
        text.split_once(&format!("struct {name} {{")).unwrap_or_else(|| panic!("no struct {name}"));
    let lines = fields.lines().skip(1).take_while(|line| !line.starts_with('}')).map(str::trim);
    lines.filter(|line| !line.starts_with("///")).fold(String::new(), |list, line| list + "  " + line + "\n")
}

fn listing(source: impl Fn(&str) -> String) -> String {
    let mut list = String::new();
    let mut section = |title: &str, lines: String| {
        _ = write!(list, "{title}\n{lines}");
    };
    for path in MESSAGES {
        section(path, messages(&source(path)));
    }
    for (path, begins) in CONSTANTS {
        let text = source(path);
        let is_wanted = |line: &&str| {
            begins
                .iter()
                .any(|begin| line.strip_prefix(begin).is_some_and(|rest| rest.starts_with([':', ' '])))
        };
        let lines = text.lines().map(str::trim).filter(is_wanted);
        section(path, lines.fold(String::new(), |all, line| all + "  " + line + "\n"));
    }
    let (path, structs) = ANSWERS;
    for name in structs {
        section(&format!("{path} {name}"), fields(&source(path), name));
    }
    let names = |all: Vec<&str>| format!("  {}\n", all.join(" "));
    section("phases, by number", names(Phase::ALL.iter().map(|it| it.name()).collect()));
    section("rungs of evidence, by number", names(Evidence::ALL.iter().map(|it| it.name()).collect()));
    section("faults, by number", names(Fault::ALL.iter().map(|it| it.name()).collect()));
    section("local faults, by number", names(LocalFault::ALL.iter().map(|it| it.name()).collect()));
    list
}

/// What stands in CHANGELOG.md for a listing.
fn mark(listing: &str) -> String {
    format!("wire {:016x}", fnv1a(listing.bytes()))
}

/// Why `now` may not be released with this `changelog`, where what was agreed is `known`.
fn judge(now: &str, known: &str, changelog: &str) -> Result<(), String> {
    let newest = changelog.split("\n## ").nth(1).unwrap_or("");
    if now == known && newest.contains(&mark(now)) {
        return Ok(());
    }
    let lines = |one: &str, other: &str, sign: &str| -> String {
        one.lines()
            .filter(|line| !other.lines().any(|it| it == *line))
            .map(|line| format!("  {sign}{line}\n"))
            .collect()
    };
    Err(format!(
        "What goes over the wire or onto a disk is not what CHANGELOG.md says:\n{}{}\
         1. May a reader of the version before leave that unread, and take the rest? If not, it is another version: raise\n   \
         `Version::NEWEST` (crates/wire/src/report/version.rs), or the `FORMAT_KNOWN` of the file, and record what the version\n   \
         before wrote (tests/fixtures/versions/README.md).\n\
         2. Say in CHANGELOG.md under \"Unreleased\" what changed for whoever upgrades, and put `{}` there in the place of the\n   \
         mark that it has.\n\
         3. Put the list as it is now in the place of tests/fixtures/versions/wire.txt.",
        lines(known, now, "-"),
        lines(now, known, "+"),
        mark(now),
    ))
}

#[test]
fn the_wire_and_the_files_are_what_the_changelog_says() {
    let now = listing(source);
    let known = source("tests/fixtures/versions/wire.txt");
    if let Err(problem) = judge(&now, &known, &source("CHANGELOG.md")) {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire.txt");
        fs::write(&place, &now).expect("the target directory can be written");
        panic!("{problem} It is in {}.", place.display());
    }
}

#[test]
fn a_field_without_an_entry_in_the_changelog_is_noticed() {
    let known = listing(source);
    let changelog = format!("# Changelog\n\n## Unreleased\n\n`{}`\n\n## 0.1.0\n", mark(&known));
    assert_eq!(judge(&known, &known, &changelog), Ok(()));
    let changed = |path: &str, from: &str, to: &str| {
        let now = listing(|it| if it == path { source(it).replacen(from, to, 1) } else { source(it) });
        judge(&now, &known, &changelog).expect_err("it is noticed")
    };
    let report = "crates/wire/src/report/message.rs";
    let field =
        "#[prost(uint64, tag = \"999\")]\n    pub(super) more: u64,\n    #[prost(bool, tag = \"2047\")]";
    let added = changed(report, "#[prost(bool, tag = \"2047\")]", field);
    assert!(added.contains("  +  Report 999 more: uint64 u64\n"), "{added}");
    assert!(added.contains("Say in CHANGELOG.md") && added.contains("`wire "), "{added}");
    let moved = changed(report, "#[prost(uint64, tag = \"2\")]", "#[prost(sint64, tag = \"2\")]");
    assert!(moved.contains("  -  Report 2 sequence: uint64 u64\n"), "{moved}");
    let file =
        changed("crates/store/src/durable.rs", "const FORMAT_KNOWN: u64 = 1", "const FORMAT_KNOWN: u64 = 2");
    assert!(file.contains("  +  const FORMAT_KNOWN: u64 = 2;\n"), "{file}");
    // An entry of a release before is none of this one.
    let old = format!("# Changelog\n\n## Unreleased\n\n## 0.1.0\n\n`{}`\n", mark(&known));
    assert!(judge(&known, &known, &old).is_err());
}
