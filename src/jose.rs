//! Signatures: what this server signs, and what apps sign (JOSE: RFC 7515, 7517, 7518, 7638).

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom as SigningRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::crypto::{CryptoError, sha256_base64url};

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256, the one every OpenID relying party knows.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// ECDSA on P-256 with SHA-256: smaller, and much cheaper to sign.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
}

impl Alg {
    /// Every algorithm this server signs with, the default first.
    pub const OURS: [Alg; 3] = [Alg::RS256, Alg::ES256, Alg::ES384];
    /// Every algorithm an app may sign with, SMART's own two first.
    pub const THEIRS: [Alg; 4] = [Alg::RS384, Alg::ES384, Alg::RS256, Alg::ES256];

    /// The name of RFC 7518.
    pub fn as_str(self) -> &'static str {
        match self {
            Alg::RS256 => "RS256",
            Alg::RS384 => "RS384",
            Alg::ES256 => "ES256",
            Alg::ES384 => "ES384",
        }
    }

    /// The algorithm of that name, if there is one here.
    pub fn from_name(name: &str) -> Option<Self> {
        Alg::THEIRS.into_iter().find(|alg| alg.as_str() == name)
    }

    /// The kind of key it needs.
    fn family(self) -> Family {
        match self {
            Alg::RS256 | Alg::RS384 => Family::Rsa,
            Alg::ES256 => Family::P256,
            Alg::ES384 => Family::P384,
        }
    }

    fn verifying(self) -> Algorithm {
        match self {
            Alg::RS256 => Algorithm::RS256,
            Alg::RS384 => Algorithm::RS384,
            Alg::ES256 => Algorithm::ES256,
            Alg::ES384 => Algorithm::ES384,
        }
    }
}

/// The left half of the hash that goes with `alg`: `at_hash` (OpenID Connect Core 3.1.3.6).
pub fn half_hash(alg: Alg, data: &[u8]) -> String {
    let kind = match alg {
        Alg::RS256 | Alg::ES256 => &digest::SHA256,
        Alg::RS384 | Alg::ES384 => &digest::SHA384,
    };
    let hash = digest::digest(kind, data);
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2])
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
}

impl Family {
    /// The curve, by JWK's name, its coordinate's length in bytes, and as the library signs with it.
    fn curve(self) -> Option<(&'static str, usize, &'static EcdsaSigningAlgorithm)> {
        match self {
            Family::Rsa => None,
            Family::P256 => Some(("P-256", 32, &ECDSA_P256_SHA256_FIXED_SIGNING)),
            Family::P384 => Some(("P-384", 48, &ECDSA_P384_SHA384_FIXED_SIGNING)),
        }
    }
}

