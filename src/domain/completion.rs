//! A chat completion request: what the gateway touches is typed, everything else is carried as the client's own bytes.
//!
//! Source: OpenAI Chat Completions, request body. Only `model`, `messages`, `tools`, `tool_choice`, `stream` and
//! `stream_options` are ever changed; unknown fields keep their order and spelling.

use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::message::RawMessage;

/// A request as it goes to a model. Cloning is cheap: all JSON is shared.
#[derive(Clone, Debug, Default)]
pub struct CompletionRequest {
    /// Requested model id; empty when the client named none.
    pub model: String,
    /// The conversation, each message in its sender's bytes.
    pub messages: Vec<RawMessage>,
    /// `tools[]` entries as JSON text.
    pub tools: Vec<Bytes>,
    /// `tool_choice` as JSON text.
    pub tool_choice: Option<Bytes>,
    /// Whether the reply is wanted as a stream.
    pub stream: bool,
    /// `stream_options` as JSON text.
    pub stream_options: Option<Bytes>,
    /// Every other field: (key as JSON string with its quotes, value as JSON text), in the client's order.
    pub rest: Vec<(Bytes, Bytes)>,
}

/// Why a request body was refused. The message names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// What is wrong and what would be right.
    pub message: String,
    /// The field at fault, for example `messages[2].role`.
    pub param: Option<String>,
}

impl RequestError {
    fn new(param: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.to_owned()) }
    }
}

impl CompletionRequest {
    /// Reads a request body. Nothing is copied: messages and unknown fields are slices of `body`.
    ///
    /// # Errors
    /// Broken JSON (with line and column), a duplicate or wrongly typed field, or empty `messages`.
    pub fn parse(body: &Bytes) -> Result<Self, RequestError> {
        let fields = parse_fields(body)?;
        let mut request = Self::default();
        let mut has_messages = false;
        for (key, value) in fields {
            let value = match value {
                Field::Raw(value) => value,
                Field::Messages(items) => {
                    request.messages = parse_messages(body, items)?;
                    has_messages = true;
                    continue;
                }
                Field::NoMessages(kind) => {
                    let message = format!("`messages` must be an array of message objects, got {kind}");
                    return Err(RequestError::new("messages", message));
                }
            };
            match key.as_ref() {
                "model" => {
                    request.model = typed::<Option<String>>("model", "a string", value)?.unwrap_or_default();
                }
                "tools" => {
                    let tools = typed::<Option<Vec<&RawValue>>>("tools", "an array of objects", value)?;
                    request.tools = parse_objects(body, "tools", tools.unwrap_or_default())?;
                }
                "tool_choice" => request.tool_choice = slice_unless_null(body, value),
                "stream" => {
                    request.stream =
                        typed::<Option<bool>>("stream", "true or false", value)?.unwrap_or(false);
                }
                "stream_options" => {
                    typed::<Option<StreamOptions>>("stream_options", "an object", value)?;
                    request.stream_options = slice_unless_null(body, value);
                }
                _ => request.rest.push((Bytes::from(quote(&key)), body.slice_ref(value.get().as_bytes()))),
            }
        }
        if !has_messages || request.messages.is_empty() {
            let message = "`messages` must be a non-empty array of message objects";
            return Err(RequestError::new("messages", message));
        }
        Ok(request)
    }

    /// A request for `messages` with no options.
    #[must_use]
    pub fn of_messages(model: &str, messages: Vec<RawMessage>) -> Self {
        Self { model: model.to_owned(), messages, ..Self::default() }
    }

