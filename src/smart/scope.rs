//! SMART scopes, versions 1 and 2: parse, compare, narrow (SMART App Launch 2.2, "Scopes").
//!
//! A [`Scope`] keeps its text, which is echoed as it came, apart from its meaning, which is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::{Problem, invalid_scope};
use crate::fhir::definitions::{self, Kind};

/// A longer scope parameter is refused before it is looked at.
const LONGEST: usize = 32 * 1024;
/// More scopes than this in one request are refused before they are parsed.
const MOST: usize = 200;

const SMART_PREFIX: &str = "http://smarthealthit.org/fhir/scopes/";
const OPENID_PREFIX: &str = "http://openid.net/specs/openid-connect-core-1_0#";

/// Whose data a resource scope is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The one patient in context.
    Patient,
    /// Whatever the signed-in person may see.
    User,
    /// What a backend service was registered for.
    System,
}

impl Level {
    /// The word before the slash.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Patient => "patient",
            Level::User => "user",
            Level::System => "system",
        }
    }
}

/// A set of the letters c, r, u, d, s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letters(pub(super) u8);

impl Letters {
    /// Create.
    pub const C: Letters = Letters(1);
    /// Read, vread, instance history.
    pub const R: Letters = Letters(2);
    /// Update and patch.
    pub const U: Letters = Letters(4);
    /// Delete.
    pub const D: Letters = Letters(8);
    /// Search and type history.
    pub const S: Letters = Letters(16);
    const ORDER: [(char, Letters); 5] =
        [('c', Letters::C), ('r', Letters::R), ('u', Letters::U), ('d', Letters::D), ('s', Letters::S)];

    /// Whether every letter of `other` is in this set.
    pub fn has(self, other: Letters) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub fn and(self, other: Letters) -> Letters {
        Letters(self.0 | other.0)
    }

    /// Whether anything could be changed by it.
    pub fn writes(self) -> bool {
        self.0 & (Letters::C.0 | Letters::U.0 | Letters::D.0) != 0
    }

    /// `read`, `write`, `*`, or the letters in their order, each at most once.
    fn parse(text: &str) -> Option<Letters> {
        match text {
            "read" => return Some(Letters::R.and(Letters::S)),
            "write" => return Some(Letters::C.and(Letters::U).and(Letters::D)),
            "*" => return Some(Letters(31)),
            _ => {}
        }
        let mut order = Letters::ORDER.iter();
        let mut letters = Letters::default();
        for letter in text.chars() {
            let (_, bit) = order.find(|(c, _)| *c == letter)?;
            letters = letters.and(*bit);
        }
        (letters != Letters::default()).then_some(letters)
    }
}

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Letters::ORDER.iter().filter(|(_, bit)| self.has(*bit)).try_for_each(|(c, _)| write!(f, "{c}"))
    }
}

/// What a granular scope limits: for each search parameter, the values of which one must match.
pub type Limits = BTreeMap<String, BTreeSet<String>>;

/// `patient/Observation.rs?category=…`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceScope {
    /// Whose data.
    pub level: Level,
    /// Of which type; none is `*`.
    pub resource_type: Option<&'static str>,
    /// Which interactions.
    pub letters: Letters,
    /// Which of them; empty is all.
    pub limits: Limits,
}

/// What a scope means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Access to FHIR resources.
    Resource(ResourceScope),
    /// `launch`: the context of an EHR launch.
    Launch,
    /// `launch/patient`: choose a patient.
    LaunchPatient,
    /// `launch/encounter`: choose an encounter.
    LaunchEncounter,
    /// `openid`: an id_token.
    OpenId,
    /// `fhirUser`: who signed in, as a FHIR resource.
    FhirUser,
    /// `profile`: the person's name; in SMART 1.0 the `fhirUser` of today.
    Profile,
    /// `email`: the person's e-mail address.
    Email,
    /// `phone`: the person's telephone number.
    Phone,
    /// `address`: where the person lives.
    Address,
    /// `offline_access`: go on while the person is away.
    OfflineAccess,
    /// `online_access`: go on while the person stays signed in.
    OnlineAccess,
    /// `__introspect`: ask what other tokens are good for.
    Introspect,
}

