//! Which scopes allow which. The order is by meaning; texts play no part.

use std::collections::BTreeMap;

use super::scope::{Letters, Limits, Meaning, ResourceScope, Scope};

/// A granular scope is split into at most this many single-valued ones to be compared.
const MOST_PARTS: usize = 16;

/// Whether `held` together allow everything that `wanted` does.
///
/// Letters and comma values of several scopes are united; a granular scope covers another only if its
/// parameters are among the other's, with at least its values; in doubt, no.
pub fn covers(held: &[Scope], wanted: &Scope) -> bool {
    if held.iter().any(|h| h.meaning == wanted.meaning) {
        return true;
    }
    match &wanted.meaning {
        Meaning::Resource(wanted) => {
            let near = |h: &&ResourceScope| {
                h.level == wanted.level
                    && (h.resource_type.is_none() || h.resource_type == wanted.resource_type)
            };
            let held: Vec<&ResourceScope> = held.iter().filter_map(Scope::resource).filter(near).collect();
            single_valued(&wanted.limits).is_some_and(|parts| {
                parts.iter().all(|part| {
                    let covering = held.iter().filter(|h| covers_part(h, part));
                    covering.fold(Letters::default(), |all, h| all.and(h.letters)).has(wanted.letters)
                })
            })
        }
        word => held.iter().any(|h| h.meaning == *word),
    }
}

/// What both lists allow: each scope of `scopes` as far as `limit` allows it too.
pub fn meet(scopes: &[Scope], limit: &[Scope]) -> Vec<Scope> {
    let mut both = Vec::new();
    for scope in scopes {
        if covers(limit, scope) {
            both.push(scope.clone());
        } else if let Some(wanted) = scope.resource() {
            let narrowed = limit.iter().filter_map(Scope::resource).filter_map(|l| meet_one(wanted, l));
            both.extend(narrowed.map(|r| Scope { text: scope.text.clone(), meaning: Meaning::Resource(r) }));
        }
    }
    both
}

fn meet_one(a: &ResourceScope, b: &ResourceScope) -> Option<ResourceScope> {
    let resource_type = match (a.resource_type, b.resource_type) {
        (Some(a), Some(b)) if a != b => return None,
        (a, b) => a.or(b),
    };
    let mut limits = a.limits.clone();
    for (name, values) in &b.limits {
        let both = match limits.get(name) {
            None => values.clone(),
            // A resource may match one value of each; asking for a common value is the narrower reading.
            Some(held) => held & values,
        };
        if both.is_empty() {
            return None;
        }
        limits.insert(name.clone(), both);
    }
    let letters = Letters(a.letters.0 & b.letters.0);
    (a.level == b.level && letters != Letters::default()).then_some(ResourceScope {
        level: a.level,
        resource_type,
        letters,
        limits,
    })
}

fn covers_part(held: &ResourceScope, part: &BTreeMap<&str, &str>) -> bool {
    held.limits.iter().all(|(name, values)| part.get(name.as_str()).is_some_and(|v| values.contains(*v)))
}

/// `?a=1,2&b=3` is `?a=1&b=3` together with `?a=2&b=3`.
fn single_valued(limits: &Limits) -> Option<Vec<BTreeMap<&str, &str>>> {
    let mut parts = vec![BTreeMap::new()];
    for (name, values) in limits {
        if parts.len() * values.len() > MOST_PARTS {
            return None;
        }
        parts = parts
            .iter()
            .flat_map(|part| {
                values.iter().map(move |value| {
                    let mut part: BTreeMap<&str, &str> = part.clone();
                    part.insert(name, value);
                    part
                })
            })
            .collect();
    }
    Some(parts)
}
