//! How the C library's allocator is to treat large blocks, and who has it note who allocates.

pub(crate) mod sampled;

use std::ffi::c_int;

#[global_allocator]
static ALLOCATOR: sampled::Sampled = sampled::Sampled;

/// Blocks of at least so many bytes are taken from the kernel one by one, and given back.
const MMAP_THRESHOLD: c_int = 128 << 10;

/// Fixes that threshold at what it begins with. It would otherwise rise with each large block that is freed, up to
/// 32 MiB, and from then on reports and checkpoints leave holes in the heap: a collector of 100,000 series had 240 to
/// 290 MiB resident of which it used 116 (`cargo bench -- live`).
pub(crate) fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "no crate wraps it")]
    // SAFETY: it takes two numbers, and nothing else runs yet.
    let is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD) };
    // An allocator that does not listen costs memory, and nothing else.
    #[cfg(target_env = "gnu")]
    debug_assert_eq!(is_set, 1, "this version of the C library knows the parameter");
}
