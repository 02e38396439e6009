//! Every route, asked by everybody.

use std::{io, net::SocketAddr};

use aviary_core::{Clock, Micros, Timestamp};
use axum::serve::Listener;
use reqwest::{Client, RequestBuilder, Response, redirect::Policy};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    CertificateRule, Collector, Limits, Options, Peer, ProxyRule, Scope, SecretHash, ServiceOptions,
    SessionKey, Subject, TokenRule, api, serving::serve_until,
};

#[derive(Clone)]
struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> Timestamp {
        Timestamp(1_763_690_400_000_000)
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

/// Whoever connects is taken for `.1`.
struct As(TcpListener, Peer);

impl Listener for As {
    type Io = TcpStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (TcpStream, Peer) {
        (Listener::accept(&mut self.0).await.0, self.1.clone())
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(self.1.clone())
    }
}

/// A collector, as it is reached from one place after another.
struct Served {
    collector: Collector,
    stop: watch::Sender<bool>,
    client: Client,
}

impl Served {
    fn new(options: Options) -> Self {
        aviary_probe::install_crypto_provider();
        let client = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { collector: Collector::new(options, Stopped).unwrap(), stop: watch::channel(false).0, client }
    }

    /// Its URL for who is taken for `peer`.
    async fn at(&self, peer: Peer) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = api::router(self.collector.clone(), self.stop.subscribe());
        serve_until(self.stop.subscribe(), router, As(listener, peer));
        url
    }
}

fn address(text: &str) -> Peer {
    text.parse::<SocketAddr>().unwrap().into()
}

fn token(name: &str, scope: Scope) -> TokenRule {
    TokenRule {
        name: name.to_owned(),
        secret: SecretHash::of(&format!("the secret of {name}")),
        scopes: vec![scope],
        region: None,
        node: None,
        limits: Limits::FLEET,
    }
}

const CANARY: &str = "canary.example.net";

fn options() -> Options {
    Options {
        name: "main".to_owned(),
        services: vec![ServiceOptions::unconfigured("ingest")],
        services_document: Some(String::new()),
        metrics: Some(|_, _| Some(("text/plain", String::new()))),
        tokens: vec![
            token("reader", Scope::Read),
            token("agents", Scope::Report),
            token("admins", Scope::Admin),
        ],
        certificates: vec![CertificateRule {
            name: "canaries".to_owned(),
            subjects: vec![Subject::Dns(CANARY.to_owned())],
            scopes: vec![Scope::Report],
            region: None,
            node: None,
        }],
        proxy: Some(ProxyRule {
            from: vec!["10.0.0.7/32".parse().unwrap()],
            user: "x-forwarded-user".parse().unwrap(),
            groups: None,
            scopes_of: Vec::new(),
            scopes: vec![Scope::Read],
        }),
        session_key: Some(SessionKey::new(&[7; SessionKey::BYTES])),
        ..Options::default()
    }
}

/// Who asks. The order is that of the columns below.
const CALLERS: [&str; 8] = [
    "nobody",
    "a stranger with a proxy's headers",
    "a reader's token",
    "a reader's session",
    "a reader through the proxy",
    "an agent's token",
    "an agent's certificate",
    "an admin's token",
];

/// Who may: of each caller the status of a refusal, or 0.
const READ: [u16; 8] = [401, 401, 0, 0, 0, 403, 403, 0];
const REPORT: [u16; 8] = [401, 401, 403, 403, 403, 0, 0, 0];
const CHANGE: [u16; 8] = [401, 401, 403, 403, 403, 403, 403, 0];
const ANY_TOKEN: [u16; 8] = [401, 401, 0, 0, 0, 0, 0, 0];
const EVERYBODY: [u16; 8] = [0; 8];

