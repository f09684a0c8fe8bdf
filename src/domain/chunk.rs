//! One chunk of a streamed reply: the upstream's own bytes, read once, with the few fields the turn loop acts upon.
//!
//! Source: OpenAI Chat Completions, `chat.completion.chunk` object. A chunk that needs no change is forwarded as it
//! came; one whose `id`, `created` or `model` differ is spliced, not re-serialised.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::reply::{FinishReason, Usage, content_text, has_words, text_bytes};

/// One event of a model's stream.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The event's JSON text, exactly as received.
    pub raw: Bytes,
    /// What it adds to each choice.
    pub choices: Vec<ChoiceDelta>,
    /// Token counts, where this chunk has them.
    pub usage: Option<Usage>,
    /// Byte ranges of the values of `id`, `created` and `model` within `raw`.
    envelope: [Option<Range<usize>>; 3],
    /// Byte range of the value of `content` of the only choice.
    content: Option<Range<usize>>,
}

/// What a chunk adds to one choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChoiceDelta {
    /// Position of the choice.
    pub index: u64,
    /// True when the delta names the role.
    pub has_role: bool,
    /// Text added.
    pub content: Option<String>,
    /// True when the delta adds something else a client can use (a refusal, audio, a legacy function call).
    pub has_other_output: bool,
    /// Reasoning added (`reasoning_content`), which some models want back with their tool calls.
    pub reasoning: Option<String>,
    /// True when the delta adds words of reasoning, under whatever name.
    pub has_reasoning: bool,
    /// True where there are log probabilities, or reasoning under another name (`reasoning`).
    pub has_more_text: bool,
    /// Parts of tool calls.
    pub tool_calls: Vec<ToolCallDelta>,
    /// Set on the choice's last chunk.
    pub finish_reason: Option<FinishReason>,
    /// Bytes of everything the model has generated here: text, reasoning, refusal and calls.
    pub generated_bytes: usize,
}

/// A part of a streamed tool call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of the reply; some upstreams leave it out.
    #[serde(default)]
    pub index: Option<u64>,
    /// The call's id, on its first part.
    #[serde(default)]
    pub id: Option<String>,
    /// Name and arguments.
    #[serde(default, deserialize_with = "null_as_default")]
    pub function: FunctionDelta,
    /// `function` or `custom`, on the first part.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Name and input of a custom (not function) call.
    #[serde(default)]
    pub custom: Option<FunctionDelta>,
}

/// The function part of a [`ToolCallDelta`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FunctionDelta {
    /// The tool's name, on the first part.
    #[serde(default)]
    pub name: Option<String>,
    /// A fragment of the arguments' JSON text, or of a custom call's input.
    #[serde(default, alias = "input")]
    pub arguments: Option<String>,
}

/// The values every chunk of one stream shares, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `id`, quoted.
    pub id: Bytes,
    /// `created`, a number of seconds since the epoch.
    pub created: Bytes,
    /// `model`, quoted.
    pub model: Bytes,
}

#[derive(Deserialize)]
struct WireChunk<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    created: Option<&'a RawValue>,
    #[serde(default, borrow)]
    model: Option<&'a RawValue>,
    #[serde(default, borrow)]
    choices: Option<Vec<WireChoice<'a>>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default, borrow)]
    delta: Option<WireDelta<'a>>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default, borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct WireDelta<'a> {
    #[serde(default, borrow)]
    role: Option<&'a RawValue>,
    #[serde(default, borrow)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCallDelta>>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default, borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(default, borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(default, borrow)]
    audio: Option<&'a RawValue>,
    #[serde(default, borrow)]
    function_call: Option<&'a RawValue>,
}

/// Takes an explicit null for a missing value.
fn null_as_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<FunctionDelta, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl FunctionDelta {
    fn bytes(&self) -> usize {
        [&self.name, &self.arguments].into_iter().flatten().map(String::len).sum()
    }
}

impl Chunk {
    /// Reads the JSON text of one `data:` event.
    ///
    /// # Errors
    /// When the text is not a JSON object or a known field has the wrong type.
    pub fn parse(raw: Bytes) -> Result<Self, serde_json::Error> {
        let wire: WireChunk<'_> = serde_json::from_slice(&raw)?;
        let base = raw.as_ptr() as usize;
        let range = |value: Option<&RawValue>| {
            value.map(|v| {
                let start = v.get().as_ptr() as usize - base;
                start..start + v.get().len()
            })
        };
        let envelope = [range(wire.id), range(wire.created), range(wire.model)];
        let choices = wire.choices.unwrap_or_default();
        let content = match &choices[..] {
            [only] => range(only.delta.as_ref().and_then(|delta| delta.content)),
            _ => None,
        };
        let choices = choices.into_iter().map(WireChoice::into_domain).collect();
        Ok(Self { choices, usage: wire.usage, envelope, content, raw })
    }

