//! Attacks with client assertions: forged, for somebody else, too late, and used before.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hearthgate::clock::{Clock, SECOND};
use hearthgate::jose::Alg;
use reqwest::{Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};

use super::hands::*;
use crate::kit::{Answer, TestApp};
use crate::restart::{Folder, Process};
use crate::signer::{ASSERTION_TYPE, Signer, new_jti, new_key, set_of};

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A JWS with that header and signature.
fn forged(signer: &Signer<'_>, alg: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let mut header = signer.header();
    header["alg"] = json!(alg);
    let signed = format!("{}.{}", part(&header), part(&signer.claims()));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())))
}

async fn refused(signer: &Signer<'_>, assertion: &str, says: &str, case: &str) {
    assert_oauth(&signer.ask(assertion).await, 401, "invalid_client", says, case);
}

/// How many assertions are written down as used.
fn spent(server: &TestApp) -> i64 {
    let count = server.app.store.read(|tx| tx.first("SELECT count(*) FROM assertions", &[], |r| r.get(0)));
    count.expect("it is read").unwrap_or_default()
}

#[tokio::test]
async fn an_assertion_that_the_apps_own_key_did_not_sign_proves_nothing() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let jwk = signer.key.jwk().clone();
    let by_hmac = |key: Vec<u8>| {
        move |text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text).as_ref().to_vec()
    };
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        refused(&signer, &forged(&signer, alg, |_| Vec::new()), "another algorithm", alg).await;
        refused(&signer, &forged(&signer, alg, |_| vec![0; 96]), "another algorithm", alg).await;
    }
    let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
    for alg in ["HS256", "HS384", "ES384"] {
        for (case, key) in [
            ("the JWK's text", jwk.to_string().into_bytes()),
            ("the set's text", set_of(&[&signer.key]).to_string().into_bytes()),
            ("the key's bytes", x.clone()),
            ("nothing", Vec::new()),
            ("the client_id", signer.app.id.clone().into_bytes()),
        ] {
            refused(&signer, &forged(&signer, alg, by_hmac(key)), "", &format!("{alg} by {case}")).await;
        }
    }
    for (case, signature) in
        [("zeros", vec![0; 96]), ("nothing", Vec::new()), ("ones", vec![0xff; 96]), ("short", vec![1; 95])]
    {
        refused(&signer, &forged(&signer, "ES384", |_| signature.clone()), "did not make", case).await;
    }
    for alg in ["PS384", "EdDSA", "ES512", "ES256K", "es384", "RS384 ", "dir"] {
        refused(&signer, &forged(&signer, alg, |_| vec![1; 96]), "another algorithm", alg).await;
    }
    for alg in [json!(null), json!(1), json!(["ES384"]), json!({"ES384": 1})] {
        let text = signer.headed("alg", Some(alg.clone()));
        refused(&signer, &text, "another algorithm", &alg.to_string()).await;
    }
    let thief = new_key(Alg::ES384);
    let stolen = thief.sign_with(&signer.header(), &signer.claims()).unwrap();
    refused(&signer, &stolen, "did not make", "another key under the app's kid").await;
    assert_eq!(spent(&server), 0);
    assert_eq!(signer.ask(&signer.assertion()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_signs_by_its_own_algorithm_only() {
    let server = TestApp::start().await;
    let (rsa, p256, p384) = (new_key(Alg::RS256), new_key(Alg::ES256), new_key(Alg::ES384));
    let bare = |key: &hearthgate::jose::SigningKey| {
        let mut jwk = key.jwk().clone();
        drop(jwk.as_object_mut().unwrap().remove("alg"));
        jwk
    };
    // Without `alg` in the set, only kind of key and curve hold them apart.
    let jwks = json!({"keys": [bare(&rsa), bare(&p256), bare(&p384)]});
    let signer = Signer::with(&server, p384, json!({"jwks": jwks})).await;
    for key in [&rsa, &p256, &signer.key] {
        for alg in Alg::THEIRS {
            let mut header = signer.header();
            (header["alg"], header["kid"]) = (json!(alg.as_str()), json!(key.kid));
            let answer = signer.ask(&key.sign_with(&header, &signer.claims()).unwrap()).await;
            let case = format!("{:?} key under {}", key.alg, alg.as_str());
            if alg == key.alg {
                assert_eq!(answer.status, StatusCode::OK, "{case}: {}", answer.text);
            } else {
                assert_oauth(&answer, 401, "invalid_client", "", &case);
            }
        }
    }
    let pinned = Signer::with(&server, new_key(Alg::RS256), json!({})).await;
    let text = pinned.headed("alg", Some(json!("RS384")));
    refused(&pinned, &text, "fits RS384", "a key that is registered for RS256 alone").await;
}

#[tokio::test]
async fn an_assertion_that_is_no_plain_signed_jwt_is_refused() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let good = signer.assertion();
    let [header, claims, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = signer.assertion();
    let other_claims = other.split('.').nth(1).unwrap();
    let in_json = json!({"protected": header, "payload": claims, "signature": signature}).to_string();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    for (case, text) in [
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{claims}")),
        ("two dots alone", "..".into()),
        ("no signature", format!("{header}.{claims}.")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{good}.{signature}.{signature}")),
        ("a dot too many", format!("{header}..{claims}.{signature}")),
        ("claims of another", format!("{header}.{other_claims}.{signature}")),
        ("JSON", in_json),
        ("a space before", format!(" {good}")),
        ("a line after", format!("{good}\n")),
        ("padding", format!("{good}=")),
        ("another alphabet", format!("{header}.{}.{signature}", STANDARD.encode("{\"a\":\"???>>>\"}"))),
        ("claims that are a list", format!("{header}.{}.{signature}", part(&json!([])))),
        ("claims that are not JSON", format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("{"))),
        ("nested claims", format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(deep))),
        ("not ASCII", format!("{header}.{claims}.\u{e9}")),
        ("long", signer.saying("pad", Some(json!("x".repeat(17_000))))),
    ] {
        refused(&signer, &text, "", case).await;
    }
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("exp"), json!(null)] {
        let text = signer.headed("crit", Some(crit.clone()));
        refused(&signer, &text, "`crit`", &crit.to_string()).await;
    }
    for typ in [json!("at+jwt"), json!("dpop+jwt"), json!("logout+jwt"), json!(1), json!(null)] {
        refused(&signer, &signer.headed("typ", Some(typ.clone())), "`typ`", &typ.to_string()).await;
    }
    let megabyte = signer.ask(&signer.saying("pad", Some(json!("x".repeat(1 << 20))))).await;
    assert_oauth(&megabyte, 413, "request_too_large", "larger", "a megabyte");
    assert_eq!(spent(&server), 0);
    assert_eq!(signer.ask(&good).await.status, StatusCode::OK, "nothing of it used up the good one");
    for typ in [None, Some(json!("jwt")), Some(json!("client-authentication+jwt"))] {
        assert_eq!(signer.ask(&signer.headed("typ", typ)).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_assertion_must_be_for_this_servers_token_endpoint_alone() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let (issuer, token) = (server.url.clone(), format!("{}/oauth/token", server.url));
    for aud in [json!(issuer), json!(token), json!([issuer]), json!([token])] {
        let answer = signer.ask(&signer.saying("aud", Some(aud.clone()))).await;
        assert_eq!(answer.status, StatusCode::OK, "{aud}: {}", answer.text);
    }
    let localhost = token.replace("127.0.0.1", "localhost");
    for aud in [
        json!(format!("{issuer}/")),
        json!(format!("{token}/")),
        json!(format!("{token}?x")),
        json!(format!("{token}#x")),
        json!(format!("{issuer}/oauth/introspect")),
        json!(format!("{issuer}/oauth/TOKEN")),
        json!(format!("{issuer}/oauth/../oauth/token")),
        json!(format!("{issuer}/fhir")),
        json!(token.replace("http:", "https:")),
        json!(localhost),
        json!("https://other.example/oauth/token"),
        json!([token, "https://other.example"]),
        json!(["https://other.example", token]),
        json!([token, issuer]),
        json!([token, token]),
        json!([[token]]),
        json!([]),
        json!([1]),
        json!({"0": token}),
        json!(""),
        json!(null),
        json!(true),
    ] {
        refused(&signer, &signer.saying("aud", Some(aud.clone())), "its only `aud`", &aud.to_string()).await;
    }
    refused(&signer, &signer.saying("aud", None), "its only `aud`", "none").await;
}

#[tokio::test]
async fn an_assertion_is_good_for_minutes_by_this_servers_clock() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let now = server.app.now() / SECOND;
    for (case, exp, says) in [
        ("this very second", json!(now), "expired"),
        ("a second ago", json!(now - 1), "expired"),
        ("long ago", json!(-1), "expired"),
        ("a fraction that is past", json!(now as f64 + 0.5), "expired"),
        ("331 seconds", json!(now + 331), "5 minutes"),
        ("an hour", json!(now + 3_600), "5 minutes"),
        ("milliseconds", json!(server.app.now() + 60_000), "5 minutes"),
        ("the end of time", json!(i64::MAX), "5 minutes"),
        ("beyond it", json!(u64::MAX), "`exp`"),
        ("a huge float", json!(1e300), "`exp`"),
        ("a text", json!((now + 60).to_string()), "`exp`"),
        ("null", json!(null), "`exp`"),
        ("a list", json!([now + 60]), "`exp`"),
    ] {
        refused(&signer, &signer.saying("exp", Some(exp)), says, case).await;
    }
    refused(&signer, &signer.saying("exp", None), "`exp`", "none").await;
    for name in ["iat", "nbf"] {
        for value in [json!(now + 31), json!(now + 3_600), json!("now"), json!(null), json!(1e300)] {
            let says = format!("`{name}`");
            refused(&signer, &signer.saying(name, Some(value.clone())), &says, &value.to_string()).await;
        }
        for value in [json!(now + 30), json!(now), json!(now - 3_600), json!(now as f64 + 0.5)] {
            let answer = signer.ask(&signer.saying(name, Some(value.clone()))).await;
            assert_eq!(answer.status, StatusCode::OK, "{name} {value}: {}", answer.text);
        }
    }
    for exp in [json!(now + 330), json!(now as f64 + 60.5), json!(now + 1)] {
        assert_eq!(
            signer.ask(&signer.saying("exp", Some(exp.clone()))).await.status,
            StatusCode::OK,
            "{exp}"
        );
    }
    let (kept, late) = (signer.assertion(), signer.assertion());
    server.advance(60 * SECOND - 1);
    assert_eq!(signer.ask(&kept).await.status, StatusCode::OK, "to the millisecond");
    server.advance(1);
    refused(&signer, &late, "expired", "to the millisecond").await;
}

#[tokio::test]
async fn an_assertion_is_used_once_whatever_it_was_used_for() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let form = [("grant_type", "client_credentials"), ("scope", "system/*.rs")];
    let token = signer.token("system/*.rs").await;
    let again = "used before";
    // Each of these takes an assertion whose signature holds, and some of them refuse what it asks for.
    for (case, path, form, status) in [
        ("a token", "/oauth/token", &form[..], 200),
        ("introspection", "/oauth/introspect", &[("token", token.as_str())], 200),
        ("introspection of nothing", "/oauth/introspect", &[], 400),
        ("revocation", "/oauth/revoke", &[("token", "made-up")], 200),
        ("no scope", "/oauth/token", &form[..1], 400),
        ("a scope that cannot be had", "/oauth/token", &[form[0], ("scope", "openid")], 400),
        (
            "a grant type it is not registered for",
            "/oauth/token",
            &[("grant_type", "authorization_code"), ("code", "x"), ("redirect_uri", "x")],
            400,
        ),
        ("a code it cannot exchange", "/oauth/token", &[("grant_type", "authorization_code")], 400),
        ("a refresh", "/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", "x")], 400),
    ] {
        let assertion = signer.assertion();
        let first = Answer::to(signer.request(path, &assertion, form)).await;
        assert_eq!(first.status.as_u16(), status, "{case}: {}", first.text);
        assert_oauth(&signer.ask(&assertion).await, 401, "invalid_client", again, case);
        let elsewhere = signer.request("/oauth/introspect", &assertion, &[("token", token.as_str())]);
        assert_oauth(&Answer::to(elsewhere).await, 401, "invalid_client", again, case);
    }
    assert_eq!(audited(&server, "assertion_replayed"), 18);
    let launched = Signer::launched(&server).await;
    for form in [&[("grant_type", "authorization_code")][..], &[("grant_type", "refresh_token")]] {
        let assertion = launched.assertion();
        let first = Answer::to(launched.request("/oauth/token", &assertion, form)).await;
        assert_oauth(&first, 400, "invalid_request", "is missing", "half a request");
        let elsewhere = launched.request("/oauth/introspect", &assertion, &[("token", "x")]);
        assert_oauth(&Answer::to(elsewhere).await, 401, "invalid_client", again, "half a request");
    }
}

