//! Dates, numbers and quantities: every prefix on values that stand in the records, compared with a scan
//! (FHIR R4 "Search", "Prefixes").

use std::collections::BTreeSet;

use serde_json::Value;

use crate::records::{Key, Records, each, key};
use crate::scan::{PREFIXES, compare, counts, encoded, everything, holds, range, same, span_of};

#[tokio::test]
async fn dates_are_compared_as_spans_with_every_prefix() {
    let Some(records) = &everything().await else { return };
    let effective = |r: &Value| {
        ["effectiveDateTime", "effectivePeriod", "effectiveInstant"].iter().find_map(|e| span_of(&r[*e]))
    };
    for (t, param, of) in [
        ("Observation", "date", (effective) as fn(&Value) -> Option<(i64, i64)>),
        ("Encounter", "date", |r| span_of(&r["period"])),
        ("Procedure", "date", |r| {
            span_of(&r["performedPeriod"]).or_else(|| span_of(&r["performedDateTime"]))
        }),
        ("Patient", "birthdate", |r| span_of(&r["birthDate"])),
        ("Condition", "onset-date", |r| span_of(&r["onsetDateTime"])),
        ("Coverage", "_lastUpdated", |_| Some((crate::kit::NOW, crate::kit::NOW + 1))),
        ("CarePlan", "date", |r| span_of(&r["period"])),
    ] {
        for asked in asked_dates(records, t) {
            for prefix in PREFIXES {
                let found = |r: &&Value| of(r).is_some_and(|value| holds(prefix, value, &asked));
                let kept: BTreeSet<Key> = records.of_type(t).filter(found).map(key).collect();
                compare(records, t, &format!("{param}={prefix}{}", encoded(&asked)), &kept).await;
            }
        }
    }
    let (from, to) = ("2010-01-01", "2015-06");
    same(records, "Observation", &format!("date=ge{from}&date=lt{to}"), |r| {
        effective(r).is_some_and(|v| holds("ge", v, from) && holds("lt", v, to))
    })
    .await;
    same(records, "Observation", "date=2016,2012-09", |r| {
        effective(r).is_some_and(|v| holds("eq", v, "2016") || holds("eq", v, "2012-09"))
    })
    .await;
}

/// Dates that stand in the records themselves, cut at a year, a month, a day and not at all, and some others.
fn asked_dates(records: &Records, t: &str) -> Vec<String> {
    const ELEMENTS: [&str; 6] =
        ["effectiveDateTime", "period", "performedPeriod", "birthDate", "onsetDateTime", "effectiveInstant"];
    let mut stand: Vec<&str> = records
        .of_type(t)
        .flat_map(|r| ELEMENTS.iter().map(|e| &r[*e]))
        .filter_map(|v| v.as_str().or_else(|| v["end"].as_str()))
        .collect();
    stand.sort_unstable();
    let middle = stand.iter().step_by(stand.len() / 2 + 1).enumerate();
    let cut = middle.flat_map(|(at, text)| {
        [4, 7, 10, text.len()]
            .into_iter()
            .skip(at % 2)
            .step_by(2)
            .map(|n| text.get(..n).unwrap_or(text).to_owned())
    });
    let others =
        ["2015-03", "2026-11-01T12:00:00Z", "2015-03-31T23:59:59.999Z", "2026-11-01T14:00:00.000+02:00"];
    cut.chain(others.map(str::to_owned)).collect()
}

#[tokio::test]
async fn numbers_and_quantities_are_compared_with_every_prefix_and_by_their_unit() {
    let Some(records) = &everything().await else { return };
    let probabilities = |r: &Value| -> Vec<(f64, f64)> {
        each(&r["prediction"])
            .map(|p| match p["probabilityDecimal"].as_f64() {
                Some(value) => (value, value),
                None => (0.2, 0.8),
            })
            .collect()
    };
    for asked in ["0.5", "0.50", "0.54", "0.001", "1", "100", "0.2", "-1", "0.8", "100.0"] {
        for prefix in PREFIXES {
            let found = |r: &&Value| probabilities(r).iter().any(|v| counts(prefix, *v, asked));
            let kept: BTreeSet<Key> = records.of_type("RiskAssessment").filter(found).map(key).collect();
            compare(records, "RiskAssessment", &format!("probability={prefix}{asked}"), &kept).await;
        }
    }
    let ucum = "http://unitsofmeasure.org";
    for asked in ["5", "100", "-2.5", "187.7", "72", "5.40", "1e2"] {
        for prefix in if asked == "1e2" { &[""][..] } else { &PREFIXES } {
            // Every unit with one prefix of each kind; the others without a unit.
            let with_units = ["", "gt", "ap"].contains(prefix);
            for unit in ["", "||mg", "|http://unitsofmeasure.org|cm", "||drops", "||nonsense", "|urn:u|mg"] {
                if !with_units && !unit.is_empty() {
                    continue;
                }
                let of_unit = |q: &Value| match unit {
                    "" => true,
                    "|urn:u|mg" => q["system"] == "urn:u" && q["code"] == "mg",
                    "|http://unitsofmeasure.org|cm" => q["system"] == ucum && q["code"] == "cm",
                    either => q["code"] == either[2..] || q["unit"] == either[2..],
                };
                let counts = |v: (f64, f64)| match asked {
                    // With an exponent, one digit less is meant.
                    "1e2" => v.0 >= 95.0 && v.1 < 105.0,
                    asked => counts(prefix, v, asked),
                };
                let found = |r: &&Value| {
                    let quantity = &r["valueQuantity"];
                    of_unit(quantity) && range(quantity).is_some_and(counts)
                };
                let kept: BTreeSet<Key> = records.of_type("Observation").filter(found).map(key).collect();
                let value = encoded(&format!("{prefix}{asked}{unit}"));
                compare(records, "Observation", &format!("value-quantity={value}"), &kept).await;
            }
        }
    }
    same(records, "Observation", "component-value-quantity=gt120", |r| {
        each(&r["component"]).any(|c| range(&c["valueQuantity"]).is_some_and(|v| counts("gt", v, "120")))
    })
    .await;
}
