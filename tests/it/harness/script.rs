//! Scripted replies: what an [`Upstream`](super::Upstream) answers, down to single bytes and pauses.
//!
//! A [`Reply::text`] or [`Reply::calls`] fits itself to the request: a JSON document, or an event stream when the request
//! says `"stream": true`. Everything else is sent as written.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// One step in sending a reply.
pub(crate) enum Step {
    /// Bytes written and flushed at once.
    Bytes(Vec<u8>),
    /// A pause.
    Sleep(Duration),
    /// Silence with the connection open, until the gateway closes it.
    Hang,
    /// The connection is closed here, whatever the framing promised.
    Close,
    /// What the test sends, as it sends it; the end of the reply when it hangs up.
    Controlled(mpsc::UnboundedReceiver<Control>),
}

/// What a test does by hand in a [`Reply::controlled`] stream.
pub(crate) enum Control {
    /// One event with this data.
    Event(Value),
}

/// A reply of the upstream.
pub(crate) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

/// The body of a [`Reply`].
pub(crate) enum Body {
    /// A message that is sent whole or streamed, as the request asks.
    Message(Message),
    /// Steps; the body ends with the connection or, where `chunked`, with the last chunk.
    Steps(Vec<Step>),
    /// A body of known length.
    Whole(Vec<u8>),
    /// Not even a status line.
    Silence,
    /// Bytes instead of HTTP.
    NoHttp(Vec<u8>),
}

/// A message of the assistant.
pub(crate) struct Message {
    /// The text, in the pieces it is streamed in.
    pub(super) pieces: Vec<String>,
    /// Calls: id, name, arguments.
    pub(super) calls: Vec<Call>,
    /// Why it ended.
    pub(super) finish: String,
    /// Prompt and completion tokens.
    pub(super) usage: Option<(u64, u64)>,
    /// Fields added to the message (whole) or to the first delta (stream).
    pub(super) extra: Value,
}

/// A tool call of the assistant.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// A call of `name` with `arguments`.
pub(crate) fn call(id: &str, name: &str, arguments: &Value) -> Call {
    Call { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_string() }
}

impl Reply {
    fn new(status: u16, body: Body) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// The assistant says `text`, streamed word by word, with a usage of 5 + 2 tokens.
    pub(crate) fn text(text: &str) -> Self {
        let pieces = text.split_inclusive(' ').map(str::to_owned).collect();
        Self::message(pieces, Vec::new(), "stop")
    }

    /// The assistant calls tools, with a usage of 5 + 2 tokens.
    pub(crate) fn calls(calls: impl IntoIterator<Item = Call>) -> Self {
        Self::message(Vec::new(), calls.into_iter().collect(), "tool_calls")
    }

    fn message(pieces: Vec<String>, calls: Vec<Call>, finish: &str) -> Self {
        let finish = finish.to_owned();
        let message = Message { pieces, calls, finish, usage: Some((5, 2)), extra: json!({}) };
        Self::new(200, Body::Message(message))
    }

    /// A document of `application/json`.
    pub(crate) fn json(status: u16, document: &Value) -> Self {
        Self::new(status, Body::Whole(document.to_string().into_bytes()))
            .header("content-type", "application/json")
    }

