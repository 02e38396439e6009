//! `aviary run` with what it cannot run.

use std::{fs, net::TcpListener};

use crate::support::aviary::{aviary, command, run};

#[test]
fn what_cannot_be_run_is_said_whole_and_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aviary.toml");
    let text = "[vantage]\nregoin = \"eu\"\n[agent]\n[[service]]\nname = \"a\"\nendpoints = [\"tcp://h\"]\n";
    fs::write(&path, text).unwrap();
    let ran = aviary(&["run", path.to_str().unwrap()]);
    assert_eq!(ran.status, 2);
    for expected in ["unknown key `regoin`", "did you mean `region`?", "the port is missing", "not started"] {
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
    }
    let ran = aviary(&["run", "/nonexistent/aviary.toml"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("/nonexistent/aviary.toml"), "{}", ran.err);
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aviary.toml");
    let service = "[[service]]\nname = \"a\"\nendpoints = [\"tcp://127.0.0.1:1\"]\n[vantage]\nregion = \"eu\"\n\
                   [agent]\ncollector = [\"http://127.0.0.1:1\"]\n";
    for (section, remedy) in [
        ("[collector]\nlisten".to_owned(), "collector.listen"),
        ("[sink]\ntcp".to_owned(), "another port in [sink]"),
        (format!("{service}listen"), "agent.listen"),
        (format!("{service}agent_check"), "agent.agent_check"),
    ] {
        fs::write(&path, format!("{section} = \"{address}\"\n")).unwrap();
        let ran = aviary(&["run", path.to_str().unwrap()]);
        assert_eq!(ran.status, 2, "{}", ran.err);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        for expected in [&address.to_string(), "in use", remedy, "ss -l"] {
            assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
        }
    }
}

#[test]
fn the_environment_overrides_and_is_blamed_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aviary.toml");
    fs::write(&path, "[collector]\nlisten = \"127.0.0.1:8610\"\n").unwrap();
    let ran = run(command().arg("run").arg(&path).env("AVIARY_COLLECTOR_LISTEN", "0.0.0.0:8610"));
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("AVIARY_COLLECTOR_LISTEN") && ran.err.contains("token"), "{}", ran.err);
}
