//! One registered tool and the way of a call to it: parse, validate, wait for a turn, call, retry, bound, log.
//!
//! Promises: arguments that do not fit never reach the server; a call ends within its time limit, retries included;
//! it is repeated only where nothing can happen twice; dropping the call cancels it. Arguments and results are logged
//! at debug level only.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::Tool;
use super::bound::{bound, result_bytes};
use super::call_stats::{CallOutcome, CallStats};
use super::schema::{Schema, Violations, cut, parse_arguments};
use crate::domain::{ToolContext, ToolDefinition, ToolError, ToolErrorKind, ToolResult};

/// The longest pause between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// From how many bytes of JSON on a value is large, for checking it against a schema.
const LARGE_BYTES: usize = 64 * 1024;

/// How much of an error is logged, in bytes. Of arguments and results only the size is: they may hold secrets, and the
/// audit log has the arguments without them.
const MAX_LOGGED_BYTES: usize = 500;

/// A tool as the registry offers it.
pub struct RegisteredTool {
    /// What the tool is, under its canonical name and with its server's name.
    pub definition: ToolDefinition,
    /// The `tools[]` entry for models: `{"type":"function","function":{name,description,parameters}}` as JSON text.
    pub function_json: Bytes,
    /// [`Self::definition`] as JSON text.
    pub definition_json: Bytes,
    /// SHA-256 of [`Self::definition_json`]: equal for tools that look the same.
    pub definition_digest: [u8; 32],
    /// The input schema as MCP has it: an object that says `"type": "object"`. Lists share it.
    pub input_object: Arc<Map<String, Value>>,
    /// The output schema in the same form.
    pub output_object: Option<Arc<Map<String, Value>>>,
    /// `server__tool`, which finds the tool whatever else there is.
    pub qualified_name: String,
    pub(super) tool: Arc<dyn Tool>,
    pub(super) schemas: Arc<Schemas>,
    pub(super) limits: Limits,
    pub(super) gates: Gates,
    pub(super) stats: Arc<CallStats>,
}

/// The compiled schemas of a tool.
pub(super) struct Schemas {
    pub(super) input: Schema,
    /// `None` where the server gives none, or one that does not compile.
    pub(super) output: Option<Schema>,
}

impl Schemas {
    /// What `find` finds of `value`, whose size is `bytes`; gives the value back. A large one is looked at where no
    /// request waits for its turn.
    async fn examine(
        self: &Arc<Self>,
        value: Value,
        bytes: usize,
        find: fn(&Self, &Value) -> Option<Violations>,
    ) -> (Value, Option<Violations>) {
        if bytes < LARGE_BYTES {
            let found = find(self, &value);
            return (value, found);
        }
        let schemas = Arc::clone(self);
        let work = spawn_blocking(move || {
            let found = find(&schemas, &value);
            (value, found)
        });
        match work.await.map_err(JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_)) => {
                let message = "not checked: the gateway is stopping".to_owned();
                (Value::Null, Some(Violations { masked: message.clone(), message }))
            }
        }
    }
}

/// The limits of one tool's calls, overrides applied.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Of a call with its retries.
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    /// Whether a second call does no harm.
    pub(super) safe_to_repeat: bool,
    pub(super) queue_timeout: Duration,
    pub(super) max_argument_bytes: usize,
    pub(super) max_result_bytes: usize,
}

/// What lets only so many calls run at the same time.
#[derive(Clone)]
pub(super) struct Gates {
    pub(super) server: Arc<Semaphore>,
    pub(super) all: Arc<Semaphore>,
}

impl RegisteredTool {
    /// The name the server itself gives the tool.
    #[must_use]
    pub fn original_name(&self) -> &str {
        &self.tool.definition().name
    }

    /// The schema of its structured results, where it is one that they can be checked against.
    #[must_use]
    pub fn checked_output_schema(&self) -> Option<&Value> {
        self.schemas.output.as_ref().and(self.definition.output_schema.as_ref())
    }

    /// How its calls ended so far.
    #[must_use]
    pub fn stats(&self) -> &CallStats {
        &self.stats
    }

