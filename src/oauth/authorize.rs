//! `GET` and `POST /oauth/authorize`: the authorization endpoint (RFC 6749 4.1.1; SMART App Launch 2.2,
//! "Obtain authorization code").
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
use oxide_auth::primitives::registrar::{BoundClient, ExactUrl, PreGrant, RegisteredUrl};
use std::borrow::Cow;

use super::checks;
use super::client::Client;
use super::consent as memory;
use super::exempt::{self, Exempt};
use super::params::Params;
use super::request::{Asked, Prompt, Request};
use super::step::{Context, Step};
use crate::app::{App, Server};
use crate::error::{Code, Problem, invalid_request};
use crate::events::{Event, Kind};
use crate::smart::launch::{self, Launch, Launched};
use crate::store::db::Verdict;
use crate::web::answer::{error_redirect, see_other};
use crate::web::browser::Visitor;
use crate::web::{consent, page, steps};

/// A refusal, and whether the app may be told.
enum Refusal {
    /// The app or its redirect is not to be trusted: a page.
    Page(Problem),
    /// Back to the app.
    Redirect(Box<Back>, Problem),
}

/// Where the app is told: its redirect URI, and the state to echo.
struct Back {
    to: String,
    state: Option<String>,
}

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
    let (client, mut asked) = check(app, &params)?;
    let (to, state) = (asked.redirect_uri.clone(), asked.state.clone());
    let back = |problem| Refusal::Redirect(Box::new(Back { to: to.clone(), state: state.clone() }), problem);
    if let Some(handle) = params.one("launch").map_err(back)? {
        asked.launched = Some(launched(app, &client, &asked, handle).await.map_err(back)?);
    }
    let visitor = Visitor::from_headers(app, headers).await.map_err(back)?;
    let request = Request::new(&client.id, asked.clone(), app.chance.id(), app.now(), &app.chance);
    let silent = asked.prompt.contains(&Prompt::None);
    let agreed =
        if silent { Some(without_a_page(app, &request, &client, &visitor).map_err(back)?) } else { None };
    let (id, kept) = (request.id.clone(), request.clone());
    let kept = app.store.write(move |tx| kept.insert(tx).map(|()| Verdict::Commit(()))).await;
    kept.map_err(|e| back(e.into()))?;
    if let Some(context) = agreed {
        let person = visitor.signed_in.as_ref().ok_or_else(|| back(nobody()))?;
        let code = consent::allow_silently(app, person, &client, &request, context).await.map_err(back)?;
        return code.ok_or_else(|| back(nobody()));
    }
    Ok(app.url(&format!("/oauth/authorize/{id}")))
}

/// The EHR launch that the app came with. A handle that is no good is never passed over: going on as a
/// standalone launch would open a record that nobody chose.
async fn launched(app: &App, client: &Client, asked: &Asked, handle: &str) -> Result<Launched, Problem> {
    let found = app.store.read(|tx| Launch::find(tx, handle))?.ok_or_else(launch::unknown)?;
    let (now, client, account) = (app.now(), client.id.clone(), found.account.clone());
    let Err(problem) = found.fits(&client, &asked.audience, now) else { return Ok(found.presented(handle)) };
    let event = Event::new(Kind::LaunchUsed, now).client(client).account(account);
    let event = event.refused(problem.words.to_string());
    app.store.write(move |tx| event.insert(tx).map(Verdict::Commit)).await?;
    Err(problem)
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

/// Runs the protocol machine: it asks for the client, the extensions and the scopes, in this order, and
/// every answer is one of our checks.
fn check(server: &Server, params: &Params) -> Result<(Client, Asked), Refusal> {
    let (client, redirect_uri) = known_app(server, params).map_err(Refusal::Page)?;
    // A repeated `state` is itself the mistake; none is echoed then.
    let state =
        params.one("state").ok().flatten().filter(|s| s.len() <= checks::LONGEST_STATE).map(str::to_owned);
    let back = |problem| {
        let back = Back { to: redirect_uri.clone(), state: state.clone() };
        Refusal::Redirect(Box::new(back), problem)
    };
    let mut asked = Asked {
        redirect_uri: redirect_uri.clone(),
        state: state.clone(),
        scope: String::new(),
        left_out: Vec::new(),
        audience: String::new(),
        challenge: None,
        nonce: None,
        prompt: Vec::new(),
        max_age: None,
        login_hint: None,
        launched: None,
    };
    for before in checks::BEFORE_SCOPES {
        before(params, &mut asked).map_err(back)?;
    }
    asked.max_age = asked.max_age.or(client.metadata.default_max_age);
    let words = checks::scope_words(params).map_err(back)?;
    let machine_request = Narrow { client: &client.id, redirect: &redirect_uri, words: &words, params };
    let mut machine = Authorization::new(&machine_request);
    let mut input = Input::None;
    loop {
        input = match machine.advance(input) {
            Output::Bind { client_id, redirect_uri: machine_redirect } => {
                let exact = machine_redirect.filter(|_| client_id == client.id);
                let redirect = exact.ok_or_else(|| back(machine_refused()))?;
                let bound_client = BoundClient {
                    client_id: Cow::Owned(client_id),
                    redirect_uri: Cow::Owned(RegisteredUrl::Exact(redirect)),
                };
                Input::Bound { request: &machine_request, bound_client }
            }
            Output::Extend => {
                let exempt = exempt::of(&client.metadata, &words, &server.policy);
                Input::Extended(pkce(params, &exempt, &mut asked).map_err(back)?)
            }
            Output::Negotiate { bound_client, scope } => {
                checks::negotiate(&client, &words, params, &mut asked).map_err(back)?;
                checks::audience(&server.fhir_base(), &server.userinfo(), params, &mut asked)
                    .map_err(back)?;
                let pre_grant = PreGrant {
                    client_id: bound_client.client_id.clone().into_owned(),
                    redirect_uri: bound_client.redirect_uri.clone().into_owned(),
                    scope: scope.ok_or_else(|| back(machine_refused()))?,
                };
                Input::Negotiated { pre_grant, state: asked.state.clone() }
            }
            Output::Ok { .. } => break,
            Output::Err(_) => return Err(back(machine_refused())),
        };
    }
    Ok((client, asked))
}

fn machine_refused() -> Problem {
    invalid_request("the request does not follow RFC 6749 4.1.1")
}

/// The part of a request that the protocol machine looks at.
struct Narrow<'a> {
    client: &'a str,
    redirect: &'a str,
    words: &'a [&'a str],
    params: &'a Params,
}

