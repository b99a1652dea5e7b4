//! What an app may register (RFC 7591 2): every field checked, whoever sends it, JSON or form.

use serde_json::{Map, Value};
use url::Url;

use super::client_metadata::{
    ApplicationType, Approved, AuthMethod, GrantType, Introspect, Metadata, default_identity_scope,
    default_scope,
};
use super::redirect::{self, LONGEST_URI};
use super::service::is_for_services;
use crate::config::Policy;
use crate::error::{Problem, invalid_client_metadata, invalid_redirect_uri};
use crate::jose::{Alg, PublicKey};
use crate::smart::scope::{self, Level, Meaning, Scope};

/// What is wrong with one field, and what to send instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name in RFC 7591, or our own.
    pub field: &'static str,
    /// For the developer.
    pub words: String,
}

const MOST_REDIRECTS: usize = 50;
/// More keys than this in a set by value is a mistake.
const MOST_KEYS: usize = 20;
const LONGEST_TEXT: usize = 200;
const LONGEST_NAME: usize = 100;
/// The longest life an access token can be given: a day, seconds.
const LONGEST_LIFE: i64 = 24 * 60 * 60;

/// Turns what was sent into metadata. What is not named here is left out, and so not in the answer
/// (RFC 7591 2). `approved` is what the app itself was allowed, beside what the policy allows all.
///
/// # Errors
/// Everything that is wrong, field by field, so that it can be mended in one go.
pub fn check(
    sent: &Map<String, Value>,
    policy: &Policy,
    approved: Approved,
) -> Result<Metadata, Vec<FieldError>> {
    let mut form = Checker { sent, policy, approved: approved.or(Approved::by(policy)), errors: Vec::new() };
    let method = form.one_of(
        "token_endpoint_auth_method",
        AuthMethod::None,
        &AuthMethod::ALL.map(|method| (method.as_str(), method)),
    );
    let application_type = form.one_of(
        "application_type",
        ApplicationType::Web,
        &[("web", ApplicationType::Web), ("native", ApplicationType::Native)],
    );
    form.one_of("subject_type", (), &[("public", ())]);
    let grant_types = form.grant_types(method);
    let (jwks, jwks_uri) = form.keys(method);
    let sign_in_only = form.sign_in_only(method);
    let metadata = Metadata {
        client_name: form.name(),
        redirect_uris: form.redirect_uris(application_type, method, &grant_types),
        initiate_login_uri: form.uri("initiate_login_uri"),
        logo_uri: form.uri("logo_uri"),
        client_uri: form.uri("client_uri"),
        policy_uri: form.uri("policy_uri"),
        tos_uri: form.uri("tos_uri"),
        contacts: form.contacts(),
        software_id: form.short_text("software_id"),
        software_version: form.short_text("software_version"),
        token_endpoint_auth_method: method,
        token_endpoint_auth_signing_alg: form.assertion_alg(method),
        jwks,
        jwks_uri,
        response_types: form.response_types(&grant_types),
        application_type,
        scope: form.scope(&grant_types, sign_in_only),
        id_token_signed_response_alg: form
            .one_of("id_token_signed_response_alg", Alg::RS256, &Alg::OURS.map(|alg| (alg.as_str(), alg)))
            .as_str()
            .to_owned(),
        default_max_age: form.seconds("default_max_age", 0..=i64::from(u32::MAX)),
        post_logout_redirect_uris: form.post_logout_redirect_uris(application_type, method),
        backchannel_logout_uri: form.uri("backchannel_logout_uri"),
        backchannel_logout_session_required: form.flag("backchannel_logout_session_required"),
        require_pushed_authorization_requests: form.flag("require_pushed_authorization_requests"),
        dpop_bound_access_tokens: form.flag("dpop_bound_access_tokens"),
        access_token_life: form
            .seconds("access_token_life", policy.shortest_token_life / crate::clock::SECOND..=LONGEST_LIFE),
        introspect: form.introspect(method),
        sign_in_only,
        no_pkce: form.no_pkce(),
        grant_types,
    };
    if form.errors.is_empty() { Ok(metadata) } else { Err(form.errors) }
}

/// The problem that answers a JSON registration: the code of the first, the words of all.
pub fn problem(errors: &[FieldError]) -> Problem {
    let words: Vec<String> = errors.iter().map(|e| format!("`{}`: {}", e.field, e.words)).collect();
    let words = words.join("; ");
    match errors.first() {
        Some(first) if first.field == "redirect_uris" => invalid_redirect_uri(words).at("redirect_uris"),
        Some(first) => invalid_client_metadata(words).at(first.field),
        None => invalid_client_metadata(words),
    }
}

