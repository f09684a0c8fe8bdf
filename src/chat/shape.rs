//! Shapes the chunks of all rounds into the one stream a client sees.
//!
//! Promises: one id, created and model; one role per choice; the gateway's own calls never appear; one finish reason
//! per choice, at the very end; one usage, summed, only if asked for. A chunk that already fits is forwarded as it came.
//! Replies that are processed while they come in take the way of `shape/staged.rs`.

mod staged;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::ReplyChunk;
use super::call_buffer::CallBuffer;
use super::toolset::ToolSet;
use crate::domain::chunk::Envelope;
use crate::domain::{ChoiceDelta, Chunk, FinishReason, ToolCall, Usage, ids};
pub(super) use staged::StagedRound;

/// The client's view of a streamed reply, across rounds.
pub(super) struct StreamShaper {
    model: String,
    include_usage: bool,
    envelope: Option<Envelope>,
    roles_sent: Vec<u64>,
    /// How many calls the client has been shown, by choice.
    calls_shown: BTreeMap<u64, u64>,
    /// Text of the first choice the client has seen in the whole turn.
    text: String,
}

/// What one round has produced so far.
#[derive(Default)]
pub(super) struct StreamRound {
    /// The calls by choice.
    calls: BTreeMap<u64, CallBuffer>,
    /// Text of the first choice as the model wrote it, where processors may have changed it.
    original: Option<String>,
    /// The chunks with a finish reason, by choice, kept until it is known whether they are the last.
    finishes: BTreeMap<u64, Value>,
    /// Text of the first choice in this round, as the client sees it.
    pub(super) text: String,
    /// Reasoning of the first choice in this round, as the client sees it.
    pub(super) reasoning: String,
    /// Bytes of everything the model has generated in this round, in all choices.
    pub(super) generated_bytes: usize,
    /// Tokens of this round.
    pub(super) usage: Option<Usage>,
    /// True once the client was shown anything it can use of any choice.
    has_output: bool,
}

/// A round's calls: typed, and as they go into the assistant message.
pub(super) type RoundCalls = Vec<(ToolCall, Value)>;

impl StreamRound {
    /// True when every choice came to its own end and the client was shown nothing it can use: the reply can be asked
    /// for again without a trace.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_output
            && self.finishes.values().all(|last| is_own_end(&last["choices"][0]["finish_reason"]))
    }

    fn note_output(&mut self, text: &str) {
        self.has_output |= !text.trim().is_empty();
    }

    /// Takes the finish reason out of a choice of a chunk and keeps it as a chunk of its own.
    fn keep_finish(&mut self, chunk: &Value, choice: &mut Value, index: u64) {
        let reason = choice.get_mut("finish_reason").filter(|reason| !reason.is_null()).map(Value::take);
        let Some(reason) = reason else { return };
        let mut last = choice.clone();
        // What goes on with the delta is not told again.
        if has_delta(choice) && last.get("logprobs").is_some() {
            last["logprobs"] = Value::Null;
        }
        last["delta"] = json!({});
        last["finish_reason"] = reason;
        let mut finish = chunk.clone();
        finish["choices"] = json!([last]);
        self.finishes.insert(index, finish);
    }

    /// Text of the first choice as the model wrote it.
    pub(super) fn original_text(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.text)
    }
}

impl StreamShaper {
    /// A shaper for a reply of `model`.
    pub(super) fn new(model: &str, include_usage: bool) -> Self {
        Self {
            model: model.to_owned(),
            include_usage,
            envelope: None,
            roles_sent: Vec::new(),
            calls_shown: BTreeMap::new(),
            text: String::new(),
        }
    }

