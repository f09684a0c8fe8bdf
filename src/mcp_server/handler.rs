//! What one MCP client is answered: the tools of its endpoint, as far as its caller may see and call them.
//!
//! The scope of each request decides, not that of the request that opened the session. Dropping a call cancels it, so a
//! call that the client cancelled is dropped.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorCode, Implementation, ListToolsResult, LoggingLevel,
    PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, ServerNotification,
    SetLevelRequestParams, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::call::{self, Call};
use super::convert;
use super::page;
use super::view::{View, is_same};
use crate::access::AccessScope;
use crate::domain::{Principal, RequestId, SessionId};

/// Who sends the requests.
#[derive(Clone)]
pub(super) enum Callers {
    /// Whoever the HTTP request came from: its scope is among the request's extensions.
    OfRequests,
    /// The operator, at the other end of standard input.
    Operator(Principal),
}

/// Answers one client: for a session, or for one request without one.
pub(super) struct Handler {
    view: View,
    callers: Callers,
    /// Whether it lives longer than one request.
    is_session: bool,
    /// What its calls are told they belong to.
    session_id: SessionId,
    level: Mutex<LoggingLevel>,
    draining: CancellationToken,
    tools_settled: watch::Receiver<bool>,
    /// Tells the client of changes, once it has said that it is there.
    follower: OnceLock<AbortOnDropHandle<()>>,
}

impl Handler {
    pub(super) fn new(
        view: View,
        callers: Callers,
        is_session: bool,
        draining: CancellationToken,
        tools_settled: watch::Receiver<bool>,
    ) -> Self {
        Self {
            view,
            callers,
            is_session,
            session_id: SessionId::generate(),
            level: Mutex::new(LoggingLevel::Info),
            draining,
            tools_settled,
            follower: OnceLock::new(),
        }
    }

    fn scope(&self, extensions: &rmcp::model::Extensions) -> Result<AccessScope, ErrorData> {
        match &self.callers {
            Callers::Operator(principal) => {
                Ok(AccessScope::unrestricted(RequestId::generate(), principal.clone()))
            }
            Callers::OfRequests => {
                let scope = call::of_request::<AccessScope>(extensions).cloned();
                scope.ok_or_else(|| ErrorData::internal_error("nobody knows who is asking", None))
            }
        }
    }

    /// Waits until the MCP servers have come up (or have had their time), so that no client that is early is told of too
    /// few tools.
    async fn settled(&self) {
        // The composition root bounds this wait, and drops the sender when it stops; either ends it.
        let _ = self.tools_settled.clone().wait_for(|settled| *settled).await;
    }

    /// The least level of log lines that the client wants, `None` for none.
    fn least_level(&self, context: &RequestContext<RoleServer>) -> Option<LoggingLevel> {
        if context.meta.protocol_version().is_some() {
            return context.meta.log_level();
        }
        self.is_session.then(|| *self.level.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_logging().enable_tools().enable_tool_list_changed().build();
        let title = match &self.view.server {
            Some(server) => format!("{server} through witgate"),
            None => "witgate".to_owned(),
        };
        let identity = Implementation::new("witgate", env!("CARGO_PKG_VERSION")).with_title(title);
        ServerConfig::new(capabilities)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
            .with_server_info(identity)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let scope = self.scope(&context.extensions)?;
        self.settled().await;
        let tools = self.view.tools(&scope);
        let names = tools.iter().map(|tool| self.view.name_of(tool));
        let page = page::of(names, request.and_then(|request| request.cursor).as_deref())?;
        let listed = tools[page.range].iter();
        let listed = listed.map(|tool| convert::tool(self.view.name_of(tool), &tool.definition)).collect();
        let mut result = ListToolsResult::with_all_items(listed);
        result.next_cursor = page.next;
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let scope = self.scope(&context.extensions)?;
        self.settled().await;
        let Some(tool) = self.view.find(&scope, &request.name) else {
            let message = format!("unknown tool `{}`: tools/list names those there are", request.name);
            return Err(ErrorData::invalid_params(message, None));
        };
        let call = Call {
            toolbox: &self.view.toolbox,
            scope: &scope,
            tool: &tool,
            session_id: if self.is_session { self.session_id.clone() } else { SessionId::generate() },
            level: self.least_level(&context),
        };
        Ok(Box::pin(call.run(request.arguments.unwrap_or_default(), &context)).await?.into())
    }

    /// For checking what a header says of an argument; what a caller may not see is not said either.
    fn get_tool(&self, _name: &str) -> Option<Tool> {
        None
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = request.level;
        Ok(())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let Ok(scope) = self.scope(&context.extensions) else { return };
        let (view, peer) = (self.view.clone(), context.peer);
        self.follower.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                let mut changes = Changes::new(view, scope);
                while let Some(()) = changes.next().await {
                    if tell_of_tools(&peer).await.is_err() {
                        return;
                    }
                }
            }))
        });
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let scope = self.scope(&subscription.request_context().extensions)?;
        let mut changes = Changes::new(self.view.clone(), scope);
        loop {
            tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                () = self.draining.cancelled() => return Ok(()),
                changed = changes.next() => {
                    if changed.is_none() {
                        return Ok(());
                    }
                    if subscription.accepted().tools_list_changed == Some(true)
                        && subscription.sink().notify_tool_list_changed().await.is_err()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn tell_of_tools(peer: &Peer<RoleServer>) -> Result<(), ErrorCode> {
    let notification = ServerNotification::ToolListChangedNotification(Default::default());
    peer.send_notification(notification).await.map_err(|_closed| ErrorCode::INTERNAL_ERROR)
}

/// The moments at which the tools that a scope may see become others.
struct Changes {
    view: View,
    scope: AccessScope,
    versions: watch::Receiver<u64>,
    seen: Vec<Arc<crate::tools::RegisteredTool>>,
}

impl Changes {
    fn new(view: View, scope: AccessScope) -> Self {
        // Subscribed before the first look, so that no change falls between.
        let versions = view.toolbox.registry().changes();
        let seen = view.tools(&scope);
        Self { view, scope, versions, seen }
    }

    /// Waits for the next one; `None` when there will be none any more.
    async fn next(&mut self) -> Option<()> {
        loop {
            self.versions.changed().await.ok()?;
            let now = self.view.tools(&self.scope);
            if !is_same(&self.seen, &now) {
                self.seen = now;
                return Some(());
            }
        }
    }
}