struct Checker<'a> {
    sent: &'a Map<String, Value>,
    policy: &'a Policy,
    approved: Approved,
    errors: Vec<FieldError>,
}

impl Checker<'_> {
    fn wrong(&mut self, field: &'static str, words: impl Into<String>) {
        self.errors.push(FieldError { field, words: words.into() });
    }

    /// A text; absent, null and empty are the same.
    fn text(&mut self, field: &'static str) -> Option<String> {
        match self.sent.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
            Some(_) => {
                self.wrong(field, "it must be a text");
                None
            }
        }
    }

    fn texts(&mut self, field: &'static str) -> Option<Vec<String>> {
        let list = match self.sent.get(field) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.wrong(field, "it must be a list of texts");
                return None;
            }
        };
        let texts: Option<Vec<String>> = list.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        if texts.is_none() {
            self.wrong(field, "it must be a list of texts");
        }
        texts
    }

    fn one_of<T: Copy>(&mut self, field: &'static str, default: T, known: &[(&str, T)]) -> T {
        let Some(text) = self.text(field) else { return default };
        match known.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => *value,
            None => {
                let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
                self.wrong(
                    field,
                    format!("`{}` is not supported; send one of {}", shown(&text), names.join(", ")),
                );
                default
            }
        }
    }

    fn name(&mut self) -> String {
        let name = self.text("client_name").unwrap_or_else(|| "Unnamed app".into());
        if name.chars().count() > LONGEST_NAME {
            self.wrong("client_name", format!("it is longer than {LONGEST_NAME} characters"));
        }
        if disguises(&name) {
            self.wrong("client_name", "it holds control characters; people could not trust what they read");
        }
        name
    }

    fn grant_types(&mut self, method: AuthMethod) -> Vec<GrantType> {
        let Some(sent) = self.texts("grant_types") else { return vec![GrantType::AuthorizationCode] };
        let mut kept = Vec::new();
        for name in sent {
            match GrantType::ALL.into_iter().find(|g| g.as_str() == name) {
                Some(grant_type) if !kept.contains(&grant_type) => kept.push(grant_type),
                Some(_) => {}
                None => {
                    let names: Vec<&str> = GrantType::ALL.iter().map(|g| g.as_str()).collect();
                    self.wrong(
                        "grant_types",
                        format!("`{}` is not supported; there are {}", shown(&name), names.join(", ")),
                    );
                }
            }
        }
        let alone = kept.contains(&GrantType::ClientCredentials);
        if alone && method != AuthMethod::PrivateKeyJwt {
            self.wrong(
                "grant_types",
                "`client_credentials` needs `token_endpoint_auth_method` to be `private_key_jwt`: a backend \
                 service proves itself with a key of its own",
            );
        }
        let with_people = kept.contains(&GrantType::AuthorizationCode);
        // A refresh token comes of a launch, so that it takes both.
        if !with_people && (!alone || kept.contains(&GrantType::RefreshToken)) {
            kept.insert(0, GrantType::AuthorizationCode);
        }
        kept
    }

    fn response_types(&mut self, grant_types: &[GrantType]) -> Vec<String> {
        if self.texts("response_types").is_some_and(|types| types.iter().any(|t| t != "code")) {
            self.wrong("response_types", "only `code` is supported");
        }
        let launches = grant_types.contains(&GrantType::AuthorizationCode);
        if launches { vec!["code".into()] } else { Vec::new() }
    }

    fn redirect_uris(
        &mut self,
        application_type: ApplicationType,
        method: AuthMethod,
        grant_types: &[GrantType],
    ) -> Vec<String> {
        let uris = self.redirects("redirect_uris", application_type, method);
        let needed = grant_types.contains(&GrantType::AuthorizationCode);
        if needed && uris.is_empty() && !self.errors.iter().any(|e| e.field == "redirect_uris") {
            self.wrong("redirect_uris", "at least one is needed: where the browser is sent back to the app");
        }
        uris
    }

    fn post_logout_redirect_uris(
        &mut self,
        application_type: ApplicationType,
        method: AuthMethod,
    ) -> Vec<String> {
        self.redirects("post_logout_redirect_uris", application_type, method)
    }

    fn redirects(
        &mut self,
        field: &'static str,
        application_type: ApplicationType,
        method: AuthMethod,
    ) -> Vec<String> {
        let uris = self.texts(field).unwrap_or_default();
        if uris.len() > MOST_REDIRECTS {
            self.wrong(field, format!("there are more than {MOST_REDIRECTS}"));
            return Vec::new();
        }
        let http_anywhere = self.policy.http_redirects;
        for uri in &uris {
            let fits = redirect::can_be_registered(uri, application_type, !method.proves(), http_anywhere);
            if let Err(words) = fits {
                self.wrong(field, format!("`{}` {words}", shown(uri)));
            }
        }
        uris
    }

    /// The app's public keys, by value or by address; with `private_key_jwt` one of the two must be there.
    fn keys(&mut self, method: AuthMethod) -> (Option<Value>, Option<String>) {
        // A form sends the set as text.
        let sent = match self.sent.get("jwks") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(Value::String(text)) => Some(serde_json::from_str(text).unwrap_or(Value::Null)),
            Some(other) => Some(other.clone()),
        };
        if let Some(set) = &sent
            && let Err(words) = key_set(set)
        {
            self.wrong("jwks", words);
        }
        let uri = self.uri("jwks_uri");
        match (&sent, &uri) {
            (Some(_), Some(_)) => self.wrong("jwks_uri", "send either `jwks` or `jwks_uri`, not both"),
            (None, None) if method == AuthMethod::PrivateKeyJwt => self.wrong(
                "jwks",
                "`private_key_jwt` needs the app's public keys: send a JWK Set as `jwks`, or its address as \
                 `jwks_uri`",
            ),
            _ => {}
        }
        (sent, uri)
    }

    fn assertion_alg(&mut self, method: AuthMethod) -> Option<Alg> {
        let known = Alg::THEIRS.map(|alg| (alg.as_str(), Some(alg)));
        let alg = self.one_of("token_endpoint_auth_signing_alg", None, &known);
        if alg.is_some() && method != AuthMethod::PrivateKeyJwt {
            let words = "it is for `private_key_jwt` only; leave it out";
            self.wrong("token_endpoint_auth_signing_alg", words);
        }
        alg
    }

    /// A boolean; a form's box sends `true` or `on`, and nothing where it is not ticked.
    fn flag(&mut self, field: &'static str) -> bool {
        match self.sent.get(field) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) if ["", "false"].contains(&text.trim()) => false,
            Some(Value::String(text)) if ["true", "on"].contains(&text.trim()) => true,
            Some(_) => {
                self.wrong(field, "it must be `true` or `false`");
                false
            }
        }
    }

    /// A standing that only a confidential app can have, and in production only with approval.
    fn sign_in_only(&mut self, method: AuthMethod) -> bool {
        let wanted = self.flag("sign_in_only");
        if wanted && !method.proves() {
            self.wrong(
                "sign_in_only",
                "a public app cannot have it; choose a kind of app that proves itself",
            );
        }
        if wanted && !self.approved.sign_in_only {
            self.wrong("sign_in_only", "it needs the approval of the people who run this server");
        }
        wanted
    }

    fn no_pkce(&mut self) -> bool {
        let wanted = self.flag("no_pkce");
        if wanted && !self.policy.no_pkce_apps {
            self.wrong("no_pkce", "every app needs PKCE here; only a sandbox takes apps without it");
        }
        wanted
    }

    fn contacts(&mut self) -> Vec<String> {
        let contacts = self.texts("contacts").unwrap_or_default();
        if contacts.len() > 10 || contacts.iter().any(|c| c.chars().count() > LONGEST_TEXT || disguises(c)) {
            let words = format!("it must be at most 10 texts of at most {LONGEST_TEXT} plain characters");
            self.wrong("contacts", words);
        }
        contacts
    }

    fn short_text(&mut self, field: &'static str) -> Option<String> {
        let text = self.text(field)?;
        if text.chars().count() > LONGEST_TEXT || disguises(&text) {
            self.wrong(field, format!("it must be a text of at most {LONGEST_TEXT} plain characters"));
        }
        Some(text)
    }

    fn uri(&mut self, field: &'static str) -> Option<String> {
        let text = self.text(field)?;
        let web = Url::parse(&text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        });
        let safe = self.policy.http_redirects || redirect::is_safe(&text);
        if !web || !text.is_ascii() || text.len() > LONGEST_URI || text.contains(char::is_whitespace) || !safe
        {
            self.wrong(
                field,
                format!("`{}` is not a web address; send one that begins with https://", shown(&text)),
            );
        }
        Some(text)
    }

    fn scope(&mut self, grant_types: &[GrantType], sign_in_only: bool) -> String {
        let alone = grant_types.contains(&GrantType::ClientCredentials);
        let with_people = grant_types.contains(&GrantType::AuthorizationCode);
        let Some(text) = self.text("scope") else {
            return match (sign_in_only, with_people) {
                (true, _) => default_identity_scope(),
                (false, true) => default_scope(grant_types),
                (false, false) => {
                    self.wrong(
                        "scope",
                        "a backend service must name what it may ask for, such as `system/*.rs`",
                    );
                    String::new()
                }
            };
        };
        let words: Vec<String> = match scope::split(&text) {
            Ok(words) => words.into_iter().map(str::to_owned).collect(),
            Err(problem) => {
                self.wrong("scope", problem.words.into_owned());
                return String::new();
            }
        };
        let mut kept = Vec::new();
        for word in words {
            match Scope::parse(&word) {
                Err(not) => {
                    let meant = not.meant.map_or_else(String::new, |m| format!(" (did you mean `{m}`?)"));
                    self.wrong("scope", format!("`{}`: {}{meant}", shown(&word), not.why));
                }
                Ok(scope) if scope.is_at(Level::System) && !alone => self.wrong(
                    "scope",
                    format!(
                        "`{}`: system scopes are for backend services; add `client_credentials` to `grant_types`",
                        shown(&word)
                    ),
                ),
                Ok(scope) if scope.is_at(Level::System) && !self.approved.system => self.wrong(
                    "scope",
                    format!("`{}` needs the approval of the people who run this server", shown(&word)),
                ),
                Ok(scope) if !with_people && !is_for_services(&scope) => self.wrong(
                    "scope",
                    format!("`{}` is for people to grant, and a backend service acts for nobody", shown(&word)),
                ),
                Ok(scope)
                    if matches!(scope.meaning, Meaning::OfflineAccess | Meaning::OnlineAccess)
                        && !grant_types.contains(&GrantType::RefreshToken) =>
                {
                    self.wrong(
                        "scope",
                        format!("`{word}` needs refresh tokens: enable them too (`grant_types` with `refresh_token`)"),
                    );
                }
                Ok(scope)
                    if scope.meaning == Meaning::Introspect
                        && self.sent.get("introspect").is_none_or(|v| v != "all") =>
                {
                    self.wrong("scope", format!("`{word}` needs `introspect` to be `all`"));
                }
                Ok(scope) => kept.push(scope),
            }
        }
        scope::join(&kept)
    }

    fn introspect(&mut self, method: AuthMethod) -> Introspect {
        let known = [("own", Introspect::Own), ("all", Introspect::All)];
        let introspect = self.one_of("introspect", Introspect::Own, &known);
        if introspect == Introspect::All && !method.proves() {
            self.wrong(
                "introspect",
                "a public app cannot introspect tokens; choose a kind of app that proves itself",
            );
        }
        if introspect == Introspect::All && !self.approved.introspect_all {
            self.wrong("introspect", "`all` needs the approval of the people who run this server");
        }
        introspect
    }

    /// A whole number of seconds; a form sends it as text.
    fn seconds(&mut self, field: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let seconds = match self.sent.get(field) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) if text.trim().is_empty() => return None,
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(other) => other.as_i64(),
        };
        let seconds = seconds.filter(|s| range.contains(s));
        if seconds.is_none() {
            let (from, to) = range.into_inner();
            self.wrong(field, format!("it must be a whole number of seconds from {from} to {to}"));
        }
        seconds
    }
}

/// Enough of what was sent to be recognised.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Whether a text holds control characters, or ones that turn the order of what follows: people could not
/// trust what they read.
fn disguises(text: &str) -> bool {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().any(|c| c.is_control() || turns(c))
}

/// A JWK Set by value (RFC 7517 5; SMART App Launch 2.2, "Registering a client with JWKS"): public keys that
/// can sign, told apart by `kid`.
fn key_set(set: &Value) -> Result<(), String> {
    let keys =
        set.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty()).ok_or(
            "it must be a JWK Set: an object with `keys`, a list of at least one public key in JSON",
        )?;
    if keys.len() > MOST_KEYS {
        return Err(format!("it holds more than {MOST_KEYS} keys"));
    }
    let mut names = Vec::new();
    for (number, jwk) in (1..).zip(keys) {
        let key = PublicKey::from_jwk(jwk).map_err(|words| format!("key {number} {words}"))?;
        if keys.len() > 1 && key.kid.is_none() {
            return Err(format!("key {number} has no `kid`, which tells it from the others"));
        }
        if key.kid.is_some() && names.contains(&key.kid) {
            return Err(format!("key {number} has the `kid` of another; give each its own"));
        }
        names.push(key.kid);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
