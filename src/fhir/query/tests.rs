//! Tests of `query.rs`, its rooms and `matching.rs`: what is asked, and what that finds.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::criterion::{MAX_OPERANDS, MAX_VALUE};
use super::*;
use crate::fhir::entries;
use crate::fhir::matching::Meta;

const CONTEXT: Context<'static> = Context { base: "https://ehr.example/fhir", now_ms: 0 };
const META: Meta<'static> = Meta { id: "o1", updated_ms: 86_400_000 };

fn ask(type_: &'static str, pairs: &[(&str, &str)]) -> Result<Query, QueryError> {
    parse(type_, pairs.iter().copied(), CONTEXT)
}

fn refused(type_: &'static str, name: &str, value: &str) -> QueryError {
    match ask(type_, &[(name, value)]) {
        Err(error) => error,
        Ok(query) => panic!("{name}={value} was read as {query:?}"),
    }
}

fn finds(resource: &Value, name: &str, value: &str) -> bool {
    let type_ = resource["resourceType"].as_str().and_then(definitions::type_named);
    let criterion = criterion(type_.expect("a type"), name, value, CONTEXT).expect("a criterion");
    matches(&criterion, &entries::entries(resource, CONTEXT.base), META)
}

fn observation() -> Value {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "cat", "code": "laboratory"}]}],
        "code": {"coding": [{"system": "loinc", "code": "8867-4"}, {"code": "local"}]},
        "subject": {"reference": "Patient/7", "identifier": {"system": "mrn", "value": "77"}},
        "effectivePeriod": {"start": "2019-12-20", "end": "2020-01-05"},
        "valueQuantity": {"value": 5.4, "unit": "mg", "system": "ucum", "code": "mg"},
        "note": [{"text": "n"}],
    })
}

#[test]
fn tokens_are_found_by_code_system_or_both() {
    let it = observation();
    for (value, found) in [
        ("8867-4", true),
        ("loinc|8867-4", true),
        ("loinc|", true),
        ("|local", true),
        ("|8867-4", false),
        ("cat|8867-4", false),
        ("LOINC|8867-4", false),
        ("none,loinc|8867-4", true),
    ] {
        assert_eq!(finds(&it, "code", value), found, "{value}");
        assert_eq!(finds(&it, "code:not", value), !found, "not {value}");
    }
}

#[test]
fn references_are_found_by_id_type_and_identifier() {
    let it = observation();
    for (name, value, found) in [
        ("subject", "7", true),
        ("subject", "Patient/7", true),
        ("subject", "https://ehr.example/fhir/Patient/7", true),
        ("subject", "https://other.example/fhir/Patient/7", false),
        ("subject", "Group/7", false),
        ("subject:Patient", "7", true),
        ("subject:Group", "7", false),
        ("patient", "Patient/8,Patient/7", true),
        ("patient", "8", false),
        ("subject:identifier", "mrn|77", true),
        ("subject:identifier", "77", true),
        ("subject:identifier", "mrn|7", false),
    ] {
        assert_eq!(finds(&it, name, value), found, "{name}={value}");
    }
}

#[test]
fn dates_are_compared_as_spans() {
    let it = observation();
    for (value, found) in [
        ("2019-12", false),
        ("ne2019-12", true),
        ("ge2020-01", true),
        ("gt2020-01", false),
        ("gt2020-01-04", true),
        ("lt2019-12-20", false),
        ("lt2019-12-21", true),
        ("le2019-12-20", true),
        ("sa2019-12-19", true),
        ("sa2019-12-20", false),
        ("eb2020-01-06", true),
        ("eb2020-01-05", false),
        ("ap2019", true),
    ] {
        assert_eq!(finds(&it, "date", value), found, "{value}");
    }
    let whole = json!({"resourceType": "Patient", "birthDate": "1980-05-06"});
    for (value, found) in
        [("1980", true), ("1980-05", true), ("1980-05-06", true), ("1980-05-06T10:00Z", false)]
    {
        assert_eq!(finds(&whole, "birthdate", value), found, "{value}");
    }
}

#[test]
fn quantities_are_compared_by_value_and_unit() {
    let it = observation();
    for (value, found) in [
        ("5.4", true),
        ("5", true),
        ("5.40", true),
        ("5.3", false),
        ("ne5.4", false),
        ("gt5.4", false),
        ("ge5.4|ucum|mg", true),
        ("5.4|other|mg", false),
        ("5.4||mg", true),
        ("ap5.8", true),
        ("ap7", false),
    ] {
        assert_eq!(finds(&it, "value-quantity", value), found, "{value}");
    }
}

