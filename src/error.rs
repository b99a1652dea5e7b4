//! What went wrong, as plain data: a code, words for the app's developer, and a private cause.
//!
//! Nothing here knows HTTP; `web/answer.rs` turns a [`Problem`] into JSON, an OperationOutcome or a page.

use std::borrow::Cow;
use std::fmt;

/// The kinds of refusal this server gives: the names of the RFCs where they have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// RFC 6749: a parameter is missing, repeated or malformed.
    InvalidRequest,
    /// RFC 6749: the client could not be authenticated.
    InvalidClient,
    /// RFC 6749: the code or refresh token is unknown, used, expired or somebody else's.
    InvalidGrant,
    /// RFC 6749: the client may not use this grant type.
    UnauthorizedClient,
    /// RFC 6749: a `grant_type` this server does not have.
    UnsupportedGrantType,
    /// RFC 6749: a `response_type` other than `code`.
    UnsupportedResponseType,
    /// RFC 6749: nothing of the scope asked for can be granted.
    InvalidScope,
    /// RFC 6749: the person said no.
    AccessDenied,
    /// OpenID Connect Core 3.1.2.6: `prompt=none` and nobody is signed in.
    LoginRequired,
    /// OpenID Connect Core 3.1.2.6: `prompt=none` and a question must be asked.
    InteractionRequired,
    /// OpenID Connect Core 3.1.2.6: `prompt=none` and consent must be asked for.
    ConsentRequired,
    /// OpenID Connect Core 6.1: no request objects here.
    RequestNotSupported,
    /// RFC 9126: a `request_uri` that was not pushed here.
    InvalidRequestUri,
    /// RFC 7591: a redirect URI that cannot be registered.
    InvalidRedirectUri,
    /// RFC 7591: another piece of metadata that cannot be registered.
    InvalidClientMetadata,
    /// RFC 9449: the proof of a key is missing, does not fit, or was used before.
    InvalidDpopProof,
    /// RFC 6750: the access token is unknown, expired or ended.
    InvalidToken,
    /// RFC 6750: the token is good, but not for this.
    InsufficientScope,
    /// Nothing at that address, or nothing the caller may know of.
    NotFound,
    /// The address exists, but not for this method.
    MethodNotAllowed,
    /// The answer is wanted in a form that is not written here.
    NotAcceptable,
    /// The body is of a type that is not read here.
    UnsupportedMediaType,
    /// The body is too large.
    TooLarge,
    /// The browser's cookie or form token does not belong to this page.
    Forbidden,
    /// It was there, and its time is over.
    Gone,
    /// Too many tries; come back later.
    SlowDown,
    /// Hearthgate's own fault.
    ServerError,
    /// The store cannot take this now; nothing was changed.
    TemporarilyUnavailable,
}

impl Code {
    /// The error code as the RFCs spell it, the HTTP status, and FHIR's issue type, in one table.
    fn facts(self) -> (&'static str, u16, &'static str) {
        use Code::*;
        match self {
            InvalidRequest => ("invalid_request", 400, "invalid"),
            InvalidClient => ("invalid_client", 401, "security"),
            InvalidGrant => ("invalid_grant", 400, "security"),
            UnauthorizedClient => ("unauthorized_client", 400, "security"),
            UnsupportedGrantType => ("unsupported_grant_type", 400, "not-supported"),
            UnsupportedResponseType => ("unsupported_response_type", 400, "not-supported"),
            InvalidScope => ("invalid_scope", 400, "security"),
            AccessDenied => ("access_denied", 403, "forbidden"),
            LoginRequired => ("login_required", 400, "login"),
            InteractionRequired => ("interaction_required", 400, "login"),
            ConsentRequired => ("consent_required", 400, "login"),
            RequestNotSupported => ("request_not_supported", 400, "not-supported"),
            InvalidRequestUri => ("invalid_request_uri", 400, "invalid"),
            InvalidRedirectUri => ("invalid_redirect_uri", 400, "invalid"),
            InvalidClientMetadata => ("invalid_client_metadata", 400, "invalid"),
            InvalidDpopProof => ("invalid_dpop_proof", 400, "security"),
            InvalidToken => ("invalid_token", 401, "login"),
            InsufficientScope => ("insufficient_scope", 403, "forbidden"),
            NotFound => ("not_found", 404, "not-found"),
            MethodNotAllowed => ("method_not_allowed", 405, "not-supported"),
            NotAcceptable => ("not_acceptable", 406, "not-supported"),
            UnsupportedMediaType => ("unsupported_media_type", 415, "not-supported"),
            TooLarge => ("request_too_large", 413, "too-long"),
            Forbidden => ("forbidden", 403, "forbidden"),
            Gone => ("gone", 410, "deleted"),
            SlowDown => ("slow_down", 429, "throttled"),
            ServerError => ("server_error", 500, "exception"),
            TemporarilyUnavailable => ("temporarily_unavailable", 503, "transient"),
        }
    }

