//! `POST /oauth/introspect`: what a token is good for now (RFC 7662; SMART App Launch 2.2, "Token
//! Introspection").

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::access_token::{self, Bearer};
use super::client::Client;
use super::client_metadata::Introspect;
use super::grant::Grant;
use super::refresh;
use crate::app::{App, Server};
use crate::clock::{Millis, SECOND};
use crate::error::{Problem, insufficient_scope, invalid_client, invalid_request};
use crate::smart::cover;
use crate::smart::scope::{self, Meaning, Scope};
use crate::web::answer;
use crate::web::bearer::{self, Call, Refused};
use crate::web::cors::answer_for;
use crate::web::form::Posted;

/// The endpoint.
pub async fn post(State(app): State<App>, RawQuery(query): RawQuery, call: Call, body: Bytes) -> Response {
    match introspect(&app, query.as_deref(), &call, &body).await {
        Ok((caller, body)) => answer_for(caller, answer::private_json(StatusCode::OK, &body)),
        Err(refused) => refused.answer(answer::oauth),
    }
}

/// A token that lives, as far as its introspection tells of it.
struct Live {
    grant: Grant,
    sub: String,
    fhir_user: Option<String>,
    scopes: Vec<Scope>,
    jkt: Option<String>,
    issued: Millis,
    expires: Millis,
    is_access_token: bool,
}

async fn introspect(
    server: &Server,
    query: Option<&str>,
    call: &Call,
    body: &Bytes,
) -> Result<(String, Value), Refused> {
    let posted = Posted::read(query, call, body)?;
    let caller = caller(server, &posted, call).await?;
    let token = posted.params.one("token")?;
    let token = token.ok_or_else(|| invalid_request("`token` is missing").at("token"))?;
    let found = live(server, token)?
        .filter(|live| live.grant.client == caller.id || caller.metadata.introspect == Introspect::All);
    // RFC 7662 2.2: of a token that is not active, nothing else is said, not even whether there is one.
    let answer = found.map_or_else(|| json!({"active": false}), |live| tell(server, &live));
    Ok((caller.id, answer))
}

/// Who asks: a confidential app, or the app of a bearer token with the scope `__introspect`.
async fn caller(server: &Server, posted: &Posted, call: &Call) -> Result<Client, Refused> {
    if posted.has_token() {
        if posted.params.one("client_assertion")?.is_some() || posted.params.one("client_secret")?.is_some() {
            let words = "the request authenticates both by a token and by the app's own proof; use one";
            return Err(invalid_request(words).into());
        }
        let bearer = bearer::from_call(server, call, "")?;
        if !bearer.scopes.iter().any(|s| s.meaning == Meaning::Introspect) {
            return Err(insufficient_scope("the token was not granted `__introspect`").into());
        }
        return Ok(bearer.client);
    }
    let client = posted.client(server).await?;
    if client.metadata.token_endpoint_auth_method.proves() {
        return Ok(client);
    }
    Err(invalid_client("a public app cannot introspect tokens: it proves nothing").into())
}

fn live(server: &Server, token: &str) -> Result<Option<Live>, Problem> {
    let now = server.now();
    let found = server.store.read(|tx| {
        if let Ok(bearer) = Bearer::find(tx, token, now)? {
            return Ok(Some(Live {
                sub: bearer.sub().to_owned(),
                fhir_user: bearer.account().map(|account| account.fhir_user.clone()),
                grant: bearer.grant,
                scopes: bearer.scopes,
                jkt: bearer.jkt,
                issued: bearer.issued,
                expires: bearer.expires,
                is_access_token: true,
            }));
        }
        Ok(refresh::live(tx, token, now)?.map(|token| Live {
            scopes: cover::meet(&token.grant.scopes(), &token.client.metadata.scopes()),
            grant: token.grant,
            sub: token.account.id,
            fhir_user: Some(token.account.fhir_user),
            jkt: token.jkt,
            issued: token.issued,
            expires: token.expires,
            is_access_token: false,
        }))
    })?;
    Ok(found)
}

fn tell(server: &Server, live: &Live) -> Value {
    let has = |meaning| live.scopes.iter().any(|s| s.meaning == meaning);
    let mut answer = json!({
        "active": true,
        "scope": scope::join(&live.scopes),
        "client_id": live.grant.client,
        "exp": live.expires / SECOND,
        "iat": live.issued / SECOND,
        "iss": server.issuer,
        "sub": live.sub,
        "aud": live.grant.audience,
    });
    if live.is_access_token {
        answer["token_type"] = json!(access_token::kind(live.jkt.as_deref()));
    }
    if let Some(jkt) = &live.jkt {
        answer["cnf"] = json!({"jkt": jkt});
    }
    let context = [
        ("patient", live.grant.patient.clone()),
        ("encounter", live.grant.encounter.clone()),
        (
            "fhirUser",
            live.fhir_user
                .as_ref()
                .filter(|_| has(Meaning::FhirUser))
                .map(|own| format!("{}/{own}", server.fhir_base())),
        ),
    ];
    for (name, value) in context {
        if let Some(value) = value {
            answer[name] = json!(value);
        }
    }
    if let Some(context) = &live.grant.context {
        context.add_to(&mut answer);
    }
    answer
}
