//! Stored resources: their versions, whom they are about, and whether one lies within a [`Reach`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::access::Reach;
use super::index::Indexable;
use super::matching::{self, Meta};
use super::membership::{self, About};
use super::operand::Context;
use super::{definitions, entries, query, reference};
use crate::clock::Millis;
use crate::params;
use crate::store::db::{DbError, Param, Row, Tx};

/// A resource as it is stored.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The key of its row, and its place in lists.
    pub key: i64,
    /// Its type.
    pub resource_type: String,
    /// Its logical id.
    pub id: String,
    /// Counted from 1.
    pub version: i64,
    /// When this version was written.
    pub updated: Millis,
    /// The patient it is about, or ''.
    pub owner: String,
    /// What is answered: id, version and time are in its `meta`.
    pub json: String,
}

/// The columns of [`Resource::read`].
pub(super) const COLUMNS: &str = "r.key, r.type, r.id, r.version, r.updated_ms, r.owner, r.json";

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was none of that type and id.
    Created,
    /// A new version.
    Updated,
    /// It was there already, the same.
    Unchanged,
}

/// A resource that cannot be stored: where in it, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {words}")]
pub struct Unfit {
    /// The element, from the resource's root.
    pub path: String,
    /// What is wrong with it.
    pub words: String,
}

/// The type and id of a resource that can be stored.
///
/// # Errors
/// [`Unfit`] where it is no R4 resource with a logical id, or names several things where one is meant.
pub fn identity(resource: &Value) -> Result<(&'static str, &str), Unfit> {
    let unfit = |path: &str, words: String| Unfit { path: path.into(), words };
    let Some(object) = resource.as_object() else {
        return Err(unfit("", "a resource is a JSON object".into()));
    };
    let resource_type = match object.get("resourceType").and_then(Value::as_str) {
        None => return Err(unfit("resourceType", "there is none".into())),
        Some(name) => definitions::type_named(name)
            .ok_or_else(|| unfit("resourceType", format!("FHIR R4 has no type `{name}`")))?,
    };
    match object.get("id").and_then(Value::as_str) {
        None => Err(unfit("id", "there is none".into())),
        Some(id) if !reference::is_id(id) => {
            Err(unfit("id", format!("`{id}` is not 1 to 64 letters, digits, `-` or `.`")))
        }
        Some(_) if object.get("meta").is_some_and(|meta| !meta.is_object()) => {
            Err(unfit("meta", "it must be an object".into()))
        }
        Some(id) => Ok((resource_type, id)),
    }
}

impl Resource {
    pub(super) fn read(row: &Row<'_>) -> Result<Resource, DbError> {
        Ok(Resource {
            key: row.get(0)?,
            resource_type: row.get(1)?,
            id: row.get(2)?,
            version: row.get(3)?,
            updated: row.get(4)?,
            owner: row.get(5)?,
            json: row.get(6)?,
        })
    }

    /// The present version.
    pub fn find(tx: &Tx<'_>, resource_type: &str, id: &str) -> Result<Option<Resource>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM resources r WHERE r.type = $1 AND r.id = $2");
        tx.first(&sql, params![resource_type, id], Resource::read)
    }

    /// All resources of a type, in the order they came.
    pub fn all(tx: &Tx<'_>, resource_type: &str) -> Result<Vec<Resource>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM resources r WHERE r.type = $1 ORDER BY r.key");
        tx.all(&sql, params![resource_type], Resource::read)
    }

    /// All resources of a type that are about a patient, in the order they came.
    pub fn all_about(tx: &Tx<'_>, resource_type: &str, patient: &str) -> Result<Vec<Resource>, DbError> {
        let sql =
            format!("SELECT {COLUMNS} FROM resources r WHERE r.type = $1 AND r.owner = $2 ORDER BY r.key");
        tx.all(&sql, params![resource_type, patient], Resource::read)
    }

    /// As a JSON value; null where the row was damaged.
    pub fn parsed(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }

