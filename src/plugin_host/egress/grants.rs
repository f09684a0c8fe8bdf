//! Network grants: the entries of `network = [...]` in an operator's file, and whether they cover a target.
//!
//! A grant names a host (or every host under a domain, or one address), a port, and with that the scheme:
//!
//! | grant | covers |
//! | --- | --- |
//! | `api.example.com` | `https` on port 443 |
//! | `api.example.com:80` | `http` on port 80 |
//! | `api.example.com:8080` | `http` and `https` on port 8080 |
//! | `api.example.com:8000-8010` | both on these ports |
//! | `http://api.example.com` | `http` on port 80 |
//! | `*.example.org` | `https` on port 443 of every host below `example.org`, at any depth, not of `example.org` |
//! | `http://127.0.0.1:8080`, `[::1]:9000` | that very address |
//!
//! Names are compared in the form that goes to the resolver: lower case, Punycode, no dot at the end. A name never
//! covers an address and no wildcard does. Whether an address that a name resolves to may be used is decided in
//! [`addresses`](super::addresses).

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;

use super::addresses::Class;
use super::target::{Host, Scheme, Target, split_port};

/// One entry of `network`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NetworkGrant {
    scheme: Option<Scheme>,
    host: HostPattern,
    ports: RangeInclusive<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Name(String),
    /// Every host below this domain.
    Under(String),
    Address(IpAddr),
}

/// Why an entry of `network` is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{grant:?} is not a network grant: {problem}")]
pub struct GrantError {
    grant: String,
    problem: String,
}

impl NetworkGrant {
    /// Whether the grant covers `target`.
    #[must_use]
    pub fn covers(&self, target: &Target) -> bool {
        self.covers_port(target) && self.covers_host(&target.host)
    }

    /// Whether the grant names `address` itself, for the scheme and port of `target`.
    #[must_use]
    pub fn names_address(&self, address: IpAddr, target: &Target) -> bool {
        self.covers_port(target) && self.host == HostPattern::Address(address.to_canonical())
    }

    fn covers_port(&self, target: &Target) -> bool {
        self.scheme.is_none_or(|scheme| scheme == target.scheme) && self.ports.contains(&target.port)
    }

    fn covers_host(&self, host: &Host) -> bool {
        match (&self.host, host) {
            (HostPattern::Name(granted), Host::Name(name)) => granted == name,
            (HostPattern::Under(domain), Host::Name(name)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (HostPattern::Address(granted), Host::Address(address)) => granted == address,
            _ => false,
        }
    }
}

impl FromStr for NetworkGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        parse(text.trim()).map_err(|problem| GrantError { grant: text.to_owned(), problem })
    }
}

impl TryFrom<String> for NetworkGrant {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        text.parse()
    }
}

/// The grant in full, in the normal form of its name: `https://api.example.com:443`.
impl fmt::Display for NetworkGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        match &self.host {
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Under(domain) => write!(f, "*.{domain}")?,
            HostPattern::Address(address) => Host::Address(*address).fmt(f)?,
        }
        let (first, last) = (self.ports.start(), self.ports.end());
        if first == last { write!(f, ":{first}") } else { write!(f, ":{first}-{last}") }
    }
}

fn parse(text: &str) -> Result<NetworkGrant, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.parse::<Scheme>()?), rest),
        None => (None, text),
    };
    if rest.contains(['/', '?', '#']) {
        return Err(
            "it names a host and a port, no path; write for example \"api.example.com:443\"".to_owned()
        );
    }
    if rest.contains('@') {
        return Err("a user name is not part of a grant".to_owned());
    }
    let (host, port) = split_port(rest)?;
    let host = host_pattern(host)?;
    let ports = port.map(port_range).transpose()?;
    // Without a scheme, the two well-known ports stand for theirs.
    let scheme = scheme.or(match ports.as_ref().map(|ports| (*ports.start(), *ports.end())) {
        None | Some((443, 443)) => Some(Scheme::Https),
        Some((80, 80)) => Some(Scheme::Http),
        Some(_) => None,
    });
    let default = scheme.map_or(443, Scheme::default_port);
    Ok(NetworkGrant { scheme, host, ports: ports.unwrap_or(default..=default) })
}

fn host_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Err(
            "\"*\" alone would grant the whole network; name the hosts, or \"*.example.org\"".to_owned()
        );
    }
    let (domain, below) = match text.strip_prefix("*.") {
        Some(domain) => (domain, true),
        None => (text, false),
    };
    if domain.contains('*') {
        return Err("a `*` may only stand for the first labels, as in \"*.example.org\"".to_owned());
    }
    match Host::parse(domain)? {
        Host::Address(_) if below => Err("a `*` cannot stand before an address".to_owned()),
        Host::Address(address) => addressable(address).map(HostPattern::Address),
        Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => {
            Err("this machine is granted by address only; write 127.0.0.1 or [::1] and the port".to_owned())
        }
        Host::Name(name) if below && !name.contains('.') => {
            Err(format!("\"*.{name}\" would grant a whole top-level domain; name at least two labels"))
        }
        Host::Name(name) if below => Ok(HostPattern::Under(name)),
        Host::Name(name) => Ok(HostPattern::Name(name)),
    }
}

