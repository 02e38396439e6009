//! Orders, and receivers that fail in every way.

use std::time::Duration;

use aviary_core::{Clock as _, page::Sent};
use aviary_notify::{Event as PageEvent, Reason, Retry};
use aviary_probe::scripted::PausedClock;

use super::support::{CHAT, Does, PAGER, Scripted, Stage, pass};
use super::*;

/// Does one thing until so many milliseconds after the start, and takes everything from then on.
fn until(end: u64, does: Does) -> Scripted {
    Scripted::new(move |millis| if millis < end { does } else { Does::Takes })
}

fn well() -> Scripted {
    until(0, Does::Takes)
}

#[tokio::test(start_paused = true)]
async fn what_is_opened_and_over_is_told_once_each() {
    let stage = Stage::new(&[("pager", PAGER, well())]);
    stage.office.open("i");
    pass(10).await;
    stage.office.update("i", 2);
    pass(10).await;
    stage.office.resolve("i");
    pass(10).await;
    let log = stage.log("pager");
    let events: Vec<PageEvent> = log.taken.iter().map(|page| page.event).collect();
    assert_eq!(events, [PageEvent::Opened, PageEvent::Updated, PageEvent::Resolved]);
    assert_eq!((log.came[0].0, log.came[1].0, log.came[2].0), (0, 10_000, 20_000), "at once");
    assert!(log.taken.iter().all(|page| page.key == "aviary:main:i"));
    assert_eq!((stage.figures("pager").delivered, stage.office.cases()), (3, 0));
    let receipts: Vec<String> = stage.office.ended().into_iter().filter_map(|ended| ended.receipt).collect();
    assert_eq!(receipts[0], "took `opened`: 202 Accepted");
}

