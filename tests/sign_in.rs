//! Signing in to relying parties: those that know neither PKCE nor `nonce`, what their id_tokens say, how old a
//! sign-in may be, and when a person is not asked again.

use std::collections::BTreeMap;

use hearthgate::clock::{HOUR, MINUTE, SECOND};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, Browser, CALLBACK, Launch, NOW, TestApp, TestClient, access, claims};

/// A state as Cognito makes them: long, and full of characters that forms treat in their own way.
const STATE: &str = "H4sIAAAAAAAAAFWP+3/gjAQ+/o==.eyJ1c2VyUG9vbElkIjoidXMtZWFzdC0xX2FCYyJ9+/==:2";

async fn relying_party(server: &TestApp, extra: Value) -> TestClient {
    let mut metadata = json!({"sign_in_only": true, "token_endpoint_auth_method": "client_secret_post"});
    metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    server.register(metadata).await
}

/// What Cognito and ALB send: response_type, client_id, redirect_uri, scope and state, and nothing else.
fn bare<'a>(server: &'a TestApp, client: &'a TestClient, scope: &str) -> Launch<'a> {
    let launch = server.launch(client).scope(scope).with("state", STATE);
    ["aud", "code_challenge", "code_challenge_method"].into_iter().fold(launch, Launch::without)
}

/// Exchanges a code without a verifier, with the secret in the body or in the header.
async fn exchange(server: &TestApp, client: &TestClient, code: &str, basic: bool) -> Answer {
    let secret = client.secret.as_deref().unwrap_or_default();
    let mut form =
        vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", &client.redirect)];
    let mut request = server.request(Method::POST, "/oauth/token");
    if basic {
        request = request.basic_auth(&client.id, Some(secret));
    } else {
        form.extend([("client_id", client.id.as_str()), ("client_secret", secret)]);
    }
    Answer::to(request.form(&form)).await
}

async fn userinfo(server: &TestApp, method: Method, token: &Value) -> Answer {
    Answer::to(server.request(method, "/oauth/userinfo").bearer_auth(access(token))).await
}

/// Answers the consent page, which must come.
async fn answer(launch: &Launch<'_>, browser: &Browser<'_>, decision: &str, remember: bool) -> Answer {
    let (path, page) = launch.to_consent(browser).await;
    assert!(page.text.contains("name=\"decision\""), "no consent page: {} {}", page.location(), page.text);
    let csrf = page.hidden("csrf").unwrap();
    let (ticked, _) = page.boxes("scope");
    let mut form = vec![("csrf", csrf.as_str()), ("decision", decision)];
    form.extend(ticked.iter().map(|s| ("scope", s.as_str())));
    if remember {
        form.push(("remember", "1"));
    }
    browser.post(&path, &form).await
}

async fn allows(launch: &Launch<'_>, browser: &Browser<'_>, remember: bool) -> String {
    answer(launch, browser, "allow", remember).await.redirect_params()["code"].clone()
}

/// Whether the person is asked; otherwise the app gets its code at once.
async fn is_asked(launch: &Launch<'_>, browser: &Browser<'_>) -> bool {
    let (_, page) = launch.to_consent(browser).await;
    if page.text.contains("name=\"decision\"") {
        return true;
    }
    assert!(page.location().starts_with(CALLBACK), "neither asked nor sent back: {}", page.text);
    assert!(page.redirect_params().contains_key("code"), "{}", page.location());
    false
}

/// What `prompt=none` comes to.
async fn silently(launch: &Launch<'_>, browser: &Browser<'_>) -> BTreeMap<String, String> {
    let answer = browser.get(&launch.clone().with("prompt", "none").address()).await;
    assert!(answer.location().starts_with(CALLBACK), "a page: {} {}", answer.location(), answer.text);
    answer.redirect_params()
}

async fn refused_as(launch: &Launch<'_>, error: &str, says: &str) {
    let params = launch.answer().await.redirect_params();
    assert_eq!(params.get("error").map(String::as_str), Some(error), "{says}: {params:?}");
    assert!(params["error_description"].contains(says), "{says}: {params:?}");
}

