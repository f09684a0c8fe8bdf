//! One call of the model: its reply in either form, through the processors, as far as the turn loop needs it.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::super::shape::{RoundCalls, StagedRound, StreamRound, StreamShaper};
use super::super::spending::Spending;
use super::super::tool_run::{self, Events};
use super::super::whole::WholeRound;
use super::super::{ChatError, ReplyEvent, prompt};
use super::Turn;
use crate::domain::{CompletionRequest, RawMessage, ReplyContext, Usage};
use crate::llm::ChunkStream;
use crate::response::NextAfter;

/// A round's reply in either form.
pub(super) enum RoundReply {
    Whole(WholeRound),
    Stream(StreamRound),
}

impl Turn {
    /// Asks the model once and has its reply processed; streamed chunks reach the client while they come in.
    pub(super) async fn ask(
        &self,
        request: &CompletionRequest,
        attempt: u32,
        shaper: &mut StreamShaper,
        events: &Events,
        spending: &mut Spending,
    ) -> Result<(RoundReply, RoundCalls, NextAfter), ChatError> {
        let request_id = &self.context.request_id;
        if !request.stream {
            let completion = self.model.model.complete(request, request_id).await?;
            spending.reply_has(completion.generated_bytes());
            let mut round = WholeRound::new(completion);
            let mut next = NextAfter::GoOn;
            if !self.pipeline.is_empty() {
                let context = self.reply_context(attempt);
                next = Box::pin(round.process(&self.pipeline, &context)).await?;
            }
            let calls = round.calls();
            return Ok((RoundReply::Whole(round), calls, next));
        }
        let mut chunks = self.model.model.stream(request, request_id).await?;
        if self.pipeline.is_empty() {
            let mut round = StreamRound::default();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk?;
                round.generated_bytes += chunk.generated_bytes();
                spending.reply_has(round.generated_bytes);
                if let Some(shown) = shaper.shape(&chunk, &mut round, &self.tools) {
                    tool_run::emit(events, || ReplyEvent::Chunk(shown)).await;
                }
            }
            let (calls, held_back) = shaper.end_round(&mut round, &self.tools);
            for shown in held_back {
                tool_run::emit(events, || ReplyEvent::Chunk(shown)).await;
            }
            return Ok((RoundReply::Stream(round), calls, NextAfter::GoOn));
        }
        let (round, calls, next) =
            Box::pin(self.process_stream(chunks, request, attempt, shaper, events, spending)).await?;
        Ok((RoundReply::Stream(round), calls, next))
    }

    /// Takes a streamed reply through the processors while it comes in.
    async fn process_stream(
        &self,
        mut chunks: ChunkStream,
        request: &CompletionRequest,
        attempt: u32,
        shaper: &mut StreamShaper,
        events: &Events,
        spending: &mut Spending,
    ) -> Result<(StreamRound, RoundCalls, NextAfter), ChatError> {
        let context = self.reply_context(attempt);
        let mut staged = StagedRound::open(self.pipeline.clone(), context, request.choice_count()).await?;
        let mut round = StreamRound::default();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            round.generated_bytes += chunk.generated_bytes();
            spending.reply_has(round.generated_bytes);
            if let Some(shown) = shaper.shape_staged(&chunk, &mut round, &mut staged).await? {
                tool_run::emit(events, || ReplyEvent::Chunk(shown)).await;
            }
            if staged.is_blocked() {
                break;
            }
        }
        // The upstream need not go on with a reply that nobody will see.
        drop(chunks);
        let (calls, rest, next) = shaper.end_staged(&mut round, staged, &self.tools).await?;
        for shown in rest {
            tool_run::emit(events, || ReplyEvent::Chunk(shown)).await;
        }
        Ok((round, calls, next))
    }

    fn reply_context(&self, attempt: u32) -> Arc<ReplyContext> {
        Arc::new(ReplyContext {
            request_id: self.context.request_id.clone(),
            endpoint: Arc::clone(&self.context.endpoint),
            model: Arc::from(self.model.id.as_str()),
            session_id: self.session_id.clone(),
            principal: self.context.principal.clone(),
            attempt,
        })
    }
}

impl RoundReply {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Whole(round) => round.text(),
            Self::Stream(round) => &round.text,
        }
    }

    pub(super) fn usage(&self) -> Option<&Usage> {
        match self {
            Self::Whole(round) => round.usage(),
            Self::Stream(round) => round.usage.as_ref(),
        }
    }

    /// Bytes of everything the model has generated, in all choices.
    pub(super) fn generated_bytes(&self) -> usize {
        match self {
            Self::Whole(round) => round.generated_bytes(),
            Self::Stream(round) => round.generated_bytes,
        }
    }

    /// True when a client could do nothing with the reply, and its finish reason does not say why.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Whole(round) => round.is_empty(),
            Self::Stream(round) => round.is_empty(),
        }
    }

    /// The first choice's text as the model wrote it, where processing went no further.
    pub(super) fn original_text(&self) -> &str {
        match self {
            Self::Whole(round) => round.text(),
            Self::Stream(round) => round.original_text(),
        }
    }

    /// The reply with these calls as a message; `seen` is what the client has seen before it.
    pub(super) fn assistant_message(&self, calls: &RoundCalls, seen: &str) -> RawMessage {
        let wire: Vec<Value> = calls.iter().map(|(_, wire)| wire.clone()).collect();
        let message = match self {
            Self::Whole(round) => round.message(),
            Self::Stream(round) => {
                let mut message = json!({"role": "assistant", "content": format!("{seen}{}", round.text)});
                if !round.reasoning.is_empty() {
                    message["reasoning_content"] = json!(round.reasoning);
                }
                message
            }
        };
        prompt::assistant_message(message, &wire)
    }
}
