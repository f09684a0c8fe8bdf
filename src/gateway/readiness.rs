//! What `/readyz` tells: models, MCP servers, plugins, sessions. Names and numbers only, since anyone may ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::http::{Component, Health, Readiness};
use crate::llm::{Models, UpstreamState};
use crate::plugin_host::{PluginHost, PluginReport, PluginState};
use crate::sessions::SessionStore;
use crate::tools::mcp::{McpServers, ServerState, ServerStatus};

/// The parts whose state is told.
pub(super) struct Components {
    pub(super) models: Arc<Models>,
    pub(super) mcp: Arc<McpServers>,
    pub(super) plugins: Arc<PluginHost>,
    pub(super) sessions: Arc<dyn SessionStore>,
}

#[async_trait]
impl Readiness for Components {
    async fn components(&self) -> BTreeMap<&'static str, Component> {
        BTreeMap::from([
            ("models", self.models()),
            ("mcp_servers", self.mcp_servers()),
            ("plugins", self.plugins()),
            ("sessions", self.sessions().await),
        ])
    }
}

impl Components {
    /// An upstream that did not answer last time may answer the next, so the gateway stays ready, if degraded.
    fn models(&self) -> Component {
        let states = self.models.upstream_states();
        let down = states.iter().any(|upstream| upstream.reachable == Some(false));
        let status = if down { Health::Degraded } else { Health::Ready };
        let shown = |upstream: &UpstreamState| json!({"name": upstream.name, "reachable": upstream.reachable, "models": upstream.models});
        let upstreams: Vec<Value> = states.iter().map(shown).collect();
        Component { status, detail: json!({"upstreams": upstreams, "demo": self.models.is_demo()}) }
    }

    /// Servers that are down make the gateway degraded and never unavailable: chat goes on without their tools.
    fn mcp_servers(&self) -> Component {
        let states = self.mcp.states();
        let down = |state| !matches!(state, ServerState::Ready | ServerState::Disabled);
        let status =
            if states.iter().any(|server| down(server.state)) { Health::Degraded } else { Health::Ready };
        let shown = |server: &ServerStatus| json!({"name": server.name, "state": server.state, "tools": server.tools});
        let servers: Vec<Value> = states.iter().map(shown).collect();
        Component { status, detail: json!({ "servers": servers }) }
    }

    /// A plugin that fails makes the gateway degraded, and unavailable where the operator or its kind says that nothing
    /// may pass without it.
    fn plugins(&self) -> Component {
        let reports = self.plugins.reports();
        let catalog = self.plugins.catalog();
        let fine = |state| matches!(state, PluginState::Serving | PluginState::Disabled);
        let status = if !catalog.failed_auth.is_empty() || !catalog.missing_required.is_empty() {
            Health::Unavailable
        } else if reports.iter().all(|plugin| fine(plugin.status.state)) {
            Health::Ready
        } else {
            Health::Degraded
        };
        let shown = |plugin: &PluginReport| json!({"name": plugin.status.name, "state": plugin.status.state});
        let plugins: Vec<Value> = reports.iter().map(shown).collect();
        Component { status, detail: json!({ "plugins": plugins }) }
    }

    async fn sessions(&self) -> Component {
        // The smallest question that the store has to read for. Nobody's id is empty.
        match self.sessions.list("", 0, 1).await {
            Ok(_) => Component { status: Health::Ready, detail: json!({}) },
            Err(error) => {
                tracing::warn!(%error, "the session store does not answer");
                Component { status: Health::Unavailable, detail: json!({}) }
            }
        }
    }
}
