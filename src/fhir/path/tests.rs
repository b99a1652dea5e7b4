//! Tests of `path.rs` and its parser, on expressions of every form and on those of the tables.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fhir::definitions::{self, Kind, Param};

fn elements() -> Elements {
    let types = |types: &str| match types {
        "Quantity" => vec!["Quantity", "dateTime"],
        "Coding" => vec!["Coding", "string"],
        _ => Vec::new(),
    };
    let row = |name, choice, types| (name, Element { choice, types });
    Elements::from([
        row("Observation.value", true, types("Quantity")),
        row("Observation.subject", false, vec!["Reference"]),
        row("Observation.component", false, vec!["BackboneElement"]),
        row("Observation.component.value", true, types("Quantity")),
        row("Observation.extension", false, vec!["Extension"]),
        row("Extension.value", true, types("Coding")),
        row("Bundle.entry", false, vec!["BackboneElement"]),
        row("Bundle.entry.part", false, vec!["@Bundle.entry"]),
    ])
}

/// What an expression finds: each value with its type.
fn found(expression: &str, resource: &Value) -> Vec<(Value, Option<String>)> {
    let path = Path::parse(expression, &elements()).expect("it parses");
    let found = path.eval(resource).into_iter();
    found.map(|it| (it.value.clone(), it.type_.map(str::to_owned))).collect()
}

fn values(expression: &str, resource: &Value) -> Vec<Value> {
    found(expression, resource).into_iter().map(|(value, _)| value).collect()
}

#[test]
fn members_are_followed_through_lists_and_unions() {
    let it = json!({"resourceType": "Patient", "a": [{"b": [1, null]}, {"b": 2}], "c": 3});
    assert_eq!(values("Patient.a.b | Patient.c", &it), [json!(1), json!(2), json!(3)]);
    assert_eq!(values("Patient.a[1].b", &it), [json!(2)]);
    assert_eq!(values("Group.a", &it), [] as [Value; 0]);
    assert_eq!(values("Resource.c", &it), [json!(3)]);
}

#[test]
fn a_choice_is_found_under_its_json_name_with_its_type() {
    let quantity = json!({"resourceType": "Observation", "valueQuantity": {"value": 1}});
    let expected = [(json!({"value": 1}), Some("Quantity".to_owned()))];
    for expression in [
        "Observation.value",
        "(Observation.value as Quantity)",
        "Observation.value.as(Quantity)",
        "Observation.value.ofType(Quantity)",
    ] {
        assert_eq!(found(expression, &quantity), expected, "{expression}");
    }
    assert_eq!(values("(Observation.value as dateTime)", &quantity), [] as [Value; 0]);
    assert_eq!(values("(Observation.value as Quantity).value", &quantity), [json!(1)]);
    assert_eq!(values("Observation.value is Quantity", &quantity), [json!(true)]);
    let component = json!({"resourceType": "Observation", "component": [{"valueDateTime": "2020"}]});
    assert_eq!(values("Observation.component.value", &component), [json!("2020")]);
}

#[test]
fn where_filters_by_what_is_in_it() {
    let it = json!({"resourceType": "Patient", "telecom": [
        {"system": "phone", "value": "1"}, {"system": "email", "value": "2"}, {"value": "3"},
    ]});
    assert_eq!(values("Patient.telecom.where(system = 'email').value", &it), [json!("2")]);
    assert_eq!(values("Patient.telecom.where(system != 'email').value", &it), [json!("1")]);
    assert_eq!(values("Patient.telecom.where(system.exists()).value", &it).len(), 2);
}

#[test]
fn a_reference_is_kept_by_the_type_it_names() {
    let about = |reference: &str| json!({"resourceType": "Observation", "subject": {"reference": reference}});
    let expression = "Observation.subject.where(resolve() is Patient)";
    assert_eq!(values(expression, &about("Patient/7")).len(), 1);
    assert_eq!(values(expression, &about("Group/7")).len(), 0);
    assert_eq!(values(expression, &about("#7")).len(), 0);
}

#[test]
fn extensions_are_found_by_url_in_both_ways() {
    let it = json!({"resourceType": "Observation", "extension": [
        {"url": "a", "valueCoding": {"code": "x"}}, {"url": "b", "valueString": "y"},
    ]});
    let expected = [(json!({"code": "x"}), Some("Coding".to_owned()))];
    assert_eq!(found("Observation.extension('a').value", &it), expected);
    assert_eq!(found("Observation.extension.where(url = 'a').value", &it), expected);
}