// ── without PKCE ────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn a_relying_party_like_cognito_signs_in_without_pkce_nonce_or_aud() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({})).await;
    let launch = bare(&server, &client, "openid email profile phone fhirUser");
    let params = launch.decide("allow").await.redirect_params();
    assert_eq!(params["state"], STATE, "byte for byte");
    let answer = exchange(&server, &client, &params["code"], false).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let token = answer.json();
    let told = userinfo(&server, Method::GET, &token).await;
    assert_eq!((told.status, told.header("content-type")), (StatusCode::OK, "application/json"));
    let told = told.json();
    assert_eq!(told, userinfo(&server, Method::POST, &token).await.json());
    let signed = claims(&token["id_token"]);
    assert_eq!(told["sub"], signed["sub"]);
    let maria = format!("{}/fhir/Patient/patient-maria", server.url);
    for (name, value) in [
        ("fhirUser", json!(maria)),
        ("profile", json!(maria)),
        ("given_name", json!("Maria Elena")),
        ("family_name", json!("Alvarez")),
        ("email_verified", json!(false)),
        ("phone_number_verified", json!(false)),
    ] {
        assert_eq!(told[name], value, "{name} of userinfo");
        assert_eq!(signed[name], value, "{name} of the id_token");
    }
    assert_eq!(signed["email"], told["email"]);
    assert!(signed.get("nonce").is_none() && signed.get("address").is_none(), "{signed}");
    assert_eq!((&signed["iss"], &signed["aud"]), (&json!(server.url), &json!(client.id)));
    assert_eq!((&signed["acr"], &signed["auth_time"]), (&json!("0"), &json!(NOW / SECOND)));
    for path in ["Patient/patient-maria", "Patient", "Observation?patient=patient-maria"] {
        let read = server.fhir(access(&token), path).await;
        assert_eq!(read.status, StatusCode::UNAUTHORIZED, "{path}: it opens no records");
    }
}

#[tokio::test]
async fn a_relying_party_like_alb_signs_in_by_post_and_by_basic_with_little_to_carry() {
    let server = TestApp::start().await;
    for (method, basic) in [("client_secret_post", false), ("client_secret_basic", true)] {
        let client = relying_party(&server, json!({"token_endpoint_auth_method": method})).await;
        let code = bare(&server, &client, "openid").code().await;
        let answer = exchange(&server, &client, &code, basic).await;
        assert_eq!(answer.status, StatusCode::OK, "{method}: {}", answer.text);
        let token = answer.json();
        let signed = claims(&token["id_token"]);
        assert!(signed.get("nonce").is_none(), "not even an empty one: {signed}");
        let told = userinfo(&server, Method::GET, &token).await;
        assert_eq!(told.json(), json!({"sub": signed["sub"]}));
        let carried = told.text.len() + access(&token).len() + token["id_token"].as_str().unwrap().len();
        assert!(carried < 11 * 1024, "{method}: {carried} bytes");
    }
    let client = relying_party(&server, json!({})).await;
    let code = bare(&server, &client, "openid profile email phone address fhirUser").code().await;
    let token = exchange(&server, &client, &code, false).await.json();
    let told = userinfo(&server, Method::GET, &token).await.text.len();
    let carried = told + access(&token).len() + token["id_token"].as_str().unwrap().len();
    assert!(carried < 11 * 1024, "with every scope: {carried} bytes");
}

#[tokio::test]
async fn the_exemption_from_pkce_ends_with_any_word_that_is_not_about_who_somebody_is() {
    let server = TestApp::start().await;
    let all = json!({
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "openid profile fhirUser email phone address launch launch/patient offline_access online_access \
                  patient/*.cruds user/*.cruds",
    });
    let client = relying_party(&server, all).await;
    for other in [
        "patient/*.rs",
        "user/*.rs",
        "patient/Patient.r",
        "launch",
        "launch/patient",
        "launch/encounter",
        "offline_access",
        "online_access",
        "system/*.rs",
        "oidc",
        "unknown",
    ] {
        let launch = bare(&server, &client, &format!("openid {other}"));
        refused_as(&launch, "invalid_request", &format!("asks for `{other}` too")).await;
        let with_aud = launch.with("aud", &server.fhir_base());
        refused_as(&with_aud, "invalid_request", "`code_challenge` is missing").await;
    }
    let asks_for_records = bare(&server, &client, "openid fhirUser").with("aud", &server.fhir_base());
    refused_as(&asks_for_records, "invalid_request", "leave `aud` out").await;
    let resource = bare(&server, &client, "openid fhirUser").with("resource", &server.fhir_base());
    refused_as(&resource, "invalid_request", "leave `aud` out").await;
    refused_as(&bare(&server, &client, "openid").without("state"), "invalid_request", "`state`").await;
}

