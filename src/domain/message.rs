//! One chat message as its sender wrote it, and the few fields of it the gateway reads.
//!
//! Source: OpenAI Chat Completions, `messages[]`. A message is never re-serialised: what the client sent is what the
//! model gets, unknown fields and spacing included.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::tool::ToolCall;

/// A chat message: the JSON text of one object, valid UTF-8 and valid JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage(Bytes);

/// The fields of a message that the gateway acts upon.
#[derive(Debug, Deserialize)]
pub struct MessageHead<'a> {
    /// `system`, `developer`, `user`, `assistant`, `tool` or anything newer.
    #[serde(borrow)]
    pub role: Cow<'a, str>,
    /// On tool messages: the call this answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// On assistant messages: the calls the model asked for.
    #[serde(default, borrow)]
    pub tool_calls: Option<&'a RawValue>,
    /// The content as JSON text: a string, an array of parts, or null.
    #[serde(default, borrow)]
    pub content: Option<&'a RawValue>,
}

impl MessageHead<'_> {
    /// The ids of `tool_calls`, in order; empty when there are none or they have no ids.
    #[must_use]
    pub fn tool_call_ids(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Id {
            id: String,
        }
        let Some(raw) = self.tool_calls else { return Vec::new() };
        serde_json::from_str::<Vec<Id>>(raw.get())
            .map_or_else(|_| Vec::new(), |ids| ids.into_iter().map(|i| i.id).collect())
    }

    /// The content's text: the string itself, or the text parts joined by line breaks.
    #[must_use]
    pub fn text(&self) -> String {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Content {
            Text(String),
            Parts(Vec<Value>),
        }
        match self.content.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let texts: Vec<&str> = parts.iter().filter_map(|p| p.get("text")?.as_str()).collect();
                texts.join("\n")
            }
            None => String::new(),
        }
    }
}

impl RawMessage {
    /// Wraps the JSON text of one message object. The caller vouches that it is one.
    #[must_use]
    pub fn from_json(json: Bytes) -> Self {
        Self(json)
    }

    /// A message built from a JSON value.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        Self(Bytes::from(value.to_string()))
    }

    /// `{"role":"user","content":text}`
    #[must_use]
    pub fn user(text: &str) -> Self {
        Self::from_value(&json!({"role": "user", "content": text}))
    }

    /// `{"role":"system","content":text}`
    #[must_use]
    pub fn system(text: &str) -> Self {
        Self::from_value(&json!({"role": "system", "content": text}))
    }

    /// `{"role":"assistant","content":text}`
    #[must_use]
    pub fn assistant(text: &str) -> Self {
        Self::from_value(&json!({"role": "assistant", "content": text}))
    }

    /// An assistant message with tool calls; `content` is an explicit null where there is no text, since an empty
    /// string or a missing key is refused by some upstreams.
    #[must_use]
    pub fn assistant_with_calls(text: Option<&str>, calls: &[ToolCall]) -> Self {
        let calls: Vec<Value> = calls.iter().map(call_json).collect();
        let content = text.filter(|t| !t.is_empty());
        Self::from_value(&json!({"role": "assistant", "content": content, "tool_calls": calls}))
    }

    /// The tool message that answers call `id`.
    #[must_use]
    pub fn tool(id: &str, content: &str) -> Self {
        Self::from_value(&json!({"role": "tool", "tool_call_id": id, "content": content}))
    }

    /// The message's JSON text.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The message's JSON text as a string; empty if it were not UTF-8, which [`Self::from_json`] rules out.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Reads the fields the gateway acts upon.
    ///
    /// # Errors
    /// When the text is not an object with a string `role`.
    pub fn head(&self) -> Result<MessageHead<'_>, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

/// A tool call in the wire form of an assistant message.
#[must_use]
pub fn call_json(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_reads_only_what_it_needs() {
        let message = RawMessage::from_json(Bytes::from_static(
            br#"{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"x":1,"tool_calls":[{"id":"c1"},{"id":"c2"}]}"#,
        ));
        let head = message.head().unwrap();
        assert_eq!(head.role, "assistant");
        assert_eq!(head.text(), "a\nb");
        assert_eq!(head.tool_call_ids(), ["c1", "c2"]);
    }

    #[test]
    fn calls_without_text_have_null_content() {
        let call = ToolCall { id: "c".into(), name: "t".into(), arguments: "{}".into() };
        let message = RawMessage::assistant_with_calls(Some(""), &[call]);
        assert!(message.as_str().contains(r#""content":null"#));
    }
}
