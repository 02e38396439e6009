//! The outbox against receivers that fail in every way, and lives that end at every step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Tag, Timestamp, incident::Id, silence::Hours};

const SECOND: u64 = 1_000_000;

pub(super) fn notice(id: &str) -> Notice {
    Notice {
        id: Id::given(id),
        key: format!("aviary:main:{id}"),
        revision: 1,
        reopens: 0,
        change: Change::Opened,
        urgency: Urgency::Page,
        severity: Severity::Critical,
        tags: [(Tag::Service, ["ingest".to_owned()].into())].into(),
        shadow: false,
        held_by: Default::default(),
    }
}

fn told(id: &str, revision: u64, change: Change) -> Event {
    Event::Told(Notice { revision, change, ..notice(id) })
}

const PAGER: Receiver = Receiver { wakes: true, per_minute: 600, in_flight: 4 };
const CHAT: Receiver = Receiver { wakes: false, per_minute: 600, in_flight: 4 };

fn paging(receivers: &[(&str, Receiver)], routes: Vec<Route>) -> Paging {
    let receivers = receivers.iter().map(|(name, receiver)| ((*name).to_owned(), *receiver)).collect();
    Paging::new(receivers, routes, BTreeMap::new())
}

/// What was sent, as `receiver message`, in order.
fn sends(actions: &[Action]) -> Vec<String> {
    let text = |action: &Action| match action {
        Action::Send { receiver, attempt, .. } => Some(format!("{receiver} {}", attempt.message)),
        _ => None,
    };
    actions.iter().filter_map(text).collect()
}

/// An outbox under a clock that stands still until told.
struct Desk {
    outbox: Outbox,
    paging: Paging,
    now: u64,
}

impl Desk {
    fn new(paging: Paging) -> Self {
        Self { outbox: Outbox::default(), paging, now: 1_000 * SECOND }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.outbox.step(event, &self.paging, Timestamp(self.now), self.now)
    }

    fn after(&mut self, seconds: u64) -> Vec<Action> {
        self.now += seconds * SECOND;
        self.step(Event::Tick)
    }

    /// The message on its way to `receiver` came to this end.
    fn finish(&mut self, id: &str, receiver: &str, sent: Sent) -> Vec<Action> {
        let case = self.outbox.case(&Id::given(id)).unwrap();
        let attempt = case.deliveries[receiver].in_flight.unwrap().number;
        self.step(Event::Finished { id: Id::given(id), receiver: receiver.to_owned(), attempt, sent })
    }

    fn take(&mut self, id: &str, receiver: &str) -> Vec<Action> {
        self.finish(id, receiver, Sent::Taken { say_again: None })
    }
}

#[test]
fn only_the_latest_state_is_told_and_nothing_overtakes() {
    let mut desk = Desk::new(paging(&[("pager", PAGER)], vec![]));
    assert_eq!(sends(&desk.step(told("i", 1, Change::Opened))), ["pager opened"]);
    for revision in 2..9 {
        assert!(sends(&desk.step(told("i", revision, Change::Updated))).is_empty(), "one at a time");
    }
    assert!(sends(&desk.step(told("i", 9, Change::Resolved))).is_empty());
    assert_eq!(sends(&desk.take("i", "pager")), ["pager resolved"]);
    assert!(desk.take("i", "pager").contains(&Action::Done(Id::given("i"))));
    assert_eq!(desk.outbox.cases().count(), 0);
}

#[test]
fn what_recovered_before_it_was_told_is_told_once_and_wakes_nobody() {
    let mut desk = Desk::new(paging(&[("pager", PAGER), ("chat", CHAT)], vec![]));
    desk.step(told("i", 1, Change::Opened));
    desk.finish("i", "pager", Sent::NotTaken { retry_after: Some(30) });
    desk.finish("i", "chat", Sent::NotTaken { retry_after: Some(30) });
    desk.step(told("i", 2, Change::Resolved));
    assert_eq!(sends(&desk.after(30)), ["chat fired_and_recovered"]);
    desk.take("i", "chat");
    assert_eq!(desk.outbox.cases().count(), 0);
}

