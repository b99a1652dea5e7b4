//! Where a bound token is used: one proof for one call, and no other way.

use super::*;

#[tokio::test]
async fn a_bound_token_is_no_bearer_token() {
    let (server, client) = start(json!({})).await;
    let key = Key::new();
    let token = bound_token(&server, &client, &key).await;
    for path in ["/fhir/Patient/patient-maria", "/fhir/Observation", "/fhir/Nothing/x/y", "/oauth/userinfo"] {
        let plain = server.request(Method::GET, path).bearer_auth(access(&token));
        let answer = Answer::to(plain).await;
        assert_unauthorized(
            &answer,
            "DPoP realm=\"hearthgate\", error=\"invalid_token\"",
            "is bound to a key",
        );
        let ath = sha256_base64url(access(&token).as_bytes());
        let proof = key.proof(&server, "GET", path, json!({"ath": ath}));
        let proved = server.request(Method::GET, path).bearer_auth(access(&token)).header("dpop", proof);
        let answer = Answer::to(proved).await;
        assert_unauthorized(
            &answer,
            "DPoP realm=\"hearthgate\", error=\"invalid_token\"",
            "is bound to a key",
        );
    }
}

#[tokio::test]
async fn a_proof_is_for_one_call_with_one_token() {
    let (server, client) = start(json!({})).await;
    let (key, other) = (Key::new(), Key::new());
    let token = bound_token(&server, &client, &key).await;
    let another = bound_token(&server, &client, &key).await;
    let path = "/fhir/Patient/patient-maria";
    let ath = sha256_base64url(access(&token).as_bytes());
    let now = server.app.now() / SECOND;
    let proof = |key: &Key, method: &str, path: &str, changes: Value| {
        let mut all = json!({"ath": ath});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        key.proof(&server, method, path, all)
    };
    let unsigned = proof(&key, "GET", path, json!({}));
    let unsigned = unsigned.rsplit_once('.').unwrap().0.to_owned() + ".";
    for (proof, words) in [
        (proof(&other, "GET", path, json!({})), "another key"),
        (proof(&key, "POST", path, json!({})), "not for this method"),
        (proof(&key, "GET", "/fhir/Patient/patient-amara", json!({})), "not for this address"),
        (
            proof(&key, "GET", path, json!({"htu": format!("https://evil.example{path}")})),
            "not for this address",
        ),
        (proof(&key, "GET", "/Patient/patient-maria", json!({})), "not for this address"),
        (
            proof(&key, "GET", path, json!({"ath": sha256_base64url(access(&another).as_bytes())})),
            "access token",
        ),
        (key.proof(&server, "GET", path, json!({})), "access token"),
        (proof(&key, "GET", path, json!({"iat": now - 61})), "older than 60 seconds"),
        (proof(&key, "GET", path, json!({"iat": now + 6})), "in the future"),
        (proof(&key, "GET", path, json!({"jti": ""})), "`jti`"),
        (unsigned, "not signed by the key"),
        (key.0.sign("JWT", &json!({})).unwrap(), "dpop+jwt"),
        ("nonsense".to_owned(), "not a signed JWT"),
    ] {
        let answer = Answer::to(with_proof(&server, Method::GET, path, access(&token), &proof)).await;
        // Quotes in an `error_description` are written as apostrophes.
        assert_unauthorized(&answer, DPOP, words);
        assert_eq!(answer.json()["resourceType"], "OperationOutcome");
    }
    let none = server.request(Method::GET, path).header("authorization", format!("DPoP {}", access(&token)));
    assert_unauthorized(&Answer::to(none).await, DPOP, "send a proof");
    let two = with_proof(&server, Method::GET, path, access(&token), &proof(&key, "GET", path, json!({})))
        .header("dpop", proof(&key, "GET", path, json!({})));
    assert_unauthorized(&Answer::to(two).await, DPOP, "not several");
    let unknown = Answer::to(key.call(&server, Method::GET, path, "made-up")).await;
    assert_unauthorized(
        &unknown,
        "DPoP realm=\"hearthgate\", error=\"invalid_token\"",
        "not one of this server",
    );
}

