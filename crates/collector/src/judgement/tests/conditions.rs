//! What is told beside loss, and what is taken away.

use aviary_core::{
    Protocol, Span,
    histogram::Histogram,
    incident::{CERTIFICATE_DAYS, Resolution},
    page::Urgency,
};
use aviary_wire::report::{Certificate, PhaseTimings};

use super::*;
use crate::{Alerting, history::History};

#[test]
fn a_region_that_is_taken_away_did_not_recover() {
    let mut stage = Stage::usual();
    stage.run(120, well);
    stage.run(40, only_eu);
    assert_eq!(only(stage.losses()).state, Of::Open);
    // The agent of eu says that it has nothing to probe any more.
    let until = Second(START + 160);
    let gone = Roster { since: until, series: Vec::new(), ..stage.rosters[1].clone() };
    let report = Report { roster_id: gone.id(), roster: Some(gone), ..stage.report(1, 0..0, well) };
    stage.state.take(&report, None, at(161)).unwrap();
    stage.rosters.remove(1);
    stage.run(60, well);
    let incident = only(stage.losses());
    assert_eq!((incident.state, incident.resolution), (Of::Resolved, Some(Resolution::Removed)));
}

#[test]
fn a_service_that_is_taken_away_did_not_recover() {
    let mut stage = Stage::usual();
    stage.run(120, well);
    stage.run(40, only_eu);
    stage.judgement.removed(Tag::Service, "ingest", at(161));
    assert_eq!(only(stage.losses()).resolution, Some(Resolution::Removed));
}

#[test]
fn who_comes_while_an_endpoint_never_worked_is_judged_with_the_others() {
    let never: Script = |_, endpoint, _| Some(if endpoint.starts_with("tls") { REFUSED } else { DELIVERED });
    let mut stage = Stage::usual();
    stage.run(20, never);
    stage.rosters.push(roster("sa", &ENDPOINTS));
    stage.run(20, never);
    assert_eq!(stage.state.watched().counted("ingest", 1).unwrap().judged, 4);
}

#[test]
fn what_was_sent_and_not_read_back_yet_may_work() {
    let mut options = ServiceOptions::unconfigured("ingest");
    (options.storage, options.alerting.start_up_grace) = (true, 6);
    let mut stage = Stage::new(options);
    stage.rosters.extend(["af", "sa", "me"].map(|region| roster(region, &ENDPOINTS)));
    stage.run(16, well);
    assert_eq!(stage.told(), []);
    assert_eq!(stage.judgement.incidents(), []);
}

#[test]
fn an_agent_that_suspects_itself_is_a_ticket_and_what_it_says_is_set_apart() {
    let mut stage = Stage::usual();
    stage.run(120, well);
    for _ in 0..60 {
        let second = stage.second;
        let told = stage.report(1, 0..0, well);
        let suspect = Span::new(Second(START + second), Second(START + second + 1));
        let report = Report { self_suspect: vec![suspect], ..told };
        stage.run(1, only_eu);
        stage.state.take(&report, None, at(second + 1)).unwrap();
    }
    let sick = stage.judgement.incidents().into_iter().filter(|it| it.cause.name() == "sick_agent");
    let sick = only(sick.collect());
    assert_eq!((sick.state, sick.urgency()), (Of::Open, Urgency::Ticket));
    let part = &sick.parts[""];
    assert_eq!(part.blame, Blame::Source);
    let said = part.measured.as_deref().unwrap_or_default();
    assert!(said.starts_with("In 10 of the newest 10 s its own controls failed"), "{said}");
    assert!(
        stage.losses().iter().all(|loss| loss.urgency() == Urgency::Ticket),
        "one agent alone loses, and is sick: {:#?}",
        stage.losses()
    );
}

/// The service is well for everybody but one agent, whether that suspects itself or not.
#[test]
fn a_service_is_not_called_lost_for_one_sick_agent() {
    for (knows, why) in [(true, "own controls fail"), (false, "from where alone")] {
        let mut stage = Stage::usual();
        let mut neighbour = roster("eu", &ENDPOINTS);
        neighbour.vantage.node = "node-eu-2".to_owned();
        for second in 0..180 {
            stage.rosters.push(neighbour.clone());
            let report = stage.report(3, second..second + 1, well);
            stage.rosters.pop();
            stage.state.take(&report, None, at(second + 1)).unwrap();
            let is_sick = second >= 120;
            stage.run(1, if is_sick { only_eu } else { well });
            if is_sick && knows {
                let suspect = Span::before(Second(START + stage.second), 1);
                let report = Report { self_suspect: vec![suspect], ..stage.report(1, 0..0, well) };
                stage.state.take(&report, None, at(stage.second)).unwrap();
            }
        }
        let (_, standing) = stage.state.standing().find(|(name, _)| *name == "ingest").unwrap();
        assert_eq!(standing.verdict.state.name(), "healthy", "{knows}");
        let reason = standing.verdict.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("what node-eu says") && reason.contains(why), "{knows}: {reason}");
    }
}

