//! The fallback: what an agent that is cut off tells a receiver by itself.
//!
//! A pure machine, stepped each second with what was probed and with whether a collector answers: [`Fallback::step`] says
//! what is to be kept, then sent. It pages once in an outage, where all of this holds for [`Fallback::after`] seconds:
//! nobody who was tried as a collector answered anything; and every slot of every required endpoint of a service was
//! lost, in each second that has settled. A second with a slot that was missed, or lost by the agent's own fault, shows
//! nothing, and neither does a service that never worked: that is for a person at a desk.
//!
//! | an alert is | means | until |
//! |---|---|---|
//! | opening | the receiver is to take it | it took it, or refuses it; it was never sent, and a collector answers or all is well |
//! | open | it took it | a collector has it; or all is well, and the agent ends it |
//! | handed over | a collector ends it | all is well |
//! | refused | the receiver will never take it | all is well, or the agent starts anew |
//! | closing | the receiver is to take the end | it took it, or refuses it |
//!
//! *All is well* is twice as long without a loss. What is kept outlives the process, so that no outage is paged twice.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{
    Endpoint, Evidence, Micros, Outcome, Second, Timestamp,
    page::{RETRY_AFTER_MAX, Sent},
};
use aviary_wire::report::Roster;
use serde::{Deserialize, Serialize};

/// Seconds are looked at once they are so old: their slots are closed.
const SETTLED_SECONDS: u64 = 3;

/// The longest pause between two attempts, in seconds; they begin with one, and double.
const RETRY_SECONDS_MAX: u64 = 30;

/// So many attempts are under way at once.
const AT_ONCE: usize = 4;

/// So many services are remembered as having worked.
const SERVICES_MAX: usize = 1_024;

const SECOND_US: u64 = 1_000_000;

/// The key of what agents tell of a service: one for all agents, so that ten of them are one page.
pub fn key(service: &str) -> String {
    format!("aviary:fallback:{service}")
}

/// What an agent goes by in one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// For so many seconds after it was first assigned nothing is told of it.
    pub grace: u64,
    /// What may be lost, and nobody is told.
    pub optional: BTreeSet<Endpoint>,
}

/// Whether somebody answers as a collector, be it to refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nobody was asked yet, or not each of them since one answered last.
    #[default]
    Unknown,
    /// The last that was asked did.
    Answered,
    /// None of them does.
    Silent {
        /// Since when, by the agent's wall clock: the first push that was not answered.
        since: Timestamp,
        /// The same by its monotonic clock.
        from: Micros,
    },
}

/// How far an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The receiver is to take it.
    Opening,
    /// The receiver holds it.
    Open,
    /// A collector ends it.
    HandedOver,
    /// The receiver will never take it.
    Refused,
    /// The receiver is to take that it is over.
    Closing,
}

/// What an agent told of an outage by itself, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// How far it is.
    pub stage: Stage,
    /// The first second of which all was lost, as far as the agent looked.
    pub since: u64,
    /// Since when no collector answered, in seconds since the Unix epoch.
    pub cut_off: u64,
    /// When it was decided, in microseconds since the Unix epoch.
    pub opened_us: u64,
    /// When it was over, likewise.
    pub closed_us: Option<u64>,
    /// An attempt may have arrived.
    pub maybe_taken: bool,
}

/// What a life leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The services that were delivered to once.
    pub worked: BTreeSet<String>,
    /// What was told, by service.
    pub alerts: BTreeMap<String, Alert>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep [`Fallback::kept`], before anything else.
    Keep,
    /// Send the receiver what the alert is now, once; then tell what came of it.
    Send {
        /// Of which service.
        service: String,
        /// What.
        alert: Alert,
    },
    /// Report that the receiver holds an alert, or may: a collector can end it.
    Report {
        /// Of which service.
        service: String,
        /// When it was decided.
        second: Second,
    },
    /// Neither took nor will take anybody this: it goes to the log.
    Unheard {
        /// Of which service.
        service: String,
    },
}

/// The slots of one second of a service's required endpoints.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    delivered: u32,
    /// Datagrams that left: of them nobody knows more.
    sent: u32,
    lost: u32,
}

