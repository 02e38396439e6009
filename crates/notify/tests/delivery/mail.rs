//! Mail, through a real server.

use std::path::Path;

use aviary_notify::{Email, Event, Kind, Page, Reason, Receipt, Refusal, Retry, Secret, Security};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    ATTEMPT,
    certificates::Authority,
    page, patiently,
    process::{Process, test_python},
    receiver,
};

/// aiosmtpd with a certificate of an authority of its own.
struct MailServer {
    process: Process,
    port: u16,
    authority: Authority,
    _dir: TempDir,
}

impl MailServer {
    fn start(mode: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("theirs");
        authority.write("localhost", dir.path());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/delivery/smtp_server.py");
        let arguments = [script.to_str().unwrap(), mode, dir.path().to_str().unwrap()];
        let process = Process::start(&test_python(), &arguments);
        let port = process.said("LISTENING ").parse().unwrap();
        Self { process, port, authority, _dir: dir }
    }

    fn email(&self, security: Security, password: &str, to: &[&str]) -> Email {
        Email {
            server: "localhost".to_owned(),
            port: Some(self.port),
            security,
            login: Some(("aviary".to_owned(), Secret::new(password))),
            from: "aviary <aviary@collector.example.net>".to_owned(),
            to: to.iter().map(|&to| to.to_owned()).collect(),
        }
    }

    async fn send(&self, email: Email, page: &Page) -> Result<Receipt, Refusal> {
        let receiver = receiver(Kind::Email(email), &[self.authority.root()]);
        patiently(async || receiver.send(page, ATTEMPT).await).await
    }

    /// The next mail that it took.
    fn taken(&self) -> Value {
        serde_json::from_str(&self.process.said("MAIL ")).unwrap()
    }
}

const TO: &[&str] = &["On call <oncall@example.com>"];

#[tokio::test]
async fn an_incident_is_one_thread_over_starttls() {
    let server = MailServer::start("starttls");
    let email = || server.email(Security::StartTls, "hunter2", TO);
    let receipt = server.send(email(), &page(Event::Opened)).await.unwrap();
    let id = "<01JD6V5V6F9Z7W3R4Q2N8M0K1H.1@collector.example.net>";
    assert_eq!(receipt.reference.as_deref(), Some(id));
    assert!(receipt.text.contains("answered 250 2.0.0 queued as 4F2A"), "{}", receipt.text);

    let opened = server.taken();
    let root = "<01JD6V5V6F9Z7W3R4Q2N8M0K1H@collector.example.net>";
    let header = |mail: &Value, name: &str| mail["headers"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!((opened["tls"].as_bool(), opened["user"].as_str()), (Some(true), Some("aviary")));
    assert_eq!(header(&opened, "message-id"), id);
    assert_eq!(
        (header(&opened, "references"), header(&opened, "in-reply-to")),
        (root.to_owned(), String::new())
    );
    assert_eq!(header(&opened, "from"), "aviary <aviary@collector.example.net>");
    assert_eq!(header(&opened, "to"), "On call <oncall@example.com>");
    assert_eq!(header(&opened, "date"), "Sat, 21 Nov 2026 03:15:00 +0000");
    assert_eq!(header(&opened, "auto-submitted"), "auto-generated");
    let subject = "[critical] ingest: udp in every region (6/6), 100 % lost; nothing else";
    assert_eq!(header(&opened, "subject"), subject);
    assert!(opened["text"].as_str().unwrap().starts_with("ingest: udp in every region (6/6), 100 % lost"));

    let changed = Page {
        changed: vec!["was eu-west-1 only".to_owned()],
        also_open: vec!["billing: degraded".to_owned()],
        summary: "größer\r\nBcc: all@example.com".to_owned(),
        ..page(Event::Updated)
    };
    server.send(email(), &changed).await.unwrap();
    let updated = server.taken();
    assert_eq!(header(&updated, "message-id"), "<01JD6V5V6F9Z7W3R4Q2N8M0K1H.2@collector.example.net>");
    assert_eq!(
        (header(&updated, "references"), header(&updated, "in-reply-to")),
        (root.to_owned(), root.to_owned())
    );
    assert_eq!(
        header(&updated, "subject"),
        "[critical] UPDATE: größer Bcc: all@example.com",
        "no header is smuggled in"
    );
    assert_eq!(updated["to"], serde_json::json!(["oncall@example.com"]));
    let text = updated["text"].as_str().unwrap();
    assert!(
        text.contains("Changed: was eu-west-1 only") && text.contains("Also wrong now: billing: degraded"),
        "{text}"
    );

    server.send(email(), &page(Event::Resolved)).await.unwrap();
    let resolved = server.taken();
    assert_eq!(
        (header(&resolved, "references"), header(&resolved, "in-reply-to")),
        (root.to_owned(), root.to_owned())
    );
    assert!(header(&resolved, "subject").starts_with("[critical] RESOLVED: "));
}

#[tokio::test]
async fn tls_from_the_beginning_works_as_well() {
    let server = MailServer::start("tls");
    server.send(server.email(Security::Tls, "hunter2", TO), &page(Event::Opened)).await.unwrap();
    assert_eq!(server.taken()["user"], "aviary");
}

#[tokio::test]
async fn what_a_mail_server_refuses_is_told_apart() {
    let server = MailServer::start("starttls");
    let email = |password: &str, to: &[&str]| server.email(Security::StartTls, password, to);
    let table = [
        (email("wrong-password", TO), Reason::Unauthorized, Retry::Never, "check `user` and `password`"),
        (email("hunter2", &["gone@example.com"]), Reason::Refused, Retry::Never, "no such user"),
        (email("hunter2", &["busy@example.com"]), Reason::ServerError, Retry::Later, "try again later"),
    ];
    for (email, reason, retry, text) in table {
        let refused = server.send(email, &page(Event::Opened)).await.unwrap_err();
        assert_eq!((refused.reason, refused.retry), (reason, retry), "{}", refused.text);
        assert!(refused.text.contains(text) && !refused.text.contains("wrong-password"), "{}", refused.text);
    }

    // Those whose address is right are told all the same.
    let to = ["gone@example.com", "oncall@example.com", "second@example.com"];
    let receipt = server.send(email("hunter2", &to), &page(Event::Opened)).await.unwrap();
    assert!(receipt.text.contains("but not for gone@example.com"), "{}", receipt.text);
    let told = [server.taken()["to"][0].clone(), server.taken()["to"][0].clone()];
    assert_eq!(told, ["oncall@example.com", "second@example.com"]);
}

#[tokio::test]
async fn no_password_goes_to_whom_we_cannot_verify() {
    let server = MailServer::start("starttls");
    let email = server.email(Security::StartTls, "hunter2", TO);
    let stranger = receiver(Kind::Email(email), &[Authority::new("another").root()]);
    let refused = patiently(async || stranger.send(&page(Event::Opened), ATTEMPT).await).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::Certificate, Retry::Later), "{}", refused.text);

    let plain = MailServer::start("plain");
    let refused =
        plain.send(plain.email(Security::StartTls, "hunter2", TO), &page(Event::Opened)).await.unwrap_err();
    assert_eq!((refused.reason, refused.retry), (Reason::Refused, Retry::Never), "{}", refused.text);
    assert!(refused.text.contains("STARTTLS"), "{}", refused.text);

    let relay = Email { login: None, ..plain.email(Security::None, "", TO) };
    plain.send(relay, &page(Event::Opened)).await.unwrap();
    assert_eq!(plain.taken()["tls"], false);
}
