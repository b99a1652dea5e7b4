//! The access token of a request: where it may stand, what is wrong with it, and how that is answered
//! (RFC 6750).

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::answer;
use crate::app::Server;
use crate::error::{Code, Problem, invalid_request, invalid_token};
use crate::oauth::access_token::Bearer;

/// A refusal at a protected address: a problem, and whether a token was sent at all.
pub struct Refused {
    problem: Problem,
    no_token: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Refused { problem, no_token: false }
    }
}

impl From<crate::store::db::DbError> for Refused {
    fn from(e: crate::store::db::DbError) -> Self {
        Problem::from(e).into()
    }
}

impl Refused {
    /// No token was sent where one is needed.
    pub fn without_token(words: &'static str) -> Refused {
        Refused { problem: invalid_token(words), no_token: true }
    }

    /// The refusal in the form that `render` gives problems, with its challenge (RFC 6750 3).
    pub fn answer(&self, render: fn(&Problem) -> Response) -> Response {
        let mut answer = render(&self.problem);
        let challenge = match self.problem.code {
            Code::InvalidToken if self.no_token => answer::bearer_challenge(None),
            Code::InvalidToken | Code::InsufficientScope => answer::bearer_challenge(Some(&self.problem)),
            _ => return answer,
        };
        if let Ok(value) = challenge.parse() {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        answer
    }
}

/// At the FHIR endpoint every refusal is an OperationOutcome.
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.answer(answer::outcome)
    }
}

/// RFC 6750 2.2 and 2.3 are not served: URLs and forms are logged, and the links of a Bundle repeat them.
pub fn no_token_in(parameters: &str) -> Result<(), Problem> {
    let is_token = |(name, _): (std::borrow::Cow<'_, str>, _)| name == "access_token";
    if url::form_urlencoded::parse(parameters.as_bytes()).any(is_token) {
        let words = "a token does not belong in a URL or form; send it as `Authorization: Bearer …`";
        return Err(invalid_request(words));
    }
    Ok(())
}

/// The token of a request, and what it may do now (RFC 6750 2.1: only in the header, only once).
pub fn from_headers(server: &Server, headers: &HeaderMap, query: &str) -> Result<Bearer, Refused> {
    no_token_in(query)?;
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = sent.next() else {
        let problem =
            invalid_token("this endpoint is protected; send an access token as `Authorization: Bearer …`");
        return Err(Refused { problem, no_token: true });
    };
    if sent.next().is_some() {
        return Err(invalid_request("send one Authorization header, not several").into());
    }
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(invalid_token("the Authorization header must be `Bearer` and an access token").into());
    };
    let now = server.now();
    let found = server.store.read(|tx| Bearer::find(tx, token.trim(), now))?;
    found.map_err(|dead| invalid_token(dead.words()).into())
}

/// The token by which an app is registered or managed, if one was sent (RFC 7591 3, RFC 7592 2). It is no access
/// token: nothing but the header carries it, and no key is proven with it.
pub fn registration_token(headers: &HeaderMap, query: Option<&str>) -> Result<Option<String>, Problem> {
    no_token_in(query.unwrap_or_default())?;
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = sent.next() else { return Ok(None) };
    if sent.next().is_some() {
        return Err(invalid_request("send one Authorization header, not several"));
    }
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    match token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        Some((_, token)) => Ok(Some(token.trim().to_owned())),
        None => Err(invalid_token("the Authorization header must be `Bearer` and a token for registration")),
    }
}
