//! What the demo shows: text that stays, and below it one line that is told anew each second.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write},
};

use crate::{probe::paint::Paint, terminal};

/// Where the last line cannot be told anew, it is told as often.
const APART: u64 = 10;

/// A place to show things.
pub(super) struct Screen<'a, W> {
    out: &'a mut W,
    is_terminal: bool,
    paint: Paint,
    line: String,
    /// How often the last line was told.
    told: u64,
}

/// A word of the last line.
pub(super) struct Word {
    pub(super) text: String,
    /// Something is wrong there, which the text says as well.
    pub(super) is_bad: bool,
}

impl<'a, W: Write> Screen<'a, W> {
    pub(super) fn new(out: &'a mut W) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { out, is_terminal, paint: Paint::for_stdout(), line: String::new(), told: 0 }
    }

    pub(super) const fn paint(&self) -> Paint {
        self.paint
    }

    /// Shows `text`, which stays.
    pub(super) fn say(&mut self, text: impl Display) -> io::Result<()> {
        self.clear()?;
        writeln!(self.out, "{text}")?;
        write!(self.out, "{}", self.line)?;
        self.out.flush()
    }

    /// Tells the last line anew.
    pub(super) fn tell(&mut self, words: &[Word]) -> io::Result<()> {
        let plain: Vec<&str> = words.iter().map(|word| &*word.text).collect();
        let plain = plain.join(" ");
        self.told += 1;
        if !self.is_terminal {
            if self.told % APART == 1 {
                writeln!(self.out, "{plain}")?;
            }
            return self.out.flush();
        }
        let (width, _) = terminal::size();
        self.line = if plain.chars().count() < width {
            let painted = |word: &Word| match word.is_bad {
                true => self.paint.bad(&word.text),
                false => word.text.clone(),
            };
            words.iter().map(painted).collect::<Vec<_>>().join(" ")
        } else {
            // In the last column a terminal begins another line.
            plain.chars().take(width - 1).collect()
        };
        self.clear()?;
        write!(self.out, "{}", self.line)?;
        self.out.flush()
    }

    /// Takes the last line away.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.clear()?;
        self.line.clear();
        self.out.flush()
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.is_terminal { write!(self.out, "\r\x1b[K") } else { Ok(()) }
    }
}
