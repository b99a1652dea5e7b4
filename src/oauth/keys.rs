//! The keys that tokens are signed with, and how they turn: published before they sign, kept after.
//!
//! Private halves are sealed in the database. Which key signs and which are published is read anew each time,
//! so that a rotation by the command line holds at once for a running server; only opened keys are cached.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::{Chance, Millis};
use crate::config::{ID_TOKEN_LIFE, PUBLISHED_MAX_AGE};
use crate::crypto::{CryptoError, MasterKey};
use crate::events::{Event, Kind};
use crate::jose::{Alg, SigningKey};
use crate::params;
use crate::store::db::{DbError, Row, Store, Tx, Verdict};

/// How long a key is published before it signs: twice as long as anybody may keep an old JWK Set.
pub const LEAD: Millis = 2 * PUBLISHED_MAX_AGE;
/// How long a key is published after it signed last: as long as anything that it signed is valid.
pub const KEPT_AFTER: Millis = ID_TOKEN_LIFE + PUBLISHED_MAX_AGE;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] DbError),
    /// A key cannot be made or opened; with another master key than it was sealed with, for one.
    #[error("signing keys: {0} (is HEARTHGATE_KEY, or the key file beside the database, the right one?)")]
    Crypto(#[from] CryptoError),
    /// There is none, and none is being made.
    #[error("there is no {0} signing key")]
    None(&'static str),
}

/// A signing key as it is kept.
#[derive(Clone)]
pub struct Kept {
    /// Its name in the JWK Set and in headers.
    pub kid: String,
    /// What it signs with.
    pub alg: Alg,
    /// From then on it signs; it is published from the time it is made.
    pub active: Millis,
    /// From then on its successor signs.
    pub retired: Option<Millis>,
    sealed: String,
}

impl fmt::Debug for Kept {
    /// Without the sealed half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alg, kid) = (self.alg.as_str(), &self.kid);
        write!(f, "{alg} {kid}: {} to {:?}", self.active, self.retired)
    }
}

/// What a published key is published for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It signs.
    Signing,
    /// It will sign, once everybody can know it.
    Next,
    /// It signs no more, but what it signed may still be valid.
    Kept,
}

impl Kept {
    fn read(row: &Row<'_>) -> Result<Option<Kept>, DbError> {
        let Some(alg) = Alg::from_name(&row.get::<String>(1)?) else { return Ok(None) };
        let (active, retired) = (row.get(3)?, row.get(4)?);
        Ok(Some(Kept { kid: row.get(0)?, alg, sealed: row.get(2)?, active, retired }))
    }

    /// The published keys, the newest first.
    pub fn published(tx: &Tx<'_>, now: Millis) -> Result<Vec<Kept>, DbError> {
        let sql = "SELECT kid, alg, sealed, active_ms, retired_ms FROM signing_keys
                   WHERE retired_ms IS NULL OR retired_ms > $1 ORDER BY active_ms DESC, kid";
        Ok(tx.all(sql, params![now - KEPT_AFTER], Kept::read)?.into_iter().flatten().collect())
    }

    /// The one that signs with `alg` at that time.
    pub fn signing(tx: &Tx<'_>, alg: Alg, now: Millis) -> Result<Option<Kept>, DbError> {
        let sql = "SELECT kid, alg, sealed, active_ms, retired_ms FROM signing_keys
                   WHERE alg = $1 AND active_ms <= $2 AND (retired_ms IS NULL OR retired_ms > $3)
                   ORDER BY active_ms DESC, kid LIMIT 1";
        Ok(tx.first(sql, params![alg.as_str(), now, now - KEPT_AFTER], Kept::read)?.flatten())
    }

    /// What it is published for at that time.
    pub fn state(&self, now: Millis) -> State {
        match self.retired {
            _ if now < self.active => State::Next,
            Some(retired) if retired <= now => State::Kept,
            _ => State::Signing,
        }
    }

    /// From then on it is not published any more.
    pub fn gone(&self) -> Option<Millis> {
        self.retired.map(|retired| retired + KEPT_AFTER)
    }
}

/// How a new key comes to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was none: nobody holds a JWK Set without it, so it signs at once.
    First,
    /// After [`LEAD`]; the present one is kept for [`KEPT_AFTER`] more.
    InTime,
    /// At once, and every other key of its algorithm is gone: one of them is in the wrong hands.
    AtOnce,
}

