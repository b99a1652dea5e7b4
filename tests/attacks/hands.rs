//! What attack tests have in common: exact refusals, raw HTTP, and a look behind the server.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use hearthgate::fhir::resource::Resource;
use hearthgate::identity::account::Account;
use hearthgate::store::db::{DbError, Tx, Verdict};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, Browser, CALLBACK, Launch, TestApp, TestClient, VERIFIER};

/// A page with that status that says so, and nobody is sent anywhere.
pub fn assert_page(answer: &Answer, status: u16, says: &str, case: &str) {
    assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.text);
    assert_eq!(answer.location(), "", "{case}: a redirect");
    assert!(answer.header("content-type").starts_with("text/html"), "{case}: no page");
    assert!(answer.text.contains(says), "{case}: `{says}` is not said: {}", answer.text);
    assert!(!answer.text.contains("<script>alert"), "{case}: not escaped");
}

/// Sent back to the registered redirect with that error, `state` and `iss` (RFC 9207), without a code.
pub fn assert_back(server: &TestApp, answer: &Answer, error: &str, says: &str, case: &str) {
    let params = back(answer, case);
    assert_eq!(params.get("error").map(String::as_str), Some(error), "{case}: {params:?}");
    assert_eq!(params.get("state").map(String::as_str), Some("state-of-the-app"), "{case}: {params:?}");
    assert_eq!(params.get("iss"), Some(&server.url), "{case}");
    assert_eq!(params.get("code"), None, "{case}");
    let words = params.get("error_description").map(String::as_str).unwrap_or_default();
    assert!(words.contains(says), "{case}: `{says}` is not said: {words}");
    let allowed = |c: char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
    assert!(words.chars().all(allowed), "{case}: RFC 6749 does not allow: {words}");
}

/// The parameters of a redirect to the registered URI.
pub fn back(answer: &Answer, case: &str) -> BTreeMap<String, String> {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{case}: {}", answer.text);
    let (to, _) = answer.location().split_once('?').unwrap_or_default();
    assert_eq!(to, CALLBACK, "{case}");
    answer.redirect_params()
}

/// The JSON error of RFC 6749 5.2, with useful words and without tokens.
pub fn assert_oauth(answer: &Answer, status: u16, error: &str, says: &str, case: &str) {
    assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.text);
    let body = answer.json();
    assert_eq!(body["error"], error, "{case}: {body}");
    let words = body["error_description"].as_str().unwrap_or_default();
    assert!(words.contains(says), "{case}: `{says}` is not said: {words}");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(2), "{case}: {body}");
    if status == 401 {
        assert!(answer.header("www-authenticate").starts_with("Basic "), "{case}");
    }
}

/// An OperationOutcome with that status that says so.
pub fn assert_outcome(answer: &Answer, status: u16, says: &str, case: &str) {
    assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.text);
    let body = answer.json();
    assert_eq!(body["resourceType"], "OperationOutcome", "{case}: {body}");
    let words = body["issue"][0]["diagnostics"].as_str().unwrap_or_default();
    assert!(words.contains(says), "{case}: `{says}` is not said: {words}");
}

/// The launch went through the checks: its own page opens.
pub fn assert_goes_on(server: &TestApp, answer: &Answer, case: &str) {
    let page = format!("{}/oauth/authorize/", server.url);
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{case}: {}", answer.text);
    assert!(answer.location().starts_with(&page), "{case}: {}", answer.location());
}

/// The same launch by POST, for what does not fit into a URL.
pub async fn post_launch(server: &TestApp, launch: &Launch<'_>) -> Answer {
    let address = launch.address();
    let (path, query) = address.split_once('?').expect("a query");
    let form = "application/x-www-form-urlencoded";
    let request = server.request(Method::POST, path).header("content-type", form);
    Answer::to(request.body(query.to_owned())).await
}

/// A form, with some of its values changed, added or (`None`) left out.
pub fn changed<'a>(
    form: &[(&'a str, &'a str)],
    to: &[(&'a str, Option<&'a str>)],
) -> Vec<(&'a str, &'a str)> {
    let mut changed: Vec<_> =
        form.iter().copied().filter(|(name, _)| !to.iter().any(|(n, _)| n == name)).collect();
    changed.extend(to.iter().filter_map(|(name, value)| value.map(|v| (*name, v))));
    changed
}

