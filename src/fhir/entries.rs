//! What a resource is found by: its values under every search parameter of its type, extracted by
//! the parameters' own expressions.
//!
//! Not extracted, and why:
//!
//! | what | why |
//! |---|---|
//! | composite parameters | they compare values of one element together, which single entries cannot |
//! | `near`, `_text`, `_content`, `_query`, `_filter`, `_list` | they need more than an index of values |
//! | `_id`, `_lastUpdated` | the stored row knows them better than the document ([`super::matching::Meta`]) |
//! | references to contained resources | contained resources are not found by themselves |
//! | SampledData as quantity | a series of samples has no one value |
//! | the value set of a `code` as its system | `status=system\|code` finds nothing; `status=code` does |

use serde_json::Value;

use super::date::{self, Span};
use super::definitions::{self, Kind, Param};
use super::path::Found;
use super::reference::{self, Target};
use super::text;

/// One value of one search parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The parameter's code.
    pub param: &'static str,
    pub value: Indexed,
}

/// A value in the form in which it is stored and compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Indexed {
    Token(Token),
    /// A text as it stands, and [folded](text::fold).
    Text {
        folded: String,
        exact: String,
    },
    Date(Span),
    Reference(Reference),
    Quantity {
        range: Range,
        system: Option<String>,
        code: Option<String>,
        unit: Option<String>,
    },
    Number(Range),
    Uri(String),
}

/// A code, and the system that defines it, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub system: Option<String>,
    pub code: String,
}

/// Where a reference leads. One that also has an identifier gives an entry for that too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A resource of this server.
    Here { type_: &'static str, id: String },
    /// The URL or URN of something else.
    Elsewhere(String),
    /// `Reference.identifier`, for `:identifier`.
    Logical(Token),
}

/// The least and greatest value meant, both included; the same for a plain number. Open ends are
/// infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub lo: f64,
    pub hi: f64,
}

impl From<f64> for Range {
    fn from(value: f64) -> Self {
        Self { lo: value, hi: value }
    }
}

/// Parameters that the stored row answers, not the index.
const OF_THE_ROW: [&str; 2] = ["_id", "_lastUpdated"];

/// Everything this resource is found by; `base` is this server's own FHIR base.
pub fn entries(resource: &Value, base: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let Some(type_) = resource.get("resourceType").and_then(Value::as_str) else {
        return entries;
    };
    for param in definitions::params(type_) {
        if let Some(path) = &param.path
            && !OF_THE_ROW.contains(&param.code)
        {
            for found in path.eval(resource) {
                index(param, found, base, &mut entries);
            }
        }
    }
    entries
}

/// Every resource of this server that this resource refers to, at any depth, each one once.
pub fn references<'a>(resource: &'a Value, base: &str) -> Vec<(&'static str, &'a str)> {
    reference::all(resource, base)
}

/// Where the values of one parameter go.
struct Sink<'a> {
    param: &'static str,
    entries: &'a mut Vec<Entry>,
}

impl Sink<'_> {
    fn push(&mut self, value: Indexed) {
        self.entries.push(Entry { param: self.param, value });
    }

    fn token(&mut self, system: Option<&str>, code: Option<&str>) {
        self.entries
            .extend(token(system, code).map(|it| Entry { param: self.param, value: Indexed::Token(it) }));
    }

    fn text(&mut self, exact: &str) {
        let folded = text::fold(exact);
        if !folded.is_empty() {
            let exact = exact.to_owned();
            self.push(Indexed::Text { folded, exact });
        }
    }
}

fn index(param: &Param, found: Found<'_>, base: &str, entries: &mut Vec<Entry>) {
    let Some(type_) = found.type_ else {
        return;
    };
    let value = found.value;
    let mut sink = Sink { param: param.code, entries };
    match param.kind {
        Kind::Token => tokens(type_, value, &mut sink),
        Kind::String => texts(type_, value, &mut sink),
        Kind::Date => {
            if let Some(span) = span(type_, value) {
                sink.push(Indexed::Date(span));
            }
        }
        Kind::Reference => references_of(type_, value, base, &mut sink),
        Kind::Uri => uris(value, |uri| sink.push(Indexed::Uri(uri.to_owned()))),
        Kind::Quantity => {
            if let Some(quantity) = quantity(type_, value) {
                sink.push(quantity);
            }
        }
        Kind::Number => {
            if let Some(range) = range(type_, value) {
                sink.push(Indexed::Number(range));
            }
        }
        Kind::Composite | Kind::Special => {}
    }
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let items = value.get(name).and_then(Value::as_array);
    items.map_or(&[], Vec::as_slice)
}

fn token(system: Option<&str>, code: Option<&str>) -> Option<Token> {
    let code = code.filter(|it| !it.is_empty())?.to_owned();
    let system = system.filter(|it| !it.is_empty()).map(str::to_owned);
    Some(Token { system, code })
}

fn tokens(type_: &str, value: &Value, sink: &mut Sink<'_>) {
    let system = member(value, "system");
    match type_ {
        "Coding" => sink.token(system, member(value, "code")),
        "CodeableConcept" => {
            let before = sink.entries.len();
            for coding in items(value, "coding") {
                sink.token(member(coding, "system"), member(coding, "code"));
            }
            // A concept that nobody coded can at least be found by its own words.
            if sink.entries.len() == before {
                sink.token(None, member(value, "text"));
            }
        }
        "Identifier" => sink.token(system, member(value, "value")),
        "ContactPoint" => {
            let number = member(value, "value");
            // The specification names the use as the system, servers in the field the kind.
            let systems = [member(value, "use"), system];
            if systems.iter().all(Option::is_none) {
                sink.token(None, number);
            }
            for system in systems.into_iter().flatten() {
                sink.token(Some(system), number);
            }
        }
        _ => match value {
            Value::String(code) => sink.token(None, Some(code)),
            Value::Bool(value) => sink.token(None, Some(if *value { "true" } else { "false" })),
            _ => {}
        },
    }
}

