//! MCP servers as sources of tools: every server of `servers_config.json` connected, supervised and stopped.
//!
//! Promises: all servers start at the same time and none waits for another; a server that dies takes its tools along,
//! is started again with growing pauses and brings them back; no child process survives [`McpServers::shutdown`] or the
//! death of the gateway, even by SIGKILL. Does not name, validate, time or retry calls: that is the registry's work.

mod backoff;
mod call;
mod client;
mod command;
mod content;
mod context;
#[cfg(test)]
mod fake;
#[cfg(unix)]
pub mod guard;
mod health;
mod http;
mod legacy_sse;
mod lists;
mod notices;
mod request;
mod server;
mod session_client;
#[cfg(unix)]
mod stdio;
mod subscriptions;
mod supervisor;
mod tail;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::context::McpContext;
use self::server::Server;
use super::{Config, ContextSource, ToolSource};
use crate::config::mcp_servers::McpServerConfig;

/// `[tools.mcp]`: how MCP servers are started, watched and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpConfig {
    /// Time for a start: process, handshake and list of tools, in milliseconds (30000; a cold `npx` downloads first).
    pub handshake_timeout_ms: u64,
    /// Pause between two signs of life asked of a quiet server, in milliseconds (30000); 0 asks for none.
    pub ping_interval_ms: u64,
    /// Time for a sign of life, in milliseconds (10000).
    pub ping_timeout_ms: u64,
    /// Time between asking a child process to stop and killing it, in milliseconds (2000).
    pub stop_grace_ms: u64,
    /// Pause before the second start in a row that follows a failure, in milliseconds (500); it doubles each time.
    pub restart_min_ms: u64,
    /// The longest pause between two starts, in milliseconds (30000).
    pub restart_max_ms: u64,
    /// A server that ran this long counts as healthy again: its next crash restarts it at once, in milliseconds (10000).
    pub stable_after_ms: u64,
    /// How long a call waits for a server that is just being started again, in milliseconds (5000).
    pub call_wait_ms: u64,
    /// The `witgate` program, which guards child processes (default: the running executable).
    pub guard_program: Option<PathBuf>,
}

impl Default for McpConfig {
    fn default() -> Self {
        Self {
            handshake_timeout_ms: 30_000,
            ping_interval_ms: 30_000,
            ping_timeout_ms: 10_000,
            stop_grace_ms: 2_000,
            restart_min_ms: 500,
            restart_max_ms: 30_000,
            stable_after_ms: 10_000,
            call_wait_ms: 5_000,
            guard_program: None,
        }
    }
}

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Its first start is under way.
    Starting,
    /// Connected, its tools are listed.
    Ready,
    /// It was lost and is being started again.
    Restarting,
    /// Its last start failed; `last_error` says why and whether it will be tried again.
    Failed,
    /// Switched off in the configuration, or stopped with the gateway.
    Disabled,
}

/// What is known about one server, for health pages and `witgate check`.
#[derive(Clone, Debug, Serialize)]
pub struct ServerStatus {
    /// Its key in the configuration.
    pub name: String,
    /// `stdio`, `sse` or `http`.
    pub transport: &'static str,
    /// Where it stands.
    pub state: ServerState,
    /// The protocol version agreed on in the last successful handshake.
    pub protocol_version: Option<String>,
    /// Duration of the last successful start in milliseconds.
    pub handshake_ms: Option<u64>,
    /// Number of tools it offers now.
    pub tools: usize,
    /// Why it failed or was lost last.
    pub last_error: Option<String>,
    /// The last lines it wrote to stderr, oldest first.
    pub stderr_tail: Vec<String>,
    /// How often it was started again after it had been ready.
    pub restarts: u64,
}

/// All configured MCP servers. Dropping it stops them without waiting; [`Self::shutdown`] waits.
pub struct McpServers {
    servers: Vec<Arc<Server>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl McpServers {
    /// Starts every server that is not disabled, all at once, each under a supervisor task of its own.
    /// Must be called within a tokio runtime; returns without waiting for any server.
    #[must_use]
    pub fn start(configs: Vec<McpServerConfig>, config: McpConfig) -> Self {
        let config = Arc::new(config);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut servers = Vec::with_capacity(configs.len());
        for server in configs {
            let disabled = server.disabled;
            let server = Arc::new(Server::new(server, config.clone(), tasks.clone()));
            if !disabled {
                tasks.spawn(supervisor::run(server.clone(), stop.clone()));
            }
            servers.push(server);
        }
        Self { servers, stop, tasks }
    }

    /// The servers as tool sources, in configuration order.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<dyn ToolSource>> {
        self.servers.iter().map(|server| server.clone() as Arc<dyn ToolSource>).collect()
    }

    /// The resources and prompts of the servers, in configuration order, within the limits of `config`.
    #[must_use]
    pub fn context_sources(&self, config: &Config) -> Vec<Arc<dyn ContextSource>> {
        let source = |server: &Arc<Server>| Arc::new(McpContext::new(server.clone(), config));
        self.servers.iter().map(|server| source(server) as Arc<dyn ContextSource>).collect()
    }

    /// What is known about every server now, in configuration order.
    #[must_use]
    pub fn states(&self) -> Vec<ServerStatus> {
        self.servers.iter().map(|server| server.status()).collect()
    }

    /// Waits until every server has been ready or has failed once, at most `timeout`; false when that ran out.
    pub async fn settled(&self, timeout: Duration) -> bool {
        let all = async {
            for server in &self.servers {
                server.settled().await;
            }
        };
        tokio::time::timeout(timeout, all).await.is_ok()
    }

    /// Stops every server and waits until all child processes are gone; bounded by the stop grace and a few seconds.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for McpServers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
