//! A Reach has two meanings, and they must be one: compiled to SQL for searches, and evaluated on one
//! resource for reads. Small worlds and reaches by chance hold them against each other.

use std::collections::BTreeSet;

use hearthgate::fhir::access::Reach;
use hearthgate::fhir::operand::Context;
use hearthgate::fhir::query;
use hearthgate::fhir::resource::{self, Resource};
use hearthgate::fhir::search::Search;
use hearthgate::params;
use hearthgate::store::db::{DbError, Store, Tx, Verdict};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::kit::NOW;

const BASE: &str = "http://hearthgate.example/fhir";
const TYPES: [&str; 10] = [
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Organization",
    "Observation",
    "DocumentReference",
    "DiagnosticReport",
    "Provenance",
    "Binary",
    "Group",
];
const CODES: [&str; 3] = ["laboratory", "vital-signs", "survey"];
/// Each id is used for every type, so that a condition which forgets the type is found out.
const IDS: [&str; 3] = ["a", "b", "c"];

fn id() -> impl Strategy<Value = String> {
    select(&IDS[..]).prop_map(str::to_owned)
}

fn to(types: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let forms = select(&["", "http://hearthgate.example/fhir/", "http://other.example/fhir/"][..]);
    // Mostly as references mostly are.
    let forms = prop_oneof![6 => Just(""), 1 => forms];
    (forms, select(types), id(), prop::bool::weighted(0.1)).prop_map(|(base, t, id, versioned)| {
        let version = if versioned { "/_history/1" } else { "" };
        json!({"reference": format!("{base}{t}/{id}{version}")})
    })
}

fn some(types: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(to(types), 0..=most)
}

fn category() -> impl Strategy<Value = Value> {
    let system = select(&[None, Some("urn:one"), Some("urn:two")][..]);
    let coding = (system, select(&CODES[..])).prop_map(|(system, code)| match system {
        Some(system) => json!({"system": system, "code": code}),
        None => json!({"code": code}),
    });
    prop::collection::vec(coding, 0..3).prop_map(|codings| json!([{"coding": codings}]))
}

const SUBJECTS: &[&str] = &["Patient", "Patient", "Patient", "Group"];
const PERFORMERS: &[&str] = &["Practitioner", "PractitionerRole", "Organization", "Patient"];

fn observation() -> BoxedStrategy<Value> {
    (category(), prop::option::weighted(0.9, to(SUBJECTS)), some(PERFORMERS, 2))
        .prop_map(|(category, subject, performer)| {
            json!({"category": category, "subject": subject, "performer": performer, "status": "final"})
        })
        .boxed()
}

fn document() -> BoxedStrategy<Value> {
    (category(), to(SUBJECTS), some(&["Binary"], 2), some(&["Practitioner", "Organization"], 1))
        .prop_map(|(category, subject, files, author)| {
            let content: Vec<Value> =
                files.iter().map(|f| json!({"attachment": {"url": f["reference"]}})).collect();
            json!({"category": category, "subject": subject, "content": content, "author": author})
        })
        .boxed()
}

fn report() -> BoxedStrategy<Value> {
    (category(), to(SUBJECTS), some(&["Binary"], 1), some(PERFORMERS, 1))
        .prop_map(|(category, subject, files, performer)| {
            let forms: Vec<Value> = files.iter().map(|f| json!({"url": f["reference"]})).collect();
            json!({"category": category, "subject": subject, "presentedForm": forms, "performer": performer})
        })
        .boxed()
}

