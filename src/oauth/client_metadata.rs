//! What is known of an app by its registration (RFC 7591 2, OpenID Connect Dynamic Registration 2, RP-Initiated
//! and Back-Channel Logout, RFC 9126 6, RFC 9449 5.2, and a few words of our own).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redirect;
use crate::clock::Millis;
use crate::config;
use crate::jose::Alg;
use crate::smart::scope::{self, Scope};

/// How an app proves who it is at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// A public app: it has nothing to prove with.
    None,
    /// A secret in the Authorization header.
    ClientSecretBasic,
    /// A secret in the form body.
    ClientSecretPost,
    /// An assertion signed with the app's own key (RFC 7523 2.2).
    PrivateKeyJwt,
}

impl AuthMethod {
    /// Every method, the default first.
    pub const ALL: [AuthMethod; 4] = [
        AuthMethod::None,
        AuthMethod::ClientSecretBasic,
        AuthMethod::ClientSecretPost,
        AuthMethod::PrivateKeyJwt,
    ];

    /// The name in metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            AuthMethod::None => "none",
            AuthMethod::ClientSecretBasic => "client_secret_basic",
            AuthMethod::ClientSecretPost => "client_secret_post",
            AuthMethod::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Whether such an app is given a secret.
    pub fn has_secret(self) -> bool {
        matches!(self, AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost)
    }

    /// Whether such an app proves anything: it is confidential.
    pub fn proves(self) -> bool {
        self != AuthMethod::None
    }
}

/// Where an app runs, which decides how strictly its redirects are compared (RFC 8252).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationType {
    /// In a browser or on a server.
    Web,
    /// On a phone or desktop.
    Native,
}

/// What an app may present at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// A code from a launch.
    AuthorizationCode,
    /// A refresh token.
    RefreshToken,
    /// Nothing but itself: a backend service.
    ClientCredentials,
}

impl GrantType {
    /// Every grant type there is here.
    pub const ALL: [GrantType; 3] =
        [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];

    /// The name in metadata and at the token endpoint.
    pub fn as_str(self) -> &'static str {
        match self {
            GrantType::AuthorizationCode => "authorization_code",
            GrantType::RefreshToken => "refresh_token",
            GrantType::ClientCredentials => "client_credentials",
        }
    }
}

/// Whose tokens a confidential app may introspect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Introspect {
    /// Its own.
    #[default]
    Own,
    /// Any app's: for a gateway that guards another FHIR server.
    All,
}

/// What an app is allowed beyond what any app may register. In production the people who run the server allow it,
/// by the invitation the app is registered with; in the sandbox every app is allowed everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// `system/` scopes.
    #[serde(default)]
    pub system: bool,
    /// The standing of `sign_in_only`.
    #[serde(default)]
    pub sign_in_only: bool,
    /// `introspect` as `all`.
    #[serde(default)]
    pub introspect_all: bool,
}

impl Approved {
    /// What these settings allow every app.
    pub fn by(policy: &config::Policy) -> Approved {
        let all = policy.approves_all;
        Approved { system: all, sign_in_only: all, introspect_all: all }
    }

    /// What either allows.
    pub fn or(self, other: Approved) -> Approved {
        Approved {
            system: self.system || other.system,
            sign_in_only: self.sign_in_only || other.sign_in_only,
            introspect_all: self.introspect_all || other.introspect_all,
        }
    }
}

