//! `POST /oauth/token`: codes, refresh tokens and assertions for access tokens (RFC 6749 4.1.3, 6, 4.4; SMART App
//! Launch 2.2, "Obtain access token").

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use oxide_auth::code_grant::accesstoken::{AccessToken, Authorization, Input, Output, Request as Machine};
use oxide_auth::code_grant::extensions::Pkce;
use oxide_auth::primitives::grant::{Extensions, Grant as MachineGrant, Value as MachineValue};
use oxide_auth::primitives::issuer::{IssuedToken, TokenType};
use serde_json::{Value, json};

use super::access_token::{self, Issued};
use super::client::Client;
use super::client_auth::Caller;
use super::client_metadata::GrantType;
use super::code::Code;
use super::dpop::{self, Proof};
use super::grant::Grant;
use super::keys::Kept;
use super::params::Params;
use super::proofs;
use super::redirect;
use super::refresh;
use super::service;
use crate::app::{App, Server};
use crate::clock::{Chance, Millis, SECOND};
use crate::error::{self, Problem, invalid_grant, invalid_request};
use crate::events::{Event, Kind};
use crate::fhir::resource::Resource;
use crate::identity::account::Account;
use crate::oidc::id_token;
use crate::smart::scope::{self, Meaning, Scope};
use crate::store::db::{DbError, Tx, Verdict};
use crate::web::answer;
use crate::web::cors::answer_for;
use crate::web::form::Posted;

/// The endpoint.
pub async fn post(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match exchange(&app, query.as_deref(), &headers, &body).await {
        Ok((client, body)) => answer_for(client, answer::private_json(StatusCode::OK, &body)),
        Err(problem) => answer::oauth(&problem),
    }
}

async fn exchange(
    app: &App,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(String, Value), Problem> {
    let posted = Posted::read(query, headers, body)?;
    let params = &posted.params;
    let grant_type = params.one("grant_type")?.ok_or_else(|| {
        invalid_request("`grant_type` is missing; to exchange a code send `grant_type=authorization_code`")
            .at("grant_type")
    })?;
    let known = GrantType::ALL.into_iter().find(|g| g.as_str() == grant_type).ok_or_else(|| {
        Problem::new(
            error::Code::UnsupportedGrantType,
            "this `grant_type` is not supported; this server takes `authorization_code`, `refresh_token` and `client_credentials`",
        )
    })?;
    let caller = posted.caller(app).await?;
    let id = caller.client.id.clone();
    let wanted = match Wanted::read(app, known, &caller.client, &posted) {
        Ok(wanted) => wanted,
        Err(problem) => {
            caller.use_up(app).await?;
            return Err(problem);
        }
    };
    let now = app.now();
    let issued = wanted.answered(app, caller, now).await?;
    Ok((id, respond(app, issued, now).await?))
}

/// What an app wants a token for.
enum Wanted {
    Code(Presented),
    Refresh(refresh::Presented),
    Service(service::Presented),
}

impl Wanted {
    fn read(
        server: &Server,
        grant_type: GrantType,
        client: &Client,
        posted: &Posted,
    ) -> Result<Wanted, Problem> {
        let params = &posted.params;
        if !client.metadata.grant_types.contains(&grant_type) {
            return Err(Problem::new(
                error::Code::UnauthorizedClient,
                format!("the app is not registered for the grant type `{}`", grant_type.as_str()),
            ));
        }
        let proof = posted.proof(server, "/oauth/token")?;
        if proof.is_none() && client.metadata.dpop_bound_access_tokens {
            let words = "the app is registered with `dpop_bound_access_tokens`; send a DPoP header with a proof of \
                         its key";
            return Err(error::invalid_dpop_proof(words));
        }
        let owned = |value: Option<&str>| value.map(str::to_owned);
        Ok(match grant_type {
            GrantType::AuthorizationCode => Wanted::Code(Presented::read(params, proof)?),
            GrantType::RefreshToken => {
                let missing = || invalid_request("`refresh_token` is missing").at("refresh_token");
                let token = owned(params.one("refresh_token")?).ok_or_else(missing)?;
                Wanted::Refresh(refresh::Presented { token, scope: owned(params.one("scope")?), proof })
            }
            GrantType::ClientCredentials => {
                Wanted::Service(service::Presented { scope: owned(params.one("scope")?), proof })
            }
        })
    }

    /// What is issued for it, in one transaction that the caller enters first.
    async fn answered(self, app: &App, caller: Caller, now: Millis) -> Redeemed {
        let chance = app.chance.clone();
        match self {
            Wanted::Code(presented) => {
                app.store.write(move |tx| redeem(tx, &caller, &presented, now, &chance)).await?
            }
            Wanted::Refresh(presented) => {
                let mac = app.successors.clone();
                app.store
                    .write(move |tx| refresh::rotate(tx, &caller, &presented, &mac, now, &chance))
                    .await?
            }
            Wanted::Service(presented) => {
                let audience = app.fhir_base();
                app.store
                    .write(move |tx| service::issue(tx, &caller, &presented, &audience, now, &chance))
                    .await?
            }
        }
    }
}

/// A code as the app presents it.
struct Presented {
    code: String,
    redirect_uri: String,
    verifier: Option<String>,
    proof: Option<Proof>,
}

impl Presented {
    fn read(params: &Params, proof: Option<Proof>) -> Result<Presented, Problem> {
        let missing = |name: &'static str| {
            let words = format!("`{name}` is missing; send it with the code");
            // RFC 6749 has no better code for a redirect that is not repeated, and this list's readers expect it.
            if name == "code" { invalid_request(words).at(name) } else { invalid_grant(words).at(name) }
        };
        Ok(Presented {
            code: params.one("code")?.ok_or_else(|| missing("code"))?.to_owned(),
            redirect_uri: params.one("redirect_uri")?.ok_or_else(|| missing("redirect_uri"))?.to_owned(),
            verifier: params.one("code_verifier")?.map(str::to_owned),
            proof,
        })
    }
}

