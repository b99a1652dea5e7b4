//! The form by which an app is registered and changed: its fields as RFC 7591 names them, and back.

use serde_json::{Map, Value, json};

use super::app_views::{self, ResourceRow, ScopeBox};
use super::views::{Choice, Shell};
use crate::config::Policy;
use crate::oauth::client_metadata::{Approved, AuthMethod, GrantType, Metadata};
use crate::oauth::params::Params;
use crate::oauth::registration::{self, FieldError};
use crate::smart::scope::fixed_words;
use crate::smart::words;

/// What the fields hold: as they were posted, or as they were saved.
#[derive(Clone, Default)]
pub struct Fields {
    texts: Vec<(&'static str, String)>,
    grant_types: Vec<String>,
    boxes: Vec<String>,
}

/// How a field of the form becomes metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text, a number, one of a few words, or a box.
    One,
    /// One entry a line.
    Lines,
    /// A JSON object.
    Json,
    /// `scope` and `grant_types`: what is ticked, together with what is typed.
    Ticked,
}

/// Where a field stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Plain,
    /// Folded, with the keys.
    Keys,
    /// Folded, among what few apps need.
    Rare,
}

/// Every field of the form, with its label for the summary of mistakes. What an app registered beside these stays as
/// it is when the form is saved.
const FIELDS: [(&str, &str, Kind, Part); 26] = [
    ("client_name", "Name", Kind::One, Part::Plain),
    ("redirect_uris", "Redirect addresses", Kind::Lines, Part::Plain),
    ("initiate_login_uri", "Launch address", Kind::One, Part::Plain),
    ("token_endpoint_auth_method", "Kind of app", Kind::One, Part::Plain),
    ("jwks", "Public keys", Kind::Json, Part::Keys),
    ("jwks_uri", "Address of the public keys", Kind::One, Part::Keys),
    ("grant_types", "What it may do", Kind::Ticked, Part::Plain),
    ("scope", "Scopes", Kind::Ticked, Part::Plain),
    ("access_token_life", "Life of an access token", Kind::One, Part::Rare),
    ("default_max_age", "Greatest age of a sign-in", Kind::One, Part::Rare),
    ("logo_uri", "Logo", Kind::One, Part::Rare),
    ("client_uri", "Page about the app", Kind::One, Part::Rare),
    ("policy_uri", "What it does with data", Kind::One, Part::Rare),
    ("tos_uri", "Terms of use", Kind::One, Part::Rare),
    ("post_logout_redirect_uris", "Addresses after signing out", Kind::Lines, Part::Rare),
    ("backchannel_logout_uri", "Where it is told of a sign-out", Kind::One, Part::Rare),
    ("application_type", "Where it runs", Kind::One, Part::Rare),
    ("id_token_signed_response_alg", "Signature of its ID tokens", Kind::One, Part::Rare),
    ("sign_in_only", "Sign-in only", Kind::One, Part::Rare),
    ("no_pkce", "SMART 1.0, no PKCE", Kind::One, Part::Rare),
    ("dpop_bound_access_tokens", "Tokens bound to a key", Kind::One, Part::Rare),
    ("require_pushed_authorization_requests", "Pushed requests only", Kind::One, Part::Rare),
    ("introspect", "Asking about tokens", Kind::One, Part::Rare),
    // Not on the page, but what a mistake may be about.
    ("response_types", "Response types", Kind::Ticked, Part::Plain),
    ("contacts", "Contacts", Kind::Ticked, Part::Plain),
    ("token_endpoint_auth_signing_alg", "Signature of its assertions", Kind::Ticked, Part::Plain),
];

/// What a field that holds nothing else means.
const DEFAULTS: [(&str, &str); 4] = [
    ("token_endpoint_auth_method", "none"),
    ("application_type", "web"),
    ("id_token_signed_response_alg", "RS256"),
    ("introspect", "own"),
];

impl Fields {
    /// The fields as a browser posted them. The first `scope` is the typed one; the boxes follow.
    pub fn posted(form: &Params) -> Fields {
        let text = |name: &str| form.all(name).next().unwrap_or_default().to_owned();
        let mut scopes = form.all("scope").map(str::to_owned);
        let typed = scopes.next().unwrap_or_default();
        let texts = FIELDS.iter().filter(|(_, _, kind, _)| *kind != Kind::Ticked);
        let mut texts: Vec<(&'static str, String)> = texts.map(|(name, ..)| (*name, text(name))).collect();
        texts.push(("scope", typed));
        Fields {
            texts,
            grant_types: form.all("grant_types").map(str::to_owned).collect(),
            boxes: scopes.collect(),
        }
    }

    /// The fields of a saved app. All its scopes stand in the typed field.
    pub fn saved(metadata: &Metadata) -> Fields {
        let saved = json!(metadata);
        let text = |name: &str, kind: Kind| match (&saved[name], kind) {
            (Value::Null | Value::Bool(false), _) => String::new(),
            (Value::String(text), _) => text.clone(),
            (Value::Array(list), Kind::Lines) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
            }
            (value, Kind::Json) => serde_json::to_string_pretty(value).unwrap_or_default(),
            (value, _) => value.to_string(),
        };
        let texts = FIELDS.iter().filter(|(name, _, kind, _)| *kind != Kind::Ticked || *name == "scope");
        Fields {
            texts: texts.map(|(name, _, kind, _)| (*name, text(name, *kind))).collect(),
            grant_types: metadata.grant_types.iter().map(|g| g.as_str().to_owned()).collect(),
            boxes: Vec::new(),
        }
    }

