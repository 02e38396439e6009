//! `aviary import`: what it writes passes `aviary check`, and its exit status says whether anything was left out.

use std::fs;

use crate::support::aviary::{aviary, command, run};

const GATUS: &str = "\
alerting:
  pagerduty: { integration-key: the-integration-key }
endpoints:
  - { name: line, group: graphite, url: 'tcp://graphite.example.com:2003', interval: 10s }
  - { name: metrics, url: 'udp://graphite.example.com:2003', interval: 10s }
";

#[test]
fn what_is_imported_passes_the_check_and_what_is_not_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    fs::write(file("gatus.yaml"), GATUS).unwrap();
    let whole = aviary(&["import", "gatus", &file("gatus.yaml"), "--output", &file("aviary.toml")]);
    assert_eq!(whole.status, 0, "{}{}", whole.out, whole.err);
    assert!(whole.out.contains("gatus.yaml:4: otherwise: every 10s of endpoint line"), "{}", whole.out);
    let written = fs::read_to_string(file("aviary.toml")).unwrap();
    assert!(!written.contains("the-integration-key"), "{written}");
    let checked = run(command()
        .args(["check", &file("aviary.toml")])
        .env("PAGERDUTY_KEY", "0123456789abcdef0123456789abcdef"));
    assert_eq!(checked.status, 0, "{}\n{written}", checked.out);
    let again = aviary(&["import", "gatus", &file("gatus.yaml"), "--output", &file("aviary.toml")]);
    assert!(again.status == 2 && again.err.contains("not there yet"), "{}", again.err);

    fs::write(file("more.yaml"), format!("{GATUS}  - {{ name: ping, url: 'icmp://example.com' }}\n"))
        .unwrap();
    let partly = aviary(&["import", "gatus", &file("more.yaml")]);
    assert_eq!(partly.status, 1);
    assert!(
        partly.out.contains("udp://graphite.example.com:2003")
            && partly.err.contains("more.yaml:6: left out: ")
    );

    fs::write(file("blackbox.yml"), "modules:\n  ping: { prober: icmp }\n").unwrap();
    let none = aviary(&["import", "blackbox", &file("blackbox.yml")]);
    assert_eq!(none.status, 2);
    assert!(none.out.contains("blackbox.yml:2: left out: module ping"), "{}", none.out);
}
