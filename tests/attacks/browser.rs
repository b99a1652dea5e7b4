//! Attacks on people's browsers: frames, addresses, sessions and names.

use hearthgate::identity::account::Account;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::hands::*;
use crate::kit::{Answer, CALLBACK, TestApp, access, claims};

#[tokio::test]
async fn no_page_can_be_framed() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let launch = server.launch(&client).by("amara").patient("patient-amara");
    let (path, login) = launch.open(&browser).await;
    assert_unframed(&login, "sign-in");
    let answer = browser.sign_in(&path, &login, "amara").await;
    let (_, choice) = browser.settle(answer).await;
    assert!(choice.text.contains("name=\"patient\""));
    assert_unframed(&choice, "choice");
    let (_, consent) = launch.to_consent(&browser).await;
    assert!(consent.text.contains("name=\"decision\""));
    assert_unframed(&consent, "consent");
    assert_unframed(&browser.post(&path, &[("decision", "allow")]).await, "out of date");
    assert_unframed(&server.launch(&client).with("client_id", "x").answer().await, "a problem");
    for path in ["/", "/no-such-page", "/oauth/authorize/no-such-request"] {
        assert_unframed(&server.get(path).await, path);
    }
}

#[tokio::test]
async fn an_address_written_in_another_way_is_another_address() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let address = server.launch(&client).address();
    let (_, query) = address.split_once('?').unwrap();
    for path in [
        "/oauth/authorize;x",
        "/oauth;x/authorize",
        "//oauth/authorize",
        "/oauth//authorize",
        "/%2foauth/authorize",
        "/oauth%2fauthorize",
        "/oauth/%61uthorize",
        "/oauth/./authorize",
        "/x/../oauth/authorize",
        "/oauth/authorize/",
        "/OAUTH/authorize",
        "/oauth/authorize%00",
    ] {
        let (status, text) = raw_get(&server, &format!("{path}?{query}"), "").await;
        assert_eq!(status, 404, "{path}: {text}");
        assert!(!text.to_ascii_lowercase().contains("\r\nlocation:"), "{path}: {text}");
    }
    let token = server.launch(&client).token().await;
    let bearer = format!("Authorization: Bearer {}\r\n", access(&token));
    for path in [
        "/fhir//Patient/patient-maria",
        "//fhir/Patient/patient-maria",
        "/fhir/Patient;x/patient-maria",
        "/fhir/Patient/patient-maria;x",
        "/fhir/Patient%2fpatient-maria",
        "/fhir/Observation/..%2fPatient%2fpatient-maria",
        "/fhir/../open/fhir/Patient/patient-maria",
        "/fhir/%2e%2e/open/fhir/Patient/patient-maria",
    ] {
        let (status, text) = raw_get(&server, path, &bearer).await;
        assert_eq!(status, 404, "{path}: {text}");
    }
    assert_eq!(raw_get(&server, "/fhir/Patient/patient-maria", &bearer).await.0, 200);
}

#[tokio::test]
async fn the_session_is_new_at_each_sign_in_and_the_old_one_is_dead() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let browser = server.browser();
    let (path, login) = server.launch(&client).open(&browser).await;
    let session = |answer: &Answer| {
        let cookies = answer.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap().to_owned());
        cookies.filter(|c| !c.contains("_browser=")).collect::<Vec<_>>()
    };
    assert_eq!(session(&login), [""; 0], "no session before anybody signs in");
    let first = session(&browser.sign_in(&path, &login, "maria").await);
    let again = browser.get(&format!("{path}?switch=1")).await;
    let second = session(&browser.sign_in(&path, &again, "maria").await);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(second[0].contains(attribute), "{}", second[0]);
    }
    assert!(!second[0].contains("Domain"), "{}", second[0]);
    let cookie = |set: &str| set.split(';').next().unwrap().to_owned();
    let address = server.launch(&client).with("prompt", "none").address();
    let error = async |cookie: &str| {
        let answer = Answer::to(server.request(Method::GET, &address).header("cookie", cookie)).await;
        back(&answer, cookie)["error"].clone()
    };
    assert_eq!(error(&cookie(&second[0])).await, "consent_required");
    assert_eq!(error(&cookie(&first[0])).await, "login_required", "the old cookie is nobody's");
    let (name, _) = second[0].split_once('=').unwrap();
    let fixed = format!("{name}=chosen-by-the-attacker");
    let victim = server.browser();
    let (path, login) = server.launch(&client).open(&victim).await;
    victim.sign_in(&path, &login, "maria").await;
    assert_eq!(error(&fixed).await, "login_required");
    server.advance(30 * hearthgate::clock::MINUTE);
    assert_eq!(error(&cookie(&second[0])).await, "login_required", "half an hour of silence ends it");
}

