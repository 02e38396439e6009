//! What is said of an incident.

use aviary_core::{
    AcceptableLoss, Fault, LocalFault, Phase, Span, Timestamp,
    incident::{Cause, Condition, Id, State},
    losses::{Cause as LossCause, Loss},
    page::{Paging, Receiver, Sent, Severity},
};
use aviary_notify::{Event as PageEvent, Page, Share, Sums, Total};

use super::*;

/// An incident of UDP that was opened eight seconds after it began.
fn opened() -> (Judge, Notice) {
    let mut judge = Judge::new();
    let told = judge.sees(&[lost("ingest", "protocol=udp")], 9);
    assert_eq!(told.len(), 1);
    (judge, told[0].clone())
}

#[test]
fn a_page_has_everything_that_it_needs() {
    let (judge, notice) = opened();
    let around = Around {
        collector_url: Some("https://collector.example.net/".to_owned()),
        vantages: Some(6),
        evidence: vec!["confirm timeout, 48 of 48".to_owned()],
        against: vec!["tcp from the same vantage points loses nothing".to_owned()],
        last_change: Some("deploy".to_owned()),
        also_open: vec!["billing".to_owned()],
    };
    let subject = Subject { around, ..subject(judge.one(), None) };
    let page = page_of(&order(&notice, Message::Opened), &subject);
    let text = |text: &str| text.to_owned();
    let expected = Page {
        key: format!("aviary:main:{}", notice.id),
        incident: notice.id.to_string(),
        sequence: 1,
        event: PageEvent::Opened,
        test: false,
        at: BEGAN.plus(8).start(),
        severity: Severity::Critical,
        told_as: [Severity::Critical].into(),
        services: vec![text("ingest")],
        state: text("open"),
        since: BEGAN.start(),
        summary: text("ingest: udp in every region (6/6), 100 % lost; nothing else"),
        rules: judge.one().parts["ingest"].extent.rules.clone(),
        window: Some(Sums { seconds: 8, scheduled: 50, delivered: 0, lost: 48 }),
        measured: None,
        total: None,
        acceptable: Some(AcceptableLoss::default()),
        vantages: Some(Share { of: 6, count: 5 }),
        questions: Questions { one_zone: Answer::No, one_protocol: Answer::Yes },
        blame: Blame::Service,
        against: vec![
            text("tcp from the same vantage points loses nothing"),
            text("1 vantage point of 6 does not see it"),
        ],
        evidence: vec![text("confirm timeout, 48 of 48")],
        last_change: Some(text("deploy")),
        changed: vec![],
        also_open: vec![text("billing")],
        owner: Some(text("ingest team")),
        runbook: Some(text("https://runbooks.example.com/ingest")),
        url: Some(format!("https://collector.example.net/incidents/{}", notice.id)),
        links: vec![],
    };
    assert_eq!(page, expected);
}

#[test]
fn what_is_not_known_is_left_out() {
    let (judge, notice) = opened();
    let page = page_of(&order(&notice, Message::Opened), &subject(judge.one(), None));
    assert_eq!((page.vantages, page.url, page.last_change), (None, None, None));
    assert!(page.against.is_empty() && page.evidence.is_empty());
}

#[test]
fn an_update_says_what_is_new_to_its_receiver() {
    let (mut judge, notice) = opened();
    let worse = Observation {
        summary: "ingest: everything in every region (6/6), 100 % lost; nothing else".to_owned(),
        ..lost("ingest", "")
    };
    judge.step(Event::Acknowledged { id: notice.id.clone(), by: "alice".to_owned() });
    let told = judge.sees(&[worse], 90);
    assert_eq!(told.len(), 1, "{told:?}");
    let ask = |taken| page_of(&order(&told[0], Message::Updated), &subject(judge.one(), taken));
    let page = ask(Some(1));
    assert_eq!((page.event, page.sequence), (PageEvent::Updated, 2));
    assert_eq!(page.at, judge.one().told.as_ref().unwrap().at.start());
    let was = "was ingest: udp in every region (6/6), 100 % lost; nothing else";
    assert_eq!(page.changed, [was, "alice is on it"]);
    // One that took the newest is told nothing new, and one that took nothing has nothing to compare with.
    assert!(ask(Some(2)).changed.is_empty() && ask(None).changed.is_empty());
}

