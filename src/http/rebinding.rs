//! Tells web pages of strangers, also those that had their name point to this machine (DNS rebinding): they are kept away
//! from `/mcp`, and where callers need no key they get no tools and no conversation of others.
//!
//! A browser tells a page's own address in `Host` and `Origin`. A page can make its name resolve to any address, but it
//! cannot make the browser tell another name: so a `Host` that is an address, a loopback name or one the operator has named
//! (`server.allowed_hosts`, `server.public_url`) is fine, every other is not. Programs send no `Origin`; one that is there
//! must be of this host, of this machine, or named in `cors.allow_origins`, where `*` names nobody.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use url::{Host, Url};

use super::config::{CorsConfig, ServerConfig};
use super::error::ApiError;
use crate::access::ForeignPage;

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not say where it goes to.
    NoHost,
    /// It goes to a host that is not allowed.
    Host,
    /// It comes from a page that is not allowed.
    Origin,
}

impl Refusal {
    /// The rule that refuses; `None` for a request that is broken.
    pub(super) fn rule(self) -> Option<&'static str> {
        match self {
            Self::NoHost => None,
            Self::Host => Some("host"),
            Self::Origin => Some("origin"),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoHost => Self::bad_request(Some("host"), "the request must have one valid Host header"),
            Refusal::Host => Self::host_not_allowed(),
            Refusal::Origin => Self::origin_not_allowed(),
        }
    }
}

/// Refuses a request that a page of a stranger may have sent.
///
/// # Errors
/// [`Refusal`]: 400 for a `Host` that is missing or none, 403 for one or an `Origin` that is not allowed.
pub(super) fn check(parts: &Parts, server: &ServerConfig, cors: &CorsConfig) -> Result<(), Refusal> {
    let host = allowed_authority(parts, server)?;
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let is_allowed = match (origin.to_str(), origins.next()) {
        (Ok(origin), None) => is_allowed_origin(origin, &host, server, cors),
        _ => false,
    };
    if is_allowed {
        return Ok(());
    }
    tracing::warn!(?origin, "refused a request of a web page that is not allowed");
    Err(Refusal::Origin)
}

/// The page of a stranger that may have sent the request: its origin, or the name it gave this machine.
///
/// Programs may call a gateway that others can reach by whatever name; what a page writes to it has an `Origin`, and what
/// it reads may have none. One that only this machine can reach is called by no name but a page's own, and by those that
/// nobody can own, such as containers have for each other and for the machine they run on (`host.docker.internal`).
pub(super) fn foreign_page(parts: &Parts, server: &ServerConfig, cors: &CorsConfig) -> Option<ForeignPage> {
    let host = authority(parts).ok();
    let is_own_host = host.as_ref().is_some_and(|host| is_allowed_host(host, server));
    let Some(origin) = parts.headers.get(header::ORIGIN) else {
        let named = parts.headers.get(header::HOST).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let address = host.as_ref().map(ToString::to_string).or(named.map(Cow::into_owned));
        // Browsers always tell a host.
        let address = address.filter(|_| !is_own_host && !host.as_ref().is_some_and(is_private_name))?;
        return Some(ForeignPage { address, is_certain: is_for_this_machine(server) });
    };
    let is_single = parts.headers.get_all(header::ORIGIN).iter().count() == 1;
    let text = origin.to_str().unwrap_or_default();
    let is_of_host = || host.as_ref().is_some_and(|host| is_allowed_origin(text, host, server, cors));
    let is_own = is_named_origin(text, server, cors) || (is_own_host && is_of_host());
    let address = || String::from_utf8_lossy(origin.as_bytes()).into_owned();
    (!is_own || !is_single).then(|| ForeignPage { address: address(), is_certain: true })
}

/// Whether the request is of a page without an address, or one that does not tell it: many have the origin `null`.
pub(super) fn is_of_nameless_page(headers: &HeaderMap) -> bool {
    headers.get_all(header::ORIGIN).iter().any(|origin| {
        let url = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
        url.is_none_or(|url| url.host().is_none())
    })
}

