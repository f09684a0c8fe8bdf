//! The turn loop: ask the model, run the gateway's calls, ask again, until there is an answer for the client.
//!
//! One loop for whole and streamed replies; they differ only in how a round's reply comes in ([`RoundReply`]) and how
//! the end is told. The turn is one future: dropping it cancels the upstream request, all processors and running tools.

mod ask;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use self::ask::RoundReply;
use super::shape::{RoundCalls, StreamShaper};
use super::spending::Spending;
use super::tool_run::{self, Events, PendingCall};
use super::toolset::{Owner, ToolSet};
use super::{ChatError, ChatErrorKind, ReplyEvent, TurnContext, prompt, tokens};
use crate::chat::engine::EngineParts;
use crate::domain::{CompletionRequest, RawMessage, SessionId, ToolCall, ToolResult, Usage};
use crate::llm::{ResolvedModel, ToolMode};
use crate::response::{NextAfter, ResponsePipeline};

/// What a stored conversation has in the place of a blocked answer of which the client has seen nothing.
const BLOCKED_NOTE: &str = "(This answer was removed by a filter.)";

/// The same for an answer that ended before its first word.
const EMPTY_NOTE: &str = "(This answer has no text.)";

/// One turn, ready to run.
pub(super) struct Turn {
    pub(super) parts: EngineParts,
    pub(super) model: ResolvedModel,
    pub(super) request: CompletionRequest,
    /// The conversation as the client sent it, before anything was put back.
    pub(super) client_messages: Vec<RawMessage>,
    pub(super) tools: ToolSet,
    /// The processors of this turn's replies.
    pub(super) pipeline: ResponsePipeline,
    pub(super) context: TurnContext,
    pub(super) session_id: Option<SessionId>,
}

/// What a finished turn leaves behind.
pub(super) struct TurnOutcome {
    /// The `chat.completion` body, for whole replies.
    pub(super) body: Bytes,
    /// Text of the first choice that the client has seen.
    pub(super) text: String,
    /// Tokens of all rounds.
    pub(super) usage: Option<Usage>,
    /// The messages the turn adds to a stored conversation: calls, results, and the answer; the answer is left out
    /// where there is no session.
    pub(super) messages: Vec<RawMessage>,
}

/// What the model's replies so far have added up to.
#[derive(Default)]
struct Progress {
    /// Rounds of tool calls; a reply that is asked for again does not count.
    rounds: u32,
    /// Calls of the model.
    attempts: u32,
    empty_replies: u32,
    asked_again: u32,
    /// True where a processor has ended the turn.
    is_blocked: bool,
    /// What the client has seen of replies that were asked for again, until it is part of a stored message.
    seen: String,
    usage: Option<Usage>,
    messages: Vec<RawMessage>,
    tools_ran: bool,
    spending: Spending,
}

impl Turn {
    /// Runs the turn; events go to `events` where the reply is streamed.
    pub(super) async fn run(self, events: Events) -> Result<TurnOutcome, ChatError> {
        let limit_ms = self.parts.config.turn_timeout_ms;
        let spending = Spending::of(&self.context.access);
        let mut progress = Progress { spending, ..Progress::default() };
        let outcome =
            tokio::time::timeout(Duration::from_millis(limit_ms), self.rounds(&events, &mut progress)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(ChatErrorKind::TurnTimeout(limit_ms).into()));
        outcome.map_err(|error| ChatError { tools_ran: progress.tools_ran, ..error })
    }

