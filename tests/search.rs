//! What searches find, kind by kind and modifier by modifier, compared with a scan of the records
//! (FHIR R4 "Search").

use std::collections::BTreeSet;

use serde_json::Value;

use crate::records::{Key, each, key};
use crate::scan::{
    codings, compare, encoded, everything, has_code, has_coding, holds, none, plain, refers, same, span_of,
    texts,
};

const LOINC: &str = "http://loinc.org";
const CATEGORIES: &str = "http://terminology.hl7.org/CodeSystem/observation-category";

#[tokio::test]
async fn tokens_are_found_by_code_system_both_and_neither() {
    let Some(records) = &everything().await else { return };
    let lab = |r: &Value| has_coding(&r["category"], CATEGORIES, "laboratory");
    let vital = |r: &Value| has_code(&r["category"], "vital-signs");
    same(records, "Observation", "category=laboratory", lab).await;
    same(records, "Observation", &format!("category={CATEGORIES}|laboratory"), lab).await;
    same(records, "Observation", &format!("category={CATEGORIES}|"), |r| {
        codings(&r["category"]).any(|c| c["system"] == CATEGORIES)
    })
    .await;
    same(records, "Observation", "category=|no-system", |r| r["id"] == "odd-codes").await;
    same(records, "Observation", "category=no-system", |r| r["id"] == "odd-codes").await;
    none(records, "Observation", "category=|laboratory").await;
    none(records, "Observation", "category=urn:other|laboratory").await;
    none(records, "Observation", "category=Laboratory").await;
    none(records, "Observation", "category=laborator").await;
    same(records, "Observation", "category=only words", |r| r["id"] == "odd-text").await;
    same(records, "Observation", &format!("category={}", encoded("a\\,b")), |r| r["id"] == "odd-codes").await;
    same(records, "Observation", &format!("category={}", encoded("urn:odd|c\\|d")), |r| {
        r["id"] == "odd-codes"
    })
    .await;
    // Comma is or, repetition is and.
    same(records, "Observation", "category=laboratory,vital-signs", |r| lab(r) || vital(r)).await;
    same(records, "Observation", "category=laboratory,nonsense", lab).await;
    none(records, "Observation", "category=laboratory&category=no-system").await;
    same(records, "Observation", "category=vital-signs&status=final&code=8302-2,29463-7", |r| {
        vital(r)
            && r["status"] == "final"
            && (has_code(&r["code"], "8302-2") || has_code(&r["code"], "29463-7"))
    })
    .await;
    same(records, "Observation", &format!("code={LOINC}|8302-2"), |r| {
        has_coding(&r["code"], LOINC, "8302-2")
    })
    .await;
    same(records, "Observation", "combo-code=8480-6", |r| {
        has_code(&r["code"], "8480-6") || each(&r["component"]).any(|c| has_code(&c["code"], "8480-6"))
    })
    .await;
    same(records, "Observation", "component-code=8480-6", |r| {
        each(&r["component"]).any(|c| has_code(&c["code"], "8480-6"))
    })
    .await;
    // Codes, booleans, Codings, identifiers, telephone numbers, and conditions.
    same(records, "Encounter", "status=finished&class=AMB", |r| {
        r["status"] == "finished" && r["class"]["code"] == "AMB"
    })
    .await;
    same(records, "Patient", "gender=female", |r| r["gender"] == "female").await;
    same(records, "Patient", "active=true", |r| r["active"] == true).await;
    same(records, "Patient", "active=false", |r| r["active"] == false).await;
    same(records, "Patient", "deceased=true", |r| {
        r["deceasedBoolean"] == true || r["deceasedDateTime"].is_string()
    })
    .await;
    same(records, "Patient", "phone=%2B1 (555) 0100", |r| r["id"] == "odd-letters").await;
    same(records, "Patient", "telecom=none", |r| r["id"] == "odd-letters").await;
    none(records, "Patient", "phone=none").await;
    let npi = "http://hl7.org/fhir/sid/us-npi";
    for some in records.of_type("Practitioner").step_by(20).flat_map(|r| each(&r["identifier"])) {
        let (system, value) = (some["system"].as_str().unwrap(), some["value"].as_str().unwrap());
        let has =
            |r: &Value, s: &str| each(&r["identifier"]).any(|i| i["value"] == value && i["system"] == s);
        let any = |r: &Value| each(&r["identifier"]).any(|i| i["value"] == value);
        same(records, "Practitioner", &format!("identifier={}", encoded(value)), any).await;
        same(records, "Practitioner", &format!("identifier={}|{}", encoded(system), encoded(value)), |r| {
            has(r, system)
        })
        .await;
    }
    same(records, "Practitioner", &format!("identifier={npi}|"), |r| {
        each(&r["identifier"]).any(|i| i["system"] == npi)
    })
    .await;
    same(records, "Patient", "_tag=bare", |r| each(&r["meta"]["tag"]).any(|t| t["code"] == "bare")).await;
    same(records, "Patient", "_security=urn:s|R", |r| r["id"] == "odd-letters").await;
}

