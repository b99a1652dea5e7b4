//! Tests of `index.rs`, and of the table's expressions on real records.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::json;

use super::*;

const BASE: &str = "https://ehr.example/fhir";

fn values(resource: &Value, param: &str) -> Vec<Indexed> {
    let found = entries(resource, BASE).into_iter();
    found.filter(|it| it.param == param).map(|it| it.value).collect()
}

fn coded(system: Option<&str>, code: &str) -> Indexed {
    Indexed::Token(Token { system: system.map(str::to_owned), code: code.to_owned() })
}

fn here(type_: &'static str, id: &str) -> Indexed {
    let id = id.to_owned();
    Indexed::Reference(Reference::Here { type_, id })
}

#[test]
fn a_concept_is_found_by_each_coding_and_by_its_text_only_without_one() {
    let observation = json!({
        "resourceType": "Observation",
        "code": {"coding": [{"system": "s", "code": "a"}, {"code": "b"}, {"display": "c"}], "text": "d"},
        "category": [{"text": "only words"}],
    });
    assert_eq!(values(&observation, "code"), [coded(Some("s"), "a"), coded(None, "b")]);
    assert_eq!(values(&observation, "category"), [coded(None, "only words")]);
}

#[test]
fn the_subject_is_a_patient_only_where_the_reference_says_so() {
    let about = |subject: Value| json!({"resourceType": "Observation", "subject": subject});
    let patient = about(json!({"reference": "Patient/7"}));
    assert_eq!(values(&patient, "patient"), [here("Patient", "7")]);
    assert_eq!(values(&patient, "subject"), [here("Patient", "7")]);
    let group = about(json!({"reference": "Group/7"}));
    assert_eq!(values(&group, "patient"), []);
    assert_eq!(values(&group, "subject"), [here("Group", "7")]);
    let own = about(json!({"reference": "https://ehr.example/fhir/Patient/7/_history/1"}));
    assert_eq!(values(&own, "patient"), [here("Patient", "7")]);
}

#[test]
fn a_reference_elsewhere_keeps_its_url_and_a_contained_one_is_not_found() {
    let url = "https://other.example/fhir/Patient/7";
    let away = json!({"resourceType": "Observation", "subject": {"reference": url}});
    let elsewhere = Indexed::Reference(Reference::Elsewhere(url.to_owned()));
    assert_eq!(values(&away, "patient"), [elsewhere]);
    let contained = json!({
        "resourceType": "Observation",
        "contained": [{"resourceType": "Patient", "id": "p"}],
        "subject": {"reference": "#p"},
    });
    assert_eq!(values(&contained, "patient"), []);
}

#[test]
fn a_logical_reference_is_found_by_its_identifier() {
    let logical = json!({
        "resourceType": "Observation",
        "subject": {"type": "Patient", "identifier": {"system": "mrn", "value": "7"}},
    });
    let identifier = Token { system: Some("mrn".to_owned()), code: "7".to_owned() };
    let expected = [Indexed::Reference(Reference::Logical(identifier))];
    assert_eq!(values(&logical, "patient"), expected);
}

#[test]
fn names_are_found_by_every_part() {
    let patient = json!({
        "resourceType": "Patient",
        "name": [{"family": "Muñoz", "given": ["Ana", "María"], "prefix": ["Dr."]}],
    });
    let folded = |param| -> Vec<String> {
        let texts = values(&patient, param).into_iter();
        texts
            .filter_map(|it| match it {
                Indexed::Text { folded, .. } => Some(folded),
                _ => None,
            })
            .collect()
    };
    assert_eq!(folded("name"), ["munoz", "ana", "maria", "dr."]);
    assert_eq!(folded("given"), ["ana", "maria"]);
    assert_eq!(folded("family"), ["munoz"]);
}

#[test]
fn deceased_is_true_or_false_whichever_way_it_is_said() {
    for (deceased, said) in [
        (json!({"deceasedBoolean": true}), "true"),
        (json!({"deceasedBoolean": false}), "false"),
        (json!({"deceasedDateTime": "2020"}), "true"),
        (json!({}), "false"),
    ] {
        let mut patient = deceased;
        patient["resourceType"] = json!("Patient");
        assert_eq!(values(&patient, "deceased"), [coded(None, said)], "{patient}");
    }
}

#[test]
fn telecom_is_filtered_by_what_it_is() {
    let patient = json!({
        "resourceType": "Patient",
        "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "use": "home", "value": "a@b"}],
    });
    assert_eq!(values(&patient, "phone"), [coded(Some("phone"), "1")]);
    let email = [coded(Some("home"), "a@b"), coded(Some("email"), "a@b")];
    assert_eq!(values(&patient, "email"), email);
}

#[test]
fn us_core_race_is_found_with_its_system() {
    let patient = json!({"resourceType": "Patient", "extension": [{
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [
            {"url": "ombCategory", "valueCoding": {"system": "cdc", "code": "2106-3"}},
            {"url": "text", "valueString": "White"},
        ],
    }]});
    assert_eq!(values(&patient, "race"), [coded(Some("cdc"), "2106-3")]);
    assert_eq!(values(&patient, "ethnicity"), []);
}

