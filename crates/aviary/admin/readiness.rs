//! Whether the agent does its work: what `/readyz` says.
//!
//! | it says | when |
//! |---|---|
//! | 503 `shutting_down` | from SIGTERM on |
//! | 503 `not_ready` | a series does not tick, or reports are neither taken nor can be kept |
//! | 200 `ready`, with `warnings` | all of its work is done, and somebody should look |
//! | 200 `ready` | otherwise |
//!
//! A configuration that could not be loaded is a warning: the agent goes on with the one before. Whoever rolls out or
//! balances by this address would otherwise let a typing error stop the measuring; `/healthcheck` fails for it.

use super::standing::{Discovery, Standing};

/// How long a collector may be silent before it is worth a word, and before we are not ready where nothing can be kept.
pub(super) const SILENCE_MAX_US: u64 = 10_000_000;

/// How far the collector's clock and ours may be apart.
pub(super) const OFFSET_MAX_US: u64 = 1_000_000;

/// What keeps the agent from its work, and what somebody should look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Readiness {
    /// Why it is not ready; nothing if it is.
    pub(super) reasons: Vec<String>,
    /// What is wrong all the same.
    pub(super) warnings: Vec<String>,
}

/// Whether the agent that stands so does its work.
pub(super) fn readiness(standing: &Standing) -> Readiness {
    let Standing { series, ticking, spool, shipping, reload, discoveries, .. } = standing;
    let mut said = Readiness::default();
    if ticking < series {
        let reason = format!("series: {ticking} of {series} opened a slot within the last 3 s");
        said.reasons.push(reason);
    } else if *series == 0 {
        said.warnings.push("series: there are none; which [[service]] should be probed?".to_owned());
    }
    let silence = standing.now.since(shipping.last_taken.unwrap_or(standing.started));
    let disk = match spool.on_disk {
        Some(false) => {
            let error = spool.last_error.as_deref().unwrap_or("no reason is known");
            Some(format!("spool: cannot be written to disk: {error}"))
        }
        Some(true) | None => None,
    };
    if silence > SILENCE_MAX_US {
        let seconds = silence / 1_000_000;
        let error = shipping.last_error.as_deref().unwrap_or("no error is known");
        let silent = format!(
            "shipping: no collector took a report for {seconds} s ({}: {error}); {} slots wait",
            shipping.collector, spool.slots
        );
        if disk.is_some() { &mut said.reasons } else { &mut said.warnings }.push(silent);
        said.reasons.extend(disk);
    } else {
        said.warnings.extend(disk);
    }
    for Discovery { service, name, trouble, .. } in discoveries {
        said.warnings
            .extend(trouble.as_ref().map(|trouble| format!("discovery: {name} of {service}: {trouble}")));
    }
    if let Some(error) = &reload.error {
        said.warnings.push(format!("configuration: not loaded, the one before stands: {error}"));
    }
    if standing.self_suspect {
        said.warnings.push("controls: they fail too; look at this host and its network first".to_owned());
    }
    if let Some(offset) = shipping.clock_offset_us.filter(|offset| offset.unsigned_abs() >= OFFSET_MAX_US) {
        said.warnings.push(format!("clock: {}", offset_in_words(offset)));
    }
    said
}

/// An offset of clocks that is too large, with what to do about it.
pub(super) fn offset_in_words(offset_us: i64) -> String {
    let seconds = offset_us.unsigned_abs() as f64 / 1e6;
    let way = if offset_us > 0 { "ahead of" } else { "behind" };
    format!("the collector's is {seconds:.1} s {way} this host's; which of them is not synchronised?")
}

#[cfg(test)]
mod tests {
    use aviary_core::Timestamp;

    use super::*;
    use crate::admin::standing::{Reload, Shipping, Spool};

    /// An agent that runs for 100 s, with six series, and nothing wrong.
    fn well() -> Standing {
        let now = Timestamp(1_000_000_000);
        Standing {
            started: Timestamp(900_000_000),
            now,
            series: 6,
            ticking: 6,
            shipping: Shipping {
                last_taken: Some(now),
                collector: "https://c:8610".to_owned(),
                ..Shipping::default()
            },
            ..Standing::default()
        }
    }

    fn silent(mut standing: Standing) -> Standing {
        standing.shipping.last_taken = Some(Timestamp(958_000_000));
        standing.shipping.last_error = Some("refused".to_owned());
        standing
    }

    fn disk(mut standing: Standing, on_disk: bool) -> Standing {
        let last_error = (!on_disk).then(|| "no space left on device".to_owned());
        standing.spool = Spool { on_disk: Some(on_disk), last_error, slots: 252, ..Spool::default() };
        standing
    }

    #[test]
    fn what_stops_the_work_is_told_from_what_does_not() {
        let bad_file = Reload { at: None, error: Some("aviary.toml:3:1: unknown key".to_owned()) };
        let mut offset = well();
        offset.shipping.clock_offset_us = Some(-1_500_000);
        let mut fresh = well();
        (fresh.started, fresh.shipping.last_taken) = (Timestamp(999_000_000), None);
        // Reasons and warnings, by what they must contain.
        let table: &[(&str, Standing, &[&str], &[&str])] = &[
            ("well", well(), &[], &[]),
            ("stalled", Standing { ticking: 4, ..well() }, &["series: 4 of 6"], &[]),
            ("empty", Standing { ticking: 0, series: 0, ..well() }, &[], &["there are none"]),
            ("just started, never reported", disk(fresh, false), &[], &["no space"]),
            (
                "collector gone, kept in memory",
                silent(well()),
                &[],
                &["no collector took a report for 42 s (https://c:8610: refused)"],
            ),
            ("collector gone, kept on disk", silent(disk(well(), true)), &[], &["252 slots wait"]),
            ("collector gone, disk full", silent(disk(well(), false)), &["42 s", "no space left"], &[]),
            ("disk full, collector there", disk(well(), false), &[], &["spool: cannot be written"]),
            (
                "bad file",
                Standing { reload: bad_file, ..well() },
                &[],
                &["configuration: not loaded, the one before stands: aviary.toml:3:1"],
            ),
            ("self-suspect", Standing { self_suspect: true, ..well() }, &[], &["controls: they fail too"]),
            ("clock", offset, &[], &["1.5 s behind"]),
        ];
        for (case, standing, reasons, warnings) in table {
            let said = readiness(standing);
            for (said, expected) in [(&said.reasons, reasons), (&said.warnings, warnings)] {
                assert_eq!(said.len(), expected.len(), "{case}: {said:?}");
                assert!(
                    said.iter().zip(*expected).all(|(said, part)| said.contains(part)),
                    "{case}: {said:?}"
                );
            }
        }
    }
}
