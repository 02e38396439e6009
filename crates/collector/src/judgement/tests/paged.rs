//! When tickets wait, when tests are sent, and how long what is over is kept.

use aviary_core::silence::Hours;

use super::*;

/// The start is at 02:00 UTC.
fn hours(from: (u8, u8), until: (u8, u8)) -> Hours {
    Hours::daily("UTC", from, until).unwrap()
}

#[test]
fn a_ticket_waits_until_the_quiet_hours_of_its_service_end_and_a_page_does_not() {
    let receiver = Receiver { wakes: true, ..Receiver::default() };
    let quiet = [("ingest".to_owned(), hours((22, 0), (2, 10)))].into();
    let paging = Paging::new(vec![("oncall".to_owned(), receiver)], vec![], quiet);
    let mut stage = Stage::usual();
    stage.judgement.configure(paging, at(0));
    let never: Script = |_, endpoint, second| {
        let is_lost = endpoint.starts_with("tls") || (300..340).contains(&second);
        Some(if is_lost { REFUSED } else { DELIVERED })
    };
    stage.run(340, never);
    assert_eq!(stage.judgement.incidents().len(), 2, "an endpoint that never worked, and a loss");
    let page = only(stage.told.clone());
    assert_eq!(page.2, only(stage.losses()).id, "a page is told at once");
    stage.run(300, never);
    let ticket = stage.told.iter().find(|(.., id)| *id != page.2).expect("told in the morning");
    assert!((600..=602).contains(&ticket.0), "{}", ticket.0);
}

#[test]
fn tests_are_sent_once_whenever_their_hours_come() {
    let pages = TestPages { hours: hours((2, 1), (2, 5)), notify: Vec::new() };
    let mut stage = Stage::usual();
    stage.judgement.test_by(Some(pages.clone()));
    stage.run(100, well);
    let told: Vec<_> = stage.told();
    assert_eq!(told, [(60, Message::Test), (60 + 1, Message::TestOver)], "and resolve themselves");
    stage.restart();
    stage.judgement.test_by(Some(pages));
    stage.run(20, well);
    assert_eq!(stage.told().len(), 2, "another life knows that it was sent");
    assert!(stage.judgement.incidents().is_empty(), "it is no incident");
    stage.second += 86_400;
    stage.look();
    assert_eq!(stage.told().len(), 3, "and the next day");
}

#[test]
fn what_is_over_is_kept_as_long_as_anything_and_no_longer() {
    let mut stage = Stage::usual();
    stage.run(120, well);
    stage.run(40, |_, _, _| Some(REFUSED));
    stage.run(2_200, well);
    let kept = |stage: &Stage| {
        let mut ids = Vec::new();
        let each = &mut |key: &[u8], _: &[u8]| {
            ids.push(String::from_utf8_lossy(key).into_owned());
            std::ops::ControlFlow::Continue(())
        };
        stage.store.range(aviary_store::Table::Incidents, &[], &[u8::MAX], each).unwrap();
        ids
    };
    let id = only(kept(&stage));
    for (from, expected) in [(START + 120, 1), (START + 160, 1), (START + 2_000, 0)] {
        stage.judgement.let_go_before(Second(from)).unwrap();
        stage.judgement.flush().unwrap();
        assert_eq!(kept(&stage).len(), expected, "of what was over before {from}, {id}");
    }
}
