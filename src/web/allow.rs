//! What a person allowed becomes a grant, its code, and the way back to the app.

use super::answer::{error_redirect, redirect};
use super::browser::SignedIn;
use crate::app::App;
use crate::clock::Millis;
use crate::error::Problem;
use crate::events::{Event, Kind};
use crate::identity::session::Session;
use crate::oauth::client::Client;
use crate::oauth::code::Code;
use crate::oauth::consent::{self as memory, Decision};
use crate::oauth::grant::Grant;
use crate::oauth::request::Request;
use crate::oauth::step::Context;
use crate::smart::launch::{self, LaunchContext};
use crate::smart::scope::{self, Level, Meaning, Scope};
use crate::store::db::{DbError, Tx, Verdict};

/// Goes on without the page, where the person need not be asked again. Answers with the way back to the app; none
/// where something changed meanwhile.
///
/// It is safe to do this for a GET: the code goes to a registered redirect of a confidential app, which gets
/// nothing that this person did not allow it before. That the answer is one the app waits for, its `state` says.
pub async fn silently(
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
pub enum Answer {
    /// On the page.
    Given {
        /// With "do not ask again" ticked.
        ticked: bool,
    },
    /// Before.
    Remembered,
}

/// The grant, its code, and the way back to the app; none where something changed meanwhile.
pub async fn allow(
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
