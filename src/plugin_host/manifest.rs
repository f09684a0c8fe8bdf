//! The operator's file of a plugin, `name.toml`: read and checked as a whole, with the line of every fault.
//!
//! Promises: a [`Manifest`] needs no further check of its own; two that are equal mean the same. Without a file a plugin
//! is enabled and has no grants: [`Manifest::default`]. Whether a grant can be given (a folder exists, a component needs
//! it) is decided where it is used.

mod grants;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use self::grants::EnvGrant;
pub use self::grants::{FileGrant, FileMode, GuestPath, HeaderGrant, Pattern};
use super::config::Config;
use super::egress::grants::NetworkGrant;
use super::error::LoadError;
use crate::config::secret::Secret;
use crate::config::{Variables, read_toml};

/// What the operator says about a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Whether it is used at all. Default true.
    pub enabled: bool,
    /// Its place among the plugins of its kind: low numbers first, equal ones by name. Default 100.
    pub order: i32,
    /// What its failure means for replies. A failing auth policy always refuses. Default `closed`.
    pub on_failure: OnFailure,
    /// The requests whose replies it processes. Default all.
    pub applies_to: AppliesTo,
    /// How it gets streamed replies; `None`: streamed where it can, else whole.
    pub body: Option<Body>,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach over the network. Default nothing.
    pub network: Vec<NetworkGrant>,
    /// Its environment. Default empty.
    pub env: BTreeMap<String, Secret>,
    /// Its configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Its secrets by the names it knows them by. Default none.
    pub secrets: BTreeMap<String, Secret>,
    /// Its files. Default none.
    pub files: Vec<FileGrant>,
    /// Parts of HTTP requests that it sees as an auth policy. Default none.
    pub headers: Vec<HeaderGrant>,
}

/// What the failure of a plugin means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The request fails.
    #[default]
    Closed,
    /// The request goes on as if the plugin were not there.
    Open,
}

/// How a response processor gets streamed replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// Held until they are complete, then as a whole.
    Buffered,
    /// As they come in.
    Streamed,
}

/// The requests whose replies a plugin processes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppliesTo {
    /// Paths of endpoints. Default `["*"]`.
    #[serde(deserialize_with = "not_empty")]
    pub endpoints: Vec<Pattern>,
    /// Ids of models. Default `["*"]`.
    #[serde(deserialize_with = "not_empty")]
    pub models: Vec<Pattern>,
}

/// What a plugin may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of one instance, in mebibytes. Default 64.
    #[serde(deserialize_with = "bounded::<_, 1, 4096>")]
    pub memory_mb: u64,
    /// Longest time of one call, in milliseconds; see [`Limits::call_timeout`] for the default.
    #[serde(deserialize_with = "bounded_option::<_, 1, 600_000>")]
    pub call_timeout_ms: Option<u64>,
    /// Units of fuel (about one an instruction) of one call; counted only where calls are counted at all. Default none.
    #[serde(deserialize_with = "bounded_option::<_, 1, { u64::MAX }>")]
    pub fuel: Option<u64>,
    /// Most that one call may answer, in kibibytes. Default 1024.
    #[serde(deserialize_with = "bounded::<_, 1, 262_144>")]
    pub max_output_kb: u64,
    /// Calls and open replies at the same time; further ones wait. Default 32.
    #[serde(deserialize_with = "bounded::<_, 1, 10_000>")]
    pub max_concurrency: u64,
    /// Longest time that a call waits for its turn, in milliseconds; 0: not at all. Default 2000.
    #[serde(deserialize_with = "bounded::<_, 0, 600_000>")]
    pub queue_timeout_ms: u64,
}

/// What a plugin is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Its start when it is loaded, and the list of its tools.
    Load,
    /// A whole reply.
    Response,
    /// A piece of a streamed reply, or its end.
    ResponseStream,
    /// A decision.
    Auth,
    /// A tool call.
    Tool,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            enabled: true,
            order: 100,
            on_failure: OnFailure::default(),
            applies_to: AppliesTo::default(),
            body: None,
            limits: Limits::default(),
            network: Vec::new(),
            env: BTreeMap::new(),
            config: serde_json::Map::new(),
            secrets: BTreeMap::new(),
            files: Vec::new(),
            headers: Vec::new(),
        }
    }
}

impl Default for AppliesTo {
    fn default() -> Self {
        Self { endpoints: vec![Pattern::any()], models: vec![Pattern::any()] }
    }
}

impl AppliesTo {
    /// Whether replies of `model` to requests at the path `endpoint` are meant.
    #[must_use]
    pub fn includes(&self, endpoint: &str, model: &str) -> bool {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        any(&self.endpoints, endpoint) && any(&self.models, model)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mb: 64,
            call_timeout_ms: None,
            fuel: None,
            max_output_kb: 1024,
            max_concurrency: 32,
            queue_timeout_ms: 2000,
        }
    }
}

