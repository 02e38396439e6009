//! How long to wait before the next attempt.

use crate::fnv::fnv1a;

/// The longest wait after so many attempts in vain, in seconds; the last stands for all that follow.
const CEILINGS: [u64; 7] = [0, 1, 2, 4, 8, 15, 30];

/// Whoever asks for more is asked again after so many seconds: a page does not wait for a receiver's hour.
pub const RETRY_AFTER_MAX: u64 = 60;

/// How many microseconds to wait after `attempts` in vain: anything up to the ceiling ("full jitter"), so that many
/// senders do not come back together. `random` is any number, a new one each time.
pub(super) fn wait(attempts: u32, random: u64) -> u64 {
    let place = usize::try_from(attempts).map_or(CEILINGS.len() - 1, |place| place.min(CEILINGS.len() - 1));
    let ceiling = u128::from(CEILINGS[place] * 1_000_000);
    u64::try_from((ceiling * u128::from(random)) >> 64).unwrap_or(u64::MAX)
}

/// A number for one attempt out of a `seed` for the whole step.
pub(super) fn draw(seed: u64, incident: &str, receiver: &str, attempt: u64) -> u64 {
    let parts = [incident, receiver].into_iter();
    let name = fnv1a(parts.flat_map(|part| part.bytes().chain([0])).chain(attempt.to_be_bytes()));
    // The finaliser of SplitMix64: FNV alone leaves neighbours close together.
    let mut mixed = seed ^ name;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_anything_up_to_the_ceiling() {
        for (attempts, ceiling) in
            [(0, 0), (1, 1), (2, 2), (3, 4), (4, 8), (5, 15), (6, 30), (7, 30), (u32::MAX, 30)]
        {
            assert_eq!(wait(attempts, 0), 0);
            let most = wait(attempts, u64::MAX);
            assert!(most <= ceiling * 1_000_000 && most + 1 >= ceiling * 1_000_000, "{attempts}: {most}");
        }
    }

    #[test]
    fn draws_are_spread_and_can_be_repeated() {
        let waits: Vec<u64> =
            (0..1_000).map(|attempt| wait(6, draw(7, "incident", "hook", attempt))).collect();
        let mean = waits.iter().sum::<u64>() / 1_000;
        assert!((14_000_000..16_000_000).contains(&mean), "{mean}");
        assert_eq!(draw(7, "a", "b", 1), draw(7, "a", "b", 1));
        assert_ne!(draw(7, "a", "b", 1), draw(8, "a", "b", 1));
    }
}
