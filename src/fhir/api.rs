//! `P/fhir`, the protected FHIR R4 endpoint, and `P/open/fhir`, its open twin in the sandbox
//! (FHIR R4 "RESTful API"; SMART App Launch 2.2, "Access FHIR API").

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::access::{self, Denied, Holder, Interaction, Reach, Sees};
use super::definitions;
use super::operand::Context;
use super::query::{self, Query, Unknown};
use super::resource::{self, Resource};
use super::search::{self, Cursors, Search};
use crate::app::{App, Server};
use crate::clock::Millis;
use crate::error::{Code, Problem, insufficient_scope, invalid_request, invalid_token, not_found};
use crate::events::{Event, Kind};
use crate::identity::account::Account;
use crate::oauth::access_token::{Bearer, Subject};
use crate::oauth::grant::Grant;
use crate::oauth::params::Params;
use crate::store::db::{DbError, Tx};
use crate::web::answer::fhir_json;
use crate::web::bearer::{self, Call, Refused};
use crate::web::cors::answer_for;

/// Who asks: somebody with a token, or anybody at the open twin.
enum Caller {
    Bearer(Box<Bearer>),
    Anybody,
}

type Answer = Result<Response, Refused>;

/// `GET P/fhir/{type}/{id}`.
pub async fn read(
    State(app): State<App>,
    Path((resource_type, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    call: Call,
) -> Answer {
    let caller = bearer(&app, &call, query.as_deref())?;
    wants_json(query.as_deref().unwrap_or_default(), &call)?;
    read_as(&app, &caller, &resource_type, &id)
}

/// `GET P/open/fhir/{type}/{id}`.
pub async fn open_read(State(app): State<App>, Path((resource_type, id)): Path<(String, String)>) -> Answer {
    read_as(&app, &Caller::Anybody, &resource_type, &id)
}

/// `GET P/fhir/{type}`.
pub async fn search(
    State(app): State<App>,
    Path(resource_type): Path<String>,
    RawQuery(query): RawQuery,
    call: Call,
) -> Answer {
    let caller = bearer(&app, &call, query.as_deref())?;
    search_as(&app, caller, &resource_type, query.unwrap_or_default(), &call).await
}

/// `GET P/open/fhir/{type}`.
pub async fn open_search(
    State(app): State<App>,
    Path(resource_type): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    search_as(&app, Caller::Anybody, &resource_type, query.unwrap_or_default(), &headers).await
}

/// `POST P/fhir/{type}/_search`: what the query says and what the form says hold together.
pub async fn search_by_post(
    State(app): State<App>,
    Path(resource_type): Path<String>,
    RawQuery(query): RawQuery,
    call: Call,
    body: Bytes,
) -> Answer {
    let caller = bearer(&app, &call, query.as_deref())?;
    let text = posted(&call, query, &body)?;
    search_as(&app, caller, &resource_type, text, &call).await
}

/// `POST P/open/fhir/{type}/_search`.
pub async fn open_search_by_post(
    State(app): State<App>,
    Path(resource_type): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let text = posted(&headers, query, &body)?;
    search_as(&app, Caller::Anybody, &resource_type, text, &headers).await
}

/// Anything else under the base: the same refusal as for a resource that is not there, after the token.
pub async fn nothing(State(app): State<App>, RawQuery(query): RawQuery, call: Call) -> Answer {
    bearer(&app, &call, query.as_deref())?;
    Err(not_found("there is no such interaction here; read is GET [type]/[id], search is GET [type]?…")
        .into())
}

/// The same under the open twin.
pub async fn open_nothing() -> Answer {
    Err(not_found("there is no such interaction here; read is GET [type]/[id], search is GET [type]?…")
        .into())
}

fn posted(headers: &HeaderMap, query: Option<String>, body: &Bytes) -> Result<String, Problem> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let form = "application/x-www-form-urlencoded";
    if !body.is_empty() && !sent.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(form)) {
        return Err(Problem::new(Code::UnsupportedMediaType, format!("send the search as {form}")));
    }
    let body = std::str::from_utf8(body).map_err(|_| invalid_request("the form is not UTF-8"))?;
    bearer::no_token_in(body)?;
    let parts: Vec<&str> =
        [query.as_deref().unwrap_or_default(), body.trim()].into_iter().filter(|p| !p.is_empty()).collect();
    Ok(parts.join("&"))
}

/// The caller behind a token for this endpoint.
fn bearer(server: &Server, call: &Call, query: Option<&str>) -> Result<Caller, Refused> {
    let bearer = bearer::from_call(server, call, query.unwrap_or_default())?;
    if bearer.grant.audience != server.fhir_base() {
        let words = "the access token is not for this FHIR server; launch with `aud` set to its base";
        return Err(invalid_token(words).into());
    }
    Ok(Caller::Bearer(Box::new(bearer)))
}

/// Whom the holder of a token may act for.
fn sees(bearer: &Bearer) -> Sees {
    match &bearer.subject {
        Subject::Service => Sees::AsService,
        Subject::Person(account, _) if account.sees_everyone => Sees::Everyone,
        Subject::Person(_, acts_for) => {
            Sees::Patients(acts_for.iter().map(|entry| entry.patient.clone()).collect::<BTreeSet<_>>())
        }
    }
}

