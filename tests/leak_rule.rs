//! Who may see what, worked out once more, naively, from the files alone: `docs/decisions.md` has the rule in
//! words, and this never asks `hearthgate::fhir::access`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::records::{Key, Records, each, key};

/// The rule, over all records.
pub struct Rule<'a> {
    all: &'a BTreeMap<Key, Value>,
    base: String,
}

impl<'a> Rule<'a> {
    pub fn of(records: &'a Records) -> Self {
        Rule { all: &records.all, base: format!("{}/", records.server.fhir_base()) }
    }

    /// `Type/id` here, or nothing.
    fn target(&self, reference: &str) -> Option<Key> {
        let path = reference.strip_prefix(&self.base).unwrap_or(reference);
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            [t, id] | [t, id, "_history", _] if t.starts_with(char::is_uppercase) => {
                Some(((*t).into(), (*id).into()))
            }
            _ => None,
        }
    }

    fn referred(&self, reference: &Value) -> Option<Key> {
        self.target(reference["reference"].as_str()?)
    }

    /// The one patient a record is about: its subject, patient or beneficiary.
    pub fn whose(&self, resource: &Value) -> Option<String> {
        let one = |owners: BTreeSet<String>| if owners.len() == 1 { owners.into_iter().next() } else { None };
        let said: Vec<&Value> = match resource["resourceType"].as_str()? {
            "Patient" => return Some(resource["id"].as_str()?.to_owned()),
            "Provenance" => {
                let targets = each(&resource["target"]).filter_map(|t| self.referred(t));
                let bound: Vec<Key> = targets.filter(|(t, _)| !is_about_nobody(t)).collect();
                let owners = bound.iter().map(|k| self.whose(self.all.get(k)?));
                return one(owners.collect::<Option<_>>()?);
            }
            t if is_about_nobody(t) => return None,
            "Appointment" => each(&resource["participant"]).map(|p| &p["actor"]).collect(),
            _ => ["subject", "patient", "beneficiary"].iter().flat_map(|e| each(&resource[*e])).collect(),
        };
        let patients = said.into_iter().filter_map(|r| self.referred(r)).filter(|(t, _)| t == "Patient");
        one(patients.map(|(_, id)| id).collect())
    }

    /// Everything that `resource` refers to, wherever in it.
    fn all_referred(&self, resource: &Value) -> BTreeSet<Key> {
        let mut found: BTreeSet<Key> = self.referred(resource).into_iter().collect();
        let members: Vec<&Value> = match resource {
            Value::Array(list) => list.iter().collect(),
            Value::Object(members) => members.values().collect(),
            _ => Vec::new(),
        };
        members.into_iter().for_each(|m| found.extend(self.all_referred(m)));
        found
    }

    /// What somebody may see who may see these patients, each for themself.
    pub fn allowed(&self, patients: &[&str]) -> BTreeSet<Key> {
        patients.iter().flat_map(|p| self.allowed_to(p)).collect()
    }

    fn allowed_to(&self, patient: &str) -> BTreeSet<Key> {
        let own = |r: &&Value| self.whose(r).as_deref() == Some(patient);
        let own: Vec<&Value> = self.all.values().filter(own).collect();
        let mut allowed: BTreeSet<Key> = own.iter().map(|r| key(r)).collect();
        let supports = |k: &Key| is_supporting(&k.0) && self.all.contains_key(k);
        let near: BTreeSet<Key> = own.iter().flat_map(|r| self.all_referred(r)).filter(supports).collect();
        let far = near.iter().flat_map(|k| self.all_referred(&self.all[k])).filter(supports);
        allowed.extend(far);
        allowed.extend(near);
        let documents = own.iter().flat_map(|r| match r["resourceType"].as_str() {
            Some("DocumentReference") => each(&r["content"]).map(|c| &c["attachment"]["url"]).collect(),
            Some("DiagnosticReport") => each(&r["presentedForm"]).map(|f| &f["url"]).collect(),
            _ => Vec::new(),
        });
        let files = documents.filter_map(|url| self.target(url.as_str()?));
        allowed.extend(files.filter(|k| k.0 == "Binary" && self.all.contains_key(k)));
        allowed
    }
}

fn is_supporting(t: &str) -> bool {
    ["Endpoint", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole"].contains(&t)
}

/// Types whose `subject` or `patient`, where they have one, says nothing about who may see them.
fn is_about_nobody(t: &str) -> bool {
    is_supporting(t)
        || ["Binary", "Group", "Basic", "Task", "AuditEvent", "Person", "Provenance"].contains(&t)
}
