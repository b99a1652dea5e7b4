//! `POST /sandbox/launches`: launches an app as an EHR does, with a person, a record and whatever else is open
//! (SMART App Launch 2.2, "EHR Launch"). It signs nobody in: the person does that, when the app comes.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use url::Url;

use super::posted::Posted;
use crate::app::{App, Server};
use crate::error::Problem;
use crate::events::{Event, Kind};
use crate::fhir::access::Reach;
use crate::fhir::definitions;
use crate::fhir::membership::Membership;
use crate::fhir::reference::{self, Target};
use crate::fhir::resource::{self, Resource};
use crate::identity::account::{self, Account, ActsFor};
use crate::identity::newcomer;
use crate::oauth::client::Client;
use crate::smart::launch::{FhirContext, Launch, LaunchContext};
use crate::store::db::{DbError, Tx, Verdict};
use crate::web::answer;

const MEMBERS: [&str; 9] = [
    "client_id",
    "person",
    "patient",
    "encounter",
    "fhirContext",
    "intent",
    "need_patient_banner",
    "smart_style_url",
    "tenant",
];
const ITEM_MEMBERS: [&str; 5] = ["reference", "canonical", "identifier", "type", "role"];
/// More things than this are not open at once.
const MOST_ITEMS: usize = 20;
/// The longest `intent` or `tenant`, characters.
const LONGEST_WORD: usize = 200;
/// The longest `identifier` of an item, bytes of JSON.
const LONGEST_IDENTIFIER: usize = 2_000;
/// The role of whatever says none: SMART's own, and the only one that is no absolute URI.
const LAUNCH_ROLE: &str = "launch";

/// The endpoint.
pub async fn post(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    match launch(&app, &headers, &body).await {
        Ok(body) => answer::private_json(StatusCode::CREATED, &body),
        Err(problem) => answer::oauth(&problem),
    }
}

