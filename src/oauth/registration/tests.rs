//! What can be registered, and what is told of everything else.

use serde_json::json;

use super::*;
use crate::config::Mode;

fn checked(sent: &Value, mode: Mode) -> Result<Metadata, Vec<FieldError>> {
    check(sent.as_object().unwrap(), &Policy::from(mode), Approved::default())
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

fn with(extra: Value) -> Result<Metadata, Vec<FieldError>> {
    let mut sent = json!({"redirect_uris": ["https://a.example"]});
    sent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    checked(&sent, Mode::Sandbox)
}

/// The fields that are wrong.
fn wrong(extra: Value) -> Vec<&'static str> {
    with(extra).map_or_else(|errors| errors.iter().map(|e| e.field).collect(), |_| Vec::new())
}

fn key(kid: &str) -> Value {
    let (key, _) = crate::jose::SigningKey::generate(Alg::ES384).unwrap();
    let mut jwk = key.jwk().clone();
    jwk["kid"] = json!(kid);
    jwk
}

#[test]
fn keys_come_by_value_or_by_address_and_are_public_and_told_apart() {
    let by = |extra: Value| {
        let mut sent = json!({"token_endpoint_auth_method": "private_key_jwt"});
        sent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        wrong(sent)
    };
    let (one, mut private) = (key("a"), key("b"));
    private["d"] = json!("AQ");
    assert!(by(json!({"jwks": {"keys": [one, key("b")]}})).is_empty());
    assert!(by(json!({"jwks": json!({"keys": [one]}).to_string()})).is_empty(), "as a form sends it");
    assert!(by(json!({"jwks_uri": "https://a.example/jwks"})).is_empty());
    assert_eq!(by(json!({})), ["jwks"]);
    assert_eq!(by(json!({"jwks": {"keys": [one]}, "jwks_uri": "https://a.example/jwks"})), ["jwks_uri"]);
    for set in [
        json!({"keys": []}),
        json!({}),
        json!("not JSON"),
        json!([one]),
        json!({"keys": [one, one]}),
        json!({"keys": [private]}),
        json!({"keys": [{"kty": "oct", "k": "AQ"}]}),
    ] {
        assert_eq!(by(json!({"jwks": set})), ["jwks"], "{set}");
    }
    for uri in ["file:///etc/passwd", "javascript:alert(1)", "gopher://a.example", "https://u:p@a.example/"] {
        assert!(by(json!({"jwks_uri": uri})).contains(&"jwks_uri"), "{uri}");
    }
    assert_eq!(
        wrong(json!({"token_endpoint_auth_signing_alg": "RS384"})),
        ["token_endpoint_auth_signing_alg"]
    );
}

#[test]
fn a_backend_service_proves_itself_with_a_key_and_names_system_scopes() {
    let service = |extra: Value| {
        let mut sent = json!({
            "redirect_uris": [],
            "grant_types": ["client_credentials"],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [key("a")]},
            "scope": "system/*.rs",
        });
        sent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        sent
    };
    let registered = with(service(json!({}))).unwrap();
    assert_eq!(registered.grant_types, [GrantType::ClientCredentials]);
    assert!(registered.redirect_uris.is_empty() && registered.response_types.is_empty());
    assert_eq!(wrong(service(json!({"scope": null}))), ["scope"]);
    assert_eq!(wrong(service(json!({"scope": "patient/*.rs"}))), ["scope"]);
    assert_eq!(wrong(service(json!({"token_endpoint_auth_method": "client_secret_basic"}))), ["grant_types"]);
    assert_eq!(wrong(json!({"scope": "system/*.rs"})), ["scope"], "without client_credentials");
    let Value::Object(sent) = service(json!({})) else { unreachable!() };
    let errors = check(&sent, &Policy::from(Mode::Production), Approved::default()).unwrap_err();
    assert!(errors.iter().any(|e| e.field == "scope" && e.words.contains("approval")));
}

#[test]
fn the_exemptions_from_pkce_are_closed() {
    assert_eq!(wrong(json!({"sign_in_only": true})), ["sign_in_only"], "a public app");
    let confidential = json!({"sign_in_only": true, "token_endpoint_auth_method": "client_secret_post"});
    let scope = with(confidential.clone()).unwrap().scope;
    assert!(scope.contains("openid") && !scope.contains('/') && !scope.contains("_access"), "{scope}");
    let production = |mut sent: Value| {
        sent["redirect_uris"] = json!(["https://a.example"]);
        checked(&sent, Mode::Production).unwrap_err()[0].field
    };
    assert_eq!(production(confidential), "sign_in_only");
    assert!(with(json!({"no_pkce": true})).unwrap().no_pkce);
    assert_eq!(production(json!({"no_pkce": true})), "no_pkce");
}

#[test]
fn every_other_field_is_checked_too() {
    let good = json!({
        "client_uri": "https://a.example", "policy_uri": "https://a.example/p", "tos_uri": "https://a.example/t",
        "contacts": ["dev@a.example"], "software_id": "s", "software_version": "1", "subject_type": "public",
        "default_max_age": 60, "post_logout_redirect_uris": ["https://a.example/bye"],
        "backchannel_logout_uri": "https://a.example/out", "backchannel_logout_session_required": true,
        "require_pushed_authorization_requests": true, "dpop_bound_access_tokens": "on",
    });
    let kept = json!(with(good.clone()).unwrap());
    for (name, value) in good.as_object().unwrap() {
        match name.as_str() {
            "subject_type" => {}
            "dpop_bound_access_tokens" => assert_eq!(kept[name], json!(true)),
            _ => assert_eq!(&kept[name], value, "{name}"),
        }
    }
    for (name, value) in [
        ("client_uri", json!("javascript:alert(1)")),
        ("policy_uri", json!(5)),
        ("tos_uri", json!("not a URI")),
        ("contacts", json!("dev@a.example")),
        ("contacts", json!(["evil\u{202e}"])),
        ("software_id", json!("a".repeat(201))),
        ("software_version", json!("1\u{0}")),
        ("subject_type", json!("pairwise")),
        ("default_max_age", json!(-1)),
        ("post_logout_redirect_uris", json!(["https://a.example/#x"])),
        ("backchannel_logout_uri", json!("ftp://a.example")),
        ("backchannel_logout_session_required", json!("perhaps")),
        ("require_pushed_authorization_requests", json!(1)),
        ("dpop_bound_access_tokens", json!("yes")),
        ("response_types", json!(["token"])),
        ("jwks", json!({"keys": [{"kty": "oct", "k": "AQ"}]})),
    ] {
        assert_eq!(wrong(json!({name: value})), [name], "{value}");
    }
}
