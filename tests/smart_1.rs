//! Apps of SMART 1.0's time: the scopes they ask for, their redirects, and their lack of PKCE.

use reqwest::StatusCode;
use serde_json::json;

use crate::kit::{TestApp, VERIFIER, access, claims};

#[tokio::test]
async fn the_scopes_of_smart_1_are_granted_as_they_were_written_and_enforced() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let asked = "openid profile launch/patient patient/*.read user/*.*";
    let token = server.launch(&client).scope(asked).token().await;
    assert_eq!(token["scope"], asked);
    assert_eq!(token["patient"], "patient-maria");
    let maria = format!("{}/fhir/Patient/patient-maria", server.url);
    assert_eq!(claims(&token["id_token"])["profile"], maria.as_str(), "where SMART 1.0 apps read who it is");
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::OK);
    assert_eq!(server.fhir(access(&token), "Observation?_count=1").await.status, StatusCode::OK);

    let read = server.launch(&client).scope("launch/patient patient/*.read").token().await;
    assert_eq!(read["scope"], "launch/patient patient/*.read");
    assert_eq!(server.fhir(access(&read), "Patient/patient-kofi").await.status, StatusCode::NOT_FOUND);
    let user = server.launch(&client).scope("user/*.*").by("ruth").token().await;
    assert_eq!(user["scope"], "user/*.*");
    assert!(user.get("patient").is_none(), "nobody was asked for a patient");
    assert_eq!(server.fhir(access(&user), "Patient/patient-kofi").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_redirect_whose_scheme_comes_back_in_lower_case_is_the_apps_own() {
    let server = TestApp::start().await;
    let redirect = "AsthmaBrain://callback";
    let client = server.register(json!({"redirect_uris": [redirect], "application_type": "native"})).await;
    assert_eq!(client.redirect, redirect);
    for (at_authorize, at_token, good) in [
        (redirect, redirect, true),
        (redirect, "asthmabrain://callback", true),
        ("asthmabrain://callback", redirect, true),
        ("asthmabrain://callback", "asthmabrain://callback", true),
        (redirect, "asthmabrain://CALLBACK", false),
        (redirect, "asthmabrain://callback/", false),
        (redirect, "asthmabrain2://callback", false),
    ] {
        let answer = server.launch(&client).with("redirect_uri", at_authorize).decide("allow").await;
        assert!(answer.location().starts_with(&format!("{at_authorize}?")), "{}", answer.location());
        let code = answer.redirect_params()["code"].clone();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", at_token),
            ("code_verifier", VERIFIER),
            ("client_id", &client.id),
        ];
        let token = server.post_token(&form).await;
        assert_eq!(token.status.is_success(), good, "{at_authorize} then {at_token}: {}", token.text);
    }
}

#[tokio::test]
async fn offline_access_that_was_not_enabled_is_named_as_what_it_is() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let alone = server.launch(&client).scope("offline_access").answer().await.redirect_params();
    assert_eq!(alone["error"], "invalid_scope");
    for words in ["`offline_access`", "refresh tokens must be enabled at registration", "`refresh_token`"] {
        assert!(alone["error_description"].contains(words), "{words}: {alone:?}");
    }
    let launch = server.launch(&client).scope("launch/patient patient/*.read offline_access");
    let (_, page) = launch.to_consent(&server.browser()).await;
    assert!(page.text.contains("Asked for, but left out") && page.text.contains("offline_access"));
    assert!(page.text.contains("efresh tokens must be enabled at registration"), "{}", page.text);
    let token = launch.token().await;
    assert_eq!(token["scope"], "launch/patient patient/*.read");
    assert!(token.get("refresh_token").is_none());
}

#[tokio::test]
async fn an_app_registered_without_pkce_launches_without_it_and_no_other_does() {
    let server = TestApp::start().await;
    for method in ["none", "client_secret_basic"] {
        let client = server.register(json!({"no_pkce": true, "token_endpoint_auth_method": method})).await;
        let plain = server
            .launch(&client)
            .scope("openid profile launch/patient patient/*.read")
            .without("code_challenge")
            .without("code_challenge_method");
        let code = plain.code().await;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", &client.redirect),
        ];
        let mut request = server.request(reqwest::Method::POST, "/oauth/token");
        match &client.secret {
            Some(secret) => request = request.basic_auth(&client.id, Some(secret)),
            None => form.push(("client_id", &client.id)),
        }
        let token = crate::kit::Answer::to(request.form(&form)).await;
        assert_eq!(token.status, StatusCode::OK, "{method}: {}", token.text);
        let token = token.json();
        assert_eq!(token["patient"], "patient-maria");
        assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::OK);

        let verifier = server.exchange(&client, &plain.code().await).await;
        assert_eq!(verifier.error(), "invalid_grant", "a verifier without a challenge");
        for (missing, words) in [("state", "`state`"), ("aud", "`aud` is missing")] {
            let told = plain.clone().without(missing).answer().await.redirect_params();
            assert_eq!(told["error"], "invalid_request", "{missing}");
            assert!(told["error_description"].contains(words), "{told:?}");
        }
        assert_eq!(server.launch(&client).token().await["patient"], "patient-maria", "with PKCE as well");
    }
    let other = server.register(json!({})).await;
    let plain = server.launch(&other).without("code_challenge").without("code_challenge_method");
    let told = plain.answer().await.redirect_params();
    assert!(told["error_description"].contains("`no_pkce`"), "{told:?}");
}
