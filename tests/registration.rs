//! Registration by apps themselves: what RFC 7591 answers, and RFC 7592's reading, replacing and deleting.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, CALLBACK, TestApp, TestClient, access};

/// A request to an app's own registration, with its token.
async fn manage(server: &TestApp, app: &TestClient, method: Method, body: Option<&Value>) -> Answer {
    let token = app.registered["registration_access_token"].as_str().expect("a token");
    let at = format!("/oauth/register/{}", app.id);
    let request = server.request(method, &at).bearer_auth(token);
    Answer::to(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

/// What an app would send to keep all it has registered.
fn as_registered(app: &TestClient) -> Value {
    let mut body = app.registered.clone();
    let ours = ["registration_access_token", "registration_client_uri", "client_secret_expires_at"];
    for name in ours.into_iter().chain(["client_id_issued_at", "client_secret"]) {
        body.as_object_mut().expect("an object").shift_remove(name);
    }
    body
}

#[tokio::test]
async fn every_registration_answer_says_where_and_with_what_it_is_managed() {
    let server = TestApp::start().await;
    let app = server.register(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let at = format!("{}/oauth/register/{}", server.url, app.id);
    assert_eq!(app.registered["registration_client_uri"], at);
    assert!(app.registered["registration_access_token"].as_str().unwrap().starts_with("hg_manage_"));
    assert_eq!(app.registered["client_secret_expires_at"], 0);
    let read = manage(&server, &app, Method::GET, None).await;
    assert_eq!((read.status, read.header("cache-control")), (StatusCode::OK, "no-store"));
    let replaced = manage(&server, &app, Method::PUT, Some(&as_registered(&app))).await;
    assert_eq!((replaced.status, replaced.header("cache-control")), (StatusCode::OK, "no-store"));
    assert_eq!(read.json(), replaced.json(), "nothing was changed");
    let mut without_secret = app.registered.clone();
    for name in ["client_secret", "client_secret_expires_at"] {
        without_secret.as_object_mut().unwrap().shift_remove(name);
    }
    assert_eq!(read.json(), without_secret, "all but the secret, which was shown once");
}

#[tokio::test]
async fn a_replacement_replaces_everything() {
    let server = TestApp::start().await;
    let full = json!({
        "client_uri": "https://app.example", "contacts": ["dev@app.example"], "software_id": "chart",
        "logo_uri": "https://app.example/logo.png", "access_token_life": 60, "default_max_age": 600,
        "grant_types": ["authorization_code", "refresh_token"], "scope": "openid launch/patient patient/*.rs",
        "require_pushed_authorization_requests": true,
    });
    let app = server.register(full).await;
    let asked = "openid launch/patient patient/Observation.rs";
    let before = server.launch(&app).scope(asked).pushed().await.token().await;
    let smaller = json!({"client_id": app.id, "redirect_uris": [CALLBACK], "scope": "openid launch/patient"});
    let replaced = manage(&server, &app, Method::PUT, Some(&smaller)).await.json();
    for gone in ["client_uri", "contacts", "software_id", "logo_uri", "access_token_life", "default_max_age"]
    {
        assert_eq!(replaced.get(gone), None, "{gone}");
    }
    assert_eq!(replaced["client_name"], "Unnamed app");
    assert_eq!(replaced["grant_types"], json!(["authorization_code"]));
    assert_eq!(replaced["require_pushed_authorization_requests"], false);
    assert_eq!(manage(&server, &app, Method::GET, None).await.json(), replaced);
    let read = server.fhir(access(&before), "Observation").await;
    assert_eq!(read.status, StatusCode::FORBIDDEN, "it holds for tokens that exist");
}

#[tokio::test]
async fn a_replacement_that_is_wrong_changes_nothing() {
    let server = TestApp::start().await;
    let app = server.register(json!({"token_endpoint_auth_method": "client_secret_post"})).await;
    let before = manage(&server, &app, Method::GET, None).await.json();
    for (name, value) in [
        ("client_id", json!("another")),
        ("client_id", Value::Null),
        ("client_secret", json!("chosen")),
        ("client_secret", Value::Null),
        ("registration_access_token", app.registered["registration_access_token"].clone()),
        ("registration_client_uri", app.registered["registration_client_uri"].clone()),
        ("client_id_issued_at", json!(0)),
        ("client_secret_expires_at", json!(0)),
        ("logo_uri", json!("javascript:alert(1)")),
        ("redirect_uris", json!([])),
    ] {
        let mut body = as_registered(&app);
        body["client_name"] = json!("Changed");
        body[name] = value;
        let answer = manage(&server, &app, Method::PUT, Some(&body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {}", answer.text);
        assert!(answer.json()["error_description"].as_str().unwrap().contains(name), "{}", answer.text);
    }
    let form = server.request(Method::PUT, &format!("/oauth/register/{}", app.id));
    let token = app.registered["registration_access_token"].as_str().unwrap();
    let form = Answer::to(form.bearer_auth(token).form(&[("client_id", &app.id)])).await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(manage(&server, &app, Method::GET, None).await.json(), before);
    let mut own = as_registered(&app);
    own["client_secret"] = json!(app.secret);
    assert_eq!(manage(&server, &app, Method::PUT, Some(&own)).await.status, StatusCode::OK, "its own secret");
}

#[tokio::test]
async fn a_secret_comes_and_goes_with_the_kind_of_app() {
    let server = TestApp::start().await;
    let public = server.register(json!({})).await;
    let mut body = as_registered(&public);
    body["token_endpoint_auth_method"] = json!("client_secret_basic");
    let answer = manage(&server, &public, Method::PUT, Some(&body)).await.json();
    assert_eq!(answer["client_secret_expires_at"], 0);
    let secret = answer["client_secret"].as_str().map(str::to_owned);
    assert!(secret.is_some(), "{answer}");
    let confidential = TestClient { secret, ..public.clone() };
    let token = server.launch(&confidential).token().await;
    assert_eq!(token["patient"], "patient-maria");
    let again = manage(&server, &public, Method::PUT, Some(&body)).await.json();
    assert_eq!(again.get("client_secret"), None, "it has one, and a replacement renews nothing");
    server.launch(&confidential).token().await;

    body["token_endpoint_auth_method"] = json!("none");
    let answer = manage(&server, &public, Method::PUT, Some(&body)).await;
    assert_eq!((answer.status, answer.json().get("client_secret")), (StatusCode::OK, None));
    body["token_endpoint_auth_method"] = json!("client_secret_basic");
    manage(&server, &public, Method::PUT, Some(&body)).await;
    let code = server.launch(&confidential).code().await;
    assert_eq!(
        server.exchange(&confidential, &code).await.error(),
        "invalid_client",
        "the first secret ended"
    );
}

#[tokio::test]
async fn no_refresh_outlives_the_registration_for_it() {
    let server = TestApp::start().await;
    let app = server.register(json!({"grant_types": ["authorization_code", "refresh_token"]})).await;
    let token = server.launch(&app).scope("launch/patient patient/*.rs offline_access").token().await;
    let body = json!({"client_id": app.id, "redirect_uris": [CALLBACK]});
    assert_eq!(manage(&server, &app, Method::PUT, Some(&body)).await.status, StatusCode::OK);
    let refresh = token["refresh_token"].as_str().expect("a refresh token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", &app.id)];
    assert_eq!(server.post_token(&form).await.error(), "unauthorized_client");
}

#[tokio::test]
async fn a_deleted_registration_takes_tokens_codes_and_open_launches_with_it() {
    let server = TestApp::start().await;
    let app = server.register(json!({})).await;
    let token = server.launch(&app).token().await;
    let code = server.launch(&app).code().await;
    let launch = server.launch(&app);
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let gone = manage(&server, &app, Method::DELETE, None).await;
    assert_eq!((gone.status, gone.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(gone.header("cache-control"), "no-store");
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.exchange(&app, &code).await.error(), "invalid_client");
    let csrf = page.hidden("csrf").unwrap();
    let allowed = browser.post(&path, &[("csrf", &csrf), ("decision", "allow"), ("scope", "openid")]).await;
    assert_eq!((allowed.status, allowed.location()), (StatusCode::NOT_FOUND, ""));
    assert_eq!(server.launch(&app).answer().await.status, StatusCode::BAD_REQUEST);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        assert_eq!(manage(&server, &app, method, None).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn only_an_apps_own_pages_may_read_its_registration() {
    let server = TestApp::start().await;
    let ours = server.register(json!({"redirect_uris": ["https://ours.example/cb"]})).await;
    server.register(json!({"redirect_uris": ["https://other.example/cb"]})).await;
    let token = ours.registered["registration_access_token"].as_str().unwrap();
    let at = format!("/oauth/register/{}", ours.id);
    for (origin, allowed) in [
        ("https://ours.example", "https://ours.example"),
        ("https://other.example", ""),
        ("https://nobody.example", ""),
    ] {
        let request = server.request(Method::GET, &at).bearer_auth(token).header("origin", origin);
        assert_eq!(Answer::to(request).await.header("access-control-allow-origin"), allowed, "{origin}");
    }
    let preflight = server
        .request(Method::OPTIONS, &at)
        .header("origin", "https://ours.example")
        .header("access-control-request-method", "DELETE");
    assert!(Answer::to(preflight).await.header("access-control-allow-methods").contains("DELETE"));
}

#[tokio::test]
async fn the_token_of_the_registration_is_the_key_of_the_management_link() {
    let server = TestApp::start().await;
    let app = server.register(json!({})).await;
    let token = app.registered["registration_access_token"].as_str().unwrap();
    let browser = server.browser();
    let opened = browser.get(&format!("/apps/{}?manage={token}", app.id)).await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get(&format!("/apps/{}", app.id)).await.status, StatusCode::OK);
}
