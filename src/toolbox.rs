//! The `toolbox` room: the gateway's tools as one caller may see and call them.
//!
//! The one place where access, tools and audit meet, so that the chat loop, the REST API and the MCP server cannot
//! decide differently. A tool that a caller may not use looks like one that does not exist.

mod contexts;
mod record;

use std::borrow::Cow;
use std::sync::Arc;

use tracing::warn;

pub use self::contexts::{Contexts, GET_PROMPT, READ_RESOURCE};
use self::record::Record;
use crate::access::{AccessError, AccessScope};
use crate::audit::{AuditLog, AuditOutcome};
use crate::domain::{ProgressListener, SessionId, ToolContext, ToolError, ToolResult};
use crate::tools::{ContextSource, RegisteredTool, ToolRegistry, ToolSnapshot, result_bytes};

/// How much of a name that somebody made up is logged, in bytes.
const MAX_LOGGED_NAME: usize = 200;

/// The tools; a clone is another handle to the same ones.
#[derive(Clone)]
pub struct Toolbox {
    registry: Arc<ToolRegistry>,
    audit: AuditLog,
    contexts: Arc<[Arc<dyn ContextSource>]>,
}

/// One call, beside its tool and arguments.
#[derive(Clone, Debug)]
pub struct CallSite {
    /// How the call came in: `chat`, `rest`, `mcp` or `cli`.
    pub via: &'static str,
    /// Id of the call, for logs.
    pub call_id: String,
    /// The session it belongs to.
    pub session_id: Option<SessionId>,
    /// Who is told how it gets on.
    pub progress: ProgressListener,
}

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The caller may not make it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// It was made, or could have been, and failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl Toolbox {
    /// The tools of `registry`; calls are written to `audit`.
    #[must_use]
    pub fn new(registry: Arc<ToolRegistry>, audit: AuditLog) -> Self {
        Self { registry, audit, contexts: Arc::default() }
    }

    /// The same, with the resources and prompts of these servers, in configuration order.
    #[must_use]
    pub fn with_contexts(mut self, sources: Vec<Arc<dyn ContextSource>>) -> Self {
        self.contexts = Arc::from(sources);
        self
    }

    /// Resources and prompts of all servers, or of one.
    #[must_use]
    pub fn contexts(&self, server: Option<Arc<str>>) -> Contexts {
        Contexts::new(self.clone(), server)
    }

    /// All tools, whoever may use them.
    #[must_use]
    pub fn registry(&self) -> &Arc<ToolRegistry> {
        &self.registry
    }

    /// The tools there are now, whoever may use them.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ToolSnapshot> {
        self.registry.snapshot()
    }

    /// The tools that `scope` may see, in the registry's order.
    #[must_use]
    pub fn visible(&self, scope: &AccessScope) -> Vec<Arc<RegisteredTool>> {
        let snapshot = self.snapshot();
        snapshot.tools().iter().filter(|tool| is_visible(tool, scope)).cloned().collect()
    }

    /// The tool called `name` (canonical or `server__tool`), if `scope` may see it.
    #[must_use]
    pub fn find(&self, scope: &AccessScope, name: &str) -> Option<Arc<RegisteredTool>> {
        self.snapshot().find(name).filter(|tool| is_visible(tool, scope)).cloned()
    }

    /// The tool called `name` for a call by the caller of `scope`, which came in `via` REST or MCP. To the caller, one that it
    /// may not call looks like one that does not exist; the log tells which it was, and the audit log has the refusal.
    ///
    /// # Errors
    /// [`AccessError::ToolNotAllowed`], or [`AccessError::MissingScope`] for callers who may call no tool at all.
    pub fn wanted(
        &self,
        scope: &AccessScope,
        name: &str,
        via: &'static str,
    ) -> Result<Arc<RegisteredTool>, AccessError> {
        self.admitted(scope, self.snapshot().find(name), name, via)
    }

    /// As [`Self::wanted`], where `tool` is what the caller means by `name`.
    ///
    /// # Errors
    /// As [`Self::wanted`].
    pub fn admitted(
        &self,
        scope: &AccessScope,
        tool: Option<&Arc<RegisteredTool>>,
        name: &str,
        via: &'static str,
    ) -> Result<Arc<RegisteredTool>, AccessError> {
        let refused = |tool: &str, why: &str| {
            let principal = scope.principal().id.as_str();
            let shown = tool.get(..tool.floor_char_boundary(MAX_LOGGED_NAME)).unwrap_or_default();
            warn!(tool = shown, principal, request_id = %scope.request_id(), "tool call refused: {why}");
        };
        let Some(tool) = tool else {
            refused(name, "there is no such tool");
            return Err(AccessError::ToolNotAllowed(name.to_owned()));
        };
        match scope.check_call(via, &tool.definition.name, &tool.qualified_name) {
            Ok(()) => Ok(Arc::clone(tool)),
            Err(refusal) => {
                refused(&tool.definition.name, "the caller may not call it");
                // By the name the caller knows: the other one would tell that the tool is there.
                Err(match refusal {
                    AccessError::ToolNotAllowed(_) => AccessError::ToolNotAllowed(name.to_owned()),
                    refusal => refusal,
                })
            }
        }
    }

    /// Whether the caller of `scope` may call `tool` with `arguments`; nothing is called.
    ///
    /// # Errors
    /// The refusal of the access chain.
    pub async fn check(
        &self,
        scope: &AccessScope,
        tool: &RegisteredTool,
        arguments: &str,
        via: &'static str,
    ) -> Result<(), AccessError> {
        permitted(scope, tool, arguments, via).await.map(|_arguments| ())
    }

    /// Writes down that somebody wanted the tool called `name` without having been offered it, where that is because it
    /// must not have it.
    pub fn was_not_offered(&self, scope: &AccessScope, name: &str, via: &'static str) {
        if let Some(tool) = self.snapshot().find(name) {
            // The caller is told that there is no such tool, whatever the reason.
            let _refusal = scope.check_call(via, &tool.definition.name, &tool.qualified_name);
        }
    }

    /// Calls `tool` for the caller of `scope`, with `arguments` as the caller wrote them. Dropping the future cancels the
    /// call.
    ///
    /// # Errors
    /// The refusal of the access chain, or why there is no result; both have been logged.
    pub async fn call(
        &self,
        scope: &AccessScope,
        tool: &RegisteredTool,
        arguments: &str,
        site: CallSite,
    ) -> Result<ToolResult, CallError> {
        Ok(self.permit(scope, tool, arguments, site).await?.run().await?)
    }

    /// The first half of [`Self::call`]: asks the access chain and calls nothing yet, for those who answer a refusal in
    /// another way than a result.
    ///
    /// # Errors
    /// The refusal of the access chain, which has been logged.
    pub async fn permit<'a>(
        &'a self,
        scope: &'a AccessScope,
        tool: &'a RegisteredTool,
        arguments: &'a str,
        site: CallSite,
    ) -> Result<PermittedCall<'a>, AccessError> {
        let definition = &tool.definition;
        let what = ("tool_call", definition.name.as_str(), definition.server.as_deref());
        let mut record = Record::new(self, scope, what, arguments, site.via);
        match permitted(scope, tool, arguments, site.via).await {
            Ok(arguments) => Ok(PermittedCall { record, tool, arguments, site }),
            Err(refusal) => {
                // Access has written the refusal down.
                record.is_refused();
                Err(refusal)
            }
        }
    }
}

