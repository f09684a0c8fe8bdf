//! The `tools` room: the port to tools, and the registry every API calls them through.
//!
//! Adapters bring tools in ([`ToolSource`]); the registry names, validates, times, retries, bounds and logs every call,
//! so that an adapter only has to make it. `docs/tools.md` tells operators how.

mod bound;
mod call_stats;
mod context;
mod invoke;
mod lowering;
pub mod mcp;
mod naming;
mod registry;
mod schema;
mod settings;
pub mod wasm;

#[cfg(test)]
pub(crate) mod fake;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::watch;

pub use bound::result_bytes;
pub use call_stats::{CallOutcome, CallStats};
pub use context::{ContextCapabilities, ContextSource, ContextVersion, ResourceSubscription};
pub use invoke::RegisteredTool;
pub use registry::{ToolRegistry, ToolSnapshot};
pub use settings::{Config, ToolOverride};

use crate::domain::{ToolContext, ToolDefinition, ToolError, ToolResult};

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

/// Providers of tools that may be added while the gateway runs.
pub trait ToolSources: Send + Sync {
    /// Those there are now; names are unique.
    fn sources(&self) -> Vec<Arc<dyn ToolSource>>;

    /// Changes whenever [`Self::sources`], or the tools of one of them, would be something else.
    fn changes(&self) -> watch::Receiver<u64>;
}
