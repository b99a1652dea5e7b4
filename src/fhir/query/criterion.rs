//! One condition of a search: its parameter, modifier and values, through chains and `_has`.

use super::{Criterion, Issue, Modifier, QueryError, shortened};
use crate::fhir::definitions::{self, Kind, Param};
use crate::fhir::operand::{self, Chain, Context, Operand};

pub(super) const MAX_OPERANDS: usize = 500;
pub(super) const MAX_VALUE: usize = 2048;
const MAX_NAME: usize = 256;
/// Steps from resource to resource in one criterion.
const MAX_LINKS: usize = 3;
/// Types that the links of one criterion may branch into where they are not named.
const MAX_BRANCHES: usize = 32;

/// Modifiers by name, and the kinds of parameter they go with; none: with all.
const MODIFIERS: [(&str, Modifier, Option<Kind>); 5] = [
    ("exact", Modifier::Exact, Some(Kind::String)),
    ("contains", Modifier::Contains, Some(Kind::String)),
    ("not", Modifier::Not, Some(Kind::Token)),
    ("missing", Modifier::Missing, None),
    ("identifier", Modifier::Identifier, Some(Kind::Reference)),
];

/// Reads one condition; a parameter that is not known is an error here.
pub fn criterion(
    type_: &'static str,
    name: &str,
    value: &str,
    context: Context<'_>,
) -> Result<Criterion, QueryError> {
    if name.len() > MAX_NAME {
        return Err(QueryError::new(name, "the name is too long", "follow fewer references"));
    }
    let mut reader = Reader { name, value, context, branches: 0 };
    reader.criterion(type_, name, 0)
}

/// Reads one pair of name and value.
struct Reader<'a> {
    /// The whole name, for errors.
    name: &'a str,
    value: &'a str,
    context: Context<'a>,
    branches: usize,
}

