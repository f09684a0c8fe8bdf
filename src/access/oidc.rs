//! Tokens of outside issuers: JWTs (RFC 7519) that are verified with the keys their issuer publishes (OpenID Connect).
//!
//! `iss` only picks the issuer. Its configuration then says which algorithms are taken, its published keys what each of
//! them is good for, and the signature whether any of it is true; nothing else that a token says is believed before.
//! Verified tokens are remembered for as long as the keys they were verified with, and never beyond their end.

mod claims;
mod config;
mod fetch;
mod keys;
mod refusal;
mod source;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use self::claims::Claims;
pub use self::config::IssuerConfig;
pub(super) use self::config::issuers;
use self::keys::{KeySet, Verified};
pub use self::refusal::TokenRefusal;
use self::source::{Fetch, KeySource};
use super::grants::Grants;
use super::identity::Identified;
use super::tokens::ring_provider;
use crate::domain::{Principal, PrincipalKind};

/// The largest token that is looked at.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// The longest contents that are taken in, since they go along with every request to the policies.
const MAX_CLAIMS_BYTES: usize = 16 * 1024;

/// The issuers whose tokens are taken.
pub(super) struct Issuers(Vec<Issuer>);

/// One of them.
pub(super) struct Issuer {
    config: IssuerConfig,
    source: KeySource,
}

/// A token of a known issuer, not verified.
pub(super) struct Presented<'a> {
    issuer: &'a Issuer,
    token: &'a str,
}

/// The parts of a token, still encoded.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// What is signed.
    message: &'a str,
}

/// The one thing that is read before anything is verified.
#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

impl Issuers {
    /// Asks nobody for anything yet. `None` where there is none.
    pub(super) fn new(configs: &[IssuerConfig]) -> Option<Self> {
        if configs.is_empty() {
            return None;
        }
        ring_provider::install();
        let issuer = |config: &IssuerConfig| {
            let asked = Arc::new(config.clone());
            let fetch: Fetch = Box::new(move || {
                let asked = Arc::clone(&asked);
                Box::pin(async move { fetch::keys(&asked).await })
            });
            Issuer { config: config.clone(), source: KeySource::new(&config.name, fetch) }
        };
        Some(Self(configs.iter().map(issuer).collect()))
    }

    /// The token, if it says that it comes from one of the issuers.
    pub(super) fn recognize<'a>(&'a self, token: &'a str) -> Option<Presented<'a>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let claims = URL_SAFE_NO_PAD.decode(Parts::of(token)?.claims).ok()?;
        let claimed: Claimed = serde_json::from_slice(&claims).ok()?;
        let issuer = self.0.iter().find(|issuer| issuer.config.issuer == claimed.iss)?;
        Some(Presented { issuer, token })
    }
}

impl Presented<'_> {
    /// Whose it is. May wait for the issuer's keys, for a bounded time.
    pub(super) async fn verify(self) -> Result<Identified, TokenRefusal> {
        let Self { issuer: Issuer { config, source }, token } = self;
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now_s = now_s();
        let keys = source.keys().await.ok_or(TokenRefusal::NoKeys)?;
        if let Some(verified) = keys.verified(&hash, now_s) {
            return Ok(verified.identified());
        }
        let parts = Parts::of(token).ok_or(TokenRefusal::Form)?;
        let (algorithm, kid) = parts.header(config)?;
        let kid = kid.as_deref();
        let verify = |keys: Arc<KeySet>| -> Result<Identified, TokenRefusal> {
            let claims = parts.verified(keys.find(kid, algorithm)?, algorithm)?;
            let verified = Arc::new(Verified::new(claims, config, now_s)?);
            keys.remember(hash, Arc::clone(&verified));
            Ok(verified.identified())
        };
        if matches!(keys.find(kid, algorithm), Err(TokenRefusal::UnknownKey)) {
            let newer = source.keys_after(&keys).await.ok_or(TokenRefusal::UnknownKey)?;
            return verify(newer);
        }
        verify(keys)
    }
}

impl<'a> Parts<'a> {
    /// `None` where there are not three.
    fn of(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        (!claims.contains('.')).then_some(Self { header, claims, signature, message })
    }

    /// The algorithm, if it is one of those that are taken, and the id of the key.
    fn header(&self, config: &IssuerConfig) -> Result<(Algorithm, Option<String>), TokenRefusal> {
        let text = URL_SAFE_NO_PAD.decode(self.header).map_err(|_| TokenRefusal::Form)?;
        let header: Header = serde_json::from_slice(&text).map_err(|_| TokenRefusal::Form)?;
        // Tokens for other ends are not access tokens, whoever signed them (RFC 8725, section 3.11).
        let is_access_token = header.typ.is_none_or(|typ| {
            let typ = typ.to_ascii_lowercase();
            matches!(typ.trim_start_matches("application/"), "jwt" | "at+jwt")
        });
        if !is_access_token || header.crit.is_some() {
            return Err(TokenRefusal::Form);
        }
        let algorithm: Algorithm = header.alg.parse().map_err(|_| TokenRefusal::Algorithm)?;
        if !config.algorithms.contains(&algorithm) {
            return Err(TokenRefusal::Algorithm);
        }
        Ok((algorithm, header.kid))
    }

    /// What it says, once that is known to be what the holder of `key` has signed.
    fn verified(&self, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, TokenRefusal> {
        let verified = jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key, algorithm);
        if !matches!(verified, Ok(true)) {
            return Err(TokenRefusal::Signature);
        }
        let text = URL_SAFE_NO_PAD.decode(self.claims).map_err(|_| TokenRefusal::Form)?;
        if text.len() > MAX_CLAIMS_BYTES {
            return Err(TokenRefusal::TooLarge);
        }
        serde_json::from_slice(&text).map(Claims).map_err(|_| TokenRefusal::Form)
    }
}

impl Verified {
    fn new(claims: Claims, config: &IssuerConfig, now_s: u64) -> Result<Self, TokenRefusal> {
        let end_s = claims.check(config, now_s)?;
        let user = claims.user(config)?;
        let scopes = claims.scopes(config);
        let mut principal = Principal::new(format!("oidc:{}:{user}", config.name), PrincipalKind::User);
        principal.scopes.clone_from(&scopes);
        principal.claims_json = serde_json::Value::Object(claims.0).to_string();
        let grants = Arc::new(Grants { scopes, ..Grants::default() }.into());
        Ok(Self { principal, grants, end_s })
    }

    fn identified(&self) -> Identified {
        let (principal, grants) = (self.principal.clone(), Arc::clone(&self.grants));
        Identified { principal, is_known: true, grants, owner: None, refusal: None }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
