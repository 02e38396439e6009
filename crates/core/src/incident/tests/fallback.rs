//! What agents told by themselves, while no collector answered them.

use super::*;
use crate::{
    Timestamp,
    page::{self, Message, Outbox, Paging, Receiver, Sent},
};

const KEY: &str = "aviary:fallback:ingest";

fn paged(desk: &Desk) -> Event {
    let now = Second(desk.now);
    Event::Paged(Fallback::new("ingest".to_owned(), KEY.to_owned(), "oncall".to_owned(), now.minus(5), now))
}

/// What receivers are sent of what incidents tell: in whose name, under which key, and what.
fn sent(told: &[Notice]) -> Vec<(String, String, Message)> {
    let receivers =
        ["oncall", "hook"].map(|name| (name.to_owned(), Receiver { wakes: true, ..Receiver::default() }));
    let paging = Paging::new(receivers.into(), vec![], std::collections::BTreeMap::new());
    let (mut outbox, mut sent, mut now) = (Outbox::default(), Vec::new(), Timestamp(1_000_000_000_000));
    let mut events: Vec<page::Event> = told.iter().cloned().map(page::Event::Told).collect();
    events.reverse();
    while let Some(event) = events.pop() {
        now = now.plus(1_000_000);
        for action in outbox.step(event, &paging, now, 7) {
            if let page::Action::Send { id, key, receiver, attempt, .. } = action {
                sent.push((receiver.clone(), key, attempt.message));
                let sent = Sent::Taken { say_again: None };
                events.push(page::Event::Finished { id, receiver, attempt: attempt.number, sent });
            }
        }
    }
    sent.sort_by_key(|(receiver, ..)| receiver.clone());
    sent
}

fn to<'a>(sent: &'a [(String, String, Message)], name: &str) -> Vec<(&'a str, Message)> {
    sent.iter()
        .filter(|(receiver, ..)| receiver == name)
        .map(|(_, key, message)| (&**key, *message))
        .collect()
}

#[test]
fn what_is_lost_still_goes_on_under_the_agents_key_and_wakes_nobody_twice() {
    for silent_before in [false, true] {
        let mut desk = Desk::new();
        desk.run(5, &[quiet("ingest")]);
        let event = paged(&desk);
        let mut told = Vec::new();
        if silent_before {
            // Opened before the agent's word came, and told to nobody.
            desk.silences = vec![silence("s", &[(Tag::Service, "ingest")])];
            told.extend(desk.run(20, &[lost("ingest", "")]));
            assert_eq!(told, []);
        }
        told.extend(desk.step(event.clone()));
        desk.silences.clear();
        told.extend(desk.run(30, &[lost("ingest", "")]));
        // Told again, by a journal or another agent.
        told.extend(desk.step(event));
        told.extend(desk.run(90, &[clear("ingest")]));
        told.extend(desk.run(90, &[quiet("ingest")]));
        let sent = sent(&told);
        assert_eq!(to(&sent, "oncall"), [(KEY, Message::Updated), (KEY, Message::Resolved)]);
        assert_eq!(to(&sent, "hook"), [(KEY, Message::Opened), (KEY, Message::Resolved)]);
    }
}

#[test]
fn what_was_told_under_its_own_key_ends_the_agents_alert_with_it() {
    let mut desk = Desk::new();
    let mut told = desk.run(30, &[lost("ingest", "")]);
    let own = told[0].key.clone();
    told.extend(desk.step(paged(&desk)));
    told.extend(desk.run(300, &[lost("ingest", "")]));
    assert_eq!(changes(&told), [Change::Opened], "nobody is told anything more while it lasts");
    told.extend(desk.run(200, &[clear("ingest")]));
    let sent = sent(&told);
    let of_agent = to(&sent, "oncall").into_iter().filter(|(key, _)| *key == KEY).collect::<Vec<_>>();
    assert_eq!(of_agent, [(KEY, Message::Resolved)]);
    assert_eq!(to(&sent, "hook"), [(&*own, Message::Opened), (&*own, Message::Resolved)]);
}

#[test]
fn what_is_over_is_ended_once_and_what_cannot_be_told_is_not() {
    type Rest = (&'static str, fn() -> Vec<Observation>, u64, usize);
    let table: [Rest; 4] = [
        ("well", || vec![quiet("ingest")], 70, 1),
        ("well for too short a time", || vec![quiet("ingest")], 50, 0),
        ("nobody can tell", || vec![blind("ingest")], 600, 0),
        ("nobody reports of it for a day", Vec::new, 86_401, 1),
    ];
    for (name, seen, seconds, ends) in table {
        let mut desk = Desk::new();
        let event = paged(&desk);
        desk.step(event.clone());
        let told = desk.run(seconds, &seen());
        let of_agent: Vec<_> = told.iter().filter(|notice| notice.key == KEY).collect();
        assert_eq!(of_agent.len(), ends, "{name}");
        assert!(of_agent.iter().all(|notice| notice.change == Change::Resolved), "{name}");
        assert_eq!(to(&sent(&told), "oncall").iter().filter(|(key, _)| *key == KEY).count(), ends, "{name}");
        // What comes again, from a journal, is known to be over.
        desk.step(event);
        let again = desk.run(100, &[quiet("ingest")]);
        let of_agent = again.iter().filter(|notice| notice.key == KEY).count();
        assert_eq!(of_agent, 1 - ends, "{name}");
    }
    let mut desk = Desk::new();
    desk.step(paged(&desk));
    let told = desk.step(Event::Removed { tag: Tag::Service, value: "ingest".to_owned() });
    assert_eq!(changes(&told), [Change::Resolved], "what is not configured any more stays open nowhere");
}

#[test]
fn it_outlives_the_process_and_is_another_page_than_what_ended_before() {
    let mut desk = Desk::new();
    let first = desk.run(30, &[lost("ingest", "")]);
    desk.run(200, &[clear("ingest")]);
    desk.step(paged(&desk));
    desk.incidents = Incidents::from_kept("main", desk.incidents.kept());
    let second = desk.run(30, &[lost("ingest", "")]);
    assert_eq!((first[0].key == KEY, second[0].key.as_str()), (false, KEY));
    assert_eq!(second[0].held_by, ["oncall".to_owned()].into());
}
