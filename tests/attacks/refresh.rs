//! Attacks with refresh tokens.

use std::collections::BTreeSet;

use hearthgate::clock::{DAY, MINUTE, SECOND};
use hearthgate::oauth::grant::Grant;
use hearthgate::store::db::{Store, Tx};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::hands::*;
use crate::kit::{Answer, Launch, TestApp, TestClient, access, claims};

const SCOPE: &str = "openid fhirUser offline_access patient/*.rs";

async fn start() -> (TestApp, TestClient, Value) {
    let server = TestApp::start().await;
    let client = refreshing_app(&server).await;
    let token = server.launch(&client).scope(SCOPE).token().await;
    (server, client, token)
}

fn grant_of(server: &TestApp, token: &Value) -> String {
    let hash = hearthgate::crypto::Hashed::of(access(token));
    let sql = "SELECT grant_id FROM access_tokens WHERE hash = $1";
    let read = |tx: &Tx<'_>| tx.first(sql, hearthgate::params![hash.as_str()], |row| row.get(0));
    server.app.store.read(read).expect("it is read").expect("a grant")
}

#[tokio::test]
async fn a_refresh_token_used_again_after_the_grace_time_ends_the_grant() {
    let (server, client, first) = start().await;
    let second = refresh(&server, &client, &first, None).await.json();
    assert_ne!(first["refresh_token"], second["refresh_token"], "it rotates");
    server.advance(10 * SECOND - 1);
    let repeated = refresh(&server, &client, &first, None).await.json();
    assert_eq!(repeated["refresh_token"], second["refresh_token"], "a lost answer is given again");
    assert_eq!(audited(&server, "grant_ended"), 0);
    server.advance(1);
    let late = refresh(&server, &client, &first, None).await;
    assert_oauth(&late, 400, "invalid_grant", "already used", "10 s later");
    assert_eq!(audited(&server, "grant_ended"), 1);
    assert_oauth(
        &refresh(&server, &client, &second, None).await,
        400,
        "invalid_grant",
        "ended",
        "its successor",
    );
    for dead in [&first, &second, &repeated] {
        assert_outcome(&server.fhir(access(dead), "Patient/patient-maria").await, 401, "used twice", "dead");
    }
}

#[tokio::test]
async fn a_refresh_token_whose_successor_was_used_gives_nothing_even_within_the_grace_time() {
    let (server, client, first) = start().await;
    let second = refresh(&server, &client, &first, None).await.json();
    let third = refresh(&server, &client, &second, None).await.json();
    let stolen = refresh(&server, &client, &first, None).await;
    assert_oauth(&stolen, 400, "invalid_grant", "followed it", "two steps back");
    assert_eq!(audited(&server, "grant_ended"), 0);
    assert_eq!(refresh(&server, &client, &third, None).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_refreshes_at_once_one_family_lives_on() {
    let (server, client, token) = start().await;
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token["refresh_token"].as_str().unwrap()),
        ("client_id", &client.id),
    ];
    let answers =
        at_once((0..32).map(|_| server.request(Method::POST, "/oauth/token").form(&form)).collect()).await;
    let next: BTreeSet<String> = answers
        .iter()
        .map(|a| a.json()["refresh_token"].as_str().expect("the grace rule").to_owned())
        .collect();
    assert_eq!(next.len(), 1, "one successor only");
    let sql = "SELECT count(*) FROM refresh_tokens WHERE used_ms IS NULL";
    let unused: Option<i64> = server.app.store.read(|tx| tx.first(sql, &[], |row| row.get(0))).unwrap();
    assert_eq!(unused, Some(1));
    server.advance(10 * SECOND);
    assert_oauth(
        &refresh(&server, &client, &token, None).await,
        400,
        "invalid_grant",
        "already used",
        "later",
    );
    for answer in &answers {
        assert_outcome(
            &server.fhir(access(&answer.json()), "Patient/patient-maria").await,
            401,
            "used twice",
            "all",
        );
    }
}

