//! Registration where it is not open: by invitation, and with what the invitation allows.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hearthgate::clock::{Clock, DAY};
use hearthgate::jose::{Alg, SigningKey};
use hearthgate::oauth::client_metadata::Approved;
use hearthgate::oauth::invitation;
use hearthgate::store::db::{Store, Verdict};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, CALLBACK, TestApp};

const NOTHING: Approved = Approved { system: false, sign_in_only: false, introspect_all: false };
const ALL: Approved = Approved { system: true, sign_in_only: true, introspect_all: true };

async fn invite(server: &TestApp, approved: Approved, uses: u32) -> String {
    let (now, chance) = (server.app.now(), server.app.chance.clone());
    let made = server.app.store.write(move |tx| {
        invitation::make(tx, approved, uses, now, now + 7 * DAY, &chance).map(Verdict::Commit)
    });
    made.await.expect("it is made").reveal()
}

async fn register(server: &TestApp, token: &str, extra: Value) -> Answer {
    let mut sent = json!({"redirect_uris": [CALLBACK]});
    sent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Answer::to(server.request(Method::POST, "/oauth/register").bearer_auth(token).json(&sent)).await
}

fn service() -> Value {
    let key = SigningKey::generate(Alg::ES384).expect("a key").0.jwk().clone();
    json!({
        "redirect_uris": [], "grant_types": ["client_credentials"], "scope": "system/*.rs",
        "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [key]},
    })
}

#[tokio::test]
async fn nobody_registers_an_app_in_production_without_an_invitation() {
    let server = TestApp::start_in_production().await;
    let refused = server.try_register(json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"hearthgate\"");
    let words = refused.json()["error_description"].as_str().unwrap().to_owned();
    assert!(words.contains("hearthgate app invite") && words.contains("Authorization: Bearer"), "{words}");
    let page = server.browser().get("/apps/new").await;
    assert!(page.status == StatusCode::FORBIDDEN && page.text.contains("by invitation"), "{}", page.text);
    for token in ["", "made-up", "hg_invite_made-up"] {
        let answer = register(&server, token, json!({})).await;
        assert_eq!((answer.status, answer.error().as_str()), (StatusCode::UNAUTHORIZED, "invalid_token"));
        assert!(answer.header("www-authenticate").starts_with("Bearer "));
    }
}

#[tokio::test]
async fn an_invitation_is_good_for_so_many_apps_and_so_long() {
    let server = TestApp::start_in_production().await;
    let token = invite(&server, NOTHING, 2).await;
    let wrong = register(&server, &token, json!({"redirect_uris": ["http://intranet.example/cb"]})).await;
    assert_eq!(wrong.error(), "invalid_redirect_uri", "http beyond loopback; and this use is not counted");
    for _ in 0..2 {
        assert_eq!(register(&server, &token, json!({})).await.status, StatusCode::CREATED);
    }
    assert_eq!(register(&server, &token, json!({})).await.status, StatusCode::UNAUTHORIZED, "used up");
    let late = invite(&server, NOTHING, 1).await;
    server.advance(7 * DAY);
    assert_eq!(register(&server, &late, json!({})).await.status, StatusCode::UNAUTHORIZED, "too old");
}

#[tokio::test]
async fn of_many_registrations_at_once_with_one_invitation_one_succeeds() {
    let server = TestApp::start_in_production().await;
    let token = invite(&server, NOTHING, 1).await;
    let sending: Vec<_> = (0..16)
        .map(|_| {
            let request = server.request(Method::POST, "/oauth/register").bearer_auth(&token);
            tokio::spawn(Answer::to(request.json(&json!({"redirect_uris": [CALLBACK]}))))
        })
        .collect();
    let mut registered = 0;
    for answer in sending {
        registered += i32::from(answer.await.expect("an answer").status == StatusCode::CREATED);
    }
    assert_eq!(registered, 1);
}

#[tokio::test]
async fn what_needs_approval_is_registered_only_where_the_invitation_allows_it() {
    let server = TestApp::start_in_production().await;
    let secret = |extra: Value| {
        let mut sent = json!({"token_endpoint_auth_method": "client_secret_basic"});
        sent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        sent
    };
    for (field, sent, allowed) in [
        ("scope", service(), Approved { system: true, ..NOTHING }),
        ("sign_in_only", secret(json!({"sign_in_only": true})), Approved { sign_in_only: true, ..NOTHING }),
        ("introspect", secret(json!({"introspect": "all"})), Approved { introspect_all: true, ..NOTHING }),
    ] {
        let all_but = Approved {
            system: !allowed.system,
            sign_in_only: !allowed.sign_in_only,
            introspect_all: !allowed.introspect_all,
        };
        for approved in [NOTHING, all_but] {
            let token = invite(&server, approved, 1).await;
            let answer = register(&server, &token, sent.clone()).await;
            assert_eq!(answer.error(), "invalid_client_metadata", "{field}: {}", answer.text);
            let words = answer.json()["error_description"].as_str().unwrap().to_owned();
            assert!(words.contains(field) && words.contains("approval"), "{words}");
        }
        let token = invite(&server, allowed, 1).await;
        let answer = register(&server, &token, sent).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{field}: {}", answer.text);
    }
    let token = invite(&server, ALL, 1).await;
    let answer = register(&server, &token, json!({"no_pkce": true})).await;
    assert_eq!(answer.error(), "invalid_client_metadata", "that is for the sandbox, whoever allows it");
}

