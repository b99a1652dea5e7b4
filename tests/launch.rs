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

#[tokio::test]
async fn a_mother_chooses_between_herself_and_her_children_and_nobody_else() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let launch = server.launch(&client).by("amara");
    let (path, page) = launch.open(&browser).await;
    let (_, page) = browser.settle(browser.sign_in(&path, &page, "amara").await).await;
    let (_, mut offered) = page.boxes("patient");
    offered.sort();
    assert_eq!(offered, ["patient-amara", "patient-esi", "patient-kofi"]);
    let csrf = page.hidden("csrf").unwrap();
    let foreign = browser.post(&path, &[("csrf", &csrf), ("patient", "patient-maria")]).await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    assert_eq!(launch.patient("patient-kofi").token().await["patient"], "patient-kofi");
}

#[tokio::test]
async fn a_doctor_finds_twins_by_name_birth_date_and_identifier() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let launch = server.launch(&client).by("ruth");
    let (path, page) = launch.open(&browser).await;
    let (_, page) = browser.settle(browser.sign_in(&path, &page, "ruth").await).await;
    assert_eq!(page.boxes("patient").1.len(), 9, "the first page shows everyone");
    for (search, found) in [
        ("q=lindqvist", vec!["patient-anneli", "patient-annika"]),
        ("q=LINDQ%20annik", vec!["patient-annika"]),
        ("q=AC-100644", vec!["patient-anneli"]),
        ("q=O%27Donoghue", vec!["patient-margaret"]),
        ("q=%E6%A3%AE%E7%94%B0", vec!["patient-kenichi"]),
        ("birthdate=2004-02-29", vec!["patient-anneli", "patient-annika"]),
        ("birthdate=2004-02-29&q=anneli", vec!["patient-anneli"]),
        ("q=nobody", vec![]),
        ("birthdate=soon", vec![]),
    ] {
        let page = browser.get(&format!("{path}?{search}")).await;
        assert_eq!(page.boxes("patient").1, found, "{search}");
    }
    let twins = browser.get(&format!("{path}?q=lindqvist")).await.text;
    assert!(twins.contains("AC-100644") && twins.contains("AC-100645"), "twins are told apart");
}

#[tokio::test]
async fn a_visit_is_chosen_among_the_patients_own() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let launch = server.launch(&client).scope("launch/patient launch/encounter patient/Encounter.rs");
    let (path, page) = launch.to_consent(&browser).await;
    let (_, offered) = page.boxes("encounter");
    assert!(offered.len() > 1, "{}", page.text);
    let csrf = page.hidden("csrf").unwrap();
    let foreign = browser.post(&path, &[("csrf", &csrf), ("encounter", "amara-visit")]).await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    let answer = browser.post(&path, &[("csrf", &csrf), ("encounter", &offered[0])]).await;
    let (_, page) = browser.settle(answer).await;
    let csrf = page.hidden("csrf").unwrap();
    let form = [
        ("csrf", csrf.as_str()),
        ("decision", "allow"),
        ("scope", "launch/patient"),
        ("scope", "launch/encounter"),
        ("scope", "patient/Encounter.rs"),
    ];
    let code = browser.post(&path, &form).await.redirect_params()["code"].clone();
    let token = server.exchange(&client, &code).await.json();
    assert_eq!(token["encounter"], offered[0].as_str());
    assert_eq!(token["patient"], "patient-maria");
}

#[tokio::test]
async fn what_a_person_unticks_is_not_granted() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let asked = "openid fhirUser launch/patient patient/Observation.rs patient/Condition.rs";
    let token = server.launch(&client).scope(asked).untick("patient/Condition.rs").token().await;
    assert_eq!(token["scope"], "openid fhirUser launch/patient patient/Observation.rs");
    let refused = server.fhir(access(&token), "Condition?patient=patient-maria").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.header("www-authenticate").contains("insufficient_scope"));
    assert!(refused.text.contains("patient/Condition.s"), "{}", refused.text);

    let without_openid = server.launch(&client).scope(asked).untick("openid").token().await;
    assert_eq!(without_openid["scope"], "launch/patient patient/Observation.rs patient/Condition.rs");
    assert!(without_openid.get("id_token").is_none());

    let nothing = server.launch(&client).scope("openid").untick("openid").decide("allow").await;
    assert_eq!(nothing.redirect_params()["error"], "access_denied");
}

#[tokio::test]
async fn a_narrower_choice_is_offered_unticked_and_enforced() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let lab = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
    let launch = server.launch(&client).scope("launch/patient patient/Observation.rs").tick(lab);
    let browser = server.browser();
    let (_, page) = launch.to_consent(&browser).await;
    assert!(page.boxes("scope").1.contains(&lab.to_owned()));
    let token = launch.token().await;
    assert_eq!(token["scope"], format!("launch/patient {lab}"));
    let found = server.fhir(access(&token), "Observation?_count=1000").await.json();
    let entries = found["entry"].as_array().unwrap();
    assert_eq!(found["total"], entries.len());
    assert!(entries.iter().all(|e| e["resource"]["category"].to_string().contains("\"laboratory\"")));
    assert!(!entries.is_empty());
}

#[tokio::test]
async fn no_is_told_to_the_app_with_its_state() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let told = server.launch(&client).decide("deny").await.redirect_params();
    assert_eq!(told["error"], "access_denied");
    assert_eq!(told["state"], "state-of-the-app");
    assert_eq!(told["iss"], server.url);
    assert!(!told.contains_key("code"));
}