#[tokio::test]
async fn negation_and_missing_values_are_the_rest() {
    let Some(records) = &everything().await else { return };
    let coded = |r: &Value, codes: &[&str]| codes.iter().any(|code| has_code(&r["category"], code));
    same(records, "Observation", "category:not=laboratory", |r| !coded(r, &["laboratory"])).await;
    same(records, "Observation", "category:not=laboratory,vital-signs", |r| {
        !coded(r, &["laboratory", "vital-signs"])
    })
    .await;
    same(records, "Observation", "category:not=laboratory&category:not=survey", |r| {
        !coded(r, &["laboratory", "survey"])
    })
    .await;
    same(records, "Observation", &format!("category:not={CATEGORIES}|"), |r| {
        !codings(&r["category"]).any(|c| c["system"] == CATEGORIES)
    })
    .await;
    same(records, "Patient", "gender:not=male", |r| r["gender"] != "male").await;
    same(records, "Patient", "active:not=true", |r| r["active"] != true).await;
    none(records, "Observation", "category=laboratory&category:not=laboratory").await;
    // One of every kind of parameter.
    for (t, param, has) in [
        ("Observation", "category", (|r| !texts_or_codings(&r["category"]).is_empty()) as fn(&Value) -> bool),
        ("Observation", "subject", |r| {
            r["subject"]["reference"].is_string() || r["subject"]["identifier"].is_object()
        }),
        ("Observation", "date", |r| {
            ["DateTime", "Period", "Instant"].iter().any(|x| !r[format!("effective{x}")].is_null())
        }),
        ("Observation", "value-quantity", |r| r["valueQuantity"]["value"].is_number()),
        ("Patient", "birthdate", |r| r["birthDate"].is_string()),
        ("Patient", "name", |r| !texts(&r["name"]).is_empty()),
        ("Patient", "general-practitioner", |r| !r["generalPractitioner"].is_null()),
        ("Patient", "_profile", |r| r["meta"]["profile"].is_array()),
        ("Patient", "_tag", |r| r["meta"]["tag"].is_array()),
        ("RiskAssessment", "probability", |r| each(&r["prediction"]).next().is_some()),
        ("Condition", "encounter", |r| r["encounter"]["reference"].is_string()),
    ] {
        same(records, t, &format!("{param}:missing=true"), |r| !has(r)).await;
        same(records, t, &format!("{param}:missing=false"), has).await;
        none(records, t, &format!("{param}:missing=false&{param}:missing=true")).await;
    }
    none(records, "Observation", "_id:missing=true").await;
    same(records, "Observation", "_id:missing=false&_lastUpdated:missing=false", |_| true).await;
}

fn texts_or_codings(concepts: &Value) -> Vec<&Value> {
    each(concepts).filter(|c| c["text"].is_string() || codings(c).any(|c| c["code"].is_string())).collect()
}

#[tokio::test]
async fn texts_are_found_by_their_beginning_anywhere_or_exactly() {
    let Some(records) = &everything().await else { return };
    for (t, param, element) in
        [("Patient", "name", "name"), ("Practitioner", "name", "name"), ("Patient", "address", "address")]
    {
        for word in
            ["ma", "Dr.", "JO", "jose maria", "unsal", "o", "MA 0", "us", "back\\\\slash", "dol\\$lar"]
        {
            let sought =
                plain(word).replace('\\', if word.contains('$') { "" } else { "\\" }).replace("\\\\", "\\");
            // The scan's own folding knows neither ü nor double spaces, so those are said here.
            let of = |r: &Value| -> Vec<String> {
                texts(&r[element]).iter().map(|x| x.replace('ü', "u").replace("  ", " ")).collect()
            };
            let starts: BTreeSet<Key> = records
                .of_type(t)
                .filter(|r| of(r).iter().any(|x| x.starts_with(&sought)))
                .map(key)
                .collect();
            compare(records, t, &format!("{param}={}", encoded(word)), &starts).await;
            let contains: BTreeSet<Key> =
                records.of_type(t).filter(|r| of(r).iter().any(|x| x.contains(&sought))).map(key).collect();
            compare(records, t, &format!("{param}:contains={}", encoded(word)), &contains).await;
        }
    }
    let families = |r: &Value, family: &str| each(&r["name"]).any(|n| n["family"] == family);
    for family in records.of_type("Patient").filter_map(|r| r["name"][0]["family"].as_str()) {
        let written = encoded(&family.replace('|', "\\|").replace(',', "\\,"));
        same(records, "Patient", &format!("family:exact={written}"), |r| families(r, family)).await;
        if family.to_uppercase() != family {
            none(
                records,
                "Patient",
                &format!(
                    "family:exact={}",
                    encoded(&family.to_uppercase().replace('|', "\\|").replace(',', "\\,"))
                ),
            )
            .await;
        }
    }
    same(records, "Patient", "family=alv,osei", |r| {
        texts(&r["name"]).iter().any(|x| x.starts_with("alv") || x == "osei")
    })
    .await;
    same(records, "Patient", "given=kofi&family=osei", |r| r["id"] == "patient-kofi").await;
    same(records, "Organization", "address-city=bur", |r| {
        each(&r["address"]).any(|a| a["city"].as_str().is_some_and(|c| plain(c).starts_with("bur")))
    })
    .await;
    same(records, "Observation", "value-string=a b c", |r| r["id"] == "odd-text").await;
    same(records, "Observation", "value-string:exact=A B  c", |r| r["id"] == "odd-text").await;
    none(records, "Observation", "value-string:exact=A B c").await;
}

