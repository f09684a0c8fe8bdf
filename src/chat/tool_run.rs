//! Runs the gateway's calls of one round: in parallel, within a bound, in the order the model asked for them.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::mpsc;

use super::{ReplyEvent, TurnContext};
use crate::domain::{SessionId, ToolCall, ToolContext, ToolResult};
use crate::tools::RegisteredTool;

/// A call to run; `tool` is `None` where the model made the name up.
pub(super) struct PendingCall {
    /// What the model asked for.
    pub(super) call: ToolCall,
    /// The tool that answers it.
    pub(super) tool: Option<Arc<RegisteredTool>>,
}

/// Where a turn's events go; nobody listens to a whole reply's.
pub(super) type Events = Option<mpsc::Sender<ReplyEvent>>;

/// Sends an event to whoever listens. A listener that went away drops the turn, so a failed send needs no handling.
pub(super) async fn emit(events: &Events, event: ReplyEvent) {
    if let Some(sender) = events {
        let _gone = sender.send(event).await;
    }
}

/// Runs `calls` and returns each with its result, in order. Failures are results the model can read.
/// Dropping the future cancels every call that is still running.
pub(super) async fn run(
    calls: Vec<PendingCall>,
    context: &TurnContext,
    session_id: Option<&SessionId>,
    max_parallel: usize,
    events: &Events,
) -> Vec<(ToolCall, ToolResult)> {
    let running = calls.into_iter().map(|pending| async move {
        emit(events, ReplyEvent::ToolStarted(pending.call.clone())).await;
        let result = call(&pending, context, session_id).await;
        let finished = ReplyEvent::ToolFinished { call: pending.call.clone(), result: result.clone() };
        emit(events, finished).await;
        (pending.call, result)
    });
    stream::iter(running).buffered(max_parallel.max(1)).collect().await
}

async fn call(pending: &PendingCall, context: &TurnContext, session_id: Option<&SessionId>) -> ToolResult {
    let Some(tool) = &pending.tool else {
        let message =
            format!("there is no tool named `{}`; use one of the tools you were given", pending.call.name);
        return ToolResult::error(message);
    };
    let tool_context = ToolContext {
        principal: context.principal.clone(),
        request_id: context.request_id.clone(),
        session_id: session_id.cloned(),
        call_id: pending.call.id.clone(),
    };
    let arguments = match permitted(tool, &pending.call, context).await {
        Ok(arguments) => arguments,
        Err(refusal) => return ToolResult::error(refusal),
    };
    match tool.invoke(&arguments, &tool_context).await {
        Ok(result) => result,
        Err(error) => ToolResult::error(error.to_string()),
    }
}

/// The arguments the call goes on with, once the access policies let it; else why not, in words for the model.
async fn permitted<'a>(
    tool: &RegisteredTool,
    call: &'a ToolCall,
    context: &TurnContext,
) -> Result<Cow<'a, str>, String> {
    if !context.access.has_policies() {
        return Ok(Cow::Borrowed(&call.arguments));
    }
    // What policies read must be what the tool gets: of a key written twice, each could take another one.
    let Ok(arguments) = tool.plain_arguments(&call.arguments) else {
        // Nothing to decide on: the call itself refuses these arguments, and logs it.
        return Ok(Cow::Borrowed(&call.arguments));
    };
    let server = tool.definition.server.as_deref().unwrap_or_default();
    match context.access.tool(&tool.definition.name, server, &arguments).await {
        Ok(()) => Ok(Cow::Owned(arguments)),
        Err(refusal) => Err(format!("calling `{}` is not allowed: {refusal}", tool.definition.name)),
    }
}
