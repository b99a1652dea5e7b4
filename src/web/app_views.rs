//! What the templates of a developer's apps are filled with. Nothing here decides anything.

use askama::Template;

use super::views::{App, Choice, Face, Fact, Link, Shell};

#[derive(Clone, Template)]
#[template(path = "apps.html")]
pub struct Apps {
    pub shell: Shell,
    pub register: String,
    pub apps: Vec<AppCard>,
}

#[derive(Clone)]
pub struct AppCard {
    pub face: Face,
    pub name: String,
    pub client_id: String,
    pub href: String,
    /// "Public app, registered 3 May 2026, last used today".
    pub about: String,
    pub warnings: Vec<String>,
}

/// A new app, or a change to one. Field names are those of RFC 7591, and some of our own.
#[derive(Clone, Template)]
#[template(path = "app_form.html")]
pub struct AppForm {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    pub cancel: String,
    pub editing: bool,
    pub errors: Vec<FieldError>,
    /// What stands in each field for text, by its name.
    pub texts: Vec<(&'static str, String)>,
    pub methods: Vec<Choice>,
    /// Whether the fields for keys start unfolded: when the app has keys, or should have.
    pub keys_open: bool,
    pub grant_types: Vec<Choice>,
    /// Whether the table of boxes starts unfolded: when one of them is ticked.
    pub scopes_open: bool,
    pub identity: Vec<Choice>,
    pub resources: Vec<ResourceRow>,
    /// Whether the rare settings start unfolded: when one is set, or wrong.
    pub advanced_open: bool,
    pub application_types: Vec<Choice>,
    pub algorithms: Vec<Choice>,
    /// Single boxes, each with the name of its field.
    pub flags: Vec<(&'static str, Choice)>,
}

impl AppForm {
    fn error(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|e| e.field == field).map(|e| e.text.as_str())
    }

    fn text(&self, field: &str) -> &str {
        self.texts.iter().find(|(name, _)| *name == field).map_or("", |(_, text)| text)
    }
}

/// What was wrong with a field: its name, its label on the page, and what to send instead.
#[derive(Clone)]
pub struct FieldError {
    pub field: String,
    pub label: String,
    pub text: String,
}

/// "Observation", "Measurements and test results", and its boxes: patient read, patient write, user read, user write.
#[derive(Clone)]
pub struct ResourceRow {
    pub name: String,
    pub words: String,
    pub boxes: [ScopeBox; 4],
}

#[derive(Clone)]
pub struct ScopeBox {
    pub scope: String,
    pub ticked: bool,
}

#[derive(Clone, Template)]
#[template(path = "app_detail.html")]
pub struct AppDetail {
    pub shell: Shell,
    pub app: App,
    pub client_id: String,
    pub fhir: String,
    pub just_created: bool,
    /// Shown once, right after it was made.
    pub secret: Option<String>,
    pub management: Option<String>,
    pub warnings: Vec<Warning>,
    pub launch: Option<Launch>,
    pub service: Option<Service>,
    pub facts: Vec<Fact>,
    pub edit: String,
    pub secrets: Option<Secrets>,
    pub delete: String,
}

/// The secrets of an app that work, the newest first, and what can be done with them.
#[derive(Clone)]
pub struct Secrets {
    pub made: Vec<Fact>,
    pub new: String,
    /// Where the former one is ended, if there are two.
    pub end: Option<String>,
}

/// How a backend service gets a token: what its assertion says, and the command that sends it.
#[derive(Clone)]
pub struct Service {
    pub claims: Vec<Fact>,
    pub command: String,
}

/// "SMART 1.0, no PKCE", and what that means.
#[derive(Clone)]
pub struct Warning {
    pub title: String,
    pub text: String,
}

/// The exact authorization request to try, and the ways to send it; the first is the likeliest.
#[derive(Clone)]
pub struct Launch {
    pub words: String,
    pub authorize_url: String,
    pub links: Vec<Link>,
    /// The command that exchanges the code that comes back.
    pub exchange: String,
    /// Whether the secret must still be put into it.
    pub needs_secret: bool,
    /// Whether an assertion must still be put into it.
    pub needs_assertion: bool,
}
