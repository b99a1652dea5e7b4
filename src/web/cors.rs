//! Which web origins may read which answers (SMART App Launch 2.2, "CORS"; RFC 9700 2.6).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::oauth::client::{self, Client};

/// Who may read an address from a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    /// Any page: public facts, and the open twin.
    Anybody,
    /// Pages of registered apps; once the app is known, pages of that app.
    Apps,
    /// No page of another origin: people's own pages, the authorization endpoint above all.
    Nobody,
}

/// The first prefix that fits decides.
const READERS: [(&str, Readers); 13] = [
    ("/fhir/.well-known/", Readers::Anybody),
    ("/fhir/metadata", Readers::Anybody),
    ("/.well-known/", Readers::Anybody),
    ("/oauth/jwks", Readers::Anybody),
    ("/open/fhir", Readers::Anybody),
    ("/fhir", Readers::Apps),
    ("/oauth/par", Readers::Apps),
    ("/oauth/token", Readers::Apps),
    ("/oauth/register", Readers::Apps),
    ("/oauth/userinfo", Readers::Apps),
    ("/oauth/introspect", Readers::Apps),
    ("/oauth/revoke", Readers::Apps),
    ("/", Readers::Nobody),
];

const METHODS: &str = "GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD";
const ALLOWED: &str = "Authorization, Content-Type, Accept, If-Match, If-None-Match, If-None-Exist, Prefer, \
                       X-Request-Id, DPoP";
const EXPOSED: &str = "ETag, Location, Content-Location, Last-Modified, WWW-Authenticate, Retry-After";
/// How long a browser may remember a preflight, seconds.
const MAX_AGE: &str = "600";

fn readers(path: &str) -> Readers {
    READERS.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or(Readers::Nobody, |(_, r)| *r)
}

/// An answer says by this whose it is: then only that app's pages may read it.
#[derive(Clone, Debug)]
struct AnswerFor(String);

/// Says that only pages of this app may read the answer.
pub fn answer_for(client: String, mut answer: Response) -> Response {
    answer.extensions_mut().insert(AnswerFor(client));
    answer
}

/// Adds the headers to every answer, errors too, and answers preflights, which carry no token.
pub async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    let readers = readers(request.uri().path());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key("access-control-request-method");
    let mut answer = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    if readers == Readers::Apps {
        answer.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = origin else { return answer };
    let whose = answer.extensions().get::<AnswerFor>().cloned();
    let headers = answer.headers_mut();
    match readers {
        Readers::Nobody => return answer,
        Readers::Anybody => set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        Readers::Apps => {
            if !is_registered(&app, &origin, whose.as_ref()) {
                return answer;
            }
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            // Some clients refresh with credentials; no cookie counts at these addresses.
            set(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
    }
    set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if preflight {
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
        set(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    answer
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

fn is_registered(app: &App, origin: &HeaderValue, whose: Option<&AnswerFor>) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let found = app.store.read(|tx| match whose {
        None => client::is_origin_of_any(tx, origin),
        Some(AnswerFor(id)) => {
            Ok(Client::find(tx, id)?.is_some_and(|c| c.metadata.origins().any(|o| o == origin)))
        }
    });
    found.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_facts_are_for_anybody_and_peoples_pages_for_nobody() {
        assert_eq!(readers("/fhir/.well-known/smart-configuration"), Readers::Anybody);
        assert_eq!(readers("/fhir/metadata"), Readers::Anybody);
        assert_eq!(readers("/fhir/Patient/1"), Readers::Apps);
        assert_eq!(readers("/oauth/token"), Readers::Apps);
        assert_eq!(readers("/oauth/authorize"), Readers::Nobody);
        assert_eq!(readers("/apps"), Readers::Nobody);
    }
}
