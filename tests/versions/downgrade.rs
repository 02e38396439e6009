//! The program beside what a later version left: a collector refuses it and changes nothing, an agent goes on without it.

use std::{fs, thread, time::Duration};

use tempfile::TempDir;

use super::unpack;
use crate::support::{
    aviary::{AVIARY, aviary},
    ports::Port,
    process::{Process, program},
    receiver::Receiver,
    recorder::Recorder,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("aviary-versions-").tempdir().expect("a temporary directory")
}

#[test]
fn a_collector_refuses_the_data_of_a_later_version_and_changes_nothing() {
    let (dir, port) = (directory(), Port::claim());
    let data = dir.path().join("data");
    let store = unpack("newer/collector.redb", &data);
    let config = dir.path().join("aviary.toml");
    fs::write(
        &config,
        format!("[collector]\nlisten = \"{}\"\ndata = \"{}\"\n", port.address(), data.display()),
    )
    .unwrap();
    let before = fs::read(&store).unwrap();
    for _ in 0..2 {
        let ran = aviary(&["run", config.to_str().unwrap()]);
        assert_eq!(ran.status, 2, "{}{}", ran.out, ran.err);
        assert!(
            ran.err.contains("collector.redb has format 2, and this version of aviary knows formats up to 1: run the version \
                              that wrote it, or restore a backup of before"),
            "{}",
            ran.err
        );
        assert!(fs::read(&store).unwrap() == before, "the file is as it was, to the last byte");
    }
    // Whoever looks at it is told the same, and changes nothing either.
    for command in [["store", "verify"], ["store", "compact"]] {
        let ran = aviary(&[command[0], command[1], data.to_str().unwrap()]);
        assert!(ran.status != 0 && ran.err.contains("knows formats up to 1"), "{}{}", ran.out, ran.err);
        assert!(fs::read(&store).unwrap() == before);
    }
}

#[test]
fn an_agent_probes_on_beside_the_spool_of_a_later_version() {
    let (dir, recorder, receiver) = (directory(), Recorder::start(), Receiver::start());
    let spool = dir.path().join("spool");
    let files = ["newer/spool.redb", "newer/spool.tail"].map(|name| unpack(name, &spool));
    let before = files.each_ref().map(|file| fs::read(file).unwrap());
    let config = dir.path().join("aviary.toml");
    let text = format!(
        "[vantage]\nkind = \"external\"\nregion = \"r\"\nnode = \"n\"\n[agent]\ncollector = [\"{}\"]\ndata = \"{}\"\n\
         [[service]]\nname = \"s\"\nendpoints = [\"{}\"]\n",
        recorder.url(),
        spool.display(),
        receiver.tcp(1)
    );
    fs::write(&config, text).unwrap();
    let mut command = program(AVIARY);
    command.arg("run").arg(&config).env_remove("AVIARY_LOG");
    let mut agent = Process::start("agent", command, dir.path());
    recorder.until(PATIENCE, |said| said.values().any(|seconds| seconds.len() >= 3));
    let log = agent.log();
    assert!(
        log.contains("A later version of aviary wrote the spool, and this one begins another")
            && log.contains("has format 2"),
        "{log}"
    );
    let aside: Vec<_> = fs::read_dir(&spool)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("spool.newer-"))
        .collect();
    let [aside] = aside.as_slice() else { panic!("not one directory: {aside:?}") };
    assert!(log.contains(&aside.display().to_string()), "it is named: {log}");
    let kept = ["spool.redb", "spool.tail"].map(|name| fs::read(aside.join(name)).unwrap());
    assert!(kept == before, "and as it was, to the last byte");
    // Its next life has a spool of its own, and sets nothing aside.
    agent.stop();
    agent.restart();
    thread::sleep(Duration::from_secs(2));
    agent.stop();
    let asides = fs::read_dir(&spool)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("spool.newer-"));
    assert_eq!(asides.count(), 1);
}
