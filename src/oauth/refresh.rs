//! Refresh tokens: each is used once and makes the next; a late second use ends the grant
//! (RFC 9700 4.14.2; SMART App Launch 2.2, "Refresh access token").
//!
//! The successor is derived from the presented token with a key of the server, so that a repeat within the
//! grace time (a lost answer, parallel tabs) gets the same one, without any being kept in the clear.

use super::access_token::{self, Issued};
use super::client::Client;
use super::client_auth::Caller;
use super::client_metadata::GrantType;
use super::dpop::{self, Proof};
use super::grant::Grant;
use super::keys;
use super::proofs;
use crate::clock::{Chance, DAY, Millis, SECOND};
use crate::crypto::{Hashed, Mac, Secret};
use crate::error::{Problem, invalid_grant, invalid_scope};
use crate::events::{Event, Kind};
use crate::identity::account::Account;
use crate::identity::session::Session;
use crate::params;
use crate::smart::cover;
use crate::smart::scope::{self, Meaning, Scope};
use crate::store::db::{DbError, Tx, Verdict};

/// How long a refresh token lives after its last use.
const LIFE: Millis = 100 * DAY;
/// Within this time a used token may be presented again, as long as its successor was not used.
const GRACE: Millis = 10 * SECOND;

/// A refresh token as it is kept.
struct Kept {
    grant: String,
    /// The thumbprint of the key it is bound to.
    jkt: Option<String>,
    issued: Millis,
    expires: Millis,
    used: Option<Millis>,
}

fn find(tx: &Tx<'_>, hash: &Hashed) -> Result<Option<Kept>, DbError> {
    tx.first(
        "SELECT grant_id, jkt, issued_ms, expires_ms, used_ms FROM refresh_tokens WHERE hash = $1",
        params![hash.as_str()],
        |row| {
            Ok(Kept {
                grant: row.get(0)?,
                jkt: row.get(1)?,
                issued: row.get(2)?,
                expires: row.get(3)?,
                used: row.get(4)?,
            })
        },
    )
}

fn keep(tx: &Tx<'_>, hash: &Hashed, grant: &str, jkt: Option<&str>, now: Millis) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO refresh_tokens (hash, grant_id, jkt, issued_ms, expires_ms) VALUES ($1, $2, $3, $4, $5)",
        params![hash.as_str(), grant, jkt, now, now + LIFE],
    )
    .map(drop)
}

fn asks_to_stay(scopes: &[Scope]) -> bool {
    scopes.iter().any(|s| matches!(s.meaning, Meaning::OfflineAccess | Meaning::OnlineAccess))
}

/// What a refresh token of this app is bound to: a public app's to the key it proved (RFC 9449 5), any other's to
/// the app itself, which authenticates.
fn binding<'a>(client: &Client, proof: Option<&'a Proof>) -> Option<&'a str> {
    let public = !client.metadata.token_endpoint_auth_method.proves();
    proof.filter(|_| public).map(|proof| proof.jkt.as_str())
}

/// The first refresh token of a grant, where one was granted and the app may use it.
pub fn first(
    tx: &Tx<'_>,
    grant: &Grant,
    client: &Client,
    proof: Option<&Proof>,
    now: Millis,
    chance: &Chance,
) -> Result<Option<Secret>, DbError> {
    let may = client.metadata.grant_types.contains(&GrantType::RefreshToken);
    if !may || !asks_to_stay(&grant.scopes()) {
        return Ok(None);
    }
    let secret = Secret::new("hg_rt_", chance);
    keep(tx, &secret.hashed(), &grant.id, binding(client, proof), now)?;
    Ok(Some(secret))
}

/// The token that follows `presented`; always the same one.
fn successor(mac: &Mac, presented: &str) -> String {
    format!("hg_rt_{}", mac.tag(&[presented]))
}

/// Which app presents a refresh token; public apps may leave out their `client_id`.
pub fn holder(tx: &Tx<'_>, presented: &str) -> Result<Option<Client>, DbError> {
    let Some(kept) = find(tx, &Hashed::of(presented))? else { return Ok(None) };
    let Some(grant) = Grant::find(tx, &kept.grant)? else { return Ok(None) };
    Client::find(tx, &grant.client)
}

/// The grant of a presented refresh token, dead or alive.
pub fn grant_of(tx: &Tx<'_>, presented: &str) -> Result<Option<String>, DbError> {
    Ok(find(tx, &Hashed::of(presented))?.map(|kept| kept.grant))
}