type Redeemed = Result<Issued, Problem>;

/// One code, in the open transaction: every check, then consumed and turned into a token.
fn redeem(
    tx: &Tx<'_>,
    caller: &Caller,
    presented: &Presented,
    now: Millis,
    chance: &Chance,
) -> Result<Verdict<Redeemed>, DbError> {
    let client = match caller.enter(tx, now)? {
        Ok(client) => client,
        Err(problem) => return Ok(Verdict::Commit(Err(problem))),
    };
    let event = Event::new(Kind::CodeExchanged, now).client(client.id.clone());
    let refuse = |problem: Problem, event: Event| {
        event.refused(problem.words.to_string()).insert(tx)?;
        Ok(Verdict::Commit(Err(problem)))
    };
    let proof = presented.proof.as_ref();
    let spent = proofs::spend(tx, proof)?;
    let Some(code) = Code::find(tx, &presented.code)? else {
        return refuse(invalid_grant("the code is not one of this server's, or was long forgotten"), event);
    };
    let event = event.grant(code.grant.clone());
    if code.client != client.id {
        // Not burnt: its rightful app may still come.
        return refuse(invalid_grant("the code was given to another app"), event);
    }
    if code.used.is_some() {
        return reused(tx, &code, now, event);
    }
    if let Some(problem) = spent {
        return refuse(problem, event);
    }
    if now >= code.expires {
        return refuse(invalid_grant("the code has expired; codes are good for one minute"), event);
    }
    if !redirect::same(&code.redirect_uri, &presented.redirect_uri) {
        let words = "`redirect_uri` is not the one of the authorization request; send the same text";
        return refuse(invalid_grant(words).at("redirect_uri"), event);
    }
    if let Err(problem) = verifier_fits(&code, presented.verifier.as_deref()) {
        return refuse(problem, event);
    }
    if let Err(problem) = dpop::holds(code.jkt.as_deref(), proof) {
        return refuse(problem, event);
    }
    let grant = Grant::find(tx, &code.grant)?.filter(|g| g.ended.is_none());
    let Some(grant) = grant else {
        return refuse(invalid_grant("what the code stood for was ended; launch again"), event);
    };
    let account = match grant.person(tx, now)? {
        Ok(account) => account,
        Err(problem) => return refuse(problem, event),
    };
    if !machine_agrees(&client, &code, presented) {
        return refuse(invalid_grant("the code cannot be exchanged by this request"), event);
    }
    if !Code::consume(tx, &presented.code, now)? {
        return reused(tx, &code, now, event);
    }
    let life = client.metadata.token_life();
    let jkt = proof.map(|proof| proof.jkt.clone());
    let access_token = access_token::issue(tx, &grant.id, None, jkt.as_deref(), now, life, chance)?.reveal();
    let refresh_token = refresh::first(tx, &grant, &client, proof, now, chance)?;
    let key = Kept::signing(tx, client.metadata.id_token_alg(), now)?;
    event.account(account.id.clone()).insert(tx)?;
    let issued = Issued {
        scope: scope::join(&refresh::still_registered(&grant, &client)),
        grant,
        account: Some(account),
        client,
        life,
        access_token,
        jkt,
        refresh_token: refresh_token.map(crate::crypto::Secret::reveal),
        nonce: code.nonce,
        key,
    };
    Ok(Verdict::Commit(Ok(issued)))
}

