//! One server as everyone sees it: its state, its tools, and the connection that calls go through at the moment.
//!
//! The supervisor writes here; calls, status pages and the registry read. A tool handle outlives a restart of its server:
//! it asks for the present connection at each call.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::service::{Peer, RoleClient};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::call::McpTool;
use super::client::Signals;
use super::lists::{Kind, Lists};
use super::subscriptions::Subscriptions;
use super::tail::Tail;
use super::{McpConfig, ServerState, ServerStatus};
use crate::config::mcp_servers::{McpServerConfig, McpTransport};
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
    /// A sign of life would wait for all other requests, and they for it: rmcp sends what stands for a ping over HTTP
    /// since version 2026-07-28 with nothing else under way.
    pub(super) pings_alone: bool,
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
    /// What the server, or the transport, said of the connection as a whole.
    pub(super) signals: Arc<Signals>,
    /// A call met a dead transport: time to look whether the server is still there.
    pub(super) suspect: Notify,
    /// Changes when the transport opens another session than the one there was at the handshake.
    pub(super) sessions: watch::Receiver<u64>,
    calls: Mutex<Calls>,
    /// Calls in a row that were given up without an answer.
    pub(super) unanswered: AtomicU32,
    gone: watch::Sender<Option<String>>,
}

/// Calls under way, by the order in which they began.
#[derive(Default)]
struct Calls {
    begun: u64,
    under_way: BTreeSet<u64>,
}

impl Live {
    pub(super) fn new(server: &Server, peer: Peer<RoleClient>, signals: Arc<Signals>) -> Self {
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
        let is_http = matches!(server.config.transport, McpTransport::StreamableHttp { .. });
        Self {
            modern,
            pings_alone: modern && is_http,
            logs: capabilities.is_some_and(|has| has.logging.is_some()),
            offers,
            announces_resources: resources.is_some_and(|has| has.list_changed == Some(true)),
            announces_prompts: prompts.is_some_and(|has| has.list_changed == Some(true)),
            lists: Lists::default(),
            peer,
            sessions: signals.sessions.subscribe(),
            signals,
            suspect: Notify::new(),
            calls: Mutex::default(),
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

    /// A call begins; whoever asks says when it is over, with the number that it gets here.
    pub(super) fn begin_call(&self) -> u64 {
        let mut calls = self.calls();
        calls.begun += 1;
        let call = calls.begun;
        calls.under_way.insert(call);
        call
    }

    /// A call is over. One that was given up is a sign against the server, unless an older one is under way: a server that
    /// does one thing at a time has not come to it yet.
    pub(super) fn end_call(&self, call: u64, is_given_up: bool) {
        let mut calls = self.calls();
        if is_given_up && calls.under_way.first() == Some(&call) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        calls.under_way.remove(&call);
    }

    /// Whether calls are under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.calls().under_way.is_empty()
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.announce_list(kind);
    }

    /// A list of resources or prompts may be another than the one that was given out.
    pub(super) fn announce_list(&self, kind: Kind) {
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

    /// The server listed its tools again; false when they are what they were.
    pub(super) fn relisted(self: &Arc<Self>, tools: Vec<ToolDefinition>) -> bool {
        let tools = self.handles(tools);
        let is_other = self.view.send_if_modified(|view| {
            let before = view.tools.iter().map(|tool| tool.definition());
            let is_other = !before.eq(tools.iter().map(|tool| tool.definition()));
            if is_other {
                view.tools = tools;
            }
            is_other
        });
        if is_other {
            self.announce();
        }
        is_other
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
