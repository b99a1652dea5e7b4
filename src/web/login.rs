//! Who are you? The sign-in page, and the form it posts.

use axum::response::Response;

use super::answer::{self, see_other};
use super::browser::{Caller, Visitor, begin_session};
use super::page;
use super::views::{Face, Login, Person, Signer, Switch};
use crate::app::App;
use crate::config::SANDBOX_PASSWORD;
use crate::crypto::same;
use crate::error::Problem;
use crate::events::{Event, Kind};
use crate::identity::account::Account;
use crate::identity::newcomer;
use crate::identity::session::Session;
use crate::limits::Door;
use crate::oauth::client::Client;
use crate::oauth::params::Params;
use crate::store::db::Verdict;

/// Where a sign-in page stands: at a request on its way, or at a page of the person's own.
pub struct Place<'a> {
    /// What its form token is tied to.
    pub page: &'a str,
    /// Where its forms post to.
    pub action: &'a str,
    /// The app that asks, if one does.
    pub client: Option<&'a Client>,
    /// Whom the app expects.
    pub expected: Option<&'a str>,
    /// Who launched the app, where that is somebody else than is signed in.
    pub wanted: Option<&'a str>,
    /// Where whoever is signed in already can go on, if that is allowed.
    pub stay: Option<&'a str>,
}

/// The page; `error` stands above the form, and `username` is kept in it.
pub fn show(
    app: &App,
    visitor: &Visitor,
    place: &Place<'_>,
    username: &str,
    error: Option<&str>,
) -> Result<Response, Problem> {
    let people = if app.policy.shared_password { app.store.read(Account::own_people)? } else { Vec::new() };
    let typed = if username.is_empty() { place.expected.unwrap_or("") } else { username };
    let page = Login {
        shell: if place.client.is_some() { page::bare_shell(app) } else { page::shell(app, "") },
        csrf: visitor.csrf(app, place.page),
        action: place.action.to_owned(),
        cancel: place.client.map(|_| place.action.to_owned()),
        app: place.client.map(|client| super::steps::app_view(app, client)),
        switch: visitor.signed_in.as_ref().map(|s| Switch {
            now: s.account.name.clone(),
            wanted: place.wanted.map(str::to_owned),
            stay: place.stay.map(str::to_owned),
        }),
        error: error.map(str::to_owned),
        username: typed.to_owned(),
        people: people.into_iter().map(signer).collect(),
        shared_word: SANDBOX_PASSWORD.into(),
    };
    Ok(page::render(&page))
}

/// A person of the sandbox, to sign in as.
pub fn signer(account: Account) -> Signer {
    Signer {
        username: account.username,
        person: Person { face: Face::of(&account.name), name: account.name, about: account.about },
    }
}

/// The form: who it is. A right answer begins a session, ends that of somebody else, and leads to `next`;
/// a wrong one shows the page again. Whoever tries too often waits; nobody's account is locked by that.
pub async fn sign_in(
    app: &App,
    caller: Caller,
    visitor: &Visitor,
    place: &Place<'_>,
    form: &Params,
    next: &str,
) -> Result<Response, Problem> {
    let typed = form.one("username")?.unwrap_or_default().trim().to_owned();
    // The cards of the sandbox's people carry no password: it is printed beside them.
    let card = form.one("person")?.filter(|_| app.policy.shared_password).map(str::to_owned);
    let password = form.one("password")?.unwrap_or_default();
    let proven = card.is_some()
        || (app.policy.shared_password && same(password.as_bytes(), SANDBOX_PASSWORD.as_bytes()));
    let username = card.unwrap_or_else(|| typed.clone());
    // The sandbox's word is no secret: only wrong ones are counted, and whoever has many launches goes on.
    if !proven && let Err(wait) = slow_down(app, caller, &username) {
        let mut answer = show(app, visitor, place, &typed, Some(&page::sentence(&wait.words)))?;
        *answer.status_mut() = answer::status(&wait);
        return Ok(answer::with_wait(&wait, answer));
    }
    let (now, chance) = (app.now(), app.chance.clone());
    let client_id = place.client.map(|client| client.id.clone());
    let old_cookie = visitor.session_cookie();
    let secret = app
        .store
        .write(move |tx| {
            let event = Event::new(Kind::SignIn, now).client(client_id);
            let account = if proven { newcomer::account_named(tx, &username, now, &chance)? } else { None };
            let Some(account) = account.filter(|a| !a.disabled) else {
                event.refused("no such person, a wrong password, or shut out").insert(tx)?;
                return Ok(Verdict::Commit(None));
            };
            let secret = Session::sign_in(tx, old_cookie.as_deref(), &account.id, now, &chance)?;
            event.account(account.id).insert(tx)?;
            Ok(Verdict::Commit(Some(secret)))
        })
        .await?;
    match secret {
        Some(secret) => Ok(begin_session(app, see_other(next), secret)),
        None if app.policy.shared_password => {
            let words = format!(
                "This username and password do not go together. In this sandbox everybody’s password \
                 is “{SANDBOX_PASSWORD}”, and the username may also be the id of any Patient or Practitioner."
            );
            show(app, visitor, place, &typed, Some(&words))
        }
        None => show(app, visitor, place, &typed, Some("This username and password do not go together.")),
    }
}

/// Counts a try at a password, by address, and by address and account.
fn slow_down(app: &App, caller: Caller, username: &str) -> Result<(), Problem> {
    app.limits.admit(Door::SignIn, caller.0, "")?;
    app.limits.admit(Door::Account, caller.0, username)
}