#[test]
fn every_severity_that_was_told_is_known_to_the_page() {
    let (mut judge, _) = opened();
    let less = Observation { is_down: false, ..lost("ingest", "protocol=udp") };
    let told = judge.sees(&[less], 400);
    assert_eq!(told.last().unwrap().severity, Severity::Warning);
    let page = page_of(&order(told.last().unwrap(), Message::Updated), &subject(judge.one(), Some(1)));
    assert_eq!(page.severity, Severity::Warning);
    assert_eq!(page.told_as, [Severity::Warning, Severity::Critical].into());
    assert_eq!(page.changed, ["severity warning, was critical"]);
}

#[test]
fn an_end_says_how_it_ended() {
    type Ending = fn(&mut Judge, &Notice) -> Vec<Notice>;
    let recovers: Ending = |judge, _| judge.sees(&[clear("ingest")], 1);
    let removed: Ending =
        |judge, _| judge.step(Event::Removed { tag: Tag::Service, value: "ingest".to_owned() });
    let by_hand: Ending =
        |judge, notice| judge.step(Event::Resolved { id: notice.id.clone(), by: "bob".to_owned() });
    let table = [
        (Message::Resolved, recovers, ""),
        (Message::FiredAndRecovered, recovers, "; it was over before this could be told"),
        (Message::Resolved, removed, "; removed from the configuration, not recovered"),
        (Message::Resolved, by_hand, "; resolved by bob"),
    ];
    for (message, ending, tail) in table {
        let (mut judge, notice) = opened();
        let ended = judge.now;
        let told = ending(&mut judge, &notice);
        let page = page_of(&order(&told[0], message), &subject(judge.one(), Some(1)));
        let head = "ingest: udp in every region (6/6), 100 % lost; nothing else";
        assert_eq!(page.summary, format!("{head}{tail}"));
        assert_eq!((page.event, page.sequence, &*page.state), (PageEvent::Resolved, 2, "resolved"));
        assert_eq!((page.key, page.at), (notice.key, ended.start()));
    }
}

/// What is left in the last window that fires is a few per cent of what was lost.
#[test]
fn an_end_says_what_was_lost_in_all_and_how_bad_it_was() {
    let (mut judge, notice) = opened();
    let worst = lost("ingest", "protocol=udp");
    let window =
        |lost| Firing { seconds: 120, reach: 120, scheduled: 720, judged: 720, lost, ..worst.firing[0] };
    let left = Observation {
        summary: "ingest: udp in every region (6/6), 7.5 % lost; nothing else".to_owned(),
        firing: vec![window(54)],
        counts: Counts { judged: 720, lost: 54, late: 0 },
        grounds: Grounds { evidence: vec!["what is left".to_owned()], against: vec![] },
        ..lost("ingest", "")
    };
    judge.sees(&[left], 5);
    let counts = Counts { judged: 780, lost: 54, late: 0 };
    let told = judge.sees(&[Observation { counts, ..clear("ingest") }], 1);
    let page = page_of(&order(&told[0], Message::Resolved), &subject(judge.one(), Some(1)));
    assert_eq!(page.summary, "ingest: udp in every region (6/6), 100 % lost; nothing else");
    assert_eq!(page.total, Some(Total { judged: 780, lost: 54, seconds: 14, worst: 1.0 }));
    assert_eq!(page.window, Some(Sums { seconds: 8, scheduled: 50, delivered: 0, lost: 48 }));
    assert_eq!((page.rules[0].matches.clone(), page.evidence), (predicate("protocol=udp"), vec![]));
    let text = explain(judge.one(), None, judge.now);
    let first = format!("{}: ingest: udp in every region (6/6), 100 % lost", notice.id);
    assert!(text.starts_with(&first), "{text}");
}

