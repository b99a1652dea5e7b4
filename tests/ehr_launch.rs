//! EHR launch from end to end (SMART App Launch 2.2, "Launch App: EHR Launch").

use hearthgate::clock::MINUTE;
use hearthgate::identity::account::Account;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::attacks::hands::{account, audited, back, behind, refresh, signed_in};
use crate::kit::{Answer, Browser, Launch, TestApp, TestClient, access};

const SCOPE: &str = "launch openid fhirUser patient/*.rs";

async fn start() -> (TestApp, TestClient) {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    (server, client)
}

/// The app's authorization request with a handle, by Dr. Okonjo.
fn comes<'a>(server: &'a TestApp, client: &'a TestClient, handle: &str) -> Launch<'a> {
    server.launch(client).scope(SCOPE).with("launch", handle).by("ruth")
}

/// Posts the consent page with everything ticked.
async fn allows(browser: &Browser<'_>, path: &str, page: &Answer) -> Answer {
    let csrf = page.hidden("csrf").expect("a form token");
    let (ticked, _) = page.boxes("scope");
    let mut form = vec![("csrf", csrf.as_str()), ("decision", "allow")];
    form.extend(ticked.iter().map(|s| ("scope", s.as_str())));
    browser.post(path, &form).await
}

#[tokio::test]
async fn the_app_gets_the_record_that_was_open_and_everything_else_the_ehr_told() {
    let server = TestApp::start().await;
    let client = server
        .register(json!({
            "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["authorization_code", "refresh_token"],
        }))
        .await;
    let context = json!({
        "fhirContext": [
            {"reference": "DiagnosticReport/maria-ecg-2024-05"},
            {"reference": "PractitionerRole/role-daniel-cardiology", "role": "https://ehr.example/role/referrer"},
            {"canonical": "http://example.org/Questionnaire/x|1", "type": "Questionnaire"},
            {"identifier": {"system": "urn:acc", "value": "A-1"}, "type": "ImagingStudy"},
            {"reference": "Encounter/maria-visit-2025-09", "role": "https://ehr.example/role/earlier"},
        ],
        "intent": "reconcile-medications",
        "need_patient_banner": false,
        "smart_style_url": "https://ehr.example/style-7.json",
        "tenant": "alder-creek",
    });
    let mut wanted =
        json!({"person": "ruth", "patient": "patient-maria", "encounter": "maria-visit-2026-03"});
    wanted.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
    let handle = server.ehr_launch(&client, wanted).await;
    let launch = comes(&server, &client, &handle).scope("launch openid fhirUser patient/*.rs offline_access");

    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    for words in ["Maria", "the visit of", "test reports (DiagnosticReport/maria-ecg-2024-05)"] {
        assert!(page.text.contains(words), "`{words}` is not said: {}", page.text);
    }
    assert!(page.text.contains("reconcile-medications") && page.text.contains("alder-creek"));
    let code = back(&allows(&browser, &path, &page).await, "allow")["code"].clone();
    let token = server.exchange(&client, &code).await.json();

    let told = |answer: &Value, case: &str| {
        assert_eq!(answer["patient"], "patient-maria", "{case}");
        assert_eq!(answer["encounter"], "maria-visit-2026-03", "{case}");
        for (name, value) in context.as_object().unwrap() {
            assert_eq!(&answer[name], value, "{case}: {name}");
        }
    };
    told(&token, "token");
    assert_eq!(token["scope"], "launch openid fhirUser patient/*.rs offline_access");
    let read = server.fhir(access(&token), "Patient/patient-maria").await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(server.fhir(access(&token), "Patient/patient-amara").await.status, StatusCode::NOT_FOUND);
    let study = server.fhir(access(&token), "Observation/kofi-weight-2024-04-18").await;
    assert_eq!(study.status, StatusCode::NOT_FOUND, "a doctor's own rights are not the token's");

    let ask = |path: &'static str, form: Vec<(&'static str, String)>| {
        let request = server.request(reqwest::Method::POST, path);
        Answer::to(request.basic_auth(&client.id, client.secret.as_deref()).form(&form))
    };
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let of_token = ask("/oauth/introspect", vec![("token", text(&token["access_token"]))]).await.json();
    told(&of_token, "introspection");
    let form = vec![("grant_type", "refresh_token".into()), ("refresh_token", text(&token["refresh_token"]))];
    let next = ask("/oauth/token", form).await.json();
    told(&next, "refresh");
    let of_refresh = ask("/oauth/introspect", vec![("token", text(&next["refresh_token"]))]).await.json();
    told(&of_refresh, "introspection of a refresh token");
    assert_eq!(audited(&server, "launch_used"), 1);
}

