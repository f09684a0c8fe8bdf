//! The built-in demo model: what answers while no language model is configured.
//!
//! It is a small program and says so. It works offline, gives the same words for the same conversation, and uses the
//! tools it is offered as a model would: it reads `messages` and `tools` and answers with the API's own bodies and
//! chunks, so that nothing above it can tell it from an upstream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use self::dialogue::Reply;
use super::registry::settings;
use super::{ChatModel, ChunkStream, Config, ModelError, ModelInfo, ResolvedModel, ToolMode};
use crate::domain::ids::random_id;
use crate::domain::{Chunk, Completion, CompletionRequest, FinishReason, RequestId};

mod arguments;
mod choose;
mod dialogue;
mod words;

/// The id clients know it by.
const ID: &str = "demo";

/// The demo model.
#[derive(Debug)]
pub(super) struct DemoModel {
    word_delay: Duration,
}

impl DemoModel {
    /// The demo model with the settings that `config` has for it.
    pub(super) fn resolved(config: &Config) -> ResolvedModel {
        let model = Self { word_delay: Duration::from_millis(config.demo_word_delay_ms) };
        let (tool_mode, tools) = settings(config, ID, ToolMode::Native);
        let own_ids = std::sync::Arc::from([ID.to_owned()]);
        ResolvedModel { id: ID.to_owned(), own_ids, tool_mode, tools, model: std::sync::Arc::new(model) }
    }

    /// Its entry in `/v1/models`.
    pub(super) fn info() -> ModelInfo {
        let own_ids = std::sync::Arc::default();
        ModelInfo { id: ID.to_owned(), object: "model", created: 0, owned_by: "witgate".to_owned(), own_ids }
    }
}

#[async_trait]
impl ChatModel for DemoModel {
    async fn complete(
        &self,
        request: &CompletionRequest,
        _request_id: &RequestId,
    ) -> Result<Completion, ModelError> {
        let reply = Wire::new(request);
        Completion::parse(reply.body()).map_err(|error| own_fault(&error))
    }

    async fn stream(
        &self,
        request: &CompletionRequest,
        _request_id: &RequestId,
    ) -> Result<ChunkStream, ModelError> {
        let chunks = Wire::new(request).chunks(request.include_usage());
        let chunks: Result<Vec<Chunk>, _> = chunks.into_iter().map(Chunk::parse).collect();
        let chunks = chunks.map_err(|error| own_fault(&error))?.into_iter();
        let delay = self.word_delay;
        Ok(Box::pin(stream::unfold((chunks, false), move |(mut chunks, pause)| async move {
            let chunk = chunks.next()?;
            let is_word =
                chunk.choices.iter().any(|c| c.content.as_deref().is_some_and(|text| !text.is_empty()));
            if is_word && pause && !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Some((Ok(chunk), (chunks, is_word)))
        })))
    }
}

fn own_fault(error: &serde_json::Error) -> ModelError {
    ModelError::upstream(format!("the demo model made a reply that cannot be read: {error}"))
}

/// A reply on its way to the API's form.
struct Wire {
    id: String,
    created: u64,
    text: Option<String>,
    /// Tool calls with their ids.
    calls: Vec<(String, dialogue::Call)>,
    finish_reason: FinishReason,
    usage: Value,
}

impl Wire {
    fn new(request: &CompletionRequest) -> Self {
        let reply = dialogue::answer(request);
        let (text, cut) = shorten(&reply.text, token_limit(request));
        let finish_reason = match (reply.calls.is_empty(), cut) {
            (false, _) => FinishReason::ToolCalls,
            (true, true) => FinishReason::Length,
            (true, false) => FinishReason::Stop,
        };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let usage = usage(request, text, &reply);
        let text = (!text.is_empty()).then(|| text.to_owned());
        let calls = reply.calls.into_iter().map(|call| (random_id("call_"), call)).collect();
        Self { id: random_id("chatcmpl-"), created, text, calls, finish_reason, usage }
    }

    fn body(&self) -> Bytes {
        let mut message = json!({"role": "assistant", "content": self.text, "refusal": null});
        if !self.calls.is_empty() {
            let call = |(id, call): &(String, dialogue::Call)| json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason.as_str()});
        let body = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": ID,
            "choices": [choice], "usage": self.usage,
        });
        Bytes::from(body.to_string())
    }

    fn chunks(&self, include_usage: bool) -> Vec<Bytes> {
        let chunk = |choices: Value, usage: &Value| {
            let mut chunk = json!({
                "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": ID, "choices": choices,
            });
            if include_usage {
                chunk["usage"] = usage.clone();
            }
            Bytes::from(chunk.to_string())
        };
        let part = |delta: Value, reason: Option<&str>| {
            chunk(
                json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]),
                &Value::Null,
            )
        };
        let content = if self.calls.is_empty() { json!("") } else { Value::Null };
        let mut chunks = vec![part(json!({"role": "assistant", "content": content}), None)];
        let words = self.text.iter().flat_map(|text| text.split_inclusive(char::is_whitespace));
        chunks.extend(words.map(|word| part(json!({"content": word}), None)));
        for (index, (id, call)) in self.calls.iter().enumerate() {
            let function = json!({"name": call.name, "arguments": ""});
            let head = json!({"index": index, "id": id, "type": "function", "function": function});
            chunks.push(part(json!({"tool_calls": [head]}), None));
            for fragment in fragments(&call.arguments) {
                let tail = json!({"index": index, "function": {"arguments": fragment}});
                chunks.push(part(json!({"tool_calls": [tail]}), None));
            }
        }
        chunks.push(part(json!({}), Some(self.finish_reason.as_str())));
        if include_usage {
            chunks.push(chunk(json!([]), &self.usage));
        }
        chunks
    }
}

/// The text in pieces of about the size of a token.
fn fragments(text: &str) -> Vec<&str> {
    const CHARS: usize = 8;
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).step_by(CHARS).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

/// The most words the client wants; a word counts as a token here.
fn token_limit(request: &CompletionRequest) -> Option<usize> {
    let limit = |key| request.field(key).and_then(|raw| serde_json::from_slice::<usize>(raw).ok());
    limit("max_completion_tokens").or_else(|| limit("max_tokens"))
}

/// The first `limit` words of `text`, and whether that is less than all.
fn shorten(text: &str, limit: Option<usize>) -> (&str, bool) {
    let end = limit.and_then(|limit| {
        let ends = text.split_inclusive(char::is_whitespace).scan(0, |at, word| {
            *at += word.len();
            Some(*at)
        });
        ends.enumerate().find(|(position, _)| position + 1 == limit.max(1)).map(|(_, end)| end)
    });
    match end {
        Some(end) if end < text.len() => (text[..end].trim_end(), true),
        _ => (text, false),
    }
}

fn usage(request: &CompletionRequest, text: &str, reply: &Reply) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let prompt: usize =
        request.messages.iter().filter_map(|m| Some(words(&m.head().ok()?.text()))).sum::<usize>().max(1);
    let calls: usize = reply.calls.iter().map(|call| 1 + words(&call.arguments)).sum();
    let completion = words(text) + calls;
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

#[cfg(test)]
mod tests;
