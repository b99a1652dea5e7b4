//! Attacks on the authorization endpoint and the pages behind it.

use hearthgate::clock::DAY;
use hearthgate::server;
use reqwest::StatusCode;
use serde_json::json;

use super::hands::*;
use crate::kit::{CALLBACK, Launch, TestApp, TestClient, access};

async fn start() -> (TestApp, TestClient) {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    (server, client)
}

#[tokio::test]
async fn an_unknown_app_gets_a_page_and_no_redirect() {
    let (server, client) = start().await;
    for id in ["no-such-app", "", "<script>alert(1)</script>", &format!("{}x", client.id)] {
        let answer = server.launch(&client).with("client_id", id).answer().await;
        assert_page(&answer, 400, "client_id", id);
    }
    assert_page(&server.launch(&client).without("client_id").answer().await, 400, "client_id", "absent");
}

#[tokio::test]
async fn a_repeated_parameter_is_refused_by_its_name() {
    let (server, client) = start().await;
    for name in ["client_id", "redirect_uri"] {
        for again in [client.id.as_str(), CALLBACK, "https://evil.example/", ""] {
            let answer = server.launch(&client).and(name, again).answer().await;
            assert_page(&answer, 400, name, again);
        }
    }
    let once = [
        ("response_type", "code"),
        ("scope", "openid"),
        ("aud", "https://evil.example/fhir"),
        ("code_challenge", "x"),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in once {
        let answer = server.launch(&client).and(name, value).answer().await;
        assert_back(&server, &answer, "invalid_request", &format!("`{name}`"), name);
        let by_post = post_launch(&server, &server.launch(&client).and(name, value)).await;
        assert_back(&server, &by_post, "invalid_request", &format!("`{name}`"), name);
    }
    for name in ["nonce", "prompt", "max_age", "login_hint", "display", "launch"] {
        let answer = server.launch(&client).and(name, "1").and(name, "1").answer().await;
        assert_back(&server, &answer, "invalid_request", &format!("`{name}`"), name);
    }
    let states = server.launch(&client).and("state", "another").answer().await;
    let params = back(&states, "state");
    assert_eq!(params["error"], "invalid_request");
    assert!(params["error_description"].contains("`state`"), "{params:?}");
    assert_eq!(params.get("state"), None, "which of the two could it be?");
}

#[tokio::test]
async fn only_the_code_flow_is_served() {
    let (server, client) = start().await;
    for other in ["token", "code token", "id_token", "code id_token", "id_token token", "none", "CODE"] {
        let answer = server.launch(&client).with("response_type", other).answer().await;
        assert_back(&server, &answer, "unsupported_response_type", "response_type=code", other);
    }
    for launch in
        [server.launch(&client).without("response_type"), server.launch(&client).with("response_type", "")]
    {
        assert_back(
            &server,
            &launch.answer().await,
            "invalid_request",
            "`response_type` is missing",
            "absent",
        );
    }
}

#[tokio::test]
async fn no_app_goes_without_pkce() {
    let server = TestApp::start().await;
    for method in ["none", "client_secret_basic", "client_secret_post"] {
        let client = server.register(json!({"token_endpoint_auth_method": method})).await;
        for launch in [
            server.launch(&client).without("code_challenge"),
            server.launch(&client).with("code_challenge", ""),
            server.launch(&client).without("code_challenge").without("code_challenge_method"),
            server.launch(&client).without("code_challenge").scope("openid").without("aud"),
        ] {
            assert_back(&server, &launch.answer().await, "invalid_request", "`code_challenge`", method);
        }
    }
}

#[tokio::test]
async fn pkce_is_s256_and_nothing_else() {
    let (server, client) = start().await;
    for method in ["plain", "s256", "S256 ", "S512", "none"] {
        let answer = server.launch(&client).with("code_challenge_method", method).answer().await;
        assert_back(&server, &answer, "invalid_request", "`code_challenge_method` must be `S256`", method);
    }
    for launch in [
        server.launch(&client).without("code_challenge_method"),
        server.launch(&client).with("code_challenge_method", ""),
    ] {
        assert_back(&server, &launch.answer().await, "invalid_request", "`code_challenge_method`", "absent");
    }
}

#[tokio::test]
async fn a_challenge_is_43_base64url_characters() {
    let (server, client) = start().await;
    let all = |c: &str, n| c.repeat(n);
    let last = |c: &str| all("a", 42) + c;
    let wrong = [
        all("a", 42),
        all("a", 44),
        all("a", 129),
        last("+"),
        last("/"),
        last("="),
        last("\u{e9}"),
        last(" "),
        last("~"),
    ];
    for challenge in wrong {
        let answer = server.launch(&client).with("code_challenge", &challenge).answer().await;
        assert_back(&server, &answer, "invalid_request", "43", &challenge);
    }
}

#[tokio::test]
async fn a_state_is_needed_and_echoed_byte_for_byte_up_to_its_limit() {
    let (server, client) = start().await;
    for launch in [server.launch(&client).without("state"), server.launch(&client).with("state", "")] {
        let params = back(&launch.answer().await, "no state");
        assert_eq!(params["error"], "invalid_request");
        assert!(params["error_description"].contains("`state`"));
        assert_eq!(params.get("state"), None);
    }
    let identity = server.launch(&client).scope("openid fhirUser").without("state").answer().await;
    assert_goes_on(&server, &identity, "identity scopes with PKCE");

    let odd = "a b+c%20%&=#?;\"\\<script>\r\n\0\u{e9}\u{1f525}";
    let longest = format!("{odd}{}", "x".repeat(8 * 1024 - odd.len()));
    let params = back(&server.launch(&client).with("state", &longest).decide("allow").await, "8 KB");
    assert_eq!(params["state"], longest);
    assert!(params.contains_key("code"));
    let refused =
        server.launch(&client).with("state", &longest).with("response_type", "token").answer().await;
    assert_eq!(back(&refused, "an error")["state"], longest);

    let params =
        back(&server.launch(&client).with("state", &format!("{longest}x")).answer().await, "over 8 KB");
    assert_eq!(params["error"], "invalid_request");
    assert!(params["error_description"].contains("`state`"));
    assert_eq!(params.get("state"), None, "half a state is none");
}

#[tokio::test]
async fn aud_must_be_this_server() {
    let (server, client) = start().await;
    let base = server.fhir_base();
    for launch in [server.launch(&client).without("aud"), server.launch(&client).with("aud", "")] {
        assert_back(&server, &launch.answer().await, "invalid_request", "`aud` is missing", "absent");
    }
    let others = [
        "https://evil.example/fhir".to_owned(),
        format!("{base}//"),
        format!("{base}/Patient"),
        format!("{}/FHIR", server.url),
        format!("{}/open/fhir", server.url),
        format!("{base}?x"),
        format!("{base} https://evil.example"),
        server.url.clone(),
    ];
    for other in &others {
        let answer = server.launch(&client).with("aud", other).answer().await;
        assert_back(&server, &answer, "invalid_request", "`aud`", other);
        let two = server.launch(&client).and("resource", other).answer().await;
        assert_back(&server, &two, "invalid_request", "`aud`", other);
        let two = server
            .launch(&client)
            .without("aud")
            .and("resource", &base)
            .and("resource", other)
            .answer()
            .await;
        assert_back(&server, &two, "invalid_request", "`aud`", other);
        let foreign = server.launch(&client).scope("openid").with("aud", other).answer().await;
        assert_back(&server, &foreign, "invalid_request", "`aud`", other);
    }
    for same in [base.clone(), format!("{base}/")] {
        assert_goes_on(&server, &server.launch(&client).with("aud", &same).answer().await, &same);
    }
    let resource = server.launch(&client).without("aud").with("resource", &base).answer().await;
    assert_goes_on(&server, &resource, "RFC 8707");
}

#[tokio::test]
async fn a_scope_no_app_would_send_is_refused_before_it_is_read() {
    let (server, client) = start().await;
    let many: Vec<String> = (0..5_000).map(|n| format!("s{n}")).collect();
    let many_short: Vec<String> = (0..501).map(|n| format!("s{n}")).collect();
    let cases = [
        ("100 KB", "patient/*.rs".repeat(8_000)),
        ("5,000 items", many.join(" ")),
        ("501 items", many_short.join(" ")),
        ("NUL", "openid\0patient/*.rs".into()),
        ("a quote", "openid \"patient/*.rs\"".into()),
        ("a backslash", "openid patient\\*.rs".into()),
        ("a letter beyond ASCII", "openid pat\u{456}ent/*.rs".into()),
        ("a tab", "openid\tpatient/*.rs".into()),
        ("nothing", " ".into()),
        ("no word of it known", "foo bar".into()),
    ];
    for (case, scope) in cases {
        let answer = post_launch(&server, &server.launch(&client).scope(&scope)).await;
        assert_back(&server, &answer, "invalid_scope", "scope", case);
        assert!(answer.location().len() < 4_000, "{case}: the answer is long too");
    }
}

#[tokio::test]
async fn a_scope_that_is_not_understood_is_left_out_and_never_widened() {
    let (server, client) = start().await;
    let odd = [
        "patient/*.cruds?_id=",
        "patient/*.rs?category=laboratory",
        "patient/Observation.rs?code:in=http://loinc.org",
        "patient/Observation.rs?nosuch=x",
        "patient/Observation.rs?category=",
        "patient/Observation.rs?",
        "patient/Observation.rs?category=laboratory&category=vital-signs",
        "patient/Observation.sr",
        "patient/Observation.rrs",
        "patient/Observation.",
        "patient/Observation.rs.rs",
        "Patient/Observation.rs",
        "patient/observation.rs",
        "patient/*",
        "patient/Observation.read,write",
    ];
    for scope in odd {
        let alone = server.launch(&client).scope(scope).answer().await;
        assert_back(&server, &alone, "invalid_scope", scope.split('"').next().unwrap(), scope);
        let token =
            server.launch(&client).scope(&format!("openid patient/Condition.r {scope}")).token().await;
        assert_eq!(token["scope"], "openid patient/Condition.r", "{scope}");
        let read = server.fhir(access(&token), "Observation/maria-bp-2025-03-12").await;
        assert_outcome(&read, 403, "patient/Observation.r", scope);
    }
}

#[tokio::test]
async fn a_person_cannot_grant_system_scopes() {
    let (server, client) = start().await;
    for scope in ["system/*.*", "system/*.cruds", "system/Patient.r", "system/*.read"] {
        let alone = server.launch(&client).scope(scope).answer().await;
        assert_back(&server, &alone, "invalid_scope", scope, scope);
        let token = server.launch(&client).scope(&format!("patient/Patient.r {scope}")).token().await;
        assert_eq!(token["scope"], "patient/Patient.r", "{scope}");
        let other = server.fhir(access(&token), "Patient/patient-amara").await;
        assert_outcome(&other, 404, "Patient/patient-amara", scope);
        let registered = server.try_register(json!({"scope": format!("openid {scope}")})).await;
        assert_oauth(&registered, 400, "invalid_client_metadata", scope, scope);
    }
}

#[tokio::test]
async fn prompt_none_shows_no_page_and_grants_nothing() {
    let (server, client) = start().await;
    let asked = server.launch(&client).with("prompt", "none");
    assert_back(&server, &asked.answer().await, "login_required", "prompt=none", "nobody");
    let maria = signed_in(&server, &client, "maria").await;
    assert_back(&server, &maria.get(&asked.address()).await, "consent_required", "prompt=none", "maria");
    let ruth = signed_in(&server, &client, "ruth").await;
    assert_back(&server, &ruth.get(&asked.address()).await, "interaction_required", "prompt=none", "ruth");
    for prompt in ["none login", "login none", "none none", "NONE", "evil"] {
        let answer = maria.get(&server.launch(&client).with("prompt", prompt).address()).await;
        assert_back(&server, &answer, "invalid_request", "`prompt", prompt);
    }
}

#[tokio::test]
async fn max_age_0_asks_for_the_password_again() {
    let (server, client) = start().await;
    let maria = signed_in(&server, &client, "maria").await;
    server.advance(1);
    let (_, page) = server.launch(&client).open(&maria).await;
    assert!(page.text.contains("name=\"decision\""), "without max_age she is not asked again");
    for (name, value) in [("max_age", "0"), ("prompt", "login"), ("prompt", "select_account")] {
        let launch = server.launch(&client).with(name, value);
        let (path, page) = launch.open(&maria).await;
        assert!(page.text.contains("name=\"password\""), "{name}={value}: {}", page.text);
        let csrf = page.hidden("csrf").unwrap();
        let skipped = maria.post(&path, &[("csrf", &csrf), ("decision", "allow"), ("scope", "openid")]).await;
        assert_eq!(
            skipped.location(),
            path.strip_prefix(&server.url).unwrap_or(&path),
            "no code without signing in"
        );
    }
    for value in ["-1", "x", "1.5", "0x10", "99999999999999999999", " 1"] {
        let answer = server.launch(&client).with("max_age", value).answer().await;
        assert_back(&server, &answer, "invalid_request", "`max_age`", value);
    }
}

#[tokio::test]
async fn request_objects_are_refused_and_never_fetched() {
    let (server, client) = start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bait = format!("http://{}/request.jwt", listener.local_addr().unwrap());
    let object = server.launch(&client).with("request", "eyJhbGciOiJub25lIn0.e30.").answer().await;
    assert_back(&server, &object, "request_not_supported", "request objects", "request");
    for uri in [bait.as_str(), "urn:ietf:params:oauth:request_uri:made-up", "file:///etc/passwd"] {
        let answer = server.launch(&client).with("request_uri", uri).answer().await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "a page, since nothing else in the address counts"
        );
        assert_eq!(answer.location(), "");
        assert!(answer.text.contains("was not issued here"), "{uri}: {}", answer.text);
    }
    let fetched = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
    assert!(fetched.is_err(), "somebody came for the bait");
}