    /// The untouched field `key` as JSON text, if the client sent it.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Bytes> {
        let quoted = quote(key);
        self.rest.iter().find(|(name, _)| name == quoted.as_bytes()).map(|(_, value)| value)
    }

    /// Number of choices asked for (`n`, 1 by default).
    #[must_use]
    pub fn choice_count(&self) -> u64 {
        self.field("n").and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or(1)
    }

    /// True when the client wants no tools called (`tool_choice: "none"`).
    #[must_use]
    pub fn refuses_tools(&self) -> bool {
        self.tool_choice.as_deref() == Some(b"\"none\"")
    }

    /// True when the client wants a usage chunk at the end of the stream.
    #[must_use]
    pub fn include_usage(&self) -> bool {
        self.stream_options
            .as_ref()
            .and_then(|raw| serde_json::from_slice::<StreamOptions>(raw).ok())
            .and_then(|options| options.include_usage)
            .unwrap_or(false)
    }

    /// Wants a usage chunk at the end of the stream, whatever else `stream_options` say.
    pub fn ask_for_usage(&mut self) {
        if !self.stream || self.include_usage() {
            return;
        }
        let own = self.stream_options.as_ref();
        let own = own.and_then(|raw| serde_json::from_slice::<serde_json::Map<_, _>>(raw).ok());
        let mut options = own.unwrap_or_default();
        options.insert("include_usage".to_owned(), serde_json::Value::Bool(true));
        self.stream_options = Some(Bytes::from(serde_json::Value::Object(options).to_string()));
    }

    /// The request body for an upstream that knows the model as `model`: one allocation, one copy.
    #[must_use]
    pub fn encode(&self, model: &str) -> Bytes {
        let messages: usize = self.messages.iter().map(|m| m.as_bytes().len() + 1).sum();
        let tools: usize = self.tools.iter().map(|t| t.len() + 1).sum();
        let rest: usize = self.rest.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
        let options = self.stream_options.as_ref().map_or(0, Bytes::len)
            + self.tool_choice.as_ref().map_or(0, Bytes::len);
        let mut out = BytesMut::with_capacity(messages + tools + rest + options + model.len() + 128);
        out.extend_from_slice(b"{\"model\":");
        out.extend_from_slice(quote(model).as_bytes());
        out.extend_from_slice(b",\"messages\":[");
        join(&mut out, self.messages.iter().map(RawMessage::as_bytes));
        out.extend_from_slice(b"]");
        if !self.tools.is_empty() {
            out.extend_from_slice(b",\"tools\":[");
            join(&mut out, self.tools.iter());
            out.extend_from_slice(b"]");
        }
        if let Some(choice) = &self.tool_choice {
            out.extend_from_slice(b",\"tool_choice\":");
            out.extend_from_slice(choice);
        }
        if self.stream {
            out.extend_from_slice(b",\"stream\":true");
        }
        if let Some(options) = &self.stream_options {
            out.extend_from_slice(b",\"stream_options\":");
            out.extend_from_slice(options);
        }
        for (key, value) in &self.rest {
            out.extend_from_slice(b",");
            out.extend_from_slice(key);
            out.extend_from_slice(b":");
            out.extend_from_slice(value);
        }
        out.extend_from_slice(b"}");
        out.freeze()
    }
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

fn join<'a>(out: &mut BytesMut, items: impl Iterator<Item = &'a Bytes>) {
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(item);
    }
}

/// `text` as a JSON string literal.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A top-level value. The messages are split while the body is scanned for the first time: they are most of it.
enum Field<'a> {
    Raw(&'a RawValue),
    Messages(Vec<&'a RawValue>),
    /// `messages` is something else than an array.
    NoMessages(&'static str),
}

/// Top-level fields in order; a key that comes twice is an error, since parsers disagree on which wins.
fn parse_fields(body: &[u8]) -> Result<Vec<(Cow<'_, str>, Field<'_>)>, RequestError> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(Cow<'de, str>, Field<'de>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields: Self::Value = Vec::with_capacity(12);
            while let Some(Key(key)) = map.next_key()? {
                if fields.iter().any(|(known, _)| *known == key) {
                    return Err(de::Error::custom(format!("the key `{key}` appears twice")));
                }
                let field = if key == "messages" { map.next_value()? } else { Field::Raw(map.next_value()?) };
                fields.push((key, field));
            }
            Ok(fields)
        }
    }
    let mut parser = serde_json::Deserializer::from_slice(body);
    let fields = parser.deserialize_map(Fields).and_then(|fields| parser.end().map(|()| fields));
    fields.map_err(|e| RequestError { message: format!("the body is not valid JSON: {e}"), param: None })
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Messages;
        impl<'de> Visitor<'de> for Messages {
            type Value = Field<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of message objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut messages = Vec::new();
                while let Some(item) = items.next_element()? {
                    messages.push(item);
                }
                Ok(Field::Messages(messages))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::NoMessages("an object"))
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Field::NoMessages("a string"))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Field::NoMessages("a boolean"))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Field::NoMessages("null"))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Field::NoMessages("a number"))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Field::NoMessages("a number"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Field::NoMessages("a number"))
            }
        }
        deserializer.deserialize_any(Messages)
    }
}

