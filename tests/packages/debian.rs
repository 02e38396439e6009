//! The Debian package and its units.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use super::{on_a_host_of_its_own, program, repository, stripped, succeed, tools};

/// The package of the program that was built for this test, as `deploy/debian/build` packs it.
fn package(dir: &Path) -> PathBuf {
    let path = env::var_os("PATH").unwrap();
    let path = env::join_paths([tools()].into_iter().chain(env::split_paths(&path))).unwrap();
    let mut command = Command::new(repository("deploy/debian/build"));
    // What is packed faster is packed no otherwise.
    command.arg(stripped(dir)).arg(dir.join("packed")).args(["-Z", "gz", "--compress-system", "--fast"]);
    succeed(command.env("PATH", path));
    let mut packed = dir.join("packed").read_dir().unwrap();
    packed.next().unwrap().unwrap().path()
}

#[test]
fn a_package_is_installed_configured_run_upgraded_removed_and_purged_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path());
    let lintian = {
        let package = package.clone();
        thread::spawn(move || {
            succeed(program("lintian").args(["--allow-root", "--fail-on", "error"]).arg(package))
        })
    };
    let host = dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    let said = on_a_host_of_its_own("debian.sh", &[&package, &host]);
    assert!(said.contains("\n== nothing is left\n"), "{said}");
    lintian.join().unwrap();
}

#[test]
fn units_leave_a_service_little_to_break() {
    for unit in ["aviary-agent", "aviary-collector"] {
        let file = repository(&format!("deploy/systemd/{unit}.service"));
        let judged = succeed(
            program("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(file),
        );
        assert!(judged.contains(": 1.") && judged.contains(" OK "), "{unit}: {judged}");
    }
}
