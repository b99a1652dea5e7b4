//! One criterion against what a resource is found by, with the meaning that SQL over the same
//! entries has. Any one value and any one operand suffice.
//!
//! Where a value is itself a span (a period, a range, a partial date), the prefixes mean:
//!
//! | prefix | holds when the value |
//! |---|---|
//! | `eq`, `ne` | lies wholly within what is asked for; does not |
//! | `gt`, `lt` | reaches beyond the end; begins before the start |
//! | `ge`, `le` | reaches beyond the start; begins before the end |
//! | `sa`, `eb` | begins at or after the end; ends at or before the start |
//! | `ap` | overlaps what is asked for, widened by a tenth |
//!
//! `ge` is thus a little wider than `gt` or `eq`: a stay from December to January is found by
//! `ge2020-01`, as most servers do it and as people expect.

use super::date::Span;
use super::entries::{Entry, Indexed, Range, Reference, Token};
use super::number::Decimal;
use super::operand::{Operand, Prefix, System, Unit};
use super::query::{Criterion, Modifier};

/// What the stored row knows of a resource.
#[derive(Debug, Clone, Copy)]
pub struct Meta<'a> {
    pub id: &'a str,
    pub updated_ms: i64,
}

/// Whether a resource with these entries meets the criterion. A chain or `_has` needs other
/// resources, so here it is never met.
pub fn matches(criterion: &Criterion, entries: &[Entry], meta: Meta<'_>) -> bool {
    let code = criterion.param.code;
    let of_row = match code {
        "_id" => Some(Indexed::Token(Token { system: None, code: meta.id.to_owned() })),
        "_lastUpdated" => Some(Indexed::Date(Span::instant(meta.updated_ms))),
        _ => None,
    };
    let indexed = entries.iter().filter(|entry| entry.param == code);
    let mut values = of_row.iter().chain(indexed.map(|entry| &entry.value));
    let modifier = criterion.modifier;
    if modifier == Some(Modifier::Missing) {
        let missing = values.next().is_none();
        return criterion.any.contains(&Operand::Missing(missing));
    }
    let found = values.any(|value| {
        let mut any = criterion.any.iter();
        any.any(|operand| meets(value, operand, modifier))
    });
    found != (modifier == Some(Modifier::Not))
}

fn meets(value: &Indexed, operand: &Operand, modifier: Option<Modifier>) -> bool {
    match (value, operand) {
        (Indexed::Token(token), Operand::Token { system, code })
        | (Indexed::Reference(Reference::Logical(token)), Operand::Token { system, code }) => {
            is_token(token, system, code.as_deref())
        }
        (Indexed::Text { folded, exact }, Operand::Text { folded: wanted, exact: precisely }) => {
            match modifier {
                Some(Modifier::Exact) => exact == precisely,
                Some(Modifier::Contains) => folded.contains(wanted),
                _ => folded.starts_with(wanted),
            }
        }
        (Indexed::Date(span), Operand::Date { prefix, span: asked }) => is_date(*span, *prefix, *asked),
        (Indexed::Reference(Reference::Here { type_, id }), Operand::Here { type_: asked, id: wanted }) => {
            id == wanted && asked.is_none_or(|asked| asked == *type_)
        }
        (Indexed::Reference(Reference::Elsewhere(url)), Operand::Elsewhere(wanted)) => url == wanted,
        (Indexed::Uri(uri), Operand::Uri(wanted)) => uri == wanted,
        (Indexed::Number(range), Operand::Number { prefix, number }) => is_number(*range, *prefix, *number),
        (
            Indexed::Quantity { range, system, code, unit },
            Operand::Quantity { prefix, number, unit: wanted },
        ) => {
            let units = [system, code, unit].map(|it| it.as_deref());
            wanted.as_ref().is_none_or(|wanted| is_unit(units, wanted)) && is_number(*range, *prefix, *number)
        }
        _ => false,
    }
}

fn is_token(token: &Token, system: &System, code: Option<&str>) -> bool {
    let of_system = match system {
        System::Any => true,
        System::None => token.system.is_none(),
        System::Is(wanted) => token.system.as_deref() == Some(wanted),
    };
    of_system && code.is_none_or(|code| code == token.code)
}

fn is_date(value: Span, prefix: Prefix, asked: Span) -> bool {
    match prefix {
        Prefix::Eq => asked.contains(value),
        Prefix::Ne => !asked.contains(value),
        Prefix::Gt => value.hi > asked.hi,
        Prefix::Lt => value.lo < asked.lo,
        Prefix::Ge => value.hi > asked.lo,
        Prefix::Le => value.lo < asked.hi,
        Prefix::Sa => value.lo >= asked.hi,
        Prefix::Eb => value.hi <= asked.lo,
        Prefix::Ap => value.hi > asked.lo && value.lo < asked.hi,
    }
}

/// Precision counts only for equality: `gt5` is more than five, not more than five and a half.
fn is_number(value: Range, prefix: Prefix, asked: Decimal) -> bool {
    let within = value.lo >= asked.lo && value.hi < asked.hi;
    match prefix {
        Prefix::Eq => within,
        Prefix::Ne => !within,
        Prefix::Gt => value.hi > asked.value,
        Prefix::Lt => value.lo < asked.value,
        Prefix::Ge => value.hi >= asked.value,
        Prefix::Le => value.lo <= asked.value,
        Prefix::Sa => value.lo > asked.value,
        Prefix::Eb => value.hi < asked.value,
        Prefix::Ap => value.hi >= asked.lo && value.lo <= asked.hi,
    }
}

fn is_unit([system, code, unit]: [Option<&str>; 3], wanted: &Unit) -> bool {
    let by_code = code == Some(&wanted.code);
    match &wanted.system {
        Some(wanted) => by_code && system == Some(wanted),
        None => by_code || unit == Some(&wanted.code),
    }
}