#[test]
fn what_speaks_for_a_fault_and_what_against_are_told_apart() {
    let (seen, not_seen) = ("6 vantages lose it", "1 vantage point of 6 does not see it");
    let unfit = "other protocols are not well either";
    let table = [
        (Blame::Service, vec![seen], vec![unfit, not_seen]),
        (Blame::Path, vec![seen, not_seen], vec![unfit]),
    ];
    for (blame, evidence, against) in table {
        let grounds = Grounds { evidence: vec![seen.to_owned()], against: vec![unfit.to_owned()] };
        let mut judge = Judge::new();
        let told = judge.sees(&[Observation { blame, grounds, ..lost("ingest", "protocol=udp") }], 9);
        let around = Around { vantages: Some(6), ..Around::default() };
        let subject = Subject { around, ..subject(judge.one(), None) };
        let page = page_of(&order(&told[0], Message::Opened), &subject);
        assert_eq!((page.evidence, page.against), (owned(&evidence), owned(&against)));
        let text = explain(judge.one(), None, judge.now);
        let said = format!("    For it: {seen}.\n    Against it: {unfit}.\n");
        assert!(text.contains(&said), "{text}");
    }
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(ToString::to_string).collect()
}

/// A window is shown as far as the life of what is lost reaches, and what rounds to nothing is not said.
#[test]
fn a_young_fleet_is_not_said_to_have_been_there_before() {
    let base = lost("ingest", "protocol=udp");
    let young = Firing { seconds: 1_800, reach: 723, scheduled: 4_338, judged: 4_330, ..base.firing[0] };
    for (scattered, is_said) in [(0.0004, false), (0.0006, true)] {
        let extent = Extent { scattered, ..base.extent.clone() };
        let mut judge = Judge::new();
        judge.sees(&[Observation { firing: vec![young], extent, ..base.clone() }], 90);
        let text = explain(judge.one(), None, judge.now);
        let said =
            "In 30 min, of which 12 min 3 s since its first probe, 48 of 4330 lost (1.1 %), 8 not measured;";
        assert!(text.contains(said), "{text}");
        assert_eq!(text.contains("scattered"), is_said, "{text}");
    }
}

#[test]
fn of_several_services_each_cause_says_whose_it_is() {
    let mut judge = Judge::new();
    judge.sees(&[lost("ingest", "protocol=udp")], 9);
    let both = [lost("billing", "protocol=udp"), lost("ingest", "protocol=udp")];
    let told = judge.sees(&both, 90);
    let page = page_of(&order(told.last().unwrap(), Message::Updated), &subject(judge.one(), Some(1)));
    assert_eq!(page.services, ["ingest", "billing"], "the one that it began with first");
    let matches: Vec<_> = page.rules.into_iter().map(|rule| rule.matches).collect();
    assert_eq!(
        matches,
        [predicate("service=billing,protocol=udp"), predicate("service=ingest,protocol=udp")]
    );
    assert_eq!(page.changed.last().unwrap(), "billing is touched too");
}

#[test]
fn of_what_is_no_loss_nothing_is_made_up() {
    let mut judge = Judge::new();
    let condition = Condition {
        cause: Cause::SilentRegion { region: "eu-west-1".to_owned() },
        holds: true,
        after: 0,
        severity: Severity::Error,
        services: vec!["ingest".to_owned()],
        summary: "we cannot see eu-west-1".to_owned(),
        measured: Some("Nothing is measured from there.".to_owned()),
        blame: Blame::Unclear,
        owner: None,
        runbook: None,
        shadow: false,
    };
    let told = judge.step(Event::Observed(Observed { conditions: vec![condition], ..Observed::default() }));
    let around = Around { vantages: Some(6), ..Around::default() };
    let page = page_of(&order(&told[0], Message::Opened), &Subject { around, ..subject(judge.one(), None) });
    assert_eq!((&*page.summary, page.severity), ("we cannot see eu-west-1", Severity::Error));
    assert_eq!((page.window, page.vantages, page.blame), (None, None, Blame::Unclear));
    assert_eq!((page.measured.as_deref(), page.total), (Some("Nothing is measured from there."), None));
    assert_eq!(page.questions, Questions { one_zone: Answer::CannotTell, one_protocol: Answer::CannotTell });
    assert!(page.rules.is_empty() && page.against.is_empty());
}