#[tokio::test]
async fn an_app_that_is_not_registered_for_it_or_proves_nothing_needs_pkce() {
    let server = TestApp::start().await;
    let public = server.register(json!({})).await;
    refused_as(&bare(&server, &public, "openid"), "invalid_request", "SMART requires PKCE").await;
    let secret = server.register(json!({"token_endpoint_auth_method": "client_secret_post"})).await;
    refused_as(&bare(&server, &secret, "openid"), "invalid_request", "`sign_in_only`").await;
    refused_as(&bare(&server, &secret, "openid patient/*.rs"), "invalid_request", "`no_pkce`").await;
    let refused = server.try_register(json!({"sign_in_only": true})).await;
    assert_eq!(refused.error(), "invalid_client_metadata", "a public app");
}

#[tokio::test]
async fn pkce_that_an_exempt_app_sends_is_enforced_all_the_same() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({})).await;
    let sent = server.launch(&client).scope("openid").without("aud");
    for (name, value) in [("code_challenge", "short"), ("code_challenge_method", "plain")] {
        refused_as(&sent.clone().with(name, value), "invalid_request", &format!("`{name}`")).await;
    }
    let half = sent.clone().without("code_challenge");
    refused_as(&half, "invalid_request", "send both or neither").await;
    let code = sent.code().await;
    let without = exchange(&server, &client, &code, false).await;
    assert_eq!(without.error(), "invalid_grant", "a challenge needs its verifier");
    let code = bare(&server, &client, "openid").code().await;
    let secret = client.secret.as_deref().unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("client_id", &client.id),
        ("client_secret", secret),
        ("code_verifier", crate::kit::VERIFIER),
    ];
    let downgraded = server.post_token(&form).await;
    assert_eq!(downgraded.error(), "invalid_grant", "somebody took the challenge out on the way");
    assert!(downgraded.text.contains("no `code_challenge`"), "{}", downgraded.text);
    let code = bare(&server, &client, "openid").code().await;
    let form = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", CALLBACK)];
    let unproven = server.post_token(&[&form[..], &[("client_id", &client.id)]].concat()).await;
    assert_eq!((unproven.status, unproven.error()), (StatusCode::UNAUTHORIZED, "invalid_client".into()));
}

#[tokio::test]
async fn only_a_sign_in_only_app_reads_the_whole_person_from_its_id_token() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let launch = server.launch(&client).scope("openid profile email fhirUser").without("aud");
    let token = launch.clone().with("nonce", "n-0S6_WzA2Mj").token().await;
    let signed = claims(&token["id_token"]);
    assert!(signed.get("email").is_none() && signed.get("name").is_none(), "{signed}");
    assert_eq!(signed["nonce"], "n-0S6_WzA2Mj");
    assert!(userinfo(&server, Method::GET, &token).await.json().get("email").is_some());
    let told = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(told["acr_values_supported"], json!(["0"]));
    assert_eq!(told["claims_parameter_supported"], false);
    assert_eq!(told["ui_locales_supported"], json!(["en"]));
}

#[tokio::test]
async fn what_a_relying_party_wishes_beyond_that_is_passed_over() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({})).await;
    let launch = bare(&server, &client, "openid")
        .with("acr_values", "urn:mace:incommon:iap:silver 2")
        .with("claims", r#"{"id_token":{"email":{"essential":true}}}"#)
        .with("ui_locales", "de-CH fr")
        .with("display", "popup")
        .with("login_hint", "maria")
        .with("foo", "bar");
    let token = exchange(&server, &client, &launch.code().await, false).await.json();
    let signed = claims(&token["id_token"]);
    assert_eq!(signed["acr"], "0", "what it was, not what was wished for");
    assert!(signed.get("email").is_none());
}

// ── how old a sign-in may be ────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn an_apps_default_max_age_counts_where_a_request_says_nothing() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({"default_max_age": 60})).await;
    let browser = server.browser();
    let launch = bare(&server, &client, "openid");
    allows(&launch, &browser, false).await;
    server.advance(MINUTE);
    let code = silently(&launch, &browser).await["code"].clone();
    let token = exchange(&server, &client, &code, false).await.json();
    assert_eq!(claims(&token["id_token"])["auth_time"], json!(NOW / SECOND));
    server.advance(1);
    assert_eq!(silently(&launch, &browser).await["error"], "login_required");
    let (_, page) = launch.open(&browser).await;
    assert!(page.text.contains("name=\"password\""), "{}", page.text);
    let patient = launch.clone().with("max_age", "3600");
    assert!(silently(&patient, &browser).await.contains_key("code"), "the request itself says otherwise");
    let never = launch.with("max_age", "0");
    assert_eq!(silently(&never, &browser).await["error"], "login_required");
}

