//! Attacks on how apps prove who they are at the token endpoint.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use super::hands::*;
use crate::kit::{Answer, TestApp, TestClient};

async fn app(server: &TestApp, method: &str) -> TestClient {
    server.register(json!({"token_endpoint_auth_method": method})).await
}

/// A token request without anything that says who sends it.
fn bare<'a>(client: &'a TestClient, code: &'a str) -> Vec<(&'a str, &'a str)> {
    changed(&code_form(client, code), &[("client_id", None)])
}

fn post(server: &TestApp) -> RequestBuilder {
    server.request(Method::POST, "/oauth/token")
}

#[tokio::test]
async fn a_wrong_or_missing_secret_is_refused() {
    let server = TestApp::start().await;
    let (basic, by_form) =
        (app(&server, "client_secret_basic").await, app(&server, "client_secret_post").await);
    let (secret, other) = (basic.secret.clone().unwrap(), by_form.secret.clone().unwrap());
    let code = server.launch(&basic).code().await;
    let form = bare(&basic, &code);
    let id = basic.id.as_str();
    let header = |text: &str| post(&server).header("authorization", text).form(&form);
    let cases = [
        ("wrong", post(&server).basic_auth(id, Some("wrong")).form(&form)),
        ("empty", post(&server).basic_auth(id, Some("")).form(&form)),
        ("cut short", post(&server).basic_auth(id, Some(&secret[1..])).form(&form)),
        ("another app's", post(&server).basic_auth(id, Some(&other)).form(&form)),
        ("an unknown app", post(&server).basic_auth("nobody", Some(&secret)).form(&form)),
        ("nothing at all", post(&server).form(&form)),
        ("only a name", post(&server).form(&changed(&form, &[("client_id", Some(id))]))),
        (
            "in the form, though registered for the header",
            post(&server).form(&changed(&form, &[("client_id", Some(id)), ("client_secret", Some(&secret))])),
        ),
        ("no base64", header("Basic !!!")),
        ("no scheme", header(&secret)),
        ("a bearer token", header(&format!("Bearer {secret}"))),
        ("an empty header", header("")),
    ];
    for (case, request) in cases {
        assert_oauth(&Answer::to(request).await, 401, "invalid_client", "", case);
    }
    assert_eq!(server.exchange(&basic, &code).await.status, StatusCode::OK, "nothing was half done");

    let code = server.launch(&by_form).code().await;
    let form = changed(&bare(&by_form, &code), &[("client_id", Some(&by_form.id))]);
    for (case, request) in [
        ("wrong", post(&server).form(&changed(&form, &[("client_secret", Some("wrong"))]))),
        ("empty", post(&server).form(&changed(&form, &[("client_secret", Some(""))]))),
        (
            "in the header, though registered for the form",
            post(&server).basic_auth(&by_form.id, Some(&other)).form(&form),
        ),
    ] {
        assert_oauth(&Answer::to(request).await, 401, "invalid_client", "", case);
    }
    let right = changed(&form, &[("client_secret", Some(&other))]);
    assert_eq!(server.post_token(&right).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_secret_in_the_url_proves_nothing() {
    let server = TestApp::start().await;
    for method in ["client_secret_basic", "client_secret_post"] {
        let client = app(&server, method).await;
        let secret = client.secret.clone().unwrap();
        let code = server.launch(&client).code().await;
        let query = format!("/oauth/token?client_id={}&client_secret={secret}", client.id);
        let answer = Answer::to(server.request(Method::POST, &query).form(&bare(&client, &code))).await;
        assert_oauth(&answer, 401, "invalid_client", "URL", method);
    }
}

#[tokio::test]
async fn a_secret_for_an_app_that_has_none_is_refused() {
    let server = TestApp::start().await;
    let public = app(&server, "none").await;
    let code = server.launch(&public).code().await;
    let form = code_form(&public, &code);
    for secret in ["x", "hearth"] {
        let answer = server.post_token(&changed(&form, &[("client_secret", Some(secret))])).await;
        assert_oauth(&answer, 401, "invalid_client", "`none`", secret);
    }
    assert_eq!(server.exchange(&public, &code).await.status, StatusCode::OK, "nothing was half done");
}

#[tokio::test]
async fn two_ways_of_proving_at_once_are_refused() {
    let server = TestApp::start().await;
    let client = app(&server, "client_secret_basic").await;
    let (id, secret) = (client.id.as_str(), client.secret.clone().unwrap());
    let code = server.launch(&client).code().await;
    let form = bare(&client, &code);
    let right = || post(&server).basic_auth(id, Some(&secret));
    let both = Answer::to(right().form(&changed(&form, &[("client_secret", Some(&secret))]))).await;
    assert_oauth(&both, 400, "invalid_request", "use one", "a secret in both places");
    let other = Answer::to(right().form(&changed(&form, &[("client_id", Some("another"))]))).await;
    assert_oauth(&other, 400, "invalid_request", "client_id", "two names");
    let twice = right().basic_auth(id, Some("wrong")).form(&form);
    assert_oauth(&Answer::to(twice).await, 400, "invalid_request", "one Authorization header", "two headers");
    let same = Answer::to(right().form(&changed(&form, &[("client_id", Some(id))]))).await;
    assert_eq!(same.status, StatusCode::OK, "the same name twice is no second proof: {}", same.text);
}

#[tokio::test]
async fn name_and_secret_in_the_header_may_be_form_encoded() {
    let server = TestApp::start().await;
    let client = app(&server, "client_secret_basic").await;
    let secret = client.secret.clone().unwrap();
    let encoded = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    let code = server.launch(&client).code().await;
    let form = bare(&client, &code);
    for wrong in [format!("{}%3A", encoded(&secret)), format!("%25{secret}"), encoded(&encoded(&secret))] {
        let answer = Answer::to(post(&server).basic_auth(&client.id, Some(&wrong)).form(&form)).await;
        assert_oauth(&answer, 401, "invalid_client", "secret is wrong", "decoded once, `:` and `%` count");
    }
    let request = post(&server).basic_auth(encoded(&client.id), Some(encoded(&secret)));
    let answer = Answer::to(request.form(&form)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn a_public_app_does_not_become_another_by_an_empty_secret() {
    let server = TestApp::start().await;
    let (public, secret) = (app(&server, "none").await, app(&server, "client_secret_basic").await);
    let code = server.launch(&public).code().await;
    for (case, password) in [("id:", Some("")), ("id:x", Some("x")), ("id", None)] {
        let request = post(&server).basic_auth(&public.id, password).form(&bare(&public, &code));
        assert_oauth(&Answer::to(request).await, 401, "invalid_client", "`none`", case);
    }
    let request = post(&server).basic_auth(&secret.id, Some("")).form(&code_form(&public, &code));
    assert_oauth(&Answer::to(request).await, 400, "invalid_request", "client_id", "as another app");
    assert_eq!(server.exchange(&public, &code).await.status, StatusCode::OK, "nothing was half done");
}

#[test]
fn every_secret_is_compared_in_constant_time() {
    let source = |path: &str| {
        std::fs::read_to_string(format!("{}/src/{path}", env!("CARGO_MANIFEST_DIR"))).expect("a source file")
    };
    let crypto = source("crypto.rs");
    assert!(crypto.contains("verify_slices_are_equal(a, b).is_ok()"), "`same` is the library's comparison");
    assert!(crypto.contains("same(kept.as_bytes(), Hashed::of(presented).0.as_bytes())"));
    let client = source("oauth/client.rs");
    let (_, has_secret) = client.split_once("pub fn secret(tx").expect("`secret`");
    let body = has_secret.split("\n    }").next().unwrap_or_default();
    assert!(
        body.contains("Hashed::matches(hash, presented) | found"),
        "every live secret is compared: {body}"
    );
    assert!(
        source("web/login.rs").contains("same(password.as_bytes(), SANDBOX_PASSWORD.as_bytes())"),
        "the password too"
    );
    for path in ["oauth/client_auth.rs", "oauth/token.rs", "oauth/client.rs"] {
        assert!(!source(path).contains("secret =="), "{path} compares a secret by ==");
    }
}
