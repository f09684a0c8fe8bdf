//! One round whose reply came whole: the upstream's body, passed through untouched wherever nothing has to change.

use bytes::Bytes;
use serde_json::{Value, json};

use super::message_text::{block, reasoning_of, set_reasoning, set_text, text_of};
use super::shape::{RoundCalls, fit_reason};
use crate::domain::message::call_json;
use crate::domain::{Completion, FinishReason, ProcessedReply, ReplyContext, ToolCall, Usage};
use crate::response::{NextAfter, Processed, ProcessingError, ResponsePipeline};

/// A whole reply of one round.
pub(super) struct WholeRound {
    /// The reply; its choices are kept as processors leave them.
    completion: Completion,
    /// The body with the processors' changes; `None` while it is the upstream's own.
    body: Option<Value>,
    /// The first choice's calls in the place of its own, where a processor changed them.
    new_calls: Option<RoundCalls>,
}

impl WholeRound {
    /// Takes a reply in.
    pub(super) fn new(completion: Completion) -> Self {
        Self { completion, body: None, new_calls: None }
    }

    /// Has every choice processed, in order.
    pub(super) async fn process(
        &mut self,
        pipeline: &ResponsePipeline,
        context: &ReplyContext,
    ) -> Result<NextAfter, ProcessingError> {
        let mut body: Value = serde_json::from_slice(&self.completion.raw).unwrap_or_default();
        let mut next = NextAfter::GoOn;
        let mut changed = false;
        for position in 0..self.completion.choices.len() {
            let Some(json) = body["choices"].get_mut(position) else { break };
            let reply = self.choice_for_processors(position, &json["message"]);
            let processed = pipeline.process(context, reply).await?;
            match processed.next {
                NextAfter::AskAgain { .. } => return Ok(processed.next),
                NextAfter::Block if position == 0 => next = NextAfter::Block,
                _ => {}
            }
            changed |= self.take_over(position, json, processed);
        }
        self.body = changed.then_some(body);
        Ok(next)
    }

    fn choice_for_processors(&self, position: usize, message: &Value) -> ProcessedReply {
        let choice = &self.completion.choices[position];
        let tool_calls = if position == 0 {
            self.calls().into_iter().map(|(call, _)| call).collect()
        } else {
            choice.tool_calls.clone()
        };
        ProcessedReply {
            choice: position as u64,
            text: text_of(message),
            reasoning: message.as_object().and_then(reasoning_of).map(str::to_owned),
            tool_calls,
            finish_reason: choice.finish_reason.clone(),
            usage: self.completion.usage.clone(),
            raw: Some(self.completion.raw.clone()),
        }
    }

    /// Writes what processors made of a choice into its JSON, and tells whether that changed anything.
    fn take_over(&mut self, position: usize, json: &mut Value, processed: Processed) -> bool {
        let own_calls = if position == 0 && processed.calls_changed { self.calls() } else { Vec::new() };
        let choice = &mut self.completion.choices[position];
        if processed.next == NextAfter::Block {
            block(json);
            choice.content = Some(String::new());
            choice.refused = false;
            choice.asks_for_calls = false;
            choice.finish_reason = Some(FinishReason::ContentFilter);
            return true;
        }
        let reply = processed.reply;
        if processed.text_changed {
            set_text(json, &reply.text);
            let message = &json["message"];
            choice.refused = message["refusal"].as_str().is_some_and(|text| !text.is_empty());
            choice.content = Some(if choice.refused { String::new() } else { reply.text });
        }
        if processed.reasoning_changed {
            choice.has_reasoning = reply.reasoning.as_deref().is_some_and(|text| !text.trim().is_empty());
            set_reasoning(json, reply.reasoning.as_deref());
        }
        if processed.calls_changed {
            self.new_calls = Some(with_wires(reply.tool_calls, &own_calls));
            choice.finish_reason = reply.finish_reason;
        }
        processed.text_changed || processed.reasoning_changed
    }

    /// The first choice's text.
    pub(super) fn text(&self) -> &str {
        self.completion.choices.first().and_then(|choice| choice.content.as_deref()).unwrap_or_default()
    }

