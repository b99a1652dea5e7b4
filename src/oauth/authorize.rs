//! `GET` and `POST /oauth/authorize`: the authorization endpoint (RFC 6749 4.1.1; SMART App Launch 2.2,
//! "Obtain authorization code"; RFC 9126 4).
//!
//! A short list of checks in a fixed order. What is wrong with app or redirect is told on a page; all else
//! goes back to the app. A request that passes is kept, and the browser sent to its page.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use oxide_auth::code_grant::authorization::{Authorization, Input, Output, Request as Machine};
use oxide_auth::code_grant::extensions::Pkce;
use oxide_auth::primitives::grant::Extensions;
use oxide_auth::primitives::registrar::{BoundClient, PreGrant, RegisteredUrl};
use std::borrow::Cow;

use super::checks::{self, Back, Refusal};
use super::client::Client;
use super::consent as memory;
use super::params::Params;
use super::pushed::{self, Pushed};
use super::request::{Asked, Prompt, Request};
use super::step::{Context, Step};
use crate::app::{App, Server};
use crate::clock::Millis;
use crate::error::{Code, Problem, invalid_request};
use crate::store::db::{DbError, Tx, Verdict};
use crate::web::answer::{error_redirect, see_other};
use crate::web::browser::Visitor;
use crate::web::{allow, page, steps};

/// The endpoint by GET.
pub async fn get(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    authorize(&app, query.unwrap_or_default().as_bytes(), &headers).await
}

/// The endpoint by POST (`authorize-post`). Such a request may come without cookies, from another site.
pub async fn post(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let form = "application/x-www-form-urlencoded";
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !sent.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(form)) {
        let words = format!("the body must be {form}");
        return page::problem(&app, &Problem::new(Code::UnsupportedMediaType, words));
    }
    authorize(&app, &body, &headers).await
}

async fn authorize(app: &App, raw: &[u8], headers: &HeaderMap) -> Response {
    let refusal = match accept(app, raw, headers).await {
        Ok(location) => return see_other(&location),
        Err(refusal) => refusal,
    };
    match refusal {
        Refusal::Page(problem) => page::problem(app, &problem),
        Refusal::Redirect(back, problem) => {
            see_other(&error_redirect(app, &back.to, back.state.as_deref(), &problem))
        }
    }
}

async fn accept(app: &App, raw: &[u8], headers: &HeaderMap) -> Result<String, Refusal> {
    let params = Params::parse(raw).map_err(Refusal::Page)?;
    let (client, asked, pushed) = asked(app, &params).await?;
    let back = |problem| Back::with(&asked.redirect_uri, asked.state.as_deref(), problem);
    if !machine_agrees(&client, &asked) {
        return Err(back(invalid_request("the request does not follow RFC 6749 4.1.1")));
    }
    let visitor = Visitor::from_headers(app, headers).await.map_err(back)?;
    let now = app.now();
    let request = Request::new(&client.id, asked.clone(), app.chance.id(), now, &app.chance);
    let silent =
        asked.prompt.contains(&Prompt::None).then(|| without_a_page(app, &request, &client, &visitor));
    let kept = (!matches!(silent, Some(Err(_)))).then(|| request.clone());
    let kept = app.store.write(move |tx| keep(tx, pushed.as_ref(), kept.as_ref(), now)).await;
    kept.map_err(|e| back(e.into()))??;
    let Some(context) = silent else { return Ok(app.url(&format!("/oauth/authorize/{}", request.id))) };
    let context = context.map_err(back)?;
    let person = visitor.signed_in.as_ref().ok_or_else(|| back(nobody()))?;
    let code = allow::silently(app, person, &client, &request, context).await.map_err(back)?;
    code.ok_or_else(|| back(nobody()))
}

/// Uses up what was pushed, and keeps the request that waits for its person.
fn keep(
    tx: &Tx<'_>,
    pushed: Option<&Pushed>,
    request: Option<&Request>,
    now: Millis,
) -> Result<Verdict<Result<(), Refusal>>, DbError> {
    if let Some(pushed) = pushed
        && !pushed.consume(tx, now)?
    {
        return Ok(Verdict::Rollback(Err(Refusal::Page(pushed::used()))));
    }
    if let Some(request) = request {
        request.insert(tx)?;
    }
    Ok(Verdict::Commit(Ok(())))
}

