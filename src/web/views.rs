//! What the templates are filled with: one struct for each page, and the small parts they share.
//! Whoever fills them chooses the words; nothing here decides anything.

use askama::Template;

/// A name inside a sentence that is plain text: isolated, so that its direction does not turn the rest around.
/// (Templates use `<bdi>`.) An end of isolation within the name would let it out.
pub fn isolate(name: &str) -> String {
    format!("\u{2068}{}\u{2069}", name.replace('\u{2069}', ""))
}

/// What every page stands in: the header's links, and whether this is the sandbox.
#[derive(Clone)]
pub struct Shell {
    pub sandbox: bool,
    pub links: Vec<Link>,
}

/// A link; `here` marks the page it stands on.
#[derive(Clone)]
pub struct Link {
    pub text: String,
    pub href: String,
    pub here: bool,
}

/// A generated face: initials on one of twelve colours, or a picture that covers them when it loads.
/// Apps are square, people are round.
#[derive(Clone)]
pub struct Face {
    pub initials: String,
    pub hue: u8,
    pub square: bool,
    pub picture: Option<String>,
}

impl Face {
    /// The face of a person: the first letters of the first and last word, a colour that stays with the name.
    pub fn of(name: &str) -> Face {
        let first = |word: &str| word.chars().find(|c| c.is_alphanumeric());
        let mut letters = name.split_whitespace().filter_map(first);
        let initials: String =
            letters.next().into_iter().chain(letters.next_back()).flat_map(char::to_uppercase).collect();
        // FNV-1a: any spread will do, as long as it is the same tomorrow.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Face { initials, hue: (hash % 12) as u8, square: false, picture: None }
    }

    /// The face of an app, with its logo if it has one.
    pub fn of_app(name: &str, logo: Option<String>) -> Face {
        Face { square: true, picture: logo, ..Face::of(name) }
    }
}

/// Somebody, as shown: a face, a name, and a line about them (may be empty).
#[derive(Clone)]
pub struct Person {
    pub face: Face,
    pub name: String,
    pub about: String,
}

/// An app, as a person meets it. `note`: "Registered in the sandbox by its developer; nobody has reviewed it."
#[derive(Clone)]
pub struct App {
    pub face: Face,
    pub name: String,
    pub note: Option<String>,
}

/// Somebody the sandbox offers to be.
#[derive(Clone)]
pub struct Signer {
    pub username: String,
    pub person: Person,
}

/// One line of a definition list; `code` sets its values in the typewriter's face.
#[derive(Clone)]
pub struct Fact {
    pub name: String,
    pub values: Vec<String>,
    pub code: bool,
}

/// A box or a radio button with a title and a line below it (may be empty).
#[derive(Clone)]
pub struct Choice {
    pub value: String,
    pub title: String,
    pub detail: String,
    pub ticked: bool,
}

// ── P/ ──────────────────────────────────────────────────────────────────────────────────────────

/// What this server is, and the way in for each kind of visitor.
#[derive(Clone, Template)]
#[template(path = "home.html")]
pub struct Home {
    pub shell: Shell,
    pub fhir: String,
    pub discovery: String,
    pub open_fhir: Option<String>,
    /// The form for a new app, where this server offers one.
    pub register: Option<String>,
    pub developer_links: Vec<Link>,
    pub person_links: Vec<Link>,
    pub machine: Vec<Call>,
    pub people: Vec<Signer>,
    pub shared_word: String,
}

/// An address for programs, "POST /sandbox/tokens", and what it does.
#[derive(Clone)]
pub struct Call {
    pub request: String,
    pub what: String,
}

// ── the dance ───────────────────────────────────────────────────────────────────────────────────

/// Who are you?
#[derive(Clone, Template)]
#[template(path = "login.html")]
pub struct Login {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    pub app: Option<App>,
    pub switch: Option<Switch>,
    pub error: Option<String>,
    pub username: String,
    pub people: Vec<Signer>,
    pub shared_word: String,
    /// Where "cancel and go back to the app" posts to.
    pub cancel: Option<String>,
}

/// Somebody is signed in already: `wanted` is whom this launch was made for, `stay` the way on as `now`.
#[derive(Clone)]
pub struct Switch {
    pub now: String,
    pub wanted: Option<String>,
    pub stay: Option<String>,
}

/// This launch is somebody else's: `now` is signed in, `wanted` is the username of whoever launched.
#[derive(Clone, Template)]
#[template(path = "switch.html")]
pub struct SwitchPerson {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    pub cancel: String,
    pub app: App,
    pub now: Person,
    pub wanted: String,
    pub shared_word: Option<String>,
}

/// Whose record?
#[derive(Clone, Template)]
#[template(path = "choose_patient.html")]
pub struct ChoosePatient {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    pub cancel: String,
    pub not_you: String,
    pub app: App,
    pub person: Person,
    pub error: Option<String>,
    /// None for those who choose among a few people they act for.
    pub search: Option<PatientSearch>,
    /// What the list is: "50 people, by name".
    pub count: String,
    pub patients: Vec<PatientRow>,
    /// "These are the first 200. Search to find others."
    pub truncated: Option<String>,
    pub previous: Option<String>,
    pub next: Option<String>,
}

#[derive(Clone)]
pub struct PatientSearch {
    pub action: String,
    pub q: String,
    pub birthdate: String,
}

