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
use oxide_auth::primitives::grant::{Extensions, GrantExtension};
use oxide_auth::primitives::registrar::{BoundClient, ExactUrl, PreGrant, RegisteredUrl};
use std::borrow::Cow;

use super::client::Client;
use super::params::Params;
use super::request::{Asked, LeftOut, Prompt, Request};
use super::step::{self, Present, Step};
use crate::app::{App, Server};
use crate::error::{Code, Problem, invalid_request, invalid_scope};
use crate::smart::scope::{self, Level, Meaning, Scope};
use crate::store::db::Verdict;
use crate::web::answer::{error_redirect, see_other};
use crate::web::browser::Visitor;
use crate::web::page;

/// The longest `state` that is echoed.
const LONGEST_STATE: usize = 8 * 1024;
/// The longest of any other single value; only `scope` may be longer.
const LONGEST_VALUE: usize = 4 * 1024;

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
    let (client, asked) = check(app, &params)?;
    let back = |problem| {
        let back = Back { to: asked.redirect_uri.clone(), state: asked.state.clone() };
        Refusal::Redirect(Box::new(back), problem)
    };
    let visitor = Visitor::from_headers(app, headers).await.map_err(back)?;
    let request = Request::new(&client.id, asked.clone(), app.chance.id(), app.now(), &app.chance);
    if asked.prompt.contains(&Prompt::None) {
        return Err(back(without_a_page(&request, &visitor)));
    }
    let id = request.id.clone();
    let kept = app.store.write(move |tx| request.insert(tx).map(|()| Verdict::Commit(()))).await;
    kept.map_err(|e| back(e.into()))?;
    Ok(app.url(&format!("/oauth/authorize/{id}")))
}

/// `prompt=none` (OpenID Connect Core 3.1.2.6). A launch always asks for consent here, so that even a
/// signed-in person has a page to see.
fn without_a_page(request: &Request, visitor: &Visitor) -> Problem {
    let present = visitor.signed_in.as_ref().map(|s| Present {
        account: &s.account,
        acts_for: &s.acts_for,
        signed_in: s.session.signed_in,
    });
    let (code, words) = match step::next(request, present) {
        Step::SignIn => (Code::LoginRequired, "nobody is signed in, and `prompt=none` forbids asking"),
        Step::ChoosePatient => {
            (Code::InteractionRequired, "a patient must be chosen, and `prompt=none` forbids asking")
        }
        Step::ChooseEncounter { .. } => {
            (Code::InteractionRequired, "a visit must be chosen, and `prompt=none` forbids asking")
        }
        Step::Consent(_) => {
            (Code::ConsentRequired, "the person must agree, and `prompt=none` forbids asking")
        }
    };
    Problem::new(code, words)
}

/// Runs the protocol machine: it asks for the client, the extensions and the scopes, in this order, and
/// every answer is one of our checks.
fn check(server: &Server, params: &Params) -> Result<(Client, Asked), Refusal> {
    let (client, redirect_uri) = known_app(server, params).map_err(Refusal::Page)?;
    // A repeated `state` is itself the mistake; none is echoed then.
    let state = params.one("state").ok().flatten().filter(|s| s.len() <= LONGEST_STATE).map(str::to_owned);
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
    };
    for before in BEFORE_SCOPES {
        before(params, &mut asked).map_err(back)?;
    }
    let words = scope_words(params).map_err(back)?;
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
            Output::Extend => Input::Extended(pkce(params, &mut asked).map_err(back)?),
            Output::Negotiate { bound_client, scope } => {
                negotiate(&client, &words, &mut asked).map_err(back)?;
                audience(server, params, &mut asked).map_err(back)?;
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
    server.policy.http_redirects || super::registration::is_safe_redirect(redirect_uri)
}

type Check = fn(&Params, &mut Asked) -> Result<(), Problem>;

/// What is checked before scopes are looked at, in this order.
const BEFORE_SCOPES: [Check; 7] = [
    each_parameter_once,
    no_value_is_endless,
    no_request_object,
    no_foreign_launch,
    response_type_is_code,
    state_fits,
    openid_extras,
];

