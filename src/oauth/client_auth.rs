//! Who is calling the token endpoint: none, basic, post, assertion (SMART App Launch 2.2, "Client authentication").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::assertion::{self, Unspent};
use super::client::Client;
use super::client_metadata::AuthMethod;
use super::params::Params;
use crate::app::Server;
use crate::clock::Millis;
use crate::crypto::Hashed;
use crate::error::{Problem, invalid_client, invalid_grant, invalid_request};
use crate::events::{Event, Kind};
use crate::jose::Jws;
use crate::store::db::{DbError, Tx};

/// What a caller presented, before anything of it is believed.
enum Presented<'a> {
    /// Only a name.
    Name(String),
    /// A name and a secret in the Authorization header, as sent and as form-decoded.
    Basic { raw: (String, String), decoded: (String, String) },
    /// A name and a secret in the form.
    Post(String, String),
    /// A signed assertion.
    Assertion(Jws<'a>),
}

/// What a caller proved itself with. It must still hold when something is changed.
#[derive(Clone, Debug)]
enum Proof {
    /// Nothing: a public app.
    Nothing,
    /// This secret of its own.
    Secret(Hashed),
    /// An assertion that nobody may have used before.
    Assertion(Unspent),
}

/// An app that calls, and what proves it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The app as it was when it was proven.
    pub client: Client,
    proof: Proof,
}

impl Caller {
    /// Whether its proof is good once, so that it must enter a transaction even where nothing else is changed.
    pub fn is_used_up(&self) -> bool {
        matches!(self.proof, Proof::Assertion(_))
    }

    /// The app as it is in the open transaction, if what proved it still does. An assertion is used up by this, so
    /// that the transaction must be committed, whatever else comes of it.
    pub fn enter(&self, tx: &Tx<'_>, now: Millis) -> Result<Result<Client, Problem>, DbError> {
        let Some(client) = Client::find(tx, &self.client.id)? else { return Ok(Err(unknown())) };
        let (then, today) = (&self.client.metadata, &client.metadata);
        let still = match &self.proof {
            Proof::Nothing => true,
            Proof::Secret(secret) => Client::still_has_secret(tx, &client.id, secret)?,
            Proof::Assertion(unspent) if unspent.spend(tx, &client.id)? => {
                (&then.jwks, &then.jwks_uri) == (&today.jwks, &today.jwks_uri)
            }
            Proof::Assertion(_) => {
                let why = "its assertion was used before";
                Event::new(Kind::AssertionReplayed, now).client(client.id).refused(why).insert(tx)?;
                let words = "the client assertion was used before; make a new one, with a new `jti`, for each request";
                return Ok(Err(invalid_client(words).at("client_assertion")));
            }
        };
        if still && then.token_endpoint_auth_method == today.token_endpoint_auth_method {
            return Ok(Ok(client));
        }
        Ok(Err(invalid_client("the app was changed at this very moment; try again")))
    }
}

fn unknown() -> Problem {
    invalid_client("no app is registered under this client_id").at("client_id")
}

/// The calling app, proven by the method it is registered for.
///
/// # Errors
/// `invalid_client` where it is not who it says; `invalid_request` where it says it in two ways at once.
pub async fn authenticate(
    server: &Server,
    authorization: &[&str],
    params: &Params,
) -> Result<Caller, Problem> {
    let refresh_token = match params.one("grant_type")? {
        Some("refresh_token") => params.one("refresh_token")?,
        _ => None,
    };
    let alone = authorization.is_empty()
        && params.one("client_id")?.is_none()
        && params.one("client_assertion")?.is_none();
    let (client, presented) = server.store.read(|tx| {
        let presented = match refresh_token {
            // Some public apps send a refresh token alone: the token itself says whose it is.
            Some(token) if alone => match super::refresh::holder(tx, token)? {
                Some(client) => Presented::Name(client.id),
                None => {
                    let words = "the refresh token is not one of this server's, or was long forgotten";
                    return Ok(Err(invalid_grant(words)));
                }
            },
            _ => match presented(authorization, params) {
                Ok(presented) => presented,
                Err(problem) => return Ok(Err(problem)),
            },
        };
        let client = match &presented {
            Presented::Name(id) | Presented::Post(id, _) => Client::find(tx, id)?,
            // Ids hold no character that form-encoding changes, so at most one reading is an id.
            Presented::Basic { raw, decoded } => match Client::find(tx, &raw.0)? {
                Some(client) => Some(client),
                None => Client::find(tx, &decoded.0)?,
            },
            Presented::Assertion(jws) => match assertion::issuer(jws) {
                Ok(id) => Client::find(tx, id)?,
                Err(problem) => return Ok(Err(problem)),
            },
        };
        if let Some(client) = client {
            return Ok(Ok((client, presented)));
        }
        // Whoever holds a refresh token of an app that is gone is told about the token, not about a name.
        if let Some(token) = refresh_token
            && super::refresh::grant_of(tx, token)?.is_some()
        {
            let words = "the access was ended (the app was deleted); register it again and launch";
            return Ok(Err(invalid_grant(words)));
        }
        Ok(Err(unknown()))
    })??;
    let proof = prove(server, &client, &presented).await?;
    Ok(Caller { client, proof })
}

