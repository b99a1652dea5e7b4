//! What can be done with a token that was issued: introspect it, give it back, ask who it is for.

use hearthgate::clock::{HOUR, SECOND};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, NOW, TestApp, TestClient, access};

async fn confidential(server: &TestApp, extra: Value) -> TestClient {
    let mut metadata = json!({
        "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    server.register(metadata).await
}

async fn post_as(server: &TestApp, client: &TestClient, path: &str, form: &[(&str, &str)]) -> Answer {
    let request = server.request(Method::POST, path).basic_auth(&client.id, client.secret.as_deref());
    Answer::to(request.form(form)).await
}

async fn introspect(server: &TestApp, client: &TestClient, token: &str) -> Value {
    let answer = post_as(server, client, "/oauth/introspect", &[("token", token)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

const SCOPE: &str = "openid fhirUser launch/patient patient/*.rs offline_access";

#[tokio::test]
async fn an_app_introspects_its_own_tokens_with_their_whole_context() {
    let server = TestApp::start().await;
    let client = confidential(&server, json!({})).await;
    let token = server.launch(&client).scope(SCOPE).token().await;
    let told = introspect(&server, &client, access(&token)).await;
    assert_eq!(told["active"], true);
    assert_eq!(told["scope"], token["scope"]);
    assert_eq!(told["client_id"], client.id);
    assert_eq!(told["exp"], json!((NOW + HOUR) / SECOND));
    assert_eq!(told["iss"], server.url);
    assert_eq!(told["sub"], crate::kit::claims(&token["id_token"])["sub"]);
    assert_eq!(told["patient"], "patient-maria");
    assert_eq!(told["fhirUser"], format!("{}/fhir/Patient/patient-maria", server.url));
    assert_eq!(told["aud"], format!("{}/fhir", server.url));
    let refresh = introspect(&server, &client, token["refresh_token"].as_str().unwrap()).await;
    assert_eq!((&refresh["active"], &refresh["patient"]), (&json!(true), &json!("patient-maria")));
}

#[tokio::test]
async fn of_a_token_that_is_dead_or_another_apps_nothing_is_said() {
    let server = TestApp::start().await;
    let (client, other) = (confidential(&server, json!({})).await, confidential(&server, json!({})).await);
    let token = server.launch(&client).scope(SCOPE).token().await;
    let nothing = json!({"active": false});
    assert_eq!(introspect(&server, &other, access(&token)).await, nothing, "another app's");
    assert_eq!(introspect(&server, &client, "made-up").await, nothing);
    let refresh = token["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let next = post_as(&server, &client, "/oauth/token", &form).await.json();
    assert_eq!(introspect(&server, &client, refresh).await, nothing, "a used refresh token");
    server.advance(HOUR);
    assert_eq!(introspect(&server, &client, access(&next)).await, nothing, "expired");
    assert_eq!(introspect(&server, &client, next["refresh_token"].as_str().unwrap()).await["active"], true);
}

#[tokio::test]
async fn whoever_proves_nothing_introspects_nothing() {
    let server = TestApp::start().await;
    let public = server.register(json!({})).await;
    let client = confidential(&server, json!({})).await;
    let token = server.launch(&public).token().await;
    let ask = |request: reqwest::RequestBuilder| Answer::to(request);
    let post = || server.request(Method::POST, "/oauth/introspect");
    let form = [("token", access(&token)), ("client_id", public.id.as_str())];
    for (what, request) in [
        ("a public app", post().form(&form)),
        ("nobody", post().form(&[("token", access(&token))])),
        ("a wrong secret", post().basic_auth(&client.id, Some("wrong")).form(&[("token", access(&token))])),
    ] {
        let answer = ask(request).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::UNAUTHORIZED, "invalid_client"),
            "{what}"
        );
    }
    let by_token = ask(post().bearer_auth(access(&token)).form(&[("token", access(&token))])).await;
    assert_eq!(by_token.status, StatusCode::FORBIDDEN, "a token without `__introspect`");
    let missing = post_as(&server, &client, "/oauth/introspect", &[]).await;
    assert_eq!((missing.status, missing.error().as_str()), (StatusCode::BAD_REQUEST, "invalid_request"));
    assert_eq!(server.get("/oauth/introspect").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_gateway_that_is_registered_for_it_introspects_any_apps_tokens_by_secret_or_by_token() {
    let server = TestApp::start().await;
    let app = server.register(json!({})).await;
    let token = server.launch(&app).token().await;
    let scope = "openid __introspect";
    let refused = server.try_register(json!({"introspect": "all"})).await;
    assert_eq!(refused.error(), "invalid_client_metadata", "a public app proves nothing");
    let gateway = confidential(&server, json!({"introspect": "all", "scope": scope})).await;
    assert_eq!(introspect(&server, &gateway, access(&token)).await["client_id"], app.id);
    let own = server.launch(&gateway).scope(scope).token().await;
    let request = server.request(Method::POST, "/oauth/introspect").bearer_auth(access(&own));
    let told = Answer::to(request.form(&[("token", access(&token))])).await.json();
    assert_eq!((&told["active"], &told["patient"]), (&json!(true), &json!("patient-maria")));
}

#[tokio::test]
async fn a_token_that_was_given_back_is_dead_at_the_next_call() {
    let server = TestApp::start().await;
    let client = server.register(json!({"grant_types": ["authorization_code", "refresh_token"]})).await;
    let revoke = |token: String, id: String| {
        let form = [("token", token), ("client_id", id)];
        Answer::to(server.request(Method::POST, "/oauth/revoke").form(&form))
    };
    let token = server.launch(&client).scope(SCOPE).token().await;
    let other = server.register(json!({})).await;
    assert_eq!(revoke(access(&token).into(), other.id.clone()).await.status, StatusCode::OK);
    let read = || server.fhir(access(&token), "Patient/patient-maria");
    assert_eq!(read().await.status, StatusCode::OK, "another app's token is not revoked");
    assert_eq!(revoke(access(&token).into(), client.id.clone()).await.status, StatusCode::OK);
    assert_eq!(read().await.status, StatusCode::UNAUTHORIZED);
    let refresh = token["refresh_token"].as_str().unwrap();
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", client.id.as_str())];
    let next = server.post_token(&form).await.json();
    assert_eq!(
        server.fhir(access(&next), "Patient/patient-maria").await.status,
        StatusCode::OK,
        "only that token"
    );
    let last = next["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(revoke(last.clone(), client.id.clone()).await.status, StatusCode::OK);
    assert_eq!(
        server.fhir(access(&next), "Patient/patient-maria").await.status,
        StatusCode::UNAUTHORIZED,
        "the whole grant"
    );
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", last.as_str()),
        ("client_id", client.id.as_str()),
    ];
    assert_eq!(server.post_token(&form).await.error(), "invalid_grant");
    assert_eq!(revoke("made-up".into(), client.id.clone()).await.status, StatusCode::OK, "RFC 7009 2.2");
    assert_eq!(revoke("made-up".into(), "nobody".into()).await.status, StatusCode::UNAUTHORIZED);
    let missing = server.request(Method::POST, "/oauth/revoke").form(&[("client_id", client.id.as_str())]);
    assert_eq!(Answer::to(missing).await.error(), "invalid_request");
}

#[tokio::test]
async fn userinfo_tells_what_was_granted_by_get_and_by_post() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let launch = server.launch(&client).scope("openid fhirUser profile email phone address").without("aud");
    let token = launch.token().await;
    let by =
        |method: Method| Answer::to(server.request(method, "/oauth/userinfo").bearer_auth(access(&token)));
    let told = by(Method::GET).await;
    assert_eq!(told.header("content-type"), "application/json");
    let told = told.json();
    assert_eq!(told, by(Method::POST).await.json());
    assert_eq!(told["sub"], crate::kit::claims(&token["id_token"])["sub"]);
    assert_eq!(told["fhirUser"], format!("{}/fhir/Patient/patient-maria", server.url));
    assert_eq!(told["family_name"], "Alvarez");
    assert_eq!(told["email_verified"], false, "nobody proved it");
    let fhir = server.fhir(access(&token), "Patient/patient-maria").await;
    assert_eq!(fhir.status, StatusCode::UNAUTHORIZED, "a sign-in token opens no records");

    let plain = server.launch(&client).scope("openid").without("aud").token().await;
    let told =
        Answer::to(server.request(Method::GET, "/oauth/userinfo").bearer_auth(access(&plain))).await.json();
    assert_eq!(told.as_object().unwrap().len(), 1, "openid alone tells the subject: {told}");
}

#[tokio::test]
async fn userinfo_refuses_what_is_no_sign_in() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let token = server.launch(&client).scope("launch/patient patient/*.rs").token().await;
    let get = |path: &str| server.request(Method::GET, path);
    let without = Answer::to(get("/oauth/userinfo")).await;
    assert_eq!(
        (without.status, without.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"hearthgate\"")
    );
    let unknown = Answer::to(get("/oauth/userinfo").bearer_auth("made-up")).await;
    assert!(unknown.header("www-authenticate").contains("error=\"invalid_token\""));
    let no_openid = Answer::to(get("/oauth/userinfo").bearer_auth(access(&token))).await;
    assert_eq!((no_openid.status, no_openid.error().as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    let in_url = Answer::to(get(&format!("/oauth/userinfo?access_token={}", access(&token)))).await;
    assert_eq!(in_url.status, StatusCode::BAD_REQUEST);
}
