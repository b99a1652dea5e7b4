//! The leak matrix: every patient against every record, by every door. What a patient may see is worked out
//! by `leak_rule.rs`.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::kit::{Answer, access};
use crate::leak_rule::Rule;
use crate::records::{Key, Records, counted, key, keys, shared};
use crate::traps::{self, MARIA, ROBIN};

const PATIENT: &str = "launch/patient patient/*.rs";

fn of_type<'a>(allowed: &'a BTreeSet<Key>, t: &'a str) -> impl Iterator<Item = &'a str> {
    allowed.iter().filter(move |k| k.0 == t).map(|k| k.1.as_str())
}

/// By every door: exactly what is allowed, and no word of the rest.
async fn holds(records: &Records, token: &str, allowed: &BTreeSet<Key>, turn: usize) {
    reads_hold(records, token, allowed, turn).await;
    for t in records.types() {
        searches_hold(records, token, allowed, &t).await;
    }
}

/// Every record that is theirs is read. Of the others every thirtieth, other ones for each patient:
/// all of them by `GET` would take minutes, and `_id` below asks for every single one.
async fn reads_hold(records: &Records, token: &str, allowed: &BTreeSet<Key>, turn: usize) {
    let absent = records.get(Some(token), "fhir/Observation/never-there").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    for (at, k) in records.all.keys().enumerate() {
        let mine = allowed.contains(k);
        if !mine && at % 30 != turn % 30 && !k.1.starts_with("trap") {
            continue;
        }
        let answer = records.get(Some(token), &format!("fhir/{}/{}", k.0, k.1)).await;
        if mine {
            assert_eq!(answer.status, StatusCode::OK, "{k:?} is theirs: {}", answer.text);
            assert_eq!(key(&answer.json()), *k);
        } else {
            assert_same_as_absent(&absent, &answer, k);
        }
    }
}

/// "Not yours" is said in the very words of "not there".
fn assert_same_as_absent(absent: &Answer, answer: &Answer, k: &Key) {
    assert_eq!(answer.status, absent.status, "{k:?} is not theirs: {}", answer.text);
    let words = answer.text.replace(&format!("{}/{}", k.0, k.1), "Observation/never-there");
    assert_eq!(words, absent.text);
    let names = |a: &Answer| a.headers.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(names(answer), names(absent));
}

async fn searches_hold(records: &Records, token: &str, allowed: &BTreeSet<Key>, t: &str) {
    let token = Some(token);
    let expected: BTreeSet<Key> = allowed.iter().filter(|k| k.0 == t).cloned().collect();
    let total = i64::try_from(expected.len()).expect("few");
    let exact = |bundles: &[Value], what: &str| {
        let (found, said) = counted(bundles, what);
        let extra: Vec<&Key> = found.difference(&expected).take(9).collect();
        let lost: Vec<&Key> = expected.difference(&found).take(9).collect();
        assert!(extra.is_empty() && lost.is_empty(), "{what}: not theirs {extra:?}, not found {lost:?}");
        assert_eq!(said, total, "{what}: the total");
    };
    // Four or five pages of each type.
    let small = expected.len() / 5 + 1;
    exact(&records.pages(token, &format!("fhir/{t}?_count={small}")).await, t);
    let sorted = format!("fhir/{t}?_sort=-_lastUpdated,_id&_count={}", small * 2);
    exact(&records.pages(token, &sorted).await, &sorted);
    for no_entries in ["_summary=count", "_count=0"] {
        let bundle = records.found(token, &format!("fhir/{t}?{no_entries}")).await;
        assert_eq!((bundle["total"].as_i64(), keys(&bundle)), (Some(total), Vec::new()), "{t}?{no_entries}");
    }
    // Everything there is, asked for by name: by GET as many as a URL holds, by POST all, the form and
    // the query holding together.
    let everybody = records.ids(t);
    let (mut found, mut sum) = (BTreeSet::new(), 0);
    for some in everybody.chunks(450) {
        let form = [("_id", &*some.join(",")), ("_total", "accurate")];
        let answer = records.post(token, &format!("fhir/{t}/_search?_count=1000"), &form).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let (keys, total) = counted(&[answer.json()], t);
        found.extend(keys);
        sum += total;
    }
    assert_eq!((&found, sum), (&expected, total), "{t} by POST and _id");
    let some: Vec<&str> = everybody.iter().step_by(everybody.len() / 40 + 1).copied().collect();
    if !some.is_empty() {
        let asked = format!("fhir/{t}?_id={}", some.join(","));
        let (found, total) = counted(&[records.found(token, &asked).await], &asked);
        assert!(found.is_subset(&expected), "{asked}");
        let mine = of_type(allowed, t).filter(|id| some.contains(id)).count();
        assert_eq!((found.len(), total), (mine, i64::try_from(mine).expect("few")), "{asked}");
    }
    // A negation must not turn the filter round.
    exact(&records.pages(token, &format!("fhir/{t}?_id:not=nobody&_count=1000")).await, "_id:not");
    let narrowed = [("_id", "nobody")];
    let answer = records.post(token, &format!("fhir/{t}/_search?_id:not=somebody"), &narrowed).await;
    assert_eq!(answer.json()["total"], 0, "query and form must both hold: {t}");
}

