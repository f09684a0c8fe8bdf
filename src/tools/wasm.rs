//! Tools of plugins: each plugin that exports `tools` is a source of its own, named like the plugin.
//!
//! A tool that the registry holds belongs to one generation of its plugin; calls that run when the next one takes over
//! end on theirs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{Tool, ToolSource, ToolSources};
use crate::domain::{ToolContext, ToolDefinition, ToolError, ToolResult};
use crate::plugin_host::manifest::Hook;
use crate::plugin_host::{Plugin, PluginFolder};

/// The plugins of a folder that bring tools.
pub struct WasmTools {
    folder: PluginFolder<Plugin>,
}

/// One plugin's tools, in whatever generation serves.
struct WasmSource {
    name: String,
    folder: PluginFolder<Plugin>,
    /// The tools of the generation that was last asked for.
    made: Mutex<Option<Made>>,
}

struct Made {
    plugin: Arc<Plugin>,
    tools: Vec<Arc<dyn Tool>>,
}

struct WasmTool {
    plugin: Arc<Plugin>,
    definition: ToolDefinition,
}

impl WasmTools {
    /// The tools of the plugins in `folder`.
    #[must_use]
    pub fn new(folder: PluginFolder<Plugin>) -> Self {
        Self { folder }
    }
}

impl ToolSources for WasmTools {
    fn sources(&self) -> Vec<Arc<dyn ToolSource>> {
        let catalog = self.folder.catalog();
        let with_tools = catalog.plugins.iter().filter(|plugin| plugin.exports().tools);
        let source = |plugin: &Arc<Plugin>| -> Arc<dyn ToolSource> {
            let (name, folder) = (plugin.name().to_owned(), self.folder.clone());
            Arc::new(WasmSource { name, folder, made: Mutex::default() })
        };
        with_tools.map(source).collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.folder.changes()
    }
}

impl ToolSource for WasmSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        let catalog = self.folder.catalog();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(plugin) = catalog.plugins.iter().find(|plugin| plugin.name() == self.name) else {
            *made = None;
            return Vec::new();
        };
        // The same generation gives the same tools, so that the registry need not compile their schemas again.
        if let Some(made) = made.as_ref().filter(|made| Arc::ptr_eq(&made.plugin, plugin)) {
            return made.tools.clone();
        }
        let tool = |definition: &ToolDefinition| -> Arc<dyn Tool> {
            Arc::new(WasmTool { plugin: Arc::clone(plugin), definition: definition.clone() })
        };
        let tools: Vec<Arc<dyn Tool>> = plugin.tools().iter().map(tool).collect();
        *made = Some(Made { plugin: Arc::clone(plugin), tools: tools.clone() });
        tools
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.folder.changes()
    }
}

#[async_trait]
impl Tool for WasmTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    async fn call(
        &self,
        arguments: Map<String, Value>,
        context: &ToolContext,
    ) -> Result<ToolResult, ToolError> {
        let arguments = Value::Object(arguments).to_string();
        self.plugin.call_tool(context, &self.definition.name, &arguments).await
    }

    fn timeout(&self) -> Option<Duration> {
        let limits = &self.plugin.manifest().limits;
        // Waiting for a place counts as well.
        Some(limits.call_timeout(Hook::Tool) + limits.queue_timeout())
    }
}
