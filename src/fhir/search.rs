//! A search: a parsed query and a [`Reach`] become SQL, and a page of what was found becomes a Bundle.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::access::Reach;
use super::definitions::Kind;
use super::membership::Membership;
use super::query::{Query, SortKey, SummaryMode, TotalMode};
use super::resource::{COLUMNS, Resource};
use super::shape;
use super::sql::{self, Sql};
use crate::crypto::Mac;
use crate::error::{Problem, invalid_request};
use crate::store::db::{DbError, Param, Tx};

/// Entries on a page where `_count` says nothing.
const PAGE: usize = 50;
/// The most entries on a page.
const LARGEST_PAGE: usize = 1_000;

/// A search that may be run.
pub struct Search<'a> {
    /// What is searched.
    pub resource_type: &'static str,
    /// What the caller asked.
    pub query: &'a Query,
    /// What they may see of that type.
    pub reach: &'a Reach,
    /// What they may see of others, for chains.
    pub reach_of: &'a dyn Fn(&'static str) -> Reach,
    /// This server's FHIR base.
    pub base: &'a str,
    /// Where the page begins; empty is the beginning.
    pub position: Vec<Value>,
}

/// What was found.
pub struct Page {
    /// How many there are in all, as far as the caller may see them.
    pub total: Option<i64>,
    /// The resources of this page.
    pub resources: Vec<Resource>,
    /// Where the next page begins, if there is one.
    pub next: Option<Vec<Value>>,
}

/// How many entries a page has.
fn page_size(query: &Query) -> usize {
    query.count.unwrap_or(PAGE).min(LARGEST_PAGE)
}

