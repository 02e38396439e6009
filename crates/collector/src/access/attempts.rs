//! How often somebody may try to sign in with what is no token.
//!
//! A token is too long to be guessed however often: this keeps the log and the processor from whoever tries all the same. Each
//! address has a bucket, an IPv6 network of 64 bits being one, and so many are known apart; all others have one together.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use aviary_core::Micros;

use super::limits::Bucket;

/// So many addresses are known apart.
const ADDRESSES_MAX: usize = 1_024;

/// A second of wrong attempts, of which a bucket holds four.
const A_SECOND: u32 = 1;

#[derive(Default)]
pub(super) struct Attempts(Mutex<Buckets>);

#[derive(Default)]
struct Buckets {
    of: HashMap<IpAddr, Bucket>,
    others: Option<Bucket>,
}

impl Attempts {
    /// Whether somebody at `address` may try, or after how many seconds.
    pub(super) fn ready(&self, address: IpAddr, now: Micros) -> Result<(), u64> {
        self.bucket(address, now, |bucket| bucket.ready(now))
    }

    /// Somebody at `address` tried, and it was no token.
    pub(super) fn failed(&self, address: IpAddr, now: Micros) {
        self.bucket(address, now, |bucket| bucket.charge(1));
    }

    fn bucket<T>(&self, address: IpAddr, now: Micros, with: impl FnOnce(&mut Bucket) -> T) -> T {
        // A bucket is whole whatever happened to who last held it.
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { of, others } = &mut *buckets;
        let address = network(address);
        if !of.contains_key(&address) && of.len() >= ADDRESSES_MAX {
            of.retain(|_, bucket| !bucket.is_full(now));
        }
        let is_room = of.len() < ADDRESSES_MAX || of.contains_key(&address);
        let full = || Bucket::full(A_SECOND, now);
        with(if is_room { of.entry(address).or_insert_with(full) } else { others.get_or_insert_with(full) })
    }
}

/// What one who tries has many of is taken for one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(attempts: &Attempts, address: &str, now: u64) -> usize {
        let (address, now) = (address.parse().unwrap(), Micros(now * 1_000_000));
        let tries = (0..100).take_while(|_| {
            let ready = attempts.ready(address, now).is_ok();
            if ready {
                attempts.failed(address, now);
            }
            ready
        });
        tries.count()
    }

    #[test]
    fn each_address_has_its_own_and_comes_back_to_it() {
        let attempts = Attempts::default();
        assert_eq!(tried(&attempts, "192.0.2.1", 0), 4);
        assert_eq!(tried(&attempts, "::ffff:192.0.2.1", 0), 0, "the same, however it is written");
        assert_eq!(tried(&attempts, "192.0.2.2", 0), 4);
        assert_eq!(tried(&attempts, "2001:db8::1", 0), 4);
        assert_eq!(tried(&attempts, "2001:db8::2", 0), 0, "of the same network");
        assert_eq!(attempts.ready("192.0.2.1".parse().unwrap(), Micros(0)), Err(1));
        assert_eq!(tried(&attempts, "192.0.2.1", 60), 4);
    }

    #[test]
    fn of_more_addresses_than_are_known_apart_the_rest_shares_one() {
        let attempts = Attempts::default();
        let address = |number: usize| format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
        for number in 0..ADDRESSES_MAX {
            assert_eq!(tried(&attempts, &address(number), 0), 4);
        }
        assert_eq!(tried(&attempts, "192.0.2.1", 0), 4);
        assert_eq!(tried(&attempts, "192.0.2.2", 0), 0);
        assert_eq!(attempts.0.lock().unwrap().of.len(), ADDRESSES_MAX);
        assert_eq!(tried(&attempts, "192.0.2.3", 600), 4);
        assert_eq!(attempts.0.lock().unwrap().of.len(), 1, "who has been quiet is forgotten");
    }
}
