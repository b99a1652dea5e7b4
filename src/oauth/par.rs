//! `POST /oauth/par`: an app pushes its authorization request before it sends the browser (RFC 9126).

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::checks::{self, Refusal};
use super::client::Client;
use super::dpop::Proof;
use super::request::Asked;
use super::{proofs, pushed};
use crate::app::App;
use crate::clock::SECOND;
use crate::error::{Problem, invalid_request};
use crate::store::db::Verdict;
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
    match push(&app, query.as_deref(), &headers, &body).await {
        Ok((client, body)) => answer_for(client, answer::private_json(StatusCode::CREATED, &body)),
        Err(problem) => answer::oauth(&problem),
    }
}

/// The checks are those of the authorization endpoint; here the app is also proven, and told of any refusal
/// at once, wherever its browser would have been sent.
async fn push(
    app: &App,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(String, Value), Problem> {
    let posted = Posted::read(query, headers, body)?;
    let caller = posted.caller(app).await?;
    let (asked, proof) = match check(app, &posted, &caller.client).await {
        Ok(checked) => checked,
        Err(problem) => {
            caller.use_up(app).await?;
            return Err(problem);
        }
    };
    let (id, now, chance) = (caller.client.id.clone(), app.now(), app.chance.clone());
    let uri = app
        .store
        .write(move |tx| {
            let client = match caller.enter(tx, now)? {
                Ok(client) => client,
                Err(problem) => return Ok(Verdict::Commit(Err(problem))),
            };
            if let Some(problem) = proofs::spend(tx, proof.as_ref())? {
                return Ok(Verdict::Commit(Err(problem)));
            }
            pushed::keep(tx, &client.id, &asked, now, &chance).map(|uri| Verdict::Commit(Ok(uri)))
        })
        .await??;
    Ok((id, json!({"request_uri": uri.reveal(), "expires_in": pushed::LIFE / SECOND})))
}

/// What the app asks for, and the proof of the key that its code is then bound to.
async fn check(app: &App, posted: &Posted, proven: &Client) -> Result<(Asked, Option<Proof>), Problem> {
    let (client, mut asked) = checks::all(app, &posted.params).await.map_err(Refusal::into_problem)?;
    if client.id != proven.id {
        let words = "`client_id` is not the app that authenticates; push requests of your own app";
        return Err(invalid_request(words).at("client_id"));
    }
    let proof = posted.proof(app, "/oauth/par")?;
    if let Some(proof) = &proof {
        // RFC 9449 10.1: the code is bound to this key, said in one way or both.
        let jkt = asked.dpop_jkt.get_or_insert_with(|| proof.jkt.clone());
        if *jkt != proof.jkt {
            let words = "`dpop_jkt` is not the key that the DPoP proof was made with";
            return Err(invalid_request(words).at("dpop_jkt"));
        }
    }
    Ok((asked, proof))
}
