//! `GET /healthcheck` and `GET /deepcheck`: what the collector finds of itself, and of what it depends on.
//!
//! | check of itself | fails when |
//! |---|---|
//! | `judgement` | no second was judged within 5 s |
//! | `journal` | reports are not kept: the disk has failed, has no room, or does not keep up |
//! | `history` | so much waits to be written that what comes late is refused |
//! | `canary` | our own canary lost, and nobody heard of it: nobody would hear of a loss either |
//! | `credentials` | never; it warns of a token, or the listener's certificate, that ends within 14 days |
//! | `status page` | where there is one: it could not be made, or not be written to its directory |
//!
//! | check of what it depends on | fails when |
//! |---|---|
//! | `store` | it has failed, or has had no room since a report was taken |
//! | `agents` | none reports, or fewer than 80 of 100 |
//! | `reader of SERVICE` | what the service stores cannot be told |
//! | `receiver NAME` | an incident waits for more than a minute that it is to be told of |
//!
//! Both answer `{"ok":[...],"failed":[...]}`, with `"warned":[...]` where something is to be seen to in time, 200 or, where a check failed, 500; who may not read is told which checks, and not
//! what they found. They ask nobody and touch no disk: whoever asks
//! without end is told what is known already. While a start takes up what was kept, nothing needs to have been judged. For 30 s after the start of the process nobody needs to have reported.

use aviary_core::Timestamp;
use axum::{Json, http::StatusCode};
use serde_json::{Value, json};

use crate::{
    Collector,
    delivery::{JUDGED_US_MAX, Signs, UNTOLD_US_MAX, lasted},
    journal::Condition,
    tokens::WARNED_SECONDS,
    visitor::Onlooker,
};

/// How long after the start nothing needs to have been judged, and no agent to have reported.
const STARTING_US: u64 = 30_000_000;

/// One check: what it is of, and what was found, as an error where that is not well.
struct Check {
    of: String,
    found: Result<String, String>,
}

/// What was found: `Err` where `failed`.
fn found(failed: bool, found: String) -> Result<String, String> {
    if failed { Err(found) } else { Ok(found) }
}

/// `GET /healthcheck`
pub(super) async fn of_itself(Onlooker { collector, may_read }: Onlooker) -> (StatusCode, Json<Value>) {
    let now = collector.now();
    let check = |of: &str, found| Check { of: of.to_owned(), found };
    let mut checks = vec![
        check("judgement", judgement(&collector, now)),
        check("journal", journal(&collector)),
        check("history", history(&collector)),
        check("canary", canary(&collector, now)),
    ];
    let warned = credentials(&collector, now);
    if warned.is_empty() {
        checks.push(check("credentials", Ok("none ends within 14 days".to_owned())));
    }
    if let Some(is_up_to_date) = collector.status_page().is_up_to_date() {
        checks.push(check("status page", is_up_to_date.map(|()| "shows what is known".to_owned())));
    }
    let (status, Json(mut body)) = answer(checks, may_read);
    if !warned.is_empty() {
        let told =
            |found: String| if may_read { format!("credentials: {found}") } else { "credentials".to_owned() };
        body["warned"] = json!(warned.into_iter().map(told).collect::<Vec<_>>());
    }
    (status, Json(body))
}

/// `GET /deepcheck`
pub(super) async fn of_others(Onlooker { collector, may_read }: Onlooker) -> (StatusCode, Json<Value>) {
    let now = collector.now();
    let check = |of: &str, found| Check { of: of.to_owned(), found };
    let mut checks = vec![check("store", store(&collector)), check("agents", agents(&collector))];
    let waiting = collector.judgement().waiting(now);
    {
        let state = collector.state();
        let read_back = state.standing().filter(|(name, _)| state.read_back(name).is_some());
        checks.extend(read_back.map(|(name, standing)| Check {
            of: format!("reader of {name}"),
            found: standing.storage_untold.clone().map_or_else(|| Ok("tells what is stored".to_owned()), Err),
        }));
    }
    if waiting.is_empty() {
        checks.push(check("receivers", Ok("nothing waits".to_owned())));
    }
    checks.extend(waiting.into_iter().map(|(name, since)| {
        let age = now.since(since);
        let words = format!("an incident has waited for {} to be told", lasted(age / 1_000_000));
        Check { of: format!("receiver {name}"), found: found(age > UNTOLD_US_MAX, words) }
    }));
    answer(checks, may_read)
}

