//! The leak matrix: every patient against every record, by every door. What a patient may see is worked out
//! here once more, naively, from the files alone (the rule is in words in `docs/decisions.md`), and never by
//! asking `hearthgate::fhir::access`.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::kit::{Answer, access};
use crate::records::{Key, Records, each, key, keys, shared};
use crate::traps::{self, MARIA, ROBIN};

const PATIENT: &str = "launch/patient patient/*.rs";
const LABORATORY: (&str, &str) = ("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory");

/// The rule, over all records.
struct Rule<'a> {
    all: &'a BTreeMap<Key, Value>,
    base: String,
}

impl<'a> Rule<'a> {
    fn of(records: &'a Records) -> Self {
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
    fn whose(&self, resource: &Value) -> Option<String> {
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
    fn allowed(&self, patients: &[&str]) -> BTreeSet<Key> {
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

fn of_type<'a>(allowed: &'a BTreeSet<Key>, t: &'a str) -> impl Iterator<Item = &'a str> {
    allowed.iter().filter(move |k| k.0 == t).map(|k| k.1.as_str())
}

/// A Bundle's keys, each once, and its total.
fn counted(bundles: &[Value], what: &str) -> (BTreeSet<Key>, i64) {
    let listed: Vec<Key> = bundles.iter().flat_map(keys).collect();
    let found: BTreeSet<Key> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), found.len(), "twice: {what}");
    let totals: BTreeSet<i64> = bundles.iter().map(|b| b["total"].as_i64().expect("a total")).collect();
    assert_eq!(totals.len(), 1, "totals differ from page to page: {what}");
    (found, totals.into_iter().next().expect("one"))
}

/// By every door: exactly what is allowed, and no word of the rest.
async fn holds(records: &Records, token: &str, allowed: &BTreeSet<Key>, turn: usize) {
    reads_hold(records, token, allowed, turn).await;
    for t in records.types() {
        searches_hold(records, token, allowed, &t).await;
    }
}

/// Every record that is theirs is read. Of the others every fifteenth, another fifteenth for each patient:
/// all of them by `GET` would take minutes, and `_id` below asks for every single one.
async fn reads_hold(records: &Records, token: &str, allowed: &BTreeSet<Key>, turn: usize) {
    let absent = records.get(Some(token), "fhir/Observation/never-there").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    for (at, k) in records.all.keys().enumerate() {
        let mine = allowed.contains(k);
        if !mine && at % 15 != turn % 15 && !k.1.starts_with("trap") {
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
        for asked in ["patient", "subject", "patient:Patient", "subject:Patient", "beneficiary", "actor"] {
            for id in [other.to_owned(), format!("Patient/{other}")] {
                let answer = records.strict(Some(token), &format!("fhir/{t}?{asked}={id}")).await;
                // A type without that parameter refuses it, since the test asks for strictness.
                let refused = answer.status == StatusCode::BAD_REQUEST;
                assert!(refused || answer.json()["total"] == 0, "{t}?{asked}={id}: {}", answer.text);
            }
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
        None => println!("skipped: no launch by an imported patient"),
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
        holds(&records, &token, &BTreeSet::new(), turn).await;
    }
}

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
        // Their own others are as absent as a stranger's; a tenth of the strangers', another for each patient.
        for (turn, id) in records.ids("Observation").into_iter().enumerate() {
            let k = ("Observation".to_owned(), id.to_owned());
            let theirs = Rule::of(&records).whose(&records.all[&k]).as_deref() == Some(patient);
            if theirs || turn % 10 == at % 10 {
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
