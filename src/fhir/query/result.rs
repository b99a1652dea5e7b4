//! The parameters of a search that say how the answer is wanted: `_count`, `_sort`, `_include` …

use super::{Issue, Query, QueryError, Unknown, shortened};
use crate::fhir::definitions::{self, Kind, Param};

/// One key to sort by; the first counts most.
#[derive(Debug, Clone, PartialEq)]
pub struct SortKey {
    pub param: &'static Param,
    pub descending: bool,
}

/// `_total`: whether the number of all matches is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TotalMode {
    #[default]
    Unsaid,
    None,
    Estimate,
    Accurate,
}

/// `_summary`: how much of each resource is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SummaryMode {
    #[default]
    Whole,
    Summary,
    Text,
    Data,
    Count,
}

/// `_include` and `_revinclude`: what else belongs in the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Include {
    /// `_revinclude`: what refers to a match, rather than what a match refers to.
    pub reverse: bool,
    /// `:iterate`: starting from what was included too.
    pub iterate: bool,
    /// The type that refers.
    pub source: &'static str,
    /// The parameter by which it refers; none: any.
    pub param: Option<&'static Param>,
    /// The only type it shall lead to.
    pub target: Option<&'static str>,
}

const TOTALS: [(&str, TotalMode); 3] =
    [("none", TotalMode::None), ("estimate", TotalMode::Estimate), ("accurate", TotalMode::Accurate)];

const SUMMARIES: [(&str, SummaryMode); 5] = [
    ("false", SummaryMode::Whole),
    ("true", SummaryMode::Summary),
    ("text", SummaryMode::Text),
    ("data", SummaryMode::Data),
    ("count", SummaryMode::Count),
];

/// Most a list in one of these parameters may hold.
const MAX_LISTED: usize = 64;
/// Most keys to sort by.
const MAX_SORT: usize = 4;
/// Longest cursor and longest name of an element.
const MAX_TEXT: usize = 2048;

/// Takes a pair that says how the answer is wanted; false if it is not one of those.
pub(super) fn read(
    query: &mut Query,
    type_: &'static str,
    name: &str,
    value: &str,
) -> Result<bool, QueryError> {
    let error = |wrong: &str, instead: &str| QueryError::new(name, wrong, instead);
    match name {
        // What the answer is written in is not the search's concern.
        "_format" | "_pretty" => {}
        "_count" => {
            let count = value.parse().map_err(|_| error("it is not a number", "send a whole number"))?;
            once(&mut query.count, count, name)?;
        }
        "_cursor" if value.len() <= MAX_TEXT => once(&mut query.cursor, value.to_owned(), name)?,
        "_cursor" => {
            return Err(error("it is too long", "follow the links of the answer before"));
        }
        "_total" => query.total = one_of(&TOTALS, name, value)?,
        "_summary" => query.summary = one_of(&SUMMARIES, name, value)?,
        "_elements" => {
            for element in listed(name, value)? {
                let plain = element.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if !plain || element.is_empty() || element.len() > MAX_TEXT {
                    return Err(error("that is no element", "send names like `status,subject`"));
                }
                query.elements.push(element.to_owned());
            }
        }
        "_sort" => sort(query, type_, name, value)?,
        "_include" | "_include:iterate" | "_revinclude" | "_revinclude:iterate" => {
            if query.includes.len() == MAX_LISTED {
                let error = error("there are too many of them", "send fewer");
                return Err(error.of_kind(Issue::TooCostly));
            }
            query.includes.push(include(type_, name, value)?);
        }
        _ if name.starts_with("_include:") || name.starts_with("_revinclude:") => {
            let error = error("this modifier is not supported", "leave it out or send :iterate");
            return Err(error.of_kind(Issue::NotSupported));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn once<T>(place: &mut Option<T>, value: T, name: &str) -> Result<(), QueryError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryError::new(name, "it is there twice", "send it once")),
    }
}

fn one_of<T: Copy>(known: &[(&str, T)], name: &str, value: &str) -> Result<T, QueryError> {
    let found = known.iter().find(|(text, _)| *text == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let texts: Vec<&str> = known.iter().map(|(text, _)| *text).collect();
        let wrong = format!("`{}` is not known", shortened(value));
        QueryError::new(name, wrong, format!("send one of {}", texts.join(", ")))
    })
}

fn listed<'v>(name: &str, value: &'v str) -> Result<std::str::Split<'v, char>, QueryError> {
    if value.split(',').count() > MAX_LISTED {
        let error = QueryError::new(name, "the list is too long", "send a shorter one");
        return Err(error.of_kind(Issue::TooCostly));
    }
    Ok(value.split(','))
}

/// A key that cannot be sorted by changes the order only, so it is named rather than refused.
fn sort(query: &mut Query, type_: &str, name: &str, value: &str) -> Result<(), QueryError> {
    for key in listed(name, value)? {
        let (code, descending) = match key.strip_prefix('-') {
            Some(code) => (code, true),
            None => (key, false),
        };
        match definitions::param(type_, code).filter(|it| it.kind.is_indexed()) {
            Some(param) if query.sort.iter().any(|key| key.param == param) => {}
            Some(_) if query.sort.len() == MAX_SORT => {
                let error = QueryError::new(name, "there are too many keys", "sort by fewer");
                return Err(error.of_kind(Issue::TooCostly));
            }
            Some(param) => query.sort.push(SortKey { param, descending }),
            None => query.unknown.push(Unknown {
                name: name.to_owned(),
                reason: format!("{type_} cannot be sorted by {}", shortened(code)),
            }),
        }
    }
    Ok(())
}

fn include(type_: &'static str, name: &str, value: &str) -> Result<Include, QueryError> {
    const FORM: &str = "send it as `Type:parameter` or `Type:parameter:Target`";
    let error = |wrong: String| QueryError::new(name, wrong, FORM);
    let known_type = |name: &str| {
        let wrong = || error(format!("{} is not a resource type", shortened(name)));
        definitions::type_named(name).ok_or_else(wrong)
    };
    let reverse = name.starts_with("_revinclude");
    let iterate = name.ends_with(":iterate");
    let mut parts = value.split(':');
    let (source, code, target) = (parts.next(), parts.next(), parts.next());
    let (source, code) = match (source, code) {
        (Some("*"), None) if !reverse => (type_, "*"),
        (Some(source), Some(code)) => (known_type(source)?, code),
        _ => return Err(error("its form is not known".to_owned())),
    };
    if parts.next().is_some() {
        return Err(error("its form is not known".to_owned()));
    }
    let param = match code {
        "*" => None,
        code => {
            let param = definitions::param(source, code).filter(|it| it.kind == Kind::Reference);
            let wrong = || error(format!("{source} has no reference {}", shortened(code)));
            Some(param.ok_or_else(wrong)?)
        }
    };
    Ok(Include { reverse, iterate, source, param, target: target.map(known_type).transpose()? })
}