impl Caller {
    fn reach(&self, interaction: Interaction, resource_type: &str) -> Result<Reach, Denied> {
        match self {
            Caller::Anybody => Ok(access::open_reach(resource_type)),
            Caller::Bearer(bearer) => {
                let holder = Holder {
                    scopes: &bearer.scopes,
                    patient: bearer.grant.patient.as_deref(),
                    sees: sees(bearer),
                    fhir_user: bearer.account().map(|account| account.fhir_user.as_str()),
                };
                access::reach(&holder, interaction, resource_type)
            }
        }
    }

    /// An answer that only pages of the caller's own app may read.
    fn own(&self, answer: Response) -> Response {
        match self {
            Caller::Bearer(bearer) => answer_for(bearer.client.id.clone(), answer),
            Caller::Anybody => answer,
        }
    }

    /// The base its answers speak of, and the path under it is the same.
    fn base(&self, server: &Server) -> String {
        match self {
            Caller::Anybody => server.url("/open/fhir"),
            Caller::Bearer(_) => server.fhir_base(),
        }
    }

    fn grant(&self) -> &str {
        match self {
            Caller::Anybody => "",
            Caller::Bearer(bearer) => &bearer.grant.id,
        }
    }

    /// Queues the event of an access by token, about the patient whose record it opened; the open twin is
    /// nobody's access.
    fn record(&self, server: &Server, access: Access<'_>) -> Result<(), Problem> {
        let Caller::Bearer(bearer) = self else { return Ok(()) };
        let event = Event::new(access.kind, server.now())
            .grant(bearer.grant.id.clone())
            .client(bearer.client.id.clone())
            .account(bearer.account().map(|account| account.id.clone()))
            .patient(access.patient.filter(|p| !p.is_empty()).map(str::to_owned))
            .resource_type(access.resource_type.to_owned())
            .resource(access.id.map(str::to_owned));
        let event = match access.refused {
            None => event,
            Some(why) => event.refused(why),
        };
        if server.reads.push(event) {
            return Ok(());
        }
        Err(Problem::new(
            Code::TemporarilyUnavailable,
            "this access cannot be recorded now, so it is not given; try again",
        )
        .because("the queue of events is full"))
    }

    /// What it reaches; a refusal is recorded too.
    fn may(
        &self,
        server: &Server,
        kind: Kind,
        interaction: Interaction,
        resource_type: &'static str,
        id: Option<&str>,
    ) -> Result<Reach, Problem> {
        self.reach(interaction, resource_type).or_else(|denied| {
            let refused = Some("the scopes do not cover it");
            self.record(server, Access { kind, resource_type, id, patient: None, refused })?;
            let words = format!("the token was not granted `{}`; ask for it at launch", denied.needed);
            Err(insufficient_scope(words))
        })
    }

    /// Whether what the token stands for has not ended since it was looked up: a search may have waited.
    fn still_stands(&self, tx: &Tx<'_>, now: Millis) -> Result<bool, DbError> {
        let Caller::Bearer(bearer) = self else { return Ok(true) };
        let ended = Grant::find(tx, &bearer.grant.id)?.is_none_or(|grant| grant.ended.is_some());
        let shut_out = match bearer.account() {
            Some(account) => Account::find(tx, &account.id)?.is_none_or(|account| account.disabled),
            None => false,
        };
        Ok(!ended && !shut_out && now < bearer.expires)
    }
}

/// One access, as its event tells of it.
struct Access<'a> {
    kind: Kind,
    resource_type: &'a str,
    id: Option<&'a str>,
    patient: Option<&'a str>,
    refused: Option<&'static str>,
}

fn type_named(name: &str) -> Result<&'static str, Problem> {
    definitions::type_named(name).ok_or_else(|| {
        let shown: String = name.chars().take(60).collect();
        not_found(format!("FHIR R4 has no resource type `{shown}`; types are spelled like `Patient`"))
    })
}

fn read_as(app: &App, caller: &Caller, resource_type: &str, id: &str) -> Answer {
    let resource_type = type_named(resource_type)?;
    let reach = caller.may(app, Kind::Read, Interaction::Read, resource_type, Some(id))?;
    let base = app.fhir_base();
    let found = app.store.read(|tx| {
        let Some(resource) = Resource::find(tx, resource_type, id)? else { return Ok(None) };
        Ok(resource::within(tx, &reach, &resource, &base)?.then_some(resource))
    })?;
    let refused = found.is_none().then_some("not there, or not within reach");
    let patient = found.as_ref().map(|resource| resource.owner.as_str());
    caller.record(app, Access { kind: Kind::Read, resource_type, id: Some(id), patient, refused })?;
    let Some(resource) = found else {
        let shown: String = id.chars().take(64).collect();
        return Err(
            not_found(format!("there is no {resource_type}/{shown} that this request may read")).into()
        );
    };
    let mut answer = caller.own(fhir_json(StatusCode::OK, resource.json));
    let headers = answer.headers_mut();
    if let Ok(tag) = format!("W/\"{}\"", resource.version).parse() {
        headers.insert(header::ETAG, tag);
    }
    if let Ok(date) = http_date(resource.updated).parse() {
        headers.insert(header::LAST_MODIFIED, date);
    }
    Ok(answer)
}

