//! What is answered and told, by a node whose leases a test holds: over real sockets, files, programs, and HTTP.
#![expect(
    clippy::disallowed_methods,
    reason = "HAProxy connects by itself, and not through a Network of ours"
)]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use aviary_agent::lease::{Advice, Asked};
use aviary_core::{Second, Timestamp};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::sleep,
};

use super::*;
use crate::config::{
    secret::Secret,
    steer::{Consul, Told as Configured},
};

const NOW: Timestamp = Second(1_763_690_400).start();

/// Clocks that stand still.
#[derive(Clone)]
struct Still;

impl Clock for Still {
    fn wall(&self) -> Timestamp {
        NOW
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

/// A node of two services, of which a test says what is advised.
struct Rig {
    node: Arc<Node>,
    leases: watch::Sender<Leases>,
}

impl Rig {
    fn new(services: &[&str]) -> Self {
        let (leases, held) = watch::channel(Leases::default());
        let view = Arc::new(View::naming(services));
        Self { node: Arc::new(Node::new(view, held, Still)), leases }
    }

    /// A collector answers this of the service `a`, for so many seconds.
    fn advise(&self, state: Option<Advised>, seconds: u64) {
        let reason = "lost 24 of 24".to_owned();
        let until_us = NOW.0 + seconds * 1_000_000;
        let told = state.map(|state| ("a".to_owned(), Advice { state, weight: None, reason, until_us }));
        let asked = Asked { began: Micros(0), midway: NOW, now_us: Some(NOW.0) };
        self.leases.send_modify(|leases| leases.answered(told.into_iter().collect(), asked));
    }

    fn tell(&self, told: Configured) -> Steering {
        Steering::start(Arc::clone(&self.node), Hooks::new(told, "n1".to_owned()).unwrap(), None)
    }
}

/// Waits until `seen` gives something.
async fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1_000 {
        if let Some(found) = seen() {
            return found;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within ten seconds");
}

#[test]
fn a_node_is_out_under_a_lease_and_in_whatever_else() {
    let rig = Rig::new(&["a", "b"]);
    let shown = |service| rig.node.answer(service).map(|answer| serde_json::to_value(answer).unwrap());
    let inside = |service| json!({"service": service, "state": "starting", "rotation": "in", "weight": 100, "reason": null, "until": null});
    assert_eq!(shown("a"), Some(inside("a")));
    assert_eq!(shown("c"), None);
    let advised = |rotation, weight| {
        json!({"service": "a", "state": "starting", "rotation": rotation, "weight": weight,
            "reason": "lost 24 of 24", "until": "2025-11-21T02:01:00Z"})
    };
    rig.advise(Some(Advised::Out), 60);
    assert_eq!((shown("a"), shown("b")), (Some(advised("out", 0)), Some(inside("b"))));
    rig.advise(Some(Advised::Returning), 60);
    assert_eq!(shown("a"), Some(advised("returning", 10)));
    rig.advise(None, 60);
    assert_eq!(shown("a"), Some(inside("a")));
    rig.advise(Some(Advised::Out), 0);
    assert_eq!(shown("a"), Some(inside("a")), "it has ended");
    rig.advise(Some(Advised::Out), 60);
    assert!(rig.node.end(), "it was out");
    assert_eq!(shown("a"), Some(inside("a")), "nobody would say when it ends");
}

/// What HAProxy would read that sends `line`.
async fn checked(address: std::net::SocketAddr, line: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(line).await.unwrap();
    let mut said = String::new();
    timeout(Duration::from_secs(10), stream.read_to_string(&mut said)).await.expect("it answers").unwrap();
    said
}

#[tokio::test]
async fn an_agent_check_is_always_answered() {
    let rig = Rig::new(&["a", "b"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(agent_check::serve(listener, Arc::clone(&rig.node)));
    let long = [b'x'; 2_000];
    let lines: [&[u8]; 8] = [b"a\n", b"a", b"a\r\nmore\n", b"b\n", b"c\n", b"", b"\xff\xfe\n", &long];
    let inside = "100%\n";
    for (state, of_a) in
        [(None, inside), (Some(Advised::Out), "0%\n"), (Some(Advised::Returning), "10%\n"), (None, inside)]
    {
        rig.advise(state, 60);
        for (place, line) in lines.iter().enumerate() {
            let expected = if place < 3 { of_a } else { inside };
            assert_eq!(
                checked(address, line).await,
                expected,
                "{state:?} {:?}",
                String::from_utf8_lossy(line)
            );
        }
    }
    let counted: BTreeMap<_, _> = rig
        .node
        .counted()
        .answers()
        .map(|(by, rotation, count)| ((by.name(), rotation.name()), count))
        .collect();
    let of = |rotation| counted[&("agent_check", rotation)];
    assert_eq!((of("in"), of("out"), of("returning")), (26, 3, 3));

    // Whoever says nothing and goes nowhere keeps nobody from an answer.
    let silent: Vec<_> = futures_util::future::join_all((0..200).map(|_| TcpStream::connect(address))).await;
    assert_eq!(checked(address, b"a\n").await, inside);
    drop(silent);
    serving.abort();
}

#[tokio::test]
async fn an_agent_that_begins_anew_says_nothing_before_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&["a"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(agent_check::serve(listener, Arc::clone(&rig.node)));
    let steering = rig.tell(command(dir.path(), "exit 0"));
    let answer = tokio::spawn(checked(address, b"a\n"));
    sleep(Duration::from_millis(500)).await;
    assert!(!answer.is_finished() && lines(dir.path()).is_empty());
    rig.advise(Some(Advised::Out), 60);
    assert_eq!(answer.await.unwrap(), "0%\n");
    until("told", || (!lines(dir.path()).is_empty()).then_some(())).await;
    assert!(lines(dir.path())[0].starts_with("a-out-0"), "it was never said to be in");
    steering.stop().await;
    serving.abort();
}

#[tokio::test]
async fn the_only_service_needs_no_name() {
    let rig = Rig::new(&["a"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(agent_check::serve(listener, Arc::clone(&rig.node)));
    rig.advise(Some(Advised::Out), 60);
    assert_eq!(checked(address, b"").await, "0%\n");
    serving.abort();
}

#[tokio::test]
async fn a_file_says_what_is_answered_and_never_a_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&["a", "b"]);
    let template = dir.path().join("{service}.json").display().to_string();
    let steering = rig.tell(Configured { file: Some(template), ..Configured::default() });
    let path = |service: &str| dir.path().join(format!("{service}.json"));
    let read = |path: &Path| fs::read(path).ok().map(|text| serde_json::from_slice::<Value>(&text).unwrap());
    let said = |service: &'static str, rotation: &'static str| {
        let path = path(service);
        move || read(&path).filter(|said| said["rotation"] == rotation)
    };
    until("it is there from the beginning", said("b", "in")).await;
    for (state, rotation) in [
        (Some(Advised::Out), "out"),
        (Some(Advised::Returning), "returning"),
        (None, "in"),
        (Some(Advised::Out), "out"),
    ] {
        rig.advise(state, 60);
        let told = until(rotation, said("a", rotation)).await;
        assert_eq!(told, serde_json::to_value(rig.node.answer("a").unwrap()).unwrap());
        assert_eq!(read(&path("b")).unwrap()["rotation"], "in");
    }
    // It renews what it says for as long as a collector does.
    rig.advise(Some(Advised::Out), 30);
    until("renewed", || read(&path("a")).filter(|said| said["until"] == "2025-11-21T02:00:30Z")).await;
    steering.stop().await;
    assert_eq!(read(&path("a")).unwrap()["rotation"], "in", "nobody is there any more to take it back");
}

/// A program that notes what it is told in a file, and then does this.
fn script(dir: &Path, then: &str) -> String {
    let path = dir.join("steer");
    let told = dir.join("told");
    let text = format!(
        "#!/bin/sh\necho \"$1 $AVIARY_ROTATION_SERVICE $AVIARY_ROTATION_NODE $AVIARY_ROTATION_STATE \
         $AVIARY_ROTATION_WEIGHT $AVIARY_ROTATION_REASON\" >> {}\n{then}\n",
        told.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn command(dir: &Path, then: &str) -> Configured {
    let argument = "{service}-{state}-{weight}".to_owned();
    Configured { command: vec![script(dir, then), argument], ..Configured::default() }
}

fn lines(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_command_is_told_once_of_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&["a"]);
    let steering = rig.tell(command(dir.path(), "exit 0"));
    let place = dir.path();
    let told = |count: usize| until("it is told", move || Some(lines(place)).filter(|it| it.len() >= count));
    assert_eq!(told(1).await, ["a-in-100 a n1 in 100 "], "at the beginning");
    rig.advise(Some(Advised::Out), 60);
    assert_eq!(told(2).await[1], "a-out-0 a n1 out 0 lost 24 of 24");
    for seconds in 40..50 {
        rig.advise(Some(Advised::Out), seconds);
        sleep(Duration::from_millis(20)).await;
    }
    rig.advise(None, 60);
    assert_eq!(told(3).await[2], "a-in-100 a n1 in 100 ", "what is renewed is no change");
    steering.stop().await;
    assert_eq!(lines(dir.path()).len(), 3, "what it knows is not said again at the end");
}

#[tokio::test]
async fn a_command_that_fails_is_run_again_and_the_newest_wins() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&["a"]);
    let ready = dir.path().join("ready");
    let steering = rig.tell(command(dir.path(), &format!("test -e {}", ready.display())));
    until("it is tried", || (!lines(dir.path()).is_empty()).then_some(())).await;
    for state in [Some(Advised::Out), None, Some(Advised::Returning)] {
        rig.advise(state, 60);
        sleep(Duration::from_millis(100)).await;
    }
    fs::write(&ready, "").unwrap();
    let is_last = || lines(dir.path()).last().is_some_and(|line| line.starts_with("a-returning-10"));
    until("the newest", || is_last().then_some(())).await;
    let counts = || rig.node.counted().tellings().find(|(by, ..)| *by == By::Command).unwrap();
    until("taken", || (counts().1 >= 1).then_some(())).await;
    assert!((1..=6).contains(&counts().2), "the attempts in between are few: {:?}", counts());
    steering.stop().await;
    assert!(lines(dir.path()).last().unwrap().starts_with("a-in-100"), "it ends in rotation");
}

#[tokio::test]
async fn of_one_service_one_command_runs_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&["a"]);
    let lock = dir.path().join("lock");
    let (lock, twice) = (lock.display(), dir.path().join("twice"));
    let then = format!("mkdir {lock} || touch {}\nsleep 0.3\nrmdir {lock}", twice.display());
    let began = aviary_probe::SystemClock.monotonic();
    let steering = rig.tell(command(dir.path(), &then));
    for turn in 0..10 {
        rig.advise((turn % 2 == 0).then_some(Advised::Out), 60);
        sleep(Duration::from_millis(70)).await;
    }
    let changed_for = aviary_probe::SystemClock.monotonic().since(began);
    steering.stop().await;
    let told = lines(dir.path());
    // One after the other while it changes, the newest after that, and the end.
    let most = changed_for.div_ceil(300_000) as usize + 2;
    assert!((2..=most).contains(&told.len()), "what was overtaken is not told: {told:?}");
    assert!(told.last().unwrap().starts_with("a-in-100"), "{told:?}");
    assert!(!twice.exists());
}

/// A Consul agent as its documentation has it: it knows checks with a TTL once they are registered, and refuses all else.
#[derive(Default)]
struct Scripted {
    checks: BTreeMap<String, Value>,
    is_away: bool,
}

impl Scripted {
    /// What it answers, and to whom it takes note of it.
    fn answer(&mut self, request: &str, token: Option<&str>, body: &Value) -> (u16, String) {
        if self.is_away {
            return (500, "No cluster leader".to_owned());
        }
        if token != Some("consul-secret") {
            return (403, "Permission denied".to_owned());
        }
        match request.strip_prefix("PUT /v1/agent/check/").unwrap_or_default().split_once('/') {
            None if request == "PUT /v1/agent/check/register" => {
                assert!(body.get("DeregisterCriticalServiceAfter").is_none(), "{body}");
                assert_eq!((&body["Status"], &body["ServiceID"]), (&json!("passing"), &json!("a-1")));
                self.checks.insert(body["ID"].as_str().unwrap().to_owned(), body.clone());
                (200, String::new())
            }
            Some(("update", id)) => match self.checks.get_mut(&id.replace("%3A", ":")) {
                Some(check) => {
                    (check["Status"], check["Output"]) = (body["Status"].clone(), body["Output"].clone());
                    (200, String::new())
                }
                None => (
                    404,
                    format!(
                        "Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."
                    ),
                ),
            },
            Some(("deregister", id)) => {
                self.checks.remove(&id.replace("%3A", ":"));
                (200, String::new())
            }
            _ => (405, format!("{request} is no part of the contract")),
        }
    }
}

/// Answers HTTP by `consul`, and tells what was asked.
async fn serve_consul(
    listener: TcpListener,
    consul: Arc<std::sync::Mutex<Scripted>>,
    asked: mpsc::Sender<String>,
) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (consul, asked) = (Arc::clone(&consul), asked.clone());
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            loop {
                let end = loop {
                    if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                        break end + 4;
                    }
                    if stream.read_buf(&mut bytes).await? == 0 {
                        return Ok::<_, std::io::Error>(());
                    }
                };
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let header = |name: &str| {
                    head.lines()
                        .find_map(|line| line.split_once(": ").filter(|it| it.0.eq_ignore_ascii_case(name)))
                };
                let length: usize = header("content-length").map_or(0, |(_, length)| length.parse().unwrap());
                while bytes.len() < end + length {
                    stream.read_buf(&mut bytes).await?;
                }
                let body: Vec<u8> = bytes.drain(..end + length).skip(end).collect();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let request = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
                let token = header("x-consul-token").map(|(_, token)| token);
                let (status, said) = consul.lock().unwrap().answer(request, token, &body);
                _ = asked.try_send(format!("{status} {request}"));
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{said}", said.len());
                stream.write_all(answer.as_bytes()).await?;
            }
        });
    }
}

