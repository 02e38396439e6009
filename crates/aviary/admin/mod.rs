//! The agent's own address: whether it lives, does its work, is well, and in which numbers.
//!
//! | address | answers |
//! |---|---|
//! | `/` | the [`page`] for people |
//! | `/healthz`, `/v1/health` | 200 whenever the process serves |
//! | `/readyz`, `/v1/ready` | 200 or 503, see [`readiness`] |
//! | `/healthcheck` | 200 or 500, with what its checks of itself found, also of what ends soon, see [`checks`] |
//! | `/deepcheck` | 200 or 500, with what is known of what it depends on, see [`depends`] |
//! | `/health/SERVICE` | 200, or 503 while a collector has this node out of rotation, see [`crate::steer`] |
//! | `/metrics`, `/v1/metrics` | 200, see [`metrics`] |
//! | `/debug/...` | see [`debug`]; there for loopback only, and not at all where `debug_listen` has it |
//!
//! [`guard`] says who may ask.
//!
//! Each of the others is safe to ask without end: an answer costs a snapshot and a few small files of `/proc`.

mod checks;
pub(crate) mod debug;
mod depends;
pub(crate) mod guard;
pub(crate) mod metrics;
mod page;
mod process;
mod profile;
mod readiness;
mod requests;
pub(crate) mod standing;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aviary_collector::{ERROR_CODES as API_CODES, ErrorCode, leads_nowhere_else};
use aviary_core::Clock;
use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use self::{
    checks::{Check, Noted},
    debug::Debug,
    guard::{Guard, MayRead},
    page::Page,
    process::Process,
    standing::{Rotation, Standing},
};
pub(crate) use self::{profile::Profiler, requests::Requests};
use crate::{
    bounded::{Bounded, Peer},
    steer::{Answer, By, Rotation as InRotation},
};

/// Where the agent's standing is asked for.
pub(crate) type Source = Arc<dyn Fn() -> Standing + Send + Sync>;

/// How many connections may be open at once.
const OPEN_MAX: usize = 64;

/// How long answers that are under way may take to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The addresses, being served.
pub(crate) struct Admin {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    work: Vec<JoinHandle<()>>,
    noting: JoinHandle<()>,
}

struct Shared {
    standing: Source,
    /// Microseconds since the start, of the monotonic clock: the wall clock may be stepped.
    uptime: Box<dyn Fn() -> u64 + Send + Sync>,
    shutting_down: AtomicBool,
    noted: Mutex<Noted>,
}

