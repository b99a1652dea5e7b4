//! Tokens that are bound to a key (DPoP, RFC 9449): issued, used, refreshed, told of, and refused.

use std::sync::atomic::{AtomicU64, Ordering};

use hearthgate::clock::{MINUTE, SECOND};
use hearthgate::crypto::sha256_base64url;
use hearthgate::jose::{Alg, SigningKey};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, CALLBACK, TestApp, TestClient, VERIFIER, access};

mod calls;

const SCOPE: &str = "openid fhirUser launch/patient patient/*.rs offline_access";

/// An app's key, and the proofs it makes.
struct Key(SigningKey);

impl Key {
    fn new() -> Key {
        Key(SigningKey::generate(Alg::ES256).unwrap().0)
    }

    fn jkt(&self) -> &str {
        &self.0.kid
    }

    /// A proof with another `jti` each time; `changes` is laid over its claims.
    fn proof(&self, server: &TestApp, method: &str, path: &str, changes: Value) -> String {
        static JTI: AtomicU64 = AtomicU64::new(1);
        let mut claims = json!({
            "jti": JTI.fetch_add(1, Ordering::SeqCst).to_string(),
            "htm": method,
            "htu": format!("{}{path}", server.url),
            "iat": server.app.now() / SECOND,
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let header = json!({"typ": "dpop+jwt", "alg": self.0.alg.as_str(), "jwk": self.0.jwk()});
        self.0.sign_with(&header, &claims).unwrap()
    }

    fn for_token_endpoint(&self, server: &TestApp) -> String {
        self.proof(server, "POST", "/oauth/token", json!({}))
    }

    /// A call with a token and its proof.
    fn call(&self, server: &TestApp, method: Method, path: &str, token: &str) -> RequestBuilder {
        let ath = sha256_base64url(token.as_bytes());
        let proof = self.proof(server, method.as_str(), path, json!({"ath": ath}));
        with_proof(server, method, path, token, &proof)
    }

    async fn read(&self, server: &TestApp, token: &Value) -> Answer {
        Answer::to(self.call(server, Method::GET, "/fhir/Patient/patient-maria", access(token))).await
    }
}

fn with_proof(server: &TestApp, method: Method, path: &str, token: &str, proof: &str) -> RequestBuilder {
    server.request(method, path).header("authorization", format!("DPoP {token}")).header("dpop", proof)
}

/// A server with an app that may refresh: public, or with a secret.
async fn start(metadata: Value) -> (TestApp, TestClient) {
    let server = TestApp::start().await;
    let mut all = json!({"grant_types": ["authorization_code", "refresh_token"]});
    all.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    let client = server.register(all).await;
    (server, client)
}

/// A form to the token endpoint, with as many proofs as given.
async fn post(server: &TestApp, client: &TestClient, form: &[(&str, &str)], proofs: &[&str]) -> Answer {
    let mut form = form.to_vec();
    form.push(("client_id", &client.id));
    let request = server.request(Method::POST, "/oauth/token").form(&form);
    let request = proofs.iter().fold(request, |request, proof| request.header("dpop", *proof));
    Answer::to(match &client.secret {
        None => request,
        Some(secret) => request.basic_auth(&client.id, Some(secret)),
    })
    .await
}

async fn exchange(server: &TestApp, client: &TestClient, code: &str, proofs: &[&str]) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    post(server, client, &form, proofs).await
}

async fn refresh(server: &TestApp, client: &TestClient, token: &Value, proofs: &[&str]) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token["refresh_token"].as_str().unwrap())];
    post(server, client, &form, proofs).await
}