#[test]
fn what_may_have_arrived_is_resolved() {
    let mut desk = Desk::new(paging(&[("pager", PAGER)], vec![]));
    desk.step(told("i", 1, Change::Opened));
    desk.finish("i", "pager", Sent::Unknown { retry_after: None });
    assert_eq!(sends(&desk.step(told("i", 2, Change::Resolved))), ["pager resolved"], "and without back-off");
}

#[test]
fn it_is_tried_for_as_long_as_it_is_there_and_a_day_more() {
    let mut desk = Desk::new(paging(&[("pager", PAGER)], vec![]));
    desk.step(told("i", 1, Change::Opened));
    let mut attempts = 0;
    for _ in 0..4_000 {
        let in_flight = desk.outbox.case(&Id::given("i")).unwrap().deliveries["pager"].in_flight;
        if in_flight.is_some() {
            attempts += 1;
            desk.finish("i", "pager", Sent::Unknown { retry_after: None });
        }
        desk.after(60);
    }
    assert!(attempts > 3_900, "{attempts} in three days");
    desk.step(told("i", 2, Change::Resolved));
    let actions = desk.after(KEPT_SECONDS);
    assert!(matches!(&actions[..], [.., Action::Dead { .. }, Action::Done(_)]), "{actions:?}");
}

#[test]
fn a_receiver_is_left_alone_as_long_as_it_asks_up_to_a_minute() {
    for (asked, waited) in [(7, 7), (3_600, RETRY_AFTER_MAX)] {
        let mut desk = Desk::new(paging(&[("pager", PAGER), ("chat", CHAT)], vec![]));
        desk.step(told("i", 1, Change::Opened));
        desk.take("i", "chat");
        desk.finish("i", "pager", Sent::NotTaken { retry_after: Some(asked) });
        let other = sends(&desk.step(told("j", 1, Change::Opened)));
        assert_eq!(other, ["chat opened"], "by every incident");
        assert!(sends(&desk.after(waited - 1)).is_empty());
        assert_eq!(sends(&desk.after(1)), ["pager opened", "pager opened"]);
    }
}

#[test]
fn a_receiver_that_hangs_slows_no_other() {
    let few = Receiver { in_flight: 2, ..PAGER };
    let mut desk = Desk::new(paging(&[("chat", CHAT), ("pager", few)], vec![]));
    let mut sent = Vec::new();
    for number in 0..5 {
        let id = number.to_string();
        sent.extend(sends(&desk.step(told(&id, 1, Change::Opened))));
        desk.take(&id, "chat");
    }
    let to = |receiver| sent.iter().filter(|send| send.starts_with(receiver)).count();
    assert_eq!((to("chat"), to("pager")), (5, 2));
    assert_eq!(sends(&desk.take("0", "pager")), ["pager opened"]);
}

#[test]
fn a_receiver_gets_no_more_than_its_rate_and_pages_go_first() {
    let slow = Receiver { per_minute: 60, in_flight: 100, ..PAGER };
    let mut desk = Desk::new(paging(&[("pager", slow)], vec![]));
    let ticket = Notice { urgency: Urgency::Ticket, ..notice("ticket") };
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.extend(desk.step(told(&format!("{number:02}"), 1, Change::Opened)));
    }
    assert_eq!(sent.len(), 5, "at once");
    desk.step(Event::Told(ticket));
    for _ in 0..15 {
        sent.extend(desk.after(1));
    }
    assert_eq!(sent.len(), 20);
    let last = desk.after(1);
    assert!(matches!(&last[..], [Action::Send { id, .. }] if id.as_str() == "ticket"), "{last:?}");
}

