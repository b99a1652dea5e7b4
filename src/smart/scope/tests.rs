//! What scopes mean, which cover which, and that nothing is ever widened.

use proptest::prelude::*;

use super::*;
use crate::smart::cover::{covers, meet};

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn covered(held: &str, wanted: &str) -> bool {
    covers(&Scope::list(held), &scope(wanted))
}

const LAB: &str = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
const VITALS: &str = "http://terminology.hl7.org/CodeSystem/observation-category|vital-signs";

#[test]
fn version_1_words_mean_version_2_letters() {
    for (v1, v2) in [("read", "rs"), ("write", "cud"), ("*", "cruds")] {
        let (a, b) = (scope(&format!("patient/Patient.{v1}")), scope(&format!("patient/Patient.{v2}")));
        assert_eq!(a.meaning, b.meaning);
        assert_eq!(a.text, format!("patient/Patient.{v1}"), "the text is echoed as it came");
    }
}

#[test]
fn letters_out_of_order_or_unknown_are_not_guessed() {
    for text in [
        "patient/Patient.sr",
        "patient/Patient.rr",
        "patient/Patient.rx",
        "patient/Patient.",
        "patient/Patient.dus",
    ] {
        assert!(Scope::parse(text).is_err(), "{text}");
    }
    assert_eq!(Scope::parse("patient/Patient.sr").unwrap_err().meant.as_deref(), Some("patient/Patient.rs"));
}

#[test]
fn a_slip_of_the_pen_is_told_what_was_meant() {
    for (slip, meant) in [
        ("oidc", Some("openid")),
        ("opendid", Some("openid")),
        ("fhiruser", Some("fhirUser")),
        ("launch/patients", Some("launch/patient")),
        ("offline", Some("offline_access")),
        ("offline-access", Some("offline_access")),
        ("patient/patient.read", Some("patient/Patient.read")),
        ("patient/Observations.rs", Some("patient/Observation.rs")),
        ("patient/Observation", Some("patient/Observation.rs")),
        ("patient/Observation.raed", Some("patient/Observation.read")),
    ] {
        let said = Scope::parse(slip).unwrap_err();
        assert_eq!(said.meant.as_deref(), meant, "{slip}");
    }
}

#[test]
fn granular_scopes_keep_their_values_and_refuse_what_cannot_be_enforced() {
    let granular = scope(&format!("patient/Observation.rs?category={LAB}"));
    assert_eq!(granular.resource().unwrap().limits["category"].iter().collect::<Vec<_>>(), [LAB]);
    let encoded = scope("patient/Observation.rs?category=http%3A%2F%2Fa%7Cb+c");
    assert_eq!(encoded.resource().unwrap().limits["category"].iter().collect::<Vec<_>>(), ["http://a|b+c"]);
    for text in [
        "patient/*.rs?category=x",
        "patient/*.cruds?_id=",
        "patient/Observation.rs?category=",
        "patient/Observation.rs?category=a|",
        "patient/Observation.rs?category=a,,b",
        "patient/Observation.rs?code:in=http://a",
        "patient/Observation.rs?nonsense=1",
        "patient/Observation.rs?date=ge2020",
        "patient/Observation.rs?subject.name=a",
        "patient/Observation.rs?category=a&category=b",
        "patient/Observation.rs?",
    ] {
        assert!(Scope::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_scope_covers_only_what_it_means() {
    assert!(covered("patient/*.rs", "patient/Observation.r"));
    assert!(
        covered("patient/Observation.r patient/Observation.s", "patient/Observation.rs"),
        "letters unite"
    );
    assert!(covered("patient/*.rs", &format!("patient/Observation.rs?category={LAB}")));
    assert!(covered("patient/*.read", "patient/*.rs"));
    assert!(!covered("patient/Observation.rs", "patient/*.rs"));
    assert!(!covered("user/*.cruds", "patient/Observation.r"), "levels are not compared");
    assert!(!covered("patient/Observation.r", "patient/Observation.rs"));
    assert!(!covered(&format!("patient/Observation.rs?category={LAB}"), "patient/Observation.rs"));
    assert!(!covered("openid", "fhirUser"));
}

#[test]
fn comma_values_unite_and_more_parameters_are_narrower() {
    let (lab, vitals) = (
        format!("patient/Observation.rs?category={LAB}"),
        format!("patient/Observation.rs?category={VITALS}"),
    );
    let both = format!("patient/Observation.rs?category={LAB},{VITALS}");
    assert!(covered(&both, &lab) && covered(&both, &vitals));
    assert!(covered(&format!("{lab} {vitals}"), &both));
    assert!(!covered(&lab, &both));
    assert!(covered(&lab, &format!("{lab}&status=final")));
    assert!(!covered(&format!("{lab}&status=final"), &lab));
}

#[test]
fn prefixed_forms_mean_the_same_as_the_bare_ones() {
    assert_eq!(
        scope("http://smarthealthit.org/fhir/scopes/patient/Patient.r").meaning,
        scope("patient/Patient.r").meaning
    );
    assert_eq!(scope("http://openid.net/specs/openid-connect-core-1_0#openid").meaning, Meaning::OpenId);
}

#[test]
fn a_scope_parameter_is_refused_cheaply_when_it_is_no_list_of_scopes() {
    assert!(split(&"a".repeat(100 * 1024)).is_err());
    assert!(split(&(0..5_000).map(|n| format!("s{n} ")).collect::<String>()).is_err());
    for bad in ["a\0b", "a\"b", "a\\b", "caf\u{e9}", "a\tb", "a\nb"] {
        assert!(split(bad).is_err(), "{bad:?}");
    }
    assert_eq!(split("b  a b ").unwrap(), ["b", "a"], "order kept, repetition dropped");
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let level = prop::sample::select(vec!["patient", "user"]);
    let kind = prop::sample::select(vec!["*", "Observation", "Condition"]);
    let perms = prop::sample::select(vec!["r", "s", "rs", "cud", "cruds", "read"]);
    let limit =
        prop::sample::select(vec!["", "?category=a", "?category=a,b", "?category=b&code=x", "?code=x"]);
    (level, kind, perms, limit).prop_map(|(level, kind, perms, limit)| {
        let limit = if kind == "*" { "" } else { limit };
        scope(&format!("{level}/{kind}.{perms}{limit}"))
    })
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,80}") {
        let _ = Scope::parse(&text);
        let _ = split(&text);
    }

    #[test]
    fn covering_is_reflexive_and_grows_with_what_is_held(a in any_scope(), b in any_scope()) {
        prop_assert!(covers(std::slice::from_ref(&a), &a));
        prop_assert!(covers(&[a.clone(), b.clone()], &a));
    }

    #[test]
    fn what_two_lists_share_is_covered_by_each(
        a in prop::collection::vec(any_scope(), 1..4),
        b in prop::collection::vec(any_scope(), 1..4),
    ) {
        for shared in meet(&a, &b) {
            prop_assert!(covers(&a, &shared), "{shared:?}");
            prop_assert!(covers(&b, &shared), "{shared:?}");
        }
    }

    #[test]
    fn covering_is_transitive(a in any_scope(), b in any_scope(), c in any_scope(), d in any_scope()) {
        let held = [a, b];
        if covers(&held, &c) && covers(std::slice::from_ref(&c), &d) {
            prop_assert!(covers(&held, &d));
        }
    }
}
