//! What can be registered, and what is told of everything else.

use serde_json::json;

use super::*;
use crate::config::Mode;

fn checked(sent: &Value, mode: Mode) -> Result<Metadata, Vec<FieldError>> {
    check(sent.as_object().unwrap(), &Policy::from(mode))
}

fn redirect(uri: &str, mode: Mode) -> bool {
    checked(&json!({"redirect_uris": [uri], "application_type": "native"}), mode).is_ok()
}

#[test]
fn only_redirects_that_lead_to_one_app_can_be_registered() {
    for uri in [
        "javascript:alert(1)",
        "JavaScript://x",
        "data:text/html,x",
        "file:///etc/passwd",
        "https://a.example/#x",
        "https://a.example/cb#",
        "https://u:p@a.example",
        "https://u@a.example",
        "https://@a.example",
        "https:///a.example/cb",
        "https:a.example/cb",
        "https://*.a.example",
        "https://a.example\\@evil.example/",
        "http://0.0.0.0:1/cb",
        "/relative",
        "",
        "https://",
        "https://a.example/ b",
        "https://a.example/\u{e9}",
    ] {
        assert!(!redirect(uri, Mode::Sandbox), "{uri}");
    }
    for uri in [
        "https://a.example/cb?x=1",
        "http://127.0.0.1/cb",
        "http://[::1]/cb",
        "AsthmaBrain://callback",
        "com.example.app:/cb",
    ] {
        assert!(redirect(uri, Mode::Production), "{uri}");
    }
}

#[test]
fn http_beyond_loopback_is_for_the_sandbox_only() {
    assert!(redirect("http://intranet.example/cb", Mode::Sandbox));
    assert!(!redirect("http://intranet.example/cb", Mode::Production));
    assert!(!redirect("http://localhost.evil.example/cb", Mode::Production));
}

#[test]
fn a_thousand_redirects_and_none_are_refused() {
    let many: Vec<String> = (0..1_000).map(|n| format!("https://a.example/{n}")).collect();
    assert_eq!(
        checked(&json!({"redirect_uris": many}), Mode::Sandbox).unwrap_err()[0].field,
        "redirect_uris"
    );
    assert_eq!(checked(&json!({}), Mode::Sandbox).unwrap_err()[0].field, "redirect_uris");
    assert!(checked(&json!({"redirect_uris": "https://a.example"}), Mode::Sandbox).is_err());
}

#[test]
fn no_scope_means_all_that_a_person_can_grant_and_never_system() {
    let scope = |extra: Value| {
        let mut sent = json!({"redirect_uris": ["https://a.example"]});
        sent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        checked(&sent, Mode::Sandbox).unwrap().scope
    };
    let plain = scope(json!({}));
    assert!(plain.contains("patient/*.cruds") && !plain.contains("system/") && !plain.contains("offline"));
    assert!(
        scope(json!({"grant_types": ["authorization_code", "refresh_token"]})).contains("offline_access")
    );
}

#[test]
fn every_mistake_is_told_at_its_field() {
    let errors = checked(
        &json!({
            "redirect_uris": ["https://a.example"],
            "client_name": "evil\u{202e}name",
            "scope": "openid oidc system/*.rs offline_access",
            "access_token_life": 0,
            "logo_uri": "javascript:alert(1)",
            "token_endpoint_auth_method": "tls_client_auth",
        }),
        Mode::Sandbox,
    )
    .unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|e| e.field).collect();
    for field in ["client_name", "scope", "access_token_life", "logo_uri", "token_endpoint_auth_method"] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    assert!(errors.iter().any(|e| e.words.contains("did you mean `openid`")));
    assert!(errors.iter().any(|e| e.words.contains("enable them too")));
}

#[test]
fn a_life_is_at_least_a_second_in_the_sandbox_and_a_minute_in_production() {
    let life = |seconds: Value, mode| {
        checked(&json!({"redirect_uris": ["https://a.example"], "access_token_life": seconds}), mode)
            .map(|m| m.access_token_life)
    };
    assert_eq!(life(json!(1), Mode::Sandbox), Ok(Some(1)));
    assert_eq!(life(json!("30"), Mode::Sandbox), Ok(Some(30)));
    assert!(life(json!(1), Mode::Production).is_err());
    assert!(life(json!(1.5), Mode::Sandbox).is_err());
    assert!(life(json!(100_000), Mode::Sandbox).is_err());
}