#[tokio::test]
async fn without_a_word_about_it_the_app_shows_a_banner_and_a_standalone_launch_says_nothing() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let token = comes(&server, &client, &handle).token().await;
    assert_eq!(token["need_patient_banner"], true);
    for name in ["encounter", "fhirContext", "intent", "smart_style_url", "tenant"] {
        assert_eq!(token.get(name), None, "{name}");
    }
    let standalone = server.launch(&client).token().await;
    assert_eq!(standalone.get("need_patient_banner"), None);
}

#[tokio::test]
async fn patients_launch_with_their_own_record_and_doctors_with_none() {
    let (server, client) = start().await;
    for (person, patient) in
        [("maria", "patient-maria"), ("amara", "patient-amara"), ("declan", "patient-margaret")]
    {
        let handle = server.ehr_launch(&client, json!({"person": person})).await;
        let token = comes(&server, &client, &handle).by(person).token().await;
        assert_eq!(token["patient"], patient, "no picker");
    }
    let handle = server.ehr_launch(&client, json!({"person": "amara", "patient": "patient-kofi"})).await;
    let token = comes(&server, &client, &handle).by("amara").token().await;
    assert_eq!(token["patient"], "patient-kofi");

    let handle = server.ehr_launch(&client, json!({"person": "ruth", "intent": "look"})).await;
    let token = comes(&server, &client, &handle).scope("launch openid user/*.rs").token().await;
    assert_eq!(token.get("patient"), None, "nobody is asked for a patient whom nothing needs");
    assert_eq!(token.get("need_patient_banner"), None, "no patient, no banner");
    assert_eq!(token["intent"], "look");
    let handle = server.ehr_launch(&client, json!({"person": "ruth"})).await;
    let token = comes(&server, &client, &handle).patient("patient-esi").token().await;
    assert_eq!(token["patient"], "patient-esi", "the picker, as at any launch");
    assert_eq!(token["need_patient_banner"], true);
}

#[tokio::test]
async fn an_encounter_that_was_not_open_is_chosen_and_one_that_was_is_not() {
    let (server, client) = start().await;
    let scope = "launch launch/encounter patient/*.rs";
    let open = json!({"person": "ruth", "patient": "patient-maria"});
    let handle = server.ehr_launch(&client, open).await;
    let launch = comes(&server, &client, &handle).scope(scope);
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let (_, offered) = page.boxes("encounter");
    assert!(offered.contains(&"maria-visit-2026-03".to_owned()), "{}", page.text);
    let csrf = page.hidden("csrf").unwrap();
    let answer = browser.post(&path, &[("csrf", &csrf), ("encounter", "maria-visit-2026-03")]).await;
    let (_, page) = browser.settle(answer).await;
    let code = back(&allows(&browser, &path, &page).await, "allow")["code"].clone();
    assert_eq!(server.exchange(&client, &code).await.json()["encounter"], "maria-visit-2026-03");

    let open = json!({"person": "ruth", "patient": "patient-maria", "encounter": "maria-visit-2025-09"});
    let handle = server.ehr_launch(&client, open).await;
    let token = comes(&server, &client, &handle).scope(scope).token().await;
    assert_eq!(token["encounter"], "maria-visit-2025-09");
}

#[tokio::test]
async fn what_is_open_cannot_be_chosen_otherwise_by_a_form_of_ones_own() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let browser = server.browser();
    let (path, page) = comes(&server, &client, &handle).to_consent(&browser).await;
    let csrf = page.hidden("csrf").unwrap();
    let form = [("csrf", csrf.as_str()), ("patient", "patient-amara")];
    let (_, page) = browser.settle(browser.post(&path, &form).await).await;
    let code = back(&allows(&browser, &path, &page).await, "allow")["code"].clone();
    assert_eq!(server.exchange(&client, &code).await.json()["patient"], "patient-maria");
}

#[tokio::test]
async fn the_person_may_keep_from_the_app_what_was_open() {
    let (server, client) = start().await;
    let wanted = json!({
        "person": "ruth", "patient": "patient-maria", "encounter": "maria-visit-2026-03", "intent": "look",
        "fhirContext": [{"reference": "Condition/maria-diabetes"}],
    });
    let handle = server.ehr_launch(&client, wanted.clone()).await;
    let token =
        comes(&server, &client, &handle).scope("launch openid user/*.rs").untick("launch").token().await;
    assert_eq!(token["scope"], "openid user/*.rs");
    for name in ["patient", "encounter", "intent", "fhirContext", "need_patient_banner"] {
        assert_eq!(token.get(name), None, "{name}");
    }
    let handle = server.ehr_launch(&client, wanted.clone()).await;
    let launch = comes(&server, &client, &handle).scope("launch launch/patient patient/*.rs openid");
    let token = launch.untick("launch/patient").token().await;
    assert_eq!(token["scope"], "launch openid");
    assert_eq!(token["intent"], "look");
    for name in ["patient", "encounter", "fhirContext", "need_patient_banner"] {
        assert_eq!(token.get(name), None, "{name}");
    }
    let handle = server.ehr_launch(&client, wanted).await;
    let token = comes(&server, &client, &handle).scope("launch launch/encounter patient/*.rs");
    let token = token.untick("launch/encounter").token().await;
    assert_eq!(token["patient"], "patient-maria");
    assert_eq!(token.get("encounter"), None);
}

