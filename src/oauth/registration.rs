//! What an app may register (RFC 7591 2): every field checked, whoever sends it, JSON or form.

use serde_json::{Map, Value};
use url::Url;

use super::client::{ApplicationType, AuthMethod, GrantType, Introspect, Metadata, default_scope};
use crate::config::Policy;
use crate::error::{Problem, invalid_client_metadata, invalid_redirect_uri};
use crate::jose::Alg;
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
const LONGEST_URI: usize = 2_000;
const LONGEST_NAME: usize = 100;
/// The longest life an access token can be given: a day.
const LONGEST_LIFE: i64 = 24 * 60 * 60;

/// Turns what was sent into metadata.
///
/// # Errors
/// Everything that is wrong, field by field, so that it can be mended in one go.
pub fn check(sent: &Map<String, Value>, policy: &Policy) -> Result<Metadata, Vec<FieldError>> {
    let mut form = Checker { sent, policy, errors: Vec::new() };
    let token_endpoint_auth_method = form.one_of(
        "token_endpoint_auth_method",
        AuthMethod::None,
        &AuthMethod::ALL.map(|method| (method.as_str(), method)),
    );
    let application_type = form.one_of(
        "application_type",
        ApplicationType::Web,
        &[("web", ApplicationType::Web), ("native", ApplicationType::Native)],
    );
    let grant_types = form.grant_types();
    let metadata = Metadata {
        client_name: form.name(),
        redirect_uris: form.redirect_uris(application_type),
        initiate_login_uri: form.uri("initiate_login_uri"),
        logo_uri: form.uri("logo_uri"),
        token_endpoint_auth_method,
        response_types: form.response_types(),
        application_type,
        scope: form.scope(&grant_types),
        grant_types,
        id_token_signed_response_alg: form
            .one_of("id_token_signed_response_alg", Alg::RS256, &Alg::OURS.map(|alg| (alg.as_str(), alg)))
            .as_str()
            .to_owned(),
        access_token_life: form.life(),
        introspect: form.introspect(token_endpoint_auth_method),
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
        if name.chars().any(|c| c.is_control() || is_bidi_control(c)) {
            self.wrong("client_name", "it holds control characters; people could not trust what they read");
        }
        name
    }

    fn grant_types(&mut self) -> Vec<GrantType> {
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
                        format!("`{}` is not supported; there are {}", shown(&name), names.join(" and ")),
                    );
                }
            }
        }
        if !kept.contains(&GrantType::AuthorizationCode) && self.errors.is_empty() {
            kept.insert(0, GrantType::AuthorizationCode);
        }
        kept
    }

    fn response_types(&mut self) -> Vec<String> {
        if self.texts("response_types").is_some_and(|types| types.iter().any(|t| t != "code")) {
            self.wrong("response_types", "only `code` is supported");
        }
        vec!["code".into()]
    }

    fn redirect_uris(&mut self, application_type: ApplicationType) -> Vec<String> {
        let uris = self.texts("redirect_uris").unwrap_or_default();
        if uris.is_empty() && !self.errors.iter().any(|e| e.field == "redirect_uris") {
            self.wrong("redirect_uris", "at least one is needed: where the browser is sent back to the app");
        }
        if uris.len() > MOST_REDIRECTS {
            self.wrong("redirect_uris", format!("there are more than {MOST_REDIRECTS}"));
            return Vec::new();
        }
        let public =
            self.sent.get("token_endpoint_auth_method").is_none_or(|m| m == "none" || m.is_null() || m == "");
        for uri in &uris {
            if let Err(words) = redirect_fits(uri, application_type, public, self.policy) {
                self.wrong("redirect_uris", format!("`{}` {words}", shown(uri)));
            }
        }
        uris
    }

    fn uri(&mut self, field: &'static str) -> Option<String> {
        let text = self.text(field)?;
        let web = Url::parse(&text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        });
        let safe = self.policy.http_redirects || is_safe_redirect(&text);
        if !web || !text.is_ascii() || text.len() > LONGEST_URI || text.contains(char::is_whitespace) || !safe
        {
            self.wrong(
                field,
                format!("`{}` is not a web address; send one that begins with https://", shown(&text)),
            );
        }
        Some(text)
    }

    fn scope(&mut self, grant_types: &[GrantType]) -> String {
        let Some(text) = self.text("scope") else { return default_scope(grant_types) };
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
                Ok(scope) if scope.is_at(Level::System) => self.wrong(
                    "scope",
                    format!(
                        "`{}`: system scopes are for backend services, which this app is not",
                        shown(&word)
                    ),
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
        if introspect == Introspect::All && !method.has_secret() {
            self.wrong(
                "introspect",
                "a public app cannot introspect tokens; choose a kind of app with a secret",
            );
        }
        if introspect == Introspect::All && !self.policy.open_introspection {
            self.wrong("introspect", "`all` needs the approval of the people who run this server");
        }
        introspect
    }

    fn life(&mut self) -> Option<i64> {
        let shortest = self.policy.shortest_token_life / crate::clock::SECOND;
        let seconds = match self.sent.get("access_token_life") {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) if text.trim().is_empty() => return None,
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(other) => other.as_i64(),
        };
        match seconds.filter(|s| (shortest..=LONGEST_LIFE).contains(s)) {
            Some(seconds) => Some(seconds),
            None => {
                self.wrong(
                    "access_token_life",
                    format!("it must be a whole number of seconds from {shortest} to {LONGEST_LIFE}"),
                );
                None
            }
        }
    }
}

