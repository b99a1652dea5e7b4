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
    ] {
        assert!(sandbox.allowed(url).is_ok(), "{url}");
        assert!(production.allowed(url).is_err(), "{url}");
    }
    assert!(production.allowed("https://a.example/jwks").is_ok());
    assert!(production.allowed("https://8.8.8.8/").is_ok());
}

#[test]
fn nothing_is_kept_longer_than_it_says() {
    for (said, keep) in [
        ("", KEPT_UNSAID),
        ("public", KEPT_UNSAID),
        ("max-age=60", 60 * SECOND),
        ("public, Max-Age=\"60\"", 60 * SECOND),
        ("max-age=60, max-age=10", 10 * SECOND),
        ("max-age=60, no-store", 0),
        ("no-cache", 0),
        ("max-age=0", 0),
        ("max-age=-5", 0),
        ("max-age=x", 0),
        ("max-age=99999999999999", KEPT_LONGEST),
    ] {
        assert_eq!(kept(said), keep, "{said}");
    }
}
