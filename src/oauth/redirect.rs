//! Redirect URIs: which can be registered, and which of those sent are an app's own (RFC 9700 2.1, RFC 8252).

use url::Url;

use super::client_metadata::ApplicationType;

/// The longest URI that can be registered, bytes.
pub const LONGEST_URI: usize = 2_000;

/// Whether `sent` is `registered`: equal text, but for the port of a native app's loopback address (RFC 8252
/// 7.3) and the case of a custom scheme, which phones change.
pub fn is_registered(registered: &str, sent: &str, application_type: ApplicationType) -> bool {
    same(registered, sent) || (application_type == ApplicationType::Native && same_but_port(registered, sent))
}

/// Whether two redirect URIs are the same where only the case of a custom scheme may have changed on the way.
pub fn same(a: &str, b: &str) -> bool {
    a == b || same_but_scheme_case(a, b)
}

fn same_but_scheme_case(registered: &str, sent: &str) -> bool {
    let (Some((scheme, rest)), Some((sent_scheme, sent_rest))) =
        (registered.split_once(':'), sent.split_once(':'))
    else {
        return false;
    };
    let custom = !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https");
    custom && scheme.eq_ignore_ascii_case(sent_scheme) && rest == sent_rest
}

fn same_but_port(registered: &str, sent: &str) -> bool {
    const LOOPBACKS: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];
    fn without_port<'a>(uri: &'a str, host: &str) -> Option<&'a str> {
        let rest = uri.strip_prefix(host)?;
        let rest = match rest.strip_prefix(':') {
            None => rest,
            Some(port) => {
                let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
                port[..digits].parse::<u16>().ok()?;
                &port[digits..]
            }
        };
        (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
    }
    LOOPBACKS
        .iter()
        .any(|host| without_port(registered, host).is_some_and(|path| without_port(sent, host) == Some(path)))
}

/// Schemes that are no place to send a code to.
const NEVER: [&str; 10] =
    ["javascript", "data", "file", "vbscript", "about", "blob", "filesystem", "ftp", "ws", "wss"];

/// Whether one redirect URI can be registered.
///
/// # Errors
/// Why not, as the rest of a sentence about it.
pub fn can_be_registered(
    uri: &str,
    application_type: ApplicationType,
    public: bool,
    http_anywhere: bool,
) -> Result<(), &'static str> {
    if uri.len() > LONGEST_URI
        || !uri.is_ascii()
        || uri.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err("must be ASCII without spaces, and no longer than 2,000 characters");
    }
    if uri.contains(['\\', '<', '>', '"', '`', '{', '}', '^', '|']) {
        return Err("holds a character that does not belong in a URI");
    }
    if uri.contains('#') {
        return Err("has a fragment (`#…`), which never reaches the app's server; leave it out");
    }
    if uri.contains('*') {
        return Err("has a wildcard; register each redirect URI in full");
    }
    let url = Url::parse(uri).map_err(|_| "is not an absolute URI")?;
    // Browsers read `https:/a`, `https:///a` and `https://@a` as `https://a`. What is compared as text must
    // say what it means.
    let written = uri[url.scheme().len()..].strip_prefix("://").unwrap_or_default();
    let authority = written.split(['/', '?']).next().unwrap_or_default();
    if matches!(url.scheme(), "http" | "https") && authority.is_empty() {
        return Err("has no host after `//`");
    }
    if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
        return Err("has user information before its host; leave it out");
    }
    match url.scheme() {
        "https" if url.host_str().is_some_and(|h| !h.is_empty()) => Ok(()),
        "http" if is_safe(uri) || http_anywhere && !is_unspecified(&url) => Ok(()),
        "http" => Err("must be https; http is only for this machine's own loopback address"),
        "https" => Err("has no host"),
        scheme if NEVER.contains(&scheme) => Err("has a scheme that is no app of its own"),
        _ if !public => Err("has a scheme of its own, which only a public app may register"),
        _ if application_type == ApplicationType::Web && !uri.contains(':') => Err("is not an absolute URI"),
        _ => Ok(()),
    }
}

/// `0.0.0.0` and `[::]` are no address of an app.
fn is_unspecified(url: &Url) -> bool {
    matches!(url.host_str(), Some("0.0.0.0" | "[::]"))
}

/// Whether a redirect is one that production allows: not `http` beyond this machine.
pub fn is_safe(uri: &str) -> bool {
    match Url::parse(uri) {
        Ok(url) if url.scheme() == "http" => {
            matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
