//! One server as everyone sees it: its state, its tools, and the connection that calls go through at the moment.
//!
//! The supervisor writes here; calls, status pages and the registry read. A tool handle outlives a restart of its server:
//! it asks for the present connection at each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rmcp::service::{Peer, RoleClient};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::call::McpTool;
use super::lists::{Kind, Lists};
use super::subscriptions::Subscriptions;
use super::tail::Tail;
use super::{McpConfig, ServerState, ServerStatus};
use crate::config::mcp_servers::McpServerConfig;
use crate::domain::{ToolDefinition, ToolError, ToolErrorKind};
use crate::tools::{ContextCapabilities, ContextVersion, Tool, ToolSource};

/// One configured server.
pub(super) struct Server {
    /// Its entry in the configuration.
    pub(super) config: McpServerConfig,
    /// How servers are run.
    pub(super) settings: Arc<McpConfig>,
    /// What it writes to stderr.
    pub(super) tail: Arc<Tail>,
    /// Owner of the short tasks that calls leave behind (cancellations).
    pub(super) tasks: TaskTracker,
    /// Its resources that somebody follows.
    pub(super) subscriptions: Subscriptions,
    view: watch::Sender<View>,
    changes: watch::Sender<u64>,
    context: watch::Sender<ContextVersion>,
}

/// What changes while a server runs.
struct View {
    state: ServerState,
    protocol_version: Option<String>,
    handshake: Option<Duration>,
    last_error: Option<String>,
    restarts: u64,
    live: Option<Arc<Live>>,
    tools: Vec<Arc<dyn Tool>>,
}

/// One connection, from its handshake to its loss.
pub(super) struct Live {
    /// Where requests go.
    pub(super) peer: Peer<RoleClient>,
    /// True for protocol versions without `initialize`, which have no `ping` and subscribe to changes.
    pub(super) modern: bool,
    /// The server can tell what it logs.
    pub(super) logs: bool,
    /// What it has besides tools.
    pub(super) offers: ContextCapabilities,
    /// It tells when its resources or resource templates are others.
    pub(super) announces_resources: bool,
    /// It tells when its prompts are others.
    pub(super) announces_prompts: bool,
    /// Its resources and prompts, as far as somebody wanted them.
    pub(super) lists: Lists,
    /// The server said that its tools changed.
    pub(super) tools_changed: Arc<Notify>,
    /// A call met a dead transport: time to look whether the server is still there.
    pub(super) suspect: Notify,
    /// Calls under way.
    pub(super) in_flight: AtomicU32,
    /// Calls in a row that were given up without an answer.
    pub(super) unanswered: AtomicU32,
    gone: watch::Sender<Option<String>>,
}

impl Live {
    pub(super) fn new(peer: Peer<RoleClient>, tools_changed: Arc<Notify>) -> Self {
        let info = peer.peer_info();
        let modern = info.as_ref().is_some_and(|info| !info.protocol_version.has_initialize());
        let capabilities = info.as_ref().map(|info| &info.capabilities);
        let resources = capabilities.and_then(|has| has.resources.as_ref());
        let prompts = capabilities.and_then(|has| has.prompts.as_ref());
        let offers = ContextCapabilities {
            resources: resources.is_some(),
            subscriptions: resources.is_some_and(|has| has.subscribe == Some(true)),
            prompts: prompts.is_some(),
            completions: capabilities.is_some_and(|has| has.completions.is_some()),
        };
        Self {
            modern,
            logs: capabilities.is_some_and(|has| has.logging.is_some()),
            offers,
            announces_resources: resources.is_some_and(|has| has.list_changed == Some(true)),
            announces_prompts: prompts.is_some_and(|has| has.list_changed == Some(true)),
            lists: Lists::default(),
            peer,
            tools_changed,
            suspect: Notify::new(),
            in_flight: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
            gone: watch::Sender::new(None),
        }
    }

    /// How the connection ended, in words that follow the server's name; waits at most `limit` for them.
    pub(super) async fn end(&self, limit: Duration) -> String {
        let mut gone = self.gone.subscribe();
        let words = tokio::time::timeout(limit, gone.wait_for(Option::is_some)).await;
        words.ok().and_then(Result::ok).and_then(|end| end.clone()).unwrap_or_else(|| "went away".to_owned())
    }

    /// Notes that the server answered something.
    pub(super) fn answered(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
    }
}

impl Server {
    pub(super) fn new(config: McpServerConfig, settings: Arc<McpConfig>, tasks: TaskTracker) -> Self {
        let state = if config.disabled { ServerState::Disabled } else { ServerState::Starting };
        let view = View {
            state,
            protocol_version: None,
            handshake: None,
            last_error: None,
            restarts: 0,
            live: None,
            tools: Vec::new(),
        };
        Self {
            config,
            settings,
            tail: Arc::new(Tail::default()),
            tasks,
            subscriptions: Subscriptions::default(),
            view: watch::Sender::new(view),
            changes: watch::Sender::new(0),
            context: watch::Sender::new(ContextVersion::default()),
        }
    }