/// Forgets those whose time was over before `then`, some at a time. A used one stays until then: its second
/// use must still be recognised.
pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
    let sql = "DELETE FROM refresh_tokens WHERE hash IN
                   (SELECT hash FROM refresh_tokens WHERE expires_ms < $1 ORDER BY expires_ms, hash LIMIT 1000)";
    tx.execute(sql, params![then]).map(drop)
}

/// A refresh token that could be used now.
pub struct Live {
    /// What it stands for.
    pub grant: Grant,
    /// The app that holds it.
    pub client: Client,
    /// The person it acts for.
    pub account: Account,
    /// The thumbprint of the key it is bound to.
    pub jkt: Option<String>,
    /// When it was issued.
    pub issued: Millis,
    /// From then on it is dead.
    pub expires: Millis,
}

/// The presented refresh token, if it could be used now.
pub fn live(tx: &Tx<'_>, presented: &str, now: Millis) -> Result<Option<Live>, DbError> {
    let Some(kept) = find(tx, &Hashed::of(presented))? else { return Ok(None) };
    if kept.used.is_some() || now >= kept.expires {
        return Ok(None);
    }
    let Some(grant) = Grant::find(tx, &kept.grant)?.filter(|g| g.ended.is_none()) else { return Ok(None) };
    let Some(client) = Client::find(tx, &grant.client)? else { return Ok(None) };
    let (Ok(account), Ok(())) = (grant.person(tx, now)?, may_go_on(tx, &grant, &client, now)?) else {
        return Ok(None);
    };
    Ok(Some(Live { grant, client, account, jkt: kept.jkt, issued: kept.issued, expires: kept.expires }))
}

/// A refresh token as the app presents it.
pub struct Presented {
    /// The token.
    pub token: String,
    /// The scope asked for, where it is to be less.
    pub scope: Option<String>,
    /// That the app holds a key.
    pub proof: Option<Proof>,
}

/// What was issued, or why nothing was.
pub type Rotated = Result<Issued, Problem>;

/// One refresh, in the open transaction: every check, then the next token.
pub fn rotate(
    tx: &Tx<'_>,
    caller: &Caller,
    presented: &Presented,
    mac: &Mac,
    now: Millis,
    chance: &Chance,
) -> Result<Verdict<Rotated>, DbError> {
    let client = match caller.enter(tx, now)? {
        Ok(client) => client,
        Err(problem) => return Ok(Verdict::Commit(Err(problem))),
    };
    let event = Event::new(Kind::Refreshed, now).client(client.id.clone());
    let refuse = |problem: Problem, event: Event| {
        event.refused(problem.words.to_string()).insert(tx)?;
        Ok(Verdict::Commit(Err(problem)))
    };
    let proof = presented.proof.as_ref();
    let spent = proofs::spend(tx, proof)?;
    let hash = Hashed::of(&presented.token);
    let Some(kept) = find(tx, &hash)? else {
        return refuse(
            invalid_grant("the refresh token is not one of this server's, or was long forgotten"),
            event,
        );
    };
    let event = event.grant(kept.grant.clone());
    let Some(grant) = Grant::find(tx, &kept.grant)?.filter(|g| g.client == client.id) else {
        return refuse(invalid_grant("the refresh token was given to another app"), event);
    };
    if let Some((_, why)) = &grant.ended {
        return refuse(invalid_grant(format!("the access was ended ({why}); launch again")), event);
    }
    // Before anything else is looked at: a thief's other mistakes must not hide that the token was stolen.
    if kept.used.is_some_and(|used| now - used >= GRACE) {
        return reused(tx, &grant, now, event);
    }
    if let Some(problem) = spent {
        return refuse(problem, event);
    }
    if now >= kept.expires {
        return refuse(invalid_grant("the refresh token has expired; launch again"), event);
    }
    if let Err(problem) = dpop::holds(kept.jkt.as_deref(), proof) {
        return refuse(problem, event);
    }
    let account = match grant.person(tx, now)? {
        Ok(account) => account,
        Err(problem) => return refuse(problem, event),
    };
    if let Err(problem) = may_go_on(tx, &grant, &client, now)? {
        return refuse(problem, event);
    }
    let scope = match narrowed(&grant, &client, presented.scope.as_deref()) {
        Ok(scope) => scope,
        Err(problem) => return refuse(problem, event),
    };
    let next = successor(mac, &presented.token);
    let next_hash = Hashed::of(&next);
    match kept.used {
        None => {
            let sql = "UPDATE refresh_tokens SET used_ms = $2 WHERE hash = $1 AND used_ms IS NULL";
            if tx.execute(sql, params![hash.as_str(), now])? == 1 {
                // Once bound, bound to the same key for good.
                let jkt = kept.jkt.as_deref().or(binding(&client, proof));
                keep(tx, &next_hash, &grant.id, jkt, now)?;
            }
        }
        // A repeat within the grace time: a lost answer, or a parallel tab.
        Some(_) => {
            let Some(next) = find(tx, &next_hash)?.filter(|next| next.used.is_none()) else {
                return refuse(
                    invalid_grant("the refresh token was used, and so was the one that followed it"),
                    event,
                );
            };
            if let Err(problem) = dpop::holds(next.jkt.as_deref(), proof) {
                return refuse(problem, event);
            }
        }
    }
    let life = client.metadata.token_life();
    let narrow = (scope != grant.scope).then_some(scope.as_str());
    let jkt = proof.map(|proof| proof.jkt.clone());
    let access_token =
        access_token::issue(tx, &grant.id, narrow, jkt.as_deref(), now, life, chance)?.reveal();
    let key = keys::Kept::signing(tx, client.metadata.id_token_alg(), now)?;
    event.account(account.id.clone()).insert(tx)?;
    let issued = Issued {
        grant,
        account: Some(account),
        client,
        scope,
        life,
        access_token,
        jkt,
        refresh_token: Some(next),
        nonce: None,
        key,
    };
    Ok(Verdict::Commit(Ok(issued)))
}

