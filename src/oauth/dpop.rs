//! Proofs that a caller holds a key: what a `DPoP` header must say (RFC 9449 4).

use url::Url;

use crate::clock::{Millis, SECOND};
use crate::crypto::sha256_base64url;
use crate::error::{Problem, invalid_dpop_proof, invalid_grant};
use crate::jose::{Jws, PublicKey};

/// How old a proof may be.
pub const OLDEST: Millis = 60 * SECOND;
/// How far a caller's clock may be ahead of ours.
pub const AHEAD: Millis = 5 * SECOND;
/// The longest `jti`, bytes.
const LONGEST_JTI: usize = 256;

/// What a proof must be for.
pub struct Expected<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// Its address on this server, without a query.
    pub url: &'a str,
    /// The access token that comes with it; none where a token is only asked for.
    pub token: Option<&'a str>,
    /// The present time.
    pub now: Millis,
}

/// A proof that fits its request. Whether it was used before, `proofs.rs` knows.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The RFC 7638 thumbprint of the key it was made with.
    pub jkt: String,
    /// What tells it from every other proof: a hash of key and `jti`.
    pub id: String,
    /// When it was made, by its maker's clock; whole seconds.
    pub made: Millis,
}

/// The proof in the `DPoP` headers of a request, if there is one.
///
/// # Errors
/// `invalid_dpop_proof` for a proof that does not fit, and for more than one.
pub fn read(headers: &[String], expected: &Expected<'_>) -> Result<Option<Proof>, Problem> {
    match headers {
        [] => Ok(None),
        [one] => check(one, expected).map(Some),
        _ => Err(invalid_dpop_proof("send one DPoP header, not several")),
    }
}

fn check(text: &str, expected: &Expected<'_>) -> Result<Proof, Problem> {
    let wrong = |words: &str| invalid_dpop_proof(format!("the DPoP proof {words}"));
    let jws = Jws::parse(text).map_err(wrong)?;
    if jws.header_text("typ") != Some("dpop+jwt") {
        return Err(wrong("must have `\"typ\": \"dpop+jwt\"` in its header"));
    }
    let jwk =
        jws.header.get("jwk").ok_or_else(|| wrong("must hold its public key as `jwk` in its header"))?;
    let key = PublicKey::from_jwk(jwk).map_err(|words| wrong(&format!("has a `jwk` that {words}")))?;
    if !jws.is_signed_by(&key) {
        return Err(wrong("is not signed by the key in its header"));
    }
    let jti = jws.text("jti").filter(|jti| (1..=LONGEST_JTI).contains(&jti.len()));
    let jti = jti.ok_or_else(|| wrong("must have a `jti` of 1 to 256 characters, another in every proof"))?;
    if jws.text("htm") != Some(expected.method) {
        return Err(wrong(&format!("is not for this method; its `htm` must be `{}`", expected.method)));
    }
    let htu = jws.text("htu").and_then(normal);
    if htu.is_none() || htu != normal(expected.url) {
        return Err(wrong(&format!("is not for this address; its `htu` must be `{}`", expected.url)));
    }
    let made = jws.seconds("iat").map(|iat| iat.saturating_mul(SECOND));
    let made = made.ok_or_else(|| wrong("must have an `iat`, the time it was made"))?;
    if made.saturating_add(OLDEST) < expected.now {
        return Err(wrong("is older than 60 seconds; make a new one for every request"));
    }
    if made > expected.now + AHEAD {
        return Err(wrong("was made in the future; set the clock that its `iat` is read from"));
    }
    if let Some(token) = expected.token
        && jws.text("ath") != Some(&sha256_base64url(token.as_bytes()))
    {
        return Err(wrong("is not for this access token; its `ath` must be the token's base64url SHA-256"));
    }
    // A thumbprint is always 43 characters long, so that no two pairs make the same text.
    let id = sha256_base64url(format!("{}{jti}", key.thumbprint).as_bytes());
    Ok(Proof { jkt: key.thumbprint, id, made })
}

/// An address as it is compared: scheme and host in lower case, no default port, no dot segments, percent-encoding
/// in one way, no query, no fragment (RFC 9449 4.3; RFC 3986 6.2.2, 6.2.3).
fn normal(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    Some(format!("{}{}", url.origin().ascii_serialization(), one_encoding(url.path())))
}

fn one_encoding(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => out.push(c),
            Some(_) => out.push_str(&format!("%{}", after[..2].to_ascii_uppercase())),
            None => out.push('%'),
        }
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    out + rest
}

/// Whether a proof is by the key that a code or refresh token is bound to, if it is to any.
pub fn holds(bound: Option<&str>, proof: Option<&Proof>) -> Result<(), Problem> {
    match (bound, proof) {
        (None, _) => Ok(()),
        (Some(jkt), Some(proof)) if proof.jkt == jkt => Ok(()),
        (Some(_), Some(_)) => {
            Err(invalid_grant("it is bound to another key than the DPoP proof was made with"))
        }
        (Some(_), None) => Err(invalid_dpop_proof("it is bound to a key; send a DPoP header that proves it")),
    }
}

