//! Attacks by what an app registers.

use hearthgate::jose::{Alg, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};

use super::hands::*;
use crate::kit::{Answer, TestApp, TestClient, access};

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

#[tokio::test]
async fn a_registration_access_token_manages_its_own_app_and_no_other() {
    let server = TestApp::start().await;
    let (ours, theirs) = (server.register(json!({})).await, server.register(json!({})).await);
    let token = |client: &TestClient| {
        client.registered["registration_access_token"].as_str().expect("a token").to_owned()
    };
    let access_token = server.launch(&ours).token().await;
    let own = format!("Bearer {}", token(&ours));
    let wrong = [
        ("another app's", format!("Bearer {}", token(&theirs))),
        ("an access token", format!("Bearer {}", access(&access_token))),
        ("made up", "Bearer hg_manage_x".to_owned()),
        ("nothing", "Bearer ".to_owned()),
        ("two words", format!("{own} {own}")),
        ("Basic", format!("Basic {}", token(&ours))),
        ("no scheme", token(&ours)),
        ("cut short", own[..own.len() - 1].to_owned()),
    ];
    let body =
        json!({"client_id": ours.id, "client_name": "Stolen", "redirect_uris": ["https://evil.example"]});
    let at = format!("/oauth/register/{}", ours.id);
    let unknown = "/oauth/register/no-such-app".to_owned();
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let ask = |at: &str| server.request(method.clone(), at).json(&body);
        for (case, sent) in &wrong {
            let answer = Answer::to(ask(&at).header("authorization", sent)).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "invalid_token"), "{case}");
            assert!(answer.header("www-authenticate").starts_with("Bearer "), "{case}");
            let nobodys = Answer::to(ask(&unknown).header("authorization", sent)).await;
            assert_eq!(
                (nobodys.status, &nobodys.text),
                (answer.status, &answer.text),
                "{case}: the same is said"
            );
        }
        let none = Answer::to(ask(&at)).await;
        assert_eq!(
            (none.status.as_u16(), none.header("www-authenticate")),
            (401, "Bearer realm=\"hearthgate\"")
        );
        let twice = ask(&at).header("authorization", &own).header("authorization", &own);
        assert_eq!(Answer::to(twice).await.status.as_u16(), 400);
        let in_url = Answer::to(ask(&format!("{at}?access_token={}", token(&ours)))).await;
        assert_eq!(in_url.status.as_u16(), 400);
    }
    let untouched = Answer::to(server.request(Method::GET, &at).header("authorization", &own)).await.json();
    assert_eq!(untouched["client_name"], "Test app");
    assert!(audited(&server, "app_changed") > 0 && audited(&server, "app_deleted") == 0);
}

#[tokio::test]
async fn keys_that_are_private_or_shared_cannot_be_registered() {
    let server = TestApp::start().await;
    let key = SigningKey::generate(Alg::ES384).expect("a key").0.jwk().clone();
    let mut private = key.clone();
    private["d"] = json!("AQ");
    let mut unnamed = key.clone();
    unnamed.as_object_mut().expect("an object").shift_remove("kid");
    for (case, jwks) in [
        ("private", json!({"keys": [private]})),
        ("private beside a public one", json!({"keys": [key, private]})),
        ("oct", json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})),
        ("none", json!({"keys": []})),
        ("no set", json!([key])),
        ("not told apart", json!({"keys": [key, unnamed]})),
    ] {
        let sent = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks});
        assert_oauth(&server.try_register(sent).await, 400, "invalid_client_metadata", "jwks", case);
    }
    let both = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [key]},
        "jwks_uri": "https://app.example/jwks"});
    assert_oauth(&server.try_register(both).await, 400, "invalid_client_metadata", "jwks_uri", "both");
    assert_eq!(audited(&server, "app_registered"), 0);
}