#[tokio::test]
async fn another_persons_refresh_token_never_turns_into_ones_own() {
    let server = TestApp::start().await;
    let client = refreshing_app(&server).await;
    let scope = "openid fhirUser offline_access patient/Patient.r";
    let marias = server.launch(&client).scope(scope).token().await;
    let amaras = server.launch(&client).scope(scope).by("amara").patient("patient-esi").token().await;
    let (maria, amara) = (claims(&marias["id_token"]), claims(&amaras["id_token"]));
    assert_ne!(maria["sub"], amara["sub"]);
    let after = refresh(&server, &client, &marias, None).await.json();
    assert_eq!(claims(&after["id_token"])["sub"], maria["sub"]);
    assert_eq!(after["patient"], "patient-maria");
    let other = server.fhir(access(&after), "Patient/patient-esi").await;
    assert_outcome(&other, 404, "Patient/patient-esi", "hers is not Amara's");
    // A public app need not say who it is; its token alone leads to the right person too.
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", amaras["refresh_token"].as_str().unwrap())];
    let after = server.post_token(&form).await.json();
    assert_eq!(
        (&claims(&after["id_token"])["sub"], &after["patient"]),
        (&amara["sub"], &json!("patient-esi"))
    );
}

/// Every place where a text stands lies within an element or mark that keeps its direction to itself.
fn assert_isolated(html: &str, marked: &str, case: &str) {
    for (at, _) in html.match_indices(marked) {
        let before = &html[..at];
        let inside = |open: &str, close: &str| before.rfind(open) > before.rfind(close);
        let attribute = inside("=\"", "\">") && inside("=\"", "\" ");
        let isolated = inside("<bdi", "</bdi>") || inside("\u{2068}", "\u{2069}");
        let start = before.char_indices().rev().nth(120).map_or(0, |(i, _)| i);
        assert!(isolated || attribute, "{case}: not isolated: …{}", &before[start..]);
    }
}

#[tokio::test]
async fn names_with_markup_and_direction_marks_stay_names_on_every_page() {
    let server = TestApp::start().await;
    let evil = "<script>alert(1)</script>\" onfocus=\"alert(2)";
    let client = server.register(json!({"client_name": evil})).await;
    for mark in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{61c}', '\0', '\u{85}'] {
        let answer = server.try_register(json!({"client_name": format!("Safe{mark}App")})).await;
        assert_oauth(&answer, 400, "invalid_client_metadata", "client_name", &format!("{mark:?}"));
    }
    let turned = format!("{evil}\u{202e}drowssap");
    put(
        &server,
        json!({"resourceType": "Patient", "id": "evil-patient", "birthDate": "1970-01-01",
               "name": [{"family": turned, "given": ["Eve"]}],
               "identifier": [{"system": "urn:x", "value": turned}]}),
    )
    .await;
    put(&server, json!({"resourceType": "Practitioner", "id": "evil-doctor", "name": [{"text": turned}]}))
        .await;
    let mut pages = Vec::new();
    for (person, word) in [("evil-patient", "consent"), ("evil-doctor", "choice")] {
        let browser = server.browser();
        let launch = server.launch(&client).with("login_hint", &turned).by(person).patient("evil-patient");
        let (path, login) = launch.open(&browser).await;
        let wrong = browser.sign_in(&path, &login, &turned).await;
        let (_, at) = browser.settle(browser.sign_in(&path, &login, person).await).await;
        let switch = browser.get(&format!("{path}?switch=1")).await;
        let (over, consent) = launch.to_consent(&browser).await;
        let search: String = url::form_urlencoded::byte_serialize(turned.as_bytes()).collect();
        let asked = browser.get(&format!("{path}?q={search}&birthdate={search}")).await;
        let csrf = consent.hidden("csrf").unwrap();
        let out_of_date = browser.post(&path, &[("decision", "allow")]).await;
        let edited = browser.post(&over, &[("csrf", &csrf), ("decision", "allow"), ("scope", &turned)]).await;
        browser.post(&over, &[("csrf", &csrf), ("decision", "deny")]).await;
        let done = browser.get(&over).await;
        assert!(done.text.contains("answered"), "{}", done.text);
        for (name, page) in [
            ("login", login),
            ("wrong", wrong),
            (word, at),
            ("switch", switch),
            ("consent", consent),
            ("asked", asked),
            ("out of date", out_of_date),
            ("edited", edited),
            ("done", done),
        ] {
            pages.push((format!("{person}: {name}"), page));
        }
    }
    pages.push(("home".into(), server.get("/").await));
    let mut seen = 0;
    for (case, page) in pages {
        assert!(!page.text.contains("<script>alert"), "{case}: {}", page.text);
        assert!(!page.text.contains("\" onfocus"), "{case}: {}", page.text);
        assert_isolated(&page.text, "\u{202e}", &case);
        assert!(
            page.header("content-security-policy").contains("default-src 'none'; style-src 'self'"),
            "{case}"
        );
        seen += page.text.matches("&#60;script&#62;alert(1)").count();
    }
    assert!(seen >= 10, "the names were on the pages: {seen}");
}

