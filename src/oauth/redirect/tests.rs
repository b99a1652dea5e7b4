//! Which redirects are an app's own.

use super::*;

struct Registered(ApplicationType, &'static str);

impl Registered {
    fn allows(&self, sent: &str) -> bool {
        is_registered(self.1, sent, self.0)
    }
}

fn app(application_type: ApplicationType, redirect: &'static str) -> Registered {
    Registered(application_type, redirect)
}

#[test]
fn a_redirect_is_compared_as_text() {
    let web = app(ApplicationType::Web, "https://app.example/cb");
    assert!(web.allows("https://app.example/cb"));
    for other in [
        "https://app.example/CB",
        "https://APP.example/cb",
        "HTTPS://app.example/cb",
        "https://app.example/cb/",
        "https://app.example/cb?x=1",
        "https://app.example:443/cb",
        "https://app.example/x/%2e%2e/cb",
        "https://app.example\\@evil.example/cb",
        "https://app.example/cb#x",
        "",
    ] {
        assert!(!web.allows(other), "{other}");
    }
}

#[test]
fn only_a_native_app_may_change_the_port_of_a_loopback_address() {
    let native = app(ApplicationType::Native, "http://127.0.0.1/cb");
    assert!(native.allows("http://127.0.0.1:49152/cb"));
    assert!(!native.allows("http://127.0.0.1:99999/cb"), "no such port");
    assert!(!native.allows("http://127.0.0.1:80@evil.example/cb"));
    assert!(!native.allows("http://127.0.0.1.evil.example/cb"));
    assert!(!native.allows("http://localhost:1/cb"));
    assert!(!native.allows("http://0.0.0.0:1/cb"));
    let v6 = app(ApplicationType::Native, "http://[::1]:1/cb");
    assert!(v6.allows("http://[::1]:2/cb"));
    assert!(!app(ApplicationType::Web, "http://127.0.0.1/cb").allows("http://127.0.0.1:1/cb"));
    let localhost = app(ApplicationType::Native, "http://localhost:1/cb");
    assert!(!localhost.allows("http://localhost:2/cb"));
    assert!(!localhost.allows("http://localhost.evil.example:1/cb"));
}

#[test]
fn a_custom_scheme_may_come_back_in_lower_case() {
    let phone = app(ApplicationType::Native, "AsthmaBrain://callback");
    assert!(phone.allows("asthmabrain://callback"));
    assert!(!phone.allows("asthmabrain://CALLBACK"));
    assert!(same("AsthmaBrain://callback", "asthmabrain://callback"));
    assert!(!same("https://a.example", "HTTPS://a.example"));
}
