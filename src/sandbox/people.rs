//! The sandbox's own people and records, and `GET /sandbox/people`: everyone who can sign in.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::app::{App, Server};
use crate::clock::{Chance, Millis};
use crate::config::SANDBOX_PASSWORD;
use crate::error::Problem;
use crate::fhir::import;
use crate::fhir::resource::Resource;
use crate::identity::account::{Account, NewAccount};
use crate::identity::newcomer;
use crate::params;
use crate::store::db::{DbError, Store, Verdict};
use crate::web::answer;

const PEOPLE: &str = include_str!("../../sandbox-data/people.json");

/// The records, in the order in which they are loaded.
const RECORDS: [&str; 10] = [
    include_str!("../../sandbox-data/00-practice.json"),
    include_str!("../../sandbox-data/01-maria.json"),
    include_str!("../../sandbox-data/02-amara.json"),
    include_str!("../../sandbox-data/03-kofi.json"),
    include_str!("../../sandbox-data/04-esi.json"),
    include_str!("../../sandbox-data/05-margaret.json"),
    include_str!("../../sandbox-data/06-anneli.json"),
    include_str!("../../sandbox-data/07-annika.json"),
    include_str!("../../sandbox-data/08-kenichi.json"),
    include_str!("../../sandbox-data/09-robin.json"),
];

const LOADED: &str = "sandbox_loaded";

/// Loads people and records into a new database, once: all or nothing.
pub fn load(store: &Store, base: &str, now: Millis, chance: &Chance) -> Result<(), DbError> {
    let loaded = store.read(|tx| {
        tx.first("SELECT value FROM settings WHERE name = $1", params![LOADED], |row| row.get::<String>(0))
    })?;
    if loaded.is_some() {
        return Ok(());
    }
    let broken = |e: String| DbError::Corrupt(format!("sandbox-data: {e}"));
    let people: Vec<NewAccount> = serde_json::from_str(PEOPLE).map_err(|e| broken(e.to_string()))?;
    let mut resources: Vec<Value> = Vec::new();
    for text in RECORDS {
        resources.extend(import::read_bundle(text).map_err(|e| broken(e.to_string()))?);
    }
    let (base, chance) = (base.to_owned(), chance.clone());
    store.write_blocking(move |tx| {
        for resource in resources {
            Resource::put(tx, resource, &base, now)?;
        }
        for (position, person) in (0_i64..).zip(&people) {
            Account::insert(tx, person, Some(position), now, &chance)?;
        }
        tx.execute("INSERT INTO settings (name, value) VALUES ($1, '1')", params![LOADED])?;
        Ok(Verdict::Commit(()))
    })
}

/// `GET /sandbox/people`: the sandbox's own first, then everyone imported.
pub async fn list(State(app): State<App>) -> Response {
    match everyone(&app).await {
        Ok(people) => answer::private_json(axum::http::StatusCode::OK, &people),
        Err(problem) => answer::oauth(&problem),
    }
}

async fn everyone(app: &App) -> Result<Value, Problem> {
    let server = app.clone();
    let people = app
        .store
        .search(move |tx| {
            let own = Account::own_people(tx)?;
            let mut listed: Vec<Value> = own
                .iter()
                .map(|a| entry(&server, &a.username, &a.name, a.kind.as_str(), &a.fhir_user))
                .collect();
            let mut taken: Vec<String> = own.into_iter().map(|a| a.fhir_user).collect();
            taken.sort();
            for resource_type in newcomer::TYPES {
                for resource in Resource::all(tx, resource_type)? {
                    let fhir_user = format!("{resource_type}/{}", resource.id);
                    if taken.binary_search(&fhir_user).is_ok() {
                        continue;
                    }
                    // A Patient of the same id would be found first, so the type is said.
                    let clash =
                        resource_type != "Patient" && Resource::find(tx, "Patient", &resource.id)?.is_some();
                    let username = if clash { fhir_user } else { resource.id.clone() };
                    let new = newcomer::describe(&resource, &username);
                    listed.push(entry(&server, &new.username, &new.name, new.kind.as_str(), &new.fhir_user));
                }
            }
            Ok(listed)
        })
        .await?;
    Ok(Value::from(people))
}

fn entry(server: &Server, username: &str, name: &str, kind: &str, fhir_user: &str) -> Value {
    json!({
        "username": username,
        "password": SANDBOX_PASSWORD,
        "name": name,
        "kind": kind,
        "fhirUser": format!("{}/{fhir_user}", server.fhir_base()),
    })
}