/// Addresses that no single machine answers on cannot be granted.
fn addressable(address: IpAddr) -> Result<IpAddr, String> {
    match Class::of(address) {
        class @ (Class::Unspecified | Class::Multicast | Class::Broadcast) => {
            Err(format!("{address} is {class}, not the address of one machine"))
        }
        _ => Ok(address),
    }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is not a port from 1 to 65535, nor a range like 8000-8010");
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port > 0).ok_or_else(wrong)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last { Err(wrong()) } else { Ok(first..=last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> NetworkGrant {
        text.parse().unwrap()
    }

    fn covers(granted: &str, url: &str) -> bool {
        grant(granted).covers(&Target::from_uri(&url.parse().unwrap()).unwrap())
    }

    #[test]
    fn a_grant_covers_scheme_host_and_port() {
        for (granted, url) in [
            ("api.example.com", "https://api.example.com/v1?q=1"),
            ("api.example.com:443", "https://api.example.com/"),
            ("api.example.com:80", "http://api.example.com/"),
            ("api.example.com:8080", "http://api.example.com:8080/"),
            ("api.example.com:8080", "https://api.example.com:8080/"),
            ("api.example.com:8000-8010", "https://api.example.com:8010/"),
            ("http://api.example.com", "http://api.example.com/"),
            ("https://api.example.com:8443", "https://api.example.com:8443/"),
            ("API.Example.COM.", "https://api.example.com/"),
            ("api.example.com", "https://API.EXAMPLE.com.:443/"),
            ("*.example.org", "https://a.example.org/"),
            ("*.example.org", "https://a.b.example.org/"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080/"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("[::1]:9000", "http://[0:0:0:0:0:0:0:1]:9000/"),
            ("bücher.example", "https://xn--bcher-kva.example/"),
            ("xn--bcher-kva.example", "https://XN--BCHER-KVA.example/"),
        ] {
            assert!(covers(granted, url), "{granted} should cover {url}");
        }
    }

    #[test]
    fn a_grant_covers_nothing_else() {
        for (granted, url) in [
            ("api.example.com", "http://api.example.com/"),
            ("api.example.com", "https://api.example.com:8443/"),
            ("api.example.com", "https://example.com/"),
            ("api.example.com", "https://a.api.example.com/"),
            ("api.example.com", "https://api.example.com.evil.test/"),
            ("api.example.com:443", "http://api.example.com:443/"),
            ("api.example.com:80", "https://api.example.com:80/"),
            ("api.example.com:8000-8010", "https://api.example.com:8011/"),
            ("*.example.org", "https://example.org/"),
            ("*.example.org", "https://badexample.org/"),
            ("*.example.org", "https://a.example.org.evil.test/"),
            ("*.0.0.example", "https://127.0.0.1/"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8081/"),
            ("http://127.0.0.1:8080", "https://127.0.0.1:8080/"),
            ("http://127.0.0.1:8080", "http://127.0.0.2:8080/"),
            ("[::1]:9000", "http://127.0.0.1:9000/"),
        ] {
            assert!(!covers(granted, url), "{granted} should not cover {url}");
        }
    }

    #[test]
    fn a_grant_is_shown_in_full() {
        for (text, shown) in [
            ("API.example.com.", "https://api.example.com:443"),
            ("*.Example.org:80", "http://*.example.org:80"),
            ("[::1]:9000-9001", "[::1]:9000-9001"),
            ("http://0x7f.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(grant(text).to_string(), shown);
            assert_eq!(grant(shown), grant(text), "{shown} should mean what {text} means");
        }
    }

    #[test]
    fn what_is_wrong_with_a_grant_is_said() {
        for (text, problem) in [
            ("", "the host is missing"),
            ("*", "\"*\" alone would grant the whole network; name the hosts, or \"*.example.org\""),
            ("*.com", "\"*.com\" would grant a whole top-level domain; name at least two labels"),
            ("a.*.com", "a `*` may only stand for the first labels, as in \"*.example.org\""),
            ("*.127.0.0.1", "a `*` cannot stand before an address"),
            ("ftp://a.example", "\"ftp\" is neither http nor https"),
            (
                "https://a.example/v1",
                "it names a host and a port, no path; write for example \"api.example.com:443\"",
            ),
            ("me@a.example", "a user name is not part of a grant"),
            ("a.example:0", "\"0\" is not a port from 1 to 65535, nor a range like 8000-8010"),
            ("a.example:+443", "\"+443\" is not a port from 1 to 65535, nor a range like 8000-8010"),
            ("a.example:20-10", "\"20-10\" is not a port from 1 to 65535, nor a range like 8000-8010"),
            (
                "localhost:8080",
                "this machine is granted by address only; write 127.0.0.1 or [::1] and the port",
            ),
            ("0.0.0.0:80", "0.0.0.0 is the unspecified address, not the address of one machine"),
            ("224.0.0.1:80", "224.0.0.1 is a multicast address, not the address of one machine"),
            ("::1:80", "an IPv6 address stands in brackets, as in [::1]:8080"),
            ("a b.example", "\"a b.example\" is not a host name"),
        ] {
            let error = text.parse::<NetworkGrant>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a network grant: {problem}"));
        }
    }
}
