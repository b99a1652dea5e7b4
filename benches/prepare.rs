//! Fills a new sandbox database with what the load generator spends: apps, codes, refresh tokens, an access
//! token and a hundred observations of one patient.
//!
//!     prepare DATABASE ISSUER CODES REFRESH_TOKENS
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
use hearthgate::oauth::management::{self, Admission};
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
    let [database, issuer, codes, refresh_tokens] = args.as_slice() else {
        return Err("prepare DATABASE ISSUER CODES REFRESH_TOKENS".into());
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
    let (rs256, es256) = (register(&app, "RS256")?, register(&app, "ES256")?);
    let plain = |client: &Client| Made { client: client.clone(), scope: SCOPE.into(), base: app.fhir_base() };
    let staying = Made { scope: format!("{SCOPE} offline_access"), ..plain(&es256) };
    let (codes, refresh_tokens) = (codes.parse()?, refresh_tokens.parse()?);
    let access_tokens = make(&app, plain(&es256), 1, |tx, grant, made, now, chance| {
        access_token::issue(tx, &grant.id, None, None, now, made.client.metadata.token_life(), chance)
    })?;
    let refresh_tokens = make(&app, staying, refresh_tokens, |tx, grant, made, now, chance| {
        let missing = || DbError::Corrupt("no refresh token".into());
        refresh::first(tx, grant, &made.client, None, now, chance)?.ok_or_else(missing)
    })?;
    observe(&app)?;
    let found = json!({
        "verifier": VERIFIER,
        "redirect": REDIRECT,
        "rs256": {"client": rs256.id, "codes": make(&app, plain(&rs256), codes, code)?},
        "es256": {"client": es256.id, "codes": make(&app, plain(&es256), codes, code)?},
        "refresh_tokens": refresh_tokens,
        "access_token": access_tokens[0],
    });
    println!("{found}");
    Ok(())
}

fn register(app: &App, alg: &str) -> Result<Client, Failure> {
    let sent = json!({
        "client_name": format!("Benchmark {alg}"),
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": format!("{SCOPE} offline_access"),
        "id_token_signed_response_alg": alg,
    });
    let sent = sent.as_object().cloned().unwrap_or_default();
    let metadata = registration::check(&sent, &Policy::from(Mode::Sandbox), Approved::default())
        .map_err(|_| "the benchmark's app cannot be registered")?;
    let registering =
        management::register(&app.store, metadata, Admission::default(), app.now(), &app.chance);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(registering)?.client)
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
                id: chance.id(),
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