#[test]
fn texts_are_found_by_their_beginning_whole_or_within() {
    let it = json!({"resourceType": "Patient", "name": [{"family": "Muñoz"}]});
    for (name, value, found) in [
        ("family", "mun", true),
        ("family", "uno", false),
        ("family:contains", "UNO", true),
        ("family:exact", "Muñoz", true),
        ("family:exact", "munoz", false),
        ("name", "MUÑOZ", true),
    ] {
        assert_eq!(finds(&it, name, value), found, "{name}={value}");
    }
}

#[test]
fn missing_asks_whether_there_is_any_value() {
    let it = observation();
    assert!(finds(&it, "encounter:missing", "true"));
    assert!(!finds(&it, "encounter:missing", "false"));
    assert!(finds(&it, "code:missing", "false"));
    assert!(!finds(&it, "_id:missing", "true"));
}

#[test]
fn id_and_last_updated_are_asked_of_the_stored_row() {
    let it = observation();
    assert!(finds(&it, "_id", "o2,o1"));
    assert!(!finds(&it, "_id", "o2"));
    assert!(finds(&it, "_lastUpdated", "1970-01-02"));
    assert!(finds(&it, "_lastUpdated", "gt1970-01-01"));
    assert!(!finds(&it, "_lastUpdated", "lt1970-01-02"));
}

#[test]
fn repetition_is_and_and_comma_is_or() {
    let query = ask("Observation", &[("date", "ge2019"), ("date", "le2020"), ("status", "final,amended")]);
    let query = query.expect("a query");
    assert_eq!(query.criteria.len(), 3);
    assert_eq!(query.criteria[2].any.len(), 2);
}

#[test]
fn a_chain_leads_to_each_type_that_has_the_parameter() {
    let query = ask("Observation", &[("subject.name", "ann"), ("subject:Patient.organization.name", "x")]);
    let criteria = query.expect("a query").criteria;
    let types = |criterion: &Criterion| -> Vec<&str> {
        let any = criterion.any.iter();
        any.filter_map(|it| match it {
            Operand::Chain(chain) => Some(chain.type_),
            _ => None,
        })
        .collect()
    };
    assert_eq!(types(&criteria[0]), ["Location", "Patient"]);
    assert_eq!(types(&criteria[1]), ["Patient"]);
    assert!(criteria[0].is_chained());
    assert!(!matches(&criteria[0], &entries::entries(&observation(), CONTEXT.base), META));
}

#[test]
fn has_names_the_type_that_refers_here() {
    let query = ask("Patient", &[("_has:Observation:patient:code", "loinc|8867-4")]);
    let criteria = query.expect("a query").criteria;
    assert_eq!((criteria[0].param.base, criteria[0].param.code), ("Observation", "patient"));
    let Operand::Has(chain) = &criteria[0].any[0] else {
        panic!("it is a has");
    };
    assert_eq!((chain.type_, chain.criterion.param.code), ("Observation", "code"));
    assert!(ask("Patient", &[("_has:Observation:patient:_has:AuditEvent:entity:agent", "x")]).is_ok());
}

#[test]
fn links_have_a_limit_and_so_have_the_types_they_lead_to() {
    let deep = "subject:Patient.link:Patient.link:Patient.link:Patient.name";
    assert_eq!(refused("Observation", deep, "x").issue, Issue::TooCostly);
    assert_eq!(refused("Observation", "focus._id", "x").issue, Issue::TooCostly);
}

#[test]
fn what_would_widen_the_result_is_refused() {
    for (name, value) in [
        ("code:text", "x"),
        ("code:above", "x"),
        ("code:below", "x"),
        ("code:in", "x"),
        ("code:not-in", "x"),
        ("code:of-type", "x"),
        ("code:exact", "x"),
        ("date:not", "2020"),
        ("subject:Device2", "x"),
        ("subject:Practitioner", "7"),
        ("subject:Patient", "Group/7"),
        ("code", ""),
        ("code", "a,,b"),
        ("code", "|"),
        ("date", "yesterday"),
        ("date:missing", "perhaps"),
        ("value-quantity", "5|mg"),
        ("value-string", "´"),
        ("subject.nonsense", "x"),
        ("subject.code-value-quantity", "x"),
        ("status.name", "x"),
        ("_has:Observation", "x"),
        ("_has:Nonsense:patient:code", "x"),
        ("_has:Observation:nonsense:code", "x"),
        ("_count", "many"),
        ("_total", "some"),
        ("_include", "Nonsense:subject"),
        ("_include:recurse", "Observation:subject"),
    ] {
        let error = refused("Observation", name, value);
        assert_eq!(error.parameter, name);
        assert!(!error.wrong.is_empty() && !error.instead.is_empty(), "{error}");
    }
}

