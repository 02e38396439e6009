//! What an earlier life of this agent left: it may have been killed with slots that it had told nobody.

use aviary_core::{Clock, Outcome, Second, rollout::Held};
use aviary_store::Spool;
use aviary_wire::{
    progress::Progress,
    report::{GAPS_MAX, Gap, Report, Roster},
};

use crate::{PROGRAM, batch, spool};

/// So much of what an earlier life spooled is looked through for slots that its progress does not mention.
const RECOVERED_BYTES_MAX: u64 = 64 << 20;
const RECOVERED_RECORDS_MAX: usize = 1_000;

/// What an earlier life left of how far it had told its series, and those of their rosters that only its reports have.
pub(crate) fn recover(spool: &mut Spool) -> Option<(Progress, Vec<Roster>)> {
    let mut progress = spool::progress(spool)?;
    let spooled = spool.newest(RECOVERED_BYTES_MAX, RECOVERED_RECORDS_MAX);
    let reports: Vec<_> = spooled
        .into_iter()
        .map_while(|(_, record)| Report::decode(&record.body).ok())
        // A life that ended before it kept any progress may have told, on top, what it found untold.
        .filter(|report| report.boot == progress.boot)
        .take_while(|report| report.sequence >= progress.sequence)
        .collect();
    catch_up(&mut progress, &reports);
    let rosters = reports.into_iter().filter_map(|report| report.roster);
    Some((progress, rosters.collect()))
}

/// What an earlier life of this agent did not tell: reports of it, made by the life `boot` that begins at `first`.
pub(crate) fn untold<C: Clock>(
    (progress, rosters): (Progress, Vec<Roster>),
    (configuration, held): (&str, &Option<Vec<Held>>),
    boot: u64,
    first: Second,
    clock: &C,
) -> Vec<Report> {
    let mut reports = Vec::new();
    for crew in &progress.crews {
        let roster = rosters.iter().find(|roster| roster.id() == crew.roster_id);
        let until = crew.until.map_or(first, |until| until.min(first));
        let gaps = crew.series.iter().enumerate().flat_map(|(place, series)| {
            series.untold(until).map(move |span| Gap {
                first: place as u32,
                count: 1,
                span,
                outcome: Outcome::Missed,
            })
        });
        let gaps = batch::merged(gaps.collect());
        for gaps in gaps.chunks(GAPS_MAX) {
            reports.push(Report {
                boot,
                sequence: reports.len() as u64,
                wall: clock.wall(),
                monotonic: clock.monotonic(),
                configuration: configuration.to_owned(),
                roster_id: crew.roster_id,
                roster: roster.cloned(),
                gaps: gaps.to_vec(),
                program: PROGRAM.to_owned(),
                services: held.clone(),
                ..Report::default()
            });
        }
    }
    reports
}

/// Tells `progress` of what reports say that were spooled after it.
fn catch_up(progress: &mut Progress, reports: &[Report]) {
    for report in reports.iter().filter(|it| it.boot == progress.boot && it.sequence >= progress.sequence) {
        let crews = progress.crews.iter_mut();
        for crew in crews.filter(|crew| crew.roster_id == report.roster_id) {
            crew.tell(&report.slots, &report.gaps);
        }
    }
}
