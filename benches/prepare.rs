//! Fills a new sandbox database with what the load generator spends: apps, codes, refresh tokens, an access
//! token and a hundred observations of one patient.
//!
//!     prepare DATABASE ISSUER CODES REFRESH_TOKENS JWK
//!
//! JWK is the public key of the apps that prove themselves by one.
//!
//! Everything is made by the library's own nouns, in the same rows that a launch writes; only that the codes
//! live for an hour instead of a minute, since they are all made beforehand. Prints one line of JSON.

use hearthgate::app::App;
use hearthgate::clock::{Chance, Clock, HOUR, Millis};
use hearthgate::config::{Mode, Policy};
use hearthgate::crypto::{Secret, sha256_base64url};
use hearthgate::fhir::resource::Resource;
use hearthgate::identity::account::Account;
use hearthgate::oauth::client::Client;
use hearthgate::oauth::client_metadata::Approved;
use hearthgate::oauth::code::Code;
use hearthgate::oauth::grant::Grant;
use hearthgate::oauth::management::{self, Admission, Registered};
use hearthgate::oauth::{access_token, refresh, registration};
use hearthgate::server::{self, Parts};
use hearthgate::store::db::{DbError, Store, Tx, Verdict};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

const REDIRECT: &str = "https://app.example/callback";
const SCOPE: &str = "openid fhirUser launch/patient patient/*.rs";
const PERSON: &str = "maria";
const PATIENT: &str = "patient-maria";
const VERIFIER: &str = "0123456789abcdefghijklmnopqrstuvwxyz-._~ABCDEF";
const OBSERVATIONS: usize = 100;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [database, issuer, codes, refresh_tokens, jwk] = args.as_slice() else {
        return Err("prepare DATABASE ISSUER CODES REFRESH_TOKENS JWK".into());
    };
    let app = server::assemble(Parts {
        issuer: issuer.clone(),
        mode: Mode::Sandbox,
        store: Store::open(database)?,
        master: None,
        clock: Clock::System,
        chance: Chance::system(),
        key_rotation: None,
    })?;
    let proof = json!({
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [serde_json::from_str::<Value>(jwk)?]},
    });
    let register = |alg, more| register(&app, alg, more);
    let rs256 = register("RS256", json!({}))?.client;
    let es256 = register("ES256", json!({}))?.client;
    let es384 = register("ES256", proof.clone())?.client;
    let asking = register("ES256", json!({"token_endpoint_auth_method": "client_secret_post"}))?;
    let mut service = proof;
    service["grant_types"] = json!(["client_credentials"]);
    service["scope"] = json!("system/*.rs");
    let service = register("ES256", service)?.client;
    let plain = |client: &Client| Made { client: client.clone(), scope: SCOPE.into(), base: app.fhir_base() };
    let staying = Made { scope: format!("{SCOPE} offline_access"), ..plain(&es256) };
    let (codes, refresh_tokens) = (codes.parse()?, refresh_tokens.parse()?);
    let access_token = |client: &Client| {
        make(&app, plain(client), 1, |tx, grant, made, now, chance| {
            access_token::issue(tx, &grant.id, None, None, now, made.client.metadata.token_life(), chance)
        })
    };
    let refresh_tokens = make(&app, staying, refresh_tokens, |tx, grant, made, now, chance| {
        let missing = || DbError::Corrupt("no refresh token".into());
        refresh::first(tx, grant, &made.client, None, now, chance)?.ok_or_else(missing)
    })?;
    observe(&app)?;
    let codes = |client: &Client| make(&app, plain(client), codes, code);
    let found = json!({
        "rs256": {"client": rs256.id, "codes": codes(&rs256)?},
        "es256": {
            "client": es256.id,
            "codes": codes(&es256)?,
            "refresh_tokens": refresh_tokens,
            "access_token": access_token(&es256)?[0],
        },
        "es384": {"client": es384.id, "codes": codes(&es384)?},
        "service": {"client": service.id},
        "asking": {
            "client": asking.client.id,
            "access_token": access_token(&asking.client)?[0],
            "secret": asking.secret.map(Secret::reveal),
        },
    });
    println!("{found}");
    Ok(())
}

fn register(app: &App, alg: &str, more: Value) -> Result<Registered, Failure> {
    let sent = json!({
        "client_name": "Benchmark",
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": format!("{SCOPE} offline_access"),
        "id_token_signed_response_alg": alg,
    });
    let mut sent = sent.as_object().cloned().unwrap_or_default();
    sent.extend(more.as_object().cloned().unwrap_or_default());
    if sent["grant_types"] == json!(["client_credentials"]) {
        sent.remove("redirect_uris");
    }
    let metadata = registration::check(&sent, &Policy::from(Mode::Sandbox), Approved::default())
        .map_err(|_| "the benchmark's app cannot be registered")?;
    let registering =
        management::register(&app.store, metadata, Admission::default(), app.now(), &app.chance);
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(registering)?)
}

/// Whose grants are made, and of what.
struct Made {
    client: Client,
    scope: String,
    base: String,
}

/// `count` grants, and for each what `hand_out` makes of it.
fn make(
    app: &App,
    made: Made,
    count: usize,
    hand_out: impl Fn(&Tx<'_>, &Grant, &Made, Millis, &Chance) -> Result<Secret, DbError> + Send + 'static,
) -> Result<Vec<String>, DbError> {
    let (now, chance) = (app.now(), app.chance.clone());
    app.store.write_blocking(move |tx| {
        let missing = || DbError::Corrupt(format!("nobody is called {PERSON}"));
        let account = Account::by_username(tx, PERSON)?.ok_or_else(missing)?.id;
        let mut secrets = Vec::new();
        for _ in 0..count {
            let grant = Grant {
                id: chance.id_at(now),
                client: made.client.id.clone(),
                account: Some(account.clone()),
                patient: Some(PATIENT.into()),
                encounter: None,
                context: None,
                audience: made.base.clone(),
                scope: made.scope.clone(),
                session: None,
                signed_in: Some(now),
                trace: chance.id(),
                created: now,
                ended: None,
            };
            grant.insert(tx)?;
            secrets.push(hand_out(tx, &grant, &made, now, &chance)?.reveal());
        }
        Ok(Verdict::Commit(secrets))
    })
}

fn code(tx: &Tx<'_>, grant: &Grant, made: &Made, now: Millis, chance: &Chance) -> Result<Secret, DbError> {
    let code = Code {
        grant: grant.id.clone(),
        client: made.client.id.clone(),
        redirect_uri: REDIRECT.into(),
        challenge: Some(sha256_base64url(VERIFIER.as_bytes())),
        jkt: None,
        nonce: None,
        expires: now + HOUR,
        used: None,
    };
    code.issue(tx, chance)
}

/// Copies of the patient's own observations under other ids, until there are enough.
fn observe(app: &App) -> Result<(), DbError> {
    let (now, base) = (app.now(), app.fhir_base());
    app.store.write_blocking(move |tx| {
        let own = Resource::all_about(tx, "Observation", PATIENT)?;
        for number in own.len()..OBSERVATIONS {
            let mut copy: Value = own[number % own.len()].parsed();
            copy["id"] = json!(format!("copy-{number}"));
            Resource::put(tx, copy, &base, now)?;
        }
        Ok(Verdict::Commit(()))
    })
}
