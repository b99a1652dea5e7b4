//! A form that an app posts to one of the OAuth endpoints: its parameters, and who sent it.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::answer;
use crate::app::Server;
use crate::error::{Code, Problem, invalid_client, invalid_request};
use crate::oauth::client::Client;
use crate::oauth::client_auth::{self, Caller};
use crate::oauth::dpop::{self, Expected, Proof};
use crate::oauth::params::Params;

/// What was posted.
pub struct Posted {
    /// The parameters of the body.
    pub params: Params,
    authorization: Vec<String>,
    proofs: Vec<String>,
}

/// Every line of a header.
pub fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
}

impl Posted {
    /// Reads the parameters, from the form body alone: a URL is logged in too many places for a code or secret.
    pub fn read(query: Option<&str>, headers: &HeaderMap, body: &Bytes) -> Result<Posted, Problem> {
        let expected = "application/x-www-form-urlencoded";
        let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !sent.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(expected)) {
            let words = format!("send the parameters as a form body with `Content-Type: {expected}`");
            return Err(Problem::new(Code::UnsupportedMediaType, words));
        }
        if let Some(query) = query.filter(|q| !q.is_empty()) {
            let words = "send the parameters in the form body, not in the URL";
            let is_proof = |name: &str| ["client_secret", "client_assertion"].contains(&name);
            let proves = url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| is_proof(&name));
            return Err(if proves { invalid_client(words) } else { invalid_request(words) });
        }
        let params = Params::parse(body)?;
        if let Some(name) = params.repeated() {
            let shown: String = name.chars().take(40).collect();
            return Err(invalid_request(format!("`{shown}` is sent more than once; send it once")));
        }
        let authorization = lines(headers, header::AUTHORIZATION.as_str());
        Ok(Posted { params, authorization, proofs: lines(headers, "dpop") })
    }

    /// The app that sent it, proven by the method it is registered for. Whoever goes on to change something lets it
    /// enter that transaction.
    pub async fn caller(&self, server: &Server) -> Result<Caller, Problem> {
        let lines: Vec<&str> = self.authorization.iter().map(String::as_str).collect();
        client_auth::authenticate(server, &lines, &self.params).await
    }

    /// The same where nothing is changed that the proof must enter; an assertion is used up.
    pub async fn client(&self, server: &Server) -> Result<Client, Problem> {
        self.caller(server).await?.use_up(server).await
    }

    /// The proof that it comes with, if any (RFC 9449 5): that its sender holds a key. `path` is where it was sent.
    pub fn proof(&self, server: &Server, path: &str) -> Result<Option<Proof>, Problem> {
        let url = server.url(path);
        dpop::read(&self.proofs, &Expected { method: "POST", url: &url, token: None, now: server.now() })
    }

    /// Whether it comes with an access token rather than an app's own authentication.
    pub fn has_token(&self) -> bool {
        let is_token = |scheme: &str| ["bearer", "dpop"].iter().any(|own| scheme.eq_ignore_ascii_case(own));
        self.authorization.iter().any(|line| line.split(' ').next().is_some_and(is_token))
    }
}

/// Any other method than POST.
pub async fn wrong_method() -> Response {
    let words = "this endpoint takes POST with a body, never parameters in a URL";
    let mut answer = answer::oauth(&Problem::new(Code::MethodNotAllowed, words));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    answer
}
