//! An agent and collectors that do not always take what it reports: whatever they answer, every slot arrives once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backlog;
mod rig;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aviary_agent::Agent;
use aviary_core::{Clock as _, Fault, LocalFault, Micros, Outcome, Phase, Second};
use aviary_probe::{
    SystemClock,
    scripted::{Scripted, Weather},
};
use aviary_wire::report::Report;
use tokio::time::sleep;

use crate::rig::{Answer, Peer, TOKEN, Told, agent, clear, clock, millis, refused, slots, until, whole};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn taken(told: &[Told]) -> usize {
    told.iter().filter(|told| told.answer == Answer::Take).count()
}

/// Of how many seconds slots were taken: what a busy machine starts too late leaves in reports of its own.
fn seconds_taken(told: &[Told]) -> usize {
    let taken = told.iter().filter(|told| told.answer == Answer::Take);
    taken.flat_map(|told| slots(&told.report)).map(|slot| slot.1).collect::<BTreeSet<_>>().len()
}

/// Everything was delivered, but for the last second, which the end of the agent cut short, and for the little that a
/// busy machine did not get to: at most half.
#[track_caller]
fn assert_delivered(slots: &BTreeMap<(u32, Second), Outcome>) {
    let last = slots.keys().map(|(_, second)| *second).max().unwrap();
    let mut left_out = 0;
    for ((place, second), outcome) in slots {
        let is_left_out =
            matches!(outcome, Outcome::Missed | Outcome::Local { fault: LocalFault::Starved, .. });
        assert!(
            is_left_out || matches!(outcome, Outcome::Delivered(_)),
            "series {place} at {second}: {outcome:?}"
        );
        left_out += usize::from(is_left_out && *second < last);
    }
    assert!(left_out * 2 <= slots.len(), "{left_out} of {} slots were left out", slots.len());
}

#[tokio::test]
async fn the_roster_travels_until_it_was_taken_and_again_when_it_is_asked_for() {
    let mut left = 2;
    let busy = move |_: &_| {
        left -= 1;
        if left < 0 { Answer::Take } else { Answer::error(500, "internal") }
    };
    let peer = Peer::start(busy).await;
    let agent = agent(&[&peer], 3, clear);
    let told = peer.until(|told| taken(told) >= 4).await;
    let first = told.iter().position(|told| told.answer == Answer::Take).unwrap();
    assert_eq!(first, 2);
    assert!(told[..=first].iter().all(|told| told.report.roster.is_some()), "until one was taken");
    assert!(told[first + 1..].iter().all(|told| told.report.roster.is_none()), "and then no more");

    // The collector starts again: it knows nobody. A busy machine pauses as well, but not time after time.
    let mut pauses = Vec::new();
    let is_at_once = loop {
        let mut is_known = false;
        peer.answers(move |report| {
            is_known |= report.roster.is_some();
            if is_known { Answer::Take } else { Answer::error(400, "unknown_roster") }
        });
        let before = peer.told().len();
        let told = peer.until(|told| told.len() >= before + 4).await;
        let (asked, answered) = (&told[before], &told[before + 1]);
        assert_eq!((asked.report.roster.is_none(), answered.report.roster.is_some()), (true, true));
        assert!(told[before + 2..].iter().all(|told| told.report.roster.is_none()));
        pauses.push(millis(asked.at, answered.at));
        // The pause after a failure would be of 427 ms for this agent.
        let is_at_once = pauses.last() < Some(&400) && asked.report.sequence == answered.report.sequence;
        if is_at_once || pauses.len() == 3 {
            break is_at_once;
        }
    };
    assert!(is_at_once, "the same report came again, but after {pauses:?} ms");
    assert_eq!(agent.stop().await, 0);
    assert_delivered(&whole(&[&peer]));
}

