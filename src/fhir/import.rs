//! FHIR Bundles and NDJSON into the store: read and checked outside, written in one transaction per file.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::resource::{self, Put, Resource};
use crate::clock::Millis;
use crate::store::db::{DbError, Store, Verdict};

/// Why a file was not imported. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is not JSON.
    #[error("{place}: not JSON: {reason}")]
    NotJson {
        /// Which line, for NDJSON; else the file.
        place: String,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// Something in it is no resource that can be stored.
    #[error("{place}: {reason}")]
    Unfit {
        /// Entry and path in it.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// The store did not take it.
    #[error("{0}")]
    Store(#[from] DbError),
}

/// How many resources of a file were new, changed, or there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New.
    pub created: usize,
    /// A new version of one that was there.
    pub updated: usize,
    /// There already, the same.
    pub unchanged: usize,
}

impl Counts {
    fn count(&mut self, put: Put) {
        match put {
            Put::Created => self.created += 1,
            Put::Updated => self.updated += 1,
            Put::Unchanged => self.unchanged += 1,
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.created + self.updated + self.unchanged
    }
}

/// A resource, and where in its file it stood.
struct Placed {
    place: String,
    resource: Value,
}

/// Reads a file (`.ndjson` by its lines, anything else as one Bundle or resource) and checks every
/// resource in it.
pub fn read_file(path: &Path) -> Result<Vec<Value>, ImportError> {
    let text = std::fs::read_to_string(path)?;
    // Some editors put a byte order mark before the first brace.
    let text = text.trim_start_matches('\u{FEFF}').to_owned();
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("ndjson")) {
        read_lines(&text)
    } else {
        read_bundle(&text)
    }
}

fn read_lines(text: &str) -> Result<Vec<Value>, ImportError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let placed = lines.map(|(index, line)| {
        let place = format!("line {}", index + 1);
        match serde_json::from_str(line) {
            Ok(resource) => Ok(Placed { place, resource }),
            Err(e) => Err(ImportError::NotJson { place, reason: e.to_string() }),
        }
    });
    check(placed.collect::<Result<_, _>>()?)
}

/// Reads a Bundle of any type, or a single resource.
pub fn read_bundle(text: &str) -> Result<Vec<Value>, ImportError> {
    let mut whole: Value = serde_json::from_str(text)
        .map_err(|e| ImportError::NotJson { place: "the file".into(), reason: e.to_string() })?;
    if whole["resourceType"] != "Bundle" {
        return check(vec![Placed { place: "the resource".into(), resource: whole }]);
    }
    let entries = match whole["entry"].take() {
        Value::Null => Vec::new(),
        Value::Array(entries) => entries,
        _ => {
            return Err(ImportError::Unfit { place: "entry".into(), reason: "it must be an array".into() });
        }
    };
    let mut placed = Vec::new();
    let mut renamed = HashMap::new();
    for (index, mut entry) in entries.into_iter().enumerate() {
        let mut resource = entry["resource"].take();
        let full_url = entry["fullUrl"].as_str().map(str::to_owned);
        let uuid = full_url.as_deref().and_then(|url| url.strip_prefix("urn:uuid:"));
        if let (Some(uuid), Value::Object(object)) = (uuid, &mut resource)
            && !object.contains_key("id")
        {
            object.insert("id".into(), uuid.into());
        }
        if let (Some(url), Ok((resource_type, id))) = (full_url, resource::identity(&resource)) {
            renamed.insert(url, format!("{resource_type}/{id}"));
        }
        placed.push(Placed { place: format!("entry[{index}].resource"), resource });
    }
    for one in &mut placed {
        rename(&mut one.resource, &renamed);
    }
    check(placed)
}

fn check(placed: Vec<Placed>) -> Result<Vec<Value>, ImportError> {
    let mut seen = HashMap::new();
    for one in &placed {
        let fault = |path: &str, reason: String| {
            let dot = if path.is_empty() { "" } else { "." };
            ImportError::Unfit { place: format!("{}{dot}{path}", one.place), reason }
        };
        let (resource_type, id) =
            resource::identity(&one.resource).map_err(|e| fault(&e.path, e.words.clone()))?;
        if let Some(first) = seen.insert((resource_type, id), &one.place) {
            return Err(fault("id", format!("{resource_type}/{id} stands in {first} already")));
        }
    }
    Ok(placed.into_iter().map(|one| one.resource).collect())
}

/// References by the `fullUrl` of an entry become `Type/id`; the URLs of attachments too.
fn rename(value: &mut Value, renamed: &HashMap<String, String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == "reference" || name == "url" => {
                        if let Some(new) = renamed.get(text) {
                            text.clone_from(new);
                        }
                    }
                    other => rename(other, renamed),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, renamed)),
        _ => {}
    }
}

/// Writes the resources of one file: all of them or, on an error, none.
pub fn write(store: &Store, resources: Vec<Value>, base: &str, now: Millis) -> Result<Counts, DbError> {
    let base = base.to_owned();
    store.write_blocking(move |tx| {
        let mut counts = Counts::default();
        for resource in resources {
            // Two files may hold two versions of one resource: importing both again must not bring the
            // earlier one back.
            let known = resource::was_ever(tx, &resource)?;
            counts.count(if known { Put::Unchanged } else { Resource::put(tx, resource, &base, now)? });
        }
        Ok(Verdict::Commit(counts))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place_of(text: &str) -> String {
        read_bundle(text).unwrap_err().to_string()
    }

    #[test]
    fn references_by_full_url_become_relative_and_contained_ones_stay() {
        let bundle = json!({"resourceType": "Bundle", "entry": [
            {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "p"}},
            {"fullUrl": "urn:uuid:2", "resource": {"resourceType": "Observation",
                "subject": {"reference": "urn:uuid:1"}, "performer": [{"reference": "#c"}],
                "focus": [{"reference": "urn:uuid:unknown"}]}},
        ]});
        let read = read_bundle(&bundle.to_string()).unwrap();
        assert_eq!(read[1]["subject"]["reference"], "Patient/p");
        assert_eq!(read[1]["performer"][0]["reference"], "#c");
        assert_eq!(read[1]["focus"][0]["reference"], "urn:uuid:unknown");
        assert_eq!(read[1]["id"], "2", "the UUID becomes the id where there is none");
    }

    #[test]
    fn a_bad_file_is_told_by_entry_path_and_reason() {
        assert_eq!(
            place_of(
                r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"a b"}}]}"#
            ),
            "entry[0].resource.id: `a b` is not 1 to 64 letters, digits, `-` or `.`"
        );
        assert!(place_of(r#"{"resourceType":"Bundle","entry":[{}]}"#).starts_with("entry[0].resource: "));
        assert!(place_of(r#"{"resourceType":"Patience","id":"a"}"#).contains("no type `Patience`"));
        assert!(place_of("{").contains("line 1 column"));
        let twice = json!({"resourceType": "Bundle", "entry": [
            {"resource": {"resourceType": "Patient", "id": "a"}},
            {"resource": {"resourceType": "Patient", "id": "a"}}]});
        assert!(place_of(&twice.to_string()).contains("stands in entry[0].resource already"));
        assert!(
            read_lines("{\"resourceType\":\"Patient\",\"id\":\"a\"}\n\n{")
                .unwrap_err()
                .to_string()
                .starts_with("line 3")
        );
    }

    #[test]
    fn deeply_nested_json_is_refused_and_nothing_overflows() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(read_bundle(&deep).is_err());
    }
}