/// The form by which a public app exchanges its code.
pub fn code_form<'a>(client: &'a TestClient, code: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &client.redirect),
        ("code_verifier", VERIFIER),
        ("client_id", &client.id),
    ]
}

/// An app that may refresh, and the scope it asks for.
pub async fn refreshing_app(server: &TestApp) -> TestClient {
    server.register(json!({"grant_types": ["authorization_code", "refresh_token"]})).await
}

/// A refresh by a public app, with `scope` or without.
pub async fn refresh(server: &TestApp, client: &TestClient, token: &Value, scope: Option<&str>) -> Answer {
    let token = token["refresh_token"].as_str().expect("a refresh token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", &client.id)];
    server.post_token(&changed(&form, &[("scope", scope)])).await
}

/// A page that nobody may frame.
pub fn assert_unframed(answer: &Answer, case: &str) {
    assert_eq!(answer.header("x-frame-options"), "DENY", "{case}");
    assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{case}");
}

/// Sends bytes as they are; answers with the status and everything that came back.
pub async fn raw(server: &TestApp, request: &str) -> (u16, String) {
    let to = server.url.strip_prefix("http://").expect("an address").to_owned();
    let request = request.to_owned();
    let exchange = move || {
        let mut stream = std::net::TcpStream::connect(to).expect("a connection");
        stream.write_all(request.as_bytes()).expect("it is taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    };
    let answer = tokio::task::spawn_blocking(exchange).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, text)
}

/// A GET of exactly this path, with these header lines.
pub async fn raw_get(server: &TestApp, path: &str, headers: &str) -> (u16, String) {
    raw(server, &format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n")).await
}

/// Sends all of them at once and waits for every answer.
pub async fn at_once(requests: Vec<reqwest::RequestBuilder>) -> Vec<Answer> {
    let sent: Vec<_> = requests.into_iter().map(|r| tokio::spawn(Answer::to(r))).collect();
    let mut answers = Vec::new();
    for answer in sent {
        answers.push(answer.await.expect("an answer"));
    }
    answers
}

/// Changes something behind the server's back.
pub async fn behind<F>(server: &TestApp, change: F)
where
    F: FnOnce(&Tx<'_>) -> Result<(), DbError> + Send + 'static,
{
    server.app.store.write(|tx| change(tx).map(Verdict::Commit)).await.expect("it is written");
}

/// Stores a resource.
pub async fn put(server: &TestApp, resource: Value) {
    let (base, now) = (server.fhir_base(), server.app.now());
    behind(server, move |tx| Resource::put(tx, resource, &base, now).map(drop)).await;
}

/// The account of a username.
pub fn account(server: &TestApp, username: &str) -> String {
    let found = server.app.store.read(|tx| Account::by_username(tx, username)).expect("it is read");
    found.expect("a person").id
}

/// Shuts a person out.
pub async fn disable(server: &TestApp, username: &str) {
    let (id, now) = (account(server, username), server.app.now());
    behind(server, move |tx| Account::set_disabled(tx, &id, Some(now))).await;
}

/// How many lines of that kind the audit has.
pub fn audited(server: &TestApp, kind: &str) -> i64 {
    let sql = "SELECT count(*) FROM events WHERE kind = $1";
    let count = |tx: &Tx<'_>| tx.first(sql, hearthgate::params![kind], |row| row.get(0));
    server.app.store.read(count).expect("it is read").unwrap_or_default()
}

/// A browser in which that person is signed in, by a launch that was left at its consent page.
pub async fn signed_in<'a>(server: &'a TestApp, client: &TestClient, username: &str) -> Browser<'a> {
    let browser = server.browser();
    let launch = server.launch(client).scope("openid fhirUser").by(username);
    let (_, page) = launch.to_consent(&browser).await;
    assert!(page.text.contains("name=\"decision\""), "{}", page.text);
    browser
}

/// `Type/id` of everything in a searchset.
pub fn found(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let bundle = answer.json();
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let matches = entries.iter().map(|e| &e["resource"]).filter(|r| r["resourceType"] != "OperationOutcome");
    matches
        .map(|r| format!("{}/{}", r["resourceType"].as_str().unwrap(), r["id"].as_str().unwrap()))
        .collect()
}
