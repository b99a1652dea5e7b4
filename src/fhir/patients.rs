//! Finding a patient as a person would: by parts of the name, the birth date, an identifier.

use std::collections::BTreeSet;

use super::date;
use super::resource::{COLUMNS, Resource};
use super::text::fold;
use crate::store::db::{DbError, Param, Tx};

/// Which patients are looked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only these; none is everybody.
    pub among: Option<BTreeSet<String>>,
    /// Words that each begin a part of the name, or are an identifier.
    pub text: String,
    /// A birth date, as precise as it is known.
    pub birthdate: String,
    /// How many to pass over.
    pub start: usize,
    /// How many to answer with.
    pub count: usize,
}

/// Who was found, by name.
pub struct Found {
    /// How many in all.
    pub total: usize,
    /// This page of them.
    pub patients: Vec<Resource>,
}

const MOST_WORDS: usize = 8;

/// Looks for patients.
pub fn find(tx: &Tx<'_>, wanted: &Wanted) -> Result<Found, DbError> {
    let mut bound: Vec<Param> = Vec::new();
    let mut place = |value: Param| {
        bound.push(value);
        format!("${}", bound.len())
    };
    let mut condition = "r.type = 'Patient'".to_owned();
    if let Some(among) = &wanted.among {
        let ids: Vec<String> = among.iter().map(|id| place(id.into())).collect();
        condition += &format!(" AND r.id IN ({})", ids.join(", "));
    }
    for word in wanted.text.split_whitespace().take(MOST_WORDS) {
        let folded = fold(word);
        let (from, to) = (place((&folded).into()), place(format!("{folded}\u{10FFFF}").into()));
        let identifier = place(word.into());
        // A word within a part of the name counts too: "maria" finds "Ana Maria".
        let within = place(format!(" {folded}").into());
        condition += &format!(
            " AND (r.key IN (SELECT resource FROM index_string
                             WHERE type = 'Patient' AND param = 'name' AND owner = ''
                               AND (folded >= {from} AND folded < {to} OR replace(folded, {within}, '') <> folded))
                   OR r.key IN (SELECT resource FROM index_token
                                WHERE type = 'Patient' AND param = 'identifier' AND code = {identifier}))"
        );
    }
    if let Some(span) = date::parse(wanted.birthdate.trim()) {
        let (lo, hi) = (place(span.lo.into()), place(span.hi.into()));
        condition += &format!(
            " AND r.key IN (SELECT resource FROM index_date
                            WHERE type = 'Patient' AND param = 'birthdate' AND owner = '' AND lo >= {lo} AND hi <= {hi})"
        );
    } else if !wanted.birthdate.trim().is_empty() {
        condition += " AND 1 = 0";
    }
    let counted =
        tx.first(&format!("SELECT count(*) FROM resources r WHERE {condition}"), &bound, |row| {
            row.get::<i64>(0)
        })?;
    let (limit, offset) = (wanted.count as i64, i64::try_from(wanted.start).unwrap_or(i64::MAX));
    bound.extend([limit.into(), offset.into()]);
    let sql = format!(
        "SELECT {COLUMNS} FROM resources r
         LEFT JOIN (SELECT resource, min(folded) AS family FROM index_string
                    WHERE type = 'Patient' AND param = 'family' AND owner = '' GROUP BY resource) f ON f.resource = r.key
         LEFT JOIN (SELECT resource, min(folded) AS given FROM index_string
                    WHERE type = 'Patient' AND param = 'given' AND owner = '' GROUP BY resource) g ON g.resource = r.key
         WHERE {condition}
         ORDER BY f.family IS NULL, f.family, g.given, r.key LIMIT ${} OFFSET ${}",
        bound.len() - 1,
        bound.len()
    );
    let patients = tx.all(&sql, &bound, Resource::read)?;
    Ok(Found { total: usize::try_from(counted.unwrap_or_default()).unwrap_or_default(), patients })
}