/// Whether reports that came so many milliseconds after each other, the shortest first, leave once a second.
fn is_once_a_second(apart: &[u64]) -> bool {
    apart.len() >= 3
        && apart.len() as u64 <= apart.iter().sum::<u64>() / 1_000 + 2
        && (500..1_500).contains(&apart[apart.len() / 2])
}

/// Whether losses that were told after so many milliseconds, the shortest first, did not wait for the second to be over.
fn is_at_once(took: &[u64]) -> bool {
    took[took.len() / 2] < 300 && took[took.len() - 1] < 900
}

#[tokio::test]
async fn a_loss_leaves_at_once_and_deliveries_once_a_second() {
    const REFUSED: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };
    let is_storm = Arc::new(AtomicBool::new(false));
    let storm = Arc::clone(&is_storm);
    let closed_at = Arc::new(Mutex::new(HashMap::<u32, Vec<Micros>>::new()));
    let noted = Arc::clone(&closed_at);
    let weather = move |place: u32| {
        // Held over both, so that whoever counts after a storm misses none of it.
        let mut noted = noted.lock().unwrap();
        if !storm.load(Ordering::Relaxed) {
            return clear(place);
        }
        noted.entry(place).or_default().push(clock());
        Weather::Refused
    };
    let peer = Peer::start(|_| Answer::Take).await;
    let agent = agent(&[&peer], 5, weather);
    sleep(seconds(1)).await;
    // A slot that a busy machine started too late is no delivery, and leaves at once as well.
    let is_calm = |told: &Told| {
        slots(&told.report).iter().all(|(_, _, outcome)| matches!(outcome, Outcome::Delivered(_)))
    };
    let mut apart = Vec::new();
    for _ in 0..3 {
        let before = peer.told().len();
        sleep(seconds(5)).await;
        let told = peer.told();
        let calm = told[before..].windows(2).filter(|pair| pair.iter().all(is_calm));
        apart.extend(calm.map(|pair| millis(pair[0].at, pair[1].at)));
        apart.sort_unstable();
        if is_once_a_second(&apart) {
            break;
        }
    }
    assert!(is_once_a_second(&apart), "reports {apart:?} ms apart");

    let refused = |told: &[Told]| {
        let mut arrived: HashMap<u32, Vec<Micros>> = HashMap::new();
        for told in told {
            let slots = slots(&told.report).into_iter();
            for (place, _, _) in slots.filter(|(_, _, outcome)| *outcome == REFUSED) {
                arrived.entry(place).or_default().push(told.at);
            }
        }
        arrived
    };
    let counts = |lists: &HashMap<u32, Vec<Micros>>| -> BTreeMap<_, _> {
        lists.iter().map(|(place, list)| (*place, list.len())).collect()
    };
    let count = |lists: &HashMap<u32, Vec<Micros>>| lists.values().map(Vec::len).sum::<usize>();
    let (mut lost, mut took) = (BTreeMap::new(), Vec::new());
    let is_told = |lost: &BTreeMap<_, usize>, took: &[u64]| {
        lost.len() == 5 && lost.values().all(|count| *count >= 2) && is_at_once(took)
    };
    // What a busy machine holds up is told later, or not even tried, but not storm after storm.
    for _ in 0..3 {
        closed_at.lock().unwrap().clear();
        let before = peer.told().len();
        is_storm.store(true, Ordering::Relaxed);
        sleep(seconds(3)).await;
        is_storm.store(false, Ordering::Relaxed);
        let told =
            peer.until(|told| count(&refused(&told[before..])) == count(&closed_at.lock().unwrap())).await;
        let (closed_at, arrived) = (closed_at.lock().unwrap().clone(), refused(&told[before..]));
        lost = counts(&closed_at);
        assert_eq!(lost, counts(&arrived), "every loss is told");
        let pairs = closed_at.iter().flat_map(|(place, closed)| closed.iter().zip(&arrived[place]));
        took = pairs.map(|(closed, arrived)| millis(*closed, *arrived)).collect();
        took.sort_unstable();
        if is_told(&lost, &took) {
            break;
        }
    }
    // Not with the next second's report.
    assert!(is_told(&lost, &took), "losses {lost:?} were told after {took:?} ms");
    assert_eq!(agent.stop().await, 0);
    whole(&[&peer]);
}

