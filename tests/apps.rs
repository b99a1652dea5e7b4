//! A developer's apps: registered, changed and deleted by form, and by nobody else.

use hearthgate::clock::SECOND;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, Browser, CALLBACK, TestApp, TestClient, access};

/// The fields of the form as a browser posts them: the typed scope always, boxes where they are ticked.
pub fn form<'a>(csrf: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![("csrf", csrf), ("client_name", "Growth chart"), ("redirect_uris", CALLBACK)];
    fields.extend(more);
    fields
}

/// Registers by form; answers with the page that shows the app, and its id.
pub async fn register(browser: &Browser<'_>, more: &[(&str, &str)]) -> (Answer, String) {
    let page = browser.get("/apps/new").await;
    let csrf = page.hidden("csrf").expect("a form token");
    let answer = browser.post("/apps/new", &form(&csrf, more)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let (_, shown) = browser.settle(answer).await;
    let id = code(&shown, "client_id").expect("a client_id");
    (shown, id)
}

/// The text of the element with this id.
pub fn code(page: &Answer, id: &str) -> Option<String> {
    page.text.split(&format!("<code id=\"{id}\">")).nth(1)?.split('<').next().map(|t| t.replace("&#38;", "&"))
}

/// The app of that id, as a test's browser registered it.
pub fn client(id: String, secret: Option<String>) -> TestClient {
    TestClient { id, secret, redirect: CALLBACK.into(), registered: Value::Null }
}

#[tokio::test]
async fn the_form_starts_as_a_public_app_that_asks_people() {
    let server = TestApp::start().await;
    let page = server.browser().get("/apps/new").await;
    assert_eq!(page.boxes("token_endpoint_auth_method").0, ["none"]);
    assert_eq!(page.boxes("grant_types").0, ["authorization_code"]);
    assert_eq!(page.boxes("scope").0, Vec::<String>::new());
    assert!(page.boxes("scope").1.contains(&"offline_access".to_owned()));
}

#[tokio::test]
async fn a_box_for_offline_access_is_saved_and_a_refresh_token_comes() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let ticked = [
        ("scope", "openid launch/patient"),
        ("scope", "offline_access"),
        ("scope", "patient/Patient.rs"),
        ("grant_types", "authorization_code"),
        ("grant_types", "refresh_token"),
        ("access_token_life", "30"),
    ];
    let (shown, id) = register(&browser, &ticked).await;
    for saved in
        ["offline_access", "patient/Patient.rs", "refresh_token", "30 seconds", CALLBACK, "Growth chart"]
    {
        assert!(shown.text.contains(saved), "{saved}");
    }
    let client = client(id, None);
    let launch = server.launch(&client).scope("openid launch/patient patient/Patient.rs offline_access");
    let token = launch.token().await;
    assert_eq!(token["expires_in"], json!(30));
    let refresh = token["refresh_token"].as_str().expect("a refresh token");
    server.advance(30 * SECOND);
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::UNAUTHORIZED);
    let next = server
        .post_token(&[("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", &client.id)])
        .await
        .json();
    assert_eq!(next["scope"], token["scope"]);
    assert_eq!(next["patient"], "patient-maria");
    assert_ne!(next["refresh_token"], token["refresh_token"], "it rotates");
    assert_eq!(server.fhir(access(&next), "Patient/patient-maria").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_confidential_app_gets_its_secret_once_and_works_with_it() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (shown, id) = register(&browser, &[("token_endpoint_auth_method", "client_secret_basic")]).await;
    let secret = code(&shown, "client_secret").expect("a secret");
    let later = browser.get(&format!("/apps/{id}")).await;
    assert!(later.status == StatusCode::OK && !later.text.contains(&secret), "shown this once");
    let confidential = client(id.clone(), Some(secret));
    let token = server.launch(&confidential).token().await;
    assert_eq!(token["patient"], "patient-maria");
}

