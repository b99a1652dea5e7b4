//! In the sandbox, anybody in the records can sign in: their account is made when they first do.

use super::account::{Account, Kind, NewAccount, NewActsFor};
use crate::clock::{Chance, Millis};
use crate::fhir::demographics;
use crate::fhir::resource::Resource;
use crate::store::db::{DbError, Tx};

/// The types whose resources can sign in without an account of their own.
pub const TYPES: [&str; 2] = ["Patient", "Practitioner"];

/// The account of that username; or that of the Patient or Practitioner of that id, made now if need be.
pub fn account_named(
    tx: &Tx<'_>,
    username: &str,
    now: Millis,
    chance: &Chance,
) -> Result<Option<Account>, DbError> {
    if let Some(known) = Account::by_username(tx, username)? {
        return Ok(Some(known));
    }
    // `Practitioner/12` where a Patient has the same id.
    let (types, id) = match username.split_once('/') {
        Some((wanted, id)) => (TYPES.iter().copied().filter(|t| *t == wanted).collect::<Vec<_>>(), id),
        None => (TYPES.to_vec(), username),
    };
    for resource_type in types {
        let fhir_user = format!("{resource_type}/{id}");
        if let Some(known) = Account::by_fhir_user(tx, &fhir_user)? {
            return Ok(Some(known));
        }
        if let Some(resource) = Resource::find(tx, resource_type, id)? {
            let new = describe(&resource, username);
            return Account::insert(tx, &new, None, now, chance).map(Some);
        }
    }
    Ok(None)
}

/// How a Patient or Practitioner without an account is listed, and the account they would get.
pub fn describe(resource: &Resource, username: &str) -> NewAccount {
    let parsed = resource.parsed();
    let is_patient = resource.resource_type == "Patient";
    let own = NewActsFor { patient: resource.id.clone(), relationship: "self".into() };
    NewAccount {
        username: username.to_owned(),
        kind: Kind::of_type(&resource.resource_type).unwrap_or(Kind::Patient),
        fhir_user: format!("{}/{}", resource.resource_type, resource.id),
        name: demographics::name(&parsed).unwrap_or_else(|| resource.id.clone()),
        about: String::new(),
        acts_for: if is_patient { vec![own] } else { Vec::new() },
    }
}
