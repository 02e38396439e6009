//! What is only slow, and what comes and goes. Fronts of ours before a real carbon do it, and graphite-web is read back: those
//! of one service close late what they hand on, and that of the other resets connections and hands on nothing.

use std::{thread, time::Duration};

use aviary_sink::Misbehaviour;

use super::{
    fleet::{Fleet, LIMITS, service},
    front::Front,
};
use crate::support::{aviary::now, graphite::Graphite, ports::Port};

/// Of what is only slow. Between how slow it is and a second, and between this limit and none, there is room for a machine that
/// is busy with other tests: some of it may be lost all the same.
const SLOW_LIMITS: &str =
    "acceptable_loss = \"10%\"\npage_after = \"10s\"\nlatency_p99 = { confirm = \"500ms\" }\n";
const SLOW_BY: Duration = Duration::from_millis(600);

const MINUTE: u64 = 60;

/// Whether something is lost is looked at as a minute begins. Each loss ends so long before a minute in which nothing is to
/// be lost, and the next begins so long after it: it is over then, but never for as long as it takes to be resolved.
const ENDS_BEFORE: u64 = 35;
const BEGINS_AFTER: u64 = 10;

const MESSAGES: &str = "\
incident.opened: orders: confirm takes # ms for one in a hundred, and may take # ms
Since TIME, # s before this message. Severity warning, state open.
In # s # of # took longer; one in a hundred may.
Just one zone? cannot tell. All of one protocol? cannot tell.
Whose fault: cannot tell.
Owner: orders team
---
incident.resolved: RESOLVED: orders: confirm takes # ms for one in a hundred, and may take # ms
From TIME to TIME, # s.
Owner: orders team
---
incident.opened: search: everything in every region (3/3), # % lost; nothing else
Since TIME, # s before this message. Severity critical, state open.
Delivered # of # in # s (# %), # lost; # % may be lost.
Seen from 6 of 6 vantage points.
Just one zone? no. All of one protocol? cannot tell.
Cause: everything: # of # lost, # % of the loss
Evidence: confirm reset, # of #
Evidence: 6 vantages in 3 regions lose it
Whose fault: the service.
Owner: search team
---
incident.updated: UPDATE: search: everything in every region (3/3), # % lost; nothing else
Changed: it comes and goes
Since TIME, # s before this message. Severity critical, state recovering.
Delivered # of # in # s (# %), # lost; # % may be lost.
Seen from 6 of 6 vantage points.
Just one zone? no. All of one protocol? cannot tell.
Cause: everything: # of # lost, # % of the loss
Evidence: confirm reset, # of #
Evidence: 6 vantages in 3 regions lose it
Whose fault: the service.
Owner: search team";

/// What is slow is looked at for five minutes, so this takes eight: it is called from where the harness begins early.
pub(crate) fn play() {
    let graphite = Graphite::start();
    let ports: Vec<Port> = (0..4).map(|_| Port::claim()).collect();
    let fronts: Vec<Front> = ports.iter().map(|port| Front::open(port.address(), graphite.line())).collect();
    let endpoints: Vec<String> = ports.iter().map(|port| format!("tcp://{}", port.address())).collect();
    let (search, orders) = fronts.split_first().expect("there are four");
    let readback = format!("[service.readback]\ngraphite = \"http://{}\"\n", graphite.http());
    let services = [
        service("orders", &endpoints[1..], SLOW_LIMITS, &readback),
        service("search", &endpoints[..1], LIMITS, &readback),
    ];
    let mut fleet = Fleet::start(&services.concat(), |_| (String::new(), services.concat()));
    fleet.wait_until_well(services.len());

    orders.iter().for_each(|front| front.misbehave(Misbehaviour::Slow { by: SLOW_BY }));
    fleet.wait_until_opened(&["orders: "]);
    orders.iter().for_each(|front| front.misbehave(Misbehaviour::None));

    search.misbehave(Misbehaviour::ReadThenReset);
    fleet.wait_until_opened(&["search: "]);
    let first = (now().0 + ENDS_BEFORE) / MINUTE + 1;
    for minute in [first, first + 2, first + 4] {
        sleep_until(minute * MINUTE - ENDS_BEFORE);
        search.misbehave(Misbehaviour::None);
        sleep_until(minute * MINUTE + BEGINS_AFTER);
        search.misbehave(Misbehaviour::ReadThenReset);
    }
    fleet.wait_until_resolved(&["orders: "]);
    thread::sleep(Duration::from_secs(2));
    let messages = ["orders: ", "search: "].map(|begin| fleet.messages(begin)).join("\n---\n");
    assert_eq!(fleet.opened(), 2, "{}", fleet.story());
    assert_eq!(messages, MESSAGES, "{}", fleet.story());
}

fn sleep_until(second: u64) {
    thread::sleep(Duration::from_secs(second.saturating_sub(now().0)));
}
