//! One choice of a streamed reply on its way through the stages of all processors.
//!
//! What a stage lets go of is pushed to the next one, at the end too: a stage is finished only when those before it
//! have let go of everything.

use std::sync::Arc;

use super::held::Held;
use super::pipeline::{NextAfter, complete_calls, reason_for};
use super::{
    OnFailure, ProcessingError, ProcessorError, ReplyStage, ResponseProcessor, check_choice, judge_failure,
    log_ask_again, log_block,
};
use crate::domain::{Finished, NextStep, Pushed, ReplyContext, ReplyEnd, TextDelta, ToolCall};

/// The stages of one choice, in order.
pub struct ReplyChain {
    context: Arc<ReplyContext>,
    choice: u64,
    links: Vec<Link>,
}

/// How a choice ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// What was still held back; empty where the reply does not go on.
    pub deltas: Vec<TextDelta>,
    /// The calls in the place of the reply's own, where a processor changed them.
    pub calls: Option<Vec<ToolCall>>,
    /// What happens next.
    pub next: NextAfter,
}

/// One stage of a chain.
pub(super) struct Link {
    processor: Arc<dyn ResponseProcessor>,
    stage: Box<dyn ReplyStage>,
    /// Kept where the stage may be left out when it fails.
    held: Option<Held>,
}

impl Link {
    pub(super) fn new(processor: Arc<dyn ResponseProcessor>, stage: Box<dyn ReplyStage>) -> Self {
        let held = (processor.on_failure() == OnFailure::Open).then(Held::default);
        Self { processor, stage, held }
    }

    async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, ProcessorError> {
        if let Some(held) = &mut self.held {
            held.give(deltas);
        }
        let pushed = self.stage.push(deltas).await?;
        if let Some(held) = &mut self.held {
            match &pushed {
                Pushed::Deltas(deltas) => held.let_go(deltas),
                Pushed::Unchanged | Pushed::Block(_) => held.clear(),
            }
        }
        Ok(pushed)
    }
}

impl ReplyChain {
    pub(super) fn new(context: Arc<ReplyContext>, choice: u64, links: Vec<Link>) -> Self {
        Self { context, choice, links }
    }

    /// Takes the next deltas through all stages and answers what the client may see now. After a block the chain is
    /// empty and must not be used again.
    ///
    /// # Errors
    /// When a processor refuses, or fails and is not to be left out.
    pub async fn push(&mut self, deltas: Vec<TextDelta>) -> Result<Pushed, ProcessingError> {
        let mut flow = deltas;
        let mut changed = false;
        let mut at = 0;
        while at < self.links.len() && !flow.is_empty() {
            let link = &mut self.links[at];
            match link.push(&flow).await {
                Ok(Pushed::Unchanged) => at += 1,
                Ok(Pushed::Deltas(deltas)) => {
                    let deltas = without_empty(deltas);
                    changed |= deltas != flow;
                    flow = deltas;
                    at += 1;
                }
                Ok(Pushed::Block(reason)) => {
                    log_block(link.processor.as_ref(), &self.context, self.choice, &reason);
                    self.links.clear();
                    return Ok(Pushed::Block(reason));
                }
                Err(error) => {
                    judge_failure(link.processor.as_ref(), &self.context, self.choice, error)?;
                    let held = self.links.remove(at).held.unwrap_or_default().into_deltas();
                    changed |= held != flow;
                    flow = held;
                }
            }
        }
        Ok(if changed { Pushed::Deltas(flow) } else { Pushed::Unchanged })
    }

    /// Ends the choice.
    ///
    /// # Errors
    /// When a processor refuses, or fails and is not to be left out.
    pub async fn finish(self, mut end: ReplyEnd) -> Result<ChainEnd, ProcessingError> {
        let mut flow: Vec<TextDelta> = Vec::new();
        let mut calls_changed = false;
        for mut link in self.links {
            let processor = Arc::clone(&link.processor);
            let mut let_go = Vec::new();
            if !flow.is_empty() {
                match link.push(&flow).await {
                    Ok(Pushed::Unchanged) => let_go = flow,
                    Ok(Pushed::Deltas(deltas)) => let_go = deltas,
                    Ok(Pushed::Block(reason)) => {
                        log_block(processor.as_ref(), &self.context, self.choice, &reason);
                        return Ok(ChainEnd::without_rest(NextAfter::Block));
                    }
                    Err(error) => {
                        judge_failure(processor.as_ref(), &self.context, self.choice, error)?;
                        flow = link.held.unwrap_or_default().into_deltas();
                        continue;
                    }
                }
            }
            let finished = link.stage.finish(&end).await;
            let finished = finished.and_then(|finished| check_step(finished, self.choice));
            match finished {
                Ok(Finished { deltas, next }) => {
                    let_go.extend(deltas);
                    match next {
                        NextStep::GoOn => {}
                        NextStep::CallTool(calls) => {
                            end.tool_calls = complete_calls(calls);
                            end.finish_reason = Some(reason_for(&end.tool_calls));
                            calls_changed = true;
                        }
                        NextStep::AskAgain(instruction) => {
                            log_ask_again(processor.as_ref(), &self.context);
                            let plugin = processor.name().to_owned();
                            return Ok(ChainEnd::without_rest(NextAfter::AskAgain { plugin, instruction }));
                        }
                        NextStep::Block(reason) => {
                            log_block(processor.as_ref(), &self.context, self.choice, &reason);
                            return Ok(ChainEnd::without_rest(NextAfter::Block));
                        }
                    }
                }
                Err(error) => {
                    judge_failure(processor.as_ref(), &self.context, self.choice, error)?;
                    let_go.extend(link.held.unwrap_or_default().into_deltas());
                }
            }
            flow = without_empty(let_go);
        }
        Ok(ChainEnd { deltas: flow, calls: calls_changed.then_some(end.tool_calls), next: NextAfter::GoOn })
    }
}

impl ChainEnd {
    fn without_rest(next: NextAfter) -> Self {
        Self { deltas: Vec::new(), calls: None, next }
    }
}

fn without_empty(mut deltas: Vec<TextDelta>) -> Vec<TextDelta> {
    deltas.retain(|delta| !delta.text.is_empty());
    deltas
}

/// Refuses steps that the choice cannot take.
fn check_step(finished: Finished, choice: u64) -> Result<Finished, ProcessorError> {
    match finished.next {
        NextStep::CallTool(_) => check_choice(choice, "call-tool")?,
        NextStep::AskAgain(_) => check_choice(choice, "ask-again")?,
        NextStep::GoOn | NextStep::Block(_) => {}
    }
    Ok(finished)
}