/// What a resource of a type holds besides type and id.
fn body(resource_type: &'static str) -> BoxedStrategy<Value> {
    match resource_type {
        "Patient" => some(&["Practitioner", "Organization", "PractitionerRole"], 1)
            .prop_map(|general| json!({"generalPractitioner": general, "active": true}))
            .boxed(),
        "Organization" => {
            prop::option::of(to(&["Organization"])).prop_map(|whole| json!({"partOf": whole})).boxed()
        }
        "PractitionerRole" => {
            (prop::option::of(to(&["Practitioner"])), prop::option::of(to(&["Organization"])))
                .prop_map(|(who, place)| json!({"practitioner": who, "organization": place}))
                .boxed()
        }
        "Observation" => observation(),
        "DocumentReference" => document(),
        "DiagnosticReport" => report(),
        "Provenance" => (
            some(&["Observation", "DocumentReference", "Patient", "Practitioner", "Provenance"], 3),
            some(&["Practitioner", "Organization"], 1),
        )
            .prop_map(|(target, who)| {
                let agent: Vec<Value> = who.into_iter().map(|w| json!({"who": w})).collect();
                json!({"target": target, "agent": agent})
            })
            .boxed(),
        "Group" => some(&["Patient"], 2)
            .prop_map(|members| {
                let member: Vec<Value> = members.into_iter().map(|m| json!({"entity": m})).collect();
                json!({"member": member, "actual": true})
            })
            .boxed(),
        _ => Just(json!({})).boxed(),
    }
}

/// One write; the same type and id may be written again, about somebody else.
fn written() -> impl Strategy<Value = Value> {
    let weighted = prop_oneof![4 => Just("Observation"), 10 => select(&TYPES[..])];
    weighted.prop_flat_map(|t| (Just(t), id(), body(t))).prop_map(|(t, id, body)| {
        let mut resource = json!({"resourceType": t, "id": id});
        let (Value::Object(all), Value::Object(body)) = (&mut resource, body) else { unreachable!() };
        all.extend(body.into_iter().filter(|(_, value)| !value.is_null()));
        resource
    })
}

fn patients() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set(id(), 0..3)
}

fn reach() -> impl Strategy<Value = Reach> {
    let value = (select(&["", "|", "urn:one|", "urn:two|"][..]), select(&CODES[..]));
    let values = prop::collection::btree_set(value.prop_map(|(s, c)| format!("{s}{c}")), 1..3);
    // `category` is a parameter of some of the types only; the others must agree on that too.
    let name = select(&["category", "status", "active", "actual", "_id", "nonsense"][..]);
    let parameter = prop_oneof![
        3 => values.prop_map(|v| Reach::Parameter("category".into(), v)),
        1 => (name, select(&["true", "a", "final", "urn:one|", "|", "x|y|z"][..]))
            .prop_map(|(n, v)| Reach::Parameter(n.into(), BTreeSet::from([v.to_owned()]))),
    ];
    let leaf = prop_oneof![
        1 => Just(Reach::Nothing),
        1 => Just(Reach::All),
        3 => patients().prop_map(Reach::Owner),
        1 => id().prop_map(Reach::Is),
        3 => parameter,
        3 => patients().prop_map(Reach::ReferredTo),
    ];
    leaf.prop_recursive(2, 10, 3, |inner| {
        let parts = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            parts().prop_map(Reach::Both),
            parts().prop_map(Reach::Either),
            (select(&TYPES[..]), inner.clone()).prop_map(|(t, r)| Reach::ReferredFrom(t, Box::new(r))),
        ]
    })
}

thread_local! {
    /// One for each test: opening one takes longer than a case.
    static STORE: Store = Store::open(":memory:").expect("a store");
}

fn read<T>(read: impl FnOnce(&Tx<'_>) -> Result<T, DbError>) -> T {
    STORE.with(|store| store.read(read)).expect("rows")
}

/// The world alone, in a store that held another before.
fn fill(world: Vec<Value>) {
    let change = |tx: &Tx<'_>| {
        let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND (name LIKE 'index_%' OR name IN \
                     ('resources', 'history', 'refers')) ORDER BY name";
        for table in tx.all(names, &[], |row| row.get::<String>(0))? {
            tx.execute(&format!("DELETE FROM {table}"), &[])?;
        }
        for resource in world {
            Resource::put(tx, resource, BASE, NOW)?;
        }
        Ok(Verdict::Commit(()))
    };
    STORE.with(|store| store.write_blocking(change)).expect("it is written");
}

