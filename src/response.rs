//! The `response` room: what happens to a model's reply before anyone sees it.
//!
//! [`ResponseProcessor`] is the port; a plugin with the hook `process-llm-response` or `reply-stream` is one, and so is the
//! search for tool calls that a model writes as text. A [`ResponsePipeline`] holds the processors of one request in
//! their order, taken once from an immutable snapshot: a reply is finished by the versions it began with. Whole replies
//! pass through [`ResponsePipeline::process`], streamed ones through a [`ReplyChain`] per choice. Nothing here spawns a
//! task: dropping a future or a chain at any point ends the work.

mod buffered;
mod chain;
mod held;
mod pipeline;
#[cfg(test)]
mod tests;
pub mod text_tool_calls;
pub mod wasm;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use chain::{ChainEnd, ReplyChain};
pub use pipeline::{NextAfter, Processed, ResponsePipeline};
pub use text_tool_calls::{TextCallDetector, TextCallProcessor};

use crate::domain::{Finished, ProcessedReply, Pushed, ReplyAction, ReplyContext, ReplyEnd, TextDelta};

/// Looks at the replies of models and decides what becomes of them.
#[async_trait]
pub trait ResponseProcessor: Send + Sync {
    /// Its name, for logs and errors.
    fn name(&self) -> &str;

    /// Whether it wants the replies of `model` to requests at `endpoint` (a path).
    fn applies(&self, endpoint: &str, model: &str) -> bool;

    /// How it takes replies.
    fn mode(&self) -> ProcessorMode;

    /// What its failure means for the reply.
    fn on_failure(&self) -> OnFailure;

    /// Decides about one choice of a whole reply. Called only where [`Self::mode`] has a whole form.
    ///
    /// # Errors
    /// When it cannot decide.
    async fn process(
        &self,
        context: &ReplyContext,
        reply: &ProcessedReply,
    ) -> Result<ReplyAction, ProcessorError>;

    /// Starts on one choice of a reply that comes in pieces. Called only where [`Self::mode`] has a streamed form.
    ///
    /// # Errors
    /// When it cannot start.
    async fn open(&self, context: &ReplyContext, choice: u64) -> Result<Box<dyn ReplyStage>, ProcessorError>;
}

/// A processor at work on one choice of one reply.
#[async_trait]
pub trait ReplyStage: Send {
    /// Takes the next deltas, none of them empty, and answers what may go on now.
    ///
    /// # Errors
    /// When it cannot go on; the stage is not used again.
    async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, ProcessorError>;

    /// Ends the reply.
    ///
    /// # Errors
    /// When it cannot tell how the reply ends.
    async fn finish(self: Box<Self>, end: &ReplyEnd) -> Result<Finished, ProcessorError>;
}

/// Where the engine gets its processors from.
pub trait ProcessorSource: Send + Sync {
    /// The processors as they are now, in the order to run them. Cheap: called once per turn.
    fn snapshot(&self) -> Arc<[Arc<dyn ResponseProcessor>]>;
}

/// A source without processors.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProcessors;

impl ProcessorSource for NoProcessors {
    fn snapshot(&self) -> Arc<[Arc<dyn ResponseProcessor>]> {
        Arc::default()
    }
}

/// In which forms a processor takes replies, and which it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessorMode {
    /// Whole: streamed replies are held until they are complete.
    Whole,
    /// Piece by piece: a whole reply is one piece.
    Stream,
    /// Whole replies whole and streamed ones piece by piece.
    Both,
}

impl ProcessorMode {
    /// The mode of a processor with these forms; `buffered` is the operator's wish that replies are held. None where
    /// there is no form at all.
    #[must_use]
    pub fn of(whole: bool, stream: bool, buffered: bool) -> Option<Self> {
        match (whole, stream) {
            (true, true) if buffered => Some(Self::Whole),
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Whole),
            (false, true) => Some(Self::Stream),
            (false, false) => None,
        }
    }
}

/// What the failure of a processor means for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The turn fails.
    Closed,
    /// The reply goes on without the processor.
    Open,
}

/// Why a processor did not do its work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProcessorError {
    /// It says that the caller may not do this. An answer, not a failure: the turn ends whatever `on_failure` says.
    #[error("it refused the caller: {0}")]
    Denied(String),
    /// It has too much to do.
    #[error("{message}")]
    Busy {
        /// What it says, for the log.
        message: String,
        /// When to try again, if it knows.
        retry_after: Option<Duration>,
    },
    /// Anything else; the words are for the log.
    #[error("{0}")]
    Failed(String),
}

/// A turn's end by a processor, in words a client may read; the cause is in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProcessingError {
    /// The caller may not have this.
    #[error("{reason}")]
    Denied {
        /// Name of the processor.
        plugin: String,
        /// Its words for the caller.
        reason: String,
    },
    /// The processor has too much to do.
    #[error("the plugin `{plugin}` is too busy to process the model's reply; try again in a moment")]
    Busy {
        /// Name of the processor.
        plugin: String,
        /// When to try again, if it knows.
        retry_after: Option<Duration>,
    },
    /// The processor failed.
    #[error(
        "the plugin `{plugin}` could not process the model's reply; the gateway's log has the cause under this x-request-id"
    )]
    Failed {
        /// Name of the processor.
        plugin: String,
    },
}

impl ProcessingError {
    /// Name of the processor.
    #[must_use]
    pub fn plugin(&self) -> &str {
        match self {
            Self::Denied { plugin, .. } | Self::Busy { plugin, .. } | Self::Failed { plugin } => plugin,
        }
    }
}

/// Decides what the failure of a processor means: `Ok` to go on without it. The cause goes to the log here.
fn judge_failure(
    processor: &dyn ResponseProcessor,
    context: &ReplyContext,
    choice: u64,
    error: ProcessorError,
) -> Result<(), ProcessingError> {
    let plugin = processor.name();
    let request_id = context.request_id.as_str();
    if let ProcessorError::Denied(reason) = error {
        tracing::info!(request_id, plugin, choice, reason, "a plugin refused the caller the model's reply");
        return Err(ProcessingError::Denied { plugin: plugin.to_owned(), reason });
    }
    if processor.on_failure() == OnFailure::Open {
        tracing::warn!(request_id, plugin, choice, cause = %error, "a plugin failed; the reply goes on without it");
        return Ok(());
    }
    tracing::error!(request_id, plugin, choice, cause = %error, "a plugin failed, and the reply with it");
    let plugin = plugin.to_owned();
    Err(match error {
        ProcessorError::Busy { retry_after, .. } => ProcessingError::Busy { plugin, retry_after },
        _ => ProcessingError::Failed { plugin },
    })
}

/// Writes down that a processor blocked a reply, and why.
fn log_block(processor: &dyn ResponseProcessor, context: &ReplyContext, choice: u64, reason: &str) {
    let plugin = processor.name();
    let request_id = context.request_id.as_str();
    tracing::info!(request_id, plugin, choice, reason, "a plugin blocked the model's reply");
}

/// Writes down that a processor has the model asked again.
fn log_ask_again(processor: &dyn ResponseProcessor, context: &ReplyContext) {
    let plugin = processor.name();
    let request_id = context.request_id.as_str();
    let attempt = context.attempt;
    tracing::info!(request_id, plugin, attempt, "a plugin has the model asked again");
}

/// Only the first choice can call tools or have the model asked again, since the others have no rounds of their own.
fn check_choice(choice: u64, what: &str) -> Result<(), ProcessorError> {
    if choice == 0 {
        return Ok(());
    }
    let message = format!("it answered `{what}` for choice {choice}, which only the first choice can have");
    Err(ProcessorError::Failed(message))
}
