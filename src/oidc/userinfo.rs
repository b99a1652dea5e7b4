//! `GET` and `POST /oauth/userinfo`: who signed in (OpenID Connect Core 5.3).

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::claims;
use crate::app::{App, Server};
use crate::error::insufficient_scope;
use crate::fhir::resource::Resource;
use crate::smart::scope::Meaning;
use crate::web::answer;
use crate::web::bearer::{self, Call, Refused};
use crate::web::cors::answer_for;

/// The endpoint.
pub async fn userinfo(State(app): State<App>, RawQuery(query): RawQuery, call: Call) -> Response {
    match tell(&app, &call, &query.unwrap_or_default()) {
        Ok((client, claims)) => answer_for(client, answer::private_json(StatusCode::OK, &claims)),
        Err(refused) => refused.answer(answer::oauth),
    }
}

fn tell(server: &Server, call: &Call, query: &str) -> Result<(String, Value), Refused> {
    let bearer = bearer::from_call(server, call, query)?;
    let openid = bearer.scopes.iter().any(|s| s.meaning == Meaning::OpenId);
    let Some(account) = bearer.account().filter(|_| openid) else {
        return Err(insufficient_scope("the token was not granted `openid`; ask for it at launch").into());
    };
    let relative = &account.fhir_user;
    let resource = match relative.split_once('/') {
        Some((resource_type, id)) => server.store.read(|tx| Resource::find(tx, resource_type, id))?,
        None => None,
    };
    let fhir_user = format!("{}/{relative}", server.fhir_base());
    let resource = resource.map(|r| r.parsed());
    let mut claims = claims::about(&fhir_user, resource.as_ref(), &bearer.scopes);
    claims.insert("sub".into(), json!(account.id));
    Ok((bearer.client.id, Value::Object(claims)))
}
