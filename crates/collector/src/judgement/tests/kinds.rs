//! Outside, the data centre and the nodes themselves, each judged by itself.

use aviary_core::{State as Verdict, incident::Level, page::Severity};

use super::*;

impl Stage {
    /// Two regions outside, an agent in the data centre, and so many nodes that look at themselves.
    fn of_kinds(nodes: usize) -> Self {
        let mut stage = Self::usual();
        stage.rosters = vec![roster("eu", &ENDPOINTS), roster("us", &ENDPOINTS)];
        let inside = (1..=nodes).map(|number| (VantageKind::Loopback, format!("n{number}")));
        for (kind, node) in [(VantageKind::Datacentre, "canary".to_owned())].into_iter().chain(inside) {
            let mut roster = roster(&node, &ENDPOINTS);
            let region = "dc".to_owned();
            roster.vantage = Vantage { kind, region, zone: None, network: None, node };
            stage.rosters.push(roster);
        }
        stage
    }

    fn verdict(&self) -> aviary_core::verdict::Verdict {
        self.state.standing().next().unwrap().1.verdict.clone()
    }
}

fn is_outside(place: &str) -> bool {
    ["eu", "us"].contains(&place)
}

fn lost_if(is_lost: bool) -> Option<Outcome> {
    Some(if is_lost { TIMED_OUT } else { DELIVERED })
}

/// What is lost; the first line of the page, the state meanwhile, whose fault, and what is said for it.
#[test]
fn each_kind_says_what_it_sees_and_the_page_compares() {
    type Row<'a> = (Script, &'a str, Verdict, Severity, Blame, &'a [&'a str]);
    let table: &[Row<'_>] = &[
        (
            |place, _, _| lost_if(is_outside(place)),
            "ingest: outside only (2/2 regions), all protocols (2/2), 100 % lost: the network in front of the nodes, not the \
             service; well in the data centre (1 of 1) and on its nodes (6 of 6)",
            Verdict::Down,
            Severity::Critical,
            Blame::Path,
            &[
                "outside it is lost, from 2 of 2 vantages in 2 regions",
                "in the data centre it is well",
                "on its nodes it is well",
            ],
        ),
        (
            |place, _, _| lost_if(place == "n3"),
            "ingest: node n3 on itself only (1/6 nodes), all protocols (2/2), 100 % lost: the node, not the network; well on its \
             peers (5 of 5), outside (2 of 2) and in the data centre (1 of 1)",
            Verdict::Degraded,
            Severity::Warning,
            Blame::Service,
            &[
                "it was measured on the node itself",
                "its peers are well, on 5 of 5 nodes",
                "outside it is well",
            ],
        ),
        (
            |place, _, _| lost_if(is_outside(place) || place == "canary"),
            "ingest: outside (2/2) and in the data centre (1/1) only, all protocols (2/2), 100 % lost: the network in front of \
             the nodes, not the service; well on its nodes (6 of 6)",
            Verdict::Down,
            Severity::Critical,
            Blame::Path,
            &["outside it is lost", "in the data centre it is lost", "on its nodes it is well"],
        ),
        (
            |_, _, _| lost_if(true),
            "ingest: everything outside (2/2), in the data centre (1/1) and on its nodes (6/6), all protocols (2/2), 100 % lost; \
             nothing else",
            Verdict::Down,
            Severity::Critical,
            Blame::Service,
            &[
                "outside it is lost",
                "in the data centre it is lost",
                "on its nodes it is lost, on 6 of 6 nodes",
            ],
        ),
        (
            |place, _, _| lost_if(place.starts_with('n')),
            "ingest: on its nodes only (6/6 nodes), all protocols (2/2), 100 % lost; well outside (2 of 2) and in the data centre \
             (1 of 1)",
            Verdict::Degraded,
            Severity::Warning,
            Blame::Unclear,
            &["on its nodes it is lost", "outside it is well", "in the data centre it is well"],
        ),
        (
            |place, _, _| lost_if(place == "canary"),
            "ingest: in the data centre only (1/1 vantage), all protocols (2/2), 100 % lost; well outside (2 of 2) and on its nodes \
             (6 of 6)",
            Verdict::Degraded,
            Severity::Warning,
            Blame::Unclear,
            &["in the data centre it is lost", "outside it is well", "on its nodes it is well"],
        ),
    ];
    for (script, summary, state, severity, blame, evidence) in table {
        let mut stage = Stage::of_kinds(6);
        stage.run(300, well);
        stage.run(40, *script);
        let incident = only(stage.losses());
        let part = &incident.parts["ingest"];
        assert_eq!(part.summary, *summary);
        assert_eq!(
            (stage.verdict().state, part.severity, part.blame),
            (*state, *severity, *blame),
            "{summary}"
        );
        for (said, begins) in part.grounds.evidence.iter().zip(*evidence) {
            assert!(said.starts_with(begins), "{summary}: {:#?}", part.grounds);
        }
        assert!(part.grounds.evidence.len() >= evidence.len(), "{summary}: {:#?}", part.grounds);
        stage.run(120, well);
        assert_eq!(only(stage.losses()).state, Of::Resolved, "{summary}");
        assert_eq!(stage.verdict().state, Verdict::Healthy, "{summary}");
    }
}

