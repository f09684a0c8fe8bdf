//! The client side of the protocol: the handshake, the list of tools, and what a server may send on its own.
//!
//! # Which handshake
//! Protocol versions up to 2025-11-25 open with `initialize`; 2026-07-28 has no opening and offers `server/discover`.
//! We open with `initialize` and turn to `server/discover` only where a server refuses that. The other way round
//! (rmcp's `Auto`) asks old servers something they never heard of as their first request, and that is where they
//! differ: the TypeScript and Python SDKs answer with an error, but servers built on older rmcp versions quit,
//! some ignore it (a delay of ten seconds), and over HTTP the answer is often a 400 that names no request. Servers of
//! both worlds accept `initialize`, so the price is one more start, once, for servers that only know the new one; what
//! worked is remembered for restarts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientCapabilities, ClientConfig, ClientRequest, ErrorCode, ErrorData, Implementation, ListToolsRequest,
    PaginatedRequestParams, ProtocolVersion, ResourceUpdatedNotificationParam, ServerNotification,
    ServerResult, SubscriptionFilter,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, Peer,
    PeerRequestOptions, RoleClient, RunningService,
};
use rmcp::transport::Transport;
use rmcp::{ClientHandler, ServiceError};
use tokio::sync::{Notify, watch};

use super::content;
use super::lists::Kind;
use super::notices::{Noticed, Notices};
use super::server::{Live, Server};
use crate::domain::ToolDefinition;
use crate::tools::schema::cut;

/// Most pages of tools read from one server; a server that never stops paging is cut off there.
const MAX_PAGES: usize = 100;

/// The longest error of a server that is repeated, in bytes.
const MAX_TOLD_BYTES: usize = 2 * 1024;

/// Pause between a server's notice of change and the new list, in which further notices join it.
const RELIST_PAUSE: Duration = Duration::from_millis(50);

/// Pause before tools that could not be listed again are asked for once more; it doubles up to the longest.
const RELIST_RETRY: Duration = Duration::from_secs(1);
const MAX_RELIST_RETRY: Duration = Duration::from_secs(60);

/// Pause before a lost subscription is made anew.
pub(super) const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(5);

/// How to open a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opening {
    /// `initialize`, for versions up to 2025-11-25.
    #[default]
    Initialize,
    /// `server/discover`, for version 2026-07-28.
    Discover,
}

impl Opening {
    fn mode(self) -> ClientLifecycleMode {
        match self {
            Self::Initialize => ClientLifecycleMode::Initialize,
            Self::Discover => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
        }
    }
}

/// What is said of a connection as a whole.
#[derive(Default)]
pub(super) struct Signals {
    /// The server says that its tools changed.
    pub(super) tools_changed: Notify,
    /// How often the transport opened a session; more than once where one expired.
    pub(super) sessions: watch::Sender<u64>,
}

/// What the gateway answers to messages a server sends on its own.
pub(super) struct Handler {
    server: Arc<Server>,
    notices: Arc<Notices>,
    signals: Arc<Signals>,
}

impl Handler {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { notices: Notices::new(server.name()), server, signals: Arc::default() }
    }

    /// The requests under way on this connection, and who listens to them.
    pub(super) fn notices(&self) -> Arc<Notices> {
        self.notices.clone()
    }

    /// What is said of this connection.
    pub(super) fn signals(&self) -> Arc<Signals> {
        self.signals.clone()
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        // No capability is advertised: there is nobody to ask for input, no folder to show and no model to lend.
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("witgate", env!("CARGO_PKG_VERSION")),
        )
        .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.signals.tools_changed.notify_one();
    }

    async fn on_resource_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.server.relist(Kind::Resources);
    }

    async fn on_prompt_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.server.relist(Kind::Prompts);
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.server.subscriptions.updated(&params.uri);
    }
}

/// A connection that is open.
pub(super) type Running = RunningService<RoleClient, Handler>;

/// Opens a connection over `transport`.
///
/// # Errors
/// What went wrong; [`refuses_initialize`] tells whether the other opening is worth a try.
pub(super) async fn open(
    handler: Handler,
    transport: impl Transport<RoleClient> + 'static,
    opening: Opening,
) -> Result<Running, ClientInitializeError> {
    let transport = Noticed::new(transport, handler.notices());
    Box::pin(handler.serve_with_lifecycle(transport, opening.mode())).await
}

/// True when a server answered `initialize` in a way a server of version 2026-07-28 does: with an error, not with silence.
pub(super) fn refuses_initialize(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::JsonRpcError(error) => {
            matches!(
                error.code,
                ErrorCode::METHOD_NOT_FOUND
                    | ErrorCode::UNSUPPORTED_PROTOCOL_VERSION
                    | ErrorCode::INVALID_REQUEST
                    | ErrorCode::INVALID_PARAMS
            )
        }
        ClientInitializeError::UncorrelatedErrorResponse { .. }
        | ClientInitializeError::ExpectedInitResult(_) => true,
        // A 2026-07-28 endpoint may turn down a request without its headers before it looks at the body.
        ClientInitializeError::TransportError { error, .. } => super::http::is_refusal(error),
        _ => false,
    }
}

