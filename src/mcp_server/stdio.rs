//! The MCP server at the other end of standard input and output: for desktop clients that start their servers themselves.
//!
//! Each message comes in by the access chain, as each HTTP request does, and has the scope it got there.

use std::sync::Arc;

use rmcp::model::{ClientNotification, ClientRequest, ErrorData, ServerConfig, ServerResult};
use rmcp::service::{
    NotificationContext, RequestContext, ServerInitializeError, Service, serve_server_with_ct,
};
use rmcp::transport::stdio_pipes;
use rmcp::{RoleServer, ServerHandler};
use tracing::{Instrument, Span};

use super::McpServer;
use super::handler::{Handler, Setup};
use super::view::View;
use crate::access::{Access, AccessError, AccessScope, Credential, Door};
use crate::config::secret::Secret;

/// Why serving broke off.
#[derive(Debug, thiserror::Error)]
#[error("the MCP client and witgate could not agree: {0}")]
pub struct StdioError(String);

/// The client at the other end, for the access chain.
pub struct StdioCaller {
    access: Access,
    /// The key it was given; without one it is the operator of this machine.
    key: Option<Secret>,
}

impl StdioCaller {
    /// A client with this key, or the operator.
    #[must_use]
    pub fn new(access: Access, key: Option<Secret>) -> Self {
        Self { access, key }
    }

    /// Asks the access chain for one message.
    ///
    /// # Errors
    /// Its refusal, which has been written to the audit log.
    pub async fn enter(&self) -> Result<AccessScope, AccessError> {
        let credential =
            self.key.as_ref().map_or(Credential::Operator, |key| Credential::Key(key.expose().trim()));
        Box::pin(self.access.enter_locally(Door::Mcp, credential)).await
    }
}

impl McpServer {
    /// Serves one client until it closes standard input, or until [`Self::stop`]: all there is, or what `server` has. `scope`
    /// is what the `caller` got when it came in first.
    ///
    /// # Errors
    /// When the client does not begin as the protocol says, or may no longer come in.
    pub async fn serve_stdio(
        &self,
        server: Option<&str>,
        caller: StdioCaller,
        scope: AccessScope,
    ) -> Result<(), StdioError> {
        let inner = &self.0;
        let handler = Handler::new(Setup {
            view: View { toolbox: inner.toolbox.clone(), server: server.map(Arc::from) },
            scope,
            is_session: true,
            draining: inner.draining.clone(),
            tools_settled: inner.tools_settled.clone(),
        });
        let served =
            serve_server_with_ct(Gate { caller, handler }, stdio_pipes(), inner.stopping.child_token()).await;
        match served {
            Ok(service) => service.waiting().await.map(drop).map_err(|error| StdioError(error.to_string())),
            // A client that leaves before its first message is no fault, and neither is the end.
            Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
            Err(error) => Err(StdioError(error.to_string())),
        }
    }
}

/// Lets messages through to the handler, each with its scope.
struct Gate {
    caller: StdioCaller,
    handler: Handler,
}

impl Gate {
    async fn enter(&self) -> Result<(AccessScope, Span), ErrorData> {
        let entered = self.caller.enter().await;
        let scope = entered.map_err(|refusal| ErrorData::invalid_request(refusal.to_string(), None))?;
        // The highest level, as that of HTTP requests.
        let span = tracing::error_span!("request", request_id = %scope.request_id(), principal = scope.principal().id);
        Ok((scope, span))
    }
}

impl Service<RoleServer> for Gate {
    async fn handle_request(
        &self,
        request: ClientRequest,
        mut context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let (scope, span) = self.enter().await?;
        context.extensions.insert(scope);
        Box::pin(self.handler.handle_request(request, context)).instrument(span).await
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        mut context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let (scope, span) = self.enter().await?;
        context.extensions.insert(scope);
        Box::pin(self.handler.handle_notification(notification, context)).instrument(span).await
    }

    fn get_info(&self) -> ServerConfig {
        ServerHandler::get_info(&self.handler)
    }
}
