//! Whoever is paged, by both sides: notes when the first byte of each message came.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aviary_core::{Clock as _, Micros};
use aviary_probe::SystemClock;
use serde_json::Value;

/// More than this is no page.
const BODY_MAX: usize = 1 << 20;

/// Who sent a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Aviary,
    Rival,
}

/// A message that something began; what is over is not noted.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) side: Side,
    /// What it is about: the name of a lane or of a service that loses a little.
    pub(super) about: String,
    /// When its first byte came, on the monotonic clock.
    pub(super) at: Micros,
    /// How long after a full second that was.
    pub(super) into_second: Micros,
    pub(super) text: String,
}

/// Takes webhooks until the process ends.
#[derive(Clone)]
pub(super) struct Pager {
    pub(super) address: SocketAddr,
    pages: Arc<(Mutex<Vec<Page>>, Condvar)>,
}

impl Pager {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let pager = Self { address: listener.local_addr()?, pages: Arc::default() };
        let taking = pager.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pager = taking.clone();
                thread::spawn(move || {
                    if let Err(error) = pager.serve(stream) {
                        tracing::debug!(%error, "A connection of a pager ended.");
                    }
                });
            }
        });
        Ok(pager)
    }

    /// The pages that `wanted` accepts.
    pub(super) fn pages(&self, wanted: impl Fn(&Page) -> bool) -> Vec<Page> {
        self.lock().iter().filter(|page| wanted(page)).cloned().collect()
    }

    /// The first page from `side` about `about` that comes after `since`, if one does within `patience`.
    pub(super) fn wait(&self, side: Side, about: &str, since: Micros, patience: Duration) -> Option<Page> {
        let is_it = |page: &&Page| page.side == side && page.about == about && page.at >= since;
        let found = |pages: &mut Vec<Page>| !pages.iter().any(|page| is_it(&page));
        let (pages, _) = self
            .pages
            .1
            .wait_timeout_while(self.lock(), patience, found)
            .unwrap_or_else(PoisonError::into_inner);
        pages.iter().find(is_it).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Page>> {
        self.pages.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the requests of one connection.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while !reader.fill_buf()?.is_empty() {
            let (at, wall) = (SystemClock.monotonic(), SystemClock.wall());
            let mut lines = String::new();
            while reader.read_line(&mut lines)? > 2 {}
            let length = lines.lines().filter_map(|line| line.split_once(':'));
            let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length = length.filter_map(|(_, value)| value.trim().parse().ok()).next().unwrap_or(0);
            let mut body = vec![0; BODY_MAX.min(length)];
            reader.read_exact(&mut body)?;
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            let path = lines.split(' ').nth(1).unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let into_second = Micros(wall.0 % 1_000_000);
            let page = |(side, about, text)| Page { side, about, at, into_second, text };
            if let Some(page) = said(path, &body).map(page) {
                self.lock().push(page);
                self.pages.1.notify_all();
            }
        }
        Ok(())
    }
}

/// Who says that something began, and what; nothing where something ended or goes on.
fn said(path: &str, body: &Value) -> Option<(Side, String, String)> {
    if let Some(about) = path.strip_prefix("/aviary/") {
        let text = body["data"]["summary"].to_string();
        return (body["type"] == "incident.opened").then(|| (Side::Aviary, about.to_owned(), text));
    }
    let about = body["groupLabels"]["lane"].as_str()?;
    (body["status"] == "firing").then(|| (Side::Rival, about.to_owned(), body["alerts"].to_string()))
}
