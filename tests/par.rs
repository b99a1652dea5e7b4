//! Pushed authorization requests (RFC 9126), from the app's push to the token.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, CALLBACK, TestApp, TestClient, VERIFIER, access};

async fn start(metadata: Value) -> (TestApp, TestClient) {
    let server = TestApp::start().await;
    let client = server.register(metadata).await;
    (server, client)
}

/// An error of the push endpoint: no redirect, no page, no cache.
fn assert_refused(answer: &Answer, status: StatusCode, error: &str, words: &str) {
    assert_eq!(answer.status, status, "{words}: {}", answer.text);
    assert_eq!((answer.location(), answer.header("cache-control")), ("", "no-store"));
    let body = answer.json();
    assert_eq!(body["error"], error, "{body}");
    let description = body["error_description"].as_str().unwrap();
    assert!(description.contains(words), "{words}: {description}");
}

#[tokio::test]
async fn a_public_app_pushes_its_request_and_launches_by_its_name_alone() {
    let (server, client) = start(json!({})).await;
    let launch = server.launch(&client);
    let answer = launch.push().await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::CREATED, "no-store"));
    let body = answer.json();
    assert_eq!(body["expires_in"], 90);
    let uri = body["request_uri"].as_str().unwrap();
    let secret = uri.strip_prefix("urn:ietf:params:oauth:request_uri:").unwrap();
    assert_eq!(secret.len(), 43, "256 bits");
    assert_ne!(uri, launch.push().await.json()["request_uri"], "every push has its own");

    let pushed = launch.pushed().await;
    let answer = pushed.decide("allow").await.redirect_params();
    assert_eq!(answer["state"], "state-of-the-app");
    assert_eq!(answer["iss"], server.url);
    let token = server.exchange(&client, &answer["code"]).await.json();
    assert_eq!(server.fhir(access(&token), "Patient/patient-maria").await.status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_beside_the_request_uri_counts() {
    let (server, client) = start(json!({})).await;
    let pushed = server.launch(&client).scope("openid launch/patient patient/Patient.rs").pushed().await;
    let pushed = pushed
        .with("scope", "openid launch/patient patient/*.cruds")
        .with("redirect_uri", "https://evil.example/")
        .with("state", "another")
        .with("code_challenge", "no challenge at all")
        .with("response_type", "token");
    let answer = pushed.decide("allow").await;
    assert!(answer.location().starts_with(CALLBACK), "{}", answer.location());
    let params = answer.redirect_params();
    assert_eq!(params["state"], "state-of-the-app");
    let token = server.exchange(&client, &params["code"]).await.json();
    assert_eq!(token["scope"], "openid launch/patient patient/Patient.rs");
}

#[tokio::test]
async fn a_request_uri_stands_once_and_alone() {
    let (server, client) = start(json!({})).await;
    let pushed = server.launch(&client).pushed().await;
    let uri = pushed.params()[1].1.clone();
    for (launch, words) in [
        (pushed.clone().without("client_id"), "`client_id` is missing"),
        (pushed.clone().and("client_id", &client.id), "`client_id` is sent more than once"),
        (pushed.clone().with("client_id", "nobody"), "No app is registered"),
        (pushed.clone().and("request_uri", &uri), "`request_uri` is sent more than once"),
        (pushed.clone().and("request", "e30.e30."), "not both"),
        (pushed.clone().with("request_uri", &uri.to_uppercase()), "was not issued here"),
        (pushed.clone().with("request_uri", &format!("{uri} ")), "was not issued here"),
        (pushed.clone().with("request_uri", &uri[..uri.len() - 1]), "was not issued here"),
        (pushed.clone().with("request_uri", uri.rsplit(':').next().unwrap()), "was not issued here"),
    ] {
        let answer = launch.answer().await;
        assert_eq!((answer.status, answer.location()), (StatusCode::BAD_REQUEST, ""), "{words}");
        assert!(answer.text.contains(words), "{words}: {}", answer.text);
    }
    assert_eq!(pushed.answer().await.status, StatusCode::SEE_OTHER, "none of these used it up");
}

#[tokio::test]
async fn of_many_browsers_at_once_one_gets_the_page() {
    let (server, client) = start(json!({})).await;
    let pushed = server.launch(&client).pushed().await;
    let answers = futures_of(16, || pushed.answer()).await;
    let pages = answers.iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).count();
    assert_eq!(pages, 1);
}

