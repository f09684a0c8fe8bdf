//! The public keys of an issuer (RFC 7517), and the tokens that they were found to have signed.
//!
//! A key is good for the algorithms of its kind only, and for one of them where it says so. Keys for anything else, and
//! kinds that nobody here knows, are left out; one odd key does not spoil the others.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use lru::LruCache;
use serde::Deserialize;
use serde_json::Value;

use super::refusal::TokenRefusal;
use crate::access::rules::Rules;
use crate::domain::Principal;

/// Keys of one issuer that are looked at.
const MAX_KEYS: usize = 64;

/// Verified tokens that are remembered for each issuer: to verify costs 20 to 60 microseconds, to look it up one.
const MAX_VERIFIED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// The keys of one moment. Whatever is known by them is forgotten with them.
pub(super) struct KeySet {
    keys: Vec<Key>,
    verified: Mutex<LruCache<[u8; 32], Arc<Verified>>>,
}

/// A token that was verified.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) principal: Principal,
    pub(super) grants: Arc<Rules>,
    /// Seconds since 1970 from which on it is not good any more, tolerance included.
    pub(super) end_s: u64,
}

struct Key {
    id: Option<String>,
    /// The only algorithm it is for, where it says so.
    algorithm: Option<Algorithm>,
    kind: Kind,
    decoding: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set; an error in words where it is none or has no key that can verify anything.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let written: WrittenSet =
            serde_json::from_slice(text).map_err(|error| format!("it is no set of keys: {error}"))?;
        if written.keys.len() > MAX_KEYS {
            return Err(format!("it has {} keys, and {MAX_KEYS} is the limit", written.keys.len()));
        }
        let keys: Vec<Key> = written.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err("there is no key in it that verifies signatures".to_owned());
        }
        Ok(Self { keys, verified: Mutex::new(LruCache::new(MAX_VERIFIED)) })
    }

    /// The key for a token with this header. Without an id there has to be one key only.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, TokenRefusal> {
        let Some(kid) = kid else {
            return match self.keys.as_slice() {
                [only] if only.fits(algorithm) => Ok(&only.decoding),
                [_] => Err(TokenRefusal::Algorithm),
                _ => Err(TokenRefusal::NoKeyId),
            };
        };
        let mut of_id = self.keys.iter().filter(|key| key.id.as_deref() == Some(kid)).peekable();
        if of_id.peek().is_none() {
            return Err(TokenRefusal::UnknownKey);
        }
        of_id.find(|key| key.fits(algorithm)).map(|key| &key.decoding).ok_or(TokenRefusal::Algorithm)
    }

    /// The token with this hash, where it was verified before and has not ended.
    pub(super) fn verified(&self, hash: &[u8; 32], now_s: u64) -> Option<Arc<Verified>> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let found = verified.get(hash)?;
        if now_s < found.end_s {
            return Some(Arc::clone(found));
        }
        verified.pop(hash);
        None
    }

    pub(super) fn remember(&self, hash: [u8; 32], token: Arc<Verified>) {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).put(hash, token);
    }
}

impl Key {
    /// `None` for keys that are for something else, or that nobody here can use.
    fn read(value: Value) -> Option<Self> {
        let written: WrittenKey = serde_json::from_value(value).ok()?;
        if written.usage.is_some_and(|usage| usage != "sig")
            || written.key_ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let (kind, decoding) = match (written.kty.as_str(), written.crv.as_deref()) {
            ("RSA", _) => {
                let key = DecodingKey::from_rsa_raw_components(&bytes(&written.n)?, &bytes(&written.e)?);
                (Kind::Rsa, key)
            }
            ("EC", Some(curve)) => {
                let (kind, length) = match curve {
                    "P-256" => (Kind::P256, 32),
                    "P-384" => (Kind::P384, 48),
                    _ => return None,
                };
                let (x, y) = (bytes(&written.x)?, bytes(&written.y)?);
                if x.len() != length || y.len() != length {
                    return None;
                }
                // The point without compression (SEC 1, section 2.3.3), as it is verified with.
                (kind, DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat()))
            }
            ("OKP", Some("Ed25519")) => (Kind::Ed25519, DecodingKey::from_ed_der(&bytes(&written.x)?)),
            _ => return None,
        };
        let algorithm = match written.alg.as_deref() {
            None => None,
            // RFC 9864's name for what was called EdDSA.
            Some("Ed25519") => Some(Algorithm::EdDSA),
            Some(name) => Some(name.parse().ok()?),
        };
        let key = Self { id: written.kid, algorithm, kind, decoding };
        algorithm.is_none_or(|algorithm| key.fits(algorithm)).then_some(key)
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Kind::Rsa,
            Algorithm::ES256 => Kind::P256,
            Algorithm::ES384 => Kind::P384,
            Algorithm::EdDSA => Kind::Ed25519,
            _ => return false,
        };
        self.kind == kind && self.algorithm.is_none_or(|only| only == algorithm)
    }
}
