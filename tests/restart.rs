//! What was answered is durable: the server is killed in the middle of exchanges, and started again.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearthgate::crypto::sha256_base64url;
use hearthgate::store::db::Verdict;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::kit::{CALLBACK, TestApp, VERIFIER};

/// A server in a process of its own.
pub struct Process {
    child: Child,
    pub issuer: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts over `database`; `listen` is kept the same over restarts, since it is the issuer.
    pub fn start(database: &Path, listen: &str) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hearthgate"))
            .args(["serve", "--ready-json", "--listen", listen, "--database"])
            .arg(database)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let ready: Value = serde_json::from_str(&line).expect("it is ready");
        assert_eq!(ready["pid"], json!(child.id()));
        Process { child, issuer: ready["issuer"].as_str().expect("an issuer").to_owned() }
    }

    /// SIGKILL: no goodbye.
    fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it is gone");
    }
}

/// A folder of its own for a test, removed with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("hearthgate-test-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// One launch by plain HTTP, as far as the code.
async fn code(issuer: &str, client: &str) -> Option<String> {
    let stay_here = Policy::custom(|attempt| match attempt.url().host_str() {
        Some("127.0.0.1") => attempt.follow(),
        _ => attempt.stop(),
    });
    let http = Client::builder().cookie_store(true).redirect(stay_here).build().ok()?;
    let challenge = sha256_base64url(VERIFIER.as_bytes());
    let query = [
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("scope", "openid fhirUser patient/*.rs"),
        ("state", "s"),
        ("aud", &format!("{issuer}/fhir")),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let page = http.get(format!("{issuer}/oauth/authorize")).query(&query).send().await.ok()?;
    let path = page.url().to_string();
    let csrf = hidden(&page.text().await.ok()?)?;
    let form = [("csrf", csrf.as_str()), ("username", "maria"), ("password", "hearth")];
    let page = http.post(&path).form(&form).send().await.ok()?.text().await.ok()?;
    let csrf = hidden(&page)?;
    let form = [
        ("csrf", csrf.as_str()),
        ("decision", "allow"),
        ("scope", "openid"),
        ("scope", "fhirUser"),
        ("scope", "patient/*.rs"),
    ];
    let led =
        http.post(&path).form(&form).send().await.ok()?.headers().get("location")?.to_str().ok()?.to_owned();
    let led = url::Url::parse(&led).ok()?;
    led.query_pairs().find(|(n, _)| n == "code").map(|(_, v)| v.into_owned())
}

fn hidden(page: &str) -> Option<String> {
    page.split("name=\"csrf\" value=\"").nth(1)?.split('"').next().map(str::to_owned)
}

async fn exchange(issuer: &str, client: &str, code: &str) -> Option<(StatusCode, Value)> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", client),
    ];
    let answer = Client::new().post(format!("{issuer}/oauth/token")).form(&form).send().await.ok()?;
    let status = answer.status();
    Some((status, answer.json().await.ok()?))
}

async fn read_patient(issuer: &str, token: &str) -> StatusCode {
    let url = format!("{issuer}/fhir/Patient/patient-maria");
    Client::new().get(url).bearer_auth(token).send().await.expect("an answer").status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_middle_of_exchanges_keeps_every_token_it_answered_and_every_code_used() {
    let folder = Folder::new("kill");
    let database = folder.0.join("hearthgate.db");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut server = Process::start(&database, &free);
    let issuer = server.issuer.clone();
    let registered: Value = Client::new()
        .post(format!("{issuer}/oauth/register"))
        .json(&json!({"redirect_uris": [CALLBACK]}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let client = registered["client_id"].as_str().unwrap().to_owned();
    let jwks = Client::new().get(format!("{issuer}/oauth/jwks")).send().await.unwrap().text().await.unwrap();
    // Every code, and the token that was answered for it, over all rounds.
    let answered: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    for round in 1..=3 {
        let before = answered.lock().unwrap().len();
        let mut codes = Vec::new();
        for _ in 0..12 {
            codes.push(code(&issuer, &client).await.expect("a code"));
        }
        let mut exchanges = Vec::new();
        for code in codes {
            let (issuer, client, answered) = (issuer.clone(), client.clone(), answered.clone());
            exchanges.push(tokio::spawn(async move {
                if let Some((StatusCode::OK, token)) = exchange(&issuer, &client, &code).await {
                    let token = token["access_token"].as_str().expect("a token").to_owned();
                    answered.lock().unwrap().insert(code, token);
                }
            }));
        }
        // Some exchanges have their answer, the others are on their way.
        while answered.lock().unwrap().len() < before + round {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        server.kill();
        for exchange in exchanges {
            drop(exchange.await);
        }
        server = Process::start(&database, &free);
        let now_dead: Vec<(String, String)> =
            answered.lock().unwrap().iter().map(|(c, t)| (c.clone(), t.clone())).collect();
        for (_, token) in &now_dead {
            assert_eq!(read_patient(&issuer, token).await, StatusCode::OK, "a token that was answered works");
        }
    }
    let answered = answered.lock().unwrap().clone();
    assert!(!answered.is_empty(), "no exchange came through before the kill; the test shows nothing");
    for (code, token) in answered {
        let (status, body) = exchange(&issuer, &client, &code).await.expect("an answer");
        assert_eq!(
            (status, &body["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_grant")),
            "a used code stays used"
        );
        assert_eq!(
            read_patient(&issuer, &token).await,
            StatusCode::UNAUTHORIZED,
            "and its reuse ends the grant"
        );
    }
    let after = Client::new().get(format!("{issuer}/oauth/jwks")).send().await.unwrap().text().await.unwrap();
    assert_eq!(jwks, after, "signing keys survive restarts");
}

#[tokio::test]
async fn a_database_refuses_another_master_key_rather_than_making_new_keys() {
    let folder = Folder::new("key");
    let database = folder.0.join("hearthgate.db");
    drop(Process::start(&database, "127.0.0.1:0"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.0.join("hearthgate.db.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "the key file is its owner's alone");
    std::fs::remove_file(folder.0.join("hearthgate.db.key")).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_hearthgate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(&database)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("is missing") && said.contains("put it back"),
        "{said}"
    );
}

#[tokio::test]
async fn an_index_made_by_another_version_is_made_anew_at_the_next_start() {
    let first = TestApp::start().await;
    let search = "/open/fhir/Observation?patient=patient-maria&category=laboratory&_summary=count";
    let found = first.get(search).await.json()["total"].clone();
    assert!(found.as_i64().unwrap() > 0);
    first
        .app
        .store
        .write(|tx| {
            tx.execute("UPDATE settings SET value = '0' WHERE name = 'index_version'", &[])?;
            tx.execute("DELETE FROM index_token", &[])?;
            tx.execute("UPDATE index_reference SET target = 'no' || target", &[])?;
            Ok(Verdict::Commit(()))
        })
        .await
        .unwrap();
    assert_eq!(first.get(search).await.json()["total"], json!(0));
    let second = TestApp::start_on(first.app.store.clone()).await;
    assert_eq!(second.get(search).await.json()["total"], found);
}

#[tokio::test]
async fn the_signing_keys_are_the_same_for_every_start_over_one_store() {
    let first = TestApp::start().await;
    let jwks = first.get("/oauth/jwks").await.json();
    let second = TestApp::start_on(first.app.store.clone()).await;
    assert_eq!(jwks, second.get("/oauth/jwks").await.json());
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 3);
    assert!(jwks.to_string().find("\"d\"").is_none(), "no private half");
}
