//! The test kit: a server on a port of its own at a frozen clock, browsers, apps, and a launch in one line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use hearthgate::app::App;
use hearthgate::clock::{Chance, Clock, DAY, Millis};
use hearthgate::config::Mode;
use hearthgate::crypto::{MasterKey, sha256_base64url};
use hearthgate::server::{self, Parts};
use hearthgate::store::db::Store;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// 2026-11-01T12:00:00Z, the time at which every test begins.
pub const NOW: Millis = 1_793_534_400_000;
/// Where test apps are sent back to. Nobody listens there: browsers of the kit do not follow it.
pub const CALLBACK: &str = "https://app.example/callback";
/// A PKCE verifier; `sha256_base64url` of it is the challenge that launches send.
pub const VERIFIER: &str = "0123456789abcdefghijklmnopqrstuvwxyz-._~ABCDEF";

/// A running server.
pub struct TestApp {
    /// The server itself, for what has no address.
    pub app: App,
    /// P.
    pub url: String,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn to(request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("a body") }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("a text"))
    }

    pub fn location(&self) -> &str {
        self.header(LOCATION.as_str())
    }

    /// The parameters of the redirect, by name.
    pub fn redirect_params(&self) -> BTreeMap<String, String> {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "no redirect: {}", self.text);
        let (_, query) = self.location().split_once('?').unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    /// The `error` of an OAuth JSON answer.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    /// The value of the first hidden field of that name.
    pub fn hidden(&self, name: &str) -> Option<String> {
        let at = self.text.find(&format!("name=\"{name}\" value=\""))?;
        let rest = &self.text[at..];
        let value = rest.split("value=\"").nth(1)?.split('"').next()?;
        Some(unescape(value))
    }

    /// The values of every ticked box or radio of that name, and of every unticked one.
    pub fn boxes(&self, name: &str) -> (Vec<String>, Vec<String>) {
        let (mut ticked, mut unticked) = (Vec::new(), Vec::new());
        for tag in self.text.split("<input ").skip(1) {
            let tag = tag.split('>').next().unwrap_or_default();
            if !tag.contains(&format!("name=\"{name}\"")) || tag.contains("type=\"hidden\"") {
                continue;
            }
            let value = tag.split("value=\"").nth(1).and_then(|v| v.split('"').next()).unwrap_or_default();
            if tag.ends_with("checked") {
                ticked.push(unescape(value))
            } else {
                unticked.push(unescape(value))
            }
        }
        (ticked, unticked)
    }
}

fn unescape(text: &str) -> String {
    text.replace("&#38;", "&")
        .replace("&amp;", "&")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
}

/// The header by which a test says from which address a request comes; without it, from this machine.
pub const FROM: &str = "x-test-from";

async fn from_elsewhere(mut request: Request, next: Next) -> Response {
    let from = request.headers().get(FROM).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if let Some(ip) = from {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(ip, 4711)));
    }
    next.run(request).await
}

impl TestApp {
    pub async fn start() -> TestApp {
        TestApp::start_on(Store::open(":memory:").expect("a store")).await
    }

    /// A server over a store that may hold something already.
    pub async fn start_on(store: Store) -> TestApp {
        TestApp::start_at(store, NOW).await
    }

    /// The same at another time.
    pub async fn start_at(store: Store, now: Millis) -> TestApp {
        TestApp::start_as(store, Mode::Sandbox, now).await
    }

    /// A server for real people, as far as there is one: nobody can sign in yet.
    pub async fn start_in_production() -> TestApp {
        TestApp::start_as(Store::open(":memory:").expect("a store"), Mode::Production, NOW).await
    }