impl Machine for Narrow<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn client_id(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.client))
    }
    fn scope(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Owned(self.words.join(" ")))
    }
    fn redirect_uri(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.redirect))
    }
    fn state(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn response_type(&self) -> Option<Cow<'_, str>> {
        self.params.one("response_type").ok().flatten().map(Cow::Borrowed)
    }
    fn extension(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// The app exists and the redirect is one of its own: otherwise nothing may be sent there.
fn known_app(server: &Server, params: &Params) -> Result<(Client, String), Problem> {
    let client_id = params.one("client_id")?.ok_or_else(|| {
        invalid_request("`client_id` is missing; send the id you got when you registered").at("client_id")
    })?;
    let client = server.store.read(|tx| Client::find(tx, client_id))?.ok_or_else(|| {
        invalid_request(
            "no app is registered under this `client_id`; register it, or check that this is the server \
             you registered it at",
        )
        .at("client_id")
        .not_one_of(client_id, &[])
    })?;
    let redirect_uri = params.one("redirect_uri")?.ok_or_else(|| {
        invalid_request("`redirect_uri` is missing; SMART requires it even where only one is registered")
            .at("redirect_uri")
    })?;
    let fits = client.metadata.allows_redirect(redirect_uri)
        && policy_allows(server, redirect_uri)
        && redirect_uri.parse::<ExactUrl>().is_ok();
    if !fits {
        return Err(invalid_request(
            "this `redirect_uri` is not registered for the app; it must be the same text, to the letter, \
             as one of its registered redirect URIs",
        )
        .at("redirect_uri")
        .not_one_of(redirect_uri, &client.metadata.redirect_uris));
    }
    Ok((client, redirect_uri.to_owned()))
}

/// Policies hold at use, not only at registration: a database may have come from a laxer time.
fn policy_allows(server: &Server, redirect_uri: &str) -> bool {
    server.policy.http_redirects || super::redirect::is_safe(redirect_uri)
}

/// PKCE with S256 (RFC 7636 4.3), for every app that is not exempt; where it is sent, for those too.
fn pkce(params: &Params, exempt: &Exempt, asked: &mut Asked) -> Result<Extensions, Problem> {
    let wrong = |name, words: &'static str| invalid_request(words).at(name);
    let Some(challenge) = params.one("code_challenge")? else {
        return without_pkce(params, exempt).map(|()| Extensions::new());
    };
    match params.one("code_challenge_method")? {
        Some("S256") => {}
        None => {
            return Err(wrong(
                "code_challenge_method",
                "`code_challenge_method` is missing; send `code_challenge_method=S256`",
            ));
        }
        Some(_) => {
            return Err(wrong(
                "code_challenge_method",
                "`code_challenge_method` must be `S256`; `plain` protects nothing",
            ));
        }
    }
    if challenge.len() != 43
        || !challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(wrong(
            "code_challenge",
            "`code_challenge` must be the 43 base64url characters of a SHA-256, without padding",
        ));
    }
    let rule = Pkce::required();
    let method = Some(Cow::Borrowed("S256"));
    let encoded = rule.challenge(method, Some(Cow::Borrowed(challenge))).ok().flatten();
    let mut extensions = Extensions::new();
    extensions.set(&rule, encoded.ok_or_else(|| wrong("code_challenge", "`code_challenge` cannot be used"))?);
    asked.challenge = Some(challenge.to_owned());
    Ok(extensions)
}

/// A request that sends no challenge.
fn without_pkce(params: &Params, exempt: &Exempt) -> Result<(), Problem> {
    if let Exempt::No(hint) = exempt {
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        return Err(invalid_request(format!(
            "`code_challenge` is missing; SMART requires PKCE: send the base64url SHA-256 of a random \
             code_verifier, and `code_challenge_method=S256`{hint}"
        ))
        .at("code_challenge"));
    }
    if params.one("code_challenge_method")?.is_some() {
        let words = "`code_challenge_method` is sent, but no `code_challenge`; send both or neither";
        return Err(invalid_request(words).at("code_challenge"));
    }
    if *exempt == Exempt::SignIn && ["aud", "resource"].iter().any(|n| params.all(n).any(|v| !v.is_empty())) {
        let words = "`aud` asks for a token that opens records, which needs PKCE; leave `aud` out, or send \
                     `code_challenge` too";
        return Err(invalid_request(words).at("aud"));
    }
    Ok(())
}
