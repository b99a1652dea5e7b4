//! Attacks by which key an assertion names, and by what is at the address where an app says its keys are.

use std::time::Duration;

use hearthgate::clock::DAY;
use hearthgate::crypto::Hashed;
use hearthgate::jose::Alg;
use hearthgate::oauth::client::Client;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::hands::*;
use crate::key_server::{KeyServer, Reply};
use crate::kit::TestApp;
use crate::signer::{Signer, new_key, set_of};

async fn refused(signer: &Signer<'_>, assertion: &str, says: &str, case: &str) {
    assert_oauth(&signer.ask(assertion).await, 401, "invalid_client", says, case);
}

#[tokio::test]
async fn a_key_is_named_by_its_kid_and_found_among_the_apps_own_alone() {
    let server = TestApp::start().await;
    let (second, third) = (new_key(Alg::ES384), new_key(Alg::ES256));
    let key = new_key(Alg::ES384);
    let extra = json!({"jwks": set_of(&[&key, &second, &third])});
    let signer = Signer::with(&server, key, extra).await;
    let other = Signer::service(&server).await;
    refused(&signer, &signer.headed("kid", None), "`kid` is missing", "several keys").await;
    for kid in [
        "../../../../etc/passwd",
        "/dev/null",
        "file:///dev/null",
        "https://evil.example/key",
        "' OR 1=1 --",
        "",
        "0",
        &format!("{} ", signer.key.kid),
        &signer.key.kid[..42],
        &third.kid,
        &other.key.kid,
        &"x".repeat(5_000),
    ] {
        refused(&signer, &signer.headed("kid", Some(json!(kid))), "none of the app's keys", kid).await;
    }
    let wrong = signer.headed("kid", Some(json!(second.kid)));
    refused(&signer, &wrong, "did not make", "another of its keys").await;
    for kid in [json!(null), json!(0), json!(true), json!([signer.key.kid]), json!({"kid": signer.key.kid})] {
        let text = signer.headed("kid", Some(kid.clone()));
        refused(&signer, &text, "`kid` is not a text", &kid.to_string()).await;
    }
    assert_eq!(signer.ask(&signer.assertion()).await.status, StatusCode::OK);
    assert_eq!(other.ask(&other.headed("kid", None)).await.status, StatusCode::OK, "one key needs no name");
}

#[tokio::test]
async fn a_key_that_the_sender_brings_or_points_to_is_neither_used_nor_fetched() {
    let server = TestApp::start().await;
    let thief = new_key(Alg::ES384);
    let evil = KeyServer::start(&[&thief]).await;
    let by_value = Signer::service(&server).await;
    let key = new_key(Alg::ES384);
    let own = KeyServer::start(&[&key]).await;
    let by_url = Signer::service_at(&server, key, &own.url).await;
    for signer in [&by_value, &by_url] {
        for jku in [
            json!(evil.url),
            json!(format!("{}#", own.url)),
            json!(format!("{}?x", own.url)),
            json!(own.url.replace("127.0.0.1", "localhost")),
            json!(""),
            json!(null),
            json!(5),
            json!([own.url]),
        ] {
            let text = signer.headed("jku", Some(jku.clone()));
            refused(signer, &text, "`jku` is not", &jku.to_string()).await;
            let mut header = signer.header();
            (header["kid"], header["jku"]) = (json!(thief.kid), jku.clone());
            let stolen = thief.sign_with(&header, &signer.claims()).unwrap();
            refused(signer, &stolen, "`jku` is not", &jku.to_string()).await;
        }
        let certificate = json!(["MIIB"]);
        for (name, value) in [("jwk", thief.jwk().clone()), ("x5u", json!(evil.url)), ("x5c", certificate)] {
            let mut header = signer.header();
            header[name] = value.clone();
            let stolen = thief.sign_with(&header, &signer.claims()).unwrap();
            refused(signer, &stolen, "did not make", name).await;
            header["kid"] = json!(thief.kid);
            let stolen = thief.sign_with(&header, &signer.claims()).unwrap();
            refused(signer, &stolen, "none of the app's keys", name).await;
            let ignored = signer.ask(&signer.headed(name, Some(value))).await;
            assert_eq!(ignored.status, StatusCode::OK, "{name}: {}", ignored.text);
        }
    }
    let jku = by_url.headed("jku", Some(json!(own.url)));
    assert_eq!(by_url.ask(&jku).await.status, StatusCode::OK, "its own address may stand there");
    let jku = by_value.headed("jku", Some(json!(own.url)));
    refused(&by_value, &jku, "`jku` is not", "another app's address").await;
    assert_eq!(evil.requests(), 0, "{}", evil.last());
    assert_eq!(own.last(), "GET /jwks.json application/json");
}