    /// Bytes of everything the model has generated in this chunk, in all choices.
    #[must_use]
    pub fn generated_bytes(&self) -> usize {
        self.choices.iter().map(|choice| choice.generated_bytes).sum()
    }

    /// This chunk's own `id`, `created` and `model`; `None` for those it lacks.
    #[must_use]
    pub fn envelope(&self) -> [Option<Bytes>; 3] {
        self.envelope.clone().map(|range| range.map(|r| self.raw.slice(r)))
    }

    /// The chunk's JSON text with `envelope`'s values; the same bytes when they are already its own.
    #[must_use]
    pub fn with_envelope(&self, envelope: &Envelope) -> Bytes {
        self.spliced(envelope, None)
    }

    /// The same with `text` as the `content` of the only choice; `None` where there is no such place in the chunk.
    #[must_use]
    pub fn with_content(&self, envelope: &Envelope, text: &str) -> Option<Bytes> {
        let range = self.content.clone()?;
        let quoted = Bytes::from(serde_json::to_string(text).ok()?);
        Some(self.spliced(envelope, Some((range, &quoted))))
    }

    fn spliced(&self, envelope: &Envelope, content: Option<(Range<usize>, &Bytes)>) -> Bytes {
        let wanted = [&envelope.id, &envelope.created, &envelope.model];
        let mut edits: Vec<(Range<usize>, &Bytes)> = Vec::with_capacity(4);
        edits.extend(content);
        let mut missing = BytesMut::new();
        for ((range, value), name) in self.envelope.iter().zip(wanted).zip(["id", "created", "model"]) {
            match range {
                Some(range) if self.raw[range.clone()] == value[..] => {}
                Some(range) => edits.push((range.clone(), value)),
                None => {
                    missing.extend_from_slice(format!("\"{name}\":").as_bytes());
                    missing.extend_from_slice(value);
                    missing.extend_from_slice(b",");
                }
            }
        }
        if edits.is_empty() && missing.is_empty() {
            return self.raw.clone();
        }
        edits.sort_by_key(|(range, _)| range.start);
        let mut out = BytesMut::with_capacity(self.raw.len() + missing.len() + 96);
        let open = self.raw.iter().position(|b| *b == b'{').map_or(0, |at| at + 1);
        out.extend_from_slice(&self.raw[..open]);
        let body_is_empty = self.raw[open..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}');
        let added = if body_is_empty { missing.len().saturating_sub(1) } else { missing.len() };
        out.extend_from_slice(&missing[..added]);
        let mut at = open;
        for (range, value) in edits {
            out.extend_from_slice(&self.raw[at..range.start]);
            out.extend_from_slice(value);
            at = range.end;
        }
        out.extend_from_slice(&self.raw[at..]);
        out.freeze()
    }
}

impl WireDelta<'_> {
    fn bytes_beside_content(&self) -> usize {
        let calls = self.tool_calls.iter().flatten();
        let calls =
            calls.map(|call| call.function.bytes() + call.custom.as_ref().map_or(0, FunctionDelta::bytes));
        let legacy_call =
            self.function_call.and_then(|raw| serde_json::from_str::<FunctionDelta>(raw.get()).ok());
        // Some servers send the same reasoning under both names.
        let reasoning =
            self.reasoning_content.as_ref().map_or(0, String::len).max(text_bytes(self.reasoning));
        reasoning
            + text_bytes(self.refusal)
            + calls.sum::<usize>()
            + legacy_call.map_or(0, |call| call.bytes())
    }
}