    async fn start_as(store: Store, mode: Mode, now: Millis) -> TestApp {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let chance = Chance::seeded(SEED.fetch_add(1, Ordering::SeqCst) << 32);
        let parts = Parts {
            issuer: url.clone(),
            mode,
            store,
            master: Some(MasterKey::new(&Chance::seeded(7)).to_text()),
            clock: Clock::frozen_at(now),
            chance,
            key_rotation: Some(90 * DAY),
        };
        let app = tokio::task::spawn_blocking(|| server::assemble(parts))
            .await
            .expect("it runs")
            .expect("it starts");
        let routes = server::routes(app.clone()).layer(axum::middleware::from_fn(from_elsewhere));
        let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        let flushing = tokio::spawn(server::keep_house(app.clone()));
        TestApp { app, url, tasks: vec![serving, flushing] }
    }

    pub fn advance(&self, by: Millis) {
        self.app.clock.advance(by);
    }

    pub fn fhir_base(&self) -> String {
        format!("{}/fhir", self.url)
    }

    /// A browser with nobody signed in.
    pub fn browser(&self) -> Browser<'_> {
        let http = reqwest::Client::builder()
            .cookie_store(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Browser { server: self, http }
    }

    /// Any request without cookies.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let http =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        http.request(method, format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// Registers an app; `extra` is laid over what every test app has.
    pub async fn register(&self, extra: Value) -> TestClient {
        let answer = self.try_register(extra).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let registered = answer.json();
        let text = |name: &str| registered[name].as_str().map(str::to_owned);
        TestClient {
            id: text("client_id").expect("an id"),
            secret: text("client_secret"),
            // A backend service has none.
            redirect: registered["redirect_uris"][0].as_str().unwrap_or_default().to_owned(),
            registered,
        }
    }

    pub async fn try_register(&self, extra: Value) -> Answer {
        let mut metadata = json!({"client_name": "Test app", "redirect_uris": [CALLBACK]});
        if let (Value::Object(all), Value::Object(extra)) = (&mut metadata, extra) {
            all.extend(extra);
        }
        Answer::to(self.request(Method::POST, "/oauth/register").json(&metadata)).await
    }

    /// A launch by `client`, not yet begun.
    pub fn launch<'a>(&'a self, client: &'a TestClient) -> Launch<'a> {
        let params = [
            ("response_type", "code"),
            ("client_id", &client.id),
            ("redirect_uri", &client.redirect),
            ("scope", "openid fhirUser launch/patient patient/*.rs"),
            ("state", "state-of-the-app"),
            ("aud", &self.fhir_base()),
            ("code_challenge", &sha256_base64url(VERIFIER.as_bytes())),
            ("code_challenge_method", "S256"),
        ];
        let params = params.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        Launch {
            server: self,
            client,
            params,
            person: "maria".into(),
            patient: None,
            untick: Vec::new(),
            tick: Vec::new(),
        }
    }

    /// Launches an app as an EHR does, by Maria unless `extra` says otherwise.
    pub async fn try_ehr_launch(&self, client: &TestClient, extra: Value) -> Answer {
        let mut wanted = json!({"client_id": client.id, "person": "maria"});
        if let (Value::Object(all), Value::Object(extra)) = (&mut wanted, extra) {
            all.extend(extra);
        }
        Answer::to(self.request(Method::POST, "/sandbox/launches").json(&wanted)).await
    }

    /// The handle of such a launch.
    pub async fn ehr_launch(&self, client: &TestClient, extra: Value) -> String {
        let answer = self.try_ehr_launch(client, extra).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()["launch"].as_str().expect("a handle").to_owned()
    }

    /// Posts a form to the token endpoint, as a public app does.
    pub async fn post_token(&self, form: &[(&str, &str)]) -> Answer {
        Answer::to(self.request(Method::POST, "/oauth/token").form(form)).await
    }

    /// Exchanges a code by the rules.
    pub async fn exchange(&self, client: &TestClient, code: &str) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &client.redirect),
            ("code_verifier", VERIFIER),
            ("client_id", &client.id),
        ];
        match &client.secret {
            None => self.post_token(&form).await,
            Some(secret) => {
                let request = self.request(Method::POST, "/oauth/token").basic_auth(&client.id, Some(secret));
                Answer::to(request.form(&form)).await
            }
        }
    }

    /// Reads below the FHIR base with a token.
    pub async fn fhir(&self, token: &str, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, &format!("/fhir/{path}")).bearer_auth(token)).await
    }
}