/// The members of a JWK that RFC 7638 hashes, in its order, so that the thumbprint is the hash of this text.
fn bare(family: Family, text: impl Fn(&str) -> String) -> Value {
    match family.curve() {
        None => json!({"e": text("e"), "kty": "RSA", "n": text("n")}),
        Some((name, _, _)) => json!({"crv": name, "kty": "EC", "x": text("x"), "y": text("y")}),
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// A key this server signs with, parsed once.
pub struct SigningKey {
    /// The `kid` in JWKS and headers: the key's RFC 7638 thumbprint.
    pub kid: String,
    /// What it signs with.
    pub alg: Alg,
    pair: Pair,
    jwk: Value,
}

impl SigningKey {
    /// Makes a new key: at once for an elliptic curve, up to half a second for RSA (2048 bits).
    /// Answers with the private half (PKCS#8), for sealing.
    pub fn generate(alg: Alg) -> Result<(Self, Vec<u8>), CryptoError> {
        let failed = |_| CryptoError("no key could be made");
        let private = match alg.family().curve() {
            None => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                pair.as_der().map_err(failed)?.as_ref().to_vec()
            }
            Some((_, _, signing)) => {
                let pair = EcdsaKeyPair::generate(signing).map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
        };
        Ok((SigningKey::from_pkcs8(alg, &private)?, private))
    }

    /// Parses the private half that [`SigningKey::generate`] answered with.
    pub fn from_pkcs8(alg: Alg, private: &[u8]) -> Result<Self, CryptoError> {
        let unusable = |_| CryptoError("the signing key is not a usable PKCS#8 key");
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (pair, public) = match alg.family().curve() {
            None => {
                let pair = RsaKeyPair::from_pkcs8(private).map_err(unusable)?;
                let key = pair.public_key();
                let e = b64(key.exponent().big_endian_without_leading_zero());
                let n = b64(key.modulus().big_endian_without_leading_zero());
                let public = bare(alg.family(), |name| if name == "e" { e.clone() } else { n.clone() });
                (Pair::Rsa(pair), public)
            }
            Some((_, _, signing)) => {
                let pair = EcdsaKeyPair::from_pkcs8(signing, private).map_err(unusable)?;
                // An uncompressed point: 0x04, x, y.
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                let public = bare(alg.family(), |name| if name == "x" { b64(x) } else { b64(y) });
                (Pair::Ec(pair), public)
            }
        };
        let kid = sha256_base64url(public.to_string().as_bytes());
        let mut jwk = public;
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(alg.as_str());
        Ok(SigningKey { kid, alg, pair, jwk })
    }

    /// The public half as a JWK (RFC 7517).
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// Signs claims as a compact JWS (RFC 7515) with `typ` in its header.
    pub fn sign(&self, typ: &str, claims: &Value) -> Result<String, CryptoError> {
        self.sign_with(&json!({"alg": self.alg.as_str(), "kid": self.kid, "typ": typ}), claims)
    }

    /// Signs claims under a header of the caller's own making.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> Result<String, CryptoError> {
        let written = |part| serde_json::to_vec(part).map_err(|_| CryptoError("claims that are not JSON"));
        let mut text = URL_SAFE_NO_PAD.encode(written(header)?);
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(written(claims)?));
        let failed = |_| CryptoError("signing failed");
        let rng = SigningRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let padding = if self.alg == Alg::RS384 { &RSA_PKCS1_SHA384 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &rng, text.as_bytes(), &mut signature).map_err(failed)?;
                signature
            }
            Pair::Ec(pair) => pair.sign(&rng, text.as_bytes()).map_err(failed)?.as_ref().to_vec(),
        };
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(text)
    }
}

/// Members of a JWK that only its owner may have (RFC 7518 6), `k` being a shared secret.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The shortest and longest RSA key that is trusted, bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The public half of somebody else's key, and ours as others see it.
#[derive(Clone)]
pub struct PublicKey {
    /// Its name within a set.
    pub kid: Option<String>,
    /// Its RFC 7638 thumbprint (SHA-256): the same for the same key, whatever it is called.
    pub thumbprint: String,
    family: Family,
    /// What it says it is for.
    alg: Option<Alg>,
    key: DecodingKey,
}

