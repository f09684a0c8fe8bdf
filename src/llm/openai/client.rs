//! What every request to an upstream shares: the HTTP client, the address and the headers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::crypto::ring;

use crate::config::secret::Secret;
use crate::llm::{ConfigError, UpstreamConfig};

const USER_AGENT: &str = concat!("witgate/", env!("CARGO_PKG_VERSION"));

/// Keeps connections through firewalls and notices dead peers during long silences.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The one client, with its pool of connections, that all upstreams share. It has no total timeout: replies may be
/// long, and every single wait has its own bound.
pub(in crate::llm) fn http_client(connect_timeout: Duration) -> Result<Client, ConfigError> {
    // Fails when something has installed a provider before, which is just as good.
    let _ = ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEP_ALIVE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .redirect(Policy::none())
            .referer(false)
    };
    // A machine without certificates (a bare container) can still reach upstreams over plain HTTP.
    let without_roots = || {
        tracing::warn!("the system has no certificate authorities, so no upstream can be reached over https");
        let provider = Arc::new(ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError(format!("llm: the TLS client cannot be set up: {error}")))?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        builder()
            .tls_backend_preconfigured(config)
            .build()
            .map_err(|error| ConfigError(format!("llm: the HTTP client cannot be set up: {error}")))
    };
    builder().build().or_else(|_| without_roots())
}

/// The address a base URL stands for.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let url = Url::parse(text).map_err(|error| {
        format!("`base_url` is not an address ({error}); write it like https://api.openai.com/v1")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`base_url` begins with {}:, but must begin with http: or https:", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`base_url` has credentials in it; use `api_key_env` or `headers` instead".to_owned());
    }
    Ok(url)
}

/// The configured headers and the key, none of which a log ever shows.
pub(super) fn headers(config: &UpstreamConfig, key: Option<&Secret>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let value = HeaderValue::try_from(format!("Bearer {}", key.expose().trim()))
            .map_err(|_| "its API key has characters that no HTTP header can carry".to_owned())?;
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in &config.headers {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| format!("`headers`: `{name}` is not the name of an HTTP header"))?;
        let value = HeaderValue::try_from(value.expose()).map_err(|_| {
            format!("`headers`: the value of `{name}` has characters that no HTTP header can carry")
        })?;
        headers.insert(parsed, value);
    }
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Ok(headers)
}

/// Takes an upstream's secrets out of what it says: some servers repeat the key they refuse.
#[derive(Default)]
pub(super) struct Redactor(Vec<Secret>);

impl Redactor {
    /// Anything shorter is found in innocent words.
    const SHORTEST: usize = 6;

    pub(super) fn new(config: &UpstreamConfig, key: Option<&Secret>) -> Self {
        let secrets = key.into_iter().chain(config.headers.values());
        let secrets = secrets.map(|secret| Secret::new(secret.expose().trim()));
        Self(secrets.filter(|secret| secret.expose().len() >= Self::SHORTEST).collect())
    }

    /// The body without the secrets.
    pub(super) fn clean<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        self.0.iter().fold(Cow::Borrowed(body), |body, secret| {
            let secret = secret.expose().as_bytes();
            if memchr::memmem::find(&body, secret).is_none() {
                return body;
            }
            let mut clean = Vec::with_capacity(body.len());
            let mut from = 0;
            for at in memchr::memmem::find_iter(&body, secret) {
                clean.extend_from_slice(&body[from..at]);
                clean.extend_from_slice(b"[redacted]");
                from = at + secret.len();
            }
            clean.extend_from_slice(&body[from..]);
            Cow::Owned(clean)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        assert!(base_url(" https://api.openai.com/v1/ ").is_ok());
        assert!(base_url("http://localhost:11434/v1?api-version=1").is_ok());
        assert!(base_url("localhost:11434").unwrap_err().contains("http:"));
        assert!(base_url("").unwrap_err().contains("https://api.openai.com/v1"));
        let error = base_url("https://user:hunter2@host/v1").unwrap_err();
        assert!(error.contains("api_key_env") && !error.contains("hunter2"), "{error}");
    }
}