/// The scopes that are one fixed word, and what each means.
const WORDS: [(&str, Meaning); 12] = [
    ("openid", Meaning::OpenId),
    ("fhirUser", Meaning::FhirUser),
    ("profile", Meaning::Profile),
    ("email", Meaning::Email),
    ("phone", Meaning::Phone),
    ("address", Meaning::Address),
    ("launch", Meaning::Launch),
    ("launch/patient", Meaning::LaunchPatient),
    ("launch/encounter", Meaning::LaunchEncounter),
    ("offline_access", Meaning::OfflineAccess),
    ("online_access", Meaning::OnlineAccess),
    ("__introspect", Meaning::Introspect),
];

/// The scopes of one fixed word that any app can be registered for, for metadata and forms.
pub fn fixed_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().filter(|(_, meaning)| *meaning != Meaning::Introspect).map(|(word, _)| *word)
}

/// A scope as it was asked for, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Echoed byte for byte.
    pub text: String,
    /// Compared.
    pub meaning: Meaning,
}

/// Why a word is not a scope here, and which scope was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// For the app's developer.
    pub why: String,
    /// A scope that would be understood.
    pub meant: Option<String>,
}

fn not_understood<T>(why: impl Into<String>, meant: Option<String>) -> Result<T, NotUnderstood> {
    Err(NotUnderstood { why: why.into(), meant })
}

/// Splits a scope parameter into its words.
///
/// # Errors
/// `invalid_scope` for characters that RFC 6749 3.3 does not allow and for lists no app needs.
pub fn split(text: &str) -> Result<Vec<&str>, Problem> {
    let refuse = |words: String| Err(invalid_scope(words).at("scope"));
    if text.len() > LONGEST {
        return refuse(format!("`scope` is {} bytes long; at most {LONGEST} are read", text.len()));
    }
    let allowed = |c: char| matches!(c, ' ' | '\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e');
    if let Some(c) = text.chars().find(|c| !allowed(*c)) {
        return refuse(format!(
            "`scope` holds the character U+{:04X}; scopes are printable ASCII without quotes and backslashes, \
             separated by single spaces",
            c as u32
        ));
    }
    let mut words: Vec<&str> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if words.len() == MOST {
            return refuse(format!("`scope` holds more than {MOST} scopes; ask for fewer, or use wildcards"));
        }
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Ok(words)
}

impl Scope {
    /// Reads one scope.
    ///
    /// # Errors
    /// [`NotUnderstood`], which is never fatal: the scope is left out and its asker told why.
    pub fn parse(text: &str) -> Result<Scope, NotUnderstood> {
        let bare =
            text.strip_prefix(SMART_PREFIX).or_else(|| text.strip_prefix(OPENID_PREFIX)).unwrap_or(text);
        let meaning = match WORDS.iter().find(|(word, _)| *word == bare) {
            Some((_, meaning)) => meaning.clone(),
            None => match bare.split_once('/') {
                Some(("patient", rest)) => Meaning::Resource(parse_resource(Level::Patient, rest)?),
                Some(("user", rest)) => Meaning::Resource(parse_resource(Level::User, rest)?),
                Some(("system", rest)) => Meaning::Resource(parse_resource(Level::System, rest)?),
                Some(("launch", _)) => {
                    return not_understood(
                        "only a patient and an encounter can be chosen at launch",
                        near(bare),
                    );
                }
                _ => return not_understood("this server knows no such scope", near(bare)),
            },
        };
        Ok(Scope { text: text.to_owned(), meaning })
    }

    /// Reads the scopes of a stored list. What cannot be read grants nothing.
    pub fn list(text: &str) -> Vec<Scope> {
        text.split(' ').filter_map(|word| Scope::parse(word).ok()).collect()
    }

    /// The resource scope, if it is one.
    pub fn resource(&self) -> Option<&ResourceScope> {
        match &self.meaning {
            Meaning::Resource(resource) => Some(resource),
            _ => None,
        }
    }

    /// Whether it only says who somebody is.
    pub fn is_identity(&self) -> bool {
        matches!(
            self.meaning,
            Meaning::OpenId
                | Meaning::FhirUser
                | Meaning::Profile
                | Meaning::Email
                | Meaning::Phone
                | Meaning::Address
        )
    }

    /// Whether it is a resource scope of this level.
    pub fn is_at(&self, level: Level) -> bool {
        self.resource().is_some_and(|r| r.level == level)
    }
}

