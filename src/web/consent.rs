//! May the app have this? Every scope in plain words with a box, and the decision that ends a request.

use axum::response::Response;

use super::allow::{Answer, allow};
use super::answer::see_other;
use super::browser::{SignedIn, Visitor};
use super::page;
use super::steps::{app_view, deny, person_view};
use super::views::{self, Consent, Fact, Link, Narrower, Record, ScopeCard, ScopeGroup};
use crate::app::App;
use crate::clock::{HOUR, MINUTE, Millis, SECOND};
use crate::error::{Problem, invalid_request};
use crate::events::{Event, Kind};
use crate::fhir::demographics;
use crate::fhir::resource::Resource;
use crate::oauth::client::Client;
use crate::oauth::consent as memory;
use crate::oauth::params::Params;
use crate::oauth::request::Request;
use crate::oauth::step::Context;
use crate::smart::launch::LaunchContext;
use crate::smart::scope::{Level, Meaning, Scope};
use crate::smart::words::{self, Group};
use crate::store::db::Verdict;

/// What the form token of the page is for: a page about one patient or visit is no consent for another.
pub fn page_name(request: &Request, context: &Context) -> String {
    let named = |id: &Option<String>| id.clone().unwrap_or_default();
    format!("{} consent {} {}", request.id, named(&context.patient), named(&context.encounter))
}

/// The page.
pub fn show(
    app: &App,
    visitor: &Visitor,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    context: &Context,
) -> Result<Response, Problem> {
    let action = format!("/oauth/authorize/{}", request.id);
    let scopes = request.asked.scopes();
    let groups = Group::ALL.into_iter().map(|group| ScopeGroup {
        title: group.title().into(),
        scopes: scopes
            .iter()
            .map(|s| (s, words::of(s)))
            .filter(|(_, w)| w.group == group)
            .map(card)
            .collect(),
    });
    let page = Consent {
        shell: page::bare_shell(app),
        csrf: visitor.csrf(app, &page_name(request, context)),
        not_you: format!("{action}?switch=1"),
        app: app_view(app, client),
        person: person_view(person),
        record: context
            .patient
            .as_ref()
            .map(|id| record(app, person, id, context.encounter.as_deref()))
            .transpose()?,
        told: request.asked.launched.as_ref().map(|l| told(&l.context)).unwrap_or_default(),
        lasts: how_long(&scopes, client.metadata.token_life()),
        groups: groups.filter(|g| !g.scopes.is_empty()).collect(),
        left_out: request
            .asked
            .left_out
            .iter()
            .map(|l| views::LeftOut {
                scope: l.scope.chars().take(200).collect(),
                why: page::sentence(&l.why),
                meant: l.meant.clone(),
            })
            .collect(),
        may_remember: memory::may_tick(&client.metadata, &scopes),
        remembers: memory::by_itself(&client.metadata, &scopes),
        links: about(client),
        action,
    };
    Ok(page::render(&page))
}

/// What the app's developer says of it: pages of theirs, not of this server.
fn about(client: &Client) -> Vec<Link> {
    let app = &client.metadata;
    let said = [
        ("About the app", &app.client_uri),
        ("What it does with your data", &app.policy_uri),
        ("Its terms", &app.tos_uri),
    ];
    said.into_iter().filter_map(|(text, uri)| uri.as_ref().map(|uri| page::link(text, uri))).collect()
}

fn card((scope, words): (&Scope, words::Words)) -> ScopeCard {
    ScopeCard {
        scope: scope.text.clone(),
        title: words.title,
        detail: words.detail,
        changes: words.changes,
        warning: words.warning.map(str::to_owned),
        narrower: words::narrower(scope)
            .into_iter()
            .map(|(scope, title)| Narrower { scope, title: title.into(), detail: String::new() })
            .collect(),
    }
}

