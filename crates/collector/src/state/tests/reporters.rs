//! Under which token reports come, and what that may tell.

use super::*;

const A: &str = "tcp://h:1";

fn reporter(token: &str, region: Option<&str>, node: Option<&str>) -> Reporter {
    Reporter {
        token: token.into(),
        region: region.map(Arc::from),
        node: node.map(Arc::from),
        series_max: None,
    }
}

fn with_vantage(region: &str, node: &str) -> Roster {
    let mut roster = roster(node, &[A]);
    region.clone_into(&mut roster.vantage.region);
    roster
}

#[test]
fn a_token_speaks_for_its_region_and_node_only() {
    let region = |claimed: &str| Refusal::Region {
        claimed: claimed.to_owned(),
        token: "t".to_owned(),
        allowed: "eu".to_owned(),
    };
    let node = |claimed: &str| Refusal::Node {
        claimed: claimed.to_owned(),
        token: "t".to_owned(),
        allowed: "one".to_owned(),
    };
    let table = [
        (None, None, "us", "two", None),
        (Some("eu"), None, "eu", "two", None),
        (Some("eu"), None, "us", "two", Some(region("us"))),
        (None, Some("one"), "us", "one", None),
        (None, Some("one"), "us", "two", Some(node("two"))),
        (Some("eu"), Some("one"), "eu", "one", None),
        (Some("eu"), Some("one"), "us", "one", Some(region("us"))),
        (Some("eu"), Some("one"), "eu", "One", Some(node("One"))),
    ];
    for (allowed_region, allowed_node, claimed_region, claimed_node, refusal) in table {
        let mut state = state(false);
        let told = report(&with_vantage(claimed_region, claimed_node), vec![slot(0, 0, DELIVERED)]);
        let reporter = reporter("t", allowed_region, allowed_node);
        assert_eq!(state.take(&told, Some(&reporter), at(1)).err(), refusal, "{reporter:?}");
        assert_eq!(
            state.catalog.len(),
            usize::from(refusal.is_none()),
            "nothing is learnt of what is refused"
        );
    }
}

#[test]
fn a_roster_is_known_to_the_token_that_sent_it_and_to_no_other() {
    let mut state = state(false);
    let roster = with_vantage("eu", "one");
    let owner = reporter("owner", None, None);
    state.take(&report(&roster, vec![slot(0, 0, DELIVERED)]), Some(&owner), at(1)).unwrap();
    let claims = Report { roster: None, ..report(&roster, vec![slot(0, 1, TIMED_OUT)]) };
    for (other, expected) in [
        (reporter("other", None, None), Err(Refusal::UnknownRoster(roster.id()))),
        (reporter("other", Some("us"), None), Err(Refusal::UnknownRoster(roster.id()))),
        (Reporter::default(), Err(Refusal::UnknownRoster(roster.id()))),
    ] {
        assert_eq!(state.take(&claims, Some(&other), at(2)), expected, "{other:?}");
    }
    assert_eq!(window(&state, 0, 2), Window { scheduled: 2, delivered: 1, unknown: 1, ..Window::default() });
    assert!(state.take(&claims, Some(&owner), at(2)).is_ok());
    // What another sends under the same id neither takes its place nor is refused for it: ids are hashes that whoever
    // likes can meet.
    let mut forged = report(&with_vantage("us", "two"), vec![slot(0, 0, DELIVERED)]);
    forged.roster_id = roster.id();
    state.take(&forged, Some(&reporter("other", Some("us"), None)), at(2)).unwrap();
    let told = Report { roster: None, ..report(&roster, vec![slot(0, 2, DELIVERED)]) };
    state.take(&told, Some(&owner), at(3)).unwrap();
    let of = |node: &str| {
        let is_it = |id: &SeriesId| state.catalog.tag(*id, Tag::Node) == node;
        state.catalog.ids().find(is_it).map(|id| state.ledger.mark(id, second(2)).unwrap().sender())
    };
    assert_eq!((of("one"), of("two")), (Some(Sender::Delivered), Some(Sender::Unknown)));
}

#[test]
fn a_token_brings_so_many_series_and_the_others_have_room() {
    let mut state = state(false);
    let bad = Reporter { series_max: Some(3), ..reporter("bad", None, None) };
    let tell = |state: &mut State, reporter: &Reporter, node: &str, endpoints: &[&str]| {
        state.take(&report(&roster(node, endpoints), Vec::new()), Some(reporter), at(1))
    };
    assert!(tell(&mut state, &bad, "n1", &[A, "tcp://h:2"]).is_ok());
    let refused = tell(&mut state, &bad, "n2", &[A, "tcp://h:2"]).unwrap_err();
    assert_eq!(refused, Refusal::Series { token: "bad".to_owned(), known: 2, limit: 3, new: 2 });
    assert_eq!(state.agents.len(), 1, "an agent of which nothing was taken is not held");
    assert!(tell(&mut state, &bad, "n3", &[A]).is_ok(), "one more fits");
    assert!(tell(&mut state, &bad, "n4", &[A]).is_err());
    assert!(tell(&mut state, &bad, "n1", &["tcp://h:2", A]).is_ok(), "what is known is welcome");
    assert!(tell(&mut state, &reporter("good", None, None), "n5", &[A]).is_ok());
    assert_eq!([state.introduced("bad"), state.introduced("good"), state.introduced("")], [3, 1, 0]);
}