impl Reader<'_> {
    /// `links` counts the references followed so far, which limits the recursion.
    fn criterion(&mut self, type_: &str, name: &str, links: usize) -> Result<Criterion, QueryError> {
        if links > MAX_LINKS {
            let wrong = format!("it follows more than {MAX_LINKS} references");
            return Err(self.error(wrong, "follow fewer").of_kind(Issue::TooCostly));
        }
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(rest, links);
        }
        if let Some((link, rest)) = name.split_once('.') {
            return self.chain(type_, link, rest, links);
        }
        let (param, modifier) = self.param(type_, name)?;
        let modifier = modifier.map(|it| self.modifier(param, it)).transpose()?;
        let any = self.operands(param, modifier)?;
        Ok(Criterion { param, modifier, any })
    }

    /// `subject:Patient.name`, or `subject.name`, which may lead to each type that has a `name`.
    fn chain(&mut self, type_: &str, link: &str, rest: &str, links: usize) -> Result<Criterion, QueryError> {
        let (param, target) = self.param(type_, link)?;
        if param.kind != Kind::Reference {
            return Err(self.error(format!("{link} is not a reference"), "name a reference before the dot"));
        }
        let next = rest.split([':', '.']).next().unwrap_or(rest);
        let targets: Vec<&'static str> = match target {
            Some(name) => vec![self.target(param, name)?],
            None => {
                let targets = param.targets().iter().copied();
                let has_next = |type_: &&str| next == "_has" || definitions::param(type_, next).is_some();
                targets.filter(has_next).collect()
            }
        };
        if targets.is_empty() {
            let wrong = format!("nothing that {link} refers to has a parameter {}", shortened(next));
            return Err(self.error(wrong, "see the CapabilityStatement for each type's parameters"));
        }
        let mut any = Vec::with_capacity(targets.len());
        for type_ in targets {
            self.branches += 1;
            if self.branches > MAX_BRANCHES {
                let instead = format!("name the type, as in `{link}:Patient.{next}`");
                let wrong = "it may lead to too many types";
                return Err(self.error(wrong, instead).of_kind(Issue::TooCostly));
            }
            let criterion = Box::new(self.criterion(type_, rest, links + 1)?);
            any.push(Operand::Chain(Chain { type_, criterion }));
        }
        Ok(Criterion { param, modifier: None, any })
    }

    /// What follows `_has:` is `Observation:patient:code`.
    fn has(&mut self, text: &str, links: usize) -> Result<Criterion, QueryError> {
        const FORM: &str = "send it as `_has:Observation:patient:code=…`";
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(link), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(self.error("its form is not known", FORM));
        };
        let Some(type_) = definitions::type_named(name) else {
            return Err(self.error(format!("{} is not a resource type", shortened(name)), FORM));
        };
        let (param, _) = self.param(type_, link)?;
        if param.kind != Kind::Reference {
            return Err(self.error(format!("{link} is not a reference"), FORM));
        }
        let criterion = Box::new(self.criterion(type_, rest, links + 1)?);
        Ok(Criterion { param, modifier: None, any: vec![Operand::Has(Chain { type_, criterion })] })
    }

    /// The parameter of this name, and the modifier behind its colon.
    fn param<'n>(&self, type_: &str, name: &'n str) -> Result<(&'static Param, Option<&'n str>), QueryError> {
        let (code, modifier) = match name.split_once(':') {
            Some((code, modifier)) => (code, Some(modifier)),
            None => (name, None),
        };
        let known = definitions::param(type_, code).filter(|it| it.kind.is_indexed());
        let param = known.ok_or_else(|| {
            let wrong = format!("{type_} cannot be searched by {}", shortened(code));
            self.error(wrong, "see the CapabilityStatement for its parameters")
        })?;
        Ok((param, modifier))
    }

    fn modifier(&self, param: &Param, name: &str) -> Result<Modifier, QueryError> {
        let known = MODIFIERS.iter().find(|(known, ..)| *known == name);
        if let Some((_, modifier, kind)) = known {
            if kind.is_none_or(|kind| kind == param.kind) {
                return Ok(*modifier);
            }
            let wrong = format!(":{name} does not go with a {} parameter", param.kind.name());
            return Err(self.error(wrong, "leave it out"));
        }
        if param.kind == Kind::Reference && definitions::is_type(name) {
            return self.target(param, name).map(Modifier::Type);
        }
        let wrong = format!("the modifier :{} is not supported", shortened(name));
        let goes_with = |(name, _, kind): &(&'static str, Modifier, Option<Kind>)| {
            kind.is_none_or(|kind| kind == param.kind).then_some(*name)
        };
        let supported: Vec<&str> = MODIFIERS.iter().filter_map(goes_with).collect();
        let instead = format!("leave it out or send :{}", supported.join(" or :"));
        Err(self.error(wrong, instead).of_kind(Issue::NotSupported))
    }

    fn target(&self, param: &Param, name: &str) -> Result<&'static str, QueryError> {
        let found = param.targets().iter().find(|target| **target == name);
        found.copied().ok_or_else(|| {
            let wrong = format!("{} does not refer to {}", param.code, shortened(name));
            let instead = match param.targets() {
                few @ [_, ..] if few.len() <= 8 => format!("name one of {}", few.join(", ")),
                _ => "name a resource type".to_owned(),
            };
            self.error(wrong, instead)
        })
    }

    fn operands(&self, param: &Param, modifier: Option<Modifier>) -> Result<Vec<Operand>, QueryError> {
        let form = match modifier {
            Some(Modifier::Missing) => "send `true` or `false`",
            Some(Modifier::Identifier) => operand::form_of(Kind::Token),
            _ => operand::form_of(param.kind),
        };
        let mut any = Vec::new();
        for text in operand::split(self.value, ',') {
            if any.len() == MAX_OPERANDS {
                let wrong = format!("it has more than {MAX_OPERANDS} values");
                return Err(self.error(wrong, "search in steps").of_kind(Issue::TooCostly));
            }
            if text.len() > MAX_VALUE {
                let wrong = format!("a value is longer than {MAX_VALUE} bytes");
                return Err(self.error(wrong, "send a shorter one").of_kind(Issue::TooCostly));
            }
            if text.is_empty() {
                return Err(self.error("a value is empty", form));
            }
            let operand = operand::parse(param, modifier, text, self.context).ok_or_else(|| {
                let wrong = format!("`{}` is not a {} value", shortened(text), param.kind.name());
                self.error(wrong, form)
            })?;
            any.push(operand);
        }
        Ok(any)
    }

    fn error(&self, wrong: impl Into<String>, instead: impl Into<String>) -> QueryError {
        QueryError::new(self.name, wrong, instead)
    }
}