    /// The upstream's token counts.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.completion.usage.as_ref()
    }

    /// Bytes of everything the model has generated, in all choices.
    pub(super) fn generated_bytes(&self) -> usize {
        self.completion.generated_bytes()
    }

    /// True when every choice came to its own end and has nothing a client can use.
    pub(super) fn is_empty(&self) -> bool {
        self.new_calls.as_ref().is_none_or(Vec::is_empty)
            && self.completion.choices.iter().enumerate().all(|(position, choice)| {
                let has_text = choice.content.as_deref().is_some_and(|text| !text.trim().is_empty());
                // The calls of the first choice may have been taken away by a processor.
                let has_calls = position > 0 && choice.asks_for_calls;
                let has_output = has_text
                    || choice.refused
                    || choice.has_reasoning
                    || choice.has_other_output
                    || has_calls;
                !has_output && choice.finish_reason.as_ref().is_none_or(FinishReason::is_own_end)
            })
    }

    /// The calls of the first choice, typed and in wire form.
    pub(super) fn calls(&self) -> RoundCalls {
        if let Some(calls) = &self.new_calls {
            return calls.clone();
        }
        let mut typed = Vec::new();
        let mut raw = Vec::new();
        // Most replies have none, and their body need not be read a second time.
        if let Some(choice) = self.completion.choices.first().filter(|choice| choice.asks_for_calls) {
            typed.clone_from(&choice.tool_calls);
            raw = match self.message().get_mut("tool_calls").map(Value::take) {
                Some(Value::Array(calls)) => calls,
                _ => Vec::new(),
            };
        }
        // Only function calls have a typed form; custom calls are always the client's and stay as they are.
        let mut typed = typed.into_iter();
        let mut calls: RoundCalls = Vec::with_capacity(raw.len());
        for mut wire in raw {
            let call = if wire.get("function").is_some() { typed.next() } else { custom_call(&wire) };
            let Some(call) = call else { continue };
            wire["id"] = json!(call.id);
            if wire.get("function").is_some() {
                wire["type"] = json!("function");
                wire["function"]["arguments"] = json!(call.arguments);
            }
            calls.push((call, wire));
        }
        calls
    }

    /// The first choice's message as the upstream sent it, with the processors' changes.
    pub(super) fn message(&self) -> Value {
        let message = |body: &Value| body.pointer("/choices/0/message").cloned();
        let message = match &self.body {
            Some(body) => message(body),
            None => serde_json::from_slice(&self.completion.raw).ok().as_ref().and_then(message),
        };
        message.unwrap_or_else(|| json!({"role": "assistant"}))
    }

    /// The body for the client. `shown` are the calls it may see, `all` is how many there were; `usage` is the sum over
    /// all rounds. The upstream's own bytes where nothing has to change.
    pub(super) fn into_body(
        self,
        shown: &RoundCalls,
        all: usize,
        usage: Option<&Usage>,
        is_first_round: bool,
    ) -> Bytes {
        let usage_fits = self.completion.usage.is_some() && is_first_round;
        let calls_changed = self.new_calls.is_some() || shown.len() != all;
        if usage_fits && !calls_changed && self.body.is_none() {
            return self.completion.raw;
        }
        let body = self.body.or_else(|| serde_json::from_slice::<Value>(&self.completion.raw).ok());
        let Some(mut body) = body else { return self.completion.raw };
        if let Some(usage) = usage {
            body["usage"] = Value::Object(usage.0.clone());
        }
        if let Some(choice) = body.pointer_mut("/choices/0").filter(|_| calls_changed) {
            let message = &mut choice["message"];
            // Beside calls, an empty text is none.
            if self.new_calls.is_some() && message["content"] == "" {
                message["content"] = Value::Null;
            }
            if let Some(fields) = message.as_object_mut() {
                fields.shift_remove("tool_calls");
            }
            if !shown.is_empty() {
                message["tool_calls"] = shown.iter().map(|(_, wire)| wire.clone()).collect();
            }
            if self.new_calls.is_some() {
                // A processor's calls are whole, whatever became of the model's reply.
                choice["finish_reason"] = Value::Null;
            }
            fit_reason(&mut choice["finish_reason"], !shown.is_empty());
        }
        Bytes::from(body.to_string())
    }
}

/// Calls with their wire forms: those of `own` that are still the same keep what the upstream said of them.
pub(super) fn with_wires(calls: Vec<ToolCall>, own: &RoundCalls) -> RoundCalls {
    let with_wire = |call: ToolCall| {
        let wire = own.iter().find(|(known, _)| *known == call).map(|(_, wire)| wire.clone());
        let wire = wire.unwrap_or_else(|| call_json(&call));
        (call, wire)
    };
    calls.into_iter().map(with_wire).collect()
}

fn custom_call(wire: &Value) -> Option<ToolCall> {
    let id = wire.get("id")?.as_str()?.to_owned();
    let name = wire.pointer("/custom/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(ToolCall { id, name, arguments: String::new() })
}
