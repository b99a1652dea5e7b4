//! Backend services: a token for the app itself, what it opens, and how it ends.

use hearthgate::clock::{DAY, HOUR, SECOND};
use hearthgate::oauth::client::Client;
use hearthgate::oauth::grant::Grant;
use hearthgate::server;
use hearthgate::store::db::Tx;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::attacks::hands::{assert_oauth, assert_outcome, audited, behind, found, put};
use crate::kit::{Answer, NOW, TestApp, access};
use crate::signer::{Signer, new_key};
use hearthgate::jose::Alg;

/// Cuts what an app is registered for.
async fn narrow(signer: &Signer<'_>, scope: &str) {
    let (id, scope) = (signer.app.id.clone(), scope.to_owned());
    behind(signer.server, move |tx| {
        let mut metadata = Client::find(tx, &id)?.expect("the app").metadata;
        metadata.scope = scope;
        Client::replace(tx, &id, &metadata)
    })
    .await;
}

#[tokio::test]
async fn a_service_gets_a_token_and_nothing_else() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let answer = signer.try_token("system/Patient.rs system/Observation.r").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
    assert_eq!(answer.header("content-type"), "application/json");
    let mut body = answer.json();
    let token = body["access_token"].take();
    assert!(token.as_str().unwrap().starts_with("hg_at_"));
    let rest = json!({"access_token": null, "token_type": "Bearer", "expires_in": 300,
        "scope": "system/Patient.rs system/Observation.r"});
    assert_eq!(body, rest);
    assert_eq!(audited(&server, "service_token"), 1);
}

