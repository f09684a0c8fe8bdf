//! What a turn says to the model: tool results as messages, and tools in words for models without function calling.

use serde_json::{Value, json};

use crate::domain::{CompletionRequest, ContentBlock, RawMessage, ToolCall, ToolResult};

/// The messages that answer `calls`: one tool message each, then the images in one user message, since the API takes
/// no images in tool messages.
pub(super) fn result_messages(results: &[(ToolCall, ToolResult)], with_images: bool) -> Vec<RawMessage> {
    let mut messages: Vec<RawMessage> =
        results.iter().map(|(call, result)| RawMessage::tool(&call.id, &result_text(result))).collect();
    let mut parts = Vec::new();
    for (call, result) in results.iter().filter(|_| with_images) {
        for block in &result.content {
            if let ContentBlock::Image { data, mime_type } = block {
                parts.push(json!({"type": "text", "text": format!("Image from tool `{}`:", call.name)}));
                let url = format!("data:{mime_type};base64,{data}");
                parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
            }
        }
    }
    if !parts.is_empty() {
        messages.push(RawMessage::from_value(&json!({"role": "user", "content": parts})));
    }
    messages
}

/// A result as the model reads it: never empty, and a failure says that it is one.
pub(super) fn result_text(result: &ToolResult) -> String {
    let text = result.to_text();
    match (result.is_error, text.is_empty()) {
        (true, true) => "Error: the tool failed and gave no reason.".to_owned(),
        (true, false) => format!("Error: {text}"),
        (false, true) => "The tool finished and returned nothing.".to_owned(),
        (false, false) => text,
    }
}

/// An assistant message with these calls that keeps what else the model said (`reasoning_content`, signatures).
pub(super) fn assistant_message(mut message: Value, calls: &[Value]) -> RawMessage {
    let Some(fields) = message.as_object_mut() else {
        return RawMessage::from_value(&json!({"role": "assistant", "content": null, "tool_calls": calls}));
    };
    fields.insert("role".to_owned(), json!("assistant"));
    let empty = fields.get("content").is_none_or(|content| content.as_str() == Some(""));
    if empty {
        fields.insert("content".to_owned(), Value::Null);
    }
    // A refusal or an audio reference of null adds nothing, and some upstreams do not take it back.
    fields.retain(|name, value| name == "content" || !value.is_null());
    fields.insert("tool_calls".to_owned(), Value::from(calls));
    RawMessage::from_value(&message)
}

/// Rewrites a request for a model without function calling: tools described in the system prompt, calls and results in
/// the history as plain text. Messages without either stay byte for byte.
pub(super) fn lower_to_text(request: &mut CompletionRequest) {
    let described = describe_tools(&request.tools);
    request.tools.clear();
    request.tool_choice = None;
    request.rest.retain(|(key, _)| key != "\"parallel_tool_calls\"");
    for message in &mut request.messages {
        if let Some(lowered) = lower_message(message) {
            *message = lowered;
        }
    }
    let Some(described) = described else { return };
    let first_is_system =
        request.messages.first().and_then(|m| m.head().ok()).is_some_and(|head| head.role == "system");
    if first_is_system {
        // Many chat templates take one system message only, so the description joins the client's own.
        let own = request.messages[0].head().map(|head| head.text()).unwrap_or_default();
        request.messages[0] = RawMessage::system(&format!("{own}\n\n{described}"));
    } else {
        request.messages.insert(0, RawMessage::system(&described));
    }
}

fn describe_tools(tools: &[bytes::Bytes]) -> Option<String> {
    if tools.is_empty() {
        return None;
    }
    let mut text = String::from(
        "You can use the tools below. To call one, answer with nothing but a JSON object of this form:\n\
         {\"tool\": \"tool name\", \"arguments\": {\"argument name\": \"value\"}}\n\
         You then get the tool's result and can call another tool or answer in plain words. Call a tool only when it \
         is needed, and never make up a result.\n\nTools:\n",
    );
    for raw in tools {
        let Ok(entry) = serde_json::from_slice::<Value>(raw) else { continue };
        let function = entry.get("function").unwrap_or(&entry);
        let field = |name: &str| function.get(name).and_then(Value::as_str).unwrap_or_default();
        text.push_str(&format!("- {}: {}\n", field("name"), field("description")));
        if let Some(parameters) = function.get("parameters") {
            text.push_str(&format!("  arguments (JSON Schema): {parameters}\n"));
        }
    }
    Some(text)
}

fn lower_message(message: &RawMessage) -> Option<RawMessage> {
    let head = message.head().ok()?;
    match head.role.as_ref() {
        "tool" => {
            let id = head.tool_call_id.clone().unwrap_or_default();
            Some(RawMessage::user(&format!("Result of tool call {id}:\n{}", head.text())))
        }
        "assistant" => {
            let calls: Vec<Value> = serde_json::from_str(head.tool_calls?.get()).ok()?;
            let mut text = head.text();
            for call in calls {
                let function = call.get("function")?;
                let arguments = function.get("arguments").and_then(Value::as_str).unwrap_or("{}");
                let arguments = serde_json::from_str::<Value>(arguments).unwrap_or_else(|_| json!({}));
                let object = json!({"tool": function.get("name"), "arguments": arguments});
                text.push_str(if text.is_empty() { "" } else { "\n" });
                text.push_str(&object.to_string());
            }
            Some(RawMessage::assistant(&text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn text_mode_keeps_other_messages_and_tells_calls_in_words() {
        let call = ToolCall { id: "c".into(), name: "t".into(), arguments: r#"{"a":1}"#.into() };
        let user = RawMessage::from_json(Bytes::from_static(br#"{ "role":"user","content":"q" }"#));
        let messages = vec![
            RawMessage::system("Be brief."),
            user.clone(),
            RawMessage::assistant_with_calls(Some("Look:"), &[call]),
            RawMessage::tool("c", "42"),
        ];
        let mut request = CompletionRequest::of_messages("m", messages);
        request.tools = vec![Bytes::from_static(
            br#"{"type":"function","function":{"name":"t","description":"does t"}}"#,
        )];
        lower_to_text(&mut request);
        assert!(request.tools.is_empty());
        let texts: Vec<String> = request.messages.iter().map(|m| m.head().unwrap().text()).collect();
        assert!(texts[0].starts_with("Be brief.\n\nYou can use") && texts[0].contains("- t: does t"));
        assert_eq!(request.messages[1], user);
        assert_eq!(texts[2], "Look:\n{\"tool\":\"t\",\"arguments\":{\"a\":1}}");
        assert!(texts[3].ends_with("42"));
    }

    #[test]
    fn images_follow_in_a_user_message() {
        let call = ToolCall { id: "c".into(), name: "t".into(), arguments: String::new() };
        let image = ContentBlock::Image { data: "QQ==".into(), mime_type: "image/png".into() };
        let result = ToolResult { content: vec![ContentBlock::text("see"), image], ..ToolResult::default() };
        let messages = result_messages(&[(call.clone(), result.clone())], true);
        assert_eq!(messages.len(), 2);
        assert!(messages[1].as_str().contains("data:image/png;base64,QQ=="));
        assert_eq!(result_messages(&[(call, result)], false).len(), 1);
    }

    #[test]
    fn assistant_message_keeps_unknown_fields() {
        let message = json!({"role": "assistant", "content": "", "refusal": null, "reasoning_content": "hm"});
        let built = assistant_message(message, &[json!({"id": "c"})]);
        assert_eq!(
            serde_json::from_str::<Value>(built.as_str()).unwrap(),
            json!({"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [{"id": "c"}]})
        );
    }
}
