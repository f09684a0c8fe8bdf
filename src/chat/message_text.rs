//! The words of a choice on the wire: where they are found for processors, and where their answer is put.
//!
//! Text is `content` (a string, or the text parts of an array) and `refusal`; reasoning is `reasoning_content`, or
//! `reasoning` as some servers call it. A changed text takes with it what would tell the original: log probabilities,
//! annotations with their offsets, and the details of changed reasoning.

use serde_json::{Map, Value, json};

/// Names of the fields with reasoning, the usual one first.
pub(super) const REASONING_FIELDS: [&str; 2] = ["reasoning_content", "reasoning"];

/// The text of a message.
pub(super) fn text_of(message: &Value) -> String {
    let mut text = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    };
    text.push_str(message["refusal"].as_str().unwrap_or_default());
    text
}

/// The reasoning of a message or delta, if it has any.
pub(super) fn reasoning_of(fields: &Map<String, Value>) -> Option<&str> {
    REASONING_FIELDS.iter().find_map(|name| fields.get(*name)?.as_str())
}

/// Puts `text` where the message had its own: into `refusal` where it had nothing else, else into `content`.
pub(super) fn set_text(choice: &mut Value, text: &str) {
    drop_traces(choice);
    let Some(message) = choice.get_mut("message").and_then(Value::as_object_mut) else { return };
    message.shift_remove("annotations");
    let is_text = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let has_content = is_text(message.get("content")) || message.get("content").is_some_and(Value::is_array);
    if is_text(message.get("refusal")) {
        if !has_content {
            message.insert("refusal".to_owned(), json!(text));
            return;
        }
        message.insert("refusal".to_owned(), Value::Null);
    }
    match message.get_mut("content") {
        Some(Value::Array(parts)) => set_text_part(parts, text),
        _ => {
            message.insert("content".to_owned(), json!(text));
        }
    }
}

/// Puts `text` into the first text part and drops the other ones; parts of other kinds stay.
fn set_text_part(parts: &mut Vec<Value>, text: &str) {
    let is_text = |part: &Value| part.get("text").is_some_and(Value::is_string);
    let first = parts.iter().position(is_text);
    let mut at = 0;
    parts.retain(|part| {
        at += 1;
        !is_text(part) || first == Some(at - 1)
    });
    let whole = json!({"type": "text", "text": text});
    match first {
        Some(first) => parts[first] = whole,
        None => parts.insert(0, whole),
    }
}

/// Puts `reasoning` where the message had its own; `None` removes it.
pub(super) fn set_reasoning(choice: &mut Value, reasoning: Option<&str>) {
    drop_traces(choice);
    let Some(message) = choice.get_mut("message").and_then(Value::as_object_mut) else { return };
    write_reasoning(message, reasoning);
}

/// The same for the fields of a message or delta.
pub(super) fn write_reasoning(fields: &mut Map<String, Value>, reasoning: Option<&str>) {
    fields.shift_remove("reasoning_details");
    let had: Vec<&str> =
        REASONING_FIELDS.into_iter().filter(|name| fields.get(*name).is_some_and(Value::is_string)).collect();
    match reasoning {
        None => had.iter().for_each(|name| drop(fields.shift_remove(*name))),
        Some(text) => {
            let names = if had.is_empty() { &REASONING_FIELDS[..1] } else { &had[..] };
            for name in names {
                fields.insert((*name).to_owned(), json!(text));
            }
        }
    }
}

/// Empties a choice and says that a filter did it.
pub(super) fn block(choice: &mut Value) {
    drop_traces(choice);
    choice["message"] = json!({"role": "assistant", "content": "", "refusal": null});
    choice["finish_reason"] = json!("content_filter");
}

/// Log probabilities spell the original out.
pub(super) fn drop_traces(choice: &mut Value) {
    if let Some(logprobs) = choice.get_mut("logprobs") {
        *logprobs = Value::Null;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(message: &Value, text: &str) -> Value {
        let mut choice = json!({"message": message, "logprobs": {"content": []}});
        set_text(&mut choice, text);
        assert_eq!(choice["logprobs"], Value::Null);
        choice["message"].take()
    }

    #[test]
    fn text_goes_back_to_where_it_came_from() {
        let plain = changed(&json!({"content": "a", "refusal": null, "annotations": [1], "x": 1}), "b");
        assert_eq!(plain, json!({"content": "b", "refusal": null, "x": 1}));
        assert_eq!(
            changed(&json!({"content": null, "refusal": "a"}), "b"),
            json!({"content": null, "refusal": "b"})
        );
        assert_eq!(
            changed(&json!({"content": "a", "refusal": "b"}), "c"),
            json!({"content": "c", "refusal": null})
        );
        assert_eq!(changed(&json!({"content": null}), "b"), json!({"content": "b"}));
        let parts = json!([{"type": "image"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(text_of(&json!({"content": parts})), "ab");
        let after = changed(&json!({"content": parts}), "c");
        assert_eq!(after["content"], json!([{"type": "image"}, {"type": "text", "text": "c"}]));
    }

    #[test]
    fn reasoning_goes_back_to_every_name_it_had() {
        let mut fields = json!({"reasoning": "a", "reasoning_details": []}).as_object().unwrap().clone();
        assert_eq!(reasoning_of(&fields), Some("a"));
        write_reasoning(&mut fields, Some("b"));
        assert_eq!(Value::from(fields.clone()), json!({"reasoning": "b"}));
        write_reasoning(&mut fields, None);
        assert!(fields.is_empty());
    }
}
