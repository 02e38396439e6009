//! The C library's allocator, which notes now and then who allocates: about once in every [`EVERY_BYTES`].
//!
//! Before [`begin`] it costs one look at a flag. From then on, each thread counts down what it allocates to a random number of bytes,
//! and notes the stack of the allocation that crosses zero, which stands for all that was counted. How much of that is held is
//! known by the addresses of those allocations; whether a freed address is one of them says a small table of counts first,
//! so that hardly any other waits for a lock.

#![expect(unsafe_code, reason = "to be an allocator is unsafe; every call goes to the system's, unchanged")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
};

/// So many bytes lie between two allocations that are noted, on average.
pub(crate) const EVERY_BYTES: u64 = 512 << 10;

/// How many stacks are told apart; others are one that nothing is known of.
const STACKS_MAX: usize = 4_096;

/// The deepest part of a stack that is noted.
const DEPTH_MAX: usize = 48;

/// How many allocations are noted at a time; others are not noted as held.
const HELD_MAX: usize = 1 << 16;

/// The size of the table that says whether an address may be noted: a power of two.
const MAYBE: usize = 1 << 14;

static IS_ON: AtomicBool = AtomicBool::new(false);
static MAY_BE_NOTED: [AtomicU16; MAYBE] = [const { AtomicU16::new(0) }; MAYBE];
static SEED: AtomicU64 = AtomicU64::new(1);
static NOTES: Mutex<Option<Notes>> = Mutex::new(None);

thread_local! {
    /// Bytes to the next allocation that is noted; nothing is drawn yet at 0.
    static LEFT: Cell<i64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// This thread is noting: what it allocates for that is not noted.
    static IS_NOTING: Cell<bool> = const { Cell::new(false) };
}

/// Allocations: how many, and how large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// What was noted of one stack, scaled to all that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Where its functions were, the innermost first; empty where it was not told apart.
    pub(crate) stack: Vec<usize>,
    /// Since [`begin`].
    pub(crate) allocated: Amount,
    /// Of that, not freed yet.
    pub(crate) held: Amount,
}

#[derive(Default)]
struct Notes {
    stacks: HashMap<Vec<usize>, usize>,
    counted: Vec<(Amount, Amount)>,
    held: HashMap<usize, (usize, Amount)>,
}

/// The allocator of this program.
pub(crate) struct Sampled;

/// From now on it is noted who allocates.
pub(crate) fn begin() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// What was noted.
pub(crate) fn noted() -> Vec<Noted> {
    quietly(|| {
        let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(notes) = &*notes else { return Vec::new() };
        let stacks = notes.stacks.iter().map(|(stack, place)| {
            let (allocated, held) = notes.counted[*place];
            Noted { stack: stack.clone(), allocated, held }
        });
        stacks.collect()
    })
    .unwrap_or_default()
}

// SAFETY: all of it is done by the system's allocator, with what was given.
unsafe impl GlobalAlloc for Sampled {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        let place = unsafe { System.alloc(layout) };
        allocated(place, layout.size());
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        let place = unsafe { System.alloc_zeroed(layout) };
        allocated(place, layout.size());
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // Before somebody else gets the address.
        freed(place);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        freed(place);
        // SAFETY: the caller keeps the contract.
        let place = unsafe { System.realloc(place, layout, size) };
        allocated(place, size);
        place
    }
}

#[inline]
fn allocated(place: *mut u8, size: usize) {
    if IS_ON.load(Ordering::Relaxed) && !place.is_null() {
        // A thread that ends has none of its own values any more.
        _ = LEFT.try_with(|left| {
            let rest = left.get().saturating_sub(size as i64);
            left.set(rest);
            if rest <= 0 {
                _ = quietly(|| note(place as usize, size as u64, left));
            }
        });
    }
}

#[inline]
fn freed(place: *mut u8) {
    if IS_ON.load(Ordering::Relaxed) && slot(place as usize).load(Ordering::Relaxed) > 0 {
        _ = quietly(|| {
            let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(notes) = &mut *notes else { return };
            if let Some((stack, amount)) = notes.held.remove(&(place as usize)) {
                slot(place as usize).fetch_sub(1, Ordering::Relaxed);
                let held = &mut notes.counted[stack].1;
                held.objects -= amount.objects;
                held.bytes -= amount.bytes;
            }
        });
    }
}

