//! No sequence of refreshes, replays and revocations leaves two live families or a wider scope than was
//! granted: random sequences over real HTTP, each step held against a small model (DESIGN.md 6, "Refresh
//! tokens"; RFC 9700 4.14.2).

use hearthgate::clock::{DAY, HOUR, Millis, SECOND};
use hearthgate::config::{ACCESS_TOKEN_LIFE, SESSION_IDLE};
use hearthgate::oauth::access_token::{self, Bearer};
use hearthgate::oauth::grant::Grant;
use hearthgate::oauth::refresh;
use hearthgate::smart::cover::covers;
use hearthgate::smart::scope::Scope;
use hearthgate::store::db::Tx;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::attacks::hands::{back, refreshing_app};
use crate::kit::{Answer, Browser, TestApp, TestClient};

const OFFLINE: &str = "openid offline_access patient/*.rs";
const ONLINE: &str = "openid online_access patient/*.rs";
const NARROWER: [&str; 4] = ["openid patient/*.rs", "patient/*.r", "patient/Observation.rs", "openid"];
const WIDER: [&str; 4] = ["patient/*.cruds", "user/*.rs", "patient/*.rs user/Patient.r", "launch/patient"];
const WAITS: [Millis; 6] = [SECOND, 9 * SECOND, 10 * SECOND, 11 * SECOND, HOUR + SECOND, 100 * DAY];

/// What a refresh asks for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Nothing,
    Less(usize),
    More(usize),
}

/// One step. A token is named by its age: 0 is the newest, 1 the one before it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Refresh(usize, Ask),
    /// By another app.
    StolenBy(usize),
    RevokeAccess(usize),
    RevokeRefresh(usize),
    /// By another app.
    RevokedBy(usize),
    RedeemAgain,
    /// By another app.
    RedeemedBy,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Op {
    One(Step),
    AtOnce(Step, Step),
    Wait(usize),
    SignOut,
    Disconnect,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => Just(Ask::Nothing),
        2 => (0..NARROWER.len()).prop_map(Ask::Less),
        1 => (0..WIDER.len()).prop_map(Ask::More),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => ask().prop_map(|ask| Step::Refresh(0, ask)),
        8 => (1_usize..4, ask()).prop_map(|(age, ask)| Step::Refresh(age, ask)),
        2 => (0_usize..3).prop_map(Step::StolenBy),
        2 => (0_usize..3).prop_map(Step::RevokeAccess),
        1 => (0_usize..3).prop_map(Step::RevokeRefresh),
        1 => (0_usize..3).prop_map(Step::RevokedBy),
        1 => Just(Step::RedeemAgain),
        1 => Just(Step::RedeemedBy),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => step().prop_map(Op::One),
        5 => (step(), step()).prop_map(|(a, b)| Op::AtOnce(a, b)),
        8 => (0..WAITS.len() - 2).prop_map(Op::Wait),
        1 => (WAITS.len() - 2..WAITS.len()).prop_map(Op::Wait),
        1 => Just(Op::SignOut),
        1 => Just(Op::Disconnect),
    ]
}

