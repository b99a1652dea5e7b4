//! `GET` and `POST /oauth/logout`: an app signs a person out (OpenID Connect RP-Initiated Logout 1.0).
//!
//! With an id_token of the very session that the browser is in, the person is signed out at once; else they are
//! asked. What is wrong is told on a page, and then nobody is signed out and nobody sent anywhere.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;

use crate::app::{App, Server};
use crate::error::{Code, Problem, forbidden, invalid_request};
use crate::events::{Event, Kind};
use crate::identity::session::Session;
use crate::jose::{Jws, PublicKey};
use crate::oauth::checks::LONGEST_STATE;
use crate::oauth::client::Client;
use crate::oauth::grant::Grant;
use crate::oauth::params::Params;
use crate::oauth::redirect;
use crate::store::db::Verdict;
use crate::web::answer::{self, see_other};
use crate::web::browser::{SignedIn, Visitor};
use crate::web::views::Logout;
use crate::web::{page, steps};

const HERE: &str = "/oauth/logout";
/// Where whoever stays signed in goes on.
const STAY: &str = "/account";
/// The parameters that matter; `logout_hint` and `ui_locales` are taken and change nothing.
const PARAMETERS: [&str; 4] = ["id_token_hint", "client_id", "post_logout_redirect_uri", "state"];

type Page = Result<Response, Problem>;

/// The endpoint by GET: the person's browser, sent here by an app.
pub async fn get(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let made: Page = async {
        let params = Params::parse(query.unwrap_or_default().as_bytes())?;
        let asked = Asked::read(&app, &params).await?;
        let visitor = Visitor::from_headers(&app, &headers).await?;
        let answer = leave_or_ask(&app, &asked, &visitor).await?;
        Ok(visitor.remember(&app, answer))
    }
    .await;
    made.unwrap_or_else(|problem| refused(&app, &problem))
}

/// The endpoint by POST: an app's form, or our own with the person's decision. The app's comes from another site
/// and so without the session's cookie (`SameSite=Lax`); the GET that follows brings it.
pub async fn post(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let made: Page = async {
        is_form(&headers)?;
        let params = Params::parse(&body)?;
        let asked = Asked::read(&app, &params).await?;
        let visitor = Visitor::from_headers(&app, &headers).await?;
        match &visitor.signed_in {
            Some(person) if params.all("decision").next().is_some() => {
                decided(&app, &asked, &visitor, person, &params).await
            }
            _ => {
                let mut kept = Vec::new();
                for name in PARAMETERS {
                    kept.push((name, params.one(name)?));
                }
                Ok(see_other(&answer::redirect(&app.url(HERE), &kept)))
            }
        }
    }
    .await;
    made.unwrap_or_else(|problem| refused(&app, &problem))
}

fn is_form(headers: &HeaderMap) -> Result<(), Problem> {
    let form = "application/x-www-form-urlencoded";
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if sent.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(form)) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("the body must be {form}")))
}

/// What an app asks for, after every check.
struct Asked {
    hint: Option<Hint>,
    /// The app, as far as it says who it is.
    client: Option<Client>,
    /// Where to send the person afterwards: one of the app's own addresses.
    redirect: Option<String>,
    state: Option<String>,
}

