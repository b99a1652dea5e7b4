//! The values of a search parameter: split at commas, unescaped, and parsed by the parameter's kind.

use super::date::{self, Span};
use super::definitions::{Kind, Param};
use super::number::{self, Decimal};
use super::query::{Criterion, Modifier};
use super::reference::{self, Target};
use super::text;

/// What a search is read against: all that is not in the request itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// This server's own FHIR base.
    pub base: &'a str,
    /// What `ap` measures its distance from, in milliseconds since 1970.
    pub now_ms: i64,
}

/// One value asked for; a criterion holds if any of its operands does.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// With `:missing`: whether the parameter shall have no value.
    Missing(bool),
    /// None as code: any code of the system. Also what `:identifier` asks for.
    Token {
        system: System,
        code: Option<String>,
    },
    /// Compared by its [folded](text::fold) form, with `:exact` as it stands.
    Text {
        folded: String,
        exact: String,
    },
    /// The span of an `ap` is already widened.
    Date {
        prefix: Prefix,
        span: Span,
    },
    /// The bounds of an `ap` are already widened.
    Number {
        prefix: Prefix,
        number: Decimal,
    },
    Quantity {
        prefix: Prefix,
        number: Decimal,
        unit: Option<Unit>,
    },
    /// A resource of this server; of any type where none was given.
    Here {
        type_: Option<&'static str>,
        id: String,
    },
    /// The URL or URN that a reference gives for something elsewhere.
    Elsewhere(String),
    Uri(String),
    /// What the parameter refers to must be of this type and meet this criterion.
    Chain(Chain),
    /// `_has`: a resource of this type must refer here by the parameter and meet this criterion.
    Has(Chain),
}

/// A criterion on another resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub type_: &'static str,
    pub criterion: Box<Criterion>,
}

/// Which systems a token may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum System {
    /// `code`
    Any,
    /// `|code`
    None,
    /// `system|code`
    Is(String),
}

/// A quantity's unit: `|system|code`, or `||code`, which may also be the unit as displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub system: Option<String>,
    pub code: String,
}

/// How a date, number or quantity is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    /// Starts after.
    Sa,
    /// Ends before.
    Eb,
    /// Approximately: within a tenth.
    Ap,
}

const PREFIXES: [(&str, Prefix); 9] = [
    ("eq", Prefix::Eq),
    ("ne", Prefix::Ne),
    ("gt", Prefix::Gt),
    ("lt", Prefix::Lt),
    ("ge", Prefix::Ge),
    ("le", Prefix::Le),
    ("sa", Prefix::Sa),
    ("eb", Prefix::Eb),
    ("ap", Prefix::Ap),
];

/// What a value of each kind looks like, for those who wrote another.
pub(super) fn form_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Token => "send `code`, `system|code`, `|code` or `system|`",
        Kind::Reference => "send `id`, `Type/id` or an absolute URL",
        Kind::Date => "send a date like `2020`, `2020-03-14` or `ge2020-03-14T10:00:00Z`",
        Kind::String => "send some letters of the text",
        Kind::Uri => "send the whole URI",
        Kind::Quantity => {
            "send `5.4`, `5.4|system|code` or `5.4||unit`, with a prefix like `gt` before it if need be"
        }
        Kind::Number => "send a decimal like `0.8`, with a prefix like `gt` before it if need be",
        Kind::Composite | Kind::Special => "leave it out",
    }
}