#[tokio::test]
async fn mistakes_are_told_at_their_fields_and_nothing_typed_is_lost() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let page = browser.get("/apps/new").await;
    let csrf = page.hidden("csrf").unwrap();
    let answer = browser
        .post(
            "/apps/new",
            &[
                ("csrf", csrf.as_str()),
                ("client_name", "My app"),
                ("redirect_uris", "javascript:alert(1)\nhttps://app.example/#x"),
                ("scope", "openid oidc offline_access"),
                ("access_token_life", "soon"),
                ("grant_types", "authorization_code"),
            ],
        )
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    for told in [
        "javascript:alert(1)",
        "has a fragment",
        "did you mean",
        "needs refresh tokens",
        "whole number of seconds",
        "My app",
    ] {
        assert!(answer.text.contains(told), "{told}");
    }
    assert!(answer.text.contains("aria-invalid=\"true\""));
    assert!(browser.get("/apps").await.text.contains("No app yet"), "nothing was half done");
}

#[tokio::test]
async fn a_change_holds_at_the_next_launch_and_for_tokens_that_exist() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (_, id) = register(&browser, &[("scope", "openid launch/patient patient/*.rs")]).await;
    let client = client(id.clone(), None);
    let asked = "openid launch/patient patient/Patient.rs patient/Observation.rs";
    let before = server.launch(&client).scope(asked).token().await;
    assert_eq!(server.fhir(access(&before), "Observation").await.status, StatusCode::OK);

    let page = browser.get(&format!("/apps/{id}/edit")).await;
    assert!(page.text.contains("openid launch/patient patient/*.rs"), "the form shows what was saved");
    let csrf = page.hidden("csrf").unwrap();
    let saved = browser
        .post(
            &format!("/apps/{id}/edit"),
            &form(&csrf, &[("scope", "openid launch/patient patient/Patient.rs")]),
        )
        .await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.text);
    assert_eq!(server.fhir(access(&before), "Observation").await.status, StatusCode::FORBIDDEN);
    assert_eq!(server.fhir(access(&before), "Patient/patient-maria").await.status, StatusCode::OK);
    let after = server.launch(&client).scope(asked).token().await;
    assert_eq!(after["scope"], "openid launch/patient patient/Patient.rs");
}

#[tokio::test]
async fn a_deleted_app_is_unknown_and_its_tokens_are_dead() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let staying = [("grant_types", "authorization_code"), ("grant_types", "refresh_token")];
    let (_, id) = register(&browser, &staying).await;
    let client = client(id.clone(), None);
    let token = server.launch(&client).scope("launch/patient patient/*.rs offline_access").token().await;
    let page = browser.get(&format!("/apps/{id}/delete")).await;
    browser.post(&format!("/apps/{id}/delete"), &[("csrf", &page.hidden("csrf").unwrap())]).await;
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::UNAUTHORIZED);
    let refresh = token["refresh_token"].as_str().expect("a refresh token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", id.as_str())];
    assert_eq!(server.post_token(&form).await.error(), "invalid_grant");
    assert_eq!(server.launch(&client).answer().await.status, StatusCode::BAD_REQUEST);
    assert_eq!(browser.get(&format!("/apps/{id}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_the_browser_that_registered_and_who_has_the_link_may_see_or_change_an_app() {
    let server = TestApp::start().await;
    let owner = server.browser();
    let (shown, id) = register(&owner, &[]).await;
    let stranger = server.browser();
    for page in ["", "/edit", "/secret", "/delete"] {
        assert_eq!(stranger.get(&format!("/apps/{id}{page}")).await.status, StatusCode::NOT_FOUND, "{page}");
    }
    let csrf = stranger.get("/apps/new").await.hidden("csrf").unwrap();
    for page in ["/edit", "/secret", "/delete"] {
        let answer = stranger.post(&format!("/apps/{id}{page}"), &form(&csrf, &[])).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page}");
    }
    assert_eq!(stranger.get(&format!("/apps/{id}?manage=made-up")).await.status, StatusCode::NOT_FOUND);
    assert!(!stranger.get("/apps").await.text.contains(&id));
    let link = code(&shown, "management").expect("a management link");
    let opened = stranger.get(&link).await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER, "the secret leaves the address bar");
    assert_eq!(stranger.get(&format!("/apps/{id}")).await.status, StatusCode::OK);
    assert!(stranger.get("/apps").await.text.contains(&id));
}

