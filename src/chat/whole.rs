//! One round whose reply came whole: the upstream's body, passed through untouched wherever nothing has to change.

use bytes::Bytes;
use serde_json::{Value, json};

use super::shape::RoundCalls;
use crate::domain::message::call_json;
use crate::domain::{Completion, ToolCall, Usage};
use crate::response::TextCallDetector;

/// A whole reply of one round.
pub(super) struct WholeRound {
    completion: Completion,
    /// The first choice's text as the client may see it.
    text: String,
    /// Calls found in the text.
    text_calls: Vec<ToolCall>,
    looked_for_text_calls: bool,
}

impl WholeRound {
    /// Takes a reply in; with a detector, calls are looked for in its text.
    pub(super) fn new(completion: Completion, detector: Option<TextCallDetector>) -> Self {
        let said = completion.choices.first().and_then(|choice| choice.content.clone()).unwrap_or_default();
        let looked_for_text_calls = detector.is_some();
        let (text, text_calls) = match detector {
            Some(mut detector) => {
                let mut text = detector.push(&said);
                let (rest, calls) = detector.finish();
                text.push_str(&rest);
                (text, calls)
            }
            None => (said, Vec::new()),
        };
        Self { completion, text, text_calls, looked_for_text_calls }
    }

    /// The first choice's text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The upstream's token counts.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.completion.usage.as_ref()
    }

    /// True when no choice has anything a client can use.
    pub(super) fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
            && self.text_calls.is_empty()
            && self.completion.choices.iter().all(|choice| {
                let has_text =
                    choice.index > 0 && choice.content.as_deref().is_some_and(|text| !text.trim().is_empty());
                !has_text && !choice.refused && !choice.has_other_output
            })
    }

    /// The calls of the first choice, typed and in wire form.
    pub(super) fn calls(&self) -> RoundCalls {
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
        calls.extend(self.text_calls.iter().map(|call| (call.clone(), call_json(call))));
        calls
    }

    /// The first choice's message as the upstream sent it.
    pub(super) fn message(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.completion.raw).unwrap_or_default();
        let mut message =
            body.pointer("/choices/0/message").cloned().unwrap_or_else(|| json!({"role": "assistant"}));
        if self.looked_for_text_calls {
            message["content"] = json!(self.text);
        }
        message
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
        let text_changed = !self.text_calls.is_empty();
        let usage_fits = self.completion.usage.is_some() && is_first_round;
        if usage_fits && shown.len() == all && !text_changed {
            return self.completion.raw;
        }
        let Ok(mut body) = serde_json::from_slice::<Value>(&self.completion.raw) else {
            return self.completion.raw;
        };
        if let Some(usage) = usage {
            body["usage"] = Value::Object(usage.0.clone());
        }
        if let Some(choice) = body.pointer_mut("/choices/0").filter(|_| shown.len() != all || text_changed) {
            let message = &mut choice["message"];
            if text_changed {
                message["content"] = if self.text.is_empty() { Value::Null } else { json!(self.text) };
            }
            if let Some(fields) = message.as_object_mut() {
                fields.shift_remove("tool_calls");
            }
            if shown.is_empty() {
                choice["finish_reason"] = json!("stop");
            } else {
                message["tool_calls"] = shown.iter().map(|(_, wire)| wire.clone()).collect();
                choice["finish_reason"] = json!("tool_calls");
            }
        }
        Bytes::from(body.to_string())
    }
}

fn custom_call(wire: &Value) -> Option<ToolCall> {
    let id = wire.get("id")?.as_str()?.to_owned();
    let name = wire.pointer("/custom/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(ToolCall { id, name, arguments: String::new() })
}
