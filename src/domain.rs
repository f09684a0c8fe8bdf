//! Plain data shared by every room: messages, requests, replies, tools, principals and ids.
//!
//! Promises: no I/O, no async, no knowledge of any adapter. JSON that the gateway does not need to understand stays
//! the sender's own bytes ([`bytes::Bytes`] slices of the original body), so forwarding it costs a copy and no parse.

pub mod chunk;
pub mod completion;
pub mod ids;
pub mod message;
pub mod policy;
pub mod principal;
pub mod processing;
pub mod reply;
pub mod time;
pub mod tool;

pub use chunk::{ChoiceDelta, Chunk, ToolCallDelta};
pub use completion::{CompletionRequest, RequestError};
pub use ids::{RequestId, SessionId, TraceId};
pub use message::{MessageHead, RawMessage};
pub use policy::{AccessAction, AccessRequest, Decision, Denial, HttpFacts};
pub use principal::{Principal, PrincipalKind};
pub use processing::{
    DeltaKind, Finished, NextStep, ProcessedReply, Pushed, ReplyAction, ReplyContext, ReplyEnd, TextDelta,
};
pub use reply::{Completion, CompletionChoice, FinishReason, Usage};
pub use tool::{
    ContentBlock, ProgressListener, ToolAnnotations, ToolCall, ToolContext, ToolDefinition, ToolError,
    ToolErrorKind, ToolProgress, ToolResult,
};