/// The texts of scopes, as a token answer gives them.
pub fn join(scopes: &[Scope]) -> String {
    scopes.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn parse_resource(level: Level, rest: &str) -> Result<ResourceScope, NotUnderstood> {
    let level_name = level.as_str();
    let (head, query) = rest.split_once('?').map_or((rest, None), |(head, query)| (head, Some(query)));
    let Some((type_name, perms)) = head.split_once('.') else {
        let meant = (head == "*" || definitions::is_type(head)).then(|| format!("{level_name}/{head}.rs"));
        return not_understood("it lacks the interactions after a dot, such as `.rs`", meant);
    };
    let resource_type = match type_name {
        "*" => None,
        name => match definitions::type_named(name) {
            Some(known) => Some(known),
            None => {
                let meant = closest(name, definitions::types().iter().copied())
                    .map(|t| format!("{level_name}/{t}.{perms}"));
                return not_understood(format!("FHIR R4 has no resource type `{name}`"), meant);
            }
        },
    };
    let Some(letters) = Letters::parse(perms) else {
        let sorted: String = "cruds".chars().filter(|c| perms.contains(*c)).collect();
        let only_letters = !perms.is_empty() && perms.chars().all(|c| "cruds".contains(c));
        let meant = if only_letters {
            Some(sorted)
        } else {
            closest(perms, ["read", "write"].into_iter()).map(Into::into)
        };
        return not_understood(
            format!("`.{perms}` is neither letters out of `cruds` in this order, nor `read`, `write` or `*`"),
            meant.map(|perms| format!("{level_name}/{type_name}.{perms}")),
        );
    };
    let limits = match query {
        None => Limits::new(),
        Some(query) => parse_limits(resource_type, query)?,
    };
    Ok(ResourceScope { level, resource_type, letters, limits })
}

/// Only what can be enforced on every door: token parameters of that type, with values, without modifiers.
fn parse_limits(resource_type: Option<&'static str>, query: &str) -> Result<Limits, NotUnderstood> {
    let Some(type_name) = resource_type else {
        return not_understood("a wildcard cannot be limited by a search parameter; name the type", None);
    };
    let mut limits = Limits::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name.contains(':') {
            return not_understood(format!("the modifier in `{name}` cannot limit a scope here"), None);
        }
        let known = definitions::param(type_name, name).filter(|p| p.kind == Kind::Token && name != "_id");
        if known.is_none() {
            return not_understood(
                format!(
                    "`{name}` is not a token search parameter of {type_name}, so it cannot limit a scope"
                ),
                None,
            );
        }
        let decoded = decode(value);
        let values: BTreeSet<String> = decoded.split(',').map(str::to_owned).collect();
        if values.iter().any(|v| v.is_empty() || v == "|" || v.ends_with('|')) {
            return not_understood(
                format!("`{name}` needs values of the form `system|code` or `code`"),
                None,
            );
        }
        if limits.insert(name.to_owned(), values).is_some() {
            return not_understood(format!("`{name}` stands twice; separate its values by commas"), None);
        }
    }
    Ok(limits)
}

/// Percent-decodes once. A plus sign stays a plus sign: a scope is not a form.
fn decode(value: &str) -> String {
    let guarded = value.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(guarded.as_bytes());
    match pairs.next() {
        // The whole value is the "name" of the only pair, since it holds neither `=` nor `&` …
        Some((name, rest)) if rest.is_empty() => name.into_owned(),
        // … or it held a `=`, which belongs to the value.
        Some((name, rest)) => format!("{name}={rest}"),
        None => String::new(),
    }
}

/// Words that developers write for a scope of another name.
const ALIASES: [(&str, &str); 5] = [
    ("oidc", "openid"),
    ("offline", "offline_access"),
    ("online", "online_access"),
    ("refresh_token", "offline_access"),
    ("launch/standalone", "launch/patient"),
];

/// A scope that is spelled much like `text`, or is often called that.
fn near(text: &str) -> Option<String> {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(text));
    alias.map(|(_, scope)| *scope).or_else(|| closest(text, fixed_words())).map(str::to_owned)
}

/// The candidate nearest to `text`, if it is near enough to have been meant.
pub fn closest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 64 {
        return None;
    }
    let wanted = text.to_ascii_lowercase();
    let distance = |c: &str| strsim::damerau_levenshtein(&wanted, &c.to_ascii_lowercase());
    candidates
        .map(|c| (distance(c), c))
        .filter(|(d, c)| *d <= 1 + c.len() / 6)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests;
