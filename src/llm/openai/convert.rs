//! For upstreams that ignore `stream`: a whole completion as chunks, and chunks as a whole completion.
//!
//! Both keep every field they do not know. This is the slow path, so it works on JSON values.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::domain::{Chunk, Completion};

/// A whole completion as the chunks it could have been streamed in: per choice its message and its end, then the usage.
pub(super) fn chunks_of(completion: &[u8], include_usage: bool) -> Result<Vec<Chunk>, serde_json::Error> {
    let mut top: Map<String, Value> = serde_json::from_slice(completion)?;
    let usage = top.remove("usage").unwrap_or(Value::Null);
    let choices = match top.remove("choices") {
        Some(Value::Array(choices)) => choices,
        _ => Vec::new(),
    };
    top.insert("object".to_owned(), json!("chat.completion.chunk"));
    let chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = top.clone();
        chunk.insert("choices".to_owned(), choices);
        if let Some(usage) = usage {
            chunk.insert("usage".to_owned(), usage.clone());
        }
        Chunk::parse(Bytes::from(Value::Object(chunk).to_string()))
    };
    let no_usage = include_usage.then_some(&Value::Null);
    let mut chunks = Vec::with_capacity(2 * choices.len() + 1);
    for (position, mut choice) in choices.into_iter().enumerate() {
        let Some(choice) = choice.as_object_mut() else { continue };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        let reason = choice.remove("finish_reason").filter(|r| !r.is_null()).unwrap_or_else(|| json!("stop"));
        let mut delta = choice.remove("message").unwrap_or_else(|| json!({}));
        for (index, call) in calls_of(&mut delta).enumerate() {
            call.insert("index".to_owned(), json!(index));
        }
        choice.insert("index".to_owned(), json!(index));
        choice.insert("delta".to_owned(), delta);
        choice.insert("finish_reason".to_owned(), Value::Null);
        chunks.push(chunk(json!([choice]), no_usage)?);
        chunks.push(chunk(json!([{"index": index, "delta": {}, "finish_reason": reason}]), no_usage)?);
    }
    if include_usage && !usage.is_null() {
        chunks.push(chunk(json!([]), Some(&usage))?);
    }
    Ok(chunks)
}

/// The completion that a stream's chunks add up to.
pub(super) fn fold(chunks: &[Chunk]) -> Result<Completion, serde_json::Error> {
    let mut top = Map::new();
    let mut choices: Vec<Map<String, Value>> = Vec::new();
    for chunk in chunks {
        let fields: Map<String, Value> = serde_json::from_slice(&chunk.raw)?;
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("choices", Value::Array(parts)) => {
                    parts.into_iter().for_each(|part| add(&mut choices, part));
                }
                (_, Value::Null) => {}
                (_, value) => drop(top.insert(key, value)),
            }
        }
    }
    choices.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64));
    for choice in &mut choices {
        let message = choice.entry("message").or_insert_with(|| json!({}));
        for call in calls_of(message) {
            call.shift_remove("index");
        }
        if let Some(message) = message.as_object_mut() {
            message.entry("role").or_insert_with(|| json!("assistant"));
            message.entry("content").or_insert(Value::Null);
        }
        choice.entry("finish_reason").or_insert(Value::Null);
    }
    top.insert("object".to_owned(), json!("chat.completion"));
    top.insert("choices".to_owned(), json!(choices));
    Completion::parse(Bytes::from(Value::Object(top).to_string()))
}

