//! Whose record? The choice of a patient, for those who may open several.

use axum::response::Response;

use super::answer::see_other;
use super::browser::{SignedIn, Visitor};
use super::page;
use super::steps::{app_view, person_view};
use super::views::{ChoosePatient, Face, PatientRow, PatientSearch};
use crate::app::App;
use crate::error::{Problem, invalid_request};
use crate::events::{Event, Kind};
use crate::fhir::demographics;
use crate::fhir::patients::{self, Wanted};
use crate::fhir::resource::Resource;
use crate::identity::account::ActsFor;
use crate::oauth::client::Client;
use crate::oauth::params::Params;
use crate::oauth::request::Request;
use crate::store::db::Verdict;

/// Patients on a page.
const PAGE: usize = 60;

/// The page: a short list for those who act for a few, a search for those who see everyone.
pub async fn show(
    app: &App,
    visitor: &Visitor,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    query: &Params,
    error: Option<&str>,
) -> Result<Response, Problem> {
    let action = format!("/oauth/authorize/{}", request.id);
    let searches = person.account.sees_everyone;
    let text = |name| query.all(name).next().unwrap_or_default().trim().to_owned();
    let (q, birthdate) = (text("q"), text("birthdate"));
    let start: usize = query.all("from").next().and_then(|t| t.parse().ok()).unwrap_or(0);
    let wanted = Wanted {
        among: (!searches).then(|| person.acts_for.iter().map(|entry| entry.patient.clone()).collect()),
        text: q.clone(),
        birthdate: birthdate.clone(),
        start,
        count: PAGE,
    };
    let found = app.store.search(move |tx| patients::find(tx, &wanted)).await?;
    let rows: Vec<PatientRow> =
        found.patients.iter().map(|patient| row(patient, &person.acts_for, app.now())).collect();
    let address = |from: usize| {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        pairs
            .append_pair("q", &q)
            .append_pair("birthdate", &birthdate)
            .append_pair("from", &from.to_string());
        format!("{action}?{}", pairs.finish())
    };
    let page = ChoosePatient {
        shell: page::bare_shell(app),
        csrf: visitor.csrf(app, &request.id),
        cancel: action.clone(),
        not_you: format!("{action}?switch=1"),
        app: app_view(app, client),
        person: person_view(person),
        error: error.map(str::to_owned),
        search: searches.then(|| PatientSearch {
            action: action.clone(),
            q: q.clone(),
            birthdate: birthdate.clone(),
        }),
        count: match (found.total, rows.len()) {
            (1, _) => "One person".into(),
            (total, shown) if shown < total => {
                format!("{} to {} of {total} people, by name", start + 1, start + shown)
            }
            (total, _) => format!("{total} people"),
        },
        truncated: None,
        previous: (start > 0).then(|| address(start.saturating_sub(PAGE))),
        next: (start + rows.len() < found.total).then(|| address(start + PAGE)),
        patients: rows,
        action: action.clone(),
    };
    Ok(page::render(&page))
}

fn row(patient: &Resource, acts_for: &[ActsFor], now: crate::clock::Millis) -> PatientRow {
    let parsed = patient.parsed();
    let name = demographics::name(&parsed).unwrap_or_else(|| patient.id.clone());
    let relationship = acts_for.iter().find(|entry| entry.patient == patient.id);
    PatientRow {
        id: patient.id.clone(),
        face: Face::of(&name),
        name,
        age: demographics::age(&parsed, now).unwrap_or_else(|| "age unknown".into()),
        sex: demographics::sex(&parsed).unwrap_or("sex not stated").to_owned(),
        born: demographics::birth_date_in_words(&parsed).unwrap_or_else(|| "on an unknown date".into()),
        identifier: demographics::identifier(&parsed),
        relationship: relationship.and_then(|entry| relationship_in_words(&entry.relationship)),
        ticked: false,
    }
}

fn relationship_in_words(relationship: &str) -> Option<String> {
    match relationship {
        "self" => Some("yourself".into()),
        // Being on a practitioner's panel is no relationship worth a word.
        "panel" => None,
        other => Some(format!("your {other}")),
    }
}

/// The form: which patient. Only one the person may open counts.
pub async fn choose(
    app: &App,
    visitor: &Visitor,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    form: &Params,
) -> Result<Response, Problem> {
    let Some(patient) = form.one("patient")?.map(str::to_owned) else {
        let error = "Choose a person first.";
        return show(app, visitor, person, client, request, &Params::default(), Some(error)).await;
    };
    let there = app.store.read(|tx| Resource::find(tx, "Patient", &patient))?.is_some();
    let allowed = there && person.account.may_open(&person.acts_for, &patient);
    let (id, account, now, client_id) =
        (request.id.clone(), person.account.id.clone(), app.now(), client.id.clone());
    app.store
        .write(move |tx| {
            if allowed {
                Request::choose_patient(tx, &id, &account, &patient)?;
            } else {
                let event = Event::new(Kind::FormRefused, now).client(client_id).account(account);
                event.refused("a patient that was not offered").insert(tx)?;
            }
            Ok(Verdict::Commit(()))
        })
        .await?;
    if !allowed {
        return Err(invalid_request(
            "this page did not offer that patient; go back and choose one of those it lists",
        )
        .at("patient"));
    }
    Ok(see_other(&format!("/oauth/authorize/{}", request.id)))
}