#[test]
fn it_escalates_until_somebody_acknowledges() {
    let escalate = |after, name: &str| Escalation { after, notify: vec![name.to_owned()] };
    let route = Route {
        notify: vec!["first".to_owned()],
        escalate: vec![escalate(300, "second"), escalate(600, "third")],
        ..Route::default()
    };
    let receivers = [("first", PAGER), ("second", PAGER), ("third", PAGER)];
    let mut desk = Desk::new(paging(&receivers, vec![route]));
    assert_eq!(sends(&desk.step(told("i", 1, Change::Opened))), ["first opened"]);
    desk.take("i", "first");
    assert!(sends(&desk.after(299)).is_empty());
    assert_eq!(sends(&desk.after(1)), ["second opened"]);
    desk.take("i", "second");
    desk.step(Event::Acknowledged(Id::given("i")));
    assert!(sends(&desk.after(3_000)).is_empty());
    let update = sends(&desk.step(told("i", 2, Change::Updated)));
    assert_eq!(update, ["first updated", "second updated"], "an acknowledgement stops no news");
    desk.take("i", "first");
    desk.take("i", "second");
    // The second takes the end, the first does not: it is reopened before everybody was told.
    assert_eq!(sends(&desk.step(told("i", 3, Change::Resolved))), ["first resolved", "second resolved"]);
    desk.take("i", "second");
    desk.finish("i", "first", Sent::NotTaken { retry_after: None });
    let again = Notice { revision: 4, reopens: 1, ..notice("i") };
    assert_eq!(sends(&desk.step(Event::Told(again))), ["first updated"], "for it, it was never over");
    desk.take("i", "first");
    assert_eq!(sends(&desk.after(300)), ["second opened"], "and all others are asked anew");
    desk.take("i", "second");
    assert_eq!(sends(&desk.after(300)), ["third opened"]);
}

#[test]
fn the_next_is_told_when_nobody_takes_it() {
    let route = Route { notify: vec!["first".to_owned()], ..Route::default() };
    let receivers = [("first", PAGER), ("second", PAGER), ("third", PAGER)];
    let mut desk = Desk::new(paging(&receivers, vec![route]));
    desk.step(told("i", 1, Change::Opened));
    let refused = desk.finish("i", "first", Sent::Refused("no such key".to_owned()));
    assert!(matches!(&refused[0], Action::Dead { why, .. } if why == "no such key"));
    assert_eq!(sends(&refused), ["second opened"], "at once");
    desk.finish("i", "second", Sent::NotTaken { retry_after: Some(60) });
    assert!(sends(&desk.after(RECEIPT_SECONDS - 1)).is_empty());
    assert_eq!(sends(&desk.after(1)), ["second opened", "third opened"], "nobody took it for a minute");
    desk.take("i", "third");
    desk.take("i", "second");
    let over = sends(&desk.step(told("i", 2, Change::Resolved)));
    assert_eq!(over, ["second resolved", "third resolved"], "who refused holds nothing");
}

#[test]
fn quiet_hours_hold_back_tickets_and_no_page() {
    let night = Hours::daily("UTC", (22, 0), (7, 0)).unwrap();
    let receivers = vec![("chat".to_owned(), CHAT)];
    let mut desk = Desk::new(Paging::new(receivers, vec![], [("ingest".to_owned(), night)].into()));
    desk.now = (86_400 + 6 * 3_600) * SECOND;
    assert_eq!(sends(&desk.step(told("page", 1, Change::Opened))), ["chat opened"]);
    desk.take("page", "chat");
    for (id, urgency) in [("ticket", Urgency::Ticket), ("note", Urgency::Information)] {
        assert!(sends(&desk.step(Event::Told(Notice { urgency, ..notice(id) }))).is_empty());
    }
    assert!(sends(&desk.after(3_599)).is_empty());
    assert_eq!(sends(&desk.after(1)), ["chat opened", "chat opened"]);
}

