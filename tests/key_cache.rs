//! How long an app's published keys are used, and how often its server is asked, to the millisecond.

use std::time::Duration;

use hearthgate::clock::{MINUTE, SECOND};
use hearthgate::jose::{Alg, SigningKey};
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::attacks::hands::{assert_oauth, at_once};
use crate::key_server::KeyServer;
use crate::kit::TestApp;
use crate::signer::{Signer, new_key};

/// A service whose keys are at an address of its own.
async fn service<'a>(server: &'a TestApp) -> (Signer<'a>, KeyServer) {
    let key = new_key(Alg::ES384);
    let keys = KeyServer::start(&[&key]).await;
    (Signer::service_at(server, key, &keys.url).await, keys)
}

async fn good(signer: &Signer<'_>, case: &str) {
    let answer = signer.ask(&signer.assertion()).await;
    assert_eq!(answer.status, StatusCode::OK, "{case}: {}", answer.text);
}

async fn refused(signer: &Signer<'_>, assertion: &str, says: &str) {
    assert_oauth(&signer.ask(assertion).await, 401, "invalid_client", says, says);
}

/// An assertion of the app by a key that its server does not publish.
fn unknown(signer: &Signer<'_>) -> String {
    signer.headed("kid", Some(json!("nobody's")))
}

/// The same app with another key.
fn turned<'a>(signer: &Signer<'a>, key: SigningKey) -> Signer<'a> {
    Signer { server: signer.server, app: signer.app.clone(), key }
}