#[tokio::test]
async fn references_are_found_by_id_type_url_and_identifier() {
    let Some(records) = &everything().await else { return };
    let base = records.server.fhir_base();
    for patient in records.ids("Patient").into_iter().step_by(3) {
        let to = format!("Patient/{patient}");
        let about = |r: &Value| refers(&r["subject"], &to) || refers(&r["subject"], &format!("{base}/{to}"));
        let kept: BTreeSet<Key> = records.of_type("Observation").filter(|r| about(r)).map(key).collect();
        for asked in [
            format!("subject={to}"),
            format!("patient={patient}"),
            format!("patient={to}"),
            format!("subject:Patient={patient}"),
            format!("subject:Patient={to}"),
            format!("subject={base}/{to}"),
        ] {
            compare(records, "Observation", &asked, &kept).await;
        }
    }
    let elsewhere = "http://other.example/fhir/Patient/odd-letters";
    same(records, "Observation", &format!("subject={elsewhere}"), |r| refers(&r["subject"], elsewhere)).await;
    // A bare id is of any type that the parameter may lead to; `patient` leads to patients only.
    let of = |t: &'static str| {
        move |r: &Value| {
            r["subject"]["reference"].as_str().is_some_and(|x| x.ends_with(t) && !x.contains("other"))
        }
    };
    same(records, "Observation", "subject=odd-letters", of("/odd-letters")).await;
    same(records, "Observation", "patient=odd-letters", of("Patient/odd-letters")).await;
    same(records, "Observation", "subject:Group=odd-letters", of("Group/odd-letters")).await;
    none(records, "Observation", "subject=Device/odd-letters").await;
    none(records, "Observation", "subject=odd").await;
    same(records, "Observation", "subject:identifier=urn:i|7,urn:i|8", |r| {
        r["subject"]["identifier"].is_object()
    })
    .await;
    same(records, "Observation", "subject:identifier=8", |r| r["id"] == "odd-both").await;
    none(records, "Observation", "subject:identifier=urn:other|7").await;
    same(records, "Observation", "patient=patient-maria,Patient/patient-kofi&category=laboratory", |r| {
        let either =
            ["Patient/patient-maria", "Patient/patient-kofi"].iter().any(|p| refers(&r["subject"], p));
        either && has_code(&r["category"], "laboratory")
    })
    .await;
    same(records, "Encounter", "participant:Practitioner=practitioner-ruth", |r| {
        each(&r["participant"]).any(|p| refers(&p["individual"], "Practitioner/practitioner-ruth"))
    })
    .await;
    same(records, "ValueSet", "url=http://example.org/vs", |r| {
        r["id"] == "odd-plain" || r["id"] == "odd-version"
    })
    .await;
    same(records, "ValueSet", &format!("url={}", encoded("http://example.org/vs\\|2")), |r| {
        r["id"] == "odd-version"
    })
    .await;
    same(records, "ValueSet", "url=urn:oid:1.2.3,http://example.org/vs/below", |r| {
        r["id"] == "odd-urn" || r["id"] == "odd-below"
    })
    .await;
    none(records, "ValueSet", "url=http://example.org/v").await;
    same(records, "Patient", "_profile=http://example.org/p", |r| r["id"] == "odd-letters").await;
    same(records, "Patient", "_source=urn:uuid:source", |r| r["id"] == "odd-letters").await;
}