    async fn rounds(mut self, events: &Events, progress: &mut Progress) -> Result<TurnOutcome, ChatError> {
        let mut shaper = StreamShaper::new(&self.model.id, self.request.include_usage());
        let max_rounds = self.parts.config.max_tool_rounds.max(1);
        loop {
            progress.rounds += 1;
            let last = progress.rounds >= max_rounds;
            let mut request = self.round_request(progress.rounds, last);
            if progress.spending.is_counted() {
                request.ask_for_usage();
            }
            progress.attempts += 1;
            progress.spending.begin(&request);
            let asked =
                self.ask(&request, progress.attempts, &mut shaper, events, &mut progress.spending).await;
            let (reply, calls, next) = asked.inspect_err(|_| progress.spending.fail())?;
            self.add_usage(&request, &reply, &calls, progress).await;
            match next {
                NextAfter::GoOn => {}
                NextAfter::Block => {
                    progress.is_blocked = true;
                    return Ok(self.finish(reply, &calls, shaper, events, progress).await);
                }
                NextAfter::AskAgain { plugin, instruction } => {
                    self.ask_again(&reply, plugin, &instruction, progress)?;
                    continue;
                }
            }
            let (ours, clients) = self.split(&calls);
            if last && !ours.is_empty() && reply.text().is_empty() {
                return Err(ChatErrorKind::RoundLimit(max_rounds).into());
            }
            if ours.is_empty() || last {
                if clients.is_empty() && reply.is_empty() {
                    self.count_empty_reply(progress)?;
                    continue;
                }
                self.hide(&reply, &clients, &[], progress);
                return Ok(self.finish(reply, &calls, shaper, events, progress).await);
            }
            progress.tools_ran |= ours.iter().any(|pending| pending.may_have_side_effects());
            let results = tool_run::run(
                &self.parts.toolbox,
                ours,
                &self.context,
                self.session_id.as_ref(),
                self.parts.config.max_parallel_tools,
                events,
            )
            .await;
            if !clients.is_empty() {
                self.hide(&reply, &calls, &results, progress);
                return Ok(self.finish(reply, &calls, shaper, events, progress).await);
            }
            self.go_on(&reply, &calls, &results, progress);
        }
    }

    /// The request of one round.
    fn round_request(&self, round: u32, last: bool) -> CompletionRequest {
        let mut request = self.request.clone();
        if self.tools.gateway_is_empty() {
            if self.model.tool_mode == ToolMode::Text {
                prompt::lower_to_text(&mut request);
            }
            return request;
        }
        request.tools = self.tools.entries();
        if last {
            request.tool_choice = Some(Bytes::from_static(b"\"none\""));
        } else if round > 1 {
            // A forced choice was for the first round; kept, it would make the model call tools forever.
            request.tool_choice = request.tool_choice.filter(|choice| choice[..] == *b"\"auto\"");
        }
        if self.model.tool_mode == ToolMode::Text {
            if last {
                request.tools.clear();
            }
            prompt::lower_to_text(&mut request);
        }
        request
    }

    /// Adds a reply and what is wrong with it to the conversation. The model reads its own words, and the instruction
    /// as the user's, which every chat template takes after them; neither is stored.
    fn ask_again(
        &mut self,
        reply: &RoundReply,
        plugin: String,
        instruction: &str,
        progress: &mut Progress,
    ) -> Result<(), ChatError> {
        let limit = self.parts.config.max_ask_again;
        progress.asked_again += 1;
        if progress.asked_again > limit {
            return Err(ChatErrorKind::AskAgainLimit { plugin, limit }.into());
        }
        let said = reply.original_text();
        if !said.trim().is_empty() {
            self.request.messages.push(RawMessage::assistant(said));
        }
        self.request.messages.push(RawMessage::user(instruction));
        if let RoundReply::Stream(round) = reply {
            progress.seen.push_str(&round.text);
        }
        progress.rounds -= 1;
        Ok(())
    }

    async fn add_usage(
        &self,
        request: &CompletionRequest,
        reply: &RoundReply,
        calls: &RoundCalls,
        progress: &mut Progress,
    ) {
        // A stream that was not asked for usage need not have any.
        let wanted = !request.stream || request.include_usage();
        let round = match reply.usage() {
            Some(usage) => usage.clone(),
            None if wanted => {
                let mut text = reply.original_text().to_owned();
                calls.iter().for_each(|(call, _)| text.push_str(&call.arguments));
                tokens::estimate(&request.messages, &text, reply.generated_bytes()).await
            }
            None => return,
        };
        progress.spending.settle(&round);
        match &mut progress.usage {
            Some(sum) => sum.add(&round),
            None => progress.usage = Some(round),
        }
    }