#[tokio::test]
async fn a_jti_counts_for_its_own_app_and_only_where_the_signature_holds() {
    let server = TestApp::start().await;
    let (signer, other) = (Signer::service(&server).await, Signer::service(&server).await);
    let jti = json!(new_jti());
    let assertion = signer.saying("jti", Some(jti.clone()));
    let (signed, _) = assertion.rsplit_once('.').unwrap();
    let unsigned = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 96]));
    refused(&signer, &unsigned, "did not make", "a stranger").await;
    let by_other = other.key.sign_with(&signer.header(), &signer.claims()).unwrap();
    refused(&signer, &by_other, "did not make", "another app's key").await;
    assert_eq!(spent(&server), 0, "nobody burns another app's jti");
    assert_eq!(signer.ask(&assertion).await.status, StatusCode::OK);
    assert_eq!(other.ask(&other.saying("jti", Some(jti.clone()))).await.status, StatusCode::OK);
    refused(&signer, &assertion, "used before", "the same text").await;
    let signed_anew = signer.altered(|claims, _| {
        claims["jti"] = jti.clone();
        claims["aud"] = json!(server.url);
    });
    refused(&signer, &signed_anew, "used before", "the same jti in another assertion").await;
    server.advance(330 * SECOND);
    let later = signer.saying("jti", Some(jti));
    refused(&signer, &later, "used before", "after the longest life").await;
    for jti in [json!(null), json!(""), json!(5), json!([new_jti()]), json!("x".repeat(513))] {
        let text = signer.saying("jti", Some(jti.clone()));
        refused(&signer, &text, "`jti`", &jti.to_string().chars().take(9).collect::<String>()).await;
    }
    refused(&signer, &signer.saying("jti", None), "`jti`", "none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_uses_of_an_assertion_at_once_exactly_one_succeeds() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let assertion = signer.assertion();
    let answers = at_once((0..32).map(|_| signer.asking(&assertion)).collect()).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == StatusCode::OK);
    assert_eq!((good.len(), bad.len()), (1, 31));
    for answer in bad {
        assert_oauth(answer, 401, "invalid_client", "used before", "of 32");
    }
    assert_eq!(spent(&server), 1);
}

