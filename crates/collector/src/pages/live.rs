//! What changes of pages, told as it does: server-sent events.
//!
//! Those who look at the same are told the same bytes: one task a view gathers and renders it once a second, and keeps the
//! newest alone. Whoever reads slowly misses some and slows nobody; whoever is gone is not rendered for.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

use super::{
    gathered,
    page::{Page, Question},
};
use crate::{
    Collector,
    api::{Parameters, Readable},
    error::ApiError,
    keeping::ready,
    sums::unknown_parameter,
};

/// So many different views are kept up to date; whoever wants another sees a page that stands still.
const VIEWS_MAX: usize = 32;

/// So many look on at once; more are told to come back.
const VIEWERS_MAX: usize = 1_000;

/// Judgement runs as a second begins; what it says is told so much later.
const AFTER_JUDGEMENT_US: u64 = 150_000;

/// A browser that lost its connection comes back after so many milliseconds.
const RETRY_MS: u32 = 2_000;

/// So long somebody is told without being asked again who they are: their browser comes back by itself, and is let in if they
/// still may.
const TOLD_FOR: Duration = Duration::from_secs(600);

/// True once the server stops.
#[derive(Clone)]
pub(crate) struct Stopped(pub(crate) watch::Receiver<bool>);

/// Those who watch pages change.
pub(crate) struct Live {
    views: Mutex<HashMap<Question, watch::Sender<Bytes>>>,
    viewers: Arc<Semaphore>,
    refused: AtomicU64,
}

/// What was counted of those who watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveFigures {
    /// Different views that are kept up to date.
    pub views: usize,
    /// Those who watch them.
    pub viewers: usize,
    /// Those who were refused because too many watched, or too many different views.
    pub refused: u64,
}

impl Default for Live {
    fn default() -> Self {
        let viewers = Arc::new(Semaphore::new(VIEWERS_MAX));
        Self { views: Mutex::default(), viewers, refused: AtomicU64::new(0) }
    }
}

impl Live {
    fn figures(&self) -> LiveFigures {
        LiveFigures {
            views: self.views().len(),
            viewers: VIEWERS_MAX - self.viewers.available_permits(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn views(&self) -> MutexGuard<'_, HashMap<Question, watch::Sender<Bytes>>> {
        // An entry is there or not.
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who watch, unless there is none.
    fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.viewers).try_acquire_owned().ok()
    }

    /// The newest of a view, and whether nobody watched it before; none where too many others are watched.
    fn join(&self, question: &Question) -> Option<(watch::Receiver<Bytes>, bool)> {
        let mut views = self.views();
        if let Some(view) = views.get(question) {
            return Some((view.subscribe(), false));
        }
        if views.len() >= VIEWS_MAX {
            return None;
        }
        let (view, newest) = watch::channel(Bytes::new());
        views.insert(question.clone(), view);
        Some((newest, true))
    }

    /// Tells those who watch, and whether there are any; a view that nobody watches is forgotten.
    fn tell(&self, question: &Question, event: Option<Bytes>) -> bool {
        let mut views = self.views();
        let is_watched = views.get(question).is_some_and(|view| view.receiver_count() > 0);
        if !is_watched {
            views.remove(question);
        } else if let (Some(event), Some(view)) = (event, views.get(question)) {
            // Also where all is as it was: whoever looks on is to know that.
            view.send_replace(event);
        }
        is_watched
    }

    fn refuse(&self, message: String) -> ApiError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        ApiError::too_many_views(message)
    }
}

impl Collector {
    /// Those who watch pages change, and those who could not.
    pub fn live_figures(&self) -> LiveFigures {
        self.inner.live.figures()
    }
}