/// Method, path and body, who may, and what they are answered then: nothing is there, so that much is not found.
const ROUTES: [(&str, &str, &str, [u16; 8], u16); 61] = [
    ("GET", "/", "", READ, 200),
    ("GET", "/agents", "", READ, 200),
    ("GET", "/incidents", "", READ, 200),
    ("GET", "/incidents/x", "", READ, 404),
    ("GET", "/ingest", "", READ, 200),
    ("GET", "/runbooks", "", READ, 200),
    ("GET", "/runbooks/loss", "", READ, 200),
    ("GET", "/live?at=/", "", READ, 200),
    ("GET", "/api/v1/services", "", READ, 200),
    ("GET", "/api/v1/services/ingest", "", READ, 200),
    ("GET", "/api/v1/services.toml", "", ANY_TOKEN, 200),
    ("GET", "/api/v1/services.toml?version=000000000000000a", "", ANY_TOKEN, 404),
    ("GET", "/api/v1/whoami", "", ANY_TOKEN, 200),
    ("GET", "/api/v1/tokens", "", CHANGE, 200),
    ("POST", "/api/v1/tokens", "{}", CHANGE, 400),
    ("DELETE", "/api/v1/tokens/nobody", "", CHANGE, 404),
    ("GET", "/api/v1/sums?by=region&window=60s", "", READ, 200),
    ("GET", "/api/v1/slots", "", READ, 200),
    ("GET", "/api/v1/timings", "", READ, 400),
    ("GET", "/api/v1/agents", "", READ, 200),
    ("GET", "/api/v1/events?from=1&until=2", "", READ, 200),
    ("GET", "/api/v1/incidents", "", READ, 200),
    ("GET", "/api/v1/incidents/x", "", READ, 404),
    ("GET", "/api/v1/incidents/x/explanation", "", READ, 404),
    ("GET", "/api/v1/incidents/x/public", "", READ, 404),
    ("GET", "/api/v1/report?month=2025-11", "", READ, 200),
    ("GET", "/api/v1/silences", "", READ, 200),
    ("GET", "/api/v1/receivers/x/test/y", "", READ, 404),
    ("GET", "/v1/nodes/ingest", "", READ, 404),
    ("GET", "/api/v1/rotation", "", READ, 200),
    ("GET", "/api/v1/rollout", "", READ, 200),
    ("GET", "/metrics", "", READ, 200),
    ("GET", "/v1/metrics", "", READ, 200),
    ("POST", "/api/v1/reports", "", REPORT, 400),
    ("POST", "/api/v1/events", r#"{"kind":"deploy","text":"x"}"#, REPORT, 201),
    ("POST", "/incidents/x/notes", "by=ada&text=x", CHANGE, 404),
    ("POST", "/incidents/x/ack", "by=ada", CHANGE, 404),
    ("POST", "/incidents/x/public/publish", "by=ada", CHANGE, 404),
    ("POST", "/api/v1/incidents/x/public/publish", "", CHANGE, 404),
    ("POST", "/api/v1/incidents/x/ack", "", CHANGE, 404),
    ("POST", "/api/v1/incidents/x/notes", r#"{"text":"x"}"#, CHANGE, 404),
    ("POST", "/api/v1/incidents/x/resolve", "", CHANGE, 404),
    ("POST", "/api/v1/silences", "", CHANGE, 400),
    ("DELETE", "/api/v1/silences/x", "", CHANGE, 404),
    ("POST", "/api/v1/receivers/x/test", "", CHANGE, 404),
    ("POST", "/api/v1/store/backup", "", CHANGE, 400),
    ("POST", "/api/v1/rotation/stop", "", CHANGE, 200),
    ("POST", "/api/v1/rotation/resume", "", CHANGE, 200),
    ("POST", "/api/v1/rollout/force", "", CHANGE, 409),
    ("POST", "/api/v1/rollout/rollback", "", CHANGE, 409),
    ("POST", "/api/v1/rollout/retry", "", CHANGE, 409),
    ("GET", "/healthz", "", EVERYBODY, 200),
    ("GET", "/v1/health", "", EVERYBODY, 200),
    ("GET", "/readyz", "", EVERYBODY, 200),
    ("GET", "/v1/ready", "", EVERYBODY, 200),
    ("GET", "/healthcheck", "", EVERYBODY, 200),
    ("GET", "/deepcheck", "", EVERYBODY, 200),
    ("GET", "/services/health", "", EVERYBODY, 503),
    ("GET", "/ingest/health", "", EVERYBODY, 200),
    ("GET", "/sign-in", "", EVERYBODY, 200),
    ("GET", "/assets/none", "", EVERYBODY, 404),
];

/// Each caller's URL, and what they show there.
async fn doors(served: &Served) -> Vec<(String, Vec<(&'static str, String)>)> {
    let elsewhere = served.at(address("192.0.2.7:1")).await;
    let proxy = served.at(address("10.0.0.7:1")).await;
    let canary = Peer::over_tls("192.0.2.8:1".parse().unwrap(), vec![Subject::Dns(CANARY.to_owned())]);
    let certified = served.at(canary).await;
    let of = |name: &str| vec![("authorization", format!("Bearer the secret of {name}"))];
    let user = vec![("x-forwarded-user", "ada".to_owned())];
    let signed_in =
        served.client.post(format!("{elsewhere}/sign-in")).body("token=the+secret+of+reader&to=/ingest");
    let signed_in = signed_in.header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert_eq!(
        (signed_in.status().as_u16(), &signed_in.headers()["location"]),
        (303, &"/ingest".parse().unwrap())
    );
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    vec![
        (elsewhere.clone(), Vec::new()),
        (elsewhere.clone(), user.clone()),
        (elsewhere.clone(), of("reader")),
        (elsewhere.clone(), vec![("cookie", cookie)]),
        (proxy, user),
        (elsewhere.clone(), of("agents")),
        (certified, Vec::new()),
        (elsewhere, of("admins")),
    ]
}

fn request(
    served: &Served,
    door: &(String, Vec<(&'static str, String)>),
    method: &str,
    path: &str,
) -> RequestBuilder {
    let request = served.client.request(method.parse().unwrap(), format!("{}{path}", door.0));
    door.1.iter().fold(request, |request, (name, value)| request.header(*name, value))
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_lets_by_who_may_and_nobody_else() {
    let served = Served::new(options());
    let doors = doors(&served).await;
    for (method, path, body, refused, allowed) in ROUTES {
        let asks = |door| request(&served, door, method, path).body(body);
        for ((door, caller), refused) in doors.iter().zip(CALLERS).zip(refused) {
            let expected = if refused == 0 { allowed } else { refused };
            assert_eq!(status(asks(door)).await, expected, "{method} {path} by {caller}");
            if method == "GET" {
                // Whoever looks at pages is led to where they sign in.
                let expected = if refused == 401 { 303 } else { expected };
                assert_eq!(
                    status(asks(door).header("accept", "text/html")).await,
                    expected,
                    "{path} by {caller}"
                );
            } else {
                // What a page of somebody else makes their browser send; a token is shown by no browser.
                let foreign = asks(door).header("sec-fetch-site", "cross-site");
                let shows_token = door.1.iter().any(|(name, _)| *name == "authorization");
                let expected = if shows_token || refused == 401 { expected } else { 403 };
                assert_eq!(status(foreign).await, expected, "{method} {path} by {caller}, from elsewhere");
            }
        }
    }
    served.stop.send_replace(true);
}

#[test]
fn no_route_is_left_out() {
    let sources = [
        include_str!("../api.rs"),
        include_str!("../health.rs"),
        include_str!("../judgement/api.rs"),
        include_str!("../judgement/trial.rs"),
        include_str!("../pages/mod.rs"),
        include_str!("../status/api.rs"),
    ];
    let segments = |path: &str| {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        path.split('/').map(str::to_owned).collect::<Vec<_>>()
    };
    let templates = sources.iter().flat_map(|source| source.split(".route(\"").skip(1));
    for template in templates.map(|rest| rest.split('"').next().unwrap()) {
        let is_asked = ROUTES.iter().any(|(_, path, ..)| {
            let (template, path) = (segments(template), segments(path));
            let fits = |(of, given): (&String, &String)| of == given || of.starts_with('{');
            template.len() == path.len() && template.iter().zip(&path).all(fits)
        });
        assert!(is_asked, "who may ask {template}?");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_closed_where_it_is_to_be() {
    let served = Served::new(Options { probe_auth: true, ..options() });
    let doors = doors(&served).await;
    let health = ROUTES.iter().skip_while(|(_, path, ..)| *path != "/healthz");
    for (_, path, _, _, allowed) in health.take_while(|(_, path, ..)| *path != "/sign-in") {
        for ((door, caller), refused) in doors.iter().zip(CALLERS).zip(READ) {
            let expected = if refused == 0 { *allowed } else { refused };
            assert_eq!(status(request(&served, door, "GET", path)).await, expected, "{path} by {caller}");
        }
    }
    served.stop.send_replace(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_nobody_is_told_states_and_no_more() {
    let served = Served::new(options());
    let doors = doors(&served).await;
    let told = async |caller: usize, path: &str| {
        request(&served, &doors[caller], "GET", path).send().await.unwrap().text().await.unwrap()
    };
    let table = [
        ("/healthz", r#""status":"ok""#, r#""reports""#),
        ("/healthcheck", r#""ok":["judgement"#, "kept in memory"),
        ("/deepcheck", r#""ok":["store"#, "everything"),
    ];
    for (path, everybody, readers) in table {
        for (caller, may_read) in [(0, false), (1, false), (2, true), (3, true), (5, false)] {
            let body = told(caller, path).await;
            assert!(body.contains(everybody), "{path}: {body}");
            assert_eq!(body.contains(readers), may_read, "{path} by {}: {body}", CALLERS[caller]);
        }
    }
    served.stop.send_replace(true);
}

/// Asks a collector without tokens from this machine, as a page would make a browser do.
async fn ask_local(served: &Served, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let url = served.at(address("127.0.0.1:1")).await;
    let request = served.client.request(method.parse().unwrap(), format!("{url}{path}"));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_is_open_it_says_so_and_foreign_pages_are_kept_out() {
    let served =
        Served::new(Options { tokens: Vec::new(), certificates: Vec::new(), proxy: None, ..options() });
    let html = ask_local(&served, "GET", "/", &[("accept", "text/html")]).await.text().await.unwrap();
    assert!(html.contains("Open to everyone on this machine: no tokens are configured."), "{html}");
    let html = ask_local(&served, "GET", "/sign-in", &[]).await.text().await.unwrap();
    assert!(html.contains("Nobody needs to sign in"), "{html}");
    let silences = "/api/v1/silences";
    type Row<'t> = (&'t str, &'t [(&'t str, &'t str)], u16);
    let table: [Row<'_>; 6] = [
        ("GET", &[], 200),
        ("GET", &[("host", "evil.example")], 403),
        ("POST", &[], 400),
        ("POST", &[("sec-fetch-site", "cross-site")], 403),
        ("POST", &[("origin", "https://evil.example")], 403),
        ("POST", &[("host", "evil.example"), ("sec-fetch-site", "same-origin")], 403),
    ];
    for (method, headers, expected) in table {
        let answer = ask_local(&served, method, silences, headers).await;
        assert_eq!(answer.status().as_u16(), expected, "{method} {headers:?}");
    }
    served.stop.send_replace(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_signs_in_is_named_and_signs_out() {
    let served = Served::new(options());
    let url = served.at(address("192.0.2.9:1")).await;
    let sign_in = async |form: &'static str, site: &str| {
        let request = served.client.post(format!("{url}/sign-in")).header("sec-fetch-site", site).body(form);
        request.send().await.unwrap()
    };
    assert_eq!(sign_in("token=the+secret+of+reader", "cross-site").await.status(), 403, "as somebody else");
    let wrong = sign_in("token=nothing&to=/agents", "same-origin").await;
    assert_eq!(wrong.status(), 401);
    let html = wrong.text().await.unwrap();
    assert!(
        html.contains("This is no token") && html.contains(r#"value="/agents""#) && !html.contains("nothing")
    );
    assert_eq!(sign_in("token=the+secret+of+agents", "same-origin").await.status(), 403);
    let led = sign_in("token=+the+secret+of+reader%0A&to=//evil.example", "same-origin").await;
    assert_eq!((led.status().as_u16(), &led.headers()["location"]), (303, &"/".parse().unwrap()));
    assert_eq!(led.headers()["cache-control"], "no-store");
    let cookie = led.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let get = async |path: &str| {
        let request = served.client.get(format!("{url}{path}")).header("accept", "text/html");
        request.header("cookie", &cookie).send().await.unwrap()
    };
    let html = get("/").await.text().await.unwrap();
    assert!(html.contains("Signed in as <strong>reader</strong>"), "{html}");
    let out = async |site: &str| {
        let request = served.client.post(format!("{url}/sign-out")).header("sec-fetch-site", site);
        request.header("cookie", &cookie).send().await.unwrap()
    };
    assert_eq!(out("cross-site").await.status(), 403);
    assert_eq!(get("/").await.status(), 200);
    let led = out("same-origin").await;
    assert_eq!((led.status().as_u16(), &led.headers()["location"]), (303, &"/sign-in".parse().unwrap()));
    assert!(led.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    let led = get("/agents?page=2").await;
    assert_eq!(
        (led.status().as_u16(), &led.headers()["location"]),
        (303, &"/sign-in?to=%2Fagents%3Fpage%3D2".parse().unwrap())
    );
    for _ in 0..3 {
        assert_eq!(sign_in("token=nothing", "same-origin").await.status(), 401);
    }
    let refused = sign_in("token=the+secret+of+reader", "same-origin").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    served.stop.send_replace(true);
}
