//! The one guarded way to call outside: to addresses that somebody else registered.
//!
//! Whoever registers an address chooses where this server connects to, so that it is looked at as an attack
//! (server-side request forgery): only https, only public addresses, no redirects, and neither a long answer nor
//! a slow one. The sandbox may also call its own machine and network, and http on loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::clock::{DAY, MINUTE, Millis, SECOND};

/// The largest answer that is read, bytes.
const LARGEST: usize = 256 * 1024;
/// How long a connection may take …
const CONNECT: Duration = Duration::from_secs(2);
/// … and everything together.
const WHOLE: Duration = Duration::from_secs(5);
/// How long an answer may be kept where it says nothing of it.
const KEPT_UNSAID: Millis = 5 * MINUTE;
/// How long one may be kept whatever it says.
const KEPT_LONGEST: Millis = DAY;

/// Why nothing was fetched. Safe to show to the app's developer: nothing of the answer is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The address is none that is called from here.
    #[error("{0}")]
    Refused(&'static str),
    /// Nobody answered there, or not in time.
    #[error("nothing answered there in time")]
    NoAnswer,
    /// Another status than was hoped for; redirects are not followed.
    #[error("it answered with HTTP status {0}")]
    Status(u16),
    /// The answer is too long.
    #[error("the answer is longer than 256 KB")]
    TooLong,
}

/// An answer, and for how long it may be used.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The body.
    pub body: Vec<u8>,
    /// How long it may be kept (Cache-Control of RFC 9111), milliseconds; 0 is not at all.
    pub keep: Millis,
}

/// Calls outside.
#[derive(Clone)]
pub struct Fetcher {
    http: reqwest::Client,
    near: bool,
}

impl Fetcher {
    /// One that may call this machine and its network too, if `near`.
    ///
    /// # Errors
    /// Where the TLS library finds no trusted roots, for one.
    pub fn new(near: bool) -> Result<Fetcher, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .user_agent(concat!("hearthgate/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Guarded { near })
            .build()?;
        Ok(Fetcher { http, near })
    }

    /// What is at `url`, asked for as JSON.
    pub async fn get_json(&self, url: &str) -> Result<Fetched, FetchError> {
        let url = self.allowed(url)?;
        let request = self.http.get(url).header("accept", "application/json");
        let mut answer = request.send().await.map_err(why)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let said: Vec<&str> =
            answer.headers().get_all("cache-control").iter().filter_map(|v| v.to_str().ok()).collect();
        let keep = kept(&said.join(","));
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(why)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { body, keep })
    }

    /// Posts a form to `url`; answers with the HTTP status, whatever it is. The body of the answer is not read.
    pub async fn post_form(&self, url: &str, form: &[(&str, &str)]) -> Result<u16, FetchError> {
        let url = self.allowed(url)?;
        let answer = self.http.post(url).form(form).send().await.map_err(why)?;
        Ok(answer.status().as_u16())
    }

    /// What can be told from the address alone; names are looked at when they are resolved.
    fn allowed(&self, url: &str) -> Result<Url, FetchError> {
        let url = Url::parse(url).map_err(|_| FetchError::Refused("it is not a URL"))?;
        let loopback = match url.host() {
            Some(Host::Ipv4(ip)) => self.reachable(IpAddr::V4(ip))?.is_loopback(),
            Some(Host::Ipv6(ip)) => self.reachable(IpAddr::V6(ip))?.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(FetchError::Refused("it has no host")),
        };
        match url.scheme() {
            "https" => Ok(url),
            "http" if loopback && self.near => Ok(url),
            "http" => Err(FetchError::Refused("it must be https")),
            _ => Err(FetchError::Refused("it is not a web address")),
        }
    }

    fn reachable(&self, ip: IpAddr) -> Result<IpAddr, FetchError> {
        let words = "it is an address of this machine or its network, which is not called from here";
        if may_call(ip, self.near) { Ok(ip) } else { Err(FetchError::Refused(words)) }
    }
}

fn why(error: reqwest::Error) -> FetchError {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<FetchError>() {
            return refused.clone();
        }
        cause = error.source();
    }
    FetchError::NoAnswer
}

/// Resolves names to addresses that may be called. The connection goes to what was looked at here, so that a name
/// cannot mean one address when it is checked and another when it is used.
struct Guarded {
    near: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let near = self.near;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| may_call(address.ip(), near)).collect();
            if allowed.is_empty() {
                let words = "its name leads to this machine or its network, which is not called from here";
                return Err(FetchError::Refused(words).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address may be called. Link-local addresses never: cloud providers keep their secrets there.
fn may_call(ip: IpAddr, near: bool) -> bool {
    match ip {
        IpAddr::V4(ip) => may_call_v4(ip, near),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => may_call_v4(inner, near),
            None => {
                let unique_local = ip.segments()[0] & 0xfe00 == 0xfc00;
                let link_local = ip.segments()[0] & 0xffc0 == 0xfe80;
                let home = ip.is_loopback() || unique_local;
                !ip.is_unspecified() && !ip.is_multicast() && !link_local && (near || !home)
            }
        },
    }
}

fn may_call_v4(ip: Ipv4Addr, near: bool) -> bool {
    let [a, b, c, _] = ip.octets();
    // 0/8, 240/4 with broadcast, 192.0.0/24, 198.18/15: no address of anybody.
    let nobodys = a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) || (a, b & 0xfe) == (198, 18);
    let shared = a == 100 && b & 0xc0 == 64;
    let home = ip.is_loopback() || ip.is_private() || shared;
    !nobodys && !ip.is_multicast() && !ip.is_link_local() && (near || !home)
}

/// The IPv4 address that an IPv6 one carries: mapped, compatible, NAT64, 6to4.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = || {
        let o = ip.octets();
        Ipv4Addr::new(o[12], o[13], o[14], o[15])
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last()),
        [0, 0, 0, 0, 0, 0, a, b] if (a, b) != (0, 0) && (a, b) != (0, 1) => Some(last()),
        [0x2002, a, b, ..] => {
            let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// How long an answer may be kept by its Cache-Control: never longer than that says.
fn kept(cache_control: &str) -> Millis {
    let mut keep = None;
    for directive in cache_control.split(',').map(|d| d.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            None if ["no-store", "no-cache"].contains(&directive.as_str()) => return 0,
            Some(("max-age", seconds)) => {
                let seconds: Millis = seconds.trim_matches('"').parse().unwrap_or(0);
                let given = seconds.clamp(0, KEPT_LONGEST / SECOND) * SECOND;
                keep = Some(keep.map_or(given, |other: Millis| other.min(given)));
            }
            _ => {}
        }
    }
    keep.unwrap_or(KEPT_UNSAID)
}

#[cfg(test)]
mod tests;