/// A registered app.
#[derive(Clone, Debug)]
pub struct TestClient {
    pub id: String,
    pub secret: Option<String>,
    pub redirect: String,
    pub registered: Value,
}

/// A browser with cookies of its own. It shows redirects instead of following them.
#[derive(Clone)]
pub struct Browser<'a> {
    server: &'a TestApp,
    http: reqwest::Client,
}

impl Browser<'_> {
    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { format!("{}{path}", self.server.url) } else { path.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.http.get(self.absolute(path))).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        Answer::to(self.http.post(self.absolute(path)).form(form)).await
    }

    /// Follows redirects as long as they stay on the server.
    pub async fn settle(&self, mut answer: Answer) -> (String, Answer) {
        let mut path = String::new();
        while answer.status.is_redirection()
            && (answer.location().starts_with('/')
                || answer.location().starts_with(&format!("{}/", self.server.url)))
        {
            path = answer.location().to_owned();
            answer = self.get(&path).await;
        }
        (path, answer)
    }

    /// Signs in on the page of a request.
    pub async fn sign_in(&self, path: &str, page: &Answer, username: &str) -> Answer {
        let csrf = page.hidden("csrf").expect("a form token");
        let form = [("csrf", csrf.as_str()), ("username", username), ("password", "hearth")];
        self.post(path, &form).await
    }
}

/// A launch: what the app asks for, and what the person does.
#[derive(Clone)]
pub struct Launch<'a> {
    server: &'a TestApp,
    client: &'a TestClient,
    params: Vec<(String, String)>,
    person: String,
    patient: Option<String>,
    untick: Vec<String>,
    tick: Vec<String>,
}

impl<'a> Launch<'a> {
    /// Sends another value for a parameter.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends a parameter once more.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a parameter out.
    pub fn without(mut self, name: &str) -> Self {
        self.params.retain(|(n, _)| n != name);
        self
    }

    pub fn scope(self, scope: &str) -> Self {
        self.with("scope", scope)
    }

    pub fn by(mut self, person: &str) -> Self {
        self.person = person.to_owned();
        self
    }

    pub fn patient(mut self, patient: &str) -> Self {
        self.patient = Some(patient.to_owned());
        self
    }

    pub fn untick(mut self, scope: &str) -> Self {
        self.untick.push(scope.to_owned());
        self
    }

    pub fn tick(mut self, scope: &str) -> Self {
        self.tick.push(scope.to_owned());
        self
    }