impl Search<'_> {
    /// Runs it on one snapshot.
    pub fn run(&self, tx: &Tx<'_>) -> Result<Page, DbError> {
        let size = page_size(self.query);
        let count_only = self.query.summary == SummaryMode::Count || size == 0;
        let total = match self.query.total {
            TotalMode::None if !count_only => None,
            _ => Some(self.count(tx)?),
        };
        if count_only {
            return Ok(Page { total, resources: Vec::new(), next: None });
        }
        let mut sql = Sql::new(self.base, self.reach_of);
        let condition = self.condition(&mut sql);
        let keys: Vec<Key> =
            self.query.sort.iter().enumerate().map(|(at, key)| self.sort_key(&mut sql, key, at)).collect();
        let after = self.after(&mut sql, &keys);
        let order: String = keys.iter().fold(String::new(), |mut order, key| {
            let direction = if key.descending { "DESC" } else { "ASC" };
            let _ = write!(order, "{} {direction}, ", key.expression);
            order
        });
        let selected: String = keys.iter().fold(String::new(), |mut text, key| {
            let _ = write!(text, ", {}", key.expression);
            text
        });
        let joins: String = keys.iter().map(|key| key.join.as_str()).collect();
        let limit = sql.bind(i64::try_from(size).unwrap_or(i64::MAX) + 1);
        let text = format!(
            "SELECT {COLUMNS}{selected} FROM resources r{joins} WHERE {condition}{after} \
             ORDER BY {order}r.key LIMIT {limit}"
        );
        let mut found = tx.all(&text, &sql.into_bound(), |row| {
            let mut position = Vec::new();
            for (index, key) in (7..).zip(&keys) {
                position.push(match key.kind {
                    Column::Int => json!(row.get::<i64>(index)?),
                    // As text, since JSON has no infinity, and a range may be open.
                    Column::Real => json!(row.get::<f64>(index)?.to_string()),
                    Column::Text => json!(row.get::<String>(index)?),
                });
            }
            Ok((Resource::read(row)?, position))
        })?;
        let more = found.len() > size;
        found.truncate(size);
        let next = found
            .last()
            .filter(|_| more)
            .map(|(last, position)| position.iter().cloned().chain([json!(last.key)]).collect());
        Ok(Page { total, resources: found.into_iter().map(|(resource, _)| resource).collect(), next })
    }

    fn count(&self, tx: &Tx<'_>) -> Result<i64, DbError> {
        let mut sql = Sql::new(self.base, self.reach_of);
        let condition = self.condition(&mut sql);
        let text = format!("SELECT count(*) FROM resources r WHERE {condition}");
        Ok(tx.first(&text, &sql.into_bound(), |row| row.get(0))?.unwrap_or_default())
    }

    fn condition(&self, sql: &mut Sql<'_>) -> String {
        let owners = sql::owners(self.reach, &self.query.criteria, self.resource_type);
        let mut parts = vec![format!("r.type = {}", sql.bind(self.resource_type))];
        parts.push(sql.reach(self.reach, self.resource_type, "r"));
        for criterion in &self.query.criteria {
            parts.push(sql.criterion(criterion, self.resource_type, "r", owners.as_ref()));
        }
        parts.join(" AND ")
    }

    /// What to sort by: the least value (the greatest, where it goes down); resources without one come last.
    fn sort_key(&self, sql: &mut Sql<'_>, key: &SortKey, at: usize) -> Key {
        let descending = key.descending;
        let (column, kind) = match (key.param.code, key.param.kind) {
            ("_id", _) => return Key::of_row("r.id", Column::Text, descending),
            ("_lastUpdated", _) => return Key::of_row("r.updated_ms", Column::Int, descending),
            (_, Kind::Token) => ("code", Column::Text),
            (_, Kind::Reference) => ("target", Column::Text),
            (_, Kind::String) => ("folded", Column::Text),
            (_, Kind::Date) => (if descending { "hi" } else { "lo" }, Column::Int),
            (_, Kind::Number | Kind::Quantity) => (if descending { "hi" } else { "lo" }, Column::Real),
            (_, Kind::Uri | Kind::Composite | Kind::Special) => ("uri", Column::Text),
        };
        let last: Param = match (kind, descending) {
            (Column::Int, false) => i64::MAX.into(),
            (Column::Int, true) => i64::MIN.into(),
            (Column::Real, false) => f64::MAX.into(),
            (Column::Real, true) => f64::MIN.into(),
            (Column::Text, false) => "\u{10FFFF}".into(),
            (Column::Text, true) => "".into(),
        };
        let least = if descending { "max" } else { "min" };
        let table = sql::table(key.param.kind);
        let (placed_type, param, last) =
            (sql.bind(self.resource_type), sql.bind(key.param.code), sql.bind(last));
        let found = format!("FROM {table} s WHERE s.type = {placed_type} AND s.param = {param}");
        // Within known patients, and for what is about nobody, the values are read once for all rows.
        // Among all patients that would be a long list for a short answer: there each row looks up its own,
        // among those of its patient, since the owner is part of every index key before the resource.
        let owners = sql::owners(self.reach, &self.query.criteria, self.resource_type);
        let keeps_owner = super::index::keeps_owner(self.resource_type);
        if keeps_owner && owners.is_none() && Membership::of(self.resource_type).is_about_a_patient() {
            let own =
                format!("SELECT {least}(s.{column}) {found} AND s.owner = r.owner AND s.resource = r.key");
            return Key::of_row(&format!("coalesce(({own}), {last})"), kind, descending);
        }
        let owned = match owners.filter(|_| keeps_owner) {
            Some(owners) => format!(" AND s.owner IN ({})", sql.bind_all(&owners)),
            None => String::new(),
        };
        let join = format!(
            " LEFT JOIN (SELECT s.resource, {least}(s.{column}) AS value {found}{owned} GROUP BY s.resource) k{at} \
             ON k{at}.resource = r.key"
        );
        Key { join, expression: format!("coalesce(k{at}.value, {last})"), kind, descending }
    }

    /// What comes after the position that an earlier page ended at.
    fn after(&self, sql: &mut Sql<'_>, keys: &[Key]) -> String {
        if self.position.len() != keys.len() + 1 {
            return String::new();
        }
        let row_key = Key::of_row("r.key", Column::Int, false);
        let mut alternatives = Vec::new();
        let mut equal = String::new();
        for (key, value) in keys.iter().chain([&row_key]).zip(&self.position) {
            let text = value.as_str().unwrap_or_default();
            let placed = sql.bind(match key.kind {
                Column::Text => Param::from(text),
                Column::Int => Param::from(value.as_i64().unwrap_or_default()),
                Column::Real => Param::from(text.parse::<f64>().unwrap_or_default()),
            });
            let beyond = if key.descending { "<" } else { ">" };
            alternatives.push(format!("({equal}{} {beyond} {placed})", key.expression));
            let _ = write!(equal, "{} = {placed} AND ", key.expression);
        }
        format!(" AND ({})", alternatives.join(" OR "))
    }
}