#[tokio::test]
async fn an_assertion_stays_used_after_a_restart() {
    let folder = Folder::new("jti");
    let database = folder.0.join("hearthgate.db");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let first = Process::start(&database, &free);
    let (issuer, key) = (first.issuer.clone(), new_key(Alg::ES384));
    let http = reqwest::Client::new();
    let metadata = json!({
        "token_endpoint_auth_method": "private_key_jwt",
        "grant_types": ["client_credentials"],
        "scope": "system/*.rs",
        "jwks": set_of(&[&key]),
    });
    let registered = Answer::to(http.post(format!("{issuer}/oauth/register")).json(&metadata)).await.json();
    let ask = async |assertion: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", "system/*.rs"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
        ];
        Answer::to(reqwest::Client::new().post(format!("{issuer}/oauth/token")).form(&form)).await
    };
    let assertion = |jti: &str| {
        let id = &registered["client_id"];
        let exp = Clock::System.now() / SECOND + 300;
        key.sign("JWT", &json!({"iss": id, "sub": id, "aud": issuer, "exp": exp, "jti": jti})).unwrap()
    };
    let used = assertion("a");
    assert_eq!(ask(&used).await.status, StatusCode::OK);
    drop(first);
    let _second = Process::start(&database, &free);
    assert_oauth(&ask(&used).await, 401, "invalid_client", "used before", "after a restart");
    assert_eq!(ask(&assertion("b")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_assertion_is_from_the_app_itself() {
    let server = TestApp::start().await;
    let (signer, other) = (Signer::service(&server).await, Signer::service(&server).await);
    let theirs = json!(other.app.id);
    let both = "both `iss` and `sub`";
    let own = json!(signer.app.id);
    for (iss, sub, says) in [
        (own.clone(), theirs.clone(), both),
        (theirs.clone(), own.clone(), both),
        (theirs.clone(), theirs.clone(), "none of the app's keys"),
        (json!("nobody"), json!("nobody"), "no app is registered"),
        (json!(""), json!(""), "no app is registered"),
        (json!([own]), json!([own]), both),
        (json!(null), json!(null), both),
        (json!(1), json!(1), both),
        (json!(format!("{} ", signer.app.id)), json!(format!("{} ", signer.app.id)), "no app is registered"),
    ] {
        let case = format!("{iss} {sub}");
        let text = signer.altered(|claims, _| (claims["iss"], claims["sub"]) = (iss, sub));
        refused(&signer, &text, says, &case).await;
    }
    for name in ["iss", "sub"] {
        refused(&signer, &signer.saying(name, None), both, name).await;
    }
    let named = |id: &str, assertion: &str| {
        let form = [("grant_type", "client_credentials"), ("scope", "system/*.rs"), ("client_id", id)];
        signer.request("/oauth/token", assertion, &form)
    };
    for id in [other.app.id.as_str(), "nobody", &signer.app.id.to_ascii_uppercase()] {
        let answer = Answer::to(named(id, &signer.assertion())).await;
        assert_oauth(&answer, 401, "invalid_client", "`client_id`", id);
    }
    assert_eq!(spent(&server), 0);
    let same = Answer::to(named(&signer.app.id, &signer.assertion())).await;
    assert_eq!(same.status, StatusCode::OK, "{}", same.text);
}

#[tokio::test]
async fn an_assertion_and_a_secret_at_once_are_refused() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let assertion = signer.assertion();
    let with_basic = signer.asking(&assertion).basic_auth(&signer.app.id, Some("x"));
    assert_oauth(&Answer::to(with_basic).await, 400, "invalid_request", "use one", "Basic");
    let with_bearer = signer.asking(&assertion).bearer_auth("x");
    assert_oauth(&Answer::to(with_bearer).await, 400, "invalid_request", "use one", "Bearer");
    let form = [("grant_type", "client_credentials"), ("scope", "system/*.rs"), ("client_secret", "x")];
    let with_secret = signer.request("/oauth/token", &assertion, &form);
    assert_oauth(&Answer::to(with_secret).await, 400, "invalid_request", "use one", "a secret");
    let twice = signer.request("/oauth/token", &assertion, &[form[0], ("client_assertion", &assertion)]);
    assert_oauth(&Answer::to(twice).await, 400, "invalid_request", "more than once", "two of them");
    let token = signer.token("system/*.rs").await;
    let introspecting = signer.request("/oauth/introspect", &assertion, &[("token", &token)]);
    let both = Answer::to(introspecting.bearer_auth(&token)).await;
    assert_oauth(&both, 400, "invalid_request", "use one", "a token and an assertion");
    assert_eq!(signer.ask(&assertion).await.status, StatusCode::OK, "nothing of it used it up");
}

#[tokio::test]
async fn an_assertion_counts_in_the_form_by_its_own_type_and_for_apps_that_are_registered_for_it() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", "system/*.rs"),
        ("client_id", signer.app.id.as_str()),
        ("client_assertion_type", ASSERTION_TYPE),
    ];
    let assertion = signer.assertion();
    let whole = changed(&form, &[("client_assertion", Some(&assertion))]);
    let saml = ASSERTION_TYPE.replace("jwt", "saml2");
    for wrong in [None, Some(""), Some("jwt-bearer"), Some(saml.as_str()), Some("client_secret")] {
        let answer = server.post_token(&changed(&whole, &[("client_assertion_type", wrong)])).await;
        assert_oauth(&answer, 401, "invalid_client", "client_assertion_type=", &format!("{wrong:?}"));
    }
    assert_oauth(&server.post_token(&form).await, 401, "invalid_client", "missing", "no assertion");
    let alone = server.post_token(&form[..3]).await;
    assert_oauth(&alone, 401, "invalid_client", "`private_key_jwt`", "a name alone");
    let basic = server.request(Method::POST, "/oauth/token").basic_auth(&signer.app.id, Some(""));
    let basic = Answer::to(basic.form(&form[..2])).await;
    assert_oauth(&basic, 401, "invalid_client", "`private_key_jwt`", "an empty secret");
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &assertion)])
        .finish();
    let in_url = server.request(Method::POST, &format!("/oauth/token?{query}")).form(&form[..3]);
    assert_oauth(&Answer::to(in_url).await, 401, "invalid_client", "URL", "in the URL");
    assert_eq!(server.post_token(&whole).await.status, StatusCode::OK, "nothing of it used it up");

    for method in ["none", "client_secret_basic", "client_secret_post"] {
        let extra = json!({"token_endpoint_auth_method": method, "grant_types": ["authorization_code"],
            "redirect_uris": [crate::kit::CALLBACK], "scope": null});
        let signer = Signer::with(&server, new_key(Alg::ES384), extra).await;
        let answer = signer.ask(&signer.assertion()).await;
        assert_oauth(&answer, 401, "invalid_client", &format!("`{method}`"), method);
    }
}

#[tokio::test]
async fn whoever_signs_badly_introspects_and_revokes_nothing() {
    let server = TestApp::start().await;
    let signer = Signer::service(&server).await;
    let token = signer.token("system/*.rs").await;
    let thief = new_key(Alg::ES384).sign_with(&signer.header(), &signer.claims()).unwrap();
    let form = [("token", token.as_str())];
    for path in ["/oauth/introspect", "/oauth/revoke"] {
        let answer = Answer::to(signer.request(path, &thief, &form)).await;
        assert_oauth(&answer, 401, "invalid_client", "did not make", path);
        let late = signer.saying("exp", Some(json!(1)));
        assert_oauth(
            &Answer::to(signer.request(path, &late, &form)).await,
            401,
            "invalid_client",
            "expired",
            path,
        );
    }
    assert_eq!(server.fhir(&token, "Patient/patient-maria").await.status, StatusCode::OK);
}
