//! Attacks on EHR launches: handles that are not one's own, and posts from where none should come.

use reqwest::Method;
use serde_json::json;

use super::hands::*;
use crate::kit::{Answer, Launch, TestApp, TestClient};

const HERE: &str = "/sandbox/launches";

fn comes<'a>(server: &'a TestApp, client: &'a TestClient, handle: &str) -> Launch<'a> {
    server.launch(client).scope("launch openid patient/*.rs").with("launch", handle)
}

/// Refused, whatever else the app asks for, and no page of a standalone launch is shown.
async fn assert_no_use(server: &TestApp, launch: &Launch<'_>, says: &str, case: &str) {
    for scope in ["launch patient/*.rs", "launch/patient patient/*.rs", "openid", "launch", "user/*.rs"] {
        let answer = launch.clone().scope(scope).answer().await;
        assert_back(server, &answer, "invalid_request", says, &format!("{case}, {scope}"));
        let by_post = post_launch(server, &launch.clone().scope(scope)).await;
        assert_back(server, &by_post, "invalid_request", says, &format!("{case}, {scope}, by POST"));
    }
}

#[tokio::test]
async fn a_handle_that_is_made_up_used_expired_or_another_apps_begins_nothing() {
    let server = TestApp::start().await;
    let (client, other) = (server.register(json!({})).await, server.register(json!({})).await);
    let handle = server.ehr_launch(&client, json!({})).await;
    for made_up in ["x", &handle[1..], &handle.to_uppercase(), &format!("{handle} "), &"h".repeat(4_000)] {
        assert_no_use(&server, &comes(&server, &client, made_up), "not issued by this server", made_up).await;
    }
    assert_no_use(&server, &comes(&server, &other, &handle), "made for another app", "another app's").await;
    let token = comes(&server, &client, &handle).token().await;
    assert_eq!(token["patient"], "patient-maria", "what others tried did not use it up");
    assert_no_use(&server, &comes(&server, &client, &handle), "already used", "used").await;

    let late = server.ehr_launch(&client, json!({})).await;
    server.advance(5 * hearthgate::clock::MINUTE);
    assert_no_use(&server, &comes(&server, &client, &late), "expired", "expired").await;
    assert!(audited(&server, "launch_used") > 1, "known handles that were refused are in the audit");
}

#[tokio::test]
async fn a_handle_is_good_for_its_own_server_only() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let handle = server.ehr_launch(&client, json!({})).await;
    let launch = comes(&server, &client, &handle);
    let elsewhere = launch.clone().with("aud", "https://evil.example/fhir").answer().await;
    assert_back(&server, &elsewhere, "invalid_request", "`aud` names", "another server");
    for scope in ["openid", "launch openid", "openid patient/*.rs"] {
        let nowhere = launch.clone().without("aud").scope(scope).answer().await;
        assert_back(&server, &nowhere, "invalid_request", "`aud` is missing", scope);
    }
    behind(&server, |tx| {
        tx.execute("UPDATE launches SET audience = 'https://old.example/fhir'", &[]).map(drop)
    })
    .await;
    assert_no_use(&server, &launch, "another FHIR server", "a handle from before the server moved").await;
}

#[tokio::test]
async fn a_handle_in_another_persons_hands_gives_neither_record_nor_code() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-margaret"})).await;
    let launch = comes(&server, &client, &handle);
    for thief in ["maria", "daniel", "declan", "margaret"] {
        let browser = signed_in(&server, &client, thief).await;
        let (path, page) = launch.open(&browser).await;
        assert!(page.text.contains("Somebody else opened"), "{thief}: {}", page.text);
        let csrf = page.hidden("csrf").unwrap();
        let form =
            [("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "launch"), ("scope", "patient/*.rs")];
        let answer = browser.post(&path, &form).await;
        assert!(!answer.location().contains("code="), "{thief}: {}", answer.location());
    }
    // Whoever takes over the browser after the page was shown has another session, and another form token.
    let browser = server.browser();
    let (path, page) = launch.clone().by("ruth").to_consent(&browser).await;
    let csrf = page.hidden("csrf").unwrap();
    let switched = browser.get(&format!("{path}?switch=1")).await;
    browser.sign_in(&path, &switched, "maria").await;
    let form = [("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "patient/*.rs")];
    assert_eq!(browser.post(&path, &form).await.status.as_u16(), 403);
    // And behind all pages: the handle is used up for its own person only.
    behind(&server, move |tx| {
        let launched =
            hearthgate::smart::launch::Launch::find(tx, &handle)?.expect("a launch").presented(&handle);
        assert!(!launched.consume(tx, "another-app", &launched.account, 1)?);
        assert!(!launched.consume(tx, "app", "another-person", 1)?);
        Ok(())
    })
    .await;
    let token = launch.by("ruth").token().await;
    assert_eq!(token["patient"], "patient-margaret");
}

#[tokio::test]
async fn no_web_page_and_no_other_name_of_this_machine_launches_anything() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let body = json!({"client_id": client.id, "person": "ruth"}).to_string();
    let post = || server.request(Method::POST, HERE).body(body.clone());
    let as_json = || post().header("content-type", "application/json; charset=utf-8");
    assert_eq!(Answer::to(as_json()).await.status.as_u16(), 201);
    assert_eq!(Answer::to(as_json().header("origin", &server.url)).await.status.as_u16(), 201);
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1", "https://app.example", "file://"] {
        let answer = Answer::to(as_json().header("origin", origin)).await;
        assert_oauth(&answer, 403, "forbidden", "`Origin`", origin);
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
    }
    let port = server.url.rsplit(':').next().unwrap();
    for host in ["evil.example", &format!("evil.example:{port}"), &format!("localhost:{port}"), "127.0.0.1"] {
        let answer = Answer::to(as_json().header("host", host)).await;
        assert_oauth(&answer, 403, "forbidden", "`Host`", host);
    }
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data", ""]
    {
        let answer = Answer::to(post().header("content-type", kind)).await;
        assert_oauth(&answer, 415, "unsupported_media_type", "application/json", kind);
    }
    assert_oauth(&Answer::to(post()).await, 415, "unsupported_media_type", "application/json", "no type");
    for broken in ["", "{", "[]", "null", "\"x\"", &"[".repeat(100_000), "{\"client_id\":\"\\ud800\"}"] {
        let request = server.request(Method::POST, HERE).header("content-type", "application/json");
        let answer = Answer::to(request.body(broken.to_owned())).await;
        assert_oauth(&answer, 400, "invalid_request", "JSON", broken.get(..20).unwrap_or(broken));
    }
    let large = as_json().body("x".repeat(300 * 1024));
    assert_oauth(&Answer::to(large).await, 413, "request_too_large", "larger", "300 KB");
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = Answer::to(server.request(method.clone(), HERE)).await;
        assert_oauth(&answer, 405, "method_not_allowed", "POST", method.as_str());
    }
    assert_eq!(audited(&server, "launch_made"), 2);
}