impl Admin {
    /// Serves on `listener` how the agent of `standing` stands, and on `debug`, or else there, what it looks like from within, to
    /// who `guard` says, on the runtime of the caller.
    ///
    /// # Errors
    /// Where a listener does not know its address.
    pub(crate) fn start<C: Clock>(
        listener: Option<TcpListener>,
        debug: Option<TcpListener>,
        profiler: Option<Arc<Profiler>>,
        clock: C,
        standing: Source,
        guard: Guard,
    ) -> io::Result<Self> {
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let (started, requests) = (clock.monotonic(), Requests::new(clock.clone()));
        let shared = Arc::new(Shared {
            standing,
            uptime: Box::new(move || clock.monotonic().since(started)),
            shutting_down: AtomicBool::new(false),
            noted: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let of_vars = Arc::clone(&shared);
        let series = move || metrics::agent_series((of_vars.standing)(), Process::now());
        let debugging = debug::router(Debug::new(Box::new(series), Arc::clone(&requests), profiler));
        let debugging = debugging.route_layer(middleware::from_fn(loopback_only));
        let mut work = Vec::new();
        let stand = middleware::from_fn_with_state(Arc::new(guard), guard::stand);
        let mut router = router(Arc::clone(&shared));
        match debug {
            Some(listener) => {
                let router = requests.counted(debug::alone(debugging).layer(stand.clone()));
                work.push(tokio::spawn(serve(listener, router, stopped.clone())));
            }
            None => router = router.merge(debugging),
        }
        if let Some(listener) = listener {
            work.push(tokio::spawn(serve(listener, requests.counted(router.layer(stand)), stopped)));
        }
        let noting = tokio::spawn(note(Arc::clone(&shared)));
        Ok(Self { shared, address, stop, work, noting })
    }

    /// Where it is served, if it is.
    pub(crate) const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// From now on it is not ready, whatever else: the process ends.
    pub(crate) fn shutting_down(&self) {
        self.shared.shutting_down.store(true, Ordering::Relaxed);
    }

    /// Answers what is under way, and no more.
    pub(crate) async fn stop(self) {
        self.shutting_down();
        self.noting.abort();
        self.stop.send_replace(true);
        for work in self.work {
            let abort = work.abort_handle();
            if tokio::time::timeout(FAREWELL, work).await.is_err() {
                abort.abort();
            }
        }
    }
}

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let shutdown = async move {
        // The other end gone means stop as well.
        _ = stopped.wait_for(|stop| *stop).await;
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let served =
        axum::serve(Bounded::new(listener, OPEN_MAX), service).with_graceful_shutdown(shutdown).await;
    if let Err(error) = served {
        tracing::error!(%error, "The agent answers for its health no more.");
    }
}

/// Whoever looks into the process is to be on its host as well.
async fn loopback_only(ConnectInfo(Peer(peer)): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    // Of another name a page of anybody may have made the browser here ask; programs that ask nobody's pages have none.
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if peer.ip().to_canonical().is_loopback() && host.is_none_or(leads_nowhere_else) {
        return next.run(request).await;
    }
    let message = format!(
        "{}: is for this host only, by its address or as localhost; come by a tunnel such as `ssh -L`",
        request.uri().path()
    );
    error(StatusCode::FORBIDDEN, "forbidden", message)
}

async fn note(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(checks::NOTED_EVERY));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let standing = (shared.standing)();
        shared.noted.lock().unwrap_or_else(PoisonError::into_inner).note(&standing);
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/style.css", get(page::style))
        .route("/healthz", get(health))
        .route("/v1/health", get(health))
        .route("/readyz", get(ready))
        .route("/v1/ready", get(ready))
        .route("/healthcheck", get(healthcheck))
        .route("/deepcheck", get(deepcheck))
        .route("/health/{service}", get(health_of))
        .route("/metrics", get(metrics_page))
        .route("/v1/metrics", get(metrics_page))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(shared)
}

async fn index(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    Page::of((shared.standing)()).answer(&headers)
}

/// Answers without a look at the agent: whoever asks whether the process lives starts it again otherwise.
async fn health(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let uptime_ms = (shared.uptime)() / 1_000;
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "uptime_ms": uptime_ms}))
}

async fn ready(
    State(shared): State<Arc<Shared>>,
    Extension(MayRead(may_read)): Extension<MayRead>,
) -> Response {
    let unavailable = |body| {
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json::<Value>(body)).into_response()
    };
    if shared.shutting_down.load(Ordering::Relaxed) {
        return unavailable(json!({"status": "shutting_down"}));
    }
    let readiness::Readiness { reasons, warnings } = readiness::readiness(&(shared.standing)());
    // What follows the name of what is amiss has addresses and files in it.
    let told = |said: Vec<String>| -> Vec<String> {
        let name = |it: &String| it.split(':').next().unwrap_or_default().to_owned();
        if may_read { said } else { said.iter().map(name).collect() }
    };
    let (reasons, warnings) = (told(reasons), told(warnings));
    let is_ready = reasons.is_empty();
    let mut body = json!({"status": if is_ready { "ready" } else { "not_ready" }});
    if !is_ready {
        body["reasons"] = reasons.into();
    }
    if !warnings.is_empty() {
        body["warnings"] = warnings.into();
    }
    if is_ready { Json(body).into_response() } else { unavailable(body) }
}

