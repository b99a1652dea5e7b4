//! Apps that prove themselves by assertions, by every algorithm and at every endpoint.

use hearthgate::jose::Alg;
use reqwest::StatusCode;
use serde_json::json;

use crate::attacks::hands::assert_oauth;
use crate::key_server::KeyServer;
use crate::kit::{Answer, TestApp, VERIFIER};
use crate::signer::{Signer, new_key, set_of};

#[tokio::test]
async fn every_algorithm_of_smart_proves_a_service_by_value_and_by_address() {
    let server = TestApp::start().await;
    for alg in Alg::THEIRS {
        let by_value = Signer::with(&server, new_key(alg), json!({})).await;
        let read = server.fhir(&by_value.token("system/*.rs").await, "Patient/patient-maria").await;
        assert_eq!(read.status, StatusCode::OK, "{alg:?}");
        let keys = KeyServer::start(&[&by_value.key]).await;
        let by_url = Signer::service_at(&server, by_value.key, &keys.url).await;
        assert!(!by_url.token("system/*.rs").await.is_empty(), "{alg:?}");
        assert_eq!(keys.last(), "GET /jwks.json application/json");
    }
}

#[tokio::test]
async fn an_app_that_registered_one_algorithm_signs_by_it_only() {
    let server = TestApp::start().await;
    let (rsa, ec) = (new_key(Alg::RS384), new_key(Alg::ES384));
    let extra = json!({"jwks": set_of(&[&rsa, &ec]), "token_endpoint_auth_signing_alg": "ES384"});
    let signer = Signer::with(&server, ec, extra).await;
    assert_eq!(signer.app.registered["token_endpoint_auth_signing_alg"], "ES384");
    let mut header = signer.header();
    (header["alg"], header["kid"]) = (json!("RS384"), json!(rsa.kid));
    let other = rsa.sign_with(&header, &signer.claims()).unwrap();
    assert_oauth(&signer.ask(&other).await, 401, "invalid_client", "ES384", "its other key");
    assert_eq!(signer.ask(&signer.assertion()).await.status, StatusCode::OK);
    for (method, alg) in [("private_key_jwt", "HS256"), ("private_key_jwt", "none"), ("none", "ES384")] {
        let extra = json!({"token_endpoint_auth_method": method, "jwks": set_of(&[&signer.key]),
            "token_endpoint_auth_signing_alg": alg});
        let answer = server.try_register(extra).await;
        assert_oauth(&answer, 400, "invalid_client_metadata", "token_endpoint_auth_signing_alg", alg);
    }
}

#[tokio::test]
async fn an_app_that_people_launch_exchanges_refreshes_introspects_and_revokes_by_assertions() {
    let server = TestApp::start().await;
    let signer = Signer::launched(&server).await;
    let launch =
        server.launch(&signer.app).scope("openid fhirUser launch/patient patient/*.rs offline_access");
    let code = launch.code().await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", crate::kit::CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let mut named = form.to_vec();
    named.push(("client_id", &signer.app.id));
    let unproven = server.post_token(&named).await;
    assert_oauth(&unproven, 401, "invalid_client", "`private_key_jwt`", "a name alone");
    let assertion = signer.assertion();
    let wrong = [form[0], form[1], form[2], ("code_verifier", &VERIFIER.replace('0', "1"))];
    let refused = Answer::to(signer.request("/oauth/token", &assertion, &wrong)).await;
    assert_oauth(&refused, 400, "invalid_grant", "code_verifier", "a wrong verifier");
    let again = Answer::to(signer.request("/oauth/token", &assertion, &form)).await;
    assert_oauth(&again, 401, "invalid_client", "used before", "the assertion is used up, the code is not");
    let answer = signer.post("/oauth/token", &form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let first = answer.json();
    assert_eq!((&first["patient"], &first["expires_in"]), (&json!("patient-maria"), &json!(3_600)));
    assert!(first["id_token"].is_string());

    let refresh = first["refresh_token"].as_str().expect("a refresh token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let unproven = server.post_token(&form).await;
    assert_oauth(&unproven, 401, "invalid_client", "`private_key_jwt`", "the refresh token alone");
    let stranger = Signer::launched(&server).await.post("/oauth/token", &form).await;
    assert_oauth(&stranger, 400, "invalid_grant", "another app", "another app");
    let second = signer.post("/oauth/token", &form).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    let token = second.json()["access_token"].as_str().expect("a token").to_owned();
    let told = signer.post("/oauth/introspect", &[("token", &token)]).await.json();
    assert_eq!((&told["active"], &told["patient"]), (&json!(true), &json!("patient-maria")));
    let next = second.json()["refresh_token"].as_str().expect("a refresh token").to_owned();
    assert_eq!(signer.post("/oauth/revoke", &[("token", &next)]).await.status, StatusCode::OK);
    assert_eq!(server.fhir(&token, "Patient/patient-maria").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn keys_that_are_private_shared_weak_or_nobodys_are_not_registered() {
    let server = TestApp::start().await;
    let key = new_key(Alg::ES384);
    let with = |name: &str, value: serde_json::Value| {
        let mut jwk = key.jwk().clone();
        jwk[name] = value;
        json!({"keys": [jwk]})
    };
    let unnamed = with("kid", json!(null))["keys"][0].clone();
    for (case, jwks, says) in [
        ("private", with("d", json!("AQ")), "private half"),
        ("an RSA prime", with("p", json!("AQ")), "private half"),
        ("shared", json!({"keys": [{"kty": "oct", "k": "AQ"}]}), "private half"),
        ("shared by name", json!({"keys": [{"kty": "oct", "kid": "a"}]}), "shared secret"),
        ("another curve", with("crv", json!("P-521")), "curve"),
        ("for encryption", with("use", json!("enc")), "signatures"),
        ("for HS256", with("alg", json!("HS256")), "`alg`"),
        ("the same name twice", json!({"keys": [key.jwk(), key.jwk()]}), "`kid`"),
        ("no names", json!({"keys": [unnamed, unnamed]}), "`kid`"),
        ("21 keys", json!({"keys": vec![key.jwk().clone(); 21]}), "more than 20"),
        ("none", json!({"keys": []}), "at least one"),
        ("a list", json!([key.jwk()]), "JWK Set"),
        ("a text", json!("x"), "JWK Set"),
        ("nothing", json!(null), "private_key_jwt"),
    ] {
        let extra = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks});
        assert_oauth(&server.try_register(extra).await, 400, "invalid_client_metadata", says, case);
    }
    let both = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": set_of(&[&key]),
        "jwks_uri": "https://a.example/jwks"});
    assert_oauth(&server.try_register(both).await, 400, "invalid_client_metadata", "not both", "two ways");
}

#[tokio::test]
async fn the_script_of_the_readme_gets_a_token_and_counts_patients() {
    let folder = crate::restart::Folder::new("backend-service");
    let server = crate::restart::Process::start(&folder.0.join("hearthgate.db"), "127.0.0.1:0");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backend-service.mjs");
    let run = std::process::Command::new("node").arg(script).arg(&server.issuer).output();
    let Ok(output) = run else {
        return crate::kit::skip("the_script_of_the_readme_gets_a_token_and_counts_patients", "no node here");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("scope: 'system/Patient.rs'") && said.contains("expires_in: 300"), "{said}");
    assert!(said.contains("patients: 9"), "{said}");
}