#[test]
fn a_page_says_where_it_is_written_what_to_do() {
    let (url, theirs) = ("https://collector.example.net/", "https://runbooks.example.com/ingest");
    let ours = |name: &str| Some(format!("https://collector.example.net/runbooks/{name}"));
    let blind = Cause::Blind { service: "ingest".to_owned() };
    let slow = Cause::Slow { service: "ingest".to_owned(), phase: Phase::Tls };
    let table = [
        (slow.clone(), Blame::Unclear, Some(theirs), Some(url), Some(theirs.to_owned())),
        (slow.clone(), Blame::Unclear, Some(theirs), None, Some(theirs.to_owned())),
        (slow.clone(), Blame::Unclear, None, Some(url), ours("slow")),
        (slow, Blame::Unclear, None, None, None),
        // What helps a service does not help whoever looks at it.
        (blind.clone(), Blame::Unclear, Some(theirs), Some(url), ours("service-blind")),
        (blind, Blame::Reader, Some(theirs), Some(url), ours("reader-lags")),
    ];
    for (cause, blame, runbook, url, expected) in table {
        let mut judge = Judge::new();
        let condition = Condition {
            cause: cause.clone(),
            holds: true,
            after: 0,
            severity: Severity::Error,
            services: vec!["ingest".to_owned()],
            summary: "it is amiss".to_owned(),
            measured: None,
            blame,
            owner: None,
            runbook: runbook.map(str::to_owned),
            shadow: false,
        };
        let told =
            judge.step(Event::Observed(Observed { conditions: vec![condition], ..Observed::default() }));
        let around = Around { collector_url: url.map(str::to_owned), ..Around::default() };
        let subject = Subject { around, ..subject(judge.one(), None) };
        let page = page_of(&order(&told[0], Message::Opened), &subject);
        assert_eq!(page.runbook, expected, "{cause}, {runbook:?}, {url:?}");
    }
}

#[test]
fn what_came_back_is_said_so() {
    let (mut judge, _) = opened();
    judge.sees(&[clear("ingest")], 60);
    let told = judge.sees(&[lost("ingest", "protocol=udp")], 30);
    assert_eq!(judge.one().state, State::Reopened);
    let page = page_of(&order(&told[0], Message::Opened), &subject(judge.one(), Some(2)));
    assert_eq!(page.sequence, 3);
    assert_eq!(page.evidence, ["it was over and came back, 1 time, last at 2026-11-21T03:16:09Z"]);
    assert!(page.changed.is_empty(), "to one that was told of the end, all of it is new");
}

#[test]
fn a_test_is_a_test_and_its_end_another_message() {
    let (_, notice) = opened();
    let test = test_page(&order(&notice, Message::Test));
    let over = test_page(&order(&notice, Message::TestOver));
    assert!(test.test && over.test);
    assert_eq!((test.event, over.event), (PageEvent::Opened, PageEvent::Resolved));
    assert_eq!((test.severity, test.sequence, over.sequence), (Severity::Info, 1, 2));
    assert_eq!(test.summary, "a test of this receiver (`pager`): nothing is wrong");
}