    /// The fields of an app that does not exist yet.
    pub fn new() -> Fields {
        Fields { grant_types: vec![GrantType::AuthorizationCode.as_str().to_owned()], ..Fields::default() }
    }

    fn text(&self, name: &str) -> &str {
        self.texts.iter().find(|(n, _)| *n == name).map_or("", |(_, text)| text.as_str())
    }

    /// What a field means: what it holds, or the default.
    fn chosen(&self, name: &str) -> &str {
        let default = DEFAULTS.iter().find(|(n, _)| *n == name).map_or("", |(_, default)| *default);
        Some(self.text(name)).filter(|text| !text.trim().is_empty()).unwrap_or(default)
    }

    /// Whether a field says anything but its default.
    fn is_set(&self, name: &str) -> bool {
        let default = DEFAULTS.iter().find(|(n, _)| *n == name).map_or("", |(_, default)| *default);
        self.chosen(name) != default
    }

    /// The metadata these fields ask for, as an app would send it in JSON. What is not on the form stays as it
    /// was saved.
    fn metadata(&self, saved: Option<&Metadata>) -> Map<String, Value> {
        let mut sent = match saved.map(|metadata| json!(metadata)) {
            Some(Value::Object(saved)) => saved,
            _ => Map::new(),
        };
        for (name, _, kind, _) in FIELDS {
            let text = self.text(name).trim();
            match kind {
                Kind::Lines => {
                    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
                    sent.insert(name.into(), json!(lines));
                }
                Kind::One | Kind::Json if text.is_empty() => drop(sent.remove(name)),
                Kind::One | Kind::Json => drop(sent.insert(name.into(), json!(text))),
                Kind::Ticked => {}
            }
        }
        sent.insert("grant_types".into(), json!(self.grant_types));
        let typed = self.text("scope").split_whitespace();
        let scopes: Vec<&str> = typed.chain(self.boxes.iter().map(String::as_str)).collect();
        sent.insert("scope".into(), json!(scopes.join(" ")));
        // It belongs to the keys, and goes with them.
        if self.chosen("token_endpoint_auth_method") != AuthMethod::PrivateKeyJwt.as_str() {
            sent.remove("token_endpoint_auth_signing_alg");
        }
        sent
    }