fn record(app: &App, person: &SignedIn, patient: &str, encounter: Option<&str>) -> Result<Record, Problem> {
    let (resource, visit) = app.store.read(|tx| {
        let visit = match encounter {
            Some(id) => Resource::find(tx, "Encounter", id)?,
            None => None,
        };
        Ok((Resource::find(tx, "Patient", patient)?, visit))
    })?;
    let visit = visit.map(|v| {
        let visit = demographics::visit(&v.parsed());
        format!("the visit of {}: {}", visit.date, visit.kind)
    });
    let parsed = resource.map(|r| r.parsed()).unwrap_or_default();
    let born = demographics::birth_date_in_words(&parsed).map(|date| format!("born {date}"));
    let identifier = demographics::identifier(&parsed).map(|text| views::isolate(&text));
    let about: Vec<String> = born.into_iter().chain(identifier).chain(visit).collect();
    Ok(Record {
        name: demographics::name(&parsed).unwrap_or_else(|| patient.to_owned()),
        about: about.join(", "),
        own: person.account.fhir_user == format!("Patient/{patient}"),
    })
}

/// What else an EHR launch tells the app, line by line.
fn told(context: &LaunchContext) -> Vec<Fact> {
    let fact = |name: &str, values: Vec<String>| Fact { name: name.into(), values, code: false };
    let others = context.fhir_context.iter().map(|item| {
        let id = item.identifier.as_ref();
        let named = [item.reference.as_deref(), item.canonical.as_deref()];
        let identified = [id.and_then(|i| i["value"].as_str()), id.and_then(|i| i["system"].as_str())];
        let which = named.into_iter().chain(identified).flatten().next().unwrap_or_default();
        let kind = item.type_.as_deref().or_else(|| item.reference.as_deref()?.split('/').next());
        kind.map_or_else(|| which.to_owned(), |t| format!("{} ({which})", words::type_in_words(t)))
    });
    let facts = [
        fact("Also open", others.collect()),
        fact("Purpose", context.intent.iter().cloned().collect()),
        fact("Opened at", context.tenant.iter().cloned().collect()),
    ];
    facts.into_iter().filter(|f| !f.values.is_empty()).collect()
}

fn how_long(scopes: &[Scope], life: Millis) -> String {
    let has = |meaning| scopes.iter().any(|s| s.meaning == meaning);
    if has(Meaning::OfflineAccess) {
        return "Until you disconnect the app".into();
    }
    if has(Meaning::OnlineAccess) {
        return "While you are signed in here".into();
    }
    let counted = |n: i64, unit: &str| match n {
        1 => format!("For one {unit}"),
        n => format!("For {n} {unit}s"),
    };
    match life {
        life if life % HOUR == 0 => counted(life / HOUR, "hour"),
        life if life % MINUTE == 0 => counted(life / MINUTE, "minute"),
        life => counted(life / SECOND, "second"),
    }
}

/// What of the boxes was granted: exactly values that were shown, in the order asked for.
///
/// # Errors
/// `invalid_request` for a value that the page did not show.
fn granted(asked: &[Scope], posted: &[&str]) -> Result<Vec<Scope>, Problem> {
    let narrower: Vec<(usize, Scope)> = asked
        .iter()
        .enumerate()
        .flat_map(|(index, scope)| words::narrower(scope).into_iter().map(move |(text, _)| (index, text)))
        .filter_map(|(index, text)| Scope::parse(&text).ok().map(|scope| (index, scope)))
        .collect();
    let shown = |value: &&str| {
        asked.iter().any(|s| s.text == **value) || narrower.iter().any(|(_, s)| s.text == **value)
    };
    if !posted.iter().all(shown) {
        return Err(
            invalid_request("a scope was posted that the page did not show; nothing was granted").at("scope")
        );
    }
    let mut kept: Vec<Scope> = Vec::new();
    for (index, scope) in asked.iter().enumerate() {
        let parts = narrower.iter().filter(|(of, part)| *of == index && posted.contains(&part.text.as_str()));
        let parts: Vec<Scope> = parts.map(|(_, part)| part.clone()).collect();
        if !parts.is_empty() {
            kept.extend(parts);
        } else if posted.contains(&scope.text.as_str()) {
            kept.push(scope.clone());
        }
    }
    let unticked = |meaning: Meaning| {
        asked.iter().any(|s| s.meaning == meaning) && !kept.iter().any(|s| s.meaning == meaning)
    };
    let (no_patient, no_identity) = (unticked(Meaning::LaunchPatient), unticked(Meaning::OpenId));
    kept.retain(|s| {
        let of_patient = s.is_at(Level::Patient);
        let of_identity = s.is_identity();
        !(no_patient && of_patient || no_identity && of_identity)
    });
    Ok(kept)
}