    /// Its key in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// A snapshot for status pages.
    pub(super) fn status(&self) -> ServerStatus {
        let stderr_tail = self.tail.lines();
        let view = self.view.borrow();
        ServerStatus {
            name: self.config.name.clone(),
            transport: self.config.transport.kind(),
            state: view.state,
            protocol_version: view.protocol_version.clone(),
            handshake_ms: view.handshake.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            tools: view.tools.len(),
            last_error: view.last_error.clone(),
            stderr_tail,
            restarts: view.restarts,
        }
    }

    /// Waits for the end of the first start.
    pub(super) async fn settled(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.view.subscribe().wait_for(|view| view.state != ServerState::Starting).await;
    }

    /// The connection to call through; waits a bounded time for one that is being made again.
    ///
    /// # Errors
    /// [`ToolErrorKind::NotSent`] with the server's state and the reason of its last failure.
    pub(super) async fn live(&self) -> Result<Arc<Live>, ToolError> {
        let limit = Duration::from_millis(self.settings.call_wait_ms);
        let mut view = self.view.subscribe();
        let decided = view.wait_for(|view| view.live.is_some() || !is_coming(view.state));
        if let Ok(Ok(view)) = tokio::time::timeout(limit, decided).await
            && let Some(live) = &view.live
        {
            return Ok(live.clone());
        }
        let view = self.view.borrow();
        let state = match view.state {
            ServerState::Disabled => "is stopped",
            ServerState::Failed => "could not be started",
            _ => "is being restarted",
        };
        let reason = view.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let message = format!("server `{}` {state}{reason}", self.name());
        Err(ToolError::new(ToolErrorKind::NotSent, message))
    }

    /// The connection there is now; never waits.
    pub(super) fn connection(&self) -> Option<Arc<Live>> {
        self.view.borrow().live.clone()
    }

    /// Counts the changes of its lists of resources and prompts.
    pub(super) fn context_changes(&self) -> watch::Receiver<ContextVersion> {
        self.context.subscribe()
    }

    /// The server says that a list is another.
    pub(super) fn relist(&self, kind: Kind) {
        if let Some(live) = self.connection() {
            live.lists.forget(kind);
            // Templates have no notice of their own. Both go before the number grows: who sees it asks for both.
            if kind == Kind::Resources {
                live.lists.forget(Kind::Templates);
            }
        }
        self.context.send_modify(|version| match kind {
            Kind::Resources | Kind::Templates => version.resources += 1,
            Kind::Prompts => version.prompts += 1,
        });
    }

    /// What `offers` tells of comes or goes with the connection.
    fn announce_context(&self, offers: ContextCapabilities) {
        if offers != ContextCapabilities::default() {
            self.context.send_modify(|version| {
                version.resources += u64::from(offers.resources);
                version.prompts += u64::from(offers.prompts);
            });
        }
    }

    /// The server is connected and lists `tools`.
    pub(super) fn ready(self: &Arc<Self>, live: Arc<Live>, tools: Vec<ToolDefinition>, took: Duration) {
        let version = live.peer.peer_info().map(|info| info.protocol_version.as_str().to_owned());
        let tools = self.handles(tools);
        let offers = live.offers;
        self.view.send_modify(|view| {
            view.state = ServerState::Ready;
            view.protocol_version = version;
            view.handshake = Some(took);
            view.live = Some(live);
            view.tools = tools;
        });
        self.announce();
        self.announce_context(offers);
    }

    /// The server changed its list of tools.
    pub(super) fn relisted(self: &Arc<Self>, tools: Vec<ToolDefinition>) {
        let tools = self.handles(tools);
        self.view.send_modify(|view| view.tools = tools);
        self.announce();
    }

    /// The connection is lost; `end` says how, in words that follow the server's name.
    pub(super) fn lost(&self, live: &Live, end: &str) {
        self.view.send_modify(|view| {
            view.state = ServerState::Restarting;
            view.last_error = Some(end.to_owned());
            view.restarts += 1;
            view.live = None;
            view.tools.clear();
        });
        live.gone.send_replace(Some(end.to_owned()));
        self.announce();
        self.announce_context(live.offers);
    }

    /// A start failed.
    pub(super) fn failed(&self, reason: String) {
        self.view.send_modify(|view| {
            view.state = ServerState::Failed;
            view.last_error = Some(reason);
        });
    }

    /// The gateway is closing.
    pub(super) fn stopped(&self, live: Option<&Live>) {
        self.view.send_modify(|view| {
            view.state = ServerState::Disabled;
            view.live = None;
            view.tools.clear();
        });
        self.subscriptions.end();
        if let Some(live) = live {
            live.gone.send_replace(Some("was stopped with the gateway".to_owned()));
            self.announce_context(live.offers);
        }
        self.announce();
    }

    fn handles(self: &Arc<Self>, tools: Vec<ToolDefinition>) -> Vec<Arc<dyn Tool>> {
        let offered = tools.into_iter().filter(|tool| !self.config.disabled_tools.contains(&tool.name));
        offered.map(|tool| Arc::new(McpTool::new(tool, self.clone())) as Arc<dyn Tool>).collect()
    }

    fn announce(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

impl ToolSource for Server {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.view.borrow().tools.clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// True while a connection may come up any moment.
fn is_coming(state: ServerState) -> bool {
    matches!(state, ServerState::Starting | ServerState::Restarting)
}