#[tokio::test]
async fn a_request_uri_is_good_once_in_its_time_and_for_its_app() {
    let (server, client) = start().await;
    let refused = async |launch: &Launch<'_>, words: &str| {
        let answer = launch.answer().await;
        assert_eq!((answer.status, answer.location()), (StatusCode::BAD_REQUEST, ""), "{words}");
        assert!(
            answer.text.contains("invalid_request_uri") && answer.text.contains(words),
            "{}",
            answer.text
        );
    };
    let pushed = server.launch(&client).pushed().await;
    let other = server.register(json!({})).await;
    refused(&pushed.clone().with("client_id", &other.id), "not issued here to this app").await;
    assert_eq!(pushed.answer().await.status, StatusCode::SEE_OTHER, "a stranger's try does not burn it");
    refused(&pushed, "was used before").await;

    let late = server.launch(&client).pushed().await;
    server.advance(90_000);
    refused(&late, "has expired").await;
    server.advance(2 * DAY);
    server::forget(&server.app).await.unwrap();
    refused(&late, "not issued here").await;
}

#[tokio::test]
async fn error_answers_carry_state_and_issuer_and_pages_escape_what_came() {
    let (server, client) = start().await;
    let evil = "\"\\\u{e9}<script>alert(1)</script>";
    let cases = [
        server.launch(&client).with("aud", &format!("https://evil.example/{evil}")),
        server.launch(&client).with("response_type", evil),
        server.launch(&client).and(evil, "1").and(evil, "2"),
        server.launch(&client).with("prompt", evil),
        server.launch(&client).scope("<script>alert(1)</script>"),
        server.launch(&client).with("request", evil),
    ];
    for launch in cases {
        let answer = launch.answer().await;
        let error = back(&answer, evil)["error"].clone();
        assert_back(&server, &answer, &error, "", evil);
        assert!(!answer.location().contains(['<', '"', '\\', ' ']), "{}", answer.location());
    }
    let denied = server.launch(&client).decide("deny").await;
    assert_back(&server, &denied, "access_denied", "did not allow", "deny");
    for name in ["client_id", "redirect_uri"] {
        let page = server.launch(&client).with(name, evil).answer().await;
        assert_page(&page, 400, "&#60;script&#62;alert(1)", name);
    }
    assert_eq!(denied.status, StatusCode::SEE_OTHER);
}