#[tokio::test]
async fn the_ready_made_request_on_an_apps_page_launches_it() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (first_shown, id) = register(&browser, &[]).await;
    let shown = browser.get(&format!("/apps/{id}")).await;
    assert_eq!(code(&first_shown, "exchange"), code(&shown, "exchange"), "the same at every look");
    let url = code(&first_shown, "authorize").expect("an address");
    let (path, page) = browser.settle(browser.get(&url).await).await;
    let (_, page) = browser.settle(browser.sign_in(&path, &page, "maria").await).await;
    let csrf = page.hidden("csrf").unwrap();
    let (ticked, _) = page.boxes("scope");
    let mut answer = vec![("csrf", csrf.as_str()), ("decision", "allow")];
    answer.extend(ticked.iter().map(|s| ("scope", s.as_str())));
    let params = browser.post(&path, &answer).await.redirect_params();
    let command = code(&shown, "exchange").expect("a command");
    let verifier = command.split("code_verifier=").nth(1).unwrap().split(' ').next().unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", params["code"].as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", verifier),
        ("client_id", id.as_str()),
    ];
    assert_eq!(server.post_token(&form).await.json()["patient"], "patient-maria");
}

#[tokio::test]
async fn registered_origins_may_read_answers_and_errors_and_nobody_elses_may() {
    let server = TestApp::start().await;
    server.register(json!({"redirect_uris": ["https://app.example/callback"]})).await;
    let ask = |method: Method, path: &str, origin: &str| {
        server.request(method, path).header("origin", origin.to_owned())
    };
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    for path in [
        "/fhir/.well-known/smart-configuration",
        "/fhir/metadata",
        "/oauth/jwks",
        "/open/fhir/Patient/patient-maria",
    ] {
        let answer = Answer::to(ask(Method::GET, path, "https://anybody.example")).await;
        assert_eq!((answer.status, allowed(&answer).as_str()), (StatusCode::OK, "*"), "{path}");
    }
    let denied = Answer::to(ask(Method::GET, "/fhir/Patient/patient-maria", "https://app.example")).await;
    assert_eq!(denied.status, StatusCode::UNAUTHORIZED);
    assert_eq!(allowed(&denied), "https://app.example", "errors too");
    assert!(denied.header("access-control-expose-headers").contains("WWW-Authenticate"));
    let foreign = Answer::to(ask(Method::GET, "/fhir/Patient/patient-maria", "https://evil.example")).await;
    assert_eq!(allowed(&foreign), "");
    assert!(foreign.header("vary").contains("Origin"));
    let preflight = ask(Method::OPTIONS, "/fhir/Patient/patient-maria", "https://app.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let preflight = Answer::to(preflight).await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT, "a preflight carries no token, and is never 401");
    assert!(preflight.header("access-control-allow-headers").contains("Authorization"));
    let people = Answer::to(ask(Method::GET, "/oauth/authorize", "https://app.example")).await;
    assert_eq!(allowed(&people), "", "no page of another origin reads what is for people");
}

#[tokio::test]
async fn an_answer_by_token_is_for_the_pages_of_that_tokens_app() {
    let server = TestApp::start().await;
    let ours = server.register(json!({"redirect_uris": ["https://ours.example/cb"]})).await;
    server.register(json!({"redirect_uris": ["https://other.example/cb"]})).await;
    let token = server.launch(&ours).token().await;
    let read = |origin: &'static str| {
        let request = server.request(Method::GET, "/fhir/Patient/patient-maria").bearer_auth(access(&token));
        Answer::to(request.header("origin", origin))
    };
    assert_eq!(
        read("https://ours.example").await.header("access-control-allow-origin"),
        "https://ours.example"
    );
    assert_eq!(read("https://other.example").await.header("access-control-allow-origin"), "");
}
