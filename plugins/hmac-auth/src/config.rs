//! The keys and rules, as the operator writes them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use witgate_plugin::{Error, Principal, PrincipalKind, require_secret};

/// Shorter secrets can be guessed.
const MIN_SECRET_BYTES: usize = 16;

/// The `[config]` table.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether a request without a signature is refused.
    pub(crate) required: bool,
    /// Components that every signature must cover.
    pub(crate) components: Vec<String>,
    /// Whether signatures of POST, PUT and PATCH requests must cover `content-digest`.
    pub(crate) body_digest: bool,
    /// Oldest signature that is accepted.
    pub(crate) max_age_seconds: u32,
    /// How far the clocks of client and gateway may differ.
    pub(crate) clock_skew_seconds: u32,
    /// Whether a signature must have a nonce, which is good for one request.
    pub(crate) require_nonce: bool,
    /// `http` or `https`: what clients speak, for the parts of a URL that a request does not tell.
    pub(crate) scheme: Scheme,
    /// Where set, signatures with another `tag` are somebody else's.
    pub(crate) tag: Option<String>,
    /// The keys by their `keyid`.
    pub(crate) keys: BTreeMap<String, Key>,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheme {
    /// Without TLS, or with TLS that ends before the gateway and that clients do not know of.
    Http,
    /// TLS that ends before the gateway.
    Https,
}

/// A key and whom it stands for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    /// Name of the granted secret.
    secret: String,
    /// How the secret is written.
    #[serde(default)]
    encoding: Encoding,
    /// Id of the principal; the gateway puts the plugin's name before it.
    principal: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    scopes: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Text,
    Base64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    User,
    #[default]
    Service,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            required: true,
            components: ["@method", "@authority", "@path", "@query"].map(Into::into).to_vec(),
            body_digest: true,
            max_age_seconds: 300,
            clock_skew_seconds: 30,
            require_nonce: true,
            scheme: Scheme::Http,
            tag: None,
            keys: BTreeMap::new(),
        }
    }
}

impl Config {
    /// The operator's table.
    ///
    /// # Errors
    /// Where it cannot be read or makes no sense: names the key.
    pub(crate) fn load() -> Result<Self, Error> {
        let config: Self = witgate_plugin::config()?;
        let wrong = |why: &str| Err(Error::Internal(format!("the plugin's [config] table: {why}")));
        if config.keys.is_empty() {
            return wrong("`keys` is empty: add [config.keys.KEYID] with `secret` and `principal`");
        }
        if config.max_age_seconds == 0 || config.max_age_seconds > 86_400 {
            return wrong("`max_age_seconds` must be from 1 to 86400");
        }
        if config.clock_skew_seconds > 3_600 {
            return wrong("`clock_skew_seconds` must be at most 3600");
        }
        if let Some(keyid) =
            config.keys.iter().find(|(_, key)| key.principal.is_empty()).map(|(keyid, _)| keyid)
        {
            return wrong(&format!("`keys.{keyid}.principal` is empty"));
        }
        Ok(config)
    }
}

impl Scheme {
    /// As in a URL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is left out of a URL.
    pub(crate) fn default_port(self) -> &'static str {
        match self {
            Self::Http => ":80",
            Self::Https => ":443",
        }
    }
}

impl Key {
    /// The secret's bytes.
    ///
    /// # Errors
    /// Where it is not granted, not what `encoding` says, or too short. Never shows the secret.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Error> {
        let text = require_secret(&self.secret)?;
        let bytes = match self.encoding {
            Encoding::Text => text.into_bytes(),
            Encoding::Base64 => STANDARD
                .decode(text.trim())
                .map_err(|_| Error::Internal(format!("the secret `{}` is not base64", self.secret)))?,
        };
        if bytes.len() < MIN_SECRET_BYTES {
            let name = &self.secret;
            return Err(Error::Internal(format!(
                "the secret `{name}` is shorter than {MIN_SECRET_BYTES} bytes"
            )));
        }
        Ok(bytes)
    }

    /// Whom the key stands for; the key's id is in the claims.
    pub(crate) fn principal(&self, keyid: &str) -> Principal {
        let kind = match self.kind {
            Kind::User => PrincipalKind::User,
            Kind::Service => PrincipalKind::Service,
        };
        let claims_json = serde_json::json!({ "keyid": keyid }).to_string();
        Principal { scopes: self.scopes.clone(), claims_json, ..Principal::new(&self.principal, kind) }
    }
}
