//! What holds or does not, beside loss: silent regions, endpoints that never worked or are not required, sick agents,
//! certificates.

use std::collections::BTreeMap;

use aviary_core::{
    Second, Span, Timestamp,
    detect::{Level, Tally},
    extent::Blame,
    incident::{Cause, Condition, Policy},
    page::Severity,
    verdict::{SAMPLES_MIN, SEEN_SECONDS},
};

use super::{
    State, Watch,
    groups::{Group, Groups},
    observe::found,
};
use crate::{ServiceOptions, closed_until};

/// A region must be silent for so long, those seconds among them in which it was not noticed.
const SILENT_SECONDS: u64 = 30;

/// An agent must suspect itself for so long.
const SICK_SECONDS: u64 = 10;

/// That an endpoint works is told for so long after it began to.
const WORKS_SECONDS: u64 = 7_200;

/// Certificates are looked at so often.
const CERTIFICATES_SECONDS: u64 = 60;

const DAY: i64 = 86_400;

impl State {
    pub(super) fn conditions(&self, groups: &Groups, watch: &Watch, now: Timestamp) -> Vec<Condition> {
        let mut conditions = Vec::new();
        // Whoever is there reports within that time.
        if now.second().0.saturating_sub(self.watching_since.0) >= SAMPLES_MIN {
            self.silent_regions(watch, &mut conditions);
        }
        for (name, judged) in &groups.services {
            let service = self.service(name);
            for (apart, group) in &judged.apart {
                let grace = service.alerting.start_up_grace;
                if !apart.never_worked {
                    optional(&service, &apart.endpoint, group, &mut conditions);
                    continue;
                }
                // What the service took, and storage may have, is no sign that it does not work.
                // Within a short grace one agent does not measure enough.
                let known = group.bank.before(judged.final_until).newest(grace.max(2 * SAMPLES_MIN));
                let is_old = now.second().0.saturating_sub(apart.since.0) >= grace;
                if is_old && known.judged >= SAMPLES_MIN && known.lost == known.judged {
                    conditions.push(never_worked(&service, &apart.endpoint, Some(known)));
                }
            }
        }
        // What works by now is not among those that are apart, and ends what was told of it.
        let is_news = |since: &Second| since.plus(WORKS_SECONDS) > now.second();
        let works = watch.worked.iter().filter(|(_, since)| is_news(since));
        conditions.extend(
            works.map(|((service, endpoint), _)| never_worked(&self.service(service), endpoint, None)),
        );
        self.sick_agents(now, &mut conditions);
        if now.second().0.is_multiple_of(CERTIFICATES_SECONDS) {
            self.certificates(groups, now, &mut conditions);
        }
        conditions
    }

    fn policy_of(&self, service: &str) -> Policy {
        let service = self.service(service);
        policy(&service)
    }

    fn silent_regions(&self, watch: &Watch, conditions: &mut Vec<Condition>) {
        for (region, known) in &watch.regions {
            let holds = !known.is_seen;
            // Of a region that is seen nothing is to be said but that.
            let touched = known.services.iter().filter(|_| holds);
            let policies: Vec<Policy> = touched.clone().map(|service| self.policy_of(service)).collect();
            let severity = policies.iter().map(|policy| policy.blind).max().unwrap_or(Severity::Error);
            let shared = policies.first().filter(|_| policies.len() == 1).cloned().unwrap_or_default();
            conditions.push(Condition {
                cause: Cause::SilentRegion { region: region.clone() },
                holds,
                after: SILENT_SECONDS - SEEN_SECONDS,
                severity,
                services: touched.cloned().collect(),
                summary: format!("we cannot see {region}: nobody reports from there"),
                measured: Some(
                    "Nothing is measured from there, and nothing says that a service lost anything."
                        .to_owned(),
                ),
                blame: Blame::Unclear,
                owner: shared.owner,
                runbook: shared.runbook,
                shadow: holds && policies.iter().all(|policy| policy.shadow),
            });
        }
    }