#[derive(Debug, Default)]
struct Service {
    since: Second,
    grace: u64,
    /// How many series its required endpoints have.
    series: u32,
    seconds: BTreeMap<Second, Tally>,
}

/// How the attempts at one alert go. Not kept: a new life tries at once.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    in_flight: bool,
    in_vain: u32,
    not_before: Micros,
    /// What it took is to be said again then: it would forget it otherwise.
    say_again: Option<Micros>,
}

/// The machine.
#[derive(Debug)]
pub struct Fallback {
    after: u64,
    kept: Kept,
    services: BTreeMap<String, Service>,
    /// The service of each place in the roster whose endpoint is required.
    places: Vec<Option<String>>,
    tries: BTreeMap<String, Tries>,
    /// What a life begins with is reported again: nobody knows whether it was.
    unreported: BTreeSet<String>,
    changed: bool,
}

impl Fallback {
    /// Goes on from what an earlier life left. An outage is told once it has lasted `after` seconds.
    pub fn new(mut kept: Kept, after: u64) -> Self {
        for alert in kept.alerts.values_mut() {
            match alert.stage {
                // Whatever was sent last may have arrived; and another life may have another receiver.
                Stage::Opening => alert.maybe_taken = true,
                Stage::Refused => alert.stage = Stage::Opening,
                Stage::Open | Stage::HandedOver | Stage::Closing => {}
            }
        }
        let open = kept.alerts.iter().filter(|(_, alert)| alert.stage == Stage::Open);
        let unreported = open.map(|(service, _)| service.clone()).collect();
        let (services, places, tries) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { after, kept, services, places, tries, unreported, changed: false }
    }

    /// What the next life needs.
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// For how many seconds an outage lasts before it is told.
    pub const fn after(&self) -> u64 {
        self.after
    }

    /// These are the series from now on; of services that are not `watched` nothing is told.
    pub fn assign(&mut self, roster: &Roster, watched: &BTreeMap<String, Watched>, now: Second) {
        let is_required = |service: &str, endpoint: &Endpoint| {
            watched.get(service).is_some_and(|watched| !watched.optional.contains(endpoint))
        };
        let series = roster.series.iter();
        self.places = series
            .map(|series| is_required(&series.service, &series.endpoint).then(|| series.service.clone()))
            .collect();
        let mut before = std::mem::take(&mut self.services);
        for name in self.places.iter().flatten() {
            let service = self.services.entry(name.clone()).or_insert_with(|| {
                let since = before.remove(name).map_or(now, |service| service.since);
                let grace = watched.get(name).map_or(0, |watched| watched.grace);
                Service { since, grace, ..Service::default() }
            });
            service.series += 1;
        }
    }

    /// A slot of the series at this place of the roster was closed.
    pub fn observe(&mut self, series: u32, second: Second, outcome: &Outcome) {
        let Some(Some(name)) = self.places.get(series as usize) else { return };
        let Some(service) = self.services.get_mut(name) else { return };
        let tally = service.seconds.entry(second).or_default();
        match outcome {
            Outcome::Delivered(Evidence::Sent) => tally.sent += 1,
            Outcome::Delivered(_) => tally.delivered += 1,
            Outcome::Lost { .. } => tally.lost += 1,
            Outcome::Local { .. } | Outcome::Missed | Outcome::Muted => {}
        }
        let has_worked = matches!(outcome, Outcome::Delivered(_));
        if has_worked && self.kept.worked.len() < SERVICES_MAX && !self.kept.worked.contains(name) {
            self.kept.worked.insert(name.clone());
            self.changed = true;
        }
    }

