//! How often one address may do what costs something: open registration, signing in. Nobody is locked out; whoever
//! comes too often is asked to wait (`governor`'s GCRA on our own clock).
//!
//! The address is that of the connection. Headers of proxies are not believed, so that behind a proxy all its
//! callers are one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::clock::{Chance, Clock, Millis, SECOND};
use crate::error::{Code, Problem};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Registering an app that nobody invited.
    Registration,
    /// Trying a password, for whatever account.
    SignIn,
    /// Trying a password for one account.
    Account,
}

/// How many times at once, and how long until it is once more.
const DOORS: [(Door, u32, Millis); 3] = [
    (Door::Registration, 60, 10 * SECOND),
    // Many people may share an address.
    (Door::SignIn, 60, SECOND),
    (Door::Account, 10, 10 * SECOND),
];

type Limiter = RateLimiter<u16, HashMapStateStore<u16>, Ours, NoOpMiddleware<Duration>>;

/// What was tried lately. Every caller falls into one of 65,536 slots for each door, by a hash that nobody can
/// aim at: memory has a bound, and two strangers rarely share a slot.
pub struct Limits {
    seed: [u8; 16],
    spares_loopback: bool,
    doors: Vec<(Door, Limiter)>,
}

impl Limits {
    /// Nothing was tried yet. Where `spares_loopback`, programs on this machine may do everything at any rate.
    pub fn new(spares_loopback: bool, clock: &Clock, chance: &Chance) -> Limits {
        let limiter = |at_once: u32, every: Millis| {
            let every = Duration::from_millis(every.unsigned_abs());
            let quota = Quota::with_period(every).expect("no door's time is zero");
            let at_once = NonZeroU32::new(at_once).expect("every door lets somebody in");
            RateLimiter::new(quota.allow_burst(at_once), HashMapStateStore::default(), Ours(clock.clone()))
        };
        let doors = DOORS.map(|(door, at_once, every)| (door, limiter(at_once, every)));
        Limits { seed: chance.bytes(), spares_loopback, doors: doors.into() }
    }

    /// Counts one try of `from`, about that account or whatever else the door tells apart.
    ///
    /// # Errors
    /// `slow_down` with the seconds to wait; such a try is not counted.
    pub fn admit(&self, door: Door, from: IpAddr, about: &str) -> Result<(), Problem> {
        let from = from.to_canonical();
        if self.spares_loopback && from.is_loopback() {
            return Ok(());
        }
        let slot = self.slot(from, about);
        for (_, limiter) in self.doors.iter().filter(|(known, _)| *known == door) {
            if let Err(until) = limiter.check_key(&slot) {
                let wait = until.wait_time_from(governor::clock::Clock::now(limiter.clock()));
                let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
                let words = format!("this was tried too often from your address; wait {seconds} seconds");
                return Err(Problem::new(Code::SlowDown, words).after(seconds));
            }
        }
        Ok(())
    }

    fn slot(&self, from: IpAddr, about: &str) -> u16 {
        let mut hasher = DefaultHasher::new();
        (self.seed, network(from), about).hash(&mut hasher);
        // The lowest 16 bits.
        (hasher.finish() & 0xffff) as u16
    }
}

/// Who an address belongs to: one IPv6 subscriber has at least 2^64 of them.
fn network(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Our clock as `governor` reads one.
struct Ours(Clock);

impl governor::clock::Clock for Ours {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now().unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(limits: &Limits, door: Door, from: &str, about: &str) -> usize {
        let from = from.parse().unwrap();
        (0..1_000).take_while(|_| limits.admit(door, from, about).is_ok()).count()
    }

    #[test]
    fn each_address_has_its_own_tries_and_they_come_back_with_time() {
        let clock = Clock::frozen_at(1_793_534_400_000);
        let limits = Limits::new(true, &clock, &Chance::seeded(1));
        assert_eq!(tries(&limits, Door::Registration, "192.0.2.1", ""), 60);
        let refused = limits.admit(Door::Registration, "192.0.2.1".parse().unwrap(), "").unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::SlowDown, Some(10)));
        assert_eq!(tries(&limits, Door::Registration, "192.0.2.2", ""), 60, "another address");
        assert_eq!(tries(&limits, Door::SignIn, "192.0.2.1", ""), 60, "another door");
        clock.advance(9 * SECOND);
        assert_eq!(tries(&limits, Door::Registration, "192.0.2.1", ""), 0);
        clock.advance(SECOND);
        assert_eq!(tries(&limits, Door::Registration, "192.0.2.1", ""), 1);
        assert_eq!(tries(&limits, Door::Account, "192.0.2.1", "maria"), 10);
        assert_eq!(tries(&limits, Door::Account, "192.0.2.1", "amara"), 10);
    }

    #[test]
    fn one_subscriber_is_one_caller_however_the_address_is_written() {
        let limits = Limits::new(true, &Clock::frozen_at(0), &Chance::seeded(1));
        assert_eq!(tries(&limits, Door::Registration, "2001:db8::1", ""), 60);
        assert_eq!(tries(&limits, Door::Registration, "2001:db8::2", ""), 0, "the same /64");
        assert_eq!(tries(&limits, Door::Registration, "2001:db8:0:1::1", ""), 60);
        assert_eq!(tries(&limits, Door::Registration, "192.0.2.9", ""), 60);
        assert_eq!(tries(&limits, Door::Registration, "::ffff:192.0.2.9", ""), 0);
    }

    #[test]
    fn loopback_is_spared_only_where_that_is_said() {
        let clock = Clock::frozen_at(0);
        for (spares, expected) in [(true, 1_000), (false, 60)] {
            let limits = Limits::new(spares, &clock, &Chance::seeded(1));
            assert_eq!(tries(&limits, Door::Registration, "127.0.0.1", ""), expected);
        }
        let limits = Limits::new(true, &clock, &Chance::seeded(1));
        assert_eq!(tries(&limits, Door::Registration, "::1", ""), 1_000);
        assert_eq!(tries(&limits, Door::Registration, "::ffff:127.0.0.1", ""), 1_000);
    }
}