    /// The code as it stands in an OAuth error answer.
    pub fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status that goes with it where no redirect does.
    pub fn status(self) -> u16 {
        self.facts().1
    }

    /// The type of the issue in a FHIR OperationOutcome.
    pub fn issue(self) -> &'static str {
        self.facts().2
    }
}

/// A value that was sent, and the values that would have been right.
#[derive(Debug)]
pub struct Mismatch {
    /// As it came.
    pub received: String,
    /// One an entry; empty where they cannot be listed.
    pub expected: Vec<String>,
}

/// A refusal: public words that help the app's developer, and a private cause for the events.
#[derive(Debug)]
pub struct Problem {
    /// Which kind.
    pub code: Code,
    /// What was wrong and what to send instead. May be shown to anybody; holds no secret.
    pub words: Cow<'static, str>,
    /// The parameter or field at fault, where there is one.
    pub parameter: Option<&'static str>,
    /// What came instead and what would have been right, for the page that tells of it.
    pub mismatch: Option<Box<Mismatch>>,
    /// The seconds after which it may be tried again, where that is known.
    pub retry_after: Option<u32>,
    /// For the events and the log only.
    pub cause: Option<String>,
}

impl Problem {
    /// A refusal of this kind with these public words.
    pub fn new(code: Code, words: impl Into<Cow<'static, str>>) -> Self {
        Problem { code, words: words.into(), parameter: None, mismatch: None, retry_after: None, cause: None }
    }

    /// Adds the private cause.
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Says after how many seconds it may be tried again.
    pub fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Names the parameter at fault.
    pub fn at(mut self, parameter: &'static str) -> Self {
        self.parameter = Some(parameter);
        self
    }

    /// Shows what came, and what would have been right. Only for values that are no secret.
    pub fn not_one_of(mut self, received: &str, expected: &[String]) -> Self {
        let received = received.chars().take(500).collect();
        self.mismatch = Some(Box::new(Mismatch { received, expected: expected.to_vec() }));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.words)
    }
}

impl std::error::Error for Problem {}

macro_rules! constructors {
    ($($name:ident => $code:ident),* $(,)?) => {$(
        #[doc = concat!("A [`Problem`] with [`Code::", stringify!($code), "`].")]
        pub fn $name(words: impl Into<Cow<'static, str>>) -> Problem {
            Problem::new(Code::$code, words)
        }
    )*};
}

constructors! {
    invalid_request => InvalidRequest,
    invalid_client => InvalidClient,
    invalid_grant => InvalidGrant,
    invalid_scope => InvalidScope,
    invalid_dpop_proof => InvalidDpopProof,
    invalid_token => InvalidToken,
    insufficient_scope => InsufficientScope,
    invalid_redirect_uri => InvalidRedirectUri,
    invalid_client_metadata => InvalidClientMetadata,
    not_found => NotFound,
    forbidden => Forbidden,
}

impl From<crate::store::db::DbError> for Problem {
    fn from(e: crate::store::db::DbError) -> Self {
        Problem::new(
            Code::TemporarilyUnavailable,
            "the server cannot do this now; nothing was changed, so try again",
        )
        .because(e)
    }
}