/// The form: the decision, and with `allow` the grant, its code and the way back to the app.
pub async fn decide(
    app: &App,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    context: Context,
    form: &Params,
) -> Result<Response, Problem> {
    match form.one("decision")? {
        Some("allow") => {}
        Some("deny") => {
            let (account, client_id) = (person.account.id.clone(), client.id.clone());
            app.store.write(move |tx| memory::forget(tx, &account, &client_id).map(Verdict::Commit)).await?;
            return deny(app, request).await;
        }
        _ => return Err(invalid_request("`decision` must be `allow` or `deny`").at("decision")),
    }
    let posted: Vec<&str> = form.all("scope").collect();
    let asked = request.asked.scopes();
    let ticked = form.one("remember")?.is_some();
    let read = if ticked && !memory::may_tick(&client.metadata, &asked) {
        let words = "`remember` was posted, which the page did not show; nothing was granted";
        Err(invalid_request(words).at("remember"))
    } else {
        granted(&asked, &posted)
    };
    let scopes = match read {
        Ok(scopes) => scopes,
        Err(problem) => {
            let (now, client_id, account) = (app.now(), client.id.clone(), person.account.id.clone());
            app.store
                .write(move |tx| {
                    let event = Event::new(Kind::FormRefused, now).client(client_id).account(account);
                    event.refused("a value that was not shown").insert(tx).map(Verdict::Commit)
                })
                .await?;
            return Err(problem);
        }
    };
    if scopes.is_empty() {
        return deny(app, request).await;
    }
    let issued = allow(app, person, client, request, context, scopes, Answer::Given { ticked }).await?;
    Ok(see_other(&issued.unwrap_or_else(|| format!("/oauth/authorize/{}", request.id))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smart::scope;

    fn after(asked: &str, posted: &[&str]) -> String {
        granted(&Scope::list(asked), posted).map(|s| scope::join(&s)).unwrap_or_else(|_| "refused".into())
    }

    #[test]
    fn what_was_ticked_is_granted_in_the_order_asked_for() {
        assert_eq!(after("openid patient/*.rs fhirUser", &["fhirUser", "openid"]), "openid fhirUser");
        assert_eq!(after("openid", &[]), "");
        assert_eq!(after("openid", &["openid", "patient/*.rs"]), "refused");
    }

    #[test]
    fn unticking_a_scope_drops_what_depends_on_it() {
        assert_eq!(after("openid fhirUser profile", &["fhirUser", "profile"]), "");
        let asked = "launch/patient patient/Patient.rs user/Patient.rs";
        assert_eq!(after(asked, &["patient/Patient.rs", "user/Patient.rs"]), "user/Patient.rs");
        assert_eq!(
            after("patient/Patient.rs", &["patient/Patient.rs"]),
            "patient/Patient.rs",
            "it was implied"
        );
    }

    #[test]
    fn a_narrower_choice_replaces_the_whole_type_even_where_both_are_ticked() {
        let lab = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
        assert_eq!(
            after("patient/Observation.rs openid", &["patient/Observation.rs", lab, "openid"]),
            format!("{lab} openid")
        );
        assert_eq!(after("patient/Condition.rs", &[lab]), "refused");
    }

    #[test]
    fn how_long_is_said_in_whole_units() {
        let plain = Scope::list("openid");
        assert_eq!(how_long(&plain, HOUR), "For one hour");
        assert_eq!(how_long(&plain, 90 * SECOND), "For 90 seconds");
        assert_eq!(how_long(&plain, 5 * MINUTE), "For 5 minutes");
        assert_eq!(how_long(&Scope::list("offline_access"), HOUR), "Until you disconnect the app");
    }
}