    /// Calls the tool with arguments as a model or client wrote them. Dropping the future cancels the call.
    ///
    /// # Errors
    /// [`ToolErrorKind::InvalidArguments`] before anything is sent, [`ToolErrorKind::NotSent`] when too many calls run
    /// or the server cannot be reached, [`ToolErrorKind::Timeout`], or [`ToolErrorKind::Failed`]; all have been
    /// logged. A failure the tool itself reports is a result with `is_error`.
    pub async fn invoke(&self, arguments_json: &str, context: &ToolContext) -> Result<ToolResult, ToolError> {
        let mut log = CallLog { tool: self, context, started: Instant::now(), is_done: false };
        debug!(
            tool = %self.definition.name,
            call_id = %context.call_id,
            argument_bytes = arguments_json.len(),
            "tool call begins"
        );
        let arguments = match self.check(arguments_json).await {
            Ok(arguments) => arguments,
            Err(Refusal { error, cause }) => {
                log.failed(&error, &cause);
                return Err(error);
            }
        };
        match self.run(arguments, context).await {
            Ok(result) => Ok(self.finish(result, &mut log).await),
            Err(error) => {
                log.failed(&error, &error.message);
                Err(error)
            }
        }
    }

    /// The arguments as [`Self::invoke`] reads them, written again: every key once, nothing but the object.
    ///
    /// # Errors
    /// [`ToolErrorKind::InvalidArguments`] where they are no JSON object or too long.
    pub fn plain_arguments(&self, arguments_json: &str) -> Result<String, ToolError> {
        let arguments = parse_arguments(arguments_json, self.limits.max_argument_bytes)?;
        Ok(Value::Object(arguments).to_string())
    }

    async fn check(&self, arguments_json: &str) -> Result<Map<String, Value>, Refusal> {
        let arguments = parse_arguments(arguments_json, self.limits.max_argument_bytes)
            .map_err(|error| Refusal { cause: error.message.clone(), error })?;
        let find = |schemas: &Schemas, value: &Value| schemas.input.violations(value, "arguments");
        let (arguments, violations) =
            self.schemas.examine(Value::Object(arguments), arguments_json.len(), find).await;
        if let Some(violations) = violations {
            let message = format!(
                "the arguments do not fit the schema of tool `{}`: {}",
                self.definition.name, violations.message
            );
            let error = ToolError::new(ToolErrorKind::InvalidArguments, message);
            return Err(Refusal { error, cause: violations.masked });
        }
        match arguments {
            Value::Object(arguments) => Ok(arguments),
            _ => Ok(Map::new()),
        }
    }

    async fn run(
        &self,
        arguments: Map<String, Value>,
        context: &ToolContext,
    ) -> Result<ToolResult, ToolError> {
        let _turn = self.turn().await?;
        let limit = self.limits.timeout;
        match timeout(limit, self.attempts(arguments, context, Instant::now() + limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ToolError::timeout(&self.definition.name, limit)),
        }
    }

    /// Waits until the call may run. The server's own gate comes first: calls that wait for a server that hangs take
    /// no place from the others.
    async fn turn(&self) -> Result<[SemaphorePermit<'_>; 2], ToolError> {
        let both = async {
            let server = self.gates.server.acquire().await;
            let all = self.gates.all.acquire().await;
            server.and_then(|server| Ok([server, all?]))
        };
        match timeout(self.limits.queue_timeout, both).await {
            Ok(Ok(permits)) => Ok(permits),
            _ => {
                let message = format!(
                    "tool `{}` was not called: too many calls are running, and none ended within {} ms \
                     (tools.max_concurrent_calls, tools.max_concurrent_calls_per_server, tools.queue_timeout_ms)",
                    self.definition.name,
                    self.limits.queue_timeout.as_millis()
                );
                Err(ToolError::new(ToolErrorKind::NotSent, message))
            }
        }
    }

