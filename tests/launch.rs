//! Standalone launch from end to end (SMART App Launch 2.2, "Launch App: Standalone Launch").

use hearthgate::clock::SECOND;
use reqwest::StatusCode;
use serde_json::json;

use crate::kit::{TestApp, access, claims};

#[tokio::test]
async fn a_patient_who_acts_for_herself_sees_no_picker_and_the_token_is_about_her() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let (_, page) = server.launch(&client).to_consent(&browser).await;
    assert!(page.text.contains("name=\"decision\""), "signing in leads straight to consent");

    let token = server.launch(&client).token().await;
    assert_eq!(token["patient"], "patient-maria");
    assert_eq!(token["token_type"], "Bearer");
    assert_eq!(token["expires_in"], json!(3600));
    assert_eq!(token["scope"], "openid fhirUser launch/patient patient/*.rs");
    let claims = claims(&token["id_token"]);
    assert_eq!(claims["fhirUser"], format!("{}/fhir/Patient/patient-maria", server.url));
    assert_eq!(claims["iss"], server.url);
    assert_eq!(claims["aud"], client.id);

    let patient = server.fhir(access(&token), "Patient/patient-maria").await;
    assert_eq!(patient.status, StatusCode::OK, "{}", patient.text);
    assert_eq!(patient.json()["id"], "patient-maria");
}

#[tokio::test]
async fn an_access_token_dies_to_the_millisecond() {
    let server = TestApp::start().await;
    let client = server.register(json!({"access_token_life": 1})).await;
    let token = server.launch(&client).token().await;
    assert_eq!(token["expires_in"], json!(1));
    server.advance(SECOND - 1);
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::OK);
    server.advance(1);
    let late = server.fhir(access(&token), "Patient/patient-maria").await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
    assert!(late.header("www-authenticate").contains("error=\"invalid_token\""));
    assert_eq!(late.json()["resourceType"], "OperationOutcome");
}