    /// The metadata, checked as for any registration, and by what only a form demands. `saved` is what the app
    /// had registered before.
    pub fn check(
        &self,
        policy: &Policy,
        approved: Approved,
        saved: Option<&Metadata>,
    ) -> Result<Metadata, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong = |field, words: &str| errors.push(FieldError { field, words: words.to_owned() });
        if self.text("client_name").trim().is_empty() {
            wrong("client_name", "give the app a name; people see it when the app asks for access");
        }
        match registration::check(&self.metadata(saved), policy, approved) {
            Ok(metadata) if errors.is_empty() => Ok(metadata),
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// The page.
    pub fn page(
        &self,
        shell: Shell,
        policy: &Policy,
        csrf: String,
        way: Way,
        errors: &[FieldError],
    ) -> app_views::AppForm {
        let ticked: Vec<&str> = self.boxes.iter().map(String::as_str).collect();
        let one = |name: &str, choices: &[(&str, &str, &str)]| {
            let chosen = self.chosen(name);
            let choices = choices.iter();
            choices.map(|(value, title, detail)| choice(value, title, detail, chosen == *value)).collect()
        };
        let open = |part: Part| {
            let mut there = FIELDS.iter().filter(|(_, _, _, p)| *p == part);
            there.any(|(name, ..)| self.is_set(name) || errors.iter().any(|e| e.field == *name))
        };
        let flags = FLAGS.iter().filter(|(name, ..)| *name != "no_pkce" || policy.no_pkce_apps);
        app_views::AppForm {
            shell,
            csrf,
            action: way.action,
            cancel: way.cancel,
            editing: way.editing,
            errors: errors.iter().map(field_error).collect(),
            texts: self.texts.clone(),
            methods: one("token_endpoint_auth_method", &METHODS),
            keys_open: open(Part::Keys)
                || self.chosen("token_endpoint_auth_method") == AuthMethod::PrivateKeyJwt.as_str(),
            grant_types: GRANT_TYPES
                .iter()
                .map(|(value, title, detail)| {
                    choice(value, title, detail, self.grant_types.iter().any(|g| g == value))
                })
                .collect(),
            scopes_open: !ticked.is_empty(),
            identity: fixed_words()
                .map(|word| choice(word, word, &words_of(word), ticked.contains(&word)))
                .collect(),
            resources: LISTED.iter().map(|name| row(name, &ticked)).collect(),
            advanced_open: open(Part::Rare),
            application_types: one("application_type", &APPLICATION_TYPES),
            algorithms: one("id_token_signed_response_alg", &ALGORITHMS),
            flags: flags
                .map(|(name, value, title, detail)| {
                    (*name, choice(value, title, detail, ["on", *value].contains(&self.text(name))))
                })
                .collect(),
        }
    }
}

/// Where the form leads.
pub struct Way {
    /// Where it posts to.
    pub action: String,
    /// The way back.
    pub cancel: String,
    /// Whether the app is there already.
    pub editing: bool,
}

const METHODS: [(&str, &str, &str); 4] = [
    ("none", "Public", "Runs in a browser or on a phone, and can keep no secret."),
    ("client_secret_basic", "Secret, in the header", "A server that sends its secret by HTTP Basic."),
    ("client_secret_post", "Secret, in the form", "A server that sends its secret among the parameters."),
    (
        "private_key_jwt",
        "Key of its own",
        "A server that signs, so that no secret travels. Backend services do.",
    ),
];

const GRANT_TYPES: [(&str, &str, &str); 3] = [
    ("authorization_code", "Ask people", "They sign in and decide."),
    (
        "refresh_token",
        "Stay connected",
        "Refresh tokens. The app asks for them with the scope offline_access or online_access.",
    ),
    (
        "client_credentials",
        "Act on its own: backend service",
        "Nobody signs in. It needs a key of its own, and system/… scopes.",
    ),
];

/// Single boxes: the field, the value when ticked, what it is, what it means.
const FLAGS: [(&str, &str, &str, &str); 5] = [
    (
        "sign_in_only",
        "true",
        "It only signs people in",
        "With scopes like openid and email alone it may leave out PKCE and aud, as sign-in services do. It needs a \
         secret or a key.",
    ),
    (
        "no_pkce",
        "true",
        "SMART 1.0, no PKCE",
        "For an old app that cannot be changed. Its codes are less safe on their way, and only a sandbox takes it.",
    ),
    (
        "dpop_bound_access_tokens",
        "true",
        "Its tokens are bound to a key it holds",
        "DPoP: whoever finds a token cannot use it without the key.",
    ),
    (
        "require_pushed_authorization_requests",
        "true",
        "Its requests must be pushed first",
        "The app posts them to the server itself, and the browser carries only a reference.",
    ),
    (
        "introspect",
        "all",
        "It may introspect any app’s tokens",
        "Not only its own. For a gateway that guards another FHIR server; it needs a secret or a key.",
    ),
];

const APPLICATION_TYPES: [(&str, &str, &str); 2] = [
    ("web", "In a browser or on a server", ""),
    ("native", "On a phone or a computer", "A loopback redirect address may then vary its port."),
];

const ALGORITHMS: [(&str, &str, &str); 3] = [
    ("RS256", "RS256", "What every library understands."),
    ("ES256", "ES256", "Smaller, and quicker to make."),
    ("ES384", "ES384", ""),
];

/// The types in the table of boxes; any other can be typed.
const LISTED: [&str; 14] = [
    "*",
    "Patient",
    "Observation",
    "Condition",
    "MedicationRequest",
    "AllergyIntolerance",
    "Immunization",
    "Procedure",
    "Encounter",
    "DiagnosticReport",
    "DocumentReference",
    "CarePlan",
    "Goal",
    "QuestionnaireResponse",
];

fn row(resource_type: &str, ticked: &[&str]) -> ResourceRow {
    let boxes = [("patient", "rs"), ("patient", "cud"), ("user", "rs"), ("user", "cud")];
    let everything = resource_type == "*";
    ResourceRow {
        name: if everything { "Everything (*)".into() } else { resource_type.to_owned() },
        words: if everything { "every kind of record".into() } else { words::type_in_words(resource_type) },
        boxes: boxes.map(|(level, letters)| {
            let scope = format!("{level}/{resource_type}.{letters}");
            ScopeBox { ticked: ticked.contains(&scope.as_str()), scope }
        }),
    }
}

fn words_of(word: &str) -> String {
    crate::smart::scope::Scope::parse(word).map(|scope| words::of(&scope).title).unwrap_or_default()
}

fn choice(value: &str, title: &str, detail: &str, ticked: bool) -> Choice {
    Choice { value: value.into(), title: title.into(), detail: detail.into(), ticked }
}

fn field_error(error: &FieldError) -> app_views::FieldError {
    let label =
        FIELDS.iter().find(|(name, ..)| *name == error.field).map_or(error.field, |(_, label, ..)| *label);
    app_views::FieldError {
        field: error.field.to_owned(),
        label: label.to_owned(),
        text: super::page::sentence(&error.words),
    }
}