impl Limits {
    /// Longest time of one call: what the file says, else 2 s for a decision (every request waits for it), 5 s for a
    /// reply or a piece of one, 10 s for its start (other plugins wait for it), 30 s for a tool, which may have to ask
    /// somebody else.
    #[must_use]
    pub fn call_timeout(&self, hook: Hook) -> Duration {
        let default = match hook {
            Hook::Auth => 2000,
            Hook::Response | Hook::ResponseStream => 5000,
            Hook::Load => 10_000,
            Hook::Tool => 30_000,
        };
        Duration::from_millis(self.call_timeout_ms.unwrap_or(default))
    }

    /// Longest time that a call waits for its turn.
    #[must_use]
    pub fn queue_timeout(&self) -> Duration {
        Duration::from_millis(self.queue_timeout_ms)
    }

    /// Memory of one instance, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        usize::try_from(self.memory_mb << 20).unwrap_or(usize::MAX)
    }

    /// Most that one call may answer, in bytes.
    #[must_use]
    pub fn max_output_bytes(&self) -> usize {
        usize::try_from(self.max_output_kb << 10).unwrap_or(usize::MAX)
    }
}

impl Manifest {
    /// Reads the text of `file` (as errors call it). Variables of the gateway's environment come from `variables`.
    ///
    /// # Errors
    /// All that is wrong, one fault a line: what is no TOML, unknown keys, wrong values, variables that are not set, more
    /// memory than `host` lets one instance have.
    pub fn parse(file: &str, text: &str, variables: &Variables, host: &Config) -> Result<Self, LoadError> {
        let document: Document = read_toml(file, text).map_err(|faults| LoadError::new(faults.join("\n")))?;
        let mut faults = Vec::new();
        let limits = document.limits;
        if limits.memory_mb > host.max_instance_memory_mb {
            faults.push(format!(
                "{file}: limits.memory_mb is {}, but plugins.max_instance_memory_mb in gateway.toml allows {}",
                limits.memory_mb, host.max_instance_memory_mb
            ));
        }
        let mut value_of = |key: String, variable: &str| {
            let value = variables.get(variable);
            if value.is_none() {
                faults.push(format!(
                    "{file}: {key}: the variable {variable} is not set; set it in the gateway's environment or in .env"
                ));
            }
            value.unwrap_or_default()
        };
        let env = document.env.into_iter().map(|EnvGrant { name, value }| {
            let value = value.map(Secret::from);
            let value = value.unwrap_or_else(|| value_of("env".to_owned(), &name));
            (name, value)
        });
        let env = env.collect();
        let secrets = document.secrets.into_iter().map(|(name, variable)| {
            let value = value_of(format!("secrets.{name}"), &variable);
            (name, value)
        });
        let secrets = secrets.collect();
        faults.extend(doubled_file(file, &document.files));
        if !faults.is_empty() {
            return Err(LoadError::new(faults.join("\n")));
        }
        Ok(Self {
            enabled: document.enabled,
            order: document.order,
            on_failure: document.on_failure,
            applies_to: document.applies_to,
            body: document.body,
            limits,
            network: document.network,
            env,
            config: document.config,
            secrets,
            files: document.files,
            headers: document.headers,
        })
    }

    /// Whether an auth policy may see the header `name` (in lower case).
    #[must_use]
    pub fn shows_header(&self, name: &str) -> bool {
        self.headers.iter().any(|grant| matches!(grant, HeaderGrant::Header(own) if own == name))
    }

    /// Whether an auth policy may see the key `name` of the query.
    #[must_use]
    pub fn shows_query_key(&self, name: &str) -> bool {
        self.headers.iter().any(|grant| matches!(grant, HeaderGrant::QueryKey(own) if own == name))
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    enabled: bool,
    order: i32,
    on_failure: OnFailure,
    applies_to: AppliesTo,
    body: Option<Body>,
    limits: Limits,
    network: Vec<NetworkGrant>,
    env: Vec<EnvGrant>,
    config: serde_json::Map<String, serde_json::Value>,
    secrets: BTreeMap<String, String>,
    files: Vec<FileGrant>,
    headers: Vec<HeaderGrant>,
}

impl Default for Document {
    fn default() -> Self {
        let Manifest { enabled, order, on_failure, applies_to, body, limits, .. } = Manifest::default();
        Self {
            enabled,
            order,
            on_failure,
            applies_to,
            body,
            limits,
            network: Vec::new(),
            env: Vec::new(),
            config: serde_json::Map::new(),
            secrets: BTreeMap::new(),
            files: Vec::new(),
            headers: Vec::new(),
        }
    }
}

/// One path of the plugin's cannot mean two of ours.
fn doubled_file(file: &str, grants: &[FileGrant]) -> Option<String> {
    let doubled = grants
        .iter()
        .enumerate()
        .find(|(at, grant)| grants[..*at].iter().any(|before| before.guest == grant.guest));
    doubled.map(|(at, grant)| format!("{file}: files[{at}].guest: {} is granted twice", grant.guest.as_str()))
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn bounded<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&value) {
        Ok(value)
    } else {
        Err(D::Error::custom(format!("must be a whole number from {MIN} to {MAX}, not {value}")))
    }
}

fn bounded_option<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    bounded::<D, MIN, MAX>(deserializer).map(Some)
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let patterns = Vec::<Pattern>::deserialize(deserializer)?;
    if patterns.is_empty() {
        return Err(D::Error::custom(
            "an empty list would mean no request at all; use enabled = false for that",
        ));
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests;
