//! The page of one app: what its developer needs of it, and what is shown only once.

use axum::http::HeaderMap;
use axum::response::Response;

use super::answer::see_other;
use super::browser::{self, Visitor};
use super::page;
use super::views::{self, AppCard, AppDetail, Face, Fact, Launch, Secrets, Warning};
use crate::app::{App, Server};
use crate::crypto::sha256_base64url;
use crate::fhir::demographics::date_in_words;
use crate::fhir::resource::instant;
use crate::oauth::client::{Client, LiveSecret};
use crate::oauth::client_metadata::{AuthMethod, GrantType, Metadata};
use crate::smart::scope::{Level, Meaning, Scope};

/// The app among its developer's others.
pub fn card(client: &Client) -> AppCard {
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
pub struct Fresh {
    /// A secret that was just made.
    pub secret: Option<String>,
    /// The key of the management link; there right after the registration.
    pub manage: Option<String>,
}

impl Fresh {
    /// The way to the page.
    pub fn lead_to(&self, server: &Server, id: &str) -> Response {
        let path = format!("/apps/{id}");
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let text = format!("{}~{}", part(&self.secret), part(&self.manage));
        browser::show_once(server, see_other(&path), &path, &text)
    }

    /// What the browser brings of it.
    pub fn from_headers(headers: &HeaderMap) -> Fresh {
        let text = browser::shown_once(headers).unwrap_or_default();
        let (secret, manage) = text.split_once('~').unwrap_or_default();
        let part = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        Fresh { secret: part(secret), manage: part(manage) }
    }
}

/// The page.
pub fn show(app: &App, visitor: &Visitor, client: &Client, secrets: &[LiveSecret], fresh: Fresh) -> Response {
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
        secrets: has_secret.then(|| secrets_view(&client.id, secrets)),
        delete: format!("/apps/{}/delete", client.id),
        secret: fresh.secret,
    };
    page::render(&page)
}

fn secrets_view(id: &str, live: &[LiveSecret]) -> Secrets {
    let names = ["The newer one, made", "The former one, made"];
    let made = live.iter().zip(names).map(|(secret, name)| Fact {
        name: if live.len() == 1 { "Made" } else { name }.into(),
        values: vec![page::moment(secret.created)],
        code: false,
    });
    Secrets {
        made: made.collect(),
        new: format!("/apps/{id}/secret"),
        end: (live.len() > 1).then(|| format!("/apps/{id}/secret/end")),
    }
}

/// What a developer would wonder about later.
fn warnings(metadata: &Metadata) -> Vec<Warning> {
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
