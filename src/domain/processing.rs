//! Processing of a model's replies: what a processor is given, and what it may decide.
//!
//! The shapes are those of the plugin interfaces `response` and `response-stream` (`wit/response.wit`), in the
//! gateway's own types, so that the engine can be driven by anything that answers them.

use std::sync::Arc;

use bytes::Bytes;

use super::ids::{RequestId, SessionId};
use super::principal::Principal;
use super::reply::{FinishReason, Usage};
use super::tool::ToolCall;

/// What a call of a processor belongs to.
#[derive(Clone, Debug)]
pub struct ReplyContext {
    /// The client's request.
    pub request_id: RequestId,
    /// Path of the endpoint the client called.
    pub endpoint: Arc<str>,
    /// Id of the model that was asked.
    pub model: Arc<str>,
    /// The session, where the request has one.
    pub session_id: Option<SessionId>,
    /// Who is asking.
    pub principal: Principal,
    /// Which call of the model within the request it is, from 1.
    pub attempt: u32,
}

/// One choice of a whole reply.
#[derive(Clone, Debug)]
pub struct ProcessedReply {
    /// Position of the choice.
    pub choice: u64,
    /// What the model said, or its refusal; empty where there is neither.
    pub text: String,
    /// What the model thought, where its server tells.
    pub reasoning: Option<String>,
    /// The calls the model asks for.
    pub tool_calls: Vec<ToolCall>,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// Token counts, where the model's server gave them.
    pub usage: Option<Usage>,
    /// The body as the model's server sent it; `None` where the reply came as a stream.
    pub raw: Option<Bytes>,
}

/// What happens to a whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyAction {
    /// It stays as it is.
    Keep,
    /// New text, and new reasoning where `reasoning` is set: `Some(None)` removes it.
    Rewrite {
        /// The new text.
        text: String,
        /// The new reasoning; `None` keeps it, `Some(None)` removes it.
        reasoning: Option<Option<String>>,
    },
    /// These calls are made in the place of the reply's own.
    CallTool {
        /// The reply's text without the calls; `None` keeps it.
        text: Option<String>,
        /// The calls; an empty id is filled in by the engine.
        calls: Vec<ToolCall>,
    },
    /// The model is asked again with this instruction after the conversation.
    AskAgain(String),
    /// The reply is thrown away and the turn ends with `content_filter`; the reason is for the log.
    Block(String),
}

/// Parts of a reply that come in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaKind {
    /// What the model says, or its refusal.
    Text,
    /// What the model thinks.
    Reasoning,
}

/// A piece of one choice of a streamed reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextDelta {
    /// The part it belongs to.
    pub kind: DeltaKind,
    /// The piece.
    pub text: String,
}

/// What a processor lets go of after a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The pushed deltas as they are; nothing is held back.
    Unchanged,
    /// These; an empty list holds everything back.
    Deltas(Vec<TextDelta>),
    /// The reply ends here with `content_filter`; the reason is for the log.
    Block(String),
}

/// How the model ended one choice of a streamed reply.
#[derive(Clone, Debug, Default)]
pub struct ReplyEnd {
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// The calls the model asks for.
    pub tool_calls: Vec<ToolCall>,
    /// Token counts, where the model's server gave them.
    pub usage: Option<Usage>,
}

/// What a processor answers to the end of a streamed reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What was still held back; dropped where the next step is to ask again or to block.
    pub deltas: Vec<TextDelta>,
    /// What happens next.
    pub next: NextStep,
}

/// What happens after a streamed reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The reply's own calls are run, or the reply is complete.
    GoOn,
    /// These calls are made in the place of the reply's own.
    CallTool(Vec<ToolCall>),
    /// The model is asked again with this instruction after the conversation.
    AskAgain(String),
    /// The turn ends with `content_filter`; the reason is for the log.
    Block(String),
}