/// The parts of types that are searched as text; other types are text themselves or none.
const TEXT_PARTS: [(&str, &[&str]); 2] = [
    ("HumanName", &["family", "given", "prefix", "suffix", "text"]),
    ("Address", &["line", "city", "district", "state", "postalCode", "country", "text"]),
];

fn texts(type_: &str, value: &Value, sink: &mut Sink<'_>) {
    if let Some(text) = value.as_str() {
        return sink.text(text);
    }
    let parts = TEXT_PARTS.iter().find(|(name, _)| *name == type_);
    for name in parts.map_or(&[][..], |(_, parts)| parts) {
        match value.get(name) {
            Some(Value::String(text)) => sink.text(text),
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).for_each(|it| sink.text(it));
            }
            _ => {}
        }
    }
}

fn span(type_: &str, value: &Value) -> Option<Span> {
    match type_ {
        "date" | "dateTime" | "instant" => date::parse(value.as_str()?),
        "Period" => period(value),
        // Only the outer limits of a schedule count.
        "Timing" => {
            let events = items(value, "event").iter().filter_map(Value::as_str);
            let events = events.filter_map(date::parse);
            let bounds = value.get("repeat").and_then(|it| it.get("boundsPeriod"));
            events.chain(bounds.and_then(period)).reduce(Span::join)
        }
        _ => None,
    }
}

/// A period with an end that cannot be read is left out whole: open, it would be found too often.
fn period(value: &Value) -> Option<Span> {
    let end_of = |name: &str| match value.get(name) {
        None => Some(None),
        Some(text) => date::parse(text.as_str()?).map(Some),
    };
    let (start, end) = (end_of("start")?, end_of("end")?);
    if start.is_none() && end.is_none() {
        return None;
    }
    let span = Span { lo: start.map_or(i64::MIN, |it| it.lo), hi: end.map_or(i64::MAX, |it| it.hi) };
    // One that ends before it starts is no time at all.
    Some(span).filter(|span| span.lo < span.hi)
}

fn references_of(type_: &str, value: &Value, base: &str, sink: &mut Sink<'_>) {
    let mut literal = |text: &str| match reference::read(text, base) {
        Target::Here { type_, id } => {
            sink.push(Indexed::Reference(Reference::Here { type_, id: id.to_owned() }))
        }
        Target::Elsewhere(url) if !url.is_empty() => {
            sink.push(Indexed::Reference(Reference::Elsewhere(url.to_owned())));
        }
        Target::Elsewhere(_) | Target::Contained(_) => {}
    };
    match type_ {
        "canonical" | "uri" => uris(value, literal),
        "Resource" => {
            let type_ = member(value, "resourceType").and_then(definitions::type_named);
            if let (Some(type_), Some(id)) = (type_, member(value, "id")) {
                let id = id.to_owned();
                sink.push(Indexed::Reference(Reference::Here { type_, id }));
            }
        }
        "Attachment" => {}
        _ => {
            if let Some(text) = member(value, "reference") {
                literal(text);
            }
            if let Some(identifier) = value.get("identifier")
                && let Some(it) = token(member(identifier, "system"), member(identifier, "value"))
            {
                sink.push(Indexed::Reference(Reference::Logical(it)));
            }
        }
    }
}

/// A URI as it stands, and one that names a version without it too.
fn uris(value: &Value, mut found: impl FnMut(&str)) {
    let Some(uri) = value.as_str().filter(|it| !it.is_empty()) else {
        return;
    };
    found(uri);
    if let Some((unversioned, _)) = uri.split_once('|') {
        found(unversioned);
    }
}

/// Where Money's currencies are defined.
const CURRENCIES: &str = "urn:iso:std:iso:4217";

fn quantity(type_: &str, value: &Value) -> Option<Indexed> {
    let range = range(type_, value)?;
    let (unit, currency) = match type_ {
        "Range" => (value.get("low").or_else(|| value.get("high"))?, None),
        "Money" => (value, member(value, "currency")),
        _ => (value, None),
    };
    let own = |name| member(unit, name).map(str::to_owned);
    Some(Indexed::Quantity {
        range,
        system: currency.map(|_| CURRENCIES.to_owned()).or_else(|| own("system")),
        code: currency.map(str::to_owned).or_else(|| own("code")),
        unit: own("unit"),
    })
}

fn range(type_: &str, value: &Value) -> Option<Range> {
    let number = |value: &Value| value.get("value")?.as_f64();
    match type_ {
        "decimal" | "integer" | "positiveInt" | "unsignedInt" => value.as_f64().map(Range::from),
        "Range" => {
            let low = value.get("low").and_then(number);
            let high = value.get("high").and_then(number);
            if low.is_none() && high.is_none() {
                return None;
            }
            Some(Range { lo: low.unwrap_or(f64::NEG_INFINITY), hi: high.unwrap_or(f64::INFINITY) })
        }
        "SampledData" => None,
        _ => {
            let mut range = Range::from(number(value)?);
            match member(value, "comparator") {
                Some("<" | "<=") => range.lo = f64::NEG_INFINITY,
                Some(">" | ">=") => range.hi = f64::INFINITY,
                _ => {}
            }
            Some(range)
        }
    }
}

#[cfg(test)]
mod tests;
