//! What an id_token says (OpenID Connect Core 2; SMART App Launch 2.2, "Scopes for requesting identity data";
//! `sid`: Back-Channel Logout 1.0 2.1).

use serde_json::{Value, json};

use super::claims;
use crate::clock::{Millis, SECOND};
use crate::config::ID_TOKEN_LIFE;
use crate::jose::{Alg, half_hash};
use crate::smart::scope::Scope;

/// What the claims are made of.
pub struct Facts<'a> {
    /// P.
    pub issuer: &'a str,
    /// The person's `sub`.
    pub subject: &'a str,
    /// The app.
    pub client: &'a str,
    /// The absolute URL of the person's FHIR resource.
    pub fhir_user: &'a str,
    /// That resource, where the app reads the person's claims from the id_token.
    pub resource: Option<&'a Value>,
    /// What was granted.
    pub scopes: &'a [Scope],
    /// The session it was granted in, as the notice of its end names it.
    pub sid: Option<&'a str>,
    /// When the person signed in.
    pub signed_in: Option<Millis>,
    /// How surely.
    pub acr: Option<&'a str>,
    /// As the app sent it, if it did.
    pub nonce: Option<&'a str>,
    /// The access token beside it.
    pub access_token: &'a str,
    /// What it will be signed with.
    pub alg: Alg,
    /// The time of issue.
    pub now: Millis,
}

/// The claims. `nonce` is there only where one was sent: relying parties refuse one they did not send.
pub fn claims(facts: &Facts<'_>) -> Value {
    let mut claims = json!({
        "iss": facts.issuer,
        "sub": facts.subject,
        "aud": facts.client,
        "exp": (facts.now + ID_TOKEN_LIFE) / SECOND,
        "iat": facts.now / SECOND,
        "at_hash": half_hash(facts.alg, facts.access_token.as_bytes()),
    });
    if let Some(signed_in) = facts.signed_in {
        claims["auth_time"] = json!(signed_in / SECOND);
    }
    if let Some(acr) = facts.acr {
        claims["acr"] = json!(acr);
    }
    if let Some(nonce) = facts.nonce {
        claims["nonce"] = json!(nonce);
    }
    if let Some(sid) = facts.sid {
        claims["sid"] = json!(sid);
    }
    for (name, value) in claims::about(facts.fhir_user, facts.resource, facts.scopes) {
        claims[name] = value;
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(scope: &str, nonce: Option<&str>) -> Value {
        claims(&Facts {
            issuer: "https://p.example",
            subject: "s",
            client: "c",
            fhir_user: "https://p.example/fhir/Patient/1",
            resource: None,
            scopes: &Scope::list(scope),
            sid: Some("session"),
            signed_in: Some(1_500),
            acr: Some("0"),
            nonce,
            access_token: "token",
            alg: Alg::RS256,
            now: 2_999,
        })
    }

    #[test]
    fn times_are_whole_seconds() {
        let claims = with("openid", None);
        assert_eq!((&claims["iat"], &claims["auth_time"]), (&json!(2), &json!(1)));
    }

    #[test]
    fn the_person_is_named_only_by_the_scopes_that_ask_for_it() {
        assert!(with("openid", None).get("fhirUser").is_none());
        assert_eq!(with("openid fhirUser", None)["fhirUser"], "https://p.example/fhir/Patient/1");
        assert_eq!(with("openid profile", None)["profile"], "https://p.example/fhir/Patient/1");
    }

    #[test]
    fn no_nonce_was_sent_so_there_is_none_not_even_an_empty_one() {
        assert!(with("openid", None).get("nonce").is_none());
        assert_eq!(with("openid", Some("n"))["nonce"], "n");
    }
}