/// What the server must say to a step.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    /// Tokens: this refresh token, and an access token of that scope.
    Issued(usize, &'static str),
    /// This OAuth error.
    Refused(&'static str),
    /// Nothing worth telling.
    Done,
}

#[derive(Clone)]
struct RefreshToken {
    /// Unknown until an answer tells it.
    text: Option<String>,
    expires: Millis,
    used: Option<Millis>,
}

#[derive(Clone)]
struct AccessToken {
    text: String,
    scope: &'static str,
    expires: Millis,
}

/// What one grant must look like.
#[derive(Clone)]
struct Model {
    granted: &'static str,
    /// When the session it was granted in ends by itself; only `online_access` cares.
    session_until: Millis,
    ended: bool,
    /// Each the successor of the one before.
    chain: Vec<RefreshToken>,
    access: Vec<AccessToken>,
}

impl Model {
    /// From ages to positions: what is presented at once was chosen before.
    fn choose(&self, step: Step) -> Step {
        let of = |all: usize, age: usize| all - 1 - age.min(all - 1);
        let (chain, access) = (self.chain.len(), self.access.len());
        match step {
            Step::Refresh(age, ask) => Step::Refresh(of(chain, age), ask),
            Step::StolenBy(age) => Step::StolenBy(of(chain, age)),
            Step::RevokeRefresh(age) => Step::RevokeRefresh(of(chain, age)),
            Step::RevokedBy(age) => Step::RevokedBy(of(chain, age)),
            Step::RevokeAccess(age) => Step::RevokeAccess(of(access, age)),
            Step::RedeemAgain | Step::RedeemedBy => step,
        }
    }

    fn session_lives(&self, now: Millis) -> bool {
        now < self.session_until
    }

    fn may_refresh(&self, token: &RefreshToken, now: Millis) -> bool {
        !self.ended && now < token.expires && (self.granted == OFFLINE || self.session_lives(now))
    }

    /// Whether a refresh token is the one from which the family goes on.
    fn is_live(&self, token: &RefreshToken, now: Millis) -> bool {
        self.may_refresh(token, now) && token.used.is_none()
    }

    fn apply(&mut self, step: Step, now: Millis) -> Said {
        match step {
            Step::Refresh(at, ask) => self.refresh(at, ask, now),
            Step::StolenBy(_) | Step::RedeemedBy => Said::Refused("invalid_grant"),
            Step::RevokedBy(_) => Said::Done,
            Step::RevokeAccess(at) => {
                self.access[at].expires = self.access[at].expires.min(now);
                Said::Done
            }
            Step::RevokeRefresh(_) => {
                self.ended = true;
                Said::Done
            }
            Step::RedeemAgain => {
                self.ended = true;
                Said::Refused("invalid_grant")
            }
        }
    }

    fn refresh(&mut self, at: usize, ask: Ask, now: Millis) -> Said {
        let token = self.chain[at].clone();
        if !self.ended && token.used.is_some_and(|used| now >= used + 10 * SECOND) {
            self.ended = true;
        }
        if !self.may_refresh(&token, now) {
            return Said::Refused("invalid_grant");
        }
        let scope = match ask {
            Ask::Nothing => self.granted,
            Ask::Less(which) => NARROWER[which],
            Ask::More(_) => return Said::Refused("invalid_scope"),
        };
        match token.used {
            Some(_) if self.chain[at + 1].used.is_some() => return Said::Refused("invalid_grant"),
            Some(_) => {}
            None => {
                self.chain[at].used = Some(now);
                self.chain.push(RefreshToken { text: None, expires: now + 100 * DAY, used: None });
            }
        }
        Said::Issued(at + 1, scope)
    }

    fn fits(said: &Said, answer: &Answer) -> bool {
        match said {
            Said::Issued(_, scope) => answer.status == StatusCode::OK && answer.json()["scope"] == *scope,
            Said::Refused(error) => answer.status == StatusCode::BAD_REQUEST && answer.error() == *error,
            Said::Done => answer.status == StatusCode::OK,
        }
    }

    /// Takes note of the tokens in an answer.
    fn learn(&mut self, said: &Said, answer: &Answer, now: Millis) {
        let Said::Issued(at, scope) = said else { return };
        let answer = answer.json();
        let text = |name: &str| answer[name].as_str().expect("a token").to_owned();
        let known = self.chain[*at].text.get_or_insert_with(|| text("refresh_token"));
        assert_eq!(*known, text("refresh_token"), "two different successors");
        self.access.push(AccessToken { text: text("access_token"), scope, expires: now + ACCESS_TOKEN_LIFE });
    }
}

/// One server for all cases, and who acts on it.
struct World {
    server: TestApp,
    http: Client,
    app: TestClient,
    stranger: TestClient,
    inspector: TestClient,
}

/// One grant, what is known of it, and the browser of its person.
struct Case<'a> {
    world: &'a World,
    browser: Browser<'a>,
    code: String,
    grant: String,
    model: Model,
}

impl World {
    async fn make() -> World {
        let server = TestApp::start().await;
        let (app, stranger) = (refreshing_app(&server).await, refreshing_app(&server).await);
        let inspector = json!({"introspect": "all", "token_endpoint_auth_method": "client_secret_basic"});
        let inspector = server.register(inspector).await;
        World { server, http: Client::new(), app, stranger, inspector }
    }

    fn now(&self) -> Millis {
        self.server.app.now()
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        Answer::to(self.http.post(format!("{}{path}", self.server.url)).form(form)).await
    }

    async fn redeem(&self, client: &TestClient, code: &str) -> Answer {
        self.post("/oauth/token", &crate::attacks::hands::code_form(client, code)).await
    }

