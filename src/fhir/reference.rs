//! What a reference says: a resource here, something elsewhere, or one contained in the same resource.

use serde_json::Value;

use super::definitions;

/// Where the text of a reference leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// `Patient/7`, `Patient/7/_history/2`, or the same under this server's own base.
    Here { type_: &'static str, id: &'a str },
    /// `#medication`: inside the resource that says it.
    Contained(&'a str),
    /// Any other URL or URN, and whatever cannot be read.
    Elsewhere(&'a str),
}

/// Reads the text of a reference; `base` is this server's own FHIR base.
pub fn read<'a>(text: &'a str, base: &str) -> Target<'a> {
    if let Some(id) = text.strip_prefix('#') {
        return Target::Contained(id);
    }
    match relative(within(text, base).unwrap_or(text)) {
        Some((type_, id)) => Target::Here { type_, id },
        None => Target::Elsewhere(text),
    }
}

/// The part of a URL after the base and its slash.
fn within<'a>(text: &'a str, base: &str) -> Option<&'a str> {
    let base = base.trim_end_matches('/');
    if base.is_empty() {
        return None;
    }
    text.strip_prefix(base)?.strip_prefix('/')
}

/// `Type/id` or `Type/id/_history/version`.
fn relative(text: &str) -> Option<(&'static str, &str)> {
    let mut parts = text.split('/');
    let type_ = definitions::type_named(parts.next()?)?;
    let id = parts.next().filter(|id| is_id(id))?;
    match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => Some((type_, id)),
        (Some("_history"), Some(version), None) if is_id(version) => Some((type_, id)),
        _ => None,
    }
}

/// Whether the text may be a resource's logical id.
pub fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// The type of resource that a Reference says it leads to, without following it.
pub fn type_of<'a>(reference: &'a Value, resource: &'a Value) -> Option<&'a str> {
    let stated = || reference.get("type").and_then(Value::as_str);
    let Some(text) = reference.get("reference").and_then(Value::as_str) else {
        return stated();
    };
    match read(text, "") {
        Target::Here { type_, .. } => Some(type_),
        Target::Contained(id) => {
            let contained = resource.get("contained")?.as_array()?;
            let found = contained.iter().find(|it| it.get("id").and_then(Value::as_str) == Some(id))?;
            found.get("resourceType")?.as_str()
        }
        Target::Elsewhere(url) => type_in_url(url).or_else(stated),
    }
}

/// The type in a RESTful URL of some other server: `https://example.org/fhir/Patient/7`.
fn type_in_url(url: &str) -> Option<&'static str> {
    let url = url.split_once("/_history/").map_or(url, |(before, _)| before);
    let (before, _id) = url.rsplit_once('/')?;
    let (_, name) = before.rsplit_once('/')?;
    definitions::type_named(name)
}

/// Every resource of this server that this resource refers to, at any depth, each one once.
pub fn all<'a>(resource: &'a Value, base: &str) -> Vec<(&'static str, &'a str)> {
    let mut found = Vec::new();
    // A list of what is still to be looked at, not recursion: input cannot exhaust the stack.
    let mut open = vec![resource];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                let text = members.get("reference").and_then(Value::as_str);
                if let Some(Target::Here { type_, id }) = text.map(|text| read(text, base)) {
                    found.push((type_, id));
                }
                open.extend(members.values().filter(|it| it.is_object() || it.is_array()));
            }
            _ => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const BASE: &str = "https://ehr.example/fhir";

    #[test]
    fn relative_versioned_and_own_absolute_references_lead_here() {
        for text in [
            "Patient/7",
            "Patient/7/_history/2",
            "https://ehr.example/fhir/Patient/7",
            "https://ehr.example/fhir/Patient/7/_history/2",
        ] {
            let here = Target::Here { type_: "Patient", id: "7" };
            assert_eq!(read(text, BASE), here, "{text}");
        }
    }

    #[test]
    fn everything_else_leads_elsewhere() {
        for text in [
            "https://other.example/fhir/Patient/7",
            "https://ehr.example/fhirx/Patient/7",
            "urn:uuid:0c3a7d3e-0000-4000-8000-000000000000",
            "Nonsense/7",
            "Patient/",
            "Patient/7/8",
            "Patient/7/_history/",
            "Patient/a b",
            "Patient?identifier=x|7",
            "",
        ] {
            assert_eq!(read(text, BASE), Target::Elsewhere(text), "{text}");
        }
        assert_eq!(read("#med", BASE), Target::Contained("med"));
    }

    #[test]
    fn a_reference_tells_its_type_where_it_can() {
        let resource = json!({"contained": [{"resourceType": "Device", "id": "d"}]});
        for (reference, type_) in [
            (json!({"reference": "Patient/7"}), Some("Patient")),
            (json!({"reference": "#d"}), Some("Device")),
            (json!({"reference": "#other"}), None),
            (json!({"reference": "https://x.example/Group/7/_history/1"}), Some("Group")),
            (json!({"reference": "urn:uuid:1", "type": "Patient"}), Some("Patient")),
            (json!({"type": "Patient", "identifier": {"value": "7"}}), Some("Patient")),
            (json!({"display": "somebody"}), None),
        ] {
            assert_eq!(type_of(&reference, &resource), type_, "{reference}");
        }
    }

    #[test]
    fn all_references_are_found_once_at_any_depth() {
        let resource = json!({
            "resourceType": "Observation",
            "subject": {"reference": "Patient/7"},
            "performer": [{"reference": "https://ehr.example/fhir/Practitioner/2"}],
            "extension": [{"valueReference": {"reference": "Patient/7"}}],
            "contained": [{"resourceType": "Device", "patient": {"reference": "Patient/8"}}],
            "device": {"reference": "#d"},
        });
        let expected = [("Patient", "7"), ("Patient", "8"), ("Practitioner", "2")];
        assert_eq!(all(&resource, BASE), expected);
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,80}", base in ".{0,20}") {
            read(&text, &base);
            type_in_url(&text);
        }
    }
}