#[tokio::test]
async fn reload_back_a_second_tab_and_an_old_page_each_end_somewhere_sensible() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let launch = server.launch(&client);
    let (path, page) = launch.to_consent(&browser).await;
    let again = browser.get(&path).await;
    assert_eq!(again.boxes("scope"), page.boxes("scope"), "reload shows the same step");
    let (other_path, other) = launch.to_consent(&browser).await;
    assert_ne!(path, other_path, "a second tab is a request of its own");
    assert!(other.text.contains("name=\"decision\""));

    let stranger = server.browser().get(&path).await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN, "another browser");

    let csrf = page.hidden("csrf").unwrap();
    let form = [("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "openid")];
    let first = browser.post(&path, &form).await;
    assert!(first.redirect_params().contains_key("code"));
    let second = browser.post(&path, &form).await;
    assert!(second.text.contains("This is done") && second.status == StatusCode::OK, "answered once");
    assert!(browser.get(&path).await.text.contains("This is done"), "the back button");

    server.advance(30 * 60 * SECOND);
    let late = browser.get(&other_path).await;
    assert_eq!(late.status, StatusCode::GONE);
    assert!(late.text.contains("start again"));
    assert_eq!(browser.get("/oauth/authorize/made-up").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_cannot_be_granted_is_left_out_and_explained() {
    let server = TestApp::start().await;
    let client = server.register(json!({"scope": "openid patient/Patient.rs"})).await;
    let browser = server.browser();
    let asked = "openid oidc patient/Patient.rs patient/Observation.rs offline_access system/*.rs launch patient/Patient.sr";
    let launch = server.launch(&client).scope(asked);
    let (_, page) = launch.to_consent(&browser).await;
    for words in [
        "did you mean",
        "openid",
        "add it to the app",
        "backend services",
        "no `launch` parameter",
        "refresh tokens must be enabled",
        "patient/Patient.rs",
    ] {
        assert!(page.text.to_lowercase().contains(&words.to_lowercase()), "{words}");
    }
    assert_eq!(launch.token().await["scope"], "openid patient/Patient.rs");

    let none = server.launch(&client).scope("oidc system/*.rs").answer().await.redirect_params();
    assert_eq!(none["error"], "invalid_scope");
    assert!(none["error_description"].contains("did you mean `openid`?"), "{}", none["error_description"]);
}

#[tokio::test]
async fn an_app_is_disconnected_by_the_person_and_everything_it_holds_is_dead() {
    let server = TestApp::start().await;
    let client = server.register(json!({"grant_types": ["authorization_code", "refresh_token"]})).await;
    let token =
        server.launch(&client).scope("openid launch/patient patient/*.rs offline_access").token().await;
    let refresh = token["refresh_token"].as_str().expect("a refresh token").to_owned();
    let browser = server.browser();
    let page = browser.get("/account").await;
    browser.sign_in("/account", &page, "maria").await;
    let page = browser.get("/account").await;
    assert!(page.text.contains("Test app") && page.text.contains("Maria"), "{}", page.text);
    let csrf = page.hidden("csrf").unwrap();
    let path = format!("/account/disconnect/{}", client.id);
    assert_eq!(browser.post(&path, &[("csrf", "wrong")]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::OK);
    browser.post(&path, &[("csrf", &csrf)]).await;
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::UNAUTHORIZED);
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("client_id", client.id.as_str()),
    ];
    assert_eq!(server.post_token(&form).await.error(), "invalid_grant");
    assert!(!browser.get("/account").await.text.contains("Test app"));
}

#[tokio::test]
async fn signing_out_ends_the_session_and_what_was_granted_for_its_time() {
    let server = TestApp::start().await;
    let client = server.register(json!({"grant_types": ["authorization_code", "refresh_token"]})).await;
    let browser = server.browser();
    let mut tokens = Vec::new();
    for staying in ["online_access", "offline_access"] {
        let launch = server.launch(&client).scope(&format!("launch/patient patient/*.rs {staying}"));
        let (path, page) = launch.to_consent(&browser).await;
        let csrf = page.hidden("csrf").unwrap();
        let (ticked, _) = page.boxes("scope");
        let mut form = vec![("csrf", csrf.as_str()), ("decision", "allow")];
        form.extend(ticked.iter().map(|s| ("scope", s.as_str())));
        let code = browser.post(&path, &form).await.redirect_params()["code"].clone();
        tokens.push(server.exchange(&client, &code).await.json());
    }
    let csrf = browser.get("/account").await.hidden("csrf").unwrap();
    browser.post("/account/sign-out", &[("csrf", &csrf)]).await;
    assert!(browser.get("/account").await.text.contains("name=\"password\""), "nobody is signed in");
    let refresh = |token: &serde_json::Value| {
        let token = token["refresh_token"].as_str().unwrap().to_owned();
        let (server, id) = (&server, client.id.clone());
        async move {
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
                ("client_id", id.as_str()),
            ];
            server.post_token(&form).await
        }
    };
    assert_eq!(
        server.fhir(access(&tokens[0]), "Patient/patient-maria").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(refresh(&tokens[0]).await.error(), "invalid_grant");
    assert_eq!(refresh(&tokens[1]).await.status, StatusCode::OK, "it was granted to outlive the session");
}