#[test]
fn the_last_change_is_of_these_services_and_of_the_last_day() {
    let (judge, _) = opened();
    let change = |ago: i64, service: Option<&'static str>, text: &'static str| Changed {
        at: Second(BEGAN.0.saturating_add_signed(-ago)),
        kind: "deploy",
        text: text.into(),
        service,
        by: Some("ci"),
    };
    let table = [
        (vec![], None),
        (vec![change(86_400, None, "old")], None),
        (vec![change(20, Some("other"), "else")], None),
        (
            vec![change(20, Some("ingest"), "release 42"), change(90, None, "release 41")],
            Some("deploy of ingest by ci, release 42, 2026-11-21T03:14:32Z, 20 s before it began"),
        ),
        (
            vec![change(-75, None, "rolled back")],
            Some("deploy by ci, rolled back, 2026-11-21T03:16:07Z, 1 min 15 s after it began"),
        ),
    ];
    for (changes, expected) in table {
        assert_eq!(last_change(changes.clone(), judge.one()).as_deref(), expected, "{changes:?}");
    }
}

#[test]
fn the_first_causes_are_counted_and_the_rarest_summed_up() {
    let loss = |phase, cause| Loss { phase, cause, reached: None, address: None };
    let lost = |phase, fault, count| std::iter::repeat_n(loss(phase, LossCause::Service(fault)), count);
    let losses: Vec<Loss> = lost(Phase::Connect, Fault::Refused, 8)
        .chain(lost(Phase::Confirm, Fault::Timeout, 30))
        .chain(lost(Phase::Confirm, Fault::Status(503), 5))
        .chain(lost(Phase::Dns, Fault::NameNotFound, 1))
        .chain(lost(Phase::Tls, Fault::BadCertificate, 4))
        .chain([loss(Phase::Connect, LossCause::Local(LocalFault::NoPorts))])
        .collect();
    let expected = [
        "confirm timeout, 30 of 48",
        "connect refused, 8 of 48",
        "confirm status 503, 5 of 48",
        "5 slots by other causes",
    ];
    assert_eq!(first_causes(&losses), expected);
    assert_eq!(first_causes(&losses[44..48]), ["tls bad certificate, 4 of 4"]);
    assert!(first_causes(&[]).is_empty());
}

#[test]
fn what_else_is_wrong_is_named() {
    let (mut judge, notice) = opened();
    let billing = Observation {
        summary: "billing: eu-west-1 only, 100 % lost".to_owned(),
        ..lost("billing", "region=eu-west-1")
    };
    judge.sees(&[billing, lost("ingest", "protocol=udp")], 30);
    let other = "billing: eu-west-1 only, 100 % lost, since 2026-11-21T03:15:01Z";
    assert_eq!(also_open(judge.incidents.iter(), &notice.id), [other]);
    assert_eq!(also_open(judge.incidents.iter(), &Id::given("none")).len(), 2);
}

#[test]
fn why_it_paged_is_told_as_a_person_would() {
    let (mut judge, notice) = opened();
    let paging = Paging::new(vec![("pager".to_owned(), Receiver::default())], vec![], Default::default());
    let mut outbox = outbox::Outbox::default();
    let now = judge.now.start();
    outbox.step(outbox::Event::Told(notice.clone()), &paging, now, 0);
    let ended = Ended {
        id: notice.id.clone(),
        receiver: "pager".to_owned(),
        attempt: 0,
        sent: Sent::Taken { say_again: None },
        receipt: Some("took `opened`: 202 Accepted".to_owned()),
    };
    let (finished, receipt) = ended.events();
    outbox.step(finished, &paging, now, 0);
    judge.step(receipt.unwrap());
    judge.step(Event::Acknowledged { id: notice.id.clone(), by: "alice".to_owned() });
    let note = Event::Noted {
        id: notice.id.clone(),
        by: "alice".to_owned(),
        text: "looks like the UDP relay".to_owned(),
    };
    judge.step(note);
    let late = Event::Late {
        service: "ingest".to_owned(),
        lost_seconds: vec![Span::before(BEGAN.plus(2), 2)],
        counts: Counts { judged: 60, lost: 54, late: 3 },
    };
    judge.step(late);
    let expected = format!(
        "\
{id}: ingest: udp in every region (6/6), 100 % lost; nothing else
critical loss, acknowledged, since 2026-11-21T03:14:52Z, 1 min 8 s. Opened 8 s after the first sign.

Why ingest was told, at 2026-11-21T03:15:00Z: ingest: udp in every region (6/6), 100 % lost; nothing else
  It had held for 8 s; 8 s are asked.
  By its windows no usual burst explains it; 5 vantage points in 2 networks agreed.
  In 8 s 48 of 48 lost (100 %), 2 not measured; 0.5 % may be lost, and 4 are too many.
  Cause: protocol udp: 48 of 48 lost, 100 % of the loss.
  Just one zone? no. All of one protocol? yes.
  Whose fault: the service.
  Since it began 54 of 60 lost, of which 3 were found stored later.
  9 seconds with loss, between 2026-11-21T03:14:52Z and 2026-11-21T03:15:01Z.

Who was told:
  pager knows that it is there; 1 message.
  2026-11-21T03:15:01Z pager: took `opened`: 202 Accepted
  alice is on it since 2026-11-21T03:15:01Z.

What people said:
  2026-11-21T03:15:01Z alice: looks like the UDP relay

What happened:
  2026-11-21T03:14:52Z the first sign
  2026-11-21T03:15:00Z opened
  2026-11-21T03:15:00Z told that it is there, critical: ingest: udp in every region (6/6), 100 % lost; nothing else
  2026-11-21T03:15:01Z alice is on it
  2026-11-21T03:15:01Z 2 seconds with loss were told late",
        id = notice.id
    );
    assert_eq!(explain(judge.one(), outbox.case(&notice.id), BEGAN.plus(68)), expected);
}

