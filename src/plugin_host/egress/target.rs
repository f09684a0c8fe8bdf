//! What a guest wants to reach: scheme, host and port of a request, in one normal form.
//!
//! Everything after this file works on the normal form, so that what is checked is what is resolved, connected to and
//! sent as `Host`: `http://0x7f.1/`, `http://2130706433/` and `http://127.0.0.1/` are one target.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;

/// Longest host name, without the dot at the end (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Longest label of a host name.
const MAX_LABEL_BYTES: usize = 63;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Plain or encrypted.
    pub scheme: Scheme,
    /// The machine.
    pub host: Host,
    /// The port, the scheme's own where the request names none.
    pub port: u16,
}

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Unencrypted.
    Http,
    /// Over TLS.
    Https,
}

/// A machine, by name or by address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name in lower case and Punycode, without a dot at the end.
    Name(String),
    /// An address; an IPv4 address written as IPv6 is an IPv4 address here.
    Address(IpAddr),
}

impl Target {
    /// The target of an absolute URI.
    ///
    /// # Errors
    /// When it names none: in words that complete "the request's address is wrong: ...".
    pub fn from_uri(uri: &Uri) -> Result<Self, String> {
        let scheme: Scheme = uri.scheme_str().ok_or("the scheme is missing")?.parse()?;
        let authority = uri.authority().ok_or("the host is missing")?.as_str();
        if authority.contains('@') {
            return Err("it holds a user name".to_owned());
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => scheme.default_port(),
            // `parse` alone would take a plus sign.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{port:?} is not a port"))?
            }
            Some(port) => return Err(format!("{port:?} is not a port")),
        };
        Ok(Self { scheme, host: Host::parse(host)?, port })
    }

    /// The value of the `Host` header: the port only where it is not the scheme's own.
    #[must_use]
    pub fn host_header(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The shortest grant that covers the target and nothing else.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !matches!((self.scheme, self.port), (Scheme::Https, 443) | (Scheme::Http, 80)) {
            write!(f, "{}://", self.scheme)?;
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Scheme {
    /// The port that a URL means when it names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(format!("{text:?} is neither http nor https")),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl Host {
    /// Reads a host as the URL standard does: IPv4 addresses in their odd spellings are addresses, names are lowered and
    /// put into Punycode.
    ///
    /// # Errors
    /// When it is no host, with the reason in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the host is missing".to_owned());
        }
        let wrong = || format!("{text:?} is not a host name");
        if text.contains('%') {
            return Err(wrong());
        }
        match url::Host::parse(text).map_err(|_| wrong())? {
            url::Host::Ipv4(address) => Ok(Self::Address(IpAddr::V4(address))),
            url::Host::Ipv6(address) => Ok(Self::Address(IpAddr::V6(address).to_canonical())),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                if is_name(name) { Ok(Self::Name(name.to_owned())) } else { Err(wrong()) }
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// The URL standard lets more characters through than resolvers and certificates know.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label)
}

/// Splits `host:port`; the host may be an IPv6 address in brackets.
pub(super) fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or_else(|| format!("{authority:?} misses its closing bracket"))?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("{rest:?} after the address is not a port")),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        Some((_, port)) if port.contains(':') => {
            Err("an IPv6 address stands in brackets, as in [::1]:8080".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::from_uri(&url.parse().unwrap())
    }

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0X7F.0x0.0x0.0x1",
            "017700000001",
            "0177.0.0.01",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:127.0.0.1]",
        ] {
            let target = target(&format!("http://{host}/")).unwrap();
            assert_eq!(target.host, Host::Address("127.0.0.1".parse().unwrap()), "{host}");
            assert_eq!(target.host_header(), "127.0.0.1");
        }
    }

    #[test]
    fn names_have_one_form() {
        for url in ["https://Example.COM/", "https://example.com./", "HTTPS://example.com:443/"] {
            assert_eq!(target(url).unwrap().to_string(), "example.com:443");
        }
        assert_eq!(target("http://example.com:8080/").unwrap().to_string(), "http://example.com:8080");
        assert_eq!(
            target("https://[2606:4700::1111]:8443/").unwrap().host_header(),
            "[2606:4700::1111]:8443"
        );
        // Characters that look like a dot, and ones that are written differently, as the IDNA standard maps them.
        assert_eq!(Host::parse("EXAMPLE。com").unwrap(), Host::Name("example.com".to_owned()));
        assert_eq!(Host::parse("①②⑦.0.0.1").unwrap(), Host::Address("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for (url, problem) in [
            ("https://user@example.com/", "it holds a user name"),
            ("https://user:word@example.com/", "it holds a user name"),
            ("https://example.com:0/", "\"0\" is not a port"),
            ("https://example.com:/", "\"\" is not a port"),
            ("ftp://example.com/", "\"ftp\" is neither http nor https"),
            ("https://0x7f.0.0.1.2/", "\"0x7f.0.0.1.2\" is not a host name"),
            ("https://256.0.0.1/", "\"256.0.0.1\" is not a host name"),
            ("https://a..example/", "\"a..example\" is not a host name"),
            ("https://exa!mple.com/", "\"exa!mple.com\" is not a host name"),
        ] {
            assert_eq!(target(url).unwrap_err(), problem, "{url}");
        }
        assert_eq!(Target::from_uri(&"/path".parse().unwrap()).unwrap_err(), "the scheme is missing");
        let long = format!("https://{}.example/", "a".repeat(64));
        assert!(target(&long).unwrap_err().ends_with("is not a host name"));
    }
}