#[tokio::test]
async fn a_forged_host_changes_no_address() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    let forged = "Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-For: 10.0.0.1\r\nForwarded: host=evil.example;proto=https\r\nX-Original-URL: /evil\r\n\
                  X-Forwarded-Prefix: /evil\r\nConnection: close\r\n";
    let token = server.launch(&client).token().await;
    let search = format!("Authorization: Bearer {}\r\n{forged}", access(&token));
    let paths = [
        ("/.well-known/openid-configuration".to_owned(), forged.to_owned()),
        ("/.well-known/oauth-authorization-server".to_owned(), forged.to_owned()),
        ("/fhir/.well-known/smart-configuration".to_owned(), forged.to_owned()),
        ("/fhir/metadata".to_owned(), forged.to_owned()),
        ("/".to_owned(), forged.to_owned()),
        ("/fhir/Observation?_count=1".to_owned(), search),
        (server.launch(&client).address(), forged.to_owned()),
        (server.launch(&client).with("prompt", "none").address(), forged.to_owned()),
    ];
    for (path, headers) in paths {
        let (status, text) = raw(&server, &format!("GET {path} HTTP/1.1\r\n{headers}\r\n")).await;
        assert!(status == 200 || status == 303, "{path}: {text}");
        assert!(!text.contains("evil"), "{path}: {text}");
        let issuer = server.url.strip_prefix("http://").unwrap();
        assert!(text.contains(issuer) || text.contains(&issuer.replace(':', "%3A")), "{path}: {text}");
    }
    let code = server.launch(&client).code().await;
    let form =
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(code_form(&client, &code)).finish();
    let (status, text) = raw(
        &server,
        &format!(
            "POST /oauth/token HTTP/1.1\r\n{forged}Content-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    )
    .await;
    assert_eq!(status, 200, "{text}");
    let at = text.find("\"id_token\":\"").unwrap() + 12;
    let id_token = json!(text[at..].split('"').next().unwrap());
    assert_eq!(claims(&id_token)["iss"], server.url);
}

#[tokio::test]
async fn signing_in_leads_back_to_this_server_whatever_the_address_says() {
    let server = TestApp::start().await;
    let client = server.register(json!({})).await;
    for next in ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"] {
        let browser = server.browser();
        let (path, page) = server.launch(&client).and("next", next).open(&browser).await;
        let csrf = page.hidden("csrf").unwrap();
        let names = ["next", "return_to", "redirect_uri", "continue", "from"];
        let query: String = names.map(|name| format!("{name}={next}&")).concat();
        let mut form = vec![("csrf", csrf.as_str()), ("username", "maria"), ("password", "hearth")];
        form.extend(names.map(|name| (name, next)));
        let answer = browser.post(&format!("{path}?{query}"), &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{next}");
        assert_eq!(format!("{}{}", server.url, answer.location()), path, "{next}");
        let consent = browser.get(&format!("{path}?{query}")).await;
        assert!(!consent.text.contains("evil.example"), "{next}: {}", consent.text);
        let csrf = consent.hidden("csrf").unwrap();
        let mut form = vec![("csrf", csrf.as_str()), ("decision", "allow"), ("scope", "openid")];
        form.extend(names.map(|name| (name, next)));
        let answer = browser.post(&format!("{path}?{query}"), &form).await;
        assert!(answer.location().starts_with(&format!("{CALLBACK}?code=")), "{next}: {}", answer.location());
    }
}

#[tokio::test]
async fn whoever_may_no_longer_act_for_a_patient_gets_no_further_token() {
    let server = TestApp::start().await;
    let client = refreshing_app(&server).await;
    let launch = server.launch(&client).scope("openid offline_access patient/*.rs").by("amara");
    let kofis = launch.clone().patient("patient-kofi");
    let (token, esis) = (kofis.token().await, launch.patient("patient-esi").token().await);
    let code = kofis.code().await;
    let browser = server.browser();
    let (path, page) = kofis.to_consent(&browser).await;
    let csrf = page.hidden("csrf").unwrap();

    let (id, now) = (account(&server, "amara"), server.app.now());
    behind(&server, move |tx| Account::stop_acting_for(tx, &id, "patient-kofi", now)).await;

    let read = server.fhir(access(&token), "Patient/patient-kofi").await;
    assert_outcome(&read, 404, "Patient/patient-kofi", "at once");
    assert_eq!(found(&server.fhir(access(&token), "Observation").await), [""; 0]);
    let refreshed = refresh(&server, &client, &token, None).await;
    assert_oauth(&refreshed, 400, "invalid_grant", "record", "refresh");
    assert_oauth(&server.exchange(&client, &code).await, 400, "invalid_grant", "record", "exchange");
    let decided =
        browser.post(&path, &[("csrf", &csrf), ("decision", "allow"), ("scope", "patient/*.rs")]).await;
    assert_page(&decided, 403, "Nothing was done", "the consent page that was open");
    let choice = browser.get(&path).await;
    assert!(choice.text.contains("value=\"patient-esi\"") && !choice.text.contains("value=\"patient-kofi\""));
    assert_eq!(refresh(&server, &client, &esis, None).await.status, StatusCode::OK, "Esi is still hers");
}
