//! Which visit? The choice of an encounter of the patient in context.

use axum::response::Response;

use super::answer::see_other;
use super::browser::{SignedIn, Visitor};
use super::page;
use super::steps::{app_view, person_view};
use super::views::{ChooseEncounter, EncounterRow, Face, Person};
use crate::app::App;
use crate::error::{Problem, invalid_request};
use crate::events::{Event, Kind};
use crate::fhir::demographics;
use crate::fhir::resource::Resource;
use crate::oauth::client::Client;
use crate::oauth::params::Params;
use crate::oauth::request::Request;
use crate::store::db::Verdict;

/// The page: the patient's visits, the latest first.
pub async fn show(
    app: &App,
    visitor: &Visitor,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    patient: &str,
    error: Option<&str>,
) -> Result<Response, Problem> {
    let action = format!("/oauth/authorize/{}", request.id);
    let id = patient.to_owned();
    let (resource, encounters) = app
        .store
        .search(move |tx| {
            Ok((Resource::find(tx, "Patient", &id)?, Resource::all_about(tx, "Encounter", &id)?))
        })
        .await?;
    let name = resource.and_then(|r| demographics::name(&r.parsed())).unwrap_or_else(|| patient.to_owned());
    let mut visits: Vec<_> =
        encounters.iter().map(|e| (e.id.clone(), demographics::visit(&e.parsed()))).collect();
    visits.sort_by(|(_, a), (_, b)| b.start.cmp(&a.start));
    let page = ChooseEncounter {
        shell: page::bare_shell(app),
        csrf: visitor.csrf(app, &request.id),
        cancel: action.clone(),
        not_you: format!("{action}?switch=1"),
        action,
        app: app_view(app, client),
        person: person_view(person),
        patient: Person { face: Face::of(&name), name, about: String::new() },
        error: error.map(str::to_owned),
        count: match visits.len() {
            1 => "One visit".into(),
            n => format!("{n} visits, the latest first"),
        },
        encounters: visits
            .into_iter()
            .map(|(id, visit)| EncounterRow {
                id,
                date: visit.date,
                kind: visit.kind,
                place: visit.place,
                reason: visit.reason,
                now: visit.going_on.then(|| "going on now".into()),
                ticked: false,
            })
            .collect(),
    };
    Ok(page::render(&page))
}

/// The form: which visit; an empty value is none of them. Only one of this patient's counts.
pub async fn choose(
    app: &App,
    visitor: &Visitor,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    patient: &str,
    form: &Params,
) -> Result<Response, Problem> {
    let mut sent = form.all("encounter");
    let Some(encounter) = sent.next().map(str::to_owned) else {
        let error = "Choose a visit first.";
        return show(app, visitor, person, client, request, patient, Some(error)).await;
    };
    let found = app.store.read(|tx| Resource::find(tx, "Encounter", &encounter))?;
    let allowed =
        sent.next().is_none() && (encounter.is_empty() || found.is_some_and(|e| e.owner == patient));
    let (id, account, patient, now, client_id) =
        (request.id.clone(), person.account.id.clone(), patient.to_owned(), app.now(), client.id.clone());
    app.store
        .write(move |tx| {
            if allowed {
                Request::choose_encounter(tx, &id, &account, &patient, &encounter)?;
            } else {
                let event = Event::new(Kind::FormRefused, now).client(client_id).account(account);
                event.refused("a visit that was not offered").insert(tx)?;
            }
            Ok(Verdict::Commit(()))
        })
        .await?;
    if !allowed {
        return Err(invalid_request(
            "this page did not offer that visit; go back and choose one of those it lists",
        )
        .at("encounter"));
    }
    Ok(see_other(&format!("/oauth/authorize/{}", request.id)))
}
