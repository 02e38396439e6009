//! Who holds memory.

use super::format::{Frame, Kind, Sample, encode};
use crate::allocator::sampled::{self, EVERY_BYTES, Noted};

/// The profile at `now_us`.
pub(super) fn profile(now_us: u64) -> Vec<u8> {
    let samples = sampled::noted().into_iter().map(|Noted { stack, allocated, held }| {
        let frames = stack.into_iter().map(named).collect();
        let values = [allocated.objects, allocated.bytes, held.objects, held.bytes];
        let values = values.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        Sample { frames, values: values.to_vec(), thread: None }
    });
    let kinds = [
        Kind("alloc_objects", "count"),
        Kind("alloc_space", "bytes"),
        Kind("inuse_objects", "count"),
        Kind("inuse_space", "bytes"),
    ];
    encode(&kinds, (Kind("space", "bytes"), EVERY_BYTES as i64), samples, (now_us, 0))
}

/// The functions at `address`, the innermost first where some are inlined.
fn named(address: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    backtrace::resolve(address as *mut _, |symbol| {
        frames.push(Frame {
            name: symbol.name().map_or_else(|| format!("{address:#x}"), |name| format!("{name:#}")),
            file: symbol.filename().map(|path| path.display().to_string()).unwrap_or_default(),
            line: symbol.lineno().unwrap_or_default(),
        });
    });
    if frames.is_empty() {
        frames.push(Frame { name: format!("{address:#x}"), file: String::new(), line: 0 });
    }
    frames
}