    async fn refresh(&self, client: &TestClient, token: &str, ask: Ask) -> Answer {
        let mut form =
            vec![("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", &client.id)];
        match ask {
            Ask::Nothing => {}
            Ask::Less(which) => form.push(("scope", NARROWER[which])),
            Ask::More(which) => form.push(("scope", WIDER[which])),
        }
        self.post("/oauth/token", &form).await
    }

    async fn is_active(&self, token: &str) -> bool {
        let request = self.http.post(format!("{}/oauth/introspect", self.server.url));
        let request = request.basic_auth(&self.inspector.id, self.inspector.secret.as_ref());
        Answer::to(request.form(&[("token", token)])).await.json()["active"] == true
    }

    async fn launch(&self, granted: &'static str) -> Case<'_> {
        let browser = self.server.browser();
        let (path, page) = self.server.launch(&self.app).scope(granted).to_consent(&browser).await;
        let csrf = page.hidden("csrf").expect("a form token");
        let (ticked, _) = page.boxes("scope");
        let mut form = vec![("csrf", csrf.as_str()), ("decision", "allow")];
        form.extend(ticked.iter().map(|s| ("scope", s.as_str())));
        let code = back(&browser.post(&path, &form).await, "allow")["code"].clone();
        let answer = self.redeem(&self.app, &code).await;
        let now = self.now();
        let first = RefreshToken { text: None, expires: now + 100 * DAY, used: None };
        let mut model = Model {
            granted,
            session_until: now + SESSION_IDLE,
            ended: false,
            chain: vec![first],
            access: Vec::new(),
        };
        let said = Said::Issued(0, granted);
        assert!(Model::fits(&said, &answer), "{}", answer.text);
        model.learn(&said, &answer, now);
        let token = model.access[0].text.clone();
        let grant = self.server.app.store.read(|tx| access_token::grant_of(tx, &token));
        Case { world: self, browser, code, grant: grant.expect("it is read").expect("a grant"), model }
    }
}

impl Case<'_> {
    fn refresh_token(&self, at: usize) -> &str {
        self.model.chain[at].text.as_deref().expect("every answer told it")
    }

    async fn send(&self, step: Step) -> Answer {
        let World { app, stranger, .. } = self.world;
        let revoke = async |client: &TestClient, token: &str| {
            self.world.post("/oauth/revoke", &[("token", token), ("client_id", &client.id)]).await
        };
        match step {
            Step::Refresh(at, ask) => self.world.refresh(app, self.refresh_token(at), ask).await,
            Step::StolenBy(at) => self.world.refresh(stranger, self.refresh_token(at), Ask::Nothing).await,
            Step::RevokeAccess(at) => revoke(app, &self.model.access[at].text).await,
            Step::RevokeRefresh(at) => revoke(app, self.refresh_token(at)).await,
            Step::RevokedBy(at) => revoke(stranger, self.refresh_token(at)).await,
            Step::RedeemAgain => self.world.redeem(app, &self.code).await,
            Step::RedeemedBy => self.world.redeem(stranger, &self.code).await,
        }
    }

    async fn run(&mut self, op: Op) {
        let now = self.world.now();
        match op {
            Op::Wait(which) => self.world.server.advance(WAITS[which]),
            Op::One(step) => {
                let step = self.model.choose(step);
                let answer = self.send(step).await;
                let said = self.model.apply(step, now);
                assert!(Model::fits(&said, &answer), "{step:?}: not {said:?}: {}", answer.text);
                self.model.learn(&said, &answer, now);
            }
            Op::AtOnce(a, b) => {
                let (a, b) = (self.model.choose(a), self.model.choose(b));
                let answers: (Answer, Answer) = tokio::join!(self.send(a), self.send(b));
                let (mut one, mut other) = (self.model.clone(), self.model.clone());
                let in_order = (one.apply(a, now), one.apply(b, now));
                let turned = (other.apply(b, now), other.apply(a, now));
                let turned = (turned.1, turned.0);
                let fit = |said: &(Said, Said)| {
                    Model::fits(&said.0, &answers.0) && Model::fits(&said.1, &answers.1)
                };
                let said = if fit(&in_order) {
                    self.model = one;
                    in_order
                } else {
                    assert!(
                        fit(&turned),
                        "{a:?} and {b:?}: neither {in_order:?} nor {turned:?}: {answers:?}"
                    );
                    self.model = other;
                    turned
                };
                self.model.learn(&said.0, &answers.0, now);
                self.model.learn(&said.1, &answers.1, now);
            }
            Op::SignOut => {
                let page = self.browser.get("/account").await;
                assert_eq!(page.text.contains("name=\"password\""), !self.model.session_lives(now));
                let csrf = page.hidden("csrf").expect("a form token");
                self.browser.post("/account/sign-out", &[("csrf", &csrf)]).await;
                if self.model.session_lives(now) {
                    self.model.session_until = now;
                    self.model.ended |= self.model.granted == ONLINE;
                }
            }
            Op::Disconnect => {
                // In a browser of its own, so that the session the grant may depend on is left alone.
                let browser = self.world.server.browser();
                let page = browser.get("/account").await;
                browser.sign_in("/account", &page, "maria").await;
                let csrf = browser.get("/account").await.hidden("csrf").expect("a form token");
                let path = format!("/account/disconnect/{}", self.world.app.id);
                let answer = browser.post(&path, &[("csrf", &csrf)]).await;
                assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
                self.model.ended = true;
            }
        }
    }

