//! The MCP server at the other end of standard input and output: for desktop clients that start their servers themselves.

use std::sync::Arc;

use rmcp::service::{ServerInitializeError, serve_server_with_ct};
use rmcp::transport::stdio_pipes;

use super::McpServer;
use super::handler::{Callers, Handler, Setup};
use super::view::View;
use crate::domain::Principal;

/// Why serving broke off.
#[derive(Debug, thiserror::Error)]
#[error("the MCP client and witgate could not agree: {0}")]
pub struct StdioError(String);

impl McpServer {
    /// Serves one client until it closes standard input, or until [`Self::stop`]: everything as `principal`, who may see
    /// and call whatever there is, or whatever `server` has.
    ///
    /// # Errors
    /// When the client does not begin as the protocol says.
    pub async fn serve_stdio(&self, server: Option<&str>, principal: Principal) -> Result<(), StdioError> {
        let inner = &self.0;
        let view = View { toolbox: inner.toolbox.clone(), server: server.map(Arc::from) };
        let handler = Handler::new(Setup {
            view,
            callers: Callers::Operator(principal),
            is_session: true,
            draining: inner.draining.clone(),
            tools_settled: inner.tools_settled.clone(),
        });
        let served = serve_server_with_ct(handler, stdio_pipes(), inner.stopping.child_token()).await;
        match served {
            Ok(service) => service.waiting().await.map(drop).map_err(|error| StdioError(error.to_string())),
            // A client that leaves before its first message is no fault, and neither is the end.
            Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
            Err(error) => Err(StdioError(error.to_string())),
        }
    }
}
