//! Apps are told that a person signed out (OpenID Connect Back-Channel Logout 1.0).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::HeaderMap;
use hearthgate::clock::{HOUR, MINUTE, SECOND};
use hearthgate::oauth::client::Client;
use hearthgate::store::db::{Store, Verdict};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::kit::{Browser, NOW, TestApp, TestClient, claims};

/// What an app's server heard, and what it will answer.
#[derive(Clone, Default)]
struct Ears {
    heard: Arc<Mutex<Vec<(String, String)>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

/// An answer that never comes.
const SILENCE: u16 = 0;

/// An app's server: it notes the content type and body of what is posted to it.
struct RelyingParty {
    url: String,
    ears: Ears,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for RelyingParty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RelyingParty {
    async fn start(answers: &[u16]) -> RelyingParty {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/logged-out", listener.local_addr().expect("an address"));
        let ears = Ears::default();
        ears.answers.lock().unwrap().extend(answers);
        let routes = axum::Router::new()
            .route("/logged-out", axum::routing::post(RelyingParty::hear))
            .with_state(ears.clone());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        RelyingParty { url, ears, task }
    }

    async fn hear(State(ears): State<Ears>, headers: HeaderMap, body: String) -> StatusCode {
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        ears.heard.lock().unwrap().push((kind, body));
        let answer = ears.answers.lock().unwrap().pop_front().unwrap_or(200);
        if answer == SILENCE {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        StatusCode::from_u16(answer).unwrap_or(StatusCode::OK)
    }

    fn count(&self) -> usize {
        self.ears.heard.lock().unwrap().len()
    }

    /// The logout tokens, once there are as many as that.
    async fn heard(&self, count: usize) -> Vec<String> {
        let began = Instant::now();
        while self.count() < count {
            assert!(began.elapsed() < Duration::from_secs(20), "it heard {} of {count}", self.count());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let heard = self.ears.heard.lock().unwrap().clone();
        let token = |(kind, body): &(String, String)| {
            assert_eq!(kind, "application/x-www-form-urlencoded");
            let form: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            assert_eq!(form.len(), 1, "{body}");
            assert_eq!(form[0].0, "logout_token");
            form[0].1.clone()
        };
        heard.iter().map(token).collect()
    }

    async fn register(&self, server: &TestApp, extra: Value) -> TestClient {
        let mut metadata = json!({"backchannel_logout_uri": self.url, "backchannel_logout_session_required": true,
            "grant_types": ["authorization_code", "refresh_token"]});
        metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        server.register(metadata).await
    }
}

async fn sign_in(server: &TestApp, client: &TestClient, browser: &Browser<'_>) -> Value {
    let token = server.launch(client).scope("openid fhirUser").token_in(browser).await;
    claims(&token["id_token"])
}

async fn sign_out(browser: &Browser<'_>) {
    let csrf = browser.get("/account").await.hidden("csrf").expect("somebody signed in");
    browser.post("/account/sign-out", &[("csrf", &csrf)]).await;
}

/// How many notices wait, and what was written of those that do not.
fn kept(server: &TestApp) -> (i64, Vec<(String, Option<String>)>) {
    let read = server.app.store.read(|tx| {
        let waiting = tx.first("SELECT count(*) FROM logout_notices", &[], |row| row.get(0))?.unwrap_or(0);
        let sql = "SELECT outcome, reason FROM events WHERE kind = 'logout_notice' ORDER BY id";
        Ok((waiting, tx.all(sql, &[], |row| Ok((row.get(0)?, row.get(1)?)))?))
    });
    read.expect("it reads")
}

/// Waits until nothing is to be told any more.
async fn settled(server: &TestApp) -> Vec<(String, Option<String>)> {
    let began = Instant::now();
    loop {
        let (waiting, events) = kept(server);
        if waiting == 0 {
            return events;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{waiting} notices still wait: {events:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Time for everything that is due now to be sent.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(400)).await;
}

#[tokio::test]
async fn an_app_is_told_by_a_logout_token_that_holds_claim_by_claim() {
    let server = TestApp::start().await;
    let keys: JwkSet = serde_json::from_value(server.get("/oauth/jwks").await.json()).unwrap();
    for alg in ["RS256", "ES256", "ES384"] {
        let app = RelyingParty::start(&[]).await;
        let client = app.register(&server, json!({"id_token_signed_response_alg": alg})).await;
        let browser = server.browser();
        let signed_in = sign_in(&server, &client, &browser).await;
        a_moment().await;
        assert_eq!(app.count(), 0, "nothing ended yet");
        sign_out(&browser).await;
        let token = app.heard(1).await.remove(0);
        let header = decode_header(&token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("logout+jwt"));
        assert_eq!(header.alg, alg.parse::<Algorithm>().unwrap());
        let key = keys.find(header.kid.as_deref().unwrap()).expect("a published key");
        let mut rules = Validation::new(header.alg);
        rules.validate_exp = false;
        rules.set_issuer(&[&server.url]);
        rules.set_audience(&[&client.id]);
        let told: Value =
            decode(&token, &DecodingKey::from_jwk(key).unwrap(), &rules).expect("it verifies").claims;
        let mut names: Vec<&String> = told.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["aud", "events", "exp", "iat", "iss", "jti", "sid", "sub"], "and no nonce");
        assert_eq!((&told["sub"], &told["sid"]), (&signed_in["sub"], &signed_in["sid"]));
        assert_eq!((&told["iss"], &told["aud"]), (&signed_in["iss"], &signed_in["aud"]));
        assert_eq!(told["iat"], NOW / SECOND);
        assert_eq!(told["exp"], NOW / SECOND + 120);
        assert!(told["jti"].as_str().unwrap().len() >= 16);
        assert_eq!(told["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    }
    assert_eq!(settled(&server).await, vec![("ok".to_owned(), None); 3]);
}

#[tokio::test]
async fn every_app_that_signed_the_person_in_is_told_once_and_no_other() {
    let server = TestApp::start().await;
    let (told, too, never) =
        (RelyingParty::start(&[]).await, RelyingParty::start(&[204]).await, RelyingParty::start(&[]).await);
    let clients = [told.register(&server, json!({})).await, too.register(&server, json!({})).await];
    let browser = server.browser();
    for client in clients.iter().chain(&clients) {
        sign_in(&server, client, &browser).await;
    }
    // Data without a sign-in, a code that was never exchanged, another session, another person.
    let data = never.register(&server, json!({})).await;
    server.launch(&data).scope("launch/patient patient/*.rs").token_in(&browser).await;
    let unused = never.register(&server, json!({})).await;
    server.launch(&unused).scope("openid").decide_in(&browser, "allow").await;
    let elsewhere = never.register(&server, json!({})).await;
    sign_in(&server, &elsewhere, &server.browser()).await;
    server.launch(&elsewhere).scope("openid").by("annika").token_in(&server.browser()).await;
    let silent = server.register(json!({})).await;
    sign_in(&server, &silent, &browser).await;
    sign_out(&browser).await;
    assert_eq!(settled(&server).await.len(), 2);
    assert_eq!((told.count(), too.count(), never.count()), (1, 1, 0));
    server.advance(3 * HOUR);
    a_moment().await;
    assert_eq!((told.count(), too.count(), never.count()), (1, 1, 0));
}

#[tokio::test]
async fn signing_out_by_an_app_tells_the_others_and_so_does_somebody_else_signing_in() {
    let server = TestApp::start().await;
    let app = RelyingParty::start(&[]).await;
    let (client, other) = (app.register(&server, json!({})).await, server.register(json!({})).await);
    let browser = server.browser();
    sign_in(&server, &client, &browser).await;
    let token = server.launch(&other).scope("openid").token_in(&browser).await;
    let hint = token["id_token"].as_str().unwrap();
    browser.get(&format!("/oauth/logout?id_token_hint={hint}")).await;
    app.heard(1).await;

    let first = sign_in(&server, &client, &browser).await;
    let launch = server.launch(&client).scope("openid");
    let (path, _) = launch.open(&browser).await;
    let page = browser.get(&format!("{path}?switch=1")).await;
    browser.sign_in(&path, &page, "maria").await;
    a_moment().await;
    assert_eq!(app.count(), 1, "her own session goes on");
    let page = browser.get(&format!("{path}?switch=1")).await;
    browser.sign_in(&path, &page, "annika").await;
    let told = app.heard(2).await;
    assert_eq!(claims(&json!(told[1]))["sid"], first["sid"]);
}

#[tokio::test]
async fn disconnecting_an_app_is_no_sign_out_but_the_sign_out_still_reaches_it() {
    let server = TestApp::start().await;
    let app = RelyingParty::start(&[]).await;
    let client = app.register(&server, json!({})).await;
    let browser = server.browser();
    sign_in(&server, &client, &browser).await;
    let csrf = browser.get("/account").await.hidden("csrf").unwrap();
    browser.post(&format!("/account/disconnect/{}", client.id), &[("csrf", &csrf)]).await;
    a_moment().await;
    assert_eq!(app.count(), 0);
    sign_out(&browser).await;
    app.heard(1).await;
}

#[tokio::test]
async fn a_session_that_ran_out_is_still_signed_out_by_the_app_that_knows_it() {
    let server = TestApp::start().await;
    let app = RelyingParty::start(&[]).await;
    let client = app.register(&server, json!({})).await;
    let browser = server.browser();
    let token = server.launch(&client).scope("openid").token_in(&browser).await;
    let by_app = format!("/oauth/logout?id_token_hint={}", token["id_token"].as_str().unwrap());
    server.advance(31 * MINUTE);
    server.browser().get(&by_app).await;
    browser.get("/oauth/logout").await;
    a_moment().await;
    assert_eq!(app.count(), 0, "neither from another browser, nor without a hint");
    browser.get(&by_app).await;
    app.heard(1).await;
}

#[tokio::test]
async fn an_app_that_fails_is_told_again_in_its_time_with_a_new_token() {
    let server = TestApp::start().await;
    let app = RelyingParty::start(&[500, 400, 302]).await;
    let client = app.register(&server, json!({})).await;
    let browser = server.browser();
    sign_in(&server, &client, &browser).await;
    sign_out(&browser).await;
    for (heard, wait) in [(1, 10 * SECOND), (2, MINUTE), (3, 5 * MINUTE)] {
        app.heard(heard).await;
        server.advance(wait - 1);
        a_moment().await;
        assert_eq!(app.count(), heard, "not before its time");
        server.advance(1);
    }
    let told = app.heard(4).await;
    assert_eq!(settled(&server).await, [("ok".to_owned(), None)]);
    let ids: std::collections::BTreeSet<_> =
        told.iter().map(|t| claims(&json!(t))["jti"].to_string()).collect();
    assert_eq!(ids.len(), 4, "each is a token of its own");
    assert_eq!(claims(&json!(told[3]))["iat"], server.app.now() / SECOND);
}

#[tokio::test]
async fn an_app_that_never_takes_it_is_given_up_and_that_is_written_down() {
    let server = TestApp::start().await;
    let app = RelyingParty::start(&[500; 20]).await;
    let client = app.register(&server, json!({})).await;
    let browser = server.browser();
    sign_in(&server, &client, &browser).await;
    sign_out(&browser).await;
    for heard in 1..=6 {
        app.heard(heard).await;
        a_moment().await;
        server.advance(2 * HOUR);
    }
    let events = settled(&server).await;
    assert_eq!(
        events,
        [("refused".to_owned(), Some("given up: it answered with HTTP status 500".to_owned()))]
    );
    server.advance(24 * HOUR);
    a_moment().await;
    assert_eq!(app.count(), 6);
}

#[tokio::test]
async fn an_app_that_hangs_holds_up_neither_the_person_nor_other_apps() {
    let server = TestApp::start().await;
    let (hangs, answers) = (RelyingParty::start(&[SILENCE; 9]).await, RelyingParty::start(&[]).await);
    let browser = server.browser();
    for app in [&hangs, &answers] {
        sign_in(&server, &app.register(&server, json!({})).await, &browser).await;
    }
    let began = Instant::now();
    sign_out(&browser).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    hangs.heard(1).await;
    answers.heard(1).await;
    // The call that hangs is given up after 5 seconds.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    a_moment().await;
    assert_eq!(kept(&server).0, 1, "it is tried again later");
}

#[tokio::test]
async fn a_notice_outlives_the_server_that_wrote_it() {
    let store = Store::open(":memory:").expect("a store");
    let app = RelyingParty::start(&[503]).await;
    let first = TestApp::start_on(store.clone()).await;
    let client = app.register(&first, json!({})).await;
    let browser = first.browser();
    let signed_in = sign_in(&first, &client, &browser).await;
    sign_out(&browser).await;
    app.heard(1).await;
    drop(first);
    let second = TestApp::start_on(store).await;
    a_moment().await;
    assert_eq!(app.count(), 1);
    second.advance(10 * SECOND);
    let told = claims(&json!(app.heard(2).await[1]));
    assert_eq!((&told["sid"], &told["iss"]), (&signed_in["sid"], &json!(second.url)));
    assert_eq!(settled(&second).await.len(), 1);
}

#[tokio::test]
async fn an_app_that_is_gone_or_takes_no_notices_any_more_is_not_called() {
    let server = TestApp::start().await;
    let app = RelyingParty::start(&[500, 500]).await;
    let (gone, silent) = (app.register(&server, json!({})).await, app.register(&server, json!({})).await);
    let browser = server.browser();
    sign_in(&server, &gone, &browser).await;
    sign_in(&server, &silent, &browser).await;
    sign_out(&browser).await;
    app.heard(2).await;
    let change = move |tx: &hearthgate::store::db::Tx<'_>| {
        Client::delete(tx, &gone.id)?;
        let mut metadata = Client::find(tx, &silent.id)?.expect("it is there").metadata;
        metadata.backchannel_logout_uri = None;
        Client::replace(tx, &silent.id, &metadata)?;
        Ok(Verdict::Commit(()))
    };
    server.app.store.write(change).await.unwrap();
    server.advance(HOUR);
    let events = settled(&server).await;
    assert_eq!(events.len(), 1, "what was deleted takes its notices along: {events:?}");
    assert_eq!(app.count(), 2);
}