#[tokio::test]
async fn chains_and_has_are_joins() {
    let Some(records) = &everything().await else { return };
    let all = &records.all;
    let base = format!("{}/", records.server.fhir_base());
    let followed = |r: &Value| {
        let reference = r["reference"].as_str()?;
        let (t, id) = reference.strip_prefix(&base).unwrap_or(reference).split_once('/')?;
        all.get(&(t.to_owned(), id.to_owned()))
    };
    let subject = |r: &Value, keep: fn(&Value) -> bool| followed(&r["subject"]).is_some_and(keep);
    let female = |p: &Value| p["gender"] == "female";
    let old = |p: &Value| {
        p["resourceType"] == "Patient" && span_of(&p["birthDate"]).is_some_and(|b| holds("lt", b, "1960"))
    };
    same(records, "Observation", "subject:Patient.gender=female", |r| subject(r, female)).await;
    same(records, "Observation", "patient.gender=female&category=laboratory", |r| {
        subject(r, female) && has_code(&r["category"], "laboratory")
    })
    .await;
    same(records, "Condition", "patient.birthdate=lt1960", |r| subject(r, old)).await;
    same(records, "Condition", "subject:Patient.gender:not=male", |r| subject(r, |p| p["gender"] != "male"))
        .await;
    same(records, "Condition", "encounter.status=finished", |r| {
        followed(&r["encounter"]).is_some_and(|e| e["status"] == "finished")
    })
    .await;
    same(records, "Encounter", "participant:Practitioner.family=okonjo", |r| {
        each(&r["participant"]).any(|p| refers(&p["individual"], "Practitioner/practitioner-ruth"))
    })
    .await;
    let reports = |r: &Value| {
        let results = each(&r["result"]).filter_map(followed);
        results.filter_map(|o| followed(&o["subject"])).any(female)
    };
    same(records, "DiagnosticReport", "result.subject:Patient.gender=female", reports).await;
    same(records, "Condition", "encounter.participant:Practitioner._id=practitioner-ruth", |r| {
        let participants = followed(&r["encounter"]).into_iter().flat_map(|e| each(&e["participant"]));
        participants.into_iter().any(|p| refers(&p["individual"], "Practitioner/practitioner-ruth"))
    })
    .await;
    // Backwards.
    let observed = |patient: &Value, keep: &dyn Fn(&Value) -> bool| {
        let to = format!("Patient/{}", patient["id"].as_str().unwrap());
        records.of_type("Observation").any(|o| refers(&o["subject"], &to) && keep(o))
    };
    let tall = |o: &Value| has_code(&o["code"], "8302-2");
    same(records, "Patient", "_has:Observation:patient:code=8302-2", |p| observed(p, &tall)).await;
    same(records, "Patient", "_has:Observation:patient:code=8302-2&gender=female", |p| {
        observed(p, &tall) && female(p)
    })
    .await;
    same(
        records,
        "Patient",
        "_has:Observation:subject:category=survey,laboratory&_has:Condition:subject:_id:missing=false",
        |p| {
            let to = format!("Patient/{}", p["id"].as_str().unwrap());
            observed(p, &|o| has_code(&o["category"], "survey") || has_code(&o["category"], "laboratory"))
                && records.of_type("Condition").any(|c| refers(&c["subject"], &to))
        },
    )
    .await;
    same(records, "Observation", "patient._has:Condition:patient:clinical-status=active", |o| {
        let Some(patient) = o["subject"]["reference"].as_str() else { return false };
        let active = |c: &Value| refers(&c["subject"], patient) && has_code(&c["clinicalStatus"], "active");
        all.contains_key(&("Patient".to_owned(), patient.trim_start_matches("Patient/").to_owned()))
            && records.of_type("Condition").any(active)
    })
    .await;
    none(records, "Patient", "_has:Observation:patient:code=no-such-code").await;
    none(records, "Observation", "patient.name=no-such-name").await;
}

#[tokio::test]
async fn ids_are_found_one_by_one_and_in_lists() {
    let Some(records) = &everything().await else { return };
    let some: Vec<&str> = records.ids("Condition").into_iter().step_by(5).collect();
    same(records, "Condition", &format!("_id={}", some[0]), |r| r["id"] == some[0]).await;
    same(records, "Condition", &format!("_id={},no-such-id", some.join(",")), |r| {
        some.contains(&r["id"].as_str().unwrap())
    })
    .await;
    same(records, "Condition", &format!("_id:not={}", some.join(",")), |r| {
        !some.contains(&r["id"].as_str().unwrap())
    })
    .await;
    none(records, "Condition", &format!("_id={}&_id={}", some[0], some[1])).await;
    none(records, "Patient", &format!("_id={}", some[0])).await;
}