/// A second use after the grace time: whichever of the two is the thief, both lose it.
fn reused(tx: &Tx<'_>, grant: &Grant, now: Millis, event: Event) -> Result<Verdict<Rotated>, DbError> {
    let why = "its refresh token was used twice";
    Grant::end(tx, &grant.id, now, why)?;
    Event::new(Kind::GrantEnded, now).grant(grant.id.clone()).why(why).insert(tx)?;
    event.refused("used twice").insert(tx)?;
    let words = "the refresh token was already used; the access was ended, so launch again";
    Ok(Verdict::Commit(Err(invalid_grant(words))))
}

/// Whether the grant still allows refreshing: the app is still registered for it, and a token that was only
/// for the session has its session.
fn may_go_on(
    tx: &Tx<'_>,
    grant: &Grant,
    client: &Client,
    now: Millis,
) -> Result<Result<(), Problem>, DbError> {
    let scopes = cover::meet(&grant.scopes(), &client.metadata.scopes());
    if !asks_to_stay(&scopes) {
        return Ok(Err(invalid_grant("the app is no longer registered for refresh tokens")));
    }
    let offline = scopes.iter().any(|s| s.meaning == Meaning::OfflineAccess);
    let alive = match &grant.session {
        Some(sid) => Session::is_live(tx, sid, now)?,
        None => false,
    };
    if offline || alive {
        return Ok(Ok(()));
    }
    Ok(Err(invalid_grant("`online_access` ended with the person's session; launch again")))
}

/// The scope of this one answer: all that was granted, or what was asked for, if that is no more.
fn narrowed(grant: &Grant, client: &Client, wanted: Option<&str>) -> Result<String, Problem> {
    let granted = still_registered(grant, client);
    let Some(wanted) = wanted else { return Ok(scope::join(&granted)) };
    let mut kept = Vec::new();
    for word in scope::split(wanted)? {
        let scope =
            Scope::parse(word).ok().filter(|scope| cover::covers(&granted, scope)).ok_or_else(|| {
                let shown: String = word.chars().take(80).collect();
                invalid_scope(format!("`{shown}` was not granted; a refresh can only ask for less"))
                    .at("scope")
            })?;
        kept.push(scope);
    }
    Ok(scope::join(if kept.is_empty() { &granted } else { &kept }))
}

/// What was granted and the app is still registered for: what an answer may say is granted.
pub fn still_registered(grant: &Grant, client: &Client) -> Vec<Scope> {
    let registered = client.metadata.scopes();
    grant.scopes().into_iter().filter(|scope| cover::covers(&registered, scope)).collect()
}
