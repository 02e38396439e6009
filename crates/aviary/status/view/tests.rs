//! What is shown in rooms of every size.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::probe::paint::Paint;

fn window(delivered: u64, lost: u64) -> Value {
    let mut window = json!({"scheduled": delivered + lost, "delivered": delivered, "lost": lost});
    for class in ["local", "missed", "muted", "unproven", "unknown"] {
        window[class] = 0.into();
    }
    window
}

/// A window of which nothing was judged.
fn unjudged(class: &str) -> Value {
    let mut window = window(0, 0);
    (window["scheduled"], window[class]) = (60.into(), 60.into());
    window
}

fn service(name: &str, state: &str, where_it_is: Option<&str>, lost: u64) -> Value {
    json!({"name": name, "state": state, "silenced": false, "where": where_it_is, "since": 900, "incidents": [],
        "lost_now": window(10 - lost, lost), "lost_minute": window(60 - lost, lost)})
}

fn overview(services: &[Value], columns: &[&str], rows: &[(&str, Vec<Value>)]) -> Overview {
    let rows: Vec<Value> =
        rows.iter().map(|(protocol, cells)| json!({"protocol": protocol, "cells": cells})).collect();
    let overview = json!({"now": 1_000, "services_total": services.len(), "services": services,
        "matrix": {"by": "region", "from": 0, "until": 60, "columns": columns, "columns_left_out": 0, "rows": rows},
        "chart": {}});
    serde_json::from_value(overview).unwrap()
}

fn fleet() -> Overview {
    let services = [
        service("edge", "down", Some("udp in every region (3/3), 100 % lost; nothing else"), 10),
        service("ingest", "healthy", None, 0),
    ];
    let rows = [
        ("tcp", vec![window(120, 0), window(120, 0), window(119, 1)]),
        ("udp", vec![window(60, 60), unjudged("unproven"), unjudged("unknown")]),
        ("tls", vec![unjudged("missed"), unjudged("muted"), Value::Null]),
    ];
    overview(&services, &["ap", "eu", "us"], &rows)
}

fn shown(seen: &Overview, columns: usize, rows: usize) -> Vec<String> {
    lines(seen, Room { columns, rows }).iter().map(|line| line.painted(Paint::off())).collect()
}

#[test]
fn a_bad_row_and_a_bad_column_are_seen_without_colours() {
    let expected = [
        "service     state    lost in 10 s  in a minute  for           where",
        "edge     !! down     100 %         17 %         1 min 40 s  udp in every region (3/3), 100 % lost; nothing else",
        "ingest      healthy  none          none         1 min 40 s",
        "",
        "Delivered / scheduled in the last minute, by protocol and region",
        "protocol          ap          eu          us",
        "tcp          120/120     120/120   ! 119/120",
        "udp        !! 60/120   ~ 0/60     ? 0/60",
        "tls           ? 0/60      - 0/60           -",
        LEGEND,
    ];
    let shown = shown(&fleet(), usize::MAX, usize::MAX);
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let pairs: Vec<_> = shown.iter().map(|line| squeezed(line)).zip(expected.map(squeezed)).collect();
    for (line, expected) in &pairs {
        assert_eq!(line, expected, "{}", shown.join("\n"));
    }
    assert_eq!(pairs.len(), expected.len());
    let ends: Vec<usize> = shown[5..=8].iter().map(|line| line.chars().count()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "numbers stand to the right: {}", shown.join("\n"));
}

