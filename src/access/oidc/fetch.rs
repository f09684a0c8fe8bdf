//! Gets the keys of an issuer over HTTP: bounded in size and time, from where it was told and nowhere else.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use rustls::crypto::ring;
use serde::Deserialize;
use url::Url;

use super::config::{IssuerConfig, is_safe};
use super::keys::KeySet;

/// The largest answer that is read.
const MAX_BYTES: usize = 256 * 1024;

/// The longest time for one set of keys, the way to it included.
pub(super) const FETCH_LIMIT: Duration = Duration::from_secs(5);

/// One client for all issuers, made when the first one is asked: a gateway without issuers needs none.
static CLIENT: OnceLock<Client> = OnceLock::new();

/// What an issuer says about itself (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// The keys of `issuer`, or what is in the way.
pub(super) async fn keys(issuer: &IssuerConfig) -> Result<KeySet, String> {
    match tokio::time::timeout(FETCH_LIMIT, fetch(issuer)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("no answer within {} seconds", FETCH_LIMIT.as_secs())),
    }
}

async fn fetch(issuer: &IssuerConfig) -> Result<KeySet, String> {
    let client = client().await?;
    let url = match &issuer.jwks_url {
        Some(url) => url.clone(),
        None => discover(client, issuer).await?,
    };
    KeySet::parse(&get(client, &url).await?).map_err(|problem| format!("{url}: {problem}"))
}

async fn discover(client: &Client, issuer: &IssuerConfig) -> Result<Url, String> {
    let at = &issuer.discovery_url;
    let found: Discovery = serde_json::from_slice(&get(client, at).await?)
        .map_err(|error| format!("{at}: it is no description of an issuer: {error}"))?;
    if found.issuer != issuer.issuer {
        return Err(format!("{at}: it speaks of another issuer; `issuer` has to be the same to the letter"));
    }
    let url = Url::parse(&found.jwks_uri).map_err(|error| format!("{at}: `jwks_uri`: {error}"))?;
    // One that is elsewhere must not send us to this machine.
    let is_allowed = is_safe(&url) && (url.scheme() == "https" || at.scheme() == "http");
    if is_allowed { Ok(url) } else { Err(format!("{at}: `jwks_uri` has to begin with https://")) }
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, String> {
    let in_words = |error: reqwest::Error| {
        let mut words = format!("{url}: {}", error.without_url());
        words.truncate(words.floor_char_boundary(500));
        words
    };
    let mut response =
        client.get(url.clone()).header(ACCEPT, "application/json").send().await.map_err(in_words)?;
    let status = response.status();
    if status != 200 {
        return Err(format!("{url}: the status is {} instead of 200", status.as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(in_words)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(format!("{url}: the answer is larger than {} KiB", MAX_BYTES / 1024));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn client() -> Result<&'static Client, String> {
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    // It reads the system's certificates.
    let made = tokio::task::spawn_blocking(|| {
        // Fails when something has installed a provider before, which is just as good.
        let _ = ring::default_provider().install_default();
        Client::builder()
            .user_agent(concat!("witgate/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(FETCH_LIMIT)
            .build()
    });
    let made = made.await.map_err(|error| error.to_string())?;
    let made = made.map_err(|error| format!("the HTTP client cannot be set up: {error}"))?;
    Ok(CLIENT.get_or_init(|| made))
}