async fn prove(server: &Server, client: &Client, presented: &Presented<'_>) -> Result<Proof, Problem> {
    let method = client.metadata.token_endpoint_auth_method;
    let secret = |texts: &[&str]| {
        server.store.read(|tx| {
            let mut found = None;
            for text in texts {
                found = Client::secret(tx, &client.id, text)?.or(found);
            }
            Ok(found)
        })
    };
    let found = match (presented, method) {
        (Presented::Name(_), AuthMethod::None) => return Ok(Proof::Nothing),
        // Some clients send the secret as it is, others form-encode it first (RFC 6749 2.3.1).
        (Presented::Basic { raw, decoded }, AuthMethod::ClientSecretBasic) => secret(&[&raw.1, &decoded.1])?,
        (Presented::Post(_, text), AuthMethod::ClientSecretPost) => secret(&[text])?,
        (Presented::Assertion(jws), AuthMethod::PrivateKeyJwt) => {
            let audiences = [server.url("/oauth/token"), server.issuer.clone()];
            let audiences: Vec<&str> = audiences.iter().map(String::as_str).collect();
            let (keys, fetcher) = (&server.client_keys, &server.fetcher);
            let unspent =
                assertion::verify(&client.metadata, jws, &audiences, keys, fetcher, server.now()).await?;
            return Ok(Proof::Assertion(unspent));
        }
        _ => {
            return Err(invalid_client(format!(
                "the app is registered with `token_endpoint_auth_method` `{}`, and this request authenticates \
                 in another way",
                method.as_str()
            )));
        }
    };
    found.map(Proof::Secret).ok_or_else(|| invalid_client("the client secret is wrong"))
}

fn presented<'a>(authorization: &[&str], params: &'a Params) -> Result<Presented<'a>, Problem> {
    let client_id = params.one("client_id")?;
    let secret = params.one("client_secret")?;
    if let Some(text) = params.one("client_assertion")? {
        if !authorization.is_empty() || secret.is_some() {
            return Err(invalid_request(
                "the app authenticates both by an assertion and by a secret; use one",
            ));
        }
        return by_assertion(text, params.one("client_assertion_type")?, client_id);
    }
    if params.one("client_assertion_type")?.is_some() {
        return Err(invalid_client("`client_assertion` is missing").at("client_assertion"));
    }
    match (authorization, client_id, secret) {
        ([], None, _) => Err(invalid_client(
            "nothing says which app this is; public apps send `client_id`, others authenticate",
        )),
        ([], Some(id), None) => Ok(Presented::Name(id.to_owned())),
        ([], Some(id), Some(secret)) => Ok(Presented::Post(id.to_owned(), secret.to_owned())),
        ([_], _, Some(_)) => Err(invalid_request(
            "the app authenticates both by the Authorization header and in the form; use one",
        )),
        ([header], client_id, None) => {
            let (raw, decoded) = basic(header).ok_or_else(|| {
                invalid_client(
                    "the Authorization header must be `Basic` and base64 of `client_id:client_secret`",
                )
            })?;
            let agrees = client_id.is_none_or(|id| id == raw.0 || id == decoded.0);
            if agrees {
                Ok(Presented::Basic { raw, decoded })
            } else {
                Err(invalid_request("`client_id` in the form is not the one in the Authorization header"))
            }
        }
        _ => Err(invalid_request("send one Authorization header, not several")),
    }
}

fn by_assertion<'a>(
    text: &'a str,
    assertion_type: Option<&str>,
    client_id: Option<&str>,
) -> Result<Presented<'a>, Problem> {
    if assertion_type != Some(assertion::TYPE) {
        let words = format!("send `client_assertion_type={}` with the assertion", assertion::TYPE);
        return Err(invalid_client(words).at("client_assertion_type"));
    }
    let jws = assertion::parse(text)?;
    let issuer = assertion::issuer(&jws)?;
    if client_id.is_some_and(|id| id != issuer) {
        return Err(invalid_client("`client_id` is not the app that the assertion is from").at("client_id"));
    }
    Ok(Presented::Assertion(jws))
}

/// Both readings of a Basic header.
fn basic(header: &str) -> Option<((String, String), (String, String))> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let raw = (id.to_owned(), secret.to_owned());
    Some((raw, (form_decoded(id), form_decoded(secret))))
}

fn form_decoded(text: &str) -> String {
    let guarded = text.replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(guarded.as_bytes())
        .map(|(name, _)| name.into_owned())
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basic_header_is_read_raw_and_form_decoded() {
        let header = format!("basic {}", STANDARD.encode("my%2Dapp:a%3Ab%25=+c"));
        let (raw, decoded) = basic(&header).unwrap();
        assert_eq!(raw, ("my%2Dapp".into(), "a%3Ab%25=+c".into()));
        assert_eq!(decoded, ("my-app".into(), "a:b%= c".into()));
        assert!(basic("Bearer abc").is_none());
        assert!(basic("Basic !!!").is_none());
        assert!(basic(&format!("Basic {}", STANDARD.encode("no colon"))).is_none());
    }
}