#[test]
fn an_error_says_what_was_wrong_and_what_to_send() {
    let error = refused("Patient", "birthdate", "14.3.1980");
    let said = "birthdate: `14.3.1980` is not a date value; \
                send a date like `2020`, `2020-03-14` or `ge2020-03-14T10:00:00Z`";
    assert_eq!(error.to_string(), said);
    let error = refused("Patient", "gender:text", "female");
    assert_eq!(error.issue, Issue::NotSupported);
    assert_eq!(error.instead, "leave it out or send :not or :missing");
}

#[test]
fn unknown_parameters_are_named_with_a_reason() {
    let query = ask(
        "Observation",
        &[("nonsense", "1"), ("code-value-quantity", "1"), ("_text", "x"), ("_sort", "-date,foo")],
    );
    let query = query.expect("a query");
    let names: Vec<&str> = query.unknown.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["nonsense", "code-value-quantity", "_text", "_sort"]);
    assert!(query.criteria.is_empty());
    assert_eq!(query.sort.len(), 1);
    assert!(query.sort[0].descending);
}

#[test]
fn the_form_of_the_answer_is_read() {
    let query = ask(
        "MedicationRequest",
        &[
            ("_count", "20"),
            ("_total", "accurate"),
            ("_summary", "count"),
            ("_elements", "status,subject"),
            ("_include", "MedicationRequest:medication"),
            ("_include:iterate", "Medication:manufacturer:Organization"),
            ("_revinclude", "Provenance:target"),
            ("_cursor", "abc"),
            ("_format", "json"),
        ],
    );
    let query = query.expect("a query");
    assert_eq!(query.count, Some(20));
    assert_eq!(query.total, TotalMode::Accurate);
    assert_eq!(query.summary, SummaryMode::Count);
    assert_eq!(query.elements, ["status", "subject"]);
    assert_eq!(query.cursor.as_deref(), Some("abc"));
    let told: Vec<_> = query.includes.iter().map(|it| (it.reverse, it.iterate, it.source)).collect();
    let expected =
        [(false, false, "MedicationRequest"), (false, true, "Medication"), (true, false, "Provenance")];
    assert_eq!(told, expected);
    assert_eq!(query.includes[1].target, Some("Organization"));
}

#[test]
fn there_are_limits_to_everything() {
    let many: Vec<(&str, &str)> = vec![("code", "x"); MAX_CRITERIA + 1];
    assert!(ask("Observation", &many[1..]).is_ok());
    assert_eq!(ask("Observation", &many).err().map(|it| it.issue), Some(Issue::TooCostly));
    let values = |count: usize| vec!["x"; count].join(",");
    assert!(ask("Observation", &[("code", &values(MAX_OPERANDS))]).is_ok());
    assert_eq!(refused("Observation", "code", &values(MAX_OPERANDS + 1)).issue, Issue::TooCostly);
    assert_eq!(refused("Observation", "code", &"x".repeat(MAX_VALUE + 1)).issue, Issue::TooCostly);
}

proptest! {
    #[test]
    fn parsing_never_panics(
        name in "(subject|code|date|_has|_sort|_include|Patient|link|name|[:.]|not){0,8}|.{0,40}",
        value in "[a-z0-9,.|\\\\:/T-]{0,60}|.{0,60}",
        now_ms: i64,
    ) {
        let context = Context { now_ms, ..CONTEXT };
        let _ = parse("Observation", [(name.as_str(), value.as_str())], context);
    }

    #[test]
    fn not_is_the_opposite_of_is(value in "[a-z|,]{1,12}") {
        let it = observation();
        let ask = |name| criterion("Observation", name, &value, CONTEXT);
        if let (Ok(is), Ok(not)) = (ask("code"), ask("code:not")) {
            let entries = entries::entries(&it, CONTEXT.base);
            prop_assert_ne!(matches(&is, &entries, META), matches(&not, &entries, META));
        }
    }
}
