//! Section `[tools]` of the configuration: limits of every tool call, and exceptions for single tools.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::mcp;
use crate::config::positive;

/// `[tools]` in `gateway.toml`: how tools are named, offered and called.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long one call may take, its retries included, in milliseconds. Default 60000. The server's own `timeout`
    /// and [`ToolOverride::timeout_ms`] go before it.
    #[serde(deserialize_with = "positive")]
    pub call_timeout_ms: u64,
    /// How often a failed call is tried again where that is safe. Default 2.
    pub retries: u32,
    /// Pause before the first retry, in milliseconds; it doubles each time, with jitter. Default 200.
    pub retry_backoff_ms: u64,
    /// Calls that run at the same time, of all servers together. Default 256.
    #[serde(deserialize_with = "positive")]
    pub max_concurrent_calls: usize,
    /// Calls of one server's tools that run at the same time, so that a server that hangs leaves room for the others.
    /// Default 64.
    #[serde(deserialize_with = "positive")]
    pub max_concurrent_calls_per_server: usize,
    /// How long a call waits for its turn when too many run, in milliseconds. Default 10000.
    pub queue_timeout_ms: u64,
    /// The longest arguments of a call, in bytes of JSON. Default 1048576.
    pub max_argument_bytes: usize,
    /// The largest result of a call, in bytes; what is beyond is cut and the cut is told. Default 262144.
    pub max_result_bytes: usize,
    /// The largest resource or prompt that is passed on, in bytes of JSON, and the longest list of them. Default 8388608.
    pub max_resource_bytes: usize,
    /// The largest schema of a tool, in bytes of JSON; a tool with a larger one is not offered. Default 262144.
    pub max_schema_bytes: usize,
    /// The longest description a model is given of a tool, in characters. Default 1024, the OpenAI API's limit.
    pub max_description_chars: usize,
    /// How long after the start the order of the servers decides who keeps a name they share, in milliseconds.
    /// Afterwards a name once given stays with its tool. Default 30000.
    pub name_settle_ms: u64,
    /// Exceptions for single tools, by the name callers use or by `server__tool`.
    pub overrides: BTreeMap<String, ToolOverride>,
    /// `[tools.mcp]`: how MCP servers are started, watched and stopped.
    pub mcp: mcp::McpConfig,
}

/// `[tools.overrides."name"]` in `gateway.toml`: what is different for one tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolOverride {
    /// How long one call may take, its retries included, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How often a failed call is tried again. Setting it also says that a second call does no harm, unless
    /// `safe_to_repeat` says otherwise.
    pub retries: Option<u32>,
    /// Whether a second call does no harm; goes before the server's `readOnlyHint` and `idempotentHint`.
    pub safe_to_repeat: Option<bool>,
    /// The largest result, in bytes.
    pub max_result_bytes: Option<usize>,
    /// True to leave the tool out. Default false.
    pub disabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            call_timeout_ms: 60_000,
            retries: 2,
            retry_backoff_ms: 200,
            max_concurrent_calls: 256,
            max_concurrent_calls_per_server: 64,
            queue_timeout_ms: 10_000,
            max_argument_bytes: 1024 * 1024,
            max_result_bytes: 256 * 1024,
            max_resource_bytes: 8 * 1024 * 1024,
            max_schema_bytes: 256 * 1024,
            max_description_chars: 1024,
            name_settle_ms: 30_000,
            overrides: BTreeMap::new(),
            mcp: mcp::McpConfig::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_overrides_and_keeps_defaults() {
        let config: Config =
            toml::from_str("retries = 5\n[overrides.\"files__read\"]\ntimeout_ms = 9\ndisabled = true")
                .unwrap();
        assert_eq!((config.retries, config.call_timeout_ms), (5, 60_000));
        let files = &config.overrides["files__read"];
        assert_eq!((files.timeout_ms, files.disabled, files.retries), (Some(9), true, None));
    }

    #[test]
    fn refuses_what_cannot_work() {
        for bad in
            ["call_timeout_ms = 0", "max_concurrent_calls = 0", "retry = 1", "[overrides.x]\ntimeout = 1"]
        {
            assert!(toml::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