// ── not asked again ─────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn who_once_told_a_confidential_app_who_they_are_is_not_asked_again() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({})).await;
    let browser = server.browser();
    let launch = bare(&server, &client, "openid profile email");
    assert_eq!(silently(&launch, &browser).await["error"], "login_required");
    let (_, page) = launch.to_consent(&browser).await;
    assert!(!page.text.contains("name=\"remember\""), "there is nothing to tick: it is remembered anyway");
    assert!(page.text.contains("the same or less again without this page"));
    assert_eq!(silently(&launch, &browser).await["error"], "consent_required");
    allows(&launch, &browser, false).await;

    assert!(!is_asked(&launch, &browser).await);
    assert!(!is_asked(&bare(&server, &client, "openid email"), &browser).await, "less");
    assert!(is_asked(&bare(&server, &client, "openid profile phone"), &browser).await, "more");
    assert!(is_asked(&launch.clone().with("prompt", "consent"), &browser).await, "the app wants it");
    let told = silently(&launch, &browser).await;
    assert_eq!(told["state"], STATE);
    assert_eq!(told["iss"], server.url);
    let token = exchange(&server, &client, &told["code"], false).await;
    assert_eq!(token.status, StatusCode::OK, "{}", token.text);
    assert_eq!(token.json()["scope"], "openid profile email");

    server.advance(1);
    let (path, page) = launch.clone().with("prompt", "login").open(&browser).await;
    assert!(page.text.contains("name=\"password\""), "signing in is another thing than agreeing");
    let (_, page) = browser.settle(browser.sign_in(&path, &page, "maria").await).await;
    assert!(page.redirect_params().contains_key("code"), "and then she is not asked");

    let other = relying_party(&server, json!({})).await;
    assert!(is_asked(&bare(&server, &other, "openid"), &browser).await, "another app");
    let ruth = server.browser();
    assert!(is_asked(&launch.by("ruth"), &ruth).await, "another person");
}

#[tokio::test]
async fn a_public_app_is_never_remembered_and_never_offers_to_be() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    for scope in ["openid profile", "openid launch/patient patient/*.rs"] {
        let launch = server.launch(&client).scope(scope);
        let (_, page) = launch.to_consent(&browser).await;
        assert!(!page.text.contains("name=\"remember\""), "{scope}");
        allows(&launch, &browser, false).await;
        assert!(is_asked(&launch, &browser).await, "{scope}");
        assert_eq!(silently(&launch, &browser).await["error"], "consent_required", "{scope}");
        let forged = answer(&launch, &browser, "allow", true).await;
        assert_eq!(forged.status, StatusCode::BAD_REQUEST, "{scope}: a box that was not shown");
        assert!(is_asked(&launch, &browser).await, "{scope}");
    }
}