#[tokio::test]
async fn a_collector_that_says_when_to_come_back_is_believed() {
    let peer = Peer::start(|_| Answer::Take).await;
    let agent = agent(&[&peer], 3, clear);
    peer.until(|told| told.len() >= 3).await;
    let mut is_told = false;
    peer.answers(move |_| {
        if std::mem::replace(&mut is_told, true) {
            return Answer::Take;
        }
        let headers = "Content-Type: application/json\r\nRetry-After: 11\r\n";
        Answer::Say {
            status: 503,
            headers,
            body: r#"{"error":{"code":"busy","message":"later"}}"#.to_owned(),
        }
    });
    let is_busy = |told: &Told| told.answer != Answer::Take;
    let told =
        peer.until(|told| told.last().is_some_and(|last| taken(told) < told.len() && !is_busy(last))).await;
    let busy = told.iter().position(is_busy).unwrap();
    let waited = millis(told[busy].at, told[busy + 1].at);
    assert!((10_950..20_000).contains(&waited), "came back after {waited} ms");
    // What closed meanwhile comes as one report, and not second by second.
    let told = peer.until(|told| told.len() >= busy + 4).await;
    let most = told.iter().map(|told| slots(&told.report).len() as u64).max().unwrap();
    assert!((10 * 3..=(waited / 1_000 + 3) * 3).contains(&most), "a report of {most} slots");
    assert_eq!(agent.stop().await, 0);
    whole(&[&peer]);
}

#[tokio::test]
async fn after_an_outage_everything_arrives_the_newest_first() {
    let peer = Peer::start(|_| Answer::Take).await;
    let agent = agent(&[&peer], 3, clear);
    peer.until(|told| told.len() >= 2).await;
    let apart = |told: &[Told]| told.windows(2).map(|pair| millis(pair[0].at, pair[1].at)).max().unwrap();

    peer.answers(|_| Answer::error(500, "internal"));
    sleep(seconds(4)).await;
    let failing = peer.told();
    assert!(apart(&failing) < 5_000 && failing.len() < 14, "{} tries, {} ms", failing.len(), apart(&failing));

    peer.close().await;
    sleep(seconds(4)).await;
    peer.answers(|_| Answer::Hang);
    let opened = clock();
    peer.open().await;
    let told = peer.until(|told| told.len() >= failing.len() + 2).await;
    let hanging = &told[failing.len()..];
    assert!(millis(opened, hanging[0].at) < 5_000 && apart(hanging) < 8_000, "{} ms", apart(hanging));

    let before = peer.told().len();
    peer.answers(|_| Answer::Take);
    let newest = SystemClock.wall().second();
    peer.until(|told| taken(&told[before..]) >= 3).await;
    assert_eq!(agent.stop().await, 0);
    let told = peer.told();
    let first = told[before..].iter().find(|told| told.answer == Answer::Take).unwrap();
    let seconds: BTreeSet<_> = slots(&first.report).into_iter().map(|(_, second, _)| second).collect();
    assert!(seconds.last().unwrap().plus(4) >= newest, "the first report tells how it is now");
    assert!(seconds.len() >= 8, "and what waited with it: {} seconds", seconds.len());
    assert_delivered(&whole(&[&peer]));
}