struct Key {
    /// What the expression needs beside the row.
    join: String,
    expression: String,
    kind: Column,
    descending: bool,
}

impl Key {
    fn of_row(expression: &str, kind: Column, descending: bool) -> Key {
        Key { join: String::new(), expression: expression.into(), kind, descending }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Int,
    Real,
    Text,
}

/// Cursors: a position that only the grant it was made for can use, and only with the same search.
pub struct Cursors<'a> {
    /// Keyed for this purpose alone.
    pub mac: &'a Mac,
    /// Whose: a grant's id, or '' for the open twin.
    pub holder: &'a str,
    /// The type that is searched.
    pub resource_type: &'a str,
    /// The search without its cursor.
    pub search: &'a str,
}

impl Cursors<'_> {
    fn write(&self, position: &[Value]) -> String {
        let text = Value::from(position.to_vec()).to_string();
        let tag = self.mac.tag(&[self.holder, self.resource_type, self.search, &text]);
        format!("{}.{tag}", URL_SAFE_NO_PAD.encode(text))
    }

    /// Reads a cursor.
    ///
    /// # Errors
    /// `invalid_request` for one that was made up, or for another grant or search.
    pub fn read(&self, cursor: Option<&str>) -> Result<Vec<Value>, Problem> {
        let Some(cursor) = cursor else { return Ok(Vec::new()) };
        let opened = || {
            let (position, tag) = cursor.split_once('.')?;
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(position).ok()?).ok()?;
            let good = self.mac.verify(&[self.holder, self.resource_type, self.search, &text], tag);
            serde_json::from_str(&text).ok().filter(|_| good)
        };
        opened().ok_or_else(|| {
            invalid_request(
                "`_cursor` is not from a page of this very search under this very grant; begin it again",
            )
        })
    }
}

/// The searchset Bundle of a page. Resources are written as they are stored, unless a part of each was
/// asked for.
pub fn bundle(page: &Page, query: &Query, base: &str, path: &str, cursors: &Cursors<'_>) -> String {
    let here = address(base, path, cursors.search, query.cursor.as_deref());
    let mut links = vec![json!({"relation": "self", "url": here})];
    if let Some(next) = &page.next {
        let cursor = cursors.write(next);
        links.push(json!({"relation": "next", "url": address(base, path, cursors.search, Some(&cursor))}));
    }
    let mut text = String::from(r#"{"resourceType":"Bundle","type":"searchset","#);
    if let Some(total) = page.total {
        let _ = write!(text, r#""total":{total},"#);
    }
    let _ = write!(text, r#""link":{}"#, Value::from(links));
    let outcome = outcome(query);
    if !page.resources.is_empty() || outcome.is_some() {
        text.push_str(r#","entry":["#);
        for (index, resource) in page.resources.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let url = json!(format!("{base}/{}/{}", resource.resource_type, resource.id));
            let body = shape::shaped(resource, query);
            let _ = write!(
                text,
                r#"{separator}{{"fullUrl":{url},"resource":{body},"search":{{"mode":"match"}}}}"#
            );
        }
        if let Some(outcome) = outcome {
            let separator = if page.resources.is_empty() { "" } else { "," };
            let _ = write!(text, r#"{separator}{{"resource":{outcome},"search":{{"mode":"outcome"}}}}"#);
        }
        text.push(']');
    }
    text.push('}');
    text
}

fn address(base: &str, path: &str, search: &str, cursor: Option<&str>) -> String {
    let cursor = cursor.map(|c| format!("_cursor={c}"));
    let query: Vec<&str> = [search].into_iter().filter(|s| !s.is_empty()).chain(cursor.as_deref()).collect();
    if query.is_empty() { format!("{base}/{path}") } else { format!("{base}/{path}?{}", query.join("&")) }
}

/// What was not searched by, in an entry of its own.
fn outcome(query: &Query) -> Option<Value> {
    if query.unknown.is_empty() {
        return None;
    }
    let issues: Vec<Value> = query
        .unknown
        .iter()
        .map(|unknown| {
            let words = format!("`{}` was ignored: {}", unknown.name, unknown.reason);
            json!({"severity": "warning", "code": "not-supported", "diagnostics": words})
        })
        .collect();
    Some(json!({"resourceType": "OperationOutcome", "issue": issues}))
}
