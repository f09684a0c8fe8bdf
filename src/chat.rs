//! The `chat` room: the turn loop, model -> tools -> model, for every API, streaming or not.
//!
//! One loop (`chat/turn.rs`) serves the OpenAI-compatible API and the simple chat API. A turn is one future: dropping it (the
//! client went away) cancels the upstream request and every running tool call below it. The room knows models, tools
//! and sessions by their ports only.

mod call_buffer;
mod engine;
mod hidden_calls;
mod history;
mod message_text;
mod prompt;
mod session_turn;
mod shape;
mod spending;
mod stream;
mod tokens;
mod tool_run;
mod toolset;
mod turn;
mod whole;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use serde::Deserialize;

pub use engine::ChatEngine;
pub use session_turn::SessionTranscript;

use crate::access::{AccessError, AccessScope};
use crate::domain::{Principal, RequestError, RequestId, SessionId, ToolCall, ToolResult, Usage};
use crate::llm::{ModelError, ToolChoice};
use crate::response::ProcessingError;
use crate::sessions::SessionError;

/// `[chat]` in `gateway.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls of the model in one turn; in the last one it may call no tools. Replies that are asked for again do not count.
    /// Default 10, at least 1.
    pub max_tool_rounds: u32,
    /// How often an empty reply is asked again before it is an error. Default 1.
    pub empty_reply_retries: u32,
    /// How often in one turn a plugin may have the model asked again before it is an error. Default 3.
    pub max_ask_again: u32,
    /// Longest time a whole turn may take, tool rounds included, in milliseconds. Default 600000 (SDKs give up then).
    pub turn_timeout_ms: u64,
    /// System prompt put before every conversation of the simple chat API. Default none.
    pub system_prompt: Option<String>,
    /// Most tokens of history that `/chat` sends to the model; oldest whole turns leave first. Default 16000.
    pub max_history_tokens: usize,
    /// Longest time a request waits for its session's previous turn, in milliseconds. Default 60000.
    pub session_wait_ms: u64,
    /// Tool calls of one round that run at the same time. Default 8.
    pub max_parallel_tools: usize,
    /// Whether images in tool results are shown to the model as a user message after the results. Default true.
    pub tool_images: bool,
    /// Replies with calls of clients' own tools for which the gateway's hidden calls are remembered, until the client
    /// sends its results. Default 10000.
    pub max_hidden_replies: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_tool_rounds: 10,
            empty_reply_retries: 1,
            max_ask_again: 3,
            turn_timeout_ms: 600_000,
            system_prompt: None,
            max_history_tokens: 16_000,
            session_wait_ms: 60_000,
            max_parallel_tools: 8,
            tool_images: true,
            max_hidden_replies: 10_000,
        }
    }
}

/// On whose behalf a turn runs, and with which of the gateway's tools.
#[derive(Clone, Debug)]
pub struct TurnContext {
    /// The request, for logs and tools.
    pub request_id: RequestId,
    /// Path of the endpoint the client called, for plugins; empty where there is none.
    pub endpoint: Arc<str>,
    /// Who is asking.
    pub principal: Principal,
    /// Which gateway tools the client wants (`x-gateway-tools`); narrows what the model's configuration allows.
    pub tools: ToolChoice,
    /// Decides on the model and on every tool call.
    pub access: AccessScope,
}

impl TurnContext {
    /// A turn for the caller of `access` with `tools`.
    #[must_use]
    pub fn new(access: AccessScope, tools: ToolChoice) -> Self {
        let (request_id, principal) = (access.request_id().clone(), access.principal().clone());
        Self { request_id, endpoint: Arc::default(), principal, tools, access }
    }

    /// The same for a request to the endpoint with this path.
    #[must_use]
    pub fn at(self, endpoint: &str) -> Self {
        Self { endpoint: Arc::from(endpoint), ..self }
    }
}

/// A message to the simple chat API.
#[derive(Clone, Debug)]
pub struct ChatMessage {
    /// The user's words.
    pub message: String,
    /// The session to go on with; `None` starts one.
    pub session_id: Option<SessionId>,
    /// The model to ask; empty for the default.
    pub model: String,
}

/// The answer of the simple chat API.
#[derive(Clone, Debug)]
pub struct ChatReply {
    /// The assistant's text.
    pub response: String,
    /// The session, for the next message.
    pub session_id: SessionId,
    /// Tokens of all rounds together, if known.
    pub usage: Option<Usage>,
}

