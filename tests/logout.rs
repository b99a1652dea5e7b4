//! An app signs a person out: `P/oauth/logout` (OpenID Connect RP-Initiated Logout 1.0).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearthgate::clock::MINUTE;
use hearthgate::jose::{Alg, SigningKey};
use hearthgate::oauth::keys::{KEPT_AFTER, LEAD, Turn};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, Browser, TestApp, TestClient, access, claims};

const BACK: &str = "https://app.example/signed-out";
const SIGN_IN: &str = "openid fhirUser";

async fn app(server: &TestApp) -> TestClient {
    let grant_types = ["authorization_code", "refresh_token"];
    server.register(json!({"post_logout_redirect_uris": [BACK], "grant_types": grant_types})).await
}

/// A browser in which `person` signed in at the app, and the id_token it got.
async fn signed_in<'a>(server: &'a TestApp, client: &TestClient, person: &str) -> (Browser<'a>, String) {
    let browser = server.browser();
    let token = server.launch(client).by(person).scope(SIGN_IN).token_in(&browser).await;
    (browser, token["id_token"].as_str().expect("an id_token").to_owned())
}

fn logout(params: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(params);
    format!("/oauth/logout?{}", query.finish())
}

async fn is_signed_in(browser: &Browser<'_>) -> bool {
    !browser.get("/account").await.text.contains("name=\"password\"")
}

/// A page with that status that says so; nobody is sent anywhere.
fn assert_page(answer: &Answer, status: u16, says: &str, case: &str) {
    assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.text);
    assert_eq!(answer.location(), "", "{case}");
    assert!(answer.header("content-type").starts_with("text/html"), "{case}");
    assert!(answer.text.contains(says), "{case}: `{says}` is not said: {}", answer.text);
}

fn b64(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

#[tokio::test]
async fn with_the_id_token_of_the_session_the_person_is_signed_out_at_once() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    for state in ["s-1", "ü &=%2B+\"'/?#"] {
        let (browser, hint) = signed_in(&server, &client, "maria").await;
        let ask = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK), ("state", state)];
        let answer = browser.get(&logout(&ask)).await;
        assert!(answer.location().starts_with(&format!("{BACK}?")), "{}", answer.location());
        assert_eq!(answer.redirect_params()["state"], state);
        assert_eq!(answer.redirect_params().len(), 1);
        assert!(!is_signed_in(&browser).await);
    }
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let ask =
        [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK), ("client_id", &client.id)];
    let answer = browser.get(&logout(&ask)).await;
    assert_eq!(
        (answer.status, answer.location()),
        (StatusCode::SEE_OTHER, BACK),
        "no state, no question mark"
    );
    assert!(!is_signed_in(&browser).await);

    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let extra = [("id_token_hint", hint.as_str()), ("ui_locales", "de fr"), ("logout_hint", "maria")];
    assert_page(&browser.get(&logout(&extra)).await, 200, "You are signed out", "nowhere to go back to");
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn an_id_token_that_expired_still_says_whose_session_it_was() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    for _ in 0..4 {
        server.advance(20 * MINUTE);
        assert!(is_signed_in(&browser).await);
    }
    assert!(claims(&json!(hint))["exp"].as_i64().unwrap() < server.app.now() / 1_000, "it has expired");
    let answer = browser.get(&logout(&[("id_token_hint", &hint), ("post_logout_redirect_uri", BACK)])).await;
    assert_eq!(answer.location(), BACK);
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn a_hint_is_believed_as_long_as_its_key_is_published() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let (other, second) = signed_in(&server, &client, "annika").await;
    let turned = server.app.clone();
    let turn = move || turned.keys.make(Alg::RS256, Turn::InTime, turned.now()).unwrap();
    tokio::task::spawn_blocking(turn).await.unwrap();
    let pass = async |time: i64| {
        for _ in 0..time / (10 * MINUTE) {
            server.advance(10 * MINUTE);
            assert!(is_signed_in(&other).await);
        }
    };
    pass(LEAD).await;
    let ask = |hint| logout(&[("id_token_hint", hint), ("post_logout_redirect_uri", BACK)]);
    assert_eq!(browser.get(&ask(&hint)).await.location(), BACK, "its key signs no more, but is published");
    pass(KEPT_AFTER + 10 * MINUTE).await;
    assert_page(&other.get(&ask(&second)).await, 400, "not signed by this server", "long after");
    assert!(is_signed_in(&other).await);
}