/// Parses one value of a parameter; none if it is not of the parameter's form.
pub(super) fn parse(
    param: &Param,
    modifier: Option<Modifier>,
    text: &str,
    context: Context<'_>,
) -> Option<Operand> {
    match (modifier, param.kind) {
        (Some(Modifier::Missing), _) => Some(Operand::Missing(match text {
            "true" => true,
            "false" => false,
            _ => return None,
        })),
        (Some(Modifier::Identifier), _) | (_, Kind::Token) => token(text),
        (Some(Modifier::Type(type_)), _) => match referred(text, context.base)? {
            Operand::Here { type_: None, id } => Some(Operand::Here { type_: Some(type_), id }),
            Operand::Here { type_: said, .. } if said != Some(type_) => None,
            operand => Some(operand),
        },
        (_, Kind::Reference) => referred(text, context.base),
        (_, Kind::String) => {
            let exact = unescape(text);
            let folded = text::fold(&exact);
            // Nothing but accents and spaces folds to nothing, which every text starts with.
            (!folded.is_empty()).then_some(Operand::Text { folded, exact })
        }
        (_, Kind::Uri) => Some(Operand::Uri(unescape(text))),
        (_, Kind::Date) => {
            let (prefix, text) = prefixed(text);
            let span = date::parse(text)?;
            let span = match prefix {
                Prefix::Ap => around(span, context.now_ms),
                _ => span,
            };
            Some(Operand::Date { prefix, span })
        }
        (_, Kind::Number) => {
            let (prefix, number) = number(text)?;
            Some(Operand::Number { prefix, number })
        }
        (_, Kind::Quantity) => quantity(text),
        (_, Kind::Composite | Kind::Special) => None,
    }
}

fn token(text: &str) -> Option<Operand> {
    let parts: Vec<String> = split(text, '|').map(unescape).collect();
    let (system, code) = match parts.as_slice() {
        [code] => (System::Any, code),
        [none, code] if none.is_empty() => (System::None, code),
        [system, code] => (System::Is(system.clone()), code),
        _ => return None,
    };
    let code = Some(code.clone()).filter(|it| !it.is_empty());
    // Only a named system may stand for all its codes.
    (code.is_some() || matches!(system, System::Is(_))).then_some(Operand::Token { system, code })
}

fn referred(text: &str, base: &str) -> Option<Operand> {
    let text = unescape(text);
    match reference::read(&text, base) {
        Target::Here { type_, id } => Some(Operand::Here { type_: Some(type_), id: id.to_owned() }),
        Target::Elsewhere(id) if reference::is_id(id) => {
            Some(Operand::Here { type_: None, id: id.to_owned() })
        }
        Target::Elsewhere(url) if url.contains(':') => Some(Operand::Elsewhere(url.to_owned())),
        Target::Elsewhere(_) | Target::Contained(_) => None,
    }
}

fn prefixed(text: &str) -> (Prefix, &str) {
    let found = PREFIXES.iter().find_map(|(name, prefix)| Some((*prefix, text.strip_prefix(name)?)));
    found.unwrap_or((Prefix::Eq, text))
}

fn number(text: &str) -> Option<(Prefix, Decimal)> {
    let (prefix, text) = prefixed(text);
    let mut number = number::parse(text)?;
    if prefix == Prefix::Ap {
        let tenth = number.value.abs() / 10.0;
        number.lo = number.lo.min(number.value - tenth);
        number.hi = number.hi.max(number.value + tenth);
    }
    Some((prefix, number))
}

fn quantity(text: &str) -> Option<Operand> {
    let parts: Vec<&str> = split(text, '|').collect();
    let (text, unit) = match parts.as_slice() {
        [number] => (*number, None),
        [number, system, code] if !code.is_empty() => {
            let system = Some(unescape(system)).filter(|it| !it.is_empty());
            let code = unescape(code);
            (*number, Some(Unit { system, code }))
        }
        _ => return None,
    };
    let (prefix, number) = number(text)?;
    Some(Operand::Quantity { prefix, number, unit })
}

/// Widens a span by a tenth of its distance from now, as the specification recommends for `ap`.
fn around(span: Span, now_ms: i64) -> Span {
    let nearest = now_ms.clamp(span.lo, span.hi);
    let tenth = now_ms.abs_diff(nearest) / 10;
    Span { lo: span.lo.saturating_sub_unsigned(tenth), hi: span.hi.saturating_add_unsigned(tenth) }
}

/// The parts of a text between separators that are not escaped.
pub(super) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |letter| {
        let splits = letter == separator && !escaped;
        escaped = letter == '\\' && !escaped;
        splits
    })
}

