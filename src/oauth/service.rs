//! Backend services: a token for the app itself, with nobody behind it (SMART App Launch 2.2, "Backend Services").

use super::access_token::{self, Issued};
use super::client_auth::Caller;
use super::dpop::Proof;
use super::grant::Grant;
use super::proofs;
use crate::clock::{Chance, Millis};
use crate::config::SERVICE_TOKEN_LIFE;
use crate::error::{Problem, invalid_scope};
use crate::events::{Event, Kind};
use crate::smart::cover;
use crate::smart::scope::{self, Level, Meaning, Scope};
use crate::store::db::{DbError, Tx, Verdict};

/// The scopes a service is granted of those it asks for: what is not understood, not for services or not registered
/// is left out, and the answer's `scope` tells the truth.
///
/// # Errors
/// `invalid_scope` where nothing is left, with the reason for each.
fn granted(registered: &[Scope], wanted: Option<&str>) -> Result<Vec<Scope>, Problem> {
    let words = scope::split(wanted.unwrap_or_default())?;
    if words.is_empty() {
        return Err(
            invalid_scope("`scope` is missing; ask for what is needed, such as `system/*.rs`").at("scope")
        );
    }
    let (mut kept, mut reasons) = (Vec::new(), Vec::new());
    for word in words {
        let why = match Scope::parse(word) {
            Err(not) => not.why,
            Ok(scope) if !is_for_services(&scope) => {
                "a backend service acts for nobody; ask for `system/`".into()
            }
            Ok(scope) if !cover::covers(registered, &scope) => "the app is not registered for it".into(),
            Ok(scope) => {
                kept.push(scope);
                continue;
            }
        };
        let shown: String = word.chars().take(80).collect();
        reasons.push(format!("`{shown}`: {why}"));
    }
    if kept.is_empty() {
        reasons.truncate(5);
        let words = format!("nothing that was asked for can be granted: {}", reasons.join("; "));
        return Err(invalid_scope(words).at("scope"));
    }
    Ok(kept)
}

/// Whether a scope can be granted to an app that acts for nobody.
pub fn is_for_services(scope: &Scope) -> bool {
    scope.is_at(Level::System) || scope.meaning == Meaning::Introspect
}

/// What a service asks with.
pub struct Presented {
    /// The scope asked for.
    pub scope: Option<String>,
    /// That the service holds a key.
    pub proof: Option<Proof>,
}

/// One request for a token, in the open transaction. Each makes a grant of its own, and no refresh token: the
/// assertion is as good.
pub fn issue(
    tx: &Tx<'_>,
    caller: &Caller,
    presented: &Presented,
    audience: &str,
    now: Millis,
    chance: &Chance,
) -> Result<Verdict<Result<Issued, Problem>>, DbError> {
    let client = match caller.enter(tx, now)? {
        Ok(client) => client,
        Err(problem) => return Ok(Verdict::Commit(Err(problem))),
    };
    let event = Event::new(Kind::ServiceToken, now).client(client.id.clone());
    let proof = presented.proof.as_ref();
    if let Some(problem) = proofs::spend(tx, proof)? {
        event.refused(problem.words.to_string()).insert(tx)?;
        return Ok(Verdict::Commit(Err(problem)));
    }
    let scope = match granted(&client.metadata.scopes(), presented.scope.as_deref()) {
        Ok(scopes) => scope::join(&scopes),
        Err(problem) => {
            event.refused(problem.words.to_string()).insert(tx)?;
            return Ok(Verdict::Commit(Err(problem)));
        }
    };
    let grant = Grant {
        id: chance.id_at(now),
        client: client.id.clone(),
        account: None,
        patient: None,
        encounter: None,
        context: None,
        audience: audience.to_owned(),
        scope: scope.clone(),
        session: None,
        signed_in: None,
        trace: chance.id(),
        created: now,
        ended: None,
    };
    grant.insert(tx)?;
    let life = client.metadata.token_life().min(SERVICE_TOKEN_LIFE);
    let jkt = proof.map(|proof| proof.jkt.clone());
    let access_token = access_token::issue(tx, &grant.id, None, jkt.as_deref(), now, life, chance)?.reveal();
    event.grant(grant.id.clone()).insert(tx)?;
    let issued = Issued {
        grant,
        account: None,
        client,
        scope,
        life,
        access_token,
        jkt,
        refresh_token: None,
        nonce: None,
        key: None,
    };
    Ok(Verdict::Commit(Ok(issued)))
}
