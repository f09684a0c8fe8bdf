//! Tells web pages of strangers, also those that had their name point to this machine (DNS rebinding): they are kept away
//! from `/mcp`, and where callers need no key they get no tools and no conversation of others.
//!
//! A browser tells a page's own address in `Host` and `Origin`. A page can make its name resolve to any address, but it
//! cannot make the browser tell another name: so a `Host` that is an address, a loopback name or one the operator has named
//! (`server.allowed_hosts`, `server.public_url`) is fine, every other is not. Programs send no `Origin`; one that is there must be of this host, of this machine, or
//! named in `cors.allow_origins`, where `*` names nobody.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Uri, header};
use url::{Host, Url};

use super::config::{CorsConfig, ServerConfig};
use super::error::ApiError;

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
        (Ok(origin), None) => is_allowed_origin(origin, &host, cors),
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
/// Programs may call a gateway that others can reach by whatever name; what a page sends to it has an `Origin`. One that
/// only this machine can reach is called by no name but a page's own, and by those that containers have for the machine
/// they run on (`host.docker.internal`), which nobody can own.
pub(super) fn foreign_page(parts: &Parts, server: &ServerConfig, cors: &CorsConfig) -> Option<String> {
    let origin = parts.headers.get(header::ORIGIN);
    if origin.is_none() && !is_for_this_machine(server) {
        return None;
    }
    let host = authority(parts).ok()?;
    let is_foreign_host = !is_allowed_host(&host, server);
    let Some(origin) = origin else {
        return (is_foreign_host && !is_internal_name(&host)).then(|| host.to_string());
    };
    let is_single = parts.headers.get_all(header::ORIGIN).iter().count() == 1;
    let text = origin.to_str().unwrap_or_default();
    let is_named = is_named_origin(text, cors);
    let is_own = is_named || (!is_foreign_host && is_allowed_origin(text, &host, cors));
    (!is_own || !is_single).then(|| String::from_utf8_lossy(origin.as_bytes()).into_owned())
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

/// Whether the operator has named the page; `*` names nobody.
fn is_named_origin(origin: &str, cors: &CorsConfig) -> bool {
    cors.allow_origins.iter().any(|allowed| allowed != "*" && allowed.eq_ignore_ascii_case(origin))
}

fn is_allowed_origin(origin: &str, host: &Authority, cors: &CorsConfig) -> bool {
    if is_named_origin(origin, cors) {
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

/// Whether it is below the top-level domain that is for private use only.
fn is_internal_name(authority: &Authority) -> bool {
    plain(authority.host()).ends_with(".internal")
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
            let server = ServerConfig { host: listens.to_owned(), ..ServerConfig::default() };
            let allow_origins = vec!["https://chat.example".to_owned()];
            let cors = CorsConfig { allow_origins, ..CorsConfig::default() };
            foreign_page(&request.body(()).unwrap().into_parts().0, &server, &cors)
        };
        for (host, origin, listens) in [
            ("localhost:8000", None, "127.0.0.1"),
            ("host.docker.internal:8000", None, "127.0.0.1"),
            ("[::1]:8000", Some("http://localhost:3000"), "[::1]"),
            ("localhost:8000", Some("https://chat.example"), "127.0.0.1"),
            ("gateway:8000", None, "0.0.0.0"),
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
        ] {
            assert_eq!(page(host, origin, listens).as_deref(), Some(name), "{host} {origin:?}");
        }
    }
}
