//! Every setting: its name, its default, what it means and what is wrong with a bad value.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::clock::{DAY, HOUR, MINUTE, Millis, SECOND};

/// Where the sandbox listens when nothing is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// The database file when nothing is said.
pub const DEFAULT_DATABASE: &str = "hearthgate.db";
/// The word that everyone in the sandbox signs in with; it is shown on the sign-in page.
pub const SANDBOX_PASSWORD: &str = "hearth";

/// How long an authorization request stays open.
pub const REQUEST_LIFE: Millis = 30 * MINUTE;
/// How long a code can be exchanged.
pub const CODE_LIFE: Millis = 60 * SECOND;
/// How long an app may take to come with the `launch` it was opened with.
pub const LAUNCH_LIFE: Millis = 5 * MINUTE;
/// How long an access token for a person lives where the app says nothing else.
pub const ACCESS_TOKEN_LIFE: Millis = HOUR;
/// How long an access token of a backend service lives at most (SMART App Launch 2.2).
pub const SERVICE_TOKEN_LIFE: Millis = 5 * MINUTE;
/// How long an id_token may be accepted.
pub const ID_TOKEN_LIFE: Millis = HOUR;
/// How long others may keep what is published: discovery and the JWK Set.
pub const PUBLISHED_MAX_AGE: Millis = 5 * MINUTE;
/// Days after which a signing key is replaced where nothing is said.
pub const DEFAULT_KEY_ROTATION_DAYS: u32 = 90;
/// A session ends when it was not used for this long …
pub const SESSION_IDLE: Millis = 30 * MINUTE;
/// … and after this long in any case.
pub const SESSION_LIFE: Millis = 12 * HOUR;

/// What this server is for. A database belongs to one mode for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// For developing apps: made-up people, open registration, an open twin of the data.
    Sandbox,
    /// For real people and records.
    Production,
}

impl Mode {
    /// The name in settings and in the database's stamp.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Sandbox => "sandbox",
            Mode::Production => "production",
        }
    }
}

/// What the mode allows. The mode is read once, here; nothing else asks for it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `/open/fhir`: the data without a token, read-only.
    pub open_twin: bool,
    /// Everyone signs in with the one word of [`SANDBOX_PASSWORD`].
    pub shared_password: bool,
    /// Redirect URIs may be `http` beyond loopback.
    pub http_redirects: bool,
    /// This machine and its network may be called, and http on loopback.
    pub calls_near: bool,
    /// Anybody may register an app.
    pub open_registration: bool,
    /// An app gets without anybody's approval what otherwise needs it: `system/` scopes, the introspection of
    /// other apps' tokens, the status of sign-in-only.
    pub approves_all: bool,
    /// Programs on this machine may do everything at any rate.
    pub spares_loopback: bool,
    /// Apps of SMART 1.0's time may be registered, which know no PKCE.
    pub no_pkce_apps: bool,
    /// Programs may launch apps as an EHR does: `/sandbox/launches`.
    pub launch_simulator: bool,
    /// How surely a sign-in says who somebody is: `acr` of OpenID Connect Core 2. "0" is its word for what meets
    /// not even the lowest level of assurance, and a word that everybody shares proves nothing.
    pub acr: Option<&'static str>,
    /// The shortest life an app's access tokens may be given.
    pub shortest_token_life: Millis,
}

impl From<Mode> for Policy {
    fn from(mode: Mode) -> Self {
        let sandbox = mode == Mode::Sandbox;
        Policy {
            open_twin: sandbox,
            shared_password: sandbox,
            http_redirects: sandbox,
            calls_near: sandbox,
            open_registration: sandbox,
            approves_all: sandbox,
            spares_loopback: sandbox,
            no_pkce_apps: sandbox,
            launch_simulator: sandbox,
            acr: sandbox.then_some("0"),
            shortest_token_life: if sandbox { SECOND } else { MINUTE },
        }
    }
}

/// The settings as they are given: by flag, by `HEARTHGATE_…` variable, or in the file, in this order.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port to listen on
    #[arg(long, env = "HEARTHGATE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// The URL apps and browsers reach this server by; also the issuer
    #[arg(long, env = "HEARTHGATE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// The SQLite file; `:memory:` for a private one that is removed at exit
    #[arg(long, env = "HEARTHGATE_DATABASE", value_name = "FILE")]
    pub database: Option<String>,
    /// What this server is for
    #[arg(long, env = "HEARTHGATE_MODE")]
    pub mode: Option<Mode>,
    /// Days after which signing keys are replaced; 0 for never [default: 90]
    #[arg(long, env = "HEARTHGATE_KEY_ROTATION_DAYS", value_name = "DAYS")]
    pub key_rotation_days: Option<u32>,
    /// A TOML file of these same settings
    #[arg(long, env = "HEARTHGATE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print one line of JSON on standard output when ready
    #[arg(long, env = "HEARTHGATE_READY_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    #[serde(skip)]
    pub ready_json: bool,
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// P: the public URL and issuer, byte for byte; absent until the port is known.
    pub public_url: Option<String>,
    /// The SQLite file or `:memory:`.
    pub database: String,
    /// What this server is for.
    pub mode: Mode,
    /// How long a signing key signs; for good where there is none.
    pub key_rotation: Option<Millis>,
    /// Whether to announce readiness as JSON.
    pub ready_json: bool,
}

/// A setting that cannot be used: which one, and what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {words}")]
pub struct BadSetting {
    setting: &'static str,
    words: String,
}

fn bad(setting: &'static str, words: impl Into<String>) -> BadSetting {
    BadSetting { setting, words: words.into() }
}

