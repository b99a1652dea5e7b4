//! What an authorization request must fulfil, check by check (RFC 6749 4.1.1, OpenID Connect Core 3.1.2.1, SMART App
//! Launch 2.2), wherever it comes: in a browser's address, or pushed by the app (RFC 9126).

use super::client::Client;
use super::exempt;
use super::params::Params;
use super::redirect;
use super::request::{Asked, LeftOut, Prompt};
use crate::app::Server;
use crate::error::{Code, Problem, invalid_request, invalid_scope};
use crate::events::{Event, Kind};
use crate::smart::cover;
use crate::smart::launch::{self, Launch, Launched};
use crate::smart::scope::{self, Level, Meaning, Scope};
use crate::store::db::Verdict;

/// The longest `state` that is echoed.
pub const LONGEST_STATE: usize = 8 * 1024;
/// The longest of any other single value; only `scope` may be longer.
const LONGEST_VALUE: usize = 4 * 1024;

/// A refusal, and whether the app may be told through the browser.
pub enum Refusal {
    /// The app or its redirect is not to be trusted: a page.
    Page(Problem),
    /// Back to the app.
    Redirect(Box<Back>, Problem),
}

/// Where the app is told: its redirect URI, and the state to echo.
pub struct Back {
    /// The redirect URI.
    pub to: String,
    /// As it came.
    pub state: Option<String>,
}

impl Back {
    /// The refusal of a request that is this far trusted.
    pub fn with(to: &str, state: Option<&str>, problem: Problem) -> Refusal {
        Refusal::Redirect(Box::new(Back { to: to.to_owned(), state: state.map(str::to_owned) }), problem)
    }
}

impl Refusal {
    /// What was wrong, where the app asks by itself and is told in any case.
    pub fn into_problem(self) -> Problem {
        match self {
            Refusal::Page(problem) | Refusal::Redirect(_, problem) => problem,
        }
    }
}

/// Every check, in order: what is asked, and by which app.
pub async fn all(server: &Server, params: &Params) -> Result<(Client, Asked), Refusal> {
    let (client, redirect_uri) = known_app(server, params).map_err(Refusal::Page)?;
    // A repeated `state` is itself the mistake; none is echoed then.
    let state = params.one("state").ok().flatten().filter(|s| s.len() <= LONGEST_STATE);
    let mut asked = Asked::nothing(&redirect_uri, state);
    match fill(server, &client, params, &mut asked).await {
        Ok(()) => Ok((client, asked)),
        Err(problem) => Err(Back::with(&redirect_uri, state, problem)),
    }
}

async fn fill(server: &Server, client: &Client, params: &Params, asked: &mut Asked) -> Result<(), Problem> {
    for check in BEFORE_SCOPES {
        check(params, asked)?;
    }
    asked.max_age = asked.max_age.or(client.metadata.default_max_age);
    let words = scope_words(params)?;
    let exempt = exempt::of(&client.metadata, &words, &server.policy);
    asked.challenge = exempt::challenge(params, &exempt)?.map(str::to_owned);
    negotiate(client, &words, params, asked)?;
    audience(&server.fhir_base(), &server.userinfo(), params, asked)?;
    if let Some(handle) = params.one("launch")? {
        asked.launched = Some(launched(server, client, asked, handle).await?);
    }
    Ok(())
}

/// One check: it reads parameters and notes what was asked.
type Check = fn(&Params, &mut Asked) -> Result<(), Problem>;

/// What is checked before scopes are looked at, in this order.
const BEFORE_SCOPES: [Check; 7] = [
    each_parameter_once,
    no_value_is_endless,
    no_request_object,
    response_type_is_code,
    state_fits,
    openid_extras,
    key_fits,
];

/// The EHR launch that the app came with. A handle that is no good is never passed over: going on as a
/// standalone launch would open a record that nobody chose.
async fn launched(
    server: &Server,
    client: &Client,
    asked: &Asked,
    handle: &str,
) -> Result<Launched, Problem> {
    let found = server.store.read(|tx| Launch::find(tx, handle))?.ok_or_else(launch::unknown)?;
    let (now, client, account) = (server.now(), client.id.clone(), found.account.clone());
    let Err(problem) = found.fits(&client, &asked.audience, now) else { return Ok(found.presented(handle)) };
    let event = Event::new(Kind::LaunchUsed, now).client(client).account(account);
    let event = event.refused(problem.words.to_string());
    server.store.write(move |tx| event.insert(tx).map(Verdict::Commit)).await?;
    Err(problem)
}

/// The app exists and the redirect is one of its own: otherwise nothing may be sent there.
fn known_app(server: &Server, params: &Params) -> Result<(Client, String), Problem> {
    let client = client(server, params)?;
    let redirect_uri = params.one("redirect_uri")?.ok_or_else(|| {
        invalid_request("`redirect_uri` is missing; SMART requires it even where only one is registered")
            .at("redirect_uri")
    })?;
    if !may_redirect(server, &client, redirect_uri) {
        return Err(invalid_request(
            "this `redirect_uri` is not registered for the app; it must be the same text, to the letter, \
             as one of its registered redirect URIs",
        )
        .at("redirect_uri")
        .not_one_of(redirect_uri, &client.metadata.redirect_uris));
    }
    Ok((client, redirect_uri.to_owned()))
}

