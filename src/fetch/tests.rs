//! What is called and what is not, with small servers on this machine.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that gives every caller the same bytes, and then says nothing more; its URL.
async fn server(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(&answer).await;
                tokio::time::sleep(Duration::from_secs(60)).await;
            });
        }
    });
    url
}

fn http(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn the_sandbox_reaches_its_own_machine_and_production_does_not() {
    let url = server(http("200 OK\r\nCache-Control: max-age=60", "{}")).await;
    let fetched = Fetcher::new(true).unwrap().get_json(&url).await.unwrap();
    assert_eq!((fetched.body.as_slice(), fetched.keep), (&b"{}"[..], 60 * SECOND));
    let production = Fetcher::new(false).unwrap();
    assert!(matches!(production.get_json(&url).await, Err(FetchError::Refused(_))));
    assert!(matches!(production.post_form(&url, &[]).await, Err(FetchError::Refused(_))));
    let by_name = url.replace("127.0.0.1", "localhost").replace("http:", "https:");
    assert!(matches!(production.get_json(&by_name).await, Err(FetchError::Refused(_))), "by its name");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = server(http("200 OK", "{}")).await;
    let url = server(http(&format!("302 Found\r\nLocation: {inner}"), "")).await;
    assert_eq!(Fetcher::new(true).unwrap().get_json(&url).await.unwrap_err(), FetchError::Status(302));
}

#[tokio::test]
async fn ten_megabytes_are_not_read() {
    let url = server(http("200 OK", &"x".repeat(10 << 20))).await;
    assert_eq!(Fetcher::new(true).unwrap().get_json(&url).await.unwrap_err(), FetchError::TooLong);
}

#[tokio::test]
async fn a_server_that_never_finishes_is_given_up() {
    let url = server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_vec()).await;
    assert_eq!(Fetcher::new(true).unwrap().get_json(&url).await.unwrap_err(), FetchError::NoAnswer);
}

#[tokio::test]
async fn only_web_addresses_of_others_are_called() {
    let (sandbox, production) = (Fetcher::new(true).unwrap(), Fetcher::new(false).unwrap());
    for url in [
        "file:///etc/passwd",
        "ftp://a.example/",
        "data:application/json,{}",
        "http://a.example/",
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://0.0.0.0/",
        "https://[::]/",
        "https://255.255.255.255/",
        "https://[fec0::1]/",
        "https://[ff02::1]/",
        "https://[::ffff:0:127.0.0.1]/",
        "https://[64:ff9b:1::7f00:1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[100::1]/",
        "https://[2001::1]/",
        "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
        "https://[2001:db8::1]/",
        "https://[3fff::1]/",
        "https://[2002:a9fe:a9fe::]/",
        "http://localhost./",
        "http://localhost.evil.example/",
        "http://a.localhost/",
        "http://a@127.0.0.1/",
        "https://a.example@8.8.8.8/",
        "https://a:b@8.8.8.8/",
        "https://\u{2100}.example%2f@8.8.8.8/",
        "not a url",
    ] {
        assert!(sandbox.allowed(url).is_err(), "{url}");
        assert!(production.allowed(url).is_err(), "{url}");
    }
    for url in [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://10.1.2.3/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[::7f00:1]/",
        "https://127.1:22/",
        "https://0177.0.0.1/",
        "https://\u{ff11}27.0.0.1/",
        "https://127.0.0.1./",
    ] {
        assert!(sandbox.allowed(url).is_ok(), "{url}");
        assert!(production.allowed(url).is_err(), "{url}");
    }
    assert!(production.allowed("https://a.example/jwks").is_ok());
    assert!(production.allowed("https://8.8.8.8/").is_ok());
    assert!(production.allowed("https://[2606:4700::1111]:8443/").is_ok());
    assert!(production.allowed("https://[2002:808:808::]/").is_ok());
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_this_machine() {
    let url = server(http("200 OK", "{}")).await.replace("http:", "https:");
    let production = Fetcher::new(false).unwrap();
    for name in ["localhost", "localhost.", "LOCALHOST", "%6cocalhost", "\u{24db}ocalhost"] {
        let refused = production.get_json(&url.replace("127.0.0.1", name)).await.unwrap_err();
        // Not every resolver knows every spelling.
        assert!(matches!(refused, FetchError::Refused(_) | FetchError::NoAnswer), "{name}: {refused}");
    }
}

#[test]
fn production_calls_nothing_near() {
    use crate::config::{Mode, Policy};
    assert!(!Policy::from(Mode::Production).calls_near && Policy::from(Mode::Sandbox).calls_near);
}

#[test]
fn nothing_is_kept_longer_than_it_says() {
    for (said, age, keep) in [
        ("", "", KEPT_UNSAID),
        ("public", "", KEPT_UNSAID),
        ("max-age=60", "", 60 * SECOND),
        ("public, Max-Age=\"60\"", "", 60 * SECOND),
        ("max-age = 60", "", 60 * SECOND),
        ("max-age=60, max-age=10", "", 10 * SECOND),
        ("max-age=60, no-store", "", 0),
        ("no-cache", "", 0),
        ("no-cache=\"a\"", "", 0),
        ("max-age=0", "", 0),
        ("max-age=-5", "", 0),
        ("max-age=x", "", 0),
        ("max-age=99999999999999", "", KEPT_LONGEST),
        ("max-age=60", "45", 15 * SECOND),
        ("max-age=60", "60", 0),
        ("max-age=60", "99999999999999", 0),
        ("max-age=60", "1,50", 10 * SECOND),
        ("max-age=60", "x", 0),
        ("max-age=60", "-5", 60 * SECOND),
        ("", "60", KEPT_UNSAID - 60 * SECOND),
    ] {
        assert_eq!(kept(said, age), keep, "{said} {age}");
    }
}