#[test]
fn a_certificate_is_told_of_from_the_days_on_that_are_set() {
    let days = |days: i64| (START as i64) + days * 86_400 + 3_600;
    let table = [
        (CERTIFICATE_DAYS + 1, Some((21, 7)), None),
        (CERTIFICATE_DAYS, Some((21, 7)), Some(page::Severity::Warning)),
        (6, Some((21, 7)), Some(page::Severity::Error)),
        (25, Some((30, 28)), Some(page::Severity::Error)),
        (1, None, None),
    ];
    for (left, certificate_days, expected) in table {
        let alerting = Alerting { certificate_days, ..Alerting::default() };
        let mut stage = Stage::new(ServiceOptions { alerting, ..ServiceOptions::unconfigured("ingest") });
        let certificate = Certificate {
            endpoint: ENDPOINTS[1].parse().unwrap(),
            address: ([192, 0, 2, 1], 2).into(),
            not_after: days(left),
        };
        let report = Report { certificates: vec![certificate], ..stage.report(0, 0..0, well) };
        stage.state.take(&report, None, at(0)).unwrap();
        stage.run(130, well);
        let found = stage.judgement.incidents().into_iter().find(|it| it.cause.name() == "certificate");
        let told = found.map(|it| (it.severity(), it.urgency()));
        assert_eq!(told, expected.map(|severity| (severity, Urgency::Ticket)), "{left} days left");
    }
}

/// What an agent says of a minute in which so many of its slots took so long to connect.
fn timed(minute: u64, slots: &[(u32, u32)]) -> PhaseTimings {
    let mut histogram = Histogram::default();
    for (count, micros) in slots {
        (0..*count).for_each(|_| histogram.record(*micros));
    }
    PhaseTimings {
        service: "ingest".to_owned(),
        protocol: Protocol::Tcp,
        phase: Phase::Connect,
        minute: Second(START + minute * 60),
        histogram,
    }
}

#[test]
fn a_phase_that_takes_too_long_is_a_ticket_until_it_does_no_more() {
    let alerting = Alerting { latency_p99: [(Phase::Connect, 200_000)].into(), ..Alerting::default() };
    let mut stage = Stage::new(ServiceOptions { alerting, ..ServiceOptions::unconfigured("ingest") });
    let history = Arc::new(History::in_memory(86_400));
    stage.state.keep_history(Arc::clone(&history), at(0)).unwrap();
    // Judgement may be held up in any second, be it the first in which a minute can be looked at.
    let held_up = |second: u64| second % 60 == 15;
    let minute = |stage: &mut Stage, slots: &[(u32, u32)]| {
        let number = stage.second / 60;
        let report = Report { timings: vec![timed(number, slots)], ..stage.report(0, 0..0, well) };
        for _ in 0..60 {
            stage.run(1, well);
            if !held_up(stage.second)
                && let Some(wanted) = stage.state.slow_wanted(at(stage.second))
            {
                let conditions = wanted.conditions(&history).unwrap();
                stage.state.watched_mut().take_slow(conditions);
            }
            if stage.second % 60 == 50 {
                stage.state.take(&report, None, at(stage.second)).unwrap();
            }
        }
        let found = stage.judgement.incidents().into_iter().find(|it| it.cause.name() == "slow");
        found.map(|it| (it.state, it.urgency(), it.summary()))
    };
    for number in 0..10 {
        // Three of 120 a minute are slow, of which that could be chance.
        let slots = if number < 5 { [(40, 5_000), (4, 900_000)] } else { [(119, 5_000), (1, 900_000)] };
        assert_eq!(minute(&mut stage, &slots), None, "minute {number}: too few, or no more than may be");
    }
    let told: Vec<_> = (0..6).map(|_| minute(&mut stage, &[(110, 5_000), (10, 900_000)])).collect();
    let (state, urgency, summary) = told[5].clone().expect("slow for five minutes");
    assert_eq!((state, urgency), (Of::Open, Urgency::Ticket));
    assert_eq!(summary, "ingest: connect takes 852 ms for one in a hundred, and may take 200 ms");
    let states: Vec<_> = (0..8).map(|_| minute(&mut stage, &[(120, 5_000)]).unwrap().0).collect();
    assert_eq!((states[0], states[7]), (Of::Open, Of::Resolved), "over five minutes again: {states:?}");
}

/// One agent measures no thirty slots of an endpoint within a short grace.
#[test]
fn an_endpoint_that_never_worked_is_told_of_however_short_the_grace() {
    for grace in [0, 1, 20] {
        let mut options = ServiceOptions::unconfigured("ingest");
        options.alerting.start_up_grace = grace;
        let mut stage = Stage::new(options);
        stage.rosters.truncate(1);
        stage.run(90, |_, endpoint, _| Some(if endpoint.starts_with("tls") { REFUSED } else { DELIVERED }));
        let names: Vec<_> = stage.judgement.incidents().iter().map(|it| it.cause.name()).collect();
        assert_eq!(names, ["never_worked"], "{grace} s");
    }
}