    /// The text of the first choice that the client has seen.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Takes an upstream chunk into `round` and returns what the client sees of it, if anything.
    pub(super) fn shape(
        &mut self,
        chunk: &Chunk,
        round: &mut StreamRound,
        tools: &ToolSet,
    ) -> Option<ReplyChunk> {
        self.adopt_envelope(chunk);
        if let Some(usage) = &chunk.usage {
            round.usage = Some(usage.clone());
        }
        for choice in &chunk.choices {
            round.has_output |= choice.has_other_output || choice.has_reasoning;
            round.note_output(choice.content.as_deref().unwrap_or_default());
            if let (0, Some(reasoning)) = (choice.index, &choice.reasoning) {
                round.reasoning.push_str(reasoning);
            }
        }
        if self.fits(chunk) {
            let text = chunk.choices.iter().find(|c| c.index == 0).and_then(|c| c.content.clone());
            if let Some(text) = &text {
                round.text.push_str(text);
                self.text.push_str(text);
            }
            let envelope = self.envelope.as_ref()?;
            return Some(ReplyChunk { json: chunk.with_envelope(envelope), text });
        }
        self.rewrite(chunk, round, tools)
    }

    /// True for a chunk that can be forwarded as it came.
    fn fits(&self, chunk: &Chunk) -> bool {
        chunk.usage.is_none()
            && chunk.choices.iter().all(|choice| {
                choice.tool_calls.is_empty()
                    && choice.finish_reason.is_none()
                    && !choice.has_role
                    && self.roles_sent.contains(&choice.index)
            })
    }

    fn adopt_envelope(&mut self, chunk: &Chunk) {
        if self.envelope.is_none() {
            let [id, created, model] = chunk.envelope();
            let filled = |value: &Bytes| !matches!(&value[..], b"\"\"" | b"null" | b"0");
            self.envelope = Some(Envelope {
                id: id.filter(filled).unwrap_or_else(|| quoted(&ids::random_id("chatcmpl-"))),
                created: created.filter(filled).unwrap_or_else(|| Bytes::from(unix_seconds().to_string())),
                model: model.filter(filled).unwrap_or_else(|| quoted(&self.model)),
            });
        }
    }

    fn rewrite(&mut self, chunk: &Chunk, round: &mut StreamRound, tools: &ToolSet) -> Option<ReplyChunk> {
        let mut value: Value = serde_json::from_slice(&chunk.raw).ok()?;
        self.set_usage_key(&mut value);
        let mut shown_text = None;
        let mut shown = Vec::new();
        let choices =
            value.get_mut("choices").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        let had_choices = !choices.is_empty();
        for (mut json, choice) in choices.into_iter().zip(&chunk.choices) {
            let text = self.rewrite_choice(&mut json, choice, round, tools);
            round.keep_finish(&value, &mut json, choice.index);
            if choice.index == 0 {
                shown_text = text;
            }
            if has_delta(&json) {
                shown.push(json);
            }
        }
        // A chunk that only carried usage, or that has nothing left for the client, is not sent.
        if shown.is_empty() && (had_choices || chunk.usage.is_some()) {
            return None;
        }
        value["choices"] = Value::from(shown);
        Some(self.chunk_of(value, shown_text))
    }

    /// Rewrites one choice in place and returns the text the client sees of it.
    fn rewrite_choice(
        &mut self,
        json: &mut Value,
        choice: &ChoiceDelta,
        round: &mut StreamRound,
        tools: &ToolSet,
    ) -> Option<String> {
        let delta = json.get_mut("delta").and_then(Value::as_object_mut)?;
        self.fit_role(delta, choice.index);
        if let Some(Value::Array(raw)) = delta.shift_remove("tool_calls") {
            let next_index = self.calls_shown.entry(choice.index).or_default();
            let calls = round.calls.entry(choice.index).or_default();
            let shown = calls.push(&choice.tool_calls, &raw, tools, next_index);
            if !shown.is_empty() {
                round.has_output = true;
                delta.insert("tool_calls".to_owned(), Value::from(shown));
            }
        }
        let text = choice.content.clone();
        if choice.index == 0
            && let Some(text) = &text
        {
            round.text.push_str(text);
            self.text.push_str(text);
        }
        text
    }

    /// One role per choice, on its first delta.
    fn fit_role(&mut self, delta: &mut Map<String, Value>, choice: u64) {
        if self.roles_sent.contains(&choice) {
            delta.shift_remove("role");
        } else if !delta.is_empty() {
            delta.shift_remove("role");
            delta.shift_insert(0, "role".to_owned(), json!("assistant"));
            self.roles_sent.push(choice);
        }
    }

