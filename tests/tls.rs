//! The collector over TLS: who is let in, and certificates that are replaced while it runs.

use std::{
    fs::{self, Permissions},
    io::{ErrorKind, Read as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use reqwest::{Certificate, Client, Identity, StatusCode};
use tempfile::TempDir;

use crate::support::{
    aviary::AVIARY,
    ports::Port,
    process::{Process, program},
    wait::wait_until,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority that signs servers and clients.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, usage: ExtendedKeyUsagePurpose, (from, until): (i32, i32)) -> Signed {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    pub(crate) fn server(&self) -> Signed {
        self.sign(ExtendedKeyUsagePurpose::ServerAuth, (2024, 2124))
    }

    pub(crate) fn client(&self, dates: (i32, i32)) -> Signed {
        self.sign(ExtendedKeyUsagePurpose::ClientAuth, dates)
    }
}

/// A collector over TLS with its files.
struct Rig {
    dir: TempDir,
    port: Port,
    process: Process,
}

impl Rig {
    fn start(server: &Signed, client_ca: Option<&Authority>, more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("aviary-tls-").tempdir().unwrap();
        let port = Port::claim();
        place(dir.path(), server);
        let client_ca = client_ca.map_or("", |authority| {
            fs::write(dir.path().join("clients.pem"), &authority.pem).unwrap();
            "client_ca = { file = \"clients.pem\" }\n"
        });
        let configuration = format!(
            "{more}[collector]\nlisten = \"{}\"\ncertificate = {{ file = \"tls.pem\" }}\n\
             key = {{ file = \"tls.key\" }}\n{client_ca}",
            port.address()
        );
        let path = dir.path().join("aviary.toml");
        fs::write(&path, configuration).unwrap();
        let mut command = program(AVIARY);
        command.arg("run").arg(path);
        let process = Process::start("aviary", command, dir.path());
        process.wait_until_listening(port.address(), PATIENCE);
        Self { dir, port, process }
    }

    /// What the API answers to somebody who trusts `ca` and shows `client`, or why there is no answer.
    fn ask(
        &self,
        path: &str,
        ca: &Authority,
        client: Option<&Signed>,
    ) -> Result<(StatusCode, String), String> {
        // Installed already by another test of this process.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let url = format!("https://localhost:{}{path}", self.port.address().port());
        let authority = Certificate::from_pem(ca.pem.as_bytes()).unwrap();
        let mut builder = Client::builder().tls_certs_only([authority]).timeout(PATIENCE).no_proxy();
        if let Some(Signed { certificate, key }) = client {
            builder = builder.identity(Identity::from_pem(format!("{key}{certificate}").as_bytes()).unwrap());
        }
        let asked = async {
            let answer = builder.build()?.get(url).send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(asked).map_err(|error| format!("{:?}", anyhow::Error::new(error)))
    }

    #[track_caller]
    fn wait_until_said(&self, part: &str) {
        self.wait(part, || self.process.log().contains(part));
    }

    #[track_caller]
    fn wait(&self, what: &str, seen: impl Fn() -> bool) {
        wait_until(PATIENCE, || format!("{what}: {}", self.process.log()), seen);
    }
}

fn place(dir: &Path, Signed { certificate, key }: &Signed) {
    fs::write(dir.join("tls.pem"), certificate).unwrap();
    let path: PathBuf = dir.join("tls.key");
    fs::write(&path, key).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn whoever_shows_no_certificate_of_ours_is_turned_away() {
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let rig = Rig::start(&servers.server(), Some(&clients), "");
    let services = "/api/v1/services";
    let valid = (2024, 2124);
    let (status, body) = rig.ask(services, &servers, Some(&clients.client(valid))).unwrap();
    assert_eq!((status, body.contains("services")), (StatusCode::OK, true), "{body}");
    for (what, client) in [
        ("none", None),
        ("an expired one", Some(clients.client((2020, 2021)))),
        ("somebody else's", Some(others.client(valid))),
        ("a server's", Some(clients.server())),
    ] {
        let asked = rig.ask(services, &servers, client.as_ref());
        assert!(asked.is_err(), "{what}: {asked:?}");
    }
    rig.ask(services, &others, Some(&clients.client(valid))).expect_err("the server is none that we trust");
    rig.wait_until_said("turned a connection away");
    assert!(!rig.process.log().contains("PRIVATE KEY"));
}

#[test]
fn what_a_certificate_allows_is_what_is_said_of_its_name() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let client = clients.client((2024, 2124));
    for (name, scope, expected) in
        [("localhost", "read", 200), ("localhost", "report", 403), ("elsewhere.example.net", "read", 401)]
    {
        let more =
            format!("[[collector.client]]\nname = \"ada\"\ndns = [\"{name}\"]\nscope = [\"{scope}\"]\n");
        let rig = Rig::start(&servers.server(), Some(&clients), &more);
        let (status, body) = rig.ask("/api/v1/services", &servers, Some(&client)).unwrap();
        assert_eq!(status, expected, "{name} {scope}: {body}");
        assert_eq!(rig.ask("/healthz", &servers, Some(&client)).unwrap().0, 200);
    }
}

#[test]
fn whoever_dawdles_holds_up_nobody_and_is_closed() {
    let servers = Authority::new();
    let rig = Rig::start(&servers.server(), None, "");
    let mut dawdlers: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(rig.port.address()).unwrap()).collect();
    // One that was held up itself, on a busy machine, comes again.
    let is_served_first = (0..5).any(|_| {
        dawdlers.iter_mut().for_each(|dawdler| *dawdler = TcpStream::connect(rig.port.address()).unwrap());
        assert_eq!(rig.ask("/healthz", &servers, None).unwrap().0, StatusCode::OK);
        let first = &dawdlers[0];
        first.set_nonblocking(true).unwrap();
        let waits = first.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        first.set_nonblocking(false).unwrap();
        waits
    });
    assert!(is_served_first, "answered while those who say nothing are still waited for");
    for dawdler in &mut dawdlers {
        dawdler.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(dawdler.read(&mut [0]).unwrap_or(0), 0, "it is closed after five seconds");
    }
    rig.wait_until_said("no handshake within 5 s");
}

#[test]
fn new_files_are_taken_up_and_bad_ones_change_nothing() {
    let (before, after) = (Authority::new(), Authority::new());
    let rig = Rig::start(&before.server(), None, "");
    let answers = |ca: &Authority| rig.ask("/healthz", ca, None).is_ok();
    assert!(answers(&before) && !answers(&after));

    let new = after.server();
    fs::write(rig.dir.path().join("tls.pem"), &new.certificate).unwrap();
    rig.wait("it says what is wrong", || rig.process.log().contains("are they a pair?"));
    assert!(answers(&before), "half a change changes nothing");

    place(rig.dir.path(), &new);
    rig.wait("the new files are taken up", || answers(&after));
    assert!(!answers(&before));
}

#[test]
fn the_agent_of_the_process_reports_all_the_same() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let port = Port::claim();
    let rig = Rig::start(
        &servers.server(),
        Some(&clients),
        &format!(
            "[vantage]\nregion = \"eu\"\n[agent]\n[sink]\ntcp = \"{port}\"\n[[service]]\nname = \"ingest\"\n\
             endpoints = [\"tcp://{port}\"]\n",
            port = port.address()
        ),
    );
    let client = clients.client((2024, 2124));
    rig.wait("slots are delivered", || {
        let (_, body) = rig.ask("/api/v1/sums?window=10s", &servers, Some(&client)).unwrap();
        let sums: serde_json::Value = serde_json::from_str(&body).unwrap();
        sums["groups"][0]["delivered"].as_u64().is_some_and(|delivered| delivered >= 2)
    });
}
