//! The `mcp_server` room: the gateway's tools as an MCP server.
//!
//! The same tools, rules and log lines as everywhere else: every call goes through [`crate::toolbox`]. The room speaks the
//! protocol (the only user of rmcp's server) over streamable HTTP, mounted by `http`, and over standard input and output.
//! It decides nothing about who is asking: [`crate::access`] does, for each request and each message.

mod batch;
#[expect(
    deprecated,
    reason = "log messages are deprecated, and what clients of all but the newest version know"
)]
mod call;
mod changes;
mod contexts;
#[expect(deprecated, reason = "as above")]
mod convert;
mod endpoint;
#[expect(deprecated, reason = "as above")]
mod handler;
mod page;
mod places;
mod sessions;
mod stdio;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::endpoint::McpResponse;
use self::sessions::Sessions;
pub use self::stdio::{StdioCaller, StdioError};
use self::view::View;
use crate::access::AccessScope;
use crate::config::positive;
use crate::toolbox::Toolbox;

/// `[mcp_server]` in `gateway.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most sessions of MCP clients at the same time. A further one takes a place of the user who has the most: an idle
    /// one if that caller has at least as many as the newcomer, one in use only from somebody with at least two more. Else
    /// the newcomer gets 503. Default 256, at least 1.
    #[serde(deserialize_with = "positive")]
    pub max_sessions: usize,
    /// How long a session lives that nobody uses, in milliseconds. Default 1800000 (half an hour), at least 1.
    #[serde(deserialize_with = "positive")]
    pub session_idle_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_sessions: 256, session_idle_ms: 1_800_000 }
    }
}

/// What an [`McpServer`] is made of.
pub struct Parts {
    /// The tools.
    pub toolbox: Toolbox,
    /// Names of the configured MCP servers, whether they are up or not.
    pub servers: Vec<String>,
    /// Becomes true once clients need not wait for tools any longer; a dropped sender counts as true.
    pub tools_settled: watch::Receiver<bool>,
    /// Silence on a stream after which a comment is sent.
    pub keep_alive: Duration,
}

/// The MCP server; a clone is another handle to the same one. Dropping the last one ends all sessions.
#[derive(Clone)]
pub struct McpServer(Arc<Inner>);

struct Inner {
    toolbox: Toolbox,
    servers: Vec<String>,
    tools_settled: watch::Receiver<bool>,
    sessions: Arc<Sessions>,
    keep_alive: Duration,
    /// Cancelled when the gateway takes no new work.
    draining: CancellationToken,
    /// Cancelled when everything has to end.
    stopping: CancellationToken,
    _reaper: AbortOnDropHandle<()>,
}

impl McpServer {
    /// A server made of `parts`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(config: &Config, parts: Parts) -> Self {
        let Parts { toolbox, servers, tools_settled, keep_alive } = parts;
        let idle = Duration::from_millis(config.session_idle_ms);
        let sessions = Arc::new(Sessions::new(config.max_sessions, idle));
        let reaper = tokio::spawn(end_idle_sessions(Arc::clone(&sessions), idle));
        Self(Arc::new(Inner {
            toolbox,
            servers,
            tools_settled,
            sessions,
            keep_alive,
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            _reaper: AbortOnDropHandle::new(reaper),
        }))
    }

    /// Whether there is an MCP server or plugin called `server` of which `scope` may see anything.
    #[must_use]
    pub fn shows(&self, scope: &AccessScope, server: &str) -> bool {
        let view = View { toolbox: self.0.toolbox.clone(), server: Some(Arc::from(server)) };
        if !view.tools(scope).is_empty() {
            return true;
        }
        // A server that is down has no tools; it is there for those who may see whatever it will have.
        let is_configured = self.0.servers.iter().any(|name| name == server);
        is_configured && scope.sees_tool("", &format!("{server}__"))
    }

    /// Ends what only waits for news: the gateway takes no new work. What runs goes on.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Ends everything.
    pub fn stop(&self) {
        self.0.draining.cancel();
        self.0.stopping.cancel();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.draining.cancel();
        self.stopping.cancel();
    }
}

/// Looks for idle sessions, often enough that none lives much longer than it may.
async fn end_idle_sessions(sessions: Arc<Sessions>, idle: Duration) {
    const SHORTEST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(60);
    let mut ticks = tokio::time::interval((idle / 4).clamp(SHORTEST, LONGEST));
    loop {
        ticks.tick().await;
        sessions.end_idle().await;
    }
}
