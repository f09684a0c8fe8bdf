//! A gateway of one's own for `witgate chat`: built from the files in the working folder, in this process, on a free
//! port of the loopback interface.
//!
//! It is the same gateway as `witgate serve` has, with the same sessions. Any user of this machine could talk to it as
//! long as it runs, as to any gateway on loopback; `access.chat = "required"` keeps them out of both.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::args::GlobalArgs;
use super::loading::Loaded;
use super::terminal::one_line;
use crate::config::Settings;
use crate::config::secret::Secret;
use crate::gateway::{self, Listening};
use crate::tools::mcp::{McpServers, ServerState};

/// Time for requests at the end. None is left in the ordinary case: the only client is this process.
const DRAIN_MS: u64 = 1_000;

/// Time on top of the handshake's own limit, which ends the wait for MCP servers in every ordinary case.
const EXTRA_WAIT: Duration = Duration::from_secs(5);

/// Longest reason why a server is not there, in characters.
const MAX_REASON: usize = 300;

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogTo {
    /// Standard error.
    Stderr,
    /// `chat.log` in the data folder: somebody types in the terminal.
    File,
}

/// A running gateway. [`Self::stop`] waits until nothing of it is left.
pub(super) struct LocalGateway {
    settings: Settings,
    url: String,
    tools: usize,
    news: Vec<String>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl LocalGateway {
    /// Starts a gateway and waits until its MCP servers are up or have failed.
    ///
    /// # Errors
    /// When the settings are wrong or the gateway cannot be built.
    pub(super) async fn start(global: &GlobalArgs, log_to: LogTo) -> anyhow::Result<Self> {
        let loaded = Loaded::read(global)?;
        match log_to {
            // What fails is told by its response; only what a response must not tell is worth a line here.
            LogTo::Stderr => loaded.log_only("error", global)?,
            LogTo::File => loaded.log_to_file("chat.log", "warn", global)?,
        }
        let Loaded { settings, mut config } = loaded;
        config.server.host = "127.0.0.1".to_owned();
        config.server.port = 0;
        config.server.drain_timeout_ms = DRAIN_MS;
        let wait = Duration::from_millis(config.tools.mcp.handshake_timeout_ms) + EXTRA_WAIT;
        let listening = Box::pin(gateway::listen(config)).await?;
        listening.gateway().mcp().settled(wait).await;
        Ok(Self::run(listening, settings))
    }

    fn run(listening: Listening, settings: Settings) -> Self {
        let url = format!("http://{}", listening.address());
        let tools = listening.gateway().mcp().states().iter().map(|server| server.tools).sum();
        let mut news = missing_servers(listening.gateway().mcp());
        if listening.gateway().models().is_demo() {
            news.insert(
                0,
                "only the built-in demo model answers; set OPENAI_API_KEY or llm.upstreams".to_owned(),
            );
        }
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(listening.run(async {
            // Dropping the sender stops it as well.
            let _ = stopped.await;
        }));
        Self { settings, url, tools, news, stop, running }
    }

    /// Its address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The variable `name` of the environment or `.env`.
    pub(super) fn variable(&self, name: &str) -> Option<Secret> {
        self.settings.env(name)
    }

    /// How many tools its servers have.
    pub(super) fn tools(&self) -> usize {
        self.tools
    }

    /// What a person should know about its start: that there is no real model, and which servers are not there.
    pub(super) fn news(&self) -> &[String] {
        &self.news
    }

    /// Stops it and its MCP servers.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        // Panics are logged by the task's own hook; there is nothing left to stop then.
        let _ = self.running.await;
    }
}

/// A line for every server whose tools are missing.
pub(super) fn missing_servers(servers: &McpServers) -> Vec<String> {
    let missing = servers
        .states()
        .into_iter()
        .filter(|s| !matches!(s.state, ServerState::Ready | ServerState::Disabled));
    missing
        .map(|server| {
            let why = server.last_error.unwrap_or_else(|| "its start is not done yet".to_owned());
            format!("the tools of `{}` are missing: {}", server.name, one_line(&why, MAX_REASON))
        })
        .collect()
}