/// The signing keys of a running server.
pub struct Keys {
    store: Store,
    master: MasterKey,
    chance: Chance,
    opened: RwLock<HashMap<String, Arc<SigningKey>>>,
    /// Closed when nothing is being made.
    making: watch::Receiver<()>,
}

/// Keys that are still to be made. Dropping it ends the waiting for them, whether they were made or not.
pub struct Unmade {
    algs: Vec<Alg>,
    _waited_for: watch::Sender<()>,
}

/// Whether a key takes long to make: tens to hundreds of milliseconds.
fn is_slow(alg: Alg) -> bool {
    alg == Alg::RS256
}

impl Keys {
    /// The keys of a database. Opens every one, so that a wrong master key is found at the start.
    pub fn load(store: Store, master: MasterKey, chance: Chance) -> Result<Self, KeyError> {
        let keys = Keys { store, master, chance, opened: RwLock::default(), making: watch::channel(()).1 };
        for kept in keys.store.read(|tx| Kept::published(tx, 0))? {
            keys.open(&kept)?;
        }
        Ok(keys)
    }

    /// Makes those keys that are not there yet, if it is soon done; the others are left to
    /// [`Keys::make_missing`], and who needs one of them waits for that.
    pub fn begin(&mut self, now: Millis) -> Result<Option<Unmade>, KeyError> {
        let (slow, quick): (Vec<Alg>, Vec<Alg>) =
            self.missing(now)?.into_iter().partition(|alg| is_slow(*alg));
        for alg in quick {
            self.make(alg, Turn::First, now)?;
        }
        if slow.is_empty() {
            return Ok(None);
        }
        let (waited_for, making) = watch::channel(());
        self.making = making;
        Ok(Some(Unmade { algs: slow, _waited_for: waited_for }))
    }

    /// Makes what [`Keys::begin`] left over. Takes up to a second.
    pub fn make_missing(&self, unmade: Unmade, now: Millis) -> Result<(), KeyError> {
        unmade.algs.iter().try_for_each(|alg| self.make(*alg, Turn::First, now).map(drop))
    }

    fn missing(&self, now: Millis) -> Result<Vec<Alg>, KeyError> {
        let kept = self.store.read(|tx| Kept::published(tx, now))?;
        Ok(Alg::OURS.into_iter().filter(|alg| kept.iter().all(|key| key.alg != *alg)).collect())
    }

    async fn all_made(&self) {
        let mut making = self.making.clone();
        while making.changed().await.is_ok() {}
    }

    /// The key that signs with `alg` at that time. Waits for it where it is being made.
    pub async fn signing(&self, alg: Alg, now: Millis) -> Result<Arc<SigningKey>, KeyError> {
        if is_slow(alg) {
            self.all_made().await;
        }
        let kept = self.store.read(|tx| Kept::signing(tx, alg, now))?;
        self.open(&kept.ok_or(KeyError::None(alg.as_str()))?)
    }

    /// The public halves as a JWK Set (RFC 7517 5): by algorithm, RS256 first, since some relying parties look
    /// no further than the first key; of each the one that signs first. Waits for keys that are being made.
    pub async fn jwks(&self, now: Millis) -> Result<Value, KeyError> {
        self.all_made().await;
        let mut kept = self.store.read(|tx| Kept::published(tx, now))?;
        let place = |alg: Alg| Alg::OURS.iter().position(|a| *a == alg);
        kept.sort_by_key(|key| (place(key.alg), key.state(now)));
        if let Some(alg) = Alg::OURS.into_iter().find(|alg| kept.iter().all(|key| key.alg != *alg)) {
            // Half a set would be kept by those who fetch it, and then refuse what the other half signed.
            return Err(KeyError::None(alg.as_str()));
        }
        let keys: Result<Vec<Value>, KeyError> =
            kept.iter().map(|key| Ok(self.open(key)?.jwk().clone())).collect();
        Ok(json!({"keys": keys?}))
    }

    /// The key, opened once.
    pub fn open(&self, kept: &Kept) -> Result<Arc<SigningKey>, KeyError> {
        if let Some(key) = self.opened.read().unwrap_or_else(PoisonError::into_inner).get(&kept.kid) {
            return Ok(key.clone());
        }
        let private = self.master.open(&kept.sealed, &kept.kid)?;
        let key = Arc::new(SigningKey::from_pkcs8(kept.alg, &private)?);
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        opened.insert(kept.kid.clone(), key.clone());
        Ok(key)
    }

