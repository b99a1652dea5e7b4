//! Apps that sign: keys of their own, and assertions, right and wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use hearthgate::clock::SECOND;
use hearthgate::jose::{Alg, SigningKey};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, TestApp, TestClient};

/// The one `client_assertion_type`.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A new key of that algorithm; RSA keys take their time.
pub fn new_key(alg: Alg) -> SigningKey {
    SigningKey::generate(alg).expect("a key").0
}

/// The JWK Set of these keys.
pub fn set_of(keys: &[&SigningKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk().clone()).collect::<Vec<_>>()})
}

/// A `jti` that no other test uses.
pub fn new_jti() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("jti-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A registered app with its key.
pub struct Signer<'a> {
    pub server: &'a TestApp,
    pub app: TestClient,
    pub key: SigningKey,
}

impl<'a> Signer<'a> {
    /// A backend service that may read everything; its ES384 key is registered by value.
    pub async fn service(server: &'a TestApp) -> Signer<'a> {
        Signer::with(server, new_key(Alg::ES384), json!({})).await
    }

    /// One whose keys are at an address.
    pub async fn service_at(server: &'a TestApp, key: SigningKey, url: &str) -> Signer<'a> {
        Signer::with(server, key, json!({"jwks": null, "jwks_uri": url})).await
    }

    /// A backend service with this key by value; `extra` is laid over what it registers.
    pub async fn with(server: &'a TestApp, key: SigningKey, extra: Value) -> Signer<'a> {
        let mut metadata = json!({
            "token_endpoint_auth_method": "private_key_jwt",
            "grant_types": ["client_credentials"],
            "redirect_uris": [],
            "scope": "system/*.rs",
            "jwks": set_of(&[&key]),
        });
        metadata.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        Signer { server, app: server.register(metadata).await, key }
    }

    /// Any app that signs, launched by people too.
    pub async fn launched(server: &'a TestApp) -> Signer<'a> {
        let extra = json!({
            "grant_types": ["authorization_code", "refresh_token"],
            "redirect_uris": [crate::kit::CALLBACK],
            "scope": null,
        });
        Signer::with(server, new_key(Alg::ES384), extra).await
    }

    /// What its assertions are headed by.
    pub fn header(&self) -> Value {
        json!({"alg": self.key.alg.as_str(), "kid": self.key.kid, "typ": "JWT"})
    }

    /// What its assertions say: a new `jti`, good for a minute.
    pub fn claims(&self) -> Value {
        json!({
            "iss": self.app.id,
            "sub": self.app.id,
            "aud": format!("{}/oauth/token", self.server.url),
            "exp": self.server.app.now() / SECOND + 60,
            "jti": new_jti(),
        })
    }

    /// A good assertion.
    pub fn assertion(&self) -> String {
        self.altered(|_, _| {})
    }

    /// An assertion whose claims and header are changed before it is signed.
    pub fn altered(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut claims, mut header) = (self.claims(), self.header());
        change(&mut claims, &mut header);
        self.key.sign_with(&header, &claims).expect("a signature")
    }

    /// One whose `name` claim is this; none leaves it out.
    pub fn saying(&self, name: &str, value: Option<Value>) -> String {
        self.altered(|claims, _| match value {
            Some(value) => claims[name] = value,
            None => drop(claims.as_object_mut().expect("claims").remove(name)),
        })
    }

    /// One whose `name` in the header is this; none leaves it out.
    pub fn headed(&self, name: &str, value: Option<Value>) -> String {
        self.altered(|_, header| match value {
            Some(value) => header[name] = value,
            None => drop(header.as_object_mut().expect("a header").remove(name)),
        })
    }

    /// A form with that assertion, not yet sent.
    pub fn request(&self, path: &str, assertion: &str, form: &[(&str, &str)]) -> RequestBuilder {
        let mut all = vec![("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
        all.extend(form);
        self.server.request(Method::POST, path).form(&all)
    }

    /// Posts a form with a new, good assertion.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        Answer::to(self.request(path, &self.assertion(), form)).await
    }

    /// Asks for a service's token with that assertion, not yet sent.
    pub fn asking(&self, assertion: &str) -> RequestBuilder {
        self.request(
            "/oauth/token",
            assertion,
            &[("grant_type", "client_credentials"), ("scope", "system/*.rs")],
        )
    }

    /// The answer to that.
    pub async fn ask(&self, assertion: &str) -> Answer {
        Answer::to(self.asking(assertion)).await
    }

    /// A service's token answer for `scope`.
    pub async fn try_token(&self, scope: &str) -> Answer {
        self.post("/oauth/token", &[("grant_type", "client_credentials"), ("scope", scope)]).await
    }

    /// A service's token.
    pub async fn token(&self, scope: &str) -> String {
        let answer = self.try_token(scope).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        crate::kit::access(&answer.json()).to_owned()
    }
}
