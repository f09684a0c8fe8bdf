//! The processors of one request in their order, and the way of a whole reply through them.

use std::sync::Arc;

use super::buffered::{BufferedStage, decide};
use super::chain::{Link, ReplyChain};
use super::{
    ProcessingError, ProcessorError, ProcessorMode, ReplyStage, ResponseProcessor, check_choice,
    judge_failure, log_ask_again, log_block,
};
use crate::domain::{FinishReason, NextStep, ProcessedReply, ReplyContext, ToolCall, ids};

/// The processors that apply to one request. Without any it costs nothing.
#[derive(Clone, Default)]
pub struct ResponsePipeline {
    processors: Vec<Arc<dyn ResponseProcessor>>,
}

/// What happens after a reply has been processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextAfter {
    /// Its calls are made, or it is complete.
    GoOn,
    /// The model is asked again.
    AskAgain {
        /// Who wants it.
        plugin: String,
        /// What the model is told.
        instruction: String,
    },
    /// The choice ends with `content_filter`; the reason is in the log.
    Block,
}

/// One choice of a whole reply, processed.
#[derive(Clone, Debug)]
pub struct Processed {
    /// The choice with what the processors made of it.
    pub reply: ProcessedReply,
    /// Whether its text is another.
    pub text_changed: bool,
    /// Whether its reasoning is another.
    pub reasoning_changed: bool,
    /// Whether its calls are others.
    pub calls_changed: bool,
    /// What happens next.
    pub next: NextAfter,
}

impl ResponsePipeline {
    /// Those of `processors` that want the replies of `model` to requests at `endpoint`.
    #[must_use]
    pub fn of(processors: &[Arc<dyn ResponseProcessor>], endpoint: &str, model: &str) -> Self {
        let wanted = processors.iter().filter(|processor| processor.applies(endpoint, model));
        Self { processors: wanted.cloned().collect() }
    }

    /// The same with `processor` before all others.
    #[must_use]
    pub fn starting_with(mut self, processor: Arc<dyn ResponseProcessor>) -> Self {
        self.processors.insert(0, processor);
        self
    }

    /// True when replies go on untouched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processors.is_empty()
    }

    /// True when streamed replies are held until they are complete.
    #[must_use]
    pub fn holds_streams(&self) -> bool {
        self.processors.iter().any(|processor| processor.mode() == ProcessorMode::Whole)
    }

    /// Takes one choice of a whole reply through all processors. A processor that blocks or has the model asked again
    /// is the last to see it.
    ///
    /// # Errors
    /// When a processor refuses, or fails and is not to be left out.
    pub async fn process(
        &self,
        context: &ReplyContext,
        reply: ProcessedReply,
    ) -> Result<Processed, ProcessingError> {
        let mut processed = Processed {
            reply,
            text_changed: false,
            reasoning_changed: false,
            calls_changed: false,
            next: NextAfter::GoOn,
        };
        for processor in &self.processors {
            if let Err(error) = processed.pass(processor.as_ref(), context).await {
                judge_failure(processor.as_ref(), context, processed.reply.choice, error)?;
            }
            if processed.next != NextAfter::GoOn {
                break;
            }
        }
        Ok(processed)
    }

    /// Opens all processors for one choice of a streamed reply.
    ///
    /// # Errors
    /// When one cannot be opened and is not to be left out.
    pub async fn open(
        &self,
        context: &Arc<ReplyContext>,
        choice: u64,
    ) -> Result<ReplyChain, ProcessingError> {
        let mut links = Vec::with_capacity(self.processors.len());
        for processor in &self.processors {
            let stage: Box<dyn ReplyStage> = if processor.mode() == ProcessorMode::Whole {
                Box::new(BufferedStage {
                    processor: Arc::clone(processor),
                    context: Arc::clone(context),
                    choice,
                    text: String::new(),
                    reasoning: None,
                })
            } else {
                match processor.open(context, choice).await {
                    Ok(stage) => stage,
                    Err(error) => {
                        judge_failure(processor.as_ref(), context, choice, error)?;
                        continue;
                    }
                }
            };
            links.push(Link::new(Arc::clone(processor), stage));
        }
        Ok(ReplyChain::new(Arc::clone(context), choice, links))
    }
}

impl Processed {
    async fn pass(
        &mut self,
        processor: &dyn ResponseProcessor,
        context: &ReplyContext,
    ) -> Result<(), ProcessorError> {
        let verdict = decide(processor, context, &self.reply).await?;
        let choice = self.reply.choice;
        match verdict.next {
            NextStep::GoOn => {}
            NextStep::CallTool(calls) => {
                check_choice(choice, "call-tool")?;
                self.reply.tool_calls = complete_calls(calls);
                self.reply.finish_reason = Some(reason_for(&self.reply.tool_calls));
                self.calls_changed = true;
            }
            NextStep::AskAgain(instruction) => {
                check_choice(choice, "ask-again")?;
                log_ask_again(processor, context);
                let plugin = processor.name().to_owned();
                self.next = NextAfter::AskAgain { plugin, instruction };
                return Ok(());
            }
            NextStep::Block(reason) => {
                log_block(processor, context, choice, &reason);
                self.next = NextAfter::Block;
                return Ok(());
            }
        }
        if let Some(text) = verdict.text.filter(|text| *text != self.reply.text) {
            self.reply.text = text;
            self.text_changed = true;
        }
        if let Some(reasoning) = verdict.reasoning.filter(|reasoning| *reasoning != self.reply.reasoning) {
            self.reply.reasoning = reasoning;
            self.reasoning_changed = true;
        }
        Ok(())
    }
}

/// Calls that a processor made up, each with an id of its own and arguments.
pub(super) fn complete_calls(mut calls: Vec<ToolCall>) -> Vec<ToolCall> {
    for at in 0..calls.len() {
        let (before, rest) = calls.split_at_mut(at);
        let call = &mut rest[0];
        if call.id.is_empty() || before.iter().any(|other| other.id == call.id) {
            call.id = ids::random_id("call_");
        }
        if call.arguments.trim().is_empty() {
            call.arguments = "{}".to_owned();
        }
    }
    calls
}

/// The finish reason of a reply with these calls in the place of its own.
pub(super) fn reason_for(calls: &[ToolCall]) -> FinishReason {
    if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls }
}