async fn futures_of<F: Future<Output = Answer>>(n: usize, one: impl Fn() -> F) -> Vec<Answer> {
    let mut waiting: Vec<_> = (0..n).map(|_| Box::pin(one())).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers
}

#[tokio::test]
async fn prompt_none_uses_it_up_too() {
    let (server, client) = start(json!({})).await;
    let pushed = server.launch(&client).with("prompt", "none").pushed().await;
    assert_eq!(pushed.answer().await.redirect_params()["error"], "login_required");
    assert!(pushed.answer().await.text.contains("was used before"));
}

#[tokio::test]
async fn a_push_is_checked_as_a_request_in_a_browser_is_and_refused_at_once() {
    let (server, client) = start(json!({"scope": "openid launch/patient patient/*.rs"})).await;
    let launch = || server.launch(&client);
    for (launch, error, words) in [
        (launch().without("redirect_uri"), "invalid_request", "`redirect_uri` is missing"),
        (launch().with("redirect_uri", "https://evil.example/"), "invalid_request", "is not registered"),
        (launch().with("redirect_uri", &format!("{CALLBACK}/")), "invalid_request", "is not registered"),
        (launch().with("response_type", "token"), "unsupported_response_type", "response_type=code"),
        (launch().without("response_type"), "invalid_request", "`response_type` is missing"),
        (launch().without("code_challenge"), "invalid_request", "`code_challenge` is missing"),
        (launch().with("code_challenge_method", "plain"), "invalid_request", "S256"),
        (launch().without("state"), "invalid_request", "`state` is missing"),
        (launch().with("aud", "https://other.example/fhir"), "invalid_request", "`aud` names"),
        (launch().and("resource", "https://other.example/fhir"), "invalid_request", "`aud` names"),
        (launch().scope("system/*.rs"), "invalid_scope", "nothing that was asked for"),
        (launch().with("prompt", "none login"), "invalid_request", "prompt=none"),
        (launch().with("max_age", "-1"), "invalid_request", "`max_age`"),
        (launch().with("launch", "foreign"), "invalid_request", "`launch`"),
        (launch().and("scope", "openid"), "invalid_request", "`scope` is sent more than once"),
        (launch().with("request", "e30.e30."), "request_not_supported", "request objects"),
        (
            launch().with("request_uri", "urn:ietf:params:oauth:request_uri:x"),
            "invalid_request",
            "`request_uri`",
        ),
    ] {
        assert_refused(&launch.push().await, StatusCode::BAD_REQUEST, error, words);
    }
    let base = server.fhir_base();
    let twice = launch().without("aud").and("resource", &base).and("resource", &format!("{base}/"));
    assert_eq!(twice.push().await.status, StatusCode::CREATED, "RFC 8707 lets `resource` stand twice");
}