/// What a key server may do wrong, and what is said of it.
type Wrong<'a> = (&'static str, &'static str, Box<dyn FnOnce(&mut Reply) + 'a>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_do_not_come_as_a_plain_json_set_within_time_and_size_are_not_used() {
    let server = TestApp::start().await;
    let key = new_key(Alg::ES384);
    let set = set_of(&[&key]);
    let beyond = KeyServer::start(&[&key]).await;
    let inner = beyond.url.clone();
    let body = |text: String| Box::new(move |reply: &mut Reply| reply.body = text.into_bytes());
    let status = |status: u16| Box::new(move |reply: &mut Reply| reply.status = status);
    let private: Value = json!({"keys": [key.jwk(), {"kty": "EC", "crv": "P-384", "d": "AQ"}]});
    let shared: Value = json!({"keys": [key.jwk(), {"kty": "oct", "k": "AQ"}]});
    let mut padded = set.clone();
    padded["pad"] = json!("x".repeat(10 << 20));
    let many = vec![key.jwk().clone(); 101];
    let redirect = |status: u16| {
        let to = inner.clone();
        Box::new(move |reply: &mut Reply| {
            (reply.status, reply.headers) = (status, vec![("location", to)]);
        })
    };
    let cases: Vec<Wrong<'_>> = vec![
        ("moved", "HTTP status 301", redirect(301)),
        ("found", "HTTP status 302", redirect(302)),
        ("see other", "HTTP status 303", redirect(303)),
        ("for now", "HTTP status 307", redirect(307)),
        ("for good", "HTTP status 308", redirect(308)),
        ("failing", "HTTP status 500", status(500)),
        ("gone", "HTTP status 404", status(404)),
        ("empty", "HTTP status 204", status(204)),
        ("accepted", "HTTP status 202", status(202)),
        ("10 MB", "longer than 256 KB", body(padded.to_string())),
        ("nothing", "not JSON", body(String::new())),
        ("a page", "not JSON", body("<!doctype html>".into())),
        ("nested", "not JSON", body("[".repeat(100_000))),
        ("a list", "not a JWK Set", body(json!([key.jwk()]).to_string())),
        ("one key", "not a JWK Set", body(key.jwk().to_string())),
        ("no keys", "`kid`", body(json!({"keys": []}).to_string())),
        ("101 keys", "more than", body(json!({"keys": many}).to_string())),
        ("a private key beside it", "private", body(private.to_string())),
        ("a shared key beside it", "private", body(shared.to_string())),
        ("twice", "several", body(json!({"keys": [key.jwk(), key.jwk()]}).to_string())),
        ("slow", "in time", Box::new(|reply: &mut Reply| reply.delay = Duration::from_secs(60))),
    ];
    let signer = Signer::service(&server).await;
    let mut servers = Vec::new();
    for (case, says, wrong) in cases {
        let at = KeyServer::start(&[&key]).await;
        at.set(wrong);
        let app = Signer::service_at(&server, new_key(Alg::ES384), &at.url).await.app;
        let (mut claims, mut header) = (signer.claims(), signer.header());
        (claims["iss"], claims["sub"], header["kid"]) = (json!(app.id), json!(app.id), json!(key.kid));
        servers.push((case, says, at, signer.asking(&key.sign_with(&header, &claims).unwrap())));
    }
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for (case, says, at, request) in servers {
        requests.push(request);
        expected.push((case, says, at));
    }
    for (answer, (case, says, at)) in at_once(requests).await.iter().zip(&expected) {
        assert_oauth(answer, 401, "invalid_client", says, case);
        assert!(
            !answer.text.contains(&at.url),
            "{case}: an address is told to whoever asks: {}",
            answer.text
        );
        assert_eq!(at.requests(), 1, "{case}");
    }
    assert_eq!(beyond.requests(), 0, "no redirect was followed");
}

#[tokio::test]
async fn addresses_that_are_no_web_addresses_of_others_are_never_called() {
    let server = TestApp::start().await;
    for url in
        ["file:///etc/passwd", "ftp://a.example/", "data:,{}", "//a.example/", "https://u:p@a.example/"]
    {
        let answer = server
            .try_register(json!({"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": url}))
            .await;
        assert_oauth(&answer, 400, "invalid_client_metadata", "`jwks_uri`", url);
    }
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "http://10.0.0.1/",
        "http://localhost.:1/",
        "http://a.localhost:1/",
        "https://0/",
    ] {
        let signer = Signer::service_at(&server, new_key(Alg::ES384), url).await;
        refused(&signer, &signer.assertion(), "cannot be verified", url).await;
    }
}

#[tokio::test]
async fn production_calls_neither_its_own_machine_nor_plain_http() {
    let sandbox = TestApp::start().await;
    let key = new_key(Alg::ES384);
    let own = KeyServer::start(&[&key]).await;
    let signer = Signer::service_at(&sandbox, key, &own.url).await;
    assert_eq!(signer.ask(&signer.assertion()).await.status, StatusCode::OK, "a sandbox does");
    assert_eq!(own.requests(), 1);
    let Signer { app, key, .. } = signer;
    let id = app.id.clone();
    let kept = sandbox.app.store.read(|tx| Client::find(tx, &id)).unwrap().expect("the app");
    let production = TestApp::start_in_production().await;
    let by_name = own.url.replace("127.0.0.1", "localhost");
    for url in [
        own.url.clone(),
        by_name.clone(),
        own.url.replace("http:", "https:"),
        by_name.replace("http:", "https:"),
        own.url.replace("http:", "https:").replace("127.0.0.1", "[::ffff:127.0.0.1]"),
        own.url.replace("http:", "https:").replace("127.0.0.1", "127.1"),
    ] {
        let mut client = kept.clone();
        client.id = format!("app-{}", url.len());
        client.metadata.jwks_uri = Some(url.clone());
        let id = client.id.clone();
        behind(&production, move |tx| {
            Client::delete(tx, &client.id)?;
            client.insert(tx, &Hashed::of("x"))
        })
        .await;
        let app = crate::kit::TestClient { id, ..app.clone() };
        let key = hearthgate::jose::SigningKey::generate(key.alg).unwrap().0;
        let signer = Signer { server: &production, app, key };
        production.advance(DAY);
        refused(&signer, &signer.assertion(), "cannot be verified", &url).await;
    }
    assert_eq!(own.requests(), 1, "production asked: {}", own.last());
}
