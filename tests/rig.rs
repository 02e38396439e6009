//! The rig itself: every part of it runs, and does what the other tests take for granted. Nothing of aviary is in here.

#![expect(clippy::disallowed_methods, reason = "real servers keep real time")]

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use aviary_core::{Protocol, Second, Span};
use tempfile::TempDir;

use crate::support::{
    graphite::{Graphite, RenderError, Rendered},
    haproxy::{Haproxy, TlsVersions},
    openssl::{OpensslServer, StalledPeer},
    pki::Pki,
    process::{Process, program, test_python},
    service::Service,
    wait::{wait_for, wait_until},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The `seconds` seconds before now.
fn past(seconds: u64) -> Span {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    Span::before(Second(now), seconds)
}

/// The Python client, for each second of `span`.
fn send(service: &Service, protocol: Protocol, name: &str, span: Span) -> Output {
    Command::new(test_python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/send.py"))
        .args([protocol.name(), &service.address(protocol).port().to_string()])
        .arg(service.ca())
        .args([name, &span.from.to_string(), &span.seconds().to_string()])
        .output()
        .expect("Python runs")
}

/// Writes one line and half-closes.
fn write_line(address: SocketAddr, name: &str, second: Second) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(format!("{name} 1 {second}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    Ok(stream)
}

/// What graphite-web answers of `names` once `expected` is what it has of the first. While carbon writes, an answer may lack
/// what the one before had.
#[track_caller]
fn rendered(graphite: &Graphite, names: &[&str], span: Span, expected: &BTreeSet<Second>) -> Rendered {
    let render = || graphite.render(names, span).expect("graphite-web is well");
    let lacking = || format!("{:?}, and not {expected:?}", render().stored(names[0]));
    wait_for(PATIENCE, lacking, || Some(render()).filter(|rendered| rendered.stored(names[0]) == *expected))
}

/// `openssl s_client`, which ends when its input does; what it prints, and whether it was content.
fn s_client(address: SocketAddr, ca: &Path, more: &[&str]) -> (bool, String) {
    let output = program("openssl")
        .args([
            "s_client",
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
            "-connect",
            &address.to_string(),
        ])
        .arg("-CAfile")
        .arg(ca)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

#[test]
fn every_path_stores_every_second() {
    let service = Service::start();
    let span = past(30);
    let name = |protocol: Protocol| format!("rig.{}", protocol.graphite_name());

    thread::scope(|scope| {
        for &protocol in Protocol::ALL {
            let service = &service;
            scope.spawn(move || {
                let sent = send(service, protocol, &name(protocol), span);
                assert!(sent.status.success(), "{protocol}: {}", String::from_utf8_lossy(&sent.stderr));
            });
        }
    });

    let names: Vec<String> = Protocol::ALL.iter().map(|&protocol| name(protocol)).collect();
    let rendered =
        service.graphite.render_until_stored(&names, span, PATIENCE).expect("graphite-web is well");
    let expected: Vec<(Second, Option<f64>)> =
        (span.from.0..span.until.0).map(|second| (Second(second), Some(1.0))).collect();
    for name in &names {
        assert_eq!(rendered.series(name), Some(expected.as_slice()), "{name}");
    }
}

#[test]
fn what_was_not_sent_is_told_from_what_is_not_known() {
    let graphite = Graphite::start();
    let span = past(10);
    let [first, last] = [span.from, span.until.minus(1)];
    for second in [first, last] {
        write_line(graphite.line(), "rig.gap", second).expect("carbon listens");
    }
    let rendered = rendered(&graphite, &["rig.gap", "rig.nobody"], span, &[first, last].into());
    assert_eq!(rendered.series("rig.gap").map(<[_]>::len), Some(10), "the nulls between are told");
    assert_eq!(rendered.series("rig.nobody"), None);
}

#[test]
fn carbon_is_frozen_and_thawed() {
    let mut graphite = Graphite::start();
    let span = past(2);
    let (before, frozen) = (span.from, span.until.minus(1));
    let names: Vec<String> = (0..8).map(|number| format!("rig.frozen.{number}")).collect();
    let known = Span::new(before, frozen);
    for name in &names {
        write_line(graphite.line(), name, before).expect("carbon listens");
    }
    graphite.render_until_stored(&names, known, PATIENCE).expect("graphite-web is well");

    graphite.freeze_carbon();
    let mut streams: Vec<TcpStream> = names
        .iter()
        .map(|name| write_line(graphite.line(), name, frozen).expect("the kernel accepts for carbon"))
        .collect();
    let silence = streams[0].read(&mut [0]).expect_err("nobody is there to close");
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    let one = graphite
        .render(&names[..1], span)
        .expect("a second is waited for one series, and then the disk is all");
    assert_eq!(one.series(&names[0]).and_then(<[_]>::last), Some(&(frozen, None)));
    let blind = graphite.render(&names, span).expect_err("eight seconds are more than graphite-web has");
    assert!(matches!(blind, RenderError::Status(500, _)), "{blind}");

    graphite.thaw_carbon();
    for stream in &mut streams {
        stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
        assert_eq!(stream.read(&mut [0]).expect("carbon closes"), 0);
    }
    let rendered = graphite.render_until_stored(&names, span, PATIENCE).expect("graphite-web is well");
    for name in &names {
        assert_eq!(rendered.stored(name), [before, frozen].into(), "{name}");
    }
}

#[test]
fn carbon_is_stopped_and_started_again() {
    let mut service = Service::start();
    let span = past(3);
    let [before, during, after] = [span.from, span.from.plus(1), span.from.plus(2)];
    let name = "rig.stopped";
    write_line(service.graphite.line(), name, before).expect("carbon listens");
    service
        .graphite
        .render_until_stored(&[name], Span::new(before, during), PATIENCE)
        .expect("graphite-web is well");
    // Shown is not yet written: the last cycle of the writer is lost with the process.
    wait_until(
        PATIENCE,
        || "carbon never writes it".to_owned(),
        || service.graphite.on_disk(name, span) == Some([before].into()),
    );

    service.graphite.stop_carbon();
    let refused = write_line(service.graphite.line(), name, during).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let https = send(&service, Protocol::Https, name, Span::new(during, after));
    let said = String::from_utf8_lossy(&https.stderr);
    assert!(!https.status.success() && said.contains("(503, b'carbon cannot be reached"), "{said}");

    // Once as it is stopped by an operator, once as it is by the kernel: the pidfile that stays behind is no obstacle.
    service.graphite.restart_carbon();
    service.graphite.carbon().kill();
    service.graphite.restart_carbon();
    write_line(service.graphite.line(), name, after).expect("carbon listens again");
    rendered(&service.graphite, &[name], span, &[before, after].into());
}

#[test]
fn the_gateway_answers_what_the_hosted_one_does() {
    let service = Service::start();
    let span = past(1);
    let second = span.from;
    let request = |path: &str, more: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n"
        );
        let mut client = program("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost", "-CAfile"])
            .arg(service.ca())
            .args(["-connect", &service.address(Protocol::Https).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let mut input = client.stdin.take().expect("it is piped");
        input.write_all(format!("{head}{more}\r\n{body}").as_bytes()).expect("openssl reads");
        let answer = client.wait_with_output().expect("openssl ends when the gateway closes").stdout;
        drop(input);
        String::from_utf8(answer).expect("the answer is ASCII")
    };
    let sink = "/api/v1/sink";
    // "KEY:" in Base64.
    let key = "Authorization: Basic S0VZOg==\r\n";
    for (path, more, body, status) in [
        (sink, "", format!("rig.good 1 {second}\n"), "202"),
        (sink, key, format!("rig.good 1 {second}\n"), "202"),
        (sink, "", format!("rig.beside 1 {second}\nrig.bad one {second}\n"), "400"),
        (sink, "", format!("rig.beside NaN {second}\n"), "400"),
        (sink, "", "rig.beside 1\n".to_owned(), "400"),
        (sink, "", format!("rig..beside 1 {second}\n"), "400"),
        (sink, "Authorization: Bearer KEY\r\n", format!("rig.beside 1 {second}\n"), "400"),
        (sink, "", String::new(), "400"),
        ("/elsewhere", "", format!("rig.beside 1 {second}\n"), "404"),
    ] {
        let answer = request(path, more, &body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{body:?}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(answer.ends_with("\r\n\r\n"), status == "202", "only a refusal says why: {answer}");
    }
    let stored = ["rig.good", "KEY.rig.good"];
    let rendered =
        service.graphite.render_until_stored(&stored, span, PATIENCE).expect("graphite-web is well");
    for name in stored {
        assert_eq!(rendered.stored(name), [second].into(), "{name}");
    }
    let rendered = service.graphite.render(&["rig.beside"], span).expect("graphite-web is well");
    assert_eq!(rendered.series("rig.beside"), None, "a refused request is refused whole");
}

#[test]
fn fronts_and_reader_are_taken_away_and_come_back() {
    let mut service = Service::start();
    let span = past(1);
    let address = service.address(Protocol::Tls);
    assert_eq!(service.endpoint(Protocol::Tls), format!("tls://{address}"));
    assert_eq!(
        service.endpoint(Protocol::Https),
        format!("https://{}/api/v1/sink", service.gateway.address())
    );

    service.haproxy.process().freeze();
    let mut stream =
        write_line(address, "not a handshake", span.from).expect("the kernel accepts for haproxy");
    assert_eq!(stream.read(&mut [0]).expect_err("nobody shakes hands").kind(), ErrorKind::WouldBlock);
    service.haproxy.process().thaw();

    let http = service.address(Protocol::Https);
    assert!(service.gateway.process().stop().code().is_none(), "it knows nothing of signals");
    assert_eq!(TcpStream::connect(http).expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    service.gateway.process().restart();
    service.gateway.process().wait_until_listening(http, PATIENCE);

    for protocol in [Protocol::Https, Protocol::Tls] {
        let sent = send(&service, protocol, protocol.name(), span);
        assert!(sent.status.success(), "{protocol}: {}", String::from_utf8_lossy(&sent.stderr));
    }

    let web = service.graphite.http();
    service.graphite.web().stop();
    let blind = service.graphite.render(&["tls"], span).expect_err("nobody listens");
    assert!(
        matches!(&blind, RenderError::Io(error) if error.kind() == ErrorKind::ConnectionRefused),
        "{blind}"
    );
    service.graphite.web().restart();
    service.graphite.web().wait_until_listening(web, PATIENCE);
    let names = ["https", "tls"];
    let rendered =
        service.graphite.render_until_stored(&names, span, PATIENCE).expect("graphite-web is well again");
    for name in names {
        assert_eq!(rendered.stored(name), [span.from].into(), "{name}");
    }
}

#[test]
fn tls_peers_offer_what_they_were_told_to() {
    let pki = Pki::new();
    let graphite = Graphite::start();
    let (ca, good) = (pki.ca(), pki.good());
    let check = |address: SocketAddr, versions: TlsVersions, peer: &str| {
        for (flag, version, offered) in [
            ("-tls1_2", "TLSv1.2", versions != TlsVersions::Only13),
            ("-tls1_3", "TLSv1.3", versions != TlsVersions::Only12),
        ] {
            let (content, said) = s_client(address, &ca, &[flag]);
            assert_eq!(content, offered, "{peer}, {versions:?}, {flag}: {said}");
            assert_eq!(
                said.contains(&format!("New, {version}, Cipher is")),
                offered,
                "{peer}, {versions:?}: {said}"
            );
        }
    };
    for versions in [TlsVersions::Both, TlsVersions::Only12, TlsVersions::Only13] {
        check(OpensslServer::start(&good, versions).address(), versions, "s_server");
        let haproxy = Haproxy::start(&good, versions, graphite.line(), graphite.pickle());
        check(haproxy.line(), versions, "haproxy");
        check(haproxy.pickle(), versions, "haproxy");
    }
}

#[test]
fn certificates_are_wrong_in_the_way_they_are_named() {
    let pki = Pki::new();
    for (certificate, verdict) in [
        (pki.good(), "Verification: OK"),
        (pki.expired(), "certificate has expired"),
        (pki.wrong_name(), "hostname mismatch"),
        (pki.unknown_issuer(), "unable to get local issuer certificate"),
    ] {
        let server = OpensslServer::start(&certificate, TlsVersions::Both);
        let (content, said) = s_client(server.address(), &pki.ca(), &[]);
        assert_eq!(content, certificate == pki.good(), "{}: {said}", certificate.display());
        assert!(said.contains(verdict), "{}: {said}", certificate.display());
    }
}

/// What every prober over TLS does: write, close_notify, and read until the peer has closed too.
#[test]
fn s_server_reads_a_line_and_closes_when_we_do() {
    let pki = Pki::new();
    for versions in [TlsVersions::Only12, TlsVersions::Only13] {
        let server = OpensslServer::start(&pki.good(), versions);
        let sent = Command::new(test_python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/send.py"))
            .args(["tls", &server.address().port().to_string()])
            .arg(pki.ca())
            .args(["rig.s_server", "1763690400", "3"])
            .output()
            .expect("Python runs");
        assert!(sent.status.success(), "{versions:?}: {}", String::from_utf8_lossy(&sent.stderr));
        for second in 1_763_690_400..1_763_690_403 {
            assert!(
                server.log().contains(&format!("rig.s_server 1 {second}\n")),
                "{versions:?}: {}",
                server.log()
            );
        }
    }
}

#[test]
fn a_stalled_peer_accepts_and_says_nothing() {
    let peer = StalledPeer::start();
    let mut stream = TcpStream::connect(peer.address()).expect("the kernel accepts");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("it is open");
    stream.write_all(b"\x16\x03\x01").expect("the kernel takes it");
    assert_eq!(stream.read(&mut [0]).expect_err("nobody answers").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_panic_leaves_no_process_behind() {
    let dir = TempDir::new().expect("the temporary directory can be written");
    let children = dir.path().join("children");
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut shell = program("sh");
        // Deaf to SIGTERM, with a child of its own: what a server may be at its worst.
        shell.args([
            "-c",
            "trap '' TERM; sleep 600 & echo $$ $! >\"$0.new\"; mv \"$0.new\" \"$0\"; wait; sleep 600",
        ]);
        shell.arg(&children);
        let mut process = Process::start("sh", shell, dir.path());
        while !children.exists() {
            thread::sleep(Duration::from_millis(5));
        }
        process.freeze();
        panic!("as a failed assertion does");
    }));
    assert!(result.is_err());
    let pids = fs::read_to_string(&children).expect("the shell wrote it");
    assert_eq!(pids.split_whitespace().count(), 2);
    // The shell is waited for, and its child only killed: the kernel takes its time.
    let runs = |pid: &str| {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    for pid in pids.split_whitespace() {
        assert!(
            (0..2_000).any(|_| !runs(pid) || {
                thread::sleep(Duration::from_millis(10));
                false
            }),
            "{pid} still runs"
        );
    }
}

#[test]
#[should_panic(expected = "no-such-server is not installed: run tests/setup")]
fn a_missing_program_says_how_to_get_it() {
    program("no-such-server");
}
