//! Access tokens, and what a presented one may do at this moment.

use crate::clock::{Chance, Millis};
use crate::crypto::{Hashed, Secret};
use crate::identity::account::{Account, ActsFor};
use crate::oauth::client::Client;
use crate::oauth::grant::{self, Grant};
use crate::oauth::keys::Kept;
use crate::params;
use crate::smart::cover;
use crate::smart::scope::Scope;
use crate::store::db::{DbError, Tx};

/// A live access token with all it depends on, read in one snapshot.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// What it stands for.
    pub grant: Grant,
    /// The app that holds it.
    pub client: Client,
    /// For whom it acts.
    pub subject: Subject,
    /// What it may do: token ∩ grant ∩ what the app is registered for.
    pub scopes: Vec<Scope>,
    /// The thumbprint of the key it is bound to; then it counts only with a proof by that key (RFC 9449 7).
    pub jkt: Option<String>,
    /// When it was issued.
    pub issued: Millis,
    /// From then on it is dead.
    pub expires: Millis,
}

/// For whom a token acts.
#[derive(Clone, Debug)]
pub enum Subject {
    /// For a person, and so for those whose records that person may open now.
    Person(Box<Account>, Vec<ActsFor>),
    /// For the app itself, a backend service.
    Service,
}

impl Bearer {
    /// The person it acts for, if it is one.
    pub fn account(&self) -> Option<&Account> {
        match &self.subject {
            Subject::Person(account, _) => Some(account),
            Subject::Service => None,
        }
    }

    /// `sub`: the person, or the app itself (RFC 9068 2.2).
    pub fn sub(&self) -> &str {
        self.account().map_or(&self.client.id, |account| &account.id)
    }
}

/// A token that was just issued, with everything its answer is made of.
pub struct Issued {
    /// Under which grant.
    pub grant: Grant,
    /// By whom; nobody for a backend service.
    pub account: Option<Account>,
    /// To which app.
    pub client: Client,
    /// What the token may do, as text.
    pub scope: String,
    /// How long it lives.
    pub life: Millis,
    /// The token.
    pub access_token: String,
    /// The thumbprint of the key it is bound to.
    pub jkt: Option<String>,
    /// The refresh token, where one was asked for and may be had.
    pub refresh_token: Option<String>,
    /// As the app sent it.
    pub nonce: Option<String>,
    /// What an id_token beside it is signed with; none where it is still to be made.
    pub key: Option<Kept>,
}

/// Why a presented token is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Nothing known by that text.
    Unknown,
    /// Its time is over.
    Expired,
    /// Its grant has ended.
    Ended(String),
    /// The person was shut out.
    PersonDisabled,
}

impl Dead {
    /// For the answer: what to do about it.
    pub fn words(&self) -> String {
        match self {
            Dead::Unknown => "the access token is not one of this server's, or was long forgotten".into(),
            Dead::Expired => "the access token has expired; refresh it or launch again".into(),
            Dead::Ended(why) => format!("the access was ended ({why}); launch again"),
            Dead::PersonDisabled => "the person can no longer sign in here".into(),
        }
    }
}

/// Issues an access token under a grant; `scopes` only where they are fewer than the grant's, `jkt` where a key
/// was proved, to which it is then bound.
pub fn issue(
    tx: &Tx<'_>,
    grant: &str,
    scopes: Option<&str>,
    jkt: Option<&str>,
    now: Millis,
    life: Millis,
    chance: &Chance,
) -> Result<Secret, DbError> {
    let secret = Secret::new("hg_at_", chance);
    tx.execute(
        "INSERT INTO access_tokens (hash, grant_id, scopes, jkt, issued_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![secret.hashed().as_str(), grant, scopes, jkt, now, now + life],
    )?;
    Ok(secret)
}

/// The type of an access token: `DPoP` where it is bound to a key (RFC 9449 5), which is only where the app asked for
/// that by a proof, since SMART apps expect `Bearer`.
pub fn kind(jkt: Option<&str>) -> &'static str {
    if jkt.is_some() { "DPoP" } else { "Bearer" }
}

/// The grant of a presented access token, dead or alive.
pub fn grant_of(tx: &Tx<'_>, presented: &str) -> Result<Option<String>, DbError> {
    let sql = "SELECT grant_id FROM access_tokens WHERE hash = $1";
    tx.first(sql, params![Hashed::of(presented).as_str()], |row| row.get(0))
}

/// Ends one access token, and nothing else of its grant.
pub fn expire(tx: &Tx<'_>, presented: &str, now: Millis) -> Result<(), DbError> {
    let sql = "UPDATE access_tokens SET expires_ms = $2 WHERE hash = $1 AND expires_ms > $2";
    tx.execute(sql, params![Hashed::of(presented).as_str(), now]).map(drop)
}

/// Forgets those that died before `then`, some at a time.
pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
    let sql = "DELETE FROM access_tokens WHERE hash IN
                   (SELECT hash FROM access_tokens WHERE expires_ms < $1 ORDER BY expires_ms, hash LIMIT 1000)";
    tx.execute(sql, params![then]).map(drop)
}

impl Bearer {
    /// What a presented token may do now. Nothing of it is cached between calls, since anything of it
    /// can end access.
    pub fn find(tx: &Tx<'_>, presented: &str, now: Millis) -> Result<Result<Bearer, Dead>, DbError> {
        let row = tx.first(
            &format!(
                "SELECT {}, t.scopes, t.jkt, t.issued_ms, t.expires_ms FROM access_tokens t JOIN grants g ON g.id = t.grant_id
                 WHERE t.hash = $1",
                grant::COLUMNS
            ),
            params![Hashed::of(presented).as_str()],
            |row| {
                Ok((
                    Grant::read(row)?,
                    row.get::<Option<String>>(grant::WIDTH)?,
                    row.get::<Option<String>>(grant::WIDTH + 1)?,
                    row.get::<Millis>(grant::WIDTH + 2)?,
                    row.get::<Millis>(grant::WIDTH + 3)?,
                ))
            },
        )?;
        let Some((grant, narrowed, jkt, issued, expires)) = row else { return Ok(Err(Dead::Unknown)) };
        if now >= expires {
            return Ok(Err(Dead::Expired));
        }
        if let Some((_, why)) = &grant.ended {
            return Ok(Err(Dead::Ended(why.clone())));
        }
        let Some(client) = Client::find(tx, &grant.client)? else {
            return Ok(Err(Dead::Ended("the app was deleted".into())));
        };
        let subject = match &grant.account {
            None => Subject::Service,
            Some(id) => match Account::find(tx, id)?.filter(|a| !a.disabled) {
                None => return Ok(Err(Dead::PersonDisabled)),
                Some(account) => {
                    let acts_for = Account::acts_for(tx, &account.id, now)?;
                    Subject::Person(Box::new(account), acts_for)
                }
            },
        };
        let granted = grant.scopes();
        let scopes = match narrowed {
            Some(text) => cover::meet(&Scope::list(&text), &granted),
            None => granted,
        };
        let scopes = cover::meet(&scopes, &client.metadata.scopes());
        Ok(Ok(Bearer { grant, client, subject, scopes, jkt, issued, expires }))
    }
}