/// A call that the access chain lets happen. Dropping it counts as a call that was cancelled.
pub struct PermittedCall<'a> {
    record: Record<'a>,
    tool: &'a RegisteredTool,
    arguments: Cow<'a, str>,
    site: CallSite,
}

impl PermittedCall<'_> {
    /// Makes the call. Dropping the future cancels it.
    ///
    /// # Errors
    /// Why there is no result; it has been logged.
    pub async fn run(mut self) -> Result<ToolResult, ToolError> {
        let scope = self.record.scope;
        let context = ToolContext {
            principal: scope.principal().clone(),
            request_id: scope.request_id().clone(),
            session_id: self.site.session_id,
            call_id: self.site.call_id,
            progress: self.site.progress,
        };
        let outcome = self.tool.invoke(&self.arguments, &context).await;
        match &outcome {
            Ok(result) => {
                let ended = if result.is_error { AuditOutcome::ToolError } else { AuditOutcome::Success };
                // Counting means writing structured content down once more.
                let bytes = self.record.is_read().then(|| result_bytes(result));
                self.record.ended(ended, bytes);
            }
            Err(error) => self.record.failed(error),
        }
        outcome
    }
}

fn is_visible(tool: &RegisteredTool, scope: &AccessScope) -> bool {
    scope.sees_tool(&tool.definition.name, &tool.qualified_name)
}

/// The arguments the call goes on with, once the access chain lets it.
async fn permitted<'a>(
    scope: &AccessScope,
    tool: &RegisteredTool,
    arguments: &'a str,
    via: &'static str,
) -> Result<Cow<'a, str>, AccessError> {
    let server = tool.definition.server.as_deref().unwrap_or_default();
    scope.check_call(via, &tool.definition.name, &tool.qualified_name)?;
    if !scope.has_policies() {
        return Ok(Cow::Borrowed(arguments));
    }
    // What policies read must be what the tool gets: of a key written twice, each could take another one.
    let Ok(plain) = tool.plain_arguments(arguments) else {
        // Nothing to decide on: the call itself refuses these arguments, and logs it.
        return Ok(Cow::Borrowed(arguments));
    };
    scope.tool(via, &tool.definition.name, server, &plain).await?;
    Ok(Cow::Owned(plain))
}