#[tokio::test]
async fn a_service_reads_and_searches_by_its_scopes() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let all = signer.token("system/*.rs").await;
    for path in ["Patient/patient-maria", "Patient/patient-kofi"] {
        assert_eq!(server.fhir(&all, path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(found(&server.fhir(&all, "Patient?_count=50").await).len(), 9, "everybody");
    let open = found(&server.get("/open/fhir/Observation?_count=500").await);
    assert_eq!(found(&server.fhir(&all, "Observation?_count=500").await), open);

    let read = signer.token("system/Patient.r").await;
    assert_eq!(server.fhir(&read, "Patient/patient-maria").await.status, StatusCode::OK);
    assert_outcome(&server.fhir(&read, "Patient").await, 403, "system/Patient.s", "search by .r");
    assert_outcome(&server.fhir(&read, "Observation").await, 403, "system/Observation.s", "another type");
    let search = signer.token("system/Patient.s").await;
    assert_eq!(found(&server.fhir(&search, "Patient?_count=50").await).len(), 9);
    let denied = server.fhir(&search, "Patient/patient-maria").await;
    assert_outcome(&denied, 403, "system/Patient.r", "read by .s");
    assert!(denied.header("www-authenticate").contains("error=\"insufficient_scope\""));

    let laboratory = "system/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
    let granular = signer.token(laboratory).await;
    let wanted = found(&server.get("/open/fhir/Observation?category=laboratory&_count=500").await);
    assert!(!wanted.is_empty() && wanted.len() < open.len());
    let shown = found(&server.fhir(&granular, "Observation?_count=500").await);
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(shown), sorted(wanted.clone()), "whatever is searched for");
    let hidden = open.iter().find(|o| !wanted.contains(o)).expect("another one");
    assert_outcome(&server.fhir(&granular, hidden).await, 404, "", "another category");
    assert_eq!(server.fhir(&granular, &wanted[0]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_service_sees_nothing_that_is_about_access_itself() {
    let server = TestApp::start().await;
    for resource in [
        json!({"resourceType": "AuditEvent", "id": "a"}),
        json!({"resourceType": "Basic", "id": "a", "code": {"text": "x"}}),
        json!({"resourceType": "Consent", "id": "a", "status": "active"}),
    ] {
        put(&server, resource).await;
    }
    let extra = json!({"scope": "system/*.rs system/AuditEvent.rs system/Basic.rs system/Consent.rs"});
    let signer = Signer::with(&server, new_key(Alg::ES384), extra).await;
    for hidden in ["AuditEvent", "Basic", "Consent"] {
        for scope in ["system/*.rs".to_owned(), format!("system/{hidden}.rs")] {
            let token = signer.token(&scope).await;
            assert_outcome(&server.fhir(&token, &format!("{hidden}/a")).await, 404, "", hidden);
            assert_eq!(found(&server.fhir(&token, hidden).await), [""; 0], "{hidden}");
        }
    }
}

#[tokio::test]
async fn what_a_service_cannot_have_is_left_out_and_the_scope_says_so() {
    let server = TestApp::start().await;
    // An app that people launch too is registered for what they grant.
    let extra = json!({
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "redirect_uris": [crate::kit::CALLBACK],
        "scope": "openid fhirUser launch launch/patient offline_access patient/*.rs user/*.rs system/Patient.rs",
    });
    let signer = Signer::with(&server, new_key(Alg::ES384), extra).await;
    let asked = "openid fhirUser launch/patient offline_access patient/*.rs user/Patient.r system/Patient.r \
                 system/Observation.rs system/Patient.c system/Nothing.rs system/Patient.sr rubbish \
                 system/Patient.r __introspect";
    let answer = signer.try_token(asked).await;
    let body = answer.json();
    assert_eq!(body["scope"], "system/Patient.r", "{body}");
    assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
    let token = access(&body);
    assert_eq!(server.fhir(token, "Patient/patient-maria").await.status, StatusCode::OK);
    assert_outcome(&server.fhir(token, "Patient").await, 403, "system/Patient.s", "left out");
    assert_outcome(&server.fhir(token, "Observation").await, 403, "system/Observation.s", "left out");
    let userinfo = server.request(Method::GET, "/oauth/userinfo").bearer_auth(token);
    assert_oauth_bearer(&Answer::to(userinfo).await);

    for (scope, says) in [
        ("openid", "acts for nobody"),
        ("user/*.rs patient/*.rs", "acts for nobody"),
        ("offline_access", "acts for nobody"),
        ("system/Observation.rs", "not registered"),
        ("system/*.rs", "not registered"),
        ("system/Patient.cruds", "not registered"),
        ("rubbish", "`rubbish`"),
        ("__introspect", "not registered"),
    ] {
        assert_oauth(&signer.try_token(scope).await, 400, "invalid_scope", says, scope);
    }
    for scope in ["", " "] {
        assert_oauth(&signer.try_token(scope).await, 400, "invalid_scope", "missing", scope);
    }
    let none = signer.post("/oauth/token", &[("grant_type", "client_credentials")]).await;
    assert_oauth(&none, 400, "invalid_scope", "system/*.rs", "none");
    let quoted = signer.try_token("system/\"Patient.rs").await;
    assert_oauth(&quoted, 400, "invalid_scope", "U+0022", "a quote");
    let long = signer.try_token(&"system/Patient.rs".repeat(20_000)).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
}

fn assert_oauth_bearer(answer: &Answer) {
    assert_eq!((answer.status, answer.error().as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    assert!(answer.header("www-authenticate").contains("insufficient_scope"));
}

#[tokio::test]
async fn a_services_token_lives_300_seconds_or_as_much_less_as_the_app_registered() {
    let server = TestApp::start().await;
    for (registered, life) in
        [(None, 300), (Some(7), 7), (Some(299), 299), (Some(301), 300), (Some(86_400), 300)]
    {
        let signer =
            Signer::with(&server, new_key(Alg::ES384), json!({"access_token_life": registered})).await;
        let answer = signer.try_token("system/*.rs").await.json();
        assert_eq!(answer["expires_in"], life, "{registered:?}");
        let token = access(&answer);
        server.advance(life * SECOND - 1);
        assert_eq!(server.fhir(token, "Patient/patient-maria").await.status, StatusCode::OK);
        server.advance(1);
        let late = server.fhir(token, "Patient/patient-maria").await;
        assert_outcome(&late, 401, "expired", "to the millisecond");
    }
}

#[tokio::test]
async fn a_narrower_registration_or_none_counts_for_the_tokens_that_live() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let token = signer.token("system/*.rs").await;
    narrow(&signer, "system/Patient.r").await;
    assert_eq!(server.fhir(&token, "Patient/patient-maria").await.status, StatusCode::OK);
    assert_outcome(&server.fhir(&token, "Patient").await, 403, "system/Patient.s", "narrower");
    assert_outcome(&server.fhir(&token, "Observation").await, 403, "system/", "narrower");
    narrow(&signer, "system/*.rs").await;
    assert_eq!(server.fhir(&token, "Observation").await.status, StatusCode::OK);
    let (id, now) = (signer.app.id.clone(), server.app.now());
    behind(&server, move |tx| {
        Client::delete(tx, &id)?;
        Grant::end_all_of(tx, &id, now, "the app was deleted")
    })
    .await;
    assert_outcome(&server.fhir(&token, "Patient/patient-maria").await, 401, "deleted", "no app");
    let again = signer.ask(&signer.assertion()).await;
    assert_oauth(&again, 401, "invalid_client", "no app is registered", "no app");
}

#[tokio::test]
async fn a_service_introspects_and_revokes_its_own_tokens() {
    let server = TestApp::start().await;
    let (signer, other) = (Signer::service(&server).await, Signer::service(&server).await);
    let token = signer.token("system/*.rs").await;
    let told = signer.post("/oauth/introspect", &[("token", &token)]).await;
    let expected = json!({
        "active": true,
        "scope": "system/*.rs",
        "client_id": signer.app.id,
        "exp": NOW / SECOND + 300,
        "iat": NOW / SECOND,
        "iss": server.url,
        "sub": signer.app.id,
        "aud": server.fhir_base(),
        "token_type": "Bearer",
    });
    assert_eq!(told.json(), expected);
    let nothing = json!({"active": false});
    let others = other.post("/oauth/introspect", &[("token", &token)]).await;
    assert_eq!((others.status, others.json()), (StatusCode::OK, nothing.clone()), "another app's");
    assert_eq!(other.post("/oauth/revoke", &[("token", &token)]).await.status, StatusCode::OK);
    assert_eq!(server.fhir(&token, "Patient/patient-maria").await.status, StatusCode::OK, "not by another");
    assert_eq!(signer.post("/oauth/revoke", &[("token", &token)]).await.status, StatusCode::OK);
    assert_outcome(&server.fhir(&token, "Patient/patient-maria").await, 401, "", "given back");
    assert_eq!(signer.post("/oauth/introspect", &[("token", &token)]).await.json(), nothing);

    let all = Signer::with(
        &server,
        new_key(Alg::ES384),
        json!({"introspect": "all", "scope": "system/Patient.r __introspect"}),
    )
    .await;
    let token = signer.token("system/*.rs").await;
    assert_eq!(all.post("/oauth/introspect", &[("token", &token)]).await.json()["sub"], signer.app.id);
    let bearer = all.token("__introspect").await;
    let by_token = server.request(Method::POST, "/oauth/introspect").bearer_auth(&bearer);
    assert_eq!(Answer::to(by_token.form(&[("token", &token)])).await.json()["sub"], signer.app.id);
    assert_eq!(server.fhir(&bearer, "Patient/patient-maria").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn only_an_app_with_a_key_of_its_own_is_a_service() {
    let server = TestApp::start().await;
    for method in ["none", "client_secret_basic", "client_secret_post"] {
        let registering = |redirects: serde_json::Value| {
            json!({"token_endpoint_auth_method": method, "grant_types": ["client_credentials"],
                "redirect_uris": redirects, "scope": "system/*.rs"})
        };
        for redirects in [json!([]), json!([crate::kit::CALLBACK])] {
            let answer = server.try_register(registering(redirects)).await;
            assert_oauth(&answer, 400, "invalid_client_metadata", "private_key_jwt", method);
        }
        let client = server.register(json!({"token_endpoint_auth_method": method})).await;
        let mut form = vec![("grant_type", "client_credentials"), ("scope", "system/*.rs")];
        let request = server.request(Method::POST, "/oauth/token");
        let request = match (method, &client.secret) {
            ("client_secret_basic", Some(secret)) => request.basic_auth(&client.id, Some(secret)),
            (_, secret) => {
                form.push(("client_id", &client.id));
                form.extend(secret.as_deref().map(|secret| ("client_secret", secret)));
                request
            }
        };
        let answer = Answer::to(request.form(&form)).await;
        assert_oauth(&answer, 400, "unauthorized_client", "client_credentials", method);
    }
    let launched = Signer::launched(&server).await;
    let answer = launched.try_token("patient/*.rs").await;
    assert_oauth(&answer, 400, "unauthorized_client", "client_credentials", "an app for people");
    let system = json!({"scope": "system/*.rs"});
    let answer = server.try_register(system).await;
    assert_oauth(&answer, 400, "invalid_client_metadata", "client_credentials", "system scopes for people");
    let service = Signer::service(&server).await;
    for (grant_type, error) in [
        ("client_credential", "unsupported_grant_type"),
        ("password", "unsupported_grant_type"),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", "unsupported_grant_type"),
        ("authorization_code", "unauthorized_client"),
        ("refresh_token", "unauthorized_client"),
        ("", "invalid_request"),
    ] {
        let form = [("grant_type", grant_type), ("scope", "system/*.rs")];
        assert_oauth(&service.post("/oauth/token", &form).await, 400, error, "", grant_type);
    }
    let launch = server.launch(&service.app).with("redirect_uri", crate::kit::CALLBACK).answer().await;
    assert_eq!(
        (launch.status, launch.location()),
        (StatusCode::BAD_REQUEST, ""),
        "nobody launches a service"
    );
}

fn grants(server: &TestApp) -> i64 {
    let count = |tx: &Tx<'_>| tx.first("SELECT count(*) FROM grants", &[], |row| row.get(0));
    server.app.store.read(count).expect("it is read").unwrap_or_default()
}

#[tokio::test]
async fn what_services_had_is_forgotten_a_day_after_and_what_people_granted_is_not() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let client = server.register(json!({})).await;
    server.launch(&client).token().await;
    for _ in 0..3 {
        signer.token("system/*.rs").await;
    }
    let revoked = signer.token("system/*.rs").await;
    signer.post("/oauth/revoke", &[("token", &revoked)]).await;
    server.advance(DAY + 299 * SECOND);
    server::forget(&server.app).await.unwrap();
    assert_eq!(grants(&server), 4, "only the revoked one is over for a day");
    server.advance(2 * SECOND);
    let living = signer.token("system/*.rs").await;
    server::forget(&server.app).await.unwrap();
    assert_eq!(grants(&server), 2, "a person's, and one whose token lives");
    assert_eq!(server.fhir(&living, "Patient/patient-maria").await.status, StatusCode::OK);
    assert_eq!(audited(&server, "service_token"), 5, "events stay");
    server.advance(DAY + HOUR);
    server::forget(&server.app).await.unwrap();
    assert_eq!(grants(&server), 1);
}
