//! The receiver of the demo: pages that reach it are shown in this terminal.

use aviary_collector::delivery::Notify;
use aviary_core::{Clock as _, Micros};
use aviary_notify::{Attempt, Command, Contract, Kind, Page, Receipt, Receiver, Refusal, Settings};
use aviary_probe::SystemClock;
use tokio::sync::mpsc;

/// So many pages wait to be shown; more wait with their sender.
const PAGES_MAX: usize = 64;

/// A page as it was sent.
pub(super) struct Sheet {
    pub(super) page: Page,
    /// What a receiver is sent, word for word.
    pub(super) text: String,
    /// When it came.
    pub(super) at: Micros,
}

/// Takes pages as a receiver out there does, and hands them to whoever shows them.
pub(super) struct Pager {
    /// Never told of anything: it has the default text, which every receiver is sent.
    like: Receiver,
    pages: mpsc::Sender<Sheet>,
}

impl Pager {
    /// One, with the pages that come to it.
    pub(super) fn new() -> anyhow::Result<(Self, mpsc::Receiver<Sheet>)> {
        let kind = Kind::Command(Command { argv: vec!["terminal".to_owned()] });
        let settings = Settings { name: "terminal".to_owned(), kind, template: None };
        let (pages, shown) = mpsc::channel(PAGES_MAX);
        Ok((Self { like: Receiver::new(settings, &[])?, pages }, shown))
    }
}

impl Notify for Pager {
    fn contract(&self) -> Contract {
        self.like.contract()
    }

    async fn send(&self, page: &Page, _: Attempt) -> Result<Receipt, Refusal> {
        let text = self.like.text(page);
        let sheet = Sheet { page: page.clone(), text, at: SystemClock.monotonic() };
        // With nobody to show it, the demo is at its end.
        _ = self.pages.send(sheet).await;
        Ok(Receipt { reference: None, text: "shown in this terminal".to_owned() })
    }
}
