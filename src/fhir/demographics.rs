//! What people read of a Patient or Practitioner: name, age, sex, birth date, identifier, in plain words.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use crate::clock::Millis;

/// A person's name as they would be addressed: the usual or official one, else the first, else nothing.
pub fn name(resource: &Value) -> Option<String> {
    let names: Vec<&Value> = resource["name"].as_array().into_iter().flatten().collect();
    let used = |wanted: &str| names.iter().find(|n| n["use"] == wanted).copied();
    let chosen = used("usual").or_else(|| used("official")).or_else(|| names.first().copied())?;
    if let Some(text) = chosen["text"].as_str().filter(|t| !t.trim().is_empty()) {
        return Some(text.to_owned());
    }
    let words = |field: &str| strings(&chosen[field]).collect::<Vec<_>>();
    let family = chosen["family"].as_str();
    let all: Vec<&str> = words("prefix").into_iter().chain(words("given")).chain(family).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The birth date as written: `1984`, `1984-03` or `1984-03-09`.
pub fn birth_date(resource: &Value) -> Option<&str> {
    resource["birthDate"].as_str()
}

/// The birth date in words: `9 March 1984`, `March 1984`, `1984`.
pub fn birth_date_in_words(resource: &Value) -> Option<String> {
    birth_date(resource).map(date_in_words)
}

/// A FHIR date or dateTime in words, as precise as it is written; what is no date stays as it is.
pub fn date_in_words(date: &str) -> String {
    let day = date.get(..10).unwrap_or(date);
    if let Ok(date) = day.parse::<Date>() {
        return date.strftime("%-d %B %Y").to_string();
    }
    match format!("{day}-01").parse::<Date>() {
        Ok(month) => month.strftime("%B %Y").to_string(),
        Err(_) => date.to_owned(),
    }
}

/// Whole years (months below two years) at `now`, for a birth date known to the day.
pub fn age(resource: &Value, now: Millis) -> Option<String> {
    let born: Date = birth_date(resource)?.parse().ok()?;
    let today = Timestamp::from_millisecond(now).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
    let months = i32::from(today.year() - born.year()) * 12 + i32::from(today.month() - born.month())
        - i32::from(today.day() < born.day());
    match months {
        ..0 => None,
        0 => Some("newborn".into()),
        1 => Some("1 month".into()),
        2..24 => Some(format!("{months} months")),
        _ => Some(format!("{} years", months / 12)),
    }
}

/// The administrative gender, where it is stated.
pub fn sex(resource: &Value) -> Option<&str> {
    resource["gender"].as_str().filter(|g| *g != "unknown")
}

/// The identifier people know: a medical record number if there is one, else the first.
pub fn identifier(resource: &Value) -> Option<String> {
    let all: Vec<&Value> = resource["identifier"].as_array().into_iter().flatten().collect();
    let kind = |identifier: &Value, code: &str| {
        identifier["type"]["coding"].as_array().into_iter().flatten().any(|c| c["code"] == code)
    };
    let chosen = all.iter().find(|i| kind(i, "MR")).or_else(|| all.first())?;
    let value = chosen["value"].as_str()?;
    let label = chosen["type"]["text"]
        .as_str()
        .or_else(|| chosen["type"]["coding"].as_array()?.first()?["display"].as_str());
    Some(label.map_or_else(|| value.to_owned(), |label| format!("{label} {value}")))
}

/// An Encounter as people speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When it began, as written; for sorting.
    pub start: String,
    /// The day in words.
    pub date: String,
    /// What kind of visit.
    pub kind: String,
    /// Where.
    pub place: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Whether it goes on.
    pub going_on: bool,
}

/// Reads an Encounter.
pub fn visit(encounter: &Value) -> Visit {
    let concept = |value: &Value| {
        let coded = || value["coding"].as_array()?.first()?["display"].as_str();
        value["text"].as_str().or_else(coded).map(str::to_owned)
    };
    let first = |list: &Value| list.as_array().and_then(|l| l.first()).cloned().unwrap_or_default();
    let start = encounter["period"]["start"].as_str().unwrap_or_default().to_owned();
    Visit {
        date: if start.is_empty() { "no date".into() } else { date_in_words(&start) },
        start,
        kind: concept(&first(&encounter["type"]))
            .or_else(|| encounter["class"]["display"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "Visit".into()),
        place: first(&encounter["location"])["location"]["display"]
            .as_str()
            .or_else(|| encounter["serviceProvider"]["display"].as_str())
            .map(str::to_owned),
        reason: concept(&first(&encounter["reasonCode"])),
        going_on: matches!(
            encounter["status"].as_str(),
            Some("in-progress" | "arrived" | "triaged" | "onleave")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// 2026-03-09T12:00:00Z
    const NOW: Millis = 1_773_057_600_000;

    #[test]
    fn a_name_is_what_a_person_is_called() {
        let named = |name: Value| super::name(&json!({"name": name}));
        assert_eq!(
            named(json!([{"given": ["Ann", "B."], "family": "O'Hara"}])).as_deref(),
            Some("Ann B. O'Hara")
        );
        assert_eq!(
            named(json!([{"use": "old", "text": "X"}, {"use": "official", "text": "Y"}])).as_deref(),
            Some("Y")
        );
        assert_eq!(named(json!([])), None);
        assert_eq!(named(json!("odd")), None);
    }

    #[test]
    fn an_age_turns_on_the_birthday() {
        let age = |born: &str| super::age(&json!({"birthDate": born}), NOW);
        assert_eq!(age("1984-03-09").as_deref(), Some("42 years"));
        assert_eq!(age("1984-03-10").as_deref(), Some("41 years"));
        assert_eq!(age("2025-02-10").as_deref(), Some("12 months"));
        assert_eq!(age("2026-03-01").as_deref(), Some("newborn"));
        assert_eq!(age("2026-04-01"), None);
        assert_eq!(age("1984"), None);
    }

    #[test]
    fn dates_are_as_precise_as_they_were_written() {
        assert_eq!(date_in_words("1984-03-09"), "9 March 1984");
        assert_eq!(date_in_words("1984-03-09T10:00:00+02:00"), "9 March 1984");
        assert_eq!(date_in_words("1984-03"), "March 1984");
        assert_eq!(date_in_words("1984"), "1984");
        assert_eq!(date_in_words("soon"), "soon");
    }
}
