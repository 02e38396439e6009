//! What is wrong with a configuration, for a person to read and for a program.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::source::Excerpt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// `run` does not start with this.
    Error,
    /// Worth knowing, and no reason to fail.
    Note,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In this line.
    Line(Excerpt),
    /// In this variable of the environment, which overrides a key of the file.
    Variable(String),
    /// In the file as a whole.
    File,
}

/// One thing that is wrong with a configuration: what, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// How bad it is.
    pub(crate) level: Level,
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// Where in it.
    pub(crate) location: Location,
    /// The key with its section, such as `service[0].endpoints[2]`; empty for the file as a whole.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) help: Option<String>,
}

impl Problem {
    /// Something wrong with a file as a whole.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            file: file.to_owned(),
            location: Location::File,
            key: String::new(),
            message: message.into(),
            help: Some(help.into()),
        }
    }

    /// The problem as one JSON object.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Json<'p> {
            file: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            variable: Option<&'p str>,
            line: Option<usize>,
            column: Option<usize>,
            key: &'p str,
            message: &'p str,
            help: Option<&'p str>,
            level: Level,
        }
        let (line, variable) = match &self.location {
            Location::Line(excerpt) => (Some(excerpt), None),
            Location::Variable(name) => (None, Some(name.as_str())),
            Location::File => (None, None),
        };
        serde_json::to_string(&Json {
            file: self.file.display().to_string(),
            variable,
            line: line.map(|excerpt| excerpt.line),
            column: line.map(|excerpt| excerpt.column),
            key: &self.key,
            message: &self.message,
            help: self.help.as_deref(),
            level: self.level,
        })
    }
}

/// The form of the compiler's messages, which editors know how to jump to.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Note => "note",
        };
        let (file, help) = (self.file.display(), self.help.as_deref().unwrap_or_default());
        writeln!(f, "{level}: {}", self.message)?;
        match &self.location {
            Location::Line(Excerpt { line, column, text, indent, width }) => {
                let number = line.to_string();
                let gutter = " ".repeat(number.len());
                let caret = format!("{}{} {help}", " ".repeat(*indent), "^".repeat(*width));
                writeln!(f, " {gutter}--> {file}:{line}:{column}")?;
                writeln!(f, " {gutter} |")?;
                writeln!(f, " {number} | {}", text.trim_end())?;
                writeln!(f, " {gutter} | {}", caret.trim_end())
            }
            Location::Variable(name) => {
                writeln!(f, "  --> {name} in the environment, with {file}")?;
                if help.is_empty() { Ok(()) } else { writeln!(f, "   = {help}") }
            }
            Location::File => {
                writeln!(f, "  --> {file}")?;
                if help.is_empty() { Ok(()) } else { writeln!(f, "   = {help}") }
            }
        }
    }
}

/// Everything that is wrong with a configuration: at least one error, and the notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(location: Location) -> Problem {
        Problem {
            level: Level::Error,
            file: "config/agent.toml".into(),
            location,
            key: "vantage.regoin".to_owned(),
            message: "unknown key `regoin`".to_owned(),
            help: Some("did you mean `region`?".to_owned()),
        }
    }

    fn line() -> Location {
        let text = "regoin = \"eu-west-1\"".to_owned();
        Location::Line(Excerpt { line: 3, column: 1, text, indent: 0, width: 6 })
    }

    #[test]
    fn a_problem_reads_like_the_compilers() {
        let expected = "\
error: unknown key `regoin`
  --> config/agent.toml:3:1
   |
 3 | regoin = \"eu-west-1\"
   | ^^^^^^ did you mean `region`?
";
        assert_eq!(problem(line()).to_string(), expected);
        let expected = "\
error: unknown key `regoin`
  --> AVIARY_VANTAGE_REGOIN in the environment, with config/agent.toml
   = did you mean `region`?
";
        assert_eq!(problem(Location::Variable("AVIARY_VANTAGE_REGOIN".to_owned())).to_string(), expected);
    }

    #[test]
    fn a_problem_is_one_json_object() {
        assert_eq!(
            problem(line()).to_json().unwrap(),
            "{\"file\":\"config/agent.toml\",\"line\":3,\"column\":1,\"key\":\"vantage.regoin\",\
             \"message\":\"unknown key `regoin`\",\"help\":\"did you mean `region`?\",\"level\":\"error\"}"
        );
        let json = problem(Location::Variable("AVIARY_X".to_owned())).to_json().unwrap();
        assert!(json.contains("\"variable\":\"AVIARY_X\",\"line\":null"), "{json}");
    }
}
