//! A search request, parsed: what must hold, and how the answer is wanted. Nothing that would widen
//! the result is passed over in silence: an unsupported modifier is an error, and a parameter that
//! is not known is named in [`Query::unknown`].

use super::definitions::{self, Param};

pub use super::matching::matches;
pub use super::operand::{Context, Operand};

mod criterion;
mod result;

pub use criterion::criterion;
pub use result::{Include, SortKey, SummaryMode, TotalMode};

/// A search of one type.
#[derive(Debug, Default)]
pub struct Query {
    /// All of them must hold.
    pub criteria: Vec<Criterion>,
    pub count: Option<usize>,
    pub sort: Vec<SortKey>,
    pub total: TotalMode,
    pub summary: SummaryMode,
    /// The elements asked for; empty: all.
    pub elements: Vec<String>,
    pub includes: Vec<Include>,
    /// Parameters that had no effect.
    pub unknown: Vec<Unknown>,
    /// Where a page begins, as an earlier answer's link said.
    pub cursor: Option<String>,
}

/// One condition: any of its operands must hold for some value of the parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    /// With [`Operand::Has`], the parameter by which the other type refers here.
    pub param: &'static Param,
    pub modifier: Option<Modifier>,
    pub any: Vec<Operand>,
}

impl Criterion {
    /// Whether it asks about other resources than the one found.
    pub fn is_chained(&self) -> bool {
        let chained = |it: &Operand| matches!(it, Operand::Chain(_) | Operand::Has(_));
        self.any.iter().any(chained)
    }
}

/// What stands after a parameter's colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modifier {
    Exact,
    Contains,
    /// No value may be one of those asked for; having none is fine.
    Not,
    Missing,
    Identifier,
    /// The type that a bare id belongs to.
    Type(&'static str),
}

/// A parameter that was not used, and why, in words for the app's developer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub name: String,
    pub reason: String,
}

/// Why a search was refused: which parameter, what was wrong, and what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {wrong}; {instead}")]
pub struct QueryError {
    pub parameter: String,
    pub wrong: String,
    pub instead: String,
    pub issue: Issue,
}

/// The kind of refusal, in the words of an OperationOutcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issue {
    Invalid,
    NotSupported,
    TooCostly,
}

impl Issue {
    /// The code of `OperationOutcome.issue.code`.
    pub fn code(self) -> &'static str {
        match self {
            Issue::Invalid => "invalid",
            Issue::NotSupported => "not-supported",
            Issue::TooCostly => "too-costly",
        }
    }
}

const MAX_CRITERIA: usize = 64;
/// Values in all criteria together: each becomes a part of the statement.
const MAX_VALUES: usize = 1000;
/// Parameters that are known, but not searched by, and why.
const NOT_SEARCHED: [(&str, &str); 7] = [
    ("_text", "text of narratives is not indexed"),
    ("_content", "text of whole resources is not indexed"),
    ("_filter", "filter expressions are not supported"),
    ("_list", "search by list is not supported"),
    ("_query", "there are no named queries"),
    ("_contained", "contained resources are not found by themselves"),
    ("_containedType", "contained resources are not found by themselves"),
];

/// Reads a search of this type: names and values, decoded, in the order they came.
pub fn parse<'p>(
    type_: &'static str,
    pairs: impl IntoIterator<Item = (&'p str, &'p str)>,
    context: Context<'_>,
) -> Result<Query, QueryError> {
    let mut query = Query::default();
    for (name, value) in pairs {
        if result::read(&mut query, type_, name, value)? {
            continue;
        }
        match not_searched(type_, name) {
            Some(reason) => query.unknown.push(Unknown { name: shortened(name), reason }),
            None if query.criteria.len() == MAX_CRITERIA => {
                return Err(QueryError::new(name, "there are too many parameters", "search in steps")
                    .of_kind(Issue::TooCostly));
            }
            None => query.criteria.push(criterion(type_, name, value, context)?),
        }
    }
    if query.criteria.iter().map(|criterion| criterion.any.len()).sum::<usize>() > MAX_VALUES {
        let error = QueryError::new("search", "there are too many values", "search in steps");
        return Err(error.of_kind(Issue::TooCostly));
    }
    Ok(query)
}

/// Why a whole parameter has no effect, if it has none.
fn not_searched(type_: &str, name: &str) -> Option<String> {
    let code = name.split(['.', ':']).next().unwrap_or(name);
    if code == "_has" {
        return None;
    }
    if let Some((_, reason)) = NOT_SEARCHED.iter().find(|(known, _)| *known == code) {
        return Some((*reason).to_owned());
    }
    match definitions::param(type_, code) {
        None => Some(format!("{type_} has no such search parameter")),
        Some(param) if !param.kind.is_indexed() => {
            let kind = param.kind.name();
            Some(format!("{kind} parameters are not supported"))
        }
        Some(_) => None,
    }
}

impl QueryError {
    fn new(parameter: &str, wrong: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            parameter: shortened(parameter),
            wrong: wrong.into(),
            instead: instead.into(),
            issue: Issue::Invalid,
        }
    }

    fn of_kind(self, issue: Issue) -> Self {
        Self { issue, ..self }
    }
}

/// Enough of what was sent to recognise it in an answer.
fn shortened(text: &str) -> String {
    const KEPT: usize = 80;
    let mut kept: String = text.chars().take(KEPT).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests;