#[test]
fn of_what_nobody_was_told_it_is_said_so() {
    let mut judge = Judge::new();
    judge.sees(&[lost("ingest", "protocol=udp")], 3);
    let text = explain(judge.one(), None, judge.now);
    assert!(
        text.contains("suspected, since 2026-11-21T03:14:52Z, 3 s. Not opened: nobody was told."),
        "{text}"
    );
    assert!(text.contains("Suspected, and not told: ingest: udp"), "{text}");
    assert!(text.contains("Who was told:\n  nobody\n"), "{text}");
}

#[test]
fn who_waits_to_be_told_is_known_by_receiver() {
    let (_, notice) = opened();
    let receivers = ["pager", "chat"]
        .map(|name| (name.to_owned(), Receiver { wakes: name == "pager", ..Receiver::default() }));
    let paging = Paging::new(receivers.to_vec(), vec![], Default::default());
    let mut outbox = outbox::Outbox::default();
    let began = Timestamp(1_000_000_000);
    let now = began.plus(50_000_000);
    outbox.step(outbox::Event::Told(notice.clone()), &paging, began, 0);
    let waiting =
        |outbox: &outbox::Outbox| oldest_waiting(outbox, &paging, now).into_keys().collect::<Vec<_>>();
    assert_eq!(
        oldest_waiting(&outbox, &paging, now),
        [("chat".to_owned(), began), ("pager".to_owned(), began)].into()
    );
    assert_eq!(untold_since(&outbox), Some(began));
    let taken = |receiver: &str, attempt| outbox::Event::Finished {
        id: notice.id.clone(),
        receiver: receiver.to_owned(),
        attempt,
        sent: Sent::Taken { say_again: None },
    };
    outbox.step(taken("pager", 0), &paging, began, 0);
    assert_eq!((waiting(&outbox), untold_since(&outbox)), (vec!["chat".to_owned()], None));
    outbox.step(taken("chat", 0), &paging, began, 0);
    assert!(waiting(&outbox).is_empty());
    // News of what they know is nothing that waits; the end is.
    let told = |revision, change| outbox::Event::Told(Notice { revision, change, ..notice.clone() });
    outbox.step(told(2, outbox::Change::Updated), &paging, began, 0);
    assert!(waiting(&outbox).is_empty());
    outbox.step(told(3, outbox::Change::Resolved), &paging, now, 0);
    assert_eq!(
        oldest_waiting(&outbox, &paging, now),
        [("chat".to_owned(), now), ("pager".to_owned(), now)].into()
    );
    assert_eq!(untold_since(&outbox), None);
}
