//! Attacks on the exchange of codes.

use std::collections::BTreeSet;

use hearthgate::clock::SECOND;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::hands::*;
use crate::kit::{Answer, TestApp, TestClient, access};

async fn start() -> (TestApp, TestClient) {
    let server = TestApp::start().await;
    let client = refreshing_app(&server).await;
    (server, client)
}

#[tokio::test]
async fn a_code_used_twice_is_refused_and_all_its_tokens_are_dead_at_once() {
    let (server, client) = start().await;
    let launch = server.launch(&client).scope("openid offline_access patient/*.rs");
    let others = launch.token().await;
    let code = launch.code().await;
    let token = server.exchange(&client, &code).await.json();
    let refreshed = refresh(&server, &client, &token, None).await.json();
    assert_eq!(server.fhir(access(&refreshed), "Patient/patient-maria").await.status, StatusCode::OK);

    let again = server.exchange(&client, &code).await;
    assert_oauth(&again, 400, "invalid_grant", "already used", "again");
    for dead in [&token, &refreshed] {
        let read = server.fhir(access(dead), "Patient/patient-maria").await;
        assert_outcome(&read, 401, "used twice", "an access token");
        assert!(read.header("www-authenticate").contains("error=\"invalid_token\""));
        assert_oauth(
            &refresh(&server, &client, dead, None).await,
            400,
            "invalid_grant",
            "ended",
            "a refresh token",
        );
    }
    assert_eq!(audited(&server, "grant_ended"), 1);
    assert_oauth(
        &server.exchange(&client, &code).await,
        400,
        "invalid_grant",
        "already used",
        "a third time",
    );
    assert_eq!(
        server.fhir(access(&others), "Patient/patient-maria").await.status,
        StatusCode::OK,
        "another launch"
    );
}

#[tokio::test]
async fn a_code_is_used_twice_even_after_its_minute() {
    let (server, client) = start().await;
    let code = server.launch(&client).code().await;
    let token = server.exchange(&client, &code).await.json();
    server.advance(61 * SECOND);
    let wrong = changed(&code_form(&client, &code), &[("code_verifier", None)]);
    assert_oauth(
        &server.post_token(&wrong).await,
        400,
        "invalid_grant",
        "already used",
        "late, with no verifier",
    );
    assert_outcome(&server.fhir(access(&token), "Patient/patient-maria").await, 401, "used twice", "dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_redemptions_at_once_exactly_one_succeeds() {
    let (server, client) = start().await;
    let code = server.launch(&client).code().await;
    let form = code_form(&client, &code);
    let answers =
        at_once((0..32).map(|_| server.request(Method::POST, "/oauth/token").form(&form)).collect()).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == StatusCode::OK);
    assert_eq!((good.len(), bad.len()), (1, 31));
    bad.iter().for_each(|a| assert_oauth(a, 400, "invalid_grant", "already used", "the others"));
    let token = good[0].json();
    assert_outcome(
        &server.fhir(access(&token), "Patient/patient-maria").await,
        401,
        "used twice",
        "dead too",
    );
    assert_eq!(audited(&server, "code_exchanged"), 32, "each leaves its line");
}

#[tokio::test]
async fn a_code_lives_a_minute_to_the_millisecond() {
    let (server, client) = start().await;
    let (early, late) = (server.launch(&client).code().await, server.launch(&client).code().await);
    server.advance(60 * SECOND - 1);
    assert_eq!(server.exchange(&client, &early).await.status, StatusCode::OK);
    server.advance(1);
    assert_oauth(&server.exchange(&client, &late).await, 400, "invalid_grant", "expired", "after a minute");
}

#[tokio::test]
async fn a_stranger_cannot_exchange_a_code_nor_burn_it() {
    let (server, client) = start().await;
    let secret = json!({"token_endpoint_auth_method": "client_secret_basic"});
    let (public, confidential) = (server.register(json!({})).await, server.register(secret).await);
    let code = server.launch(&client).code().await;
    for stranger in [&public, &confidential] {
        let answer = server.exchange(stranger, &code).await;
        assert_oauth(&answer, 400, "invalid_grant", "another app", "a stranger");
    }
    assert_eq!(server.exchange(&client, &code).await.status, StatusCode::OK, "its rightful app still can");
    for stranger in [&public, &confidential] {
        assert_oauth(
            &server.exchange(stranger, &code).await,
            400,
            "invalid_grant",
            "another app",
            "after it",
        );
    }
    assert_eq!(audited(&server, "grant_ended"), 0, "a stranger ends nobody's access");
}

/// Each form is refused so, and the code still works afterwards.
async fn each_is_refused(cases: &[(&str, Option<&str>)], status: u16, error: &str, says: &str) {
    let (server, client) = start().await;
    let code = server.launch(&client).code().await;
    let form = code_form(&client, &code);
    for case in cases {
        let answer = server.post_token(&changed(&form, &[*case])).await;
        assert_oauth(&answer, status, error, says, &format!("{case:?}"));
    }
    assert_eq!(server.exchange(&client, &code).await.status, StatusCode::OK, "nothing was half done");
}

#[tokio::test]
async fn a_code_needs_the_redirect_it_was_sent_to() {
    let others = [
        None,
        Some(""),
        Some("https://app.example/callback/"),
        Some("https://app.example/Callback"),
        Some("HTTPS://app.example/callback"),
        Some("https://app.example:443/callback"),
        Some("https://evil.example/callback"),
    ];
    each_is_refused(&others.map(|o| ("redirect_uri", o)), 400, "invalid_grant", "redirect_uri").await;
}