    async fn attempts(
        &self,
        arguments: Map<String, Value>,
        context: &ToolContext,
        deadline: Instant,
    ) -> Result<ToolResult, ToolError> {
        let mut tries = 0;
        loop {
            let mut error = match self.tool.call(arguments.clone(), context).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            tries += 1;
            let pause = self.pause(tries);
            // A pause beyond the deadline would only hide the cause behind a timeout.
            let is_last = tries > self.limits.retries || Instant::now() + pause >= deadline;
            if is_last || !self.may_repeat(error.kind) {
                if tries > 1 {
                    error.message.push_str(&format!(" (tried {tries} times)"));
                }
                return Err(error);
            }
            warn!(
                tool = %self.definition.name,
                server = self.server(),
                request_id = %context.request_id,
                call_id = %context.call_id,
                kind = ?error.kind,
                error = cut(&error.message, MAX_LOGGED_BYTES),
                pause_ms = pause.as_millis(),
                "tool call failed and is tried again"
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// True where trying again cannot make anything happen twice.
    fn may_repeat(&self, kind: ToolErrorKind) -> bool {
        match kind {
            ToolErrorKind::NotSent => true,
            ToolErrorKind::Failed | ToolErrorKind::Timeout => self.limits.safe_to_repeat,
            ToolErrorKind::NotFound | ToolErrorKind::InvalidArguments => false,
        }
    }

    /// The pause after the `tries`th failure: doubling, with a random part so that callers do not come back at once.
    fn pause(&self, tries: u32) -> Duration {
        let doubled = self.limits.backoff.saturating_mul(1 << (tries - 1).min(16)).min(MAX_BACKOFF);
        doubled.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    async fn finish(&self, mut result: ToolResult, log: &mut CallLog<'_>) -> ToolResult {
        let bytes = result_bytes(&result);
        if !result.is_error && bytes <= self.limits.max_result_bytes {
            self.check_output(&mut result, bytes).await;
        }
        log.finished(&result, bytes);
        bound(result, bytes, self.limits.max_result_bytes)
    }

    /// A result that breaks the server's own promise is still the best there is, so it is only logged.
    async fn check_output(&self, result: &mut ToolResult, bytes: usize) {
        if self.schemas.output.is_none() {
            return;
        }
        let Some(structured) = result.structured_content.take() else { return };
        let find = |schemas: &Schemas, value: &Value| {
            schemas.output.as_ref().and_then(|schema| schema.violations(value, "structuredContent"))
        };
        let (structured, violations) = self.schemas.examine(structured, bytes, find).await;
        result.structured_content = Some(structured);
        if let Some(violations) = violations {
            warn!(
                tool = %self.definition.name,
                server = self.server(),
                error = cut(&violations.masked, MAX_LOGGED_BYTES),
                "tool result does not fit the tool's own output schema; it is passed on as it is"
            );
        }
    }

    fn server(&self) -> &str {
        self.definition.server.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for RegisteredTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredTool").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// Arguments that were not accepted: the caller's error, and its cause without any value of theirs.
struct Refusal {
    error: ToolError,
    cause: String,
}

/// Writes the one line every call leaves in the log, also when its caller went away.
struct CallLog<'a> {
    tool: &'a RegisteredTool,
    context: &'a ToolContext,
    started: Instant,
    is_done: bool,
}

/// A line on the call at a level: the fields every such line has, those given, and the words.
macro_rules! call_line {
    ($level:ident, $log:expr, { $($field:tt)* }, $words:literal) => {
        $level!(
            tool = %$log.tool.definition.name,
            server = $log.tool.server(),
            principal = %$log.context.principal.id,
            request_id = %$log.context.request_id,
            call_id = %$log.context.call_id,
            duration_ms = $log.milliseconds(),
            $($field)*
            $words
        )
    };
}

impl CallLog<'_> {
    fn finished(&mut self, result: &ToolResult, bytes: usize) {
        let is_error = result.is_error;
        self.end(if is_error { CallOutcome::ToolError } else { CallOutcome::Success });
        // What the tool says of its failure may quote data, so it is in the debug log only.
        if is_error {
            call_line!(warn, self, { is_error, bytes, }, "tool call finished: the tool reports a failure");
        } else {
            call_line!(info, self, { is_error, bytes, }, "tool call finished");
        }
    }

    fn failed(&mut self, error: &ToolError, cause: &str) {
        self.end(error.kind.into());
        let error_text = cut(cause, MAX_LOGGED_BYTES);
        call_line!(warn, self, { kind = ?error.kind, error = error_text, }, "tool call failed");
    }

    fn end(&mut self, outcome: CallOutcome) {
        self.is_done = true;
        self.tool.stats.record(outcome, self.started.elapsed());
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for CallLog<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.end(CallOutcome::Cancelled);
            call_line!(info, self, {}, "tool call cancelled by its caller");
        }
    }
}

#[cfg(test)]
mod tests;
