//! An attempt as one line of JSON: a contract with other programs (design, section 6).

use aviary_core::{Endpoint, Fault, Outcome, Phase, Second};
use aviary_probe::{Handshake, Observation, TlsFacts};
use serde_json::{Map, Value, json};

/// The line of one attempt, with its members in the contract's order.
pub(super) fn line(endpoint: &Endpoint, second: Second, observed: &Observation) -> Value {
    let mut line = Map::new();
    line.insert("endpoint".to_owned(), endpoint.to_string().into());
    line.insert("protocol".to_owned(), endpoint.protocol().name().into());
    line.insert("slot".to_owned(), second.0.into());
    insert_outcome(&mut line, observed.outcome);
    if let (Some(reached), false) = (observed.reached, matches!(observed.outcome, Outcome::Delivered(_))) {
        line.insert("reached".to_owned(), reached.name().into());
    }
    line.insert("address".to_owned(), observed.address.map(|address| address.to_string()).into());
    let mut timings = Map::new();
    for phase in Phase::ALL {
        if let Some(micros) = observed.timings.get(*phase) {
            timings.insert(phase.name().to_owned(), micros.into());
        }
    }
    timings.insert("total".to_owned(), observed.timings.total_us.into());
    line.insert("timings_us".to_owned(), timings.into());
    if let Some(tls) = &observed.tls {
        line.insert(
            "tls".to_owned(),
            json!({
                "version": tls.version,
                "cipher": tls.cipher,
                "handshake": handshake_name(tls.handshake),
                "not_after": not_after(tls).map(|at| at.to_string()),
            }),
        );
    }
    line.into()
}

/// An outcome as its members `outcome`, `evidence`, `phase`, `fault` and `status`, where it has them.
pub(crate) fn insert_outcome(line: &mut Map<String, Value>, outcome: Outcome) {
    line.insert("outcome".to_owned(), outcome.name().into());
    match outcome {
        Outcome::Delivered(evidence) => {
            line.insert("evidence".to_owned(), evidence.name().into());
        }
        Outcome::Lost { phase, fault } => {
            line.insert("phase".to_owned(), phase.name().into());
            line.insert("fault".to_owned(), fault.name().into());
            if let Fault::Status(status) = fault {
                line.insert("status".to_owned(), status.into());
            }
        }
        Outcome::Local { phase, fault } => {
            line.insert("phase".to_owned(), phase.name().into());
            line.insert("fault".to_owned(), fault.name().into());
        }
        Outcome::Missed | Outcome::Muted => {}
    }
}

pub(super) const fn handshake_name(handshake: Handshake) -> &'static str {
    match handshake {
        Handshake::Full => "full",
        Handshake::Resumed => "resumed",
        Handshake::Failed => "failed",
    }
}

pub(super) fn not_after(tls: &TlsFacts) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(tls.not_after?).ok()
}