    /// The gateway's calls, and the client's.
    fn split(&self, calls: &RoundCalls) -> (Vec<PendingCall>, RoundCalls) {
        let (mut ours, mut clients) = (Vec::new(), Vec::new());
        for (call, wire) in calls {
            match self.tools.owner_of(call, wire) {
                Owner::Client => clients.push((call.clone(), wire.clone())),
                Owner::Gateway(tool) => ours.push(PendingCall { call: call.clone(), tool: Some(tool) }),
                Owner::Nobody => ours.push(PendingCall { call: call.clone(), tool: None }),
            }
        }
        (ours, clients)
    }

    fn count_empty_reply(&self, progress: &mut Progress) -> Result<(), ChatError> {
        progress.empty_replies += 1;
        if progress.empty_replies > self.parts.config.empty_reply_retries {
            return Err(ChatErrorKind::EmptyReply(progress.empty_replies).into());
        }
        tracing::warn!(request_id = %self.context.request_id, model = %self.model.id, "empty reply; asking again");
        progress.rounds -= 1;
        Ok(())
    }

    /// Adds calls and results to the conversation for the next round.
    fn go_on(
        &mut self,
        reply: &RoundReply,
        calls: &RoundCalls,
        results: &[(ToolCall, ToolResult)],
        progress: &mut Progress,
    ) {
        let message = reply.assistant_message(calls, "");
        let stored = match progress.seen.is_empty() {
            true => message.clone(),
            false => reply.assistant_message(calls, &std::mem::take(&mut progress.seen)),
        };
        let results = prompt::result_messages(results, self.parts.config.tool_images);
        self.request.messages.push(message);
        self.request.messages.extend(results.iter().cloned());
        progress.messages.push(stored);
        progress.messages.extend(results);
    }

    /// Remembers what a turn that ends with calls of the client hides from it, for when it comes back: earlier rounds,
    /// and those of the last reply's `calls` that are the gateway's, with their `results`.
    fn hide(
        &self,
        reply: &RoundReply,
        calls: &RoundCalls,
        results: &[(ToolCall, ToolResult)],
        progress: &Progress,
    ) {
        let (_, clients) = self.split(calls);
        if clients.is_empty() || (progress.messages.is_empty() && results.is_empty()) {
            return;
        }
        let ids: Vec<String> = clients.into_iter().map(|(call, _)| call.id).collect();
        let mut messages = progress.messages.clone();
        messages.push(reply.assistant_message(calls, ""));
        // Images would have to follow the client's results, whose place is not known yet.
        messages.extend(prompt::result_messages(results, false));
        self.parts.hidden_calls.remember(&self.context.principal, &self.client_messages, &ids, messages);
    }

    async fn finish(
        self,
        reply: RoundReply,
        calls: &RoundCalls,
        mut shaper: StreamShaper,
        events: &Events,
        progress: &mut Progress,
    ) -> TurnOutcome {
        let is_clients =
            |(call, wire): &&(ToolCall, Value)| matches!(self.tools.owner_of(call, wire), Owner::Client);
        let shown: RoundCalls = calls.iter().filter(is_clients).cloned().collect();
        let mut messages = std::mem::take(&mut progress.messages);
        // Only a stored conversation reads the answer as a message.
        if self.session_id.is_some() {
            let text = format!("{}{}", progress.seen, reply.text());
            messages.push(if shown.is_empty() {
                // Some upstreams refuse a history with an empty answer.
                RawMessage::assistant(match (text.is_empty(), progress.is_blocked) {
                    (true, true) => BLOCKED_NOTE,
                    (true, false) => EMPTY_NOTE,
                    (false, _) => &text,
                })
            } else {
                reply.assistant_message(&shown, &progress.seen)
            });
        }
        let usage = progress.usage.take();
        let (body, text) = match reply {
            RoundReply::Whole(round) => {
                let is_first = progress.attempts == 1;
                let text = round.text().to_owned();
                (round.into_body(&shown, calls.len(), usage.as_ref(), is_first), text)
            }
            RoundReply::Stream(round) => {
                for chunk in shaper.finish(round, usage.as_ref()) {
                    tool_run::emit(events, || ReplyEvent::Chunk(chunk)).await;
                }
                (Bytes::new(), shaper.into_text())
            }
        };
        TurnOutcome { body, text, usage, messages }
    }
}

impl PendingCall {
    fn may_have_side_effects(&self) -> bool {
        self.tool.as_ref().is_some_and(|tool| tool.definition.annotations.read_only_hint != Some(true))
    }
}