impl Asked {
    async fn read(server: &Server, params: &Params) -> Result<Asked, Problem> {
        let hint = match params.one("id_token_hint")? {
            Some(text) => Some(Hint::verified(server, text).await?),
            None => None,
        };
        let client_id = params.one("client_id")?;
        if let (Some(hint), Some(id)) = (&hint, client_id)
            && hint.client != id
        {
            let words = "`client_id` is not the app that `id_token_hint` was issued to";
            return Err(invalid_request(words).at("client_id").not_one_of(id, &[]));
        }
        let client = match client_id.or(hint.as_ref().map(|hint| hint.client.as_str())) {
            None => None,
            Some(id) => {
                let unknown = || {
                    let words = "no app is registered under this `client_id`";
                    invalid_request(words).at("client_id").not_one_of(id, &[])
                };
                Some(server.store.read(|tx| Client::find(tx, id))?.ok_or_else(unknown)?)
            }
        };
        let redirect = params.one("post_logout_redirect_uri")?.map(str::to_owned);
        if let Some(uri) = &redirect {
            may_redirect(server, client.as_ref(), uri)?;
        }
        let state = params.one("state")?.map(str::to_owned);
        if state.as_ref().is_some_and(|state| state.len() > LONGEST_STATE) {
            let words = format!("`state` is longer than {LONGEST_STATE} bytes");
            return Err(invalid_request(words).at("state").not_one_of("more than that", &[]));
        }
        Ok(Asked { hint, client, redirect, state })
    }

    /// Whether the app means the person and the session that are here.
    fn is_about(&self, person: &SignedIn) -> bool {
        self.hint.as_ref().is_some_and(|hint| {
            hint.subject == person.account.id && hint.sid.as_ref() == Some(&person.session.sid)
        })
    }

    fn client_id(&self) -> Option<String> {
        self.client.as_ref().map(|client| client.id.clone())
    }

    /// Where the person goes once nobody is signed in: back to the app, or to a page that says so.
    fn done(&self, server: &Server) -> Response {
        match (&self.redirect, &self.state) {
            (None, _) => signed_out(server),
            (Some(to), None) => see_other(to),
            (Some(to), state) => see_other(&answer::redirect(to, &[("state", state.as_deref())])),
        }
    }
}

fn may_redirect(server: &Server, client: Option<&Client>, uri: &str) -> Result<(), Problem> {
    let wrong = |words, known: &[String]| {
        Err(invalid_request(words).at("post_logout_redirect_uri").not_one_of(uri, known))
    };
    let Some(client) = client else {
        let words = "with `post_logout_redirect_uri` send `id_token_hint` or `client_id` too: only an app that is \
                     known can have people sent anywhere";
        return wrong(words, &[]);
    };
    let safe = server.policy.http_redirects || redirect::is_safe(uri);
    if safe && client.metadata.allows_post_logout_redirect(uri) {
        return Ok(());
    }
    let words = "this `post_logout_redirect_uri` is not registered for the app; it must be the same text, to the \
                 letter, as one of its `post_logout_redirect_uris`";
    wrong(words, &client.metadata.post_logout_redirect_uris)
}

/// What an id_token of ours says about whose session it came from. It may have expired long ago.
struct Hint {
    client: String,
    subject: String,
    sid: Option<String>,
}

impl Hint {
    async fn verified(server: &Server, text: &str) -> Result<Hint, Problem> {
        let wrong = |words: &str| {
            let received = format!("a text of {} characters", text.len());
            let words = format!("`id_token_hint` {words}; send an id_token as this server issued it");
            invalid_request(words).at("id_token_hint").not_one_of(&received, &[])
        };
        let jws = Jws::parse(text).map_err(wrong)?;
        if !is_signed_by_us(server, &jws).await? {
            return Err(wrong("is not signed by this server"));
        }
        // Logout tokens are signed with the same keys.
        if jws.header_text("typ") != Some("JWT") || jws.claims.contains_key("events") {
            return Err(wrong("is another token than an id_token"));
        }
        match (jws.text("iss"), jws.text("aud"), jws.text("sub")) {
            (Some(issuer), Some(client), Some(subject)) if issuer == server.issuer => Ok(Hint {
                client: client.to_owned(),
                subject: subject.to_owned(),
                sid: jws.text("sid").map(str::to_owned),
            }),
            _ => Err(wrong("names another issuer, or nobody")),
        }
    }
}