fn each_parameter_once(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    // `resource` may stand several times (RFC 8707); what it says is compared below.
    match params.iter().map(|(n, _)| n).find(|n| *n != "resource" && params.all(n).nth(1).is_some()) {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(40).collect();
            Err(invalid_request(format!("`{shown}` is sent more than once; send it once")))
        }
    }
}

fn no_value_is_endless(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    let own_limit = ["scope", "state"];
    match params.iter().find(|(n, v)| !own_limit.contains(n) && v.len() > LONGEST_VALUE) {
        None => Ok(()),
        Some(_) => Err(invalid_request(format!("a parameter is longer than {LONGEST_VALUE} bytes"))),
    }
}

fn no_request_object(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    if params.one("request")?.is_some() {
        let words = "request objects are not supported; send the parameters themselves";
        return Err(Problem::new(Code::RequestNotSupported, words).at("request"));
    }
    if params.one("request_uri")?.is_some() {
        let words =
            "this `request_uri` was not issued here, and none is fetched; send the parameters themselves";
        return Err(Problem::new(Code::InvalidRequestUri, words).at("request_uri"));
    }
    Ok(())
}

/// No EHR launches begin here yet, so whatever `launch` holds was not issued by this server. Going on as if it
/// were a standalone launch would open a record that nobody chose.
fn no_foreign_launch(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    match params.one("launch")? {
        None => Ok(()),
        Some(_) => Err(invalid_request(
            "this `launch` was not issued by this server; leave it out to begin a standalone launch",
        )
        .at("launch")),
    }
}

fn response_type_is_code(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    match params.one("response_type")? {
        Some("code") => Ok(()),
        None => {
            Err(invalid_request("`response_type` is missing; send `response_type=code`").at("response_type"))
        }
        Some(_) => Err(Problem::new(
            Code::UnsupportedResponseType,
            "only `response_type=code` is supported; tokens never pass through the browser",
        )
        .at("response_type")),
    }
}

fn state_fits(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    match params.one("state")? {
        Some(state) if state.len() > LONGEST_STATE => {
            Err(invalid_request(format!("`state` is longer than {LONGEST_STATE} bytes")).at("state"))
        }
        _ => Ok(()),
    }
}

/// `nonce`, `prompt`, `max_age` and `login_hint` of OpenID Connect Core 3.1.2.1.
fn openid_extras(params: &Params, asked: &mut Asked) -> Result<(), Problem> {
    asked.nonce = params.one("nonce")?.map(str::to_owned);
    asked.login_hint = params.one("login_hint")?.map(str::to_owned);
    for word in params.one("prompt")?.unwrap_or_default().split_ascii_whitespace() {
        asked.prompt.push(match word {
            "none" => Prompt::None,
            "login" => Prompt::Login,
            "consent" => Prompt::Consent,
            "select_account" => Prompt::SelectAccount,
            _ => {
                let words = "`prompt` may hold `none`, `login`, `consent` and `select_account`";
                return Err(invalid_request(words).at("prompt"));
            }
        });
    }
    if asked.prompt.contains(&Prompt::None) && asked.prompt.len() > 1 {
        return Err(invalid_request("`prompt=none` cannot stand with another prompt").at("prompt"));
    }
    if let Some(text) = params.one("max_age")? {
        let seconds = text.parse().ok().filter(|s| (0..=i64::from(u32::MAX)).contains(s));
        let wrong = || invalid_request("`max_age` must be a number of seconds, 0 or more").at("max_age");
        asked.max_age = Some(seconds.ok_or_else(wrong)?);
    }
    Ok(())
}

fn scope_words(params: &Params) -> Result<Vec<&str>, Problem> {
    let words = scope::split(params.one("scope")?.unwrap_or_default())?;
    if words.is_empty() {
        return Err(invalid_scope(
            "`scope` is missing; ask for what the app needs, such as \
                                  `openid fhirUser launch/patient patient/*.rs`",
        )
        .at("scope"));
    }
    Ok(words)
}

/// PKCE with S256, for every app (RFC 7636 4.3).
fn pkce(params: &Params, asked: &mut Asked) -> Result<Extensions, Problem> {
    let wrong = |name, words: &'static str| invalid_request(words).at(name);
    let challenge = params.one("code_challenge")?.ok_or_else(|| {
        wrong(
            "code_challenge",
            "`code_challenge` is missing; SMART requires PKCE: send the base64url SHA-256 of a \
                                 random code_verifier, and `code_challenge_method=S256`",
        )
    })?;
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
    debug_assert_eq!(rule.identifier(), "pkce");
    Ok(extensions)
}

