//! Attacks on the FHIR endpoint: other people's records by every door.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::hands::*;
use crate::kit::{Answer, TestApp, access};

async fn start(scope: &str) -> (TestApp, String) {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let token = access(&server.launch(&client).scope(scope).token().await).to_owned();
    (server, token)
}

/// A search by POST, with parameters in the address and in the form.
async fn post_search(server: &TestApp, token: &str, path: &str, form: &[(&str, &str)]) -> Answer {
    let request = server.request(Method::POST, &format!("/fhir/{path}")).bearer_auth(token);
    Answer::to(request.form(form)).await
}

#[tokio::test]
async fn a_token_counts_in_one_authorization_header_only() {
    let (server, token) = start("patient/*.rs").await;
    let path = "/fhir/Patient/patient-maria";
    let in_url = server.get(&format!("{path}?access_token={token}")).await;
    assert_outcome(&in_url, 400, "URL", "in the URL");
    let request = server.request(Method::GET, &format!("{path}?access_token={token}")).bearer_auth(&token);
    assert_outcome(&Answer::to(request).await, 400, "URL", "in both");
    for name in ["access%5Ftoken", "%61ccess_token"] {
        let request =
            server.request(Method::GET, &format!("/fhir/Patient?{name}={token}")).bearer_auth(&token);
        let answer = Answer::to(request).await;
        assert_outcome(&answer, 400, "URL", name);
        assert!(!answer.text.contains(&token), "{name}: the token is echoed");
    }
    let form = [("access_token", token.as_str())];
    let request = server.request(Method::POST, "/fhir/Patient/_search").form(&form);
    assert_outcome(&Answer::to(request).await, 401, "protected", "in the form");
    let both = post_search(&server, &token, "Patient/_search", &form).await;
    assert!(!both.text.contains(&token), "the token is echoed: {}", both.text);
    let header = format!("Authorization: Bearer {token}\r\n");
    let (status, text) = raw_get(&server, path, &format!("{header}{header}")).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("OperationOutcome") && text.contains("one Authorization header"), "{text}");
    for value in
        ["", "Bearer", "Bearer ", "bearer x", &token, &format!("Basic {token}"), &format!("Bearer {token},x")]
    {
        let request = server.request(Method::GET, path).header("authorization", value);
        assert_outcome(&Answer::to(request).await, 401, "", value);
    }
    assert_eq!(server.fhir(&token, "Patient/patient-maria").await.status, StatusCode::OK);
}

#[tokio::test]
async fn another_patients_records_are_not_there() {
    let (server, token) = start("patient/*.rs").await;
    let others = [
        "Patient/patient-amara",
        "Observation/amara-bp-2025-02-26",
        "Condition/amara-pregnancy-2025",
        "Coverage/amara-coverage-2026",
        "Binary/amara-birth-summary-text",
        "Provenance/amara-provenance-note",
        "RelatedPerson/kofi-mother-amara",
        "Appointment/none",
    ];
    for path in others {
        let answer = server.fhir(&token, path).await;
        assert_outcome(&answer, 404, path, path);
        let (resource_type, _) = path.split_once('/').unwrap();
        let none = format!("{resource_type}/there-is-none");
        let absent = server.fhir(&token, &none).await.text.replace(&none, path);
        assert_eq!(answer.text, absent, "not there and not yours look the same");
    }
}

#[tokio::test]
async fn no_search_finds_another_patients_records() {
    let (server, token) = start("patient/*.rs").await;
    let nothing = [
        "Patient?_id=patient-amara",
        "Patient?name=Amara",
        "Patient?_id=patient-amara&_summary=count",
        "Observation?patient=patient-amara",
        "Observation?patient=Patient/patient-amara&_total=accurate",
        "Observation?subject=Patient/patient-amara",
        "Observation?subject:Patient=patient-amara",
        "Observation?_id=amara-bp-2025-02-26",
        "Observation?subject:Patient.name=Amara",
        "Observation?patient.name=Amara",
        "Observation?subject.name=Amara",
        "Observation?subject:Patient._id=patient-amara",
        "Observation?patient.identifier=x",
        "Observation?encounter:Encounter._id=amara-birth-2025-10",
        "Patient?_has:Observation:patient:_id=amara-bp-2025-02-26",
        "Patient?_has:Condition:patient:_id=amara-pregnancy-2025",
        "Practitioner?_has:Encounter:participant:_id=amara-birth-2025-10",
        "Practitioner?_has:Observation:performer:patient=patient-amara",
        "Practitioner?_has:Observation:performer:patient.name=Amara",
        "Organization?_has:Patient:organization:name=Amara",
        "Patient?_has:RelatedPerson:patient:name=Amara",
        "Binary?_id=amara-birth-summary-text",
        "Provenance?_id=amara-provenance-note",
        "Provenance?patient=patient-amara",
        "Provenance?target=DocumentReference/amara-note-2026-06",
        "Group",
    ];
    for path in nothing {
        let answer = server.fhir(&token, path).await;
        assert_eq!(found(&answer), [""; 0], "{path}");
        assert!(matches!(answer.json()["total"].as_i64(), None | Some(0)), "{path}: {}", answer.text);
        assert!(
            !answer.text.contains("was ignored"),
            "{path} is a search that is understood: {}",
            answer.text
        );
        let (resource_type, query) = path.split_once('?').unwrap_or((path, ""));
        let form: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let posted = post_search(&server, &token, &format!("{resource_type}/_search"), &form).await;
        assert_eq!(found(&posted), [""; 0], "{path}");
    }
    let own = server.fhir(&token, "Observation?subject:Patient.name=Maria&_count=1").await;
    assert_eq!(found(&own).len(), 1, "the same doors open for her own: {}", own.text);
    let own = server.fhir(&token, "Patient?_has:Observation:patient:_id=maria-bp-2025-03-12").await;
    assert_eq!(found(&own), ["Patient/patient-maria"]);
}