async fn bound_token(server: &TestApp, client: &TestClient, key: &Key) -> Value {
    let code = server.launch(client).scope(SCOPE).code().await;
    let answer = exchange(server, client, &code, &[&key.for_token_endpoint(server)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

fn assert_refused(answer: &Answer, error: &str, words: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{words}: {}", answer.text);
    assert_eq!(answer.error(), error, "{words}: {}", answer.text);
    assert!(answer.text.contains(words), "{words}: {}", answer.text);
}

/// A refusal where a token is used: 401, with a challenge that says which scheme and which error.
fn assert_unauthorized(answer: &Answer, challenge: &str, words: &str) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{words}: {}", answer.text);
    let sent = answer.header("www-authenticate");
    assert!(sent.starts_with(challenge) && sent.contains(words), "{challenge} {words}: {sent}");
    assert_eq!(sent.contains("algs=\"RS384 ES384 RS256 ES256\""), challenge.starts_with("DPoP"), "{sent}");
}

const DPOP: &str = "DPoP realm=\"hearthgate\", error=\"invalid_dpop_proof\"";

#[tokio::test]
async fn a_token_asked_for_with_a_proof_works_with_proofs_of_that_key() {
    let (server, client) = start(json!({})).await;
    let key = Key::new();
    let token = bound_token(&server, &client, &key).await;
    assert_eq!(token["token_type"], "DPoP");
    let read = key.read(&server, &token).await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.text);
    let get = |path: &'static str| Answer::to(key.call(&server, Method::GET, path, access(&token)));
    assert_eq!(get("/fhir/Observation").await.status, StatusCode::OK);
    assert_eq!(
        get("/oauth/userinfo").await.json()["fhirUser"],
        format!("{}/Patient/patient-maria", server.fhir_base())
    );
    let by_post = key.call(&server, Method::POST, "/fhir/Observation/_search", access(&token));
    assert_eq!(Answer::to(by_post.form(&[("category", "laboratory")])).await.status, StatusCode::OK);
    let ath = json!({"ath": sha256_base64url(access(&token).as_bytes())});
    let proof = key.proof(&server, "GET", "/fhir/Observation", ath);
    let searched =
        with_proof(&server, Method::GET, "/fhir/Observation?category=laboratory", access(&token), &proof);
    assert_eq!(Answer::to(searched).await.status, StatusCode::OK, "a query is no part of `htu`");
}

#[tokio::test]
async fn without_a_proof_everything_is_as_it_was() {
    let (server, client) = start(json!({})).await;
    let token = server.launch(&client).scope(SCOPE).token().await;
    assert_eq!(token["token_type"], "Bearer");
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::OK);
    let key = Key::new();
    let as_dpop = key.read(&server, &token).await;
    assert_unauthorized(
        &as_dpop,
        "Bearer realm=\"hearthgate\", error=\"invalid_token\"",
        "is not bound to a key",
    );
}

#[tokio::test]
async fn a_proof_is_good_once_at_the_token_endpoint_even_at_once_and_after_a_restart() {
    let (server, client) = start(json!({})).await;
    let key = Key::new();
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(server.launch(&client).scope(SCOPE).code().await);
    }
    let proof = key.for_token_endpoint(&server);
    let answers = {
        let form = |code: &str| {
            [
                ("grant_type", "authorization_code".to_owned()),
                ("code", code.to_owned()),
                ("redirect_uri", CALLBACK.to_owned()),
                ("code_verifier", VERIFIER.to_owned()),
                ("client_id", client.id.clone()),
            ]
        };
        let mut calls = tokio::task::JoinSet::new();
        for code in &codes {
            let request = server.request(Method::POST, "/oauth/token").form(&form(code));
            calls.spawn(Answer::to(request.header("dpop", &proof)));
        }
        calls.join_all().await
    };
    assert_eq!(answers.iter().filter(|a| a.status == StatusCode::OK).count(), 1);
    for answer in answers.iter().filter(|a| a.status != StatusCode::OK) {
        assert_refused(answer, "invalid_dpop_proof", "was used before");
    }
    // None of the other codes was burnt, and the next process knows proofs of the one before.
    let second = TestApp::start_on(server.app.store.clone()).await;
    let at = |server: &TestApp| json!({"htu": format!("{}/oauth/token", server.url)});
    let mut left = Vec::new();
    for code in &codes {
        let proof = key.proof(&second, "POST", "/oauth/token", at(&second));
        left.push(exchange(&second, &client, code, &[&proof]).await);
    }
    assert_eq!(left.iter().filter(|a| a.status == StatusCode::OK).count(), 7);
    let token = left.iter().find(|a| a.status == StatusCode::OK).unwrap().json();
    let same_jti = |server: &TestApp| {
        let url = format!("{}/oauth/token", server.url);
        key.proof(server, "POST", "/oauth/token", json!({"jti": "the same", "htu": url}))
    };
    assert_eq!(refresh(&second, &client, &token, &[&same_jti(&second)]).await.status, StatusCode::OK);
    let third = TestApp::start_on(server.app.store.clone()).await;
    let again = refresh(&third, &client, &token, &[&same_jti(&third)]).await;
    assert_refused(&again, "invalid_dpop_proof", "was used before");
}

