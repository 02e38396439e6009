//! `aviary init` and `aviary graphite-schema`.

use std::{fs, process::Command, thread, time::Duration};

use crate::support::{
    aviary::{Ran, aviary, command, run},
    graphite::Setup,
    http,
    process::test_python,
    service::Service,
};
use aviary_core::Protocol;

/// `aviary init --send` at a service on unusual ports, writing to `output`. Its graphite-web has answered before: what it loads
/// for the first time takes longer than anybody is asked for on a busy machine.
fn init(service: &Service, output: &str) -> Ran {
    let loaded = "/render?format=json&target=none";
    http::request(service.graphite.http(), "GET", loaded, &[], &[], Duration::from_secs(60))
        .expect("graphite-web answers");
    let endpoints = Protocol::ALL.iter().map(|protocol| service.endpoint(*protocol));
    let also: Vec<String> = endpoints.chain([format!("http://{}", service.graphite.http())]).collect();
    let ca = service.ca().display().to_string();
    let mut arguments = vec!["init", "127.0.0.1", "--send", "--only", "--ca", &ca, "--output", output];
    also.iter().for_each(|url| arguments.extend(["--also", url]));
    aviary(&arguments)
}

#[test]
fn what_is_found_is_written_and_passes_check() {
    let service = Service::start();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("aviary.toml").display().to_string();
    let ran = init(&service, &output);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    for protocol in Protocol::ALL {
        let line = format!("{}: takes datapoints, and they are stored", service.endpoint(*protocol));
        assert!(ran.out.contains(&line), "{protocol}: {}", ran.out);
    }
    assert!(ran.out.contains("answers as Graphite's /render does, second by second"), "{}", ran.out);
    let check = aviary(&["check", &output]);
    assert_eq!(check.status, 0, "{}{}", check.out, fs::read_to_string(&output).unwrap());
    let text = fs::read_to_string(&output).unwrap();
    assert!(text.contains("[service.readback]\ngraphite = "), "{text}");

    let again = init(&service, &output);
    assert_eq!((again.status, again.out.as_str()), (2, ""), "{}", again.err);
    assert!(again.err.contains("exists and is left alone"), "{}", again.err);
    assert_eq!(fs::read_to_string(&output).unwrap(), text);
}

/// As one is that was started a moment ago, and has yet to load what it needs.
#[test]
fn an_api_that_is_slow_at_first_is_found() {
    let mut service = Service::start();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("aviary.toml").display().to_string();
    let tcp = service.endpoint(Protocol::Tcp);
    let api = format!("http://{}", service.graphite.http());
    let mut command = command();
    command.args(["init", "127.0.0.1", "--only", "--also", &tcp, "--also", &api, "--output", &output]);
    service.graphite.web().freeze();
    let ran = thread::scope(|scope| {
        let ran = scope.spawn(|| run(&mut command));
        // Longer than an answer is waited for, and shorter than two.
        thread::sleep(Duration::from_millis(4_500));
        service.graphite.web().thaw();
        ran.join().unwrap()
    });
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains(&format!("{api}/: answers as Graphite's /render does")), "{}", ran.out);
}

#[test]
fn slots_of_a_minute_are_named_and_not_read_back() {
    let service = Service::start_as(Setup { retentions: None, ..Setup::default() });
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("aviary.toml").display().to_string();
    let ran = init(&service, &output);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("stores in slots of 60 s"), "{}", ran.out);
    let text = fs::read_to_string(&output).unwrap();
    assert!(!text.contains("\n[service.readback]") && text.contains("\n# [service.readback]"), "{text}");
    assert_eq!(aviary(&["check", &output]).status, 0, "{text}");
}

#[test]
fn without_leave_to_send_nothing_is_sent_and_where_nobody_is_nothing_is_written() {
    let service = Service::start();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("aviary.toml").display().to_string();
    let tcp = service.endpoint(Protocol::Tcp);
    let ran = aviary(&["init", "127.0.0.1", "--only", "--also", &tcp, "--output", &output]);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains(&format!("{tcp}: answers; by its number it speaks tcp")), "{}", ran.out);
    assert_eq!(aviary(&["check", &output]).status, 0);
    let name = format!("aviary.init.tcp_{}", service.address(Protocol::Tcp).port());
    let span = aviary_core::Span::before(crate::support::aviary::now(), 10);
    assert_eq!(service.graphite.on_disk(&name, span), None);

    let nowhere = dir.path().join("nowhere.toml");
    let arguments = ["init", "127.0.0.1", "--only", "--also", "tcp://127.0.0.1:1", "--output"];
    let ran = aviary(&[&arguments[..], &[&nowhere.display().to_string()]].concat());
    assert_eq!((ran.status, nowhere.exists()), (1, false), "{}{}", ran.out, ran.err);
}

/// The schema as Python's own parser and whisper read it, which is how carbon does.
#[test]
fn the_schema_is_what_carbon_reads() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a.toml");
    let text = "[vantage]\nregion = \"eu\"\n[agent]\n[collector]\n[[service]]\nname = \"ingest\"\nprefix = \"team.canary\"\n\
                endpoints = [\"tcp://h.example:1\"]\n";
    fs::write(&config, text).unwrap();
    let ran = aviary(&["graphite-schema", &config.display().to_string()]);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    let (schemas, aggregation) = ran.out.split_once("# storage-aggregation.conf").unwrap();
    let script = "import sys, re, configparser, whisper\n\
        schemas, aggregation = configparser.RawConfigParser(), configparser.RawConfigParser()\n\
        schemas.read_string(sys.argv[1])\n\
        aggregation.read_string('#' + sys.argv[2])\n\
        name = 'team.canary.ingest.tcp.external.eu.none.none.n.h_1'\n\
        for conf in schemas, aggregation:\n\
        \x20   (section,) = conf.sections()\n\
        \x20   assert re.compile(conf.get(section, 'pattern')).search(name), section\n\
        \x20   assert not re.compile(conf.get(section, 'pattern')).search('team.canary.ingester.tcp')\n\
        archives = [whisper.parseRetentionDef(text) for text in schemas.get(schemas.sections()[0], 'retentions').split(',')]\n\
        whisper.validateArchiveList(archives)\n\
        assert archives[0] == (1, 86400), archives\n\
        options = dict(aggregation.items(aggregation.sections()[0]))\n\
        assert (options['aggregationmethod'], float(options['xfilesfactor'])) == ('sum', 0.0), options\n";
    let python = Command::new(test_python()).args(["-c", script, schemas, aggregation]).output().unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
}
