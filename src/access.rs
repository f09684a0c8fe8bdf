//! The `access` room: who is asking, and whether that is enough.
//!
//! Chat endpoints are `open` by default: any key or none is accepted, and a key only keeps its holder's sessions apart
//! from everyone else's. With `access.chat = "required"` a caller must present the key in `WITGATE_API_KEY`.
//! Keys are compared in constant time and kept as hashes; no key is ever logged.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::secret::Secret;
use crate::domain::{Principal, PrincipalKind};

/// `[access]` in `gateway.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may use `/chat` and `/v1`. Default `open`.
    pub chat: ChatAccess,
}

/// Who may use the chat endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatAccess {
    /// Everyone; a presented key is not checked.
    #[default]
    Open,
    /// Only callers with a valid key.
    Required,
}

/// Decides who a caller is.
pub struct Access {
    chat: ChatAccess,
    static_key: Option<[u8; 32]>,
}

/// Why a caller was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No credential was presented.
    #[error("an API key is required: send it as `Authorization: Bearer <key>` or `X-API-KEY: <key>`")]
    Missing,
    /// The presented credential is not valid.
    #[error("the API key is not valid")]
    Invalid,
}

/// A configuration that nobody could get past.
#[derive(Debug, thiserror::Error)]
#[error(
    "access.chat = \"required\" needs a key to check: set WITGATE_API_KEY, or set access.chat = \"open\""
)]
pub struct NoKeyConfigured;

impl Access {
    /// An access check by `config`; `static_key` is the value of `WITGATE_API_KEY`.
    ///
    /// # Errors
    /// When keys are required and none is configured.
    pub fn new(config: &Config, static_key: Option<&Secret>) -> Result<Self, NoKeyConfigured> {
        let static_key = static_key.map(|key| hash(key.expose()));
        if config.chat == ChatAccess::Required && static_key.is_none() {
            return Err(NoKeyConfigured);
        }
        Ok(Self { chat: config.chat, static_key })
    }

    /// True when the chat endpoints take callers without a valid key.
    #[must_use]
    pub fn chat_is_open(&self) -> bool {
        self.chat == ChatAccess::Open
    }

    /// The principal behind `credential` (a bearer token or API key) for the chat endpoints.
    ///
    /// An unchecked key still tells its holder from others: the principal's id is derived from the key's hash, so
    /// that sessions started with one key are not visible with another.
    ///
    /// # Errors
    /// When keys are required and this one is missing or wrong.
    pub fn chat_principal(&self, credential: Option<&str>) -> Result<Principal, AccessError> {
        let presented = credential.filter(|key| !key.is_empty()).map(hash);
        match (presented, self.static_key) {
            (Some(presented), Some(expected)) if bool::from(presented.ct_eq(&expected)) => {
                Ok(Principal::new("key:static", PrincipalKind::Service))
            }
            (Some(_), _) if self.chat == ChatAccess::Required => Err(AccessError::Invalid),
            (None, _) if self.chat == ChatAccess::Required => Err(AccessError::Missing),
            (Some(presented), _) => {
                let tag: String = presented[..8].iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(Principal::new(format!("anonymous:{tag}"), PrincipalKind::Anonymous))
            }
            (None, _) => Ok(Principal::anonymous()),
        }
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(chat: ChatAccess, key: Option<&str>) -> Access {
        let key = key.map(|k| Secret::new(k.to_owned()));
        Access::new(&Config { chat }, key.as_ref()).unwrap()
    }

    #[test]
    fn open_access_keeps_keys_apart() {
        let access = access(ChatAccess::Open, Some("k"));
        let of = |key| access.chat_principal(key).unwrap().id;
        assert_eq!(of(None), "anonymous");
        assert_eq!(of(Some("k")), "key:static");
        assert_ne!(of(Some("a")), of(Some("b")));
        assert_eq!(of(Some("a")), of(Some("a")));
    }

    #[test]
    fn required_access_turns_away() {
        let access = access(ChatAccess::Required, Some("k"));
        assert_eq!(access.chat_principal(None), Err(AccessError::Missing));
        assert_eq!(access.chat_principal(Some("")), Err(AccessError::Missing));
        assert_eq!(access.chat_principal(Some("x")), Err(AccessError::Invalid));
        assert!(access.chat_principal(Some("k")).is_ok());
    }

    #[test]
    fn required_access_without_a_key_is_refused() {
        assert!(Access::new(&Config { chat: ChatAccess::Required }, None).is_err());
    }
}
