//! What stands on the other side: a server that plays a receiver's answers, and real ones.

pub(crate) mod certificates;
pub(crate) mod process;
pub(crate) mod server;

use aviary_core::{
    AcceptableLoss, Tag, Timestamp,
    extent::{Answer, Blame, Predicate, Questions, Rule},
};
use aviary_notify::{
    Attempt, Event, Kind, Link, Page, Reason, Receipt, Receiver, Refusal, Settings, Severity, Share, Sums,
    Total,
};
use rustls_pki_types::CertificateDer;

/// When the page of [`page`] came about: 2026-11-21T03:15:00Z.
pub(crate) const AT: Timestamp = Timestamp(1_795_230_900_000_000);

pub(crate) const ATTEMPT: Attempt = Attempt { now: AT };

/// A page of which everything is known.
pub(crate) fn page(event: Event) -> Page {
    let text = |text: &str| text.to_owned();
    Page {
        key: text("aviary:main:01JD6V5V6F9Z7W3R4Q2N8M0K1H"),
        incident: text("01JD6V5V6F9Z7W3R4Q2N8M0K1H"),
        sequence: match event {
            Event::Opened => 1,
            Event::Updated => 2,
            Event::Resolved => 3,
        },
        event,
        test: false,
        at: AT,
        severity: Severity::Critical,
        told_as: [Severity::Critical].into(),
        services: vec![text("ingest")],
        state: text("open"),
        since: Timestamp(AT.0 - 8_000_000),
        summary: text("ingest: udp in every region (6/6), 100 % lost; nothing else"),
        rules: vec![Rule {
            matches: Predicate([(Tag::Protocol, text("udp"))].into()),
            except: Vec::new(),
            loss: 1.0,
            share: 1.0,
            lost: 48,
            judged: 48,
        }],
        window: Some(Sums { seconds: 8, scheduled: 48, delivered: 0, lost: 48 }),
        measured: None,
        total: Some(Total { judged: 480, lost: 52, seconds: 9, worst: 1.0 }),
        acceptable: Some(AcceptableLoss::default()),
        vantages: Some(Share { count: 6, of: 6 }),
        questions: Questions { one_zone: Answer::No, one_protocol: Answer::Yes },
        blame: Blame::Service,
        against: vec![text("tcp and tls from the same vantage points lose nothing")],
        evidence: vec![text("confirm timeout, 48 of 48")],
        last_change: Some(text("deploy ingest 4.2, 2026-11-21T03:12:00Z")),
        changed: Vec::new(),
        also_open: Vec::new(),
        owner: Some(text("ingest team")),
        runbook: Some(text("https://runbooks.example.com/ingest")),
        url: Some(text("https://collector.example.net/incidents/01JD6V5V6F9Z7W3R4Q2N8M0K1H")),
        links: vec![Link { text: text("graph"), href: text("https://graphs.example.com/ingest") }],
    }
}

/// A receiver called `oncall` that trusts `roots`.
pub(crate) fn receiver(kind: Kind, roots: &[CertificateDer<'_>]) -> Receiver {
    aviary_probe::install_crypto_provider();
    Receiver::new(Settings { name: "oncall".to_owned(), kind, template: None }, roots).unwrap()
}

/// What comes of telling a receiver of that kind of `page`.
pub(crate) async fn send(kind: Kind, page: &Page) -> Result<Receipt, Refusal> {
    receiver(kind, &[]).send(page, ATTEMPT).await
}

/// What comes of telling a real program: one that is too slow is told again, twice at most.
pub(crate) async fn patiently(tell: impl AsyncFn() -> Result<Receipt, Refusal>) -> Result<Receipt, Refusal> {
    for _ in 0..2 {
        match tell().await {
            Err(refused) if refused.reason == Reason::Timeout => {}
            told => return told,
        }
    }
    tell().await
}
