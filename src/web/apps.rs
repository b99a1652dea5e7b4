//! `P/apps`: a developer's apps, registered and changed by form.
//!
//! Whoever registers an app holds its management link, and their browser manages it; nobody else's does.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::answer::see_other;
use super::app_form::Fields;
use super::browser::{self, Visitor};
use super::page;
use super::views::{self, AppCard, AppDetail, Confirm, Face, Fact, Launch, Warning};
use crate::app::{App, Server};
use crate::crypto::{Secret, sha256_base64url};
use crate::error::{Problem, forbidden, not_found};
use crate::events::{Event, Kind};
use crate::fhir::demographics::date_in_words;
use crate::fhir::resource::instant;
use crate::oauth::client::{self, Client};
use crate::oauth::client_metadata::{AuthMethod, GrantType, Metadata};
use crate::oauth::grant::Grant;
use crate::oauth::params::Params;
use crate::oauth::registration::FieldError;
use crate::smart::scope::{Level, Meaning, Scope};
use crate::store::db::Verdict;

type Page = Result<Response, Problem>;

fn shown(app: &App, page: Page) -> Response {
    page.unwrap_or_else(|problem| page::problem(app, &problem))
}

/// `GET P/apps`: the apps this browser manages.
pub async fn list(State(app): State<App>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let visitor = Visitor::from_headers(&app, &headers).await?;
        let browser = visitor.hash();
        let apps = app.store.read(|tx| Client::managed_by(tx, &browser))?;
        let page = views::Apps {
            shell: page::shell(&app, "/apps"),
            register: "/apps/new".into(),
            apps: apps.iter().map(card).collect(),
        };
        Ok(visitor.remember(&app, page::render(&page)))
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/new`: the empty form.
pub async fn new(State(app): State<App>, headers: HeaderMap) -> Response {
    let made: Page = async {
        open_to_registration(&app)?;
        let visitor = Visitor::from_headers(&app, &headers).await?;
        Ok(visitor.remember(&app, form_page(&app, &visitor, &Fields::new(), None, &[])))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/new`: registers the app; its secret and its management link are shown this once.
pub async fn register(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let made: Page = async {
        open_to_registration(&app)?;
        let (visitor, form) = posted(&app, &headers, &body, "/apps/new").await?;
        let fields = Fields::posted(&form);
        let metadata = match fields.check(&app.policy) {
            Ok(metadata) => metadata,
            Err(errors) => return Ok(form_page(&app, &visitor, &fields, None, &errors)),
        };
        let registered = client::register(&app.store, metadata, app.now(), &app.chance).await?;
        let (id, browser) = (registered.client.id.clone(), visitor.hash());
        app.store
            .write(move |tx| Client::let_manage(tx, &id, &browser).map(|()| Verdict::Commit(())))
            .await?;
        let fresh =
            Fresh { secret: registered.secret.map(Secret::reveal), manage: Some(registered.manage.reveal()) };
        Ok(fresh.lead_to(&app, &registered.client.id))
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/{client_id}`: what was saved. With `?manage=…`, the management link, this browser manages
/// the app from now on.
pub async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let made: Page = async {
        let query = Params::parse(query.unwrap_or_default().as_bytes())?;
        if let Some(key) = query.one("manage")? {
            return open_management(&app, &id, key.to_owned(), &headers).await;
        }
        let (visitor, client) = managed(&app, &id, &headers).await?;
        let fresh = Fresh::from_headers(&headers);
        let was_fresh = fresh.secret.is_some() || fresh.manage.is_some();
        let answer = detail_page(&app, &visitor, &client, fresh);
        Ok(if was_fresh { browser::forget_shown(&app, answer, &format!("/apps/{id}")) } else { answer })
    }
    .await;
    shown(&app, made)
}

async fn open_management(app: &App, id: &str, key: String, headers: &HeaderMap) -> Page {
    let visitor = Visitor::from_headers(app, headers).await?;
    let (client, browser) = (id.to_owned(), visitor.hash());
    let opened = app
        .store
        .write(move |tx| {
            let opens = Client::opens(tx, &client, &key)?;
            if opens {
                Client::let_manage(tx, &client, &browser)?;
            }
            Ok(Verdict::Commit(opens))
        })
        .await?;
    if opened { Ok(visitor.remember(app, see_other(&format!("/apps/{id}")))) } else { Err(not_yours()) }
}

/// `GET P/apps/{client_id}/edit`: the form as it was saved.
pub async fn edit(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let (visitor, client) = managed(&app, &id, &headers).await?;
        Ok(form_page(&app, &visitor, &Fields::saved(&client.metadata), Some(&id), &[]))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/{client_id}/edit`: replaces the metadata; it holds at the next launch.
pub async fn save(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        let (visitor, form) = posted(&app, &headers, &body, &format!("/apps/{id}/edit")).await?;
        let (_, client) = managed(&app, &id, &headers).await?;
        let fields = Fields::posted(&form);
        let metadata = match fields.check(&app.policy) {
            Ok(metadata) => metadata,
            Err(errors) => return Ok(form_page(&app, &visitor, &fields, Some(&id), &errors)),
        };
        let had = client.metadata.token_endpoint_auth_method.has_secret();
        let has = metadata.token_endpoint_auth_method.has_secret();
        // An app that becomes confidential gets its secret now; one that becomes public loses it.
        let secret = (has && !had).then(|| Secret::new("", &app.chance));
        let (hash, now) = (secret.as_ref().map(Secret::hashed), app.now());
        let changed = Client { metadata, ..client };
        let (client_id, metadata) = (id.clone(), changed.metadata.clone());
        app.store
            .write(move |tx| {
                Client::replace(tx, &client_id, &metadata)?;
                if has != had {
                    Client::replace_secret(tx, &client_id, hash.as_ref(), now)?;
                }
                Event::new(Kind::AppChanged, now).client(client_id).insert(tx).map(Verdict::Commit)
            })
            .await?;
        match secret {
            None => Ok(see_other(&format!("/apps/{id}"))),
            Some(secret) => Ok(Fresh { secret: Some(secret.reveal()), manage: None }.lead_to(&app, &id)),
        }
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/{client_id}/secret`: is it meant?
pub async fn confirm_secret(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let (visitor, client) = managed(&app, &id, &headers).await?;
        let action = format!("/apps/{id}/secret");
        Ok(page::render(&Confirm {
            shell: page::shell(&app, ""),
            csrf: visitor.csrf(&app, &action),
            action,
            cancel: format!("/apps/{id}"),
            title: "Make a new secret?".into(),
            lead: format!(
                "The present secret of {} stops working at once.",
                views::isolate(&client.metadata.client_name)
            ),
            consequences: vec!["What people allowed the app stays as it is.".into()],
            button: "Make a new secret".into(),
        }))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/{client_id}/secret`: a new secret, shown this once, in place of the old ones.
pub async fn new_secret(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        posted(&app, &headers, &body, &format!("/apps/{id}/secret")).await?;
        let (_, client) = managed(&app, &id, &headers).await?;
        if !client.metadata.token_endpoint_auth_method.has_secret() {
            return Err(forbidden("a public app has no secret; change its kind first"));
        }
        let secret = Secret::new("", &app.chance);
        let (hash, client_id, now) = (secret.hashed(), id.clone(), app.now());
        app.store
            .write(move |tx| {
                Client::replace_secret(tx, &client_id, Some(&hash), now)?;
                Event::new(Kind::AppChanged, now)
                    .client(client_id)
                    .why("new secret")
                    .insert(tx)
                    .map(Verdict::Commit)
            })
            .await?;
        Ok(Fresh { secret: Some(secret.reveal()), manage: None }.lead_to(&app, &id))
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/{client_id}/delete`: is it meant?
pub async fn confirm_delete(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let (visitor, client) = managed(&app, &id, &headers).await?;
        let action = format!("/apps/{id}/delete");
        Ok(page::render(&Confirm {
            shell: page::shell(&app, ""),
            csrf: visitor.csrf(&app, &action),
            action,
            cancel: format!("/apps/{id}"),
            title: "Delete this app?".into(),
            lead: format!("{} will be gone for good.", views::isolate(&client.metadata.client_name)),
            consequences: vec![
                "It can no longer ask anybody for access.".into(),
                "Every token it holds stops working at once.".into(),
            ],
            button: "Delete the app".into(),
        }))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/{client_id}/delete`: the app is gone, and all it was granted ends.
pub async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        posted(&app, &headers, &body, &format!("/apps/{id}/delete")).await?;
        managed(&app, &id, &headers).await?;
        let now = app.now();
        app.store
            .write(move |tx| {
                Grant::end_all_of(tx, &id, now, "the app was deleted")?;
                Client::delete(tx, &id)?;
                Event::new(Kind::AppDeleted, now).client(id).insert(tx).map(Verdict::Commit)
            })
            .await?;
        Ok(see_other("/apps"))
    }
    .await;
    shown(&app, made)
}

fn open_to_registration(app: &App) -> Result<(), Problem> {
    if app.policy.open_registration {
        return Ok(());
    }
    Err(forbidden("apps are registered by the people who run this server"))
}

fn not_yours() -> Problem {
    not_found(
        "there is no such app that this browser manages; open its management link, which was shown when it was registered",
    )
}

/// The app, if this browser manages it.
async fn managed(app: &App, id: &str, headers: &HeaderMap) -> Result<(Visitor, Client), Problem> {
    let visitor = Visitor::from_headers(app, headers).await?;
    let browser = visitor.hash();
    let client = app
        .store
        .read(|tx| if Client::is_managed_by(tx, id, &browser)? { Client::find(tx, id) } else { Ok(None) })?;
    Ok((visitor, client.ok_or_else(not_yours)?))
}

/// The form of a page that this browser was shown.
async fn posted(
    app: &App,
    headers: &HeaderMap,
    body: &Bytes,
    page: &str,
) -> Result<(Visitor, Params), Problem> {
    let visitor = Visitor::from_headers(app, headers).await?;
    let form = Params::parse(body)?;
    if visitor.may_post(app, page, form.one("csrf")?) {
        return Ok((visitor, form));
    }
    Err(forbidden(
        "this page is out of date, or was opened in another browser; go back, reload it and try again",
    ))
}

fn form_page(
    app: &App,
    visitor: &Visitor,
    fields: &Fields,
    id: Option<&str>,
    errors: &[FieldError],
) -> Response {
    let action = id.map_or_else(|| "/apps/new".to_owned(), |id| format!("/apps/{id}/edit"));
    let cancel = id.map_or_else(|| "/apps".to_owned(), |id| format!("/apps/{id}"));
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let csrf = visitor.csrf(app, &action);
    page::render_with(
        status,
        &fields.page(page::shell(app, "/apps"), csrf, action, cancel, id.is_some(), errors),
    )
}

fn card(client: &Client) -> AppCard {
    AppCard {
        face: Face::of_app(&client.metadata.client_name, client.metadata.logo_uri.clone()),
        name: client.metadata.client_name.clone(),
        client_id: client.id.clone(),
        href: format!("/apps/{}", client.id),
        about: format!(
            "{}, registered {}",
            kind(client.metadata.token_endpoint_auth_method),
            date_in_words(&instant(client.created))
        ),
        warnings: Vec::new(),
    }
}

fn kind(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::None => "Public app",
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => "App with a secret",
        AuthMethod::PrivateKeyJwt => "App with a key of its own",
    }
}

/// What the page of an app shows only once. It travels to that page in a cookie, so that reloading the page
/// makes nothing a second time.
#[derive(Default)]
struct Fresh {
    secret: Option<String>,
    /// The key of the management link; there right after the registration.
    manage: Option<String>,
}

impl Fresh {
    fn lead_to(&self, server: &Server, id: &str) -> Response {
        let path = format!("/apps/{id}");
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let text = format!("{}~{}", part(&self.secret), part(&self.manage));
        browser::show_once(server, see_other(&path), &path, &text)
    }

    fn from_headers(headers: &HeaderMap) -> Fresh {
        let text = browser::shown_once(headers).unwrap_or_default();
        let (secret, manage) = text.split_once('~').unwrap_or_default();
        let part = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        Fresh { secret: part(secret), manage: part(manage) }
    }
}

fn detail_page(app: &App, visitor: &Visitor, client: &Client, fresh: Fresh) -> Response {
    let manage = |key: &String| app.url(&format!("/apps/{}?manage={key}", client.id));
    let has_secret = client.metadata.token_endpoint_auth_method.has_secret();
    let page = AppDetail {
        shell: page::shell(app, ""),
        app: views::App { note: None, ..super::steps::app_view(app, client) },
        client_id: client.id.clone(),
        fhir: app.fhir_base(),
        just_created: fresh.manage.is_some(),
        management: fresh.manage.as_ref().map(manage),
        warnings: warnings(&client.metadata),
        launch: launch(app, visitor, client, fresh.secret.as_deref()),
        facts: facts(&client.metadata),
        edit: format!("/apps/{}/edit", client.id),
        new_secret: has_secret.then(|| format!("/apps/{}/secret", client.id)),
        delete: format!("/apps/{}/delete", client.id),
        secret: fresh.secret,
    };
    page::render(&page)
}

/// What a developer would wonder about later.
fn warnings(metadata: &Metadata) -> Vec<Warning> {
    if metadata.require_pushed_authorization_requests {
        return vec![Warning {
            title: "It cannot be launched from this page".into(),
            text: "The app is registered to push its authorization requests, and this page has none to open."
                .into(),
        }];
    }
    if metadata.dpop_bound_access_tokens {
        return vec![Warning {
            title: "The command below is not all that is needed".into(),
            text: "The app's tokens are bound to its key: the exchange, and every use of a token, needs a DPoP header with a proof.".into(),
        }];
    }
    let refreshes = metadata.grant_types.contains(&GrantType::RefreshToken);
    let asks =
        metadata.scopes().iter().any(|s| matches!(s.meaning, Meaning::OfflineAccess | Meaning::OnlineAccess));
    if refreshes && !asks {
        return vec![Warning {
            title: "No refresh token will come".into(),
            text: "Refresh tokens are enabled, but neither offline_access nor online_access is among the scopes.".into(),
        }];
    }
    Vec::new()
}

/// The authorization request of a first launch, ready to click.
fn launch(server: &Server, visitor: &Visitor, client: &Client, secret: Option<&str>) -> Option<Launch> {
    if client.metadata.require_pushed_authorization_requests {
        return None;
    }
    let redirect_uri = client.metadata.redirect_uris.first()?;
    let quoted = redirect_uri.replace('\'', "'\\''");
    // The same at every look, so that the command still fits the request that was opened.
    let verifier = visitor.own_text(server, &format!("verifier {}", client.id));
    let scope = first_scope(&client.metadata.scopes());
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &client.id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("scope", &scope)
        .append_pair("state", &visitor.own_text(server, &format!("state {}", client.id)))
        .append_pair("aud", &server.fhir_base())
        .append_pair("code_challenge", &sha256_base64url(verifier.as_bytes()))
        .append_pair("code_challenge_method", "S256");
    let authorize_url = server.url(&format!("/oauth/authorize?{}", query.finish()));
    let who = match client.metadata.token_endpoint_auth_method {
        AuthMethod::None => format!("-d client_id={}", client.id),
        AuthMethod::ClientSecretBasic => format!("-u {}:{}", client.id, secret.unwrap_or("SECRET")),
        AuthMethod::ClientSecretPost => {
            format!("-d client_id={} -d client_secret={}", client.id, secret.unwrap_or("SECRET"))
        }
        AuthMethod::PrivateKeyJwt => format!(
            "-d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
             -d client_assertion=ASSERTION -d client_id={}",
            client.id
        ),
    };
    let needs_secret = client.metadata.token_endpoint_auth_method.has_secret() && secret.is_none();
    Some(Launch {
        words: "This is the request the app would send.".into(),
        needs_secret,
        links: vec![page::link("Open it", authorize_url.clone())],
        authorize_url,
        // A quote in the URI must not end the quotes of the command.
        exchange: format!(
            "curl -s {} -d grant_type=authorization_code --data-urlencode 'redirect_uri={quoted}' \
             -d code_verifier={verifier} {who} -d code=CODE",
            server.url("/oauth/token")
        ),
    })
}

/// A good first scope: who it is and what can be read of one patient, as far as the app is registered for it.
fn first_scope(registered: &[Scope]) -> String {
    let wanted = ["openid", "fhirUser", "launch/patient", "patient/*.rs", "offline_access"];
    let covered: Vec<&str> = wanted
        .into_iter()
        .filter(|w| Scope::parse(w).is_ok_and(|s| crate::smart::cover::covers(registered, &s)))
        .collect();
    let has_records = covered.contains(&"patient/*.rs");
    let others =
        registered.iter().filter(|s| !has_records && s.resource().is_some_and(|r| r.level != Level::System));
    let others: Vec<&str> = others.map(|s| s.text.as_str()).take(5).collect();
    covered.into_iter().chain(others).collect::<Vec<_>>().join(" ")
}

fn facts(metadata: &Metadata) -> Vec<Fact> {
    let fact = |name: &str, values: Vec<String>, code: bool| Fact { name: name.into(), values, code };
    let mut facts = vec![
        fact("Kind", vec![kind(metadata.token_endpoint_auth_method).into()], false),
        fact("token_endpoint_auth_method", vec![metadata.token_endpoint_auth_method.as_str().into()], true),
        fact("redirect_uris", metadata.redirect_uris.clone(), true),
        fact("grant_types", metadata.grant_types.iter().map(|g| g.as_str().to_owned()).collect(), true),
        fact("scope", metadata.scope.split(' ').map(str::to_owned).collect(), true),
    ];
    let optional = [
        ("initiate_login_uri", metadata.initiate_login_uri.clone()),
        ("logo_uri", metadata.logo_uri.clone()),
        ("access_token_life", metadata.access_token_life.map(|s| format!("{s} seconds"))),
        ("id_token_signed_response_alg", Some(metadata.id_token_signed_response_alg.clone())),
    ];
    facts.extend(optional.into_iter().filter_map(|(name, value)| Some(fact(name, vec![value?], true))));
    facts
}