    fn sick_agents(&self, now: Timestamp, conditions: &mut Vec<Condition>) {
        let newest = Span::before(closed_until(now), SICK_SECONDS);
        for (vantage, agent) in &self.agents {
            let holds = agent.is_suspect(newest);
            // Of most agents there never was such a thing to tell.
            if holds || agent.is_suspect(Span::new(Second(0), newest.until)) {
                let fails = |second: &Second| agent.is_suspect(Span::new(*second, second.plus(1)));
                let failing = newest.iter().filter(fails).count();
                conditions.push(Condition {
                    cause: Cause::SickAgent { node: vantage.node.clone() },
                    holds,
                    after: SICK_SECONDS,
                    severity: Severity::Warning,
                    services: Vec::new(),
                    summary: format!(
                        "{} in {} fails its own controls: what it says is set apart",
                        vantage.node, vantage.region
                    ),
                    measured: Some(format!(
                        "In {failing} of the newest {SICK_SECONDS} s its own controls failed: what it says of services tells \
                         nothing."
                    )),
                    blame: Blame::Source,
                    owner: None,
                    runbook: None,
                    shadow: false,
                });
            }
        }
    }

    fn certificates(&self, groups: &Groups, now: Timestamp, conditions: &mut Vec<Condition>) {
        let mut ends: BTreeMap<&str, i64> = BTreeMap::new();
        for (endpoint, _, not_after) in self.agents.values().flat_map(|agent| agent.certificates()) {
            let end = ends.entry(endpoint).or_insert(not_after);
            *end = (*end).min(not_after);
        }
        if ends.is_empty() {
            return;
        }
        let today = i64::try_from(now.second().0).unwrap_or(i64::MAX);
        for (service, endpoint) in groups.endpoints(&self.catalog) {
            if let Some(end) = ends.get(endpoint) {
                // Of no certificate is told so early.
                let limits = self.service(service).alerting.certificate_days;
                let limits = limits.unwrap_or((i64::MIN, i64::MIN));
                let days = (end - today).div_euclid(DAY);
                let policy = self.policy_of(service);
                conditions.push(Condition::certificate(service, &policy, endpoint, days, limits));
            }
        }
    }
}

pub(super) fn policy(service: &ServiceOptions) -> Policy {
    let (owner, runbook) = (service.owner.as_deref(), service.runbook.as_deref());
    service.alerting.policy(service.policy.min_vantages, owner, runbook)
}

/// What is said of an endpoint that never worked, of which so much is `known`; none of one that works by now.
fn never_worked(service: &ServiceOptions, endpoint: &str, known: Option<Tally>) -> Condition {
    let Policy { owner, runbook, shadow, .. } = policy(service);
    let name = service.name.clone();
    Condition {
        holds: known.is_some(),
        after: 0,
        severity: Severity::Warning,
        summary: format!("{name}: {endpoint} has never worked: no datapoint ever arrived over it"),
        measured: known.map(|known| format!("Lately {} of {} lost.", known.lost, known.judged)),
        blame: Blame::Unclear,
        services: vec![name.clone()],
        cause: Cause::NeverWorked { service: name, endpoint: endpoint.to_owned() },
        owner,
        runbook,
        shadow,
    }
}

/// What is seen of an endpoint that the service does not require; nothing where nothing is judged of it.
fn optional(service: &ServiceOptions, endpoint: &str, group: &Group, conditions: &mut Vec<Condition>) {
    let bank = &group.bank;
    if bank.newest(SAMPLES_MIN).judged == 0 {
        return;
    }
    let test = group.test(service.alerting.burst);
    let found = found(bank, &test, 300);
    let holds = found.first().is_some_and(|found| found.level == Level::Firing);
    let Policy { page_after, owner, runbook, shadow, .. } = policy(service);
    let (name, loss) = (service.name.clone(), found.first().map_or(0.0, |found| found.tally.loss()));
    let percent = aviary_core::extent::percent(loss);
    let measured = found.first().map(|found| {
        let Tally { judged, lost } = found.tally;
        format!("In {} s {lost} of {judged} lost; the service does not require it.", found.seconds)
    });
    conditions.push(Condition {
        holds,
        after: page_after,
        severity: Severity::Info,
        summary: format!("{name}: {endpoint}, which is not required, {percent} lost"),
        measured,
        blame: Blame::Unclear,
        services: vec![name.clone()],
        cause: Cause::Optional { service: name, endpoint: endpoint.to_owned() },
        owner,
        runbook,
        shadow,
    });
}