#[tokio::test]
async fn a_list_of_ids_gives_only_ones_own() {
    let (server, token) = start("patient/*.rs").await;
    let ids = "amara-bp-2025-02-26,maria-bp-2025-03-12,annika-gad7-2025-10";
    let listed = server.fhir(&token, &format!("Observation?_id={ids}&_total=accurate")).await;
    assert_eq!(found(&listed), ["Observation/maria-bp-2025-03-12"]);
    assert_eq!(listed.json()["total"], 1);
    let patients = server.fhir(&token, "Patient?_id=patient-amara,patient-maria").await;
    assert_eq!(found(&patients), ["Patient/patient-maria"]);
    let both = server.fhir(&token, "Observation?patient=patient-maria,patient-amara&_count=200").await;
    assert!(found(&both).iter().all(|id| id.starts_with("Observation/maria-")), "{:?}", found(&both));
    for odd in [
        "code:not=x",
        "_sort=-date",
        "_id:not=x",
        "patient:missing=false",
        "_lastUpdated=ge2000-01-01",
        "_lastUpdated=gt2000-01-01",
        "_lastUpdated=sa2000-01-01",
        "_lastUpdated=ne2000-01-01",
        "_lastUpdated=le2100-01-01",
        "date=ge2000-01-01",
    ] {
        let answer = server.fhir(&token, &format!("Observation?{odd}&_count=200")).await;
        let found = found(&answer);
        let hers = found.iter().all(|id| id.starts_with("Observation/maria-"));
        assert!(hers && !found.is_empty(), "{odd}: {found:?}");
    }
}

#[tokio::test]
async fn query_and_form_of_a_posted_search_hold_together() {
    let (server, token) = start("patient/*.rs").await;
    let posted = |path: &'static str, form: &'static [(&str, &str)]| {
        let (server, token) = (&server, &token);
        async move { found(&post_search(server, token, path, form).await) }
    };
    let at = "Observation/_search?_id=maria-bp-2025-03-12";
    assert_eq!(posted(at, &[("patient", "patient-maria")]).await, ["Observation/maria-bp-2025-03-12"]);
    assert_eq!(posted(at, &[("_id", "amara-bp-2025-02-26")]).await, [""; 0], "neither replaces the other");
    assert_eq!(
        posted("Observation/_search?_id=amara-bp-2025-02-26", &[("patient", "patient-amara")]).await,
        [""; 0]
    );
    assert_eq!(posted("Patient/_search?_id=patient-amara", &[("_id", "patient-maria")]).await, [""; 0]);
    let request = server.request(Method::POST, "/fhir/Observation/_search").bearer_auth(&token);
    let answer = Answer::to(request.json(&json!({"_id": "amara-bp-2025-02-26"}))).await;
    assert_outcome(&answer, 415, "form", "JSON");
    let anonymous =
        server.request(Method::POST, "/fhir/Observation/_search").form(&[("patient", "patient-maria")]);
    assert_outcome(&Answer::to(anonymous).await, 401, "protected", "no token");
}

