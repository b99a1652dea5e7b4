//! The page of one app: what its developer needs of it, and what is shown only once.

use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::see_other;
use super::app_views::{AppCard, AppDetail, Launch, Secrets, Service, Warning};
use super::browser::{self, Visitor};
use super::page;
use super::views::{self, Face, Fact};
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
        about: format!("{}, registered {}", kind(&client.metadata), date_in_words(&instant(client.created))),
        warnings: client.metadata.no_pkce.then(|| NO_PKCE.to_owned()).into_iter().collect(),
    }
}

/// An app's kind in a few words.
fn kind(metadata: &Metadata) -> String {
    let alone = metadata.grant_types.contains(&GrantType::ClientCredentials);
    if alone && !metadata.grant_types.contains(&GrantType::AuthorizationCode) {
        return "Backend service, which acts on its own".into();
    }
    let proof = match metadata.token_endpoint_auth_method {
        AuthMethod::None => "Public app, which keeps no secret",
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => "App with a secret",
        AuthMethod::PrivateKeyJwt => "App with a key of its own",
    };
    let more = match (metadata.sign_in_only, alone) {
        (true, _) => ", for signing people in",
        (false, true) => ", which acts for people and on its own",
        (false, false) => "",
    };
    format!("{proof}{more}")
}

const NO_PKCE: &str = "SMART 1.0, no PKCE";

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
        service: service(app, client),
        facts: facts(&client.metadata),
        edit: format!("/apps/{}/edit", client.id),
        secrets: has_secret.then(|| secrets_view(&client.id, secrets)),
        delete: format!("/apps/{}/delete", client.id),
        secret: fresh.secret,
    };
    page::render(&page)
}

fn secrets_view(id: &str, live: &[LiveSecret]) -> Secrets {
    let names = if live.len() == 1 { ["Present", ""] } else { ["Newer", "Former"] };
    let made = live.iter().zip(names).map(|(secret, name)| Fact {
        name: name.into(),
        values: vec![format!("made {}", page::moment(secret.created))],
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
    let warning = |title: &str, text: &str| Warning { title: title.into(), text: text.into() };
    let mut warnings = Vec::new();
    if metadata.no_pkce {
        let text = if metadata.token_endpoint_auth_method.proves() {
            "Its requests may leave out PKCE, so that whoever gets hold of one of its codes on the way can slip it \
             into a launch of their own. Only a sandbox takes such an app; a new one should send PKCE."
        } else {
            "Its requests may leave out PKCE, and nothing else proves that it is this app: whoever gets hold of one \
             of its codes on the way can exchange it. Only a sandbox takes such an app; a new one should send PKCE."
        };
        warnings.push(warning(NO_PKCE, text));
    }
    let refreshes = metadata.grant_types.contains(&GrantType::RefreshToken);
    let stays = |s: &Scope| matches!(s.meaning, Meaning::OfflineAccess | Meaning::OnlineAccess);
    if refreshes && !metadata.scopes().iter().any(stays) {
        let text =
            "Refresh tokens are enabled, but neither offline_access nor online_access is among the scopes.";
        warnings.push(warning("No refresh token will come", text));
    }
    if metadata.require_pushed_authorization_requests {
        let text =
            "Its requests are pushed to the server first, so that there is no address here to try it with.";
        warnings.push(warning("Pushed requests only", text));
    }
    if metadata.dpop_bound_access_tokens {
        let text = "Its tokens are bound to its key: every request for one, and every use, needs a DPoP header with a proof.";
        warnings.push(warning("Bound tokens only", text));
    }
    warnings
}

/// How an app that acts on its own gets a token (SMART App Launch 2.2, "Backend services").
fn service(server: &Server, client: &Client) -> Option<Service> {
    if !client.metadata.grant_types.contains(&GrantType::ClientCredentials) {
        return None;
    }
    let system = client.metadata.scopes().into_iter().filter(|s| s.is_at(Level::System));
    let scope = system.map(|s| s.text).collect::<Vec<_>>().join(" ");
    let claim = |name: &str, value: String| Fact { name: name.into(), values: vec![value], code: true };
    let token_endpoint = server.url("/oauth/token");
    Some(Service {
        command: format!(
            "curl -s {token_endpoint} -d grant_type=client_credentials --data-urlencode 'scope={scope}' {}",
            assertion(&client.id)
        ),
        claims: vec![
            claim("iss", client.id.clone()),
            claim("sub", client.id.clone()),
            claim("aud", token_endpoint),
        ],
    })
}

/// The parameters by which an app with a key proves itself, as far as they are known here.
fn assertion(client_id: &str) -> String {
    format!(
        "-d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
         -d client_assertion=ASSERTION -d client_id={client_id}"
    )
}

/// The authorization request of a first launch, ready to click.
fn launch(server: &Server, visitor: &Visitor, client: &Client, secret: Option<&str>) -> Option<Launch> {
    let with_people = client.metadata.grant_types.contains(&GrantType::AuthorizationCode);
    if !with_people || client.metadata.require_pushed_authorization_requests {
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
        AuthMethod::PrivateKeyJwt => assertion(&client.id),
    };
    let needs_secret = client.metadata.token_endpoint_auth_method.has_secret() && secret.is_none();
    Some(Launch {
        words: "This is the request the app would send.".into(),
        needs_secret,
        needs_assertion: client.metadata.token_endpoint_auth_method == AuthMethod::PrivateKeyJwt,
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

/// Everything that is saved, under the names it has at the registration endpoint.
fn facts(metadata: &Metadata) -> Vec<Fact> {
    let kind = Fact { name: "Kind".into(), values: vec![kind(metadata)], code: false };
    let Value::Object(saved) = json!(metadata) else { return vec![kind] };
    let said = saved.into_iter().filter(|(name, _)| name != "client_name" && name != "response_types");
    let facts = said.filter_map(|(name, value)| {
        let values = match (name.as_str(), value) {
            (_, Value::Null | Value::Bool(false)) => return None,
            ("introspect", value) if value == "own" => return None,
            ("jwks", set) => keys(&set),
            ("scope", Value::String(scope)) => scope.split(' ').map(str::to_owned).collect(),
            ("access_token_life" | "default_max_age", seconds) => vec![format!("{seconds} seconds")],
            (_, Value::String(text)) => vec![text],
            (_, Value::Array(list)) => {
                list.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect()
            }
            (_, other) => vec![other.to_string()],
        };
        (!values.is_empty()).then_some(Fact { name, values, code: true })
    });
    std::iter::once(kind).chain(facts).collect()
}

/// Each key of a set by its name and what it is: "2026-a (EC, P-384)".
fn keys(set: &Value) -> Vec<String> {
    let keys = set["keys"].as_array().into_iter().flatten();
    keys.map(|key| {
        let kid = key["kid"].as_str().unwrap_or("without a kid");
        let kinds: Vec<&str> = ["kty", "crv", "alg"].iter().filter_map(|name| key[*name].as_str()).collect();
        format!("{kid} ({})", kinds.join(", "))
    })
    .collect()
}