#[tokio::test]
async fn another_apps_refresh_token_is_refused_and_not_burnt() {
    let (server, client, token) = start().await;
    let public = refreshing_app(&server).await;
    assert_oauth(
        &refresh(&server, &public, &token, None).await,
        400,
        "invalid_grant",
        "another app",
        "public",
    );
    let secret = json!({"grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "client_secret_basic"});
    let confidential = server.register(secret).await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", token["refresh_token"].as_str().unwrap())];
    let request = server
        .request(Method::POST, "/oauth/token")
        .basic_auth(&confidential.id, confidential.secret.clone());
    assert_oauth(&Answer::to(request.form(&form)).await, 400, "invalid_grant", "another app", "confidential");
    // A confidential app's token is no proof that its bearer is that app.
    let theirs = server.launch(&confidential).scope(SCOPE).token().await;
    let alone =
        [("grant_type", "refresh_token"), ("refresh_token", theirs["refresh_token"].as_str().unwrap())];
    assert_oauth(&server.post_token(&alone).await, 401, "invalid_client", "client_secret_basic", "stolen");
    let unknown =
        [("grant_type", "refresh_token"), ("refresh_token", "hg_rt_made-up"), ("client_id", &client.id)];
    assert_oauth(
        &server.post_token(&unknown).await,
        400,
        "invalid_grant",
        "not one of this server's",
        "unknown",
    );
    let no_refresh = server.register(json!({})).await;
    assert_oauth(
        &refresh(&server, &no_refresh, &token, None).await,
        400,
        "unauthorized_client",
        "refresh_token",
        "type",
    );
    assert_eq!(audited(&server, "grant_ended"), 0);
    assert_eq!(refresh(&server, &client, &token, None).await.status, StatusCode::OK, "not burnt");
}

#[tokio::test]
async fn a_refresh_can_ask_for_less_and_never_for_more() {
    let (server, client, mut token) = start().await;
    let less = ["openid patient/*.rs", "patient/*.r", "patient/Observation.rs?category=laboratory", SCOPE];
    for scope in less {
        let answer = refresh(&server, &client, &token, Some(scope)).await;
        assert_eq!(answer.status, StatusCode::OK, "{scope}: {}", answer.text);
        token = answer.json();
        assert_eq!(token["scope"], scope);
        let may_search = scope.contains(".rs");
        let status = server.fhir(access(&token), "Observation").await.status;
        assert_eq!(status == StatusCode::OK, may_search, "{scope}");
        let may_read_vitals = !scope.contains('?');
        let status = server.fhir(access(&token), "Observation/maria-bp-2025-03-12").await.status;
        assert_eq!(status == StatusCode::OK, may_read_vitals, "{scope}");
    }
    let more = [
        "patient/*.cruds",
        "patient/*.cr",
        "user/*.rs",
        "user/Patient.r",
        "system/*.rs",
        "launch/patient",
        "online_access",
        "patient/*.rs user/Patient.r",
        "nonsense",
    ];
    for scope in more {
        let answer = refresh(&server, &client, &token, Some(scope)).await;
        assert_oauth(&answer, 400, "invalid_scope", "was not granted", scope);
    }
    token = refresh(&server, &client, &token, None).await.json();
    assert_eq!(
        token["scope"], SCOPE,
        "narrowing one answer does not narrow the next, nor did asking for more burn it"
    );
}

#[tokio::test]
async fn a_narrow_grant_is_not_widened_by_a_refresh() {
    let (server, client, _) = start().await;
    let lab = "patient/Observation.rs?category=laboratory";
    let token = server.launch(&client).scope(&format!("{lab} offline_access")).token().await;
    for scope in [
        "patient/Observation.rs",
        "patient/*.rs",
        "patient/Observation.rs?category=laboratory,vital-signs",
        "patient/Observation.rs?category=vital-signs",
        "patient/Observation.rs?code=1234-5",
        "patient/Observation.cruds?category=laboratory",
    ] {
        let answer = refresh(&server, &client, &token, Some(scope)).await;
        assert_oauth(&answer, 400, "invalid_scope", "was not granted", scope);
    }
    let narrower = format!("{lab}&code=http://loinc.org|4548-4");
    assert_eq!(refresh(&server, &client, &token, Some(&narrower)).await.json()["scope"], narrower);
}

#[tokio::test]
async fn nobody_refreshes_for_a_person_who_was_shut_out() {
    let (server, client, token) = start().await;
    disable(&server, "maria").await;
    let answer = refresh(&server, &client, &token, None).await;
    assert_oauth(&answer, 400, "invalid_grant", "can no longer sign in", "disabled");
    assert_outcome(&server.fhir(access(&token), "Patient/patient-maria").await, 401, "no longer", "access");
}

#[tokio::test]
async fn nobody_refreshes_what_was_ended() {
    let (server, client, token) = start().await;
    let other = server.launch(&client).scope(SCOPE).token().await;
    let (id, now) = (grant_of(&server, &token), server.app.now());
    behind(&server, move |tx| Grant::end(tx, &id, now, "disconnected")).await;
    let answer = refresh(&server, &client, &token, None).await;
    assert_oauth(&answer, 400, "invalid_grant", "disconnected", "disconnected");
    assert_outcome(
        &server.fhir(access(&token), "Patient/patient-maria").await,
        401,
        "disconnected",
        "access",
    );
    assert_eq!(refresh(&server, &client, &other, None).await.status, StatusCode::OK, "another grant lives");
    server.advance(100 * DAY);
    assert_oauth(
        &refresh(&server, &client, &other, None).await,
        400,
        "invalid_grant",
        "",
        "a hundred days unused",
    );
}

#[tokio::test]
async fn what_was_ended_stays_ended_after_a_restart() {
    let folder = std::env::temp_dir().join(format!("hearthgate-attacks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let database = folder.join("restart.db").display().to_string();
    let open = || Store::open(&database).expect("a store");
    let server = TestApp::start_on(open()).await;
    let client = refreshing_app(&server).await;
    let launch = server.launch(&client).scope(SCOPE);
    let (stolen, alive, code) = (launch.token().await, launch.token().await, launch.code().await);
    let successor = refresh(&server, &client, &stolen, None).await.json();
    server.exchange(&client, &code).await;
    server.advance(10 * SECOND);
    assert_oauth(
        &refresh(&server, &client, &stolen, None).await,
        400,
        "invalid_grant",
        "already used",
        "before",
    );
    drop(server);

    let server = TestApp::start_on(open()).await;
    for dead in [&stolen, &successor] {
        assert_oauth(&refresh(&server, &client, dead, None).await, 400, "invalid_grant", "ended", "after");
        let read = server.fhir(access(dead), "Patient/patient-maria").await;
        assert_outcome(&read, 401, "used twice", "its access token");
    }
    assert_oauth(&server.exchange(&client, &code).await, 400, "invalid_grant", "already used", "a used code");
    let next = refresh(&server, &client, &alive, None).await;
    assert_eq!(next.status, StatusCode::OK, "the rest lives on: {}", next.text);
    server.advance(10 * SECOND);
    assert_oauth(
        &refresh(&server, &client, &alive, None).await,
        400,
        "invalid_grant",
        "already used",
        "rotation too",
    );
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A token that lasts as long as the session in which it was granted, and that session's browser.
async fn online<'a>(
    server: &'a TestApp,
    launch: &Launch<'a>,
    client: &TestClient,
) -> (crate::kit::Browser<'a>, Value) {
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let csrf = page.hidden("csrf").unwrap();
    let (ticked, _) = page.boxes("scope");
    let mut form = vec![("csrf", csrf.as_str()), ("decision", "allow")];
    form.extend(ticked.iter().map(|s| ("scope", s.as_str())));
    let code = back(&browser.post(&path, &form).await, "allow")["code"].clone();
    (browser, server.exchange(client, &code).await.json())
}

#[tokio::test]
async fn online_access_ends_with_the_session() {
    let (server, client, _) = start().await;
    let launch = server.launch(&client).scope("openid online_access patient/*.rs");
    let (browser, token) = online(&server, &launch, &client).await;
    let token = refresh(&server, &client, &token, None).await.json();
    assert!(token["refresh_token"].is_string(), "while she is signed in: {token}");
    let (path, _) = launch.open(&browser).await;
    let switch = browser.get(&format!("{path}?switch=1")).await;
    browser.sign_in(&path, &switch, "annika").await;
    let answer = refresh(&server, &client, &token, None).await;
    assert_oauth(&answer, 400, "invalid_grant", "session", "somebody else signed in");

    let (_, idle) = online(&server, &launch, &client).await;
    server.advance(30 * MINUTE - 1);
    let idle = refresh(&server, &client, &idle, None).await.json();
    server.advance(1);
    let answer = refresh(&server, &client, &idle, None).await;
    assert_oauth(&answer, 400, "invalid_grant", "session", "half an hour of silence");
}

#[tokio::test]
async fn a_refresh_answer_repeats_the_context_and_names_the_same_person() {
    let server = TestApp::start().await;
    let client = refreshing_app(&server).await;
    let launch = server.launch(&client).scope(SCOPE).by("amara").patient("patient-kofi").with("nonce", "n-1");
    let token = launch.token().await;
    assert_eq!(claims(&token["id_token"])["nonce"], "n-1");
    server.advance(5 * MINUTE);
    let next = refresh(&server, &client, &token, None).await.json();
    assert_eq!((&next["patient"], &next["scope"]), (&json!("patient-kofi"), &json!(SCOPE)));
    let (before, after) = (claims(&token["id_token"]), claims(&next["id_token"]));
    for name in ["iss", "sub", "aud", "auth_time", "fhirUser"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    assert_eq!(after.get("nonce"), None, "it belongs to the authorization request");
    assert_eq!(after["iat"].as_i64().unwrap() - before["iat"].as_i64().unwrap(), 300);
    let quiet = refresh(&server, &client, &next, Some("patient/*.rs")).await.json();
    assert_eq!(
        (&quiet["patient"], quiet.get("id_token")),
        (&json!("patient-kofi"), None),
        "no openid, no id_token"
    );
}
