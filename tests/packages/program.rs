//! What the program says of itself, and what it writes for a package.

use std::{fs, os::unix::net::UnixDatagram, process::Command, time::Duration};

use super::{program, repository, succeed};
use crate::support::aviary::{Aviary, aviary};

#[test]
fn a_build_says_which_it_is() {
    let short = aviary(&["-V"]).out;
    assert_eq!(short.trim_end(), concat!("aviary ", env!("CARGO_PKG_VERSION")));
    let long = aviary(&["--version"]).out;
    for line in ["commit ", "target ", "features "] {
        assert!(long.lines().any(|it| it.starts_with(line) && it.trim() != line.trim()), "{line}: {long}");
    }
}

/// What the build script says in `dir`, of a build for release.
fn said_of_a_build(script: &std::path::Path, dir: &std::path::Path, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(script);
    command.current_dir(dir).env_remove("AVIARY_COMMIT").env("PROFILE", "release");
    succeed(command.env("TARGET", "x86_64-unknown-linux-gnu").envs(environment.iter().copied()))
}

#[test]
fn a_commit_is_that_of_our_own_repository_or_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    let source = repository("crates/aviary/build.rs");
    succeed(Command::new("rustc").args(["--edition", "2024", "-o"]).arg(&script).arg(&source));
    let unpacked = dir.path().join("unpacked");
    fs::create_dir_all(unpacked.join("crates/aviary")).unwrap();
    fs::copy(&source, unpacked.join("crates/aviary/build.rs")).unwrap();
    let unknown = "cargo:rustc-env=AVIARY_COMMIT=unknown commit\n";
    assert!(said_of_a_build(&script, &unpacked, &[]).contains(unknown));
    let told = said_of_a_build(&script, &unpacked, &[("AVIARY_COMMIT", "0123456789ab")]);
    assert!(told.contains("AVIARY_COMMIT=0123456789ab\n"), "{told}");

    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
        succeed(Command::new("git").args(who).args(arguments).current_dir(&unpacked))
    };
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "somebody else's"]);
    assert!(said_of_a_build(&script, &unpacked, &[]).contains(unknown), "it is in no commit yet");
    git(&["add", "crates"]);
    git(&["commit", "--quiet", "--message", "ours"]);
    let head = git(&["rev-parse", "--short=12", "HEAD"]);
    let told = said_of_a_build(&script, &unpacked, &[]);
    assert!(told.contains(&format!("AVIARY_COMMIT={}\n", head.trim())), "{told}");
    assert!(
        told.contains("cargo:rerun-if-changed=.git/logs/HEAD\n"),
        "the next commit would not be told: {told}"
    );
    fs::write(unpacked.join("crates/aviary/build.rs"), "changed").unwrap();
    let told = said_of_a_build(&script, &unpacked, &[]);
    assert!(told.contains(&format!("AVIARY_COMMIT={}, with changes\n", head.trim())), "{told}");
}

#[test]
fn each_command_has_a_page_that_man_can_show() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("man");
    assert_eq!(aviary(&["generate", "man", to.to_str().unwrap()]).status, 0);
    let help = aviary(&["help"]).out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| line.starts_with("  ")).filter_map(|line| {
        let name = line.strip_prefix("  ")?;
        (!name.starts_with(' ')).then(|| name.split_whitespace().next())?
    });
    let mut count = 0;
    for command in commands.filter(|name| *name != "help") {
        let page = to.join(format!("aviary-{command}.1"));
        assert!(page.exists(), "there is no page on {command}");
        let said =
            succeed(program("man").args(["--warnings", "--local-file"]).arg(&page).env("MANWIDTH", "100"));
        assert!(
            said.contains(&format!("aviary {command}")) && !said.contains("warning"),
            "{command}: {said}"
        );
        count += 1;
    }
    assert!(count > 10, "{help}");
    assert!(!to.join("aviary-generate.1").exists(), "what is hidden is hidden");
}

#[test]
fn health_is_told_by_the_exit_status() {
    let mut process = Aviary::start("");
    let url = format!("http://{}", process.collector);
    for arguments in [&["health", url.as_str()][..], &["health", "--ready", &url]] {
        let told = aviary(arguments);
        assert_eq!(told.status, 0, "{arguments:?}: {}{}", told.out, told.err);
    }
    process.stop();
    let told = aviary(&["health", &url]);
    assert_eq!(told.status, 1);
    assert!(told.out.contains("cannot reach"), "{}", told.out);
}

#[test]
fn a_collector_without_an_agent_feeds_the_watchdog_while_it_judges() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let socket = UnixDatagram::bind(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut process = Aviary::start_with("", |command| {
        command.env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", "4000000").env_remove("WATCHDOG_PID");
    });
    let told = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert!(told().starts_with("READY=1\n"));
    // The first before anything was judged, the others because it was.
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    assert_eq!(process.stop().code(), Some(0));
}
