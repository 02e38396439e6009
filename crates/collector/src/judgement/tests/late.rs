//! What is told late of an incident that is there, or was.

use aviary_core::incident::Happened;

use super::*;

fn none_of_eu(region: &str, _: &str, second: u64) -> Option<Outcome> {
    match region {
        "eu" if (300..360).contains(&second) => None,
        _ if (300..330).contains(&second) => Some(REFUSED),
        _ => Some(DELIVERED),
    }
}

/// What was told late of the only loss: the seconds from the start on.
fn annotated(stage: &Stage) -> Vec<(u64, u64)> {
    let incident = only(stage.losses());
    let happened = incident.timeline.kept.iter();
    let late = happened.filter_map(|(_, what)| match what {
        Happened::Late(spans) => Some(spans.clone()),
        _ => None,
    });
    late.flatten().map(|span| (span.from.0 - START, span.until.0 - START)).collect()
}

#[test]
fn what_is_told_late_of_a_loss_corrects_it_and_opens_nothing() {
    // Told while it lasts, soon after its end, and long after.
    for (told_at, state) in [(325, Of::Open), (470, Of::Resolved), (700, Of::Resolved)] {
        let mut stage = Stage::usual();
        stage.run(told_at, none_of_eu);
        let before = only(stage.losses());
        assert_eq!(before.state, state, "at {told_at}");
        assert_eq!(annotated(&stage), [], "at {told_at}");
        let late = stage.report(1, 300..told_at.min(360), |_, _, second| {
            Some(if second < 330 { REFUSED } else { DELIVERED })
        });
        stage.state.take(&late, None, at(told_at)).unwrap();
        stage.run(20, none_of_eu);
        let after = only(stage.losses());
        let (was, is) = (before.parts["ingest"].counts, after.parts["ingest"].counts);
        assert!(is.lost > was.lost, "at {told_at}: {was:?} {is:?}");
        if state == Of::Resolved {
            let of_eu = 2 * (START + 330 - after.since.0);
            assert_eq!(is.lost, was.lost + of_eu, "at {told_at}: all that was lost is counted");
            let until = annotated(&stage).last().copied().expect("it is said").1;
            assert_eq!(until, 330, "at {told_at}: {:#?}", after.timeline);
            assert_eq!(after.resolved, before.resolved);
            let told = stage.told.iter().filter(|(.., id)| *id == after.id);
            assert_eq!(told.count(), 2, "nobody is told again");
        }
        let said = annotated(&stage);
        stage.run(60, none_of_eu);
        assert_eq!(annotated(&stage), said, "at {told_at}: it is said once");
    }
}