impl Settings {
    /// Adds what the file says where neither flag nor variable did, and checks everything.
    pub fn check(self) -> Result<Config, BadSetting> {
        let file = match &self.config {
            None => Settings::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| bad("config", format!("cannot read {}: {e}", path.display())))?;
                toml::from_str(&text)
                    .map_err(|e| bad("config", format!("{}: {}", path.display(), e.message())))?
            }
        };
        let listen_given = self.listen.or(file.listen);
        let text = listen_given.as_deref().unwrap_or(DEFAULT_LISTEN);
        let listen: SocketAddr = text.parse().map_err(|_| {
            bad("listen", format!("`{text}` is not an address and port; write it like {DEFAULT_LISTEN}"))
        })?;
        let given_mode = self.mode.or(file.mode);
        let mode = given_mode.unwrap_or(Mode::Sandbox);
        if given_mode.is_none() && !listen.ip().is_loopback() {
            return Err(bad(
                "mode",
                format!(
                    "{listen} can be reached from other machines, and the sandbox lets anybody sign in as \
                     anybody; add --mode sandbox if that is meant"
                ),
            ));
        }
        let public_url = match (self.public_url.or(file.public_url), &listen_given) {
            (Some(url), _) => Some(check_public_url(&url, mode)?),
            (None, None) => Some(format!("http://localhost:{}", listen.port())),
            (None, Some(_)) => None,
        };
        if mode == Mode::Production && public_url.is_none() {
            return Err(bad("public-url", "production needs the https URL that people and apps use"));
        }
        let days = self.key_rotation_days.or(file.key_rotation_days).unwrap_or(DEFAULT_KEY_ROTATION_DAYS);
        Ok(Config {
            listen,
            public_url,
            database: self.database.or(file.database).unwrap_or_else(|| DEFAULT_DATABASE.into()),
            mode,
            key_rotation: (days > 0).then(|| Millis::from(days) * DAY),
            ready_json: self.ready_json,
        })
    }
}

/// P as it must be everywhere: scheme and authority, nothing else.
fn check_public_url(text: &str, mode: Mode) -> Result<String, BadSetting> {
    let url = Url::parse(text).map_err(|e| bad("public-url", format!("`{text}` is not a URL: {e}")))?;
    let origin = url.origin().ascii_serialization();
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("public-url", format!("`{text}` must begin with https:// (or http://)")));
    }
    if origin != text {
        return Err(bad(
            "public-url",
            format!("`{text}` must be only scheme, host and port, with no slash after it: write {origin}"),
        ));
    }
    if mode == Mode::Production && url.scheme() != "https" {
        return Err(bad("public-url", "production needs an https URL"));
    }
    Ok(origin)
}

/// P where none was configured: loopback, at the port that was bound.
pub fn loopback_url(bound: SocketAddr) -> String {
    let host = match bound.ip() {
        IpAddr::V6(ip) if ip.is_loopback() => format!("[{ip}]"),
        IpAddr::V4(ip) if ip.is_loopback() => ip.to_string(),
        _ => "127.0.0.1".into(),
    };
    format!("http://{host}:{}", bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: Option<&str>, url: Option<&str>, mode: Option<Mode>) -> Settings {
        Settings {
            listen: listen.map(Into::into),
            public_url: url.map(Into::into),
            mode,
            ..Settings::default()
        }
    }

    #[test]
    fn with_no_settings_it_is_the_sandbox_on_port_8080() {
        let config = Settings::default().check().unwrap();
        assert_eq!(config.public_url.as_deref(), Some("http://localhost:8080"));
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!((config.mode, config.database.as_str()), (Mode::Sandbox, "hearthgate.db"));
    }

    #[test]
    fn signing_keys_are_replaced_every_90_days_unless_told_otherwise() {
        let days =
            |days| Settings { key_rotation_days: days, ..Settings::default() }.check().unwrap().key_rotation;
        assert_eq!((days(None), days(Some(7)), days(Some(0))), (Some(90 * DAY), Some(7 * DAY), None));
    }

    #[test]
    fn the_public_url_follows_the_listening_address_unless_given() {
        let config = settings(Some("127.0.0.1:0"), None, None).check().unwrap();
        assert_eq!(config.public_url, None);
        assert_eq!(loopback_url("127.0.0.1:9".parse().unwrap()), "http://127.0.0.1:9");
        assert_eq!(loopback_url("0.0.0.0:9".parse().unwrap()), "http://127.0.0.1:9");
        assert_eq!(loopback_url("[::1]:9".parse().unwrap()), "http://[::1]:9");
    }

    #[test]
    fn a_public_url_with_anything_after_the_authority_is_refused() {
        for url in [
            "http://a.example/",
            "http://a.example/x",
            "http://a.example?x",
            "http://A.example",
            "http://a.example:80",
            "ftp://a.example",
            "a.example",
            "http://u@a.example",
        ] {
            assert!(settings(None, Some(url), None).check().is_err(), "{url}");
        }
        assert!(settings(None, Some("https://a.example:8443"), None).check().is_ok());
    }

    #[test]
    fn the_sandbox_on_an_open_address_must_be_asked_for() {
        assert!(settings(Some("0.0.0.0:8080"), None, None).check().is_err());
        assert!(settings(Some("0.0.0.0:8080"), None, Some(Mode::Sandbox)).check().is_ok());
    }

    #[test]
    fn production_allows_none_of_what_the_sandbox_does() {
        let policy = Policy::from(Mode::Production);
        assert!(!policy.open_twin && !policy.shared_password && !policy.http_redirects);
        assert!(!policy.open_registration && policy.shortest_token_life > SECOND);
        assert!(settings(None, Some("http://a.example"), Some(Mode::Production)).check().is_err());
    }
}
