//! PKCE, and which authorization requests may go without (RFC 9700 2.1.1 asks it of every app; the two exceptions
//! here are closed, and off unless an app is registered for one).

use super::client_metadata::Metadata;
use super::params::Params;
use crate::config::Policy;
use crate::error::{Problem, invalid_request};
use crate::smart::scope::Scope;

/// Whether a request may go without PKCE, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// It may not; what the app's developer can do about it.
    No(String),
    /// A confidential app signs somebody in and asks for nothing else; its token opens no records.
    SignIn,
    /// An app of SMART 1.0's time, in a sandbox.
    OldApp,
}

/// Asked with the words of `scope` as they came: one that would be left out ends the exemption too.
pub fn of(app: &Metadata, words: &[&str], policy: &Policy) -> Exempt {
    let identity = |word: &&str| Scope::parse(word).is_ok_and(|s| s.is_identity());
    let other = words.iter().find(|word| !identity(word));
    match other {
        _ if app.no_pkce && policy.no_pkce_apps => Exempt::OldApp,
        None if app.sign_in_only && app.token_endpoint_auth_method.proves() => Exempt::SignIn,
        Some(other) if app.sign_in_only => {
            let shown: String = other.chars().take(80).collect();
            Exempt::No(format!(
                "the app is registered as `sign_in_only`, which goes without PKCE for openid, profile, fhirUser, \
                 email, phone and address alone, and it asks for `{shown}` too"
            ))
        }
        None if !app.token_endpoint_auth_method.proves() => Exempt::No(String::new()),
        None => Exempt::No("or register the app as `sign_in_only`, if it only signs people in".into()),
        Some(_) if policy.no_pkce_apps => Exempt::No(
            "an app of SMART 1.0 that cannot may be registered as `no_pkce`, in this sandbox only".into(),
        ),
        Some(_) => Exempt::No(String::new()),
    }
}

/// The challenge of PKCE with S256 (RFC 7636 4.3), needed of every app that is not exempt; where it is sent, it must fit
/// for those too.
pub fn challenge<'a>(params: &'a Params, exempt: &Exempt) -> Result<Option<&'a str>, Problem> {
    let wrong = |name, words: &'static str| invalid_request(words).at(name);
    let Some(challenge) = params.one("code_challenge")? else {
        return without_pkce(params, exempt).map(|()| None);
    };
    let words = match params.one("code_challenge_method")? {
        Some("S256") if is_sha256(challenge) => return Ok(Some(challenge)),
        Some("S256") => {
            let words = "`code_challenge` must be the 43 base64url characters of a SHA-256, without padding";
            return Err(wrong("code_challenge", words));
        }
        None => "`code_challenge_method` is missing; send `code_challenge_method=S256`",
        Some(_) => "`code_challenge_method` must be `S256`; `plain` protects nothing",
    };
    Err(wrong("code_challenge_method", words))
}

/// Whether it is a SHA-256 in base64url without padding.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A request that sends no challenge.
fn without_pkce(params: &Params, exempt: &Exempt) -> Result<(), Problem> {
    if let Exempt::No(hint) = exempt {
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        return Err(invalid_request(format!(
            "`code_challenge` is missing; SMART requires PKCE: send the base64url SHA-256 of a random \
             code_verifier, and `code_challenge_method=S256`{hint}"
        ))
        .at("code_challenge"));
    }
    if params.one("code_challenge_method")?.is_some() {
        let words = "`code_challenge_method` is sent, but no `code_challenge`; send both or neither";
        return Err(invalid_request(words).at("code_challenge"));
    }
    if *exempt == Exempt::SignIn && ["aud", "resource"].iter().any(|n| params.all(n).any(|v| !v.is_empty())) {
        let words = "`aud` asks for a token that opens records, which needs PKCE; leave `aud` out, or send \
                     `code_challenge` too";
        return Err(invalid_request(words).at("aud"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;
    use crate::oauth::registration;
    use serde_json::{Value, json};

    fn app(extra: &Value) -> Metadata {
        let mut sent = json!({"redirect_uris": ["https://a.example/cb"]});
        sent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        registration::check(sent.as_object().unwrap(), &Policy::from(Mode::Sandbox), Default::default())
            .unwrap()
    }

    #[test]
    fn every_word_asked_for_must_say_only_who_somebody_is() {
        let app = app(&json!({"sign_in_only": true, "token_endpoint_auth_method": "client_secret_post"}));
        let policy = Policy::from(Mode::Production);
        let asks = |scope: &str| of(&app, &scope.split(' ').collect::<Vec<_>>(), &policy);
        assert_eq!(asks("openid profile fhirUser email phone address"), Exempt::SignIn);
        for other in ["offline_access", "launch", "patient/*.rs", "user/Patient.r", "oidc", "system/*.rs", ""]
        {
            assert!(matches!(asks(&format!("openid {other}")), Exempt::No(_)), "{other}");
        }
    }

    #[test]
    fn what_an_app_is_registered_for_holds_only_while_the_rest_of_it_does() {
        let mut app = app(&json!({"sign_in_only": true, "token_endpoint_auth_method": "client_secret_post"}));
        app.token_endpoint_auth_method = crate::oauth::client_metadata::AuthMethod::None;
        assert!(matches!(of(&app, &["openid"], &Policy::from(Mode::Sandbox)), Exempt::No(_)), "public");
        app.no_pkce = true;
        assert_eq!(of(&app, &["patient/*.rs"], &Policy::from(Mode::Sandbox)), Exempt::OldApp);
        assert!(matches!(of(&app, &["patient/*.rs"], &Policy::from(Mode::Production)), Exempt::No(_)));
    }
}
