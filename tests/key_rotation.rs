//! Signing keys turn without anybody noticing: published before they sign, kept after, made without holding the
//! start up (`oauth/keys.rs`).

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearthgate::clock::{Chance, DAY, Millis};
use hearthgate::config::{ID_TOKEN_LIFE, PUBLISHED_MAX_AGE};
use hearthgate::crypto::MasterKey;
use hearthgate::jose::Alg;
use hearthgate::oauth::keys::{KEPT_AFTER, Kept, KeyError, Keys, LEAD, Turn};
use hearthgate::server::look_after_keys;
use hearthgate::store::db::Store;
use openidconnect::JsonWebKey;
use openidconnect::core::{CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use serde_json::{Value, json};

use crate::attacks::hands::audited;
use crate::kit::{NOW, TestApp, TestClient};
use crate::restart::{Folder, Process};

async fn signed_with(server: &TestApp, alg: Alg) -> TestClient {
    server.register(json!({"id_token_signed_response_alg": alg.as_str()})).await
}

async fn id_token(server: &TestApp, client: &TestClient) -> String {
    let token = server.launch(client).scope("openid").token().await;
    token["id_token"].as_str().expect("an id_token").to_owned()
}

fn header(jwt: &str) -> Value {
    let header = jwt.split('.').next().expect("a header");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).expect("base64url")).expect("JSON")
}

fn kid(jwt: &str) -> String {
    header(jwt)["kid"].as_str().expect("a kid").to_owned()
}

async fn jwks(server: &TestApp) -> Value {
    server.get("/oauth/jwks").await.json()
}