    /// What is due at `now`. `is_suspect`: everything fails, and the agent's controls too.
    pub fn step(
        &mut self,
        (wall, monotonic): (Timestamp, Micros),
        reach: Reach,
        is_suspect: bool,
    ) -> Vec<Action> {
        let now = wall.second();
        let mut actions = Vec::new();
        let cut_off = match reach {
            Reach::Silent { since, from }
                if !is_suspect && monotonic.since(from) >= self.after * SECOND_US =>
            {
                Some(since)
            }
            Reach::Silent { .. } | Reach::Answered | Reach::Unknown => None,
        };
        let mut lost = BTreeMap::new();
        let mut well = BTreeSet::new();
        for (name, service) in &mut self.services {
            service.forget(now, self.after);
            let is_young = now < service.since.plus(service.grace.max(self.after));
            if !is_young && service.is_lost(now, self.after) {
                lost.insert(name.clone(), service.lost_since(now));
            } else if service.is_well(now, 2 * self.after) {
                well.insert(name.clone());
            }
        }
        for (name, since) in &lost {
            let Some(cut_off) = cut_off.filter(|_| self.kept.worked.contains(name)) else { continue };
            if !self.kept.alerts.contains_key(name) {
                let alert = Alert {
                    stage: Stage::Opening,
                    since: since.0,
                    cut_off: cut_off.second().0,
                    opened_us: wall.0,
                    closed_us: None,
                    maybe_taken: false,
                };
                self.kept.alerts.insert(name.clone(), alert);
                self.changed = true;
            }
        }
        for service in std::mem::take(&mut self.unreported) {
            self.report(&service, &mut actions);
        }
        let names: Vec<String> = self.kept.alerts.keys().cloned().collect();
        for name in names {
            // What is not probed any more can be told of by nobody here.
            let is_well =
                well.contains(&name) || !self.services.contains_key(&name) && !self.places.is_empty();
            let may_open = cut_off.is_some() && lost.contains_key(&name);
            self.advance(&name, is_well, reach == Reach::Answered, wall, &mut actions);
            self.send(&name, may_open, monotonic, &mut actions);
        }
        self.tries.retain(|name, _| self.kept.alerts.contains_key(name));
        if std::mem::take(&mut self.changed) {
            actions.insert(0, Action::Keep);
        }
        actions
    }

    /// Lets an alert take the step that what is seen asks for.
    fn advance(
        &mut self,
        name: &str,
        is_well: bool,
        is_answered: bool,
        wall: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(alert) = self.kept.alerts.get_mut(name) else { return };
        let is_on_its_way = self.tries.get(name).is_some_and(|tries| tries.in_flight);
        match (alert.stage, is_well) {
            _ if is_on_its_way => {}
            (Stage::Open, true) => {
                (alert.stage, alert.closed_us, self.changed) = (Stage::Closing, Some(wall.0), true)
            }
            (Stage::Opening, true) if alert.maybe_taken => {
                (alert.stage, alert.closed_us, self.changed) = (Stage::Closing, Some(wall.0), true);
            }
            (Stage::Opening | Stage::HandedOver | Stage::Refused, true) => {
                self.kept.alerts.remove(name);
                self.changed = true;
            }
            // A collector sees it by itself, and ends what may have arrived.
            (Stage::Opening, false) if is_answered => {
                if alert.maybe_taken {
                    alert.stage = Stage::Open;
                    self.report(name, actions);
                } else {
                    self.kept.alerts.remove(name);
                }
                self.changed = true;
            }
            (Stage::Opening | Stage::Open | Stage::HandedOver | Stage::Refused | Stage::Closing, _) => return,
        }
        if !is_on_its_way {
            self.tries.remove(name);
        }
    }

    /// Sends what is due. What is to be opened is sent only while it still is so.
    fn send(&mut self, name: &str, may_open: bool, monotonic: Micros, actions: &mut Vec<Action>) {
        let Some(alert) = self.kept.alerts.get(name) else { return };
        let is_busy = self.tries.values().filter(|tries| tries.in_flight).count() >= AT_ONCE;
        let tries = self.tries.entry(name.to_owned()).or_default();
        let is_due = match alert.stage {
            Stage::Opening => may_open,
            Stage::Closing => true,
            Stage::Open => tries.say_again.is_some_and(|at| at <= monotonic),
            Stage::HandedOver | Stage::Refused => false,
        };
        if is_due && !is_busy && !tries.in_flight && tries.not_before <= monotonic {
            tries.in_flight = true;
            actions.push(Action::Send { service: name.to_owned(), alert: alert.clone() });
        }
    }