    /// Writes a resource under its own type and id, with its index rows. The same content again changes nothing.
    pub fn put(tx: &Tx<'_>, mut resource: Value, base: &str, now: Millis) -> Result<Put, DbError> {
        let (resource_type, id) = identity(&resource).map_err(|e| DbError::Corrupt(e.to_string()))?;
        let id = id.to_owned();
        let old = Resource::find(tx, resource_type, &id)?;
        if old.as_ref().is_some_and(|old| content(old.parsed()) == content(resource.clone())) {
            return Ok(Put::Unchanged);
        }
        let version = old.as_ref().map_or(1, |old| old.version + 1);
        stamp(&mut resource, version, now);
        let owner = owner_of(tx, &resource, base)?;
        let text = resource.to_string();
        let row = params![resource_type, &id, version, now, &owner, text];
        let key = match &old {
            None => tx.first(
                "INSERT INTO resources (type, id, version, updated_ms, owner, json)
                 VALUES ($1, $2, $3, $4, $5, $6) RETURNING key",
                row,
                |row| row.get(0),
            )?,
            Some(old) => {
                tx.execute(
                    "INSERT INTO history (type, id, version, updated_ms, owner, json)
                     SELECT type, id, version, updated_ms, owner, json FROM resources WHERE key = $1",
                    params![old.key],
                )?;
                Indexable { key: old.key, owner: &old.owner, resource: &old.parsed() }.remove(tx, base)?;
                tx.first(
                    "UPDATE resources SET version = $3, updated_ms = $4, owner = $5, json = $6
                     WHERE type = $1 AND id = $2 RETURNING key",
                    row,
                    |row| row.get(0),
                )?
            }
        };
        let key = key.ok_or_else(|| DbError::Corrupt("a written row has no key".into()))?;
        Indexable { key, owner: &owner, resource: &resource }.add(tx, base)?;
        reown_provenance(tx, resource_type, &id, base)?;
        Ok(if old.is_some() { Put::Updated } else { Put::Created })
    }
}

/// Whether some version of the resource, the present one or an earlier, has this very content.
pub fn was_ever(tx: &Tx<'_>, resource: &Value) -> Result<bool, DbError> {
    let (resource_type, id) = identity(resource).map_err(|e| DbError::Corrupt(e.to_string()))?;
    let wanted = content(resource.clone());
    let Some(present) = Resource::find(tx, resource_type, id)? else { return Ok(false) };
    if content(present.parsed()) == wanted {
        return Ok(true);
    }
    let sql = "SELECT json FROM history WHERE type = $1 AND id = $2 ORDER BY version";
    let earlier: Vec<Value> = tx.all(sql, params![resource_type, id], |row| row.json(0))?;
    Ok(earlier.into_iter().any(|version| content(version) == wanted))
}

/// A resource without what every write changes.
fn content(mut resource: Value) -> Value {
    if let Some(object) = resource.as_object_mut() {
        let meta = object.get_mut("meta").and_then(Value::as_object_mut);
        if let Some(meta) = meta {
            meta.shift_remove("versionId");
            meta.shift_remove("lastUpdated");
            if meta.is_empty() {
                object.shift_remove("meta");
            }
        }
    }
    resource
}

/// Puts version and time into `meta`, which stands right after the id.
fn stamp(resource: &mut Value, version: i64, now: Millis) {
    let Some(object) = resource.as_object_mut() else { return };
    let mut meta = Map::new();
    meta.insert("versionId".into(), json!(version.to_string()));
    meta.insert("lastUpdated".into(), json!(instant(now)));
    if let Some(Value::Object(given)) = object.shift_remove("meta") {
        meta.extend(given.into_iter().filter(|(name, _)| name != "versionId" && name != "lastUpdated"));
    }
    let mut ordered = Map::new();
    for name in ["resourceType", "id"] {
        if let Some(value) = object.shift_remove(name) {
            ordered.insert(name.into(), value);
        }
    }
    ordered.insert("meta".into(), Value::Object(meta));
    ordered.append(object);
    *object = ordered;
}

/// A FHIR instant, in UTC, to the millisecond.
pub fn instant(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}

/// The patient a resource is about, or ''.
pub fn owner_of(tx: &Tx<'_>, resource: &Value, base: &str) -> Result<String, DbError> {
    let targets = match membership::about_whom(resource, base) {
        About::Patient(id) => return Ok(id),
        About::Nobody => return Ok(String::new()),
        About::Targets(targets) => targets,
    };
    let mut owners = BTreeSet::new();
    for (resource_type, id) in targets {
        // A target that is not here could be anybody's.
        let owner = Resource::find(tx, &resource_type, &id)?.map(|r| r.owner).unwrap_or_default();
        owners.insert(owner);
    }
    Ok(if owners.len() == 1 { owners.pop_first().unwrap_or_default() } else { String::new() })
}

