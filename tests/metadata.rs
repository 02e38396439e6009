//! `region = "auto"`, in a network namespace of its own where 169.254.169.254 is this machine.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::support::aviary::AVIARY;

const CONFIG: &str = "[vantage]\nregion = \"auto\"\nzone = \"auto\"\nnetwork = \"auto\"\nnode = \"n\"\n[agent]\n[collector]\n\
                      [[service]]\nname = \"a\"\nendpoints = [\"tcp://127.0.0.1:1\"]\n";

/// What `aviary run` says and ends with, on a host with this metadata service or none.
fn run(dir: &Path, fixture: Option<&str>) -> (Option<i32>, String) {
    fs::write(dir.join("aviary.toml"), CONFIG).unwrap();
    let server = fixture.map_or_else(String::new, |fixture| {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
        let arguments = format!("{tests}/support/metadata.py {tests}/fixtures/metadata/{fixture}");
        format!("coproc python3 {arguments}; read -r ready <&\"${{COPROC[0]}}\"; [ \"$ready\" = ready ];")
    });
    let script = format!(
        "set -e; ip link set lo up; ip address add 169.254.169.254/32 dev lo; {server} \
         timeout --signal INT 60 \"$0\" run aviary.toml & run=$!; \
         for _ in $(seq 300); do if grep -q ' from n in ' out || ! kill -0 $run; then break; fi; sleep 0.2; done 2>/dev/null; \
         kill -INT $run 2>/dev/null || true; wait $run"
    );
    // All of the namespace's processes end with the first of them.
    let arguments = ["--net", "--pid", "--fork", "--kill-child", "bash", "-c", &script, AVIARY];
    let out = fs::File::create(dir.join("out")).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(arguments)
        .current_dir(dir)
        .env_remove("AVIARY_LOG")
        .env("http_proxy", "http://127.0.0.1:9/");
    let Output { status, stderr, .. } = command.stdout(out).output().unwrap();
    let out = fs::read_to_string(dir.join("out")).unwrap();
    (status.code(), out + &String::from_utf8_lossy(&stderr))
}

#[test]
fn an_agent_learns_from_each_cloud_where_it_is() {
    for (fixture, region) in
        [("aws.txt", "eu-west-1"), ("gcp.txt", "europe-west1"), ("azure.txt", "westeurope")]
    {
        let dir = tempfile::tempdir().unwrap();
        let (status, said) = run(dir.path(), Some(fixture));
        assert!(
            said.contains(&format!("agent      1 series from n in {region}, reporting to this process")),
            "{said}"
        );
        assert_eq!(status, Some(0), "{said}");
    }
}

#[test]
fn an_agent_that_is_in_no_cloud_says_what_to_write_instead() {
    let dir = tempfile::tempdir().unwrap();
    let (status, said) = run(dir.path(), None);
    assert_eq!(status, Some(1), "whoever starts it is to try again: {said}");
    for expected in [
        "vantage.region and zone and network: \"auto\" has no answer; write it, such as region = \"eu-west-1\"",
        "no cloud says at http://169.254.169.254/ where this host runs (aws: Connection refused",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}
