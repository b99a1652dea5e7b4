//! Attacks by what an app registers.

use reqwest::Method;
use serde_json::{Value, json};

use super::hands::*;
use crate::kit::{Answer, TestApp};

#[tokio::test]
async fn a_redirect_that_could_lead_anywhere_cannot_be_registered() {
    let server = TestApp::start().await;
    let uris = [
        "javascript:alert(1)",
        "JavaScript:alert(1)//https://app.example",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "vbscript:x",
        "about:blank",
        "blob:https://app.example/x",
        "https://app.example/cb#x",
        "https://app.example/cb#",
        "https://user@app.example/cb",
        "https://user:pass@app.example/cb",
        "https://*.app.example/cb",
        "https://app.example/*",
        "https://app.example\\@evil.example/",
        "https:///cb",
        "https:app.example/cb",
        "https:/app.example/cb",
        "https://@app.example/cb",
        "https://:@app.example/cb",
        "http:///127.0.0.1/cb",
        "//app.example/cb",
        "/cb",
        "",
        " https://app.example/cb",
        "https://app.example/c b",
        "https://app.example/cb\r\nSet-Cookie: x=1",
        "https://\u{430}pp.example/cb",
    ];
    for kind in ["web", "native"] {
        for uri in uris {
            let alone = server.try_register(json!({"redirect_uris": [uri], "application_type": kind})).await;
            assert_oauth(&alone, 400, "invalid_redirect_uri", "redirect_uris", uri);
            let hidden = json!({"redirect_uris": ["https://app.example/cb", uri], "application_type": kind});
            assert_oauth(
                &server.try_register(hidden).await,
                400,
                "invalid_redirect_uri",
                "redirect_uris",
                uri,
            );
        }
    }
    assert_eq!(audited(&server, "app_registered"), 0, "nothing was half done");
}

#[tokio::test]
async fn no_redirects_and_a_thousand_redirects_are_refused() {
    let server = TestApp::start().await;
    let many: Vec<String> = (0..1_000).map(|n| format!("https://app.example/{n}")).collect();
    for uris in
        [json!([]), json!(null), json!(many), json!("https://app.example/cb"), json!([1]), json!({"0": "x"})]
    {
        let answer = server.try_register(json!({"redirect_uris": uris})).await;
        assert_oauth(
            &answer,
            400,
            "invalid_redirect_uri",
            "redirect_uris",
            &uris.to_string().chars().take(60).collect::<String>(),
        );
    }
    assert_eq!(audited(&server, "app_registered"), 0);
}

#[tokio::test]
async fn a_logo_or_launch_address_that_is_no_web_address_is_refused() {
    let server = TestApp::start().await;
    for field in ["logo_uri", "initiate_login_uri"] {
        for uri in [
            "javascript:alert(1)",
            "data:image/svg+xml,<svg onload=alert(1)>",
            "file:///x",
            "//x",
            "https://u:p@x",
        ] {
            let answer = server.try_register(json!({field: uri})).await;
            assert_oauth(&answer, 400, "invalid_client_metadata", field, uri);
        }
    }
    assert_eq!(audited(&server, "app_registered"), 0);
}

#[tokio::test]
async fn what_is_registered_is_said_and_nothing_else_is() {
    let server = TestApp::start().await;
    let extra: Value = json!({"client_id": "chosen", "client_secret": "chosen", "introspect": "own",
        "client_id_issued_at": 0, "is_admin": true, "created": 0});
    let registered = server.register(extra).await;
    assert_ne!(registered.id, "chosen");
    assert_eq!(registered.secret, None, "a public app");
    assert_eq!(registered.registered.get("is_admin"), None);
    let at = || server.request(Method::POST, "/oauth/register");
    let deep = format!("{{\"redirect_uris\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let json_type = |body: String| at().header("content-type", "application/json").body(body);
    for (case, request, status, error) in [
        ("a form", at().form(&[("redirect_uris", "https://app.example")]), 415, "unsupported_media_type"),
        ("no JSON", json_type("{".into()), 400, "invalid_client_metadata"),
        ("a list", json_type("[]".into()), 400, "invalid_client_metadata"),
        ("nested", json_type(deep), 400, "invalid_client_metadata"),
    ] {
        assert_oauth(&Answer::to(request).await, status, error, "", case);
    }
}