/// What is asked, and by which app: here and now, or in a request that the app has pushed before.
async fn asked(server: &Server, params: &Params) -> Result<(Client, Asked, Option<Pushed>), Refusal> {
    if params.all("request_uri").any(|uri| !uri.is_empty()) {
        let (client, pushed) = find_pushed(server, params).map_err(Refusal::Page)?;
        return Ok((client, pushed.asked.clone(), Some(pushed)));
    }
    let (client, asked) = checks::all(server, params).await?;
    if client.metadata.require_pushed_authorization_requests {
        let words = "the app is registered with `require_pushed_authorization_requests`; push the request to \
                     /oauth/par, and send `client_id` and the `request_uri` of its answer here";
        return Err(Back::with(&asked.redirect_uri, asked.state.as_deref(), invalid_request(words)));
    }
    Ok((client, asked, None))
}

/// The request that was pushed here under this `request_uri`, by this app. Nothing else in the address counts
/// (RFC 9101 5), and nothing is ever fetched.
fn find_pushed(server: &Server, params: &Params) -> Result<(Client, Pushed), Problem> {
    if params.one("request")?.is_some() {
        return Err(invalid_request("send `request_uri` or `request`, not both").at("request"));
    }
    let uri = params.one("request_uri")?.unwrap_or_default();
    let client = checks::client(server, params)?;
    let now = server.now();
    let pushed = server.store.read(|tx| Pushed::find(tx, uri, &client.id, now))??;
    if !checks::may_redirect(server, &client, &pushed.asked.redirect_uri) {
        let words = "the app no longer has the redirect URI that was pushed; push the request again";
        return Err(invalid_request(words).at("redirect_uri"));
    }
    Ok((client, pushed))
}

fn nobody() -> Problem {
    Problem::new(Code::LoginRequired, "nobody is signed in, and `prompt=none` forbids asking")
}

/// `prompt=none` (OpenID Connect Core 3.1.2.6): what the grant would be about, where nobody need be asked.
fn without_a_page(
    app: &App,
    request: &Request,
    client: &Client,
    visitor: &Visitor,
) -> Result<Context, Problem> {
    let present = visitor.signed_in.as_ref().map(steps::present);
    let must = |words| Problem::new(Code::InteractionRequired, words);
    Err(match app.store.read(|tx| memory::next(tx, request, client, present))? {
        Step::Done(context) => return Ok(context),
        Step::SignIn => nobody(),
        Step::SwitchPerson => Problem::new(
            Code::LoginRequired,
            "somebody else launched the app, and `prompt=none` forbids asking for them",
        ),
        Step::RecordClosed => {
            Problem::new(Code::AccessDenied, "the person may no longer open this patient's record")
        }
        Step::ChoosePatient => must("a patient must be chosen, and `prompt=none` forbids asking"),
        Step::ChooseEncounter { .. } => must("a visit must be chosen, and `prompt=none` forbids asking"),
        Step::Consent(_) => {
            Problem::new(Code::ConsentRequired, "the person must agree, and `prompt=none` forbids asking")
        }
    })
}

/// The part of a request that the protocol machine looks at.
struct Narrow<'a> {
    client: &'a str,
    asked: &'a Asked,
}

impl Machine for Narrow<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn client_id(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.client))
    }
    fn scope(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.asked.scope))
    }
    fn redirect_uri(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.asked.redirect_uri))
    }
    fn state(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn response_type(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("code"))
    }
    fn extension(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// Runs the protocol machine over what our own checks found good: client, redirect, PKCE and scope once more,
/// by other hands than ours. No request is kept where it disagrees.
fn machine_agrees(client: &Client, asked: &Asked) -> bool {
    let request = Narrow { client: &client.id, asked };
    let mut machine = Authorization::new(&request);
    let mut input = Input::None;
    loop {
        input = match machine.advance(input) {
            Output::Bind { client_id, redirect_uri } => {
                let Some(redirect) = redirect_uri.filter(|_| client_id == client.id) else { return false };
                let bound_client = BoundClient {
                    client_id: Cow::Owned(client_id),
                    redirect_uri: Cow::Owned(RegisteredUrl::Exact(redirect)),
                };
                Input::Bound { request: &request, bound_client }
            }
            Output::Extend => {
                let mut extensions = Extensions::new();
                if let Some(challenge) = &asked.challenge {
                    let rule = Pkce::required();
                    let method = Some(Cow::Borrowed("S256"));
                    match rule.challenge(method, Some(Cow::Borrowed(challenge))) {
                        Ok(Some(encoded)) => extensions.set(&rule, encoded),
                        _ => return false,
                    }
                }
                Input::Extended(extensions)
            }
            Output::Negotiate { bound_client, scope } => {
                let Some(scope) = scope else { return false };
                let pre_grant = PreGrant {
                    client_id: bound_client.client_id.clone().into_owned(),
                    redirect_uri: bound_client.redirect_uri.clone().into_owned(),
                    scope,
                };
                Input::Negotiated { pre_grant, state: None }
            }
            Output::Ok { .. } => return true,
            Output::Err(_) => return false,
        };
    }
}