#[test]
fn conditions_are_true_or_false() {
    let it = json!({"resourceType": "Patient", "a": true, "b": "x"});
    for (expression, holds) in [
        ("Patient.a.exists() and Patient.a != false", true),
        ("Patient.a and Patient.b = 'x'", true),
        ("Patient.b.exists() and Patient.c.exists()", false),
        ("Patient.c != false", false),
        ("Patient.b = true", false),
    ] {
        assert_eq!(values(expression, &it), [json!(holds)], "{expression}");
    }
}

#[test]
fn an_element_defined_as_another_has_its_members() {
    let it = json!({"resourceType": "Bundle", "entry": [{"part": {"part": {"x": 1}}}]});
    assert_eq!(values("Bundle.entry.part.part.x", &it), [json!(1)]);
}

#[test]
fn what_cannot_be_parsed_is_refused_with_its_place() {
    for (text, at, problem) in [
        ("", 0, Problem::Expected("a name")),
        ("Patient.", 8, Problem::Expected("a name")),
        ("Patient.name x", 13, Problem::Expected("the end")),
        ("Patient.name[x]", 13, Problem::Expected("a number")),
        ("(Patient.name", 13, Problem::Expected("`)`")),
        ("Patient.trace('x')", 14, Problem::UnknownFunction),
        ("Patient.where(a = 'x", 19, Problem::OpenText),
        (r"Patient.where(a = '\'')", 19, Problem::Escape),
        (&"(".repeat(100), 12, Problem::TooDeep),
        (&"a".repeat(5000), 0, Problem::TooLong),
    ] {
        let error = Path::parse(text, &elements()).expect_err("it is refused");
        assert_eq!(error, PathError { at, problem }, "{text}");
    }
}

/// The types that a table's expression can find; a `?` where one is not known.
fn types_found<'t>(node: &Node<'t>, out: &mut Vec<&'t str>) {
    match node {
        Node::Union(branches) => branches.iter().for_each(|it| types_found(it, out)),
        Node::Steps(start, steps) => {
            let narrows = |it: &&Step| !matches!(it, Step::Where(_) | Step::Index(_));
            match (steps.iter().rev().find(narrows), start) {
                (Some(Step::Member(_, type_)), _) => out.push(type_.unwrap_or("?")),
                (Some(Step::Choice(names)), _) => {
                    assert!(!names.is_empty(), "a cast to a type that the choice has not");
                    out.extend(names.iter().map(|(_, type_)| *type_));
                }
                (Some(Step::Cast(type_)), _) => out.push(type_),
                (None, Start::Group(node)) => types_found(node, out),
                _ => out.push("?"),
            }
        }
        _ => out.push("boolean"),
    }
}

/// What the index can make of each kind of parameter: see `index.rs`.
const INDEXED: [(Kind, &str); 7] = [
    (Kind::Token, "Coding CodeableConcept Identifier ContactPoint code boolean string id uri"),
    (Kind::String, "string markdown HumanName Address"),
    (Kind::Date, "date dateTime instant Period Timing"),
    (Kind::Reference, "Reference canonical uri Resource"),
    (Kind::Uri, "uri url canonical"),
    (Kind::Quantity, "Quantity Range Money Age Duration"),
    (Kind::Number, "decimal integer Range"),
];

/// What it cannot, and rightly: other forms of a choice, and data that has no one value.
const PASSED_OVER: [(Kind, &str); 3] =
    [(Kind::Date, "Age Range string"), (Kind::Reference, "Attachment"), (Kind::Quantity, "SampledData")];

#[test]
fn every_expression_of_the_tables_leads_to_types_that_are_indexed() {
    let every = |param: &'static Param| Some((param, param.path.as_ref()?));
    let mut checked = 0;
    for type_ in definitions::types() {
        for (param, path) in definitions::params(type_).filter_map(every) {
            let mut types = Vec::new();
            types_found(&path.0, &mut types);
            let mut lists = INDEXED.iter().chain(&PASSED_OVER);
            for type_ in types {
                let known = lists
                    .clone()
                    .any(|(kind, list)| *kind == param.kind && list.split(' ').any(|it| it == type_));
                assert!(known, "{}.{} finds {type_}", param.base, param.code);
            }
            assert!(lists.any(|(kind, _)| *kind == param.kind));
            checked += 1;
        }
    }
    assert!(checked > 1600);
}

proptest! {
    #[test]
    fn parsing_never_panics(
        text in "(Patient|value|where|as|is|and|exists|[().|='\\[\\]0-9 !]){0,30}|.{0,60}",
    ) {
        if let Ok(path) = Path::parse(&text, &elements()) {
            path.eval(&json!({"resourceType": "Patient", "value": [{"value": true}]}));
        }
    }
}