#[tokio::test]
async fn a_record_that_only_seems_to_be_about_a_patient_is_not_theirs() {
    let (server, token) = start("patient/*.rs").await;
    let observation = |id: &str, more: serde_json::Value| {
        let mut resource =
            json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": id}});
        resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        resource
    };
    let maria = json!({"reference": "Patient/patient-maria"});
    let about_amara = json!({"reference": "Patient/patient-amara"});
    let foreign = [
        observation("mentions", json!({"subject": about_amara, "focus": [maria], "performer": [maria]})),
        observation(
            "contains",
            json!({"subject": about_amara, "contained": [{"resourceType": "Patient", "id": "patient-maria"}]}),
        ),
        observation(
            "contained",
            json!({"subject": {"reference": "#patient-maria"},
            "contained": [{"resourceType": "Patient", "id": "patient-maria"}]}),
        ),
        observation(
            "logical",
            json!({"subject": {"identifier": {"system": "urn:x", "value": "patient-maria"}}}),
        ),
        observation("typed", json!({"subject": {"type": "Patient", "display": "Maria Alvarez"}})),
        observation(
            "elsewhere",
            json!({"subject": {"reference": "https://evil.example/fhir/Patient/patient-maria"}}),
        ),
        observation("other-type", json!({"subject": {"reference": "Group/patient-maria"}})),
        observation("longer", json!({"subject": {"reference": "Patient/patient-maria-2"}})),
        observation("nobody", json!({})),
    ];
    for resource in foreign {
        let id = resource["id"].as_str().unwrap().to_owned();
        put(&server, resource).await;
        let path = format!("Observation/{id}");
        assert_outcome(&server.fhir(&token, &path).await, 404, &path, &id);
        assert_eq!(found(&server.fhir(&token, &format!("Observation?_id={id}")).await), [""; 0], "{id}");
        let searched = server.fhir(&token, &format!("Observation?patient=patient-maria&_id={id}")).await;
        assert_eq!(found(&searched), [""; 0], "{id}");
    }
    put(&server, observation("hers", json!({"subject": maria}))).await;
    assert_eq!(server.fhir(&token, "Observation/hers").await.status, StatusCode::OK);
    // A Provenance or document is hers only where all of it is.
    let target = |id: &str| json!({"reference": format!("Observation/{id}")});
    put(
        &server,
        json!({"resourceType": "Provenance", "id": "mixed", "recorded": "2026-01-01T00:00:00Z",
               "target": [target("hers"), target("amara-bp-2025-02-26")], "agent": [{"who": maria}]}),
    )
    .await;
    assert_outcome(&server.fhir(&token, "Provenance/mixed").await, 404, "Provenance/mixed", "mixed");
}

#[tokio::test]
async fn a_person_sees_under_user_scopes_only_whom_they_act_for() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let token = server.launch(&client).scope("user/*.rs").by("daniel").token().await;
    for (path, status) in [
        ("Patient/patient-maria", 200),
        ("Patient/patient-margaret", 200),
        ("Patient/patient-amara", 404),
        ("Observation/amara-bp-2025-02-26", 404),
        ("Binary/amara-birth-summary-text", 404),
    ] {
        assert_eq!(server.fhir(access(&token), path).await.status.as_u16(), status, "{path}");
    }
    let found = found(&server.fhir(access(&token), "Patient?_count=100").await);
    assert_eq!(found.len(), 2, "{found:?}");
}

const LAB: &str =
    "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory";

#[tokio::test]
async fn a_laboratory_scope_shows_laboratory_results_whatever_is_searched_for() {
    let (server, token) = start(&format!("{LAB} patient/Patient.rs patient/DiagnosticReport.rs")).await;
    let is_lab = |answer: &Answer| {
        let bundle = answer.json();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries.iter().filter(|e| e["search"]["mode"] == "match").all(|e| {
            e["resource"]["resourceType"] != "Observation"
                || e["resource"]["category"].to_string().contains("\"laboratory\"")
        })
    };
    let some = [
        "Observation",
        "Observation?category=laboratory",
        "Observation?code:missing=false",
        "Observation?category=laboratory,vital-signs",
        "Observation?category:not=vital-signs",
        "Observation?_sort=-date",
    ];
    let none = [
        "Observation?category=vital-signs",
        "Observation?category:not=laboratory",
        "Observation?category=laboratory&category=vital-signs",
        "Observation?category:missing=true",
        "Observation?_id=maria-bp-2025-03-12",
        "Patient?_has:Observation:patient:category=vital-signs",
        "Patient?_has:Observation:patient:_id=maria-bp-2025-03-12",
        "DiagnosticReport?result:Observation.category=vital-signs",
    ];
    for path in some {
        let answer = server
            .fhir(&token, &format!("{path}{}_count=200", if path.contains('?') { '&' } else { '?' }))
            .await;
        assert!(!found(&answer).is_empty() && is_lab(&answer), "{path}: {:?}", found(&answer));
        assert_eq!(found(&answer).len(), 17, "{path}: every laboratory result");
    }
    for path in none {
        assert_eq!(found(&server.fhir(&token, path).await), [""; 0], "{path}");
    }
    assert_outcome(
        &server.fhir(&token, "Observation/maria-bp-2025-03-12").await,
        404,
        "maria-bp-2025-03-12",
        "read",
    );
    assert_eq!(server.fhir(&token, "Observation/maria-hba1c-2026-09-14").await.status, StatusCode::OK);
    assert_eq!(
        found(&server.fhir(&token, "Patient?_has:Observation:patient:category=laboratory").await).len(),
        1
    );
}