/// The kids of an algorithm, in the order of the set.
fn kids(jwks: &Value, alg: Alg) -> Vec<String> {
    let keys = jwks["keys"].as_array().expect("keys").iter().filter(|key| key["alg"] == alg.as_str());
    keys.map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

/// Whether a relying party that holds this set accepts the signature.
fn verifies(jwks: &Value, jwt: &str) -> bool {
    let set: CoreJsonWebKeySet = serde_json::from_value(jwks.clone()).expect("a JWK Set");
    let header = header(jwt);
    let alg: CoreJwsSigningAlgorithm = serde_json::from_value(header["alg"].clone()).expect("an algorithm");
    let (signed, signature) = jwt.rsplit_once('.').expect("a signature");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let key = set.keys().iter().find(|key| key.key_id().is_some_and(|id| id.as_str() == header["kid"]));
    key.is_some_and(|key| key.verify_signature(&alg, signed.as_bytes(), &signature).is_ok())
}

/// Gives every algorithm a new key, as the command does.
async fn rotate(server: &TestApp, turn: Turn) {
    jwks(server).await; // which waits for the first ones
    for alg in Alg::OURS {
        let (app, now) = (server.app.clone(), server.app.now());
        let made = tokio::task::spawn_blocking(move || app.keys.make(alg, turn, now)).await.unwrap();
        assert!(made.expect("a key").is_some(), "{} was not rotated", alg.as_str());
    }
}

fn kept(server: &TestApp) -> i64 {
    let count = "SELECT count(*) FROM signing_keys";
    server.app.store.read(|tx| tx.first(count, &[], |row| row.get(0))).unwrap().unwrap()
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs_and_the_old_one_as_long_as_its_tokens_live() {
    const { assert!(LEAD >= PUBLISHED_MAX_AGE && KEPT_AFTER >= ID_TOKEN_LIFE + PUBLISHED_MAX_AGE) };
    for alg in Alg::OURS {
        let server = TestApp::start().await;
        let client = signed_with(&server, alg).await;
        let first = id_token(&server, &client).await;
        let held = server.get("/oauth/jwks").await;
        assert_eq!(held.header("cache-control"), "public, max-age=300");
        assert_eq!(kids(&held.json(), alg), [kid(&first)], "one key to begin with");

        rotate(&server, Turn::InTime).await;
        let both = jwks(&server).await;
        let [old, new] = kids(&both, alg).try_into().expect("two keys");
        assert_eq!(old, kid(&first), "the one that signs comes first");
        server.advance(LEAD - 1);
        let last = id_token(&server, &client).await;
        assert_eq!(kid(&last), old, "until everybody can know the new one");
        server.advance(1);
        let next = id_token(&server, &client).await;
        assert_eq!(kid(&next), new);
        assert!(verifies(&both, &next), "who fetched the set before knows the key");
        assert!(!verifies(&held.json(), &next), "that the test can fail");
        let turned = jwks(&server).await;
        assert_eq!(kids(&turned, alg), [new.clone(), old.clone()]);

        server.advance(ID_TOKEN_LIFE);
        look_after_keys(&server.app).await.unwrap();
        let set = jwks(&server).await;
        for token in [&first, &last, &next] {
            assert!(verifies(&set, token), "{}", kid(token));
        }
        server.advance(KEPT_AFTER - ID_TOKEN_LIFE - 1);
        assert_eq!(kids(&jwks(&server).await, alg).len(), 2);
        server.advance(1);
        assert_eq!(kids(&jwks(&server).await, alg), [new], "nothing it signed is valid any more");
        assert_eq!(kept(&server), 6, "not yet removed");
        look_after_keys(&server.app).await.unwrap();
        assert_eq!((kept(&server), audited(&server, "key_made"), audited(&server, "key_removed")), (3, 6, 3));
    }
}

#[tokio::test]
async fn keys_turn_by_themselves_after_their_time_and_only_once() {
    let server = TestApp::start().await;
    let client = signed_with(&server, Alg::ES256).await;
    let before = jwks(&server).await;
    let look = async || {
        look_after_keys(&server.app).await.expect("it goes well");
        jwks(&server).await
    };
    server.advance(90 * DAY - 1);
    assert_eq!(look().await, before, "not before their time");
    server.advance(1);
    let (app, now) = (server.app.clone(), server.app.now());
    tokio::task::spawn_blocking(move || app.keys.look_after(None, now)).await.unwrap().unwrap();
    assert_eq!(jwks(&server).await, before, "never, where that was set");
    let after = look().await;
    for alg in Alg::OURS {
        assert_eq!(kids(&after, alg).len(), 2, "{}", alg.as_str());
        assert_eq!(kids(&after, alg)[..1], kids(&before, alg), "{}", alg.as_str());
    }
    assert_eq!(look().await, after, "while one waits, no other is made");
    server.advance(LEAD);
    assert_eq!(kid(&id_token(&server, &client).await), kids(&after, Alg::ES256)[1]);
    server.advance(KEPT_AFTER);
    let alone = look().await;
    assert_eq!((alone["keys"].as_array().unwrap().len(), kept(&server)), (3, 3));
    server.advance(90 * DAY - LEAD - KEPT_AFTER);
    assert_eq!(look().await, alone, "the time of the new one is counted from when it signs");
    server.advance(LEAD + KEPT_AFTER);
    assert_eq!(look().await["keys"].as_array().unwrap().len(), 6, "and so on");
}

#[tokio::test]
async fn a_key_in_the_wrong_hands_is_gone_at_once_with_the_one_that_waited() {
    let server = TestApp::start().await;
    let client = signed_with(&server, Alg::RS256).await;
    let stolen = id_token(&server, &client).await;
    rotate(&server, Turn::InTime).await;
    let before = jwks(&server).await;
    rotate(&server, Turn::AtOnce).await;
    let after = jwks(&server).await;
    assert_eq!(after["keys"].as_array().unwrap().len(), 3);
    for alg in Alg::OURS {
        assert!(kids(&before, alg).iter().all(|old| !kids(&after, alg).contains(old)), "{}", alg.as_str());
    }
    assert!(!verifies(&after, &stolen), "what the stolen key signs is worth nothing");
    assert!(verifies(&after, &id_token(&server, &client).await), "the new key signs at once");
    assert_eq!((kept(&server), audited(&server, "key_revoked")), (3, 6));
}

#[tokio::test]
async fn of_many_rotations_at_once_one_counts() {
    let server = TestApp::start().await;
    jwks(&server).await;
    let now = server.app.now();
    let tries = (0..8).map(|_| {
        let app = server.app.clone();
        tokio::task::spawn_blocking(move || app.keys.make(Alg::ES256, Turn::InTime, now).unwrap().is_some())
    });
    let mut made = 0;
    for one in tries.collect::<Vec<_>>() {
        made += usize::from(one.await.unwrap());
    }
    assert_eq!((made, kids(&jwks(&server).await, Alg::ES256).len()), (1, 2));
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_rotation_changes_nothing() {
    let first = TestApp::start().await;
    rotate(&first, Turn::InTime).await;
    let set = jwks(&first).await;
    let second = TestApp::start_on(first.app.store.clone()).await;
    let client = signed_with(&second, Alg::RS256).await;
    assert_eq!(jwks(&second).await, set);
    assert_eq!(kid(&id_token(&second, &client).await), kids(&set, Alg::RS256)[0]);
    second.advance(LEAD);
    assert_eq!(kid(&id_token(&second, &client).await), kids(&set, Alg::RS256)[1], "its time came");
    assert_eq!(kept(&second), 6);
}

fn load(store: &Store) -> Keys {
    let master = MasterKey::new(&Chance::seeded(7));
    Keys::load(store.clone(), master, Chance::seeded(8)).expect("the right master key")
}

/// Whether it is still waited for after a moment.
async fn waits<T>(answer: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(30), answer).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_does_not_wait_for_its_rsa_key_but_who_needs_it_does() {
    let store = Store::open(":memory:").unwrap();
    let mut keys = load(&store);
    let begin = |keys: &mut Keys| tokio::task::block_in_place(|| keys.begin(NOW)).expect("it begins");
    let unmade = begin(&mut keys).expect("one is left to make");
    for alg in [Alg::ES256, Alg::ES384] {
        assert!(keys.signing(alg, NOW).await.is_ok(), "{} is there", alg.as_str());
    }
    assert!(waits(keys.signing(Alg::RS256, NOW)).await && waits(keys.jwks(NOW)).await);
    drop(unmade);
    // The maker died: nobody waits for it for ever, and half a JWK Set is not shown.
    assert!(matches!(keys.signing(Alg::RS256, NOW).await, Err(KeyError::None("RS256"))));
    assert!(matches!(keys.jwks(NOW).await, Err(KeyError::None("RS256"))));
    drop(keys);

    let mut keys = load(&store);
    let unmade = begin(&mut keys).expect("the next start makes it");
    let keys = std::sync::Arc::new(keys);
    let (waiting, making) = (keys.clone(), keys.clone());
    let waiting = tokio::spawn(async move { waiting.jwks(NOW).await.expect("it came") });
    assert!(waits(keys.jwks(NOW)).await);
    tokio::task::spawn_blocking(move || making.make_missing(unmade, NOW)).await.unwrap().unwrap();
    let set = waiting.await.unwrap();
    assert_eq!(set["keys"][0]["alg"], "RS256");
    assert_eq!(kids(&set, Alg::RS256), [keys.signing(Alg::RS256, NOW).await.unwrap().kid.clone()]);
    assert!(begin(&mut load(&store)).is_none(), "nothing is left to make");
}

#[tokio::test]
async fn the_first_id_token_of_a_new_server_is_signed_with_rs256() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let token = id_token(&server, &client).await;
    assert_eq!(header(&token)["alg"], "RS256");
    assert!(verifies(&jwks(&server).await, &token));
}

#[test]
fn keys_open_with_their_own_master_key_only() {
    let store = Store::open(":memory:").unwrap();
    load(&store).begin(NOW).unwrap();
    let other = MasterKey::new(&Chance::seeded(9));
    assert!(matches!(Keys::load(store.clone(), other, Chance::seeded(8)), Err(KeyError::Crypto(_))));
    let swap = "UPDATE signing_keys SET sealed = (SELECT sealed FROM signing_keys WHERE alg = 'ES384')
                WHERE alg = 'ES256'";
    let swapped = |tx: &hearthgate::store::db::Tx<'_>| {
        tx.execute(swap, &[]).map(hearthgate::store::db::Verdict::Commit)
    };
    store.write_blocking(swapped).unwrap();
    let master = MasterKey::new(&Chance::seeded(7));
    assert!(Keys::load(store, master, Chance::seeded(8)).is_err(), "a key in another's row");
}

fn command(database: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthgate"));
    command.args(["keys", "--database"]).arg(database).args(args).output().expect("it runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[tokio::test]
async fn the_command_rotates_the_keys_of_a_running_server() {
    let folder = Folder::new("rotate");
    let database = folder.0.join("hearthgate.db");
    let server = Process::start(&database, "127.0.0.1:0");
    let jwks = async || {
        let answer = reqwest::get(format!("{}/oauth/jwks", server.issuer)).await.expect("an answer");
        answer.json::<Value>().await.expect("a JWK Set")
    };
    let all = |set: &Value| Alg::OURS.map(|alg| kids(set, alg)).concat();
    let before = jwks().await;
    let list = said(&command(&database, &["list"]));
    assert!(all(&before).iter().all(|kid| list.contains(kid)) && list.contains("signs since"), "{list}");

    let wrong = Command::new(env!("CARGO_BIN_EXE_hearthgate"))
        .args(["keys", "rotate", "--now", "--database"])
        .arg(&database)
        .env("HEARTHGATE_KEY", MasterKey::new(&Chance::seeded(1)).to_text())
        .output()
        .unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("another master key"));
    assert!(!command(&database, &["rotate", "--alg", "HS256"]).status.success());
    assert_eq!(jwks().await, before, "a refused rotation changes nothing");

    assert!(
        said(&command(&database, &["rotate", "--alg", "ES384"])).contains("is published, and signs from")
    );
    assert_eq!(jwks().await["keys"].as_array().unwrap().len(), 4, "at once, without a restart");
    let told = said(&command(&database, &["rotate"]));
    assert!(told.contains("ES384: nothing was done"), "{told}");
    let both = jwks().await;
    assert_eq!(both["keys"].as_array().unwrap().len(), 6);
    let list = said(&command(&database, &["list"]));
    assert_eq!((list.matches("signs until").count(), list.matches("next: signs from").count()), (3, 3));

    let told = said(&command(&database, &["rotate", "--now"]));
    assert!(told.contains("signs from now on") && told.contains("What this means"), "{told}");
    let after = jwks().await;
    assert!(
        after["keys"].as_array().unwrap().len() == 3 && all(&after).iter().all(|k| !all(&both).contains(k))
    );
}

#[tokio::test]
async fn the_private_half_never_leaves() {
    let server = TestApp::start().await;
    rotate(&server, Turn::InTime).await;
    let public = ["alg", "crv", "e", "kid", "kty", "n", "use", "x", "y"];
    for key in jwks(&server).await["keys"].as_array().unwrap() {
        assert!(key.as_object().unwrap().keys().all(|name| public.contains(&name.as_str())), "{key}");
    }
    let sealed = "SELECT sealed FROM signing_keys ORDER BY kid";
    let rows: Vec<String> = server.app.store.read(|tx| tx.all(sealed, &[], |row| row.get(0))).unwrap();
    let name = MasterKey::new(&Chance::seeded(7)).name();
    for row in &rows {
        let (by, body) = row.split_once('.').expect("a sealed value");
        let body = URL_SAFE_NO_PAD.decode(body).expect("base64url");
        // Every PKCS#8 key names its algorithm by an object id, which begins so.
        assert!(
            by == name
                && !body.windows(4).any(|w| w == [0x06, 0x07, 0x2a, 0x86] || w == [0x06, 0x09, 0x2a, 0x86])
        );
    }
    let now: Millis = server.app.now();
    let shown = format!("{:?}", server.app.store.read(|tx| Kept::published(tx, now)).unwrap());
    assert!(rows.iter().all(|row| !shown.contains(row)), "not even sealed: {shown}");
}

#[test]
fn the_command_makes_no_database_by_a_slip_of_the_pen() {
    let folder = Folder::new("slip");
    let database = folder.0.join("hearthgate.bd");
    for args in [&["list"][..], &["rotate"], &["rotate", "--now"]] {
        let refused = command(&database, args);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && words.contains("no such file"), "{words}");
    }
    drop(Store::open(&database.display().to_string()).unwrap());
    let refused = command(&database, &["rotate"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no signing keys yet"));
    assert!(!folder.0.join("hearthgate.bd.key").exists(), "nor a master key");
}
