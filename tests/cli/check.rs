//! `aviary check`: each mistake in a file of its own, with everything that is said of it.
//!
//! A fixture ends in what is expected: `# env NAME=VALUE` for the environment, then one line for each problem,
//! `# LINE:COLUMN LEVEL: MESSAGE => HELP`, with the variable's name or `file` in the place of a line.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// No fixture and no test has this word in anything but a secret.
const SECRET: &str = "hunter2";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `aviary check` with nothing but `variables` in its environment.
fn check<'v>(arguments: &[&str], variables: impl IntoIterator<Item = (&'v str, &'v str)>) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aviary"));
    command.current_dir(root()).arg("check").args(arguments).env_clear().envs(variables);
    let Output { status, stdout, stderr } = command.output().expect("the binary was built for this test");
    let (out, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(errors, "", "results go to standard output");
    assert!(!out.contains(SECRET), "a secret is shown:\n{out}");
    (status.code().expect("no signal ends it"), out.into_owned())
}

/// A problem of `--format json` as the fixtures have it.
fn as_expectation(line: &str) -> String {
    let problem: serde_json::Value = serde_json::from_str(line).expect("each line is one JSON object");
    let text = |key: &str| problem[key].as_str().map(str::to_owned);
    let place = text("variable").unwrap_or_else(|| match (&problem["line"], &problem["column"]) {
        (serde_json::Value::Null, _) => "file".to_owned(),
        (line, column) => format!("{line}:{column}"),
    });
    let help = text("help").map_or_else(String::new, |help| format!(" => {help}"));
    let (level, message) = (text("level").unwrap_or_default(), text("message").unwrap_or_default());
    format!("{place} {level}: {message}{help}")
}

fn fixtures() -> BTreeSet<PathBuf> {
    let entries =
        fs::read_dir(root().join("tests/fixtures/config")).expect("the fixtures are part of the sources");
    entries.map(|entry| entry.expect("a directory can be listed").path()).collect()
}

#[test]
fn each_mistake_is_said_with_its_place_and_what_would_be_right() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 40, "{fixtures:?}");
    let mut wrong = Vec::new();
    for path in &fixtures {
        let text = fs::read_to_string(path).unwrap();
        let comments = || text.lines().filter_map(|line| line.strip_prefix("# "));
        let variables = comments().filter_map(|comment| comment.strip_prefix("env ")?.split_once('='));
        let is_problem = |comment: &&str| comment.contains(" error: ") || comment.contains(" note: ");
        let expected: Vec<String> = comments().filter(is_problem).map(str::to_owned).collect();
        assert!(!expected.is_empty(), "{} expects nothing", path.display());

        let file = path.display().to_string();
        let (status, out) = check(&["--format", "json", &file], variables.clone());
        let found: Vec<String> = out.lines().map(as_expectation).collect();
        let is_error = expected.iter().any(|problem| problem.contains(" error: "));
        if found != expected || status != i32::from(is_error) {
            wrong.push(format!("{file}: status {status}\n# {}", found.join("\n# ")));
        }
        // The same for people, where the lines themselves are shown.
        let (status, out) = check(&[&file], variables);
        let errors = expected.iter().filter(|problem| problem.contains(" error: ")).count();
        let summary = match errors {
            0 => format!("{file}: no problem: "),
            1 => format!("{file}: 1 problem"),
            count => format!("{file}: {count} problems"),
        };
        let last = out.lines().last().unwrap_or_default();
        assert!(last.starts_with(&summary) && status == i32::from(errors > 0), "{out}");
    }
    assert!(wrong.is_empty(), "found something else than expected:\n{}", wrong.join("\n\n"));
}

#[test]
fn a_problem_is_shown_in_its_line() {
    let (status, out) = check(&["tests/fixtures/config/unknown-key.toml"], []);
    let expected = r#"error: `region` is missing in [vantage]
  --> tests/fixtures/config/unknown-key.toml:1:1
   |
 1 | [vantage]
   | ^^^^^^^^^ the cloud's or data centre's region, or "auto" to ask the cloud: add region = "eu-west-1"

error: unknown key `regoin`
  --> tests/fixtures/config/unknown-key.toml:2:1
   |
 2 | regoin = "eu-west-1"
   | ^^^^^^ did you mean `region`?

tests/fixtures/config/unknown-key.toml: 2 problems
"#;
    assert_eq!((status, out.as_str()), (1, expected));
    let (_, out) = check(&["tests/fixtures/config/token-inline.toml"], []);
    assert!(out.contains("\n 6 | secret = ***\n   |          ^^^ write secret = { file"), "{out}");
}

