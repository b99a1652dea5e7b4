//! The crate `openidconnect` as a relying party: it discovers, signs in and verifies, unchanged.

use hearthgate::clock::Millis;
use hearthgate::fhir::resource::instant;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthorizationCode, Client, ClientId, CsrfToken, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenFields, IssuerUrl,
    Nonce, OAuth2TokenResponse, PkceCodeChallenge, RedirectUrl, Scope, StandardErrorResponse,
    StandardTokenResponse, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::kit::{CALLBACK, NOW, TestApp, TestClient};

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Who {
    #[serde(rename = "fhirUser")]
    fhir_user: Option<String>,
}
impl AdditionalClaims for Who {}

type Fields = IdTokenFields<
    Who,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Tokens = StandardTokenResponse<Fields, CoreTokenType>;
type RelyingParty = Client<
    Who,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// How the crate calls out: our HTTP client, without following redirects.
async fn call(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let response = http.execute(request.try_into()?).await?;
    let mut answer = openidconnect::http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        answer = answer.header(name, value);
    }
    Ok(answer.body(response.bytes().await?.to_vec()).expect("a whole answer"))
}

/// Signs in as `person` and answers with the verified claims of the id_token, as the crate understood them.
async fn sign_in(
    server: &TestApp,
    app: &TestClient,
    person: &str,
    now: Millis,
) -> (String, Option<String>, Option<String>) {
    let issuer = IssuerUrl::new(server.url.clone()).unwrap();
    let metadata = CoreProviderMetadata::discover_async(issuer, &call).await.expect("discovery");
    let client = RelyingParty::from_provider_metadata(metadata, ClientId::new(app.id.clone()), None)
        .set_redirect_uri(RedirectUrl::new(CALLBACK.into()).unwrap());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (address, state, nonce) = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .add_scope(Scope::new("fhirUser".into()))
        .add_scope(Scope::new("profile".into()))
        .set_pkce_challenge(challenge)
        .url();
    let browser = server.browser();
    let (path, page) = browser.settle(browser.get(address.as_str()).await).await;
    let (_, page) = browser.settle(browser.sign_in(&path, &page, person).await).await;
    let csrf = page.hidden("csrf").unwrap();
    let (ticked, _) = page.boxes("scope");
    let mut form = vec![("csrf", csrf.as_str()), ("decision", "allow")];
    form.extend(ticked.iter().map(|s| ("scope", s.as_str())));
    let params = browser.post(&path, &form).await.redirect_params();
    assert_eq!(params["state"], *state.secret());
    assert_eq!(params["iss"], server.url, "RFC 9207");
    let tokens: Tokens = client
        .exchange_code(AuthorizationCode::new(params["code"].clone()))
        .expect("a token endpoint was discovered")
        .set_pkce_verifier(verifier)
        .request_async(&call)
        .await
        .expect("tokens");
    assert!(tokens.expires_in().is_some());
    let verifier = client.id_token_verifier().set_time_fn(move || instant(now).parse().expect("a time"));
    let id_token = tokens.id_token().expect("an id_token");
    let claims = id_token.claims(&verifier, &nonce).expect("it verifies: signature, iss, aud, exp, nonce");
    let profile = claims.profile().and_then(|p| p.get(None)).map(|p| p.to_string());
    (claims.subject().to_string(), claims.additional_claims().fhir_user.clone(), profile)
}

#[tokio::test]
async fn a_relying_party_signs_a_patient_in_and_reads_her_resource_from_fhir_user_and_profile() {
    let server = TestApp::start().await;
    for alg in ["RS256", "ES256", "ES384"] {
        let app = server.register(json!({"id_token_signed_response_alg": alg})).await;
        let (subject, fhir_user, profile) = sign_in(&server, &app, "maria", NOW).await;
        let maria = format!("{}/fhir/Patient/patient-maria", server.url);
        assert_eq!(fhir_user.as_deref(), Some(maria.as_str()), "{alg}");
        assert_eq!(profile.as_deref(), Some(maria.as_str()), "{alg}");
        assert!(!subject.contains("maria"), "a subject is neither a username nor a Patient id");
    }
}

#[tokio::test]
async fn every_kind_of_person_has_a_resource_of_their_own_and_a_subject_that_stays() {
    let server = TestApp::start().await;
    let app = server.register(json!({})).await;
    let mut subjects = Vec::new();
    for (person, resource) in [
        ("amara", "Patient/patient-amara"),
        ("ruth", "Practitioner/practitioner-ruth"),
        ("declan", "RelatedPerson/declan-odonoghue"),
        ("amara", "Patient/patient-amara"),
    ] {
        let (subject, fhir_user, _) = sign_in(&server, &app, person, NOW).await;
        assert_eq!(fhir_user, Some(format!("{}/fhir/{resource}", server.url)));
        subjects.push(subject);
    }
    assert_eq!(subjects[0], subjects[3]);
    assert_ne!(subjects[0], subjects[1]);
}