async fn launch(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<Value, Problem> {
    let posted = Posted::read(app, headers, body)?;
    let wanted = Wanted::read(&posted)?;
    let server = app.clone();
    let made = app
        .store
        .write(move |tx| {
            Ok(match wanted.make(tx, &server)? {
                Ok(made) => Verdict::Commit(Ok(made)),
                Err(problem) => Verdict::Rollback(Err(problem)),
            })
        })
        .await?;
    let (handle, launch_uri) = made?;
    let iss = app.fhir_base();
    let launch_url = launch_uri.map(|uri| launch_url(&uri, &iss, &handle));
    Ok(json!({"iss": iss, "launch": handle, "launch_url": launch_url}))
}

/// The app's launch URL as an EHR opens it; query and fragment stay as they were registered.
fn launch_url(registered: &str, iss: &str, handle: &str) -> String {
    let (before, fragment) = registered.split_at(registered.find('#').unwrap_or(registered.len()));
    let opened = answer::redirect(before, &[("iss", Some(iss)), ("launch", Some(handle))]);
    opened + fragment
}

/// What was posted, as far as it can be judged without the store.
struct Wanted {
    client: String,
    person: String,
    patient: Option<String>,
    encounter: Option<String>,
    context: LaunchContext,
}

impl Wanted {
    fn read(posted: &Posted) -> Result<Wanted, Problem> {
        posted.only(&MEMBERS)?;
        let items = posted.objects("fhirContext", MOST_ITEMS)?;
        Ok(Wanted {
            client: posted.needed("client_id", "the id the app got when it was registered")?,
            person: posted.needed("person", "the username of whoever launches, such as `maria`")?,
            patient: id(posted, "patient", "Patient")?,
            encounter: id(posted, "encounter", "Encounter")?,
            context: LaunchContext {
                fhir_context: items.iter().map(item).collect::<Result<_, _>>()?,
                intent: word(posted, "intent")?,
                need_patient_banner: posted.boolean("need_patient_banner")?,
                smart_style_url: style(posted)?,
                tenant: word(posted, "tenant")?,
            },
        })
    }

    /// Makes the launch, and a newcomer's account; answers with the handle and the app's launch URL.
    fn make(
        self,
        tx: &Tx<'_>,
        server: &Server,
    ) -> Result<Result<(String, Option<String>), Problem>, DbError> {
        let now = server.now();
        let Some(client) = Client::find(tx, &self.client)? else {
            return refuse("`client_id`: no app is registered under it; register it first");
        };
        let account = newcomer::account_named(tx, &self.person, now, &server.chance)?;
        let Some(account) = account.filter(|a| !a.disabled) else {
            return refuse(
                "`person`: nobody signs in by that username; `GET /sandbox/people` lists who does, and the id of \
                 any Patient or Practitioner is a username too",
            );
        };
        let acts_for = Account::acts_for(tx, &account.id, now)?;
        let patient = match &self.patient {
            None => own_patient(&account, &acts_for),
            Some(id) if Resource::find(tx, "Patient", id)?.is_none() => {
                return refuse(format!("`patient`: there is no Patient/{id} here"));
            }
            Some(id) if !account.may_open(&acts_for, id) => {
                return refuse(format!(
                    "`patient`: `{}` may not open the record of Patient/{id}; name a patient they act for",
                    account.username
                ));
            }
            Some(id) => Some(id.clone()),
        };
        if let Some(id) = &self.encounter {
            let Some(patient) = &patient else {
                return refuse("`encounter`: say whose it is; send `patient` too");
            };
            if Resource::find(tx, "Encounter", id)?.is_none_or(|e| e.owner != *patient) {
                return refuse(format!("`encounter`: there is no Encounter/{id} of Patient/{patient}"));
            }
        }
        for (index, item) in self.context.fhir_context.iter().enumerate() {
            if let Some(reference) = &item.reference
                && let Err(words) = may_be_open(tx, reference, patient.as_deref(), &server.fhir_base())?
            {
                return refuse(format!("`fhirContext[{index}].reference`: {words}"));
            }
        }
        let launch = Launch {
            client: client.id.clone(),
            account: account.id.clone(),
            audience: server.fhir_base(),
            patient: patient.clone(),
            encounter: self.encounter,
            context: self.context,
            expires: Launch::expiry(now),
            used: None,
        };
        let handle = launch.issue(tx, &server.chance)?;
        let event = Event::new(Kind::LaunchMade, now).client(client.id).account(account.id);
        event.patient(patient).insert(tx)?;
        Ok(Ok((handle.reveal(), client.metadata.initiate_login_uri)))
    }
}

fn refuse<T>(words: impl Into<String>) -> Result<Result<T, Problem>, DbError> {
    Ok(Err(crate::error::invalid_request(words.into())))
}

/// The record a patient launches with where none is named: their own; for whoever acts for one other only, that
/// one's. A practitioner launches with none open.
fn own_patient(account: &Account, acts_for: &[ActsFor]) -> Option<String> {
    let own = account.fhir_user.strip_prefix("Patient/");
    let is_own = |entry: &&ActsFor| Some(entry.patient.as_str()) == own;
    let only = match acts_for {
        [only] if account.kind != account::Kind::Practitioner => Some(only),
        _ => None,
    };
    acts_for.iter().find(is_own).or(only).map(|entry| entry.patient.clone())
}

/// Whether a resource may be part of the launch: it is here, and if it is about a patient, about this one. What no
/// table says the patient of (a Task, a Group) may at least name no other.
fn may_be_open(
    tx: &Tx<'_>,
    text: &str,
    patient: Option<&str>,
    base: &str,
) -> Result<Result<(), String>, DbError> {
    let Target::Here { type_, id } = reference::read(text, "") else {
        return Ok(Err("it must be relative, such as `ImagingStudy/123`".into()));
    };
    let Some(resource) = Resource::find(tx, type_, id)? else {
        return Ok(Err(format!("there is no {type_}/{id} here")));
    };
    let fits = match Membership::of(type_) {
        Membership::Supporting => true,
        Membership::Nobody => {
            let parsed = resource.parsed();
            let named = reference::all(&parsed, base);
            named.iter().filter(|(t, _)| *t == "Patient").all(|(_, id)| Some(*id) == patient)
        }
        Membership::Attachment => {
            let patients = patient.map(str::to_owned).into_iter().collect::<BTreeSet<_>>();
            !patients.is_empty() && resource::within(tx, &Reach::ReferredTo(patients), &resource, base)?
        }
        Membership::Patient | Membership::Element(_) | Membership::Targets => {
            patient == Some(resource.owner.as_str())
        }
    };
    Ok(match patient {
        _ if fits => Ok(()),
        None => Err(format!("{type_}/{id} belongs to a patient; send that `patient` too")),
        Some(patient) => Err(format!("{type_}/{id} does not belong to Patient/{patient}")),
    })
}

/// The logical id of a resource; its type may not stand before it.
fn id(posted: &Posted, name: &str, type_: &str) -> Result<Option<String>, Problem> {
    match posted.text(name)? {
        Some(text) if !reference::is_id(&text) => Err(posted.wrong(
            name,
            format!("must be the id of a {type_} alone, such as `123`: no `{type_}/` before it, and no URL"),
        )),
        text => Ok(text),
    }
}

fn word(posted: &Posted, name: &str) -> Result<Option<String>, Problem> {
    match posted.text(name)? {
        Some(text) if text.chars().count() > LONGEST_WORD => {
            Err(posted.wrong(name, format!("is longer than {LONGEST_WORD} characters")))
        }
        text => Ok(text),
    }
}

fn style(posted: &Posted) -> Result<Option<String>, Problem> {
    let name = "smart_style_url";
    match posted.text(name)? {
        Some(text)
            if !Url::parse(&text)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty()) =>
        {
            Err(posted.wrong(name, "must be an absolute http(s) URL"))
        }
        text => Ok(text),
    }
}