#[tokio::test(start_paused = true)]
async fn five_minutes_of_500_are_waited_out() {
    for does in [Does::Refuses(Reason::ServerError, Retry::Later), Does::TakesAndFails(Reason::ServerError)] {
        let stage = Stage::new(&[("pager", PAGER, until(300_000, does))]);
        stage.office.open("i");
        pass(400).await;
        {
            let log = stage.log("pager");
            assert!((10..60).contains(&log.came.len()), "{}", log.came.len());
            let taken = log.took(PageEvent::Opened);
            assert!(taken.iter().any(|at| (300_000..331_100).contains(at)), "{taken:?}");
        }
        stage.office.resolve("i");
        pass(10).await;
        let log = stage.log("pager");
        assert_eq!((log.pages, log.resolves, log.overtaken), (1, 1, 0), "{does:?}");
        let refused = stage.figures("pager").refused;
        assert_eq!(refused, [(Reason::ServerError, log.came.len() as u64 - 2)]);
        // What passes by itself is not kept with the incident.
        assert_eq!(stage.office.ended().iter().filter(|ended| ended.receipt.is_some()).count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_time_is_given_it() {
    let busy = Does::Refuses(Reason::RateLimited, Retry::After(Duration::from_secs(20)));
    let stage = Stage::new(&[("pager", PAGER, until(70_000, busy))]);
    stage.office.open("i");
    pass(120).await;
    let came: Vec<u64> = stage.log("pager").came.iter().map(|(at, ..)| at / 1_000).collect();
    assert_eq!(came.len(), 5, "{came:?}");
    assert!(came.windows(2).all(|pair| (20..=22).contains(&(pair[1] - pair[0]))), "{came:?}");
    assert_eq!(stage.log("pager").pages, 1);
}

#[tokio::test(start_paused = true)]
async fn what_recovered_before_it_was_told_wakes_nobody_and_is_noted_once() {
    for does in [
        Does::Refuses(Reason::Unreachable, Retry::Later),
        Does::Refuses(Reason::RateLimited, Retry::After(Duration::from_secs(30))),
    ] {
        let stage = Stage::new(&[("pager", PAGER, until(60_000, does)), ("chat", CHAT, until(60_000, does))]);
        stage.office.open("i");
        pass(30).await;
        stage.office.resolve("i");
        pass(120).await;
        assert!(stage.log("pager").taken.is_empty(), "{does:?}");
        let log = stage.log("chat");
        let taken: Vec<_> = log.taken.iter().map(|page| (page.event, &*page.summary)).collect();
        let note = "ingest: udp in every region (6/6), 100 % lost; nothing else; it was over before this could be told";
        assert_eq!(taken, [(PageEvent::Resolved, note)], "{does:?}");
        assert_eq!(stage.office.cases(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_arrived_is_resolved() {
    for does in [
        Does::TakesAndFails(Reason::Transport),
        Does::TakesAndFails(Reason::ServerError),
        Does::Hangs(true),
        Does::Hangs(false),
    ] {
        let stage = Stage::new(&[("pager", PAGER, until(8_000, does))]);
        stage.office.open("i");
        pass(7).await;
        stage.office.resolve("i");
        pass(30).await;
        let log = stage.log("pager");
        assert_eq!(log.pages, log.resolves, "{does:?}: {:?}", log.came);
        assert!(!log.took(PageEvent::Resolved).is_empty() && log.overtaken == 0, "{does:?}: {:?}", log.came);
        assert_eq!(stage.office.cases(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_dead_delays_no_other() {
    let stage =
        Stage::new(&[("dead", PAGER, Scripted::new(|_| Does::Hangs(false))), ("pager", PAGER, well())]);
    for place in 0..20 {
        stage.office.open(&format!("i{place}"));
    }
    // The outbox lets a receiver have five at once and four under way, and looks again each second.
    pass(5).await;
    assert_eq!(stage.log("pager").pages, 20);
    assert!(stage.log("pager").took(PageEvent::Opened).iter().all(|at| *at <= 1_500));
    assert_eq!(stage.figures("pager").oldest_held, None);
    assert_eq!(stage.figures("dead").oldest_held, Some(support::START));
    pass(60).await;
    let dead = stage.figures("dead");
    assert_eq!(dead.delivered, 0);
    assert!(dead.refused[0].0 == Reason::Timeout && dead.refused[0].1 >= 20, "{dead:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_is_shown_and_not_repeated() {
    let gone = Does::Refuses(Reason::Unauthorized, Retry::Never);
    let stage = Stage::new(&[("pager", PAGER, until(u64::MAX, gone)), ("chat", CHAT, well())]);
    stage.office.open("i");
    pass(120).await;
    assert_eq!(stage.log("pager").came.len(), 1);
    assert_eq!(stage.log("chat").pages, 1);
    let ended = stage.office.ended();
    let refused = ended.iter().find(|ended| ended.receiver == "pager").unwrap();
    assert_eq!(refused.sent, Sent::Refused("it said unauthorized".to_owned()));
    assert_eq!(refused.receipt.as_deref(), Some("refuses `opened` for good: it said unauthorized"));
}

#[tokio::test(start_paused = true)]
async fn a_test_goes_to_one_receiver_and_ends_by_itself() {
    let stage = Stage::new(&[("pager", PAGER, well()), ("chat", CHAT, well())]);
    stage.office.test("t", "pager");
    pass(5).await;
    let log = stage.log("pager");
    let taken: Vec<_> = log.taken.iter().map(|page| (page.event, page.test, page.sequence)).collect();
    assert_eq!(taken, [(PageEvent::Opened, true, 1), (PageEvent::Resolved, true, 2)]);
    assert!(stage.log("chat").came.is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_what_is_not_kept_any_more_the_end_is_told_all_the_same() {
    let stage = Stage::new(&[("pager", PAGER, well())]);
    stage.office.open("i");
    pass(5).await;
    stage.office.forget_all();
    stage.office.resolve("i");
    pass(5).await;
    assert_eq!(stage.log("pager").resolves, 1);
    stage.office.open("j");
    pass(5).await;
    let ended = stage.office.ended();
    assert_eq!(ended.last().unwrap().sent, Sent::Refused("nothing is kept of incident j".to_owned()));
    assert_eq!(stage.log("pager").pages, 1);
}

#[tokio::test(start_paused = true)]
async fn orders_that_are_too_many_or_too_old_are_handed_back() {
    let stage = Stage::new(&[("dead", PAGER, Scripted::new(|_| Does::Hangs(false)))]);
    let orders: Vec<Order> = (0..70)
        .map(|number| {
            let mut order = order(&support::notice(&format!("i{number}")), Message::Opened);
            order.receiver = "dead".to_owned();
            order.attempt.since = support::START;
            order
        })
        .collect();
    let (give, take) = tokio::sync::mpsc::channel(100);
    for order in orders {
        give.send(order).await.unwrap();
    }
    drop(give);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn({
        let sender = std::sync::Arc::clone(&stage.sender);
        async move { sender.run(take, stopped).await }
    });
    // Whoever orders is gone, and so the loop ends; what is under way has its farewell.
    running.await.unwrap();
    let back = Sent::NotTaken { retry_after: None };
    let handed_back = stage.office.ended().iter().filter(|ended| ended.sent == back).count();
    assert_eq!(handed_back, 6, "of 70 that wait 64 are held");
    assert_eq!(stage.figures("dead").turned_away, 6);
    assert_eq!(stage.figures("dead").oldest_held, None, "nothing is held after the end");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_the_outbox_gave_up_is_not_begun() {
    let mut stage = Stage::new(&[("pager", PAGER, well())]);
    // It lies in the queue, since nobody is there to take it.
    stage.stop().await;
    let mut stale = order(&support::notice("i"), Message::Opened);
    stale.attempt.since = support::START;
    pass(30).await;
    let (give, take) = tokio::sync::mpsc::channel(1);
    give.send(stale).await.unwrap();
    drop(give);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    std::sync::Arc::clone(&stage.sender).run(take, stopped).await;
    assert!(stage.log("pager").came.is_empty());
    assert_eq!(stage.office.ended()[0].sent, Sent::NotTaken { retry_after: None });
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_what_is_under_way_but_not_for_long() {
    for (script, expected) in [(well(), 1), (Scripted::new(|_| Does::Hangs(true)), 0)] {
        let mut stage = Stage::new(&[("pager", PAGER, script)]);
        stage.office.open("i");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let clock = PausedClock::starting_at(support::START);
        stage.stop().await;
        assert!(clock.monotonic().0 <= 3_010_000);
        assert_eq!(stage.office.ended().len(), expected);
        // Nobody takes what is ordered after the end.
        stage.office.open("j");
        pass(10).await;
        assert_eq!(stage.log("pager").pages, 1);
    }
}
