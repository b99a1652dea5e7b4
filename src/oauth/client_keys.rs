//! The public keys that apps sign with: by value in their registration, or at an address of theirs (SMART App Launch
//! 2.2, "Client Authentication: Asymmetric").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Mutex as Turn;

use super::client_metadata::Metadata;
use crate::clock::{Millis, SECOND};
use crate::fetch::Fetcher;
use crate::jose::{Jws, PublicKey};

/// How long this server waits before it asks again at an address that failed, or for a kid that was not there:
/// nobody can make it knock at another's door as often as they like.
const PAUSE: Millis = 30 * SECOND;
/// More addresses than this are not remembered at once.
const MOST_SETS: usize = 1_000;
/// More keys than this are not read from one address.
const MOST_KEYS: usize = 100;

/// Keys by address, as long as their owners say that they may be kept.
#[derive(Default)]
pub struct ClientKeys {
    sets: Mutex<HashMap<String, Arc<Address>>>,
}

/// One address. What is known of it is never locked while it is asked, so that a slow answer holds up only those
/// who need it.
#[derive(Default)]
struct Address {
    kept: Mutex<Kept>,
    turn: Arc<Turn<()>>,
}

/// What is known of one address.
#[derive(Default)]
struct Kept {
    keys: Vec<PublicKey>,
    /// Until when they may be used.
    until: Millis,
    /// When they were last asked for although they were fresh.
    forced: Option<Millis>,
    /// When and why asking failed, if it did the last time.
    failed: Option<(Millis, String)>,
    /// How many questions were begun, and the number of the last that was answered.
    begun: u64,
    answered: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// What a question that was asked for this very request brought.
    fn answer(&self, jws: &Jws<'_>) -> Result<PublicKey, String> {
        match &self.failed {
            Some((_, why)) => Err(why.clone()),
            None => chosen(&self.keys, jws),
        }
    }

    /// The key, if it is known and may still be used.
    fn fresh(&self, jws: &Jws<'_>, now: Millis) -> Option<PublicKey> {
        (now < self.until).then(|| chosen(&self.keys, jws).ok()).flatten()
    }

    /// Whether the address may be asked now, which then has begun. If not, what is known must do.
    ///
    /// # Errors
    /// Why asking failed not long ago.
    fn begin(&mut self, now: Millis) -> Result<bool, String> {
        let over = |then: Millis| now >= then + PAUSE;
        if let Some((at, why)) = &self.failed
            && !over(*at)
        {
            return Err(why.clone());
        }
        if now < self.until {
            if !self.forced.is_none_or(over) {
                return Ok(false);
            }
            self.forced = Some(now);
        }
        self.begun += 1;
        Ok(true)
    }

    fn end(&mut self, brought: Result<(Vec<PublicKey>, Millis), String>, now: Millis) {
        self.answered = self.begun;
        match brought {
            Ok((keys, keep)) => (self.keys, self.until, self.failed) = (keys, now + keep, None),
            Err(why) => {
                self.failed = Some((now, format!("the keys at its `jwks_uri` could not be read: {why}")));
            }
        }
    }

    /// Whether anything would be lost by forgetting it.
    fn counts(&self, now: Millis) -> bool {
        let recent = |then: Millis| now < then + PAUSE;
        now < self.until
            || self.forced.is_some_and(recent)
            || self.failed.as_ref().is_some_and(|f| recent(f.0))
    }
}

impl ClientKeys {
    /// The one key of the app that can have signed `jws`.
    ///
    /// # Errors
    /// Why there is none, for the app's developer. Anybody may be told, since nobody has proven anything yet.
    pub async fn find(
        &self,
        app: &Metadata,
        jws: &Jws<'_>,
        fetcher: &Fetcher,
        now: Millis,
    ) -> Result<PublicKey, String> {
        // A key set of the sender's choosing would let anybody be this app.
        if let Some(jku) = jws.header.get("jku")
            && (!jku.is_string() || app.jwks_uri.as_deref() != jku.as_str())
        {
            return Err("`jku` is not the `jwks_uri` that the app registered".into());
        }
        if jws.header.get("kid").is_some_and(|kid| !kid.is_string()) {
            return Err("`kid` is not a text".into());
        }
        match (&app.jwks, &app.jwks_uri) {
            (Some(set), _) => chosen(&usable(set)?, jws),
            (None, Some(url)) => self.at(url, jws, fetcher, now).await,
            (None, None) => Err("the app has registered no keys".into()),
        }
    }

