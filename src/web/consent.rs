//! May the app have this? Every scope in plain words with a box, and the decision that ends a request.

use axum::response::Response;

use super::answer::{error_redirect, redirect, see_other};
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
use crate::identity::session::Session;
use crate::oauth::client::Client;
use crate::oauth::code::Code;
use crate::oauth::consent::{self as memory, Decision};
use crate::oauth::grant::Grant;
use crate::oauth::params::Params;
use crate::oauth::request::Request;
use crate::oauth::step::Context;
use crate::smart::launch::{self, LaunchContext};
use crate::smart::scope::{self, Level, Meaning, Scope};
use crate::smart::words::{self, Group};
use crate::store::db::{DbError, Tx, Verdict};

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

/// What of a launch's context the app is told: nothing once `launch` is unticked, and nothing of a patient whom
/// it is not told of. Whoever does not say so needs a banner that tells whose record it is.
fn context_told(request: &Request, kept: &[Scope], patient: bool) -> Option<LaunchContext> {
    let launched = request.asked.launched.as_ref().filter(|_| !unticked(request, kept, Meaning::Launch))?;
    let mut context = launched.context.clone();
    if patient {
        context.need_patient_banner.get_or_insert(true);
    } else if launched.patient.is_some() {
        context.fhir_context.clear();
    }
    Some(context)
}

/// Whether a scope of that meaning was asked for and not granted.
fn unticked(request: &Request, kept: &[Scope], meaning: Meaning) -> bool {
    let has = |scopes: &[Scope]| scopes.iter().any(|s| s.meaning == meaning);
    has(&request.asked.scopes()) && !has(kept)
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

/// Goes on without the page, where the person need not be asked again. Answers with the way back to the app; none
/// where something changed meanwhile.
///
/// It is safe to do this for a GET: the code goes to a registered redirect of a confidential app, which gets
/// nothing that this person did not allow it before. That the answer is one the app waits for, its `state` says.
pub async fn allow_silently(
    app: &App,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    context: Context,
) -> Result<Option<String>, Problem> {
    allow(app, person, client, request, context, request.asked.scopes(), Answer::Remembered).await
}

/// How a person answered.
#[derive(Clone, Copy)]
enum Answer {
    /// On the page.
    Given { ticked: bool },
    /// Before.
    Remembered,
}

/// The grant, its code, and the way back to the app; none where something changed meanwhile.
async fn allow(
    app: &App,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    context: Context,
    scopes: Vec<Scope>,
    answer: Answer,
) -> Result<Option<String>, Problem> {
    let about_patient = scopes.iter().any(|s| s.is_at(Level::Patient) || s.meaning == Meaning::LaunchPatient);
    let about_visit = scopes.iter().any(|s| s.meaning == Meaning::LaunchEncounter);
    let asked = &request.asked;
    let by_launch = asked.launched.is_some() && !unticked(request, &scopes, Meaning::Launch);
    let tells_patient =
        about_patient || about_visit || by_launch && !unticked(request, &scopes, Meaning::LaunchPatient);
    let tells_visit =
        about_visit || by_launch && tells_patient && !unticked(request, &scopes, Meaning::LaunchEncounter);
    let about = context.patient.clone();
    let patient = context.patient.filter(|_| tells_patient);
    let now = app.now();
    let grant = Grant {
        id: app.chance.id_at(now),
        client: client.id.clone(),
        account: Some(person.account.id.clone()),
        encounter: context.encounter.filter(|_| tells_visit),
        context: context_told(request, &scopes, patient.is_some()),
        patient,
        audience: asked.audience.clone(),
        scope: scope::join(&scopes),
        session: Some(person.session.sid.clone()),
        signed_in: Some(person.session.signed_in),
        trace: request.trace.clone(),
        created: now,
        ended: None,
    };
    let code = Code {
        grant: grant.id.clone(),
        client: client.id.clone(),
        redirect_uri: asked.redirect_uri.clone(),
        challenge: asked.challenge.clone(),
        jkt: asked.dpop_jkt.clone(),
        nonce: asked.nonce.clone(),
        expires: Code::expiry(now),
        used: None,
    };
    let (id, chance, launched) = (request.id.clone(), app.chance.clone(), asked.launched.clone());
    let account = person.account.id.clone();
    let (asker, kept) = (client.clone(), request.clone());
    let issued = app
        .store
        .write(move |tx| {
            if !still_right(tx, &grant, &code.redirect_uri, now)? || !Request::answer(tx, &id, now)? {
                return Ok(Verdict::Rollback(None));
            }
            if let Some(launched) = launched {
                let event = Event::new(Kind::LaunchUsed, now).client(grant.client.clone());
                let event = event.account(account.clone()).patient(grant.patient.clone());
                if !launched.consume(tx, &grant.client, &account, now)? {
                    event.refused("used already").insert(tx)?;
                    return Ok(Verdict::Commit(Some(Err(launch::used_up()))));
                }
                event.grant(grant.id.clone()).insert(tx)?;
            }
            let consent = Event::new(Kind::Consent, now)
                .grant(grant.id.clone())
                .client(grant.client.clone())
                .account(grant.account.clone())
                .patient(grant.patient.clone());
            let patient = grant.patient.as_deref();
            let consent = match answer {
                Answer::Given { ticked } => {
                    let (account, about) = (account.as_str(), about.as_deref());
                    let decision = Decision { account, about, patient, granted: &scopes, ticked };
                    memory::decided(tx, &asker, &decision, now)?;
                    consent
                }
                Answer::Remembered if memory::holds(tx, &kept, &account, about.as_deref())? => {
                    consent.why("remembered")
                }
                Answer::Remembered => return Ok(Verdict::Rollback(None)),
            };
            grant.insert(tx)?;
            consent.insert(tx)?;
            code.issue(tx, &chance).map(|secret| Verdict::Commit(Some(Ok(secret))))
        })
        .await?;
    let code = match issued {
        None => return Ok(None),
        Some(Ok(code)) => code.reveal(),
        Some(Err(problem)) => {
            return Ok(Some(error_redirect(app, &asked.redirect_uri, asked.state.as_deref(), &problem)));
        }
    };
    let answer =
        [("code", Some(code.as_str())), ("state", asked.state.as_deref()), ("iss", Some(&app.issuer))];
    Ok(Some(redirect(&asked.redirect_uri, &answer)))
}

/// Whether app, redirect, session, person and their right to this record are still what the page was shown for.
fn still_right(tx: &Tx<'_>, grant: &Grant, redirect_uri: &str, now: Millis) -> Result<bool, DbError> {
    let client = Client::find(tx, &grant.client)?;
    let session = match &grant.session {
        Some(sid) => Session::is_live(tx, sid, now)?,
        None => false,
    };
    let redirects = client.is_some_and(|c| c.metadata.allows_redirect(redirect_uri));
    Ok(session && redirects && grant.person(tx, now)?.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

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