/// Which of a type are found by a search within the reach; by their ids, `by_id`, or all of them.
fn searched(
    tx: &Tx<'_>,
    t: &'static str,
    reach: &Reach,
    by_id: Option<&str>,
) -> Result<BTreeSet<String>, DbError> {
    let context = Context { base: BASE, now_ms: NOW };
    let pairs = by_id.map(|id| ("_id", id));
    let query = query::parse(t, pairs.into_iter().chain([("_count", "100")]), context).expect("a query");
    let nothing = |_: &'static str| Reach::Nothing;
    let position = Vec::new();
    let search = Search { resource_type: t, query: &query, reach, reach_of: &nothing, base: BASE, position };
    let page = search.run(tx)?;
    assert_eq!(page.total, i64::try_from(page.resources.len()).ok(), "the total");
    Ok(page.resources.into_iter().map(|r| r.id).collect())
}

fn agrees(world: Vec<Value>, reaches: &[Reach]) {
    fill(world);
    for t in TYPES {
        for reach in reaches {
            read(|tx| {
                let mut readable = BTreeSet::new();
                for one in &Resource::all(tx, t)? {
                    let within = resource::within(tx, reach, one, BASE)?;
                    let found = searched(tx, t, reach, Some(&one.id))?;
                    let said = if within { BTreeSet::from([one.id.clone()]) } else { BTreeSet::new() };
                    assert_eq!(found, said, "{t}/{} within {reach:?}: {}", one.id, one.json);
                    readable.extend(said);
                }
                assert_eq!(searched(tx, t, reach, None)?, readable, "all of {t} within {reach:?}");
                Ok(())
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn searching_within_a_reach_and_reading_one_resource_agree(
        world in prop::collection::vec(written(), 8..30),
        reaches in prop::collection::vec(reach(), 6),
    ) {
        agrees(world, &reaches);
    }

    /// An index that is written, moved and removed piece by piece is the one that is written at once.
    #[test]
    fn the_index_depends_on_what_is_stored_now_and_not_on_how_it_came_to_be(
        world in prop::collection::vec(written(), 8..30),
    ) {
        fill(world);
        let piecemeal = dump();
        let now = read(|tx| {
            let lists = TYPES.iter().map(|t| Resource::all(tx, t)).collect::<Result<Vec<_>, _>>()?;
            Ok(lists.into_iter().flatten().map(|r| r.parsed()).collect::<Vec<_>>())
        });
        fill(now.clone());
        prop_assert_eq!(&piecemeal, &dump());
        fill(now.into_iter().rev().collect());
        prop_assert_eq!(&piecemeal, &dump());
    }
}

/// Every row of the index, by the names of resources rather than by the numbers of their rows.
fn dump() -> BTreeSet<String> {
    const INDEXES: [(&str, &str); 7] = [
        ("index_token", "code || ' ' || system"),
        ("index_reference", "target"),
        ("index_uri", "uri"),
        ("index_string", "folded || ' ' || exact"),
        ("index_date", "lo || ' ' || hi"),
        ("index_number", "lo || ' ' || hi"),
        ("index_quantity", "lo || ' ' || hi || ' ' || system || ' ' || code || ' ' || unit"),
    ];
    read(|tx| {
        let mut rows = BTreeSet::new();
        for (table, value) in INDEXES {
            let sql = format!(
                "SELECT '{table} ' || i.type || ' ' || i.param || ' ' || i.owner || ' ' || {value} || ' ' ||
                        coalesce(r.type || '/' || r.id || ' ' || r.owner, 'nothing')
                 FROM {table} i LEFT JOIN resources r ON r.key = i.resource"
            );
            rows.extend(tx.all(&sql, &[], |row| row.get::<String>(0))?);
        }
        let sql = "SELECT 'refers ' || type || '/' || id || ' ' || owner || ' ' || to_type || '/' || to_id FROM refers";
        rows.extend(tx.all(sql, params![], |row| row.get::<String>(0))?);
        let sql = "SELECT 'owner ' || type || '/' || id || ' ' || owner FROM resources";
        rows.extend(tx.all(sql, params![], |row| row.get::<String>(0))?);
        Ok(rows)
    })
}