async fn healthcheck(
    State(shared): State<Arc<Shared>>,
    Extension(may_read): Extension<MayRead>,
) -> (StatusCode, Json<Value>) {
    let standing = (shared.standing)();
    let recent = shared.noted.lock().unwrap_or_else(PoisonError::into_inner).recent(&standing);
    told(&checks::checks(&standing, &Process::now(), recent, (shared.uptime)()), may_read)
}

async fn deepcheck(
    State(shared): State<Arc<Shared>>,
    Extension(may_read): Extension<MayRead>,
) -> (StatusCode, Json<Value>) {
    told(&depends::checks(&(shared.standing)()), may_read)
}

/// What was found, as those who ask for checks expect it; who may not read is told which checks.
fn told(checks: &[Check], MayRead(may_read): MayRead) -> (StatusCode, Json<Value>) {
    let told = |wanted: fn(&Check) -> bool| -> Vec<String> {
        let these = checks.iter().filter(|check| wanted(check));
        let said = |check: &Check| match may_read {
            true => format!("{}: {}", check.name, check.found),
            false => check.name.to_owned(),
        };
        these.map(said).collect()
    };
    let (ok, failed) = (told(|it| !it.failed && !it.warned), told(|it| it.failed));
    let warned = told(|it| it.warned);
    let status = if failed.is_empty() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut body = json!({"ok": ok, "failed": failed});
    if !warned.is_empty() {
        body["warned"] = warned.into();
    }
    (status, Json(body))
}

/// What is to become of this node in one service. Whoever may not read is told without the reason, which may name others.
///
/// A service that this agent does not know has it in rotation: whoever balances takes any error for "out", on all nodes at once, and it
/// is not known while no collector has told the services, or after it was renamed.
async fn health_of(
    State(shared): State<Arc<Shared>>,
    Extension(MayRead(may_read)): Extension<MayRead>,
    Path(service): Path<String>,
) -> Response {
    let Rotation { answers, counted } = (shared.standing)().rotation;
    let known = answers.iter().find(|answer| answer.service == service).cloned();
    let mut answer = known.unwrap_or_else(|| {
        let known: Vec<_> = answers.iter().map(|answer| answer.service.as_str()).collect();
        Answer::of_unknown(service, &known)
    });
    counted.answered(By::Health, answer.rotation);
    answer.reason = answer.reason.filter(|_| may_read);
    let status = match answer.rotation {
        InRotation::Out => StatusCode::SERVICE_UNAVAILABLE,
        InRotation::In | InRotation::Returning => StatusCode::OK,
    };
    (status, Json(answer)).into_response()
}

async fn metrics_page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let Ok(text) = metrics::agent_page((shared.standing)(), Process::now()) else {
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the metrics cannot be written".to_owned(),
        );
    };
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = metrics::Format::of(&accept.collect::<Vec<_>>().join(","));
    ([(header::CONTENT_TYPE, format.media_type())], format.write(text)).into_response()
}

async fn not_found(uri: Uri) -> Response {
    let message = format!(
        "{}: nothing is here; see / for people, and /healthz, /readyz, /healthcheck, /deepcheck, /health/SERVICE, /metrics",
        uri.path()
    );
    error(StatusCode::NOT_FOUND, "not_found", message)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let message = format!("{method} is not understood at {}", uri.path());
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// What is answered here and nowhere in the collector's API.
pub(crate) const ERROR_CODES: [ErrorCode; 2] = [
    ErrorCode {
        name: "no_profiles",
        status: StatusCode::NOT_FOUND.as_u16(),
        meaning: "Profiles are off: set `profiling = true`, and start again.",
    },
    ErrorCode {
        name: "not_made",
        status: StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
        meaning: "The profile could not be made: the message says why.",
    },
];

/// An error, under one of the codes that are documented.
fn error(status: StatusCode, code: &str, message: String) -> Response {
    debug_assert!(
        API_CODES.iter().chain(&ERROR_CODES).any(|it| it.name == code && it.status == status.as_u16()),
        "{code} with {status} is in no reference"
    );
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

#[cfg(test)]
mod tests;