/// All tools of a server, page by page.
///
/// # Errors
/// When a page cannot be had.
pub(super) async fn list_tools(
    server: &str,
    peer: &Peer<RoleClient>,
    limit: Duration,
) -> Result<Vec<ToolDefinition>, ServiceError> {
    let mut tools = Vec::new();
    let mut seen = HashSet::new();
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let request = match cursor.take() {
            // Some older servers refuse an empty `params` object.
            None => ListToolsRequest::default(),
            Some(cursor) => {
                ListToolsRequest::with_param(PaginatedRequestParams::default().with_cursor(Some(cursor)))
            }
        };
        let options = PeerRequestOptions::with_timeout(limit);
        let request = ClientRequest::ListToolsRequest(request);
        let answer = peer.send_request_with_option(request, options).await?.await_response().await;
        let next = match answer {
            Ok(ServerResult::ListToolsResult(page)) => {
                tools.extend(page.tools.into_iter().map(|tool| content::definition(server, tool)));
                page.next_cursor
            }
            // One tool that does not fit the schema of the protocol must not hide the others.
            Ok(ServerResult::CustomResult(page)) => {
                let Some((found, next)) = content::definitions(server, &page.0) else {
                    return Err(ServiceError::UnexpectedResponse);
                };
                tools.extend(found);
                next
            }
            Ok(_) => return Err(ServiceError::UnexpectedResponse),
            // A server without tools need not know the method.
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => None,
            Err(error) => return Err(error),
        };
        match next.filter(|next| !next.is_empty()) {
            Some(next) if seen.insert(next.clone()) => cursor = Some(next),
            _ => return Ok(tools),
        }
    }
    tracing::warn!(server, "stopped reading tools after {MAX_PAGES} pages");
    Ok(tools)
}

/// Lists the tools again whenever the server says that they changed, as often as it takes; never ends.
pub(super) async fn follow_changes(server: &Arc<Server>, live: &Live) {
    let limit = Duration::from_millis(server.settings.handshake_timeout_ms);
    let mut retry: Option<Duration> = None;
    loop {
        tokio::select! {
            () = live.signals.tools_changed.notified() => tokio::time::sleep(RELIST_PAUSE).await,
            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
        }
        match list_tools(server.name(), &live.peer, limit).await {
            Ok(tools) => {
                retry = None;
                let count = tools.len();
                if server.relisted(tools) {
                    tracing::info!(server = server.name(), tools = count, "the server changed its tools");
                }
            }
            Err(error) => {
                let pause = retry.map_or(RELIST_RETRY, |pause| (pause * 2).min(MAX_RELIST_RETRY));
                retry = Some(pause);
                let reason = format!("{} (next try in {} s)", sentence(&error), pause.as_secs());
                tracing::warn!(server = server.name(), "the changed tools could not be listed: {reason}");
                live.suspect.notify_one();
            }
        }
    }
}

/// Asks for everything again when an expired session was opened anew, for it may be another server; never ends.
pub(super) async fn follow_renewals(server: &Server, live: &Live) {
    let mut sessions = live.sessions.clone();
    while sessions.changed().await.is_ok() {
        tracing::info!(server = server.name(), "its session expired and was opened anew");
        live.signals.tools_changed.notify_one();
        if live.offers.resources {
            server.relist(Kind::Resources);
        }
        if live.offers.prompts {
            server.relist(Kind::Prompts);
        }
    }
    std::future::pending::<()>().await;
}

/// Subscribes to changes of its lists where the protocol version asks for it (2026-07-28); never ends.
pub(super) async fn subscribe(server: &Server, live: &Live) {
    let info = live.peer.peer_info();
    let tools = info.and_then(|info| info.capabilities.tools.as_ref()?.list_changed).unwrap_or(false);
    let (resources, prompts) = (live.announces_resources, live.announces_prompts);
    if !live.modern || !(tools || resources || prompts) {
        return std::future::pending().await;
    }
    let changed = |tools: bool, resources: bool, prompts: bool| {
        if tools {
            live.signals.tools_changed.notify_one();
        }
        if resources {
            server.relist(Kind::Resources);
        }
        if prompts {
            server.relist(Kind::Prompts);
        }
    };
    let mut filter = SubscriptionFilter::new();
    filter.tools_list_changed = tools.then_some(true);
    filter.resources_list_changed = resources.then_some(true);
    filter.prompts_list_changed = prompts.then_some(true);
    loop {
        match live.peer.listen(filter.clone()).await {
            Ok(mut subscription) => {
                // What changed since a list was asked for, and before this, nobody told. A list nobody wanted yet is not old.
                let is_kept = |kind| live.lists.is_kept(kind);
                let resources = resources && (is_kept(Kind::Resources) || is_kept(Kind::Templates));
                changed(tools, resources, prompts && is_kept(Kind::Prompts));
                while let Ok(Some(told)) = subscription.next().await {
                    match told {
                        ServerNotification::ToolListChangedNotification(_) => changed(true, false, false),
                        ServerNotification::ResourceListChangedNotification(_) => changed(false, true, false),
                        ServerNotification::PromptListChangedNotification(_) => changed(false, false, true),
                        _ => {}
                    }
                }
            }
            Err(error @ ServiceError::McpError(_)) => {
                let reason = sentence(&error);
                tracing::debug!(server = server.name(), reason, "no subscription to changes of the lists");
                return std::future::pending().await;
            }
            // Changes may be missed while there is no subscription.
            Err(_) => changed(tools, resources, prompts),
        }
        tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
    }
}

