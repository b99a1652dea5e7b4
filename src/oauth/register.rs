//! `POST /oauth/register`: an app registers itself (RFC 7591 3.1).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};

use super::client;
use super::registration;
use crate::app::App;
use crate::error::{Code, Problem, forbidden, invalid_client_metadata};
use crate::web::answer;

/// The endpoint.
pub async fn post(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    match register(&app, &headers, &body).await {
        Ok(body) => answer::private_json(StatusCode::CREATED, &Value::Object(body)),
        Err(problem) => answer::oauth(&problem),
    }
}

async fn register(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Problem> {
    if !app.policy.open_registration {
        return Err(forbidden("this server does not take registrations from apps themselves"));
    }
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !sent.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json")) {
        let words = "send the metadata as JSON with `Content-Type: application/json`";
        return Err(Problem::new(Code::UnsupportedMediaType, words));
    }
    let sent: Value = serde_json::from_slice(body)
        .map_err(|e| invalid_client_metadata(format!("the body is not JSON: {e}")))?;
    let Value::Object(sent) = sent else {
        return Err(invalid_client_metadata("the body must be a JSON object of client metadata"));
    };
    let metadata = registration::check(&sent, &app.policy).map_err(|e| registration::problem(&e))?;
    let registered = client::register(&app.store, metadata, app.now(), &app.chance).await?;
    Ok(registered.client.registration(registered.secret))
}
