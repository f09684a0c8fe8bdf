//! A whole (not streamed) reply: the upstream's own bytes and the few fields the turn loop reads.
//!
//! Source: OpenAI Chat Completions, `chat.completion` object.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::tool::ToolCall;

/// Why a model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The reply is complete.
    Stop,
    /// The token limit cut it.
    Length,
    /// The model wants tools called.
    ToolCalls,
    /// A filter removed content.
    ContentFilter,
    /// Anything else, spelled as the upstream spells it (`function_call` included).
    Other(String),
}

impl FinishReason {
    /// True where a reply came to its own end; any other reason tells the client what became of it.
    #[must_use]
    pub const fn is_own_end(&self) -> bool {
        matches!(self, Self::Stop | Self::ToolCalls)
    }

    /// The wire spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for FinishReason {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            _ => Self::Other(text),
        }
    }
}

/// Token counts as the upstream reports them, unknown counters included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usage(pub Map<String, Value>);

impl Usage {
    /// A usage of `prompt` + `completion` tokens.
    #[must_use]
    pub fn of(prompt: u64, completion: u64) -> Self {
        let counts = [
            ("prompt_tokens", prompt),
            ("completion_tokens", completion),
            ("total_tokens", prompt + completion),
        ];
        Self(counts.into_iter().map(|(name, count)| (name.to_owned(), Value::from(count))).collect())
    }

    /// Adds every counter of `other`, nested details included; what is not a number is kept from the latest.
    pub fn add(&mut self, other: &Self) {
        add_counters(&mut self.0, &other.0);
    }

    /// All tokens together, also where only the parts are given.
    #[must_use]
    pub fn total(&self) -> u64 {
        let parts = self.count("prompt_tokens").saturating_add(self.count("completion_tokens"));
        parts.max(self.count("total_tokens"))
    }

    /// The counter `name`, 0 when absent.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or(0)
    }
}

fn add_counters(sum: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, value) in more {
        match (sum.get_mut(name), value) {
            (Some(Value::Object(have)), Value::Object(more)) => add_counters(have, more),
            (Some(have), Value::Number(more)) if have.is_number() => {
                let total = match (have.as_u64(), more.as_u64()) {
                    (Some(a), Some(b)) => Value::from(a.saturating_add(b)),
                    _ => Value::from(have.as_f64().unwrap_or(0.0) + more.as_f64().unwrap_or(0.0)),
                };
                *have = total;
            }
            (Some(_), Value::Null) => {}
            _ => {
                sum.insert(name.clone(), value.clone());
            }
        }
    }
}

/// One choice of a whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionChoice {
    /// Position among the choices.
    pub index: u64,
    /// The text; `None` where the upstream sent null or something that is not text.
    pub content: Option<String>,
    /// True where the message has a refusal.
    pub refused: bool,
    /// True where the message has words of reasoning, under whatever name.
    pub has_reasoning: bool,
    /// The function calls the model asked for.
    pub tool_calls: Vec<ToolCall>,
    /// True where the model asked for calls of any kind, custom ones included.
    pub asks_for_calls: bool,
    /// True where the message carries something else a client can use (audio, a legacy function call, ...).
    pub has_other_output: bool,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// Bytes of everything the model has generated here: text, reasoning, refusal and calls.
    pub generated_bytes: usize,
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The upstream's body, exactly as received.
    pub raw: Bytes,
    /// Its choices.
    pub choices: Vec<CompletionChoice>,
    /// Its token counts, if it gave any.
    pub usage: Option<Usage>,
}

#[derive(Deserialize)]
struct WireCompletion<'a> {
    #[serde(borrow)]
    choices: Vec<WireChoice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow)]
    message: WireMessage<'a>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(default, borrow)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default, borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(default, borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(default)]
    tool_calls: Option<Vec<WireToolCall>>,
    #[serde(default, borrow)]
    audio: Option<&'a RawValue>,
    #[serde(default, borrow)]
    function_call: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireToolCall {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<WireFunction>,
    #[serde(default)]
    custom: Option<Value>,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    arguments: Option<Value>,
}

impl Completion {
    /// Reads a `chat.completion` body.
    ///
    /// # Errors
    /// When the body is not JSON or has no `choices[].message`.
    pub fn parse(raw: Bytes) -> Result<Self, serde_json::Error> {
        let wire: WireCompletion<'_> = serde_json::from_slice(&raw)?;
        let usage = wire.usage;
        let choices = wire
            .choices
            .into_iter()
            .enumerate()
            .map(|(position, choice)| choice.into_domain(position))
            .collect();
        Ok(Self { raw, choices, usage })
    }

    /// Bytes of everything the model has generated, in all choices.
    #[must_use]
    pub fn generated_bytes(&self) -> usize {
        self.choices.iter().map(|choice| choice.generated_bytes).sum()
    }
}