#[test]
fn the_files_that_come_along_have_no_problem() {
    let files = ["agent-external", "agent-datacentre", "agent-loopback", "collector", "local", "sink"];
    let files = files.map(|name| format!("config/{name}.toml"));
    let (status, out) = check(&files.each_ref().map(String::as_str), [("AVIARY_TOKEN", "0123456789abcdef")]);
    let summaries: Vec<&str> = out.lines().filter(|line| line.starts_with("config/")).collect();
    assert_eq!(
        summaries,
        [
            "config/agent-external.toml: no problem: agent, 6 series, reporting to https://collector.example.net:8610/",
            "config/agent-datacentre.toml: no problem: agent, 8 series, reporting to https://collector.example.net:8610/",
            "config/agent-loopback.toml: no problem: agent, 1 series, reporting to https://collector.example.net:8610/",
            "config/collector.toml: no problem: collector at 127.0.0.1:8610",
            "config/local.toml: no problem: agent, 6 series, collector at 127.0.0.1:8610, \
             sink for tcp, udp, pickle, tls, pickle_tls, https",
            "config/sink.toml: no problem: sink for tcp, udp, pickle, tls, pickle_tls, https",
        ]
    );
    assert_eq!(status, 0, "{out}");
    let (_, out) = check(&["--format", "json", "config/local.toml"], []);
    let notes: Vec<String> = out.lines().map(as_expectation).collect();
    let [note] = &notes[..] else { panic!("the local example has one note: {notes:?}") };
    assert!(note.contains("note: nobody is paged: there is no [[receiver]] => add one"), "{note}");
}

#[test]
fn an_agent_costs_what_its_kind_of_vantage_probes() {
    for (kind, series) in [("external", 6), ("datacentre", 8), ("loopback", 1)] {
        let file = format!("config/agent-{kind}.toml");
        let (status, out) =
            check(&["--cost", "--format", "json", &file], [("AVIARY_TOKEN", "0123456789abcdef")]);
        let last = out.lines().last().unwrap_or_default();
        let cost: serde_json::Value = serde_json::from_str(last).expect("one JSON object");
        assert_eq!(
            (status, &cost["kind"], &cost["agent"]["series"]),
            (0, &kind.into(), &series.into()),
            "{out}"
        );
    }
}

#[test]
fn agents_of_every_kind_differ_in_their_kind_alone() {
    let parsed = |kind: &str| {
        let text = fs::read_to_string(root().join(format!("config/agent-{kind}.toml"))).unwrap();
        let mut table: toml::Table = text.parse().unwrap();
        let vantage = table["vantage"].as_table_mut().unwrap();
        assert_eq!(vantage.remove("kind"), Some(kind.into()));
        table
    };
    let external = parsed("external");
    assert_eq!(external["services"]["file"].as_str(), Some("services.toml"));
    assert_eq!(parsed("datacentre"), external);
    assert_eq!(parsed("loopback"), external);
}

#[test]
fn the_schema_is_the_one_that_editors_are_given() {
    let (status, out) = check(&["--schema"], []);
    let file = fs::read_to_string(root().join("config/aviary.schema.json")).unwrap();
    assert_eq!(status, 0);
    assert_eq!(out, file, "write it anew with: aviary check --schema > config/aviary.schema.json");
}

#[test]
fn files_that_cannot_be_read_are_problems_beside_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("binary.toml");
    fs::write(&binary, b"[sink]\n\xff").unwrap();
    let binary = binary.display().to_string();
    let (status, out) = check(&["nowhere.toml", "config", &binary, "config/local.toml"], []);
    for expected in [
        "error: cannot read the configuration: No such file or directory\n  --> nowhere.toml\n",
        "nowhere.toml: 1 problem\n",
        "error: cannot read the configuration: Is a directory\n  --> config\n",
        "error: the file is not UTF-8 text: byte 8 is none\n",
        "config/local.toml: no problem: ",
    ] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    assert_eq!(status, 1);
}

#[test]
fn secrets_are_looked_for_beside_the_configuration_and_refused_when_others_can_read_them() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("agent.toml");
    let text = "[vantage]\nregion = \"eu\"\n[agent]\ncollector = [\"https://c:8610\"]\ntoken = { file = \"token\" }\n\
                ca = { file = \"ca.pem\" }\n[[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\"]\n";
    fs::write(&config, text).unwrap();
    let (file, shown) = (config.display().to_string(), directory.path().display().to_string());
    let write = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let problems = || {
        let (_, out) = check(&["--format", "json", &file], []);
        out.lines().map(|line| as_expectation(line).replace(&shown, "DIR")).collect::<Vec<_>>()
    };
    let missing = "create it, or correct its path or owner";
    assert_eq!(
        problems(),
        [
            format!(
                "5:9 error: cannot read the secret file DIR/token: No such file or directory => {missing}"
            ),
            format!("6:6 error: cannot read the file DIR/ca.pem: No such file or directory => {missing}"),
        ]
    );
    let token = format!("{SECRET}{SECRET}{SECRET}\n");
    write("token", &token, 0o644);
    write("ca.pem", &token, 0o644);
    assert_eq!(
        problems(),
        [
            "5:9 error: the secret file DIR/token is open to everybody on this host (mode 0644) => chmod 600 DIR/token",
            "6:6 error: there is no certificate in it => name a PEM file with the authority's certificate",
        ]
    );
    write("token", &format!("{token}{token}"), 0o600);
    let authority = rcgen::generate_simple_self_signed(["c".to_owned()]).unwrap();
    write("ca.pem", &authority.cert.pem(), 0o644);
    assert_eq!(
        problems(),
        [
            "5:9 error: the secret is more than one word of printable ASCII characters => it stands in its file or \
             variable alone, in one line"
        ]
    );
    write("token", &token, 0o600);
    assert_eq!(problems(), [""; 0]);
}

