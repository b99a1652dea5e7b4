//! Attacks that would send a code to somebody else.

use serde_json::json;

use super::hands::*;
use crate::kit::{TestApp, TestClient};

async fn start() -> (TestApp, TestClient) {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    (server, client)
}

/// Each of them is sent by an app with that one redirect, and none is followed.
async fn each_gets_a_page(client: &TestClient, server: &TestApp, redirects: &[&str]) {
    for redirect in redirects {
        let answer = server.launch(client).with("redirect_uri", redirect).answer().await;
        assert_page(&answer, 400, "redirect_uri", redirect);
    }
}

#[tokio::test]
async fn a_redirect_that_is_not_registered_gets_a_page() {
    let (server, client) = start().await;
    let others =
        ["https://evil.example/callback", "https://app.example.evil.example/callback", "/callback", ""];
    each_gets_a_page(&client, &server, &others).await;
    let absent = server.launch(&client).without("redirect_uri").answer().await;
    assert_page(&absent, 400, "redirect_uri", "absent");
}

#[tokio::test]
async fn a_redirect_that_differs_in_one_character_gets_a_page() {
    let (server, client) = start().await;
    let others = [
        "https://app.example/Callback",
        "https://APP.example/callback",
        "HTTPS://app.example/callback",
        "https://app.example/callback/",
        "https://app.example/callback?",
        "https://app.example/callback?x=1",
        "https://app.example/x/%2e%2e/callback",
        "https://app.example/x/../callback",
        "https://app.example/%63allback",
        "https://app.example:443/callback",
        "https://app.example./callback",
        "https://app.example//callback",
        " https://app.example/callback",
        "https://app.example/callback\n",
        "http://app.example/callback",
    ];
    each_gets_a_page(&client, &server, &others).await;
    assert_goes_on(&server, &server.launch(&client).answer().await, "the registered one");

    let phone = json!({"redirect_uris": ["AsthmaBrain://callback"], "application_type": "native"});
    let phone = server.register(phone).await;
    let lower = server.launch(&phone).with("redirect_uri", "asthmabrain://callback").answer().await;
    assert_goes_on(&server, &lower, "a phone changed the case of the scheme");
    each_gets_a_page(&phone, &server, &["asthmabrain://Callback", "asthmabrain2://callback"]).await;
}

#[tokio::test]
async fn a_redirect_with_a_foreign_host_behind_an_at_sign_gets_a_page() {
    let (server, client) = start().await;
    let others = [
        "https://app.example\\@evil.example/",
        "https://app.example\\@evil.example/callback",
        "https://app.example@evil.example/callback",
        "https://app.example%5c@evil.example/callback",
        "https://app.example%00.evil.example/callback",
    ];
    each_gets_a_page(&client, &server, &others).await;
}

#[tokio::test]
async fn a_redirect_with_a_fragment_gets_a_page() {
    let (server, client) = start().await;
    each_gets_a_page(&client, &server, &["https://app.example/callback#x", "https://app.example/callback#"])
        .await;
}

#[tokio::test]
async fn a_host_that_only_begins_like_localhost_gets_a_page() {
    let server = TestApp::start().await;
    for kind in ["web", "native"] {
        let local = json!({"redirect_uris": ["http://localhost/cb"], "application_type": kind});
        let local = server.register(local).await;
        let others = [
            "http://localhost.evil.example/cb",
            "http://localhost@evil.example/cb",
            "http://localhost:80@evil.example/cb",
            "http://evil.example/localhost/cb",
        ];
        each_gets_a_page(&local, &server, &others).await;
    }
}

#[tokio::test]
async fn only_a_native_app_may_change_the_port_of_a_loopback_address() {
    let server = TestApp::start().await;
    let uris = ["http://127.0.0.1/cb", "http://[::1]/cb", "http://localhost:3000/cb"];
    let native = server.register(json!({"redirect_uris": uris, "application_type": "native"})).await;
    for port in ["http://127.0.0.1:49152/cb", "http://127.0.0.1:1/cb", "http://[::1]:8080/cb", uris[2]] {
        let answer = server.launch(&native).with("redirect_uri", port).answer().await;
        assert_goes_on(&server, &answer, port);
    }
    let others = [
        "http://localhost:3001/cb",
        "http://localhost/cb",
        "http://127.0.0.2:1/cb",
        "http://127.1:1/cb",
        "http://0.0.0.0:1/cb",
        "http://127.0.0.1:99999/cb",
        "http://127.0.0.1:/../cb",
        "http://127.0.0.1:1/other",
        "http://127.0.0.1:1@evil.example/cb",
        "https://127.0.0.1:1/cb",
    ];
    each_gets_a_page(&native, &server, &others).await;
    let web = server.register(json!({"redirect_uris": uris})).await;
    each_gets_a_page(&web, &server, &["http://127.0.0.1:49152/cb", "http://[::1]:8080/cb"]).await;
    for (kind, uri) in
        [("native", "http://0.0.0.0:1/cb"), ("web", "http://0.0.0.0/cb"), ("native", "http://[::]/cb")]
    {
        let answer = server.try_register(json!({"redirect_uris": [uri], "application_type": kind})).await;
        assert_oauth(&answer, 400, "invalid_redirect_uri", uri, uri);
    }
}