/// The tool calls of a message or delta.
fn calls_of(message: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    calls.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Adds one chunk's part of a choice to what there is of it.
fn add(choices: &mut Vec<Map<String, Value>>, part: Value) {
    let Value::Object(mut part) = part else { return };
    let index = part.remove("index").and_then(|index| index.as_u64()).unwrap_or(0);
    let position =
        choices.iter().position(|choice| choice.get("index") == Some(&json!(index))).unwrap_or_else(|| {
            choices.push(Map::from_iter([("index".to_owned(), json!(index))]));
            choices.len() - 1
        });
    let choice = &mut choices[position];
    if let Some(delta) = part.remove("delta") {
        merge("message", choice.entry("message").or_insert_with(|| json!({})), delta);
    }
    for (key, value) in part {
        merge(&key, choice.entry(key.as_str()).or_insert(Value::Null), value);
    }
}

/// Texts and lists grow, objects merge, `tool_calls` merge by index, anything else is replaced.
fn merge(key: &str, into: &mut Value, from: Value) {
    const WHOLE: [&str; 5] = ["role", "id", "type", "name", "finish_reason"];
    match (into, from) {
        (_, Value::Null) => {}
        (Value::String(text), Value::String(more)) if !WHOLE.contains(&key) => text.push_str(&more),
        (Value::Object(fields), Value::Object(more)) => {
            for (key, value) in more {
                merge(&key, fields.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (into, Value::Array(more)) if key == "tool_calls" => {
            if !into.is_array() {
                *into = json!([]);
            }
            let Some(calls) = into.as_array_mut() else { return };
            for call in more {
                match calls
                    .iter_mut()
                    .find(|known| call.get("index").is_some() && known.get("index") == call.get("index"))
                {
                    Some(known) => merge("", known, call),
                    None => calls.push(call),
                }
            }
        }
        (Value::Array(items), Value::Array(more)) => items.extend(more),
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETION: &str = r#"{"id":"c","object":"chat.completion","created":5,"model":"m","x":{"y":1},"choices":[
        {"index":0,"message":{"role":"assistant","content":"hello","reasoning_content":"hm","refusal":null},
         "logprobs":{"content":[{"token":"hello"}]},"finish_reason":"stop"},
        {"index":1,"message":{"role":"assistant","content":null,"tool_calls":[
            {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
            {"id":"b","type":"function","function":{"name":"g","arguments":"{\"x\":1}"}}]},"finish_reason":"tool_calls"}],
        "usage":{"total_tokens":3}}"#;

    #[test]
    fn a_completion_survives_the_way_through_chunks() {
        let chunks = chunks_of(COMPLETION.as_bytes(), true).unwrap();
        assert_eq!(chunks.len(), 5);
        assert_eq!(chunks[0].choices[0].content.as_deref(), Some("hello"));
        assert_eq!(chunks[2].choices[0].tool_calls[1].index, Some(1));
        assert!(chunks[4].choices.is_empty() && chunks[4].usage.is_some());
        let folded: Value = serde_json::from_slice(&fold(&chunks).unwrap().raw).unwrap();
        let whole: Value = serde_json::from_str(COMPLETION).unwrap();
        assert_eq!(folded, whole);
    }

    #[test]
    fn no_usage_unless_asked_for() {
        let chunks = chunks_of(COMPLETION.as_bytes(), false).unwrap();
        assert!(
            chunks.len() == 4
                && chunks.iter().all(|chunk| !chunk.raw.windows(7).any(|part| part == b"\"usage\""))
        );
    }

    #[test]
    fn fragments_add_up() {
        let chunk =
            |choice: Value| Chunk::parse(Bytes::from(json!({"choices": [choice]}).to_string())).unwrap();
        let call = |call: Value| chunk(json!({"index": 0, "delta": {"tool_calls": [call]}}));
        let reply = fold(&[
            chunk(json!({"index": 0, "delta": {"role": "assistant", "content": "a"}})),
            chunk(json!({"index": 0, "delta": {"role": "assistant", "content": "b"}})),
            call(json!({"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}})),
            call(json!({"index": 0, "function": {"arguments": "{\"q\":"}})),
            call(json!({"index": 1, "id": "y", "function": {"name": "g", "arguments": "{}"}})),
            call(json!({"index": 0, "function": {"arguments": "1}"}})),
            chunk(json!({"index": 0, "delta": {}, "finish_reason": "tool_calls"})),
        ])
        .unwrap();
        let choice = &reply.choices[0];
        assert_eq!(choice.content.as_deref(), Some("ab"));
        let calls: Vec<_> =
            choice.tool_calls.iter().map(|c| (c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(calls, [("f", "{\"q\":1}"), ("g", "{}")]);
    }
}