    async fn at(
        &self,
        url: &str,
        jws: &Jws<'_>,
        fetcher: &Fetcher,
        now: Millis,
    ) -> Result<PublicKey, String> {
        let address = self.address(url, now);
        let come = {
            let kept = locked(&address.kept);
            if let Some(key) = kept.fresh(jws, now) {
                return Ok(key);
            }
            kept.begun
        };
        // One question at a time. A question that began after this request came is as good as its own, even where
        // nothing may be kept.
        let turn = address.turn.clone().lock_owned().await;
        {
            let mut kept = locked(&address.kept);
            if let Some(key) = kept.fresh(jws, now) {
                return Ok(key);
            }
            if kept.answered > come {
                return kept.answer(jws);
            }
            if !kept.begin(now)? {
                return chosen(&kept.keys, jws);
            }
        }
        // On its own: whoever hangs up must not take the answer from those who wait, nor waste a forced question.
        let (asked, url, fetcher) = (address.clone(), url.to_owned(), fetcher.clone());
        let asking = tokio::spawn(async move {
            let brought = read(&url, &fetcher).await;
            locked(&asked.kept).end(brought, now);
            drop(turn);
        });
        asking.await.map_err(|_| "the keys at its `jwks_uri` could not be read")?;
        locked(&address.kept).answer(jws)
    }

    fn address(&self, url: &str, now: Millis) -> Arc<Address> {
        let mut sets = locked(&self.sets);
        if sets.len() >= MOST_SETS && !sets.contains_key(url) {
            // Those in use are held elsewhere too.
            sets.retain(|_, address| Arc::strong_count(address) > 1 || locked(&address.kept).counts(now));
            if sets.len() >= MOST_SETS
                && let Some(any) = sets.keys().next().cloned()
            {
                sets.remove(&any);
            }
        }
        sets.entry(url.to_owned()).or_default().clone()
    }
}

async fn read(url: &str, fetcher: &Fetcher) -> Result<(Vec<PublicKey>, Millis), String> {
    let fetched = fetcher.get_json(url).await.map_err(|e| e.to_string())?;
    let set: Value = serde_json::from_slice(&fetched.body).map_err(|_| "the answer is not JSON")?;
    Ok((usable(&set)?, fetched.keep))
}

/// The keys of a set that can be used here. Others may stand beside them, for other purposes, but a private key
/// that was published spoils the set.
fn usable(set: &Value) -> Result<Vec<PublicKey>, String> {
    let keys = set.get("keys").and_then(Value::as_array).ok_or("the answer is not a JWK Set")?;
    if keys.len() > MOST_KEYS {
        return Err(format!("there are more than {MOST_KEYS} keys"));
    }
    if keys.iter().any(|jwk| jwk.get("d").is_some() || jwk.get("k").is_some()) {
        return Err("the set holds a private key".into());
    }
    Ok(keys.iter().filter_map(|jwk| PublicKey::from_jwk(jwk).ok()).collect())
}

/// The one key that the header names and its algorithm fits; none, or more than one, is no key.
fn chosen(keys: &[PublicKey], jws: &Jws<'_>) -> Result<PublicKey, String> {
    let kid = jws.header_text("kid");
    let mut fitting =
        keys.iter().filter(|key| key.fits(jws.alg) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)));
    match (fitting.next(), fitting.next(), kid) {
        (Some(key), None, Some(_)) => Ok(key.clone()),
        // Without a `kid` there must be nothing to choose from.
        (Some(key), None, None) if keys.len() == 1 => Ok(key.clone()),
        (None, _, None) => Err(format!("none of the app's keys fits {}", jws.alg.as_str())),
        (None, _, Some(_)) => {
            Err(format!("none of the app's keys has its `kid` and fits {}", jws.alg.as_str()))
        }
        (Some(_), _, None) => Err("`kid` is missing from its header, and the app has several keys".into()),
        (Some(_), Some(_), Some(_)) => Err("several of the app's keys have its `kid`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_addresses_fills_the_memory_and_what_counts_is_kept() {
        let keys = ClientKeys::default();
        let failing = keys.address("https://failing.example/", 0);
        locked(&failing.kept).failed = Some((0, "no".into()));
        drop(failing);
        let asking = keys.address("https://asking.example/", 0);
        for n in 0..3 * MOST_SETS {
            keys.address(&format!("https://a.example/{n}"), 0);
            assert!(locked(&keys.sets).len() <= MOST_SETS);
        }
        assert!(locked(&keys.sets).contains_key("https://failing.example/"), "a pause is not got around");
        assert!(Arc::ptr_eq(&asking, &keys.address("https://asking.example/", 0)));
        for n in 0..2 * MOST_SETS {
            let address = keys.address(&format!("https://fresh.example/{n}"), 0);
            locked(&address.kept).until = 1;
            assert!(locked(&keys.sets).len() <= MOST_SETS, "even where all of them count");
        }
    }
}