#[tokio::test]
async fn the_second_collector_is_tried_at_once_when_the_first_refuses() {
    // A busy machine may be late, but not time after time.
    let mut took = Vec::new();
    let (first, second, agent) = loop {
        let (first, second) = (Peer::closed(|_| Answer::Take).await, Peer::start(|_| Answer::Take).await);
        let agent = agent(&[&first, &second], 3, clear);
        let started = clock();
        let told = second.until(|told| told.len() >= 2).await;
        took.push(millis(started, told[0].at));
        // The pause after a failure would be of 427 ms for this agent.
        if took.last() < Some(&400) {
            break (first, second, agent);
        }
        assert!(took.len() < 3, "{took:?} ms");
        agent.stop().await;
    };

    // And back again, when the second goes.
    first.open().await;
    second.close().await;
    let last = second.told().pop().unwrap();
    let told = first.until(|told| told.len() >= 2 && seconds_taken(told) >= 2).await;
    assert!(millis(last.at, told[0].at) < 10_000, "{} ms", millis(last.at, told[0].at));
    assert!(told[0].report.roster.is_some() && told[1].report.roster.is_none());
    assert_eq!(agent.stop().await, 0);
    whole(&[&first, &second]);
}

#[tokio::test]
async fn what_somebody_on_the_way_answers_loses_nothing() {
    let page = "<html><body>an error page of a proxy</body></html>";
    let mut answers = vec![
        Answer::foreign(404, page),
        Answer::foreign(400, page),
        Answer::foreign(413, page),
        Answer::foreign(400, ""),
        Answer::foreign(302, page),
        Answer::foreign(200, page),
        Answer::foreign(204, ""),
        Answer::foreign(413, r#"{"error":"too large"}"#),
        Answer::error(404, "not_found"),
        Answer::error(400, "cut_report"),
    ];
    let count = answers.len();
    let peer = Peer::start(move |_| answers.pop().unwrap_or(Answer::Take)).await;
    let agent = agent(&[&peer], 3, clear);
    let told = peer.until(|told| taken(told) >= 3).await;
    assert_eq!(told.len() - taken(&told), count);
    assert_eq!(agent.stop().await, 0);
    assert!(peer.told().iter().all(|told| told.report.dropped == 0));
    whole(&[&peer]);
}

fn tells(report: &Report, second: Second) -> bool {
    slots(report).iter().any(|slot| slot.1 == second)
}

/// Waits until `bad` was refused of all three series, and the agent has dropped and counted whatever was refused: nothing
/// of that comes again.
async fn until_dropped(peer: &Peer, bad: Second, agent: &Agent<Scripted, SystemClock>) {
    let is_dropped = |told: &[Told]| {
        let refused = refused(told);
        (0..3).all(|place| refused.contains(&(place, bad))) && agent.stats().dropped == refused.len() as u64
    };
    let told = peer.until(is_dropped).await;
    let all = peer.until(|all| all.len() >= told.len() + 2).await;
    assert!(all[told.len()..].iter().all(|told| told.answer.is_taken()), "{:#?}", &all[told.len()..]);
}

#[tokio::test]
async fn what_our_collector_refuses_for_good_is_dropped_and_counted() {
    for code in ["bad_report", "clock_ahead", "report_too_large"] {
        let peer = Peer::start(|_| Answer::Take).await;
        let agent = agent(&[&peer], 3, clear);
        peer.until(|told| told.len() >= 2).await;
        // A second that is still to come: whichever reports tell it, alone or together, are refused.
        let bad = SystemClock.wall().second().plus(2);
        peer.answers(move |report| if tells(report, bad) { Answer::error(400, code) } else { Answer::Take });
        until_dropped(&peer, bad, &agent).await;
        assert_eq!(agent.stop().await, 0, "{code}: what was refused is no longer waiting");
        let mut told = peer.told();
        let first = told.iter().find(|told| !told.answer.is_taken()).unwrap().report.sequence;
        let lost = refused(&told).len() as u64;
        told.sort_by_key(|told| told.report.sequence);
        let dropped: Vec<_> = told.iter().map(|told| (told.report.sequence, told.report.dropped)).collect();
        // Those that were made before do not know of it yet.
        let is_expected = |(of, dropped): &(u64, u64)| *of > first || *dropped == 0;
        assert!(dropped.iter().all(is_expected), "{code}: after {first}: {dropped:?}");
        assert!(dropped.is_sorted_by_key(|it| it.1) && dropped.last().unwrap().1 == lost, "{dropped:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_known_yet_is_shown_until_it_is() {
    let peer = Peer::start(|_| Answer::error(401, "unauthorized")).await;
    let agent = agent(&[&peer], 3, clear);
    peer.until(|told| told.len() >= 3).await;
    peer.answers(|_| Answer::Take);
    let told = peer.until(|told| seconds_taken(told) >= 2).await;
    let bearer = format!("Bearer {TOKEN}");
    assert!(told.iter().all(|told| told.token.as_ref() == Some(&bearer)));
    assert_eq!(agent.stop().await, 0);
    whole(&[&peer]);
}

#[tokio::test]
async fn an_end_that_nobody_takes_note_of_is_told_and_does_not_last() {
    for answer in [None, Some(Answer::Hang), Some(Answer::error(500, "internal"))] {
        let peer = Peer::start(|_| Answer::Take).await;
        let agent = agent(&[&peer], 3, clear);
        peer.until(|told| taken(told) >= 3).await;
        match answer.clone() {
            Some(answer) => peer.answers(move |_| answer.clone()),
            None => peer.close().await,
        }
        // A hanging push has just begun.
        let again =
            |told: &[Told]| told.iter().filter(|told| Some(&told.answer) == answer.as_ref()).count() >= 2;
        if answer.is_some() {
            peer.until(again).await;
        }
        let observer = agent.observer();
        until(|| {
            let standing = observer.standing();
            standing.shipping.failures >= 1 && standing.spool.slots >= 3
        })
        .await;
        let asked = clock();
        let untaken = agent.stop().await;
        let took = millis(asked, clock());
        assert!(took < 15_000, "{answer:?}: ended after {took} ms");
        // What was closed until the end and not taken, with what the end cut short.
        let stats = observer.standing().stats;
        let told = peer.told();
        let arrived = told.iter().filter(|told| told.answer == Answer::Take);
        let arrived: usize = arrived.map(|told| slots(&told.report).len()).sum();
        assert!(untaken >= 3, "{answer:?}: {untaken}");
        assert_eq!(untaken, stats.closed + stats.skipped - arrived as u64, "{answer:?}");
    }
}

#[tokio::test]
async fn the_last_report_goes_to_whoever_takes_it() {
    for answer in [None, Some(Answer::Hang), Some(Answer::error(503, "busy"))] {
        let (first, second) = (Peer::start(|_| Answer::Take).await, Peer::start(|_| Answer::Take).await);
        let agent = agent(&[&first, &second], 3, clear);
        first.until(|told| seconds_taken(told) >= 2).await;
        match answer.clone() {
            Some(answer) => first.answers(move |_| answer.clone()),
            None => first.close().await,
        }
        assert_eq!(agent.stop().await, 0, "{answer:?}");
        assert!(taken(&second.told()) >= 1, "{answer:?}");
        whole(&[&first, &second]);
    }
}

#[tokio::test]
async fn a_collector_that_started_again_still_gets_the_last_report() {
    let (first, second) = (Peer::start(|_| Answer::Take).await, Peer::closed(|_| Answer::Take).await);
    let agent = agent(&[&first, &second], 3, clear);
    first.until(|told| seconds_taken(told) >= 2).await;
    first.answers(
        |report| {
            if report.roster.is_some() { Answer::Take } else { Answer::error(400, "unknown_roster") }
        },
    );
    let asked = clock();
    assert_eq!(agent.stop().await, 0);
    assert!(
        millis(asked, clock()) < 3_900,
        "the other is not tried until the end: {} ms",
        millis(asked, clock())
    );
    whole(&[&first]);
}
