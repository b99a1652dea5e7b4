//! The registration form beyond the first launch: keys, backend services, sign-out, and what few apps need.

use hearthgate::jose::{Alg, SigningKey};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::apps::{code, form, register};
use crate::kit::{Answer, Browser, CALLBACK, TestApp};

fn key_set() -> String {
    let mut key = SigningKey::generate(Alg::ES384).expect("a key").0.jwk().clone();
    key["kid"] = json!("spring-2026");
    json!({"keys": [key]}).to_string()
}

/// What is registered, as its JSON endpoint says it.
async fn saved(server: &TestApp, shown: &Answer, id: &str) -> Value {
    let link = code(shown, "management").expect("a management link");
    let token = link.split("manage=").nth(1).expect("its key").to_owned();
    let request = server.request(Method::GET, &format!("/oauth/register/{id}"));
    Answer::to(request.bearer_auth(token)).await.json()
}

/// Every field of the form as a browser would post it unchanged.
fn as_shown(page: &Answer) -> Vec<(String, String)> {
    let plain = |text: &str| {
        let pairs = [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
        pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    let within = |tag: &str, name: &str| {
        let rest = tag.split(&format!(" {name}=\"")).nth(1)?;
        rest.split('"').next().map(plain)
    };
    let mut fields = Vec::new();
    for tag in page.text.split("<input ").skip(1).map(|t| format!(" {}", t.split('>').next().unwrap())) {
        let kind = within(&tag, "type").unwrap_or_default();
        if !["checkbox", "radio"].contains(&kind.as_str()) || tag.ends_with("checked") {
            fields.push((within(&tag, "name").unwrap(), within(&tag, "value").unwrap_or_default()));
        }
    }
    for area in page.text.split("<textarea ").skip(1) {
        let (tag, rest) = area.split_once('>').unwrap();
        fields.push((within(&format!(" {tag}"), "name").unwrap(), plain(rest.split('<').next().unwrap())));
    }
    fields
}

async fn post(browser: &Browser<'_>, path: &str, fields: &[(String, String)]) -> Answer {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    browser.post(path, &fields).await
}

#[tokio::test]
async fn every_field_of_the_form_is_registered() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let keys = key_set();
    let filled = [
        ("token_endpoint_auth_method", "private_key_jwt"),
        ("jwks", keys.as_str()),
        ("grant_types", "authorization_code"),
        ("grant_types", "client_credentials"),
        ("scope", "openid launch/patient patient/*.rs system/Patient.rs"),
        ("access_token_life", "120"),
        ("default_max_age", "600"),
        ("client_uri", "https://app.example/about"),
        ("policy_uri", "https://app.example/privacy"),
        ("tos_uri", "https://app.example/terms"),
        ("post_logout_redirect_uris", "https://app.example/bye\r\n\r\nhttps://app.example/ciao\r\n"),
        ("backchannel_logout_uri", "https://app.example/out"),
        ("sign_in_only", "true"),
        ("no_pkce", "true"),
        ("dpop_bound_access_tokens", "true"),
        ("require_pushed_authorization_requests", "true"),
        ("introspect", "all"),
    ];
    let (shown, id) = register(&browser, &filled).await;
    let saved = saved(&server, &shown, &id).await;
    assert_eq!(saved["token_endpoint_auth_method"], "private_key_jwt");
    assert_eq!(saved["jwks"], serde_json::from_str::<Value>(&keys).unwrap());
    assert_eq!(saved["grant_types"], json!(["authorization_code", "client_credentials"]));
    assert_eq!(saved["scope"], "openid launch/patient patient/*.rs system/Patient.rs");
    assert_eq!((&saved["access_token_life"], &saved["default_max_age"]), (&json!(120), &json!(600)));
    let bye = json!(["https://app.example/bye", "https://app.example/ciao"]);
    assert_eq!(saved["post_logout_redirect_uris"], bye);
    for name in ["client_uri", "policy_uri", "tos_uri", "backchannel_logout_uri"] {
        let typed = filled.iter().find(|(n, _)| *n == name).unwrap().1;
        assert_eq!(saved[name], typed, "{name}");
    }
    for name in
        ["sign_in_only", "no_pkce", "dpop_bound_access_tokens", "require_pushed_authorization_requests"]
    {
        assert_eq!(saved[name], true, "{name}");
    }
    assert_eq!(saved["introspect"], "all");
    assert!(shown.text.contains("spring-2026 (EC, P-384"), "keys by their names");
}

#[tokio::test]
async fn saving_the_form_loses_nothing_it_shows_nor_what_it_does_not_show() {
    let server = TestApp::start().await;
    let keys: Value = serde_json::from_str(&key_set()).unwrap();
    let app = server
        .register(json!({
            "client_name": "Chart & \"more\" <x>", "redirect_uris": [CALLBACK, "https://app.example/b"],
            "contacts": ["dev@app.example"], "software_id": "chart", "software_version": "2.1",
            "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES384",
            "jwks": keys, "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "scope": "openid patient/*.rs offline_access system/*.rs", "application_type": "native",
            "id_token_signed_response_alg": "ES256", "access_token_life": 60, "default_max_age": 0,
            "client_uri": "https://app.example", "policy_uri": "https://app.example/p",
            "tos_uri": "https://app.example/t", "logo_uri": "https://app.example/l",
            "initiate_login_uri": "https://app.example/launch", "introspect": "all", "no_pkce": true,
            "post_logout_redirect_uris": ["https://app.example/bye"],
            "backchannel_logout_uri": "https://app.example/out", "backchannel_logout_session_required": true,
            "require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true,
        }))
        .await;
    let token = app.registered["registration_access_token"].as_str().unwrap();
    let at = format!("/oauth/register/{}", app.id);
    let read = || Answer::to(server.request(Method::GET, &at).bearer_auth(token));
    let before = read().await.json();
    let browser = server.browser();
    browser.get(&format!("/apps/{}?manage={token}", app.id)).await;
    let edit = format!("/apps/{}/edit", app.id);
    let page = browser.get(&edit).await;
    let answer = post(&browser, &edit, &as_shown(&page)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(read().await.json(), before);

    let change = |name: &str, to: &str| {
        let mut fields = as_shown(&page);
        fields.iter_mut().filter(|(n, _)| n == name).for_each(|(_, value)| *value = to.into());
        fields
    };
    // Another kind of app: what belongs to the keys alone goes, all else stays.
    let mut fields = change("token_endpoint_auth_method", "client_secret_basic");
    fields.retain(|(name, value)| !(name == "grant_types" && value == "client_credentials"));
    fields.iter_mut().filter(|(n, _)| n == "scope").for_each(|(_, v)| *v = "openid patient/*.rs".into());
    let answer = post(&browser, &edit, &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let after = read().await.json();
    assert_eq!(after.get("token_endpoint_auth_signing_alg"), None);
    for name in ["contacts", "software_id", "software_version", "backchannel_logout_session_required", "jwks"]
    {
        assert_eq!(after[name], before[name], "{name}");
    }
    // What is emptied is deleted.
    let page = browser.get(&edit).await;
    let mut fields = as_shown(&page);
    for (name, value) in &mut fields {
        if ["jwks", "logo_uri", "default_max_age", "post_logout_redirect_uris"].contains(&name.as_str()) {
            value.clear();
        }
    }
    fields.retain(|(name, _)| name != "dpop_bound_access_tokens");
    post(&browser, &edit, &fields).await;
    let after = read().await.json();
    for name in ["jwks", "logo_uri", "default_max_age", "post_logout_redirect_uris"] {
        assert_eq!(after.get(name), None, "{name}");
    }
    assert_eq!(after["dpop_bound_access_tokens"], false);
}

#[tokio::test]
async fn a_backend_service_is_registered_without_a_redirect_and_its_page_says_how_it_gets_a_token() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let csrf = browser.get("/apps/new").await.hidden("csrf").unwrap();
    let keys = key_set();
    let service = [
        ("csrf", csrf.as_str()),
        ("client_name", "Nightly export"),
        ("redirect_uris", ""),
        ("token_endpoint_auth_method", "private_key_jwt"),
        ("jwks", &keys),
        ("grant_types", "client_credentials"),
        ("scope", "system/*.rs"),
    ];
    let (_, shown) = browser.settle(browser.post("/apps/new", &service).await).await;
    for words in ["Backend service", "Get a token for itself", "grant_type=client_credentials", "system/*.rs"]
    {
        assert!(shown.text.contains(words), "{words}: {}", shown.text);
    }
    assert!(!shown.text.contains("Launch it now") && !shown.text.contains("Make a new secret"));
    assert!(browser.get("/apps").await.text.contains("Backend service, which acts on its own"));

    for (field, value, told) in [
        ("scope", "", "must name what it may ask for"),
        ("scope", "patient/*.rs", "acts for nobody"),
        ("jwks", "", "public keys"),
        ("jwks", "{", "JWK Set"),
        ("token_endpoint_auth_method", "client_secret_basic", "private_key_jwt"),
    ] {
        let wrong = service.map(|(name, old)| (name, if name == field { value } else { old }));
        let answer = browser.post("/apps/new", &wrong).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field} {value}");
        assert!(answer.text.contains(told), "{field} {value}");
        assert!(answer.text.contains("Nightly export"), "nothing typed is lost");
    }
}

#[tokio::test]
async fn an_app_without_pkce_is_told_apart_wherever_its_developer_looks() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (shown, id) = register(&browser, &[("no_pkce", "true")]).await;
    assert!(shown.text.contains("SMART 1.0, no PKCE") && shown.text.contains("can exchange it"));
    assert!(browser.get("/apps").await.text.contains("SMART 1.0, no PKCE"));
    assert!(browser.get(&format!("/apps/{id}/edit")).await.boxes("no_pkce").0 == ["true"]);
    let (plain, _) = register(&browser, &[]).await;
    assert!(!plain.text.contains("SMART 1.0"));
}

#[tokio::test]
async fn mistakes_in_folded_parts_unfold_them() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let page = browser.get("/apps/new").await;
    assert!(!page.text.contains("<details open") && !page.text.contains("<details class=\"sheet\" open"));
    let csrf = page.hidden("csrf").unwrap();
    for (field, value) in [
        ("policy_uri", "javascript:alert(1)"),
        ("default_max_age", "soon"),
        ("post_logout_redirect_uris", "https://app.example/#x"),
        ("backchannel_logout_uri", "ftp://app.example"),
        ("sign_in_only", "true"),
        ("introspect", "all"),
    ] {
        let answer = browser.post("/apps/new", &form(&csrf, &[(field, value)])).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        assert!(answer.text.contains("<details class=\"sheet\" open"), "{field}");
        assert!(answer.text.contains(&format!("href=\"#{field}\"")), "{field}");
        assert!(answer.text.contains(&format!("id=\"{field}\"")), "{field}: somewhere to go");
    }
    let private =
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "d": "AQ"}]}).to_string();
    let answer = browser.post("/apps/new", &form(&csrf, &[("jwks", &private)])).await;
    assert!(answer.text.contains("<details open") && answer.text.contains("private half"), "{}", answer.text);
}