#[test]
fn a_test_says_so_and_resolves_itself() {
    let mut desk = Desk::new(paging(&[("chat", CHAT), ("pager", PAGER)], vec![]));
    let test = Notice { urgency: Urgency::Information, severity: Severity::Info, ..notice("t") };
    assert_eq!(sends(&desk.step(Event::Test(test.clone(), "pager".to_owned()))), ["pager test"]);
    assert_eq!(sends(&desk.take("t", "pager")), ["pager test_over"]);
    assert!(desk.take("t", "pager").contains(&Action::Done(Id::given("t"))));
    desk.step(Event::Test(test.clone(), "pager".to_owned()));
    let refused = desk.finish("t", "pager", Sent::Refused("no such key".to_owned()));
    assert!(matches!(&refused[..], [Action::Dead { .. }, Action::Done(_)]), "{refused:?}");
    desk.step(Event::Test(test, "pager".to_owned()));
    desk.finish("t", "pager", Sent::NotTaken { retry_after: None });
    let actions = desk.after(300);
    assert!(actions.iter().any(|action| matches!(action, Action::Dead { .. })), "{actions:?}");
}

#[test]
fn a_shadow_goes_to_the_log_only_and_an_incident_without_a_route_to_nobody() {
    let shadow = Notice { shadow: true, ..notice("s") };
    let mut desk = Desk::new(paging(&[("chat", CHAT)], vec![]));
    assert_eq!(desk.step(Event::Told(shadow.clone())), [Action::Log(shadow.clone())]);
    desk.step(told("i", 1, Change::Opened));
    desk.take("i", "chat");
    let end = Notice { revision: 2, change: Change::Resolved, shadow: true, ..notice("i") };
    assert_eq!(sends(&desk.step(Event::Told(end))), ["chat resolved"], "who was told is told the end");

    let choice = Choice { severity: [Severity::Info].into(), ..Choice::default() };
    let route = Route { choice, notify: vec!["chat".to_owned()], ..Route::default() };
    let mut desk = Desk::new(paging(&[("chat", CHAT)], vec![route]));
    assert_eq!(desk.step(told("i", 1, Change::Opened)), [Action::Unrouted(Id::given("i"))]);
    assert!(sends(&desk.after(600)).is_empty());
}

#[test]
fn a_receiver_that_is_removed_is_told_nothing_more() {
    let mut desk = Desk::new(paging(&[("chat", CHAT), ("pager", PAGER)], vec![]));
    desk.step(told("i", 1, Change::Opened));
    desk.take("i", "chat");
    desk.take("i", "pager");
    desk.paging = paging(&[("chat", CHAT), ("hook", CHAT)], vec![]);
    let actions = desk.step(Event::Configured);
    assert!(matches!(&actions[0], Action::Dead { receiver, .. } if receiver == "pager"), "{actions:?}");
    assert_eq!(sends(&actions), ["hook opened"], "and one that is added is told");
    desk.take("i", "hook");
    assert_eq!(sends(&desk.step(told("i", 2, Change::Resolved))), ["chat resolved", "hook resolved"]);
}

#[test]
fn what_a_receiver_would_forget_is_said_again() {
    let mut desk = Desk::new(paging(&[("am", CHAT)], vec![]));
    desk.step(told("i", 1, Change::Opened));
    let again = Sent::Taken { say_again: Some(60) };
    desk.finish("i", "am", again.clone());
    assert!(sends(&desk.after(59)).is_empty());
    assert_eq!(sends(&desk.after(1)), ["am updated"]);
    desk.finish("i", "am", again.clone());
    let mut said = sends(&desk.step(told("i", 2, Change::Resolved)));
    for _ in 0..10 {
        if desk.outbox.case(&Id::given("i")).is_some_and(|case| case.deliveries["am"].in_flight.is_some()) {
            desk.finish("i", "am", again.clone());
        }
        said.extend(sends(&desk.after(60)));
    }
    assert_eq!(said, ["am resolved"; 6], "for {SAY_AGAIN_SECONDS} s");
    assert_eq!(desk.outbox.cases().count(), 0);
}