/// Dates and ages are words already: "34 years", "12 March 1991".
#[derive(Clone)]
pub struct PatientRow {
    pub id: String,
    pub face: Face,
    pub name: String,
    pub age: String,
    pub sex: String,
    pub born: String,
    pub identifier: Option<String>,
    pub relationship: Option<String>,
    pub ticked: bool,
}

/// May it?
#[derive(Clone, Template)]
#[template(path = "consent.html")]
pub struct Consent {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    pub not_you: String,
    pub app: App,
    pub person: Person,
    pub record: Option<Record>,
    /// What else an EHR launch tells the app.
    pub told: Vec<Fact>,
    /// "For one hour", "Until you disconnect it", "While you are signed in".
    pub lasts: String,
    pub groups: Vec<ScopeGroup>,
    pub left_out: Vec<LeftOut>,
    /// The developer's own pages about the app.
    pub links: Vec<Link>,
    /// A box "do not ask again".
    pub may_remember: bool,
    /// Not asked again by itself.
    pub remembers: bool,
}

/// The record in question; `own` where it is the signed-in person's.
#[derive(Clone)]
pub struct Record {
    pub name: String,
    pub about: String,
    pub own: bool,
}

/// "From the health record", "About you", "Staying connected".
#[derive(Clone)]
pub struct ScopeGroup {
    pub title: String,
    pub scopes: Vec<ScopeCard>,
}

#[derive(Clone)]
pub struct ScopeCard {
    pub scope: String,
    pub title: String,
    pub detail: String,
    pub changes: bool,
    /// What to think about first: "This includes kinds of data added in future."
    pub warning: Option<String>,
    pub narrower: Vec<Narrower>,
}

#[derive(Clone)]
pub struct Narrower {
    pub scope: String,
    pub title: String,
    pub detail: String,
}

#[derive(Clone)]
pub struct LeftOut {
    pub scope: String,
    pub why: String,
    pub meant: Option<String>,
}

// ── news, good and bad ──────────────────────────────────────────────────────────────────────────

/// One thing to say: an error, a notice, "you are signed out".
#[derive(Clone, Template)]
#[template(path = "message.html")]
pub struct Message {
    pub shell: Shell,
    pub tone: Tone,
    pub title: String,
    pub lead: String,
    pub steps: Vec<String>,
    pub links: Vec<Link>,
    pub problem: Option<Problem>,
    /// Small print: trace, time, client.
    pub facts: Vec<Fact>,
}

#[derive(Clone, Copy)]
pub enum Tone {
    Refused,
    Notice,
    Done,
}

impl std::fmt::Display for Tone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tone::Refused => "refused",
            Tone::Notice => "noted",
            Tone::Done => "done",
        })
    }
}

/// Which parameter was wrong, what came, and what should come.
#[derive(Clone)]
pub struct Problem {
    pub what: String,
    pub parameter: String,
    pub received: Option<String>,
    pub expected: Vec<String>,
    pub reference: Option<Link>,
}

/// Which visit?
#[derive(Clone, Template)]
#[template(path = "choose_encounter.html")]
pub struct ChooseEncounter {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    pub cancel: String,
    pub not_you: String,
    pub app: App,
    pub person: Person,
    pub patient: Person,
    pub error: Option<String>,
    pub count: String,
    pub encounters: Vec<EncounterRow>,
}

#[derive(Clone)]
pub struct EncounterRow {
    pub id: String,
    pub date: String,
    pub kind: String,
    pub place: Option<String>,
    pub reason: Option<String>,
    /// "going on now", where it is.
    pub now: Option<String>,
    pub ticked: bool,
}

// ── a question before what cannot be taken back ─────────────────────────────────────────────────

/// Are you sure? For what cannot be taken back.
#[derive(Clone, Template)]
#[template(path = "confirm.html")]
pub struct Confirm {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    pub cancel: String,
    pub title: String,
    pub lead: String,
    pub consequences: Vec<String>,
    /// A field that goes with the answer: its name and value.
    pub hidden: Option<(String, String)>,
    /// The way back: "Keep it".
    pub keep: String,
    pub button: String,
}

/// Sign out? An app asks for it, and it is not certain that the person wants it.
#[derive(Clone, Template)]
#[template(path = "logout.html")]
pub struct Logout {
    pub shell: Shell,
    pub csrf: String,
    pub action: String,
    /// Where whoever stays signed in goes on.
    pub stay: String,
    pub app: Option<App>,
    pub person: Person,
    /// The app means another person or another session than the one here.
    pub somebody_else: bool,
    /// Name and value of what the form brings along.
    pub passed_on: Vec<(String, String)>,
    /// The apps whose access does not end with the session.
    pub staying: Vec<String>,
}

// ── a person's own page ─────────────────────────────────────────────────────────────────────────

#[derive(Clone, Template)]
#[template(path = "account.html")]
pub struct Account {
    pub shell: Shell,
    pub csrf: String,
    pub person: Person,
    pub sign_out: String,
    /// "Growth Chart is disconnected."
    pub notice: Option<String>,
    pub apps: Vec<Connected>,
}

/// One app with all its grants; `disconnect` is where the button posts to.
#[derive(Clone)]
pub struct Connected {
    pub app: App,
    pub records: Vec<String>,
    /// What it holds now; empty where all of that ran out.
    pub may: Vec<String>,
    /// What it need not ask for again; may be empty.
    pub unasked: Vec<String>,
    pub since: String,
    pub last_used: Option<String>,
    pub until: String,
    pub disconnect: String,
}
