//! One tool of a server, and one call of it.
//!
//! A call says for whom it is made (`_meta`), can be given up at any moment (the server is told), and when there is no
//! result its error says whether the server may have worked on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use rmcp::ServiceError;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, ErrorCode, ErrorData, RequestMetaObject,
    ServerResult,
};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient};
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use super::server::{Live, Server};
use super::{client, content, http};
use crate::domain::{ToolContext, ToolDefinition, ToolError, ToolErrorKind, ToolResult};
use crate::tools::Tool;

/// `_meta` key of the calling principal's id.
const META_PRINCIPAL: &str = "witgate/principal";
/// `_meta` key of the id of the request that caused the call.
const META_REQUEST_ID: &str = "witgate/request-id";
/// `_meta` key of the session the call belongs to.
const META_SESSION_ID: &str = "witgate/session-id";

/// How long a broken call waits for the supervisor to find out what became of the server.
const END_WAIT: Duration = Duration::from_secs(5);

/// How long telling a server that a call was given up may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// A tool of one server.
pub(super) struct McpTool {
    definition: ToolDefinition,
    server: Arc<Server>,
}

impl McpTool {
    pub(super) fn new(definition: ToolDefinition, server: Arc<Server>) -> Self {
        Self { definition, server }
    }

    fn request(
        &self,
        arguments: Map<String, Value>,
        context: &ToolContext,
    ) -> (ClientRequest, PeerRequestOptions) {
        let mut params = CallToolRequestParams::new(self.definition.name.clone());
        params.arguments = Some(arguments);
        let mut meta = RequestMetaObject::new();
        meta.0.0.insert(META_PRINCIPAL.to_owned(), context.principal.id.clone().into());
        meta.0.0.insert(META_REQUEST_ID.to_owned(), context.request_id.as_str().into());
        if let Some(session) = &context.session_id {
            meta.0.0.insert(META_SESSION_ID.to_owned(), session.as_str().into());
        }
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        (request, PeerRequestOptions::no_options().with_meta(meta))
    }

    fn failed(&self, why: &str) -> ToolError {
        let message = format!("tool `{}` of server `{}` {why}", self.definition.name, self.server.name());
        ToolError::new(ToolErrorKind::Failed, message)
    }

    fn refused(&self, error: &ErrorData) -> ToolError {
        let kind = match error.code {
            ErrorCode::INVALID_PARAMS => ToolErrorKind::InvalidArguments,
            _ => ToolErrorKind::Failed,
        };
        let ToolError { message, .. } = self.failed(&format!("answered with an error: {}", error.message));
        ToolError::new(kind, message)
    }

    /// What a call that got no answer means.
    async fn broken(&self, error: ServiceError, live: &Live) -> ToolError {
        match error {
            ServiceError::McpError(error) => self.refused(&error),
            ServiceError::TransportSend(error) => {
                live.suspect.notify_one();
                let (kind, reason) = (http::sent(&error), http::sentence(&error));
                ToolError::new(kind, format!("server `{}` cannot be reached: {reason}", self.server.name()))
            }
            ServiceError::TransportClosed => {
                let end = live.end(END_WAIT).await;
                let message = format!("server `{}` {end} during the call", self.server.name());
                ToolError::new(ToolErrorKind::Failed, message)
            }
            ServiceError::Cancelled { reason } => {
                let reason = reason.unwrap_or_else(|| "no reason given".to_owned());
                self.failed(&format!("was cancelled: {reason}"))
            }
            other => self.failed(&format!("failed: {}", client::sentence(&other))),
        }
    }

    fn result(&self, answer: ServerResult) -> Result<ToolResult, ToolError> {
        match answer {
            ServerResult::CallToolResult(result) => Ok(content::result(result)),
            ServerResult::EmptyResult(_) => Ok(ToolResult::default()),
            ServerResult::InputRequiredResult(_) => {
                Err(self.failed("asks for input from a person in mid-call, which this gateway cannot get"))
            }
            ServerResult::CreateTaskResult(_) => {
                Err(self.failed("turned the call into a background task, which this gateway does not follow"))
            }
            ServerResult::CustomResult(result) => content::lenient_result(&result.0)
                .ok_or_else(|| self.failed("answered with something that is no tool result")),
            _ => Err(self.failed("answered with something that is no tool result")),
        }
    }
}

#[async_trait]
impl Tool for McpTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn timeout(&self) -> Option<Duration> {
        let config = &self.server.config;
        let millis = config.tool_timeouts_ms.get(&self.definition.name).copied().or(config.timeout_ms);
        millis.map(Duration::from_millis)
    }

    async fn call(
        &self,
        arguments: Map<String, Value>,
        context: &ToolContext,
    ) -> Result<ToolResult, ToolError> {
        let live = self.server.live().await?;
        let (request, options) = self.request(arguments, context);
        let handle = match live.peer.send_cancellable_request(request, options).await {
            Ok(handle) => handle,
            Err(ServiceError::TransportClosed) => {
                let end = live.end(END_WAIT).await;
                let message = format!("server `{}` {end} before the call was sent", self.server.name());
                return Err(ToolError::new(ToolErrorKind::NotSent, message));
            }
            Err(error) => return Err(self.broken(error, &live).await),
        };
        let answer = Pending::new(handle, live.clone(), self.server.tasks.clone()).answer().await;
        match answer {
            Ok(answer) => {
                live.answered();
                self.result(answer)
            }
            Err(error) => {
                if matches!(error, ServiceError::McpError(_)) {
                    live.answered();
                }
                Err(self.broken(error, &live).await)
            }
        }
    }
}

/// A request that waits for its answer. Dropped before that, it tells the server that nobody waits any more.
struct Pending {
    request: Option<RequestHandle<RoleClient>>,
    live: Arc<Live>,
    tasks: TaskTracker,
}

impl Pending {
    fn new(request: RequestHandle<RoleClient>, live: Arc<Live>, tasks: TaskTracker) -> Self {
        live.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { request: Some(request), live, tasks }
    }

    async fn answer(mut self) -> Result<ServerResult, ServiceError> {
        let Some(request) = &mut self.request else { return Err(ServiceError::TransportClosed) };
        let answer = (&mut request.rx).await;
        self.request = None;
        answer.unwrap_or(Err(ServiceError::TransportClosed))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.live.in_flight.fetch_sub(1, Ordering::Relaxed);
        let Some(request) = self.request.take() else { return };
        self.live.unanswered.fetch_add(1, Ordering::Relaxed);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let told = async move {
                let told = request.cancel(Some("the caller no longer waits for the result".to_owned()));
                let _ = tokio::time::timeout(CANCEL_LIMIT, told).await;
            };
            self.tasks.spawn_on(told, &runtime);
        }
    }
}