/// A map key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn typed<'a, T: Deserialize<'a>>(field: &str, wanted: &str, value: &'a RawValue) -> Result<T, RequestError> {
    serde_json::from_str(value.get())
        .map_err(|_| RequestError::new(field, format!("`{field}` must be {wanted}, got {}", kind_of(value))))
}

fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn slice_unless_null(body: &Bytes, value: &RawValue) -> Option<Bytes> {
    (value.get() != "null").then(|| body.slice_ref(value.get().as_bytes()))
}

fn parse_objects(body: &Bytes, field: &str, items: Vec<&RawValue>) -> Result<Vec<Bytes>, RequestError> {
    let mut out = Vec::with_capacity(items.len());
    for (position, item) in items.into_iter().enumerate() {
        if !item.get().starts_with('{') {
            let path = format!("{field}[{position}]");
            return Err(RequestError::new(
                &path,
                format!("`{path}` must be an object, got {}", kind_of(item)),
            ));
        }
        out.push(body.slice_ref(item.get().as_bytes()));
    }
    Ok(out)
}

fn parse_messages(body: &Bytes, items: Vec<&RawValue>) -> Result<Vec<RawMessage>, RequestError> {
    let slices = parse_objects(body, "messages", items)?;
    let mut messages = Vec::with_capacity(slices.len());
    for (position, slice) in slices.into_iter().enumerate() {
        let message = RawMessage::from_json(slice);
        message.head().map_err(|e| {
            let path = format!("messages[{position}]");
            RequestError::new(
                &path,
                format!("`{path}` is not a chat message: {}", without_position(&e.to_string())),
            )
        })?;
        messages.push(message);
    }
    Ok(messages)
}

/// Drops serde_json's ` at line 1 column 9`: inside a message the position would mislead.
fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<CompletionRequest, RequestError> {
        CompletionRequest::parse(&Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn unknown_fields_and_message_bytes_survive() {
        let message = r#"{ "role":"user",  "content":"h\u00e9", "cache_control":{"a":[1, 2]} }"#;
        let body =
            format!(r#"{{"seed": 7, "messages":[{message}],"model":"m","stream":true,"x_y":{{"z": 1.50}}}}"#);
        let encoded = parse(&body).unwrap().encode("up");
        let encoded = std::str::from_utf8(&encoded).unwrap();
        assert!(encoded.contains(message), "{encoded}");
        assert!(encoded.contains(r#""x_y":{"z": 1.50}"#) && encoded.contains(r#""seed":7"#), "{encoded}");
        assert!(encoded.contains(r#""model":"up""#) && encoded.contains(r#""stream":true"#), "{encoded}");
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            (r#"{"messages":[]}"#, Some("messages")),
            (r#"{"model":"m"}"#, Some("messages")),
            (r#"{"messages":"x"}"#, Some("messages")),
            (r#"{"messages":{"a":[1]}}"#, Some("messages")),
            (r#"{"messages":null}"#, Some("messages")),
            (r#"{"messages":-1.5}"#, Some("messages")),
            (r#"{"messages":[{"role":"user"},3]}"#, Some("messages[1]")),
            (r#"{"messages":[{"content":"x"}]}"#, Some("messages[0]")),
            (r#"{"messages":[{"role":"user"}],"stream":"yes"}"#, Some("stream")),
            (r#"{"messages":[{"role":"user"}],"model":4}"#, Some("model")),
            (r#"{"messages":[{"role":"user"}],"tools":[1]}"#, Some("tools[0]")),
            (r#"{"model":"a","model":"b"}"#, None),
            (r#"{"model":"#, None),
            ("[]", None),
        ];
        for (body, param) in cases {
            let error = parse(body).unwrap_err();
            assert_eq!(error.param.as_deref(), param, "{body}: {error}");
        }
        assert!(parse(r#"{"model":"a","model":"b"}"#).unwrap_err().message.contains("`model` appears twice"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let body = Bytes::from_static(b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}");
        assert!(CompletionRequest::parse(&body).is_err());
    }
}
