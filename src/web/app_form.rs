//! The form by which an app is registered and changed: its fields as RFC 7591 names them, and back.

use serde_json::{Map, Value, json};

use super::views::{self, Choice, ResourceRow, ScopeBox, Shell};
use crate::config::Policy;
use crate::jose::Alg;
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

/// The fields of one line, with their labels for the summary of mistakes.
const LABELS: [(&str, &str); 12] = [
    ("client_name", "Name"),
    ("redirect_uris", "Redirect addresses"),
    ("initiate_login_uri", "Launch address"),
    ("token_endpoint_auth_method", "Kind of app"),
    ("scope", "Scopes"),
    ("access_token_life", "Life of an access token"),
    ("logo_uri", "Logo"),
    ("application_type", "Where it runs"),
    ("id_token_signed_response_alg", "Signature of its ID tokens"),
    ("introspect", "Asking about tokens"),
    ("grant_types", "What it may do"),
    ("response_types", "Response types"),
];

impl Fields {
    /// The fields as a browser posted them. The first `scope` is the typed one; the boxes follow.
    pub fn posted(form: &Params) -> Fields {
        let text = |name: &str| form.all(name).next().unwrap_or_default().to_owned();
        let mut scopes = form.all("scope").map(str::to_owned);
        let typed = scopes.next().unwrap_or_default();
        let texts = LABELS.iter().filter(|(n, _)| !matches!(*n, "scope" | "grant_types" | "response_types"));
        let mut texts: Vec<(&'static str, String)> = texts.map(|(name, _)| (*name, text(name))).collect();
        texts.push(("scope", typed));
        Fields {
            texts,
            grant_types: form.all("grant_types").map(str::to_owned).collect(),
            boxes: scopes.collect(),
        }
    }

    /// The fields of a saved app. All its scopes stand in the typed field.
    pub fn saved(metadata: &Metadata) -> Fields {
        let texts = vec![
            ("client_name", metadata.client_name.clone()),
            ("redirect_uris", metadata.redirect_uris.join("\n")),
            ("initiate_login_uri", metadata.initiate_login_uri.clone().unwrap_or_default()),
            ("token_endpoint_auth_method", metadata.token_endpoint_auth_method.as_str().to_owned()),
            ("scope", metadata.scope.clone()),
            ("access_token_life", metadata.access_token_life.map(|s| s.to_string()).unwrap_or_default()),
            ("logo_uri", metadata.logo_uri.clone().unwrap_or_default()),
            ("application_type", json!(metadata.application_type).as_str().unwrap_or_default().to_owned()),
            ("id_token_signed_response_alg", metadata.id_token_signed_response_alg.clone()),
            ("introspect", json!(metadata.introspect).as_str().unwrap_or_default().to_owned()),
        ];
        let grant_types = metadata.grant_types.iter().map(|g| g.as_str().to_owned()).collect();
        Fields { texts, grant_types, boxes: Vec::new() }
    }

    /// The fields of an app that does not exist yet.
    pub fn new() -> Fields {
        Fields { grant_types: vec![GrantType::AuthorizationCode.as_str().to_owned()], ..Fields::default() }
    }

    fn text(&self, name: &str) -> String {
        self.texts.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap_or_default()
    }

    /// The metadata these fields ask for, as an app would send it in JSON.
    pub fn metadata(&self) -> Map<String, Value> {
        let mut sent = Map::new();
        for (name, value) in self.texts.iter().filter(|(_, value)| !value.trim().is_empty()) {
            sent.insert((*name).to_owned(), json!(value.trim()));
        }
        let uris = self.text("redirect_uris");
        let uris: Vec<&str> = uris.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        sent.insert("redirect_uris".into(), json!(uris));
        sent.insert("grant_types".into(), json!(self.grant_types));
        let typed = self.text("scope");
        let scopes: Vec<&str> =
            typed.split_whitespace().chain(self.boxes.iter().map(String::as_str)).collect();
        if scopes.is_empty() {
            sent.remove("scope")
        } else {
            sent.insert("scope".into(), json!(scopes.join(" ")))
        };
        sent
    }

    /// The metadata, checked as for any registration, and by what only a form demands.
    pub fn check(&self, policy: &Policy, approved: Approved) -> Result<Metadata, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong = |field, words: &str| errors.push(FieldError { field, words: words.to_owned() });
        if self.text("client_name").trim().is_empty() {
            wrong("client_name", "give the app a name; people see it when the app asks for access");
        }
        match registration::check(&self.metadata(), policy, approved) {
            Ok(metadata) if errors.is_empty() => Ok(metadata),
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// The page.
    pub fn page(
        &self,
        shell: Shell,
        csrf: String,
        action: String,
        cancel: String,
        editing: bool,
        errors: &[FieldError],
    ) -> views::AppForm {
        let typed = self.text("scope");
        let ticked: Vec<&str> = self.boxes.iter().map(String::as_str).collect();
        let rare = [
            "access_token_life",
            "logo_uri",
            "application_type",
            "id_token_signed_response_alg",
            "introspect",
        ];
        let one = |name: &str, default: &str, choices: &[(&str, &str, &str)]| {
            let kept = self.text(name);
            let chosen = if kept.is_empty() { default.to_owned() } else { kept };
            choices
                .iter()
                .map(|(value, title, detail)| choice(value, title, detail, chosen == *value))
                .collect()
        };
        views::AppForm {
            shell,
            csrf,
            action,
            cancel,
            editing,
            errors: errors.iter().map(field_error).collect(),
            client_name: self.text("client_name"),
            redirect_uris: self.text("redirect_uris"),
            initiate_login_uri: self.text("initiate_login_uri"),
            methods: one("token_endpoint_auth_method", AuthMethod::None.as_str(), &METHODS),
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
            scope: typed,
            advanced_open: errors.iter().any(|e| rare.contains(&e.field))
                || !self.text("access_token_life").is_empty()
                || !self.text("logo_uri").is_empty(),
            access_token_life: self.text("access_token_life"),
            logo_uri: self.text("logo_uri"),
            application_types: one("application_type", "web", &APPLICATION_TYPES),
            introspect: choice(
                "all",
                "It may introspect any app’s tokens",
                "Not only its own. For a gateway that guards another FHIR server; it needs a secret.",
                self.text("introspect") == "all",
            ),
            algorithms: one("id_token_signed_response_alg", Alg::RS256.as_str(), &ALGORITHMS),
        }
    }
}

const METHODS: [(&str, &str, &str); 3] = [
    ("none", "Public", "Runs in a browser or on a phone, and can keep no secret."),
    ("client_secret_basic", "Secret, in the header", "A server that sends its secret by HTTP Basic."),
    ("client_secret_post", "Secret, in the form", "A server that sends its secret among the parameters."),
];

const GRANT_TYPES: [(&str, &str, &str); 2] = [
    ("authorization_code", "Ask people", "They sign in and decide."),
    (
        "refresh_token",
        "Stay connected",
        "Refresh tokens. The app asks for them with the scope offline_access or online_access.",
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

fn field_error(error: &FieldError) -> views::FieldError {
    let label = LABELS.iter().find(|(name, _)| *name == error.field).map_or(error.field, |(_, label)| *label);
    views::FieldError {
        field: error.field.to_owned(),
        label: label.to_owned(),
        text: super::page::sentence(&error.words),
    }
}
