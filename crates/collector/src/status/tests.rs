//! The whole page, of a fleet that is scripted: as files, over a real connection, and as programs read it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{
    Clock, Evidence, Fault, Micros, Outcome, Phase, Second, Span, Tag, Timestamp, Vantage, VantageKind,
    incident::{Cause, Incident},
    silence::{Matches, Silence, When},
};
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;
use crate::{Collector, Options, ServiceOptions};

/// Midnight, so that a day is easy to count.
const START: u64 = 1_763_683_200;
pub(super) const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
pub(super) const REFUSED: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };
const REGIONS: [&str; 2] = ["eu <west>", "us"];

/// What nobody outside may read.
const OURS: [&str; 6] = ["svc-ingest-7", "canary-node", "graphite.internal", "2003", "192.0.2.", "ada"];

#[derive(Clone, Default)]
struct Set(Arc<AtomicU64>);

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        Timestamp((START + self.0.load(Ordering::SeqCst)) * 1_000_000)
    }

    fn monotonic(&self) -> Micros {
        Micros(self.0.load(Ordering::SeqCst) * 1_000_000)
    }
}

pub(super) struct Rig {
    clock: Set,
    pub(super) collector: Collector,
}

fn service(name: &str, status: ServiceStatus) -> ServiceOptions {
    ServiceOptions { status, ..ServiceOptions::unconfigured(name) }
}

fn page() -> StatusPage {
    StatusPage {
        title: "Example & <sons>".to_owned(),
        url: Some("https://status.example.com".to_owned()),
        contact: Some("support@example.com".to_owned()),
        directory: None,
    }
}

impl Rig {
    pub(super) fn new(publish: Publish) -> Self {
        aviary_probe::install_crypto_provider();
        let shown = ServiceStatus {
            name: Some("Ingest \"A\"".to_owned()),
            description: Some("Takes <your> metrics.".to_owned()),
            group: Some("Metrics & more".to_owned()),
            publish,
        };
        let hidden = ServiceStatus { publish: Publish::Hidden, ..ServiceStatus::default() };
        let announced = Silence {
            id: "switches".to_owned(),
            matches: Matches::one(Tag::Service, "svc-ingest-7"),
            when: When::Once(Span::new(Second(START + 9_000), Second(START + 9_900))),
            author: "ada".to_owned(),
            reason: "canary-node is moved".to_owned(),
            announce: Some("We replace <switches>.".to_owned()),
        };
        let options = Options {
            name: "main".to_owned(),
            services: vec![service("svc-ingest-7", shown), service("graphite.internal", hidden)],
            silences: vec![announced],
            has_status: true,
            ..Options::default()
        };
        let clock = Set::default();
        Self { collector: Collector::new(options, clock.clone()).unwrap(), clock }
    }

    /// Lets these seconds pass; of those without an outcome nobody tells.
    pub(super) fn run(&self, seconds: std::ops::Range<u64>, tcp: Option<Outcome>) {
        self.clock.0.store(seconds.start, Ordering::SeqCst);
        for second in seconds {
            for region in REGIONS {
                let series = |(place, url): (usize, &str)| RosterSeries {
                    service: "svc-ingest-7".to_owned(),
                    endpoint: url.parse().unwrap(),
                    address: None,
                    name: format!("canary.{}.{place}", region.len()),
                    from: Second(START),
                };
                let urls = ["tcp://graphite.internal:2003", "tls://graphite.internal:2030"];
                let vantage = Vantage {
                    kind: VantageKind::External,
                    region: region.to_owned(),
                    zone: None,
                    network: None,
                    node: format!("canary-node-{}", region.len()),
                };
                let roster = Roster {
                    vantage,
                    since: Second(START),
                    series: urls.into_iter().enumerate().map(series).collect(),
                };
                let slot = |series, outcome| ClosedSlot {
                    series,
                    second: Second(START + second),
                    outcome,
                    reached: None,
                    address: Some(([192, 0, 2, 1], 2_003).into()),
                };
                let told = tcp.map(|tcp| slot(0, tcp)).into_iter().chain([slot(1, DELIVERED)]);
                let report = Report {
                    boot: 1,
                    sequence: second,
                    wall: self.clock.wall(),
                    roster_id: roster.id(),
                    roster: Some(roster),
                    slots: told.collect(),
                    ..Report::default()
                };
                self.collector.state().take(&report, None, self.clock.wall()).unwrap();
            }
            self.clock.0.store(second + 1, Ordering::SeqCst);
            self.collector.judge_now();
        }
    }