#[test]
fn what_was_on_its_way_when_a_life_ended_is_sent_again_at_once() {
    let mut desk = Desk::new(paging(&[("chat", CHAT), ("pager", PAGER)], vec![]));
    desk.step(told("i", 1, Change::Opened));
    let attempt = desk.outbox.case(&Id::given("i")).unwrap().deliveries["pager"].in_flight.unwrap();
    desk.take("i", "chat");
    desk.outbox = Outbox::from_kept(desk.outbox.kept());
    assert_eq!(sends(&desk.step(Event::Tick)), ["pager opened"]);
    // What the earlier life would have heard says nothing of what this one sent.
    let sent = Sent::Refused("too late".to_owned());
    let stale =
        Event::Finished { id: Id::given("i"), receiver: "pager".to_owned(), attempt: attempt.number, sent };
    assert!(desk.step(stale).is_empty());
    desk.take("i", "pager");
    assert_eq!(sends(&desk.step(told("i", 2, Change::Resolved))), ["chat resolved", "pager resolved"]);
}

/// How a receiver fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// 500: who knows what it did before.
    Broken,
    /// 429, with so many seconds to wait.
    Busy(u64),
    /// No answer: it may have taken it.
    Silent,
    /// The connection was reset: it may have taken it.
    Reset,
    /// Nobody listens.
    Refused,
}

/// What a day was like.
#[derive(Clone, Debug)]
struct Schedule {
    seed: u64,
    /// When the incident changes: opened, perhaps updated, resolved, perhaps reopened and resolved.
    changes: Vec<(u64, Change, u32)>,
    /// Per receiver, spans of seconds in which it fails.
    failures: [Vec<(u64, u64, Failure)>; 2],
    /// At which steps a life ends.
    kills: Vec<usize>,
}

impl Schedule {
    fn failure(&self, receiver: usize, now: u64) -> Option<Failure> {
        let second = now / SECOND;
        let failing =
            self.failures[receiver].iter().find(|(from, until, _)| (*from..*until).contains(&second));
        failing.map(|(_, _, failure)| *failure)
    }

    /// The last second in which anything fails or changes.
    fn end(&self) -> u64 {
        let failures = self.failures.iter().flatten().map(|(_, until, _)| *until);
        failures.chain(self.changes.iter().map(|(at, ..)| *at)).max().unwrap_or(0)
    }
}

/// A receiver that honours keys.
#[derive(Clone, Debug, Default)]
struct Remote {
    is_open: bool,
    /// Openings that found it not open: each wakes somebody.
    pages: usize,
    /// Ends that found it open.
    ends: usize,
    /// Ends and notes of which it knew no opening.
    notes: usize,
}

impl Remote {
    fn take(&mut self, message: Message) {
        match message {
            Message::Opened if !self.is_open => (self.is_open, self.pages) = (true, self.pages + 1),
            Message::Resolved if self.is_open => (self.is_open, self.ends) = (false, self.ends + 1),
            Message::Resolved | Message::FiredAndRecovered => self.notes += 1,
            _ => {}
        }
    }
}

enum Happening {
    Change(Notice),
    Arrival { life: usize, receiver: usize, message: Message },
    Answer { life: usize, event: Event },
    Tick,
}

const NAMES: [&str; 2] = ["pager", "chat"];

