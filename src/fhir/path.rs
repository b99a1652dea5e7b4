//! The small FHIRPath that search parameters use, evaluated over JSON without copying it.
//!
//! Types are settled when an expression is parsed, from the table of elements: a choice element
//! knows the JSON names it may have (`value` -> `valueQuantity`), and what is found carries its type.
//! Nothing is resolved: `resolve() is Patient` asks what the reference itself says.

use std::collections::HashMap;

use serde_json::Value;

use super::reference;

mod parser;

pub use parser::{PathError, Problem};

/// What the definitions say of one element.
#[derive(Debug, Clone)]
pub struct Element {
    /// Written `value[x]` in the definitions: in JSON its name carries its type.
    pub choice: bool,
    /// The types it may have; one that starts with `@` is defined as that other element is.
    pub types: Vec<&'static str>,
}

/// Elements by their path without `[x]`: `Observation.value`, `Extension.url`.
pub type Elements = HashMap<&'static str, Element>;

/// A parsed expression.
#[derive(Debug)]
pub struct Path<'t>(Node<'t>);

/// A value that an expression found, and its FHIR type where that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found<'a> {
    pub value: &'a Value,
    pub type_: Option<&'a str>,
}

/// An expression. Its depth is limited by the parser, so evaluating it may recurse.
#[derive(Debug)]
enum Node<'t> {
    Union(Vec<Node<'t>>),
    And(Vec<Node<'t>>),
    Equal { left: Box<Node<'t>>, right: Box<Node<'t>>, negated: bool },
    Is(Box<Node<'t>>, &'t str),
    Text(&'t str),
    Bool(bool),
    Steps(Start<'t>, Vec<Step<'t>>),
}

#[derive(Debug)]
enum Start<'t> {
    /// The resource itself, if it is of this type.
    Type(&'t str),
    /// The value that a `where(...)` looks at.
    Here,
    Group(Box<Node<'t>>),
}

#[derive(Debug)]
enum Step<'t> {
    Member(&'t str, Option<&'static str>),
    /// JSON names with the type each stands for.
    Choice(Vec<(Box<str>, &'static str)>),
    Cast(&'t str),
    Where(Box<Node<'t>>),
    Index(usize),
    Extension(&'t str),
    Exists,
    Resolve,
}

static TRUE: Value = Value::Bool(true);
static FALSE: Value = Value::Bool(false);

impl<'t> Path<'t> {
    /// Parses an expression; `elements` says what types its members have.
    pub fn parse(text: &'t str, elements: &Elements) -> Result<Self, PathError> {
        parser::parse(text, elements).map(Self)
    }

    /// Everything the expression finds in this resource.
    pub fn eval<'a>(&'a self, resource: &'a Value) -> Vec<Found<'a>> {
        let whole = Found { value: resource, type_: resource.get("resourceType").and_then(Value::as_str) };
        let mut found = Vec::new();
        self.0.eval(whole, whole, &mut found);
        found
    }
}

impl<'t> Node<'t> {
    fn eval<'a>(&'a self, resource: Found<'a>, here: Found<'a>, out: &mut Vec<Found<'a>>) {
        match self {
            Node::Union(branches) => {
                for branch in branches {
                    branch.eval(resource, here, out);
                }
            }
            Node::Steps(start, steps) => {
                let mut at = match start {
                    Start::Type(name) if is_a(resource, name) => vec![resource],
                    Start::Type(_) => return,
                    Start::Here => vec![here],
                    Start::Group(node) => node.collect(resource, here),
                };
                for step in steps {
                    at = step.apply(at, resource);
                }
                out.append(&mut at);
            }
            test => out.push(truth(test.holds(resource, here))),
        }
    }

    fn collect<'a>(&'a self, resource: Found<'a>, here: Found<'a>) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        self.eval(resource, here, &mut found);
        found
    }

    /// The expression as a condition: nothing found is false.
    fn holds<'a>(&'a self, resource: Found<'a>, here: Found<'a>) -> bool {
        match self {
            Node::And(all) => all.iter().all(|node| node.holds(resource, here)),
            Node::Equal { left, right, negated } => {
                let left = left.operands(resource, here);
                let right = right.operands(resource, here);
                // FHIRPath: comparing with nothing gives nothing, so neither `=` nor `!=` holds.
                !left.is_empty() && !right.is_empty() && (left == right) != *negated
            }
            Node::Is(node, name) => {
                let found = node.collect(resource, here);
                matches!(found.as_slice(), [one] if is_a(*one, name))
            }
            Node::Bool(value) => *value,
            Node::Text(_) => false,
            Node::Union(_) | Node::Steps(..) => {
                let found = self.collect(resource, here);
                matches!(found.as_slice(), [one] if *one.value == Value::Bool(true))
            }
        }
    }

    fn operands<'a>(&'a self, resource: Found<'a>, here: Found<'a>) -> Vec<Operand<'a>> {
        match self {
            Node::Text(text) => vec![Operand::Text(text)],
            node => {
                let found = node.collect(resource, here);
                found.into_iter().map(|it| Operand::of(it.value)).collect()
            }
        }
    }
}

/// One side of an equality.
#[derive(PartialEq)]
enum Operand<'a> {
    Text(&'a str),
    Json(&'a Value),
}

impl<'a> Operand<'a> {
    fn of(value: &'a Value) -> Self {
        value.as_str().map_or(Operand::Json(value), Operand::Text)
    }
}

impl<'t> Step<'t> {
    fn apply<'a>(&'a self, at: Vec<Found<'a>>, resource: Found<'a>) -> Vec<Found<'a>> {
        let mut next = Vec::new();
        match self {
            Step::Member(name, type_) => {
                for one in at {
                    push(one.value.get(name), *type_, &mut next);
                }
            }
            Step::Choice(names) => {
                for one in at {
                    for (name, type_) in names {
                        push(one.value.get(&**name), Some(type_), &mut next);
                    }
                }
            }
            Step::Extension(url) => {
                for one in at {
                    let from = next.len();
                    push(one.value.get("extension"), Some("Extension"), &mut next);
                    let mut kept = next.split_off(from);
                    kept.retain(|it| it.value.get("url").and_then(Value::as_str) == Some(url));
                    next.append(&mut kept);
                }
            }
            Step::Cast(name) => next.extend(at.into_iter().filter(|one| is_a(*one, name))),
            Step::Where(test) => {
                next.extend(at.into_iter().filter(|one| test.holds(resource, *one)));
            }
            Step::Index(number) => next.extend(at.into_iter().nth(*number)),
            Step::Exists => next.push(truth(!at.is_empty())),
            Step::Resolve => next.extend(at.into_iter().filter_map(|one| {
                let type_ = reference::type_of(one.value, resource.value)?;
                Some(Found { type_: Some(type_), ..one })
            })),
        }
        next
    }
}

/// Adds a member's value, or each of its values.
fn push<'a>(value: Option<&'a Value>, type_: Option<&'static str>, out: &mut Vec<Found<'a>>) {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            // A null stands in a list of primitives where only an extension is given.
            let present = items.iter().filter(|item| !item.is_null());
            out.extend(present.map(|value| Found { value, type_ }));
        }
        Some(value) => out.push(Found { value, type_ }),
    }
}

fn is_a(found: Found<'_>, name: &str) -> bool {
    found.type_ == Some(name) || (name == "Resource" && found.value.get("resourceType").is_some())
}

fn truth<'a>(holds: bool) -> Found<'a> {
    Found { value: if holds { &TRUE } else { &FALSE }, type_: Some("boolean") }
}

#[cfg(test)]
mod tests;
