//! The two ways between the forms of a processor: a whole-reply processor as a stage that holds everything until the
//! end, and a stage that is given a whole reply as one piece.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ProcessorError, ProcessorMode, ReplyStage, ResponseProcessor};
use crate::domain::{
    DeltaKind, Finished, NextStep, ProcessedReply, Pushed, ReplyAction, ReplyContext, ReplyEnd, TextDelta,
};

/// What a processor makes of a whole reply, whichever form it has.
pub(super) struct Verdict {
    /// The new text, where there is one.
    pub(super) text: Option<String>,
    /// The new reasoning, where there is one; `Some(None)` removes it.
    pub(super) reasoning: Option<Option<String>>,
    /// What happens next.
    pub(super) next: NextStep,
}

/// Has `processor` decide about a whole reply.
pub(super) async fn decide(
    processor: &dyn ResponseProcessor,
    context: &ReplyContext,
    reply: &ProcessedReply,
) -> Result<Verdict, ProcessorError> {
    if processor.mode() == ProcessorMode::Stream {
        return decide_in_one_piece(processor, context, reply).await;
    }
    let (text, reasoning, next) = match processor.process(context, reply).await? {
        ReplyAction::Keep => (None, None, NextStep::GoOn),
        ReplyAction::Rewrite { text, reasoning } => (Some(text), reasoning, NextStep::GoOn),
        ReplyAction::CallTool { text, calls } => (text, None, NextStep::CallTool(calls)),
        ReplyAction::AskAgain(instruction) => (None, None, NextStep::AskAgain(instruction)),
        ReplyAction::Block(reason) => (None, None, NextStep::Block(reason)),
    };
    Ok(Verdict { text, reasoning, next })
}

async fn decide_in_one_piece(
    processor: &dyn ResponseProcessor,
    context: &ReplyContext,
    reply: &ProcessedReply,
) -> Result<Verdict, ProcessorError> {
    let mut stage = processor.open(context, reply.choice).await?;
    let mut out = deltas_of(reply.reasoning.clone(), reply.text.clone());
    if !out.is_empty() {
        match stage.push(&out).await? {
            Pushed::Unchanged => {}
            Pushed::Deltas(deltas) => out = deltas,
            Pushed::Block(reason) => {
                return Ok(Verdict { text: None, reasoning: None, next: NextStep::Block(reason) });
            }
        }
    }
    let end = ReplyEnd {
        finish_reason: reply.finish_reason.clone(),
        tool_calls: reply.tool_calls.clone(),
        usage: reply.usage.clone(),
    };
    let finished = stage.finish(&end).await?;
    out.extend(finished.deltas);
    let all = |kind| -> String {
        out.iter().filter(|delta| delta.kind == kind).map(|delta| delta.text.as_str()).collect()
    };
    let (text, reasoning) = (all(DeltaKind::Text), all(DeltaKind::Reasoning));
    let had = reply.reasoning.as_deref().unwrap_or_default();
    Ok(Verdict {
        text: (text != reply.text).then_some(text),
        reasoning: (reasoning != had).then(|| Some(reasoning).filter(|text| !text.is_empty())),
        next: finished.next,
    })
}

/// Reasoning and text as deltas, without empty ones.
fn deltas_of(reasoning: Option<String>, text: String) -> Vec<TextDelta> {
    let parts = [(DeltaKind::Reasoning, reasoning.unwrap_or_default()), (DeltaKind::Text, text)];
    let filled = parts.into_iter().filter(|(_, text)| !text.is_empty());
    filled.map(|(kind, text)| TextDelta { kind, text }).collect()
}

/// A stage that holds its choice until it is complete and then has a processor decide about it as a whole.
pub(super) struct BufferedStage {
    pub(super) processor: Arc<dyn ResponseProcessor>,
    pub(super) context: Arc<ReplyContext>,
    pub(super) choice: u64,
    pub(super) text: String,
    pub(super) reasoning: Option<String>,
}

#[async_trait]
impl ReplyStage for BufferedStage {
    async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, ProcessorError> {
        for delta in deltas {
            match delta.kind {
                DeltaKind::Text => self.text.push_str(&delta.text),
                DeltaKind::Reasoning => self.reasoning.get_or_insert_default().push_str(&delta.text),
            }
        }
        Ok(Pushed::Deltas(Vec::new()))
    }

    async fn finish(self: Box<Self>, end: &ReplyEnd) -> Result<Finished, ProcessorError> {
        let reply = ProcessedReply {
            choice: self.choice,
            text: self.text,
            reasoning: self.reasoning,
            tool_calls: end.tool_calls.clone(),
            finish_reason: end.finish_reason.clone(),
            usage: end.usage.clone(),
            raw: None,
        };
        let verdict = decide(self.processor.as_ref(), &self.context, &reply).await?;
        let reasoning = verdict.reasoning.unwrap_or(reply.reasoning);
        Ok(Finished { deltas: deltas_of(reasoning, verdict.text.unwrap_or(reply.text)), next: verdict.next })
    }
}