#[tokio::test]
async fn a_launch_is_remembered_only_where_the_person_ticked_the_box() {
    let server = TestApp::start().await;
    let confidential = json!({
        "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let client = server.register(confidential).await;
    let browser = server.browser();
    let launch = server.launch(&client).scope("openid launch/patient patient/Observation.rs");
    let (_, page) = launch.to_consent(&browser).await;
    assert_eq!(page.boxes("remember"), (vec![], vec!["1".to_owned()]), "offered, off by default");
    allows(&launch, &browser, false).await;
    assert!(is_asked(&launch, &browser).await, "she did not tick it");
    allows(&launch, &browser, true).await;
    assert!(!is_asked(&launch, &browser).await);
    let params = silently(&launch, &browser).await;
    let token = server.exchange(&client, &params["code"]).await.json();
    assert_eq!(
        (&token["patient"], &token["scope"]),
        (&json!("patient-maria"), &json!("openid launch/patient patient/Observation.rs"))
    );

    for less in [
        "launch/patient patient/Observation.r",
        "patient/Observation.rs?category=laboratory",
        "openid launch/patient",
    ] {
        assert!(!is_asked(&launch.clone().scope(less), &browser).await, "{less}");
    }
    for more in [
        "launch/patient patient/*.rs",
        "patient/Observation.cruds",
        "patient/Condition.r",
        "user/Observation.rs",
        "launch/patient patient/Observation.rs fhirUser openid",
        "launch/patient patient/Observation.rs offline_access",
        "launch/patient patient/Observation.rs online_access",
    ] {
        assert!(is_asked(&launch.clone().scope(more), &browser).await, "{more}");
    }
    // The newest decision counts alone.
    allows(&launch.clone().with("prompt", "consent"), &browser, false).await;
    assert!(is_asked(&launch, &browser).await);
}

#[tokio::test]
async fn access_that_outlives_the_person_is_asked_for_every_time() {
    let server = TestApp::start().await;
    let confidential = json!({
        "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let client = server.register(confidential).await;
    let browser = server.browser();
    for scope in ["openid offline_access", "launch/patient patient/*.rs offline_access"] {
        let launch = server.launch(&client).scope(scope);
        let (_, page) = launch.to_consent(&browser).await;
        assert!(!page.text.contains("name=\"remember\""), "{scope}: not offered");
        allows(&launch, &browser, false).await;
        assert!(is_asked(&launch, &browser).await, "{scope}");
    }
    let online = server.launch(&client).scope("openid online_access");
    allows(&online, &browser, false).await;
    assert!(is_asked(&online, &browser).await, "not by itself");
    allows(&online, &browser, true).await;
    assert!(!is_asked(&online, &browser).await);
}

#[tokio::test]
async fn another_patient_is_chosen_and_asked_about_again() {
    let server = TestApp::start().await;
    let client = server.register(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let browser = server.browser();
    let launch = server.launch(&client).scope("launch/patient patient/*.rs").by("amara");
    let kofi = launch.clone().patient("patient-kofi");
    allows(&kofi, &browser, true).await;
    assert_eq!(silently(&kofi, &browser).await["error"], "interaction_required", "a choice is left");
    let (_, page) = kofi.open(&browser).await;
    assert!(!page.boxes("patient").1.is_empty(), "she chooses again: {}", page.text);
    assert!(!is_asked(&kofi, &browser).await, "and is not asked about Kofi");
    assert!(is_asked(&launch.clone().patient("patient-esi"), &browser).await, "but about Esi");
    assert!(is_asked(&launch.patient("patient-amara"), &browser).await, "and about herself");
}

#[tokio::test]
async fn an_ehr_launch_that_was_ticked_goes_on_by_itself_for_that_patient_and_no_other() {
    let server = TestApp::start().await;
    let client = server.register(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let browser = server.browser();
    let opened = |patient: &'static str| {
        let body = json!({"client_id": client.id, "person": "ruth", "patient": patient});
        let request = server.request(Method::POST, "/sandbox/launches").json(&body);
        let launch = server.launch(&client).scope("openid launch patient/*.rs").by("ruth");
        async move {
            let handle = Answer::to(request).await.json()["launch"].as_str().expect("a handle").to_owned();
            launch.with("launch", &handle)
        }
    };
    allows(&opened("patient-maria").await, &browser, true).await;
    let again = opened("patient-maria").await;
    let code = silently(&again, &browser).await["code"].clone();
    assert_eq!(server.exchange(&client, &code).await.json()["patient"], "patient-maria");
    assert_eq!(silently(&again, &browser).await["error"], "invalid_request", "its handle is used up");
    assert!(!is_asked(&opened("patient-maria").await, &browser).await);
    assert!(is_asked(&opened("patient-kofi").await, &browser).await, "another record is open");
    let unopened = server.launch(&client).scope("openid launch/patient patient/*.rs").by("ruth");
    let (_, page) = unopened.open(&browser).await;
    assert!(!page.boxes("patient").1.is_empty(), "without a record open she chooses");
}

#[tokio::test]
async fn disconnecting_saying_no_and_a_changed_app_are_forgotten_consents() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({})).await;
    let browser = server.browser();
    let launch = bare(&server, &client, "openid email");
    let agrees = || async {
        allows(&launch, &browser, false).await;
        assert!(!is_asked(&launch, &browser).await);
    };
    agrees().await;
    server.advance(2 * HOUR - MINUTE);
    let signed_in_again = browser.settle(browser.get("/account").await).await.1;
    browser.sign_in("/account", &signed_in_again, "maria").await;
    let account = browser.get("/account").await;
    assert!(account.text.contains("You are not asked again for"), "{}", account.text);
    assert!(account.text.contains("nothing at present"), "its tokens ran out: {}", account.text);
    let csrf = account.hidden("csrf").unwrap();
    let gone = browser.post(&format!("/account/disconnect/{}", client.id), &[("csrf", &csrf)]).await;
    assert_eq!(gone.location(), "/account?disconnected=1");
    assert!(!browser.get("/account").await.text.contains("You are not asked again for"));
    assert!(is_asked(&launch, &browser).await, "disconnected");

    agrees().await;
    let consent = launch.clone().with("prompt", "consent");
    assert_eq!(answer(&consent, &browser, "deny", false).await.redirect_params()["error"], "access_denied");
    assert!(is_asked(&launch, &browser).await, "she said no");

    let changes = [
        ("client_name", json!("Another name"), true),
        ("redirect_uris", json!([CALLBACK, "https://other.example/cb"]), true),
        ("logo_uri", json!("https://app.example/new.png"), true),
        ("token_endpoint_auth_method", json!("none"), true),
        ("access_token_life", json!(60), false),
    ];
    for (field, value, another_app) in changes {
        agrees().await;
        let id = client.id.clone();
        let before =
            server.app.store.read(|tx| hearthgate::oauth::client::Client::find(tx, &id)).unwrap().unwrap();
        let mut changed = json!(before.metadata);
        changed[field] = value;
        replace(&server, &id, changed).await;
        assert_eq!(is_asked(&launch.clone(), &browser).await, another_app, "{field}");
        replace(&server, &id, json!(before.metadata)).await;
        assert_eq!(is_asked(&launch, &browser).await, another_app, "{field}: nothing comes back");
    }
}

/// Changes an app behind the server's back, as its developer's page does.
async fn replace(server: &TestApp, id: &str, metadata: Value) {
    use hearthgate::store::db::Verdict;
    let (id, mut metadata) = (id.to_owned(), metadata);
    if metadata["token_endpoint_auth_method"] == "none" {
        metadata["no_pkce"] = json!(true);
    }
    let metadata = serde_json::from_value(metadata).unwrap();
    let write = server
        .app
        .store
        .write(move |tx| hearthgate::oauth::client::Client::replace(tx, &id, &metadata).map(Verdict::Commit));
    write.await.unwrap();
}

#[tokio::test]
async fn a_no_on_a_page_that_was_left_open_counts_though_another_page_was_allowed() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({})).await;
    let browser = server.browser();
    let launch = bare(&server, &client, "openid");
    let (path, page) = launch.to_consent(&browser).await;
    allows(&launch, &browser, false).await;
    let csrf = page.hidden("csrf").unwrap();
    let told = browser.post(&path, &[("csrf", &csrf), ("decision", "deny")]).await.redirect_params();
    assert_eq!(told["error"], "access_denied");
    assert!(is_asked(&launch, &browser).await, "the newest decision counts");
}

#[tokio::test]
async fn a_request_that_another_browser_began_gets_nothing_from_a_remembered_consent() {
    let server = TestApp::start().await;
    let client = relying_party(&server, json!({})).await;
    let (maria, stranger) = (server.browser(), server.browser());
    let launch = bare(&server, &client, "openid");
    allows(&launch, &maria, false).await;
    let (path, _) = launch.open(&stranger).await;
    assert_eq!(maria.get(&path).await.status, StatusCode::FORBIDDEN, "bound to the stranger's browser");
    let (path, done) = launch.open(&maria).await;
    assert!(done.redirect_params().contains_key("code"));
    assert!(maria.get(&path).await.text.contains("This is done"), "one request, one code");
}

#[tokio::test]
async fn the_consent_page_shows_what_the_developer_says_of_the_app() {
    let server = TestApp::start().await;
    let client = server
        .register(json!({
            "client_uri": "https://app.example/about?a=1&b=2",
            "policy_uri": "https://app.example/privacy",
            "tos_uri": "https://app.example/terms",
            "contacts": ["dev@app.example"],
        }))
        .await;
    let (_, page) = server.launch(&client).to_consent(&server.browser()).await;
    for uri in
        ["https://app.example/about?a=1&#38;b=2", "https://app.example/privacy", "https://app.example/terms"]
    {
        let link = format!("<a href=\"{uri}\" target=\"_blank\" rel=\"noopener noreferrer\">");
        assert!(page.text.contains(&link), "{uri}: {}", page.text);
    }
    assert!(!page.text.contains("dev@app.example"));
    let plain = server.register(json!({})).await;
    let (_, page) = server.launch(&plain).to_consent(&server.browser()).await;
    assert!(!page.text.contains("From its developer"));
}