#[tokio::test]
async fn an_app_proves_itself_as_at_the_token_endpoint() {
    let (server, client) = start(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let launch = server.launch(&client);
    let push = |id: &str, secret: Option<&str>| {
        let request = server.request(Method::POST, "/oauth/par").form(launch.params());
        Answer::to(if id.is_empty() { request } else { request.basic_auth(id, secret) })
    };
    let secret = client.secret.as_deref();
    assert_eq!(push(&client.id, secret).await.status, StatusCode::CREATED);
    let unproven = push("", None).await;
    assert_refused(&unproven, StatusCode::UNAUTHORIZED, "invalid_client", "authenticates in another way");
    assert_refused(
        &push(&client.id, Some("guess")).await,
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        "secret",
    );
    let other = server.register(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let foreign = push(&other.id, other.secret.as_deref()).await;
    assert_refused(&foreign, StatusCode::BAD_REQUEST, "invalid_request", "`client_id`");
    let nobody = server.launch(&client).with("client_id", "nobody");
    let nobody = Answer::to(server.request(Method::POST, "/oauth/par").form(nobody.params())).await;
    assert_refused(&nobody, StatusCode::UNAUTHORIZED, "invalid_client", "no app is registered");
    let nameless = server.launch(&client).without("client_id").push().await;
    assert_refused(&nameless, StatusCode::BAD_REQUEST, "invalid_request", "`client_id` is missing");

    let pushed = launch.pushed().await;
    let token = server.exchange(&client, &pushed.code().await).await;
    assert_eq!(token.status, StatusCode::OK, "{}", token.text);
}

#[tokio::test]
async fn a_secret_that_was_pushed_is_not_kept() {
    let (server, client) = start(json!({"token_endpoint_auth_method": "client_secret_post"})).await;
    let secret = client.secret.clone().unwrap();
    let launch = server.launch(&client).with("client_secret", &secret).with("code_verifier", VERIFIER);
    let answer = Answer::to(server.request(Method::POST, "/oauth/par").form(launch.params())).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let uri = answer.json()["request_uri"].as_str().unwrap().to_owned();
    let kept: Vec<String> = server
        .app
        .store
        .read(|tx| {
            tx.all("SELECT hash || client || asked FROM pushed_requests ORDER BY hash", &[], |r| r.get(0))
        })
        .unwrap();
    for hidden in [secret.as_str(), VERIFIER, uri.as_str(), uri.rsplit(':').next().unwrap()] {
        assert!(!kept.concat().contains(hidden));
    }
}

#[tokio::test]
async fn an_app_that_must_push_is_refused_any_other_way() {
    let (server, client) = start(json!({"require_pushed_authorization_requests": true})).await;
    let plain = server.launch(&client).answer().await.redirect_params();
    assert_eq!(plain["error"], "invalid_request");
    assert!(plain["error_description"].contains("/oauth/par"), "{plain:?}");
    assert_eq!(plain["state"], "state-of-the-app");
    let pushed = server.launch(&client).pushed().await;
    assert_eq!(server.exchange(&client, &pushed.code().await).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_endpoint_takes_a_form_by_post_and_nothing_else() {
    let (server, client) = start(json!({})).await;
    let launch = server.launch(&client);
    let by = |method: Method, path: &str| server.request(method, path);
    let get = Answer::to(by(Method::GET, "/oauth/par")).await;
    assert_eq!((get.status, get.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let in_url = Answer::to(by(Method::POST, "/oauth/par?scope=openid").form(launch.params())).await;
    assert_refused(&in_url, StatusCode::BAD_REQUEST, "invalid_request", "form body");
    let as_json = Answer::to(by(Method::POST, "/oauth/par").json(&json!({"client_id": client.id}))).await;
    assert_eq!(as_json.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = launch.clone().with("x", &"x".repeat(300 * 1024));
    assert_refused(&large.push().await, StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "larger");
    let long = launch.clone().with("nonce", &"x".repeat(5_000));
    assert_refused(&long.push().await, StatusCode::BAD_REQUEST, "invalid_request", "longer than");
}

#[tokio::test]
async fn it_is_discovered_and_pages_of_the_app_may_read_its_answers() {
    let (server, client) = start(json!({})).await;
    for path in [
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/fhir/.well-known/smart-configuration",
    ] {
        let facts = server.get(path).await.json();
        assert_eq!(facts["pushed_authorization_request_endpoint"], format!("{}/oauth/par", server.url));
        assert_eq!(facts["require_pushed_authorization_requests"], false);
    }
    let push = |origin: &str| {
        let request = server.request(Method::POST, "/oauth/par").header("origin", origin);
        let launch = server.launch(&client);
        async move { Answer::to(request.form(launch.params())).await }
    };
    assert_eq!(
        push("https://app.example").await.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(push("https://evil.example").await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn what_was_pushed_dies_with_the_redirect_uri_and_the_app() {
    let (server, client) = start(json!({})).await;
    let set = |sql: &'static str| {
        let (store, id) = (server.app.store.clone(), client.id.clone());
        async move {
            let change = move |tx: &hearthgate::store::db::Tx<'_>| {
                tx.execute(sql, hearthgate::params![id])?;
                Ok(hearthgate::store::db::Verdict::Commit(()))
            };
            store.write(change).await.unwrap();
        }
    };
    let pushed = server.launch(&client).pushed().await;
    set("UPDATE clients SET metadata = replace(metadata, 'app.example', 'new.example') WHERE id = $1").await;
    let answer = pushed.answer().await;
    assert_eq!((answer.status, answer.location()), (StatusCode::BAD_REQUEST, ""));
    assert!(answer.text.contains("no longer has the redirect URI"), "{}", answer.text);
    set("DELETE FROM clients WHERE id = $1").await;
    assert!(pushed.answer().await.text.contains("No app is registered"));
}

#[tokio::test]
async fn an_ehr_launch_may_be_pushed_and_its_handle_is_judged_at_once() {
    let (server, client) = start(json!({})).await;
    let other = server.register(json!({})).await;
    let begun = json!({"person": "ruth", "patient": "patient-maria"});
    let handle = server.ehr_launch(&client, begun).await;
    let scope = "launch openid fhirUser patient/*.rs";
    let stolen = server.launch(&other).scope(scope).with("launch", &handle).push().await;
    assert_eq!((stolen.status, stolen.error().as_str()), (StatusCode::BAD_REQUEST, "invalid_request"));
    let pushed = server.launch(&client).scope(scope).with("launch", &handle).by("ruth").pushed().await;
    assert_eq!(pushed.token().await["patient"], "patient-maria");
    let again = server.launch(&client).scope(scope).with("launch", &handle).push().await;
    assert_refused(&again, StatusCode::BAD_REQUEST, "invalid_request", "`launch`");
}

#[tokio::test]
async fn an_app_that_may_go_without_pkce_may_push_without_it() {
    let (server, client) =
        start(json!({"token_endpoint_auth_method": "client_secret_basic", "sign_in_only": true})).await;
    let bare = ["code_challenge", "code_challenge_method", "aud"]
        .iter()
        .fold(server.launch(&client).scope("openid profile"), |launch, name| launch.without(name));
    let pushed = bare.clone().pushed().await;
    assert!(pushed.decide("allow").await.redirect_params().contains_key("code"));
    let wider = bare.scope("openid launch/patient patient/*.rs").push().await;
    assert_refused(&wider, StatusCode::BAD_REQUEST, "invalid_request", "`code_challenge` is missing");
}

#[tokio::test]
async fn where_nobody_need_be_asked_a_pushed_request_is_answered_at_once_and_once() {
    let (server, client) = start(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let launch = server.launch(&client).scope("openid profile").without("aud");
    let browser = server.browser();
    let (path, page) = launch.to_consent(&browser).await;
    let csrf = page.hidden("csrf").unwrap();
    let form = [("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "openid"), ("scope", "profile")];
    assert!(browser.post(&path, &form).await.redirect_params().contains_key("code"));
    let silent = launch.with("prompt", "none").pushed().await;
    let answer = browser.get(&silent.address()).await.redirect_params();
    assert_eq!(server.exchange(&client, &answer["code"]).await.status, StatusCode::OK);
    let again = browser.get(&silent.address()).await;
    assert!(again.text.contains("was used before"), "{}", again.text);
}