/// Whether one of our published keys made the signature: one that signs now, or one that did until lately.
async fn is_signed_by_us(server: &Server, jws: &Jws<'_>) -> Result<bool, Problem> {
    let failed = |e| Problem::new(Code::ServerError, "this server’s keys cannot be read now").because(e);
    let set = server.keys.jwks(server.now()).await.map_err(failed)?;
    let keys = set["keys"].as_array().into_iter().flatten();
    Ok(keys.filter_map(|jwk| PublicKey::from_jwk(jwk).ok()).any(|key| jws.is_signed_by(&key)))
}

async fn leave_or_ask(app: &App, asked: &Asked, visitor: &Visitor) -> Page {
    match &visitor.signed_in {
        Some(person) if !asked.is_about(person) => return ask(app, asked, visitor, person),
        Some(person) => {
            end(app, asked, person.session.sid.clone(), person.account.id.clone()).await?;
        }
        None => {
            // The session has run out, but was never ended: other apps do not know yet.
            if let (Some(hint), Some(cookie)) = (&asked.hint, visitor.session_cookie()) {
                let sid = app.store.read(|tx| Session::sid_of(tx, &cookie))?;
                if let Some(sid) = sid.filter(|sid| hint.sid.as_ref() == Some(sid)) {
                    end(app, asked, sid, hint.subject.clone()).await?;
                }
            }
        }
    }
    Ok(asked.done(app))
}

async fn decided(app: &App, asked: &Asked, visitor: &Visitor, person: &SignedIn, form: &Params) -> Page {
    if !visitor.may_post(app, HERE, form.one("csrf")?) {
        return Err(forbidden(
            "this page is out of date, or was opened in another browser; nobody was signed out, so go back, reload \
             it and try again",
        ));
    }
    end(app, asked, person.session.sid.clone(), person.account.id.clone()).await?;
    Ok(if asked.redirect.is_some() { asked.done(app) } else { see_other(HERE) })
}

async fn end(app: &App, asked: &Asked, sid: String, account: String) -> Result<(), Problem> {
    let now = app.now();
    let event = Event::new(Kind::SignOut, now).client(asked.client_id()).account(account);
    app.store
        .write(move |tx| {
            if Session::end(tx, &sid, now)? {
                event.insert(tx)?;
            }
            Ok(Verdict::Commit(()))
        })
        .await?;
    Ok(())
}

/// The page that asks.
fn ask(app: &App, asked: &Asked, visitor: &Visitor, person: &SignedIn) -> Page {
    let staying = app.store.read(|tx| {
        let mut names = Vec::new();
        for (grant, _) in Grant::connected(tx, &person.account.id, app.now())? {
            if let Some(client) = Client::find(tx, &grant.client)?.filter(|_| grant.outlives_sessions())
                && !names.contains(&client.metadata.client_name)
            {
                names.push(client.metadata.client_name);
            }
        }
        Ok(names)
    })?;
    let passed_on = [
        ("client_id", asked.client_id()),
        ("post_logout_redirect_uri", asked.redirect.clone()),
        ("state", asked.state.clone()),
    ];
    Ok(page::render(&Logout {
        shell: page::bare_shell(app),
        csrf: visitor.csrf(app, HERE),
        action: HERE.into(),
        stay: STAY.into(),
        app: asked.client.as_ref().map(|client| steps::app_view(app, client)),
        person: steps::person_view(person),
        somebody_else: asked.hint.is_some(),
        passed_on: passed_on.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).collect(),
        staying,
    }))
}

/// Whoever pressed "Sign out" in an app must not go away and believe it.
fn refused(server: &Server, problem: &Problem) -> Response {
    page::problem_for(server, problem, "You were not signed out.", page::link("Sign out here", HERE))
}

fn signed_out(server: &Server) -> Response {
    let lead = "Nobody is signed in at this browser. Apps that you allowed to stay connected still are, until you \
                disconnect them.";
    let links = vec![page::link("See and disconnect apps", STAY), page::link("To the start page", "/")];
    page::done(server, "You are signed out", lead, links)
}
