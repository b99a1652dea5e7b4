//! Time and chance as parameters: the system's own, and the tests' frozen and seeded ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// One second, in the unit of [`Millis`].
pub const SECOND: Millis = 1_000;
/// One minute, in the unit of [`Millis`].
pub const MINUTE: Millis = 60 * SECOND;
/// One hour, in the unit of [`Millis`].
pub const HOUR: Millis = 60 * MINUTE;
/// One day, in the unit of [`Millis`].
pub const DAY: Millis = 24 * HOUR;

/// What time it is.
#[derive(Clone)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that stands still until it is moved.
    Frozen(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `now` and moves only by [`Clock::advance`].
    pub fn frozen_at(now: Millis) -> Self {
        Clock::Frozen(Arc::new(AtomicI64::new(now)))
    }

    /// The present time.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Millis {
        match self {
            Clock::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
            }
            Clock::Frozen(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Moves a frozen clock; the system's clock is nobody's to move, so there it does nothing.
    pub fn advance(&self, by: Millis) {
        if let Clock::Frozen(now) = self {
            now.fetch_add(by, Ordering::SeqCst);
        }
    }
}

/// Where random bytes come from.
#[derive(Clone)]
pub enum Chance {
    /// The operating system's generator.
    System(SystemRandom),
    /// A repeatable sequence, for tests only: SplitMix64 over a shared counter.
    Seeded(Arc<AtomicU64>),
}

impl Chance {
    /// The operating system's generator.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes the generator")]
    pub fn system() -> Self {
        Chance::System(SystemRandom::new())
    }

    /// The same bytes at each run, for tests.
    pub fn seeded(seed: u64) -> Self {
        Chance::Seeded(Arc::new(AtomicU64::new(seed)))
    }

    /// `N` random bytes.
    ///
    /// # Panics
    /// When the operating system has no randomness to give; nothing safe can be done then.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        match self {
            Chance::System(rng) => rng.fill(&mut out).expect("the system's random numbers"),
            Chance::Seeded(state) => {
                for chunk in out.chunks_mut(8) {
                    let mut z = state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
                    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                    chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
                }
            }
        }
        out
    }

    /// A random identifier of 128 bits, base64url: unguessable, safe in a URL, not a secret.
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes::<16>())
    }

    /// The same after the time, so that what is made together is kept together.
    pub fn id_at(&self, now: Millis) -> String {
        format!("{now:011x}{}", self.id())
    }

    /// A random UUID (version 4), the form of ids that the FHIR store gives.
    pub fn uuid(&self) -> String {
        let mut b = self.bytes::<16>();
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_it_is_moved() {
        let clock = Clock::frozen_at(1_000);
        let other = clock.clone();
        assert_eq!(clock.now(), 1_000);
        other.advance(5);
        assert_eq!(clock.now(), 1_005, "clones share the time");
    }

    #[test]
    fn seeded_chance_repeats_and_never_gives_the_same_twice() {
        let (a, b) = (Chance::seeded(7), Chance::seeded(7));
        assert_eq!(a.id(), b.id());
        assert_ne!(a.id(), a.id());
        assert_eq!(a.uuid().len(), 36);
    }
}
