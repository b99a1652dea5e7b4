//! Doors beside the front one: granular scopes, chains, includes, and the open twin.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::Value;

use crate::leak_rule::Rule;
use crate::records::{Key, Records, counted, each, keys, shared};
use crate::traps::{self, MARIA, ROBIN};

const PATIENT: &str = "launch/patient patient/*.rs";
const LABORATORY: (&str, &str) = ("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory");

/// A granular token's Observations: theirs, with that very coding among the categories.
fn laboratory(records: &Records, patient: &str) -> BTreeSet<Key> {
    let is_one = |r: &Value| {
        let codings = each(&r["category"]).flat_map(|category| each(&category["coding"]));
        let (system, code) = LABORATORY;
        codings.into_iter().any(|c| c["system"] == system && c["code"] == code)
    };
    let own = Rule::of(records).allowed(&[patient]);
    own.into_iter().filter(|k| k.0 == "Observation" && is_one(&records.all[k])).collect()
}

#[tokio::test]
async fn a_granular_scope_gives_the_laboratory_results_by_every_door_and_nothing_else() {
    let files = shared().unwrap_or_default();
    let records = Records::start(|base| traps::files(base).into_iter().chain(files).collect()).await;
    let (system, code) = LABORATORY;
    let scope = format!("launch/patient patient/Observation.rs?category={system}|{code}");
    for (at, patient) in records.ids("Patient").into_iter().enumerate() {
        let person = if patient == "patient-kofi" || patient == "patient-esi" { "amara" } else { patient };
        let token = records.token(person, Some(patient), &scope).await;
        let token = Some(&*token);
        let expected = laboratory(&records, patient);
        let coded = |k: &Key, wanted: &str| {
            let resource = &records.all[k];
            each(&resource["category"]).flat_map(|c| each(&c["coding"])).any(|c| c["code"] == wanted)
        };
        let also = |wanted: &str| expected.iter().filter(|k| coded(k, wanted)).cloned().collect();
        for (asked, found) in [
            (String::new(), expected.clone()),
            (format!("category={code}"), expected.clone()),
            (format!("category={system}|{code}"), expected.clone()),
            (format!("category={code}&category={system}|{code}"), expected.clone()),
            (format!("category=vital-signs,{code}"), expected.clone()),
            ("category:not=vital-signs".into(), expected.difference(&also("vital-signs")).cloned().collect()),
            ("category=vital-signs".into(), also("vital-signs")),
            (format!("category=vital-signs&category={code}"), also("vital-signs")),
            (format!("category:not={code}"), BTreeSet::new()),
            (format!("category={code}&category:not={code}"), BTreeSet::new()),
            ("category:missing=true".into(), BTreeSet::new()),
            ("category:missing=false".into(), expected.clone()),
            (format!("patient={patient}&_sort=-date"), expected.clone()),
            (format!("patient={patient}&category=social-history,survey,exam"), BTreeSet::new()),
        ] {
            let path = format!("fhir/Observation?_count=30&{asked}");
            let (keys, total) = counted(&records.pages(token, &path).await, &path);
            assert_eq!(keys, found, "{patient}: {asked}");
            assert_eq!(total, i64::try_from(found.len()).expect("few"), "{patient}: {asked}");
        }
        // Their own others are as absent as a stranger's; some of the strangers', others for each patient.
        for (turn, id) in records.ids("Observation").into_iter().enumerate() {
            let k = ("Observation".to_owned(), id.to_owned());
            let theirs = Rule::of(&records).whose(&records.all[&k]).as_deref() == Some(patient);
            if theirs || turn % 20 == at % 20 {
                let status = records.get(token, &format!("fhir/Observation/{id}")).await.status;
                assert_eq!(status == StatusCode::OK, expected.contains(&k), "{k:?}");
                assert!(status == StatusCode::OK || status == StatusCode::NOT_FOUND, "{status}");
            }
        }
        for path in [format!("fhir/Patient/{patient}"), "fhir/Patient".into(), "fhir/Condition".into()] {
            let answer = records.get(token, &path).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {}", answer.text);
            assert!(answer.header("www-authenticate").contains("insufficient_scope"));
        }
    }
}