#[tokio::test]
async fn nobody_is_sent_after_signing_out_where_the_app_did_not_register() {
    let server = TestApp::start().await;
    let (client, other) = (app(&server).await, server.register(json!({})).await);
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    for to in [
        "https://evil.example/",
        "https://app.example/signed-out/",
        "https://app.example/signed-out?x=1",
        "https://app.example/signed-out#x",
        "https://app.example/Signed-out",
        "https://app.example:443/signed-out",
        "HTTPS://app.example/signed-out",
        "https://app.example/x/../signed-out",
        "https://app.example\\@evil.example/signed-out",
        "//evil.example",
        "javascript:alert(1)",
        &client.redirect,
    ] {
        for known_by in [("id_token_hint", hint.as_str()), ("client_id", &client.id)] {
            let answer = browser.get(&logout(&[known_by, ("post_logout_redirect_uri", to)])).await;
            assert_page(&answer, 400, "post_logout_redirect_uri", to);
            assert!(answer.text.contains(BACK), "what would have been right is said");
            assert!(answer.text.contains("You were not signed out"), "and to the person what it means");
        }
    }
    let others = [("client_id", other.id.as_str()), ("post_logout_redirect_uri", BACK)];
    assert_page(&browser.get(&logout(&others)).await, 400, "not registered", "another app's address");
    let anybodys = [("post_logout_redirect_uri", BACK)];
    assert_page(&browser.get(&logout(&anybodys)).await, 400, "client_id", "nobody's address");
    let nobodys = [("client_id", "nobody"), ("post_logout_redirect_uri", BACK)];
    assert_page(&browser.get(&logout(&nobodys)).await, 400, "app is registered", "no app's address");
    let twice = format!(
        "{}&post_logout_redirect_uri=https://evil.example",
        logout(&[("client_id", &client.id), anybodys[0]])
    );
    assert_page(&browser.get(&twice).await, 400, "more than once", "two addresses");
    let long = "s".repeat(8 * 1024 + 1);
    let endless = [("id_token_hint", hint.as_str()), anybodys[0], ("state", &long)];
    assert_page(&browser.get(&logout(&endless)).await, 400, "longer than", "an endless state");
    assert!(is_signed_in(&browser).await, "and nobody is signed out by such a request");
}

#[tokio::test]
async fn a_hint_that_is_no_id_token_of_this_server_signs_nobody_out() {
    let server = TestApp::start().await;
    let (client, other) = (app(&server).await, app(&server).await);
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let said = claims(&json!(hint));
    let parts: Vec<&str> = hint.split('.').collect();
    let (foreign, _) = SigningKey::generate(Alg::ES256).unwrap();
    let (foreign_rsa, _) = SigningKey::generate(Alg::RS256).unwrap();
    let ours = server.app.keys.signing(Alg::RS256, server.app.now()).await.unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = said.clone();
        claims[name] = value;
        claims
    };
    let header = |alg: &str| b64(&json!({"alg": alg, "typ": "JWT", "kid": ours.kid}));
    let posing = json!({"alg": "RS256", "typ": "JWT", "kid": ours.kid});
    let own_key = json!({"alg": "ES256", "typ": "JWT", "jwk": foreign.jwk()});
    for (hint, case) in [
        (foreign.sign("JWT", &said).unwrap(), "another key"),
        (foreign_rsa.sign_with(&posing, &said).unwrap(), "another key under our key's name"),
        (foreign.sign_with(&own_key, &said).unwrap(), "a key that it brings along"),
        (format!("{}.{}.", header("none"), parts[1]), "no signature"),
        (format!("{}.{}", header("none"), parts[1]), "no signature at all"),
        (format!("{}.{}.{}", header("none"), parts[1], parts[2]), "alg none, with a signature"),
        (format!("{}.{}.{}", header("HS256"), parts[1], parts[2]), "a shared secret"),
        (format!("{}.{}.{}", parts[0], b64(&with("sid", json!("x"))), parts[2]), "changed claims"),
        (ours.sign("JWT", &with("iss", json!("https://other.example"))).unwrap(), "another issuer"),
        (ours.sign("JWT", &with("aud", json!([client.id]))).unwrap(), "a list of apps"),
        (ours.sign("logout+jwt", &said).unwrap(), "a logout token"),
        (ours.sign("JWT", &with("events", json!({}))).unwrap(), "a logout token by its claims"),
        ("nonsense".into(), "nonsense"),
        ("a".repeat(17 * 1024), "an endless text"),
    ] {
        let ask =
            [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK), ("client_id", &client.id)];
        let answer = browser.get(&logout(&ask)).await;
        assert_page(&answer, 400, "id_token_hint", case);
        assert!(!answer.text.contains(parts[1]), "{case}: no token on the page");
        assert_page(&browser.post("/oauth/logout", &ask).await, 400, "id_token_hint", case);
    }
    let anothers =
        [("id_token_hint", hint.as_str()), ("client_id", &other.id), ("post_logout_redirect_uri", BACK)];
    assert_page(&browser.get(&logout(&anothers)).await, 400, "issued to", "the hint of another app");
    assert!(is_signed_in(&browser).await);
}