/// A second use means that the code was stolen, before or after: all that came of it ends (RFC 6749 4.1.2).
fn reused(tx: &Tx<'_>, code: &Code, now: Millis, event: Event) -> Result<Verdict<Redeemed>, DbError> {
    Grant::end(tx, &code.grant, now, "its code was used twice")?;
    Event::new(Kind::GrantEnded, now).grant(code.grant.clone()).why("its code was used twice").insert(tx)?;
    event.refused("used twice").insert(tx)?;
    let words = "the code was already used; its tokens were ended, so launch again";
    Ok(Verdict::Commit(Err(invalid_grant(words))))
}

/// The form of the verifier (RFC 7636 4.1); whether it is the right one, the machine decides.
fn verifier_fits(code: &Code, verifier: Option<&str>) -> Result<(), Problem> {
    let wrong = |words: &'static str| Err(invalid_grant(words).at("code_verifier"));
    match (code.challenge.is_some(), verifier) {
        (true, None) => wrong("`code_verifier` is missing; send the one that `code_challenge` was made of"),
        (false, Some(_)) => wrong("`code_verifier` is sent, but the request had no `code_challenge`"),
        (_, Some(v)) if !(43..=128).contains(&v.len()) => {
            wrong("`code_verifier` must be 43 to 128 characters long")
        }
        (_, Some(v)) if !v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) => {
            wrong("`code_verifier` may hold letters, digits and `-._~` only")
        }
        (true, Some(v)) if Some(crate::crypto::sha256_base64url(v.as_bytes())) != code.challenge => {
            wrong("`code_verifier` is not the one that `code_challenge` was made of")
        }
        _ => Ok(()),
    }
}

/// The part of a request that the protocol machine looks at. The client is already authenticated.
struct Narrow<'a> {
    client: &'a str,
    presented: &'a Presented,
}