    /// A whole body of any kind.
    pub(crate) fn raw(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, Body::Whole(body.into()))
    }

    /// An error in the API's form.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        let error = json!({"message": message, "type": "scripted_error", "param": null, "code": "scripted"});
        Self::json(status, &json!({ "error": error }))
    }

    /// A stream of events with these data, followed by `[DONE]`.
    pub(crate) fn events(events: &[Value]) -> Self {
        let mut steps: Vec<Step> = events.iter().map(|event| Step::Bytes(frame(event))).collect();
        steps.push(Step::Bytes(b"data: [DONE]\n\n".to_vec()));
        Self::steps(steps)
    }

    /// A stream sent step by step.
    pub(crate) fn steps(steps: Vec<Step>) -> Self {
        Self::new(200, Body::Steps(steps)).header("content-type", "text/event-stream")
    }

    /// A stream in the hands of the test. It ends when the sender is dropped.
    pub(crate) fn controlled() -> (Self, mpsc::UnboundedSender<Control>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self::steps(vec![Step::Controlled(receiver)]), sender)
    }

    /// The request is read, and nothing ever comes back.
    pub(crate) fn silence() -> Self {
        Self::new(200, Body::Silence)
    }

    /// Bytes that are no HTTP response.
    pub(crate) fn no_http(bytes: &[u8]) -> Self {
        Self::new(200, Body::NoHttp(bytes.to_vec()))
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds fields to the message (to the first delta when it is streamed).
    pub(crate) fn with(mut self, extra: Value) -> Self {
        self.message_mut().extra = extra;
        self
    }

    /// Says text beside the calls.
    pub(crate) fn saying(mut self, text: &str) -> Self {
        self.message_mut().pieces = text.split_inclusive(' ').map(str::to_owned).collect();
        self
    }

    /// Another usage, or none at all.
    pub(crate) fn usage(mut self, usage: Option<(u64, u64)>) -> Self {
        self.message_mut().usage = usage;
        self
    }

    fn message_mut(&mut self) -> &mut Message {
        match &mut self.body {
            Body::Message(message) => message,
            _ => panic!("only scripted messages can be changed in this way"),
        }
    }
}

impl Message {
    /// The `chat.completion` document.
    pub(super) fn document(&self, model: &str) -> Value {
        let text = self.pieces.concat();
        let content = if text.is_empty() && !self.calls.is_empty() { Value::Null } else { text.into() };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !self.calls.is_empty() {
            message["tool_calls"] = self.calls.iter().map(Call::document).collect();
        }
        merge(&mut message, &self.extra);
        let mut document = json!({
            "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_700_000_000, "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish, "logprobs": null}],
        });
        if let Some(usage) = self.usage {
            document["usage"] = usage_document(usage);
        }
        document
    }

    /// The chunks of the stream, as the API sends them.
    pub(super) fn chunks(&self, model: &str, include_usage: bool) -> Vec<Value> {
        let mut first = json!({"role": "assistant", "content": "", "refusal": null});
        if !self.calls.is_empty() && self.pieces.is_empty() {
            first["content"] = Value::Null;
        }
        merge(&mut first, &self.extra);
        let mut deltas = vec![first];
        deltas.extend(self.pieces.iter().map(|piece| json!({ "content": piece })));
        for (index, call) in self.calls.iter().enumerate() {
            deltas.extend(call.deltas(index));
        }
        let mut chunks: Vec<Value> = deltas.iter().map(|delta| chunk(model, delta, None)).collect();
        chunks.push(chunk(model, &json!({}), Some(&self.finish)));
        let Some(usage) = self.usage.filter(|_| include_usage) else { return chunks };
        chunks.iter_mut().for_each(|chunk| chunk["usage"] = Value::Null);
        let mut last = chunk(model, &json!({}), None);
        last["choices"] = json!([]);
        last["usage"] = usage_document(usage);
        chunks.push(last);
        chunks
    }
}

impl Call {
    fn document(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }

    /// The opening delta and the arguments in fragments of seven characters.
    fn deltas(&self, index: usize) -> Vec<Value> {
        let mut opening = self.document();
        opening["index"] = index.into();
        opening["function"]["arguments"] = "".into();
        let mut deltas = vec![json!({ "tool_calls": [opening] })];
        let characters: Vec<char> = self.arguments.chars().collect();
        deltas.extend(characters.chunks(7).map(|part| {
            let part: String = part.iter().collect();
            json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
        }));
        deltas
    }
}

/// A chunk with one choice.
pub(crate) fn chunk(model: &str, delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": null}],
    })
}

/// A chunk that adds text.
pub(crate) fn text_chunk(text: &str) -> Value {
    chunk("m1", &json!({ "content": text }), None)
}

/// One event.
pub(crate) fn frame(event: &Value) -> Vec<u8> {
    format!("data: {event}\n\n").into_bytes()
}

fn usage_document((prompt, completion): (u64, u64)) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

fn merge(target: &mut Value, extra: &Value) {
    for (key, value) in extra.as_object().into_iter().flatten() {
        target[key] = value.clone();
    }
}