#[tokio::test]
async fn without_a_hint_the_person_is_asked_first() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, _) = signed_in(&server, &client, "maria").await;
    let staying =
        server.register(json!({"client_name": "Stays & <b>", "grant_types": ["refresh_token"]})).await;
    let launch = server.launch(&staying).scope("launch/patient patient/*.rs offline_access");
    launch.token_in(&browser).await;
    let ask = [("client_id", client.id.as_str()), ("post_logout_redirect_uri", BACK), ("state", "a\"b")];
    for ask in [&ask[..], &ask[..1], &[]] {
        let page = browser.get(&logout(ask)).await;
        assert_page(&page, 200, "Sign out?", "a question");
        assert!(
            page.text.contains("Maria Alvarez") && page.text.contains("Stays &#38; &#60;b&#62;"),
            "{}",
            page.text
        );
        assert!(is_signed_in(&browser).await, "nothing happened yet");
    }
    let page = browser.get(&logout(&ask)).await;
    let hidden = |name| page.hidden(name).unwrap_or_else(|| panic!("no `{name}` in the form: {}", page.text));
    let form = ["csrf", "client_id", "post_logout_redirect_uri", "state"].map(|name| (name, hidden(name)));
    let mut form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    form.push(("decision", "sign_out"));
    let answer = browser.post("/oauth/logout", &form).await;
    assert!(answer.location().starts_with(BACK), "{}", answer.text);
    assert_eq!(answer.redirect_params()["state"], "a\"b");
    assert!(!is_signed_in(&browser).await);

    let (browser, _) = signed_in(&server, &client, "maria").await;
    let csrf = browser.get("/oauth/logout").await.hidden("csrf").unwrap();
    let answer = browser.post("/oauth/logout", &[("csrf", &csrf), ("decision", "sign_out")]).await;
    let (path, page) = browser.settle(answer).await;
    assert_eq!(path, "/oauth/logout");
    assert_page(&page, 200, "You are signed out", "by hand");
}

#[tokio::test]
async fn a_hint_of_another_person_or_another_session_asks_first() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, _) = signed_in(&server, &client, "maria").await;
    let (_, annikas) = signed_in(&server, &client, "annika").await;
    let (_, elsewhere) = signed_in(&server, &client, "maria").await;
    let ours = server.app.keys.signing(Alg::RS256, server.app.now()).await.unwrap();
    let mut no_session = claims(&json!(elsewhere));
    no_session.as_object_mut().unwrap().remove("sid");
    let no_session = ours.sign("JWT", &no_session).unwrap();
    for (hint, case) in
        [(annikas, "another person"), (elsewhere, "another session"), (no_session, "no session")]
    {
        let ask = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK)];
        let page = browser.get(&logout(&ask)).await;
        assert_page(&page, 200, "it is you who is signed in", case);
        assert_eq!(page.hidden("client_id").as_deref(), Some(client.id.as_str()), "known from the hint");
        assert!(is_signed_in(&browser).await, "{case}");
    }
}

#[tokio::test]
async fn a_decision_counts_only_with_the_pages_own_form_token() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let (other, _) = signed_in(&server, &client, "maria").await;
    let anothers = other.get("/oauth/logout").await.hidden("csrf").unwrap();
    let another_page = browser.get("/account").await.hidden("csrf").unwrap();
    for csrf in ["", "nonsense", &anothers, &another_page] {
        let form = [("csrf", csrf), ("decision", "sign_out"), ("id_token_hint", &hint)];
        assert_page(&browser.post("/oauth/logout", &form).await, 403, "nobody was signed out", csrf);
    }
    assert_page(
        &browser.post("/oauth/logout", &[("decision", "sign_out")]).await,
        403,
        "out of date",
        "none",
    );
    assert!(is_signed_in(&browser).await && is_signed_in(&other).await);
}

