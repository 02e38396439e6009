//! Where processor time goes.

use std::time::Duration;

use pprof::{ProfilerGuardBuilder, Report};

use super::{
    ProfileError, blocking,
    format::{Frame, Kind, Sample, encode},
};

/// How often somebody who spends processor time is interrupted, a second of it; not a whole part of what is done each second.
const HERTZ: i32 = 99;

/// Where nobody may be unwound: see the [module](super).
const NOT_IN: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// The profile of `seconds` from `began_us` on.
pub(super) async fn profile(seconds: u64, began_us: u64) -> Result<Vec<u8>, ProfileError> {
    let refused = |error: pprof::Error| ProfileError::System(error.to_string());
    let guard = ProfilerGuardBuilder::default().frequency(HERTZ).blocklist(&NOT_IN).build();
    let guard = guard.map_err(refused)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // To read the names of functions takes a while.
    blocking(move || {
        let report = guard.report().build().map_err(refused)?;
        Ok(encoded(&report, seconds, began_us))
    })
    .await
}

fn encoded(report: &Report, seconds: u64, began_us: u64) -> Vec<u8> {
    let period = 1_000_000_000 / i64::from(HERTZ);
    let samples = report.data.iter().map(|(stack, count)| {
        let frames = stack.frames.iter().map(|inlined| {
            let named = inlined.iter().map(|symbol| Frame {
                name: symbol.name(),
                file: symbol.filename().into_owned(),
                line: symbol.lineno(),
            });
            named.collect()
        });
        let count = *count as i64;
        Sample {
            frames: frames.collect(),
            values: vec![count, count * period],
            thread: Some(stack.thread_name.clone()),
        }
    });
    let kinds = [Kind("samples", "count"), Kind("cpu", "nanoseconds")];
    encode(&kinds, (Kind("cpu", "nanoseconds"), period), samples, (began_us, seconds))
}
