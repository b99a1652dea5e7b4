//! The access token of a request: where it may stand, what is wrong with it, and how that is answered
//! (RFC 6750; RFC 9449 7 for tokens that are bound to a key).

use std::convert::Infallible;
use std::ops::Deref;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{answer, form};
use crate::app::Server;
use crate::clock::Millis;
use crate::error::{Code, Problem, invalid_dpop_proof, invalid_request, invalid_token};
use crate::oauth::access_token::Bearer;
use crate::oauth::dpop::{self, Expected};

/// A call to a protected address: its headers, and what a proof must name of it.
pub struct Call {
    headers: HeaderMap,
    method: Method,
    path: String,
}

impl Deref for Call {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        &self.headers
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Call, Infallible> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        let path = uri.path().to_owned();
        Ok(Call { headers: parts.headers.clone(), method: parts.method.clone(), path })
    }
}

/// How a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// By itself: whoever has it may use it.
    Bearer,
    /// With a proof of the key it is bound to.
    Dpop,
}

/// A refusal at a protected address: a problem, whether a token was sent at all, and how one is to be presented.
pub struct Refused {
    problem: Problem,
    no_token: bool,
    scheme: Scheme,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let scheme = if problem.code == Code::InvalidDpopProof { Scheme::Dpop } else { Scheme::Bearer };
        Refused { problem, no_token: false, scheme }
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
        Refused { problem: invalid_token(words), no_token: true, scheme: Scheme::Bearer }
    }

    /// The refusal in the form that `render` gives problems, with its challenge (RFC 6750 3, RFC 9449 7.1).
    pub fn answer(&self, render: fn(&Problem) -> Response) -> Response {
        let mut answer = render(&self.problem);
        if self.problem.code == Code::InvalidDpopProof {
            // 400 where tokens are issued, but here it is the authentication that failed.
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
        }
        let challenge = match (self.problem.code, self.scheme) {
            (Code::InvalidToken, Scheme::Bearer) if self.no_token => answer::bearer_challenge(None),
            (Code::InvalidToken | Code::InvalidDpopProof, Scheme::Dpop) => {
                answer::dpop_challenge(&self.problem)
            }
            (Code::InvalidToken | Code::InsufficientScope, _) => {
                answer::bearer_challenge(Some(&self.problem))
            }
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
pub fn from_call(server: &Server, call: &Call, query: &str) -> Result<Bearer, Refused> {
    no_token_in(query)?;
    let mut sent = call.get_all(header::AUTHORIZATION).iter();
    let Some(value) = sent.next() else {
        let problem =
            invalid_token("this endpoint is protected; send an access token as `Authorization: Bearer …`");
        return Err(Refused { problem, no_token: true, scheme: Scheme::Bearer });
    };
    if sent.next().is_some() {
        return Err(invalid_request("send one Authorization header, not several").into());
    }
    let (scheme, token) = value.to_str().ok().and_then(presented).ok_or_else(|| {
        invalid_token(
            "the Authorization header must be `Bearer` and an access token, or `DPoP` and a bound one",
        )
    })?;
    let refused = |problem| Refused { problem, no_token: false, scheme };
    let now = server.now();
    let found = server.store.read(|tx| Bearer::find(tx, token, now))?;
    let bearer = found.map_err(|dead| refused(invalid_token(dead.words())))?;
    match (scheme, &bearer.jkt) {
        (Scheme::Bearer, None) => {}
        (Scheme::Dpop, Some(jkt)) => prove(server, call, token, jkt, bearer.issued, now)?,
        (Scheme::Bearer, Some(_)) => {
            let words = "the access token is bound to a key; send it as `Authorization: DPoP …`, with a proof of \
                         the key in a DPoP header";
            return Err(Refused { problem: invalid_token(words), no_token: false, scheme: Scheme::Dpop });
        }
        (Scheme::Dpop, None) => {
            let words = "the access token is not bound to a key; send it as `Authorization: Bearer …`";
            return Err(invalid_token(words).into());
        }
    }
    Ok(bearer)
}

/// Scheme and token of an Authorization header.
fn presented(header: &str) -> Option<(Scheme, &str)> {
    let (name, token) = header.split_once(' ')?;
    let is = |own: &str| name.eq_ignore_ascii_case(own);
    let scheme = if is("bearer") {
        Scheme::Bearer
    } else if is("dpop") {
        Scheme::Dpop
    } else {
        return None;
    };
    Some((scheme, token.trim()))
}

/// Whether the caller holds the key of a token issued at `issued`, by a proof made for this very call (RFC 9449 7).
fn prove(
    server: &Server,
    call: &Call,
    token: &str,
    jkt: &str,
    issued: Millis,
    now: Millis,
) -> Result<(), Problem> {
    let url = server.url(&call.path);
    let expected = Expected { method: call.method.as_str(), url: &url, token: Some(token), now };
    let missing =
        || invalid_dpop_proof("the access token is bound to a key; send a proof of it as a DPoP header");
    let proof = dpop::read(&form::lines(call, "dpop"), &expected)?.ok_or_else(missing)?;
    if proof.jkt != jkt {
        let words = "the DPoP proof was made with another key than the access token is bound to";
        return Err(invalid_dpop_proof(words));
    }
    server.proofs.spend(&proof, issued, now)
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