impl WireChoice<'_> {
    fn into_domain(self, position: usize) -> CompletionChoice {
        let generated_beside = self.message.bytes_beside_content();
        let calls = self.message.tool_calls.unwrap_or_default();
        let content = self.message.content.and_then(content_text);
        CompletionChoice {
            index: self.index.unwrap_or(position as u64),
            generated_bytes: content.as_ref().map_or(0, String::len) + generated_beside,
            content,
            refused: self.message.refusal.is_some_and(|r| !r.is_empty()),
            has_reasoning: has_words(self.message.reasoning_content) || has_words(self.message.reasoning),
            has_other_output: self.message.audio.is_some() || self.message.function_call.is_some(),
            asks_for_calls: !calls.is_empty(),
            tool_calls: calls.into_iter().filter_map(WireToolCall::into_domain).collect(),
            finish_reason: self.finish_reason.map(FinishReason::from),
        }
    }
}

impl WireMessage<'_> {
    fn bytes_beside_content(&self) -> usize {
        // Some servers send the same reasoning under both names.
        let reasoning = text_bytes(self.reasoning_content).max(text_bytes(self.reasoning));
        let refusal = self.refusal.as_ref().map_or(0, String::len);
        let legacy_call = self.function_call.map_or(0, |raw| raw.get().len());
        let calls = self.tool_calls.iter().flatten().map(WireToolCall::bytes);
        reasoning + refusal + legacy_call + calls.sum::<usize>()
    }
}

impl WireToolCall {
    fn bytes(&self) -> usize {
        let json = |value: &Value| value.as_str().map_or_else(|| value.to_string().len(), str::len);
        let function = self.function.as_ref();
        function.map_or(0, |call| call.name.len() + call.arguments.as_ref().map_or(0, json))
            + self.custom.as_ref().map_or(0, json)
    }

    /// `None` for custom (non-function) tools: those are always the client's.
    fn into_domain(self) -> Option<ToolCall> {
        let function = self.function?;
        let arguments = match function.arguments {
            Some(Value::String(text)) => text,
            // Some upstreams send the arguments as an object instead of as JSON text.
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let id = self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| super::ids::random_id("call_"));
        Some(ToolCall { id, name: function.name, arguments })
    }
}

/// Bytes of the text in a `reasoning` or `refusal`.
pub(super) fn text_bytes(raw: Option<&RawValue>) -> usize {
    raw.and_then(content_text).map_or(0, |text| text.len())
}

/// Text of a `content` value: the string, or the text parts of an array joined.
pub(super) fn content_text(raw: &RawValue) -> Option<String> {
    let text = raw.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    let parts: Vec<Value> = serde_json::from_str(text).ok()?;
    Some(parts.iter().filter_map(|part| part.get("text")?.as_str()).collect())
}

/// True where a value is text with more than blanks in it.
pub(super) fn has_words(raw: Option<&RawValue>) -> bool {
    raw.and_then(content_text).is_some_and(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_calls_and_usage() {
        let body = r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,
            "tool_calls":[{"id":"c1","type":"function","function":{"name":"t","arguments":"{\"a\":1}"}}]},
            "finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":1}}}"#;
        let reply = Completion::parse(Bytes::from(body)).unwrap();
        assert_eq!(reply.choices[0].tool_calls[0].arguments, r#"{"a":1}"#);
        assert_eq!(reply.choices[0].finish_reason, Some(FinishReason::ToolCalls));
        assert_eq!(reply.usage.unwrap().count("prompt_tokens"), 3);
    }

    #[test]
    fn counts_all_that_was_generated() {
        let body = r#"{"choices":[{"message":{"content":"\u00e9","reasoning":"same","reasoning_content":"same"}},
            {"message":{"content":null,"refusal":"no","tool_calls":[{"id":"c","function":{"name":"t","arguments":"{\"a\":1}"}},
                {"id":"d","function":{"name":"t","arguments":{"a":1}}}]}}]}"#;
        let reply = Completion::parse(Bytes::from(body)).unwrap();
        let bytes: Vec<usize> = reply.choices.iter().map(|choice| choice.generated_bytes).collect();
        assert_eq!((bytes, reply.generated_bytes()), (vec![2 + 4, 2 + 8 + 8], 24));
    }

    #[test]
    fn usage_adds_nested_counters() {
        let mut sum: Usage =
            serde_json::from_str(r#"{"prompt_tokens":3,"d":{"cached":1},"x":null}"#).unwrap();
        sum.add(&serde_json::from_str(r#"{"prompt_tokens":4,"d":{"cached":2,"new":5},"x":1}"#).unwrap());
        assert_eq!(
            serde_json::to_string(&sum).unwrap(),
            r#"{"prompt_tokens":7,"d":{"cached":3,"new":5},"x":1}"#
        );
    }
}