    /// Ends a round: the first choice's calls, and chunks with those of the client's that had been held back.
    pub(super) fn end_round(
        &mut self,
        round: &mut StreamRound,
        tools: &ToolSet,
    ) -> (RoundCalls, Vec<ReplyChunk>) {
        let mut first_calls = Vec::new();
        let mut shown = Vec::new();
        for (index, mut calls) in std::mem::take(&mut round.calls) {
            let late = calls.finish(tools, self.calls_shown.entry(index).or_default());
            if !late.is_empty() {
                round.has_output = true;
                let delta = Map::from_iter([("tool_calls".to_owned(), Value::from(late))]);
                let chunk = self.bare_chunk(index, delta, &Value::Null);
                shown.push(self.chunk_of(chunk, None));
            }
            if index == 0 {
                first_calls = calls.into_calls();
            }
        }
        (first_calls, shown)
    }

    /// The last chunks of the reply: a finish reason per choice, then the usage if the client wants it.
    pub(super) fn finish(&mut self, round: StreamRound, usage: Option<&Usage>) -> Vec<ReplyChunk> {
        let mut out = Vec::new();
        let mut finishes = round.finishes;
        if finishes.is_empty() {
            finishes.insert(0, self.bare_chunk(0, Map::new(), &json!("stop")));
        }
        for (index, mut value) in finishes {
            // A choice that nothing was seen of is a message all the same.
            if !self.roles_sent.contains(&index) {
                let mut delta = Map::from_iter([("content".to_owned(), json!(""))]);
                self.fit_role(&mut delta, index);
                value["choices"][0]["delta"] = Value::Object(delta);
            }
            let calls_shown = self.calls_shown.get(&index).is_some_and(|count| *count > 0);
            fit_reason(&mut value["choices"][0]["finish_reason"], calls_shown);
            out.push(self.chunk_of(value, None));
        }
        if let (true, Some(usage)) = (self.include_usage, usage) {
            let mut value = self.bare_chunk(0, Map::new(), &Value::Null);
            value["choices"] = json!([]);
            value["usage"] = Value::Object(usage.0.clone());
            out.push(self.chunk_of(value, None));
        }
        out
    }

    fn bare_chunk(&mut self, choice: u64, mut delta: Map<String, Value>, reason: &Value) -> Value {
        self.fit_role(&mut delta, choice);
        let mut value = json!({"id": "", "object": "chat.completion.chunk", "created": 0, "model": "",
            "choices": [{"index": choice, "delta": delta, "logprobs": null, "finish_reason": reason}]});
        self.set_usage_key(&mut value);
        value
    }

    /// `usage` is null on every chunk but the last when the client wants usage, and absent otherwise.
    fn set_usage_key(&self, value: &mut Value) {
        let Some(fields) = value.as_object_mut() else { return };
        if self.include_usage {
            fields.insert("usage".to_owned(), Value::Null);
        } else {
            fields.shift_remove("usage");
        }
    }

    fn chunk_of(&self, mut value: Value, text: Option<String>) -> ReplyChunk {
        if let (Some(envelope), Some(fields)) = (&self.envelope, value.as_object_mut()) {
            for (name, json) in
                [("id", &envelope.id), ("created", &envelope.created), ("model", &envelope.model)]
            {
                fields.insert(name.to_owned(), serde_json::from_slice(json).unwrap_or(Value::Null));
            }
        }
        ReplyChunk { json: Bytes::from(value.to_string()), text }
    }
}

/// Makes a finish reason tell of the calls that the client sees, and of no others. A reason that tells of a cut or
/// filtered reply stays: what the client sees may not be whole.
pub(super) fn fit_reason(reason: &mut Value, calls_shown: bool) {
    if is_own_end(reason) {
        *reason = json!(if calls_shown { "tool_calls" } else { "stop" });
    }
}

fn is_own_end(reason: &Value) -> bool {
    reason.as_str().is_none_or(|reason| FinishReason::from(reason.to_owned()).is_own_end())
}

fn has_delta(choice: &Value) -> bool {
    choice.get("delta").and_then(Value::as_object).is_some_and(|delta| !delta.is_empty())
}

fn quoted(text: &str) -> Bytes {
    Bytes::from(Value::from(text).to_string())
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
