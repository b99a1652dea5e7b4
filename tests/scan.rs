//! What a search is compared with: every record of a type looked at, one after the other, by a rule written
//! for that one case. Nothing here knows the server's tables of parameters or its index.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::kit::NOW;
use crate::records::{Key, Records, counted, each, key, shared};

/// The sandbox's own records, some odd ones, and the shared bundles; None where those are missing.
pub async fn everything() -> Option<Records> {
    let files = shared()?;
    Some(Records::start(|base| [vec![oddities(base)], files].concat()).await)
}

/// The search finds what the scan keeps: through all pages, each once, with the right total. It must find
/// something, since a comparison of nothing with nothing shows nothing.
pub async fn same(records: &Records, t: &str, asked: &str, keep: impl Fn(&Value) -> bool) {
    let kept: BTreeSet<Key> = records.of_type(t).filter(|r| keep(r)).map(key).collect();
    assert!(!kept.is_empty(), "{t}?{asked}: the scan keeps nothing");
    compare(records, t, asked, &kept).await;
}

/// Neither the search nor the scan finds anything.
pub async fn none(records: &Records, t: &str, asked: &str) {
    compare(records, t, asked, &BTreeSet::new()).await;
}

/// The same, whether it is something or not: for tables of cases.
pub async fn compare(records: &Records, t: &str, asked: &str, kept: &BTreeSet<Key>) {
    let path = format!("open/fhir/{t}?_count=1000&_elements=id&{asked}");
    let strict = records.strict(None, &path).await;
    assert_eq!(strict.status, reqwest::StatusCode::OK, "{path}: {}", strict.text);
    let first = strict.json();
    let pages = match crate::records::next_of(&first) {
        None => vec![first],
        Some(next) => [vec![first], records.pages(None, &next).await].concat(),
    };
    let (found, total) = counted(&pages, &path);
    let lost: Vec<&Key> = kept.difference(&found).take(9).collect();
    let extra: Vec<&Key> = found.difference(kept).take(9).collect();
    assert!(lost.is_empty() && extra.is_empty(), "{path}: not found {lost:?}, not in the scan {extra:?}");
    assert_eq!(total, i64::try_from(kept.len()).expect("few"), "{path}: the total");
}

