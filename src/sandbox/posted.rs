//! What a program posts to the sandbox: a JSON object, sent to this server by its own name and by no other
//! site's page. Without this, any page a developer looks at could post here (a form with a JSON-like body, or a
//! name that is made to point at this machine).

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};
use url::Url;

use crate::app::Server;
use crate::error::{Code, Problem, forbidden, invalid_request};
use crate::smart::scope::closest;

/// The longest text that any member may hold, bytes.
const LONGEST: usize = 2_000;

/// A JSON object that was posted, or one inside it.
pub struct Posted {
    /// What stands before the name of a member: `fhirContext[0].`, or nothing.
    path: String,
    members: Map<String, Value>,
}

impl Posted {
    /// Reads the body.
    ///
    /// # Errors
    /// 403 for a foreign `Host` or `Origin`, 415 for anything but JSON, 400 for what is no object.
    pub fn read(server: &Server, headers: &HeaderMap, body: &Bytes) -> Result<Posted, Problem> {
        from_here(&server.issuer, headers)?;
        let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !sent.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json")) {
            let words = "send a JSON object with `Content-Type: application/json`";
            return Err(Problem::new(Code::UnsupportedMediaType, words));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Posted { path: String::new(), members }),
            Ok(_) => Err(invalid_request("the body must be a JSON object")),
            Err(e) => Err(invalid_request(format!("the body is not JSON: {e}"))),
        }
    }

    /// The name of a member, as words about it say it.
    pub fn named(&self, name: &str) -> String {
        format!("`{}{name}`", self.path)
    }

    /// # Errors
    /// `invalid_request` for a member of any other name.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let Some(other) = self.members.keys().find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let shown: String = other.chars().take(80).collect();
        let advice = match closest(other, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", known.join(", ")),
        };
        Err(invalid_request(format!("{} is not known here; {advice}", self.named(&shown))))
    }

    /// A member that is there; `null` is the same as absent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// `invalid_request` where it is something else, empty, too long, or holds control characters.
    pub fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text))
                if !text.trim().is_empty() && text.len() <= LONGEST && !text.contains(char::is_control) =>
            {
                Ok(Some(text.clone()))
            }
            Some(_) => Err(self.wrong(
                name,
                format!(
                    "must be a text, not empty, of at most {LONGEST} bytes and without control characters"
                ),
            )),
        }
    }

    /// A text that must be there; `what` says what it is.
    pub fn needed(&self, name: &str, what: &str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| self.wrong(name, format!("is missing; send {what}")))
    }

    /// A boolean.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(name, "must be `true` or `false`, without quotes")),
        }
    }

    /// A list of at most `most` objects; absent is empty.
    pub fn objects(&self, name: &str, most: usize) -> Result<Vec<Posted>, Problem> {
        let wrong = || self.wrong(name, format!("must be a list of at most {most} objects"));
        let list = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() <= most => list,
            Some(_) => return Err(wrong()),
        };
        let objects = list.iter().enumerate().map(|(index, item)| {
            let members = item.as_object().ok_or_else(wrong)?.clone();
            Ok(Posted { path: format!("{}{name}[{index}].", self.path), members })
        });
        objects.collect()
    }

    /// The refusal of a member; `words` go on from its name.
    pub fn wrong(&self, name: &str, words: impl AsRef<str>) -> Problem {
        invalid_request(format!("{} {}", self.named(name), words.as_ref()))
    }
}

/// Whether a request names this server as its host, and comes from no other site's page.
fn from_here(issuer: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let own = Url::parse(issuer).map(|url| url.origin());
    let scheme = issuer.split(':').next().unwrap_or_default();
    let is_own = |text: &str| {
        Url::parse(text).is_ok_and(|url| {
            let bare = url.path() == "/" && url.query().is_none() && url.username().is_empty();
            bare && own.as_ref().is_ok_and(|own| *own == url.origin())
        })
    };
    let mut hosts = headers.get_all(header::HOST).into_iter().map(|v| v.to_str().unwrap_or_default());
    let mut origins = headers.get_all(header::ORIGIN).into_iter().map(|v| v.to_str().unwrap_or_default());
    let host =
        hosts.next().is_some_and(|host| is_own(&format!("{scheme}://{host}"))) && hosts.next().is_none();
    if !host {
        return Err(forbidden(format!(
            "the `Host` of the request is not this server's; send it to {issuer}, by that very name"
        )));
    }
    if !origins.all(is_own) {
        return Err(forbidden(
            "the `Origin` of the request is another site; send it from a program, not from a web page",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn comes_from(issuer: &str, lines: &[(HeaderName, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        from_here(issuer, &headers).is_ok()
    }

    #[test]
    fn only_this_servers_own_name_and_origin_count() {
        let p = "http://localhost:8080";
        for host in ["localhost:8080", "LOCALHOST:8080"] {
            assert!(comes_from(p, &[(header::HOST, host)]), "{host}");
            assert!(comes_from(p, &[(header::HOST, host), (header::ORIGIN, p)]), "{host}");
        }
        for host in ["127.0.0.1:8080", "localhost", "evil.example", "localhost:8081", "x@localhost:8080", ""]
        {
            assert!(!comes_from(p, &[(header::HOST, host)]), "{host}");
        }
        assert!(!comes_from(p, &[]));
        assert!(!comes_from(p, &[(header::HOST, "localhost:8080"), (header::HOST, "evil.example")]));
        for origin in ["null", "https://evil.example", "http://localhost:8081", "https://localhost:8080", ""]
        {
            assert!(
                !comes_from(p, &[(header::HOST, "localhost:8080"), (header::ORIGIN, origin)]),
                "{origin}"
            );
        }
        assert!(comes_from("https://p.example", &[(header::HOST, "p.example")]));
        assert!(comes_from("https://p.example", &[(header::HOST, "p.example:443")]));
        assert!(!comes_from("https://p.example", &[(header::HOST, "p.example:80")]));
    }
}
