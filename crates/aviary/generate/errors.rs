//! `errors.md`: what the API answers when it cannot, and how commands end.

use std::fmt::Write as _;

use aviary_collector::{ERROR_CODES, ErrorCode};
use clap::{Command, CommandFactory as _};

use super::cell;
use crate::{admin::ERROR_CODES as OURS, cli::Cli};

const HEAD: &str = "\
# Errors

Made from the code by `aviary generate reference`.

## Of the API

An error is `{\"error\":{\"code\",\"message\",\"detail\"}}`. Programs tell errors apart by `code`, which stays as it is; `message` is for
people, names what is wrong and says what would be right. 429 and 503 come with `Retry-After`.

| code | status | what it means |
|---|---|---|
";

const EXITS: &str = "
## Of commands

The last line on standard error says what was wrong. In general, 0 is all well; 1, what was asked about is not well; 2, usage, or
something that cannot be started or reached.

| command | exit status |
|---|---|
";

/// The whole page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut codes: Vec<&ErrorCode> = ERROR_CODES.iter().chain(&OURS).collect();
    codes.sort_by_key(|code| code.name);
    for ErrorCode { name, status, meaning } in codes {
        // Writing to memory does not fail.
        _ = writeln!(page, "| `{name}` | {status} | {} |", cell(meaning));
    }
    page.push_str(EXITS);
    let mut program = Cli::command();
    program.build();
    for command in program.get_subcommands() {
        if let Some(exits) = exits(command) {
            _ = writeln!(page, "| `aviary {}` | {} |", command.get_name(), cell(&exits));
        }
    }
    page
}

/// What the help of a command says of how it ends.
fn exits(command: &Command) -> Option<String> {
    let help = command.get_after_help()?.to_string();
    let (_, exits) = help.split_once("Exit status: ")?;
    Some(exits.trim_end().to_owned())
}
