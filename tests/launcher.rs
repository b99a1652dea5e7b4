//! `POST /sandbox/launches`: how an EHR launch is made, and what is refused.

use hearthgate::clock::{MINUTE, SECOND};
use hearthgate::identity::account::Account;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::attacks::hands::{at_once, audited, disable, put};
use crate::kit::{Answer, TestApp, TestClient};

async fn start() -> (TestApp, TestClient) {
    let server = TestApp::start().await;
    let client = server.register(json!({"initiate_login_uri": "https://app.example/launch?from=ehr"})).await;
    (server, client)
}

#[tokio::test]
async fn an_ehr_opens_the_app_with_its_server_and_a_handle_and_keeps_the_apps_own_query() {
    let (server, client) = start().await;
    let answer = server.try_ehr_launch(&client, json!({})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let made = answer.json();
    assert_eq!(made["iss"], server.fhir_base());
    let url = url::Url::parse(made["launch_url"].as_str().unwrap()).unwrap();
    assert!(url.as_str().starts_with("https://app.example/launch?from=ehr&iss="), "{url}");
    let params: Vec<_> = url.query_pairs().into_owned().collect();
    assert!(params.contains(&("iss".into(), server.fhir_base())), "{url}");
    assert!(params.contains(&("launch".into(), made["launch"].as_str().unwrap().into())), "{url}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(audited(&server, "launch_made"), 1);

    let elsewhere = server.register(json!({})).await;
    let made = server.try_ehr_launch(&elsewhere, json!({})).await.json();
    assert_eq!(made["launch_url"], Value::Null, "no launch URL is registered, but a handle is made");
    assert!(made["launch"].is_string());
}

#[tokio::test]
async fn anybody_in_the_records_can_launch_and_gets_their_account_then_and_only_then() {
    let (server, client) = start().await;
    let name = json!([{"family": "Novak", "given": ["Nina"]}]);
    put(&server, json!({"resourceType": "Practitioner", "id": "nina", "name": name})).await;
    let bad = server.try_ehr_launch(&client, json!({"person": "nina", "patient": "nobody"})).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let known = server.app.store.read(|tx| Account::by_username(tx, "nina")).unwrap();
    assert!(known.is_none(), "a refused launch makes no account");
    let handle = server.ehr_launch(&client, json!({"person": "nina", "patient": "patient-maria"})).await;
    let token = server.launch(&client).with("launch", &handle).by("nina").token().await;
    assert_eq!(token["patient"], "patient-maria");
}

#[tokio::test]
async fn every_field_is_looked_at_and_the_refusal_names_it() {
    let (server, client) = start().await;
    let group = json!({"resourceType": "Group", "id": "g", "type": "person", "actual": true,
        "member": [{"entity": {"reference": "Patient/patient-kofi"}}]});
    put(&server, group).await;
    let context = |item: Value| json!({"person": "ruth", "patient": "patient-maria", "fhirContext": [item]});
    let long = "x".repeat(201);
    let cases = [
        (json!({"client_id": null}), "`client_id` is missing"),
        (json!({"client_id": "nobody"}), "`client_id`"),
        (json!({"client_id": 7}), "`client_id` must be a text"),
        (json!({"person": null}), "`person` is missing"),
        (json!({"person": ""}), "`person` must be a text"),
        (json!({"person": "nobody"}), "`person`"),
        (json!({"patient": "patient-amara"}), "`maria` may not open"),
        (json!({"person": "daniel", "patient": "patient-amara"}), "`daniel` may not open"),
        (json!({"person": "ruth", "patient": "patient-nobody"}), "there is no Patient/patient-nobody"),
        (json!({"person": "ruth", "patient": "Patient/patient-maria"}), "`patient` must be the id"),
        (json!({"patient": ["patient-maria"]}), "`patient` must be a text"),
        (json!({"encounter": "amara-birth-2025-10"}), "`encounter`"),
        (json!({"encounter": "no-visit"}), "`encounter`"),
        (json!({"encounter": "Encounter/maria-visit-2026-03"}), "`encounter` must be the id"),
        (json!({"person": "ruth", "encounter": "maria-visit-2026-03"}), "send `patient` too"),
        (json!({"intent": long}), "`intent` is longer"),
        (json!({"intent": "a\nb"}), "`intent` must be a text"),
        (json!({"tenant": long}), "`tenant` is longer"),
        (json!({"tenant": {}}), "`tenant` must be a text"),
        (json!({"need_patient_banner": "true"}), "`need_patient_banner` must be `true` or `false`"),
        (json!({"smart_style_url": "style.json"}), "`smart_style_url`"),
        (json!({"smart_style_url": "javascript:alert(1)"}), "`smart_style_url`"),
        (json!({"smart_style_url": "https://me@ehr.example/"}), "`smart_style_url`"),
        (json!({"fhir_context": []}), "did you mean `fhirContext`?"),
        (json!({"patients": "x"}), "did you mean `patient`?"),
        (json!({"something": 1}), "`something` is not known here; there are client_id, person"),
        (json!({"fhirContext": {}}), "`fhirContext` must be a list"),
        (json!({"fhirContext": ["Condition/maria-diabetes"]}), "`fhirContext` must be a list"),
        (json!({"fhirContext": vec![json!({"canonical": "urn:x"}); 21]}), "at most 20"),
        (context(json!({})), "`fhirContext[0].reference` is missing"),
        (context(json!({"ref": "Condition/x"})), "`fhirContext[0].ref` is not known here"),
        (context(json!({"reference": "https://ehr.example/Condition/1"})), "must be relative"),
        (context(json!({"reference": "Nonsense/1"})), "must be relative"),
        (context(json!({"reference": "Condition/nothing"})), "there is no Condition/nothing"),
        (context(json!({"reference": "Condition/kofi-asthma"})), "does not belong to Patient/patient-maria"),
        (context(json!({"reference": "Binary/amara-birth-summary-text"})), "does not belong"),
        (context(json!({"reference": "Group/g"})), "does not belong"),
        (context(json!({"reference": "Patient/patient-maria"})), "`fhirContext[0].role`"),
        (context(json!({"reference": "Patient/patient-maria", "role": "launch"})), "`fhirContext[0].role`"),
        (
            context(json!({"reference": "Patient/patient-kofi", "role": "https://x.example/kin"})),
            "does not belong",
        ),
        (context(json!({"reference": "Encounter/maria-visit-2026-03"})), "`fhirContext[0].role`"),
        (context(json!({"identifier": {"value": "1"}, "type": "Patient"})), "`fhirContext[0].role`"),
        (context(json!({"canonical": "urn:x", "role": ""})), "`fhirContext[0].role`"),
        (context(json!({"canonical": "urn:x", "role": "referrer"})), "`fhirContext[0].role`"),
        (context(json!({"canonical": "Questionnaire"})), "`fhirContext[0].canonical`"),
        (context(json!({"identifier": "A-1"})), "`fhirContext[0].identifier`"),
        (context(json!({"identifier": {"use": "usual"}})), "`fhirContext[0].identifier`"),
        (context(json!({"canonical": "urn:x", "type": "Nonsense"})), "no type of FHIR R4"),
        (context(json!({"reference": "Condition/maria-diabetes", "type": "Observation"})), "is not the type"),
        (
            json!({"person": "ruth", "fhirContext": [{"reference": "Condition/maria-diabetes"}]}),
            "send that `patient` too",
        ),
    ];
    for (extra, says) in cases {
        let answer = server.try_ehr_launch(&client, extra.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{extra}: {}", answer.text);
        let body = answer.json();
        assert_eq!(body["error"], "invalid_request", "{extra}");
        let words = body["error_description"].as_str().unwrap();
        assert!(words.contains(says), "{extra}: `{says}` is not said: {words}");
    }
    assert_eq!(audited(&server, "launch_made"), 0);
    let good = [
        json!({"reference": "Binary/maria-discharge-2024-05-text"}),
        json!({"reference": "Provenance/maria-provenance-note"}),
        json!({"reference": "Organization/alder-creek-practice"}),
        json!({"reference": "Patient/patient-maria", "role": "https://x.example/self"}),
    ];
    for item in good {
        server.ehr_launch(&client, context(item)).await;
    }
    server.ehr_launch(&client, json!({"patient": null, "fhirContext": null, "intent": null})).await;
}

#[tokio::test]
async fn a_shut_out_person_launches_nothing() {
    let (server, client) = start().await;
    disable(&server, "ruth").await;
    let refused = server.try_ehr_launch(&client, json!({"person": "ruth"})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("`person`"), "{}", refused.text);
}

#[tokio::test]
async fn what_works_is_discovered() {
    let (server, _) = start().await;
    let facts = server.get("/fhir/.well-known/smart-configuration").await.json();
    let listed = |name: &str| facts[name].as_array().unwrap().clone();
    for capability in
        ["launch-ehr", "context-ehr-patient", "context-ehr-encounter", "context-banner", "context-style"]
    {
        assert!(listed("capabilities").contains(&json!(capability)), "{capability}");
    }
    assert!(listed("scopes_supported").contains(&json!("launch")));
}

#[tokio::test]
async fn in_production_nobody_launches_by_json_and_nothing_says_so() {
    let server = TestApp::start_in_production().await;
    let answer = server.request(reqwest::Method::POST, "/sandbox/launches").json(&json!({}));
    assert_eq!(Answer::to(answer).await.status, StatusCode::NOT_FOUND);
    let facts = server.get("/fhir/.well-known/smart-configuration").await.json();
    assert!(!facts["capabilities"].to_string().contains("launch-ehr"), "{facts}");
    assert!(!facts["scopes_supported"].as_array().unwrap().contains(&json!("launch")));
}

#[tokio::test]
async fn of_32_relaunches_at_once_each_is_its_own_and_what_is_over_is_forgotten() {
    let (server, client) = start().await;
    let launches = (0..32)
        .map(|_| {
            let wanted = json!({"client_id": client.id, "person": "ruth"});
            server.request(reqwest::Method::POST, "/sandbox/launches").json(&wanted)
        })
        .collect();
    let mut handles: Vec<_> =
        at_once(launches).await.iter().map(|a| a.json()["launch"].as_str().unwrap().to_owned()).collect();
    handles.sort();
    handles.dedup();
    assert_eq!(handles.len(), 32);
    let count = |server: &TestApp| {
        let sql = "SELECT count(*) FROM launches";
        server.app.store.read(|tx| tx.first(sql, &[], |row| row.get::<i64>(0))).unwrap().unwrap()
    };
    server.advance(24 * 60 * MINUTE + 5 * MINUTE);
    hearthgate::server::forget(&server.app).await.unwrap();
    assert_eq!(count(&server), 32, "a day after their end they are kept");
    server.advance(SECOND);
    hearthgate::server::forget(&server.app).await.unwrap();
    assert_eq!(count(&server), 0);
}