    /// What it asks for.
    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }

    /// Pushes what it asks for, as a public app does or with the app's secret.
    pub async fn push(&self) -> Answer {
        let request = self.server.request(Method::POST, "/oauth/par").form(&self.params);
        Answer::to(match &self.client.secret {
            None => request,
            Some(secret) => request.basic_auth(&self.client.id, Some(secret)),
        })
        .await
    }

    /// Pushes what it asks for; from here on the browser is sent with `client_id` and `request_uri` alone.
    pub async fn pushed(mut self) -> Self {
        let answer = self.push().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let uri = answer.json()["request_uri"].as_str().expect("a request_uri").to_owned();
        self.params = vec![("client_id".into(), self.client.id.clone()), ("request_uri".into(), uri)];
        self
    }

    /// The authorization URL's path and query.
    pub fn address(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.params);
        format!("/oauth/authorize?{}", query.finish())
    }

    /// What the authorization endpoint says to the request, in a new browser.
    pub async fn answer(&self) -> Answer {
        self.server.browser().get(&self.address()).await
    }

    /// The request's own page in a browser, with its address.
    pub async fn open(&self, browser: &Browser<'_>) -> (String, Answer) {
        let answer = browser.get(&self.address()).await;
        assert!(
            answer.location().starts_with(&format!("{}/oauth/authorize/", self.server.url)),
            "no page to go to: {} {} {}",
            answer.status,
            answer.location(),
            answer.text
        );
        browser.settle(answer).await
    }

    /// Goes on to the consent page: signs in and chooses the patient where that is asked for.
    pub async fn to_consent(&self, browser: &Browser<'_>) -> (String, Answer) {
        let (path, mut page) = self.open(browser).await;
        if page.text.contains("name=\"password\"") {
            let answer = browser.sign_in(&path, &page, &self.person).await;
            (_, page) = browser.settle(answer).await;
        }
        if page.text.contains("name=\"patient\"") {
            let csrf = page.hidden("csrf").expect("a form token");
            let patient = self.patient.as_deref().expect("the test to say which patient");
            let answer = browser.post(&path, &[("csrf", &csrf), ("patient", patient)]).await;
            (_, page) = browser.settle(answer).await;
        }
        (path, page)
    }

    /// Answers the consent page, in a new browser.
    pub async fn decide(&self, decision: &str) -> Answer {
        self.decide_in(&self.server.browser(), decision).await
    }

    /// Answers the consent page in a browser where somebody may be signed in already.
    pub async fn decide_in(&self, browser: &Browser<'_>, decision: &str) -> Answer {
        let (path, page) = self.to_consent(browser).await;
        if decision == "allow" && page.location().starts_with(&self.client.redirect) {
            return page; // not asked again
        }
        assert!(page.text.contains("name=\"decision\""), "not the consent page: {}", page.text);
        let csrf = page.hidden("csrf").expect("a form token");
        let (ticked, _) = page.boxes("scope");
        let mut form = vec![("csrf", csrf.as_str()), ("decision", decision)];
        let kept = ticked.iter().filter(|s| !self.untick.contains(s)).chain(&self.tick);
        form.extend(kept.map(|s| ("scope", s.as_str())));
        browser.post(&path, &form).await
    }

    /// Allows it; answers with the code.
    pub async fn code(&self) -> String {
        let params = self.decide("allow").await.redirect_params();
        params.get("code").unwrap_or_else(|| panic!("no code: {params:?}")).clone()
    }

    /// Allows it and exchanges the code; answers with the token answer.
    pub async fn token(&self) -> Value {
        self.token_in(&self.server.browser()).await
    }

    /// The same in a browser where somebody may be signed in already.
    pub async fn token_in(&self, browser: &Browser<'_>) -> Value {
        let params = self.decide_in(browser, "allow").await.redirect_params();
        let code = params.get("code").unwrap_or_else(|| panic!("no code: {params:?}"));
        let answer = self.server.exchange(self.client, code).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    }
}

/// The claims of a JWT, unverified (`relying_party.rs` verifies).
pub fn claims(jwt: &Value) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let text = jwt.as_str().expect("a token").split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
}

/// The access token of a token answer.
pub fn access(token: &Value) -> &str {
    token["access_token"].as_str().expect("an access token")
}

/// The shared bundles of real data, or none: then the test named is counted as skipped.
pub fn synthea(test: &str) -> Option<Vec<std::path::PathBuf>> {
    let folder = std::env::var("SYNTHEA").unwrap_or_else(|_| "../shared/data/synthea-r4".into());
    let Ok(entries) = std::fs::read_dir(&folder) else {
        skip(test, "the shared bundles are not here");
        return None;
    };
    let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    Some(files)
}

/// Counts a test as skipped: `tests/run` reads the file and takes it from the passed ones.
pub fn skip(test: &str, reason: &str) {
    use std::io::Write as _;
    eprintln!("skipped: {test}: {reason}");
    if let Ok(path) = std::env::var("HEARTHGATE_SKIPPED") {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .expect("the list of skipped tests");
        writeln!(file, "{test}: {reason}").expect("a line");
    }
}