#[tokio::test]
async fn a_launch_counts_even_where_the_app_forgot_the_scope() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let token = comes(&server, &client, &handle).scope("openid patient/*.rs").token().await;
    assert_eq!(token["scope"], "openid patient/*.rs");
    assert_eq!(token["patient"], "patient-maria", "no picker");
    assert_eq!(token["need_patient_banner"], true);
    let narrow = server.register(json!({"scope": "openid patient/*.rs"})).await;
    let handle = server.ehr_launch(&narrow, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let launch = comes(&server, &narrow, &handle);
    let (_, page) = launch.to_consent(&server.browser()).await;
    assert!(page.text.contains("add it to the app"), "why `launch` is left out");
    assert_eq!(launch.token().await["patient"], "patient-maria");
}

#[tokio::test]
async fn a_handle_signs_nobody_in_and_the_form_knows_who_is_meant() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let launch = comes(&server, &client, &handle).and("login_hint", "amara");
    let browser = server.browser();
    let (_, page) = launch.open(&browser).await;
    assert!(page.text.contains("name=\"username\" value=\"ruth\""), "{}", page.text);
    assert!(page.text.contains("name=\"password\""));
    let account = browser.get("/account").await;
    assert!(account.text.contains("name=\"password\""), "nobody is signed in");
    let told = server.launch(&client).with("launch", &handle).with("prompt", "none").answer().await;
    assert_eq!(back(&told, "prompt=none")["error"], "login_required");
}

#[tokio::test]
async fn somebody_else_is_told_who_is_meant_and_nothing_of_the_launch() {
    let (server, client) = start().await;
    let wanted = json!({"person": "ruth", "patient": "patient-margaret", "intent": "secret-intent"});
    let handle = server.ehr_launch(&client, wanted).await;
    let launch = comes(&server, &client, &handle);
    let browser = signed_in(&server, &client, "maria").await;
    let (path, page) = launch.open(&browser).await;
    assert!(page.text.contains("Somebody else opened"), "{}", page.text);
    assert!(page.text.contains("Maria") && page.text.contains("ruth"));
    for secret in ["Ruth", "Okonjo", "argaret", "secret-intent", "name=\"decision\""] {
        assert!(!page.text.contains(secret), "`{secret}` is told");
    }
    let none = browser.get(&launch.clone().with("prompt", "none").address()).await;
    assert_eq!(back(&none, "prompt=none")["error"], "login_required");

    let csrf = page.hidden("csrf").unwrap();
    for form in [
        vec![("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "openid")],
        vec![("csrf", csrf.as_str()), ("patient", "patient-maria")],
        vec![("csrf", csrf.as_str()), ("encounter", "")],
    ] {
        let (_, still) = browser.settle(browser.post(&path, &form).await).await;
        assert!(still.text.contains("Somebody else opened"), "{form:?}: {}", still.text);
    }
    let wrong = [("csrf", csrf.as_str()), ("username", "ruth"), ("password", "wrong")];
    let still = browser.post(&path, &wrong).await;
    assert!(still.text.contains("do not go together") && still.text.contains("This launch was made for"));
    assert!(!still.text.contains("Go on as"), "Maria cannot go on");

    let right = [("csrf", csrf.as_str()), ("username", "ruth"), ("password", "hearth")];
    let (_, page) = browser.settle(browser.post(&path, &right).await).await;
    assert!(page.text.contains("name=\"decision\"") && page.text.contains("Margaret"), "{}", page.text);
    assert!(back(&allows(&browser, &path, &page).await, "ruth").contains_key("code"));
}

#[tokio::test]
async fn whoever_is_signed_in_may_go_back_to_the_app_and_the_launch_is_not_lost() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let launch = comes(&server, &client, &handle);
    let browser = signed_in(&server, &client, "maria").await;
    let (path, page) = launch.open(&browser).await;
    let csrf = page.hidden("csrf").unwrap();
    let told = back(&browser.post(&path, &[("csrf", &csrf), ("cancel", "1")]).await, "cancel");
    assert_eq!(told["error"], "access_denied");
    assert_eq!(launch.token().await["patient"], "patient-maria");
}

#[tokio::test]
async fn no_is_no_code_so_that_the_app_can_be_opened_again_with_the_same_handle() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let launch = comes(&server, &client, &handle);
    assert_eq!(back(&launch.decide("deny").await, "deny")["error"], "access_denied");
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let again = browser.get(&path).await;
    assert_eq!(again.boxes("scope"), page.boxes("scope"), "reload");
    let (second, _) = launch.to_consent(&browser).await;
    assert_ne!(path, second, "a second tab");
    let first = back(&allows(&browser, &path, &again).await, "allow");
    assert!(first.contains_key("code"));
    assert!(browser.get(&path).await.text.contains("This is done"), "the back button");
}

