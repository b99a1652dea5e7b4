//! The requests that are measured, as both servers take them.

use hearthgate::clock::{Chance, Clock, MINUTE, SECOND};
use hearthgate::jose::{Alg, SigningKey};
use serde_json::json;

use super::http::post;
use super::{Failure, VERIFIER};

const REDIRECT: &str = "https://app.example/callback";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The key that apps prove themselves by, and assertions made with it; all of this is outside what is counted.
pub struct Assertions(SigningKey);

impl Assertions {
    pub fn new() -> Result<Assertions, Failure> {
        Ok(Assertions(SigningKey::generate(Alg::ES384)?.0))
    }

    /// The public half, as text.
    pub fn jwk(&self) -> String {
        self.0.jwk().to_string()
    }

    /// A fresh assertion, good for four minutes.
    fn assertion(&self, client: &str, issuer: &str) -> Result<String, Failure> {
        let expires = (Clock::System.now() + 4 * MINUTE) / SECOND;
        let jti = Chance::system().id();
        let claims = json!({"iss": client, "sub": client, "aud": issuer, "exp": expires, "jti": jti});
        Ok(self.0.sign("JWT", &claims)?)
    }

    /// Requests of a backend service for tokens of its own.
    pub fn services(
        &self,
        path: &str,
        client: &str,
        issuer: &str,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let one = |_| {
            let assertion = self.assertion(client, issuer)?;
            let form = [
                ("grant_type", "client_credentials"),
                ("scope", "system/*.rs"),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", &assertion),
            ];
            Ok(post(path, &form))
        };
        (0..count).map(one).collect()
    }
}

/// A token request for each code, by an app that names itself or proves itself to an issuer.
pub fn redemptions(
    path: &str,
    client: &str,
    codes: &[String],
    proof: Option<(&Assertions, &String)>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let one = |code: &String| {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
            ("client_id", client),
        ];
        let assertion = proof.map(|(keys, issuer)| keys.assertion(client, issuer)).transpose()?;
        if let Some(assertion) = &assertion {
            form.extend([("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)]);
        }
        Ok(post(path, &form))
    };
    codes.iter().map(one).collect()
}

/// How a public app refreshes.
pub fn refreshing(path: &'static str, client: &str) -> impl Fn(&str) -> Vec<u8> + Clone + use<> {
    let client = client.to_owned();
    move |token| {
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client.as_str())];
        post(path, &form)
    }
}

/// A confidential app asks about a token.
pub fn introspection(path: &str, token: &str, client: &str, secret: &str) -> Vec<u8> {
    post(path, &[("token", token), ("client_id", client), ("client_secret", secret)])
}