/// An error with its causes, in one line. Addresses are left out: their query may hold a key.
pub(super) fn sentence(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => told(error),
        ServiceError::TransportSend(error) => super::http::sentence(error),
        ServiceError::TransportClosed => "the connection is closed".to_owned(),
        other => causes(other),
    }
}

/// Why a connection could not be opened, in one line.
pub(super) fn opening_sentence(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::JsonRpcError(error) => {
            format!("the server refused the handshake: {}", told(error))
        }
        ClientInitializeError::TransportError { error, .. } => super::http::sentence(error),
        ClientInitializeError::ConnectionClosed(_) => {
            "the connection was closed during the handshake".to_owned()
        }
        other => causes(other),
    }
}

/// A server's own words, as many of them as anybody wants to read.
fn told(error: &ErrorData) -> String {
    format!("{} (code {})", cut(&error.message, MAX_TOLD_BYTES), error.code.0)
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::super::fake::{Era, Fake};
    use super::*;
    use crate::tools::ToolSource;

    const LONG: Duration = Duration::from_secs(600);

    /// Waits until a change of its tools is announced.
    async fn tools(server: &Arc<Server>, expected: &[&str]) {
        let mut changes = server.changes();
        let listed = async {
            loop {
                let tools = server.tools();
                if tools.iter().map(|tool| tool.definition().name.as_str()).eq(expected.iter().copied()) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LONG, listed).await.expect("listed in the end");
    }

    #[tokio::test(start_paused = true)]
    async fn tools_are_listed_again_until_it_works() {
        let asked = AtomicUsize::new(0);
        let fake = Fake::start(Era::Old, json!({"tools": {"listChanged": true}}), move |message, say| {
            if message["method"] != "tools/list" {
                return false;
            }
            let answer = match asked.fetch_add(1, Ordering::Relaxed) {
                0 => json!({"error": {"code": -32603, "message": "busy"}}),
                _ => json!({"result": {"tools": [{"name": "late", "inputSchema": {"type": "object"}}]}}),
            };
            say.answer(message, answer);
            true
        })
        .await;
        fake.say.now(json!({"method": "notifications/tools/list_changed"}));
        tokio::select! {
            () = follow_changes(&fake.server, &fake.live) => {}
            () = tools(&fake.server, &["late"]) => {}
        }
        assert_eq!(fake.times("tools/list"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_before_the_subscription_is_seen() {
        let capabilities = json!({"tools": {"listChanged": true}, "prompts": {"listChanged": true}});
        let fake = Fake::start(Era::New, capabilities, |message, say| {
            let is_it = message["method"] == "tools/list";
            if is_it {
                let tools = json!([{"name": "new", "inputSchema": {"type": "object"}}]);
                let result =
                    json!({"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"});
                say.answer(message, json!({"result": result}));
            }
            is_it
        })
        .await;
        let prompts = fake.server.context_changes().borrow().prompts;
        tokio::select! {
            () = follow_changes(&fake.server, &fake.live) => {}
            () = Box::pin(subscribe(&fake.server, &fake.live)) => {}
            () = tools(&fake.server, &["new"]) => {}
        }
        let now = fake.server.context_changes().borrow().prompts;
        assert_eq!(now, prompts, "a list that nobody asked for is not old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_was_opened_anew_is_asked_for_everything_again() {
        let capabilities = json!({"tools": {}, "resources": {"listChanged": true}});
        let fake = Fake::start(Era::Old, capabilities, |message, say| {
            let is_it = message["method"] == "tools/list";
            if is_it {
                let tools = json!([{"name": "redeployed", "inputSchema": {"type": "object"}}]);
                say.answer(message, json!({"result": {"tools": tools}}));
            }
            is_it
        })
        .await;
        let resources = fake.server.context_changes().borrow().resources;
        fake.live.signals.sessions.send_modify(|opened| *opened += 1);
        tokio::select! {
            () = follow_changes(&fake.server, &fake.live) => {}
            () = follow_renewals(&fake.server, &fake.live) => {}
            () = tools(&fake.server, &["redeployed"]) => {}
        }
        assert_eq!(fake.server.context_changes().borrow().resources, resources + 1);
    }
}
