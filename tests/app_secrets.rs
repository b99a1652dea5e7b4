//! Two live secrets of an app, so that one can be renewed without a moment in which none works.

use hearthgate::clock::{DAY, MINUTE};
use reqwest::StatusCode;

use crate::apps::{client, code, register};
use crate::kit::{Answer, Browser, TestApp};

/// Makes a new secret by form; answers with it and the page that shows it.
async fn renew(browser: &Browser<'_>, id: &str) -> (String, Answer) {
    let path = format!("/apps/{id}/secret");
    let page = browser.get(&path).await;
    let answer = browser.post(&path, &[("csrf", &page.hidden("csrf").unwrap())]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let (_, shown) = browser.settle(answer).await;
    (code(&shown, "client_secret").expect("a secret"), shown)
}

/// Whether a code can be exchanged with that secret.
async fn works(server: &TestApp, id: &str, secret: &str) -> bool {
    let client = client(id.to_owned(), Some(secret.to_owned()));
    let code = server.launch(&client).code().await;
    let answer = server.exchange(&client, &code).await;
    assert!(answer.status == StatusCode::OK || answer.error() == "invalid_client", "{}", answer.text);
    answer.status == StatusCode::OK
}

const CONFIDENTIAL: [(&str, &str); 1] = [("token_endpoint_auth_method", "client_secret_basic")];

#[tokio::test]
async fn a_new_secret_leaves_the_former_one_live_and_ends_any_before_it() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (shown, id) = register(&browser, &CONFIDENTIAL).await;
    let first = code(&shown, "client_secret").expect("a secret");
    let (second, _) = renew(&browser, &id).await;
    assert!(works(&server, &id, &first).await && works(&server, &id, &second).await, "both work");
    let warned = browser.get(&format!("/apps/{id}/secret")).await;
    assert!(warned.text.contains("The former one, which still works, stops working at once"));
    let (third, _) = renew(&browser, &id).await;
    assert!(!works(&server, &id, &first).await, "at most two live");
    assert!(works(&server, &id, &second).await && works(&server, &id, &third).await);
}

#[tokio::test]
async fn the_former_secret_is_ended_by_form_and_the_newer_one_stays() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (shown, id) = register(&browser, &CONFIDENTIAL).await;
    let first = code(&shown, "client_secret").expect("a secret");
    server.advance(2 * DAY + 5 * MINUTE);
    let (second, shown) = renew(&browser, &id).await;
    for words in ["1 November 2026 at 12:00 UTC", "3 November 2026 at 12:05 UTC", "End the former secret"] {
        assert!(shown.text.contains(words), "{words}");
    }
    let path = format!("/apps/{id}/secret/end");
    let page = browser.get(&path).await;
    assert!(page.text.contains("1 November 2026 at 12:00 UTC"), "it says which one");
    let (csrf, number) = (page.hidden("csrf").unwrap(), page.hidden("number").unwrap());
    let form = [("csrf", csrf.as_str()), ("number", number.as_str())];
    let stranger = server.browser().post(&path, &form).await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN);
    assert_eq!(
        browser.post(&path, &[("number", &number)]).await.status,
        StatusCode::FORBIDDEN,
        "no form token"
    );
    assert_eq!(browser.post(&path, &[("csrf", &csrf)]).await.status, StatusCode::BAD_REQUEST, "no number");
    assert!(works(&server, &id, &first).await, "nothing was done yet");

    assert_eq!(browser.post(&path, &form).await.status, StatusCode::SEE_OTHER);
    assert!(!works(&server, &id, &first).await && works(&server, &id, &second).await);
    let shown = browser.get(&format!("/apps/{id}")).await;
    assert!(!shown.text.contains("End the former secret"), "there is none");
    assert_eq!(browser.get(&path).await.status, StatusCode::SEE_OTHER, "nothing to end");
    for number in ["1", "2", "3"] {
        browser.post(&path, &[("csrf", csrf.as_str()), ("number", number)]).await;
    }
    assert!(works(&server, &id, &second).await, "the last one cannot be ended");
}

#[tokio::test]
async fn an_old_page_does_not_end_a_secret_that_was_made_after_it() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (_, id) = register(&browser, &CONFIDENTIAL).await;
    let (second, _) = renew(&browser, &id).await;
    let path = format!("/apps/{id}/secret/end");
    let page = browser.get(&path).await;
    let (third, _) = renew(&browser, &id).await;
    let form = [("csrf", page.hidden("csrf").unwrap()), ("number", page.hidden("number").unwrap())];
    browser.post(&path, &form.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    assert!(works(&server, &id, &second).await && works(&server, &id, &third).await);
}

#[tokio::test]
async fn an_app_without_secrets_gets_none_by_form() {
    let server = TestApp::start().await;
    let browser = server.browser();
    let (_, id) = register(&browser, &[]).await;
    let path = format!("/apps/{id}/secret");
    let csrf = browser.get(&path).await.hidden("csrf").unwrap();
    assert_eq!(browser.post(&path, &[("csrf", &csrf)]).await.status, StatusCode::FORBIDDEN);
    assert!(!browser.get(&format!("/apps/{id}")).await.text.contains("Make a new secret"));
}