impl PublicKey {
    /// Reads a JWK (RFC 7517): an RSA key of 2048 bits or more, or one on P-256 or P-384.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence about the key.
    pub fn from_jwk(jwk: &Value) -> Result<PublicKey, &'static str> {
        let jwk = jwk.as_object().ok_or("is not a JSON object")?;
        if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
            return Err(
                "holds its private half; send the public members only, and make a new key, since this \
                        one has been shown",
            );
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).unwrap_or_default();
        let bytes =
            |name| URL_SAFE_NO_PAD.decode(text(name)).map_err(|_| "has a member that is not base64url");
        let family = match (text("kty"), text("crv")) {
            ("RSA", _) => Family::Rsa,
            ("EC", "P-256") => Family::P256,
            ("EC", "P-384") => Family::P384,
            ("EC", _) => return Err("is on another curve than P-256 and P-384"),
            ("oct", _) => return Err("is a shared secret (`oct`), which proves nothing about its holder"),
            _ => return Err("has another `kty` than `RSA` and `EC`"),
        };
        let key = match family.curve() {
            None => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                let bits = 8 * n.len() - n.first().map_or(0, |b| b.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return Err("is an RSA key of another length than 2048 to 8192 bits");
                }
                if e.is_empty() || e.len() > 8 || e.last().is_some_and(|b| b % 2 == 0) || e == [1] {
                    return Err("has an RSA exponent that cannot be used");
                }
                DecodingKey::from_rsa_raw_components(&n, &e)
            }
            Some((_, length, _)) => {
                if bytes("x")?.len() != length || bytes("y")?.len() != length {
                    return Err("has coordinates of the wrong length for its curve");
                }
                DecodingKey::from_ec_components(text("x"), text("y")).map_err(|_| "cannot be read")?
            }
        };
        if jwk.get("use").is_some_and(|u| u != "sig") {
            return Err("is not for signatures (`use` is not `sig`)");
        }
        let alg = match jwk.get("alg") {
            None | Some(Value::Null) => None,
            Some(name) => Some(
                name.as_str()
                    .and_then(Alg::from_name)
                    .filter(|alg| alg.family() == family)
                    .ok_or("has an `alg` that this key cannot sign with, or that is not supported here")?,
            ),
        };
        let kid = match jwk.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err("has a `kid` that is not a text"),
        };
        let thumbprint = sha256_base64url(bare(family, |name| text(name).to_owned()).to_string().as_bytes());
        Ok(PublicKey { kid, thumbprint, family, alg, key })
    }

    /// Whether it can have signed with this algorithm.
    pub fn fits(&self, alg: Alg) -> bool {
        self.family == alg.family() && self.alg.is_none_or(|own| own == alg)
    }
}

/// More than this is no signed text that anybody needs here, bytes.
const LONGEST_JWS: usize = 16 * 1024;