#[tokio::test]
async fn a_code_needs_its_verifier() {
    let long = "a".repeat(129);
    let challenge = hearthgate::crypto::sha256_base64url(crate::kit::VERIFIER.as_bytes());
    let spaced = format!("{} ", crate::kit::VERIFIER);
    let others = [
        None,
        Some(""),
        Some("0123456789abcdefghijklmnopqrstuvwxyz-._~ABCDEG"),
        Some("0123456789abcdefghijklmnopqrstuvwxyz-._~ab"),
        Some(long.as_str()),
        Some(challenge.as_str()),
        Some(spaced.as_str()),
    ];
    each_is_refused(&others.map(|o| ("code_verifier", o)), 400, "invalid_grant", "code_verifier").await;
}

#[tokio::test]
async fn a_code_travels_in_a_form_body_and_nowhere_else() {
    let (server, client) = start().await;
    let code = server.launch(&client).code().await;
    let form = code_form(&client, &code);
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
    let in_url = format!("/oauth/token?{query}");
    let at = |method| server.request(method, "/oauth/token");
    let typed = |kind: &'static str| at(Method::POST).header("content-type", kind).body(query.clone());
    let json: serde_json::Map<_, _> = form.iter().map(|(n, v)| ((*n).to_owned(), json!(v))).collect();
    let cases = [
        ("GET", server.request(Method::GET, &in_url), 405, "method_not_allowed"),
        ("PUT", at(Method::PUT).form(&form), 405, "method_not_allowed"),
        ("DELETE", at(Method::DELETE), 405, "method_not_allowed"),
        ("all in the URL", server.request(Method::POST, &in_url), 415, "unsupported_media_type"),
        ("also in the URL", server.request(Method::POST, &in_url).form(&form), 400, "invalid_request"),
        (
            "the code in the URL",
            server
                .request(Method::POST, &format!("/oauth/token?code={code}"))
                .form(&changed(&form, &[("code", None)])),
            400,
            "invalid_request",
        ),
        ("JSON", at(Method::POST).json(&json), 415, "unsupported_media_type"),
        ("no type", at(Method::POST).body(query.clone()), 415, "unsupported_media_type"),
        ("plain text", typed("text/plain"), 415, "unsupported_media_type"),
        ("multipart", typed("multipart/form-data; boundary=x"), 415, "unsupported_media_type"),
    ];
    for (case, request, status, error) in cases {
        let answer = Answer::to(request).await;
        assert_oauth(&answer, status, error, "", case);
        assert!(answer.header("cache-control").contains("no-store"), "{case}");
    }
    let get_with_body = format!(
        "GET /oauth/token HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{query}",
        query.len()
    );
    assert_eq!(raw(&server, &get_with_body).await.0, 405);
    assert_eq!(server.exchange(&client, &code).await.status, StatusCode::OK, "nothing was half done");
}

#[tokio::test]
async fn an_endless_form_is_refused() {
    let (server, client) = start().await;
    let code = server.launch(&client).code().await;
    let form = code_form(&client, &code);
    let huge = "x".repeat(1024 * 1024);
    let answer = server.post_token(&changed(&form, &[("padding", Some(&huge))])).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let names: Vec<String> = (0..10_000).map(|n| format!("p{n}")).collect();
    let many: Vec<(&str, &str)> =
        form.iter().copied().chain(names.iter().map(|n| (n.as_str(), "1"))).collect();
    assert_oauth(&server.post_token(&many).await, 400, "invalid_request", "parameters", "10,000 parameters");
    let names: BTreeSet<&str> =
        form.iter().map(|(name, _)| *name).chain(["code_verifier", "unknown"]).collect();
    for name in names {
        let mut twice = form.clone();
        twice.extend([(name, "x"), (name, "x")]);
        assert_oauth(&server.post_token(&twice).await, 400, "invalid_request", name, name);
    }
    assert_eq!(server.exchange(&client, &code).await.status, StatusCode::OK, "nothing was half done");
}

#[tokio::test]
async fn an_absent_grant_type_is_invalid_request() {
    each_is_refused(&[("grant_type", None), ("grant_type", Some(""))], 400, "invalid_request", "grant_type")
        .await;
}

#[tokio::test]
async fn grant_types_that_were_never_safe_are_unsupported() {
    let others =
        ["password", "implicit", "code", "Authorization_Code", "urn:ietf:params:oauth:grant-type:jwt-bearer"];
    each_is_refused(
        &others.map(|o| ("grant_type", Some(o))),
        400,
        "unsupported_grant_type",
        "authorization_code",
    )
    .await;
}

#[tokio::test]
async fn a_person_shut_out_between_code_and_exchange_gets_no_token() {
    let (server, client) = start().await;
    let token = server.launch(&client).token().await;
    let code = server.launch(&client).code().await;
    disable(&server, "maria").await;
    let answer = server.exchange(&client, &code).await;
    assert_oauth(&answer, 400, "invalid_grant", "can no longer sign in", "the exchange");
    let read = server.fhir(access(&token), "Patient/patient-maria").await;
    assert_outcome(&read, 401, "can no longer sign in", "a token from before");
}