/// Two of a hundred and three: a fiftieth of all that is measured, and all that customers see.
#[test]
fn what_is_lost_outside_is_not_lost_among_the_nodes() {
    let mut stage = Stage::of_kinds(100);
    stage.run(60, well);
    stage.run(20, |place, _, _| lost_if(is_outside(place)));
    assert_eq!(stage.verdict().state, Verdict::Down);
    let incident = only(stage.losses());
    let part = &incident.parts["ingest"];
    assert_eq!((part.severity, part.level, part.agreeing), (Severity::Critical, Level::Full, (2, 2)));
    assert!(part.windows[0].loss() > 0.99, "what is told is what was lost outside: {:?}", part.windows[0]);
    // As soon as without the nodes: what they see is no part of what is asked.
    let (at, _) = stage.told()[0];
    let mut alone = Stage::of_kinds(0);
    alone.run(60, well);
    alone.run(20, |place, _, _| lost_if(is_outside(place)));
    assert!(at <= alone.told()[0].0 + 1, "{at}: {:?}", alone.told());
}

/// A node more or less of a thousand is not the service's state, but somebody hears of it.
#[test]
fn one_dead_node_of_many_is_told_and_is_not_the_service() {
    let mut stage = Stage::of_kinds(100);
    stage.run(60, well);
    stage.run(40, |place, _, _| lost_if(place == "n77"));
    let incident = only(stage.losses());
    let part = &incident.parts["ingest"];
    assert!(part.summary.starts_with("ingest: node n77 on itself only (1/100 nodes)"), "{}", part.summary);
    assert_eq!((stage.verdict().state, part.severity), (Verdict::Degraded, Severity::Warning));
}

/// What was told late, and in another order, is judged the same.
#[test]
fn kinds_are_judged_by_the_ledger_alone() {
    let script: Script = |place, _, second| lost_if(second >= 60 && is_outside(place));
    let mut prompt = Stage::of_kinds(6);
    prompt.run(100, script);
    let mut late = Stage::of_kinds(6);
    late.run(60, script);
    // One agent outside is cut off, and tells all of it at once.
    let cut_off = late.rosters.remove(0);
    late.run(39, script);
    late.rosters.insert(0, cut_off);
    let report = late.report(0, 60..99, script);
    late.state.take(&report, None, at(99)).unwrap();
    late.run(1, script);
    assert_eq!(late.verdict(), prompt.verdict());
    let summary = |stage: &Stage| only(stage.losses()).parts["ingest"].summary.clone();
    assert_eq!(summary(&late), summary(&prompt));
}
