//! How the answer to a search is given: order, pages, totals, parts, unknown parameters, cursors, and the same
//! by GET and by POST (FHIR R4 "Search").

use std::collections::{BTreeMap, BTreeSet};

use hearthgate::clock::HOUR;
use hearthgate::fhir::import;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::kit::NOW;
use crate::records::{Key, Records, counted, each, key, keys, next_of};
use crate::scan::{PREFIXES, codings, compare, encoded, everything, holds, plain, refers, span_of};

/// What to sort by; None where a resource has no such value.
type SortValue = fn(&Value) -> Option<Order>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Time(i64),
    Text(String),
}

fn text(value: &Value) -> Option<Order> {
    Some(Order::Text(value.as_str()?.to_owned()))
}

/// Whether these stand in order; what has no value stands last, both ways.
fn in_order(listed: &[&Value], keys: &[(SortValue, bool)]) -> bool {
    let rank = |a: &Value, b: &Value| {
        let mut by_key = keys.iter().map(|(of, down)| match (of(a), of(b)) {
            (Some(a), Some(b)) if *down => b.cmp(&a),
            (Some(a), Some(b)) => a.cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        by_key.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    listed.windows(2).all(|pair| rank(pair[0], pair[1]).is_le())
}

#[tokio::test]
async fn sorted_pages_hold_everything_once_in_order_and_missing_values_last() {
    let Some(records) = &everything().await else { return };
    let started: SortValue = |r| span_of(&r["period"]).map(|s| Order::Time(s.0));
    let ended: SortValue = |r| span_of(&r["period"]).map(|s| Order::Time(s.1));
    let born: SortValue = |r| span_of(&r["birthDate"]).map(|s| Order::Time(s.0));
    let born_last: SortValue = |r| span_of(&r["birthDate"]).map(|s| Order::Time(s.1));
    let family: SortValue = |r| {
        let families = each(&r["name"]).filter_map(|n| n["family"].as_str());
        families.map(|f| plain(f).replace('ü', "u")).min().map(Order::Text)
    };
    let family_last: SortValue = |r| {
        let families = each(&r["name"]).filter_map(|n| n["family"].as_str());
        families.map(|f| plain(f).replace('ü', "u")).max().map(Order::Text)
    };
    let gender: SortValue = |r| text(&r["gender"]);
    let id: SortValue = |r| text(&r["id"]);
    let status: SortValue = |r| text(&r["clinicalStatus"]["coding"][0]["code"]);
    let encounter: SortValue = |r| text(&r["encounter"]["reference"]);
    let probability: SortValue = |r| {
        let least =
            r["prediction"].as_array()?.iter().map(|p| p["probabilityDecimal"].as_f64().unwrap_or(0.2));
        least.map(|v| Order::Time((v * 1000.0) as i64)).min()
    };
    for (t, sort, by) in [
        ("Encounter", "date", vec![(started, false)]),
        ("Encounter", "-date", vec![(ended, true)]),
        ("Encounter", "-date,_id", vec![(ended, true), (id, false)]),
        ("Patient", "birthdate", vec![(born, false)]),
        ("Patient", "-birthdate", vec![(born_last, true)]),
        ("Patient", "family", vec![(family, false)]),
        ("Patient", "-family,birthdate", vec![(family_last, true), (born, false)]),
        ("Patient", "gender,-birthdate", vec![(gender, false), (born_last, true)]),
        ("Patient", "-gender,family,-_id", vec![(gender, true), (family, false), (id, true)]),
        ("Condition", "clinical-status,-_id", vec![(status, false), (id, true)]),
        ("Condition", "encounter", vec![(encounter, false)]),
        ("Condition", "-encounter,_lastUpdated", vec![(encounter, true)]),
        ("RiskAssessment", "probability", vec![(probability, false)]),
        ("Observation", "_id", vec![(id, false)]),
        ("Observation", "-_id", vec![(id, true)]),
    ] {
        for count in [7, 1000] {
            // Many pages of the many Observations would only repeat this.
            let count = if t == "Observation" { count * 60 } else { count };
            let path = format!("open/fhir/{t}?_sort={sort}&_count={count}");
            let pages = records.pages(None, &path).await;
            let listed: Vec<Key> = pages.iter().flat_map(keys).collect();
            let (found, total) = counted(&pages, &path);
            assert_eq!(found, records.of_type(t).map(key).collect(), "{path}");
            assert_eq!(total, i64::try_from(listed.len()).expect("few"));
            assert!(
                pages.iter().rev().skip(1).all(|page| keys(page).len() == count.min(1000)),
                "{path}: full pages"
            );
            let raw: Vec<&Value> = listed.iter().map(|k| &records.all[k]).collect();
            assert!(in_order(&raw, &by), "{path}: {listed:?}");
        }
    }
}

#[tokio::test]
async fn within_one_patient_order_is_the_same() {
    let Some(records) = &everything().await else { return };
    let about = |r: &&Value| refers(&r["subject"], "Patient/patient-maria");
    let expected: BTreeSet<Key> = records.of_type("Observation").filter(about).map(key).collect();
    let time = |r: &Value| span_of(&r["effectiveDateTime"]).or_else(|| span_of(&r["effectivePeriod"]));
    let from: SortValue = |r| codings(&r["code"]).filter_map(|c| text(&c["code"])).min();
    let token = records.token("maria", Some("patient-maria"), "launch/patient patient/*.rs").await;
    for sort in ["date", "-date", "-date,_id", "code,-date"] {
        let paths = [
            (None, format!("open/fhir/Observation?patient=patient-maria&_sort={sort}&_count=11")),
            (Some(&*token), format!("fhir/Observation?_sort={sort}&_count=11")),
        ];
        for (token, path) in paths {
            let pages = records.pages(token, &path).await;
            assert_eq!(counted(&pages, &path).0, expected, "{path}");
            let listed: Vec<Key> = pages.iter().flat_map(keys).collect();
            let raw: Vec<&Value> = listed.iter().map(|k| &records.all[k]).collect();
            let times: Vec<_> = raw.iter().map(|r| time(r).expect("a time")).collect();
            let ordered = match sort {
                "date" => times.windows(2).all(|w| w[0].0 <= w[1].0),
                "code,-date" => in_order(&raw, &[(from, false)]),
                _ => times.windows(2).all(|w| w[0].1 >= w[1].1),
            };
            assert!(ordered, "{path}: {listed:?}");
        }
    }
}

#[tokio::test]
async fn a_page_may_end_at_a_value_without_end() {
    let Some(records) = &everything().await else { return };
    let order = ["odd-less", "odd-negative", "odd-more", "odd-nothing", "odd-text"];
    let path = format!("open/fhir/Observation?_id={}&_count=1&_sort=", order.join(","));
    let ids = |pages: Vec<Value>| pages.iter().flat_map(keys).map(|k| k.1).collect::<Vec<_>>();
    assert_eq!(ids(records.pages(None, &format!("{path}value-quantity,_id")).await), order);
    let downward = ["odd-more", "odd-less", "odd-negative", "odd-nothing", "odd-text"];
    assert_eq!(ids(records.pages(None, &format!("{path}-value-quantity,_id")).await), downward);
}

#[tokio::test]
async fn pages_stay_whole_while_records_come_and_change() {
    let Some(records) = &everything().await else { return };
    let before: BTreeSet<Key> = records.of_type("Condition").map(key).collect();
    for (turn, sort) in ["", "&_sort=-onset-date", "&_sort=_id"].into_iter().enumerate() {
        let mut found: Vec<Key> = Vec::new();
        let mut next = Some(format!("open/fhir/Condition?_count=9{sort}"));
        let mut step = 0;
        while let Some(path) = next {
            let page = records.found(None, &path).await;
            found.extend(keys(&page));
            next = next_of(&page);
            // Between any two pages one record is new, and another one changes, though not its date.
            let mut changed = records.all[before.iter().nth(step).expect("one")].clone();
            changed["note"] = json!([{"text": format!("changed in turn {turn}")}]);
            let mut new = changed.clone();
            new["id"] = json!(format!("new-{turn}-{step}"));
            write(records, vec![changed, new], NOW).await;
            step += 1;
        }
        let once: BTreeSet<&Key> = found.iter().collect();
        assert_eq!(once.len(), found.len(), "{sort}: nothing twice");
        assert!(before.iter().all(|k| once.contains(k)), "{sort}: nothing left out");
    }
}

async fn write(records: &Records, resources: Vec<Value>, at: i64) {
    let (store, base) = (records.server.app.store.clone(), records.server.fhir_base());
    let write = move || import::write(&store, resources, &base, at);
    tokio::task::spawn_blocking(write).await.expect("it runs").expect("it is written");
}

#[tokio::test]
async fn the_time_of_the_last_change_is_searched_and_sorted_by() {
    let Some(records) = &everything().await else { return };
    let later: Vec<Value> = records.of_type("Coverage").take(3).cloned().collect();
    let changed: BTreeSet<Key> = later.iter().map(key).collect();
    let of = |mut r: Value| {
        r["status"] = json!("cancelled");
        r
    };
    write(records, later.into_iter().map(of).collect(), NOW + HOUR).await;
    let at: BTreeMap<Key, i64> = records
        .of_type("Coverage")
        .map(key)
        .map(|k| (k.clone(), if changed.contains(&k) { NOW + HOUR } else { NOW }))
        .collect();
    for asked in [
        "2026-11-01T12:00:00Z",
        "2026-11-01T12:00:00.000Z",
        "2026-11-01T13:00:00Z",
        "2026-11-01T12:30:00Z",
        "2026-11-01",
        "2026",
        "2025",
        "2027-01",
        "2026-11-01T14:00:00.000+02:00",
    ] {
        for prefix in PREFIXES {
            let found = at
                .iter()
                .filter(|(_, at)| holds(prefix, (**at, **at + 1), asked))
                .map(|(k, _)| k.clone())
                .collect();
            compare(records, "Coverage", &format!("_lastUpdated={prefix}{}", encoded(asked)), &found).await;
        }
    }
    let newest = records.found(None, "open/fhir/Coverage?_sort=-_lastUpdated&_count=3").await;
    assert_eq!(keys(&newest).into_iter().collect::<BTreeSet<_>>(), changed);
    let oldest = records.found(None, "open/fhir/Coverage?_sort=_lastUpdated&_count=1000").await;
    assert_eq!(keys(&oldest).into_iter().rev().take(3).collect::<BTreeSet<_>>(), changed);
    let old_value = records.found(None, "open/fhir/Coverage?status=active").await;
    assert_eq!(keys(&old_value).len(), at.len() - 3, "an old version is found by nothing any more");
}

#[tokio::test]
async fn totals_summaries_and_elements_are_as_asked() {
    let Some(records) = &everything().await else { return };
    let all = records.ids("Observation").len();
    for (asked, total) in
        [("", true), ("_total=none", false), ("_total=accurate", true), ("_total=estimate", true)]
    {
        let page = records.found(None, &format!("open/fhir/Observation?_count=2&{asked}")).await;
        assert_eq!(page["total"].as_u64(), total.then_some(all as u64), "{asked}");
        assert_eq!(keys(&page).len(), 2);
    }
    for asked in ["_summary=count", "_count=0", "_summary=count&_total=none", "_summary=count&_count=5"] {
        let page = records.found(None, &format!("open/fhir/Observation?{asked}")).await;
        assert_eq!((page["total"].as_u64(), keys(&page).len()), (Some(all as u64), 0), "{asked}");
        assert_eq!(next_of(&page), None, "{asked}");
    }
    let names = |r: &Value| r.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    let one = "open/fhir/Patient?_id=patient-maria";
    let show = async |asked: &str| {
        records.found(None, &format!("{one}&{asked}")).await["entry"][0]["resource"].clone()
    };
    let whole = show("_summary=false").await;
    let part = show("_elements=name,birthDate").await;
    assert_eq!(names(&part), set(&["resourceType", "id", "meta", "name", "birthDate"]));
    assert!(part.get("name") == whole.get("name") && part.get("birthDate") == whole.get("birthDate"));
    let data = show("_summary=data").await;
    assert!(data.get("text").is_none() && data.get("contact") == whole.get("contact"));
    let (text, summary) = (show("_summary=text").await, show("_summary=true").await);
    assert_eq!(text.get("text"), whole.get("text"));
    assert!(
        text.get("name").is_none()
            && summary.get("text").is_none()
            && summary.get("name") == whole.get("name")
    );
    for part in [part, data, text, summary] {
        let tags: Vec<&Value> = each(&part["meta"]["tag"]).filter(|t| t["code"] == "SUBSETTED").collect();
        assert_eq!(tags.len(), 1, "a part says that it is one");
        assert_eq!((&part["id"], &part["meta"]["versionId"]), (&whole["id"], &whole["meta"]["versionId"]));
    }
    assert!(!whole.to_string().contains("SUBSETTED"));
}

#[tokio::test]
async fn what_is_not_understood_is_named_or_refused_and_never_passed_over_in_silence() {
    let Some(records) = &everything().await else { return };
    for (asked, name) in [
        ("colour=blue", "colour"),
        ("gender=male&colour=blue", "colour"),
        ("_text=asthma", "_text"),
        ("_filter=name eq x", "_filter"),
        ("colour:exact=blue", "colour:exact"),
        ("colour.name=blue", "colour.name"),
        ("_sort=colour", "_sort"),
    ] {
        let path = format!("open/fhir/Patient?{asked}");
        let page = records.found(None, &path).await;
        let entries: Vec<&Value> = each(&page["entry"]).collect();
        let outcomes: Vec<&&Value> = entries.iter().filter(|e| e["search"]["mode"] == "outcome").collect();
        assert_eq!(outcomes.len(), 1, "{asked}");
        assert_eq!(outcomes[0]["resource"]["resourceType"], "OperationOutcome");
        assert!(outcomes[0].to_string().contains(name), "{asked}: {}", outcomes[0]);
        let wanted = |r: &&Value| !asked.contains("gender") || r["gender"] == "male";
        let total = records.of_type("Patient").filter(wanted).count();
        assert_eq!(page["total"].as_u64(), Some(total as u64), "the outcome is not counted");
        let strict = records.strict(None, &path).await;
        assert_eq!(strict.status, StatusCode::BAD_REQUEST, "{asked}");
        assert_eq!(strict.json()["resourceType"], "OperationOutcome");
        assert!(strict.text.contains(name), "{asked}: {}", strict.text);
    }
    for bad in [
        "gender:contains=m",
        "name:not=a",
        "name:below=a",
        "birthdate=tomorrow",
        "birthdate=ge",
        "birthdate=2020-13",
        "gender=male,",
        "gender=",
        "name=",
        "name:missing=maybe",
        "general-practitioner:Observation=1",
        "_count=-1",
        "_count=ten",
        "_count=1&_count=2",
        "_total=some",
        "_summary=short",
        "_elements=a.b",
        "_has:Observation=1",
        "_has:Observation:code:x=1",
        "_has:Nonsense:patient:code=1",
        "gender.name=x",
        "general-practitioner.nonsense=x",
        "link.link.link.link.name=x",
        "general-practitioner:Practitioner.nonsense=x",
    ] {
        for strict in [false, true] {
            let path = format!("open/fhir/Patient?{bad}");
            let answer =
                if strict { records.strict(None, &path).await } else { records.get(None, &path).await };
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}: {}", answer.text);
            let name = bad.split(['=', ':', '.']).next().expect("a name");
            assert!(answer.text.contains(name), "it says which parameter: {bad}: {}", answer.text);
        }
    }
    assert_eq!(records.get(None, "open/fhir/Patience").await.status, StatusCode::NOT_FOUND);
    assert_eq!(records.get(None, "open/fhir/patient?name=a").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cursor_serves_the_search_and_the_grant_it_was_made_for() {
    let Some(records) = &everything().await else { return };
    let scope = "launch/patient patient/*.rs";
    let mine = records.token("maria", Some("patient-maria"), scope).await;
    // The same person, app, patient and scope, but another launch.
    let again = records.token("maria", Some("patient-maria"), scope).await;
    let other = records.token("margaret", Some("patient-margaret"), scope).await;
    let base = format!("{}/", records.server.url);
    let first = "fhir/Observation?_count=5&_sort=-date&category=vital-signs";
    let next = next_of(&records.found(Some(&mine), first).await).expect("a second page");
    let (path, cursor) = next.strip_prefix(&base).expect("here").split_once("&_cursor=").expect("a cursor");
    let with = |path: &str, cursor: &str| format!("{path}&_cursor={cursor}");
    assert_eq!(records.get(Some(&mine), &with(path, cursor)).await.status, StatusCode::OK);
    let elsewhere = |to: &str| with(&path.replace("Observation", to), cursor);
    let open = with(&format!("open/{path}"), cursor);
    let (body, tag) = cursor.split_once('.').expect("two parts");
    for (token, asked, why) in [
        (Some(&again), with(path, cursor), "another launch"),
        (Some(&other), with(path, cursor), "another person"),
        (None, open, "the open twin"),
        (Some(&mine), with(&path.replace("vital-signs", "laboratory"), cursor), "another search"),
        (Some(&mine), with(&path.replace("_count=5", "_count=6"), cursor), "another size of page"),
        (Some(&mine), with(&path.replace("-date", "date"), cursor), "another order"),
        (Some(&mine), with(&path.replace("&category=vital-signs", ""), cursor), "a wider search"),
        (Some(&mine), elsewhere("Condition"), "another type"),
        (Some(&mine), with(path, &format!("{body}.{}", tag.to_uppercase())), "another tag"),
        (Some(&mine), with(path, &format!("W10.{tag}")), "another position"),
        (Some(&mine), with(path, body), "no tag"),
        (Some(&mine), with(path, ""), "nothing"),
        (Some(&mine), with(path, "made-up.cursor"), "made up"),
        (Some(&mine), with(&with(path, cursor), cursor), "twice"),
    ] {
        let answer = records.get(token.map(String::as_str), &asked).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{why}: {}", answer.text);
        assert_eq!(answer.json()["resourceType"], "OperationOutcome", "{why}");
    }
}

#[tokio::test]
async fn a_search_by_post_is_the_search_by_get() {
    let Some(records) = &everything().await else { return };
    for (t, query, form) in [
        ("Observation", "", vec![("category", "laboratory"), ("_count", "5")]),
        ("Observation", "_count=5", vec![("category", "laboratory,vital-signs"), ("_sort", "-date,_id")]),
        (
            "Observation",
            "category=laboratory",
            vec![("category:not", "vital-signs"), ("patient", "patient-maria")],
        ),
        ("Patient", "", vec![("name", "José María"), ("colour", "blue")]),
        ("Patient", "", vec![("name", "a\\,b & c=d + e|f")]),
        ("Patient", "", vec![("_has:Observation:patient:code", "8302-2"), ("_elements", "id")]),
        ("Encounter", "date=ge2010", vec![("date", "lt2012"), ("_total", "none")]),
        ("Encounter", "_summary=count", vec![]),
        ("Encounter", "", vec![]),
    ] {
        let posted = records.post(None, &format!("open/fhir/{t}/_search?{query}"), &form).await;
        let pairs = form.iter().map(|(n, v)| format!("{}={}", encoded(n), encoded(v)));
        let all: Vec<String> =
            [query.to_owned()].into_iter().filter(|q| !q.is_empty()).chain(pairs).collect();
        let got = records.get(None, &format!("open/fhir/{t}?{}", all.join("&"))).await;
        assert_eq!(got.status, StatusCode::OK, "{}", got.text);
        assert_eq!(posted.json(), got.json(), "{t}?{}", all.join("&"));
    }
    let json = records.post(None, "open/fhir/Patient/_search?gender:contains=x", &[]).await;
    assert_eq!(json.status, StatusCode::BAD_REQUEST);
}
