//! How a [`Problem`] becomes an HTTP answer: OAuth JSON or an OperationOutcome (pages: `page.rs`).
//! Nowhere else does an error meet HTTP. Also the one log line that a failure of ours gets.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::app::{App, Server};
use crate::clock::SECOND;
use crate::config::PUBLISHED_MAX_AGE;
use crate::error::{Code, Problem};
use crate::jose::Alg;

/// The media type of FHIR resources.
pub const FHIR_JSON: &str = "application/fhir+json";

/// A JSON answer that no cache keeps.
pub fn private_json(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
    ];
    (status, headers, written(body)).into_response()
}

/// A JSON answer that is the same for everybody, for five minutes.
pub fn public_json(body: &Value) -> Response {
    let age = format!("public, max-age={}", PUBLISHED_MAX_AGE / SECOND);
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CACHE_CONTROL, age)];
    (headers, written(body)).into_response()
}

/// JSON as bytes at once: `Display` goes through a formatter, which takes twice as long.
fn written(body: &Value) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// A FHIR resource.
pub fn fhir_json(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, FHIR_JSON), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// A 303 to `location`: the browser asks again with GET, whatever it sent.
pub fn see_other(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => (
            StatusCode::SEE_OTHER,
            [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The status of a problem. Our own failures leave a line in the log, with the cause and no input.
pub fn status(problem: &Problem) -> StatusCode {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_server_error() {
        tracing::error!(
            code = problem.code.as_str(),
            cause = problem.cause.as_deref().unwrap_or("unknown"),
            "a request failed"
        );
    }
    status
}

/// The characters that RFC 6749 allows in `error_description`.
pub fn description(words: &str) -> String {
    let allowed = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    words.chars().map(allowed).collect()
}

/// The JSON error of RFC 6749 5.2.
pub fn oauth(problem: &Problem) -> Response {
    let body = json!({"error": problem.code.as_str(), "error_description": description(&problem.words)});
    let mut answer = with_wait(problem, private_json(status(problem), &body));
    let challenge = match problem.code {
        Code::InvalidClient => "Basic realm=\"hearthgate\"".to_owned(),
        Code::InvalidToken => bearer_challenge(Some(problem)),
        _ => return answer,
    };
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

/// Says when to come back, where the problem knows it.
pub fn with_wait(problem: &Problem, mut answer: Response) -> Response {
    if let Some(seconds) = problem.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// `WWW-Authenticate` of RFC 6750 3: no error code where no token was sent.
pub fn bearer_challenge(problem: Option<&Problem>) -> String {
    match problem {
        None => "Bearer realm=\"hearthgate\"".into(),
        Some(problem) => format!(
            "Bearer realm=\"hearthgate\", error=\"{}\", error_description=\"{}\"",
            problem.code.as_str(),
            description(&problem.words)
        ),
    }
}

/// `WWW-Authenticate` of RFC 9449 7.1.
pub fn dpop_challenge(problem: &Problem) -> String {
    format!(
        "DPoP realm=\"hearthgate\", error=\"{}\", error_description=\"{}\", algs=\"{}\"",
        problem.code.as_str(),
        description(&problem.words),
        Alg::THEIRS.map(Alg::as_str).join(" ")
    )
}

/// An OperationOutcome, as every FHIR error is answered.
pub fn outcome(problem: &Problem) -> Response {
    let status = status(problem);
    let body = json!({
        "resourceType": "OperationOutcome",
        "issue": [{
            "severity": "error",
            "code": problem.code.issue(),
            "diagnostics": problem.words,
        }],
    });
    with_wait(problem, fhir_json(status, body.to_string()))
}

/// What is refused before any handler of ours sees it (a body over the limit, a path that is not UTF-8, a
/// method the address does not have) is still answered in the form that is read at that address.
pub async fn in_our_form(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let answer = next.run(request).await;
    let headers = answer.headers();
    let plain = headers.get(header::CONTENT_TYPE).is_none_or(|t| t.as_bytes().starts_with(b"text/plain"));
    if !answer.status().is_client_error() || !plain || headers.contains_key(header::CACHE_CONTROL) {
        return answer;
    }
    let problem = match answer.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::TooLarge, "the body is larger than anything that is read here")
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(Code::MethodNotAllowed, "this address does not have that method")
        }
        StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "there is nothing at this address"),
        _ => Problem::new(Code::InvalidRequest, "the request cannot be read; percent-encode paths as UTF-8"),
    };
    match path.as_str() {
        p if p.starts_with("/fhir") || p.starts_with("/open/fhir") => outcome(&problem),
        p if p.starts_with("/sandbox/") => oauth(&problem),
        p if p.starts_with("/oauth/authorize") || p == "/oauth/logout" => {
            super::page::problem(&app, &problem)
        }
        p if p.starts_with("/oauth/") => oauth(&problem),
        _ => super::page::problem(&app, &problem),
    }
}

/// The redirect that tells the app of a refusal (RFC 6749 4.1.2.1, RFC 9207).
pub fn error_redirect(server: &Server, to: &str, state: Option<&str>, problem: &Problem) -> String {
    let description = description(&problem.words);
    let code = match problem.code {
        Code::TemporarilyUnavailable => "temporarily_unavailable",
        code => code.as_str(),
    };
    redirect(
        to,
        &[
            ("error", Some(code)),
            ("error_description", Some(&description)),
            ("state", state),
            ("iss", Some(&server.issuer)),
        ],
    )
}

/// Adds parameters to a redirect URI, which is otherwise left as the app wrote it.
pub fn redirect(to: &str, params: &[(&str, Option<&str>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in params {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let separator = match to.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    // A space as %20 is read the same by form decoders and by plain percent-decoders.
    format!("{to}{separator}{}", query.finish().replace('+', "%20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_what_the_app_wrote() {
        let with = |to| redirect(to, &[("code", Some("c")), ("state", Some("a b+c&d"))]);
        assert_eq!(with("https://a.example"), "https://a.example?code=c&state=a%20b%2Bc%26d");
        assert_eq!(with("https://a.example/?x=1"), "https://a.example/?x=1&code=c&state=a%20b%2Bc%26d");
        assert_eq!(with("app://cb?"), "app://cb?code=c&state=a%20b%2Bc%26d");
    }
}
