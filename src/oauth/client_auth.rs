//! Who is calling the token endpoint: none, basic, post (SMART App Launch 2.2, "Client authentication").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::client::Client;
use super::client_metadata::AuthMethod;
use super::params::Params;
use crate::error::{Problem, invalid_client, invalid_grant, invalid_request};
use crate::store::db::Tx;

/// What a caller presented, before anything of it is believed.
enum Presented {
    /// Only a name.
    Name(String),
    /// A name and a secret in the Authorization header, as sent and as form-decoded.
    Basic { raw: (String, String), decoded: (String, String) },
    /// A name and a secret in the form.
    Post(String, String),
}

/// The calling app, proven by the method it is registered for.
///
/// # Errors
/// `invalid_client` where it is not who it says; `invalid_request` where it says it in two ways at once.
pub fn authenticate(tx: &Tx<'_>, authorization: &[&str], params: &Params) -> Result<Client, Problem> {
    let refresh_token = match params.one("grant_type")? {
        Some("refresh_token") => params.one("refresh_token")?,
        _ => None,
    };
    let presented = match (authorization, params.one("client_id")?, refresh_token) {
        // Some public apps send a refresh token alone: the token itself says whose it is.
        ([], None, Some(token)) => match super::refresh::holder(tx, token)? {
            Some(client) => Presented::Name(client.id),
            None => {
                return Err(invalid_grant(
                    "the refresh token is not one of this server's, or was long forgotten",
                ));
            }
        },
        _ => presented(authorization, params)?,
    };
    let client = match &presented {
        Presented::Name(id) | Presented::Post(id, _) => Client::find(tx, id)?,
        // Ids hold no character that form-encoding changes, so at most one reading is an id.
        Presented::Basic { raw, decoded } => match Client::find(tx, &raw.0)? {
            Some(client) => Some(client),
            None => Client::find(tx, &decoded.0)?,
        },
    };
    let Some(client) = client else {
        // Whoever holds a refresh token of an app that is gone is told about the token, not about a name.
        if let Some(token) = refresh_token
            && super::refresh::grant_of(tx, token)?.is_some()
        {
            return Err(invalid_grant(
                "the access was ended (the app was deleted); register it again and launch",
            ));
        }
        return Err(invalid_client("no app is registered under this client_id").at("client_id"));
    };
    let method = client.metadata.token_endpoint_auth_method;
    let proven = match (&presented, method) {
        (Presented::Name(_), AuthMethod::None) => true,
        (Presented::Basic { raw, decoded }, AuthMethod::ClientSecretBasic) => {
            // Some clients send the secret as it is, others form-encode it first (RFC 6749 2.3.1).
            Client::has_secret(tx, &client.id, &raw.1)? | Client::has_secret(tx, &client.id, &decoded.1)?
        }
        (Presented::Post(_, secret), AuthMethod::ClientSecretPost) => {
            Client::has_secret(tx, &client.id, secret)?
        }
        _ => {
            return Err(invalid_client(format!(
                "the app is registered with `token_endpoint_auth_method` `{}`, and this request authenticates \
                 in another way",
                method.as_str()
            )));
        }
    };
    if proven { Ok(client) } else { Err(invalid_client("the client secret is wrong")) }
}

fn presented(authorization: &[&str], params: &Params) -> Result<Presented, Problem> {
    let client_id = params.one("client_id")?;
    let secret = params.one("client_secret")?;
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
