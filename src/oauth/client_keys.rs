//! The public keys that apps sign with: by value in their registration, or at an address of theirs (SMART App Launch
//! 2.2, "Client Authentication: Asymmetric").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
const MOST_SETS: usize = 10_000;

/// Keys by address, as long as their owners say that they may be kept.
#[derive(Default)]
pub struct ClientKeys {
    sets: Mutex<HashMap<String, Arc<Turn<Kept>>>>,
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
}

impl Kept {
    async fn ask(&mut self, url: &str, fetcher: &Fetcher, now: Millis) -> Result<(), String> {
        let over = |then: Millis| now >= then + PAUSE;
        if let Some((at, why)) = &self.failed
            && !over(*at)
        {
            return Err(why.clone());
        }
        if now < self.until {
            if !self.forced.is_none_or(over) {
                return Ok(());
            }
            self.forced = Some(now);
        }
        match read(url, fetcher).await {
            Ok((keys, keep)) => {
                (self.keys, self.until, self.failed) = (keys, now + keep, None);
                Ok(())
            }
            Err(why) => {
                let why = format!("its keys could not be read from {url}: {why}");
                self.failed = Some((now, why.clone()));
                Err(why)
            }
        }
    }
}

impl ClientKeys {
    /// The one key of the app that can have signed `jws`.
    ///
    /// # Errors
    /// Why there is none, for the app's developer.
    pub async fn find(
        &self,
        app: &Metadata,
        jws: &Jws<'_>,
        fetcher: &Fetcher,
        now: Millis,
    ) -> Result<PublicKey, String> {
        // A key set of the sender's choosing would let anybody be this app.
        if let Some(jku) = jws.header.get("jku")
            && app.jwks_uri.as_deref() != jku.as_str()
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
        let set = self.set(url);
        // Whoever comes while the set is on its way waits for it, rather than asking again.
        let mut kept = set.lock().await;
        if now < kept.until
            && let Ok(key) = chosen(&kept.keys, jws)
        {
            return Ok(key);
        }
        kept.ask(url, fetcher, now).await?;
        chosen(&kept.keys, jws)
    }

    fn set(&self, url: &str) -> Arc<Turn<Kept>> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= MOST_SETS && !sets.contains_key(url) {
            sets.clear();
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
        (_, _, None) => Err("`kid` is missing from its header, and the app has several keys".into()),
        (None, _, Some(_)) => {
            Err(format!("none of the app's keys has its `kid` and fits {}", jws.alg.as_str()))
        }
        (Some(_), Some(_), Some(_)) => Err("several of the app's keys have its `kid`".into()),
    }
}