#[tokio::test]
async fn consul_has_a_check_of_ours_which_says_what_is_advised() {
    aviary_probe::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let consul = Arc::new(std::sync::Mutex::new(Scripted::default()));
    let (tell, mut asked) = mpsc::channel(1_024);
    let serving = tokio::spawn(serve_consul(listener, Arc::clone(&consul), tell));

    let rig = Rig::new(&["a"]);
    let configured = Consul {
        url,
        token: Some(Secret::of("consul-secret")),
        ca: None,
        check: "aviary:{service}".to_owned(),
        instance: "{service}-1".to_owned(),
        every: Duration::from_secs(1),
        ttl: Duration::from_secs(12),
    };
    let steering = rig.tell(Configured { consul: Some(configured), ..Configured::default() });
    let status = |expected: &'static str| {
        let consul = Arc::clone(&consul);
        until(expected, move || {
            let consul = consul.lock().unwrap();
            consul.checks.get("aviary:a").filter(|check| check["Status"] == expected).cloned()
        })
    };
    let check = status("passing").await;
    assert_eq!((check["TTL"].as_str(), check["Name"].is_string()), (Some("12000ms"), true), "{check}");
    rig.advise(Some(Advised::Out), 60);
    assert_eq!(status("critical").await["Output"], "out of rotation: lost 24 of 24");
    rig.advise(Some(Advised::Returning), 60);
    assert_eq!(status("warning").await["Output"], "returning with 10 % of its load: lost 24 of 24");
    rig.advise(None, 60);
    status("passing").await;

    // It is told all the time, and again all of it where it has forgotten.
    let mut heard = Vec::new();
    while heard.len() < 8 {
        heard.push(asked.recv().await.unwrap());
    }
    let registers = heard.iter().filter(|line| line.ends_with("register")).count();
    assert!(registers == 1 && heard.iter().all(|line| line.starts_with("200 ")), "{heard:?}");
    rig.advise(Some(Advised::Out), 60);
    status("critical").await;
    consul.lock().unwrap().checks.clear();
    assert_eq!(status("critical").await["Output"], "out of rotation: lost 24 of 24");

    // What fails is counted, stops nothing, and is over when it is over.
    consul.lock().unwrap().is_away = true;
    let counts = || rig.node.counted().tellings().find(|(by, ..)| *by == By::Consul).unwrap();
    let before = counts().2;
    until("failures", || (counts().2 > before).then_some(())).await;
    consul.lock().unwrap().is_away = false;
    rig.advise(None, 60);
    status("passing").await;

    steering.stop().await;
    assert!(consul.lock().unwrap().checks.is_empty(), "a check that nobody tells would become critical");
    serving.abort();
}