/// `GET /live?at=ADDRESS`: an event each second; its data is the HTML of what changes of the page at that address.
pub(crate) async fn get(
    Readable(collector): Readable,
    Extension(Stopped(stopped)): Extension<Stopped>,
    Parameters(given): Parameters,
) -> Result<Response, ApiError> {
    ready(&collector)?;
    let question = asked(&given)?;
    let live = &collector.inner.live;
    let place = live.admit().ok_or_else(|| {
        live.refuse(format!("{VIEWERS_MAX} look on already; load the page again to see what changed"))
    })?;
    let (newest, is_first) = live.join(&question).ok_or_else(|| {
        live.refuse(format!(
            "{VIEWS_MAX} other views are watched already; load the page again to see what changed"
        ))
    })?;
    if is_first {
        tokio::spawn(keep_up_to_date(collector, question, stopped.clone()));
    }
    let first = Bytes::from(format!("retry: {RETRY_MS}\n\n"));
    let events = stream::unfold(
        (newest, stopped, Some(first), Box::pin(sleep(TOLD_FOR)), place),
        async |(mut newest, mut stopped, first, mut end, place)| {
            let event = match first {
                Some(first) => first,
                None => {
                    tokio::select! {
                        changed = newest.changed() => changed.ok()?,
                        _ = stopped.wait_for(|stop| *stop) => return None,
                        () = &mut end => return None,
                    }
                    newest.borrow_and_update().clone()
                }
            };
            Some((Ok::<_, Infallible>(event), (newest, stopped, None, end, place)))
        },
    );
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// What `at` asks for.
fn asked(given: &[(String, String)]) -> Result<Question, ApiError> {
    let mut at = None;
    for (key, value) in given {
        match key.as_str() {
            "at" => at = Some(value),
            other => return Err(unknown_parameter(other, "at")),
        }
    }
    let at = at.ok_or_else(|| ApiError::bad_parameter("`at` is missing: the address of a page"))?;
    let (path, query) = at.split_once('?').unwrap_or((at, ""));
    let parameters: Vec<(String, String)> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Question::read(path, &parameters)
}

/// Renders a view once a second for as long as somebody watches it.
async fn keep_up_to_date(collector: Collector, question: Question, mut stopped: watch::Receiver<bool>) {
    loop {
        let event = match gathered(&collector, &question).await {
            Ok(page) => Some(event(&page)),
            Err(error) => {
                tracing::debug!(error = error.message(), "A page could not be brought up to date.");
                None
            }
        };
        if !collector.inner.live.tell(&question, event) {
            return;
        }
        let now = collector.now().0;
        let rest = 1_000_000 - (now + 1_000_000 - AFTER_JUDGEMENT_US) % 1_000_000;
        tokio::select! {
            () = sleep(Duration::from_micros(rest)) => {}
            _ = stopped.wait_for(|stop| *stop) => {
                collector.inner.live.views().remove(&question);
                return;
            }
        }
    }
}

/// The event that brings a page up to date: its title, and the HTML of what changes, of which no line break ends a line.
fn event(page: &Page) -> Bytes {
    let html = page.changing().into_string();
    let mut event = format!("event: title\ndata: {}\n\n", page.title().replace(['\r', '\n'], " "));
    for line in html.split(['\r', '\n']) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(page: usize) -> Question {
        asked(&[("at".to_owned(), format!("/agents?page={page}"))]).unwrap()
    }

    #[tokio::test]
    async fn those_who_look_at_the_same_are_told_the_same_and_the_slow_only_the_newest() {
        let live = Live::default();
        let (mut one, is_first) = live.join(&question(1)).unwrap();
        assert!(is_first);
        let (mut other, is_first) = live.join(&question(1)).unwrap();
        assert!(!is_first);
        for event in ["a", "b", "b"] {
            assert!(live.tell(&question(1), Some(Bytes::from(event))));
        }
        for viewer in [&mut one, &mut other] {
            assert!(viewer.has_changed().unwrap());
            assert_eq!(*viewer.borrow_and_update(), "b");
        }
        drop((one, other));
        assert!(!live.tell(&question(1), None), "nobody watches any more");
        assert_eq!(live.figures().views, 0);
    }

    /// A clock that stands still; that of the runtime does not.
    #[derive(Clone)]
    struct Standing;

    impl aviary_core::Clock for Standing {
        fn wall(&self) -> aviary_core::Timestamp {
            aviary_core::Timestamp(1_763_690_400_000_000 + AFTER_JUDGEMENT_US)
        }

        fn monotonic(&self) -> aviary_core::Micros {
            aviary_core::Micros(0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_is_asked_who_they_are_again_after_a_while() {
        let collector = Collector::new(crate::Options::default(), Standing).unwrap();
        let (_stop, stopped) = watch::channel(false);
        let asked = Parameters(vec![("at".to_owned(), "/agents".to_owned())]);
        let told = get(Readable(collector.clone()), Extension(Stopped(stopped)), asked).await.unwrap();
        let told = axum::body::to_bytes(told.into_body(), 10 << 20).await.unwrap();
        let told = std::str::from_utf8(&told).unwrap();
        assert!(told.starts_with("retry: 2000\n\n") && told.contains("event: title\ndata: Agents\n"));
        assert!((500..=700).contains(&told.matches("event: title").count()), "once a second until then");
        assert_eq!(collector.live_figures().viewers, 0);
    }

    #[test]
    fn views_and_viewers_have_a_bound() {
        let live = Live::default();
        let watched: Vec<_> = (1..=VIEWS_MAX).map(|page| live.join(&question(page)).unwrap()).collect();
        assert!(live.join(&question(VIEWS_MAX + 1)).is_none());
        assert!(live.join(&question(1)).is_some(), "what is watched already can be watched");
        drop(watched);
        let places: Vec<_> = (0..VIEWERS_MAX).map(|_| live.admit().unwrap()).collect();
        assert!(live.admit().is_none());
        drop(places);
        assert!(live.admit().is_some());
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let table: [(&[(&str, &str)], &str); 4] = [
            (&[], "`at` is missing"),
            (&[("to", "/")], "parameter `to` is not known"),
            (&[("at", "/a/b/c")], "no page is here"),
            (&[("at", "/?span=2y")], "`2y` is not known"),
        ];
        for (given, expected) in table {
            let given: Vec<_> =
                given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let message = asked(&given).unwrap_err().message().to_owned();
            assert!(message.contains(expected), "{given:?}: {message}");
        }
    }
}
