//! What apps discover: `smart-configuration` (SMART App Launch 2.2, "Conformance"), `openid-configuration`
//! (OpenID Connect Discovery 3), `oauth-authorization-server` (RFC 8414) and the JWK Set. One truth.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::client_metadata::{AuthMethod, GrantType};
use crate::app::{App, Server};
use crate::error::{Code, Problem};
use crate::jose::Alg;
use crate::smart::{scope, words};
use crate::web::answer::{self, public_json};

/// What this server can do in the words of SMART; nothing is listed that does not work.
const CAPABILITIES: [&str; 12] = [
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-standalone-patient",
    "context-standalone-encounter",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
];

/// What works where apps can be launched as an EHR does.
const EHR_CAPABILITIES: [&str; 5] =
    ["launch-ehr", "context-ehr-patient", "context-ehr-encounter", "context-banner", "context-style"];

/// Versions of scope syntax.
const PERMISSIONS: [&str; 2] = ["permission-v1", "permission-v2"];

/// `GET P/fhir/.well-known/smart-configuration`.
pub async fn smart_configuration(State(app): State<App>) -> Response {
    let mut facts = common(&app);
    let ehr: &[&str] = if app.policy.launch_simulator { &EHR_CAPABILITIES } else { &[] };
    let capabilities: Vec<&str> = CAPABILITIES.iter().chain(ehr).chain(&PERMISSIONS).copied().collect();
    facts["management_endpoint"] = json!(app.url("/account"));
    facts["capabilities"] = json!(capabilities);
    public_json(&facts)
}

/// `GET P/.well-known/openid-configuration`, also under the FHIR base, and `oauth-authorization-server`.
pub async fn openid_configuration(State(app): State<App>) -> Response {
    let mut facts = common(&app);
    facts["end_session_endpoint"] = json!(app.url("/oauth/logout"));
    facts["backchannel_logout_supported"] = json!(true);
    facts["backchannel_logout_session_supported"] = json!(true);
    facts["response_modes_supported"] = json!(["query"]);
    facts["subject_types_supported"] = json!(["public"]);
    facts["id_token_signing_alg_values_supported"] = json!(Alg::OURS.map(Alg::as_str));
    facts["claims_supported"] = json!([
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "auth_time",
        "acr",
        "nonce",
        "at_hash",
        "sid",
        "fhirUser",
        "profile",
        "name",
        "given_name",
        "family_name",
        "gender",
        "birthdate",
        "email",
        "email_verified",
        "phone_number",
        "phone_number_verified",
        "address"
    ]);
    facts["claim_types_supported"] = json!(["normal"]);
    facts["claims_parameter_supported"] = json!(false);
    facts["ui_locales_supported"] = json!(["en"]);
    if let Some(acr) = app.policy.acr {
        facts["acr_values_supported"] = json!([acr]);
    }
    facts["prompt_values_supported"] = json!(["none", "login", "consent", "select_account"]);
    facts["request_parameter_supported"] = json!(false);
    facts["request_uri_parameter_supported"] = json!(false);
    public_json(&facts)
}

fn common(server: &Server) -> Value {
    json!({
        "issuer": server.issuer,
        "authorization_endpoint": server.url("/oauth/authorize"),
        "token_endpoint": server.url("/oauth/token"),
        "pushed_authorization_request_endpoint": server.url("/oauth/par"),
        "require_pushed_authorization_requests": false,
        "registration_endpoint": server.url("/oauth/register"),
        "userinfo_endpoint": server.userinfo(),
        "introspection_endpoint": server.url("/oauth/introspect"),
        "revocation_endpoint": server.url("/oauth/revoke"),
        "jwks_uri": server.url("/oauth/jwks"),
        "response_types_supported": ["code"],
        "grant_types_supported": GrantType::ALL.map(GrantType::as_str),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": AuthMethod::ALL.map(AuthMethod::as_str),
        "dpop_signing_alg_values_supported": Alg::THEIRS.map(Alg::as_str),
        "token_endpoint_auth_signing_alg_values_supported": Alg::THEIRS.map(Alg::as_str),
        "scopes_supported": scopes(server),
        "authorization_response_iss_parameter_supported": true,
    })
}

/// The scopes worth listing: the fixed words, the wildcards, and US Core's granular ones. Any type's scope
/// is supported.
fn scopes(server: &Server) -> Vec<String> {
    let wide = ["patient/*.rs", "patient/*.read", "user/*.rs", "user/*.read", "system/*.rs", "system/*.read"]
        .map(str::to_owned);
    let words =
        scope::fixed_words().filter(|w| *w != "launch" || server.policy.launch_simulator).map(str::to_owned);
    let whole =
        words::US_CORE.iter().flat_map(|t| ["patient", "user"].map(|level| format!("{level}/{t}.rs")));
    let parts = words::parts()
        .flat_map(|(t, limit)| ["patient", "user"].map(|level| format!("{level}/{t}.rs?{limit}")));
    words.chain(wide).chain(whole).chain(parts).collect()
}

/// `GET /oauth/jwks`: what tokens are verified with (RFC 7517 5).
pub async fn jwks(State(app): State<App>) -> Response {
    match app.keys.jwks(app.now()).await {
        Ok(keys) => public_json(&keys),
        Err(e) => answer::oauth(
            &Problem::new(Code::TemporarilyUnavailable, "the keys cannot be read now; try again")
                .because(e.to_string()),
        ),
    }
}