#[tokio::test]
async fn keys_are_used_for_as_long_as_their_server_says_and_no_longer() {
    let server = TestApp::start().await;
    for (said, age, keep) in [
        ("max-age=60", "", 60 * SECOND),
        ("public, max-age=60, must-revalidate", "", 60 * SECOND),
        ("max-age=60", "45", 15 * SECOND),
        ("max-age = 60", "", 60 * SECOND),
        ("public", "", 5 * MINUTE),
    ] {
        let (signer, keys) = service(&server).await;
        keys.cache_control(said);
        if !age.is_empty() {
            keys.set(|reply| reply.headers.push(("age", age.into())));
        }
        good(&signer, said).await;
        server.advance(keep - 1);
        good(&signer, said).await;
        assert_eq!(keys.requests(), 1, "{said} {age}: still kept");
        server.advance(1);
        good(&signer, said).await;
        assert_eq!(keys.requests(), 2, "{said} {age}: asked again");
    }
    for (said, age) in [
        ("no-store", ""),
        ("no-cache", ""),
        ("max-age=0", ""),
        ("max-age=60, no-store", ""),
        ("max-age=9", "9"),
    ] {
        let (signer, keys) = service(&server).await;
        keys.cache_control(said);
        keys.set(|reply| reply.headers.push(("age", if age.is_empty() { "0" } else { age }.into())));
        for times in 1..=3 {
            good(&signer, said).await;
            assert_eq!(keys.requests(), times, "{said}: asked each time");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_no_longer_published_stops_with_the_kept_set() {
    let server = TestApp::start().await;
    let (signer, keys) = service(&server).await;
    keys.cache_control("max-age=60");
    good(&signer, "the first").await;
    let next = new_key(Alg::ES384);
    keys.publish(&[&next]);
    good(&signer, "it is still kept").await;
    server.advance(60 * SECOND);
    refused(&signer, &signer.assertion(), "none of the app's keys").await;
    good(&turned(&signer, next), "the next").await;
}

#[tokio::test]
async fn a_new_key_works_at_its_first_use_although_the_old_set_is_kept() {
    let server = TestApp::start().await;
    let (signer, keys) = service(&server).await;
    keys.cache_control("max-age=3600");
    good(&signer, "the old").await;
    let next = new_key(Alg::ES256);
    keys.publish(&[&signer.key, &next]);
    let next = turned(&signer, next);
    good(&next, "the new").await;
    good(&signer, "the old beside it").await;
    assert_eq!(keys.requests(), 2, "one question for the new key");
}

#[tokio::test]
async fn an_unknown_key_makes_this_server_ask_once_in_half_a_minute() {
    let server = TestApp::start().await;
    let (signer, keys) = service(&server).await;
    keys.cache_control("max-age=3600");
    good(&signer, "first").await;
    for _ in 0..5 {
        refused(&signer, &unknown(&signer), "none of the app's keys").await;
    }
    assert_eq!(keys.requests(), 2, "one question more");
    good(&signer, "the known key meanwhile").await;
    server.advance(30 * SECOND - 1);
    refused(&signer, &unknown(&signer), "none of the app's keys").await;
    assert_eq!(keys.requests(), 2, "not before half a minute is over");
    server.advance(1);
    refused(&signer, &unknown(&signer), "none of the app's keys").await;
    assert_eq!(keys.requests(), 3);
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_for_half_a_minute_and_the_kept_keys_stay_good() {
    let server = TestApp::start().await;
    let (signer, keys) = service(&server).await;
    keys.set(|reply| reply.status = 500);
    for _ in 0..3 {
        refused(&signer, &signer.assertion(), "HTTP status 500").await;
    }
    assert_eq!(keys.requests(), 1);
    keys.set(|reply| reply.status = 200);
    server.advance(30 * SECOND - 1);
    refused(&signer, &signer.assertion(), "HTTP status 500").await;
    server.advance(1);
    good(&signer, "after the pause").await;
    assert_eq!(keys.requests(), 2);
    keys.set(|reply| reply.status = 500);
    refused(&signer, &unknown(&signer), "HTTP status 500").await;
    good(&signer, "what is kept is good until its time is over").await;
    server.advance(5 * MINUTE);
    refused(&signer, &signer.assertion(), "HTTP status 500").await;
    assert_eq!(keys.requests(), 4, "nothing is used beyond its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_first_uses_at_once_one_asks_and_all_have_the_answer() {
    let server = TestApp::start().await;
    for said in ["max-age=60", "no-store"] {
        let (signer, keys) = service(&server).await;
        keys.cache_control(said);
        keys.set(|reply| reply.delay = Duration::from_millis(700));
        let answers = at_once((0..32).map(|_| signer.asking(&signer.assertion())).collect()).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK), "{said}");
        // Where nothing may be kept, whoever came after the question went out needs an answer of their own.
        let most = if said == "no-store" { 2 } else { 1 };
        assert!((1..=most).contains(&keys.requests()), "{said}: {} questions", keys.requests());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_holds_up_neither_other_apps_nor_the_keys_that_are_known() {
    let server = TestApp::start().await;
    let (slow, slow_keys) = service(&server).await;
    slow_keys.cache_control("max-age=3600");
    good(&slow, "while it is quick").await;
    slow_keys.set(|reply| reply.delay = Duration::from_secs(3));
    let (other, _others_keys) = service(&server).await;
    let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(slow.asking(&unknown(&slow)).send())).collect();
    while slow_keys.requests() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let quick = tokio::time::timeout(Duration::from_secs(2), async {
        good(&slow, "a key that is known").await;
        good(&other, "another app").await;
    });
    quick.await.expect("nobody waits for the slow server but who needs its answer");
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(slow_keys.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_its_asker_walks_away_from_is_still_answered() {
    let server = TestApp::start().await;
    let (signer, keys) = service(&server).await;
    keys.cache_control("max-age=3600");
    good(&signer, "first").await;
    let next = new_key(Alg::ES384);
    keys.publish(&[&signer.key, &next]);
    keys.set(|reply| reply.delay = Duration::from_millis(500));
    // A stranger makes the server ask, and hangs up at once: the one forced question must not be lost.
    let body = signer.asking(&unknown(&signer)).build().unwrap();
    let body = String::from_utf8(body.body().unwrap().as_bytes().unwrap().to_vec()).unwrap();
    let to = server.url.strip_prefix("http://").unwrap();
    let mut stranger = tokio::net::TcpStream::connect(to).await.unwrap();
    let request = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stranger.write_all(request.as_bytes()).await.unwrap();
    while keys.requests() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stranger);
    tokio::time::sleep(Duration::from_millis(100)).await;
    good(&turned(&signer, next), "the new key").await;
    assert_eq!(keys.requests(), 2);
}