    /// What must hold after every step, whatever the model thinks of single answers.
    fn check(&self) {
        let now = self.world.now();
        let granted = Scope::list(self.model.granted);
        let checked = self.world.server.app.store.read(|tx| {
            let grant = Grant::find(tx, &self.grant)?.expect("a grant");
            assert_eq!(grant.ended.is_some(), self.model.ended, "the end of the grant");
            assert_eq!(grant.scope, self.model.granted, "what was granted never changes");
            let sql = "SELECT count(*) FROM refresh_tokens WHERE grant_id = $1 AND used_ms IS NULL";
            let unused: Option<i64> = tx.first(sql, hearthgate::params![&self.grant], |row| row.get(0))?;
            assert!(unused <= Some(1), "two families: {unused:?} unused refresh tokens");
            let mut live = 0;
            for (at, token) in self.model.chain.iter().enumerate() {
                let found = refresh::live(tx, self.refresh_token(at), now)?;
                assert_eq!(found.is_some(), self.model.is_live(token, now), "refresh token {at}");
                live += usize::from(found.is_some());
            }
            assert!(live <= usize::from(!self.model.ended), "{live} live families");
            for (at, token) in self.model.access.iter().enumerate() {
                let found = Bearer::find(tx, &token.text, now)?;
                let lives = !self.model.ended && now < token.expires;
                assert_eq!(found.is_ok(), lives, "access token {at}: {:?}", found.as_ref().err());
                let told = Scope::list(token.scope);
                for scope in found.iter().flat_map(|bearer| &bearer.scopes) {
                    assert!(covers(&granted, scope), "{} was not granted", scope.text);
                    assert!(covers(&told, scope), "{} is more than was told", scope.text);
                }
            }
            Ok(())
        });
        checked.expect("it is read");
    }

    /// The same as others see it: introspection, and of an ended grant the refresh of everything it had.
    async fn check_from_outside(&self) {
        let now = self.world.now();
        for (at, token) in self.model.chain.iter().enumerate() {
            let active = self.world.is_active(self.refresh_token(at)).await;
            assert_eq!(active, self.model.is_live(token, now), "refresh token {at} at introspection");
            if self.model.ended {
                let answer = self.world.refresh(&self.world.app, self.refresh_token(at), Ask::Nothing).await;
                assert_eq!(answer.error(), "invalid_grant", "an ended grant: {}", answer.text);
            }
        }
        for token in &self.model.access {
            let active = self.world.is_active(&token.text).await;
            assert_eq!(active, !self.model.ended && now < token.expires, "an access token at introspection");
        }
    }
}

#[test]
fn no_sequence_of_refreshes_replays_and_revocations_leaves_two_live_families_or_a_wider_scope() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::make());
    let other = runtime.block_on(world.server.launch(&world.stranger).scope(OFFLINE).token());
    let bystander = |tx: &Tx<'_>| {
        let id = access_token::grant_of(tx, crate::kit::access(&other))?.expect("a grant");
        Grant::find(tx, &id)
    };
    let config = Config { cases: 100, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
    let sequences = (any::<bool>(), proptest::collection::vec(op(), 1..24));
    let ran = TestRunner::new(config).run(&sequences, |(offline, ops)| {
        runtime.block_on(async {
            let mut case = world.launch(if offline { OFFLINE } else { ONLINE }).await;
            for op in ops {
                case.run(op).await;
                case.check();
            }
            case.check_from_outside().await;
        });
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
    let bystander = world.server.app.store.read(bystander).expect("it is read").expect("a grant");
    assert_eq!(bystander.ended, None, "another app's grant was touched");
}