fn slot(place: usize) -> &'static AtomicU16 {
    // Addresses are multiples of 16.
    &MAY_BE_NOTED[(place >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - MAYBE.ilog2())]
}

/// Does `it`, unless this thread is doing so already; what it allocates and frees is not noted.
fn quietly<T>(it: impl FnOnce() -> T) -> Option<T> {
    let began = IS_NOTING.try_with(|is_noting| !is_noting.replace(true)).unwrap_or(false);
    let done = began.then(it);
    if began {
        _ = IS_NOTING.try_with(|is_noting| is_noting.set(false));
    }
    done
}

fn note(place: usize, size: u64, left: &Cell<i64>) {
    let is_first = RANDOM.with(|random| random.get() == 0);
    left.set(draw());
    if is_first {
        // Nothing was counted down yet.
        return;
    }
    let mut stack = Vec::with_capacity(DEPTH_MAX);
    backtrace::trace(|frame| {
        stack.push(frame.ip() as usize);
        stack.len() < DEPTH_MAX
    });
    // An allocation of so many bytes is noted with this chance.
    let chance = 1.0 - (-(size as f64) / EVERY_BYTES as f64).exp();
    let objects = (1.0 / chance.max(f64::MIN_POSITIVE)).round().max(1.0) as u64;
    let amount = Amount { objects, bytes: objects.saturating_mul(size) };
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    let notes = notes.get_or_insert_default();
    let stack = notes.place_of(stack);
    let (allocated, held) = &mut notes.counted[stack];
    allocated.objects += amount.objects;
    allocated.bytes += amount.bytes;
    if notes.held.len() < HELD_MAX {
        held.objects += amount.objects;
        held.bytes += amount.bytes;
        notes.held.insert(place, (stack, amount));
        slot(place).fetch_add(1, Ordering::Relaxed);
    }
}

impl Notes {
    fn place_of(&mut self, stack: Vec<usize>) -> usize {
        let stack = match self.stacks.len() < STACKS_MAX || self.stacks.contains_key(&stack) {
            true => stack,
            false => Vec::new(),
        };
        let next = self.counted.len();
        let place = *self.stacks.entry(stack).or_insert(next);
        if place == next {
            self.counted.push(Default::default());
        }
        place
    }
}

/// How many bytes it is to the next: exponentially distributed, so that no pattern of allocations is overlooked.
fn draw() -> i64 {
    let bits = RANDOM.with(|random| {
        let mut bits = random.get();
        if bits == 0 {
            bits = SEED.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed) | 1;
        }
        // xorshift64 of Marsaglia (2003).
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        random.set(bits);
        bits
    });
    let share = ((bits >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    (-share.ln() * EVERY_BYTES as f64) as i64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_noted_until_it_is_freed() {
        begin();
        // So that the first draw is behind us.
        drop(vec![0_u8; 1 << 20]);
        let held = || noted().iter().map(|it| it.held.bytes).sum::<u64>();
        let before = held();
        let blocks: Vec<Vec<u8>> = (0..400).map(|_| Vec::with_capacity(1 << 20)).collect();
        let with = held() - before;
        assert!(
            (300 << 20..500 << 20).contains(&with),
            "400 MiB are held, and {} MiB were noted",
            with >> 20
        );
        let stacks: usize =
            noted().iter().filter(|it| it.held.bytes > 100 << 20).map(|it| it.stack.len()).sum();
        assert!(stacks > 3, "by whom is known");
        drop(blocks);
        let after = held();
        assert!(after < before + (100 << 20), "{} MiB stayed", (after - before) >> 20);
    }

    #[test]
    fn the_next_is_as_far_as_was_asked_for_on_average() {
        let mean = (0..100_000).map(|_| draw() as f64).sum::<f64>() / 1e5;
        let share = mean / EVERY_BYTES as f64;
        assert!((0.98..1.02).contains(&share), "{share}");
    }
}