/// Lives through a schedule. Gives what the receivers saw, and the steps at which something happened.
fn live(schedule: &Schedule) -> ([Remote; 2], Vec<usize>) {
    let paging = paging(&[(NAMES[0], PAGER), (NAMES[1], CHAT)], vec![]);
    let mut remotes = [Remote::default(), Remote::default()];
    let mut seed = schedule.seed;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut queue: BTreeMap<(u64, usize), Happening> = BTreeMap::new();
    let mut number = 0;
    let mut queued = |queue: &mut BTreeMap<_, _>, at: u64, happening| {
        number += 1;
        queue.insert((at, number), happening);
    };
    for (revision, (at, change, reopens)) in (1..).zip(&schedule.changes) {
        let notice = Notice { revision, change: *change, reopens: *reopens, ..notice("i") };
        queued(&mut queue, at * SECOND, Happening::Change(notice));
    }
    for second in 0..schedule.end() + 200 {
        queued(&mut queue, second * SECOND + 500_000, Happening::Tick);
    }
    let (mut outbox, mut saved) = (Outbox::default(), Kept::default());
    let (mut life, mut steps, mut busy) = (0, 0, Vec::new());
    while let Some(((now, _), happening)) = queue.pop_first() {
        let mut retold = None;
        let event = match happening {
            Happening::Arrival { life: of, receiver, message } => {
                // What left before a life ended may still arrive.
                if of == life || random(2) == 0 {
                    remotes[receiver].take(message);
                }
                continue;
            }
            Happening::Answer { life: of, .. } if of != life => continue,
            Happening::Answer { event, .. } => event,
            Happening::Change(notice) => {
                retold = Some(notice.clone());
                Event::Told(notice)
            }
            Happening::Tick => Event::Tick,
        };
        steps += 1;
        let is_tick = event == Event::Tick;
        let mut actions = outbox.step(event, &paging, Timestamp(now), random(u64::MAX));
        if !is_tick || !actions.is_empty() {
            busy.push(steps);
        }
        let is_killed = schedule.kills.contains(&steps);
        if is_killed && random(2) == 0 {
            // Before the transaction: the incident did not change either, and changes when the next life judges.
            if let Some(notice) = retold {
                queued(&mut queue, now + 1, Happening::Change(notice));
            }
            actions.clear();
        } else {
            saved = outbox.kept();
        }
        if is_killed {
            // Of what was to be sent, some left.
            actions.retain(|_| random(2) == 0);
        }
        for action in actions {
            let Action::Send { id, receiver, attempt, .. } = action else { continue };
            let place = NAMES.iter().position(|name| *name == receiver).unwrap();
            let (answer, taken, after) = match schedule.failure(place, now) {
                None => (Sent::Taken { say_again: None }, true, 200_000),
                Some(Failure::Broken) => (Sent::Unknown { retry_after: None }, random(2) == 0, 300_000),
                Some(Failure::Busy(wait)) => (Sent::NotTaken { retry_after: Some(wait) }, false, 100_000),
                Some(Failure::Silent) => (Sent::Unknown { retry_after: None }, random(2) == 0, 5 * SECOND),
                Some(Failure::Reset) => (Sent::Unknown { retry_after: None }, random(2) == 0, 50_000),
                Some(Failure::Refused) => (Sent::NotTaken { retry_after: None }, false, 1_000),
            };
            if taken {
                let arrival = Happening::Arrival { life, receiver: place, message: attempt.message };
                queued(&mut queue, now + random(after), arrival);
            }
            let event = Event::Finished { id, receiver, attempt: attempt.number, sent: answer };
            queued(&mut queue, now + after, Happening::Answer { life, event });
        }
        if is_killed {
            // Whatever is on its way arrives now or never.
            let under_way: Vec<_> = queue
                .iter()
                .filter(|(_, happening)| matches!(happening, Happening::Arrival { .. }))
                .map(|(key, _)| *key)
                .collect();
            for key in under_way {
                if let Some(Happening::Arrival { receiver, message, .. }) = queue.remove(&key)
                    && random(2) == 0
                {
                    remotes[receiver].take(message);
                }
            }
            outbox = Outbox::from_kept(saved.clone());
            life += 1;
        }
    }
    assert_eq!(outbox.cases().count(), 0, "everything is told in the end: {outbox:?}");
    (remotes, busy)
}