/// Naming another patient finds nothing, whatever the parameter is called for that type.
async fn nothing_of_others(records: &Records, token: &str, other: &str) {
    for t in records.types() {
        let named = [
            format!("patient={other}"),
            format!("patient=Patient/{other}"),
            match t.as_str() {
                "Appointment" => format!("actor=Patient/{other}"),
                "Coverage" => format!("beneficiary:Patient={other}"),
                _ => format!("subject:Patient={other}"),
            },
        ];
        for asked in named {
            let answer = records.strict(Some(token), &format!("fhir/{t}?{asked}")).await;
            // A type without that parameter refuses it, since the test asks for strictness.
            let refused = answer.status == StatusCode::BAD_REQUEST;
            assert!(refused || answer.json()["total"] == 0, "{t}?{asked}: {}", answer.text);
        }
    }
}

async fn matrix(records: &Records, patients: &[(&str, &str)]) {
    let rule = Rule::of(records);
    for (turn, (person, patient)) in patients.iter().enumerate() {
        let allowed = rule.allowed(&[patient]);
        assert!(allowed.contains(&("Patient".to_owned(), (*patient).to_owned())));
        let token = records.token(person, Some(patient), PATIENT).await;
        holds(records, &token, &allowed, turn).await;
        let others = patients.iter().cycle().skip(turn).map(|(_, p)| p);
        let other = others.take(patients.len()).find(|p| *p != patient).expect("another patient");
        nothing_of_others(records, &token, other).await;
    }
}

#[tokio::test]
async fn each_patient_of_the_sandbox_sees_their_own_record_and_no_word_of_any_other() {
    let records = Records::start(traps::files).await;
    let people = [
        ("maria", MARIA),
        ("robin", ROBIN),
        ("amara", "patient-amara"),
        // Children without accounts of their own: their mother chooses them.
        ("amara", "patient-kofi"),
        ("amara", "patient-esi"),
        ("declan", "patient-margaret"),
        ("margaret", "patient-margaret"),
        ("anneli", "patient-anneli"),
        ("annika", "patient-annika"),
        ("kenichi", "patient-kenichi"),
    ];
    let covered: BTreeSet<&str> = people.iter().map(|(_, p)| *p).collect();
    assert_eq!(covered, records.ids("Patient").into_iter().collect(), "every patient is in the matrix");
    matrix(&records, &people).await;
}

#[tokio::test]
async fn each_imported_patient_sees_their_own_record_and_no_word_of_any_other() {
    let Some(files) = shared() else { return };
    let imported: Vec<String> =
        files.iter().flatten().filter(|r| r["resourceType"] == "Patient").map(|r| key(r).1).collect();
    assert!(imported.len() >= 9);
    let records = Records::start(|_| files).await;
    let people: Vec<(&str, &str)> = imported.iter().map(|id| (id.as_str(), id.as_str())).collect();
    matrix(&records, &people).await;
}

#[tokio::test]
async fn a_token_from_a_real_launch_sees_what_the_rule_says() {
    let files = shared().unwrap_or_default();
    let imported = files.iter().flatten().find(|r| r["resourceType"] == "Patient").map(|r| key(r).1);
    let records = Records::start(|_| files).await;
    let rule = Rule::of(&records);
    let client = records.server.register(json!({})).await;
    let launch = || records.server.launch(&client).scope(PATIENT);
    let mut launches =
        vec![(launch().by("maria"), MARIA), (launch().by("amara").patient("patient-kofi"), "patient-kofi")];
    match &imported {
        None => {}
        Some(id) => launches.extend([
            (launch().by(id), id.as_str()),
            // A practitioner chooses a patient, and is then held to that one.
            (launch().by("ruth").patient(id), id.as_str()),
        ]),
    }
    for (turn, (launch, patient)) in launches.into_iter().enumerate() {
        let token = launch.token().await;
        assert_eq!(token["patient"], patient);
        holds(&records, access(&token), &rule.allowed(&[patient]), turn).await;
    }
}

#[tokio::test]
async fn a_user_scope_reaches_everybody_a_panel_or_a_family() {
    let files = shared().unwrap_or_default();
    let records = Records::start(|base| traps::files(base).into_iter().chain(files).collect()).await;
    let rule = Rule::of(&records);
    let everything: BTreeSet<Key> = records.all.keys().cloned().collect();
    let family = ["patient-amara", "patient-kofi", "patient-esi"];
    for (turn, (person, allowed)) in [
        ("ruth", everything),
        ("daniel", rule.allowed(&["patient-margaret", MARIA])),
        ("amara", rule.allowed(&family)),
        ("declan", rule.allowed(&["patient-margaret"])),
        ("maria", rule.allowed(&[MARIA])),
    ]
    .into_iter()
    .enumerate()
    {
        let token = records.token(person, None, "user/*.rs").await;
        holds(&records, &token, &allowed, turn).await;
        // Without a patient in context, patient/ scopes reach nothing at all.
        let token = records.token(person, None, PATIENT).await;
        for t in records.types() {
            let counted = records.found(Some(&token), &format!("fhir/{t}?_summary=count")).await;
            assert_eq!(counted["total"], 0, "{person}: {t}");
        }
    }
}