/// What was found, for whoever `may_read` it; for others what the checks are of.
fn answer(checks: Vec<Check>, may_read: bool) -> (StatusCode, Json<Value>) {
    let (mut ok, mut failed) = (Vec::new(), Vec::new());
    for Check { of, found } in checks {
        let (list, found) = match found {
            Ok(found) => (&mut ok, found),
            Err(found) => (&mut failed, found),
        };
        list.push(if may_read { format!("{of}: {found}") } else { of });
    }
    let status = if failed.is_empty() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, Json(json!({"ok": ok, "failed": failed})))
}

fn judgement(collector: &Collector, now: Timestamp) -> Result<String, String> {
    if let Some(replayed) = collector.replaying() {
        return Ok(format!("begins once what was kept is taken up, of which {:.0} % is", replayed * 100.0));
    }
    match newest_signs(collector).and_then(|signs| signs.judged) {
        Some(judged) => {
            let age = now.since(judged);
            found(
                age > JUDGED_US_MAX,
                format!("the newest second was judged {} ago", lasted(age / 1_000_000)),
            )
        }
        None => {
            let failed = collector.uptime_us() > STARTING_US;
            found(failed, "nothing was judged yet; the log says why".to_owned())
        }
    }
}

fn journal(collector: &Collector) -> Result<String, String> {
    let Some(durable) = &collector.inner.durable else {
        return Ok("everything is kept in memory only; `data` in [collector] would keep it".to_owned());
    };
    match durable.journal().map(|journal| journal.condition()) {
        None => Ok("takes nothing before what was kept is taken up".to_owned()),
        Some(Condition::Keeping) => Ok("takes what comes".to_owned()),
        Some(Condition::Busy) => Err("the disk does not keep up; is it slow, or shared?".to_owned()),
        Some(Condition::Failed(error)) => Err(format!("nothing is kept: {error}")),
    }
}

fn history(collector: &Collector) -> Result<String, String> {
    let history = collector.history();
    match (history.has_room(), history.unkept()) {
        (true, 0) => Ok("keeps what is told".to_owned()),
        (true, slots) => Ok(format!("keeps what is told; {slots} slots could not be kept since the start")),
        (false, _) => Err("too much waits to be written; free some room on the disk of `data`".to_owned()),
    }
}

/// What is to be replaced soon, in words.
fn credentials(collector: &Collector, now: Timestamp) -> Vec<String> {
    let now = now.second();
    let soon = collector.expiries().into_iter().filter(|(.., at)| at.0 <= now.0 + WARNED_SECONDS);
    soon.map(|(kind, name, at)| {
        let what = match kind {
            "token" => format!("token `{name}`"),
            _ => name.clone(),
        };
        let remedy = match kind {
            "token" => format!("`aviary token new {name} --rotate` makes another secret"),
            _ => "put another in its file".to_owned(),
        };
        match at.0.checked_sub(now.0) {
            Some(left) if left > 0 => format!("{what} ends in {}; {remedy}", lasted(left)),
            _ => format!("{what} has ended; {remedy}"),
        }
    })
    .collect()
}

fn canary(collector: &Collector, now: Timestamp) -> Result<String, String> {
    match (collector.canary_silent_since(), collector.canary_delay()) {
        (Some(since), _) => {
            let age = lasted(now.since(since) / 1_000_000);
            Err(format!("it lost, and nobody was told of it for {age}: a loss would not be told of either"))
        }
        (None, Some(delay)) => Ok(format!("its last loss was told of after {delay:.1} s")),
        (None, None) => Ok("has not lost yet in this life".to_owned()),
    }
}

fn store(collector: &Collector) -> Result<String, String> {
    let Some(durable) = &collector.inner.durable else {
        return Ok("none; everything is kept in memory".to_owned());
    };
    if let Some(failure) = durable.failure() {
        return Err(failure.to_string());
    }
    match durable.journal().map(|journal| journal.condition()) {
        Some(Condition::Failed(error)) => Err(error.to_string()),
        Some(Condition::Busy | Condition::Keeping) => Ok("is written to".to_owned()),
        None => Ok("is read from: a start takes up what was kept".to_owned()),
    }
}

fn agents(collector: &Collector) -> Result<String, String> {
    if collector.replaying().is_some() {
        return Ok("may not report before what was kept is taken up".to_owned());
    }
    let is_starting = collector.uptime_us() <= STARTING_US;
    let Some(signs) = newest_signs(collector) else {
        return found(!is_starting, "nobody looked for them yet".to_owned());
    };
    let is_short = signs.agents == 0 || signs.few_report();
    let Signs { agents, fresh, .. } = signs;
    found(is_short && !is_starting, format!("{fresh} of {agents} report; see /api/v1/agents"))
}

/// What the newest loop of judgement saw.
fn newest_signs(collector: &Collector) -> Option<Signs> {
    *collector.signs().borrow()
}
