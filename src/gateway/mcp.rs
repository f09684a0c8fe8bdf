//! Plugs the MCP server into the HTTP server, which knows it as an endpoint only.

use std::convert::Infallible;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;

use crate::access::AccessScope;
use crate::http::mcp::McpEndpoint;
use crate::mcp_server::McpServer;

#[async_trait]
impl McpEndpoint for McpServer {
    fn shows(&self, scope: &AccessScope, server: &str) -> bool {
        Self::shows(self, scope, server)
    }

    async fn answer(
        &self,
        scope: AccessScope,
        server: Option<&str>,
        request: http::Request<Bytes>,
    ) -> http::Response<BoxBody<Bytes, Infallible>> {
        Self::answer(self, scope, server, request).await
    }

    fn drain(&self) {
        Self::drain(self);
    }
}
