//! Pages over a real connection, of a fleet that is scripted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Clock, Evidence, Fault, Micros, Outcome, Phase, Second, Timestamp, Vantage, VantageKind};
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};
use serde_json::Value;
use tokio::{net::TcpListener, time::timeout};

use crate::{Collector, LiveFigures, Options, Server, ServiceOptions};

const START: u64 = 1_763_690_400;
const REGIONS: [&str; 2] = ["eu <west> & \"1\"", "us"];
const SERVICE: &str = "in gest/<b>";
const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const REFUSED: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };

/// A clock that is set.
#[derive(Clone, Default)]
struct Set(Arc<AtomicU64>);

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        Timestamp((START + self.0.load(Ordering::SeqCst)) * 1_000_000)
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

struct Served {
    clock: Set,
    collector: Collector,
    server: Server,
    url: String,
    client: reqwest::Client,
}

impl Served {
    async fn begin() -> Self {
        aviary_probe::install_crypto_provider();
        let clock = Set::default();
        let services = vec![ServiceOptions::unconfigured(SERVICE)];
        let options = Options { name: "main".to_owned(), services, ..Options::default() };
        let collector = Collector::new(options, clock.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = collector.serve_unjudged(listener);
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { clock, collector, server, url, client }
    }

    /// Tells and judges these seconds; over UDP's port nothing is refused.
    async fn run(&self, seconds: std::ops::Range<u64>, tcp: Outcome) {
        for second in seconds {
            for region in REGIONS {
                let series = |(place, url): (usize, &str)| RosterSeries {
                    service: SERVICE.to_owned(),
                    endpoint: url.parse().unwrap(),
                    address: None,
                    name: format!("canary.{}.{place}", region.len()),
                    from: Second(START),
                };
                let roster = Roster {
                    vantage: Vantage {
                        kind: VantageKind::External,
                        region: region.to_owned(),
                        zone: None,
                        network: Some("aws".to_owned()),
                        node: format!("node-{}", region.len()),
                    },
                    since: Second(START),
                    series: ["tcp://h:1", "tls://h:2"].into_iter().enumerate().map(series).collect(),
                };
                let slot = |series, outcome| ClosedSlot {
                    series,
                    second: Second(START + second),
                    outcome,
                    reached: None,
                    address: Some(([192, 0, 2, 1], 1).into()),
                };
                let report = Report {
                    boot: 1,
                    sequence: second,
                    wall: Timestamp((START + second) * 1_000_000),
                    configuration: "test".to_owned(),
                    roster_id: roster.id(),
                    roster: Some(roster),
                    slots: vec![slot(0, tcp), slot(1, DELIVERED)],
                    ..Report::default()
                };
                let sent =
                    self.client.post(format!("{}/api/v1/reports", self.url)).body(report.encode()).send();
                assert_eq!(sent.await.unwrap().status(), 200);
            }
            self.clock.0.store(second + 1, Ordering::SeqCst);
            self.collector.judge(self.clock.wall()).await;
        }
    }

    async fn get(&self, path: &str, accept: &str) -> (u16, String) {
        let request = self.client.get(format!("{}{path}", self.url)).header("accept", accept);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn html(&self, path: &str) -> String {
        let (status, body) = self.get(path, "text/html").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path, "application/json").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

const AT: &str = "/in%20gest%2F%3Cb%3E";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_whole_as_html_and_says_the_same_as_json() {
    let served = Served::begin().await;
    served.run(0..70, DELIVERED).await;
    served.run(70..100, REFUSED).await;
    let id = served.json("/incidents").await["incidents"][0]["id"].as_str().unwrap().to_owned();
    let incident = format!("/incidents/{id}");
    for path in ["/", "/?by=node&span=1m", "/?span=1y", AT, "/agents", "/incidents", &incident] {
        let html = served.html(path).await;
        assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{path}");
        // Names are text: nobody's markup, in no attribute either.
        assert!(!html.contains("<b>") && !html.contains("<west>"), "{path}: {html}");
        for foreign in ["http://", "https://", " style=", "onclick", "<style"] {
            assert!(!html.contains(foreign), "{path} has {foreign}");
        }
        served.json(path).await;
    }

    let all = served.json("/").await;
    let row = &all["services"][0];
    assert_eq!((&row["name"], &row["state"]), (&SERVICE.into(), &"down".into()), "{row}");
    assert_eq!((&row["lost_now"]["lost"], &row["lost_now"]["scheduled"]), (&20.into(), &40.into()));
    let html = served.html("/").await;
    for expected in [
        &format!(r#"<a href="{AT}">in gest/&lt;b&gt;</a>"#) as &str,
        r#"<span class="state down"><span class="shape" aria-hidden="true">■</span> down</span>"#,
        "50 % lost",
        "tcp in every region (2/2), 100 % lost; nothing else",
        "<th scope=\"row\">tcp</th>",
        "33 / 60",
    ] {
        assert!(html.contains(expected), "{expected} in {html}");
    }
    let matrix = &all["matrix"];
    assert_eq!(matrix["columns"], serde_json::json!(REGIONS));
    let of_tcp = &matrix["rows"][0];
    let cell = &of_tcp["cells"][0];
    assert_eq!((&of_tcp["protocol"], &cell["scheduled"]), (&"tcp".into(), &60.into()));
    let (delivered, lost) = (cell["delivered"].as_u64().unwrap(), cell["lost"].as_u64().unwrap());
    assert!(lost == 27 && delivered == 33, "{cell}");

    let chart = &all["chart"]["lines"][0];
    assert_eq!(chart["losses"][0]["from"], START + 70, "to the second");
    assert_eq!(chart["losses"][0]["until"], START + 100, "also of seconds that are not closed yet");
    for span in ["1h", "6h", "1d", "1w", "30d", "1y"] {
        let told = &served.json(&format!("/?span={span}")).await["chart"]["losses"][0];
        let expected = (&(START + 70).into(), &(START + 100).into(), &true.into());
        assert_eq!((&told["from"], &told["until"], &told["exact"]), expected, "{span}: {told}");
    }
    let service = served.json(AT).await;
    assert_eq!(service["series"]["series"][0]["slots"][1]["outcome"], "lost");
    assert_eq!(service["windows"].as_array().unwrap().len(), 14);
    assert_eq!(service["incidents"][0]["id"], id.as_str());
    let incident = served.json(&incident).await;
    assert_eq!(incident["parts"][0]["lost_seconds"][0]["from"], START + 70);
    let slot = &incident["slots"][0];
    assert_eq!((&slot["fault"], &slot["address"]), (&"refused".into(), &"192.0.2.1:1".into()));
    let explained = served.get(&format!("/api/v1/incidents/{id}/explanation"), "*/*").await.1;
    assert_eq!(incident["explanation"], explained.as_str());
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_and_an_acknowledgement_are_said_with_a_form() {
    let served = Served::begin().await;
    served.run(0..70, DELIVERED).await;
    served.run(70..90, REFUSED).await;
    let id = served.json("/incidents").await["incidents"][0]["id"].as_str().unwrap().to_owned();
    let page = format!("/incidents/{id}");
    let post = async |what: &str, form: &str, site: &str| {
        let request = served.client.post(format!("{}{page}/{what}", served.url)).body(form.to_owned());
        let answer = request.header("sec-fetch-site", site).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("location").map(|it| it.to_str().unwrap().to_owned()))
    };
    let foreign = post("notes", "by=eve&text=x", "cross-site").await;
    assert_eq!(foreign.0, 403);
    assert_eq!(post("notes", "text=x", "same-origin").await.0, 400, "nobody says who");
    let said = post("notes", "by=ada&text=the+%3Cswitch%3E", "same-origin").await;
    assert_eq!(said, (303, Some(page.clone())));
    assert_eq!(post("ack", "by=ada", "same-origin").await.0, 303);
    let html = served.html(&page).await;
    assert!(html.contains("<strong>ada</strong>: the &lt;switch&gt;"), "{html}");
    assert_eq!(served.json(&page).await["acknowledged_by"], "ada");
    assert_eq!(served.get("/incidents/nobody", "text/html").await.0, 404);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_pages_for_people_and_json_for_programs() {
    let served = Served::begin().await;
    for (path, status) in [("/nobody", 404), ("/?span=2y", 400), ("/assets/style-0.css", 404)] {
        let (found, html) = served.get(path, "text/html,*/*;q=0.8").await;
        assert_eq!(found, status, "{path}");
        assert!(html.starts_with("<!DOCTYPE html>") || path.starts_with("/assets"), "{html}");
        let (found, json) = served.get(path, "*/*").await;
        assert_eq!(found, status, "{path}");
        assert!(json.starts_with(r#"{"error":{"code":"#), "{json}");
    }
    let html = served.html("/").await;
    let style = html.split("href=\"").find(|part| part.starts_with("/assets/style-")).unwrap();
    let style = style.split('"').next().unwrap();
    let answer = served.client.get(format!("{}{style}", served.url)).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
    let answer =
        served.client.get(format!("{}/", served.url)).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_is_told_as_it_does_until_the_server_stops() {
    let served = Served::begin().await;
    served.run(0..40, DELIVERED).await;
    let mut events = served.client.get(format!("{}/live?at=%2F", served.url)).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    assert!(events.headers().get("content-encoding").is_none(), "an event is told at once");
    let mut heard = String::new();
    while !heard.contains("none lost") {
        heard.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(heard.contains("event: title\ndata: Services\n\ndata: <section id=\"services\""), "{heard}");
    assert_eq!(served.collector.live_figures(), LiveFigures { views: 1, viewers: 1, refused: 0 });
    served.run(40..60, REFUSED).await;
    let mut heard = String::new();
    while !heard.contains("100 % lost") {
        heard.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    let Served { server, collector, .. } = served;
    // `Server::stop` would cut off whoever is late.
    let ended = async {
        server.stop.send_replace(true);
        while events.chunk().await.unwrap().is_some() {}
        server.http.await.unwrap();
    };
    timeout(Duration::from_secs(30), ended).await.expect("whoever is told hears the end");
    assert_eq!(collector.live_figures().viewers, 0);
}
