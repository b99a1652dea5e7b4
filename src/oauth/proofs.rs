//! Which DPoP proofs were used: each is good once (RFC 9449 11.1).
//!
//! Where tokens are issued the store remembers, in the transaction that issues them. Where a token is used a write
//! for every read would cost more than the read, so there memory remembers.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::dpop::{self, AHEAD, OLDEST, Proof};
use crate::clock::Millis;
use crate::error::{Code, Problem, invalid_dpop_proof};
use crate::params;
use crate::store::db::{DbError, Tx};

/// Uses a proof up, if one was sent: the refusal where it was used before.
pub fn spend(tx: &Tx<'_>, proof: Option<&Proof>) -> Result<Option<Problem>, DbError> {
    let Some(proof) = proof else { return Ok(None) };
    let sql = "INSERT INTO dpop_proofs (id, expires_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id";
    let first = tx.first(sql, params![&proof.id, proof.made + OLDEST], |row| row.get::<String>(0))?;
    Ok(first.is_none().then(dpop::used))
}

/// Forgets those that were too old before `then`, some at a time.
pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
    let sql = "DELETE FROM dpop_proofs WHERE id IN
               (SELECT id FROM dpop_proofs WHERE expires_ms < $1 ORDER BY expires_ms, id LIMIT 1000)";
    tx.execute(sql, params![then]).map(drop)
}

/// From its use on, a proof is too old after this time at the latest.
const SPAN: Millis = OLDEST + AHEAD;
/// So many in one span: some 3,000 reads a second, and some 20 MB.
const MOST: usize = 200_000;

/// The proofs that came with access tokens, as far as they are still young enough to come again.
pub struct Used {
    /// What was used before then is not known.
    started: Millis,
    memory: Mutex<Memory>,
}

/// The proofs of this span of time, and those of the one before.
#[derive(Default)]
struct Memory {
    since: Millis,
    present: HashSet<String>,
    past: HashSet<String>,
}

impl Used {
    /// An empty memory, beginning at `now`.
    pub fn new(now: Millis) -> Used {
        Used { started: now, memory: Mutex::default() }
    }

    /// Uses a proof up that came with a token issued at `issued`.
    ///
    /// # Errors
    /// `invalid_dpop_proof` where it was used before, or may have been: by the process before this one.
    /// `temporarily_unavailable` where no more can be remembered.
    pub fn spend(&self, proof: &Proof, issued: Millis, now: Millis) -> Result<(), Problem> {
        if issued < self.started && proof.made <= self.started + AHEAD {
            let words = "the server has just started, and cannot know whether the DPoP proof was used before; try \
                         again with a new one in a few seconds";
            return Err(invalid_dpop_proof(words));
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.turn(now);
        if memory.past.contains(&proof.id) || memory.present.contains(&proof.id) {
            return Err(dpop::used());
        }
        if memory.present.len() >= MOST {
            let words = "too many requests with DPoP proofs come at once; try again in a minute";
            return Err(Problem::new(Code::TemporarilyUnavailable, words).because("no room for more proofs"));
        }
        memory.present.insert(proof.id.clone());
        Ok(())
    }
}

impl Memory {
    /// Begins another span where the present one is over.
    fn turn(&mut self, now: Millis) {
        // A clock that was set back forgets nothing.
        if now < self.since {
            self.since = now;
        }
        if now - self.since > SPAN {
            self.past = std::mem::take(&mut self.present);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(id: &str, made: Millis) -> Proof {
        Proof { jkt: String::new(), id: id.to_owned(), made }
    }

    #[test]
    fn a_proof_is_known_again_for_as_long_as_it_is_not_too_old() {
        let used = Used::new(0);
        let mut now = 1_000_000;
        for step in [1, SPAN / 2, SPAN, 3 * SPAN] {
            let first = proof(&step.to_string(), now + AHEAD);
            used.spend(&first, 1, now).unwrap();
            for at in (0..=SPAN).step_by(1_000) {
                assert!(used.spend(&first, 1, now + at).is_err(), "{at} ms later");
            }
            now += step;
        }
    }

    #[test]
    fn when_memory_is_full_nothing_passes_until_there_is_room() {
        let used = Used::new(0);
        for n in 0..MOST {
            used.spend(&proof(&n.to_string(), 0), 1, 0).unwrap();
        }
        let refused = used.spend(&proof("one more", 0), 1, 0).unwrap_err();
        assert_eq!(refused.code, Code::TemporarilyUnavailable);
        used.spend(&proof("one more", 0), 1, SPAN + 1).unwrap();
    }

    #[test]
    fn what_an_earlier_process_may_have_seen_is_refused() {
        let started = 1_000_000;
        let used = Used::new(started);
        assert!(used.spend(&proof("a", started - 1), started - 1, started).is_err());
        assert!(used.spend(&proof("b", started + AHEAD), started - 1, started).is_err(), "by a fast clock");
        used.spend(&proof("c", started + AHEAD + 1), started - 1, started + AHEAD).unwrap();
        used.spend(&proof("d", started - 1), started, started).unwrap();
    }
}