/// Keeps the scopes that are understood and registered, as asked and in that order; says why of the others.
fn negotiate(client: &Client, words: &[&str], asked: &mut Asked) -> Result<(), Problem> {
    let registered = client.metadata.scopes();
    let mut kept: Vec<Scope> = Vec::new();
    for word in words {
        let scope = match Scope::parse(word) {
            Ok(scope) => scope,
            Err(not) => {
                asked.left_out.push(LeftOut { scope: (*word).to_owned(), why: not.why, meant: not.meant });
                continue;
            }
        };
        match cannot_be_granted(&scope, words, &registered) {
            None => kept.push(scope),
            Some(why) => {
                asked.left_out.push(LeftOut { scope: scope.text, why: why.to_owned(), meant: None });
            }
        }
    }
    if kept.is_empty() {
        let reasons: Vec<String> = asked.left_out.iter().take(5).map(explain).collect();
        return Err(invalid_scope(format!(
            "nothing that was asked for can be granted: {}",
            reasons.join("; ")
        ))
        .at("scope"));
    }
    asked.scope = scope::join(&kept);
    let identity_only = kept.iter().all(Scope::is_identity);
    if asked.state.is_none() && !identity_only {
        return Err(invalid_request(
            "`state` is missing; send a random one, and compare it when it comes back",
        )
        .at("state"));
    }
    Ok(())
}

/// One scope that was left out, in a sentence.
fn explain(left_out: &LeftOut) -> String {
    let shown: String = left_out.scope.chars().take(80).collect();
    match &left_out.meant {
        Some(meant) => format!("`{shown}`: {} (did you mean `{meant}`?)", left_out.why),
        None => format!("`{shown}`: {}", left_out.why),
    }
}

/// Why an understood scope still cannot be granted.
fn cannot_be_granted(scope: &Scope, words: &[&str], registered: &[Scope]) -> Option<&'static str> {
    if scope.is_at(Level::System) {
        return Some("system scopes are for backend services, not for a person to grant");
    }
    if scope.meaning == Meaning::Launch {
        return Some("this is not a launch from an EHR: no `launch` parameter was sent");
    }
    if scope.is_identity() && scope.meaning != Meaning::OpenId && !words.contains(&"openid") {
        return Some("it is told in the id_token, which needs `openid` too");
    }
    if scope::covers(registered, scope) {
        return None;
    }
    Some(match scope.meaning {
        Meaning::OfflineAccess | Meaning::OnlineAccess => {
            "the app is not registered for it: refresh tokens must be enabled at registration \
             (`grant_types` with `refresh_token`) and the scope be among the app's scopes"
        }
        _ => "the app is not registered for it; add it to the app's scopes",
    })
}

/// `aud`, or RFC 8707's `resource`: needed wherever the token is to open FHIR.
fn audience(server: &Server, params: &Params, asked: &mut Asked) -> Result<(), Problem> {
    let base = server.fhir_base();
    let named: Vec<&str> =
        params.all("aud").chain(params.all("resource")).filter(|value| !value.is_empty()).collect();
    let is_ours = |url: &&str| url.strip_suffix('/').unwrap_or(url) == base;
    if let Some(other) = named.iter().find(|url| !is_ours(url)) {
        let shown: String = other.chars().take(200).collect();
        let words = format!("`aud` names {shown}, but this server guards {base}; send `aud={base}`");
        return Err(invalid_request(words).at("aud"));
    }
    let opens_fhir = asked.scopes().iter().any(|s| {
        s.resource().is_some()
            || matches!(s.meaning, Meaning::LaunchPatient | Meaning::LaunchEncounter | Meaning::Launch)
    });
    if named.is_empty() && opens_fhir {
        return Err(invalid_request(format!(
            "`aud` is missing; send the FHIR base the token is for: `aud={base}`"
        ))
        .at("aud"));
    }
    asked.audience = if named.is_empty() { server.userinfo() } else { base };
    Ok(())
}
