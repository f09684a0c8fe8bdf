//! The `tools` room: the port to tools, and the registry every API calls them through.
//!
//! Adapters bring tools in ([`ToolSource`]); the registry names, validates, times, retries, bounds and logs every call,
//! so that an adapter only has to make it.

mod bound;
mod invoke;
pub mod mcp;
mod naming;
mod registry;
mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

pub use registry::{RegisteredTool, ToolRegistry, ToolSnapshot};

use crate::domain::{ToolContext, ToolDefinition, ToolError, ToolResult};

/// `[tools]` in `gateway.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time one call may take, retries included, in milliseconds, where neither the server's nor the tool's own
    /// configuration says otherwise. Default 60000.
    pub call_timeout_ms: u64,
    /// Further tries of a failed call, only where nothing can have happened twice. Default 2.
    pub retries: u32,
    /// Wait before the first retry, in milliseconds; doubles each time. Default 200.
    pub retry_backoff_ms: u64,
    /// Largest result that is passed on, in bytes; what is larger is cut, with a note. Default 262144.
    pub max_result_bytes: usize,
    /// Calls of all clients together that run at the same time; further ones wait. Default 64.
    pub max_concurrent_calls: usize,
    /// Settings of single tools, by canonical name.
    pub overrides: BTreeMap<String, ToolOverride>,
    /// `[tools.mcp]`: how MCP servers are started, watched and stopped.
    pub mcp: mcp::McpConfig,
}

/// `[tools.overrides."name"]` in `gateway.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolOverride {
    /// Longest time one call may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Further tries of a failed call; setting it says that repeating the call is safe.
    pub retries: Option<u32>,
    /// Whether the tool is left out.
    pub disabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            call_timeout_ms: 60_000,
            retries: 2,
            retry_backoff_ms: 200,
            max_result_bytes: 256 * 1024,
            max_concurrent_calls: 64,
            overrides: BTreeMap::new(),
            mcp: mcp::McpConfig::default(),
        }
    }
}

/// One callable tool.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What the tool is; `name` is the server's own name for it, before the registry makes it canonical.
    fn definition(&self) -> &ToolDefinition;

    /// Calls the tool with arguments that have been validated. Dropping the future cancels the call at its server.
    ///
    /// # Errors
    /// [`ToolError`] where there is no result at all; a tool's own failure is a result with `is_error`.
    async fn call(
        &self,
        arguments: Map<String, Value>,
        context: &ToolContext,
    ) -> Result<ToolResult, ToolError>;

    /// How long a call may take, retries included, where the server's own configuration says so.
    fn timeout(&self) -> Option<Duration> {
        None
    }
}

/// A provider of tools that may come and go.
pub trait ToolSource: Send + Sync {
    /// The name of the server or plugin, unique in the configuration.
    fn name(&self) -> &str;

    /// The tools it offers now; none while it is down.
    fn tools(&self) -> Vec<Arc<dyn Tool>>;

    /// Changes whenever [`Self::tools`] would answer something else: first the tools, then the number.
    fn changes(&self) -> watch::Receiver<u64>;
}