/// The app that `client_id` names.
pub fn client(server: &Server, params: &Params) -> Result<Client, Problem> {
    let client_id = params.one("client_id")?.ok_or_else(|| {
        invalid_request("`client_id` is missing; send the id you got when you registered").at("client_id")
    })?;
    server.store.read(|tx| Client::find(tx, client_id))?.ok_or_else(|| {
        invalid_request(
            "no app is registered under this `client_id`; register it, or check that this is the server \
             you registered it at",
        )
        .at("client_id")
        .not_one_of(client_id, &[])
    })
}

/// Whether a code may be sent there now: to the app's own redirect, and policies hold at use, not only at
/// registration, since a database may have come from a laxer time.
pub fn may_redirect(server: &Server, client: &Client, redirect_uri: &str) -> bool {
    client.metadata.allows_redirect(redirect_uri)
        && (server.policy.http_redirects || redirect::is_safe(redirect_uri))
        && url::Url::parse(redirect_uri).is_ok()
}

fn each_parameter_once(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    match params.repeated() {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(40).collect();
            Err(invalid_request(format!("`{shown}` is sent more than once; send it once")))
        }
    }
}

fn no_value_is_endless(params: &Params, _: &mut Asked) -> Result<(), Problem> {
    let own_limit = ["scope", "state", "client_assertion"];
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
        let words = "a pushed request holds the parameters themselves, not another `request_uri`";
        return Err(invalid_request(words).at("request_uri"));
    }
    Ok(())
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

/// `dpop_jkt` (RFC 9449 10): only the holder of that key is to exchange the code.
fn key_fits(params: &Params, asked: &mut Asked) -> Result<(), Problem> {
    asked.dpop_jkt = params.one("dpop_jkt")?.map(str::to_owned);
    if asked.dpop_jkt.as_deref().is_some_and(|jkt| !exempt::is_sha256(jkt)) {
        let words =
            "`dpop_jkt` must be the base64url SHA-256 thumbprint of the app's key (RFC 7638), 43 characters";
        return Err(invalid_request(words).at("dpop_jkt"));
    }
    Ok(())
}

/// The scopes asked for, word by word.
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

/// Keeps the scopes that are understood and registered, as asked and in that order; says why of the others.
fn negotiate(client: &Client, words: &[&str], params: &Params, asked: &mut Asked) -> Result<(), Problem> {
    let from_ehr = params.one("launch")?.is_some();
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
        match cannot_be_granted(&scope, words, from_ehr, &registered) {
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
    // Without `state` it is PKCE alone that ties the answer to the app's own request.
    let bound = kept.iter().all(Scope::is_identity) && asked.challenge.is_some();
    if asked.state.is_none() && !bound {
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
fn cannot_be_granted(
    scope: &Scope,
    words: &[&str],
    from_ehr: bool,
    registered: &[Scope],
) -> Option<&'static str> {
    if scope.is_at(Level::System) {
        return Some("system scopes are for backend services, not for a person to grant");
    }
    if scope.meaning == Meaning::Launch && !from_ehr {
        return Some("this is not a launch from an EHR: no `launch` parameter was sent");
    }
    if scope.is_identity() && scope.meaning != Meaning::OpenId && !words.contains(&"openid") {
        return Some("it is told in the id_token, which needs `openid` too");
    }
    if cover::covers(registered, scope) {
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

/// `aud`, or RFC 8707's `resource`: needed wherever the token is to open FHIR. `base` is P/fhir, `userinfo` what a
/// plain sign-in is good at.
fn audience(base: &str, userinfo: &str, params: &Params, asked: &mut Asked) -> Result<(), Problem> {
    let named: Vec<&str> =
        params.all("aud").chain(params.all("resource")).filter(|value| !value.is_empty()).collect();
    let is_ours = |url: &&str| url.strip_suffix('/').unwrap_or(url) == base;
    if let Some(other) = named.iter().find(|url| !is_ours(url)) {
        let shown: String = other.chars().take(200).collect();
        let words = format!("`aud` names {shown}, but this server guards {base}; send `aud={base}`");
        return Err(invalid_request(words).at("aud"));
    }
    let from_ehr = params.one("launch")?.is_some();
    let opens_fhir = from_ehr
        || asked.scopes().iter().any(|s| {
            s.resource().is_some()
                || matches!(s.meaning, Meaning::LaunchPatient | Meaning::LaunchEncounter | Meaning::Launch)
        });
    if named.is_empty() && opens_fhir {
        return Err(invalid_request(format!(
            "`aud` is missing; send the FHIR base the token is for: `aud={base}`"
        ))
        .at("aud"));
    }
    asked.audience = if named.is_empty() { userinfo.to_owned() } else { base.to_owned() };
    Ok(())
}
