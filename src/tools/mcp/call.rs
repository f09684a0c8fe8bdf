//! One tool of a server, and one call of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ServerResult};
use serde_json::{Map, Value};

use super::server::Server;
use super::{content, request};
use crate::domain::{ToolContext, ToolDefinition, ToolError, ToolResult};
use crate::tools::Tool;

/// A tool of one server.
pub(super) struct McpTool {
    definition: ToolDefinition,
    server: Arc<Server>,
}

impl McpTool {
    pub(super) fn new(definition: ToolDefinition, server: Arc<Server>) -> Self {
        Self { definition, server }
    }

    fn subject(&self) -> String {
        format!("tool `{}`", self.definition.name)
    }

    fn failed(&self, why: &str) -> ToolError {
        request::failed(&self.server, &self.subject(), why)
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
        let mut params = CallToolRequestParams::new(self.definition.name.clone());
        params.arguments = Some(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        self.result(request::ask(&self.server, &self.subject(), request, context).await?)
    }
}
