//! Colours, where somebody sees them.

use std::{fmt, io};

use anstyle::{AnsiColor, Style};

/// Paints words, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours if standard output is a terminal that shows them and nobody asked for none: `NO_COLOR`, `CLICOLOR` and
    /// `TERM` are minded.
    pub(crate) fn for_stdout() -> Self {
        Self { on: anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never }
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) const fn off() -> Self {
        Self { on: false }
    }

    pub(crate) fn strong(self, text: impl fmt::Display) -> String {
        self.with(Style::new().bold(), text)
    }

    pub(crate) fn good(self, text: impl fmt::Display) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    pub(crate) fn bad(self, text: impl fmt::Display) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    pub(crate) fn with(self, style: Style, text: impl fmt::Display) -> String {
        let text = text.to_string();
        if self.on && !text.is_empty() { format!("{style}{text}{style:#}") } else { text }
    }
}
