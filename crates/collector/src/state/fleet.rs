//! What reports say of the agents that send them.

use std::sync::Arc;

use aviary_core::{
    Second, SeriesId, Tag, Timestamp, Vantage,
    incident::{FALLBACKS_MAX, Fallback},
};
use aviary_wire::report::{self, Report, What};

use super::{
    AGENTS_MAX, AHEAD_SECONDS_MAX, AgentSeen, KnownRoster, RosterKey, State,
    schedule::{self, Statement},
};
use crate::events::Event;

impl State {
    /// Notes what the report says of its agent.
    pub(super) fn see(&mut self, known: &KnownRoster, key: &RosterKey, report: &Report, now: Timestamp) {
        let vantage = &known.vantage;
        if !self.agents.contains_key(&**vantage) {
            self.make_room_for_agent();
        }
        let agent =
            self.agents.entry(Vantage::clone(vantage)).or_insert_with(|| AgentSeen::new(report, key, now));
        let (was_double, roster) = (agent.is_double, agent.roster.clone());
        let is_news = agent.see(report, key, known.series.len(), now);
        if agent.is_double && !was_double {
            let Vantage { node, region, .. } = &**vantage;
            tracing::warn!(
                node,
                region,
                "Two agents report from one vantage, and what they tell is merged; give one another vantage.node."
            );
        }
        if let Some(forgotten) = agent.use_roster(key) {
            self.rosters.remove(&forgotten);
        }
        if is_news && roster != *key {
            let (catalog, series) = (&self.catalog, &known.series);
            agent
                .keep_certificates(|url| series.iter().any(|(id, _)| catalog.tag(*id, Tag::Endpoint) == url));
        }
        agent.note_certificates(&report.certificates, report.wall);
        agent.suspect(&report.self_suspect);
        agent.forget_before(self.ledger.held().from);
        self.reschedule(known, report, now);
        let is_now = |event: &&report::Event| event.second <= now.second().plus(AHEAD_SECONDS_MAX);
        for event in report.events.iter().filter(is_now) {
            self.events.note(Event::seen(event, Arc::clone(vantage)));
            if let What::Paged { service, key, receiver } = event.what.clone()
                && self.paged.len() < FALLBACKS_MAX
            {
                self.paged.push(Fallback::new(service, key, receiver, event.second, now.second()));
            }
        }
    }

    fn make_room_for_agent(&mut self) {
        if self.agents.len() < AGENTS_MAX {
            return;
        }
        let silent = self.agents.iter().min_by_key(|(_, agent)| agent.last_report).map(|(it, _)| it.clone());
        let forgotten = silent.and_then(|silent| self.agents.remove(&silent));
        for roster in forgotten.iter().flat_map(|agent| agent.rosters()) {
            self.rosters.remove(roster);
        }
    }

    /// Lets series begin and end as the report's roster states, where it is the agent's word.
    fn reschedule(&mut self, known: &KnownRoster, report: &Report, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&*known.vantage) else { return };
        // What begins in an hour would outlast whatever is stated until then: it waits for its time.
        let is_ahead = known.since > now.second().plus(AHEAD_SECONDS_MAX);
        if is_ahead || (agent.schedule.is_past(known.since) && report.roster.is_none()) {
            return;
        }
        let newest = self.rosters.get(&agent.roster).map_or(Second(u64::MAX), |roster| roster.since);
        if known.since > newest && report.boot != agent.boot {
            if report.roster.is_some() {
                let current = self.rosters.get(&agent.roster);
                let is_current = |id: &SeriesId| {
                    current.is_some_and(|roster| roster.series.iter().any(|(current, _)| current == id))
                };
                let others = known.series.iter().copied().filter(|(id, _)| !is_current(id));
                let changed = schedule::only_what_is_told(&mut self.ledger, others);
                self.repaused(changed);
            }
            return;
        }
        let is_new = agent.schedule.state(Statement {
            since: known.since,
            told: report.wall,
            roster_id: report.roster_id,
            boot: report.boot,
            series: Arc::clone(&known.series),
        });
        let overruled = agent.schedule.overrule(agent.boot, newest, &mut self.ledger);
        if is_new || overruled.is_some() {
            let changed = agent.schedule.apply(&mut self.ledger);
            self.repaused(overruled.map_or(changed, |overruled| schedule::hull(overruled, changed)));
        }
    }
}