/// What must hold of every schedule.
fn check(schedule: &Schedule) {
    let ([pager, chat], _) = live(schedule);
    let openings = schedule.changes.iter().filter(|(_, change, _)| *change == Change::Opened).count();
    for remote in [&pager, &chat] {
        assert!(!remote.is_open && remote.pages == remote.ends, "no page stays open: {remote:?}");
        assert!(remote.pages <= openings, "no opening after its end: {remote:?}");
    }
    assert!(chat.pages + chat.notes >= 1, "what happened is told: {chat:?}");
    // The span of each opening: if all was well in a part of it, there was a page.
    let mut opened = 0;
    for (at, change, _) in &schedule.changes {
        match change {
            Change::Opened => opened = *at,
            Change::Updated => {}
            Change::Resolved => {
                for (place, remote) in [&pager, &chat].into_iter().enumerate() {
                    // A minute and a half: the longest back-off, and what a receiver may ask for.
                    let well = schedule.failures[place].iter().all(|(_, until, _)| *until + 90 < *at);
                    if well && at - opened > 90 {
                        assert!(remote.pages >= 1, "a page is lost: {remote:?}");
                    }
                    if well && at - opened > 90 && openings == 1 {
                        assert_eq!((remote.pages, remote.ends), (1, 1), "one page, one end: {remote:?}");
                    }
                }
            }
        }
    }
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Broken),
        (1u64..120).prop_map(Failure::Busy),
        Just(Failure::Silent),
        Just(Failure::Reset),
        Just(Failure::Refused),
    ]
}

prop_compose! {
    fn schedule()(
        seed in any::<u64>(),
        opened in 1u64..20,
        lasts in prop_oneof![1u64..30, 300u64..900],
        updates in prop::collection::vec(1u64..200, 0..4),
        again in prop::option::of((1u64..300, 1u64..600)),
        pager in prop::collection::vec((0u64..400, 1u64..300, failure()), 0..4),
        chat in prop::collection::vec((0u64..400, 1u64..300, failure()), 0..4),
        kills in prop::collection::vec(1usize..700, 0..12),
    ) -> Schedule {
        let end = opened + lasts;
        let mut changes = vec![(opened, Change::Opened, 0)];
        let mut at: Vec<u64> = updates.iter().map(|after| opened + after).filter(|at| *at < end).collect();
        at.sort_unstable();
        changes.extend(at.into_iter().map(|at| (at, Change::Updated, 0)));
        changes.push((end, Change::Resolved, 0));
        if let Some((pause, lasts)) = again {
            changes.push((end + pause, Change::Opened, 1));
            changes.push((end + pause + lasts, Change::Resolved, 1));
        }
        let spans = |given: Vec<(u64, u64, Failure)>| given.into_iter().map(|(from, length, failure)| (from, from + length, failure)).collect();
        Schedule { seed, changes, failures: [spans(pager), spans(chat)], kills }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_page_and_one_end_whatever_fails_and_whenever_it_is_killed(schedule in schedule()) {
        check(&schedule);
    }
}

/// Five minutes of 500, of 429, of time-outs and of resets, and a life that ends at each step that does something.
#[test]
fn one_page_and_one_end_if_it_is_killed_at_any_step() {
    for failure in [Failure::Broken, Failure::Busy(30), Failure::Silent, Failure::Reset] {
        let mut schedule = Schedule {
            seed: 7,
            changes: vec![(5, Change::Opened, 0), (40, Change::Updated, 0), (450, Change::Resolved, 0)],
            failures: [vec![(0, 300, failure)], vec![]],
            kills: vec![],
        };
        let (_, steps) = live(&schedule);
        assert!(steps.len() > 8, "{failure:?}: {steps:?}");
        for kill in steps {
            (schedule.seed, schedule.kills) = (kill as u64, vec![kill]);
            check(&schedule);
        }
    }
}