#[tokio::test]
async fn an_apps_form_from_another_site_is_asked_again_with_the_sessions_cookie() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let form = [
        ("id_token_hint", hint.as_str()),
        ("client_id", &client.id),
        ("post_logout_redirect_uri", BACK),
        ("state", "ä+b&c"),
        ("decision", "sign_out"),
    ];
    let answer = Answer::to(server.request(Method::POST, "/oauth/logout").form(&form)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert!(answer.location().starts_with(&format!("{}/oauth/logout?", server.url)), "{}", answer.location());
    assert!(is_signed_in(&browser).await);
    let (_, answer) = browser.settle(answer).await;
    assert_eq!(answer.redirect_params()["state"], "ä+b&c");
    assert!(!is_signed_in(&browser).await);
    let json = server.request(Method::POST, "/oauth/logout").json(&json!({"client_id": client.id}));
    assert_page(&Answer::to(json).await, 415, "form", "JSON");
    assert_page(&Answer::to(server.request(Method::DELETE, "/oauth/logout")).await, 405, "method", "DELETE");
}

#[tokio::test]
async fn whoever_is_not_signed_in_is_sent_back_or_told_so() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let back = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK), ("state", "s")];
    browser.get(&logout(&back)).await;
    for browser in [browser, server.browser()] {
        assert_eq!(browser.get(&logout(&back)).await.redirect_params()["state"], "s");
        let by_id = [("client_id", client.id.as_str()), back[1]];
        assert_eq!(browser.get(&logout(&by_id)).await.location(), BACK);
        assert_page(&browser.get("/oauth/logout").await, 200, "Nobody is signed in", "nowhere to go");
        let evil = [("client_id", client.id.as_str()), ("post_logout_redirect_uri", "https://evil.example")];
        assert_page(&browser.get(&logout(&evil)).await, 400, "not registered", "somewhere else");
    }
}

#[tokio::test]
async fn a_session_that_was_signed_out_is_dead_on_the_server_whoever_keeps_its_cookie() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let browser = server.browser();
    let launch = server.launch(&client).scope(SIGN_IN);
    let (path, login) = launch.open(&browser).await;
    let answer = browser.sign_in(&path, &login, "maria").await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let hint = launch.token_in(&browser).await["id_token"].as_str().unwrap().to_owned();
    let replayed = async || {
        let page = Answer::to(server.request(Method::GET, "/account").header("cookie", &cookie)).await;
        page.text.contains("Maria Alvarez") && page.text.contains("Sign out")
    };
    assert!(replayed().await, "while she is signed in");
    browser.get(&logout(&[("id_token_hint", &hint)])).await;
    assert!(!replayed().await);
}

#[tokio::test]
async fn signing_out_by_an_app_ends_what_lasts_as_long_as_the_session_and_nothing_else() {
    let server = TestApp::start().await;
    let client = app(&server).await;
    let (browser, hint) = signed_in(&server, &client, "maria").await;
    let with = async |staying: &str| {
        server
            .launch(&client)
            .scope(&format!("openid launch/patient patient/*.rs {staying}"))
            .token_in(&browser)
            .await
    };
    let (online, offline) = (with("online_access").await, with("offline_access").await);
    browser.get(&logout(&[("id_token_hint", &hint)])).await;
    let refresh = async |token: &Value| {
        let token = token["refresh_token"].as_str().unwrap();
        let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", &client.id)];
        server.post_token(&form).await
    };
    let status = async |token: &Value| server.fhir(access(token), "Patient/patient-maria").await.status;
    assert_eq!(status(&online).await, StatusCode::UNAUTHORIZED);
    assert_eq!(refresh(&online).await.error(), "invalid_grant");
    assert_eq!(status(&offline).await, StatusCode::OK);
    let next = refresh(&offline).await;
    assert_eq!(next.status, StatusCode::OK, "{}", next.text);
    assert_eq!(claims(&next.json()["id_token"])["sid"], claims(&offline["id_token"])["sid"]);
}

#[tokio::test]
async fn every_id_token_names_its_session_and_discovery_says_where_it_ends() {
    let server = TestApp::start().await;
    let (client, other) = (app(&server).await, app(&server).await);
    let (browser, first) = signed_in(&server, &client, "maria").await;
    let second = server.launch(&other).scope(SIGN_IN).token_in(&browser).await;
    let (_, elsewhere) = signed_in(&server, &client, "maria").await;
    let sid = |token: &Value| claims(token)["sid"].as_str().expect("a session").to_owned();
    assert_eq!(sid(&json!(first)), sid(&second["id_token"]), "one browser, one session");
    assert_ne!(sid(&json!(first)), sid(&json!(elsewhere)));
    let facts = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(facts["end_session_endpoint"], format!("{}/oauth/logout", server.url));
    assert_eq!(facts["backchannel_logout_supported"], true);
    assert_eq!(facts["backchannel_logout_session_supported"], true);
    assert!(facts["claims_supported"].as_array().unwrap().contains(&json!("sid")));
}