/// A compact JWS (RFC 7515) as it came: nothing of it is believed before [`Jws::is_signed_by`].
pub struct Jws<'a> {
    /// The protected header.
    pub header: Map<String, Value>,
    /// The payload.
    pub claims: Map<String, Value>,
    /// What it says it is signed with.
    pub alg: Alg,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Jws<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence; `none` and every shared-secret algorithm are.
    pub fn parse(text: &'a str) -> Result<Jws<'a>, &'static str> {
        if text.len() > LONGEST_JWS {
            return Err("is longer than 16 KB");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("is not a signed JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("is not a signed JWT")?;
        if claims.contains('.') {
            return Err("is not a signed JWT: it must have three parts");
        }
        let header = object(header).ok_or("has a header that is not base64url of a JSON object")?;
        let claims = object(claims).ok_or("has claims that are not base64url of a JSON object")?;
        if header.contains_key("crit") {
            return Err("has a `crit` header, which asks for an extension that this server does not know");
        }
        let alg = header.get("alg").and_then(Value::as_str).and_then(Alg::from_name);
        let alg = alg.ok_or("is signed with another algorithm than RS384, ES384, RS256 and ES256")?;
        Ok(Jws { header, claims, alg, signed, signature })
    }

    /// A member of the header that is a text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// A claim that is a time, whole seconds since 1970; fractions are cut off.
    pub fn seconds(&self, name: &str) -> Option<i64> {
        let value = self.claims.get(name)?;
        value.as_i64().or_else(|| {
            let seconds = value.as_f64()?.floor();
            // Beyond that, a float holds no whole seconds, and no clock shows them.
            (seconds.abs() < 1e15).then_some(seconds as i64)
        })
    }

    /// Whether this key made the signature.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.fits(self.alg)
            && jsonwebtoken::crypto::verify(
                self.signature,
                self.signed.as_bytes(),
                &key.key,
                self.alg.verifying(),
            )
            .unwrap_or(false)
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_private_form_with_the_same_kid() {
        for alg in Alg::THEIRS {
            let (key, private) = SigningKey::generate(alg).unwrap();
            let again = SigningKey::from_pkcs8(alg, &private).unwrap();
            assert_eq!(key.kid, again.kid);
            let public = PublicKey::from_jwk(key.jwk()).unwrap();
            assert_eq!((public.kid.as_ref(), &public.thumbprint), (Some(&key.kid), &key.kid));
        }
    }

    #[test]
    fn a_signature_holds_for_its_own_text_key_and_algorithm_alone() {
        let keys: Vec<SigningKey> =
            Alg::THEIRS.into_iter().map(|alg| SigningKey::generate(alg).unwrap().0).collect();
        for key in &keys {
            let text = key.sign("JWT", &json!({"a": 1})).unwrap();
            let jws = Jws::parse(&text).unwrap();
            for other in &keys {
                let public = PublicKey::from_jwk(other.jwk()).unwrap();
                assert_eq!(jws.is_signed_by(&public), other.kid == key.kid, "{:?} {:?}", key.alg, other.alg);
            }
            let other_text = key.sign("JWT", &json!({"a": 2})).unwrap();
            let (signed, _) = text.rsplit_once('.').unwrap();
            let (_, signature) = other_text.rsplit_once('.').unwrap();
            let mixed = format!("{signed}.{signature}");
            let public = PublicKey::from_jwk(key.jwk()).unwrap();
            assert!(!Jws::parse(&mixed).unwrap().is_signed_by(&public));
        }
    }

    #[test]
    fn an_rsa_key_without_alg_signs_with_both_hashes_and_one_with_alg_only_with_that() {
        let (key, _) = SigningKey::generate(Alg::RS384).unwrap();
        let mut jwk = key.jwk().clone();
        assert!(!PublicKey::from_jwk(&jwk).unwrap().fits(Alg::RS256));
        jwk.as_object_mut().unwrap().remove("alg");
        let public = PublicKey::from_jwk(&jwk).unwrap();
        assert!(public.fits(Alg::RS256) && public.fits(Alg::RS384) && !public.fits(Alg::ES384));
    }

    #[test]
    fn what_is_no_signature_by_a_private_key_is_not_even_parsed() {
        let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = |alg: &str| format!("{}.{}.c2ln", b64(&format!(r#"{{"alg":"{alg}"}}"#)), b64("{}"));
        assert!(Jws::parse(&header("ES384")).is_ok());
        for alg in ["none", "None", "HS256", "PS256", "EdDSA", "es384", ""] {
            assert!(Jws::parse(&header(alg)).is_err(), "{alg}");
        }
        let crit = format!("{}.{}.c2ln", b64(r#"{"alg":"ES384","crit":["exp"]}"#), b64("{}"));
        for text in ["", ".", "..", "a.b.c", "a.b.c.d", &crit, &header("ES384").replacen('.', "..", 1)] {
            assert!(Jws::parse(text).is_err(), "{text}");
        }
        assert!(Jws::parse(&"a".repeat(LONGEST_JWS + 1)).is_err());
    }

    #[test]
    fn a_key_that_is_private_weak_or_for_something_else_is_refused() {
        let (key, _) = SigningKey::generate(Alg::ES256).unwrap();
        let with = |name: &str, value: Value| {
            let mut jwk = key.jwk().clone();
            jwk[name] = value;
            PublicKey::from_jwk(&jwk)
        };
        assert!(with("kid", json!("a")).is_ok());
        for (name, value) in [
            ("d", json!("AQ")),
            ("k", json!("AQ")),
            ("kty", json!("oct")),
            ("kty", json!("OKP")),
            ("crv", json!("P-384")),
            ("crv", json!("secp256k1")),
            ("x", json!("AQ")),
            ("y", json!(5)),
            ("use", json!("enc")),
            ("alg", json!("ES384")),
            ("alg", json!("HS256")),
            ("kid", json!(1)),
        ] {
            assert!(with(name, value.clone()).is_err(), "{name} {value}");
        }
        let short = json!({"kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 128])});
        assert!(PublicKey::from_jwk(&short).is_err());
        assert!(PublicKey::from_jwk(&json!([])).is_err());
    }
}