#[tokio::test]
async fn what_was_approved_stays_with_the_app_and_does_not_grow() {
    let server = TestApp::start_in_production().await;
    let token = invite(&server, Approved { system: true, ..NOTHING }, 1).await;
    let registered = register(&server, &token, service()).await.json();
    let id = registered["client_id"].as_str().unwrap().to_owned();
    let manage = registered["registration_access_token"].as_str().unwrap().to_owned();
    let put = |change: Value| {
        let mut body = service();
        body["client_id"] = json!(id);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let at = format!("/oauth/register/{id}");
        Answer::to(server.request(Method::PUT, &at).bearer_auth(&manage).json(&body))
    };
    let changed = put(json!({"scope": "system/Patient.rs", "client_name": "Export"})).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!(put(json!({"scope": "system/*.cruds"})).await.status, StatusCode::OK);
    for more in [json!({"introspect": "all"}), json!({"sign_in_only": true})] {
        assert_eq!(put(more.clone()).await.error(), "invalid_client_metadata", "{more}");
    }
    let browser = server.browser();
    browser.get(&format!("/apps/{id}?manage={manage}")).await;
    let edit = format!("/apps/{id}/edit");
    let csrf = browser.get(&edit).await.hidden("csrf").expect("a form token");
    let jwks = service()["jwks"].to_string();
    let form = [
        ("csrf", csrf.as_str()),
        ("client_name", "Export"),
        ("token_endpoint_auth_method", "private_key_jwt"),
        ("grant_types", "client_credentials"),
        ("jwks", &jwks),
        ("scope", "system/Observation.rs"),
    ];
    let saved = browser.post(&edit, &form).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.text);
    let more: Vec<_> = form.into_iter().chain([("introspect", "all")]).collect();
    assert_eq!(browser.post(&edit, &more).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn the_sandbox_needs_no_invitation_and_takes_no_wrong_one() {
    let server = TestApp::start().await;
    assert_eq!(server.try_register(service()).await.status, StatusCode::CREATED);
    assert_eq!(register(&server, "made-up", json!({})).await.status, StatusCode::UNAUTHORIZED);
    let token = invite(&server, NOTHING, 1).await;
    assert_eq!(register(&server, &token, json!({})).await.status, StatusCode::CREATED);
    assert_eq!(register(&server, &token, json!({})).await.status, StatusCode::UNAUTHORIZED, "used up");
}

struct Database(PathBuf);

impl Drop for Database {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(self.0.parent().expect("a folder")));
    }
}

fn database(name: &str) -> Database {
    let folder = std::env::temp_dir().join(format!("hearthgate-test-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir(&folder).expect("a folder");
    Database(folder.join("h.db"))
}

fn hearthgate(database: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthgate"));
    command.arg("app").args(words).arg("--database").arg(database).output().expect("it runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_command_line_invites_and_only_the_hash_is_kept() {
    let database = database("invite");
    let missing = hearthgate(&database.0, &["invite"]);
    assert!(!missing.status.success() && text(&missing).contains("no such file"), "{}", text(&missing));
    assert!(!database.0.exists(), "a mistyped name makes no database");
    let store = Store::open(database.0.to_str().unwrap()).expect("a store");

    let invited =
        hearthgate(&database.0, &["invite", "--allow", "system", "--allow", "introspect-all", "--uses", "2"]);
    assert!(invited.status.success(), "{}", text(&invited));
    let token = String::from_utf8(invited.stdout).unwrap();
    assert!(token.starts_with("hg_invite_") && token.lines().count() == 1, "it can be piped");
    let find =
        |days: i64| store.read(|tx| invitation::find(tx, token.trim(), Clock::System.now() + days * DAY));
    let found = find(6).expect("it is read").expect("it is kept");
    assert_eq!(found.approved, Approved { sign_in_only: false, ..ALL });
    assert!(find(7).expect("it is read").is_none(), "seven days unless said otherwise");
    let kept: Vec<String> = store
        .read(|tx| tx.all("SELECT hash FROM invitations ORDER BY hash", &[], |row| row.get(0)))
        .expect("it is read");
    assert!(!kept[0].contains(token.trim()) && !token.contains(&kept[0]));
    for wrong in [["--uses", "0"], ["--days", "0"], ["--allow", "everything"]] {
        assert!(!hearthgate(&database.0, &["invite", wrong[0], wrong[1]]).status.success(), "{wrong:?}");
    }
}

#[tokio::test]
async fn the_command_line_lists_and_deletes_apps_beside_a_running_server() {
    let database = database("delete");
    let server = TestApp::start_on(Store::open(database.0.to_str().unwrap()).expect("a store")).await;
    let (kept, gone) =
        (server.register(json!({})).await, server.register(json!({"client_name": "Gone"})).await);
    let token = server.launch(&gone).token().await;
    let list = text(&hearthgate(&database.0, &["list"]));
    assert!(list.contains(&kept.id) && list.contains(&gone.id) && list.contains("Gone"), "{list}");
    let deleted = hearthgate(&database.0, &["delete", &gone.id]);
    assert!(deleted.status.success() && text(&deleted).contains("Gone"), "{}", text(&deleted));
    let read = server.fhir(crate::kit::access(&token), "Patient/patient-maria").await;
    assert_eq!(read.status, StatusCode::UNAUTHORIZED);
    let again = hearthgate(&database.0, &["delete", &gone.id]);
    assert!(!again.status.success() && text(&again).contains("no app has the client_id"));
    let list = text(&hearthgate(&database.0, &["list"]));
    assert!(list.contains(&kept.id) && !list.contains(&gone.id), "{list}");
}
