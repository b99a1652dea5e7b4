//! Who comes too often waits, by address; nobody is locked out.

use hearthgate::clock::SECOND;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::kit::{Answer, CALLBACK, FROM, TestApp};

async fn register_from(server: &TestApp, from: &str, headers: &[(&str, &str)]) -> Answer {
    let request = server.request(Method::POST, "/oauth/register").header(FROM, from);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::to(request.json(&json!({"redirect_uris": [CALLBACK]}))).await
}

#[tokio::test]
async fn an_address_that_registers_too_often_waits_and_others_do_not() {
    let server = TestApp::start().await;
    for _ in 0..60 {
        assert_eq!(register_from(&server, "192.0.2.1", &[]).await.status, StatusCode::CREATED);
    }
    let refused = register_from(&server, "192.0.2.1", &[]).await;
    assert_eq!((refused.status.as_u16(), refused.error().as_str()), (429, "slow_down"));
    assert_eq!((refused.header("retry-after"), refused.header("cache-control")), ("10", "no-store"));
    assert!(refused.json()["error_description"].as_str().unwrap().contains("wait 10 seconds"));
    let claims =
        [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7"), ("x-real-ip", "192.0.2.7")];
    assert_eq!(
        register_from(&server, "192.0.2.1", &claims).await.status.as_u16(),
        429,
        "only the connection counts"
    );
    assert_eq!(register_from(&server, "192.0.2.2", &claims).await.status, StatusCode::CREATED);
    server.advance(10 * SECOND);
    assert_eq!(register_from(&server, "192.0.2.1", &[]).await.status, StatusCode::CREATED);
    assert_eq!(register_from(&server, "192.0.2.1", &[]).await.status.as_u16(), 429);
}

#[tokio::test]
async fn a_registration_that_is_refused_for_its_mistakes_is_not_counted() {
    let server = TestApp::start().await;
    for _ in 0..70 {
        let request = server.request(Method::POST, "/oauth/register").header(FROM, "192.0.2.1");
        let answer = Answer::to(request.json(&json!({"redirect_uris": []}))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(register_from(&server, "192.0.2.1", &[]).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn the_registration_form_counts_with_the_endpoint() {
    let server = TestApp::start().await;
    let page = server.browser().get("/apps/new").await;
    let cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
    let csrf = page.hidden("csrf").unwrap();
    let form = [("csrf", csrf.as_str()), ("client_name", "Growth chart"), ("redirect_uris", CALLBACK)];
    let post = || {
        let request = server.request(Method::POST, "/apps/new").header(FROM, "192.0.2.1");
        Answer::to(request.header("cookie", &cookie).form(&form))
    };
    assert_eq!(post().await.status, StatusCode::SEE_OTHER);
    for _ in 0..59 {
        assert_eq!(register_from(&server, "192.0.2.1", &[]).await.status, StatusCode::CREATED);
    }
    let refused = post().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "10"));
    assert!(refused.text.contains("wait 10 seconds"), "{}", refused.text);
}

#[tokio::test]
async fn programs_on_this_machine_have_no_limits_in_the_sandbox() {
    let server = TestApp::start().await;
    for _ in 0..70 {
        server.register(json!({})).await;
    }
    for _ in 0..70 {
        assert_eq!(register_from(&server, "::1", &[]).await.status, StatusCode::CREATED);
    }
}

/// Tries to sign in from an address; the page again, or the way on.
async fn try_password(server: &TestApp, from: &str, username: &str, password: &str) -> Answer {
    let page = Answer::to(server.request(Method::GET, "/account").header(FROM, from)).await;
    let cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
    let csrf = page.hidden("csrf").unwrap();
    let form = [("csrf", csrf.as_str()), ("username", username), ("password", password)];
    let request = server.request(Method::POST, "/account").header(FROM, from).header("cookie", cookie);
    Answer::to(request.form(&form)).await
}

#[tokio::test]
async fn guessing_is_slowed_by_address_and_the_account_stays_open_to_others() {
    let server = TestApp::start().await;
    for n in 0..10 {
        let wrong = try_password(&server, "192.0.2.1", "maria", &format!("guess {n}")).await;
        assert_eq!(wrong.status, StatusCode::OK, "the page again");
    }
    let slowed = try_password(&server, "192.0.2.1", "maria", "guess").await;
    assert_eq!((slowed.status.as_u16(), slowed.header("retry-after")), (429, "10"));
    assert!(slowed.text.contains("wait 10 seconds") && slowed.text.contains("name=\"password\""));
    let elsewhere = try_password(&server, "192.0.2.2", "maria", "hearth").await;
    assert_eq!(elsewhere.status, StatusCode::SEE_OTHER, "she can sign in from where she is");
    let neighbour = try_password(&server, "192.0.2.1", "amara", "hearth").await;
    assert_eq!(neighbour.status, StatusCode::SEE_OTHER, "others at that address can");
    let neighbours = try_password(&server, "192.0.2.1", "amara", "guess").await;
    assert_eq!(neighbours.status, StatusCode::OK, "the page again, with no time to wait");
    server.advance(10 * SECOND);
    assert_eq!(try_password(&server, "192.0.2.1", "maria", "guess").await.status, StatusCode::OK);
    assert_eq!(try_password(&server, "192.0.2.1", "maria", "guess").await.status.as_u16(), 429);
    let known = try_password(&server, "192.0.2.1", "maria", "hearth").await;
    assert_eq!(known.status, StatusCode::SEE_OTHER, "the sandbox's word is no secret");
}

#[tokio::test]
async fn trying_one_password_on_many_accounts_is_slowed_too() {
    let server = TestApp::start().await;
    for n in 0..60 {
        let wrong = try_password(&server, "192.0.2.1", &format!("nobody-{n}"), "wrong").await;
        assert_eq!(wrong.status, StatusCode::OK);
    }
    let slowed = try_password(&server, "192.0.2.1", "nobody-60", "wrong").await;
    assert_eq!((slowed.status.as_u16(), slowed.header("retry-after")), (429, "1"));
}