#[tokio::test]
async fn an_address_is_compared_with_the_public_one_and_never_with_the_host_header() {
    let (server, client) = start(json!({})).await;
    let key = Key::new();
    let token = bound_token(&server, &client, &key).await;
    let path = "/fhir/Patient/patient-maria";
    let ath = sha256_base64url(access(&token).as_bytes());
    let forged = json!({"ath": ath, "htu": format!("http://evil.example{path}")});
    let proof = key.proof(&server, "GET", path, forged);
    let request =
        with_proof(&server, Method::GET, path, access(&token), &proof).header("host", "evil.example");
    assert_unauthorized(&Answer::to(request).await, DPOP, "not for this address");
    let good = key.call(&server, Method::GET, path, access(&token)).header("host", "evil.example");
    assert_eq!(Answer::to(good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_proof_is_good_once_where_a_token_is_used_even_at_once() {
    let (server, client) = start(json!({})).await;
    let key = Key::new();
    let token = bound_token(&server, &client, &key).await;
    let path = "/fhir/Patient/patient-maria";
    let ath = json!({"ath": sha256_base64url(access(&token).as_bytes())});
    let proof = key.proof(&server, "GET", path, ath);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        calls.spawn(Answer::to(with_proof(&server, Method::GET, path, access(&token), &proof)));
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.iter().filter(|a| a.status == StatusCode::OK).count(), 1);
    for answer in answers.iter().filter(|a| a.status != StatusCode::OK) {
        assert_unauthorized(answer, DPOP, "was used before");
    }
    for seconds in [1, 30, 29, 1] {
        server.advance(seconds * SECOND);
        let again = with_proof(&server, Method::GET, path, access(&token), &proof);
        assert_eq!(Answer::to(again).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn after_a_restart_no_proof_from_before_it_is_good() {
    let (server, client) = start(json!({})).await;
    let key = Key::new();
    let token = bound_token(&server, &client, &key).await;
    server.advance(20 * SECOND);
    let second = TestApp::start_at(server.app.store.clone(), server.app.now()).await;
    let path = "/fhir/Patient/patient-maria";
    // At the new process's address, as if it were the old one's.
    let ath = sha256_base64url(access(&token).as_bytes());
    let now = second.app.now() / SECOND;
    for iat in [now - 20, now - 1, now, now + 5] {
        let proof = key.proof(&second, "GET", path, json!({"ath": ath, "iat": iat}));
        let answer = Answer::to(with_proof(&second, Method::GET, path, access(&token), &proof)).await;
        assert_unauthorized(&answer, DPOP, "has just started");
    }
    second.advance(6 * SECOND);
    assert_eq!(
        key.read(&second, &token).await.status,
        StatusCode::UNAUTHORIZED,
        "another audience than this base"
    );
    let fresh = bound_token(&second, &client, &key).await;
    assert_eq!(
        key.read(&second, &fresh).await.status,
        StatusCode::OK,
        "a token no other process can have seen"
    );
}

#[tokio::test]
async fn introspection_tells_of_the_key_and_takes_bound_tokens_only_with_it() {
    let (server, client) = start(json!({"token_endpoint_auth_method": "client_secret_basic"})).await;
    let key = Key::new();
    let token = bound_token(&server, &client, &key).await;
    let ask = |text: String| {
        let request = server.request(Method::POST, "/oauth/introspect");
        Answer::to(request.basic_auth(&client.id, client.secret.as_deref()).form(&[("token", text)]))
    };
    let told = ask(access(&token).to_owned()).await.json();
    assert_eq!((&told["token_type"], &told["cnf"]), (&json!("DPoP"), &json!({"jkt": key.jkt()})));
    let plain = server.launch(&client).scope(SCOPE).token().await;
    let told = ask(access(&plain).to_owned()).await.json();
    assert_eq!((&told["token_type"], told.get("cnf")), (&json!("Bearer"), None));

    let gateway = server
        .register(json!({
            "token_endpoint_auth_method": "client_secret_basic",
            "introspect": "all",
            "scope": "openid launch/patient patient/*.rs __introspect",
        }))
        .await;
    let code = server.launch(&gateway).scope("openid launch/patient patient/*.rs __introspect").code().await;
    let own = exchange(&server, &gateway, &code, &[&key.for_token_endpoint(&server)]).await.json();
    let form = [("token", access(&own))];
    let proved = key.call(&server, Method::POST, "/oauth/introspect", access(&own)).form(&form);
    let told = Answer::to(proved).await;
    assert_eq!((told.status, &told.json()["active"]), (StatusCode::OK, &json!(true)), "{}", told.text);
    let unproved = server.request(Method::POST, "/oauth/introspect").bearer_auth(access(&own)).form(&form);
    let refused = Answer::to(unproved).await;
    assert_unauthorized(&refused, "DPoP realm=\"hearthgate\", error=\"invalid_token\"", "is bound to a key");
    let stranger = Key::new().call(&server, Method::POST, "/oauth/introspect", access(&own)).form(&form);
    assert_unauthorized(&Answer::to(stranger).await, DPOP, "another key");
}
