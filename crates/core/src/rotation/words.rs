//! What happened to a node, as people read it.

use super::{Guard, Proof};
use crate::extent::percent;

/// Such as `48 of 48 slots lost in 8 s from dc-1 and loopback, while its 2 peers lost 0 of 96`.
pub(super) fn proof(proof: &Proof) -> String {
    let Proof { lost, scheduled, window, vantages, peers, peers_lost, peers_scheduled } = proof;
    let peers = if *peers == 1 { "1 peer".to_owned() } else { format!("{peers} peers") };
    format!(
        "{lost} of {scheduled} slots lost in {window} s from {}, while its {peers} lost {peers_lost} of {peers_scheduled}",
        vantages.join(", "),
    )
}

/// What was done, or would be.
pub(super) fn taken_out(node: &str, is_live: bool, shown: &Proof, wait: u64) -> String {
    let shown = proof(shown);
    let back = format!("it returns no sooner than in {}", duration(wait));
    match is_live {
        true => format!("{node} was taken out of rotation (live): {shown}; {back}"),
        false => format!("{node} would be taken out of rotation (dry run): {shown}; {back}"),
    }
}

pub(super) fn returning(node: &str, is_live: bool, weight: u8) -> String {
    let (verb, mode) = if is_live { ("returns", "live") } else { ("would return", "dry run") };
    format!("{node} {verb} at {weight} % of its weight ({mode}): it has been well again for long enough")
}

pub(super) fn back(node: &str, is_live: bool, why: &str) -> String {
    let (verb, mode) = if is_live { ("is", "live") } else { ("would be", "dry run") };
    format!("{node} {verb} in rotation again ({mode}): {why}")
}

/// Such as `2 nodes are bad, none is taken out: 1 of 3 may be out`.
pub(super) fn refused(is_shared: bool, bad: &[&str], out: &[&str], is_live: bool, limit: &str) -> String {
    let names = bad.join(", ");
    let (are, none) = match bad.len() {
        1 => ("1 node is bad".to_owned(), "it is not"),
        many => (format!("{many} nodes are bad"), "none is"),
    };
    let none = if is_live { none } else { "none would be" };
    let beside = match out {
        [] => String::new(),
        out => format!(", beside {} which is out already", out.join(", ")),
    };
    let meaning = if is_shared { "; this is no failure of single nodes" } else { "" };
    format!("{are}, {none} taken out: {limit} ({names}{beside}){meaning}")
}

/// What a guard allows.
pub(super) fn limit(guard: Guard, nodes: usize, figure: u64) -> String {
    match guard {
        Guard::Budget => format!("of {nodes} nodes {figure} may be out at once"),
        Guard::Zone => "of a zone one may be out at once".to_owned(),
        Guard::Floor => format!("of {nodes} nodes {figure} must stay in rotation"),
        Guard::ServiceRate => format!("one may go each {}", duration(figure)),
        Guard::FleetRate => format!("of all services {figure} may go in an hour"),
    }
}

/// What the floor allows where some of the nodes are measured by nobody.
pub(super) fn floor(nodes: usize, figure: u64, silent: usize) -> String {
    let are = if silent == 1 { "is" } else { "are" };
    format!("{}, and {silent} of them {are} measured by nobody", limit(Guard::Floor, nodes, figure))
}

/// What the budget allows where no more than these are measured.
pub(super) fn budget(measured: usize, figure: u64) -> String {
    format!("of {measured} nodes that are measured {figure} may be out at once")
}

fn duration(seconds: u64) -> String {
    if seconds > 60 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    }
}

/// What whoever balances is told of a node that is out.
pub(super) fn reason(shown: &Proof) -> String {
    format!("{} lost: {}", percent(shown.loss()), proof(shown))
}