#[test]
fn what_finds_no_room_is_counted_and_loses_the_least() {
    let places: Vec<String> = (0..20).map(|place| format!("region-{place:02}")).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let cells =
        |lossy: usize| (0..20).map(|place| window(50, u64::from(place == lossy || place == 3))).collect();
    let protocols = ["http", "pickle", "tcp", "tls", "udp"];
    let rows: Vec<_> = protocols.into_iter().map(|it| (it, cells(if it == "udp" { 7 } else { 3 }))).collect();
    let services: Vec<Value> = (0..30)
        .map(|place| service(&format!("s{place}"), if place < 2 { "down" } else { "healthy" }, None, 0))
        .collect();
    let seen = overview(&services, &places, &rows);

    let text = shown(&seen, 79, 24).join("\n");
    for part in [
        "\n18 more services, none of them unwell\n",
        "region-03",
        "region-07",
        "\n14 more regions, none of them losing",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let text = shown(&seen, 28, 8).join("\n");
    for part in [
        "!! down",
        "29 more services, 1 of them…",
        "4 more protocols, 4 of them",
        "19 more regions, 1 of them …",
        "no room for 4: ",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(text.contains("region-03") && !text.contains("region-07"), "{text}");
    assert_eq!(shown(&seen, 79, 3), ["30 services, 2 of them unwell"]);
    assert_eq!(shown(&seen, 19, 24), ["30 services, 2 of …"]);
}

#[test]
fn nothing_there_is_said() {
    let text = shown(&overview(&[], &[], &[]), 79, 24).join("\n");
    for part in ["No service is configured or reported here yet.", "Nothing was probed in the last minute."] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn names_tell_a_terminal_nothing() {
    let name = "a\u{1b}[2J\u{9b}31m\n";
    let seen = overview(&[service(name, "healthy", Some(name), 0)], &[name], &[(name, vec![window(1, 0)])]);
    let text = shown(&seen, 200, 24).concat();
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn no_two_marks_have_one_sign() {
    let marks = [Mark::Plain, Mark::Unprobed, Mark::Unproven, Mark::Unknown, Mark::Lost, Mark::MostlyLost];
    let signs: std::collections::BTreeSet<&str> = marks.into_iter().map(Mark::sign).collect();
    assert_eq!(signs.len(), marks.len());
    for mark in marks.into_iter().filter(|mark| !mark.sign().is_empty()) {
        assert!(LEGEND.contains(&format!("{} ", mark.sign())), "{mark:?}");
    }
}

prop_compose! {
    fn any_overview()(
        services in prop::collection::vec(("[a-z]{1,40}", 0..5_usize, "[a-z ]{0,90}"), 0..40),
        places in prop::collection::btree_set("[a-z]{1,40}", 0..30),
        losses in prop::collection::vec(prop::collection::vec(0..90_u64, 30), 0..7),
    ) -> Overview {
        let states = ["down", "degraded", "blind", "starting", "healthy"];
        let services: Vec<Value> =
            services.iter().map(|(name, state, said)| service(name, states[*state], Some(said), 0)).collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let row = |losses: &Vec<u64>| {
            let cells = losses.iter().take(places.len());
            ("udp", cells.map(|lost| window(90 - lost, *lost)).collect())
        };
        let rows: Vec<_> = losses.iter().map(row).collect();
        overview(&services, &places, &rows)
    }
}

proptest! {
    // The manifest of this crate stands where no file of its own can be kept.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_room_holds_what_is_shown(seen in any_overview(), columns in 1..200_usize, rows in 1..60_usize) {
        let shown = shown(&seen, columns, rows);
        prop_assert!(shown.len() <= rows, "{} lines: {shown:#?}", shown.len());
        for line in &shown {
            prop_assert!(line.chars().count() <= columns, "{line:?}");
        }
    }

    #[test]
    fn rows_are_shown_or_counted(seen in any_overview(), rows in ROWS_MIN..60) {
        let shown = shown(&seen, 5_000, rows);
        let count = |noun: &str| -> usize {
            let counted = shown.iter().filter(|line| line.contains(noun)).filter_map(|line| {
                line.split_whitespace().next()?.parse::<usize>().ok()
            });
            counted.sum()
        };
        let services = shown.iter().filter(|line| line.contains("1 min 40 s")).count();
        prop_assert_eq!(services + count(" service"), seen.services.len(), "{:#?}", &shown);
        let is_row = |line: &&String| line.starts_with("udp  ") && line.contains('/');
        let protocols = shown.iter().filter(is_row).count();
        if !seen.matrix.columns.is_empty() {
            prop_assert_eq!(protocols + count(" protocol"), seen.matrix.rows.len(), "{:#?}", &shown);
        }
    }
}
