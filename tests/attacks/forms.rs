//! Attacks with the forms of the pages: forged, stale and edited ones.

use reqwest::StatusCode;
use serde_json::json;

use super::hands::*;
use crate::kit::TestApp;

#[tokio::test]
async fn a_form_without_this_browsers_own_token_is_refused() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let launch = server.launch(&client);
    let maria = server.browser();
    let (path, page) = launch.to_consent(&maria).await;
    let own = page.hidden("csrf").unwrap();
    let (_, second_page) = launch.open(&maria).await;
    let of_another_page = second_page.hidden("csrf").unwrap();
    let (_, thiefs_page) = launch.to_consent(&server.browser()).await;
    let of_another_session = thiefs_page.hidden("csrf").unwrap();

    let before = audited(&server, "form_refused");
    let stolen =
        [None, Some(""), Some("x"), Some(of_another_page.as_str()), Some(of_another_session.as_str())];
    for csrf in stolen {
        let form = changed(&[("decision", "allow"), ("scope", "patient/*.rs")], &[("csrf", csrf)]);
        let answer = maria.post(&path, &form).await;
        assert_page(&answer, 403, "Nothing was done", &format!("{csrf:?}"));
    }
    assert_eq!(audited(&server, "form_refused"), before + 5);
    for answer in [
        server.browser().post(&path, &[("csrf", &own), ("decision", "allow"), ("scope", "openid")]).await,
        server.browser().get(&path).await,
    ] {
        assert_page(&answer, 403, "another browser", "the thief's browser");
    }
    let login = server.browser();
    let (at, _) = launch.open(&login).await;
    let answer = login.post(&at, &[("username", "amara"), ("password", "hearth")]).await;
    assert_page(&answer, 403, "Nothing was done", "signing somebody in against their will");

    let answer = maria.post(&path, &[("csrf", &own), ("decision", "allow"), ("scope", "openid")]).await;
    assert!(back(&answer, "her own form still works").contains_key("code"));
}

#[tokio::test]
async fn a_page_shown_to_one_person_is_no_consent_of_the_next() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let (path, page) = server.launch(&client).to_consent(&browser).await;
    let marias = page.hidden("csrf").unwrap();
    let switch = browser.get(&format!("{path}?switch=1")).await;
    browser.sign_in(&path, &switch, "annika").await;
    let answer = browser.post(&path, &[("csrf", &marias), ("decision", "allow"), ("scope", "openid")]).await;
    assert_page(&answer, 403, "Nothing was done", "annika did not see that page");
}

#[tokio::test]
async fn a_consent_form_cannot_be_edited() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let launch = server.launch(&client).scope("openid patient/Condition.rs");
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let csrf = page.hidden("csrf").unwrap();
    let lab = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
    let added = [
        "patient/*.rs",
        "user/*.rs",
        "patient/Condition.cruds",
        "system/*.rs",
        "offline_access",
        lab,
        "",
        "openid ",
    ];
    for (n, scope) in (1_i64..).zip(added) {
        let form = [("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "openid"), ("scope", scope)];
        assert_page(&browser.post(&path, &form).await, 400, "did not show", scope);
        assert_eq!(audited(&server, "form_refused"), n, "{scope}");
    }
    let before = audited(&server, "form_refused");
    for (n, patient) in (1_i64..).zip(["patient-amara", "no-such-patient", "Patient/patient-amara"]) {
        let form =
            [("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "openid"), ("patient", patient)];
        assert_page(&browser.post(&path, &form).await, 400, "did not offer that patient", patient);
        assert_eq!(audited(&server, "form_refused"), before + n, "{patient}");
    }
    let (_, still) = launch.open(&browser).await;
    assert!(still.text.contains("name=\"decision\""), "nothing was half done");
    let form = [("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "patient/Condition.rs")];
    let code = back(&browser.post(&path, &form).await, "the honest form")["code"].clone();
    let token = server.exchange(&client, &code).await.json();
    assert_eq!(
        (&token["scope"], &token["patient"]),
        (&json!("patient/Condition.rs"), &json!("patient-maria"))
    );
    let again = browser.post(&path, &form).await;
    assert_eq!((again.status, again.location()), (StatusCode::OK, ""), "answered once");
}

#[tokio::test]
async fn an_old_consent_page_is_no_consent_for_another_patient() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let (path, page) = server.launch(&client).by("amara").patient("patient-kofi").to_consent(&browser).await;
    let for_kofi = page.hidden("csrf").unwrap();
    // In another tab, by the back button, she chooses Esi.
    browser.post(&path, &[("csrf", &for_kofi), ("patient", "patient-esi")]).await;
    let form = [
        ("csrf", for_kofi.as_str()),
        ("decision", "allow"),
        ("scope", "launch/patient"),
        ("scope", "patient/*.rs"),
    ];
    let answer = browser.post(&path, &form).await;
    assert_page(&answer, 403, "Nothing was done", "the page was about Kofi");
    let for_esi = browser.get(&path).await.hidden("csrf").unwrap();
    let form = changed(&form, &[("csrf", Some(&for_esi))]);
    let code = back(&browser.post(&path, &form).await, "the page about Esi")["code"].clone();
    assert_eq!(server.exchange(&client, &code).await.json()["patient"], "patient-esi");
}
