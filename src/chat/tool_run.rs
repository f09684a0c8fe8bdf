//! Runs the gateway's calls of one round: in parallel, within a bound, in the order the model asked for them.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::mpsc;

use super::{ReplyEvent, TurnContext};
use crate::domain::{ProgressListener, SessionId, ToolCall, ToolResult};
use crate::toolbox::{CallError, CallSite, Toolbox};
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

/// Sends an event to whoever listens, and makes it only then. A listener that went away drops the turn, so a failed send
/// needs no handling.
pub(super) async fn emit(events: &Events, event: impl FnOnce() -> ReplyEvent) {
    if let Some(sender) = events {
        let _gone = sender.send(event()).await;
    }
}

/// Runs `calls` and returns each with its result, in order. Failures are results the model can read.
/// Dropping the future cancels every call that is still running.
pub(super) async fn run(
    toolbox: &Toolbox,
    calls: Vec<PendingCall>,
    context: &TurnContext,
    session_id: Option<&SessionId>,
    max_parallel: usize,
    events: &Events,
) -> Vec<(ToolCall, ToolResult)> {
    let running = calls.into_iter().map(|pending| async move {
        emit(events, || ReplyEvent::ToolStarted(pending.call.clone())).await;
        let result = call(toolbox, &pending, context, session_id).await;
        emit(events, || ReplyEvent::ToolFinished { call: pending.call.clone(), result: result.clone() })
            .await;
        (pending.call, result)
    });
    stream::iter(running).buffered(max_parallel.max(1)).collect().await
}

async fn call(
    toolbox: &Toolbox,
    pending: &PendingCall,
    context: &TurnContext,
    session_id: Option<&SessionId>,
) -> ToolResult {
    let Some(tool) = &pending.tool else {
        toolbox.was_not_offered(&context.access, &pending.call.name, "chat");
        let message =
            format!("there is no tool named `{}`; use one of the tools you were given", pending.call.name);
        return ToolResult::error(message);
    };
    let site = CallSite {
        via: "chat",
        call_id: pending.call.id.clone(),
        session_id: session_id.cloned(),
        progress: ProgressListener::default(),
    };
    match toolbox.call(&context.access, tool, &pending.call.arguments, site).await {
        Ok(result) => result,
        Err(CallError::Tool(error)) => ToolResult::error(error.to_string()),
        Err(CallError::Access(refusal)) => {
            ToolResult::error(format!("calling `{}` is not allowed: {refusal}", tool.definition.name))
        }
    }
}