fn http_date(at: crate::clock::Millis) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| String::new(), |t| t.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

async fn search_as(
    app: &App,
    caller: Caller,
    resource_type: &str,
    text: String,
    headers: &HeaderMap,
) -> Answer {
    wants_json(&text, headers)?;
    let resource_type = type_named(resource_type)?;
    let reach = caller.may(app, Kind::Search, Interaction::Search, resource_type, None)?;
    let params = Params::parse(text.as_bytes())?;
    let base = app.fhir_base();
    let context = Context { base: &base, now_ms: app.now() };
    let mut query =
        query::parse(resource_type, params.iter(), context).map_err(|e| invalid_request(e.to_string()))?;
    for include in &query.includes {
        let name = if include.reverse { "_revinclude" } else { "_include" };
        let reason = "other resources are not included yet; search for them".to_owned();
        query.unknown.push(Unknown { name: name.to_owned(), reason });
    }
    refuse_unknown(&query, headers)?;
    let used = as_used(&params, &query);
    let server = app.clone();
    // Searches may take long, so they run on threads of their own.
    let (caller, found) = app
        .store
        .search(move |tx| {
            if !caller.still_stands(tx, server.now())? {
                return Ok((caller, Err(invalid_token("the access was ended while the search waited"))));
            }
            let reach_of = |t: &'static str| caller.reach(Interaction::Search, t).unwrap_or(Reach::Nothing);
            let cursors =
                Cursors { mac: &server.cursors, holder: caller.grant(), resource_type, search: &used };
            let position = match cursors.read(query.cursor.as_deref()) {
                Ok(position) => position,
                Err(problem) => return Ok((caller, Err(problem))),
            };
            let base = server.fhir_base();
            let search = Search {
                resource_type,
                query: &query,
                reach: &reach,
                reach_of: &reach_of,
                base: &base,
                position,
            };
            let page = search.run(tx)?;
            let bundle = search::bundle(&page, &query, &caller.base(&server), resource_type, &cursors);
            let owners: BTreeSet<String> = page.resources.into_iter().map(|r| r.owner).collect();
            Ok((caller, Ok((bundle, owners))))
        })
        .await?;
    let (bundle, owners) = found?;
    // One event for each patient of whom something was shown; one in any case.
    let patients = owners.iter().map(|owner| Some(owner.as_str()));
    for patient in patients.chain(owners.is_empty().then_some(None)) {
        caller.record(app, Access { kind: Kind::Search, resource_type, id: None, patient, refused: None })?;
    }
    Ok(caller.own(fhir_json(StatusCode::OK, bundle)))
}

/// `Prefer: handling=strict`: a parameter without effect is an error, not a warning.
fn refuse_unknown(query: &Query, headers: &HeaderMap) -> Result<(), Problem> {
    let strict = headers
        .get_all("prefer")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case("handling=strict")));
    match query.unknown.first().filter(|_| strict) {
        None => Ok(()),
        Some(unknown) => Err(invalid_request(format!("`{}`: {}", unknown.name, unknown.reason))),
    }
}

/// The search as its links repeat it: what was used of it, without a cursor.
fn as_used(params: &Params, query: &Query) -> String {
    // Of `_sort`, some keys may have been used though one was not.
    let ignored = |name: &str| name != "_sort" && query.unknown.iter().any(|u| u.name == name);
    let unused = |name: &str| name == "_cursor" || ignored(name);
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in params.iter().filter(|(name, _)| !unused(name)) {
        text.append_pair(name, value);
    }
    text.finish()
}

/// FHIR R4 "Content Types": JSON is all there is, so whoever insists on something else is told.
fn wants_json(query: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let is_json =
        |wanted: &str| wanted.contains("json") || wanted.contains("*/*") || wanted.contains("application/*");
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "_format");
    let fits = match asked {
        Some((_, format)) => format.is_empty() || is_json(&format),
        None => {
            let mut accepted = headers.get_all(header::ACCEPT).iter().peekable();
            accepted.peek().is_none()
                || accepted.any(|v| v.to_str().is_ok_and(|v| v.is_empty() || is_json(v)))
        }
    };
    if fits {
        return Ok(());
    }
    Err(Problem::new(Code::NotAcceptable, "resources are answered as `application/fhir+json` only"))
}

/// `GET P/fhir/metadata`: the CapabilityStatement, with the `oauth-uris` that older clients read.
pub async fn metadata(State(app): State<App>) -> Response {
    super::capability::statement(&app, true)
}

/// `GET P/open/fhir/metadata`.
pub async fn open_metadata(State(app): State<App>) -> Response {
    super::capability::statement(&app, false)
}

/// What is no method of this address.
pub async fn wrong_method() -> Answer {
    Err(Problem::new(Code::MethodNotAllowed, "this server is read-only: GET, or POST to [type]/_search")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_written_as_rfc_9110_says() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
