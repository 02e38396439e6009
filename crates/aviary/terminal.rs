//! The terminal that somebody looks at: how large it is, its keys, its other screen, and what ends a command there.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, OwnedFd},
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Columns and rows where nobody says how large it is.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Ctrl-D, where the terminal makes nothing of it.
pub(crate) const END_OF_TRANSMISSION: u8 = 4;

/// Columns and rows of the terminal on standard output.
pub(crate) fn size() -> (usize, usize) {
    let size = tcgetwinsize(io::stdout()).map_or((0, 0), |size| (size.ws_col.into(), size.ws_row.into()));
    let or_usual = |given, usual| if given == 0 { usual } else { given };
    (or_usual(size.0, USUAL_SIZE.0), or_usual(size.1, USUAL_SIZE.1))
}

/// What ends a command from outside.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let wait_for = |kind| signal(kind).context("cannot wait for signals");
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([wait_for(interrupt)?, wait_for(terminate)?, wait_for(hangup)?]))
    }

    pub(crate) async fn end(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A terminal that hands over each key as it is pressed and shows none, until this is dropped: then it is as it was, also
/// when a panic unwinds. Ctrl-C stays the signal that it is.
pub(crate) struct KeyByKey(Termios);

impl KeyByKey {
    /// Changes the terminal on standard input; none where there is none.
    pub(crate) fn on_stdin() -> anyhow::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin).context("the terminal does not say how it is set")?;
        let mut changed = before.clone();
        changed.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        changed.special_codes[SpecialCodeIndex::VMIN] = 1;
        changed.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &changed)
            .context("the terminal cannot be set to single keys")?;
        Ok(Some(Self(before)))
    }
}

impl Drop for KeyByKey {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The other screen of a terminal, without a cursor, until this is dropped: then what stood there before stands there again.
pub(crate) struct OtherScreen(Arc<Entered>);

struct Entered {
    terminal: OwnedFd,
    is_entered: AtomicBool,
}

impl OtherScreen {
    /// Enters that of the terminal on standard output.
    pub(crate) fn on_stdout() -> io::Result<Self> {
        Self::on(io::stdout().as_fd().try_clone_to_owned()?)
    }

    fn on(terminal: OwnedFd) -> io::Result<Self> {
        let entered = Arc::new(Entered { terminal, is_entered: AtomicBool::new(true) });
        entered.write(b"\x1b[?1049h\x1b[?25l")?;
        // What a panic says is said before anything is dropped, and would go with the screen it is said on.
        let (left, say) = (Arc::downgrade(&entered), panic::take_hook());
        panic::set_hook(Box::new(move |panicked| {
            if let Some(entered) = left.upgrade() {
                entered.leave();
            }
            say(panicked);
        }));
        Ok(Self(entered))
    }
}

impl Drop for OtherScreen {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Entered {
    /// Past the lock on standard output, which whoever panics may not get.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.terminal, bytes))?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn leave(&self) {
        // Once: to leave it again would put the cursor back over what was said since.
        if self.is_entered.swap(false, Ordering::Relaxed) {
            // A terminal that is gone needs nothing back.
            _ = self.write(b"\x1b[?25h\x1b[?1049l");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        sync::{Mutex, PoisonError},
    };

    use super::*;

    /// Held by whoever changes what a panic says, which is one for all threads.
    static HOOK: Mutex<()> = Mutex::new(());

    #[test]
    fn the_other_screen_is_left_once_before_a_panic_is_told() {
        let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut person, line) = io::pipe().unwrap();
        let said = line.try_clone().unwrap();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |_| {
            rustix::io::write(&said, b"why").unwrap();
        }));
        let panicked = panic::catch_unwind(move || {
            let _screen = OtherScreen::on(line.into()).unwrap();
            panic!("of this test");
        });
        panic::set_hook(before);
        assert!(panicked.is_err());
        let mut seen = String::new();
        person.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049lwhy");
    }

    #[test]
    fn the_other_screen_is_left_when_it_is_dropped() {
        let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
        let file = tempfile::NamedTempFile::new().unwrap();
        drop(OtherScreen::on(file.reopen().unwrap().into()).unwrap());
        assert!(fs::read_to_string(file.path()).unwrap().ends_with("\x1b[?25h\x1b[?1049l"));
    }
}