/// One item of `fhirContext`, by the rules of SMART App Launch 2.2.
fn item(posted: &Posted) -> Result<FhirContext, Problem> {
    posted.only(&ITEM_MEMBERS)?;
    let item = FhirContext {
        reference: posted.text("reference")?,
        canonical: posted.text("canonical")?,
        identifier: posted.get("identifier").cloned(),
        type_: posted.text("type")?,
        role: posted.text("role")?,
    };
    if item.reference.is_none() && item.canonical.is_none() && item.identifier.is_none() {
        return Err(posted.wrong("reference", "is missing; send it, or `canonical`, or `identifier`"));
    }
    let referred = match item.reference.as_deref().map(|text| reference::read(text, "")) {
        None => None,
        Some(Target::Here { type_, .. }) => Some(type_),
        Some(_) => return Err(posted.wrong("reference", "must be relative, such as `ImagingStudy/123`")),
    };
    if item.canonical.as_deref().is_some_and(|text| Url::parse(text).is_err()) {
        return Err(posted.wrong("canonical", "must be an absolute URI"));
    }
    if let Some(identifier) = &item.identifier {
        let has = |name: &str| identifier[name].as_str().is_some_and(|text| !text.is_empty());
        if !has("value") && !has("system") || identifier.to_string().len() > LONGEST_IDENTIFIER {
            return Err(posted.wrong(
                "identifier",
                format!(
                    "must be a FHIR Identifier with a `value` or a `system`, of at most {LONGEST_IDENTIFIER} bytes"
                ),
            ));
        }
    }
    if let Some(type_) = &item.type_ {
        if !definitions::is_type(type_) {
            return Err(posted.wrong("type", format!("is `{type_}`, which is no type of FHIR R4")));
        }
        if referred.is_some_and(|t| t != type_) {
            return Err(posted.wrong("type", "is not the type that `reference` leads to"));
        }
    }
    let role = item.role.as_deref().unwrap_or(LAUNCH_ROLE);
    if role != LAUNCH_ROLE && (Url::parse(role).is_err() || role.contains(char::is_whitespace)) {
        return Err(posted.wrong("role", format!("must be `{LAUNCH_ROLE}` or an absolute URI")));
    }
    let type_ = referred.or(item.type_.as_deref());
    if role == LAUNCH_ROLE && matches!(type_, Some("Patient" | "Encounter")) {
        return Err(posted.wrong(
            "role",
            "must be another than `launch` for a Patient or Encounter: those that are open are said by `patient` \
             and `encounter`",
        ));
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_url_keeps_its_query_and_its_fragment() {
        let opened = |registered| launch_url(registered, "http://p/fhir", "h");
        assert_eq!(opened("https://a/l"), "https://a/l?iss=http%3A%2F%2Fp%2Ffhir&launch=h");
        assert_eq!(opened("https://a/l?x=1"), "https://a/l?x=1&iss=http%3A%2F%2Fp%2Ffhir&launch=h");
        assert_eq!(opened("https://a/#/l"), "https://a/?iss=http%3A%2F%2Fp%2Ffhir&launch=h#/l");
    }
}