impl Machine for Narrow<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.presented.code))
    }
    fn authorization(&self) -> Authorization<'_> {
        Authorization::None
    }
    fn client_id(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.client))
    }
    fn redirect_uri(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.presented.redirect_uri))
    }
    fn grant_type(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("authorization_code"))
    }
    fn extension(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// Runs the protocol machine over what our own checks found good: client, redirect and PKCE once more, by
/// other hands than ours. Nothing is issued where it disagrees.
fn machine_agrees(client: &Client, code: &Code, presented: &Presented) -> bool {
    let request = Narrow { client: &client.id, presented };
    let mut machine = AccessToken::new(&request);
    let mut input = Input::None;
    loop {
        input = match machine.advance(input) {
            Output::Authenticate { .. } => Input::Authenticated,
            Output::Recover { .. } => Input::Recovered(machine_grant(code, presented).map(Box::new)),
            Output::Extend { extensions } => {
                if let Some(challenge) = &code.challenge {
                    // The machine keeps a challenge with its method, S256, as one letter behind it.
                    let kept = MachineValue::private(Some(format!("{challenge}S")));
                    let sent = presented.verifier.as_deref().map(Cow::Borrowed);
                    if Pkce::required().verify(Some(kept), sent).is_err() {
                        return false;
                    }
                }
                Input::Extended { access_extensions: std::mem::take(extensions) }
            }
            Output::Issue { grant } => {
                let until = grant.until;
                Input::Issued(IssuedToken {
                    token: String::new(),
                    refresh: None,
                    until,
                    token_type: TokenType::Bearer,
                })
            }
            Output::Ok(_) => return true,
            Output::Err(_) => return false,
        };
    }
}

fn machine_grant(code: &Code, presented: &Presented) -> Option<MachineGrant> {
    Some(MachineGrant {
        owner_id: String::new(),
        client_id: code.client.clone(),
        scope: "granted".parse().ok()?,
        // Compared as text already; the machine compares parsed URLs, which would say less.
        redirect_uri: presented.redirect_uri.parse().ok()?,
        // Expiry was decided by our clock; the machine only knows the wall clock.
        until: "9999-12-31T23:59:59Z".parse().ok()?,
        extensions: Extensions::new(),
    })
}

/// The token answer (RFC 6749 5.1), with the launch context, and an id_token where `openid` was granted.
pub async fn respond(server: &Server, issued: Issued, now: Millis) -> Result<Value, Problem> {
    let scopes = Scope::list(&issued.scope);
    let mut answer = json!({
        "access_token": issued.access_token,
        "token_type": access_token::kind(issued.jkt.as_deref()),
        "expires_in": issued.life / SECOND,
        "scope": issued.scope,
    });
    let optional = [
        ("refresh_token", &issued.refresh_token),
        ("patient", &issued.grant.patient),
        ("encounter", &issued.grant.encounter),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            answer[name] = json!(value);
        }
    }
    if let Some(context) = &issued.grant.context {
        context.add_to(&mut answer);
    }
    if let Some(account) = &issued.account
        && scopes.iter().any(|s| s.meaning == Meaning::OpenId)
    {
        answer["id_token"] = json!(sign_id_token(server, &issued, account, &scopes, now).await?);
    }
    Ok(answer)
}

async fn sign_id_token(
    server: &Server,
    issued: &Issued,
    account: &Account,
    scopes: &[Scope],
    now: Millis,
) -> Result<String, Problem> {
    let failed = |cause: String| {
        Problem::new(error::Code::ServerError, "the id_token could not be signed").because(cause)
    };
    let alg = issued.client.metadata.id_token_alg();
    let key = match &issued.key {
        Some(kept) => server.keys.open(kept),
        None => server.keys.signing(alg, now).await,
    };
    let key = key.map_err(|e| failed(e.to_string()))?;
    // A relying party that only signs people in may never ask userinfo.
    let resource = match account.fhir_user.split_once('/') {
        Some((kind, id)) if issued.client.metadata.sign_in_only => {
            server.store.read(|tx| Resource::find(tx, kind, id))?.map(|r| r.parsed())
        }
        _ => None,
    };
    let claims = id_token::claims(&id_token::Facts {
        issuer: &server.issuer,
        subject: &account.id,
        client: &issued.client.id,
        fhir_user: &format!("{}/{}", server.fhir_base(), account.fhir_user),
        resource: resource.as_ref(),
        scopes,
        sid: issued.grant.session.as_deref(),
        signed_in: issued.grant.signed_in,
        acr: server.policy.acr,
        nonce: issued.nonce.as_deref(),
        access_token: &issued.access_token,
        alg,
        now,
    });
    key.sign("JWT", &claims).map_err(|e| failed(e.to_string()))
}
