//! One call, start to end: arguments checked, a place taken, time limited, retried only where it is safe, result
//! bounded, outcome logged. Dropping the future cancels the call at its server.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::registry::RegisteredTool;
use super::{Config, bound, schema};
use crate::domain::{ToolContext, ToolError, ToolErrorKind, ToolResult};

impl RegisteredTool {
    /// Calls the tool with `arguments` as JSON text (empty means none).
    ///
    /// # Errors
    /// `InvalidArguments` before anything is sent; see [`ToolErrorKind`] for the rest.
    pub async fn invoke(&self, arguments: &str, context: &ToolContext) -> Result<ToolResult, ToolError> {
        let started = Instant::now();
        let limit = self.time_limit();
        let name = self.definition.name.as_str();
        let outcome = match schema::parse_arguments(arguments, &self.validator) {
            Err(message) => Err(ToolError::new(ToolErrorKind::InvalidArguments, message)),
            Ok(arguments) => {
                let called = tokio::time::timeout(limit, self.call_with_retries(&arguments, context)).await;
                called.unwrap_or_else(|_| Err(ToolError::timeout(name, limit)))
            }
        };
        self.check_output(&outcome);
        let outcome = outcome.map(|result| bound::bound(result, self.shared.config.max_result_bytes));
        self.log(&outcome, context, started.elapsed());
        outcome.map(|(result, _size)| result)
    }

    fn time_limit(&self) -> Duration {
        let configured = self.setting().and_then(|tool| tool.timeout_ms).map(Duration::from_millis);
        configured
            .or_else(|| self.tool.timeout())
            .unwrap_or(Duration::from_millis(self.config().call_timeout_ms))
    }

    fn config(&self) -> &Config {
        &self.shared.config
    }

    fn setting(&self) -> Option<&super::ToolOverride> {
        self.config().overrides.get(&self.definition.name)
    }

    async fn call_with_retries(
        &self,
        arguments: &Map<String, Value>,
        context: &ToolContext,
    ) -> Result<ToolResult, ToolError> {
        // The semaphore is never closed, so a failure to take a place cannot happen; it would only lift the bound.
        let _place = self.shared.places.acquire().await;
        let setting = self.setting().and_then(|tool| tool.retries);
        let tries = setting.unwrap_or(self.config().retries);
        let repeatable = setting.is_some() || self.definition.annotations.safe_to_repeat();
        let mut attempt = 0;
        loop {
            let error = match self.tool.call(arguments.clone(), context).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let safe = match error.kind {
                ToolErrorKind::NotSent => true,
                ToolErrorKind::Failed | ToolErrorKind::Timeout => repeatable,
                ToolErrorKind::NotFound | ToolErrorKind::InvalidArguments => false,
            };
            if !safe || attempt >= tries {
                return Err(error);
            }
            let backoff = self.config().retry_backoff_ms.saturating_mul(1 << attempt.min(10));
            let wait = Duration::from_millis(backoff / 2 + fastrand::u64(0..=backoff / 2));
            attempt += 1;
            tracing::warn!(tool = %self.definition.name, attempt, cause = %error, "tool call failed; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// A result that breaks the tool's own output schema is passed on, but the operator should know.
    fn check_output(&self, outcome: &Result<ToolResult, ToolError>) {
        let Some(validator) = &self.output_validator else { return };
        let structured = outcome
            .as_ref()
            .ok()
            .filter(|result| !result.is_error)
            .and_then(|r| r.structured_content.as_ref());
        if let Some(Err(fault)) = structured.map(|value| validator.validate(value)) {
            let tool = &self.definition.name;
            tracing::warn!(%tool, path = %fault.instance_path(), "the tool's structured content breaks its own output schema");
        }
    }

    fn log(&self, outcome: &Result<(ToolResult, usize), ToolError>, context: &ToolContext, took: Duration) {
        let (tool, server) = (self.definition.name.as_str(), self.definition.server.as_deref());
        let (principal, request_id) = (context.principal.id.as_str(), context.request_id.as_str());
        let (session_id, call_id) =
            (context.session_id.as_ref().map(crate::domain::SessionId::as_str), &context.call_id);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Ok((result, bytes)) if !result.is_error => {
                tracing::info!(
                    tool,
                    server,
                    principal,
                    request_id,
                    session_id,
                    call_id,
                    duration_ms,
                    bytes,
                    "tool call"
                );
            }
            Ok((result, bytes)) => {
                let cause: String = result.to_text().chars().take(200).collect();
                tracing::warn!(
                    tool,
                    server,
                    principal,
                    request_id,
                    session_id,
                    call_id,
                    duration_ms,
                    bytes,
                    cause,
                    "the tool reported a failure"
                );
            }
            Err(error) => {
                tracing::warn!(tool, server, principal, request_id, session_id, call_id, duration_ms, kind = ?error.kind, cause = %error, "tool call failed");
            }
        }
    }
}
