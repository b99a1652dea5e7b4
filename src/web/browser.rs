//! Who is at the other end: the browser and its session, from cookies, and the form tokens that tie
//! pages to both.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use crate::app::Server;
use crate::crypto::{Hashed, Secret};
use crate::error::Problem;
use crate::identity::account::{Account, ActsFor};
use crate::identity::session::Session;
use crate::store::db::Verdict;

/// The address at the other end of the connection. Headers of proxies are not believed.
#[derive(Clone, Copy, Debug)]
pub struct Caller(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Infallible> {
        let connection = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Caller(connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip())))
    }
}

/// A signed-in person with the session they are in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Their session.
    pub session: Session,
    /// Who they are.
    pub account: Account,
    /// Whose records they may open now.
    pub acts_for: Vec<ActsFor>,
}

/// A browser, and who is signed in at it.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The secret of the browser's own cookie.
    browser: String,
    /// Whether that cookie must still be set.
    is_new: bool,
    session_cookie: Option<String>,
    /// Who is signed in.
    pub signed_in: Option<SignedIn>,
}

/// The names of the two cookies. Cookies ignore ports, so that a server on plain HTTP puts its port in.
fn names(issuer: &str) -> (String, String) {
    if issuer.starts_with("https:") {
        return ("__Host-hearthgate".into(), "__Host-hearthgate-browser".into());
    }
    let port = issuer.rsplit(':').next().filter(|p| p.parse::<u16>().is_ok()).unwrap_or("80");
    (format!("hearthgate_{port}"), format!("hearthgate_{port}_browser"))
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value.to_owned())
}

fn set_cookie(answer: &mut Response, issuer: &str, name: &str, value: &str) {
    let secure = if issuer.starts_with("https:") { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}");
    if let Ok(text) = HeaderValue::from_str(&text) {
        answer.headers_mut().append(header::SET_COOKIE, text);
    }
}

impl Visitor {
    /// Reads the cookies, and the live session they name.
    pub async fn from_headers(server: &Server, headers: &HeaderMap) -> Result<Visitor, Problem> {
        let (session_name, browser_name) = names(&server.issuer);
        let now = server.now();
        let session_cookie = cookie(headers, &session_name);
        let signed_in = match &session_cookie {
            None => None,
            Some(secret) => server.store.read(|tx| {
                let Some(session) = Session::find(tx, secret, now)? else { return Ok(None) };
                let Some(account) = Account::find(tx, &session.account)? else { return Ok(None) };
                let acts_for = Account::acts_for(tx, &account.id, now)?;
                Ok(Some(SignedIn { session, account, acts_for }))
            })?,
        };
        if let Some(s) = signed_in.as_ref().filter(|s| s.session.is_stale(now)) {
            let sid = s.session.sid.clone();
            server.store.write(move |tx| Session::touch(tx, &sid, now).map(|()| Verdict::Commit(()))).await?;
        }
        let kept = cookie(headers, &browser_name).filter(|secret| secret.len() == 43);
        let is_new = kept.is_none();
        let browser = kept.unwrap_or_else(|| Secret::new("", &server.chance).reveal());
        Ok(Visitor { browser, is_new, session_cookie, signed_in })
    }

    /// What a request is bound to: the hash of the browser's cookie.
    pub fn hash(&self) -> Hashed {
        Hashed::of(&self.browser)
    }

    /// The session cookie as it came, for ending that session.
    pub fn session_cookie(&self) -> Option<String> {
        self.session_cookie.clone()
    }

    /// The form token for a page.
    pub fn csrf(&self, server: &Server, page: &str) -> String {
        server.csrf.token(&self.browser, self.sid(), page)
    }

    /// Whether a posted form token is the one this browser and session were given for that page.
    pub fn may_post(&self, server: &Server, page: &str, posted: Option<&str>) -> bool {
        !self.is_new
            && posted.is_some_and(|token| server.csrf.accepts(token, &self.browser, self.sid(), page))
    }

    /// A text that is this browser's own for one purpose, and stays the same: 43 base64url characters.
    pub fn own_text(&self, server: &Server, purpose: &str) -> String {
        server.csrf.token(&self.browser, None, purpose)
    }

    fn sid(&self) -> Option<&str> {
        self.signed_in.as_ref().map(|s| s.session.sid.as_str())
    }

    /// Gives the browser its cookie, if it has none yet.
    pub fn remember(&self, server: &Server, mut answer: Response) -> Response {
        if self.is_new {
            set_cookie(&mut answer, &server.issuer, &names(&server.issuer).1, &self.browser);
        }
        answer
    }
}

/// What is shown once on the page that a form leads to, on its way there: only this browser's cookie holds
/// it, for that page and a minute.
const FRESH: &str = "hearthgate_fresh";

/// Gives the browser something to show once at `path`.
pub fn show_once(server: &Server, answer: Response, path: &str, text: &str) -> Response {
    set_fresh(server, answer, path, text, 60)
}

/// What there is to show once.
pub fn shown_once(headers: &HeaderMap) -> Option<String> {
    cookie(headers, FRESH).filter(|text| !text.is_empty())
}

/// It was shown.
pub fn forget_shown(server: &Server, answer: Response, path: &str) -> Response {
    set_fresh(server, answer, path, "", 0)
}

fn set_fresh(server: &Server, mut answer: Response, path: &str, text: &str, max_age: u32) -> Response {
    let secure = if server.issuer.starts_with("https:") { "; Secure" } else { "" };
    let cookie = format!("{FRESH}={text}; Path={path}; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// Gives the browser the cookie of a session that just began.
pub fn begin_session(server: &Server, mut answer: Response, secret: Secret) -> Response {
    set_cookie(&mut answer, &server.issuer, &names(&server.issuer).0, &secret.reveal());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_names_bind_to_the_host_or_tell_ports_apart() {
        assert_eq!(names("https://p.example").0, "__Host-hearthgate");
        assert_eq!(names("http://localhost:8080").0, "hearthgate_8080");
        assert_eq!(names("http://localhost").0, "hearthgate_80");
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=1; hearthgate_80=x=y; b=2"));
        assert_eq!(cookie(&headers, "hearthgate_80").as_deref(), Some("x=y"));
        assert_eq!(cookie(&headers, "hearthgate_8"), None);
    }
}