    /// The incident that customers are told of.
    fn lost(&self) -> Incident {
        let held = self.collector.judgement().incidents();
        held.into_iter().find(|it| it.cause == Cause::Loss && it.opened.is_some()).unwrap()
    }

    /// All forms of the page as they are now.
    fn rendered(&self) -> BTreeMap<String, String> {
        let mut keeper = running::Keeper::new(page());
        keeper.turn(&self.collector);
        let rendered = self.collector.status_page().rendered().unwrap();
        let text = |path: &String| String::from_utf8(rendered.get(path).unwrap().bytes.to_vec()).unwrap();
        rendered.paths().map(|path| (path.clone(), text(path))).collect()
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.rendered()[path]).unwrap()
    }
}

/// Well, then half a minute of which nobody tells anything of tcp, then tcp is lost for two minutes, which is published.
fn broken() -> Rig {
    let rig = Rig::new(Publish::Automatic { after_seconds: 60 });
    rig.run(0..300, Some(DELIVERED));
    rig.run(300..330, None);
    rig.run(330..400, Some(DELIVERED));
    rig.run(400..520, Some(REFUSED));
    rig
}

/// Looks whether `value` is as `shape` says: what it has beside is ours.
#[track_caller]
fn has_shape(shape: &Value, value: &Value) {
    for (field, kind) in shape.as_object().unwrap() {
        let found = value.get(field).unwrap_or_else(|| panic!("no {field}: {value}"));
        let kind = kind.as_str().unwrap();
        let (kind, is_optional) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
        let is_right = match kind {
            _ if found.is_null() => is_optional,
            "string" => found.is_string(),
            "number" => found.is_u64(),
            "bool" => found.is_boolean(),
            "list" => found.is_array(),
            "time" => found.as_str().is_some_and(|it| it.parse::<jiff::Timestamp>().is_ok()),
            "date" => found.as_str().is_some_and(|it| it.parse::<jiff::civil::Date>().is_ok()),
            words => words.split('|').any(|word| found == word),
        };
        assert!(is_right, "{field} is no {kind}: {value}");
    }
}

#[test]
fn readers_of_status_pages_find_the_shapes_that_they_know() {
    let shapes: Value = serde_json::from_str(include_str!("shapes.json")).unwrap();
    let rig = broken();
    let list = |value: &Value, name: &str| value[name].as_array().unwrap().clone();
    let incidents = |value: &Value, name: &str| {
        for incident in list(value, name) {
            has_shape(&shapes["incident"], &incident);
            assert!(!list(&incident, "incident_updates").is_empty());
            for update in list(&incident, "incident_updates") {
                has_shape(&shapes["update"], &update);
                list(&update, "affected_components").iter().for_each(|it| has_shape(&shapes["affected"], it));
            }
            list(&incident, "components").iter().for_each(|it| has_shape(&shapes["component"], it));
        }
    };
    let documents = [
        ("summary", ["components", "incidents", "scheduled_maintenances", "status"].as_slice()),
        ("status", &["status"]),
        ("components", &["components"]),
        ("incidents", &["incidents"]),
        ("incidents/unresolved", &["incidents"]),
        ("scheduled-maintenances", &["scheduled_maintenances"]),
        ("scheduled-maintenances/upcoming", &["scheduled_maintenances"]),
        ("scheduled-maintenances/active", &["scheduled_maintenances"]),
    ];
    for (name, fields) in documents {
        let document = rig.json(&format!("api/v2/{name}.json"));
        has_shape(&shapes["page"], &document["page"]);
        let found: Vec<&String> = document.as_object().unwrap().keys().filter(|key| *key != "page").collect();
        assert_eq!(found, fields, "{name}");
        for field in fields {
            match *field {
                "status" => has_shape(&shapes["status"], &document["status"]),
                "components" => {
                    list(&document, field).iter().for_each(|it| has_shape(&shapes["component"], it))
                }
                field => incidents(&document, field),
            }
        }
    }
    let summary = rig.json("api/v2/summary.json");
    assert_eq!(summary["page"]["url"], "https://status.example.com");
    // Half of the cells lose everything.
    assert_eq!(summary["status"]["indicator"], "critical", "{}", summary["status"]);
    let [group, component] = &list(&summary, "components")[..] else { panic!("{summary}") };
    assert_eq!((&group["name"], &group["group"]), (&"Metrics & more".into(), &true.into()));
    assert_eq!(group["components"], serde_json::json!([component["id"]]));
    assert_eq!(component["group_id"], group["id"]);
    assert_eq!((&component["status"], &component["measured"]), (&"major_outage".into(), &true.into()));
    assert_eq!(component["regions"]["us"], "major_outage");
    let incident = &summary["incidents"][0];
    assert_eq!((&incident["status"], &incident["impact"]), (&"investigating".into(), &"critical".into()));
    let affected = &incident["incident_updates"][0]["affected_components"][0];
    assert_eq!((&affected["old_status"], &affected["name"]), (&"operational".into(), &"Ingest \"A\"".into()));
    let planned = &summary["scheduled_maintenances"][0];
    has_shape(&shapes["maintenance"], planned);
    assert_eq!((&planned["status"], &planned["impact"]), (&"scheduled".into(), &"maintenance".into()));
}

