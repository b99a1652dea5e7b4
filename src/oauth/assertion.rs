//! Client assertions, `private_key_jwt`: every check, and each `jti` once (RFC 7523 3; SMART App Launch 2.2, "Client
//! Authentication: Asymmetric").

use super::client_keys::ClientKeys;
use super::client_metadata::Metadata;
use crate::clock::{Millis, SECOND};
use crate::crypto::Hashed;
use crate::error::{Problem, invalid_client};
use crate::fetch::Fetcher;
use crate::jose::Jws;
use crate::params;
use crate::store::db::{DbError, Tx};

/// The one `client_assertion_type`.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead an assertion may expire …
const LONGEST: Millis = 300 * SECOND;
/// … and how far apart clocks may be.
const SKEW: Millis = 30 * SECOND;
/// The longest `jti`, bytes.
const LONGEST_JTI: usize = 512;

/// An assertion that is signed and says what it must, but may have been used before.
#[derive(Clone, Debug)]
pub struct Unspent {
    jti: Hashed,
    expires: Millis,
}

impl Unspent {
    /// Uses it up: false where somebody did before. Holds across restarts.
    pub fn spend(&self, tx: &Tx<'_>, client: &str) -> Result<bool, DbError> {
        let sql =
            "INSERT INTO assertions (client, jti, expires_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        Ok(tx.execute(sql, params![client, self.jti.as_str(), self.expires])? == 1)
    }
}

/// Forgets those that died before `then`, some at a time.
pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
    let sql = "DELETE FROM assertions WHERE (client, jti) IN
                   (SELECT client, jti FROM assertions WHERE expires_ms < $1
                    ORDER BY expires_ms, client, jti LIMIT 1000)";
    tx.execute(sql, params![then]).map(drop)
}

fn refused(words: impl AsRef<str>) -> Problem {
    invalid_client(format!("the client assertion {}", words.as_ref())).at("client_assertion")
}

/// Takes an assertion apart, believing nothing yet; the app it claims to be from is [`issuer`].
pub fn parse(text: &str) -> Result<Jws<'_>, Problem> {
    Jws::parse(text).map_err(refused)
}

/// The app an assertion claims to be from: `iss` and `sub` are both its `client_id`.
pub fn issuer<'a>(jws: &'a Jws<'_>) -> Result<&'a str, Problem> {
    match (jws.text("iss"), jws.text("sub")) {
        (Some(iss), Some(sub)) if iss == sub => Ok(iss),
        _ => Err(refused("must have the `client_id` as both `iss` and `sub`")),
    }
}

/// Every check but whether it was used before. `audiences` are the texts of which `aud` must be one.
///
/// # Errors
/// `invalid_client`, whatever is wrong (RFC 6749 5.2), with words that say what.
pub async fn verify(
    app: &Metadata,
    jws: &Jws<'_>,
    audiences: &[&str],
    keys: &ClientKeys,
    fetcher: &Fetcher,
    now: Millis,
) -> Result<Unspent, Problem> {
    if let Some(alg) = app.token_endpoint_auth_signing_alg.filter(|alg| *alg != jws.alg) {
        return Err(refused(format!("must be signed with {}, as the app registered", alg.as_str())));
    }
    let typ = jws.header.get("typ").map(|typ| typ.as_str().unwrap_or_default().to_ascii_lowercase());
    if typ.is_some_and(|typ| !["jwt", "client-authentication+jwt"].contains(&typ.as_str())) {
        return Err(refused("has another `typ` than `JWT`: it is a token for something else"));
    }
    says_what_it_must(jws, audiences, now)?;
    let jti = jws.text("jti").filter(|jti| !jti.is_empty() && jti.len() <= LONGEST_JTI);
    let jti = jti.ok_or_else(|| refused("needs a `jti`, a text that is new each time"))?;
    let key = keys
        .find(app, jws, fetcher, now)
        .await
        .map_err(|why| refused(format!("cannot be verified: {why}")))?;
    if !jws.is_signed_by(&key) {
        return Err(refused("has a signature that the app's key did not make"));
    }
    // Its whole life is at most five and a half minutes; it is remembered a little longer than it is good.
    Ok(Unspent { jti: Hashed::of(jti), expires: now + LONGEST + 2 * SKEW })
}

fn says_what_it_must(jws: &Jws<'_>, audiences: &[&str], now: Millis) -> Result<(), Problem> {
    // One audience alone: an assertion that is also for another server could be replayed by that one.
    let aud = match jws.claims.get("aud") {
        Some(serde_json::Value::Array(list)) if list.len() == 1 => list[0].as_str(),
        Some(one) => one.as_str(),
        None => None,
    };
    if !aud.is_some_and(|aud| audiences.contains(&aud)) {
        let all = audiences.iter().map(|a| format!("`{a}`")).collect::<Vec<_>>().join(" or ");
        return Err(refused(format!("must have {all} as its only `aud`")));
    }
    let time = |name| jws.seconds(name).map(|seconds| seconds.saturating_mul(SECOND));
    let exp = time("exp").ok_or_else(|| refused("needs an `exp`, a number of seconds since 1970"))?;
    if now >= exp {
        return Err(refused("has expired; make a new one for each request"));
    }
    if exp > now + LONGEST + SKEW {
        return Err(refused("expires more than 5 minutes from now; make it shorter"));
    }
    for name in ["iat", "nbf"] {
        if jws.claims.contains_key(name) && time(name).is_none_or(|at| at > now + SKEW) {
            return Err(refused(format!("has an `{name}` in the future; is the app's clock right?")));
        }
    }
    Ok(())
}
