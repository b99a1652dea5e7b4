//! The fields of a registration as they were sent, by JSON or by a form: each read as what it must be.

use serde_json::Value;
use url::Url;

use super::{Checker, FieldError};
use crate::oauth::redirect::{self, LONGEST_URI};

/// The longest text that nobody needs longer, characters.
pub(super) const LONGEST_TEXT: usize = 200;

impl Checker<'_> {
    pub(super) fn wrong(&mut self, field: &'static str, words: impl Into<String>) {
        self.errors.push(FieldError { field, words: words.into() });
    }

    /// A text; absent, null and empty are the same.
    pub(super) fn text(&mut self, field: &'static str) -> Option<String> {
        match self.sent.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
            Some(_) => {
                self.wrong(field, "it must be a text");
                None
            }
        }
    }

    pub(super) fn texts(&mut self, field: &'static str) -> Option<Vec<String>> {
        let list = match self.sent.get(field) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.wrong(field, "it must be a list of texts");
                return None;
            }
        };
        let texts: Option<Vec<String>> = list.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        if texts.is_none() {
            self.wrong(field, "it must be a list of texts");
        }
        texts
    }

    pub(super) fn one_of<T: Copy>(&mut self, field: &'static str, default: T, known: &[(&str, T)]) -> T {
        let Some(text) = self.text(field) else { return default };
        match known.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => *value,
            None => {
                let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
                self.wrong(
                    field,
                    format!("`{}` is not supported; send one of {}", shown(&text), names.join(", ")),
                );
                default
            }
        }
    }

    /// A boolean; a form's box sends `true` or `on`, and nothing where it is not ticked.
    pub(super) fn flag(&mut self, field: &'static str) -> bool {
        match self.sent.get(field) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) if ["", "false"].contains(&text.trim()) => false,
            Some(Value::String(text)) if ["true", "on"].contains(&text.trim()) => true,
            Some(_) => {
                self.wrong(field, "it must be `true` or `false`");
                false
            }
        }
    }

    /// A whole number of seconds; a form sends it as text.
    pub(super) fn seconds(
        &mut self,
        field: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let seconds = match self.sent.get(field) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) if text.trim().is_empty() => return None,
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(other) => other.as_i64(),
        };
        let seconds = seconds.filter(|s| range.contains(s));
        if seconds.is_none() {
            let (from, to) = range.into_inner();
            self.wrong(field, format!("it must be a whole number of seconds from {from} to {to}"));
        }
        seconds
    }

    pub(super) fn short_text(&mut self, field: &'static str) -> Option<String> {
        let text = self.text(field)?;
        if text.chars().count() > LONGEST_TEXT || disguises(&text) {
            self.wrong(field, format!("it must be a text of at most {LONGEST_TEXT} plain characters"));
        }
        Some(text)
    }

    pub(super) fn uri(&mut self, field: &'static str) -> Option<String> {
        let text = self.text(field)?;
        let web = Url::parse(&text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        });
        let safe = self.policy.http_redirects || redirect::is_safe(&text);
        if !web || !text.is_ascii() || text.len() > LONGEST_URI || text.contains(char::is_whitespace) || !safe
        {
            self.wrong(
                field,
                format!("`{}` is not a web address; send one that begins with https://", shown(&text)),
            );
        }
        Some(text)
    }
}

/// Enough of what was sent to be recognised.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Whether a text holds control characters, or ones that turn the order of what follows: people could not
/// trust what they read.
pub(super) fn disguises(text: &str) -> bool {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().any(|c| c.is_control() || turns(c))
}
