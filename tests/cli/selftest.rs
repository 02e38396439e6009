//! `aviary selftest`: the whole of it, as on a user's own host.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::aviary::aviary;

#[test]
fn every_fault_is_classified_right_over_every_protocol() {
    let ran = aviary(&["selftest", "--format", "json"]);
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let differing: Vec<_> = lines.iter().filter(|line| line["verdict"] != "same").collect();
    assert!(ran.status == 0 && differing.is_empty(), "{differing:#?}\n{}", ran.err);
    assert_eq!(ran.err, "", "no progress where there is no terminal, and no log of what was provoked");

    let mut protocols = BTreeMap::<_, BTreeSet<_>>::new();
    for line in &lines {
        protocols
            .entry(line["fault"].as_str().unwrap())
            .or_default()
            .insert(line["protocol"].as_str().unwrap());
    }
    let all = ["https", "pickle", "pickle+tls", "tcp", "tls", "udp"].into();
    let streams = ["https", "pickle", "pickle+tls", "tcp", "tls"].into();
    let tls = ["https", "pickle+tls", "tls"].into();
    for (fault, expected) in [
        ("healthy", &all),
        ("refuse", &all),
        ("never_read", &all),
        ("drop", &all),
        ("slow=300ms", &all),
        ("slow=1500ms", &all),
        ("read_then_reset", &streams),
        ("tar_pit", &streams),
        ("stall_handshake", &streams),
        ("cut_handshake", &tls),
        ("old_version", &tls),
        ("plain_text", &tls),
        ("expired", &tls),
        ("not_yet_valid", &tls),
        ("wrong_name", &tls),
        ("unknown_issuer", &tls),
        ("status=503", &["https"].into()),
        ("name_silent", &all),
        ("name_refused", &all),
        ("name_slow=1500ms", &all),
        ("name_lies", &all),
        ("name_unknown", &all),
    ] {
        assert_eq!(protocols.get(fault), Some(expected), "{fault}");
    }
}

#[test]
fn one_protocol_as_a_table() {
    let ran = aviary(&["selftest", "--only", "tls"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(
        ran.out.contains("expired: the certificate ended in 2001\n  tls         lost tls bad_certificate")
    );
    assert!(ran.out.trim_end().ends_with("cases, none differs"), "{}", ran.out);
    let rows: Vec<_> = ran.out.lines().filter(|line| line.starts_with("  ")).skip(1).collect();
    assert!(rows.len() > 25 && rows.iter().all(|row| row.starts_with("  tls ")), "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
}

#[test]
fn a_protocol_that_is_none_is_usage() {
    let ran = aviary(&["selftest", "--only", "smtp"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("`smtp` is not known; it is one of https"), "{}", ran.err);
}
