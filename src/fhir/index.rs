//! The index in the database: the rows a resource is found by, written in the resource's own transaction.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::entries::{self, Entry, Indexed, Reference};
use super::reference::{self, Target};
use crate::params;
use crate::store::db::{DbError, Param, Store, Tx, Verdict};

/// What the rows are made of. Another number than the stored one makes the next start index all anew.
pub const INDEX_VERSION: i64 = 1;

/// The name under which `:identifier` of a reference parameter is kept among the tokens.
pub fn identifier_param(param: &str) -> String {
    format!("{param}:identifier")
}

/// How a reference to a resource here is kept.
pub fn target_of(resource_type: &str, id: &str) -> String {
    format!("{resource_type}/{id}")
}

/// Whether the index keeps the owner of this type's rows.
pub fn keeps_owner(resource_type: &str) -> bool {
    resource_type != "Patient"
}

/// The rows of one resource: which table, and the columns between `param` and `resource` in the table's order.
struct Rows<'a> {
    resource_type: &'a str,
    owner: &'a str,
    key: i64,
}

/// Whether a row is added or removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
}

impl Rows<'_> {
    fn change(&self, tx: &Tx<'_>, change: Change, entry: &Entry) -> Result<(), DbError> {
        let owner = if keeps_owner(self.resource_type) { self.owner } else { "" };
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let mut param = entry.param.to_owned();
        let (table, values): (_, Vec<Param>) = match &entry.value {
            Indexed::Token(token) => {
                ("index_token", params![&token.code, owner, text(&token.system)].to_vec())
            }
            Indexed::Reference(Reference::Logical(token)) => {
                param = identifier_param(entry.param);
                ("index_token", params![&token.code, owner, text(&token.system)].to_vec())
            }
            Indexed::Reference(Reference::Here { type_, id }) => {
                ("index_reference", params![target_of(type_, id), owner].to_vec())
            }
            Indexed::Reference(Reference::Elsewhere(url)) => {
                ("index_reference", params![url, owner].to_vec())
            }
            Indexed::Uri(uri) => ("index_uri", params![uri, owner].to_vec()),
            Indexed::Text { folded, exact } => ("index_string", params![owner, folded, exact].to_vec()),
            Indexed::Date(span) => ("index_date", params![owner, span.lo, span.hi].to_vec()),
            Indexed::Number(range) => ("index_number", params![owner, range.lo, range.hi].to_vec()),
            Indexed::Quantity { range, system, code, unit } => (
                "index_quantity",
                params![owner, range.lo, range.hi, text(system), text(code), text(unit)].to_vec(),
            ),
        };
        let mut bound = params![self.resource_type, param].to_vec();
        bound.extend(values);
        bound.push(self.key.into());
        let statements = &STATEMENTS[table];
        let sql = if change == Change::Add { &statements.add } else { &statements.remove };
        tx.execute(sql, &bound).map(drop)
    }
}

/// Each index table with the columns between `param` and `resource`.
const ROWS: [(&str, &[&str]); 7] = [
    ("index_token", &["code", "owner", "system"]),
    ("index_reference", &["target", "owner"]),
    ("index_uri", &["uri", "owner"]),
    ("index_string", &["owner", "folded", "exact"]),
    ("index_date", &["owner", "lo", "hi"]),
    ("index_number", &["owner", "lo", "hi"]),
    ("index_quantity", &["owner", "lo", "hi", "system", "code", "unit"]),
];

/// The statements of a table: the same columns are the whole key of a row, so both take the same values.
struct Statements {
    add: String,
    remove: String,
}

/// Written once: an import runs one of them for every value of every resource.
static STATEMENTS: LazyLock<HashMap<&'static str, Statements>> = LazyLock::new(|| {
    let one = |(table, columns): &(&'static str, &[&str])| {
        let all: Vec<&str> =
            ["type", "param"].into_iter().chain(columns.iter().copied()).chain(["resource"]).collect();
        let placed: Vec<String> = (1..=all.len()).map(|n| format!("${n}")).collect();
        let equal: Vec<String> = all.iter().zip(&placed).map(|(c, p)| format!("{c} = {p}")).collect();
        let statements = Statements {
            add: format!(
                "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
                all.join(", "),
                placed.join(", ")
            ),
            remove: format!("DELETE FROM {table} WHERE {}", equal.join(" AND ")),
        };
        (*table, statements)
    };
    ROWS.iter().map(one).collect()
});

/// A resource as the index knows it.
#[derive(Clone, Copy)]
pub struct Indexable<'a> {
    /// The row's key.
    pub key: i64,
    /// The patient it is about, or ''.
    pub owner: &'a str,
    /// The resource itself.
    pub resource: &'a Value,
}