/// The metadata of an app after every check; `registration.rs` makes it, and this is how it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// What people are shown.
    pub client_name: String,
    /// Where codes may be sent, compared as text.
    pub redirect_uris: Vec<String>,
    /// The launch URL for EHR launches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initiate_login_uri: Option<String>,
    /// A picture for the consent page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    /// A page about the app, shown where people decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// What the app does with data, shown where people decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    /// Its terms, shown where people decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    /// Whom to ask about the app; mostly e-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<String>,
    /// The developer's own name for this software, the same in every registration of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_id: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    /// How it proves who it is.
    pub token_endpoint_auth_method: AuthMethod,
    /// The one algorithm its assertions may be signed with; none is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_signing_alg: Option<Alg>,
    /// Its public keys, by value; never together with `jwks_uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// Where its public keys are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// What it may present at the token endpoint.
    pub grant_types: Vec<GrantType>,
    /// `code`, or nothing for a backend service.
    pub response_types: Vec<String>,
    /// Where it runs.
    pub application_type: ApplicationType,
    /// The most it can be granted.
    pub scope: String,
    /// What its id_tokens are signed with.
    pub id_token_signed_response_alg: String,
    /// The greatest age of a sign-in where a request says nothing else, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_max_age: Option<i64>,
    /// Where people may be sent after signing out, compared as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_logout_redirect_uris: Vec<String>,
    /// Where the app is told that a person signed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_uri: Option<String>,
    /// Whether it must be told of which session.
    #[serde(default)]
    pub backchannel_logout_session_required: bool,
    /// Whether its authorization requests must be pushed first.
    #[serde(default)]
    pub require_pushed_authorization_requests: bool,
    /// Whether its tokens are bound to a key it proves to hold.
    #[serde(default)]
    pub dpop_bound_access_tokens: bool,
    /// Seconds; none is the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token_life: Option<i64>,
    /// Whose tokens it may introspect.
    #[serde(default)]
    pub introspect: Introspect,
    /// It signs people in: with identity scopes alone it may leave out PKCE and `aud`, and its id_tokens hold
    /// the claims of these scopes.
    #[serde(default)]
    pub sign_in_only: bool,
    /// An app of SMART 1.0's time, which knows no PKCE. Sandbox only.
    #[serde(default)]
    pub no_pkce: bool,
}

impl Metadata {
    /// How long an access token that a person granted lives.
    pub fn token_life(&self) -> Millis {
        self.access_token_life.map_or(config::ACCESS_TOKEN_LIFE, |seconds| seconds * crate::clock::SECOND)
    }

    /// The scopes it is registered for.
    pub fn scopes(&self) -> Vec<Scope> {
        Scope::list(&self.scope)
    }

    /// What its id_tokens are signed with.
    pub fn id_token_alg(&self) -> Alg {
        Alg::from_name(&self.id_token_signed_response_alg).unwrap_or(Alg::RS256)
    }

    /// Whether a code may be sent to `sent`.
    pub fn allows_redirect(&self, sent: &str) -> bool {
        self.redirect_uris.iter().any(|own| redirect::is_registered(own, sent, self.application_type))
    }

    /// Whether a person who signed out may be sent to `sent`.
    pub fn allows_post_logout_redirect(&self, sent: &str) -> bool {
        let own = &self.post_logout_redirect_uris;
        own.iter().any(|own| redirect::is_registered(own, sent, self.application_type))
    }

    /// The web origins of its redirect and launch URIs, for CORS.
    pub fn origins(&self) -> impl Iterator<Item = String> + '_ {
        let urls = self.redirect_uris.iter().chain(&self.initiate_login_uri);
        urls.filter_map(|text| url::Url::parse(text).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .map(|url| url.origin().ascii_serialization())
    }
}

/// Every scope a person can grant, for apps that name none: the fixed words and everything under
/// `patient/` and `user/`, never `system/`.
pub fn default_scope(grant_types: &[GrantType]) -> String {
    let refresh = grant_types.contains(&GrantType::RefreshToken);
    let words = scope::fixed_words().filter(|word| refresh || !word.ends_with("_access"));
    words.chain(["patient/*.cruds", "user/*.cruds"]).collect::<Vec<_>>().join(" ")
}

/// What a sign-in-only app is registered for where it names nothing: who somebody is.
pub fn default_identity_scope() -> String {
    let words = scope::fixed_words().filter(|word| Scope::parse(word).is_ok_and(|s| s.is_identity()));
    words.collect::<Vec<_>>().join(" ")
}
