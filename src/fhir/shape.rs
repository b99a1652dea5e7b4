//! How much of a resource an answer shows: `_elements` and `_summary` (FHIR R4 search, "Summary").

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::definitions;
use super::query::{Query, SummaryMode};
use super::resource::Resource;

/// What every part of a resource keeps, since it is no resource without it.
const ALWAYS: [&str; 3] = ["resourceType", "id", "meta"];

/// The resource as the query wants it shown.
pub fn shaped<'r>(resource: &'r Resource, query: &Query) -> Cow<'r, str> {
    let Some(shape) = definitions::shape(&resource.resource_type) else {
        return Cow::Borrowed(&resource.json);
    };
    let keep: Box<dyn Fn(&str) -> bool> = match query.summary {
        _ if !query.elements.is_empty() => Box::new(|name| {
            shape.is_needed(name) || query.elements.iter().any(|e| e == name.trim_start_matches('_'))
        }),
        SummaryMode::Whole | SummaryMode::Count => return Cow::Borrowed(&resource.json),
        SummaryMode::Text => Box::new(|name| name == "text" || shape.is_needed(name)),
        SummaryMode::Data => Box::new(|name| name != "text"),
        SummaryMode::Summary => Box::new(|name| shape.in_summary(name) || shape.is_needed(name)),
    };
    let Value::Object(whole) = resource.parsed() else { return Cow::Borrowed(&resource.json) };
    let part = whole.into_iter().filter(|(name, _)| ALWAYS.contains(&name.as_str()) || keep(name)).collect();
    Cow::Owned(tagged(part).to_string())
}

/// Marks a part as one, so that nobody takes it for the whole (`SUBSETTED`).
fn tagged(mut part: Map<String, Value>) -> Value {
    let mark =
        json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"});
    if let Value::Object(meta) = part.entry("meta").or_insert_with(|| json!({})) {
        match meta.entry("tag").or_insert_with(|| json!([])) {
            Value::Array(tags) => tags.push(mark),
            other => *other = json!([mark]),
        }
    }
    Value::Object(part)
}