    /// Gives `alg` a new key. Answers with it, or with none where that was done already: a new one is
    /// published and waits for its time, or the first was made by somebody else.
    pub fn make(&self, alg: Alg, turn: Turn, now: Millis) -> Result<Option<Kept>, KeyError> {
        let (key, private) = SigningKey::generate(alg)?;
        let sealed = self.master.seal(&private, &key.kid, &self.chance);
        let kept = Kept { kid: key.kid, alg, active: now, retired: None, sealed };
        Ok(self.store.write_blocking(move |tx| insert(tx, kept, turn, now))?)
    }

    /// What is to be done now and then, on a blocking thread: makes keys that are missing, turns those that have
    /// signed for `every` (never, where that is none), removes those that nothing valid is signed with.
    pub fn look_after(&self, every: Option<Millis>, now: Millis) -> Result<(), KeyError> {
        for alg in self.missing(now)? {
            self.make(alg, Turn::First, now)?;
        }
        let kept = self.store.read(|tx| Kept::published(tx, now))?;
        for alg in Alg::OURS {
            let newest = kept.iter().filter(|key| key.alg == alg).map(|key| key.active).max();
            if newest.zip(every).is_some_and(|(active, every)| now - active >= every) {
                self.make(alg, Turn::InTime, now)?;
            }
        }
        self.store.write_blocking(move |tx| {
            let sql = "DELETE FROM signing_keys WHERE retired_ms <= $1 RETURNING kid, alg";
            remove(tx, sql, params![now - KEPT_AFTER], Kind::KeyRemoved, now).map(Verdict::Commit)
        })?;
        let left: Vec<String> =
            self.store.read(|tx| Ok(Kept::published(tx, now)?.into_iter().map(|key| key.kid).collect()))?;
        self.opened.write().unwrap_or_else(PoisonError::into_inner).retain(|kid, _| left.contains(kid));
        Ok(())
    }

    /// Whether the database holds signing keys already.
    pub fn are_kept(store: &Store) -> Result<bool, DbError> {
        let found = store.read(|tx| tx.first("SELECT 1 FROM signing_keys", &[], |row| row.get::<i64>(0)))?;
        Ok(found.is_some())
    }
}

/// Keeps a new key, if it is still wanted, and lets the present one go.
fn insert(tx: &Tx<'_>, mut key: Kept, turn: Turn, now: Millis) -> Result<Verdict<Option<Kept>>, DbError> {
    let of_alg = Kept::published(tx, now)?.into_iter().filter(|kept| kept.alg == key.alg);
    let present: Vec<Kept> = of_alg.filter(|kept| kept.retired.is_none()).collect();
    let alg = key.alg.as_str();
    match turn {
        Turn::First if !present.is_empty() => return Ok(Verdict::Rollback(None)),
        Turn::InTime if present.iter().any(|kept| kept.active > now) => return Ok(Verdict::Rollback(None)),
        Turn::InTime if !present.is_empty() => {
            key.active = now + LEAD;
            tx.execute(
                "UPDATE signing_keys SET retired_ms = $2 WHERE alg = $1 AND retired_ms IS NULL",
                params![alg, key.active],
            )?;
        }
        Turn::AtOnce => {
            let sql = "DELETE FROM signing_keys WHERE alg = $1 RETURNING kid, alg";
            remove(tx, sql, params![alg], Kind::KeyRevoked, now)?;
        }
        Turn::First | Turn::InTime => {}
    }
    tx.execute(
        "INSERT INTO signing_keys (kid, alg, sealed, created_ms, active_ms) VALUES ($1, $2, $3, $4, $5)",
        params![&key.kid, alg, &key.sealed, now, key.active],
    )?;
    Event::new(Kind::KeyMade, now).why(format!("{alg} {}", key.kid)).insert(tx)?;
    Ok(Verdict::Commit(Some(key)))
}

/// Removes keys for good, each with its event.
fn remove(
    tx: &Tx<'_>,
    sql: &str,
    params: &[crate::store::db::Param],
    kind: Kind,
    now: Millis,
) -> Result<(), DbError> {
    let mut removed =
        tx.all(sql, params, |row| Ok(format!("{} {}", row.get::<String>(1)?, row.get::<String>(0)?)))?;
    removed.sort();
    removed.into_iter().try_for_each(|key| Event::new(kind, now).why(key).insert(tx))
}
