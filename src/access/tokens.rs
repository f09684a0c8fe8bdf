//! Access tokens of our own: JWTs (RFC 7519) with HS256, made when somebody logs in.
//!
//! A token names a user and the generation of its tokens; what the user may do is looked up when the token comes back,
//! so nothing that was taken away lives on in a token. Tokens are taken with HS256 and one of our own keys only: there
//! is no other algorithm to be talked into.

mod key_file;
pub(super) mod ring_provider;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

pub use self::key_file::KeyFileError;
use self::key_file::{KeyFile, StoredKey};
use super::accounts::UserId;
use crate::config::secret::Secret;
use crate::domain::ids::random_secret;

/// Who makes the tokens, and who they are for.
const ISSUER: &str = "witgate";

/// What the ids of our keys begin with, which tells our tokens from others'.
const KID_PREFIX: &str = "wgk-";

/// The shortest secret that is taken from the environment, in bytes: as long as the hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// How long tokens may live, in seconds: up to a week.
const TTL_S: std::ops::RangeInclusive<u64> = 60..=604_800;

/// Differences between clocks, in seconds.
const LEEWAY_S: u64 = 5;

/// How tokens are made.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// Seconds until a token expires.
    pub ttl_s: u64,
    /// Days after which another key signs; 0: never.
    pub rotation_days: u64,
    /// `WITGATE_TOKEN_SECRET`: signs in place of the keys in the file.
    pub secret: Option<Secret>,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self { ttl_s: 3600, rotation_days: 30, secret: None }
    }
}

/// Makes and checks tokens.
pub(super) struct Tokens {
    settings: TokenSettings,
    file: Option<KeyFile>,
    keys: ArcSwap<Keys>,
}

impl TokenSettings {
    /// Whether tokens can be made like this.
    ///
    /// # Errors
    /// When they would live too short or too long, or the secret is too short.
    pub fn check(&self) -> Result<(), KeyFileError> {
        if !TTL_S.contains(&self.ttl_s) {
            return Err(KeyFileError::Ttl(self.ttl_s));
        }
        match self.secret.as_ref().map(|secret| secret.expose().len()) {
            Some(length) if length < MIN_SECRET_BYTES => {
                Err(KeyFileError::ShortSecret { length, needed: MIN_SECRET_BYTES })
            }
            _ => Ok(()),
        }
    }
}

/// The keys of one moment.
struct Keys {
    /// The newest last: that one signs.
    keys: Vec<Key>,
    validation: Validation,
}

struct Key {
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    generation: i64,
}

/// What became of a presented token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenCheck {
    /// It is good, as far as itself goes.
    Valid {
        /// Whose it is.
        user: UserId,
        /// Which of the user's tokens.
        generation: i64,
    },
    /// Its time is over.
    Expired,
    /// It is not what we made.
    Invalid,
}

impl Tokens {
    /// Reads the keys of `path`, or makes some. Without a path they are forgotten at the end. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the secret is too short.
    pub(super) fn open(
        settings: TokenSettings,
        path: Option<&Path>,
        now_ms: u64,
    ) -> Result<Self, KeyFileError> {
        ring_provider::install();
        settings.check()?;
        let file = path.filter(|_| settings.secret.is_none()).map(KeyFile::new);
        let stored = match (&settings.secret, &file) {
            (Some(secret), _) => vec![StoredKey::of_secret(secret)],
            (None, Some(file)) => file.load_or_create(now_ms)?,
            (None, None) => vec![StoredKey::generate(now_ms)?],
        };
        let tokens = Self { settings, file, keys: ArcSwap::from_pointee(Keys::new(&stored)) };
        tokens.rotate(now_ms)?;
        Ok(tokens)
    }

    /// Seconds until a token expires.
    pub(super) fn ttl_s(&self) -> u64 {
        self.settings.ttl_s
    }

    /// Takes in what another process did to the file. Blocks.
    pub(super) fn follow(&self) -> Result<(), KeyFileError> {
        if let Some(stored) = self.file.as_ref().map(KeyFile::changed).transpose()?.flatten() {
            self.keys.store(Arc::new(Keys::new(&stored)));
        }
        Ok(())
    }

    /// Makes another key where the newest is old enough, and forgets those whose last tokens have expired. Blocks.
    pub(super) fn rotate(&self, now_ms: u64) -> Result<(), KeyFileError> {
        let Some(file) = &self.file else { return Ok(()) };
        let max_age_ms = self.settings.rotation_days.saturating_mul(24 * 60 * 60 * 1000);
        let keep_ms = self.settings.ttl_s.saturating_add(2 * LEEWAY_S).saturating_mul(1000);
        if let Some(stored) = file.rotate(now_ms, max_age_ms, keep_ms)? {
            self.keys.store(Arc::new(Keys::new(&stored)));
            tracing::info!("access tokens are signed with a new key from now on");
        }
        Ok(())
    }

    /// A token for `user`. `None` where there is no randomness to be had.
    pub(super) fn sign(&self, user: UserId, generation: i64, now_ms: u64) -> Option<Secret> {
        let keys = self.keys.load();
        let key = keys.keys.last()?;
        let now = now_ms / 1000;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: user.to_string(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(self.settings.ttl_s),
            jti: random_secret(16)?,
            generation,
        };
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &key.encoding).ok().map(Secret::new)
    }

    /// Checks a token. `None`: it does not say that it is one of ours.
    pub(super) fn check(&self, text: &str) -> Option<TokenCheck> {
        let header = jsonwebtoken::decode_header(text).ok()?;
        let kid = header.kid.filter(|kid| kid.starts_with(KID_PREFIX))?;
        let keys = self.keys.load();
        let Some(key) = keys.keys.iter().find(|key| key.id == kid) else { return Some(TokenCheck::Invalid) };
        let decoded = jsonwebtoken::decode::<Claims>(text, &key.decoding, &keys.validation);
        Some(match decoded {
            Ok(token) => match token.claims.sub.parse() {
                Ok(user) => TokenCheck::Valid { user, generation: token.claims.generation },
                Err(_) => TokenCheck::Invalid,
            },
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => TokenCheck::Expired,
            Err(_) => TokenCheck::Invalid,
        })
    }
}

impl Keys {
    fn new(stored: &[StoredKey]) -> Self {
        let key = |stored: &StoredKey| Key {
            id: stored.id.clone(),
            encoding: EncodingKey::from_secret(stored.secret.expose().as_bytes()),
            decoding: DecodingKey::from_secret(stored.secret.expose().as_bytes()),
        };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        Self { keys: stored.iter().map(key).collect(), validation }
    }
}

#[cfg(test)]
mod tests;