impl WireChoice<'_> {
    fn into_domain(self) -> ChoiceDelta {
        let delta = self.delta.unwrap_or_default();
        let content = delta.content.and_then(content_text);
        let generated_bytes = content.as_ref().map_or(0, String::len) + delta.bytes_beside_content();
        ChoiceDelta {
            generated_bytes,
            index: self.index.unwrap_or(0),
            has_role: delta.role.is_some(),
            content,
            has_other_output: delta.refusal.is_some()
                || delta.audio.is_some()
                || delta.function_call.is_some(),
            has_reasoning: has_words(delta.reasoning)
                || delta.reasoning_content.as_deref().is_some_and(|text| !text.trim().is_empty()),
            reasoning: delta.reasoning_content,
            has_more_text: self.logprobs.is_some() || delta.reasoning.is_some(),
            tool_calls: delta.tool_calls.unwrap_or_default(),
            finish_reason: self.finish_reason.map(FinishReason::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &str = r#"{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"h\u00e9"},"finish_reason":null}],"x":1}"#;

    fn envelope(id: &'static str, created: &'static str, model: &'static str) -> Envelope {
        Envelope { id: id.into(), created: created.into(), model: model.into() }
    }

    #[test]
    fn reads_a_content_delta() {
        let chunk = Chunk::parse(Bytes::from_static(CHUNK.as_bytes())).unwrap();
        assert_eq!(chunk.choices[0].content.as_deref(), Some("hé"));
        assert!(chunk.usage.is_none() && chunk.choices[0].finish_reason.is_none());
        assert_eq!(chunk.with_envelope(&envelope("\"a\"", "1", "\"m\"")), CHUNK);
    }

    #[test]
    fn counts_all_that_was_generated() {
        let raw = br#"{"choices":[
            {"index":0,"delta":{"role":"assistant","content":"\u00e9","refusal":"no","reasoning":"same","reasoning_content":"same"}},
            {"index":1,"delta":{"content":[{"type":"text","text":"abc"}],"reasoning":"hm","function_call":{"name":"f","arguments":"{}"}}},
            {"index":2,"delta":{"content":null,"refusal":null,"tool_calls":[
                {"index":0,"id":"long id","function":{"name":"name","arguments":"{\"a\":1}"}},
                {"index":1,"type":"custom","custom":{"name":"sh","input":"ls"}}]}}]}"#;
        let chunk = Chunk::parse(Bytes::from_static(raw)).unwrap();
        let bytes: Vec<usize> = chunk.choices.iter().map(|choice| choice.generated_bytes).collect();
        assert_eq!((bytes, chunk.generated_bytes()), (vec![2 + 2 + 4, 3 + 2 + 3, 4 + 7 + 4], 31));
    }

    #[test]
    fn splices_the_envelope() {
        let chunk = Chunk::parse(Bytes::from_static(CHUNK.as_bytes())).unwrap();
        let spliced = chunk.with_envelope(&envelope("\"longer\"", "22", "\"m\""));
        assert_eq!(
            spliced,
            CHUNK.replace(r#""id":"a""#, r#""id":"longer""#).replace(":1,\"model", ":22,\"model")
        );
    }

    #[test]
    fn splices_the_text() {
        let chunk = Chunk::parse(Bytes::from_static(CHUNK.as_bytes())).unwrap();
        let spliced = chunk.with_content(&envelope("\"b\"", "1", "\"m\""), "a \"b\"\n").unwrap();
        let expected = CHUNK.replace(r#""id":"a""#, r#""id":"b""#).replace(r"h\u00e9", r#"a \"b\"\n"#);
        assert_eq!(spliced, expected);
        let chunk = Chunk::parse(Bytes::from_static(br#"{"choices":[{"delta":{}}]}"#)).unwrap();
        assert!(chunk.with_content(&envelope("\"b\"", "1", "\"m\""), "x").is_none());
    }

    #[test]
    fn adds_a_missing_envelope() {
        for raw in [r#"{"choices":[]}"#, "{}", "{ }"] {
            let chunk = Chunk::parse(Bytes::from_static(raw.as_bytes())).unwrap();
            let spliced = chunk.with_envelope(&envelope("\"i\"", "1", "\"m\""));
            let value: serde_json::Value = serde_json::from_slice(&spliced).unwrap();
            assert_eq!(
                (value["id"].as_str(), value["created"].as_u64(), value["model"].as_str()),
                (Some("i"), Some(1), Some("m"))
            );
        }
    }

    #[test]
    fn reads_usage_and_takes_null_for_none() {
        assert!(Chunk::parse(Bytes::from_static(br#"{"usage":null}"#)).unwrap().usage.is_none());
        let chunk =
            Chunk::parse(Bytes::from_static(br#"{"choices":[],"usage":{"total_tokens":3}}"#)).unwrap();
        assert_eq!(chunk.usage.unwrap().count("total_tokens"), 3);
    }
}