/// A value as it is written in a URL.
pub fn encoded(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// Every coding of a concept, or of several.
pub fn codings(concepts: &Value) -> impl Iterator<Item = &Value> {
    each(concepts).flat_map(|concept| each(&concept["coding"]))
}

pub fn has_code(concepts: &Value, code: &str) -> bool {
    codings(concepts).any(|c| c["code"] == code)
}

pub fn has_coding(concepts: &Value, system: &str, code: &str) -> bool {
    codings(concepts).any(|c| c["code"] == code && c["system"] == system)
}

pub fn refers(references: &Value, to: &str) -> bool {
    each(references).any(|r| r["reference"] == to)
}

/// Every text of names or addresses, in lower case and without the accents that the tests' own records have.
pub fn texts(parts: &Value) -> Vec<String> {
    const PARTS: [&str; 11] = [
        "family",
        "given",
        "prefix",
        "suffix",
        "text",
        "line",
        "city",
        "district",
        "state",
        "postalCode",
        "country",
    ];
    let all = each(parts).flat_map(|one| PARTS.iter().flat_map(|name| each(&one[*name])));
    all.filter_map(Value::as_str).map(plain).collect()
}

pub fn plain(text: &str) -> String {
    text.to_lowercase()
        .chars()
        .map(|c| match c {
            'á' => 'a',
            'é' => 'e',
            'í' => 'i',
            'ö' => 'o',
            'ñ' => 'n',
            c => c,
        })
        .collect()
}

/// First millisecond of a date or time as it is written, and first one after it.
pub fn span(text: &str) -> (i64, i64) {
    let at = |date: Date| date.to_zoned(TimeZone::UTC).expect("a day").timestamp().as_millisecond();
    let number = |range: std::ops::Range<usize>| text[range].parse::<i16>().expect("digits");
    let part = |range| i8::try_from(number(range)).expect("small");
    match text.len() {
        4 => (at(Date::new(number(0..4), 1, 1).unwrap()), at(Date::new(number(0..4) + 1, 1, 1).unwrap())),
        7 => {
            let first = Date::new(number(0..4), part(5..7), 1).unwrap();
            (at(first), at(first.last_of_month().tomorrow().unwrap()))
        }
        10 => {
            let day = Date::new(number(0..4), part(5..7), part(8..10)).unwrap();
            (at(day), at(day.tomorrow().unwrap()))
        }
        _ => {
            let lo = text.parse::<Timestamp>().expect("a time with a zone").as_millisecond();
            (lo, lo + if text.contains('.') { 1 } else { 1000 })
        }
    }
}

/// The span of a date, a dateTime or a Period; None where there is none.
pub fn span_of(value: &Value) -> Option<(i64, i64)> {
    match value {
        Value::String(text) => Some(span(text)),
        Value::Object(_) => {
            let end = |name: &str| value[name].as_str().map(span);
            Some((end("start").map_or(i64::MIN, |s| s.0), end("end").map_or(i64::MAX, |s| s.1)))
        }
        _ => None,
    }
}

/// FHIR R4 search, "Prefixes", for spans; `ge` and `le` reach into what is asked for, as `matching.rs` says.
pub fn holds(prefix: &str, value: (i64, i64), asked: &str) -> bool {
    let ((lo, hi), (from, to)) = (value, span(asked));
    match prefix {
        "" | "eq" => lo >= from && hi <= to,
        "ne" => !(lo >= from && hi <= to),
        "gt" => hi > to,
        "lt" => lo < from,
        "ge" => hi > from,
        "le" => lo < to,
        "sa" => lo >= to,
        "eb" => hi <= from,
        "ap" => {
            let away = if NOW < from {
                from - NOW
            } else if NOW > to {
                NOW - to
            } else {
                0
            } / 10;
            hi > from - away && lo < to + away
        }
        other => panic!("no prefix {other}"),
    }
}

pub const PREFIXES: [&str; 10] = ["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];

/// The same for a number (or a range of numbers), asked for as it is written.
pub fn counts(prefix: &str, (lo, hi): (f64, f64), asked: &str) -> bool {
    let value: f64 = asked.parse().expect("a number");
    let places = asked.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let half: f64 = format!("0.5e-{places}").parse().expect("a number");
    let within = lo >= value - half && hi < value + half;
    match prefix {
        "" | "eq" => within,
        "ne" => !within,
        "gt" => hi > value,
        "lt" => lo < value,
        "ge" => hi >= value,
        "le" => lo <= value,
        "sa" => lo > value,
        "eb" => hi < value,
        "ap" => {
            let around = (value.abs() / 10.0).max(half);
            hi >= value - around && lo <= value + around
        }
        other => panic!("no prefix {other}"),
    }
}

/// A Quantity's value, or all that its comparator leaves open.
pub fn range(quantity: &Value) -> Option<(f64, f64)> {
    let value = quantity["value"].as_f64()?;
    Some(match quantity["comparator"].as_str() {
        Some("<" | "<=") => (f64::NEG_INFINITY, value),
        Some(">" | ">=") => (value, f64::INFINITY),
        _ => (value, value),
    })
}

/// Records with what the others have not: odd letters, open ends, numbers, URLs with versions, nothing at all.
fn oddities(base: &str) -> Vec<Value> {
    let observation = |id: &str, more: Value| {
        let mut resource = json!({"resourceType": "Observation", "id": id, "status": "final",
            "code": {"coding": [{"system": "urn:odd", "code": "odd"}]}});
        let (Value::Object(all), Value::Object(more)) = (&mut resource, more) else { unreachable!() };
        all.extend(more);
        resource
    };
    let risk = |id: &str, prediction: Value| {
        json!({"resourceType": "RiskAssessment", "id": id, "status": "final",
        "prediction": prediction})
    };
    let value_set =
        |id: &str, url: &str| json!({"resourceType": "ValueSet", "id": id, "status": "active", "url": url});
    let to = |r: &str| json!({"reference": r});
    vec![
        json!({"resourceType": "Patient", "id": "odd-letters", "active": true, "gender": "female",
            "name": [{"family": "Ünsal, née O|Neil", "given": ["José  María", "back\\slash", "dol$lar"]}],
            "telecom": [{"system": "phone", "value": "+1 (555) 0100", "use": "home"}, {"value": "none"}],
            "birthDate": "1980", "generalPractitioner": [to("http://other.example/fhir/Practitioner/1")],
            "meta": {"tag": [{"code": "bare"}], "security": [{"system": "urn:s", "code": "R"}],
                "profile": ["http://example.org/p|1.0"], "source": "urn:uuid:source"}}),
        json!({"resourceType": "Patient", "id": "odd-dead", "deceasedBoolean": true, "active": false}),
        json!({"resourceType": "Patient", "id": "odd-alive", "deceasedBoolean": false, "birthDate": "1980-06"}),
        json!({"resourceType": "Patient", "id": "odd-empty"}),
        observation("odd-nothing", json!({})),
        observation("odd-text", json!({"category": [{"text": "only words"}], "valueString": "A B  c"})),
        observation(
            "odd-codes",
            json!({"category": [{"coding": [{"code": "no-system"},
            {"system": "urn:odd", "code": "a,b"}, {"system": "urn:odd", "code": "c|d"}]}]}),
        ),
        observation(
            "odd-less",
            json!({"valueQuantity": {"value": 5, "comparator": "<", "unit": "mg", "code": "mg"}}),
        ),
        observation(
            "odd-more",
            json!({"valueQuantity": {"value": 100, "comparator": ">=", "unit": "drops"}}),
        ),
        observation(
            "odd-negative",
            json!({"valueQuantity": {"value": -2.5, "unit": "mg", "system": "urn:u", "code": "mg"}}),
        ),
        observation("odd-logical", json!({"subject": {"identifier": {"system": "urn:i", "value": "7"}}})),
        observation(
            "odd-both",
            json!({"subject": {"reference": "Patient/odd-letters",
            "identifier": {"system": "urn:i", "value": "8"}}}),
        ),
        observation("odd-absolute", json!({"subject": to(&format!("{base}/Patient/odd-letters"))})),
        observation("odd-elsewhere", json!({"subject": to("http://other.example/fhir/Patient/odd-letters")})),
        observation("odd-group", json!({"subject": to("Group/odd-letters")})),
        observation("odd-started", json!({"effectivePeriod": {"start": "2015-03"}})),
        observation("odd-ended", json!({"effectivePeriod": {"end": "1999-12-31"}})),
        observation("odd-instant", json!({"effectiveInstant": "2015-03-31T23:59:59.999+00:00"})),
        observation("odd-zone", json!({"effectiveDateTime": "2015-03-31T23:30:00-05:00"})),
        risk("odd-half", json!([{"probabilityDecimal": 0.5}])),
        risk("odd-exact", json!([{"probabilityDecimal": 0.54}, {"probabilityDecimal": 0.001}])),
        risk("odd-range", json!([{"probabilityRange": {"low": {"value": 0.2}, "high": {"value": 0.8}}}])),
        risk("odd-whole", json!([{"probabilityDecimal": 100}])),
        risk("odd-none", json!([])),
        value_set("odd-plain", "http://example.org/vs"),
        value_set("odd-version", "http://example.org/vs|2"),
        value_set("odd-below", "http://example.org/vs/below"),
        value_set("odd-urn", "urn:oid:1.2.3"),
    ]
}