/// Whether the gateway listens where nobody but this machine can reach it.
fn is_for_this_machine(server: &ServerConfig) -> bool {
    let host = plain(&server.host);
    is_loopback_name(&host) || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The host and port the request says it goes to, of those that no page of a stranger can claim.
///
/// # Errors
/// As of [`check`], for the `Host`.
pub(super) fn host(parts: &Parts, server: &ServerConfig) -> Result<String, Refusal> {
    let authority = allowed_authority(parts, server)?;
    let host = authority.host();
    Ok(authority.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn allowed_authority(parts: &Parts, server: &ServerConfig) -> Result<Authority, Refusal> {
    let host = authority(parts)?;
    if is_allowed_host(&host, server) {
        return Ok(host);
    }
    tracing::warn!(host = host.as_str(), "refused a request to a host that is not allowed");
    Err(Refusal::Host)
}

/// Where the request says it goes: the one `Host` header, or what HTTP/2 has instead.
fn authority(parts: &Parts) -> Result<Authority, Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => parts.uri.authority().cloned(),
        (Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
        (Some(_), Some(_)) => None,
    };
    host.ok_or(Refusal::NoHost)
}

fn is_allowed_host(authority: &Authority, server: &ServerConfig) -> bool {
    let host = plain(authority.host());
    if is_address(&host) || is_loopback_name(&host) || host == plain(&server.host) {
        return true;
    }
    let allowed_hosts = server.allowed_hosts.iter().map(String::as_str);
    allowed_hosts.chain(server.public_url.authority()).any(|allowed| {
        let Ok(allowed) = allowed.parse::<Authority>() else { return allowed == "*" };
        let is_port = allowed.port_u16().is_none_or(|port| authority.port_u16() == Some(port));
        allowed == "*" || (plain(allowed.host()) == host && is_port)
    })
}

/// Whether the operator has named the page, or the gateway's own address is the page's; `*` names nobody.
fn is_named_origin(origin: &str, server: &ServerConfig, cors: &CorsConfig) -> bool {
    let named = cors.allow_origins.iter().map(String::as_str).filter(|named| *named != "*");
    named.chain(server.public_url.origin()).any(|named| named.eq_ignore_ascii_case(origin))
}

fn is_allowed_origin(origin: &str, host: &Authority, server: &ServerConfig, cors: &CorsConfig) -> bool {
    if is_named_origin(origin, server, cors) {
        return true;
    }
    let Ok(url) = Url::parse(origin) else { return false };
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => is_loopback_name(name),
        None => false,
    };
    let is_web = matches!(url.scheme(), "http" | "https");
    is_web && (is_loopback || is_same(&url, host))
}

/// Whether a page of `origin` was served by `host` itself.
fn is_same(origin: &Url, host: &Authority) -> bool {
    let Ok(uri) = Uri::try_from(format!("{}://{host}", origin.scheme())) else { return false };
    let default = if origin.scheme() == "https" { 443 } else { 80 };
    origin.host_str().is_some_and(|name| plain(name) == plain(host.host()))
        && origin.port_or_known_default() == Some(uri.port_u16().unwrap_or(default))
}

/// A host without brackets, the dot at its end, and capitals.
fn plain(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// Whether it is below the top-level domain that is for private use only, or below none.
fn is_private_name(authority: &Authority) -> bool {
    let name = plain(authority.host());
    name.ends_with(".internal") || !name.contains('.')
}

fn is_loopback_name(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn verdict(host: &str, origin: Option<&str>, allowed: &[&str], origins: &[&str]) -> Option<u16> {
        let mut request = Request::post("/mcp").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let texts = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        let server = ServerConfig { allowed_hosts: texts(allowed), ..ServerConfig::default() };
        let cors = CorsConfig { allow_origins: texts(origins), ..CorsConfig::default() };
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, &server, &cors).err().map(|refusal| ApiError::from(refusal).status().as_u16())
    }

    #[test]
    fn only_hosts_that_no_page_can_claim_are_allowed() {
        let host = |host| verdict(host, None, &["Tools.example", "other.example:8443"], &["*"]);
        for good in [
            "127.0.0.1:8000",
            "localhost",
            "a.localhost:1",
            "[::1]:8000",
            "192.0.2.1",
            "tools.example:9",
            "TOOLS.EXAMPLE.",
            "other.example:8443",
        ] {
            assert_eq!(host(good), None, "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "other.example"]
        {
            assert_eq!(host(bad), Some(403), "{bad}");
        }
        assert_eq!(host("a b"), Some(400));
        assert_eq!(verdict("proxy.example", None, &["*"], &["*"]), None);
    }

    #[test]
    fn only_pages_of_this_host_or_named_ones_are_allowed() {
        let origin = |origin| verdict("tools.example:8000", Some(origin), &["*"], &["https://chat.example"]);
        for good in [
            "http://tools.example:8000",
            "https://tools.example:8000",
            "http://localhost:6274",
            "http://127.0.0.1:1",
            "http://[::1]",
            "https://chat.example",
        ] {
            assert_eq!(origin(good), None, "{good}");
        }
        for bad in [
            "http://tools.example",
            "http://evil.example:8000",
            "null",
            "",
            "https://chat.example.evil.example",
            "http://localhost.evil.example",
            "file://",
            "chrome-extension://localhost",
        ] {
            assert_eq!(origin(bad), Some(403), "{bad:?}");
        }
        assert_eq!(verdict("localhost", Some("https://a.example"), &[], &["*"]), Some(403));
    }

    #[test]
    fn a_page_is_foreign_unless_somebody_vouches_for_it() {
        let page = |host: &str, origin: Option<&str>, listens: &str| {
            let mut request = Request::post("/chat").header("host", host);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let public_url = "https://tools.example/mcp".to_owned().try_into().unwrap();
            let server = ServerConfig { host: listens.to_owned(), public_url, ..ServerConfig::default() };
            let allow_origins = vec!["https://chat.example".to_owned()];
            let cors = CorsConfig { allow_origins, ..CorsConfig::default() };
            foreign_page(&request.body(()).unwrap().into_parts().0, &server, &cors)
        };
        let certain = |address: &str| Some(ForeignPage { address: address.to_owned(), is_certain: true });
        for (host, origin, listens) in [
            ("localhost:8000", None, "127.0.0.1"),
            ("host.docker.internal:8000", None, "127.0.0.1"),
            ("[::1]:8000", Some("http://localhost:3000"), "[::1]"),
            ("localhost:8000", Some("https://chat.example"), "127.0.0.1"),
            ("192.0.2.1:8000", None, "0.0.0.0"),
            ("gateway:8000", None, "0.0.0.0"),
            ("localhost:8000", Some("https://tools.example"), "127.0.0.1"),
            ("tools.example", None, "127.0.0.1"),
            ("gateway:8000", Some("https://chat.example"), "0.0.0.0"),
            ("192.0.2.1:8000", Some("http://192.0.2.1:8000"), "0.0.0.0"),
        ] {
            assert_eq!(page(host, origin, listens), None, "{host} {origin:?}");
        }
        for (host, origin, listens, name) in [
            ("evil.example:8000", None, "127.0.0.1", "evil.example:8000"),
            ("evil.example:8000", None, "localhost", "evil.example:8000"),
            ("localhost:8000", Some("http://evil.example"), "127.0.0.1", "http://evil.example"),
            ("localhost:8000", Some("null"), "127.0.0.1", "null"),
            ("a.internal", Some("http://a.internal"), "127.0.0.1", "http://a.internal"),
            ("evil.example", Some("http://evil.example"), "0.0.0.0", "http://evil.example"),
            ("a{b.example", Some("http://a{b.example"), "127.0.0.1", "http://a{b.example"),
            ("a{b.example", None, "127.0.0.1", "a{b.example"),
        ] {
            assert_eq!(page(host, origin, listens), certain(name), "{host} {origin:?}");
        }
        let possible = ForeignPage { address: "gateway.example".to_owned(), is_certain: false };
        assert_eq!(page("gateway.example", None, "0.0.0.0"), Some(possible));
    }
}
