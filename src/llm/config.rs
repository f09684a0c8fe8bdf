//! The `[llm]` section: which models there are, where they are, and how patient the gateway is with them.
//!
//! Plain values as the file has them. What only shows when the parts come together (a key that is not set, an address
//! that is none) is checked once, by `Models::new`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{ToolChoice, ToolMode};
use crate::config::secret::Secret;

/// The `[llm]` section of `gateway.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The model for requests that name none; empty = the first one there is.
    pub default_model: String,
    /// What to do with a model id that no upstream offers: `auto` (`default` while only the built-in demo model serves,
    /// else `reject`), `default` (the default model answers) or `reject` (404).
    pub unknown_model: UnknownModel,
    /// Longest wait for the beginning of a reply, in milliseconds (300000). Upstreams can have their own.
    pub first_byte_timeout_ms: u64,
    /// Longest silence within a reply, in milliseconds (120000). Upstreams can have their own.
    pub idle_timeout_ms: u64,
    /// Longest wait for a connection to an upstream, in milliseconds (10000).
    pub connect_timeout_ms: u64,
    /// Further tries at the same upstream after a failure that may pass (2); 0 = none.
    pub max_retries: u32,
    /// Upper bound of the first pause between tries, in milliseconds (500); it doubles with each try.
    pub retry_base_ms: u64,
    /// Upper bound of every pause between tries, in milliseconds (8000).
    pub retry_max_ms: u64,
    /// Retries one upstream may be sent in a burst (10). One a second comes back, and one for every ten requests.
    pub retry_budget: u32,
    /// How often the upstreams are asked for their models, in seconds (300); 0 = only when it is needed.
    pub models_refresh_s: u64,
    /// Largest body, and largest single event of a stream, accepted from an upstream, in bytes (33554432).
    pub max_response_bytes: usize,
    /// Pause between the words of the demo model's streams, in milliseconds (15).
    pub demo_word_delay_ms: u64,
    /// Where models are, in the order in which they are tried.
    pub upstreams: Vec<UpstreamConfig>,
    /// Settings of single models, by the id clients use.
    pub models: BTreeMap<String, ModelConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_model: String::new(),
            unknown_model: UnknownModel::default(),
            first_byte_timeout_ms: 300_000,
            idle_timeout_ms: 120_000,
            connect_timeout_ms: 10_000,
            max_retries: 2,
            retry_base_ms: 500,
            retry_max_ms: 8_000,
            retry_budget: 10,
            models_refresh_s: 300,
            max_response_bytes: 32 * 1024 * 1024,
            demo_word_delay_ms: 15,
            upstreams: Vec::new(),
            models: BTreeMap::new(),
        }
    }
}

/// What to do with a model id that no upstream offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownModel {
    /// `Default` while only the demo model serves, else `Reject`.
    #[default]
    Auto,
    /// The default model answers.
    Default,
    /// 404 `model_not_found`.
    Reject,
}

/// One `[[llm.upstreams]]` entry: a server that speaks the OpenAI chat completions protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// What logs and errors call it; unique.
    pub name: String,
    /// The address that `/chat/completions` and `/models` are added to, for example `https://api.openai.com/v1`.
    pub base_url: String,
    /// Name of the environment variable that holds the API key; empty = no key is sent.
    #[serde(default)]
    pub api_key_env: String,
    /// The models it is used for; empty = those it lists itself.
    #[serde(default)]
    pub models: Vec<String>,
    /// Further names: the id clients use = the id the upstream knows.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Further headers of every request. Their values are treated as secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// As `llm.first_byte_timeout_ms`, for this upstream.
    #[serde(default)]
    pub first_byte_timeout_ms: Option<u64>,
    /// As `llm.idle_timeout_ms`, for this upstream.
    #[serde(default)]
    pub idle_timeout_ms: Option<u64>,
    /// How its models are told about tools: `native` (default) or `text`.
    #[serde(default)]
    pub tool_mode: ToolMode,
}

/// One `[llm.models."id"]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// How this model is told about tools; unset = as its upstream says.
    pub tool_mode: Option<ToolMode>,
    /// Which of the gateway's tools it is offered: `"all"` (default), `"none"` or a list of names.
    pub tools: ToolChoice,
}

/// Why the `[llm]` section cannot be used. The message names the upstream and the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = ToolChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", \"none\" or a list of tool names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ToolChoice, E> {
                match text {
                    "all" => Ok(ToolChoice::All),
                    "none" => Ok(ToolChoice::None),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ToolChoice, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(ToolChoice::Only(names))
            }
        }
        deserializer.deserialize_any(Names)
    }
}