/// Each search is asked by a token for Maria; what it would find among all records is not empty.
#[tokio::test]
async fn a_chain_or_has_through_what_may_not_be_seen_finds_nothing() {
    let records = Records::start(traps::files).await;
    let whole = records.token("maria", Some(MARIA), PATIENT).await;
    let narrow =
        records.token("maria", Some(MARIA), "launch/patient patient/Observation.rs patient/Practitioner.rs");
    let narrow = narrow.await;
    for (token, path) in [
        // Through a record of somebody else.
        (&whole, "Observation?focus:Patient._id=patient-robin".to_owned()),
        (&whole, format!("Observation?performer:Patient._id={ROBIN}")),
        (&whole, "Observation?performer:Patient.name=robin".into()),
        (&whole, "List?item:Observation.subject=Patient/patient-robin".into()),
        (&whole, "List?item:Observation._id=trap-of-robin".into()),
        (&whole, "Provenance?target:Observation._id=trap-of-robin".into()),
        // Backwards from a record of somebody else.
        (&whole, "Practitioner?_has:Observation:performer:subject=Patient/patient-robin".into()),
        (&whole, "Patient?_has:Observation:performer:_id=trap-of-nobody".into()),
        (&whole, "Patient?_has:Coverage:subscriber:_id=trap".into()),
        (&whole, "Patient?_has:Group:member:_id=trap-group".into()),
        (&whole, "Patient?_has:Observation:performer:_has:Provenance:target:_id=trap-of-nobody".into()),
        // Through types that the token was not given.
        (&narrow, format!("Observation?subject:Patient._id={MARIA}")),
        (&narrow, "Observation?subject:Patient.name=maria".into()),
        (&narrow, "Observation?encounter:Encounter.status=finished".into()),
        (&narrow, "Practitioner?_has:Encounter:participant:status=finished".into()),
    ] {
        let open = records.found(None, &format!("open/fhir/{path}")).await;
        assert_ne!(open["total"], 0, "{path} finds something where all is open");
        let (found, total) = counted(&records.pages(Some(token), &format!("fhir/{path}")).await, &path);
        assert_eq!((found, total), (BTreeSet::new(), 0), "{path}");
    }
}

/// Whatever an answer includes is held to the same rule as what it was asked for.
#[tokio::test]
async fn what_is_included_is_theirs_too() {
    let records = Records::start(traps::files).await;
    let rule = Rule::of(&records);
    for (person, patient) in [("maria", MARIA), ("robin", ROBIN), ("margaret", "patient-margaret")] {
        let allowed = rule.allowed(&[patient]);
        let token = records.token(person, Some(patient), PATIENT).await;
        for t in records.types() {
            for include in [
                "_include=*",
                &format!("_include={t}:*"),
                "_revinclude=Provenance:target",
                "_revinclude=Observation:*",
                "_revinclude=Group:member",
                "_include=List:item&_include:iterate=Observation:*",
            ] {
                let answer = records.get(Some(&token), &format!("fhir/{t}?{include}&_count=1000")).await;
                if answer.status == StatusCode::OK {
                    let foreign: Vec<Key> =
                        keys(&answer.json()).into_iter().filter(|k| !allowed.contains(k)).collect();
                    assert!(foreign.is_empty(), "{t}?{include}: {foreign:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_open_twin_shows_all_but_consent_audit_and_app_state() {
    let records = Records::start(traps::files).await;
    for k in records.all.keys() {
        let status = records.get(None, &format!("open/fhir/{}/{}", k.0, k.1)).await.status;
        let hidden = ["AuditEvent", "Basic", "Consent"].contains(&k.0.as_str());
        assert_eq!(status == StatusCode::NOT_FOUND, hidden, "{k:?}: {status}");
    }
    for t in records.types() {
        let total = records.found(None, &format!("open/fhir/{t}?_summary=count")).await["total"].clone();
        let hidden = ["AuditEvent", "Basic", "Consent"].contains(&t.as_str());
        assert_eq!(total, if hidden { 0 } else { records.ids(&t).len() }, "{t}");
    }
    for path in ["Patient?_has:Consent:patient:status=active", "Patient?_has:Basic:patient:_id=trap"] {
        assert_eq!(records.found(None, &format!("open/fhir/{path}")).await["total"], 0, "{path}");
    }
}
