//! `[server]`, `[limits]` and `[cors]` in `gateway.toml`: where the gateway listens and how much it takes.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

/// `[server]`: where to listen and how to stop.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address to listen on: an IP address or a host name. Default `127.0.0.1`, so that only this machine can connect;
    /// `0.0.0.0` takes everyone. Also `HOST`.
    pub host: String,
    /// TCP port; 0 takes a free one (the log names it). Default 8000. Also `PORT`.
    pub port: u16,
    /// Host names under which MCP clients and callers without a key may reach the gateway, beside addresses, loopback
    /// names, `host` and the name in `public_url`: `tools.example`, `tools.example:8443`, or `*` for any, behind a proxy that
    /// checks them. Default none.
    pub allowed_hosts: Vec<String>,
    /// The address under which clients know the gateway, for those that ask where to get tokens for it:
    /// `https://tools.example`. Default none: `http://` and the `Host` of the request.
    pub public_url: PublicUrl,
    /// Longest time running requests get to finish after a stop signal, in milliseconds. Default 30000.
    pub drain_timeout_ms: u64,
    /// Silence on a stream after which a keep-alive comment is sent, in milliseconds. Default 10000.
    pub keep_alive_ms: u64,
    /// Longest time after the start that chat requests wait for MCP servers to come up, in milliseconds. Default 3000.
    pub tools_wait_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            allowed_hosts: Vec::new(),
            public_url: PublicUrl::default(),
            drain_timeout_ms: 30_000,
            keep_alive_ms: 10_000,
            tools_wait_ms: 3_000,
        }
    }
}

impl ServerConfig {
    pub(super) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// At least one millisecond: a zero would make every stream busy with comments.
    pub(super) fn keep_alive(&self) -> Duration {
        Duration::from_millis(self.keep_alive_ms.max(1))
    }
}

/// An address of the web, or none: without query and fragment, without a slash at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicUrl(String);

impl PublicUrl {
    /// The address, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|url| !url.is_empty())
    }

    /// Its scheme, host and port, as a browser tells the origin of its pages.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        let length = self.0.find("://")? + 3 + self.authority()?.len();
        self.0.get(..length)
    }

    /// Its host, and its port where it says one.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.0.split_once("://")?.1.split('/').next()
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let url = Url::parse(&text).map_err(|error| format!("`{text}` is no address: {error}"))?;
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !is_plain || url.password().is_some() || !matches!(url.scheme(), "http" | "https") {
            return Err(
                "it has to be like https://tools.example, without user, query and fragment".to_owned()
            );
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

/// `[limits]`: what one client, and all of them together, may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Largest request body, in bytes; larger ones get 413. Default 33554432 (32 MiB: images travel in messages).
    pub max_body_bytes: usize,
    /// Longest time a request body may take to arrive, in milliseconds; slower ones get 408. Default 30000.
    pub body_timeout_ms: u64,
    /// Longest time the head of a request may take to arrive, and a connection may be idle, in milliseconds. The
    /// connection is closed then. Default 30000.
    pub header_timeout_ms: u64,
    /// Largest head of a request, in bytes, at least 8192; larger ones get 431. Default 65536.
    pub max_header_bytes: usize,
    /// Most header fields of one request; more get 431. Default 100.
    pub max_headers: usize,
    /// Most open connections; further ones wait until one closes. Default 4096.
    pub max_connections: usize,
    /// Most requests that are worked on at the same time; further ones get 503 with `Retry-After`. Default 1024.
    pub max_in_flight: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 * 1024 * 1024,
            body_timeout_ms: 30_000,
            header_timeout_ms: 30_000,
            max_header_bytes: 64 * 1024,
            max_headers: 100,
            max_connections: 4096,
            max_in_flight: 1024,
        }
    }
}

impl LimitsConfig {
    pub(super) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms.max(1))
    }

    pub(super) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms.max(1))
    }
}

/// `[cors]`: which web pages may call the gateway from a browser.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins such as `https://chat.example`, or `*` for any; empty switches CORS off. Default `["*"]`.
    pub allow_origins: Vec<String>,
    /// Methods a page may use. Default `["GET", "POST", "DELETE"]`.
    pub allow_methods: Vec<String>,
    /// Request headers a page may send, or `*` for any. Default `["*"]`.
    pub allow_headers: Vec<String>,
    /// Response headers a page may read. Default `x-request-id`, `retry-after`, `retry-after-ms`, `mcp-session-id` and all
    /// `x-ratelimit-..`.
    pub expose_headers: Vec<String>,
    /// Whether pages may send cookies and client certificates; needs origins that are named. Default false.
    pub allow_credentials: bool,
    /// How long a browser may remember the answer, in seconds. Default 600.
    pub max_age_s: u64,
}

/// What the gateway tells in headers that scripts of a page would not see by themselves.
const EXPOSED_HEADERS: [&str; 10] = [
    "x-request-id",
    "retry-after",
    "retry-after-ms",
    "mcp-session-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
];

impl Default for CorsConfig {
    fn default() -> Self {
        let texts = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        Self {
            allow_origins: texts(&["*"]),
            allow_methods: texts(&["GET", "POST", "DELETE"]),
            allow_headers: texts(&["*"]),
            expose_headers: texts(&EXPOSED_HEADERS),
            allow_credentials: false,
            max_age_s: 600,
        }
    }
}