#[tokio::test]
async fn reading_is_not_searching_and_searching_is_not_reading() {
    let (server, token) = start("patient/Observation.r patient/Condition.s").await;
    let assert_needs = |answer: &Answer, scope: &str| {
        assert_outcome(answer, 403, scope, scope);
        assert_eq!(answer.json()["issue"][0]["code"], "forbidden");
        assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""), "{scope}");
    };
    assert_needs(&server.fhir(&token, "Observation").await, "patient/Observation.s");
    assert_needs(&server.fhir(&token, "Observation?_id=maria-bp-2025-03-12").await, "patient/Observation.s");
    assert_needs(&post_search(&server, &token, "Observation/_search", &[]).await, "patient/Observation.s");
    assert_needs(&server.fhir(&token, "Condition/maria-diabetes").await, "patient/Condition.r");
    assert_needs(&server.fhir(&token, "Patient/patient-maria").await, "patient/Patient.r");
    assert_needs(&server.fhir(&token, "Patient").await, "patient/Patient.s");
    assert_needs(&server.fhir(&token, "Patient/patient-amara").await, "patient/Patient.r");
    let chained = server.fhir(&token, "Condition?subject:Patient.name=Maria").await;
    assert_eq!(found(&chained), [""; 0], "no chain through a type that may not be searched");
    let evidence = server.fhir(&token, "Condition?encounter:Encounter._id=maria-visit-2026-03").await;
    assert_eq!(found(&evidence), [""; 0]);
    assert_eq!(server.fhir(&token, "Observation/maria-bp-2025-03-12").await.status, StatusCode::OK);
    assert!(!found(&server.fhir(&token, "Condition").await).is_empty());
}

#[tokio::test]
async fn a_sign_in_alone_opens_one_resource_or_none() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let identity = server.launch(&client).scope("openid fhirUser").token().await;
    assert_eq!(server.fhir(access(&identity), "Patient/patient-maria").await.status, StatusCode::OK);
    assert_outcome(
        &server.fhir(access(&identity), "Patient/patient-amara").await,
        404,
        "patient-amara",
        "another",
    );
    assert_outcome(&server.fhir(access(&identity), "Patient").await, 403, "Patient.s", "search");
    assert_outcome(&server.fhir(access(&identity), "Condition").await, 403, "Condition.s", "search");
    let elsewhere = server.launch(&client).scope("openid fhirUser").without("aud").token().await;
    let answer = server.fhir(access(&elsewhere), "Patient/patient-maria").await;
    assert_outcome(&answer, 401, "not for this FHIR server", "audience");
}

#[tokio::test]
async fn endless_and_deep_searches_are_refused() {
    let (server, token) = start("patient/*.rs").await;
    let cases = [
        ("65 criteria", "code=x&".repeat(65)),
        ("10,000 parameters", "code=x&".repeat(10_000)),
        ("501 values", format!("code={}", vec!["x"; 501].join(","))),
        ("a chain of 1,000", format!("{}name=x", "link:Patient.".repeat(1_000))),
        ("a chain of 6", format!("{}name=x", "link:Patient.".repeat(6))),
        ("has in has", format!("{}code=x", "_has:Observation:patient:".repeat(6))),
        ("has in has in has", format!("{}code=x", "_has:Observation:patient:".repeat(1_000))),
        ("a long value", format!("code={}", "x".repeat(5_000))),
        ("a made-up cursor", "_cursor=W10.AAAA".to_owned()),
        ("nested cursor", format!("_cursor={}", "W".repeat(2_000))),
        ("not UTF-8", "code=%ff".to_owned()),
    ];
    for (case, query) in cases {
        let form = "application/x-www-form-urlencoded";
        let request = server.request(Method::POST, "/fhir/Patient/_search").bearer_auth(&token);
        let answer =
            Answer::to(request.header("content-type", form).body(query.replace("code", "identifier"))).await;
        assert_outcome(&answer, 400, "", case);
    }
    let nested = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let request = server.request(Method::POST, "/oauth/register").header("content-type", "application/json");
    let answer = Answer::to(request.body(nested)).await;
    assert_oauth(&answer, 400, "invalid_client_metadata", "recursion", "10,000 brackets");
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK, "still there");
}