impl Indexable<'_> {
    fn resource_type(&self) -> &str {
        self.resource["resourceType"].as_str().unwrap_or_default()
    }

    fn change(&self, tx: &Tx<'_>, change: Change, base: &str) -> Result<(), DbError> {
        let rows = Rows { resource_type: self.resource_type(), owner: self.owner, key: self.key };
        for entry in entries::entries(self.resource, base) {
            rows.change(tx, change, &entry)?;
        }
        let id = self.resource["id"].as_str().unwrap_or_default();
        for (to_type, to_id) in pointed_at(self.resource, base) {
            let sql = match change {
                Change::Add => {
                    "INSERT INTO refers (to_type, to_id, owner, type, id) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT DO NOTHING"
                }
                Change::Remove => {
                    "DELETE FROM refers WHERE to_type = $1 AND to_id = $2 AND owner = $3 AND type = $4 AND id = $5"
                }
            };
            tx.execute(sql, params![to_type, to_id, self.owner, self.resource_type(), id])?;
        }
        Ok(())
    }

    /// Writes its rows.
    pub fn add(&self, tx: &Tx<'_>, base: &str) -> Result<(), DbError> {
        self.change(tx, Change::Add, base)
    }

    /// Removes its rows; it must be just as it was when they were written.
    pub fn remove(&self, tx: &Tx<'_>, base: &str) -> Result<(), DbError> {
        self.change(tx, Change::Remove, base)
    }
}

/// Every resource here that this one refers to, the files of its attachments too.
fn pointed_at<'a>(resource: &'a Value, base: &str) -> Vec<(&'static str, &'a str)> {
    let mut found = entries::references(resource, base);
    let list = |value: &'a Value| value.as_array().into_iter().flatten();
    let attached = match resource["resourceType"].as_str() {
        Some("DocumentReference") => list(&resource["content"]).map(|c| &c["attachment"]).collect(),
        Some("DiagnosticReport") => list(&resource["presentedForm"]).collect(),
        _ => Vec::new(),
    };
    for attachment in attached {
        if let Target::Here { type_, id } =
            reference::read(attachment["url"].as_str().unwrap_or_default(), base)
        {
            found.push((type_, id));
        }
    }
    found
}

/// Indexes every resource anew where the stored rows were made by another version of this program.
/// Answers how many; 0 where all was as it should be. Whose each one is, is worked out anew too.
pub fn bring_up_to_date(
    store: &Store,
    base: &str,
    owner_of: fn(&Tx<'_>, &Value, &str) -> Result<String, DbError>,
) -> Result<usize, DbError> {
    let stored: Option<String> = store.read(|tx| {
        tx.first("SELECT value FROM settings WHERE name = 'index_version'", &[], |row| row.get(0))
    })?;
    // Absolute references are read by the base, so another base is another index.
    let version = format!("{INDEX_VERSION} {base}");
    if stored.as_deref() == Some(version.as_str()) {
        return Ok(0);
    }
    let base = base.to_owned();
    store.write_blocking(move |tx| {
        let mut count = 0;
        // The first start: what is there was indexed as it was written, by this very program.
        if stored.is_some() {
            for table in TABLES {
                tx.execute(&format!("DELETE FROM {table}"), &[])?;
            }
            // A Provenance is whose its targets are, so these must know first.
            let order =
                "SELECT key FROM resources ORDER BY CASE type WHEN 'Provenance' THEN 1 ELSE 0 END, key";
            let keys: Vec<i64> = tx.all(order, &[], |row| row.get(0))?;
            let all = keys.len();
            for key in keys {
                let sql = "SELECT json FROM resources WHERE key = $1";
                if let Some(resource) = tx.first(sql, params![key], |row| row.json::<Value>(0))? {
                    let owner = owner_of(tx, &resource, &base)?;
                    tx.execute("UPDATE resources SET owner = $2 WHERE key = $1", params![key, &owner])?;
                    Indexable { key, owner: &owner, resource: &resource }.add(tx, &base)?;
                    count += 1;
                    if count % REPORT_EVERY == 0 {
                        tracing::info!(done = count, of = all, "indexing all resources anew");
                    }
                }
            }
        }
        let sql = "INSERT INTO settings (name, value) VALUES ('index_version', $1)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        tx.execute(sql, params![version])?;
        Ok(Verdict::Commit(count))
    })
}

/// How many resources lie between two lines of progress.
const REPORT_EVERY: usize = 5_000;

const TABLES: [&str; 8] = [
    "refers",
    "index_token",
    "index_reference",
    "index_uri",
    "index_string",
    "index_date",
    "index_number",
    "index_quantity",
];