#[test]
fn nothing_of_ours_is_told_and_whatever_is_told_is_escaped() {
    for (path, text) in broken().rendered() {
        for ours in OURS {
            // The name of an asset is a hash.
            assert!(path.starts_with("assets/") || !text.contains(ours), "{ours} in {path}: {text}");
        }
        if path.ends_with(".html") || path.ends_with(".atom") {
            for raw in ["<sons>", "<west>", "<your>", "<switches>"] {
                assert!(!text.contains(raw), "{raw} in {path}");
            }
            assert!(text.contains("Example &amp; &lt;sons&gt;"), "{path}");
        }
    }
}

#[test]
fn seconds_that_nobody_measured_are_said_and_never_taken_for_good() {
    let rig = Rig::new(Publish::Draft);
    rig.run(0..600, Some(DELIVERED));
    let whole = rig.json("api/v2/components.json");
    let protocol = |document: &Value, name: &str| {
        let protocols = document["components"][1]["protocols"].as_array().unwrap();
        protocols.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    assert_eq!(protocol(&whole, "tcp")["delivery_90d"], 100.0, "{whole}");
    assert_eq!(whole["components"][1]["uptime_90d"], 100.0);
    rig.run(600..660, None);
    rig.run(660..720, Some(DELIVERED));
    let blind = rig.json("api/v2/components.json");
    let tcp = protocol(&blind, "tcp");
    assert_eq!(tcp["delivery_90d"], 99.999, "{tcp}");
    let (planned, measured) =
        (tcp["days"][0]["planned"].as_u64().unwrap(), tcp["days"][0]["measured"].as_u64().unwrap());
    assert_eq!(planned - measured, 120, "{tcp}");
    assert_eq!(protocol(&blind, "tls")["delivery_90d"], 100.0);
    let component = &blind["components"][1];
    assert_eq!((&component["uptime_90d"], &component["delivery_90d"]), (&99.999.into(), &99.999.into()));
    let index = &rig.rendered()["index.html"];
    assert!(
        index.contains("nothing lost of what was measured, ") && index.contains("url(#hatch)"),
        "{index}"
    );
    assert_eq!(index.matches("url(#hatch)").count(), 2, "the legend's and the day's of tcp: {index}");
}

#[test]
fn what_is_down_counts_by_minutes_as_other_pages_have_it() {
    let rig = Rig::new(Publish::Draft);
    rig.run(0..600, Some(DELIVERED));
    rig.run(600..660, Some(REFUSED));
    rig.run(660..1_208, Some(DELIVERED));
    // Twenty minutes, of which half was lost in one.
    let component = rig.json("api/v2/components.json")["components"][1].clone();
    assert_eq!(component["uptime_90d"], 95.0, "{component}");
    let (delivered, planned) = (1_200 * 4 - 120, 1_200 * 4);
    assert_eq!(component["delivery_90d"], f64::from(delivered * 100_000 / planned) / 1e3);
    // Nobody published anything, and it is seen all the same.
    assert!(rig.rendered()["index.html"].contains("bar-bad"));
    assert!(rig.json("api/v2/incidents.json")["incidents"].as_array().unwrap().is_empty());
}

#[test]
fn of_what_was_withdrawn_customers_read_only_why() {
    let rig = broken();
    let incident = rig.lost();
    let withdraw = |act| rig.collector.judgement().tell_public(&incident, vec![act], "ada", rig.clock.wall());
    let before = rig.rendered();
    let page = format!("incidents/{}.html", incident.id);
    assert!(before[&page].contains("We are looking into it."), "{}", before[&page]);
    withdraw(Act::Withdraw("A cable of ours.".to_owned())).unwrap();
    rig.collector.judgement().flush().unwrap();
    for (path, text) in rig.rendered() {
        assert!(!text.contains("We are looking into it."), "{path}");
    }
    let body = rig.json("api/v2/incidents.json")["incidents"][0].clone();
    assert_eq!((&body["status"], &body["impact"]), (&"resolved".into(), &"none".into()));
    assert_eq!(body["incident_updates"].as_array().unwrap().len(), 1);
    assert!(rig.rendered()["feed.atom"].contains("A cable of ours."));
}

#[test]
fn only_loss_that_is_all_announced_is_a_maintenance() {
    let ingest = || Matches::one(Tag::Service, "svc-ingest-7");
    let table = [
        // What is announced of one region, or quietly of the whole, makes no maintenance of what is lost in both.
        (Matches::one(Tag::Region, "us"), true, "major_outage", "operational"),
        (ingest().and(Tag::Region, "us"), true, "major_outage", "operational"),
        (ingest(), false, "major_outage", "operational"),
        (ingest(), true, "under_maintenance", "under_maintenance"),
        (Matches::default(), true, "under_maintenance", "under_maintenance"),
    ];
    for (matches, is_announced, lossy, well) in table {
        let rig = Rig::new(Publish::Draft);
        let silence = Silence {
            id: "tonight".to_owned(),
            matches: matches.clone(),
            when: When::Once(Span::new(Second(START), Second(START + 9_000))),
            author: "ada".to_owned(),
            reason: "canary-node is moved".to_owned(),
            announce: is_announced.then(|| "We replace cables.".to_owned()),
        };
        rig.collector.judgement().silence(silence, rig.clock.wall()).unwrap();
        let status = || rig.json("api/v2/components.json")["components"][1]["status"].clone();
        rig.run(0..300, Some(DELIVERED));
        assert_eq!(status(), well, "{matches:?}");
        rig.run(300..420, Some(REFUSED));
        assert_eq!(status(), lossy, "{matches:?}");
    }
}

#[test]
fn what_was_counted_is_told_hour_by_hour() {
    let rig = Rig::new(Publish::Draft);
    rig.run(3_500..3_700, Some(DELIVERED));
    let at = |second: u64| Second(START + second);
    let hours = figures::hours_of(&rig.collector, Span::new(at(3_550), at(3_690))).unwrap();
    let told: Vec<_> = hours
        .iter()
        .map(|(span, windows)| (*span, windows.values().map(|window| window.delivered).sum::<u64>()))
        .collect();
    let expected = [(Span::new(at(3_550), at(3_600)), 50 * 4), (Span::new(at(3_600), at(3_690)), 90 * 4)];
    assert_eq!(told, expected);
}

#[test]
fn a_scheduled_maintenance_changes_only_with_what_is_said_of_it() {
    let rig = Rig::new(Publish::Draft);
    let told = || {
        let mut told = rig.json("api/v2/scheduled-maintenances.json")["scheduled_maintenances"][0].clone();
        assert_eq!(told["status"], "scheduled", "{told}");
        told["components"].take();
        told
    };
    rig.run(0..20, Some(DELIVERED));
    let before = told();
    rig.run(20..100, Some(DELIVERED));
    assert_eq!(told(), before);
}

fn files(directory: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            files(&path, &format!("{name}/"), found);
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_cannot_be_written_is_told_of_until_it_can() {
    let rig = broken();
    assert_eq!(rig.collector.status_page().is_up_to_date(), None, "there is none yet");
    let directory = tempfile::tempdir().unwrap();
    let public = directory.path().join("public");
    std::fs::write(&public, "in the way").unwrap();
    let page = StatusPage { directory: Some(public.clone()), ..page() };
    let server = rig.collector.serve_status(page, None::<TcpListener>);
    let told = async |is_good: fn(&Option<Result<(), String>>) -> bool| {
        while !is_good(&rig.collector.status_page().is_up_to_date()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = Duration::from_secs(20);
    let is_told = told(|told| matches!(told, Some(Err(said)) if said.contains("public")));
    tokio::time::timeout(in_time, is_told).await.expect("told of");
    std::fs::remove_file(&public).unwrap();
    rig.clock.0.fetch_add(60, Ordering::SeqCst);
    tokio::time::timeout(in_time, told(|told| *told == Some(Ok(())))).await.expect("mended");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_is_what_is_written() {
    let rig = broken();
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let page = StatusPage { directory: Some(directory.path().join("public")), ..page() };
    let server = rig.collector.serve_status(page, Some(listener));
    while rig.collector.status_figures().written == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut written = BTreeMap::new();
    files(&directory.path().join("public"), "", &mut written);
    assert!(written.len() > 15, "{:?}", written.keys());
    let client = reqwest::Client::new();
    for (path, bytes) in &written {
        let answer = client.get(format!("{url}/{path}")).send().await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["access-control-allow-origin"]),
            (reqwest::StatusCode::OK, &"*".parse().unwrap())
        );
        let tag = answer.headers()["etag"].clone();
        assert_eq!(answer.bytes().await.unwrap(), bytes, "{path}");
        let again = client.get(format!("{url}/{path}")).header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status(), 304, "{path}");
    }
    let index = client.get(format!("{url}/")).send().await.unwrap();
    assert_eq!(index.headers()["cache-control"], "public, max-age=15");
    assert!(index.headers()["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    assert_eq!(index.bytes().await.unwrap(), written["index.html"]);
    assert_eq!(client.get(format!("{url}/api/v1/incidents")).send().await.unwrap().status(), 404);
    assert_eq!(client.post(format!("{url}/")).send().await.unwrap().status(), 405);
    let well = client.get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!((well.status().as_u16(), well.text().await.unwrap().as_str()), (200, "ok\n"));
    let head = client.head(format!("{url}/feed.atom")).send().await.unwrap();
    assert_eq!(head.headers()["content-type"], "application/atom+xml; charset=utf-8");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_says_more_over_the_api_and_what_is_wrong_is_refused() {
    let rig = broken();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = rig.collector.serve(listener);
    let incident = rig.lost();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let (at, path) = (
        format!("{url}/api/v1/incidents/{}/public", incident.id),
        format!("{url}/incidents/{}", incident.id),
    );
    let post = async |act: &str, body: &str| {
        let sent = client.post(format!("{at}/{act}")).body(body.to_owned()).send().await.unwrap();
        (sent.status().as_u16(), sent.json::<Value>().await.unwrap())
    };
    let found: Value = client.get(&at).send().await.unwrap().json().await.unwrap();
    assert_eq!((&found["standing"], &found["impact"]), (&"published".into(), &"critical".into()));
    let table = [
        ("publish", r#"{"by":"ada"}"#, 409, "public already"),
        ("edit", r#"{"by":"ada"}"#, 409, "nothing to change"),
        ("edit", r#"{"by":"ada","impact":"huge"}"#, 400, "there are none, minor, major, critical"),
        ("update", r#"{"by":"ada"}"#, 400, "give its text"),
        ("update", r#"{"by":"ada","text":"x","status":"postmortem"}"#, 409, "with `post-mortem`"),
        ("post-mortem", r#"{"by":"ada","text":"x"}"#, 409, "is not resolved"),
        ("delete", r#"{"by":"ada"}"#, 400, "there are edit, publish, update, post-mortem, unpublish"),
        ("update", r#"{"text":"x"}"#, 400, "say who you are"),
    ];
    for (act, body, status, message) in table {
        let (found, answer) = post(act, body).await;
        assert!(
            found == status && answer["error"]["message"].as_str().unwrap().contains(message),
            "{act} {body}: {answer}"
        );
    }
    let (status, answer) = post("update", r#"{"by":"ada","text":"A switch.","status":"identified"}"#).await;
    assert_eq!((status, &answer["updates"][1]["stage"]), (200, &"identified".into()));

    // The same by the form of the operator's page.
    let form = "by=grace&text=It+is+replaced.&status=resolved";
    let request =
        client.post(format!("{path}/public/update")).body(form).header("sec-fetch-site", "same-origin");
    assert_eq!(request.send().await.unwrap().status(), 303);
    let foreign =
        client.post(format!("{path}/public/update")).body(form).header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let seen = client.get(&path).header("accept", "text/html").send().await.unwrap().text().await.unwrap();
    for expected in [
        "It is replaced.",
        "(grace)",
        "What customers are told",
        "by the rule of the service",
        "Add it as the post-mortem",
    ] {
        assert!(seen.contains(expected), "{expected}: {seen}");
    }
    let report: Value =
        client.get(format!("{url}/api/v1/report?month=2025-11")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&report["complete"], &report["until"]), (&false.into(), &(START + 512).into()), "{report}");
    let tcp = report["rows"].as_array().unwrap().iter().find(|it| it["protocol"] == "tcp").unwrap();
    // Settled by now: all but the newest eight seconds.
    assert_eq!(
        (&tcp["lost"], &tcp["cannot_tell"], &tcp["planned"]),
        (&224.into(), &60.into(), &1_024.into()),
        "{tcp}"
    );
    assert_eq!(tcp["unmeasured_seconds"], 30);
    server.stop().await;
}