#[tokio::test]
async fn of_two_browsers_with_one_handle_one_gets_a_code_and_the_other_is_told_why_not() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let launch = comes(&server, &client, &handle);
    let (one, two) = (server.browser(), server.browser());
    let (first, first_page) = launch.to_consent(&one).await;
    let (second, second_page) = launch.to_consent(&two).await;
    let (a, b) = tokio::join!(allows(&one, &first, &first_page), allows(&two, &second, &second_page));
    let answers = [back(&a, "one"), back(&b, "two")];
    let codes: Vec<_> = answers.iter().filter_map(|told| told.get("code")).collect();
    assert_eq!(codes.len(), 1, "{answers:?}");
    let refused = answers.iter().find(|told| told.contains_key("error")).expect("a refusal");
    assert_eq!(refused["error"], "invalid_request");
    assert!(refused["error_description"].contains("already used"), "{refused:?}");
    assert_eq!(refused["state"], "state-of-the-app");
    assert_eq!(refused["iss"], server.url);
    assert_eq!(server.exchange(&client, codes[0]).await.status, StatusCode::OK);
    for (browser, path) in [(&one, &first), (&two, &second)] {
        assert!(browser.get(path).await.text.contains("This is done"), "both are answered");
    }
}

#[tokio::test]
async fn the_app_has_five_minutes_to_come_and_the_person_as_long_as_ever() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    server.advance(5 * MINUTE - 1);
    let browser = server.browser();
    let launch = comes(&server, &client, &handle);
    let (path, page) = launch.to_consent(&browser).await;
    server.advance(1);
    let late = back(&launch.answer().await, "late");
    assert_eq!(late["error"], "invalid_request");
    assert!(late["error_description"].contains("expired"), "{late:?}");
    server.advance(10 * MINUTE);
    assert!(back(&allows(&browser, &path, &page).await, "begun in time").contains_key("code"));
}

#[tokio::test]
async fn a_right_that_was_lost_since_the_launch_opens_nothing() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "amara", "patient": "patient-kofi"})).await;
    let launch = comes(&server, &client, &handle).by("amara");
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let (id, now) = (account(&server, "amara"), server.app.now());
    behind(&server, move |tx| Account::stop_acting_for(tx, &id, "patient-kofi", now)).await;
    assert_eq!(allows(&browser, &path, &page).await.status, StatusCode::FORBIDDEN);
    let after = browser.get(&path).await;
    assert_eq!(after.status, StatusCode::FORBIDDEN);
    assert!(after.text.contains("closed to you") && !after.text.contains("Kofi"), "{}", after.text);
    let none = browser.get(&launch.with("prompt", "none").address()).await;
    assert_eq!(back(&none, "prompt=none")["error"], "access_denied");
}

#[tokio::test]
async fn with_the_app_its_launches_are_gone() {
    let (server, client) = start().await;
    let handle = server.ehr_launch(&client, json!({"person": "ruth", "patient": "patient-maria"})).await;
    let launch = comes(&server, &client, &handle);
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let id = client.id.clone();
    behind(&server, move |tx| hearthgate::oauth::client::Client::delete(tx, &id)).await;
    assert_eq!(allows(&browser, &path, &page).await.status, StatusCode::NOT_FOUND);
    assert_eq!(launch.answer().await.status, StatusCode::BAD_REQUEST);
    let refused = server.try_ehr_launch(&client, json!({})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("`client_id`"), "{}", refused.text);
}

#[tokio::test]
async fn a_narrower_refresh_still_says_what_was_open() {
    let server = TestApp::start().await;
    let client = server.register(json!({"grant_types": ["authorization_code", "refresh_token"]})).await;
    let handle = server.ehr_launch(&client, json!({"intent": "look"})).await;
    let launch = server.launch(&client).with("launch", &handle);
    let token = launch.scope("launch patient/*.rs offline_access").token().await;
    let next = refresh(&server, &client, &token, Some("patient/Patient.r")).await.json();
    assert_eq!(next["scope"], "patient/Patient.r");
    assert_eq!((&next["patient"], &next["intent"]), (&json!("patient-maria"), &json!("look")));
}