#[tokio::test]
async fn a_whole_request_that_comes_again_is_a_stolen_code_and_ends_the_grant() {
    let (server, client) = start(json!({})).await;
    let key = Key::new();
    let code = server.launch(&client).scope(SCOPE).code().await;
    let proof = key.for_token_endpoint(&server);
    let token = exchange(&server, &client, &code, &[&proof]).await.json();
    assert_eq!(key.read(&server, &token).await.status, StatusCode::OK);
    let again = exchange(&server, &client, &code, &[&proof]).await;
    assert_refused(&again, "invalid_grant", "already used");
    assert_eq!(key.read(&server, &token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_bad_proof_gets_no_token_and_burns_no_code() {
    let (server, client) = start(json!({})).await;
    let (key, other) = (Key::new(), Key::new());
    let code = server.launch(&client).scope(SCOPE).code().await;
    let good = key.for_token_endpoint(&server);
    let mut private = key.0.jwk().clone();
    private["d"] = json!("AQ");
    let claims = json!({"jti": "a", "htm": "POST", "htu": format!("{}/oauth/token", server.url), "iat": server.app.now() / SECOND});
    let with = |header: Value| key.0.sign_with(&header, &claims).unwrap();
    let own = key.0.jwk();
    for (proof, words) in [
        (with(json!({"typ": "dpop+jwt", "alg": "none", "jwk": own})), "another algorithm"),
        (with(json!({"typ": "dpop+jwt", "alg": "HS256", "jwk": own})), "another algorithm"),
        (with(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": private})), "private half"),
        (with(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": {"kty": "oct"}})), "shared secret"),
        (with(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": other.0.jwk()})), "not signed by the key"),
        (with(json!({"typ": "dpop+jwt", "alg": "ES256"})), "public key as `jwk`"),
        (with(json!({"typ": "jwt", "alg": "ES256", "jwk": own})), "dpop+jwt"),
        (key.proof(&server, "GET", "/oauth/token", json!({})), "not for this method"),
        (key.proof(&server, "POST", "/oauth/introspect", json!({})), "not for this address"),
        (key.proof(&server, "POST", "/oauth/token", json!({"iat": 0})), "older than"),
        (key.proof(&server, "POST", "/oauth/token", json!({"jti": "x".repeat(257)})), "`jti`"),
        (format!("{good}, {good}"), "not"),
        (String::new(), "not a signed JWT"),
    ] {
        assert_refused(&exchange(&server, &client, &code, &[&proof]).await, "invalid_dpop_proof", words);
    }
    let two = [good.as_str(), &key.for_token_endpoint(&server)];
    assert_refused(&exchange(&server, &client, &code, &two).await, "invalid_dpop_proof", "not several");
    assert_eq!(exchange(&server, &client, &code, &[&good]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_public_apps_refresh_token_is_bound_to_its_key_for_good() {
    let (server, client) = start(json!({})).await;
    let (key, other) = (Key::new(), Key::new());
    let first = bound_token(&server, &client, &key).await;
    assert_refused(&refresh(&server, &client, &first, &[]).await, "invalid_dpop_proof", "bound to a key");
    let stolen = [other.for_token_endpoint(&server)];
    assert_refused(&refresh(&server, &client, &first, &[&stolen[0]]).await, "invalid_grant", "another key");
    let nameless =
        [("grant_type", "refresh_token"), ("refresh_token", first["refresh_token"].as_str().unwrap())];
    assert_eq!(server.post_token(&nameless).await.error(), "invalid_dpop_proof");

    let second = refresh(&server, &client, &first, &[&key.for_token_endpoint(&server)]).await.json();
    assert_eq!(second["token_type"], "DPoP");
    assert_eq!(key.read(&server, &second).await.status, StatusCode::OK);
    assert_eq!(other.read(&server, &second).await.status, StatusCode::UNAUTHORIZED);
    // Within the grace time the same token answers its own app again, and nobody else.
    let thief = refresh(&server, &client, &first, &[&other.for_token_endpoint(&server)]).await;
    assert_refused(&thief, "invalid_grant", "another key");
    let again = refresh(&server, &client, &first, &[&key.for_token_endpoint(&server)]).await.json();
    assert_eq!(again["refresh_token"], second["refresh_token"]);
    server.advance(MINUTE);
    let thief = refresh(&server, &client, &second, &[&other.for_token_endpoint(&server)]).await;
    assert_refused(&thief, "invalid_grant", "another key");
    assert_refused(&refresh(&server, &client, &second, &[]).await, "invalid_dpop_proof", "bound to a key");
    let third = refresh(&server, &client, &second, &[&key.for_token_endpoint(&server)]).await;
    assert_eq!(third.status, StatusCode::OK, "{}", third.text);
}

#[tokio::test]
async fn a_refresh_token_becomes_bound_when_a_public_app_begins_to_prove() {
    let (server, client) = start(json!({})).await;
    let (key, other) = (Key::new(), Key::new());
    let plain = server.launch(&client).scope(SCOPE).token().await;
    let bound = refresh(&server, &client, &plain, &[&key.for_token_endpoint(&server)]).await.json();
    assert_eq!(bound["token_type"], "DPoP");
    // In the grace time, by somebody without the key: the successor is bound already.
    assert_refused(&refresh(&server, &client, &plain, &[]).await, "invalid_dpop_proof", "bound to a key");
    let thief = refresh(&server, &client, &bound, &[&other.for_token_endpoint(&server)]).await;
    assert_refused(&thief, "invalid_grant", "another key");
}

#[tokio::test]
async fn a_confidential_apps_refresh_token_is_bound_to_the_app_and_any_key_of_it() {
    let (server, client) = start(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let (key, other) = (Key::new(), Key::new());
    let first = bound_token(&server, &client, &key).await;
    let second = refresh(&server, &client, &first, &[&other.for_token_endpoint(&server)]).await.json();
    assert_eq!(other.read(&server, &second).await.status, StatusCode::OK);
    assert_eq!(key.read(&server, &second).await.status, StatusCode::UNAUTHORIZED);
    let third = refresh(&server, &client, &second, &[]).await.json();
    assert_eq!(third["token_type"], "Bearer", "only where the app asks for it");
}

#[tokio::test]
async fn an_app_registered_for_bound_tokens_gets_no_others() {
    let (server, client) = start(json!({"dpop_bound_access_tokens": true})).await;
    let key = Key::new();
    let code = server.launch(&client).scope(SCOPE).code().await;
    let words = "dpop_bound_access_tokens";
    assert_refused(&exchange(&server, &client, &code, &[]).await, "invalid_dpop_proof", words);
    let token = exchange(&server, &client, &code, &[&key.for_token_endpoint(&server)]).await.json();
    assert_eq!(token["token_type"], "DPoP");
    assert_refused(&refresh(&server, &client, &token, &[]).await, "invalid_dpop_proof", words);
}

#[tokio::test]
async fn a_code_bound_to_a_key_is_exchanged_with_that_key_alone() {
    let (server, client) = start(json!({})).await;
    let (key, other) = (Key::new(), Key::new());
    let launch = server.launch(&client).scope(SCOPE).with("dpop_jkt", key.jkt());
    for launch in [launch.clone(), launch.pushed().await] {
        let code = launch.code().await;
        assert_refused(&exchange(&server, &client, &code, &[]).await, "invalid_dpop_proof", "bound to a key");
        let thief = exchange(&server, &client, &code, &[&other.for_token_endpoint(&server)]).await;
        assert_refused(&thief, "invalid_grant", "another key");
        let own = exchange(&server, &client, &code, &[&key.for_token_endpoint(&server)]).await;
        assert_eq!(own.status, StatusCode::OK, "{}", own.text);
    }
    for jkt in ["short", &format!("{}=", key.jkt()), &"+".repeat(43)] {
        let answer = server.launch(&client).with("dpop_jkt", jkt).answer().await.redirect_params();
        assert_eq!(answer["error"], "invalid_request", "{jkt}");
        assert!(answer["error_description"].contains("`dpop_jkt`"));
    }
}

#[tokio::test]
async fn a_proof_that_comes_with_a_pushed_request_binds_its_code() {
    let (server, client) = start(json!({})).await;
    let (key, other) = (Key::new(), Key::new());
    let launch = server.launch(&client).scope(SCOPE);
    let push = async |params: &[(String, String)], proof: &str| {
        let request = server.request(Method::POST, "/oauth/par").form(params);
        Answer::to(request.header("dpop", proof)).await
    };
    let proof = key.proof(&server, "POST", "/oauth/par", json!({}));
    let pushed = push(launch.params(), &proof).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text);
    assert_refused(&push(launch.params(), &proof).await, "invalid_dpop_proof", "was used before");
    let elsewhere = key.for_token_endpoint(&server);
    assert_refused(&push(launch.params(), &elsewhere).await, "invalid_dpop_proof", "not for this address");
    let torn = launch.clone().with("dpop_jkt", other.jkt());
    let proof = key.proof(&server, "POST", "/oauth/par", json!({}));
    assert_refused(&push(torn.params(), &proof).await, "invalid_request", "`dpop_jkt`");

    let uri = pushed.json()["request_uri"].as_str().unwrap().to_owned();
    let names: Vec<String> = launch.params().iter().map(|(name, _)| name.clone()).collect();
    let bare = names.iter().filter(|name| *name != "client_id").fold(launch, |l, name| l.without(name));
    let code = bare.with("request_uri", &uri).code().await;
    let thief = exchange(&server, &client, &code, &[&other.for_token_endpoint(&server)]).await;
    assert_refused(&thief, "invalid_grant", "another key");
    let own = exchange(&server, &client, &code, &[&key.for_token_endpoint(&server)]).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text);
}

#[tokio::test]
async fn it_is_discovered_everywhere_and_pages_may_send_it() {
    let (server, _) = start(json!({})).await;
    for path in [
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/fhir/.well-known/smart-configuration",
    ] {
        let algs = &server.get(path).await.json()["dpop_signing_alg_values_supported"];
        assert_eq!(algs, &json!(["RS384", "ES384", "RS256", "ES256"]));
    }
    for path in ["/fhir/Patient/patient-maria", "/oauth/token", "/oauth/par"] {
        let preflight = server
            .request(Method::OPTIONS, path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "dpop");
        let answer = Answer::to(preflight).await;
        assert!(answer.header("access-control-allow-headers").contains("DPoP"), "{path}");
        assert!(answer.header("access-control-expose-headers").contains("WWW-Authenticate"), "{path}");
    }
}

#[tokio::test]
async fn a_backend_services_token_is_bound_too_and_assertion_and_proof_are_each_good_once() {
    let server = TestApp::start().await;
    let (signs, key) = (Key::new(), Key::new());
    let client = server
        .try_register(json!({
            "redirect_uris": [],
            "grant_types": ["client_credentials"],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [signs.0.jwk()]},
            "scope": "system/*.rs",
        }))
        .await
        .json();
    let assertion = |jti: &str| {
        let now = server.app.now() / SECOND;
        let (id, audience) = (&client["client_id"], format!("{}/oauth/token", server.url));
        let claims = json!({"iss": id, "sub": id, "aud": audience, "iat": now, "exp": now + 60, "jti": jti});
        signs.0.sign("JWT", &claims).unwrap()
    };
    let ask = |jti: &str, proof: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", "system/*.rs"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion(jti)),
        ];
        Answer::to(server.request(Method::POST, "/oauth/token").form(&form).header("dpop", proof))
    };
    let proof = key.for_token_endpoint(&server);
    let answer = ask("1", &proof).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let token = answer.json();
    assert_eq!(token["token_type"], "DPoP");
    assert_eq!(key.read(&server, &token).await.status, StatusCode::OK);
    let plain = server.fhir(access(&token), "Patient/patient-maria").await;
    assert_eq!(plain.status, StatusCode::UNAUTHORIZED);
    assert_refused(&ask("2", &proof).await, "invalid_dpop_proof", "was used before");
    let again = ask("1", &key.for_token_endpoint(&server)).await;
    assert_eq!((again.status, again.error().as_str()), (StatusCode::UNAUTHORIZED, "invalid_client"));
}