/// A whole reply of the OpenAI-compatible API.
#[derive(Clone, Debug)]
pub struct WholeReply {
    /// A `chat.completion` object as JSON text: the upstream's own bytes where no tool ran.
    pub body: Bytes,
}

/// What happens in a streamed turn, in order. The stream ends after `Done` or an error.
#[derive(Clone, Debug)]
pub enum ReplyEvent {
    /// A chunk for the client.
    Chunk(ReplyChunk),
    /// A gateway tool starts.
    ToolStarted(ToolCall),
    /// A gateway tool has answered (a failure is a result with `is_error`).
    ToolFinished {
        /// The call.
        call: ToolCall,
        /// Its result.
        result: ToolResult,
    },
    /// The turn is complete; for a session it has been stored.
    Done(TurnSummary),
}

/// One `chat.completion.chunk` for the client.
#[derive(Clone, Debug)]
pub struct ReplyChunk {
    /// The chunk as JSON text, with the stream's one id, created and model.
    pub json: Bytes,
    /// The text it adds to the first choice, if any.
    pub text: Option<String>,
}

/// How a streamed turn ended.
#[derive(Clone, Debug, Default)]
pub struct TurnSummary {
    /// The whole text of the first choice, as far as the client has seen it.
    pub response: String,
    /// Tokens of all rounds together, if known.
    pub usage: Option<Usage>,
    /// The session, for the simple chat API.
    pub session_id: Option<SessionId>,
}

/// The events of a streamed turn. Dropping it cancels the turn and all that runs for it.
pub type ReplyStream = Pin<Box<dyn Stream<Item = Result<ReplyEvent, ChatError>> + Send>>;

/// Why a turn failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct ChatError {
    /// What went wrong.
    #[source]
    pub kind: ChatErrorKind,
    /// True once a tool that may have side effects has run: the client should not blindly send the request again.
    pub tools_ran: bool,
}

/// What went wrong in a turn.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChatErrorKind {
    /// The request is wrong: 400.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The model failed; carries its own status.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An access policy refuses the model or has failed; carries its own status.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No such session, or someone else's: 404.
    #[error("there is no session `{0}`")]
    SessionNotFound(SessionId),
    /// The session's previous turn is still running: 409.
    #[error("another message of this session is still being answered; wait for it or start a new session")]
    SessionBusy,
    /// The session store failed: 500; the cause is in the log.
    #[error("the session could not be stored")]
    SessionStore,
    /// The model answered with nothing, also when asked again: 502.
    #[error("the model gave an empty reply {0} times in a row")]
    EmptyReply(u32),
    /// The model wanted more tools after the last round: 502.
    #[error("the model still wanted tools after {0} rounds (chat.max_tool_rounds)")]
    RoundLimit(u32),
    /// A plugin wanted the model asked again too often: 502.
    #[error("the plugin `{plugin}` still wanted another reply after {limit} (chat.max_ask_again)")]
    AskAgainLimit {
        /// Its name.
        plugin: String,
        /// How often it may be asked again.
        limit: u32,
    },
    /// A plugin failed or refused: 500, 503 or 403.
    #[error(transparent)]
    Plugin(#[from] ProcessingError),
    /// The turn took too long: 504.
    #[error("the turn took longer than {0} ms (chat.turn_timeout_ms)")]
    TurnTimeout(u64),
}

impl From<ChatErrorKind> for ChatError {
    fn from(kind: ChatErrorKind) -> Self {
        Self { kind, tools_ran: false }
    }
}

impl From<ModelError> for ChatError {
    fn from(error: ModelError) -> Self {
        ChatErrorKind::from(error).into()
    }
}

impl From<ProcessingError> for ChatError {
    fn from(error: ProcessingError) -> Self {
        ChatErrorKind::from(error).into()
    }
}

impl From<RequestError> for ChatError {
    fn from(error: RequestError) -> Self {
        ChatErrorKind::from(error).into()
    }
}

impl ChatError {
    /// The failure of the store for session `id`; its inner words go to the log only.
    fn of_store(error: &SessionError, id: Option<&SessionId>) -> Self {
        match (error, id) {
            (SessionError::Conflict, _) => ChatErrorKind::SessionBusy.into(),
            (SessionError::NotFound, Some(id)) => ChatErrorKind::SessionNotFound(id.clone()).into(),
            (cause, _) => {
                tracing::error!(session_id = id.map(SessionId::as_str), %cause, "the session store failed");
                ChatErrorKind::SessionStore.into()
            }
        }
    }
}
