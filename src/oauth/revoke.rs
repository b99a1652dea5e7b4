//! `POST /oauth/revoke`: an app gives a token back (RFC 7009).

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::grant::Grant;
use super::{access_token, refresh};
use crate::app::App;
use crate::error::{Problem, invalid_request};
use crate::events::{Event, Kind};
use crate::store::db::Verdict;
use crate::web::answer;
use crate::web::cors::answer_for;
use crate::web::form::Posted;

/// The endpoint. RFC 7009 2.2: an unknown token is a success too, since it is as dead as its holder wanted.
pub async fn post(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match revoke(&app, query.as_deref(), &headers, &body).await {
        Ok(caller) => {
            answer_for(caller, (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response())
        }
        Err(problem) => answer::oauth(&problem),
    }
}

async fn revoke(
    app: &App,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<String, Problem> {
    let posted = Posted::read(query, headers, body)?;
    let client = posted.client(app).await?;
    let token = posted.params.one("token")?;
    let token = token.ok_or_else(|| invalid_request("`token` is missing").at("token"))?.to_owned();
    let (now, caller) = (app.now(), client.id.clone());
    app.store
        .write(move |tx| {
            let event = Event::new(Kind::GrantEnded, now).client(client.id.clone());
            // A refresh token stands for its whole grant, an access token only for itself.
            let grant = match refresh::grant_of(tx, &token)? {
                Some(grant) => Some((grant, true)),
                None => access_token::grant_of(tx, &token)?.map(|grant| (grant, false)),
            };
            let Some((grant, whole)) = grant else { return Ok(Verdict::Rollback(())) };
            // Another app's token is nobody's to give back: as if it were unknown.
            if Grant::find(tx, &grant)?.is_none_or(|g| g.client != client.id) {
                return Ok(Verdict::Rollback(()));
            }
            if whole {
                Grant::end(tx, &grant, now, "the app gave it back")?;
            } else {
                access_token::expire(tx, &token, now)?;
            }
            event.grant(grant).why("the app gave it back").insert(tx).map(Verdict::Commit)
        })
        .await?;
    Ok(caller)
}