const RUNNING: &str = "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\ncollector = [\"http://127.0.0.1:8610\"]\n\
                       [[service]]\nname = \"a\"\nendpoints = [\"tcp://h:1\", \"tcp://h:2\"]\n";

/// Writes `running` and `new`, and says what `check --against` prints and ends with, without the directory's name.
fn against(running: &str, new: &str, arguments: &[&str]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (running, new) = (write("running.toml", running), write("new.toml", new));
    let (status, out) = check(&[&["--against", &running, &new], arguments].concat(), []);
    (status, out.replace(&format!("{}/", directory.path().display()), ""))
}

#[test]
fn what_a_reload_would_change_is_said_beforehand() {
    let roles = "no problem: agent, 2 series, reporting to http://127.0.0.1:8610/";
    let new = RUNNING
        .replace("h:2", "h:3")
        .replace("[agent]", "[agent]\nstatsd = \"127.0.0.1:8125\"\nlisten = \"127.0.0.1:8611\"");
    let expected = format!(
        "new.toml: {roles}\n\
         new.toml: in the place of running.toml: 1 series added, 1 removed, 1 unchanged\n  \
         + canary.a tcp://h:3\n  \
         - canary.a tcp://h:2\n  \
         acts at once: agent.statsd: 127.0.0.1:8125\n  \
         needs a restart: agent.listen: 127.0.0.1:8611\n"
    );
    assert_eq!(against(RUNNING, &new, &[]), (0, expected));

    let (status, out) = against(RUNNING, &new, &["--format", "json"]);
    let expected = "{\"file\":\"new.toml\",\"against\":\"running.toml\",\"series\":{\
        \"added\":{\"count\":1,\"names\":[\"canary.a tcp://h:3\"]},\
        \"removed\":{\"count\":1,\"names\":[\"canary.a tcp://h:2\"]},\
        \"unchanged\":{\"count\":1,\"names\":[\"canary.a tcp://h:1\"]}},\
        \"applied\":[{\"key\":\"agent.statsd\",\"from\":null,\"to\":\"127.0.0.1:8125\"}],\
        \"needs_restart\":[{\"key\":\"agent.listen\",\"from\":null,\"to\":\"127.0.0.1:8611\"}]}\n";
    assert_eq!((status, out.as_str()), (0, expected));

    let (status, out) = against(RUNNING, &RUNNING.replace("[agent]", "# The same.\n[agent]"), &[]);
    assert_eq!((status, out), (0, format!("new.toml: {roles}\nnew.toml: changes nothing of running.toml\n")));
}

#[test]
fn a_file_with_problems_is_compared_with_nothing() {
    let broken = RUNNING.replace("region", "regoin");
    let (status, out) = against(RUNNING, &broken, &[]);
    assert!(status == 1 && out.ends_with("new.toml: 2 problems\n"), "{out}");
    let (status, out) = against(&broken, RUNNING, &[]);
    assert_eq!(status, 1);
    assert!(out.contains("running.toml: 2 problems: nothing runs with it\nnew.toml: no problem: "), "{out}");
    assert!(!out.contains("in the place of"), "{out}");
}

#[test]
fn many_changed_series_are_counted_and_some_of_them_named() {
    let urls =
        |port: u32| (0..50).map(|host| format!("\"tcp://h{host}:{port}\"")).collect::<Vec<_>>().join(", ");
    let with = |port| RUNNING.replace("\"tcp://h:1\", \"tcp://h:2\"", &urls(port));
    let (_, out) = against(&with(1), &with(2), &[]);
    assert!(out.contains(": 50 series added, 50 removed, 0 unchanged\n"), "{out}");
    assert!(out.contains("\n  + 30 more\n") && out.contains("\n  - 30 more\n"), "{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("  + canary.a tcp://h")).count(), 20);
}

#[test]
fn what_this_host_cannot_carry_is_a_note_to_check_and_stops_run() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("agent.toml");
    let urls = (0..50).map(|host| format!("\"udp://h{host}:1\"")).collect::<Vec<_>>().join(", ");
    fs::write(&config, RUNNING.replace("\"tcp://h:1\", \"tcp://h:2\"", &urls)).unwrap();
    let limited = |command: &str| {
        let script = format!("ulimit -n 150; exec \"$0\" {command} \"$1\"");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_aviary")]).arg(&config).env_clear();
        let Output { status, stdout, stderr } = shell.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (status.code(), text(&stdout), text(&stderr))
    };
    let numbers = "50 series need 164 open files (2 each, and 64 beside them), and this process may have 150";
    let (status, out, _) = limited("check");
    assert!(
        status == Some(0) && out.contains(&format!("note: this host cannot carry the plan: {numbers}")),
        "{out}"
    );
    let (status, _, err) = limited("run");
    assert!(status == Some(2) && err.contains(&format!("error: {numbers}")), "{status:?} {err}");
    assert!(err.ends_with("not started: this host cannot carry the plan\n"), "{err}");
}
