//! From the protocol's shapes to the domain's: tool definitions and tool results.
//!
//! Shapes of the protocol that rmcp understands arrive typed. One odd entry makes rmcp give up on the whole message, so
//! there is a second, forgiving way over plain JSON that keeps what can be kept.

use rmcp::model::{CallToolResult, ContentBlock as McpContent, Tool as McpTool};
use serde_json::{Map, Value};

use crate::domain::{ContentBlock, ToolAnnotations, ToolDefinition, ToolResult};

/// A tool as rmcp understood it.
pub(super) fn definition(server: &str, tool: McpTool) -> ToolDefinition {
    let hints = tool.annotations.unwrap_or_default();
    ToolDefinition {
        name: tool.name.into_owned(),
        title: tool.title.or(hints.title),
        description: tool.description.map(std::borrow::Cow::into_owned).unwrap_or_default(),
        input_schema: Value::Object(tool.input_schema.as_ref().clone()),
        output_schema: tool.output_schema.map(|schema| Value::Object(schema.as_ref().clone())),
        annotations: ToolAnnotations {
            read_only_hint: hints.read_only_hint,
            destructive_hint: hints.destructive_hint,
            idempotent_hint: hints.idempotent_hint,
            open_world_hint: hints.open_world_hint,
        },
        server: Some(server.to_owned()),
    }
}

/// The usable tools of a page that rmcp did not understand, and the cursor of the next page; `None` if it is no page.
pub(super) fn definitions(server: &str, page: &Value) -> Option<(Vec<ToolDefinition>, Option<String>)> {
    let entries = page.get("tools")?.as_array()?;
    let mut tools = Vec::with_capacity(entries.len());
    for entry in entries {
        match serde_json::from_value::<McpTool>(repaired(entry)) {
            Ok(tool) => tools.push(definition(server, tool)),
            Err(error) => {
                let name = entry.get("name").and_then(Value::as_str).unwrap_or("without a name");
                tracing::warn!(server, tool = name, "left out a tool with a wrong definition: {error}");
            }
        }
    }
    Some((tools, page.get("nextCursor").and_then(Value::as_str).map(str::to_owned)))
}

/// A tool without (object-shaped) input schema takes any object; one without a proper output schema promises nothing.
fn repaired(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let Some(fields) = entry.as_object_mut() {
        if !fields.get("inputSchema").is_some_and(Value::is_object) {
            fields.insert("inputSchema".to_owned(), serde_json::json!({"type": "object"}));
        }
        for optional in ["outputSchema", "annotations"] {
            if fields.get(optional).is_some_and(|value| !value.is_object()) {
                fields.remove(optional);
            }
        }
        for cosmetic in ["icons", "_meta"] {
            fields.remove(cosmetic);
        }
    }
    entry
}

/// A result as rmcp understood it.
pub(super) fn result(result: CallToolResult) -> ToolResult {
    ToolResult {
        content: result.content.into_iter().map(block).collect(),
        structured_content: result.structured_content,
        is_error: result.is_error.unwrap_or(false),
    }
}

fn block(block: McpContent) -> ContentBlock {
    match block {
        McpContent::Text(text) => ContentBlock::Text { text: text.text },
        McpContent::Image(image) => ContentBlock::Image { data: image.data, mime_type: image.mime_type },
        McpContent::Audio(audio) => ContentBlock::Audio { data: audio.data, mime_type: audio.mime_type },
        McpContent::Resource(embedded) => {
            ContentBlock::Resource { resource: serde_json::to_value(embedded.resource).unwrap_or_default() }
        }
        McpContent::ResourceLink(link) => ContentBlock::ResourceLink {
            uri: link.uri,
            name: link.name,
            description: link.description,
            mime_type: link.mime_type,
        },
        other => unsupported(&serde_json::to_value(other).unwrap_or_default()),
    }
}

/// A result that rmcp did not understand; `None` when it is no tool result at all.
pub(super) fn lenient_result(result: &Value) -> Option<ToolResult> {
    let fields = result.as_object()?;
    let content = match fields.get("content") {
        Some(Value::Array(blocks)) => blocks.iter().map(lenient_block).collect(),
        Some(Value::String(text)) => vec![ContentBlock::text(text)],
        Some(_) => return None,
        None if fields.contains_key("structuredContent") || fields.is_empty() => Vec::new(),
        None => return None,
    };
    Some(ToolResult {
        content,
        structured_content: fields.get("structuredContent").filter(|value| !value.is_null()).cloned(),
        is_error: fields.get("isError").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn lenient_block(value: &Value) -> ContentBlock {
    match serde_json::from_value::<McpContent>(value.clone()) {
        Ok(known) => block(known),
        Err(_) => {
            let text =
                value.as_object().filter(|fields| is_text(fields)).and_then(|fields| fields.get("text"));
            text.and_then(Value::as_str).map_or_else(|| unsupported(value), ContentBlock::text)
        }
    }
}

fn is_text(fields: &Map<String, Value>) -> bool {
    fields.get("type").is_none_or(|kind| kind == "text")
}

/// A stand-in for content of a kind this gateway does not know.
fn unsupported(value: &Value) -> ContentBlock {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("unknown");
    ContentBlock::text(format!("[content of the unsupported type `{kind}`]"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_content_is_kept() {
        let typed: CallToolResult = serde_json::from_value(json!({
            "content": [
                {"type": "text", "text": "hello", "annotations": {"priority": 1.0}},
                {"type": "image", "data": "aGk=", "mimeType": "image/png"},
                {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
                {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "text/plain", "text": "a"}},
                {"type": "resource_link", "uri": "file:///b", "name": "b", "mimeType": "text/plain"},
            ],
            "structuredContent": {"n": 1},
            "isError": true,
        }))
        .unwrap();
        let result = result(typed);
        assert!(result.is_error);
        assert_eq!(result.structured_content, Some(json!({"n": 1})));
        assert_eq!(
            serde_json::to_value(&result.content).unwrap(),
            json!([
                {"type": "text", "text": "hello"},
                {"type": "image", "data": "aGk=", "mimeType": "image/png"},
                {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
                {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "text/plain", "text": "a"}},
                {"type": "resource_link", "uri": "file:///b", "name": "b", "mimeType": "text/plain"},
            ])
        );
    }

    #[test]
    fn one_strange_block_does_not_hide_the_others() {
        let value = json!({"content": [{"type": "text", "text": "kept"}, {"type": "video", "data": "x"}]});
        let result = lenient_result(&value).unwrap();
        assert_eq!(result.content[0], ContentBlock::text("kept"));
        assert!(result.to_text().contains("`video`"));
        assert_eq!(lenient_result(&json!({"tools": []})), None);
    }

    #[test]
    fn one_wrong_tool_does_not_hide_the_others() {
        let page = json!({
            "tools": [
                {"name": "good", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true, "title": "T"}},
                {"name": "bare"},
                {"description": "nameless", "inputSchema": {}},
            ],
            "nextCursor": "2",
        });
        let (tools, next) = definitions("demo", &page).unwrap();
        assert_eq!(tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["good", "bare"]);
        assert_eq!(tools[0].annotations.read_only_hint, Some(true));
        assert_eq!(tools[0].title.as_deref(), Some("T"));
        assert_eq!(tools[1].input_schema, json!({"type": "object"}));
        assert_eq!(next.as_deref(), Some("2"));
    }
}