/// Whose a Provenance is depends on its targets, so it may change when one of them is written.
fn reown_provenance(tx: &Tx<'_>, resource_type: &str, id: &str, base: &str) -> Result<(), DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM refers f JOIN resources r ON r.type = f.type AND r.id = f.id
         WHERE f.to_type = $1 AND f.to_id = $2 AND f.type = 'Provenance' ORDER BY r.key"
    );
    for old in tx.all(&sql, params![resource_type, id], Resource::read)? {
        let parsed = old.parsed();
        let owner = owner_of(tx, &parsed, base)?;
        if owner != old.owner {
            Indexable { key: old.key, owner: &old.owner, resource: &parsed }.remove(tx, base)?;
            tx.execute("UPDATE resources SET owner = $2 WHERE key = $1", params![old.key, &owner])?;
            Indexable { key: old.key, owner: &owner, resource: &parsed }.add(tx, base)?;
        }
    }
    Ok(())
}

/// Whether one resource lies within a reach: the same answer as the SQL that `search.rs` makes of it.
pub fn within(tx: &Tx<'_>, reach: &Reach, resource: &Resource, base: &str) -> Result<bool, DbError> {
    Ok(match reach {
        Reach::Nothing => false,
        Reach::All => true,
        Reach::Owner(patients) => patients.contains(&resource.owner),
        Reach::Is(id) => *id == resource.id,
        Reach::Parameter(name, values) => has_value(resource, name, values, base),
        Reach::ReferredTo(patients) => is_referred_to(tx, resource, patients)?,
        Reach::ReferredFrom(source_type, reach) => {
            let sql = format!(
                "SELECT {COLUMNS} FROM refers f JOIN resources r ON r.type = f.type AND r.id = f.id
                 WHERE f.to_type = $1 AND f.to_id = $2 AND f.type = $3 ORDER BY r.key"
            );
            let found = params![&resource.resource_type, &resource.id, *source_type];
            for source in tx.all(&sql, found, Resource::read)? {
                if within(tx, reach, &source, base)? {
                    return Ok(true);
                }
            }
            false
        }
        Reach::Both(parts) => {
            for part in parts {
                if !within(tx, part, resource, base)? {
                    return Ok(false);
                }
            }
            true
        }
        Reach::Either(parts) => {
            for part in parts {
                if within(tx, part, resource, base)? {
                    return Ok(true);
                }
            }
            false
        }
    })
}

/// The criterion that a scope's limit means. None where it cannot be read any more: then nothing is found.
pub(super) fn limit_criterion(
    resource_type: &'static str,
    name: &str,
    values: &BTreeSet<String>,
    base: &str,
) -> Option<query::Criterion> {
    let joined = values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    query::criterion(resource_type, name, &joined, Context { base, now_ms: 0 }).ok()
}

fn has_value(resource: &Resource, name: &str, values: &BTreeSet<String>, base: &str) -> bool {
    let criterion = definitions::type_named(&resource.resource_type)
        .and_then(|resource_type| limit_criterion(resource_type, name, values, base));
    criterion.is_some_and(|criterion| {
        let entries = entries::entries(&resource.parsed(), base);
        matching::matches(&criterion, &entries, Meta { id: &resource.id, updated_ms: resource.updated })
    })
}

/// The condition of [`Reach::ReferredTo`] on a row named `row`; `patients` is the list of bound parameters.
pub(super) fn referred_to_sql(row: &str, patients: &str) -> String {
    let supporting: Vec<String> = membership::SUPPORTING.iter().map(|t| format!("'{t}'")).collect();
    format!(
        "(EXISTS (SELECT 1 FROM refers f
                  WHERE f.to_type = {row}.type AND f.to_id = {row}.id AND f.owner IN ({patients}))
          OR EXISTS (SELECT 1 FROM refers f JOIN refers g ON g.to_type = f.type AND g.to_id = f.id
                     WHERE f.to_type = {row}.type AND f.to_id = {row}.id AND f.owner = ''
                       AND f.type IN ({}) AND g.owner IN ({patients})))",
        supporting.join(", ")
    )
}

fn is_referred_to(tx: &Tx<'_>, resource: &Resource, patients: &BTreeSet<String>) -> Result<bool, DbError> {
    let listed: Vec<String> = (2..2 + patients.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT 1 FROM resources r WHERE r.key = $1 AND {}",
        referred_to_sql("r", &listed.join(", "))
    );
    let mut bound = vec![Param::from(resource.key)];
    bound.extend(patients.iter().map(Param::from));
    Ok(tx.first(&sql, &bound, |row| row.get::<i64>(0))?.is_some())
}