#[test]
fn periods_and_timings_are_spans_and_open_ends_are_open() {
    let encounter = |period: Value| json!({"resourceType": "Encounter", "period": period});
    let dates = |it: &Value| values(it, "date");
    let day = 86_400_000;
    let whole = encounter(json!({"start": "1970-01-01", "end": "1970-01-02"}));
    assert_eq!(dates(&whole), [Indexed::Date(Span { lo: 0, hi: 2 * day })]);
    let open = encounter(json!({"start": "1970-01-01"}));
    assert_eq!(dates(&open), [Indexed::Date(Span { lo: 0, hi: i64::MAX })]);
    assert_eq!(dates(&encounter(json!({}))), []);
    assert_eq!(dates(&encounter(json!({"start": "1970", "end": "soon"}))), []);
    let timed = json!({
        "resourceType": "Observation",
        "effectiveTiming": {"event": ["1970-01-03", "1970-01-01"]},
    });
    assert_eq!(values(&timed, "date"), [Indexed::Date(Span { lo: 0, hi: 3 * day })]);
}

#[test]
fn quantities_keep_their_unit_and_their_comparator() {
    let observation = json!({
        "resourceType": "Observation",
        "valueQuantity": {"value": 5.4, "comparator": "<", "unit": "mg", "system": "ucum", "code": "mg"},
    });
    let expected = Indexed::Quantity {
        range: Range { lo: f64::NEG_INFINITY, hi: 5.4 },
        system: Some("ucum".to_owned()),
        code: Some("mg".to_owned()),
        unit: Some("mg".to_owned()),
    };
    assert_eq!(values(&observation, "value-quantity"), [expected]);
}

#[test]
fn a_canonical_is_found_with_and_without_its_version() {
    let tagged = json!({"resourceType": "Patient", "meta": {"profile": ["http://p|1.0"]}});
    let uri = |it: &str| Indexed::Uri(it.to_owned());
    assert_eq!(values(&tagged, "_profile"), [uri("http://p|1.0"), uri("http://p")]);
}

#[test]
fn the_first_entry_of_a_bundle_is_its_composition() {
    let bundle = json!({"resourceType": "Bundle", "entry": [
        {"resource": {"resourceType": "Composition", "id": "c"}},
        {"resource": {"resourceType": "Patient", "id": "p"}},
    ]});
    assert_eq!(values(&bundle, "composition"), [here("Composition", "c")]);
}

#[test]
fn what_is_no_resource_has_no_entries() {
    for value in [json!(null), json!([1]), json!({"resourceType": "Nonsense"}), json!({})] {
        assert_eq!(entries(&value, BASE), []);
    }
    // Wrong shapes where the definitions promise others are passed over.
    let odd = json!({"resourceType": "Patient", "name": 7, "birthDate": {}, "telecom": [[], null, "x"]});
    assert!(entries(&odd, BASE).len() <= 2);
}

/// The records of a folder's Bundles, their `urn:uuid` references made relative as an import does.
fn records(folder: &str) -> Option<Vec<Value>> {
    let mut records = Vec::new();
    for file in std::fs::read_dir(folder).ok()? {
        let text = std::fs::read_to_string(file.ok()?.path()).ok()?;
        let bundle: Value = serde_json::from_str(&text).ok()?;
        let mut names = HashMap::new();
        for entry in items(&bundle, "entry") {
            let resource = entry.get("resource")?;
            let relative = format!("{}/{}", member(resource, "resourceType")?, member(resource, "id")?);
            names.insert(member(entry, "fullUrl")?, relative);
        }
        let renamed = names.iter().fold(text.clone(), |text, (from, to)| {
            text.replace(&format!("\"reference\": \"{from}\""), &format!("\"reference\": \"{to}\""))
        });
        let bundle: Value = serde_json::from_str(&renamed).ok()?;
        let resources = items(&bundle, "entry").iter().filter_map(|it| it.get("resource"));
        records.extend(resources.cloned());
    }
    Some(records)
}

/// `cargo test --release -- --nocapture real_records` also tells the speed.
#[test]
fn real_records_are_found_by_what_they_say() {
    let folder = std::env::var("SYNTHEA").unwrap_or("../shared/data/synthea-r4".to_owned());
    let Some(records) = records(&folder) else {
        crate::fhir::definitions::tests::skip(
            "real_records_are_found_by_what_they_say",
            "no records are here",
        );
        return;
    };
    let mut count = 0;
    let mut by_type: HashMap<&str, (usize, usize)> = HashMap::new();
    let start = Instant::now();
    for resource in &records {
        count += entries(resource, BASE).len();
    }
    let took = start.elapsed();
    for resource in &records {
        let found = entries(resource, BASE);
        let type_ = member(resource, "resourceType").expect("a type");
        let (seen, with_patient) = by_type.entry(type_).or_default();
        *seen += 1;
        *with_patient += usize::from(found.iter().any(|it| it.param == "patient"));
    }
    eprintln!(
        "{} records, {count} entries, {:.0} records/s",
        records.len(),
        records.len() as f64 / took.as_secs_f64()
    );
    for type_ in ["Observation", "Condition", "Encounter", "Procedure", "Immunization"] {
        let (seen, with_patient) = by_type[type_];
        assert_eq!(seen, with_patient, "each {type_} has its patient");
    }
}