/// Takes the backslash off `\,` `\|` `\$` and `\\`; before anything else it stands for itself.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = letters.next_if(|next| letter == '\\' && matches!(next, ',' | '|' | '$' | '\\'));
        plain.push(escaped.unwrap_or(letter));
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fhir::definitions;

    const CONTEXT: Context<'static> = Context { base: "https://ehr.example/fhir", now_ms: 0 };

    fn read(type_: &str, code: &str, text: &str) -> Option<Operand> {
        let param = definitions::param(type_, code).expect("in the table");
        parse(param, None, text, CONTEXT)
    }

    fn token(system: System, code: Option<&str>) -> Option<Operand> {
        let code = code.map(str::to_owned);
        Some(Operand::Token { system, code })
    }

    #[test]
    fn a_token_has_four_forms() {
        let code = |text| read("Observation", "code", text);
        let system = || System::Is("s".to_owned());
        assert_eq!(code("c"), token(System::Any, Some("c")));
        assert_eq!(code("s|c"), token(system(), Some("c")));
        assert_eq!(code("|c"), token(System::None, Some("c")));
        assert_eq!(code("s|"), token(system(), None));
        assert_eq!(code(r"a\|b\\"), token(System::Any, Some(r"a|b\")));
        for text in ["", "|", "a|b|c"] {
            assert_eq!(code(text), None, "{text}");
        }
    }

    #[test]
    fn a_reference_has_three_forms() {
        let subject = |text| read("Observation", "subject", text);
        let here = |type_| {
            let id = "7".to_owned();
            Some(Operand::Here { type_, id })
        };
        assert_eq!(subject("7"), here(None));
        assert_eq!(subject("Patient/7"), here(Some("Patient")));
        assert_eq!(subject("https://ehr.example/fhir/Patient/7"), here(Some("Patient")));
        let url = "https://other.example/fhir/Patient/7".to_owned();
        assert_eq!(subject(&url), Some(Operand::Elsewhere(url.clone())));
        for text in ["", "#p", "Patient/7/8", "a b", "Nonsense/7"] {
            assert_eq!(subject(text), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_is_taken_off_dates_and_numbers() {
        let date = read("Patient", "birthdate", "ge1970");
        let span = date::parse("1970").expect("a date");
        let prefix = Prefix::Ge;
        assert_eq!(date, Some(Operand::Date { prefix, span }));
        assert!(read("RiskAssessment", "probability", "lt0.8").is_some());
        assert_eq!(read("Patient", "birthdate", "ge"), None);
        assert_eq!(read("Patient", "birthdate", "xx1970"), None);
    }

    #[test]
    fn a_quantity_may_name_its_unit() {
        let quantity = |text| match read("Observation", "value-quantity", text) {
            Some(Operand::Quantity { unit, .. }) => Some(unit),
            _ => None,
        };
        let unit = |system: Option<&str>| {
            let (system, code) = (system.map(str::to_owned), "mg".to_owned());
            Some(Some(Unit { system, code }))
        };
        assert_eq!(quantity("5.4"), Some(None));
        assert_eq!(quantity("ap5.4|ucum|mg"), unit(Some("ucum")));
        assert_eq!(quantity("5.4||mg"), unit(None));
        assert_eq!(quantity("5.4|mg"), None);
        assert_eq!(quantity("5.4||"), None);
    }

    #[test]
    fn about_a_date_grows_with_its_distance_from_now() {
        let span = Span { lo: 1000, hi: 2000 };
        assert_eq!(around(span, 1500), span);
        assert_eq!(around(span, 3000), Span { lo: 900, hi: 2100 });
        assert_eq!(around(span, 0), Span { lo: 900, hi: 2100 });
    }

    #[test]
    fn escaped_separators_do_not_split() {
        let parts: Vec<&str> = split(r"a\,b,c\\,d", ',').collect();
        assert_eq!(parts, [r"a\,b", r"c\\", "d"]);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(
            text in "[a-z0-9.|\\\\:/T-]{0,40}|.{0,40}", at in 0usize..100_000, now_ms: i64,
        ) {
            let type_ = definitions::types()[at % definitions::types().len()];
            for param in definitions::params(type_) {
                parse(param, None, &text, Context { now_ms, ..CONTEXT });
            }
        }
    }
}