/// The refusal of a proof that was used before.
pub fn used() -> Problem {
    invalid_dpop_proof("the DPoP proof was used before; make a new one, with a new `jti`, for every request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::{Alg, SigningKey};
    use serde_json::{Value, json};

    const NOW: Millis = 1_793_534_400_000;
    const URL: &str = "https://hearth.example/fhir/Patient/1";

    fn expected() -> Expected<'static> {
        Expected { method: "GET", url: URL, token: None, now: NOW }
    }

    fn proof(key: &SigningKey, header: &Value, claims: &Value) -> String {
        let mut all = json!({"typ": "dpop+jwt", "alg": key.alg.as_str(), "jwk": key.jwk()});
        let mut said = json!({"jti": "1", "htm": "GET", "htu": URL, "iat": NOW / SECOND});
        for (to, from) in [(&mut all, header), (&mut said, claims)] {
            for (name, value) in from.as_object().unwrap() {
                match value {
                    Value::Null => drop(to.as_object_mut().unwrap().remove(name)),
                    value => to[name] = value.clone(),
                }
            }
        }
        key.sign_with(&all, &said).unwrap()
    }

    #[test]
    fn a_proof_by_any_kind_of_key_names_the_key() {
        for alg in Alg::THEIRS {
            let (key, _) = SigningKey::generate(alg).unwrap();
            let read = read(&[proof(&key, &json!({}), &json!({}))], &expected()).unwrap().unwrap();
            assert_eq!((read.jkt, read.made), (key.kid, NOW));
        }
        assert!(read(&[], &expected()).unwrap().is_none());
    }

    #[test]
    fn a_proof_that_says_one_thing_wrong_is_refused() {
        let (key, _) = SigningKey::generate(Alg::ES256).unwrap();
        let (other, _) = SigningKey::generate(Alg::ES256).unwrap();
        let mut private = key.jwk().clone();
        private["d"] = json!("AQ");
        let now = NOW / SECOND;
        for (header, claims) in [
            (json!({"typ": "JWT"}), json!({})),
            (json!({"typ": null}), json!({})),
            (json!({"alg": "none"}), json!({})),
            (json!({"alg": "HS256"}), json!({})),
            (json!({"alg": "ES384"}), json!({})),
            (json!({"alg": null}), json!({})),
            (json!({"crit": ["b64"]}), json!({})),
            (json!({"jwk": null}), json!({})),
            (json!({"jwk": other.jwk()}), json!({})),
            (json!({"jwk": private}), json!({})),
            (json!({"jwk": {"kty": "oct", "k": "AQ"}}), json!({})),
            (json!({"jwk": key.jwk().to_string()}), json!({})),
            (json!({}), json!({"jti": null})),
            (json!({}), json!({"jti": ""})),
            (json!({}), json!({"jti": 1})),
            (json!({}), json!({"jti": "x".repeat(257)})),
            (json!({}), json!({"htm": null})),
            (json!({}), json!({"htm": "POST"})),
            (json!({}), json!({"htm": "get"})),
            (json!({}), json!({"htu": null})),
            (json!({}), json!({"htu": "https://hearth.example/fhir/Patient/2"})),
            (json!({}), json!({"htu": "https://hearth.example/fhir/Patient/1/"})),
            (json!({}), json!({"htu": "https://hearth.example/fhir/patient/1"})),
            (json!({}), json!({"htu": "http://hearth.example/fhir/Patient/1"})),
            (json!({}), json!({"htu": "https://hearth.example:444/fhir/Patient/1"})),
            (json!({}), json!({"htu": "https://evil.example/fhir/Patient/1"})),
            (json!({}), json!({"htu": "/fhir/Patient/1"})),
            (json!({}), json!({"iat": null})),
            (json!({}), json!({"iat": "now"})),
            (json!({}), json!({"iat": now - 61})),
            (json!({}), json!({"iat": now + 6})),
            (json!({}), json!({"iat": i64::MAX})),
            (json!({}), json!({"iat": i64::MIN})),
        ] {
            let text = proof(&key, &header, &claims);
            assert!(read(&[text], &expected()).is_err(), "{header} {claims}");
        }
        let good = proof(&key, &json!({}), &json!({"jti": "x".repeat(256), "iat": now - 60}));
        assert!(read(std::slice::from_ref(&good), &expected()).is_ok());
        assert!(read(&[good.clone(), good.clone()], &expected()).is_err(), "two headers");
        for text in ["", "x", "a.b.c", &format!("{good},{good}"), &good[..good.len() - 4]] {
            assert!(read(&[text.to_owned()], &expected()).is_err(), "{text}");
        }
    }

    #[test]
    fn with_a_token_the_proof_is_for_that_token() {
        let (key, _) = SigningKey::generate(Alg::ES256).unwrap();
        let expected = Expected { token: Some("token"), ..expected() };
        let with = |ath: Value| read(&[proof(&key, &json!({}), &json!({"ath": ath}))], &expected);
        assert!(with(json!(sha256_base64url(b"token"))).is_ok());
        for ath in [Value::Null, json!("token"), json!(sha256_base64url(b"other")), json!("")] {
            assert!(with(ath.clone()).is_err(), "{ath}");
        }
    }

    #[test]
    fn another_spelling_of_the_same_address_is_the_same() {
        let (key, _) = SigningKey::generate(Alg::ES256).unwrap();
        for htu in [
            "HTTPS://HEARTH.example/fhir/Patient/1",
            "https://hearth.example:443/fhir/Patient/1",
            "https://hearth.example/fhir/Patient/1?_format=json#x",
            "https://hearth.example/fhir/./x/../%50atient/1",
        ] {
            let text = proof(&key, &json!({}), &json!({"htu": htu}));
            assert!(read(&[text], &expected()).is_ok(), "{htu}");
        }
        assert_eq!(normal("http://a.example/%7e%2f%zz%"), normal("http://a.example/~%2F%zz%"));
        assert_ne!(normal("http://a.example/a%2Fb"), normal("http://a.example/a/b"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = (read(std::slice::from_ref(&text), &expected()), one_encoding(&text), normal(&text));
        }
    }
}