    /// What came of an attempt to tell of `service`.
    pub fn sent(&mut self, service: &str, sent: &Sent, monotonic: Micros) -> Vec<Action> {
        let mut actions = Vec::new();
        let tries = self.tries.entry(service.to_owned()).or_default();
        let pause = (1 << tries.in_vain.min(10)).min(RETRY_SECONDS_MAX);
        let (pause, say_again) = match sent {
            Sent::Taken { say_again } => (0, *say_again),
            Sent::NotTaken { retry_after } | Sent::Unknown { retry_after } => {
                (retry_after.unwrap_or(0).min(RETRY_AFTER_MAX).max(pause), None)
            }
            Sent::Refused(_) => (pause, None),
        };
        // What was to be said again and was not taken is still to be.
        let say_again = say_again.or_else(|| tries.say_again.filter(|_| pause > 0).map(|_| 0));
        let after = |seconds: u64| monotonic.plus(seconds * SECOND_US);
        *tries = Tries {
            in_flight: false,
            in_vain: if pause == 0 { 0 } else { tries.in_vain + 1 },
            not_before: after(pause),
            say_again: say_again.map(after),
        };
        let Some(alert) = self.kept.alerts.get_mut(service) else { return actions };
        let before = alert.clone();
        match (alert.stage, sent) {
            (Stage::Opening, Sent::Taken { .. }) => {
                alert.stage = Stage::Open;
                self.report(service, &mut actions);
            }
            (Stage::Opening, Sent::Unknown { .. }) => alert.maybe_taken = true,
            (Stage::Opening, Sent::Refused(_)) => {
                alert.stage = if alert.maybe_taken { Stage::Open } else { Stage::Refused };
                actions.push(Action::Unheard { service: service.to_owned() });
            }
            (Stage::Closing, Sent::Taken { .. }) => _ = self.kept.alerts.remove(service),
            (Stage::Closing, Sent::Refused(_)) => {
                self.kept.alerts.remove(service);
                actions.push(Action::Unheard { service: service.to_owned() });
            }
            (_, Sent::NotTaken { .. } | Sent::Unknown { .. })
            | (Stage::Open | Stage::HandedOver | Stage::Refused, Sent::Taken { .. } | Sent::Refused(_)) => {}
        }
        if self.kept.alerts.get(service) != Some(&before) {
            actions.insert(0, Action::Keep);
        }
        actions
    }

    /// A collector ends what was told under `key`.
    pub fn adopted(&mut self, key_of_alert: &str) {
        let alerts = self.kept.alerts.iter_mut();
        for (_, alert) in alerts.filter(|(service, _)| key(service) == key_of_alert) {
            if alert.stage == Stage::Open {
                alert.stage = Stage::HandedOver;
                self.changed = true;
            }
        }
    }

    fn report(&self, service: &str, actions: &mut Vec<Action>) {
        if let Some(alert) = self.kept.alerts.get(service) {
            let second = Timestamp(alert.opened_us).second();
            actions.push(Action::Report { service: service.to_owned(), second });
        }
    }
}

impl Service {
    fn forget(&mut self, now: Second, after: u64) {
        let kept = now.minus(SETTLED_SECONDS + 2 * after);
        // Of a clock that was ahead and set back, nothing is left.
        self.seconds.retain(|second, _| *second >= kept && *second <= now.plus(SETTLED_SECONDS));
    }

    /// Whether `is_so` holds of each of the newest `seconds` that have settled.
    fn each(&self, now: Second, seconds: u64, is_so: impl Fn(&Tally, u32) -> bool) -> bool {
        let until = now.minus(SETTLED_SECONDS);
        let settled = self.seconds.range(until.minus(seconds)..until);
        self.series > 0 && settled.filter(|(_, tally)| is_so(tally, self.series)).count() as u64 == seconds
    }

    fn is_lost(&self, now: Second, seconds: u64) -> bool {
        self.each(now, seconds, |tally, series| tally.lost > 0 && tally.lost + tally.sent == series)
    }

    fn is_well(&self, now: Second, seconds: u64) -> bool {
        self.each(now, seconds, |tally, series| tally.delivered + tally.sent == series)
    }

    /// The first second, of those that are held, from which on something was lost in each.
    fn lost_since(&self, now: Second) -> Second {
        let until = now.minus(SETTLED_SECONDS);
        let settled = self.seconds.range(..until).rev();
        let lost = settled.take_while(|(_, tally)| tally.lost > 0 && tally.delivered == 0);
        lost.last().map_or(until, |(second, _)| *second)
    }
}