/// Enough of what was sent to be recognised.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Characters that turn the order of what follows, and so can disguise a name.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Schemes that are no place to send a code to.
const NEVER: [&str; 10] =
    ["javascript", "data", "file", "vbscript", "about", "blob", "filesystem", "ftp", "ws", "wss"];

/// Whether one redirect URI can be registered; else why not, as the rest of a sentence about it.
fn redirect_fits(
    uri: &str,
    application_type: ApplicationType,
    public: bool,
    policy: &Policy,
) -> Result<(), &'static str> {
    if uri.len() > LONGEST_URI
        || !uri.is_ascii()
        || uri.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err("must be ASCII without spaces, and no longer than 2,000 characters");
    }
    if uri.contains(['\\', '<', '>', '"', '`', '{', '}', '^', '|']) {
        return Err("holds a character that does not belong in a URI");
    }
    if uri.contains('#') {
        return Err("has a fragment (`#…`), which never reaches the app's server; leave it out");
    }
    if uri.contains('*') {
        return Err("has a wildcard; register each redirect URI in full");
    }
    let url = Url::parse(uri).map_err(|_| "is not an absolute URI")?;
    // Browsers read `https:/a`, `https:///a` and `https://@a` as `https://a`. What is compared as text must
    // say what it means.
    let written = uri[url.scheme().len()..].strip_prefix("://").unwrap_or_default();
    let authority = written.split(['/', '?']).next().unwrap_or_default();
    if matches!(url.scheme(), "http" | "https") && authority.is_empty() {
        return Err("has no host after `//`");
    }
    if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
        return Err("has user information before its host; leave it out");
    }
    match url.scheme() {
        "https" if url.host_str().is_some_and(|h| !h.is_empty()) => Ok(()),
        "http" if is_safe_redirect(uri) || policy.http_redirects && !is_unspecified(&url) => Ok(()),
        "http" => Err("must be https; http is only for this machine's own loopback address"),
        "https" => Err("has no host"),
        scheme if NEVER.contains(&scheme) => Err("has a scheme that is no app of its own"),
        _ if !public => Err("has a scheme of its own, which only a public app may register"),
        _ if application_type == ApplicationType::Web && !uri.contains(':') => Err("is not an absolute URI"),
        _ => Ok(()),
    }
}

/// `0.0.0.0` and `[::]` are no address of an app.
fn is_unspecified(url: &Url) -> bool {
    matches!(url.host_str(), Some("0.0.0.0" | "[::]"))
}

/// Whether a redirect is one that production allows: not `http` beyond this machine.
pub fn is_safe_redirect(uri: &str) -> bool {
    match Url::parse(uri) {
        Ok(url) if url.scheme() == "http" => {
            matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
